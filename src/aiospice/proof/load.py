"""Many clients in one process: session cores of ours on bare sockets, without a loop of their own.

`Crowd` connects clients, each from a loopback address of its own, and runs them. Idle ones keep the
channels of display 0, whose screen stands still; active ones also look at display 1, where the
guest of `aiospice.proof.loadserver` shows a new frame with the time of its making again and again.
`Crowd.latencies` is what passed from there until the client's core had drawn it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import TYPE_CHECKING, Any

from aiospice.aio.crypto import Crypto
from aiospice.client.config import ClientConfig
from aiospice.client.session import ClientSession
from aiospice.effects import Close, Compute, Open, Pause, Resume
from aiospice.errors import SessionLost, SpiceTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiospice.errors import AiospiceError

__all__ = ["Crowd", "LoadClient", "read_stamp", "stamp"]

_READ = 65536
#: How often is looked who wants to be woken; there are hundreds to ask.
_LOOK_SECONDS = 0.05
#: Bits of a stamp's number in each pixel.
_BITS, _MASK = 24, 0xFFFFFF


def stamp(number: int, now: float) -> list[int]:
    """Three pixels (0xRRGGBB) that tell a frame's number and the time in seconds."""
    micros = int(now * 1e6)
    return [number & _MASK, micros & _MASK, micros >> _BITS & _MASK]


def read_stamp(pixels: memoryview) -> tuple[int, float]:
    """Number and time from the first pixels of a screen (words of 32 bits)."""
    number, low, high = (pixels[at] & _MASK for at in range(3))
    return number, (low | high << _BITS) / 1e6


class _Session(ClientSession):
    """A session that opens display 1 only if it is told to, and display 0 if not."""

    def __init__(self, config: ClientConfig, display: int) -> None:
        super().__init__(config, Crypto())
        self._display = display

    def _why_not(self, key: tuple[int, int]) -> str:
        if key[0] in (2, 4) and key[1] > self._display:
            return "not looked at"
        return super()._why_not(key)


class _Line:
    """One connection of a client."""

    __slots__ = ("client", "number", "sock", "unsent", "up")

    def __init__(self, client: LoadClient, number: int, sock: socket.socket) -> None:
        self.client = client
        self.number = number
        self.sock = sock
        self.unsent = b""
        self.up = False


class LoadClient:
    """One client; ``frames`` counts the stamped frames that it has drawn."""

    def __init__(self, crowd: Crowd, index: int, config: ClientConfig, *, active: bool) -> None:
        self.crowd = crowd
        self.source = f"127.0.{1 + index // 250}.{1 + index % 250}"
        self.active = active
        self.core = _Session(config, int(active))
        self.lines: dict[int, _Line] = {}
        self.frames = 0
        self.last = 0
        self.error: AiospiceError | None = None
        #: When the core wants to be woken.
        self.wake_at: float | None = None
        #: Nothing is read any more.
        self.deaf = False

    def turn(self, now: float) -> None:
        """Carry out what the core wants."""
        while effects := self.core.effects():
            for effect in effects:
                self._do(effect, now)
        for line in list(self.lines.values()):
            self.pump(line)
        for event in self.core.events():
            self.error = getattr(event, "error", None) or self.error
        self.wake_at = self.core.next_wake()

    def _do(self, effect: Any, now: float) -> None:
        if isinstance(effect, Open):
            self.crowd.open(self, effect.connection, effect.endpoint.port)
        elif isinstance(effect, Close):
            line = self.lines.pop(effect.connection, None)
            if line is not None:
                self.crowd.drop(line)
        elif isinstance(effect, Compute):
            self.core.computed(effect.id, effect.job.run(), now)
            self.look(now)
        elif isinstance(effect, (Pause, Resume)):
            line = self.lines.get(effect.connection)
            if line is not None:
                self.crowd.read(line, isinstance(effect, Resume))

    def pump(self, line: _Line) -> None:
        """Send what there is, as far as the socket takes it."""
        while line.up:
            data = line.unsent or self.core.take(line.number)
            if not data:
                return
            try:
                sent = line.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return
            line.unsent = data[sent:]
            if line.unsent:
                return

    def received(self, line: _Line, now: float) -> None:
        """The socket has something to read."""
        try:
            data = line.sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.core.received(line.number, data, now)
            self.look(now)
        else:
            self.lost(line, now)
        self.turn(now)

    def lost(self, line: _Line, now: float) -> None:
        """The server has closed the connection."""
        self.lines.pop(line.number, None)
        self.crowd.drop(line)
        self.core.closed(line.number, None, now)

    def look(self, now: float) -> None:
        """See whether display 1 shows a frame that is new."""
        screen = self.core.screens.get(1)
        if screen is None or screen.primary is None:
            return
        data = screen.surfaces[screen.primary].data
        number, made = read_stamp(memoryview(data)[:12].cast("I"))
        if number and number != self.last:
            self.last = number
            self.frames += 1
            self.crowd.latencies.append(now_or(now) - made)


def now_or(now: float) -> float:
    """The time now: what `time.monotonic` says, and not earlier than ``now``."""
    return max(now, time.monotonic())


class Crowd:
    """The clients of one server on 127.0.0.1, and the loop that they share."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.clients: list[LoadClient] = []
        #: Seconds from a frame's making until it was drawn, of all active clients.
        self.latencies: list[float] = []
        self._epoll = select.epoll()
        self._lines: dict[int, _Line] = {}
        self._look_at = 0.0

    # -- what clients ask for --------------------------------------------------------------------

    def open(self, client: LoadClient, number: int, port: int) -> None:
        """Begin to connect."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((client.source, 0))
        with contextlib.suppress(BlockingIOError):
            sock.connect(("127.0.0.1", port))
        line = _Line(client, number, sock)
        client.lines[number] = line
        self._lines[sock.fileno()] = line
        self._epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def drop(self, line: _Line) -> None:
        """Close a connection."""
        if self._lines.pop(line.sock.fileno(), None) is not None:
            line.sock.close()

    def read(self, line: _Line, reading: bool) -> None:
        """Read a connection, or don't."""
        mask = (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if line.unsent else 0)
        self._epoll.modify(line.sock.fileno(), mask)

    # -- running ---------------------------------------------------------------------------------

    def add(self, *, active: bool, password: str = "", timeout: float = 120.0) -> LoadClient:
        """One more client begins to connect."""
        config = ClientConfig(
            host="127.0.0.1",
            port=self.port,
            password=password,
            decodable=(),
            timeout=timeout,
            channels=("display", "inputs", "cursor", "playback", "port"),
        )
        client = LoadClient(self, len(self.clients), config, active=active)
        self.clients.append(client)
        now = time.monotonic()
        client.core.start(now)
        client.turn(now)
        return client

    def join(self, count: int, *, active: bool, at_once: int = 8, limit: float = 600.0) -> None:
        """Connect so many, a few at a time, until all are ready. `SpiceTimeout`, `SessionLost`."""
        end = time.monotonic() + limit
        wanted = len(self.clients) + count
        waiting: list[LoadClient] = []
        while len(self.clients) < wanted or waiting:
            while len(waiting) < at_once and len(self.clients) < wanted:
                waiting.append(self.add(active=active))
            self.run(0.05)
            for client in waiting:
                if client.core.error is not None:
                    raise SessionLost(f"client {client.source}: {client.core.error}")
            waiting = [client for client in waiting if not client.core.ready]
            if time.monotonic() > end:
                raise SpiceTimeout(f"{len(waiting)} clients aren't there after {limit:g} s")

    def until(self, condition: Callable[[], object], limit: float = 30.0) -> bool:
        """Run until a condition holds; whether it does within the limit."""
        end = time.monotonic() + limit
        while not condition():
            if time.monotonic() > end:
                return False
            self.run(0.02)
        return True

    def run(self, seconds: float) -> None:
        """Run all clients for a while."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            for number, events in self._epoll.poll(max(min(end, self._look_at) - now, 0.0)):
                line = self._lines.get(number)
                if line is not None:
                    self._ready(line, events)
            now = time.monotonic()
            if now < self._look_at:
                continue
            self._look_at = now + _LOOK_SECONDS
            for client in self.clients:
                if client.wake_at is not None and client.wake_at <= now:
                    client.core.wake(now)
                    client.turn(now)

    def _ready(self, line: _Line, events: int) -> None:
        now, client = time.monotonic(), line.client
        if events & select.EPOLLOUT and not line.up:
            line.up = True
            self._epoll.modify(line.sock.fileno(), select.EPOLLIN)
            client.core.connected(line.number, now)
            client.turn(now)
        elif events & select.EPOLLOUT:
            client.pump(line)
            if not line.unsent:
                self._epoll.modify(line.sock.fileno(), select.EPOLLIN)
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            if client.deaf:
                self._epoll.modify(line.sock.fileno(), 0)
            elif line.sock.fileno() >= 0:
                client.received(line, now)

    def close(self) -> None:
        """Leave, all at once."""
        for line in list(self._lines.values()):
            self.drop(line)
        self._epoll.close()

    # -- what came of it -------------------------------------------------------------------------

    @property
    def active(self) -> list[LoadClient]:
        """The clients that look at display 1."""
        return [client for client in self.clients if client.active]

    @property
    def lost(self) -> list[LoadClient]:
        """Clients whose session has ended."""
        return [client for client in self.clients if client.core.error is not None]
