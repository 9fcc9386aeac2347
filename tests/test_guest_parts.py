"""What guests are made of: text, keys, rectangles, pictures and sound, files that are dropped."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.client import keyboard as client_keyboard
from aiospice.errors import LocalError
from aiospice.guests import font, keys, scenery
from aiospice.guests.filedrop import NAME_BYTES, DropLimits, FileDrop, safe_name
from aiospice.guests.rects import Rect, subtract, without
from aiospice.proof import fontmaker
from aiospice.server.config import ServerConfig
from aiospice.server.core import ServerCore
from aiospice.server.guest import Host
from aiospice.sim.chance import Chance
from aiospice.sim.crypto import SimCrypto

# -- text --------------------------------------------------------------------------------------


def rows_of(text: str, bold: bool = False) -> list[str]:
    return ["".join(" #"[ink] for ink in row) for row in font.text_mask(text, bold).astype(int)]


def test_letters_look_like_letters() -> None:
    assert [row.rstrip() for row in rows_of("L")[2:12]] == [" #"] * 9 + [" #######"]
    assert [row.rstrip() for row in rows_of("L", bold=True)[2:4]] == [" ##"] * 2


def test_boxes_join_across_cells() -> None:
    across = font.text_mask("──")
    assert across.any(axis=0).all()
    down = font.text_mask("│")
    assert down.any(axis=1).all()
    assert font.text_mask("█").all()


def test_a_character_without_a_glyph_is_a_box_and_nothing_is_a_space() -> None:
    assert rows_of("\u6f22") == rows_of("\ue000")
    assert np.count_nonzero(font.text_mask("\u6f22")) == 32
    assert font.text_mask("").shape == (15, 0)
    assert not font.masks()[font.glyph("")].any()


@given(st.integers(-40, 60), st.integers(-40, 60))
def test_text_is_cut_off_at_edges(x: int, y: int) -> None:
    pixels = np.zeros((24, 40, 4), np.uint8)
    wide = np.zeros((164, 180, 4), np.uint8)
    font.draw_text(pixels, x, y, "Abc", 0x123456)
    font.draw_text(wide, x + 60, y + 60, "Abc", 0x123456)
    assert np.array_equal(pixels, wide[60:84, 60:100])


@pytest.mark.peers
def test_the_font_is_that_of_x() -> None:
    both = [fontmaker.glyphs(fontmaker.FOLDER / f"{name}.pcf.gz") for name in ("9x15", "9x15B")]
    assert fontmaker.pack(*both) == fontmaker.TARGET.read_bytes()


def test_no_other_file_is_taken_for_a_font(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "x.pcf.gz"
    path.write_bytes(gzip.compress(b"nothing" * 9))
    with pytest.raises(LocalError, match="PCF"):
        fontmaker.glyphs(path)


# -- keys --------------------------------------------------------------------------------------


def test_a_scancode_is_read_in_both_orders() -> None:
    assert keys.scancode(0x1C) == 0x1C
    assert keys.scancode(0xE048) == keys.scancode(0x48E0) == 0x148
    assert keys.scancode(0x1D45E1) == keys.scancode(0xE0) & 0x100 == 0


def test_what_our_client_types_is_what_is_read() -> None:
    text = "Hello, World! 09 ~`\t{}|\\<>?\"'\n"
    board, found = keys.Keyboard(), ""
    for pressed, code in client_keyboard.type_text(text):
        key = board.key(code & (0x7F if code < 0x100 else 0x7FFF), pressed)
        found += board.char(key) if pressed else ""
    assert found == text
    assert not board.down


def test_caps_lock_turns_letters_and_only_them() -> None:
    board = keys.Keyboard()
    for pressed in (True, True, False):  # held down, it repeats
        board.key(0x3A, pressed)
    assert board.locks == 4
    assert (board.char(0x1E), board.char(0x02)) == ("A", "1")
    board.key(0x36, True)
    assert (board.char(0x1E), board.char(0x02)) == ("a", "!")
    assert board.release_all() == [0x36]
    assert not board.modifiers.shift


def test_the_number_pad_types_with_num_lock() -> None:
    board = keys.Keyboard()
    assert board.char(0x48) == ""
    assert keys.terminal_keys(board, 0x48) == "\x1b[A"
    board.key(0x45, True)
    assert (board.char(0x48), board.char(0x148)) == ("8", "")


@pytest.mark.parametrize(
    ("held", "code", "sent"),
    [
        ((), 0x1C, "\r"),
        ((), 0x0E, "\x7f"),
        ((0x1D,), 0x2E, "\x03"),
        ((0x1D,), 0x39, "\0"),
        ((0x1D, 0x2A), 0x0C, "\x1f"),
        ((0x38,), 0x21, "\x1bf"),
        ((0x2A,), 0x0F, "\x1b[Z"),
        ((), 0x148, "\x1b[A"),
        ((0x1D,), 0x14D, "\x1b[1;5C"),
        ((), 0x3B, "\x1bOP"),
        ((0x2A,), 0x3B, "\x1b[1;2P"),
        ((), 0x58, "\x1b[24~"),
        ((), 0x153, "\x1b[3~"),
        ((0x2A,), 0x149, "\x1b[5;2~"),
        ((0x2A,), 0x2A, ""),
        ((), 0x15B, ""),
    ],
)
def test_keys_are_sent_as_xterm_does(held: tuple[int, ...], code: int, sent: str) -> None:
    board = keys.Keyboard()
    for key in held:
        board.key(key, True)
    assert keys.terminal_keys(board, code) == sent
    assert pickle.loads(pickle.dumps(board)).down == board.down


def test_application_cursor_keys() -> None:
    assert keys.terminal_keys(keys.Keyboard(), 0x148, application=True) == "\x1bOA"


# -- rectangles --------------------------------------------------------------------------------

RECTS = st.builds(Rect, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))


def covered(rects: list[Rect]) -> list[list[int]]:
    area = [[0] * 20 for _ in range(20)]
    for rect in rects:
        for y in range(rect.y, rect.bottom):
            for x in range(rect.x, rect.right):
                area[y][x] += 1
    return area


@given(RECTS, st.lists(RECTS, max_size=4))
def test_what_is_left_is_what_no_hole_covers_each_pixel_once(rect: Rect, holes: list[Rect]) -> None:
    rest = [rect]
    for hole in holes:
        rest = without(rest, hole)
    found = covered([part for part in rest if not part.empty])
    for y in range(20):
        for x in range(20):
            wanted = rect.holds(x, y) and not any(hole.holds(x, y) for hole in holes)
            assert found[y][x] == wanted


def test_a_hole_elsewhere_leaves_all() -> None:
    rect = Rect(0, 0, 4, 4)
    assert subtract(rect, Rect(4, 0, 4, 4)) == [rect]
    assert subtract(Rect(0, 0, 0, 4), rect) == []
    assert rect.covers(Rect(1, 1, 3, 3))
    assert not rect.covers(Rect(1, 1, 4, 3))


# -- pictures and sound ------------------------------------------------------------------------


def test_a_seed_is_a_landscape_that_moves() -> None:
    one, same, other = (scenery.Landscape(64, 48, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.frame(5), same.frame(5))
    assert not np.array_equal(one.frame(5), other.frame(5))
    frames = [one.frame(n) for n in (0, 1, 191, 192)]
    assert frames[0].shape == (48, 64, 4)
    assert np.mean(frames[0] != frames[1]) > 0.3
    assert np.array_equal(frames[3], one.frame(3 * 64))
    assert len(np.unique(frames[0].reshape(-1, 4), axis=0)) > 500


def test_the_tone_goes_on_where_it_was() -> None:
    whole = scenery.tone(0, 4800)
    assert scenery.tone(0, 1000) + scenery.tone(1000, 3800) == whole
    wave = np.frombuffer(whole, "<i2").reshape(-1, 2)
    assert np.array_equal(wave[:, 0], wave[:, 1])
    assert int(abs(wave).max()) == 8192
    crossings = np.count_nonzero(np.diff(np.signbit(wave[:, 0].astype(int))))
    assert 87 <= crossings <= 88  # 44 periods in a tenth of a second


def test_pointers_have_alpha_multiplied_in() -> None:
    for shape in (scenery.arrow(), scenery.hand()):
        assert (shape[..., :3] <= shape[..., 3:]).all()
        assert {0, 255} < set(np.unique(shape[..., 3]).tolist()) | {1}
    assert scenery.arrow()[0, 0].tolist() == [0, 0, 0, 255]
    assert scenery.hand().shape == (17, 17, 4)


# -- dropped files -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\x\\b.doc", "b.doc"),
        ("..", "file"),
        (".bashrc", "bashrc"),
        ("", "file"),
        ("a\0b\n\x1b[31m.txt", "a_b__[31m.txt"),
        ("con.txt", "_con.txt"),
        ("dir/", "file"),
        ("x. ", "x"),
        ("é" * 300 + ".tar", "é" * 98 + ".tar"),
        ("a." + "b" * 300, "a." + "b" * 20),
        ("\ud800", "_"),
    ],
)
def test_a_name_is_one_of_a_file_in_the_folder(wish: str, name: str) -> None:
    assert safe_name(wish) == name


@given(st.text())
def test_no_name_leaves_the_folder(wish: str) -> None:
    name = safe_name(wish)
    assert name
    assert name == os.path.basename(name)
    assert not name.startswith(".")
    assert len(name.encode()) <= NAME_BYTES
    assert name.isprintable()


def put(drop: FileDrop, name: str, data: bytes) -> str:
    incoming = drop.begin(name, len(data))
    incoming.write(data[:3])
    incoming.write(data[3:])
    return incoming.finish().name


def test_files_come_into_the_folder_and_replace_none(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "drop"
    drop = FileDrop(str(folder))
    assert put(drop, "a.txt", b"first") == "a.txt"
    assert put(drop, "../a.txt", b"second") == "a (2).txt"
    assert put(drop, "empty", b"") == "empty"
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found == {"a.txt": b"first", "a (2).txt": b"second", "empty": b""}
    assert (folder / "a.txt").stat().st_mode & 0o777 == 0o600
    drop.close()


def test_a_link_in_the_folder_leads_nowhere(tmp_path: Path) -> None:
    folder, outside = tmp_path / "drop", tmp_path / "outside"
    folder.mkdir()
    (folder / "a").symlink_to(outside)
    drop = FileDrop(str(folder))
    assert put(drop, "a", b"data") == "a (2)"
    assert not outside.exists()


def test_a_folder_that_is_replaced_meanwhile_gets_nothing(tmp_path: Path) -> None:
    folder, moved, other = (tmp_path / name for name in ("drop", "moved", "other"))
    other.mkdir()
    drop = FileDrop(str(folder))
    incoming = drop.begin("a", 4)
    incoming.write(b"data")
    folder.rename(moved)
    folder.symlink_to(other)
    incoming.finish()
    assert list(other.iterdir()) == []
    assert (moved / "a").read_bytes() == b"data"


def test_what_is_cancelled_or_cut_short_leaves_nothing(tmp_path: Path) -> None:
    drop = FileDrop(str(tmp_path))
    drop.begin("a", 4).cancel()
    short = drop.begin("b", 4)
    short.write(b"dat")
    with pytest.raises(LocalError, match="3 of 4"):
        short.finish()
    long = drop.begin("c", 4)
    with pytest.raises(LocalError, match="more than the 4"):
        long.write(b"12345")
    drop.close()
    assert list(tmp_path.iterdir()) == []
    assert (drop.total, drop.files) == (0, [])


def test_limits_are_kept(tmp_path: Path) -> None:
    drop = FileDrop(None, DropLimits(file_bytes=10, total_bytes=15, files=3, at_once=2))
    assert drop.free == 10
    with pytest.raises(LocalError, match="10 bytes, not 11"):
        drop.begin("a", 11)
    drop.begin("a", 8)
    with pytest.raises(LocalError, match="together"):
        drop.begin("b", 8)
    assert drop.free == 7
    drop.begin("b", 1)
    with pytest.raises(LocalError, match="on their way"):
        drop.begin("c", 1)
    drop.close()
    for name in "abc":
        put(drop, name, b"x")
    with pytest.raises(LocalError, match="3 files"):
        drop.begin("d", 0)
    assert drop.contents == {"a": b"x", "b": b"x", "c": b"x"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalError, match=r"file.*(directory|exists)"):
        FileDrop(str(tmp_path / "file")).begin("a", 1)


def test_the_page_tells_the_limits_of_the_code() -> None:
    from aiospice.guests import echo, filedrop, terminal_screen

    text = " ".join((fontmaker.TARGET.parents[4] / "docs" / "guests.md").read_text().split())
    limits, memory = filedrop.DropLimits(), filedrop.IN_MEMORY
    assert f"up to {limits.file_bytes >> 20} MiB each, {limits.total_bytes >> 30} GiB" in text
    assert f"in memory ({memory.file_bytes >> 20} and {memory.total_bytes >> 20} MiB)" in text
    assert f"{terminal_screen.HISTORY} lines that have scrolled off" in text
    assert f"holds {echo.HELD_BYTES >> 10} KiB of it" in text


def test_a_displays_pixels_are_the_same_memory_until_it_is_resized() -> None:
    host = Host(ServerCore(ServerConfig(), SimCrypto(Chance(1))), lambda: None)
    display = host.display(0)
    assert display.pixels.shape == (0, 0, 4)
    display.resize(8, 6)
    pixels = display.pixels
    assert display.pixels is pixels
    pixels[2, 3] = (1, 2, 3, 0)
    display.resize(8, 6)
    assert display.pixels is not pixels
    assert not display.pixels.any()
