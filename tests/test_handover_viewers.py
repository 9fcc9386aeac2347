"""remote-viewer moves between two servers of ours: it is looked at, typed into, copied from."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.moving_stage import POLICIES, MovingStage, TwoStages, two_stages
from tests.serve_stage import SCENES

from aiospice.agent.events import ClipboardData, ClipboardGrabbed
from aiospice.errors import LocalError, SpiceTimeout
from aiospice.proof.viewers import Viewer
from aiospice.proof.xserver import Xvfb

pytestmark = pytest.mark.peers

#: Its channels, as the server sees them.
CHANNELS = ("main:0", "display:0", "inputs:0", "cursor:0", "playback:0", "port:0")
KEYS = {"a": 0x1E, "b": 0x30}


class Desktop:
    """The X server that the viewer is in, and what is copied and pasted there."""

    def __init__(self, x: Xvfb) -> None:
        self.x = x
        self._copies = 0
        self._owner: Any = None

    async def copy(self, text: bytes) -> None:
        """Copy in a program beside the viewer."""
        self._copies += 1
        path = self.x.folder / f"copy{self._copies}"
        path.write_bytes(text)
        command = ("xclip", "-quiet", "-selection", "clipboard", "-i", str(path))
        self._owner = await self.x.run(*command, window="")

    async def pastes(self, text: bytes, limit: float = 20) -> None:
        """Wait until that is what a program beside the viewer would paste."""
        found = b""
        try:
            async with asyncio.timeout(limit):
                while found != text:
                    try:
                        found = await self.x.do("xclip", "-o", "-selection", "clipboard")
                    except LocalError as error:
                        found = str(error).encode()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise SpiceTimeout(f"pasted after {limit:g} s: {found[:200]!r}") from None


def some(guest: MovingStage, kind: type[Any]) -> list[Any]:
    """What the agent was told of a kind."""
    return [event for event in guest.agent_events if isinstance(event, kind)]


async def clipboard_works(two: TwoStages, desktop: Desktop, turn: int) -> None:
    """What is copied in the guest can be pasted beside the viewer, and the other way."""
    theirs, ours = (f"{who} {turn} äöü\n".encode() * 50 for who in ("guest", "desktop"))
    two.guest.tell_agent(lambda agent: agent.clipboards.grab({"text": theirs}))
    await desktop.pastes(theirs)
    grabs = len(some(two.guest, ClipboardGrabbed))
    await desktop.copy(ours)
    await two.until(lambda guest: len(some(guest, ClipboardGrabbed)) > grabs, "the viewer's offer")
    pastes = len(some(two.guest, ClipboardData))
    two.guest.tell_agent(lambda agent: agent.request("text"))
    await two.until(lambda guest: len(some(guest, ClipboardData)) > pastes, "the viewer's text")
    assert some(two.guest, ClipboardData)[-1].data == ours


async def has_key(two: TwoStages, code: int, pressed: bool) -> None:
    """Wait until the guest has been told of a key."""
    await two.until(lambda guest: (code, pressed) in guest.keys, f"key {code}")


async def has_clicks(two: TwoStages, count: int) -> None:
    """Wait until the guest has been told of so many clicks."""
    clicks = [(1, True), (1, False)] * count
    await two.until(lambda guest: guest.buttons == clicks, f"{count} clicks")


@pytest.mark.parametrize("policy", POLICIES)
async def test_remote_viewer_stays_connected_shows_and_types(policy: str) -> None:
    async with two_stages(lossy="never", video="never") as two, Xvfb(800, 640) as x:
        await x.do("xset", "r", "off")  # a key that is held is pressed once
        two.guest.scene_photo()
        viewer = await Viewer.start(x, "remote-viewer", f"spice://127.0.0.1:{two.port}")
        await viewer.resize(800, 640)
        await viewer.shows(two.guest.truth)
        desktop = Desktop(x)
        await clipboard_works(two, desktop, 0)
        for turn, (name, code) in enumerate(KEYS.items()):
            getattr(two.guest, f"scene_{SCENES[turn + 1]}")()
            await x.xdotool("keydown", name)
            await has_key(two, code, True)
            await two.move(policy)
            await x.xdotool("keyup", name)
            await has_key(two, code, False)
            await viewer.shows(two.guest.truth)
            await viewer.click(100 + turn, 57)
            await has_clicks(two, turn + 1)
            assert (100 + turn, 57, 0) in two.guest.places
            await clipboard_works(two, desktop, turn + 1)
        assert viewer.program.running
        codes = [key for key in two.guest.keys if key[0] in KEYS.values()]
        assert codes == [(code, down) for code in KEYS.values() for down in (True, False)]
        assert sorted(two.links()) == sorted([*CHANNELS] * (two.moves + 1))
        two.all_went_whole()
