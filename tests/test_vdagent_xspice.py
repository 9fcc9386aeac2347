"""Our client with spice-server itself and the real agent behind it: Xspice and spice-vdagent."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.serve_rig import eventually
from tests.test_vdagent import picture
from tests.test_vdagent_served import LONG, pasted

import aiospice
from aiospice.errors import StateError, TransferFailed
from aiospice.proof.vdagent import VdAgent
from aiospice.proof.xspice import Xspice, XspiceOptions

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]


@pytest_asyncio.fixture
async def x() -> AsyncIterator[Xspice]:
    async with Xspice(XspiceOptions(agent=True)) as server:
        yield server


async def meet(guest: VdAgent, session: aiospice.Session) -> None:
    """Have the agent and the client know each other.

    An Xspice now and then does not read what an agent says that has just come (spice-gtk doesn't
    hear of it either), until the agent is started anew.
    """
    for _ in range(10):
        with contextlib.suppress(StateError):
            await session.clipboard.set_text("kept", timeout=4)
            await pasted(guest, "UTF8_STRING", b"kept")
            return
        await guest.end()
        await guest.begin()
    raise AssertionError("the agent is never heard of")


async def test_clipboard_and_files_pass_spice_server(x: Xspice, tmp_path: Path) -> None:
    files = {"empty": b"", "small ä.txt": b"hello", "large.bin": os.urandom(2_000_000)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    async with (
        aiospice.connect(x.address, channels=()) as session,
        VdAgent(x, x.agent_port) as guest,
    ):
        await meet(guest, session)
        await session.clipboard.set({"text": LONG, "png": picture()})
        await pasted(guest, "UTF8_STRING", LONG)
        await pasted(guest, "image/png", picture())
        await guest.copy(LONG)
        await session.clipboard.copied(timeout=20)
        assert await session.clipboard.get() == LONG
        assert await session.send_files(tmp_path / name for name in files) == [None] * 3
        assert {path.name: path.read_bytes() for path in guest.files.iterdir()} == files


async def test_an_agent_that_is_restarted_in_a_file_is_taken_up_with_again(
    x: Xspice, tmp_path: Path
) -> None:
    """The message that had begun is completed: spice-server would end the session otherwise."""
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 1 << 32)
    small = tmp_path / "small"
    small.write_bytes(LONG)
    begun = 0
    async with (
        aiospice.connect(x.address, channels=()) as session,
        VdAgent(x, x.agent_port) as guest,
    ):
        for _ in range(2):
            await meet(guest, session)
            sent: list[int] = []
            sending = asyncio.create_task(
                session.send_file(path, progress=lambda now, size, sent=sent: sent.append(now))  # type: ignore[misc]
            )
            await eventually(lambda sent=sent: any(sent))  # type: ignore[misc]
            await guest.end()
            with pytest.raises(TransferFailed, match="agent is gone"):
                await sending
            begun += session._shell.core.agent.pending > 0
            for left in guest.files.iterdir():
                left.unlink()
            await guest.begin()
            await meet(guest, session)
            await session.send_file(small)
            assert (guest.files / "small").read_bytes() == LONG
            (guest.files / "small").unlink()
        assert begun
        assert not session.closed
