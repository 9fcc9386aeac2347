"""The terminal guest: its screen from bytes, its pixels from lines, and a real shell in it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.guest_agent import AgentPeer
from tests.guest_host import Display, RecordingHost

from aiospice.client import keyboard
from aiospice.errors import LocalError
from aiospice.guests import ptychild
from aiospice.guests.font import CELL_HEIGHT, CELL_WIDTH, text_mask
from aiospice.guests.ptychild import Child
from aiospice.guests.terminal import TerminalGuest
from aiospice.guests.terminal_screen import Char, Row, TerminalScreen
from aiospice.guests.terminal_view import TerminalView, colour, find_move

# -- the screen --------------------------------------------------------------------------------


def screen_of(data: bytes, columns: int = 20, lines: int = 5) -> TerminalScreen:
    screen = TerminalScreen(columns, lines, lambda text: None)
    screen.feed(data)
    return screen


def texts(screen: TerminalScreen) -> list[str]:
    found = ["".join(char.data for char in screen.row(y)) for y in range(screen.lines)]
    return [line.rstrip() for line in found]


def test_lines_that_scroll_off_are_kept() -> None:
    screen = screen_of(b"".join(b"%d\r\n" % n for n in range(8)))
    assert texts(screen) == ["4", "5", "6", "7", ""]
    assert ["".join(c.data for c in row) for row in screen.history] == ["0", "1", "2", "3"]
    screen.feed(b"\r\n" * 5000)
    assert len(screen.history) == 2000
    assert screen.scrolled == 5004


def test_the_alternate_screen_leaves_the_other_as_it_was() -> None:
    screen = screen_of(b"one\r\ntwo\x1b[?1049h\x1b[2J\x1b[Hother" + b"\r\n" * 9)
    assert screen.alternate
    assert not screen.history
    screen.feed(b"\x1b[?1049l!")
    assert texts(screen)[:2] == ["one", "two!"]
    screen.feed(b"\x1b[?1049h\x1bc")
    assert not screen.alternate


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"a\x1b[5b", "aaaaaa"),
        (b"ab\x1b[>4;2mc\x1b[<u\x1b[=1ud", "abcd"),
        (b"a\x1bP+q544e\x1b\\b\x1b_x\x1b\\c", "abc"),
        (b"a\x1b[4:3mb", "ab"),
        (b"\x1b(0lqk\x1b(Bq", "┌─┐q"),
        (b"\x0elq", "┌─"),
        ("é漢!".encode(), "é漢!"),
        (b"a\tb\x1b[Zc", "a       c"),
        (b"ab\x1b[1;2;3;4AX\x1b[?5mY\x1b[?3hZ", "abXYZ"),
        (b"\x1b]0;title\x07x\x1b]8;;http://a\x1b\\y", "xy"),
        (b"ab\x1b7cd\x1b8X\x1b8Y", "abYd"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_what_programs_send_is_understood(data: bytes, line: str) -> None:
    screen = screen_of(data)
    assert texts(screen)[0] == line
    assert screen.columns == 20
    cells = TerminalScreen(20, 5, lambda text: None)
    for byte in data:
        cells.feed(bytes([byte]))
    assert texts(cells) == texts(screen)
    assert not any(char.underscore for char in screen.row(0))


def test_lines_scroll_by_number_within_margins() -> None:
    screen = screen_of(b"1\r\n2\r\n3\r\n4\r\n5\x1b[2;4r\x1b[S")
    assert texts(screen) == ["1", "3", "4", "", "5"]
    screen.feed(b"\x1b[2T")
    assert texts(screen) == ["1", "", "", "3", "5"]
    assert not screen.history


def test_questions_are_answered() -> None:
    said: list[str] = []
    screen = TerminalScreen(20, 5, said.append)
    screen.feed(b"ab\x1b[6n\x1b[c")
    assert said == ["\x1b[1;3R", "\x1b[?6c"]


def test_the_cursors_line_stays_when_the_screen_shrinks() -> None:
    screen = screen_of(b"1\r\n2\r\n3$ ")
    screen.resize(4, 10)
    assert texts(screen) == ["1", "2", "3$", ""]
    screen.resize(2, 10)
    assert texts(screen) == ["2", "3$"]
    assert len(screen.history) == 1
    assert (screen.cursor.x, screen.cursor.y) == (3, 1)
    screen.resize(3, 1)
    assert texts(screen) == ["2", "3", ""]


SEQUENCES = st.one_of(
    st.binary(max_size=8),
    st.builds(
        lambda mark, numbers, end: b"\x1b[" + mark + b";".join(numbers) + end,
        st.sampled_from([b"", b"?", b">", b"<", b" "]),
        st.lists(st.sampled_from([b"", b"0", b"1", b"3", b"7", b"47", b"1049", b"99999"])),
        st.binary(min_size=1, max_size=1),
    ),
    st.sampled_from(
        [b"\n", b"\x1bM", b"\x1b7", b"\x1b8", b"\x1bc", b"\x1b#8", b"\x1b]0;", b"\x07"]
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(SEQUENCES, max_size=30), st.integers(1, 30))
def test_whatever_comes_the_screen_keeps_its_shape(parts: list[bytes], cut: int) -> None:
    data = b"".join(parts)
    screen, view = TerminalScreen(20, 5, lambda text: None), Display()
    shown = TerminalView(cast(Any, view))
    shown.resize(20 * CELL_WIDTH, 5 * CELL_HEIGHT)
    for start in range(0, len(data), cut):
        screen.feed(data[start : start + cut])
        rows = [screen.row(y) for y in range(5)]
        assert {len(row) for row in rows} == {20}
        assert 0 <= screen.cursor.x <= 20
        assert 0 <= screen.cursor.y < 5
        shown.show(rows)
    view.check()
    assert np.array_equal(view.pixels, drawn([screen.row(y) for y in range(5)]).pixels)
    assert len(screen.savepoints) <= 1


# -- pixels ------------------------------------------------------------------------------------


def drawn(rows: list[Row]) -> Display:
    """A display that shows lines from nothing."""
    display = Display()
    view = TerminalView(cast(Any, display))
    view.resize(len(rows[0]) * CELL_WIDTH, len(rows) * CELL_HEIGHT)
    view.show(rows)
    return display


def rows_of(*lines: str) -> list[Row]:
    return [tuple(Char(char) for char in line.ljust(9)) for line in lines]


@pytest.mark.parametrize(
    ("old", "new", "move"),
    [
        ("abcdef", "bcdefg", (0, 5, 1)),
        ("abcdef", "xabcde", (1, 5, -1)),
        ("abcdef", "adefxf", (1, 2, 2)),
        ("abcdef", "abcdef", None),
        ("abcdef", "uvwxyz", None),
        ("abcdef", "abxyef", None),
        ("a     ", "     a", None),
    ],
)
def test_moves_are_found(old: str, new: str, move: tuple[int, int, int] | None) -> None:
    assert find_move(rows_of(*old), rows_of(*new)) == move


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abc ", min_size=6, max_size=6), min_size=2, max_size=5))
def test_pixels_follow_from_the_lines_whatever_was_before(screens: list[str]) -> None:
    display = Display()
    view = TerminalView(cast(Any, display))
    view.resize(9 * CELL_WIDTH, 6 * CELL_HEIGHT)
    for lines in screens:
        view.show(rows_of(*lines))
    display.check()
    assert np.array_equal(display.pixels, drawn(rows_of(*screens[-1])).pixels)


def test_one_letter_is_one_cell() -> None:
    display = Display()
    view = TerminalView(cast(Any, display))
    view.resize(81, 30)
    view.show(rows_of("abc", "def"))
    display.done()
    view.show(rows_of("abc", "dxf"))
    assert display.done() == [("update", 9, 15, 9, 15)]


def test_colours_and_styles_are_seen() -> None:
    red = Char("a", fg="red", bg="0000ff", underscore=True, strikethrough=True)
    pixels = drawn([(red, red._replace(reverse=True), Char("a", bold=True))]).pixels
    cells = [pixels[:, x : x + 9] for x in (0, 9, 18)]
    assert cells[0][0, 0].tolist() == [255, 0, 0, 0]
    assert cells[1][13, 0].tolist() == [255, 0, 0, 0]
    for row in (7, 13):
        assert (cells[0][row] == cells[0][row, 0]).all()
        assert cells[0][row, 0].tolist() == [0x4B, 0x4B, 0xCC, 0]
    ink = (cells[2] == [0xE9, 0xDE, 0xD8, 0]).all(axis=2)
    assert np.array_equal(ink, text_mask("a", bold=True))
    assert colour("nonsense", 5) == colour("zzzzzz", 5) == 5
    assert colour("bfightmagenta", 0) == colour("brightmagenta", 1)


# -- with a shell ------------------------------------------------------------------------------


class Stage:
    """A terminal guest on a recording host."""

    def __init__(self, *command: str, **options: Any) -> None:
        self.host = RecordingHost()
        self.guest = TerminalGuest(command or ("/bin/sh",), **options)
        self.guest.environment["PS1"] = "$ "
        self.guest.attach(cast(Any, self.host))

    def lines(self) -> list[str]:
        return ["".join(c.data for c in row).rstrip() for row in self.guest.rows()]

    def feed(self, data: bytes) -> None:
        self.guest._feed(data)
        self.guest.show()

    def type(self, text: str) -> None:
        for pressed, code in keyboard.type_text(text):
            self.guest.key(code & (0x7F if code < 0x100 else 0x7FFF), pressed)

    def press(self, *codes: int) -> None:
        for code in codes:
            self.guest.key(code, True)
        for code in reversed(codes):
            self.guest.key(code, False)

    async def until(self, *wanted: str) -> None:
        """Lines stand at the end of what is on the screen."""
        async with asyncio.timeout(20):
            while [line for line in self.lines() if line][-len(wanted) :] != list(wanted):
                await asyncio.sleep(0.02)

    def picture(self) -> np.ndarray[Any, Any]:
        self.guest.show()
        self.host.check()
        return self.host.displays[0].pixels


@asynccontextmanager
async def running(*command: str, **options: Any) -> AsyncIterator[Stage]:
    stage, start, pids = Stage(*command, **options), Child.start, []

    async def started(*words: Any) -> Child:
        child = await start(*words)
        pids.append(child.process.pid)
        return child

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Child, "start", started)
        task = asyncio.create_task(stage.guest.run())
        try:
            yield stage
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    for pid in pids:
        with pytest.raises(ChildProcessError):  # neither a process nor a zombie is left
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)


async def test_a_shell_answers_and_the_pixels_say_so() -> None:
    async with running() as stage:
        await stage.until("$")
        stage.type('echo $((6*7)) "it\'s"\n')
        await stage.until('$ echo $((6*7)) "it\'s"', "42 it's", "$")
        assert np.array_equal(stage.picture(), drawn(stage.guest.rows()).pixels)
        assert stage.guest.needs_password


async def test_long_output_scrolls_and_can_be_looked_back_at() -> None:
    async with running() as stage:
        await stage.until("$")
        stage.type("seq 1 200\n")
        await stage.until(*(str(n) for n in range(180, 201)), "$")
        stage.press(0x2A, 0xE049)  # shift and page up
        assert stage.lines()[0] == "155"
        assert np.array_equal(stage.picture(), drawn(stage.guest.rows()).pixels)
        stage.guest.mouse_button(5, True, 0)
        stage.guest.mouse_button(5, False, 0)
        assert stage.lines()[0] == "158"
        stage.type("x")
        await stage.until("199", "200", "$ x")


async def test_lines_that_come_one_by_one_are_moves() -> None:
    async with running(size=(360, 120)) as stage:
        await stage.until("$")
        stage.type("for i in 1 2 3 4 5 6 7 8 9; do echo line $i; sleep 0.1; done\n")
        await stage.until("line 7", "line 8", "line 9", "$")
        assert stage.host.displays[0].done("copy")
        assert np.array_equal(stage.picture(), drawn(stage.guest.rows()).pixels)


async def test_the_size_of_a_client_is_the_programs() -> None:
    async with running() as stage:
        await stage.until("$")
        stage.guest.monitors(((0, 0, 910, 310),))
        stage.type("stty size\n")
        await stage.until("$ stty size", "20 101", "$")
        assert stage.picture().shape == (310, 910, 4)
        stage.guest.monitors(((0, 0, 1, 1),))
        stage.guest.monitors(((0, 0, 0, 0),))
        assert stage.picture().shape == (75, 180, 4)
        stage.guest.monitors(((0, 0, 1 << 20, 1 << 20),))
        assert (stage.guest.screen.columns, stage.guest.screen.lines) == (400, 150)


async def test_control_characters_reach_the_program() -> None:
    async with running() as stage:
        await stage.until("$")
        stage.type("sleep 100\n")
        await stage.until("$ sleep 100")
        stage.press(0x1D, 0x2E)
        async with asyncio.timeout(20):
            while stage.lines()[2] != "$":
                await asyncio.sleep(0.02)
        stage.type("cat\n")
        stage.press(0xE048)
        async with asyncio.timeout(20):
            while "^[[A" not in stage.lines()[3]:
                await asyncio.sleep(0.02)


async def test_ctrl_c_reaches_the_program_of_a_server_that_ignores_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of one in the background
    try:
        async with running() as stage:
            await stage.until("$")
            stage.type("sleep 100\n")
            await stage.until("$ sleep 100")
            stage.press(0x1D, 0x2E)
            async with asyncio.timeout(20):
                while stage.lines()[2] != "$":
                    await asyncio.sleep(0.02)
    finally:
        signal.signal(signal.SIGINT, before)


async def test_an_ended_program_is_started_again_by_enter() -> None:
    async with running() as stage:
        await stage.until("$")
        stage.type("exit 3\n")
        await stage.until("[ended with status 3; Enter starts it again]")
        stage.type("\n")
        await stage.until("[ended with status 3; Enter starts it again]", "$")
        assert stage.guest.status == 3


async def test_or_ends_the_guest() -> None:
    stage = Stage("/bin/echo", "done", again=False)
    async with asyncio.timeout(20):
        await stage.guest.run()
    assert (stage.guest.status, stage.lines()[0]) == (0, "done")


async def test_a_program_that_is_not_there_is_named() -> None:
    async with running("/nonexistent/program") as stage:
        await stage.until(
            "/nonexistent/program: No such file or directory",
            "[ended with status 1; Enter starts it again]",
        )
    with pytest.raises(LocalError, match="can't be started"):
        await Child.start(["/bin/sh"], 80, 24, folder="/nonexistent")


async def test_a_program_that_will_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ptychild, "GRACE_SECONDS", 0.2)
    child = await Child.start(["/bin/sh", "-c", "trap '' HUP TERM; echo on; sleep 99"], 80, 24)
    assert b"on" in await child.read(100)
    assert await child.stop() == -9


async def test_keys_wait_for_a_program_up_to_a_limit() -> None:
    child = await Child.start(["/bin/sh", "-c", "stty raw -echo; echo on; sleep 99"], 80, 24)
    assert b"on" in await child.read(100)
    for _ in range(100):
        child.write(b"x" * 4096)
    assert len(child._waiting) == ptychild.WAITING_BYTES
    await child.stop()


async def test_waiting_keys_arrive_in_order() -> None:
    count = 50_000
    command = f"stty raw -echo; echo on; sleep 0.3; head -c {count} | cksum"
    child = await Child.start(["/bin/sh", "-c", command], 80, 24)
    data = await child.read(100)
    sent = os.urandom(count)
    child.write(sent)
    while chunk := await child.read(100):
        data += chunk
    await child.stop()
    process = await asyncio.create_subprocess_exec(
        "cksum", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(sent)
    assert data.split()[-2:] == out.split()


async def test_the_terminal_is_the_programs_own() -> None:
    async with running("/bin/sh", "-c", "tty; echo controlled > /dev/tty") as stage:
        await stage.until("controlled", "[ended with status 0; Enter starts it again]")
        assert stage.lines()[0].startswith("/dev/pts/")


# -- mouse and clipboard -----------------------------------------------------------------------


class Sent(Stage):
    """Without a program: what it would get is collected."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = ""
        self.guest._send = self._take  # type: ignore[method-assign]

    def _take(self, text: str) -> None:
        self.sent += text

    def taken(self) -> str:
        found, self.sent = self.sent, ""
        return found

    def click(self, button: int, x: int = 20, y: int = 20) -> None:
        self.guest.mouse_move(x, y, 0, 0)
        self.guest.mouse_button(button, True, 1 << (button - 1))
        self.guest.mouse_button(button, False, 0)


def test_the_mouse_goes_to_a_program_that_asks_for_it() -> None:
    stage = Sent()
    stage.click(1)
    assert stage.taken() == ""
    stage.feed(b"\x1b[?1000h")
    stage.click(1)
    assert stage.taken() == '\x1b[M #"\x1b[M##"'
    stage.feed(b"\x1b[?1006h\x1b[?1002h")
    stage.guest.mouse_button(3, True, 4)
    stage.guest.mouse_move(100, 100, 0, 4)
    stage.guest.mouse_move(101, 101, 0, 4)  # the same cell
    stage.guest.mouse_button(3, False, 0)
    stage.guest.mouse_move(50, 50, 0, 0)
    assert stage.taken() == "\x1b[<2;3;2M\x1b[<34;12;7M\x1b[<2;12;7m"
    stage.click(4)
    assert stage.taken() == "\x1b[<64;3;2M"
    stage.feed(b"\x1b[?1003h")
    stage.guest.mouse_motion(900, 90, 0)
    assert stage.taken() == "\x1b[<35;80;7M"


def test_the_wheel_is_cursor_keys_on_the_alternate_screen() -> None:
    stage = Sent()
    stage.feed(b"\x1b[?1049h")
    stage.click(4)
    assert stage.taken() == "\x1b[A" * 3
    stage.feed(b"\x1b[?1h")
    stage.click(5)
    assert stage.taken() == "\x1bOB" * 3
    assert stage.guest.back == 0


def test_what_is_selected_is_copied_and_pasted() -> None:
    stage = Sent()
    peer = AgentPeer(stage.host, stage.guest)
    stage.feed(b"first line\r\nsecond line")
    stage.guest.mouse_move(6 * CELL_WIDTH, 0, 0, 0)
    stage.guest.mouse_button(1, True, 1)
    stage.guest.mouse_move(5 * CELL_WIDTH, CELL_HEIGHT, 0, 1)
    assert np.array_equal(stage.picture(), drawn(stage.guest.rows()).pixels)
    stage.guest.mouse_button(1, False, 0)
    peer.client.connected()
    peer.run()
    peer.client.request("text")
    peer.run()
    assert getattr(peer.events[-1], "data") == b"line\nsecond"  # noqa: B009
    peer.client.clipboards.grab({"text": b"a\r\nb\x1b[201~\n"})
    peer.run()
    stage.click(2)
    assert stage.taken() == "a\rb[201~\r"
    stage.feed(b"\x1b[?2004h")
    stage.press(0x2A, 0xE052)  # shift and insert
    assert stage.taken() == "\x1b[200~a\rb[201~\r\x1b[201~"


def test_looking_back_stays_in_place_while_more_comes() -> None:
    stage = Sent()
    stage.feed(b"".join(b"%d\r\n" % n for n in range(100)))
    stage.guest.look_back(10)
    top = stage.lines()[0]
    stage.feed(b"more\r\n" * 5)
    assert (stage.lines()[0], stage.guest.back) == (top, 15)
    stage.guest.look_back(5000)
    assert stage.lines()[0] == "0"
    assert not any(char.reverse for row in stage.guest.rows() for char in row)


def test_locks_and_keys_that_stay_down() -> None:
    stage = Sent()
    stage.press(0x3A)
    stage.type("a")
    stage.guest.locks(0)
    stage.guest.key(0x1D, True)
    stage.host.clients = ()
    stage.guest.client_disconnected(1)
    stage.type("a")
    assert stage.taken() == "Aa"
    assert stage.host.named("set_locks") == [(4,), (0,)]
