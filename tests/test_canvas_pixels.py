"""Formats of pixels and raw images, against a model that goes pixel by pixel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.canvas.bitmap import BITS, INDEXED, bitmap_pixels
from aiospice.canvas.pixels import (
    A8,
    ARGB,
    BYTES,
    MAX_PIXELS,
    MAX_SIDE,
    RGB555,
    RGB565,
    XRGB,
    Pixels,
    check_size,
)
from aiospice.errors import RemoteProtocolError

FORMATS = (A8, RGB555, RGB565, XRGB, ARGB)
SIDES = st.integers(1, 19)


def pixel(image: Pixels, x: int, y: int) -> int:
    """The pixel as a number, little endian."""
    size = BYTES[image.format]
    at = image.offset + y * image.stride + x * size
    return int.from_bytes(image.data[at : at + size], "little")


def wide(value: int, format: int) -> int:
    """A pixel of some format as 0xAARRGGBB; alpha is 255 for pixels of 16 bit."""
    if format in (XRGB, ARGB):
        return value
    if format == A8:
        return value << 24
    green_bits = 6 if format == RGB565 else 5
    blue, green, red = (
        value & 31,
        value >> 5 & (1 << green_bits) - 1,
        value >> 5 + green_bits & 31,
    )
    green = green << 2 | green >> 4 if format == RGB565 else green << 3 | green >> 2
    return 255 << 24 | (red << 3 | red >> 2) << 16 | green << 8 | (blue << 3 | blue >> 2)


def narrow(value: int, source: int, target: int) -> int:
    """0xAARRGGBB that came from ``source`` as a pixel of ``target``."""
    red, green, blue = value >> 16 & 255, value >> 8 & 255, value & 255
    if target == A8:
        return value >> 24 if source in (ARGB, A8) else 255
    if target == RGB555:
        return red >> 3 << 10 | green >> 3 << 5 | blue >> 3
    if target == RGB565:
        return red >> 3 << 11 | green >> 2 << 5 | blue >> 3
    return value


@st.composite
def images(draw: st.DrawFn, formats: tuple[int, ...] = FORMATS) -> Pixels:
    """Pixels of any format, with room between the rows, in either order."""
    format = draw(st.sampled_from(formats))
    width, height = draw(SIDES), draw(SIDES)
    stride = width * BYTES[format] + draw(st.integers(0, 5))
    data = draw(st.binary(min_size=stride * height, max_size=stride * height))
    if draw(st.booleans()):
        return Pixels(width, height, format, data, 0, stride)
    return Pixels(width, height, format, data, (height - 1) * stride, -stride)


@given(images(), st.sampled_from(FORMATS))
def test_every_pixel_is_converted(image: Pixels, target: int) -> None:
    converted = image.converted(target)
    assert (converted.width, converted.height) == (image.width, image.height)
    assert BYTES[converted.format] == BYTES[target]
    for y in range(image.height):
        for x in range(image.width):
            value = pixel(image, x, y)
            if image.format != target:
                value = narrow(wide(value, image.format), image.format, target)
            assert pixel(converted, x, y) == value


@given(images())
def test_tight_rows_have_the_pixels_and_nothing_else(image: Pixels) -> None:
    copy = image.copy()
    assert copy.is_tight
    assert copy == image
    assert len(copy.data) == image.width * image.height * BYTES[image.format]


def test_pixels_of_another_kind_are_not_equal() -> None:
    assert Pixels(1, 1, XRGB) != Pixels(1, 1, ARGB)
    assert Pixels(1, 1, XRGB) != "pixels"
    assert repr(Pixels(3, 2, RGB565)) == "Pixels(3x2 16_565)"


@pytest.mark.parametrize(
    ("width", "height"),
    [(0, 1), (1, 0), (MAX_SIDE + 1, 1), (1, MAX_SIDE + 1), (MAX_SIDE, MAX_SIDE), (-1, 5)],
)
def test_sizes_out_of_bounds_are_refused(width: int, height: int) -> None:
    with pytest.raises(RemoteProtocolError, match="a surface of"):
        check_size(width, height, "a surface")


def test_the_largest_sizes_are_taken() -> None:
    check_size(MAX_SIDE, MAX_PIXELS // MAX_SIDE, "a surface")
    check_size(1, 1, "a surface")


def bit_field(data: bytes, row: int, place: int, bits: int, *, low_first: bool) -> int:
    """The ``place``-th group of bits of the row that begins at byte ``row``."""
    byte, within = divmod(place * bits, 8)
    shift = within if low_first else 8 - bits - within
    return data[row + byte] >> shift & (1 << bits) - 1


def expected(
    format: int, data: bytes, row: int, x: int, palette: tuple[int, ...], target: int
) -> int:
    """What pixel ``x`` of a bitmap's row is."""
    bits = BITS[format]
    if format not in INDEXED:
        size = bits // 8
        return int.from_bytes(data[row + x * size : row + (x + 1) * size], "little")
    place = bit_field(data, row, x, bits, low_first=format in (1, 3))
    colour = palette[place] if place < len(palette) else 0
    return colour & 0xFFFF if target == RGB555 else colour


@given(st.data())
def test_every_bitmap_format_gives_its_pixels(data: st.DataObject) -> None:
    format = data.draw(st.sampled_from(sorted(BITS)), "format")
    width, height = data.draw(SIDES), data.draw(SIDES)
    stride = (width * BITS[format] + 7) // 8 + data.draw(st.integers(0, 4), "padding")
    content = data.draw(st.binary(min_size=stride * height, max_size=stride * height + 3))
    top_down = data.draw(st.booleans(), "top down")
    colours = st.lists(st.integers(0, 0xFFFFFFFF), max_size=256).map(tuple)
    palette: tuple[int, ...] = data.draw(colours, "palette")
    target = data.draw(st.sampled_from((XRGB, ARGB, RGB555)), "target")
    image = bitmap_pixels(
        format, width, height, stride, content, top_down=top_down, palette=palette, target=target
    )
    assert (image.width, image.height) == (width, height)
    for y in range(height):
        row = (y if top_down else height - 1 - y) * stride
        for x in range(width):
            assert pixel(image, x, y) == expected(format, content, row, x, palette, target)


@given(
    st.integers(0, 12),
    st.sampled_from((0, 1, 7, 300, MAX_SIDE, 1 << 20, 1 << 32)),
    st.sampled_from((0, 1, 7, 300, MAX_SIDE, 1 << 20, 1 << 32)),
    st.sampled_from((0, 1, 4, 1200, 1 << 31)),
    st.integers(0, 5000),
    st.booleans(),
)
def test_a_hostile_bitmap_is_refused_or_small(
    format: int, width: int, height: int, stride: int, size: int, has_palette: bool
) -> None:
    palette = (1, 2) if has_palette else None
    try:
        image = bitmap_pixels(
            format, width, height, stride, bytes(size), top_down=True, palette=palette
        )
    except RemoteProtocolError:
        return
    assert len(image.data) <= 32 * size
    assert len(image.tight()) == width * height * BYTES[image.format]
