"""TLS once the handshake is done, the same at both ends."""

from __future__ import annotations

import ssl

from aiospice.errors import ConnectError, RemoteProtocolError

__all__ = ["MAX_HANDSHAKE_BYTES", "TlsPipe", "reason_of"]

#: What a peer may send until the handshake is done; real chains have a few kilobytes.
MAX_HANDSHAKE_BYTES = 256 * 1024
_READ_BYTES = 64 * 1024
_WRITE_BYTES = 256 * 1024


class TlsPipe:
    """What both ends' layers are made of; they add the handshake and its errors.

    ``where`` names the connection in errors, ``peer`` is ``server`` or ``client``.
    """

    name = "TLS"
    _tls: ssl.SSLObject

    def __init__(self, where: str, peer: str) -> None:
        self._where = where
        self._peer = peer
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._received = 0
        self.ready = False
        self.ended = False

    def _read(self) -> bytes:
        chunks = []
        try:
            while not self.ended:
                chunk = self._tls.read(_READ_BYTES)
                if chunk:
                    chunks.append(chunk)
                else:
                    self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            raise RemoteProtocolError(
                f"TLS was broken by the {self._peer}: {reason_of(error)}", where=self._where
            ) from None
        return b"".join(chunks)

    def send(self, data: bytes) -> None:
        """Take bytes to be sent."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._tls.write(view[:_WRITE_BYTES]) :]
        except ssl.SSLError as error:
            raise RemoteProtocolError(
                f"TLS can't go on: {reason_of(error)}", where=self._where
            ) from None

    def close(self) -> None:
        """Say goodbye."""
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # the peer's goodbye isn't waited for

    def data_to_send(self) -> bytes:
        """What is to go out."""
        return self._outgoing.read()

    def _error(self, text: str) -> ConnectError:
        return ConnectError(f"{self._where}: {text}")


def reason_of(error: Exception) -> str:
    """OpenSSL's reason in plain words."""
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else type(error).__name__
