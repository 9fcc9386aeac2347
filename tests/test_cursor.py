"""The pointer: shapes, places and what is kept."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.channels.events import Event
from aiospice.client import cursor as module
from aiospice.client.cursor import (
    CursorChanged,
    CursorHidden,
    CursorMissing,
    CursorMoved,
    CursorTracker,
    Shape,
)
from aiospice.errors import DecodeError, RemoteProtocolError
from aiospice.wire import cursor as wire
from aiospice.wire.message import Message
from aiospice.wire.registry import find
from aiospice.wire.shapes import Point16

WHITE, BLACK, CLEAR = b"\xff\xff\xff\xff", b"\0\0\0\xff", b"\0\0\0\0"


def header(kind: int, width: int, height: int, unique: int = 1) -> wire.CursorHeader:
    return wire.CursorHeader(
        unique=unique, type=kind, width=width, height=height, hot_spot_x=1, hot_spot_y=9
    )


def shape(
    kind: int, width: int, height: int, data: bytes, *, flags: int = 0, unique: int = 1
) -> wire.Set:
    cursor = wire.Cursor(flags=flags, header=header(kind, width, height, unique), data=data)
    return wire.Set(position=Point16(x=3, y=-4), visible=1, cursor=cursor)


def apply(tracker: CursorTracker, message: Message) -> list[Event]:
    return tracker.apply(type(message).parse(message.body()))


def decoded(kind: int, width: int, height: int, data: bytes) -> bytes | None:
    return Shape(header(kind, width, height), data).bgra()


def test_a_shape_is_set_and_shown() -> None:
    tracker = CursorTracker(2)
    data = bytes(range(16))
    assert apply(tracker, shape(0, 2, 2, data + b"rest")) == [
        CursorChanged(display=2, width=2, height=2, hot_x=1, hot_y=2, type="ALPHA", visible=True)
    ]
    assert tracker.position == (3, -4)
    assert tracker.shape is not None
    assert tracker.shape.bgra() == data


def test_the_pointer_moves_hides_and_comes_back() -> None:
    tracker = CursorTracker(0)
    apply(tracker, shape(0, 1, 1, b"abcd"))
    assert apply(tracker, wire.Hide()) == [CursorHidden(display=0)]
    assert not tracker.visible
    move = wire.Move(position=Point16(x=7, y=8))
    assert apply(tracker, move) == [CursorMoved(display=0, x=7, y=8)]
    assert (tracker.visible, tracker.position) == (True, (7, 8))
    apply(tracker, wire.Trail(length=3, frequency=5))
    assert tracker.trail == (3, 5)
    nothing = wire.Cursor(flags=1, header=None, data=b"")
    gone = wire.Set(position=Point16(x=0, y=0), visible=1, cursor=nothing)
    assert apply(tracker, gone) == [CursorHidden(display=0)]
    assert apply(tracker, wire.Reset()) == [CursorHidden(display=0)]
    assert tracker.shape is None


def test_kept_shapes_come_back_until_dropped() -> None:
    tracker = CursorTracker(0)
    apply(tracker, shape(0, 1, 1, b"abcd", flags=2, unique=5))
    apply(tracker, shape(0, 1, 1, b"efgh", flags=2, unique=6))
    again = shape(0, 0, 0, b"", flags=4, unique=5)
    apply(tracker, again)
    assert tracker.shape is not None
    assert tracker.shape.bgra() == b"abcd"
    apply(tracker, wire.InvalOne(id=5))
    assert apply(tracker, again) == [CursorMissing(display=0, unique=5), CursorHidden(display=0)]
    assert len(tracker) == 1
    apply(tracker, wire.InvalAll())
    assert len(tracker) == 0
    apply(tracker, shape(0, 1, 1, b"abcd", flags=2))
    start = wire.Init(
        position=Point16(x=1, y=2),
        trail_length=0,
        trail_frequency=0,
        visible=0,
        cursor=wire.Cursor(flags=0, header=header(0, 1, 1), data=b"abcd"),
    )
    (event,) = apply(tracker, start)
    assert isinstance(event, CursorChanged)
    assert not event.visible
    assert len(tracker) == 0
    tracker.reset()
    assert tracker.shape is None


def test_mono_is_black_white_or_clear() -> None:
    pixels = decoded(1, 4, 1, bytes([0b11000000, 0b10100000]))
    assert pixels == WHITE + CLEAR + WHITE + BLACK


def test_colours_are_opaque_where_the_mask_is_0() -> None:
    red, white = b"\0\0\xff\0", b"\xff\xff\xff\0"
    pixels = decoded(6, 2, 2, red + red + white + white + bytes([0b01010000]))
    assert pixels == b"\0\0\xff\xff" + red + WHITE + b"\x50\x50\x50\x30"
    pixels = decoded(4, 2, 1, b"\0\x7c\xff\x7f" + bytes([0b01000000]))
    assert pixels == b"\0\0\xf8\xff" + b"\x30\x30\x30\xc0"
    palette = b"".join(bytes([n, 0, 0, 0]) for n in range(16))
    pixels = decoded(2, 3, 1, b"\x1f\x20" + palette + bytes([0b01000000]))
    assert pixels == b"\1\0\0\xff" + b"\x0f\0\0\0" + b"\2\0\0\xff"


def test_types_that_spice_gtk_lacks_are_read_like_the_others() -> None:
    palette = b"".join([(0x010203 * n & 0xFFFFFF).to_bytes(4, "little") for n in range(256)])
    eight = bytes((0, 1, 2, 255)) + palette + b"\x40"
    assert decoded(3, 4, 1, eight) == (
        b"\0\0\0\xff" + b"\3\2\1\0" + b"\6\4\2\xff" + palette[-4:-1] + b"\xff"
    )
    many = b"\1\2\3\xff\xff\xff" + b"\x40"
    assert decoded(5, 2, 1, many) == b"\1\2\3\xff" + (0xC0303030).to_bytes(4, "little")
    assert decoded(3, 4, 4, b"12") is None
    assert decoded(5, 4, 4, b"12") is None


def test_types_that_are_not_known_are_kept_as_they_came() -> None:
    assert decoded(9, 4, 4, b"12") is None
    assert Shape(header(77, 1, 1), b"").type_name == "77"


@pytest.mark.parametrize("kind", [0, 1, 2, 4, 6])
def test_a_shape_of_too_few_bytes_is_refused(kind: int) -> None:
    with pytest.raises(RemoteProtocolError, match="cursor:0, Set: a pointer of 16x16"):
        apply(CursorTracker(0), shape(kind, 16, 16, b"x" * 30))


def test_too_large_or_too_many_shapes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = CursorTracker(0)
    with pytest.raises(RemoteProtocolError, match="limit is 512"):
        apply(tracker, shape(0, 513, 1, bytes(4 * 513)))
    monkeypatch.setattr(module, "MAX_SHAPES", 2)
    for unique in (1, 2, 2):
        apply(tracker, shape(0, 1, 1, b"abcd", flags=2, unique=unique))
    with pytest.raises(RemoteProtocolError, match="2 pointers of 8 bytes"):
        apply(tracker, shape(0, 1, 1, b"abcd", flags=2, unique=3))


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(CursorTracker.handlers)), st.binary(max_size=150)),
        max_size=12,
    )
)
def test_bytes_from_anyone_raise_documented_errors_only(script: list[tuple[int, bytes]]) -> None:
    tracker = CursorTracker(0)
    for number, body in script:
        kind = find(4, "server", number)
        assert kind is not None
        try:
            tracker = pickle.loads(pickle.dumps(tracker))
            tracker.apply(kind.parse(body))
        except (DecodeError, RemoteProtocolError):
            break
        if tracker.shape is not None:
            pixels = tracker.shape.bgra()
            assert pixels is None or len(pixels) == 4 * tracker.shape.width * tracker.shape.height
