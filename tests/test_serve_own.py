"""Our own client on our own server: every channel, every coder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serve_stage import ECHO, SCENES, StageGuest, port_of, stage
from tests.xspice_stage import seen_in

import aiospice
from aiospice.aio.capture import CaptureFile
from aiospice.client.picture import Picture
from aiospice.errors import SpiceTimeout
from aiospice.proof.truth import difference
from aiospice.server.config import COMPRESSIONS

A, ENTER = 0x1E, 0x1C


async def shows(session: aiospice.Session, truth: Callable[[], Picture], limit: float = 30) -> None:
    """Wait until display 0 is what ``truth`` gives."""
    wrong = ""
    try:
        async with asyncio.timeout(limit):
            while wrong := difference(await session.screen(), truth()):
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise SpiceTimeout(
            f"our client doesn't show the guest after {limit:g} s: {wrong}"
        ) from None


@asynccontextmanager
async def served(
    guest: StageGuest | None = None, *, client: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[StageGuest, aiospice.Session]]:
    """A server and a session with it."""
    async with stage(guest, **options) as server:
        address = f"spice://127.0.0.1:{port_of(server)}"
        async with aiospice.connect(address, **(client or {})) as session:
            yield server.guest, session


#: What kinds of images a compression is for.
KINDS = {
    "auto": set[str](),
    "off": {"BITMAP"},
    "lz": {"LZ_RGB"},
    "quic": {"QUIC"},
    "glz": {"GLZ_RGB"},
    "lz4": {"LZ4"},
    "auto_lz": {"LZ_RGB", "QUIC"},
    "auto_glz": {"GLZ_RGB", "QUIC"},
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_every_scene_is_sent_as_asked_and_shown_as_it_is(
    compression: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.pcapng"
    options: dict[str, Any] = {"compression": compression, "lossy": "never", "video": "never"}
    async with served(client={"capture": CaptureFile(path)}, **options) as (guest, session):
        await shows(session, guest.truth)
        for scene in SCENES:
            getattr(guest, f"scene_{scene}")()
            await shows(session, guest.truth)
        assert session._screen(0).not_drawn == {}
        assert session.messages_unknown() == {}
    seen = seen_in(path)
    print(compression, seen)
    assert {*KINDS[compression], "SURFACE"} <= set(seen.images), seen
    for message in ("DrawFill", "CopyBits", "DrawCopy"):
        assert seen.messages[message], (message, seen)
    assert seen.surfaces, seen


async def test_keys_and_clicks_reach_the_guest() -> None:
    async with served() as (guest, session):
        await shows(session, guest.truth)
        await session.keyboard.type("a\n")
        wanted = [(code, down) for code in (A, ENTER) for down in (True, False)]
        await guest.until(lambda: guest.keys == wanted, f"{wanted}, only {guest.keys}")
        await session.mouse.click(101, 57)
        await guest.until(lambda: guest.buttons == [(1, True), (1, False)], "the click")
        assert (101, 57, 0) in guest.places


async def test_a_port_carries_bytes_both_ways_as_they_are() -> None:
    data = np.random.default_rng(5).bytes(1 << 20)
    async with served() as (guest, session):
        port = await session.port(ECHO)
        writing = asyncio.create_task(port.write(data))
        assert await port.readexactly(len(data)) == data
        await writing
        assert guest.port_heard == data
