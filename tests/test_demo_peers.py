"""The demo desktop in front of the clients of others: pixels, keys, mouse, port, agent, sound."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tests.serve_rig import eventually, serving
from tests.serve_stage import port_of

from aiospice.client.picture import Picture
from aiospice.guests import scenery
from aiospice.guests.demo import ECHO_PORT, DemoGuest
from aiospice.proof.browser import Browser
from aiospice.proof.gtkclient import GtkClient
from aiospice.proof.gtkpeer import parse_ppm
from aiospice.proof.truth import difference
from aiospice.proof.viewers import VIEWERS, Viewer
from aiospice.proof.xserver import Xvfb, find_program

pytestmark = pytest.mark.peers

TEXT = 1


class Demo(DemoGuest):
    """One that stands still, and whose screen is small enough for every viewer's window."""

    def __init__(self) -> None:
        super().__init__(moving=False, size=(760, 560), clock=lambda: 1_700_000_000.0)

    def truth(self) -> Picture:
        pixels = self.desktops[0].display.pixels
        return Picture(pixels.shape[1], pixels.shape[0], pixels.tobytes())

    def place(self, name: str) -> tuple[int, int]:
        window = self.state.windows[0][name]
        return window.x, window.y


async def steady(viewer: Viewer, guest: Demo) -> None:
    """Wait until the viewer shows the guest and its window, which it was just given, stands."""
    origins: list[tuple[int, int] | None] = []
    while len(origins) < 3 or len(set(origins[-3:])) > 1:
        await viewer.shows(guest.truth)
        origins.append(viewer.origin)
        await asyncio.sleep(0.5)


@pytest.mark.parametrize("name", VIEWERS)
async def test_a_viewer_shows_it_types_into_it_and_drags(name: str) -> None:
    guest = Demo()
    async with serving(guest, video="never") as server, Xvfb(1000, 800) as x:
        viewer = await Viewer.start(x, name, f"spice://127.0.0.1:{port_of(server)}")
        await viewer.resize(1000, 800)
        await steady(viewer, guest)
        await viewer.type("h", "i", "Return", "shift+a", "exclam")
        await eventually(lambda: guest.text == "hi\nA!")
        await steady(viewer, guest)
        left, top = guest.place("panel")
        await viewer.drag((left + 30, top + 8), (left + 60, top - 42))
        await eventually(lambda: guest.place("panel") == (left + 30, top - 50))
        await viewer.click(left + 80, top - 10)  # the tone's button
        await eventually(lambda: guest.state.tone_since is not None)
        await viewer.shows(guest.truth)


async def test_the_browser_shows_it_and_types_into_it() -> None:
    guest = Demo()
    async with (
        serving(guest, ws_port=0, video="never") as server,
        Browser() as browser,
    ):
        page = await browser.spice("127.0.0.1", port_of(server, "ws"))
        await page.shows(guest.truth)
        for key in "ab7":
            await page.key(key)
        await eventually(lambda: guest.text == "ab7")
        left, top = guest.place("panel")
        await page.click(left + 50, top + 40)
        await eventually(lambda: guest.state.tone_since is not None)
        await page.shows(guest.truth)


async def test_spicy_screenshot_takes_it(tmp_path: Path) -> None:
    guest, path = Demo(), tmp_path / "screen.ppm"
    async with serving(guest) as server:
        for char in "for a screenshot":
            guest.type(char)
        guest.client_connected(0)  # as it is while the program looks
        seen = guest.truth()
        guest.client_disconnected(0)
        process = await asyncio.create_subprocess_exec(
            *(find_program("spicy-screenshot"), "-h", "127.0.0.1"),
            *("-p", str(port_of(server)), "-o", str(path)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        await asyncio.wait_for(process.wait(), 50)
    assert difference(parse_ppm(path.read_bytes()), seen) == ""


async def test_spice_gtk_uses_all_that_it_has(tmp_path: Path) -> None:
    guest = Demo()
    chance = np.random.default_rng(3)
    data, content = chance.bytes(300_000), chance.bytes(500_000)
    (tmp_path / "a file.bin").write_bytes(content)
    async with (
        serving(guest, video="never") as server,
        GtkClient("127.0.0.1", port=port_of(server), raw_sound=True) as gtk,
    ):
        await gtk.opened("main:0", "display:0", "inputs:0", "cursor:0", "playback:0")
        await gtk.wait("main", agent=True)
        await gtk.shows(guest.truth)
        await gtk.wait("port", name=ECHO_PORT, opened=True)
        for start in range(0, len(data), 1 << 16):
            await gtk.do("port_write", name=ECHO_PORT, data=data[start : start + (1 << 16)])
        assert await gtk.data("port-data", len(data), name=ECHO_PORT) == data
        await gtk.do("clipboard_grab", kinds=[TEXT])
        await gtk.wait("clipboard-request", kind=TEXT, selection=0)
        await gtk.do("clipboard_send", kind=TEXT, data="from spice-gtk: ä €".encode())
        await eventually(lambda: guest.state.clipboard == "from spice-gtk: ä €")
        await gtk.do("key", code=0x42)  # F8 pastes, F7 copies
        await gtk.do("key", code=0x41)
        await gtk.wait("clipboard-grab", kinds=[TEXT], selection=0)
        await gtk.do("clipboard_request", kind=TEXT)
        got = await gtk.wait("clipboard", kind=TEXT, selection=0)
        assert got["data"] == "from spice-gtk: ä €".encode()
        await gtk.do("send_files", paths=[str(tmp_path / "a file.bin")])
        assert (await gtk.wait("files-sent"))["error"] is None
        assert guest.files.contents == {"a file.bin": content}
        await gtk.do("key", code=0x3F)  # F5: a tone
        await gtk.wait("playback-start", channels=2, rate=scenery.RATE)
        heard = await gtk.data("playback-data", 4 * 4800)
        assert heard == scenery.tone(0, len(heard) // 4)
        await gtk.do("key", code=0x3F)
        await gtk.wait("playback-stop")
        await gtk.do("resize", monitors=[[0, 0, 820, 600]])
        await eventually(lambda: guest.truth().width == 820)
        await gtk.shows(guest.truth)
        assert gtk.complaints() == []
