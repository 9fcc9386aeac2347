"""A stream of numbers through an echoing port, which tells every byte that is missing or too many.

The stream is 0, 1, 2, ... in eight bytes each, high byte first, so that each place in it can be
told from the bytes around it. `EchoStream` writes it with a window of bytes on the way and never
stops for a migration; `EchoCheck` judges what comes back; `EventLog` keeps a session's events::

    async with EchoStream(port) as stream:
        ...                            # migrate as often as you like
        report = await stream.stop()   # lost, repeated, out of order: all 0
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from aiospice.errors import AiospiceError, LocalError, SessionLost, SpiceTimeout

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from aiospice.aio.port import Port
    from aiospice.aio.session import Session
    from aiospice.channels.events import Event

__all__ = ["EchoCheck", "EchoReport", "EchoStream", "EventLog", "numbers"]

_NUMBER = 8
#: Two numbers that follow each other tell where they belong, at any offset (see `EchoCheck`).
_SIGN = 2 * _NUMBER


def numbers(start: int, count: int) -> bytes:
    """Bytes ``start`` to ``start + count`` of the stream."""
    first, last = start // _NUMBER, (start + count + _NUMBER - 1) // _NUMBER
    whole = b"".join(number.to_bytes(_NUMBER, "big") for number in range(first, last))
    return whole[start - first * _NUMBER :][:count]


class EchoReport(NamedTuple):
    """What became of the stream, in bytes."""

    sent: int
    received: int  #: all that came back, whatever it was
    lost: int  #: never came back
    repeated: int  #: came back more than once, or was never sent
    out_of_order: int  #: came back after bytes that were sent later
    silence: float  #: longest time, in seconds, in which bytes were on the way and none came

    @property
    def exact(self) -> bool:
        """Whether each byte came back once and in order."""
        return (self.lost, self.repeated, self.out_of_order) == (0, 0, 0)


class EchoCheck:
    """Compares what comes back with the stream, and finds its place again after a fault.

    Where the bytes differ from those expected, the next two numbers n and n + 1 are looked for;
    no other pair of windows eight bytes apart reads like that, since a shifted window has the
    fast-changing low byte high up. Before them the comparison runs backwards.
    """

    def __init__(self) -> None:
        self.received = 0
        self.repeated = 0
        self.out_of_order = 0
        self.at = 0  #: all of the stream before this has come, or is missing
        self._missing: list[tuple[int, int]] = []
        self._next = 0  # where the next byte belongs, if nothing goes wrong
        self._unplaced = bytearray()

    def feed(self, data: bytes, sent: int) -> None:
        """Take bytes that came back; ``sent``: how many have been sent so far."""
        self.received += len(data)
        self._unplaced += data
        while self._unplaced:
            expected = numbers(self._next, min(len(self._unplaced), max(sent - self._next, 0)))
            alike = _common(self._unplaced, expected)
            # A part of a number is not placed yet: its zeros may belong to another one.
            whole = alike - (self._next + alike) % _NUMBER
            if whole > 0:
                self._take(self._next, whole)
            elif alike == len(self._unplaced) or not self._find_place(sent):
                return

    def finish(self, sent: int) -> int:
        """Nothing more comes: place the rest, and return how many bytes are lost."""
        self._take_gap(len(self._unplaced), sent)
        return self.missing + sent - self.at

    @property
    def reached(self) -> int:
        """How far the stream has come back, with bytes whose place isn't known yet."""
        return self.at + len(self._unplaced)

    @property
    def missing(self) -> int:
        """Bytes that have not come though later ones have."""
        return sum(end - start for start, end in self._missing)

    def _find_place(self, sent: int) -> bool:
        data = self._unplaced
        for offset in range(len(data) - _SIGN + 1):
            number = int.from_bytes(data[offset : offset + _NUMBER], "big")
            start = number * _NUMBER
            if start + _SIGN <= sent and data[offset : offset + _SIGN] == numbers(start, _SIGN):
                self._take_gap(offset, start)
                self._take(start, _NUMBER)
                return True
        return False

    def _take_gap(self, size: int, upto: int) -> None:
        """Place ``size`` bytes, after which the stream is at ``upto``."""
        gap = self._unplaced[:size]
        before = numbers(max(upto - size, 0), min(size, upto))
        back = _common(gap[::-1], before[::-1])
        front = _common(gap[: size - back], numbers(self._next, size - back))
        if front:
            self._take(self._next, front)
        self.repeated += size - back - front  # what fits nowhere
        del self._unplaced[: size - back - front]
        if back:
            self._take(upto - back, back)
        self._next = upto

    def _take(self, start: int, count: int) -> None:
        self._place(start, count)
        del self._unplaced[:count]

    def _place(self, start: int, count: int) -> None:
        """Bytes ``start`` to ``start + count`` have come."""
        end = start + count
        if start > self.at:
            self._missing.append((self.at, start))
        late = max(min(end, self.at) - start, 0)
        if late:
            filled = self._fill(start, start + late)
            self.out_of_order += filled
            self.repeated += late - filled
        self.at = max(self.at, end)
        self._next = end

    def _fill(self, start: int, end: int) -> int:
        filled = 0
        left: list[tuple[int, int]] = []
        for first, last in self._missing:
            low, high = max(first, start), min(last, end)
            if low >= high:
                left.append((first, last))
                continue
            filled += high - low
            left += [part for part in ((first, low), (high, last)) if part[0] < part[1]]
        self._missing = left
        return filled


def _common(one: bytes | bytearray, other: bytes) -> int:
    """Length of the common beginning."""
    size = min(len(one), len(other))
    if one[:size] == other[:size]:
        return size
    return next(i for i in range(size) if one[i] != other[i])


class EchoStream:
    """Streams through ``port`` from ``async with`` on, with ``window`` bytes on the way.

    It writes ``chunk`` bytes at a time and never less: upstream's server holds 128 messages that
    the guest has not read and stops reading then, a flush mark behind them too, so that it can't
    hand the port over (spice-server ``server/spicevmc.cpp``). So ``window`` / ``chunk`` must be
    less than 128 where a migration is to be seamless.

    After ``patience`` seconds of silence a few bytes more are sent: when a whole window is lost
    (as an ordinary reconnect may do), nothing else would bring the stream back.
    """

    def __init__(
        self, port: Port, *, window: int = 2048, chunk: int = 256, patience: float = 2.0
    ) -> None:
        self._port = port
        self._window = window
        self._chunk = chunk
        self._patience = patience
        self._check = EchoCheck()
        self._sent = 0
        self._extra = 0
        self._last = time.monotonic()
        self._silence = 0.0
        self._stopping = False
        self._paused = False
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._error: BaseException | None = None

    async def __aenter__(self) -> Self:
        self._last = time.monotonic()
        self._tasks = [asyncio.create_task(work()) for work in (self._write, self._read)]
        for task in self._tasks:
            task.add_done_callback(self._ended)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # QEMU 7.2 dies when a client leaves while its guest writes: let the echo come back.
        if not self._stopping and self._error is None:
            await asyncio.gather(self.stop(), return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def report(self) -> EchoReport:
        """How it stands; what is on the way counts as lost only after `stop`."""
        check = self._check
        return EchoReport(
            self._sent,
            check.received,
            check.missing,
            check.repeated,
            check.out_of_order,
            self._silence,
        )

    async def flowing(self, more: int = 1024, *, timeout: float = 20) -> None:
        """Wait until ``more`` bytes have come back from now on."""
        goal = self._check.received + more
        await self._until(lambda: self._check.received >= goal, timeout, f"{more} bytes more")

    def pause_reading(self, paused: bool) -> None:
        """Stop or go on taking from the port what comes back."""
        self._paused = paused
        self._news.set()

    async def stop(self, *, drain: float = 10.0) -> EchoReport:
        """Write no more, wait for what is on the way (``drain`` seconds of silence), report.

        Raises what ended the session while bytes were on the way.
        """
        self._stopping = True
        self._news.set()
        try:
            while self._check.reached < self._sent:
                await self.flowing(1, timeout=drain)
        except SpiceTimeout:
            pass  # what has not come by now is lost
        lost = self._check.finish(self._sent)
        return self.report._replace(lost=lost)

    async def _until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    if self._error is not None:
                        raise self._error
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise SpiceTimeout(f"the echo is silent: {what} not there in {timeout:g} s") from None

    async def _write(self) -> None:
        while not self._stopping:
            room = self._window + self._extra - (self._sent - self._check.reached)
            if room < self._chunk:
                await self._wait_for_room()
                continue
            if self._sent == self._check.reached:
                self._last = time.monotonic()
            data = numbers(self._sent, self._chunk)
            self._sent += self._chunk
            await self._port.write(data)

    async def _wait_for_room(self) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(self._patience):
                await self._news.wait()
        except TimeoutError:
            self._extra += self._chunk

    async def _read(self) -> None:
        while True:
            while self._paused:
                self._news.clear()
                await self._news.wait()
            data = await self._port.read()
            if not data:
                raise SessionLost("the echo port was closed")
            now = time.monotonic()
            self._silence = max(self._silence, now - self._last)
            self._last = now
            self._check.feed(data, self._sent)
            self._news.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._error = self._error or task.exception()
            self._news.set()


class EventLog:
    """Every event of a session from ``async with`` on, and a way to wait for one."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.events: list[Event] = []
        self.error: BaseException | None = None  #: what `Session.events` raised
        self._ended = False
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._read())
        await asyncio.sleep(0)  # the listener is there from now on
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def find(self, *kinds: str, since: int = 0) -> list[Event]:
        """The events of these kinds among ``events[since:]``."""
        return [event for event in self.events[since:] if event.kind in kinds]

    async def wait(self, *kinds: str, since: int = 0, timeout: float = 20) -> Event:
        """The first event of one of the kinds among ``events[since:]``.

        Raises what ended the session, `SpiceTimeout` after ``timeout`` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                while not (found := self.find(*kinds, since=since)):
                    if self.error is not None:
                        raise self.error
                    if self._ended:
                        raise LocalError(f"the session ended without {' or '.join(kinds)}")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            names = ", ".join(event.kind for event in self.events[since:][-12:])
            raise SpiceTimeout(
                f"no {' or '.join(kinds)} in {timeout:g} s, only {names or 'nothing'}"
            ) from None
        return found[0]

    async def _read(self) -> None:
        try:
            async for event in self._session.events():
                if event.kind != "screen-changed":
                    self.events.append(event)
                    self._news.set()
        except AiospiceError as error:
            self.error = error
        finally:
            self._ended = True
            self._news.set()
