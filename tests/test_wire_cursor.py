"""The cursor channel, by hand-made bytes."""

from __future__ import annotations

from struct import pack

import pytest

from aiospice.errors import DecodeError, LocalError
from aiospice.wire.cursor import (
    Cursor,
    CursorFlags,
    CursorHeader,
    CursorType,
    Init,
    Move,
    Set,
    Trail,
)
from aiospice.wire.registry import find
from aiospice.wire.shapes import Point16

HEADER = CursorHeader(
    unique=0x1122334455667788, type=CursorType.ALPHA, width=2, height=1, hot_spot_x=1, hot_spot_y=0
)
HEADER_BYTES = pack("<QBHHHH", 0x1122334455667788, 0, 2, 1, 1, 0)


def test_without_a_cursor_there_is_no_header() -> None:
    body = pack("<hhHHBH", -3, 700, 0, 0, 1, 1)
    message = Init(
        position=Point16(x=-3, y=700),
        trail_length=0,
        trail_frequency=0,
        visible=1,
        cursor=Cursor(flags=CursorFlags.NONE, header=None, data=b""),
    )
    assert Init.parse(body) == message
    assert message.body() == body


def test_a_cursor_has_a_header_and_the_rest_is_its_data() -> None:
    body = pack("<hhBH", 5, 6, 1, 2) + HEADER_BYTES + b"pixels!!"
    message = Set(
        position=Point16(x=5, y=6),
        visible=1,
        cursor=Cursor(flags=CursorFlags.CACHE_ME, header=HEADER, data=b"pixels!!"),
    )
    assert Set.parse(body) == message
    assert message.body() == body


def test_a_cached_cursor_has_a_header_and_no_data() -> None:
    body = pack("<hhBH", 0, 0, 0, 4) + HEADER_BYTES
    cursor = Set.parse(body).cursor
    assert cursor.header == HEADER
    assert cursor.data == b""
    assert "flags=FROM_CACHE" in repr(cursor)


def test_a_header_that_is_cut_names_its_field() -> None:
    with pytest.raises(DecodeError) as caught:
        Set.parse(pack("<hhBH", 0, 0, 0, 4) + HEADER_BYTES[:-1])
    assert caught.value.field == "cursor.header.hot_spot_y"
    assert caught.value.offset == 22


def test_a_header_beside_the_flag_none_is_not_written() -> None:
    with pytest.raises(LocalError, match="leave no room"):
        Set(
            position=Point16(x=0, y=0),
            visible=0,
            cursor=Cursor(flags=CursorFlags.NONE, header=HEADER, data=b""),
        ).body()


def test_move_and_trail_are_two_numbers() -> None:
    assert Move.parse(pack("<hh", -1, 2)) == Move(position=Point16(x=-1, y=2))
    assert Trail.parse(pack("<HH", 3, 4)) == Trail(length=3, frequency=4)


def test_the_channel_has_eight_messages_from_the_server_and_none_from_the_client() -> None:
    names = [getattr(find(4, "server", number), "__name__", "") for number in range(101, 109)]
    assert names == ["Init", "Reset", "Set", "Move", "Hide", "Trail", "InvalOne", "InvalAll"]
    assert not any(find(4, "client", number) for number in range(101, 330))
