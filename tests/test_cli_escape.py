"""No text of a peer may steer a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.cli.escape import escape, escape_stream

ANY = st.characters(exclude_categories=())  # surrogates too
#: What steers: controls, formats (bidirectional marks among them), surrogates, line ends.
STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text(ANY))
def test_nothing_that_steers_is_left(text: str) -> None:
    escaped = escape(text)
    assert not {unicodedata.category(char) for char in escaped} & STEERING
    assert escaped.isprintable()
    escaped.encode()


@given(st.text(ANY))
def test_a_stream_keeps_line_ends_tabs_backspaces_and_bells_only(text: str) -> None:
    left = {c for c in escape_stream(text) if unicodedata.category(c) in STEERING}
    assert left == set(text) & set("\n\r\t\b\a")


@given(st.text(st.characters(categories=("L", "N", "P", "S"))))
def test_plain_text_is_left_alone(text: str) -> None:
    assert escape(text) == escape_stream(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("\x9b31m\x7f\x00", "\\x9b31m\\x7f\\x00"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}txt.exe", "\\u202etxt.exe"),
        ("\N{POP DIRECTIONAL ISOLATE}\N{ARABIC LETTER MARK}", "\\u2069\\u061c"),
        ("\N{LINE SEPARATOR}\N{ZERO WIDTH NO-BREAK SPACE}", "\\u2028\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("grün 漢 😀 e\u0301", "grün 漢 😀 e\u0301"),
    ],
)
def test_what_steers_is_shown_by_number(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_a_stream_has_no_escape_sequences() -> None:
    assert escape_stream("\x1b[2Jls\r\n\x9c") == "\\x1b[2Jls\r\n\\x9c"
