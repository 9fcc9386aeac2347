"""Lines between hosts, and the connections on them, on virtual time.

A connection brings its bytes in order, once; connections that share a line overtake each other.
What is modelled: the kernel's buffers, time on the way and its jitter, bandwidth, lines that stand
still for a while, that are dead from one moment on without anybody being told, and resets.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol
from zlib import crc32

from aiospice.errors import AiospiceError, ConnectError

if TYPE_CHECKING:
    from aiospice.sim.chance import Chance
    from aiospice.sim.clock import Clock, Trace

__all__ = ["CAPACITY", "DEAD_SECONDS", "End", "Line", "LineShape", "Network"]

#: Bytes that the kernels of both ends hold of one direction.
CAPACITY = 128 << 10
#: Bytes in a packet of TCP.
PACKET = 1448
#: What one read brings at most.
READ = 64 << 10
#: After so long a kernel gives up a connection whose other end is silent (keep-alive: 30 s and
#: four times 15 s, as `aiospice.aio.transport` sets it).
DEAD_SECONDS = 90.0


class LineShape(NamedTuple):
    """One direction of a line: seconds on the way, at most so many more, bytes a second.

    ``window``: packets that a new connection sends before the first is acknowledged, as TCP has it
    (10; RFC 6928), and one more for each that is; 0: without limit.
    """

    latency: float
    jitter: float = 0.0
    bandwidth: float = 0.0
    window: int = 0


class Owner(Protocol):
    """A process that has ends of connections."""

    name: str
    stopped: bool

    def readable(self, end: End) -> None:
        """Bytes, or the end of them, are there."""

    def writable(self, end: End) -> None:
        """The kernel has taken all and takes more."""


@dataclass(slots=True)
class Line:
    """The state of a line between two hosts, both directions."""

    name: str
    there: LineShape
    back: LineShape
    chance: Chance
    #: Nothing moves before that time; of a dead line: nobody knows yet.
    until: float = 0.0
    #: Nothing will ever move any more.
    dead: bool = False
    free_there: float = 0.0
    free_back: float = 0.0

    def arrival(self, now: float, size: int, *, there: bool) -> float:
        """When what is sent now is at the other end."""
        shape = self.there if there else self.back
        begin = max(now, self.until, self.free_there if there else self.free_back)
        if shape.bandwidth:
            begin += size / shape.bandwidth
            if there:
                self.free_there = begin
            else:
                self.free_back = begin
        more = self.chance.between(0.0, shape.jitter) if shape.jitter else 0.0
        return begin + shape.latency + more


class End:
    """One end of a connection: what its process has written and may read."""

    def __init__(self, owner: Owner, number: int, line: Line, there: bool) -> None:
        self.owner, self.number, self.line, self.there = owner, number, line, there
        self.other: End = self
        #: Written by the process and not taken by the kernel.
        self.rest = bytearray()
        #: Taken, and not read at the other end, as far as is known here; and what will be known.
        self.outstanding = 0
        self._acks: deque[tuple[float, int]] = deque()
        self._last = 0.0
        #: Packets that may be on their way, and when each of those that are will be acknowledged.
        self.window = (line.there if there else line.back).window
        self._flying: deque[float] = deque()
        #: Here and unread.
        self.inbox = bytearray()
        self.paused = False
        #: Nothing more is written here, or read.
        self.finished = False
        self.gone = False
        #: The other end is through: what to tell when everything has been read.
        self.ended = False
        self.error: AiospiceError | None = None
        self._asked = False

    @property
    def name(self) -> str:
        """For the trace: whose, and which."""
        return f"{self.owner.name}#{self.number}"


class Network:
    """All lines and connections of a world."""

    def __init__(self, clock: Clock, trace: Trace) -> None:
        self.clock, self.trace = clock, trace
        self.lines: dict[frozenset[str], Line] = {}
        self.ends: list[End] = []
        #: Bytes of each direction, by the names of the hosts.
        self.carried: dict[tuple[str, str], int] = {}

    def join(self, one: str, other: str, shape: LineShape, chance: Chance) -> Line:
        """Have a line between two hosts, alike both ways."""
        line = Line(f"{one}-{other}", shape, shape, chance)
        self.lines[frozenset((one, other))] = line
        return line

    def between(self, one: str, other: str) -> Line:
        """The line of two hosts."""
        return self.lines[frozenset((one, other))]

    def connect(self, line: Line, client: Owner, own: int, server: Owner) -> tuple[End, End]:
        """Two ends of a connection; nothing has been sent."""
        here = End(client, own, line, there=True)
        there = End(server, 0, line, there=False)
        here.other, there.other = there, here
        self.ends += [here, there]
        return here, there

    # -- writing -----------------------------------------------------------------------------------

    def can_write(self, end: End) -> bool:
        """Whether the kernel takes more; if not, `Owner.writable` will be called."""
        self._reap(end)
        if not end.rest and end.outstanding < CAPACITY:
            return True
        self._ask(end)
        return False

    def _reap(self, end: End) -> None:
        now = self.clock.now
        while end._acks and end._acks[0][0] <= now:
            end.outstanding -= end._acks.popleft()[1]

    def _ask(self, end: End) -> None:
        if not end._asked and end._acks:
            end._asked = True
            self.clock.at(end._acks[0][0], self._acked, end)

    def _acked(self, end: End) -> None:
        end._asked = False
        self._reap(end)
        self._flush(end)
        if end.finished or end.gone:
            return
        if not end.rest and end.outstanding < CAPACITY:
            end.owner.writable(end)
        else:
            self._ask(end)

    def write(self, end: End, data: bytes) -> None:
        """The process hands in bytes."""
        if end.gone or end.finished:
            return
        end.rest += data
        self._flush(end)

    def _flush(self, end: End) -> None:
        size = min(len(end.rest), CAPACITY - end.outstanding)
        if size <= 0 or end.gone:
            return
        if end.window and not (size := min(size, self._room(end))):
            return
        data = bytes(end.rest[:size])
        del end.rest[:size]
        end.outstanding += size
        self._send(end, data)
        if end.window and end.rest:
            self._room(end)
        if not end.rest and end.finished:
            self._farewell(end, None)

    def _room(self, end: End) -> int:
        """Bytes that TCP sends now; if there are none, it goes on when a packet is acknowledged."""
        flying = end._flying
        while flying and flying[0] <= self.clock.now:
            flying.popleft()
            end.window += 1
        room = max(0, end.window - len(flying)) * PACKET
        if not room:
            self.clock.at(flying[0], self._goes_on, end)
        return room

    def _goes_on(self, end: End) -> None:
        if end.rest and not end.gone:
            self._flush(end)

    def _send(self, end: End, data: bytes) -> None:
        names = (end.owner.name, end.other.owner.name)
        self.carried[names] = self.carried.get(names, 0) + len(data)
        if end.line.dead:
            return
        at = end.line.arrival(self.clock.now, len(data), there=end.there)
        end._last = max(end._last, at)
        if end.window:
            back = (end.line.back if end.there else end.line.there).latency
            packets = (len(data) + PACKET - 1) // PACKET
            end._flying.extend([end._last + back] * packets)
        self.clock.at(end._last, self._arrive, end, data)

    def _arrive(self, end: End, data: bytes) -> None:
        other = end.other
        if other.gone or other.ended or end.line.dead:
            return
        other.inbox += data
        self.trace.add(
            self.clock.now, other.name, f"<- {end.owner.name} {len(data)} {crc32(data):08x}"
        )
        if not other.paused:
            other.owner.readable(other)
        else:
            self._ask(end)

    # -- reading -----------------------------------------------------------------------------------

    def read(self, end: End, most: int = READ) -> bytes:
        """Take what is there."""
        data = bytes(end.inbox[:most])
        if data:
            del end.inbox[: len(data)]
            other = end.other
            shape = end.line.back if end.there else end.line.there
            other._acks.append((self.clock.now + shape.latency, len(data)))
            if other.rest or other.outstanding >= CAPACITY:
                self._ask(other)
        return data

    def is_over(self, end: End) -> bool:
        """Whether all has been read, and the other end is gone."""
        return end.ended and not end.inbox and not end.gone

    # -- ends --------------------------------------------------------------------------------------

    def finish(self, end: End) -> None:
        """The process closes its end; what it has written still goes out."""
        if end.finished or end.gone:
            return
        end.finished = True
        if not end.rest:
            self._farewell(end, None)

    def _farewell(self, end: End, error: AiospiceError | None) -> None:
        end.gone = True
        if end.line.dead:
            return
        at = max(end._last, end.line.arrival(self.clock.now, 0, there=end.there))
        self.clock.at(at, self._over, end.other, error)

    def _over(self, end: End, error: AiospiceError | None) -> None:
        if end.gone or end.ended:
            return
        end.ended, end.error = True, error
        if error is not None:
            end.inbox.clear()
        self.trace.add(self.clock.now, end.name, "over" if error is None else "reset")
        if not end.paused or error is not None:
            end.owner.readable(end)

    def abort(self, end: End, why: str = "connection reset by peer") -> None:
        """The process, or its kernel, drops the connection: what is on its way there is lost."""
        if not end.gone:
            end.rest.clear()
            end.gone = end.finished = True
            if not end.line.dead:
                at = end.line.arrival(self.clock.now, 0, there=end.there)
                self.clock.at(at, self._over, end.other, ConnectError(why))

    # -- faults ------------------------------------------------------------------------------------

    def on(self, line: Line) -> list[End]:
        """Ends of connections of a line that are up."""
        return [end for end in self.ends if end.line is line and not end.gone and not end.ended]

    def stall(self, line: Line, seconds: float) -> None:
        """Nothing that is sent moves on for some time; then all of it does."""
        line.until = max(line.until, self.clock.now + seconds)

    def kill(self, line: Line) -> None:
        """Nothing moves any more, and nobody is told until the kernels notice."""
        line.dead = True
        line.until = max(line.until, self.clock.now + DEAD_SECONDS + 1.0)
        for end in self.on(line):
            self.clock.after(DEAD_SECONDS, self._over, end, ConnectError("connection timed out"))

    def reset(self, line: Line, place: int | None = None) -> None:
        """All connections of a line break, or one of them."""
        ends = [end for end in self.on(line) if end.there and not end.other.ended]
        if place is not None and ends:
            ends = [ends[place % len(ends)]]
        for end in ends:
            for side in (end, end.other):
                side.rest.clear()
                self._over(side, ConnectError("connection reset by peer"))

    def tidy(self) -> None:
        """Forget connections that both ends have let go of."""
        self.ends = [end for end in self.ends if not (end.gone and end.other.gone)]
