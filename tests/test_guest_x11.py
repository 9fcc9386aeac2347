"""The X guest against real X servers and programs: ``xwd -root`` says what is to be seen."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.guest_host import RecordingHost

from aiospice.client import keyboard
from aiospice.errors import LocalError, MissingProgram, SessionLost
from aiospice.guests.keys import scancode, x_keycode
from aiospice.guests.rects import Rect
from aiospice.guests.sharedmemory import SharedMemory
from aiospice.guests.x11 import X11Guest
from aiospice.guests.xscreen import XScreen
from aiospice.guests.xvfb import Cookie, start_program
from aiospice.proof.xserver import Xvfb, parse_xwd


class Stage:
    """An X guest on a recording host."""

    def __init__(self, guest: X11Guest) -> None:
        self.host = RecordingHost()
        self.guest = guest
        guest.attach(cast(Any, self.host))

    @property
    def pixels(self) -> np.ndarray[Any, Any]:
        return self.host.displays[0].pixels[..., :3]

    async def do(self, *command: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **self.guest.environment},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return out

    async def xwd(self) -> np.ndarray[Any, Any]:
        picture = parse_xwd(await self.do("xwd", "-root", "-silent"))
        wide = np.frombuffer(picture.bgrx, np.uint8).reshape(picture.height, picture.width, 4)
        return wide[..., :3]

    async def same(self) -> None:
        """Wait until the host shows what the X server does."""
        async with asyncio.timeout(20):
            while True:
                truth = await self.xwd()
                if truth.shape == self.pixels.shape and np.array_equal(truth, self.pixels):
                    break
                await asyncio.sleep(0.05)
        self.host.check()

    async def drawn(self, than: np.ndarray[Any, Any] | None = None) -> None:
        """Wait until something is seen, other than what was."""
        async with asyncio.timeout(20):
            while not self.pixels.any() or (than is not None and np.array_equal(self.pixels, than)):
                await asyncio.sleep(0.05)

    def type(self, text: str) -> None:
        for pressed, code in keyboard.type_text(text):
            self.guest.key(code & (0x7F if code < 0x100 else 0x7FFF), pressed)


@asynccontextmanager
async def running(guest: X11Guest) -> AsyncIterator[Stage]:
    stage = Stage(guest)
    task = asyncio.create_task(guest.run())
    async with asyncio.timeout(30):
        while guest._screen is None and not task.done():
            await asyncio.sleep(0.02)
    if task.done():
        await task
    try:
        yield stage
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.peers
async def test_what_is_typed_into_a_program_is_seen_pixel_for_pixel(tmp_path: Path) -> None:
    text = "`1234567890-=qwertyuiop[]asdfghjkl;'\\zxcvbnm,./~!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:\"|"
    path = tmp_path / "typed"
    script = f'IFS= read -r line; printf %s "$line" > {path}; exec cat -v'
    async with running(X11Guest(["xterm", "-e", "sh", "-c", script], size=(800, 600))) as stage:
        assert stage.guest.needs_password
        await stage.drawn()
        stage.guest.mouse_move(100, 100, 0, 0)
        stage.type(text + "\n")
        async with asyncio.timeout(20):
            while not path.exists() or path.read_text() != text:
                await asyncio.sleep(0.05)
        before = stage.pixels.copy()
        stage.guest.key(0xE048, True)
        stage.guest.key(0xE048, False)
        await stage.drawn(before)
        await stage.same()


@pytest.mark.peers
async def test_the_pointer_is_where_the_client_points() -> None:
    async with running(X11Guest(["xeyes", "-geometry", "300x200+20+20"], size=(640, 480))) as stage:
        await stage.drawn()
        for place in ((10, 10), (600, 400)):
            before = stage.pixels.copy()
            stage.guest.mouse_move(*place, 0, 0)
            await stage.drawn(before)
            await stage.same()
            said = (await stage.do("xdotool", "getmouselocation")).split()
            assert said[:2] == [b"x:%d" % place[0], b"y:%d" % place[1]]
        stage.guest.mouse_motion(-90, 20, 0)
        stage.guest.mouse_motion(-10, 0, 0)
        async with asyncio.timeout(20):
            while (500, 420) not in stage.host.named("move_cursor"):
                await asyncio.sleep(0.05)
        pixels, hot_x, hot_y = stage.host.named("set_cursor")[-1]
        assert pixels.shape[2] == 4
        assert 0 <= hot_x < pixels.shape[1]
        assert 0 <= hot_y < pixels.shape[0]


@pytest.mark.peers
async def test_buttons_and_locks_reach_the_server() -> None:
    async with running(X11Guest(["xterm", "-e", "sleep", "100"], size=(640, 480))) as stage:
        await stage.drawn()
        stage.guest.mouse_move(100, 100, 0, 0)
        before = stage.pixels.copy()
        stage.guest.key(0x1D, True)
        stage.guest.mouse_button(1, True, 1)  # with ctrl: the main menu
        await stage.drawn(before)
        stage.guest.mouse_button(1, False, 0)
        stage.guest.key(0x1D, False)
        await stage.same()
        stage.guest.locks(4)
        async with asyncio.timeout(20):
            while stage.host.named("set_locks") != [(4,)]:
                await asyncio.sleep(0.05)
        stage.guest.key(0x3A, True)
        stage.guest.key(0x3A, False)
        async with asyncio.timeout(20):
            while stage.host.named("set_locks") != [(4,), (0,)]:
                await asyncio.sleep(0.05)


@pytest.mark.peers
async def test_the_screen_takes_sizes_that_clients_want() -> None:
    async with running(X11Guest(["xclock", "-update", "1"], largest=(1280, 1024))) as stage:
        await stage.drawn()
        assert stage.pixels.shape == (768, 1024, 3)
        for wanted, size in (
            ((800, 601), (800, 601)),
            ((1000, 500), (1000, 500)),
            ((1, 9999), (320, 1024)),
        ):
            stage.guest.monitors(((0, 0, *wanted),))
            async with asyncio.timeout(20):
                while stage.pixels.shape[1::-1] != size:
                    await asyncio.sleep(0.05)
        process = await start_program(["xsetroot", "-solid", "#123456"], stage.guest.environment)
        await process.wait()
        await stage.same()
        assert stage.pixels[700, 300].tolist() == [0x56, 0x34, 0x12]


@pytest.mark.peers
async def test_keycodes_are_those_of_the_keys() -> None:
    names = {
        "up": "Up", "down": "Down", "left": "Left", "right": "Right", "home": "Home", "end": "End",
        "pageup": "Prior", "pagedown": "Next", "insert": "Insert", "delete": "Delete",
        "rctrl": "Control_R", "altgr": "Alt_R", "super": "Super_L", "menu": "Menu", "f1": "F1",
        "f11": "F11", "f12": "F12", "kp-enter": "KP_Enter", "kp-divide": "KP_Divide",
        "esc": "Escape",
        "capslock": "Caps_Lock", "numlock": "Num_Lock", "scrolllock": "Scroll_Lock",
        "print": "Print", "pause": "Pause", "mute": "XF86AudioMute",
        "volumedown": "XF86AudioLowerVolume", "volumeup": "XF86AudioRaiseVolume",
        "next": "XF86AudioNext", "previous": "XF86AudioPrev", "playpause": "XF86AudioPlay",
        "stop": "XF86AudioStop", "sleep": "XF86Sleep", "wake": "XF86WakeUp",
        "power": "XF86PowerOff", "rmeta": "Super_R", "kp-7": "KP_Home", "tab": "Tab",
    }  # fmt: skip
    async with running(X11Guest(["xclock"], size=(320, 240))) as stage:
        rows = (await stage.do("xmodmap", "-pke")).decode().splitlines()
        symbols = {int(row.split()[1]): row.split()[3:] for row in rows}
        for name, symbol in names.items():
            code = x_keycode(scancode(keyboard.press_code(keyboard.KEYS[name])))
            assert symbol in symbols[code], name


@pytest.mark.peers
async def test_a_display_that_is_there_is_shown_and_keeps_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Xvfb(500, 400) as x:
        monkeypatch.setenv("XAUTHORITY", x.environment["XAUTHORITY"])
        await x.run("xlogo")
        async with running(X11Guest(display=x.display)) as stage:
            await stage.same()
            stage.guest.monitors(((0, 0, 320, 240),))
            await x.do("xsetroot", "-solid", "red")
            await stage.same()
            assert stage.pixels.shape == (400, 500, 3)
        assert x.running
    with pytest.raises(LocalError, match="no connection"):
        async with running(X11Guest(display=":1234")):
            pass


@pytest.mark.peers
async def test_a_wrong_cookie_is_refused() -> None:
    async with running(X11Guest(["xclock"], size=(320, 240))) as stage:
        display = stage.guest.environment["DISPLAY"]
        with pytest.raises(LocalError, match="no connection"):
            XScreen(display, Cookie(b"MIT-MAGIC-COOKIE-1", bytes(16)))


@pytest.mark.peers
async def test_a_size_that_changes_under_a_picture_is_made_up_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Xvfb(300, 200) as x:
        monkeypatch.setenv("XAUTHORITY", x.environment["XAUTHORITY"])
        screen = XScreen(x.display)
        try:
            assert screen.news().parts[0][0] == (0, 0, 300, 200)
            screen.size = (400, 200)  # as it was a moment ago
            screen._pending = [Rect(0, 0, 10, 10), Rect(350, 0, 50, 50)]
            news = screen.news()
            assert (news.parts, news.more) == ([], True)
            (part,) = screen.news().parts
            assert part[0] == (0, 0, 300, 200)
            with pytest.raises(LocalError, match="takes no size"):
                screen.resize(5000, 5000)
            screen._pending = [Rect(7 * n, 0, 3, 4) for n in range(42)]
            assert [rect for rect, _ in screen.news().parts] == [(0, 0, 290, 4)]
        finally:
            screen.close()


@pytest.mark.peers
async def test_it_ends_with_its_program_and_leaves_nothing() -> None:
    stage = Stage(X11Guest(["sh", "-c", "xsetroot -solid blue; sleep 0.5"], size=(320, 240)))
    with pytest.raises(SessionLost, match="sh has ended, status 0"):
        await asyncio.wait_for(stage.guest.run(), 30)
    assert stage.guest._server is not None
    assert not os.path.exists(stage.guest.environment["XAUTHORITY"])
    process = stage.guest._server._process
    assert process is not None
    assert process.returncode is not None


@pytest.mark.peers
async def test_an_x_server_that_dies_is_told() -> None:
    stage = Stage(X11Guest(["xclock"], size=(320, 240)))
    task = asyncio.create_task(stage.guest.run())
    await stage.drawn()
    assert stage.guest._server is not None
    assert stage.guest._server._process is not None
    os.kill(stage.guest._server._process.pid, signal.SIGKILL)
    with pytest.raises(SessionLost, match="X server has gone"):
        await asyncio.wait_for(task, 20)


async def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingProgram, match="apt-get install xvfb"):
        await X11Guest().run()
    with pytest.raises(MissingProgram, match="nothing-like-this"):
        await start_program(["nothing-like-this"], {})


def test_floods_are_bounded_and_releases_get_through() -> None:
    stage = Stage(X11Guest(["xclock"]))
    for x in range(5000):
        stage.guest.mouse_move(x, 0, 0, 0)
        stage.guest.mouse_motion(1, 1, 0)
        stage.guest.mouse_motion(1, 1, 0)
    stage.guest.key(0x1E, True)
    stage.guest.key(0x1E, True)
    stage.guest.key(0x1E, False)
    inputs = stage.guest._inputs
    assert len(inputs) <= 1002
    assert inputs[1] == ("motion", 2, 2)
    assert inputs[-1] == ("key", 38, 0)


def test_keys_are_released_when_the_last_client_goes() -> None:
    stage = Stage(X11Guest(["xclock"]))
    stage.guest.key(0x2A, True)
    stage.guest.client_disconnected(1)
    stage.host.clients = ()
    stage.guest.client_disconnected(2)
    assert stage.guest._inputs == [("key", 50, 1), ("key", 50, 0)]


def test_shared_memory_can_be_had_and_not_be_had() -> None:
    memory = SharedMemory(4096)
    memory.forget()
    memory.data[:3] = b"abc"
    assert bytes(memory.data[:4]) == b"abc\0"
    memory.close()
    memory.close()
    with pytest.raises(LocalError, match="no shared memory"):
        SharedMemory(1 << 62)
