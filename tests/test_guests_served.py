"""Our guests behind a real server, used through our own client: what is seen, typed, dragged."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serve_rig import eventually, serving

import aiospice
from aiospice.guests.demo import ECHO_PORT, DemoGuest
from aiospice.guests.terminal import TerminalGuest
from aiospice.guests.x11 import X11Guest
from aiospice.server.guest import Guest, HostDisplay


def truth(display: HostDisplay) -> np.ndarray[Any, Any]:
    """The guest's pixels, as a screenshot has them."""
    return display.pixels[..., 2::-1]


async def same(session: aiospice.Session, display: HostDisplay) -> None:
    """Wait until the client shows what the guest does, every pixel of it."""
    async with asyncio.timeout(30):
        while True:
            picture = await session.screenshot(display.id)
            if picture.shape == truth(display).shape and np.array_equal(picture, truth(display)):
                return
            await asyncio.sleep(0.05)


def demo_display(guest: DemoGuest, number: int = 0) -> HostDisplay:
    return guest.desktops[number].display


@pytest.mark.parametrize("compression", ["auto", "off", "glz", "quic", "lz4"])
async def test_the_demo_is_seen_and_typed_into(compression: str) -> None:
    guest = DemoGuest(moving=False)
    async with (
        serving(guest, compression=compression) as server,
        aiospice.connect(server.addresses[0]) as session,
    ):
        await same(session, demo_display(guest))
        await session.keyboard.type("Hello, World!\n\tfrom a client ~{}" + "\n" * 20 + "end")
        await eventually(lambda: guest.text.endswith("end"))
        assert len(guest.state.lines) == 16
        await same(session, demo_display(guest))


async def test_windows_are_dragged_by_a_client_and_all_stays_right() -> None:
    guest = DemoGuest(moving=False)
    async with serving(guest) as server, aiospice.connect(server.addresses[0]) as session:
        await same(session, demo_display(guest))
        rng = random.Random(1)
        for name in ("picture", "panel", "notes", "picture", "panel"):
            window = guest.state.windows[0][name]
            x, y = window.x + min(40, window.width - 5), window.y + 8
            x, y = max(x, 0), max(y, 0)
            await session.mouse.drag(x, y, rng.randrange(1000), rng.randrange(700))
            await session.keyboard.type(f"moved {name}\n")
        await same(session, demo_display(guest))
        assert "moved picture" in guest.text
        await eventually(lambda: guest.state.drag is None)
        assert guest.state.order[0][-1] == "bar"


async def test_a_relative_mouse_drags_too() -> None:
    guest = DemoGuest(moving=False)
    async with serving(guest) as server:
        guest.agent.device.opened = False
        server.host.mouse_modes(absolute=False)
        async with aiospice.connect(server.addresses[0]) as session:
            await same(session, demo_display(guest))
            window = guest.state.windows[0]["picture"]
            before = (window.x, window.y)
            await session.mouse.drag(before[0] + 30, before[1] + 8, before[0] + 130, before[1] - 92)
            await eventually(lambda: (window.x, window.y) == (before[0] + 100, before[1] - 100))
            await same(session, demo_display(guest))


async def test_a_moving_picture_ends_as_it_is_once_it_stands_still() -> None:
    guest = DemoGuest(fps=25)
    async with serving(guest) as server, aiospice.connect(server.addresses[0]) as session:
        start = guest.state.frame
        await eventually(lambda: guest.state.frame > start + 20)
        guest.moving = False
        await same(session, demo_display(guest))


async def test_two_displays_and_the_sizes_a_client_wants() -> None:
    guest = DemoGuest(moving=False, displays=2, size=(640, 480))
    async with serving(guest) as server, aiospice.connect(server.addresses[0]) as session:
        for number in (0, 1):
            await same(session, demo_display(guest, number))
        await session.mouse.click(100, 90, display=1)
        await eventually(lambda: guest.state.pointer == (100, 90, 1))
        guest.monitors(((0, 0, 900, 700), (900, 0, 500, 400)))
        for number in (0, 1):
            await same(session, demo_display(guest, number))
        assert truth(demo_display(guest, 1)).shape == (400, 500, 3)


async def test_port_clipboard_files_and_tone_of_the_demo(tmp_path: Path) -> None:
    guest = DemoGuest(moving=False, folder=str(tmp_path / "drop"))
    sent = random.Random(2).randbytes(300_000)
    (tmp_path / "file.bin").write_bytes(sent)
    async with serving(guest) as server, aiospice.connect(server.addresses[0]) as session:
        port = await session.port(ECHO_PORT)
        writing = asyncio.create_task(port.write(sent))
        assert await port.readexactly(len(sent)) == sent
        await writing
        await session.clipboard.set_text("from the client")
        await eventually(lambda: guest.state.clipboard == "from the client")
        await session.keyboard.press("f8")
        await eventually(lambda: guest.text == "from the client")
        await session.keyboard.type(" and back")
        await session.keyboard.press("f7")
        await eventually(lambda: session.clipboard.offered())
        assert await session.clipboard.get_text() == "from the client and back"
        await session.send_file(tmp_path / "file.bin")
        assert (tmp_path / "drop" / "file.bin").read_bytes() == sent
        await session.keyboard.press("f5")
        await eventually(lambda: guest.state.tone_frames > 10_000)
        await session.keyboard.press("f5")
        await eventually(lambda: guest.state.tone_since is None)
        await same(session, demo_display(guest))


async def test_a_terminal_is_worked_in() -> None:
    guest = TerminalGuest(["/bin/sh"])
    guest.environment["PS1"] = "$ "
    with pytest.raises(aiospice.AiospiceError, match="password"):
        async with serving(guest):
            pass
    guest = TerminalGuest(["/bin/sh"])
    guest.environment["PS1"] = "$ "
    async with (
        serving(guest, password="secret") as server,
        aiospice.connect(server.addresses[0], password="secret") as session,
    ):
        display = server.host.display(0)
        await eventually(lambda: shown(guest)[-1:] == ["$"])
        await session.keyboard.type("for i in 1 2 3; do seq $i 100; done\n")
        await eventually(lambda: shown(guest)[-3:] == ["99", "100", "$"])
        await same(session, display)
        await session.mouse.move(10, 10)
        await session.mouse.scroll(-2)
        await eventually(lambda: guest.back == 6)
        await same(session, display)
        guest.monitors(((0, 0, 1000, 333),))
        await same(session, display)


def shown(guest: TerminalGuest) -> list[str]:
    lines = ["".join(char.data for char in row).rstrip() for row in guest.rows()]
    return [line for line in lines if line]


@pytest.mark.peers
async def test_an_x_program_is_worked_in(tmp_path: Path) -> None:
    path = tmp_path / "typed"
    script = f'IFS= read -r line; printf %s "$line" > {path}; sleep 100'
    guest = X11Guest(["xterm", "-e", "sh", "-c", script], size=(640, 480))
    async with (
        serving(guest, password="secret") as server,
        aiospice.connect(server.addresses[0], password="secret") as session,
    ):
        display = server.host.display(0)
        await eventually(lambda: display.pixels.any())
        await session.mouse.move(100, 100)
        await session.keyboard.type("It's typed; here!\n")
        await eventually(lambda: path.exists() and path.read_text() == "It's typed; here!")
        await same(session, display)


async def test_a_guest_without_anything_can_be_served() -> None:
    async with serving(Guest()) as server, aiospice.connect(server.addresses[0]) as session:
        assert session.channels == ("main:0", "inputs:0")
