"""``aiospice migrate`` between servers in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serve_rig import serving
from tests.test_serve_cli import Program, run, served

import aiospice
from aiospice.guests.demo import ECHO_PORT
from aiospice.proof.crowdserver import SmallGuest

#: Windows that don't move by themselves: notes and panel.
STILL = np.s_[20:580, 100:560]

#: What `aiospice migrate` tells of a move that loses nothing, besides other events.
STEPS = [
    *("handover-began", "handover-agreed", "handover-ready", "handover-stopped"),
    *("handover-running", "client-followed", "handover-finished"),
]


async def migrate(*words: str) -> tuple[int, list[dict[str, Any]], str]:
    """The status, the events, and what was said on standard error."""
    async with asyncio.timeout(60):
        process = await run("migrate", *words, "--json")
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, [json.loads(line) for line in out.splitlines()], err.decode()


async def stream(port: aiospice.Port, done: asyncio.Event) -> int:
    """Have bytes echoed until told to stop; every one as it was."""
    noise, count = random.Random(1), 0
    while not done.is_set():
        data = noise.randbytes(noise.randrange(1, 20_000))
        await port.write(data)
        assert await port.readexactly(len(data)) == data
        count += len(data)
    return count


async def send(session: aiospice.Session, folder: Path, done: asyncio.Event) -> int:
    """Send files until told to stop, each while it moves or not; every one arrives as it was."""
    count = 0
    while not done.is_set():
        source = folder / f"file{count}"
        source.write_bytes(random.Random(count).randbytes(3_000_000))
        await session.send_file(source)
        assert (folder / "drop" / source.name).read_bytes() == source.read_bytes()
        count += 1
    return count


async def same_screen(session: aiospice.Session, address: str) -> None:
    """Wait until the session shows what one shows that has just come."""
    async with aiospice.connect(address, agent=False) as other:
        for _ in range(1000):
            ours, theirs = await session.screenshot(), await other.screenshot()
            different = (ours[STILL] != theirs[STILL]).any(axis=2)
            if not different.any():
                return
            await asyncio.sleep(0.02)
    rows, columns = np.nonzero(different)
    pytest.fail(f"rows {rows.min()}-{rows.max()}, columns {columns.min()}-{columns.max()} differ")


async def test_a_demo_moves_five_times_and_its_client_notices_nothing(tmp_path: Path) -> None:
    words = ["--guest", "demo", "--listen", "127.0.0.1:0", "--on-second-client", "share"]
    words += ["--folder", str(tmp_path / "drop"), "--keep", "acks"]
    async with (
        served(*words, "--control", str(tmp_path / "a"), seconds=110) as first,
        served(*words, "--control", str(tmp_path / "b"), "--incoming", seconds=110) as second,
        aiospice.connect(first.addresses[0]) as session,
    ):
        done = asyncio.Event()
        async with asyncio.TaskGroup() as group:  # what fails first is told
            echoed = group.create_task(stream(await session.port(ECHO_PORT), done))
            files = group.create_task(send(session, tmp_path, done))
            here, there = (first, "a"), (second, "b")
            for turn, policy in enumerate(
                ("carry", "carry-early", "direct", "", "hold", "replay", "ack")
            ):
                await session.keyboard.type(f"half a line {turn}")
                ends = (str(tmp_path / here[1]), str(tmp_path / there[1]))
                await (_moved(*ends, policy) if policy else _shown(*ends))
                here, there = there, here
                await session.keyboard.type(", and its rest\n")
                await same_screen(session, here[0].addresses[0])
            done.set()
        assert echoed.result() > 0
        assert files.result() > 0
        await _refused(tmp_path, here[0])


async def _moved(source: str, target: str, policy: str) -> None:
    """Move, and look at what was told of it."""
    status, events, err = await migrate(source, target, "--policy", policy)
    assert (status, err) == (0, ""), events
    kinds = [event["event"] for event in events]
    assert [kind for kind in kinds if kind in STEPS] == STEPS


async def _shown(source: str, target: str) -> None:
    """Move, and read the timeline as people do."""
    process = await run("migrate", source, target)
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    told = [line.split(" ms  ")[1].split()[0] for line in out.decode().splitlines()]
    assert told[0] == target
    assert told[1:] == [
        *("agreed:", "prepared:", "clients", "ready:", "stopped:", "running", "first"),
        *("arrived:", "finished:"),
    ]


async def _refused(tmp_path: Path, here: Program) -> None:
    """A guest that isn't there, or can't go there, stays; the status tells."""
    status, _, err = await migrate(str(tmp_path / "a"), str(tmp_path / "b"))
    assert status == 2
    assert "the guest isn't here" in err
    status, events, err = await migrate(str(tmp_path / "b"), str(tmp_path / "nowhere"))
    assert status == 1
    assert "the guest stays where it was" in err
    assert [event["event"] for event in events] == ["handover-began", "handover-failed"]
    status, _, err = await migrate(str(tmp_path / "nowhere"), str(tmp_path / "b"))
    assert status == 3
    assert "is a server running with --control" in err
    assert here.process.returncode is None


async def test_several_guests_move_and_one_that_can_not_stops_no_other(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        words: list[str] = []
        for number in range(3):
            for name in ("a", "b"):
                control = tmp_path / f"{name}{number}"
                incoming = name == "b" and number != 1
                server = serving(SmallGuest(), control=control, incoming=incoming)
                await stack.enter_async_context(server)
                words.append(str(control))
        status, events, err = await migrate(*words, "--at-once", "2", "--policy", "direct")
        assert status == 1
        assert f"{words[2]}: the guest stays where it was" in err
        ends = {(each["source"], each["event"]) for each in events[:-1]}
        assert {(words[0], "handover-finished"), (words[4], "handover-finished")} <= ends
        assert (words[2], "handover-failed") in ends
        last = events[-1]
        assert (last["event"], last["moves"], last["whole"]) == ("moves-finished", 3, 2)
        assert 0 < last["still_median"] <= last["still_most"]
        back = (words[1], words[0], words[5], words[4])
        process = await run("migrate", *back)
        out, _ = await process.communicate()
        assert process.returncode == 0
        assert "2 of 2 moved whole in " in out.decode().splitlines()[-1]
        assert f"{words[1]}: ready: the guest is stopped" in out.decode()
    status, _, err = await migrate(*words[:3])
    assert status == 2
    assert "named in pairs" in err
