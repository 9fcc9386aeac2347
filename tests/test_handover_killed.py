"""Hand-overs between programs of which one is killed, or stopped for a while, in the middle of it.

Where exactly a signal strikes can't be told; what holds wherever it does is what is checked: one
server at most has the guest, the session works where that is or has ended with an error that says
where, and the next client is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.handover_guest import ECHO
from tests.test_serve_cli import Program, run, served

import aiospice
from aiospice.aio.control import ControlClient
from aiospice.errors import AiospiceError

#: After which event of the source the signal is sent.
MOMENTS = ("handover-began", "move-ready", "handover-running")
#: How long who is stopped stands still, in seconds.
STOPPED = 0.5
ENDS = ("handover-finished", "handover-failed", "handover-uncertain")
GUEST = "tests.handover_guest:EchoGuest"


class Pair(NamedTuple):
    """Two servers; the first has the guest to begin with."""

    programs: dict[str, Program]
    folder: Path

    def control(self, name: str) -> ControlClient:
        """The control socket of one."""
        return ControlClient(self.folder / name, timeout=20)

    def alive(self) -> list[str]:
        """Those that run."""
        return [name for name, one in self.programs.items() if one.process.returncode is None]

    async def echoes(self, name: str) -> None:
        """A new client is served there."""
        async with aiospice.connect(self.programs[name].addresses[0]) as session:
            await echoed(session, b"another")


@contextlib.asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[Pair]:
    words = ("--guest", GUEST, "--listen", "127.0.0.1:0", "--control")
    async with (
        asyncio.timeout(100),
        served(*words, str(folder / "source")) as source,
        served(*words, str(folder / "target"), "--incoming") as target,
    ):
        yield Pair({"source": source, "target": target}, folder)


async def echoed(session: Any, data: bytes) -> None:
    """What is written comes back."""
    port = await session.port(ECHO)
    await port.write(data)
    async with asyncio.timeout(30):
        assert await port.readexactly(len(data)) == data


async def strike(process: asyncio.subprocess.Process, how: str) -> None:
    """Kill it, or stop it for a while."""
    if how == "killed":
        process.kill()
        await process.wait()
        return
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(STOPPED)
    process.send_signal(signal.SIGCONT)


async def struck(
    servers: Pair, here: str, moment: str, process: asyncio.subprocess.Process, how: str
) -> str:
    """Move the guest from ``here``, and strike; gives the last event, empty if there is none."""
    there = "target" if here == "source" else "source"
    blow: asyncio.Task[None] | None = None
    last = ""
    with contextlib.suppress(AiospiceError):
        async with servers.control(here) as control:
            await control.ask("subscribe")
            policy = "direct" if how == "stopped" else "carry"
            await control.ask("migrate", target=str(servers.folder / there), policy=policy)
            async for event in control.events():
                if event["event"] == moment and blow is None:
                    blow = asyncio.create_task(strike(process, how))
                if event["event"] in ENDS:
                    last = event["event"]
                    break
    assert blow is not None, f"{moment} never came"
    await blow
    return last


async def owners(servers: Pair) -> list[str]:
    """Who has the guest, once no hand-over is under way; two never have it."""
    while True:
        found, busy = [], False
        for name in servers.alive():
            async with servers.control(name) as control:
                status = (await control.ask("status"))["handover"]
            found += [name] if status["guest_here"] else []
            busy |= "to" in status or "from" in status
        assert len(found) <= 1
        if not busy:
            return found
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("who", ["source", "target"])
async def test_a_server_that_is_killed_takes_nothing_with_it_but_what_it_had(
    who: str, moment: str, tmp_path: Path
) -> None:
    async with pair(tmp_path) as servers:
        async with aiospice.connect(servers.programs["source"].addresses[0]) as session:
            await echoed(session, b"before")
            last = await struck(servers, "source", moment, servers.programs[who].process, "killed")
            if last == "handover-uncertain":  # the operator knows: the target is gone
                async with servers.control("source") as control:
                    await control.ask("resume")
            found = await owners(servers)
            try:
                await echoed(session, b"after")
            except AiospiceError as error:
                ended = str(error)
            else:
                ended = ""
            assert found or ended
            assert "127.0.0.1" in ended or not ended
        for name in found:
            await servers.echoes(name)


@pytest.mark.parametrize("who", ["here", "there"])
async def test_a_server_that_stands_still_for_a_while_loses_nothing(
    who: str, tmp_path: Path
) -> None:
    async with pair(tmp_path) as servers:
        async with aiospice.connect(servers.programs["source"].addresses[0]) as session:
            (here,) = await owners(servers)
            for moment in MOMENTS:
                there = "target" if here == "source" else "source"
                process = servers.programs[here if who == "here" else there].process
                await struck(servers, here, moment, process, "stopped")
                (here,) = await owners(servers)
                await echoed(session, moment.encode())
        await servers.echoes(here)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_client_that_goes_away_keeps_nobody(how: str, moment: str, tmp_path: Path) -> None:
    async with pair(tmp_path) as servers:
        client = await run("watch", servers.programs["source"].addresses[0], "--json")
        try:
            assert client.stdout is not None
            while b"session-ready" not in await client.stdout.readline():
                pass
            assert await struck(servers, "source", moment, client, how) == "handover-finished"
            assert await owners(servers) == ["target"]
            async with servers.control("target") as control:
                clients = (await control.ask("status"))["clients"]
            assert len(clients) == (how == "stopped")
            await servers.echoes("target")
        finally:
            if client.returncode is None:
                client.kill()
            await client.communicate()
