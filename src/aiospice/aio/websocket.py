"""WebSocket as a layer: SPICE as one stream of bytes in binary messages.

QEMU's SPICE port itself answers the upgrade (spice-server, websocket.c), and so do websockify and
the likes. The subprotocol is ``binary``. Message bounds mean nothing: bytes are handed up frame
by frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidMessage, InvalidStatus, WebSocketException
from websockets.frames import Frame
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from aiospice.aio.websocketpipe import WebSocketPipe, tame
from aiospice.errors import AddressError, ConnectError, RemoteProtocolError

if TYPE_CHECKING:
    from aiospice.effects import Endpoint

__all__ = ["MAX_MESSAGE_BYTES", "MAX_UPGRADE_BYTES", "WebSocketLayer"]

#: Size limit of one message (all its fragments) from the server. QEMU's are below 64 KiB, a
#: relay's are as large as its read buffer.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
#: Size limit of the server's answer to the upgrade.
MAX_UPGRADE_BYTES = 64 * 1024


class WebSocketLayer(WebSocketPipe[ClientProtocol]):
    """The client's end of RFC 6455."""

    name = "WebSocket"

    def __init__(self, endpoint: Endpoint) -> None:
        self._where = str(endpoint)
        host, path = endpoint.host or "localhost", endpoint.websocket_path
        for part in (host, path):
            if not part.isprintable() or any(c.isspace() for c in part):
                raise AddressError(f"{part!r} can't be part of a WebSocket address")
        if not path.startswith("/") or not path.isascii():
            raise AddressError(f"the WebSocket path {path!r} must begin with / and be ASCII")
        resource, _, query = path.partition("?")
        try:
            host = host if host.isascii() else host.encode("idna").decode()
        except UnicodeError:
            raise AddressError(f"the host name {host!r} isn't a valid one") from None
        port = endpoint.port or (443 if endpoint.tls else 80)
        self._protocol = ClientProtocol(
            WebSocketURI(endpoint.tls, host, port, resource, query),
            subprotocols=[Subprotocol("binary")],
            max_size=MAX_MESSAGE_BYTES,
        )
        self._head = b""
        self._received = 0
        self.ready = False
        self.ended = False

    def start(self) -> None:
        self._protocol.send_request(self._protocol.connect())

    def receive(self, data: bytes) -> bytes:
        if not self.ready:
            self._check_head(data)
        self._protocol.receive_data(data)
        if not self.ready:
            self._received += len(data)
            self._check_upgrade()
        events = self._protocol.events_received()
        plain = b"".join([self._take(event) for event in events if isinstance(event, Frame)])
        self._check_stream()
        return plain

    def _check_head(self, data: bytes) -> None:
        """Refuse what isn't HTTP at its first byte; its first line may never end."""
        self._head = (self._head + data[:5])[:5]
        if not b"HTTP/".startswith(self._head):
            raise self._error(
                "the server's answer to the upgrade isn't HTTP: is this its WebSocket port?"
            )

    def _check_upgrade(self) -> None:
        error = self._protocol.handshake_exc
        if error is not None:
            raise self._refused(error)
        self.ready = self._protocol.state is not State.CONNECTING
        if not self.ready and self._received > MAX_UPGRADE_BYTES:
            raise self._error(f"the answer to the upgrade is longer than {MAX_UPGRADE_BYTES} bytes")

    def _refused(self, error: BaseException) -> ConnectError:
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            hint = "is the path right?" if status == 404 else "is this a WebSocket for SPICE?"
            return self._error(f"the server answered the upgrade with HTTP {status}: {hint}")
        if isinstance(error, InvalidMessage):
            return self._error(
                "the server's answer to the upgrade isn't HTTP: is this its WebSocket port?"
            )
        reason = tame(error) if isinstance(error, WebSocketException) else type(error).__name__
        return self._error(f"the WebSocket upgrade failed: {reason}")

    def _check_stream(self) -> None:
        error = self._protocol.parser_exc
        if error is not None and self.ready:
            raise RemoteProtocolError(
                f"WebSocket was broken by the server: {tame(error)}", where=self._where
            )

    def receive_eof(self) -> None:
        if not self.ready:
            self._protocol.receive_eof()  # ends the body of a refusal
            error = self._protocol.handshake_exc
            if isinstance(error, InvalidStatus):
                raise self._refused(error)
            raise self._error("the server closed the connection instead of upgrading it")
