"""The rigs for clients of others, shown a machine of QEMU: what they say they see, they see."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import numpy as np
import pytest

from aiospice.client.picture import Picture
from aiospice.errors import LocalError, SpiceTimeout
from aiospice.proof.browser import Browser
from aiospice.proof.gtkclient import GtkClient
from aiospice.proof.painter import Painter, painting_options
from aiospice.proof.qemu import ECHO_PORT, Qemu
from aiospice.proof.truth import difference, picture_of
from aiospice.proof.viewers import VIEWERS, Viewer, find_in
from aiospice.proof.xserver import Xvfb

WIDTH, HEIGHT = 640, 480


class Machine(NamedTuple):
    """A machine that shows a photo, and how to see what it shows."""

    qemu: Qemu
    painter: Painter
    truth: Callable[[], Awaitable[Picture]]


@asynccontextmanager
async def machine(**options: object) -> AsyncIterator[Machine]:
    """Start it."""
    async with Qemu(painting_options(tablet=True, **options)) as qemu, Painter(qemu) as painter:

        async def truth() -> Picture:
            return picture_of(await qemu.screendump())

        await painter.do(f"mode {WIDTH} {HEIGHT} 32")
        await painter.do(f"photo 0 0 {WIDTH} {HEIGHT} 3")
        yield Machine(qemu, painter, truth)


@pytest.mark.peers
async def test_the_library_shows_the_screen_and_echoes() -> None:
    async with machine() as (qemu, painter, truth), GtkClient("127.0.0.1", port=qemu.port) as gtk:
        first = await gtk.shows(truth)
        await painter.do("page 1")
        assert difference(first, await gtk.shows(truth))
        await gtk.opened("inputs:0")
        state = await gtk.do("state")
        assert {"display:0", "inputs:0", "main:0"} <= set(state["open"])
        sizes = [(m["width"], m["height"]) for m in await gtk.do("monitors")]
        assert sizes == [(WIDTH, HEIGHT)]
        await gtk.wait("port", name=ECHO_PORT, opened=True)
        data = bytes(range(256))
        await gtk.do("port_write", name=ECHO_PORT, data=data)
        assert await gtk.data("port-data", len(data), name=ECHO_PORT) == data
        with pytest.raises(LocalError, match="no open channel record:0"):
            await gtk.do("record", data=b"", time=0)


@pytest.mark.peers
@pytest.mark.parametrize("name", VIEWERS)
async def test_a_viewer_shows_the_screen(name: str) -> None:
    async with machine() as (qemu, painter, truth), Xvfb(800, 640) as x:
        viewer = await Viewer.start(x, name, qemu.address)
        await viewer.resize(800, 640)
        await viewer.shows(truth)
        await painter.do("page 1")
        await viewer.shows(truth)
        black = Picture(WIDTH, HEIGHT, bytes(4 * WIDTH * HEIGHT))
        with pytest.raises(SpiceTimeout, match="likeliest at"):
            await viewer.shows(lambda: black, limit=0)


@pytest.mark.peers
async def test_the_browser_shows_the_screen() -> None:
    options = {"spice": ("image-compression=auto_lz",)}
    async with machine(**options) as (qemu, painter, truth), Browser() as browser:
        page = await browser.spice("127.0.0.1", qemu.port)
        await page.shows(truth)
        await painter.do("page 1")
        await page.shows(truth)
        assert await page.evaluate("1 + 1") == 2
        with pytest.raises(LocalError, match="nothing_like_it"):
            await page.evaluate("nothing_like_it")


def test_a_picture_is_found_in_a_larger_one_and_only_there() -> None:
    chance = np.random.default_rng(5)
    large = chance.integers(0, 256, (60, 80, 4), np.uint8)
    part = large[7:37, 11:51].copy()
    shown = Picture(80, 60, large.tobytes())
    assert find_in(shown, Picture(40, 30, part.tobytes())) == ((11, 7), "")
    part[20, 30, 1] ^= 2
    place, wrong = find_in(shown, Picture(40, 30, part.tobytes()))
    assert place is None
    assert wrong.startswith("likeliest at 11,7: 1 pixels differ")
    assert find_in(shown, Picture(40, 30, part.tobytes()), tolerance=2)[0] == (11, 7)
    assert "can't show" in find_in(Picture(4, 4, bytes(64)), shown)[1]
