"""Key names and text as scancodes, compared with the library that X11 and Wayland type with."""

from __future__ import annotations

import ctypes
import ctypes.util
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.client import keyboard
from aiospice.client.keyboard import (
    EXTENDED,
    KEYS,
    LAYOUT_NAMES,
    KeyEvent,
    press_code,
    press_keys,
    release_code,
    scancodes,
    type_text,
)
from aiospice.errors import LocalError, MissingProgram

SHIFT, ALTGR, CTRL, ALT = 0x2A, 0x138, 0x1D, 0x38


def typeable(layout: str) -> str:
    """Every character that is on a key of the layout."""
    table = keyboard._table(layout)
    return "".join(char for char in table if not unicodedata.combining(char) and char != "\r")


def bytes_of(event: KeyEvent) -> bytes:
    """What a server hands to its keyboard for an event: the bytes up to the first zero."""
    return event.code.to_bytes(4, "little").split(b"\0")[0]


def test_a_release_has_the_top_bit_of_its_last_code_set() -> None:
    assert (press_code(0x1E), release_code(0x1E)) == (0x1E, 0x9E)
    assert (press_code(EXTENDED | 0x48), release_code(EXTENDED | 0x48)) == (0x48E0, 0xC8E0)


def test_keys_are_pressed_in_order_and_let_go_in_reverse() -> None:
    assert [bytes_of(event).hex() for event in press_keys("ctrl-alt-f2")] == [
        *("1d", "38", "3c"),
        *("bc", "b8", "9d"),
    ]
    assert [bytes_of(event).hex() for event in press_keys("altgr-up")] == [
        *("e038", "e048"),
        *("e0c8", "e0b8"),
    ]


@pytest.mark.parametrize(
    ("keys", "layout", "codes"),
    [
        ("enter", "us", (0x1C,)),
        ("Ctrl-Alt-Delete", "us", (CTRL, ALT, EXTENDED | 0x53)),
        ("a", "us", (0x1E,)),
        ("shift-a", "us", (SHIFT, 0x1E)),
        ("A", "us", (SHIFT, 0x1E)),
        ("ctrl-C", "us", (CTRL, 0x2E)),
        ("a", "fr", (0x10,)),
        ("ctrl-z", "de", (CTRL, 0x15)),
        ("altgr-q", "de", (ALTGR, 0x10)),
        ("ctrl-+", "us", (CTRL, SHIFT, 0x0D)),
        ("ctrl-ö", "de", (CTRL, 0x27)),
        ("kp-5", "us", (0x4C,)),
        ("ctrl-kp-minus", "us", (CTRL, 0x4A)),
        ("menu", "us", (EXTENDED | 0x5D,)),
        ("print", "us", (EXTENDED | 0x37,)),
        ("pause", "us", (EXTENDED | 0x46,)),
        ("-", "us", (0x0C,)),
        ("ctrl--", "us", (CTRL, 0x0C)),
        ("ctrl--", "de", (CTRL, 0x35)),
        ("ctrl-minus", "us", (CTRL, 0x0C)),
        ("ctrl-_", "us", (CTRL, SHIFT, 0x0C)),
    ],
)
def test_a_combination_is_the_keys_that_it_names(
    keys: str, layout: str, codes: tuple[int, ...]
) -> None:
    assert scancodes(keys, layout) == codes


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("contrl-a", "control"),
        ("zzz", "for example"),
        ("", "empty"),
        ("ctrl-", "empty"),
        ("kp-77", "kp-77"),
        ("ctrl-ä", "isn't one key of the layout us"),
        ("ctrl-\ud800", "isn't one key"),
    ],
)
def test_what_is_no_key_is_named(keys: str, says: str) -> None:
    with pytest.raises(LocalError, match=says):
        scancodes(keys)


@given(st.text(max_size=12))
def test_any_combination_is_keys_or_a_local_error(keys: str) -> None:
    try:
        events = press_keys(keys)
    except LocalError:
        return
    assert sorted(e.code for e in events if e.pressed) == sorted(
        release_code_of(e) for e in events if not e.pressed
    )


def release_code_of(event: KeyEvent) -> int:
    """The press that a release belongs to."""
    return event.code & ~(0x8000 if event.code > 0xFF else 0x80)


@pytest.mark.parametrize("name", KEYS)
def test_every_named_key_can_be_pressed(name: str) -> None:
    down, up = press_keys(name)
    assert down.pressed
    assert not up.pressed
    assert release_code_of(up) == down.code == press_code(KEYS[name])


def test_a_modifier_stays_down_between_characters_that_share_it() -> None:
    assert [bytes_of(event).hex() for event in type_text("HI y")] == [
        *("2a", "23", "a3", "17", "97", "aa"),
        *("39", "b9", "15", "95"),
    ]


def test_line_ends_are_one_enter_each() -> None:
    assert type_text("a\r\nb\nc\r") == type_text("a\nb\nc\n")
    assert [e.code for e in type_text("\n\t\x1b\b") if e.pressed] == [0x1C, 0x0F, 0x01, 0x0E]


def test_an_accent_is_its_dead_key_and_the_letter() -> None:
    assert [e.code for e in type_text("é", "de") if e.pressed] == [0x0D, 0x12]
    assert [e.code for e in type_text("^", "de") if e.pressed] == [0x29, 0x39]
    assert type_text("e\N{COMBINING ACUTE ACCENT}", "de") == type_text("é", "de")


@pytest.mark.parametrize(
    ("char", "layout", "says"),
    [
        ("ä", "us", r"'ä' \(LATIN SMALL LETTER A WITH DIAERESIS\).*, de, "),
        ("漢", "us", "no layout here can"),
        ("\x00", "us", "U\\+0000"),
        ("\ud800", "us", "U\\+D800"),
        ("\N{COMBINING ACUTE ACCENT}", "de", "COMBINING ACUTE"),
    ],
)
def test_a_character_that_no_key_makes_is_named_with_layouts_that_have_it(
    char: str, layout: str, says: str
) -> None:
    with pytest.raises(LocalError, match=says):
        type_text(f"123{char}", layout)


def test_an_unknown_layout_is_answered_with_those_there_are() -> None:
    with pytest.raises(LocalError, match="us-intl, gb, de"):
        type_text("a", "klingon")


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_every_layout_types_ascii(layout: str) -> None:
    type_text("".join(map(chr, range(0x20, 0x7F))), layout)


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
@given(data=st.data())
def test_after_typing_no_key_is_down(layout: str, data: st.DataObject) -> None:
    text = data.draw(st.text(st.sampled_from(typeable(layout))))
    down: list[int] = []
    for event in type_text(text, layout):
        if event.pressed:
            assert event.code not in down
            down.append(event.code)
        else:
            down.remove(release_code_of(event))
    assert down == []


class RuleNames(ctypes.Structure):
    """``struct xkb_rule_names`` (xkbcommon.h)."""

    _fields_ = [
        (name, ctypes.c_char_p) for name in ("rules", "model", "layout", "variant", "options")
    ]


class Xkb:
    """libxkbcommon: types scancodes and says which text comes out."""

    def __init__(self, layout: str) -> None:
        path = ctypes.util.find_library("xkbcommon")
        if path is None:
            raise MissingProgram("libxkbcommon isn't installed: apt install libxkbcommon0")
        self.library = library = ctypes.CDLL(path)
        for name in (
            *("xkb_context_new", "xkb_keymap_new_from_names", "xkb_state_new"),
            *("xkb_compose_table_new_from_locale", "xkb_compose_state_new"),
        ):
            getattr(library, name).restype = ctypes.c_void_p
        context = ctypes.c_void_p(library.xkb_context_new(0))
        base, _, variant = layout.partition("-")
        names = RuleNames(b"evdev", b"pc105", base.encode(), variant.encode(), b"")
        keymap = library.xkb_keymap_new_from_names(context, ctypes.byref(names), 0)
        assert keymap is not None
        self.state = ctypes.c_void_p(library.xkb_state_new(ctypes.c_void_p(keymap)))
        table = library.xkb_compose_table_new_from_locale(context, b"en_US.UTF-8", 0)
        if table is None:
            raise MissingProgram("the compose tables aren't installed: apt install libx11-data")
        self.compose = ctypes.c_void_p(library.xkb_compose_state_new(ctypes.c_void_p(table), 0))

    def type(self, events: list[KeyEvent]) -> str:
        """Return the text that the events type."""
        text = ""
        for event in events:
            code = event.code if event.pressed else release_code_of(event)
            linux = {0x38E0: 100}.get(code, code)  # KEY_RIGHTALT; the others are the same
            if event.pressed:
                text += self.feed(self.library.xkb_state_key_get_one_sym(self.state, linux + 8))
            self.library.xkb_state_update_key(self.state, linux + 8, int(event.pressed))
        return text

    def feed(self, symbol: int) -> str:
        """Return the text that a key symbol completes."""
        composing, composed = 1, 2
        if not self.library.xkb_compose_state_feed(self.compose, symbol):
            return ""  # a modifier
        status = self.library.xkb_compose_state_get_status(self.compose)
        if status == composing:
            return ""
        buffer: Any = ctypes.create_string_buffer(64)
        if status == composed:
            self.library.xkb_compose_state_get_utf8(self.compose, buffer, 64)
        else:
            self.library.xkb_keysym_to_utf8(symbol, buffer, 64)
        return str(buffer.value.decode())


@pytest.mark.peers
@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_xkbcommon_reads_the_text_that_was_typed(layout: str) -> None:
    accents = "áàâäãéèêëíìîïñóòôöõúùûüÁÀÂÄÃÉÈÊËÍÌÎÏÑÓÒÔÖÕÚÙÛÜ"
    table = keyboard._table(layout)
    text = "".join(c for c in typeable(layout) if c not in "\n\t\b\x1b\x7f")
    text += "".join(c for c in accents if c in table or keyboard._composed(c, table))
    assert Xkb(layout).type(type_text(text, layout)) == text
