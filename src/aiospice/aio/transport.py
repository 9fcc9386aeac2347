"""One connection on asyncio: a socket, the layers on it, and a handler above.

What a session core says about messages in flight rests on this: the transport keeps no queue.
A shell writes one message while `Transport.writable`, and writes the next when the kernel has
taken the last byte of that one (layers included), so that what has not begun can still go
elsewhere.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, cast

from aiospice.aio.failures import HINTS_LOST, explained, way
from aiospice.aio.layers import stack_for
from aiospice.aio.sockets import peer_text, tune, until_writable
from aiospice.errors import (
    AddressError,
    AiospiceError,
    ConnectError,
    RemoteProtocolError,
    SpiceTimeout,
    StateError,
)

if TYPE_CHECKING:
    from aiospice.aio.layers import Stack
    from aiospice.effects import Endpoint

__all__ = ["CLOSE_SECONDS", "LENT_MOST", "Dial", "Handler", "Transport", "open_transport"]

#: How long `Transport.close` waits for the kernel to take what was written, and for the peer to
#: end its side, in seconds.
CLOSE_SECONDS = 3.0

#: Makes the socket for ``(host, port)``, connected or connecting, for example in another network
#: namespace. The transport owns it from then on.
Dial = Callable[[str, int], "socket.socket | Awaitable[socket.socket]"]

#: Bytes that `Handler.lent` leaves are fewer.
LENT_MOST = 4 * 1024 * 1024

# What a read fetches at most: at first, and from a peer that fills it. It is drawn from there, so
# it should not be more than what a processor has at hand.
_LEAST_READ, _MOST_READ = 16 * 1024, 256 * 1024
# What is read before others have their turn, and what a read may fetch of a message that is larger
# than a read.
_MOST_AT_ONCE = 1024 * 1024
_STAGGER_SECONDS = 0.25  # until the next address of a name is tried beside the last (RFC 8305)
_MAY_READ = hasattr(os, "readv")
# Answers that layers owe the peer (pongs, key updates) while it doesn't read.
_MAX_CONTROL_BYTES = 64 * 1024
# What is read from the kernel after a failed write, at most.
_MAX_DRAIN_BYTES = 16 * 1024 * 1024


class Handler(Protocol):
    """Who is told what happens to a transport; never called before `open_transport` returned.

    One that has ``lent(view)`` too is given there what came without layers: a view of memory that
    the next bytes are written to. It returns how many of the last bytes it has not taken, fewer
    than `LENT_MOST`: they come again, with those that follow.
    """

    def received(self, data: bytes) -> None:
        """Take what the peer sent, never empty; not called after `Transport.close`."""

    def writable(self) -> None:
        """The kernel has taken all of what was written; not called for writes it took at once."""

    def closed(self, error: AiospiceError | None) -> None:
        """The connection is gone; called exactly once, and nothing after it.

        None: it was closed from here, or the peer ended it in an orderly way.
        """


async def open_transport(
    endpoint: Endpoint, handler: Handler, *, timeout: float, dial: Dial | None = None
) -> Transport:
    """Connect to ``endpoint`` through all its layers, within ``timeout`` seconds.

    ``dial`` makes the TCP socket (to the proxy if there is one); UNIX sockets don't use it.
    Raises `ConnectError`, `CertificateError`, `SpiceTimeout`, or `AddressError` for an endpoint
    that can't be used. The handler hears nothing until this has returned.
    """
    where = str(endpoint)
    loop = asyncio.get_running_loop()
    transport = Transport(handler, where, stack_for(endpoint), loop)
    try:
        async with asyncio.timeout(timeout) as limit:
            sock = await _connect(loop, endpoint, dial)
            await transport._attach(sock)
    except BaseException as error:
        transport._give_up()
        if isinstance(error, TimeoutError) and limit.expired():
            raise SpiceTimeout(
                f"{way(endpoint)}: {transport._stage} took longer than {timeout:g} s; "
                f"{transport._stage_hint}"
            ) from None
        if isinstance(error, AiospiceError):
            raise
        if isinstance(error, OSError):
            raise explained(error, endpoint) from error
        if isinstance(error, (ValueError, OverflowError)):  # NUL, bad IDNA, port beyond 65535
            raise AddressError(f"{where}: no such host or port can exist") from None
        raise
    loop.call_soon(transport._go_live)
    return transport


class Transport(asyncio.BufferedProtocol):
    """A connection, made by `open_transport`. All calls are for the loop's thread only."""

    #: What the other side is called in errors.
    _peer = "server"

    def __init__(
        self, handler: Handler, where: str, stack: Stack | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._handler = handler
        self._where = where
        self._stack = stack
        self._loop = loop
        self._opened: asyncio.Future[None] = loop.create_future()
        self._raw: asyncio.Transport | None = None
        self._descriptor = -1
        self._is_tcp = False
        self._peername = where
        self._early = bytearray()  # came with the end of the handshake
        self._buffer = memoryview(bytearray(_LEAST_READ))
        self._left = 0  # bytes at the beginning of the buffer that the handler hasn't taken
        self._step = _LEAST_READ  # what a read fetches at most
        self._asked = 0  # what the last one was to fetch
        # The descriptor is known to be ours, and may be read without the loop.
        self._reads_itself = _MAY_READ and isinstance(loop, asyncio.SelectorEventLoop)
        self._lent: Callable[[memoryview], int] | None = getattr(handler, "lent", None)
        self._live = False  # the handler may be called
        self._paused = False
        self._blocked = False  # the kernel hasn't taken everything
        self._closing = False
        self._eof = False
        self._lost = False
        self._error: AiospiceError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._raw_written = 0
        self._begun: deque[tuple[int, int]] = deque()  # (raw bytes up to its end, plain bytes)
        self._unsent_at_loss = 0
        self._control = 0

    # What the shell calls

    @property
    def peername(self) -> str:
        """The peer's address as text (``127.0.0.1:5900``, ``[::1]:5900``, or a path)."""
        return self._peername

    @property
    def writable(self) -> bool:
        """No byte of what was written is waiting here, and the connection is up."""
        if self._blocked or self._closing or self._lost:
            return False
        raw = self._raw
        return raw is not None and not raw.is_closing()

    @property
    def unsent(self) -> int:
        """Bytes accepted by `write` that the kernel hasn't taken.

        With layers a write counts in full until its last byte was taken. Once the connection is
        lost, the figure is that after the last write: never too low, maybe too high.
        """
        raw = self._live_raw()
        if raw is None:
            return self._unsent_at_loss
        waiting = raw.get_write_buffer_size()
        if self._stack is None or not waiting:
            return waiting
        taken = self._raw_written - waiting
        return sum(plain for end, plain in self._begun if end > taken)

    def local_unacked(self) -> int | None:
        """Bytes in the kernel's send queue that the peer's kernel hasn't acknowledged.

        They are bytes on the wire, layers included. None where that isn't known: no TCP, not
        Linux, or no connection any more.
        """
        if self._live_raw() is None or not self._is_tcp or sys.platform != "linux":
            return None
        import fcntl
        import termios

        try:  # SIOCOUTQ has the number of TIOCOUTQ
            count = fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4))
        except OSError:
            return None
        return int.from_bytes(count, sys.byteorder)

    def write(self, data: bytes) -> None:
        """Send ``data``. It is accepted even if not `writable`, but then waits in memory.

        Raises `StateError` after `close` or `abort`; is dropped silently if the peer has gone.
        """
        if self._closing:
            raise StateError(f"{self._where}: the connection was closed, nothing can be sent")
        if not data:
            return
        raw = self._live_raw()
        if raw is None:
            self._unsent_at_loss += len(data)
            return
        if self._stack is None:
            self._raw_written += len(data)
            raw.write(data)
        else:
            self._stack.send(data)
            self._write_raw(self._stack.data_to_send())
            if self._blocked:
                self._begun.append((self._raw_written, len(data)))
        if raw.is_closing():  # this write found the connection broken
            self._unsent_at_loss += len(data)
        elif self._blocked:
            self._unsent_at_loss = self.unsent

    def pause(self) -> None:
        """Stop reading, so that the peer feels the back-pressure."""
        self._paused = True
        raw = self._live_raw()
        if raw is not None and not self._closing:
            raw.pause_reading()

    def resume(self) -> None:
        """Go on reading."""
        self._paused = False
        if self._live:
            self._loop.call_soon(self._read_on)

    def close(self) -> None:
        """Send what was written, say goodbye, close; at most `CLOSE_SECONDS` long.

        What the peer still sends meanwhile is read and dropped: a socket closed with unread data
        would take back what is on its way.
        """
        if self._closing:
            return
        self._closing = True
        raw = self._live_raw()
        if raw is None:
            return
        self._timer = self._loop.call_later(CLOSE_SECONDS, self._close_expired)
        try:
            if self._stack is not None:
                self._stack.close()
                self._write_raw(self._stack.data_to_send())
            raw.write_eof()
        except (OSError, RuntimeError, AiospiceError):
            self._kill()
            return
        raw.resume_reading()

    def abort(self) -> None:
        """Close at once; what the kernel hasn't taken is dropped."""
        self._closing = True
        self._kill()

    # Opening

    @property
    def _stage(self) -> str:
        if self._raw is None or self._stack is None:
            return "connecting"
        return f"the {self._stack.name} handshake"

    @property
    def _stage_hint(self) -> str:
        if self._raw is None:
            return "is the host up, is a firewall in between?"
        return "is this the right port, and is the server busy?"

    def _live_raw(self) -> asyncio.Transport | None:
        """The raw transport while it works; `close` only half-closes it, all else is an end."""
        raw = self._raw
        return None if raw is None or self._lost or raw.is_closing() else raw

    def _kill(self) -> None:
        raw = self._live_raw()
        if raw is not None:
            self._unsent_at_loss = self.unsent  # asyncio forgets it
            raw.abort()

    async def _attach(self, sock: socket.socket) -> None:
        """Put the socket under this transport and go through the handshakes."""
        tune(sock)
        try:
            if sock.family == socket.AF_UNIX:
                await self._loop.create_unix_connection(lambda: self, sock=sock)
            else:
                await self._loop.create_connection(lambda: self, sock=sock)
        except BaseException:
            sock.close()
            raise
        await self._opened

    def _give_up(self) -> None:
        """Opening has failed: the handler must never hear of it."""
        self._live = False
        self._closing = True
        self._kill()
        if not self._opened.done():
            self._opened.cancel()
        elif not self._opened.cancelled():
            self._opened.exception()  # seen

    def _go_live(self) -> None:
        self._live = True
        if self._lost:
            self._report()
        else:
            self._read_on()

    def _read_on(self) -> None:
        """Hand out what came early, then read; again after each call of the handler."""
        raw = self._live_raw()
        if self._paused or raw is None or self._closing:
            return
        if self._early:
            data = bytes(self._early)
            self._early.clear()
            try:
                self._handler.received(data)
            except Exception as error:
                self._fail(self._broken(error))
                raise
        if not self._paused and self._live_raw() is not None:
            raw.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshakes, lowest layer first."""
        raw = self._raw = cast("asyncio.Transport", transport)
        sock = raw.get_extra_info("socket")
        self._descriptor = sock.fileno()
        self._is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
        self._peername = peer_text(raw.get_extra_info("peername")) or self._where
        # Nothing may wait here: pause_writing comes with the first byte that has to.
        raw.set_write_buffer_limits(high=0)
        if self._stack is None:
            self._set_opened()
        else:
            self._run(b"")

    def _set_opened(self) -> None:
        # Until the caller has the transport nothing may be read that it would have to be given.
        self._live_raw_now().pause_reading()
        if not self._opened.done():
            self._opened.set_result(None)

    def _live_raw_now(self) -> asyncio.Transport:
        assert self._raw is not None
        return self._raw

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        left = self._left
        room = self._buffer[left : left + (self._step if left < self._step else _MOST_AT_ONCE)]
        self._asked = len(room)
        return room

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read, and read on as long as the peer fills what is asked for.

        What the loop does for each read takes as long as drawing from it.
        """
        came, budget = nbytes, _MOST_AT_ONCE
        while True:
            self._take(came)
            budget -= came
            if came < self._asked or budget <= 0 or self._lent is None:
                return
            came = self._fetch()
            if not came:
                return

    def read_now(self) -> None:
        """Take what has come already, ahead of what else the loop is to do."""
        if self._live and self._left >= 0 and (came := self._fetch()):
            self._take(came)

    def _fetch(self) -> int:
        """Read behind the loop's back; 0: nothing is there, or an end, which the loop sees too."""
        stops = self._paused or self._closing or self._error is not None
        below = self._stack is not None or not self._reads_itself
        if stops or below or self._live_raw() is None:
            return 0
        try:
            return os.readv(self._descriptor, (self.get_buffer(-1),))
        except OSError:
            return 0

    def _take(self, nbytes: int) -> None:
        """Hand bytes up through the layers; drop them while closing."""
        if self._closing or self._error is not None:
            self._left = 0
            return
        end = self._left + nbytes
        came = self._buffer[:end]
        left, self._left = 0, -1  # nothing is read over it meanwhile
        if self._stack is not None:
            self._run(bytes(came))
        elif self._lent is None:
            self._handler.received(bytes(came))
        elif 0 < (left := self._lent(came)) < end:
            self._buffer[:left] = came[end - left :]
        self._left = left
        if nbytes == self._asked:
            self._grow()

    def _grow(self) -> None:
        """The peer sends as fast as it is read, or a message doesn't fit: fetch more at a time."""
        self._step = min(4 * self._step, _MOST_READ)
        if len(self._buffer) - self._left < self._step:
            larger = memoryview(bytearray(2 * max(self._step, len(self._buffer))))
            larger[: self._left] = self._buffer[: self._left]
            self._buffer = larger

    def _run(self, data: bytes) -> None:
        """Feed the layers, send what they answer, hand on what comes out."""
        stack = self._stack
        assert stack is not None
        try:
            plain = stack.receive(data) if data else b""
            if not data:
                stack.start()
            self._answer(stack.data_to_send())
        except AiospiceError as error:
            self._fail(error)
            return
        if not self._live:
            self._early += plain
            if stack.ready and not self._opened.done():
                self._set_opened()
        elif plain:
            self._handler.received(plain)
        if stack.ended:
            self._kill()

    def _answer(self, data: bytes) -> None:
        if not data:
            return
        self._write_raw(data)
        if self._blocked:
            self._control += len(data)
            if self._control > _MAX_CONTROL_BYTES:
                raise RemoteProtocolError(
                    f"the {self._peer} asks for answers below SPICE (TLS or WebSocket) and "
                    "doesn't read them",
                    where=self._where,
                )

    def _write_raw(self, data: bytes) -> None:
        if data:
            self._raw_written += len(data)
            self._live_raw_now().write(data)

    def _fail(self, error: AiospiceError) -> None:
        self._error = self._error or error
        unsent = self.unsent
        raw = self._live_raw()
        if raw is not None and self._stack is not None:
            raw.write(self._stack.data_to_send())  # a TLS alert says why
        self._kill()
        self._unsent_at_loss = unsent

    def eof_received(self) -> bool:
        """End the connection, after the flush if it is being closed."""
        self._eof = True
        raw = self._live_raw_now()
        if not self._opened.done():
            self._fail(self._early_end())
        elif self._closing and raw.get_write_buffer_size():
            return True  # resume_writing ends it
        else:
            # SPICE has no half-closed connections: a peer that ended its side is gone.
            self._kill()
        return False

    def _early_end(self) -> AiospiceError:
        try:
            if self._stack is not None:
                self._stack.receive_eof()
        except AiospiceError as error:
            return error
        return ConnectError(f"{self._where}: the {self._peer} closed the connection at once")

    def pause_writing(self) -> None:
        """Note that the kernel didn't take everything."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Note that the kernel has taken everything."""
        self._blocked = False
        self._control = 0
        self._begun.clear()
        self._unsent_at_loss = 0
        if self._closing:
            if self._eof:
                self._kill()
        elif self._live and not self._lost:
            self._handler.writable()

    def _close_expired(self) -> None:
        if self.unsent:
            self._error = SpiceTimeout(
                f"{self._where}: the {self._peer} didn't take {self.unsent} bytes within "
                f"{CLOSE_SECONDS:g} s of closing"
            )
        self._kill()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say to whom it may concern, once, that it is over."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            if isinstance(exc, OSError) and self._live and not self._closing:
                self._drain()
        finally:
            self._finish(exc)

    def _finish(self, exc: Exception | None) -> None:
        self._lost = True
        if exc is not None and self._error is None and not self._closing:
            self._error = self._broken(exc)
        if not self._opened.done():
            self._opened.set_exception(self._error or self._early_end())
        elif self._live:
            self._report()

    def _broken(self, exc: Exception) -> AiospiceError:
        if not isinstance(exc, OSError):  # the handler has raised; asyncio has logged it
            return AiospiceError(f"{self._where}: handling what was received failed: {exc!r}")
        hint = HINTS_LOST.get(exc.errno or 0, "")
        if not self._opened.done():
            hint += "; is this the right port, and does it want TLS?"
        text = exc.strerror or str(exc) or type(exc).__name__
        return ConnectError(f"{self._where}: the connection broke: {text}{hint}")

    def _report(self) -> None:
        if self._live:
            self._live = False
            self._handler.closed(self._error)

    def _drain(self) -> None:
        """Read what the peer sent before it closed.

        A failed write ends the connection without a look at the receive queue, where the last
        words of the peer (the reason, or state on its way to another server) may wait.
        """
        if not isinstance(self._loop, asyncio.BaseEventLoop):
            return  # only there the descriptor is known to be still ours
        budget = _MAX_DRAIN_BYTES
        while budget > 0 and not self._closing and not self._paused and self._error is None:
            try:
                data = os.read(self._descriptor, 256 * 1024)
            except OSError:
                return
            if not data:
                return
            budget -= len(data)
            self._drained(data)

    def _drained(self, data: bytes) -> None:
        if self._left:
            data = bytes(self._buffer[: self._left]) + data
            self._left = 0
        if self._stack is not None:
            try:
                data = self._stack.receive(data)
            except AiospiceError as error:
                self._error = error
                return
        if data:
            self._handler.received(data)


# Sockets


async def _connect(
    loop: asyncio.AbstractEventLoop, endpoint: Endpoint, dial: Dial | None
) -> socket.socket:
    if endpoint.unix_path and not endpoint.proxy:
        return await _connect_unix(loop, endpoint.unix_path)
    host, port = endpoint.host, endpoint.port
    if endpoint.proxy:
        from aiospice.aio.proxy import parse_proxy

        proxy = parse_proxy(endpoint.proxy)
        host, port = proxy.host, proxy.port
    if dial is not None:
        made = dial(host, port)
        return await _settled(loop, made if isinstance(made, socket.socket) else await made)
    return await _race(loop, await _resolve(loop, host, port))


_Address = tuple[int, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


async def _resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[_Address]:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [(family, (host, port))]  # no thread for what needs no look-up
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((info[0], info[4]) for info in found))


async def _race(loop: asyncio.AbstractEventLoop, addresses: list[_Address]) -> socket.socket:
    """Try all addresses, each a moment after the one before; the first that connects wins."""
    tasks: set[asyncio.Task[socket.socket]] = set()
    error: OSError | None = None
    try:
        while addresses or tasks:
            if addresses:
                tasks.add(loop.create_task(_try(loop, *addresses.pop(0))))
            done, _ = await asyncio.wait(
                tasks,
                timeout=_STAGGER_SECONDS if addresses else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                problem = task.exception()
                if problem is None:
                    tasks.remove(task)
                    return task.result()
                tasks.remove(task)
                if not isinstance(problem, OSError):
                    raise problem
                error = error or problem
    finally:
        for task in tasks:
            task.cancel()
            task.add_done_callback(_dispose)
    raise error or OSError(errno.EADDRNOTAVAIL, "the name has no address")


def _dispose(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _try(
    loop: asyncio.AbstractEventLoop, family: int, address: tuple[object, ...]
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect_unix(loop: asyncio.AbstractEventLoop, path: str) -> socket.socket:
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(path)
            return sock
        except BlockingIOError:  # the listener's backlog is full, and nothing tells when not
            sock.close()
            await asyncio.sleep(0.02)
        except BaseException:
            sock.close()
            raise


async def _settled(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> socket.socket:
    """Wait until a socket that may still be connecting is connected."""
    try:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            await until_writable(loop, sock)
        problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            raise OSError(problem, os.strerror(problem))
        sock.getpeername()
    except BaseException:
        sock.close()
        raise
    return sock
