"""The viewers that people use on our server, in an X server of their own, looked at and used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.serve_stage import SCENES, StageGuest, port_of, stage

from aiospice.errors import SpiceTimeout
from aiospice.proof.gtkpeer import parse_ppm
from aiospice.proof.truth import difference
from aiospice.proof.viewers import VIEWERS, Viewer
from aiospice.proof.xserver import Xvfb, find_program

pytestmark = pytest.mark.peers

A, B, ENTER, SHIFT, UP = 0x1E, 0x30, 0x1C, 0x2A, 0xE048


@asynccontextmanager
async def watched(
    name: str, *more: str, **options: Any
) -> AsyncIterator[tuple[StageGuest, Viewer]]:
    """A server and a viewer that shows it."""
    async with stage(**options) as server, Xvfb(800, 640) as x:
        server.guest.scene_photo()
        viewer = await Viewer.start(x, name, f"spice://127.0.0.1:{port_of(server)}")
        await viewer.resize(800, 640)
        yield server.guest, viewer


@pytest.mark.parametrize("name", VIEWERS)
async def test_a_viewer_shows_the_guest_and_it_is_reached(name: str) -> None:
    async with watched(name) as (guest, viewer):
        await viewer.shows(guest.truth)
        for scene in SCENES:
            getattr(guest, f"scene_{scene}")()
        await viewer.shows(guest.truth)
        await viewer.click(101, 57)
        wanted = [(1, True), (1, False)]
        await guest.until(lambda: guest.buttons == wanted, f"the click, only {guest.buttons}")
        assert (101, 57, 0) in guest.places
        await viewer.click(33, 44, button=3)
        await guest.until(lambda: guest.buttons[2:] == [(3, True), (3, False)], "the right button")
        assert (33, 44, 0) in guest.places
        await viewer.type("a", "shift+b", "Return", "Up")
        typed = [A, SHIFT, B, ENTER, UP]
        ended = (UP, False)
        await guest.until(lambda: ended in guest.keys, f"the keys, only {guest.keys}")
        assert [code for code, down in guest.keys if down] == typed
        assert {code: down for code, down in guest.keys if code in typed} == dict.fromkeys(
            typed, False
        )


async def test_spicy_screenshot_takes_what_is_there(tmp_path: Path) -> None:
    program = find_program("spicy-screenshot")
    async with stage() as server:
        for scene in SCENES:
            getattr(server.guest, f"scene_{scene}")()
        path = tmp_path / "screen.ppm"
        command = (program, "-h", "127.0.0.1", "-p", str(port_of(server)), "-o", str(path))
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            said, _ = await asyncio.wait_for(process.communicate(), 60)
        except TimeoutError:
            raise SpiceTimeout("spicy-screenshot takes longer than 60 s") from None
        finally:
            if process.returncode is None:
                process.kill()
        assert path.exists(), said
        assert difference(parse_ppm(path.read_bytes()), server.guest.truth()) == ""
