"""Pictures written here, read by a decoder of another make."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.aio.png import _filter, _subtract, bgrx_to_rgb, png, ppm
from aiospice.errors import LocalError


def read_png(data: bytes) -> tuple[int, int, bytes]:
    """Decode by the specification, slowly; every checksum is checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, []
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size)[0] == zlib.crc32(kind + body)
        chunks.append((kind, body))
        at += 12 + size
    assert [chunks[0][0], chunks[-1]] == [b"IHDR", (b"IEND", b"")]
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert rest == [8, 2, 0, 0, 0]
    rows = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    assert len(rows) == height * (3 * width + 1)
    above, out = bytes(3 * width), bytearray()
    for y in range(height):
        kind, *row = rows[y * (3 * width + 1) : (y + 1) * (3 * width + 1)]
        for x in range(3 * width):
            left = row[x - 3] if x >= 3 else 0
            row[x] = (row[x] + (0, left, above[x])[kind]) & 0xFF
        above = bytes(row)
        out += above
    return width, height, bytes(out)


@st.composite
def pictures(draw: st.DrawFn) -> tuple[int, int, bytes]:
    """Flat, sloping or random pixels."""
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 140))
    size = 3 * width * height
    step = draw(st.sampled_from([0, 1, 3, 85]))
    noise = draw(st.binary(min_size=7, max_size=60))
    pixels = bytes((x * step + noise[x % len(noise)]) & 0xFF for x in range(size))
    return width, height, pixels


@given(pictures())
def test_a_png_holds_the_pixels(picture: tuple[int, int, bytes]) -> None:
    assert read_png(png(*picture)) == picture


@pytest.mark.parametrize("kind", [1, 2])
def test_every_filter_is_taken_where_it_pays(kind: int) -> None:
    width, height = 200, 70
    chance = random.Random(kind)
    noise = chance.randbytes(3 * width)
    if kind == 1:  # steps of -1, 0, 1 from pixel to pixel
        steps = [chance.choices((255, 0, 1), k=3 * width) for _ in range(height)]
        rows = [
            bytes(sum(row[x % 3 : x + 1 : 3]) & 0xFF for x in range(3 * width)) for row in steps
        ]
    else:  # the same noise in each row, brighter by 7
        rows = [bytes((n + 7 * y) & 0xFF for n in noise) for y in range(height)]
    pixels = b"".join(rows)
    data = png(width, height, pixels)
    assert read_png(data) == (width, height, pixels)
    assert len(data) < len(zlib.compress(pixels, 1)) / 2


@given(st.binary(min_size=1, max_size=40), st.data())
def test_bytes_are_subtracted_each_on_its_own(x: bytes, data: st.DataObject) -> None:
    y = data.draw(st.binary(min_size=len(x), max_size=len(x)))
    assert list(_subtract(x, y)) == [(a - b) & 0xFF for a, b in zip(x, y, strict=True)]


def test_rows_one_pixel_wide_have_no_left_neighbour() -> None:
    assert _filter(1, bytearray(b"\0abc\0def"), bytes(4), 3) == b"\1abc\1def"


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9), st.data())
def test_four_byte_pixels_become_rgb(w: int, h: int, gap: int, data: st.DataObject) -> None:
    stride = 4 * w + gap
    pixels = data.draw(st.binary(min_size=stride * h, max_size=stride * h))
    expected = bytes(
        pixels[y * stride + 4 * x + c] for y in range(h) for x in range(w) for c in (2, 1, 0)
    )
    assert bgrx_to_rgb(pixels, w, h, stride) == expected
    assert bgrx_to_rgb(memoryview(pixels), w, h, stride) == expected


def test_a_ppm_is_a_header_and_the_pixels() -> None:
    assert ppm(2, 1, b"abcdef") == b"P6\n2 1\n255\nabcdef"


@pytest.mark.parametrize(("width", "height"), [(0, 1), (1, 0), (-1, -1), (2, 1), (1 << 31, 0)])
def test_a_size_that_does_not_fit_the_pixels_is_refused(width: int, height: int) -> None:
    for write in (png, ppm):
        with pytest.raises(LocalError):
            write(width, height, b"abc")


@pytest.mark.parametrize(("size", "w", "h", "stride"), [(7, 1, 2, 4), (4, 2, 1, 4), (4, -1, 1, 0)])
def test_too_few_bytes_for_the_rows_are_refused(size: int, w: int, h: int, stride: int) -> None:
    with pytest.raises(LocalError):
        bgrx_to_rgb(bytes(size), w, h, stride)
