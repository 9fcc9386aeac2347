"""WebSocket as a layer, the server's end: SPICE as one stream of bytes in binary messages."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from websockets.exceptions import NegotiationError
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from aiospice.aio.websocketpipe import WebSocketPipe, tame
from aiospice.errors import ConnectError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MAX_MESSAGE_BYTES", "MAX_REQUEST_BYTES", "WebSocketServerLayer"]

#: Size limit of one WebSocket message (all its fragments) from a client. spice-html5 puts one
#: message of SPICE into each; the largest of those is a piece of a file.
MAX_MESSAGE_BYTES = 1024 * 1024
#: Size limit of a request to upgrade, its headers included.
MAX_REQUEST_BYTES = 16 * 1024

#: Methods that are answered at all; everything but GET with an error.
_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"OPTIONS ", b"DELETE ", b"PATCH ")
_BINARY = Subprotocol("binary")
#: The library would log every connection, and tracebacks of what clients send.
_LOG = logging.getLogger("aiospice.websockets")
_LOG.setLevel(logging.CRITICAL + 1)


class WebSocketServerLayer(WebSocketPipe[ServerProtocol]):
    """The server's end of RFC 6455; ``where`` names the client in errors.

    Any path will do, as with QEMU. The subprotocol is ``binary``, or none for a client that names
    none (spice-server, websocket.c). A request that is no upgrade is answered in HTTP: 426 for
    one that a browser makes of the address, 403 for an origin that isn't allowed.
    """

    name = "WebSocket"

    def __init__(self, where: str, origin: Callable[[str, str], bool]) -> None:
        self._where = where
        self._origin = origin
        self._protocol = ServerProtocol(
            select_subprotocol=_subprotocol, max_size=MAX_MESSAGE_BYTES, logger=_LOG
        )
        self._head = b""
        self._received = 0
        self._answer = b""
        self.ready = False
        self.ended = False

    def start(self) -> None:
        """The client begins."""

    def receive(self, data: bytes) -> bytes:
        if not self.ready:
            self._check_request(data)
        self._protocol.receive_data(data)
        plain = []
        for event in self._protocol.events_received():
            if not self.ready:
                self._upgrade(event)
            else:
                plain.append(self._take(event))
        error = self._protocol.handshake_exc or self._protocol.parser_exc
        if error is not None:
            if not self.ready:
                raise self._error(f"the request to upgrade can't be read: {tame(error)}")
            raise RemoteProtocolError(
                f"WebSocket was broken by the client: {tame(error)}", where=self._where
            )
        return b"".join(plain)

    def _check_request(self, data: bytes) -> None:
        """Refuse what isn't HTTP at its first byte; its first line may never end."""
        self._received += len(data)
        head = self._head = (self._head + data[:8])[:8]
        if b"REDQ".startswith(head[:4]) and head:
            raise self._error("the client speaks plain SPICE to a WebSocket port")
        if head and not any(word.startswith(head[: len(word)]) for word in _METHODS):
            raise self._error("the client doesn't speak HTTP")
        if self._received > MAX_REQUEST_BYTES:
            raise self._refuse(431, f"the request is longer than {MAX_REQUEST_BYTES} bytes")

    def _upgrade(self, request: object) -> None:
        assert isinstance(request, Request)
        self._check_origin(request)
        response = self._protocol.accept(request)
        self._protocol.send_response(response)
        if response.status_code != 101:
            error = self._protocol.handshake_exc
            raise self._error(
                f"the request to upgrade was answered with HTTP {response.status_code}"
                f"{f': {tame(error)}' if error is not None else ''}"
            )
        self.ready = True

    def _check_origin(self, request: Request) -> None:
        """A page of a stranger must not reach through the browser of someone who may.

        Programs send no origin. Browsers can't be made to leave it out.
        """
        headers = request.headers
        origins, hosts = headers.get_all("Origin"), headers.get_all("Host")
        host = hosts[0] if len(hosts) == 1 else ""
        if origins and (len(origins) > 1 or not self._origin(origins[0], host)):
            shown = tame(", ".join(origins))
            raise self._refuse(403, f"a page of the origin {shown} may not come here")

    def _refuse(self, status: int, text: str) -> ConnectError:
        """Answer in HTTP; what was sent is the last thing the client gets."""
        response = self._protocol.reject(status, f"{text}\n")
        self._protocol.send_response(response)
        return self._error(text)

    def receive_eof(self) -> None:
        if not self.ready:
            raise self._error("the client closed the connection before it was upgraded")


def _subprotocol(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """``binary`` where it is offered, none where none is."""
    if offered and _BINARY not in offered:
        raise NegotiationError("the subprotocol must be binary")
    return _BINARY if offered else None
