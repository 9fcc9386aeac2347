"""A fault of the simulator's strikes real processes: two ``aiospice serve``, and a client program.

They are in network namespaces of their own (`aiospice.proof.faultnet`). The moments are events of
the servers' control sockets; what follows them strikes some milliseconds later.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiospice.aio.control import ControlClient
from aiospice.errors import AiospiceError, LocalError
from aiospice.proof.certificates import make_certificates
from aiospice.proof.faultnet import CLIENT, SERVERS, FaultNetwork
from aiospice.proof.lively import LivelyClient, SlowlyMoved
from aiospice.proof.outcome import Outcome, judged, lost_channels
from aiospice.proof.pair import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiospice.sim.scenario import Fault

__all__ = ["EVENTS", "play", "punctual"]

#: Which event of which server is a moment of the simulator's moves (`aiospice.sim.scenario`).
EVENTS = {
    "prepare": (0, "move-prepared"),
    "ready": (0, "handover-ready"),
    "freeze": (0, "handover-stopped"),
    "thaw": (0, "handover-running"),
    "complete": (0, "move-started"),
    "arrived": (1, "session-arrived"),
    "left": (0, "move-finished"),
}
_ENDS = ("handover-finished", "handover-failed", "handover-uncertain")
_LINK_PORT = 7000
_PRIORITY = 5  # below the delay programs'
#: Programs that are started begin as usual.
_PUNCTUAL = os.SCHED_RR | os.SCHED_RESET_ON_FORK
#: Limits of a run in seconds: until everything has come to rest, and until a dead line is noticed.
_REST, _NOTICED = 130.0, 150.0
_LOOK = 0.2


@contextlib.contextmanager
def punctual() -> Iterator[None]:
    """What is done in this process is done at once, whatever else the machine does."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, _PUNCTUAL, os.sched_param(_PRIORITY))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, policy, parameters)


async def play(fault: Fault, policy: str, delay_ms: float) -> Outcome:
    """One move under a policy with one fault."""
    run = _Run(fault, policy)
    with tempfile.TemporaryDirectory() as folder:
        async with contextlib.AsyncExitStack() as stack:
            await run.set_up(stack, Path(folder), delay_ms)
            try:
                return await run.play()
            finally:
                run.end()


class _Run:
    def __init__(self, fault: Fault, policy: str) -> None:
        self.fault, self.policy = fault, policy
        self.servers: list[ServerProcess] = []
        self.dead: set[str] = set()
        self.events: list[dict[str, Any]] = []
        self.ended: dict[str, Any] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._password = secrets.token_hex(8)
        self._struck = asyncio.Event()

    async def set_up(self, stack: contextlib.AsyncExitStack, folder: Path, delay: float) -> None:
        """Start everything, each program on its host."""
        self.net = net = await stack.enter_async_context(FaultNetwork(delay))
        certificates = make_certificates(folder, names=tuple(net.link_addresses.values()))
        for name in SERVERS:
            link = f"tls://{net.link_addresses[name]}:{_LINK_PORT}"
            words = [
                *("--listen", f"{net.addresses[name]}:0", "--migrate-listen", link),
                *("--migrate-cert", str(certificates.certificate_file)),
                *("--migrate-key", str(certificates.key_file)),
                *("--migrate-ca", str(certificates.ca_file)),
                *(["--incoming"] if self.servers else []),
            ]
            server = ServerProcess(
                SlowlyMoved.PATH, folder, name, words, self._password, net.command(name)
            )
            self.servers.append(await stack.enter_async_context(server))
        self.client = await stack.enter_async_context(self._a_client(0, streams=True))

    def _a_client(self, place: int, *, streams: bool) -> LivelyClient:
        return LivelyClient(
            self.net.addresses[SERVERS[place]],
            self.servers[place].port,
            password=self._password,
            prefix=self.net.command(CLIENT),
            streams=streams,
        )

    def end(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()

    # -- a move, and what strikes it -------------------------------------------------------------

    async def play(self) -> Outcome:
        """See the module's text."""
        for place in (1, 0):
            ready = asyncio.Event()
            self._tasks.append(asyncio.create_task(self._watch(place, ready)))
            await asyncio.wait_for(ready.wait(), 20)
        self._be_punctual()
        await asyncio.sleep(0.5)
        target = f"tls://{self.net.link_addresses[SERVERS[1]]}:{_LINK_PORT}"
        async with ControlClient(self.servers[0].control) as control:
            await control.ask("migrate", target=target, policy=self.policy)
        await self._until_rest()
        if not self._struck.is_set():
            raise LocalError(f"{self.fault.anchor} never came: {self._seen()}")
        return await self._judge()

    def _be_punctual(self) -> None:
        """Nothing else on the machine comes between an event and what is to follow it."""
        for pid in (self.client.pid, *(each.pid for each in self.servers)):
            with contextlib.suppress(OSError):
                os.sched_setscheduler(pid, _PUNCTUAL, os.sched_param(_PRIORITY))

    def _seen(self) -> str:
        return ", ".join(event["event"] for event in self.events)

    async def _watch(self, place: int, ready: asyncio.Event) -> None:
        at, moment = EVENTS[self.fault.anchor]
        with contextlib.suppress(AiospiceError, OSError):
            async with ControlClient(self.servers[place].control) as control:
                await control.ask("subscribe")
                ready.set()
                async for event in control.events():
                    self.events.append({**event, "server": place})
                    if event["event"] in _ENDS and not place:
                        self.ended = event
                    if place == at and event["event"] == moment and not self._struck.is_set():
                        self._struck.set()
                        self._tasks.append(asyncio.create_task(self._strike()))

    async def _strike(self) -> None:
        fault = self.fault
        await asyncio.sleep(fault.delay)
        if "-" in fault.who:
            line = self.net.lines[fault.who]
            if fault.kind == "reset":
                await line.reset()
            elif fault.kind == "dead":
                await line.die()
            else:
                await line.partition(True)
                await asyncio.sleep(fault.amount)
                await line.partition(False)
        elif fault.kind == "stop":
            os.kill(self._pid, signal.SIGSTOP)
            await asyncio.sleep(fault.amount)
            os.kill(self._pid, signal.SIGCONT)
        else:
            self.dead.add(fault.who)
            os.kill(self._pid, signal.SIGKILL)

    @property
    def _pid(self) -> int:
        who = self.fault.who
        return self.client.pid if who == CLIENT else self.servers[SERVERS.index(who)].pid

    # -- what comes of it --------------------------------------------------------------------------

    async def _until_rest(self) -> None:
        """Until neither server has anything under way; the operator does what one would."""
        end, quiet = time.monotonic() + _REST, 0
        while quiet < 3:
            await asyncio.sleep(_LOOK)
            found = await self._handovers()
            over = self.ended is not None or SERVERS[0] in self.dead
            busy = any("to" in each or "from" in each for each in found.values()) or not over
            quiet = 0 if busy else quiet + 1
            ended = self.ended
            if ended is not None and ended["event"] == "handover-uncertain":
                self.ended = None
                await self._decide(found)
            if time.monotonic() > end:
                raise LocalError(f"no rest after {_REST:g} s: {found}; {self._seen()}")

    async def _handovers(self) -> dict[str, Any]:
        found = {}
        for server, name in zip(self.servers, SERVERS, strict=True):
            if name in self.dead:
                continue
            with contextlib.suppress(AiospiceError, OSError):
                async with ControlClient(server.control, timeout=30) as control:
                    found[name] = (await control.ask("status"))["handover"]
        return found

    async def _decide(self, found: dict[str, Any]) -> None:
        """The source doesn't know whether the target runs the guest; an operator can look."""
        there = found.get(SERVERS[1], {}).get("guest_here")
        with contextlib.suppress(AiospiceError):
            async with ControlClient(self.servers[0].control) as control:
                await control.ask("discard" if there else "resume")

    async def _judge(self) -> Outcome:
        report = None
        if CLIENT not in self.dead:
            report = await self.client.ask(f"rest {_NOTICED:g}", 2 * _NOTICED)
        found = await self._handovers()
        owners = [name for name in SERVERS if found.get(name, {}).get("guest_here")]
        if len(owners) > 1:
            raise LocalError("the guest runs on both servers")
        guest = report["guest"] if report else {}
        alone = report is None or report["closed"] or lost_channels(report)
        dead_line = self.fault.kind == "dead" and self.fault.who == f"{CLIENT}-{''.join(owners)}"
        if owners and not dead_line and alone:
            async with self._a_client(SERVERS.index(owners[0]), streams=False) as other:
                guest = await other.ask("ask")  # whoever has the guest serves the next one
        return judged(report, guest, owners)
