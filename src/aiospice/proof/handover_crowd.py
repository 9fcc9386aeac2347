"""Many sessions that move at once from one process to another.

In each of two processes stand as many servers as there are sessions (`aiospice.proof.crowdserver`),
each with a guest and a client of its own, which sends numbers through the guest's echo all the
time. First some are moved one at a time; then, back, all at once: the order is one, and so many
moves are let in at a time that each goes as fast as if it were alone.

What they do meanwhile is `TRAFFIC`; clients are on this machine, or behind a line with a delay.
Two pauses of a session are told: the client's, from the first channel's leaving the source until
the last one was on the target; and the person's, from the guest's stop until it ran on the target
and the client was there.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import secrets
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, Self

import aiospice
from aiospice.aio.control import ControlClient
from aiospice.aio.keypool import kept_ready
from aiospice.errors import ConnectError, SpiceTimeout
from aiospice.proof.bench import median
from aiospice.proof.crowdserver import ECHO, Servers, out_of_step
from aiospice.proof.delay import DelayedNetwork
from aiospice.proof.loadserver import resident
from aiospice.proof.pair import HandedOver, hand_over

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiospice.aio.port import Port
    from aiospice.aio.session import Session

__all__ = ["AT_ONCE", "SESSIONS", "Crowd", "measure"]

SESSIONS, SINGLE = 200, 20
#: Moves that are let in at a time: all servers of a process share a processor.
AT_ONCE = 1
#: Seconds between two numbers of a client, and between two changes of a guest's screen.
TRAFFIC = {"busy": (0.25, 0.2), "calm": (1.0, 1.0)}
#: What is measured: traffic, ms of the line one way, and the policies (none: all).
WAYS: tuple[tuple[str, float, tuple[str, ...]], ...] = (
    ("busy", 0, ()),
    ("calm", 0, ("carry", "direct")),
    ("calm", 10, ("carry", "carry-early", "direct")),
)
#: Seconds between two moves, about as long as one takes: so the processes aren't always busy with
#: one, and have time for those that don't move.
_BETWEEN = 0.03
_START, _REST = 120.0, 60.0


class _Many:
    """One process with many servers."""

    def __init__(self, wanted: Servers) -> None:
        self._wanted = wanted
        place = f"{wanted.folder}/{wanted.name}"
        self.controls = [f"{place}-{number}" for number in range(wanted.servers)]
        self.ports: list[int] = []

    async def __aenter__(self) -> Self:
        path = os.pathsep.join(each for each in sys.path if each)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aiospice.proof.crowdserver", json.dumps(self._wanted)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(_START):
            line = await self._process.stdout.readline()
        if not line:
            raise ConnectError("the process with many servers doesn't start")
        self.ports = json.loads(line)
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    @property
    def memory(self) -> int:
        """Bytes of memory that it has."""
        return resident(self._process.pid)

    async def at_rest(self) -> None:
        """Wait until its servers have made what they keep ready for clients."""
        kept = kept_ready(len(self.controls))
        async with ControlClient(self.controls[0]) as control, asyncio.timeout(_START):
            while (await control.ask("status"))["keys_ready"] < kept:
                await asyncio.sleep(0.1)


class _Client:
    """A session that sends numbers and checks what comes back."""

    def __init__(self, session: Session, port: Port, pace: float) -> None:
        self.session, self.port, self._pace = session, port, pace
        self.sent = self.received = self.wrong = 0
        self.pauses: list[float] = []
        self.modes: list[str] = []
        #: When moves were over for it, seconds since 1970.
        self.ends: list[float] = []
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to send, to check, and to listen to events."""
        works = (self._send(), self._check(), self._listen())
        self._tasks = [asyncio.create_task(work) for work in works]

    async def stop(self) -> None:
        """Send no more; wait for what is on its way."""
        self._tasks[0].cancel()
        end = time.monotonic() + _REST
        while self.received < self.sent and time.monotonic() < end:
            await asyncio.sleep(0.05)
        self.wrong += self.sent - self.received
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self) -> None:
        async for _ in out_of_step(self._pace):
            self.sent += 8
            await self.port.write((self.sent // 8).to_bytes(8, "big"))

    async def _check(self) -> None:
        rest = b""
        while data := await self.port.read():
            rest += data
            while len(rest) >= 8:
                self.received += 8
                self.wrong += rest[:8] != (self.received // 8).to_bytes(8, "big")
                rest = rest[8:]

    async def _listen(self) -> None:
        async for event in self.session.events():
            if event.kind == "migration-finished":
                facts = event.as_dict()
                self.pauses.append(facts["pause"])
                self.modes.append(facts["mode"])
                self.ends.append(time.time())


class Crowd:
    """Two processes with ``count`` servers each, and a client for each guest.

    ``delay``: of the line between clients and servers, ms one way; 0: there is none.
    """

    def __init__(self, count: int = SESSIONS, traffic: str = "busy", delay: float = 0) -> None:
        self._count, self._delay = count, delay
        self._pace, self._beat = TRAFFIC[traffic]
        self._stack = contextlib.AsyncExitStack()
        self.clients: list[_Client] = []
        #: The most memory that the two processes had, in bytes.
        self.memory = 0

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        try:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="aiospice-"))
            wanted = Servers(self._count, folder, "a", beat=self._beat)
            how: dict[str, Any] = {}
            if self._delay:
                net = await enter(DelayedNetwork(self._delay))
                password = secrets.token_hex(8)
                wanted = wanted._replace(host=net.server_address, password=password)
                how = {"password": password, "dial": net.connect}
            self._here = await enter(_Many(wanted))
            self._there = await enter(_Many(wanted._replace(name="b", incoming=True)))
            for port in self._here.ports:
                session = await enter(aiospice.connect(f"spice://{wanted.host}:{port}", **how))
                client = _Client(session, await session.port(ECHO), self._pace)
                self.clients.append(client)
                client.start()
            for servers in (self._here, self._there):
                await servers.at_rest()
            # All clients are in this process: what one has to do for another's sake is no pause.
            gc.collect()
            gc.disable()
            self._stack.callback(gc.enable)
            self.began = self._both()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def _both(self) -> int:
        now = self._here.memory + self._there.memory
        self.memory = max(self.memory, now)
        return now

    async def move(
        self, which: range, policy: str, *, back: bool, at_once: int
    ) -> list[HandedOver]:
        """Move some of the guests, so many at a time; gives what the sources told."""
        gate = asyncio.Semaphore(at_once)
        ways = [self._here.controls, self._there.controls]
        sources, targets = reversed(ways) if back else ways

        async def one(number: int) -> HandedOver:
            async with gate:
                await asyncio.sleep(_BETWEEN)
                told = await hand_over(sources[number], targets[number], policy, limit=600)
                self._both()
                return told

        return list(await asyncio.gather(*(one(number) for number in which)))

    async def settled(self, moves: int, which: range) -> None:
        """Wait until these clients have finished so many moves."""
        try:
            async with asyncio.timeout(_REST):
                while any(len(self.clients[number].pauses) < moves for number in which):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise SpiceTimeout(f"clients haven't finished their moves in {_REST:g} s") from None

    async def stop(self) -> int:
        """Let everything come back; gives how many bytes are wrong or missing."""
        await asyncio.gather(*(client.stop() for client in self.clients))
        return sum(client.wrong for client in self.clients)


async def measure(
    *,
    policies: tuple[str, ...],
    sessions: int = SESSIONS,
    single: int = SINGLE,
    runs: int = 1,
    **_: Any,
) -> AsyncIterator[dict[str, Any]]:
    """Yield a row for each policy: medians of so many runs, the most memory, and all ratios."""
    ways = [
        (policy, traffic, delay)
        for traffic, delay, some in WAYS
        for policy in policies
        if not some or policy in some
    ]
    for policy, traffic, delay in ways:
        crowds = [Crowd(sessions, traffic, delay) for _ in range(runs)]
        found = [await _one(crowd, policy, sessions, single) for crowd in crowds]
        ratios = [each["p99_to_alone"] for each in found]
        row = {name: median([each[name] for each in found]) for name in _FIGURES}
        yield {
            "policy": policy,
            "traffic": traffic,
            "delay_ms": delay,
            "sessions": sessions,
            "at_once": AT_ONCE,
            **row,
            "p99_to_alone_runs": ", ".join(f"{ratio:.2f}" for ratio in sorted(ratios)),
            "modes": ", ".join(sorted(set().union(*(each["modes"] for each in found)))),
            "wrong_bytes": sum(each["wrong_bytes"] for each in found),
            "MiB_most": max(each["MiB_most"] for each in found),
        }


_FIGURES = (
    *("alone_ms", "p50_ms", "p99_ms", "p99_to_alone", "guest_still_ms", "all_seconds"),
    *("person_alone_ms", "person_p99_ms", "person_p99_to_alone", "MiB_before"),
)


async def _one(crowd: Crowd, policy: str, sessions: int, single: int) -> dict[str, Any]:
    async with crowd:
        few, rest = range(single), range(single, sessions)
        told = await crowd.move(few, policy, back=False, at_once=1)
        await crowd.settled(1, few)
        alone = [crowd.clients[number].pauses[0] for number in few]
        person_alone = _of_persons(told, crowd.clients)
        await crowd.move(few, policy, back=True, at_once=1)
        await crowd.settled(2, few)
        before = time.monotonic()
        told = await crowd.move(range(sessions), policy, back=False, at_once=AT_ONCE)
        took = time.monotonic() - before
        await crowd.settled(3, few)
        await crowd.settled(1, rest)
        wrong = await crowd.stop()
        pauses = [client.pauses[-1] for client in crowd.clients]
        persons = _of_persons(told, crowd.clients)
        return {
            "alone_ms": median(alone) * 1e3,
            "p50_ms": median(pauses) * 1e3,
            "p99_ms": _p99(pauses) * 1e3,
            "p99_to_alone": _p99(pauses) / median(alone),
            "person_alone_ms": median(person_alone) * 1e3,
            "person_p99_ms": _p99(persons) * 1e3,
            "person_p99_to_alone": _p99(persons) / median(person_alone),
            "guest_still_ms": median([each.still for each in told]) * 1e3,
            "all_seconds": took,
            "modes": {mode for client in crowd.clients for mode in client.modes},
            "wrong_bytes": wrong,
            "MiB_before": crowd.began / (1 << 20),
            "MiB_most": crowd.memory / (1 << 20),
        }


def _p99(values: list[float]) -> float:
    return sorted(values)[len(values) * 99 // 100]


def _of_persons(told: list[HandedOver], clients: list[_Client]) -> list[float]:
    """Seconds from a guest's stop until it ran elsewhere and its client was there."""
    return [
        max(client.ends[-1], each.running) - each.stopped
        for each, client in zip(told, clients, strict=False)
    ]
