"""What a core may ask of the world, as plain data.

A session core never touches a socket. It hands out effects, which the shell (``aio``, or the
simulator) carries out, and it is told the outcome by calls: ``connected``, ``received``,
``closed``, ``computed``. Bytes to send are not an effect: the shell fetches them one message at
a time while the socket takes them, so that what has not begun to leave can still go elsewhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = [
    "Close",
    "Compute",
    "Effect",
    "Endpoint",
    "MakeKey",
    "Open",
    "Pause",
    "Resume",
    "ServerEffect",
]


class Endpoint(NamedTuple):
    """Where one connection goes, and how."""

    #: Host name or address; empty for a UNIX socket.
    host: str = ""
    #: TCP port, 1 to 65535; 0 for a UNIX socket.
    port: int = 0
    #: Path of a UNIX socket, or empty.
    unix_path: str = ""
    #: TLS from the first byte (inside the proxy's tunnel if there is one).
    tls: bool = False
    #: PEM text of the only authorities to trust; empty: the system's.
    ca: bytes = b""
    #: Subject the certificate must have (``C=..,O=..,CN=..``); empty: the host name must match.
    host_subject: str = ""
    #: Check the certificate at all.
    verify: bool = True
    #: Path of the WebSocket resource (``/``), or empty for no WebSocket.
    websocket_path: str = ""
    #: OpenSSL's cipher list for TLS up to 1.2, empty: the library's.
    tls_ciphers: str = ""
    #: ``http://[user:password@]host:port`` of a proxy that is asked to CONNECT, or empty.
    proxy: str = ""

    def __str__(self) -> str:
        if self.unix_path:
            return f"spice+unix://{self.unix_path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.websocket_path:
            return f"{'wss' if self.tls else 'ws'}://{host}:{self.port}{self.websocket_path}"
        return f"{'spice+tls' if self.tls else 'spice'}://{host}:{self.port}"

    def __repr__(self) -> str:  # the proxy may carry a password
        return f"Endpoint({self})"


class Open(NamedTuple):
    """Open a connection; answered by ``connected`` or ``closed``."""

    connection: int
    endpoint: Endpoint
    #: Seconds until the attempt counts as failed (TCP, proxy, TLS and WebSocket together).
    timeout: float


class Close(NamedTuple):
    """Close a connection; what it still sends is read and dropped. Not answered.

    A server's: what ``take`` still gives goes out first, unless ``discard`` is set; then even what
    waits in the shell is dropped, and ``dropped(connection, bytes)`` says how much that was.
    """

    connection: int
    discard: bool = False


class Pause(NamedTuple):
    """Stop reading a connection, so that its peer feels the back-pressure."""

    connection: int


class Resume(NamedTuple):
    """Go on reading a paused connection."""

    connection: int


class Compute(NamedTuple):
    """Do heavy work off the loop; answered by ``computed(id, result)``."""

    id: int
    job: Any


class MakeKey(NamedTuple):
    """Make a new RSA key for a server's link; answered by ``ticket_key(connection, key)``."""

    connection: int


#: Of a client's session.
Effect = Open | Close | Pause | Resume | Compute
#: Of a server.
ServerEffect = Close | Pause | Resume | Compute | MakeKey
