"""Draws that are packed by hand are what the declarations pack."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiospice.server import pack
from aiospice.server.region import Box
from aiospice.wire import display, draw
from aiospice.wire.images import ImageType
from aiospice.wire.message import Message

SIDES = st.integers(1, 1000)
PLACES = st.integers(-1000, 1000)
BOXES = st.tuples(PLACES, PLACES, SIDES, SIDES).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)
U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)


def agreed(kind: type[Message], body: bytes) -> Message:
    """The body read as that message, which packs to the same."""
    message = kind.parse(body)
    assert message.body() == body
    return message


@given(U32, BOXES, U32, PLACES, PLACES)
def test_fills_and_moves(surface: int, box: Box, colour: int, x: int, y: int) -> None:
    fill = agreed(draw.DrawFill, pack.draw_fill(surface, box, colour))
    assert isinstance(fill, draw.DrawFill)
    assert fill.brush.body is not None
    assert fill.rop_descriptor == draw.Ropd.OP_PUT
    moved = agreed(display.CopyBits, pack.copy_bits(surface, box, x, y))
    assert isinstance(moved, display.CopyBits)
    assert (moved.src_pos.x, moved.src_pos.y) == (x, y)
    assert (moved.base.box.left, moved.base.box.top) == box[:2]


@given(U32, BOXES, U64, st.integers(0, 7), st.binary(max_size=50))
def test_images(surface: int, box: Box, id: int, flags: int, data: bytes) -> None:
    for type in (ImageType.QUIC, ImageType.LZ_RGB, ImageType.JPEG, ImageType.LZ4):
        body = pack.draw_copy(surface, box, id, type, flags, data) + data
        copy = agreed(draw.DrawCopy, body)
        assert isinstance(copy, draw.DrawCopy)
        assert copy.src_bitmap is not None
        head = copy.src_bitmap.descriptor
        assert (head.id, head.type, head.flags) == (id, type, flags)
        assert (head.width, head.height) == (copy.src_area.width, copy.src_area.height)
    deflated = pack.draw_copy(surface, box, id, ImageType.ZLIB_GLZ_RGB, flags, data, inflated=99)
    agreed(draw.DrawCopy, deflated + data)
    agreed(draw.DrawCopy, pack.draw_cached(surface, box, id))
    agreed(draw.DrawCopy, pack.draw_surface(surface, box, 7, 1, 2, (30, 40)))


@given(st.integers(1, 8), st.integers(1, 8), st.booleans())
def test_raw_images(width: int, height: int, alpha: bool) -> None:
    box = (3, 4, 3 + width, 4 + height)
    data = bytes(4 * width * height)
    head = pack.draw_copy(0, box, 1, ImageType.BITMAP, 0, data, alpha=alpha)
    agreed(draw.DrawCopy, head + data)
