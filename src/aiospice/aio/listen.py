"""Where a server listens: addresses, listening sockets, and what is accepted on them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from aiospice.aio.serverlayers import stack_for_client
from aiospice.aio.sockets import peer_text, tune
from aiospice.aio.transport import Transport
from aiospice.errors import AddressError, AiospiceError, ConnectError
from aiospice.server.config import Peer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from aiospice.aio.layers import Stack
    from aiospice.aio.origins import OriginRule
    from aiospice.aio.transport import Handler

__all__ = ["Listen", "Listener", "bind", "parse_listen"]

#: Connections that wait in the kernel; a client opens a dozen at once.
BACKLOG = 128
#: Connections taken at a time, so that a flood of them doesn't hold up the sessions.
_AT_ONCE = 4
#: How long nothing is accepted after the system has run out of descriptors or memory, in seconds.
_PAUSE_SECONDS = 0.5
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: Bytes read from a client at a time: what one client floods the server with must not hold up the
#: others for long, and reading 16 KiB of the smallest messages takes some milliseconds.
READ_BYTES = 16 * 1024
#: The same of one that has brought many events with one read.
FEW_BYTES = 2 * 1024
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_PLAIN, _TLS, _UNIX, _WS, _WSS = "spice", "spice+tls", "spice+unix", "ws", "wss"
_SCHEMES = (_PLAIN, _TLS, _UNIX, _WS, _WSS)
_LOG = logging.getLogger("aiospice.server")


class Listen(NamedTuple):
    """One address to listen on."""

    #: ``spice``, ``spice+tls``, ``ws``, ``wss`` or ``spice+unix``.
    scheme: str
    #: Name or address, ``*`` for all; empty for a UNIX socket.
    host: str = ""
    #: TCP port, 0 for any that is free.
    port: int = 0
    #: Path of a UNIX socket.
    path: str = ""

    @property
    def tls(self) -> bool:
        """Clients must begin with TLS."""
        return self.scheme in (_TLS, _WSS)

    @property
    def websocket(self) -> bool:
        """SPICE is inside WebSocket messages."""
        return self.scheme in (_WS, _WSS)

    def __str__(self) -> str:
        if self.scheme == _UNIX:
            return f"{_UNIX}://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_listen(text: str, scheme: str = _PLAIN) -> Listen:
    """Read ``SCHEME://HOST:PORT`` or ``spice+unix:///PATH``; without a scheme it is ``scheme``.

    HOST ``*`` (or nothing, before the colon) means all addresses of this machine; PORT alone means
    127.0.0.1. Raises `AddressError`.
    """
    name, marked, rest = text.partition("://")
    if not marked:
        name, rest = scheme, text
    if name not in _SCHEMES:
        raise AddressError(f"{text!r}: no server listens on {name}://, only {', '.join(_SCHEMES)}")
    if name == _UNIX:
        if not rest.startswith("/"):
            raise AddressError(f"{text!r}: the path of a UNIX socket begins with /")
        return Listen(_UNIX, path=rest)
    host, colon, port = rest.removesuffix("/").rpartition(":")
    if not colon:
        host, port = ("127.0.0.1", host + port) if port.isdecimal() else (port, "")
    host = host.removeprefix("[").removesuffix("]") or "*"
    if not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise AddressError(f"{text!r} has no port; expected HOST:PORT, for example 127.0.0.1:5900")
    return Listen(name, host, int(port))


def is_local(listen: Listen, sock: socket.socket) -> bool:
    """Tell if only this machine can reach a listening socket."""
    if listen.scheme == _UNIX:
        return True
    from ipaddress import ip_address

    return ip_address(sock.getsockname()[0].partition("%")[0]).is_loopback


# Sockets


async def bind(listen: Listen) -> list[socket.socket]:
    """Make the listening sockets, one for each address that the host has.

    Raises `AddressError` for a host or path that can't be used, `ConnectError` if it is taken.
    """
    try:
        if listen.scheme == _UNIX:
            return [_bind_unix(listen.path)]
        return await _bind_tcp(listen)
    except OSError as error:
        raise _explained(error, listen) from error


async def _bind_tcp(listen: Listen) -> list[socket.socket]:
    host = None if listen.host == "*" else listen.host
    found = await asyncio.get_running_loop().getaddrinfo(
        host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    port = listen.port
    made: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, address in dict.fromkeys((info[0], info[4]) for info in found):
            try:
                made.append(_listening(family, (address[0], port, *address[2:])))
            except OSError as error:
                # A name has ::1, or all addresses have ::, where IPv6 is switched off, too.
                if error.errno not in _ABSENT:
                    raise
                absent = error
            else:
                port = made[0].getsockname()[1]
        if not made:
            raise absent or OSError(errno.EADDRNOTAVAIL, "the name has no address")
    except BaseException:
        for sock in made:
            sock.close()
        raise
    return made


def _listening(family: int, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(path: str) -> socket.socket:
    """Bind for this user only; what a dead server has left behind is removed."""
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise AddressError(f"{path} exists and is no socket: name another path, or remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        except OSError as error:
            raise AddressError(f"{path} exists and can't be tried: {error.strerror}") from None
    raise ConnectError(f"{path}: another server listens there; stop it, or name another path")


_HINTS = {
    errno.EADDRINUSE: "another program listens there: name another port, or 0 for a free one",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "this user may not listen there",
    errno.EPERM: "this user may not listen there",
    errno.ENOENT: "there is no such folder",
}


def _explained(error: OSError, listen: Listen) -> AiospiceError:
    if isinstance(error, socket.gaierror):
        return AddressError(f"{listen}: the name {listen.host!r} isn't known ({error.strerror})")
    hint = _HINTS.get(error.errno or 0, "")
    text = os.strerror(error.errno) if error.errno else str(error)
    kind = AddressError if error.errno in (errno.EADDRNOTAVAIL, errno.ENOENT) else ConnectError
    return kind(f"can't listen on {listen}: {text}{': ' if hint else ''}{hint}")


# Connections


class ServerTransport(Transport):
    """A connection that a client has made."""

    _peer = "client"

    def __init__(
        self,
        handler: Handler,
        where: str,
        stack: Stack | None,
        loop: asyncio.AbstractEventLoop,
        buffer: memoryview,
    ) -> None:
        super().__init__(handler, where, stack, loop)
        # What is read is handed on at once, so all connections of a loop can share this.
        self._buffer = buffer

    def read_little(self) -> None:
        """Read `FEW_BYTES` at a time from now on."""
        self._buffer = self._buffer[:FEW_BYTES]

    def _grow(self) -> None:
        """More is never read at a time: see `READ_BYTES`."""

    async def attach(self, sock: socket.socket) -> None:
        """Take the socket and go through the handshakes; then the handler is called.

        Raises what ended the connection before that; the handler never hears of it then.
        """
        try:
            tune(sock)
            await self._loop.connect_accepted_socket(lambda: self, sock)
            await self._opened
        except BaseException:
            self._give_up()
            raise
        self._loop.call_soon(self._go_live)

    def let_go(self, sock: socket.socket) -> None:
        """Close the socket if `attach` never got as far as making it its own."""
        if self._raw is None:
            sock.close()

    def _early_end(self) -> AiospiceError:
        try:
            if self._stack is not None:
                self._stack.receive_eof()
        except AiospiceError as error:
            return error
        return ConnectError(f"{self._where}: the client closed the connection at once")

    def _broken(self, exc: Exception) -> AiospiceError:
        if not isinstance(exc, OSError):
            return super()._broken(exc)
        text = exc.strerror or str(exc) or type(exc).__name__
        return ConnectError(f"{self._where}: the connection broke: {text}")


class Listener:
    """One listening socket; ``accepted`` is called with itself, the new socket and its peer."""

    def __init__(
        self,
        listen: Listen,
        sock: socket.socket,
        *,
        context: ssl.SSLContext | None,
        origin: OriginRule | None,
        accepted: Callable[[Listener, socket.socket, Peer], None],
    ) -> None:
        self.listen = listen
        self.sock = sock
        #: The address with the port that it has become.
        self.address = str(listen)
        if not listen.path:
            host, port = sock.getsockname()[:2]
            self.address = str(listen._replace(host=host, port=port))
        self.local = is_local(listen, sock)
        self.context = context
        self.origin = None if origin is None else replace(origin, local=self.local)
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._timer: asyncio.TimerHandle | None = None
        self._node = os.stat(listen.path).st_ino if listen.path else 0

    def start(self) -> None:
        """Begin to accept."""
        self._timer = None
        self._loop.add_reader(self.sock.fileno(), self._ready)

    def transport(self, handler: Handler, peer: Peer) -> ServerTransport:
        """Make the transport for a peer that was accepted here."""
        stack = stack_for_client(peer.address, context=self.context, origin=self.origin)
        return ServerTransport(handler, peer.address, stack, self._loop, self._buffer)

    def _ready(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, address = self.sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                continue  # the peer has gone already
            sock.setblocking(False)
            try:
                peer = self._peer_of(sock, address)
            except OSError:
                sock.close()
                continue
            self._accepted(self, sock, peer)

    def _pause(self, error: OSError) -> None:
        _LOG.warning("%s: nothing is accepted for a moment: %s", self.address, error.strerror)
        self._loop.remove_reader(self.sock.fileno())
        self._timer = self._loop.call_later(_PAUSE_SECONDS, self.start)

    def _peer_of(self, sock: socket.socket, address: object) -> Peer:
        if self.listen.path:
            user = peer_user(sock)
            return Peer(f"unix:{self.listen.path}", f"unix:{user}", secure=False, local=True)
        assert isinstance(address, tuple)
        return Peer(peer_text(address), str(address[0]), secure=self.listen.tls, local=False)

    def close(self) -> None:
        """Stop listening, and remove the UNIX socket if it is still this one."""
        if self._timer is not None:
            self._timer.cancel()
        if self.sock.fileno() < 0:
            return
        self._loop.remove_reader(self.sock.fileno())
        self.sock.close()
        if self.listen.path:
            with contextlib.suppress(OSError):
                if os.stat(self.listen.path).st_ino == self._node:
                    os.unlink(self.listen.path)


def peer_user(sock: socket.socket) -> int:
    """The user id of the process at the other end of a UNIX socket, -1 where it isn't told."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return -1
    data = sock.getsockopt(socket.SOL_SOCKET, option, 12)
    user: int = struct.unpack("=iii", data)[1]
    return user
