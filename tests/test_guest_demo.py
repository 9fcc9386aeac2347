"""The demo desktop alone: what its pixels are after keys, mouse and time, and what it tells."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.guest_host import Pixels, RecordingHost

from aiospice.client import keyboard
from aiospice.guests import scenery
from aiospice.guests.demo import ECHO_PORT, DemoGuest
from aiospice.guests.demo_state import COLUMNS, ROWS
from aiospice.guests.font import CELL_HEIGHT, CELL_WIDTH, text_mask

CLOCK = 1_700_000_000.0


class Stage:
    """A demo guest on a recording host, with a clock that the test moves."""

    def __init__(self, **options: Any) -> None:
        self.now = CLOCK
        self.host = RecordingHost()
        self.guest = DemoGuest(clock=lambda: self.now, **options)
        self.guest.attach(cast(Any, self.host))

    def screen(self, display: int = 0) -> Pixels:
        self.host.check()
        return self.host.displays[display].pixels[..., :3].copy()

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.guest.tick()

    def keys(self, text: str) -> None:
        for pressed, code in keyboard.type_text(text):
            self.guest.key(code & (0x7F if code < 0x100 else 0x7FFF), pressed)

    def press(self, code: int) -> None:
        self.guest.key(code, True)
        self.guest.key(code, False)

    def drag(self, start: tuple[int, int], *path: tuple[int, int], display: int = 0) -> None:
        self.guest.mouse_move(*start, display, 0)
        self.guest.mouse_button(1, True, 1)
        for place in path:
            self.guest.mouse_move(*place, display, 1)
        self.guest.mouse_button(1, False, 0)

    def place(self, name: str, display: int = 0) -> tuple[int, int]:
        window = self.guest.state.windows[display][name]
        return window.x, window.y

    def area(self) -> Pixels:
        """The text area's pixels on the screen."""
        rect = self.guest._text_rect()
        x, y = self.place("notes")
        return self.screen()[y + rect.y : y + rect.bottom, x + rect.x : x + rect.right]

    def shown(self, row: int) -> str:
        """A line of the text area, read off the screen."""
        part = self.area()[row * CELL_HEIGHT : (row + 1) * CELL_HEIGHT]
        ink = np.asarray((part < 100).all(axis=2))
        chars = {text_mask(chr(c)).tobytes(): chr(c) for c in range(32, 127)}
        cells = [ink[:, x : x + CELL_WIDTH] for x in range(0, ink.shape[1], CELL_WIDTH)]
        return "".join(chars.get(cell.tobytes(), "?") for cell in cells).rstrip()


def twin(stage: Stage) -> Pixels:
    """The screen as a guest with the same state draws it from nothing."""
    other = Stage(moving=False)
    other.guest.state = stage.guest.state
    for desktop, windows in zip(other.guest.desktops, stage.guest.state.windows, strict=True):
        desktop.order[:] = stage.guest.state.order[0]
        for name, view in desktop.views.items():
            view.window.x, view.window.y = windows[name].x, windows[name].y
        other.guest._draw_all(desktop)
    return other.screen()


def test_the_same_seed_and_clock_give_the_same_pixels() -> None:
    one, same, other = Stage(), Stage(), Stage(seed=1)
    assert np.array_equal(one.screen(), same.screen())
    assert not np.array_equal(one.screen(), other.screen())
    assert one.screen().shape == (768, 1024, 3)
    for stage in (one, same):
        stage.after(7.3)
        stage.keys("x")
    assert np.array_equal(one.screen(), same.screen())


def test_what_is_typed_is_seen() -> None:
    stage = Stage()
    stage.keys("Hello, World!\n\tTab ~{}\b\b")
    assert stage.guest.text == "Hello, World!\n    Tab ~"
    assert [stage.shown(row) for row in (0, 1, 2)] == ["Hello, World!", "    Tab ~", ""]


def test_lines_break_and_the_text_scrolls_as_a_move() -> None:
    stage = Stage()
    stage.keys("a" * COLUMNS + "bc\n")
    stage.host.displays[0].done()
    stage.keys("".join(f"{n}\n" for n in range(ROWS)))
    wanted = [str(n) for n in range(1, ROWS)] + [""]
    assert stage.guest.state.lines == wanted
    assert [stage.shown(row) for row in range(ROWS)] == wanted
    moves = stage.host.displays[0].done("copy")
    assert moves == [("copy", *moves[0][1:])] * 3
    stage.drag((700, 310), (300, 120))  # something above it: moved pixels would be wrong
    stage.host.displays[0].done()
    stage.keys("last\n")
    assert not stage.host.displays[0].done("copy")
    assert np.array_equal(stage.screen(), twin(stage))


def test_backspace_joins_lines() -> None:
    stage = Stage()
    stage.keys("ab\ncd\b\b\be")
    assert (stage.guest.text, stage.shown(0), stage.shown(1)) == ("abe", "abe", "")
    stage.keys("\b" * 9)
    assert stage.guest.text == ""


def test_keys_with_ctrl_type_nothing() -> None:
    stage = Stage()
    stage.guest.key(0x1D, True)
    stage.press(0x2E)
    assert stage.guest.text == ""


def test_caps_lock_goes_to_the_lights() -> None:
    stage = Stage()
    stage.press(0x3A)
    stage.keys("a")
    stage.guest.locks(0)
    stage.keys("a")
    assert stage.guest.text == "Aa"
    assert stage.host.named("set_locks") == [(4,), (0,)]


def test_a_window_is_dragged_by_its_title_as_a_move() -> None:
    stage = Stage()
    x, y = stage.place("picture")
    stage.drag((x + 50, y + 5), (x + 70, y + 35))
    assert stage.place("picture") == (x + 20, y + 30)
    (move,) = stage.host.displays[0].done("copy")
    assert move == ("copy", x, y, 322, 262, x + 20, y + 30)
    assert np.array_equal(stage.screen(), twin(stage))
    assert len(stage.host.named("set_cursor")) == 3  # arrow, hand, arrow
    stage.drag((x + 100, y + 100), (0, 0))  # by its content: it stays
    assert stage.place("picture") == (x + 20, y + 30)


def test_a_window_stays_in_reach() -> None:
    stage = Stage()
    x, y = stage.place("picture")
    stage.drag((x + 50, y + 5), (5000, 5000), (-5000, -5000))
    assert stage.place("picture")[1] == 0
    assert stage.place("picture")[0] > -322
    stage.screen()


def test_the_relative_mouse_moves_the_pointer_too() -> None:
    stage = Stage()
    x, y = stage.place("panel")
    stage.guest.mouse_motion(x + 9, y + 9, 0)
    stage.guest.mouse_button(1, True, 1)
    stage.guest.mouse_motion(30, 0, 1)
    stage.guest.mouse_motion(-10, 5, 1)
    stage.guest.mouse_button(1, False, 0)
    assert stage.place("panel") == (x + 20, y + 5)
    assert stage.host.named("move_cursor")[-1] == (x + 29, y + 14, 0)
    stage.guest.mouse_motion(-9999, 9999, 0)
    assert stage.guest.state.pointer == (0, 767, 0)


def test_the_pointer_goes_from_display_to_display() -> None:
    stage = Stage(displays=2)
    stage.guest.mouse_motion(1030, 100, 0)
    assert stage.guest.state.pointer == (6, 100, 1)
    stage.guest.mouse_motion(-10, 0, 0)
    assert stage.guest.state.pointer == (1020, 100, 0)
    x, y = stage.place("about", 1)
    stage.drag((x + 3, y + 3), (x + 13, y + 23), display=1)
    assert stage.place("about", 1) == (x + 10, y + 20)
    assert stage.screen(1).shape == stage.screen(0).shape
    stage.guest.mouse_move(5, 5, 9, 0)
    assert stage.guest.state.pointer == (5, 5, 1)


def test_a_click_raises_a_window() -> None:
    stage = Stage()
    x, y = stage.place("picture")
    stage.drag((x + 5, y + 5), (x - 300, y + 5))
    before = stage.screen()
    stage.drag((150, 340), (150, 340))
    assert stage.guest.state.order[0][-2:] == ["panel", "bar"]
    assert not np.array_equal(stage.screen(), before)
    assert np.array_equal(stage.screen(), twin(stage))


def test_clock_and_picture_move_with_time() -> None:
    stage = Stage()
    before = stage.screen()
    stage.after(0.01)
    assert np.array_equal(stage.screen(), before)
    stage.after(1.0)
    after = stage.screen()
    x, y = stage.place("picture")
    changed = (after != before).any(axis=2)
    assert changed[y + 21 : y + 261, x + 1 : x + 321].mean() > 0.3
    assert changed[740:].any()
    changed[y : y + 262, x : x + 322] = changed[740:] = False
    assert not changed.any()


def test_nothing_moves_by_itself_when_told_so_or_nobody_looks() -> None:
    still, unseen = Stage(moving=False), Stage()
    unseen.host.clients = ()
    for stage in (still, unseen):
        stage.host.displays[0].done()
        stage.after(0.5)
        assert stage.host.displays[0].done() == []


def test_the_tone_sounds_for_as_long_as_it_is_on() -> None:
    stage = Stage()
    stage.press(0x3F)  # F5
    assert stage.host.named("playback_start") == [(scenery.RATE, 2)]
    for _ in range(50):
        stage.after(0.02)
    assert bytes(stage.host.played) == scenery.tone(0, len(stage.host.played) // 4)
    assert abs(len(stage.host.played) // 4 - 1.1 * scenery.RATE) < 2
    stage.after(60)  # the loop stood still
    assert len(stage.host.played) // 4 <= round(1.6 * scenery.RATE)
    stage.after(0.02)
    assert len(stage.host.played) // 4 <= round(1.63 * scenery.RATE)
    played = len(stage.host.played)
    stage.drag((52, 120), (52, 120))  # the icon does the same
    stage.after(1)
    assert len(stage.host.played) == played
    assert stage.host.named("playback_stop") == [()]


def test_the_microphones_level_is_shown() -> None:
    stage = Stage()
    x, y = stage.place("panel")
    before = stage.screen()
    stage.drag((x + 150, y + 45), (x + 150, y + 45))
    stage.guest.recorded(np.array([0, -32768, 5], "<i2").tobytes() + b"x")
    assert stage.guest.state.level == 32767
    assert stage.host.named("record_start") == [()]
    assert not np.array_equal(stage.screen(), before)
    stage.guest.recorded(b"")
    stage.press(0x40)  # F6
    assert stage.host.named("record_stop") == [()]
    assert stage.guest.state.level == 0


def test_monitors_resize_the_desktop_within_bounds() -> None:
    stage = Stage(displays=2)
    x, y = stage.place("picture")
    stage.drag((x + 5, y + 5), (1000, 700))
    stage.guest.monitors(((0, 0, 800, 600), (800, 0, 1 << 30, 1 << 30)))
    assert stage.screen(0).shape == (600, 800, 3)
    assert stage.screen(1).shape == (2160, 4096, 3)
    assert stage.place("picture")[0] < 800
    assert stage.place("bar") == (0, 572)
    stage.host.displays[0].done()
    stage.guest.monitors(((0, 0, 800, 600), (0, 0, 0, 0)))
    assert stage.host.displays[0].done() == []
    stage.guest.monitors(((0, 0, 1, 1),))
    assert stage.screen(0).shape == (240, 320, 3)
    stage.guest.monitors(())


def test_the_port_gives_back_what_it_gets_and_holds_a_limit() -> None:
    stage = Stage()
    device = stage.host.devices[ECHO_PORT]
    assert device.opened
    data = bytes(range(256)) * 2000
    device.inbox += data
    device.room = 1000  # the client reads no further
    stage.guest.device_readable(cast(Any, device))
    echo = stage.guest.echo
    assert (len(device.outbox), len(echo.held)) == (1000, echo.limit)
    assert len(device.inbox) == len(data) - 1000 - echo.limit
    found = bytearray()
    while device.outbox:
        found += device.outbox
        device.outbox.clear()
        stage.guest.device_writable(cast(Any, device))
    assert (bytes(found), echo.echoed) == (data, len(data))


def test_when_the_last_client_goes_nothing_stays_pressed() -> None:
    stage = Stage()
    stage.guest.client_connected(1)
    stage.guest.client_connected(2)
    x, y = stage.place("notes")
    stage.guest.key(0x2A, True)
    stage.guest.mouse_move(x + 5, y + 5, 0, 0)
    stage.guest.mouse_button(1, True, 1)
    stage.guest.client_disconnected(1)
    assert stage.guest.state.drag
    stage.guest.client_disconnected(2)
    assert stage.guest.state.drag is None
    stage.keys("a")
    assert stage.guest.text == "a"
    stage.guest.client_disconnected(2)
    assert stage.guest.state.clients == 0


def test_the_state_is_plain_data() -> None:
    stage = Stage()
    stage.keys("abc")
    stage.press(0x3F)
    again = pickle.loads(pickle.dumps(stage.guest.state))
    assert again.lines == ["abc"]
    assert again.windows == stage.guest.state.windows


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("drag"), st.integers(-60, 1090), st.integers(-60, 830)),
        st.tuples(st.just("grip"), st.sampled_from(["notes", "panel", "picture"]), st.none()),
        st.tuples(st.just("type"), st.sampled_from(["a\n", "\b", "x" * 70, "\n" * 20]), st.none()),
        st.tuples(st.just("size"), st.integers(300, 1300), st.integers(200, 900)),
    ),
    max_size=12,
)


@settings(max_examples=12, deadline=None)
@given(STEPS)
def test_the_screen_is_what_its_state_says_after_whatever_was_done(steps: list[Any]) -> None:
    stage = Stage(moving=False)
    for kind, a, b in steps:
        if kind == "type":
            stage.keys(a)
        elif kind == "size":
            stage.guest.monitors(((0, 0, a, b),))
        elif kind == "grip":
            x, y = stage.place(a)
            stage.guest.mouse_move(x + 30, y + 10, 0, 0)
            stage.guest.mouse_button(1, True, 1)
        else:
            stage.guest.mouse_move(a, b, 0, 1)
    drawn = stage.screen()
    stage.guest._draw_all(stage.guest.desktops[0])
    assert np.array_equal(stage.screen(), drawn)


async def test_its_life_ends_when_it_is_cancelled() -> None:
    stage = Stage(fps=100)
    task = asyncio.create_task(stage.guest.run())
    stage.now += 5
    async with asyncio.timeout(10):
        while not stage.guest.state.frame:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
