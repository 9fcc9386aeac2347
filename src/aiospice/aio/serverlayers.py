"""The server's layers between SPICE and the socket, and its end of TLS.

From the socket up: [TLS] [WebSocket]. What comes from a client that hasn't proven anything yet is
bounded before it is kept.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from aiospice.aio.layers import Stack
from aiospice.aio.tlspipe import MAX_HANDSHAKE_BYTES, TlsPipe, reason_of
from aiospice.errors import AddressError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from aiospice.aio.layers import Layer

__all__ = [
    "TlsServerLayer",
    "server_context",
    "stack_for_client",
]

_HANDSHAKE = 0x16


def server_context(
    certificate: str | os.PathLike[str],
    key: str | os.PathLike[str] | None = None,
    *,
    ciphers: str = "",
) -> ssl.SSLContext:
    """Make the context of a server: TLS 1.2 or newer, no compression, no renegotiation.

    ``certificate`` is a PEM file of the server's certificate and those between it and its
    authority; ``key`` one of its private key, without a passphrase (None: it is in the first).
    ``ciphers``: OpenSSL's list for TLS 1.2, empty: the library's. Raises `AddressError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # Channels live long: nothing would be won by tickets, which each handshake would have to send.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
        if ciphers:
            context.set_ciphers(ciphers)
    except ssl.SSLError as error:
        files = certificate if key is None else f"{certificate} and {key}"
        raise AddressError(
            f"{files}: no certificate with its private key can be read there ({reason_of(error)}); "
            "expected PEM, the key without a passphrase"
        ) from None
    except OSError as error:
        name = error.filename or f"{certificate}{'' if key is None else f' or {key}'}"
        raise AddressError(f"{name} can't be read: {error.strerror}") from None
    return context


def _no_passphrase() -> str:
    """Asked for a passphrase OpenSSL would wait for the terminal."""
    return ""


def stack_for_client(
    where: str,
    *,
    context: ssl.SSLContext | None = None,
    origin: Callable[[str, str], bool] | None = None,
) -> Stack | None:
    """Make the layers under SPICE for a client that has connected; None if there are none.

    ``context``: TLS comes first. ``origin``: WebSocket comes next, and this says whether a page
    of that origin (``http://host:port``) may come to that ``Host``.
    """
    layers: list[Layer] = []
    if context is not None:
        layers.append(TlsServerLayer(where, context))
    if origin is not None:
        from aiospice.aio.websocket_server import WebSocketServerLayer

        layers.append(WebSocketServerLayer(where, origin))
    return Stack(layers) if layers else None


class TlsServerLayer(TlsPipe):
    """The server's end of TLS; ``where`` names the client in errors."""

    def __init__(self, where: str, context: ssl.SSLContext) -> None:
        super().__init__(where, "client")
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def start(self) -> None:
        """The client begins."""

    def receive(self, data: bytes) -> bytes:
        if not self.ready:
            if not self._received and data:
                self._check_first(data)
            self._received += len(data)
            if self._received > MAX_HANDSHAKE_BYTES:
                raise self._error(f"the handshake is longer than {MAX_HANDSHAKE_BYTES} bytes")
        self._incoming.write(data)
        if not self.ready:
            self._handshake()
            if not self.ready:
                return b""
        return self._read()

    def _check_first(self, data: bytes) -> None:
        if data[0] == _HANDSHAKE:
            return
        if b"REDQ".startswith(data[:4]):
            raise self._error("the client speaks plain SPICE to a TLS port")
        raise self._error("the client doesn't speak TLS")

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise self._error(f"the TLS handshake failed: {reason_of(error)}") from None
        self.ready = True

    def receive_eof(self) -> None:
        if not self.ready:
            raise self._error("the client closed the connection during the TLS handshake")
