"""JPEG images, with and without alpha."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.codecs import jpeg, lz
from aiospice.codecs.image import ARGB, XRGB
from aiospice.errors import DecodeError, MissingProgram

WIDTH, HEIGHT = 33, 20
#: A gradient with alpha.
PIXELS = b"".join(
    bytes((x * 7, y * 12, 100, x * y % 256)) for y in range(HEIGHT) for x in range(WIDTH)
)


def furthest(one: bytes, other: bytes) -> int:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def without_alpha(pixels: bytes) -> bytes:
    return bytes(0 if at % 4 == 3 else byte for at, byte in enumerate(pixels))


def test_a_picture_comes_back_nearly_the_same() -> None:
    got = jpeg.decode(jpeg.encode(PIXELS, WIDTH, HEIGHT, 95), WIDTH, HEIGHT)
    assert (got.width, got.height, got.format) == (WIDTH, HEIGHT, XRGB)
    assert bytes(got.data)[3::4] == bytes(WIDTH * HEIGHT)
    assert furthest(got.rows(), without_alpha(PIXELS)) < 24


def test_alpha_comes_back_exactly() -> None:
    data, size = jpeg.encode_alpha(PIXELS, WIDTH, HEIGHT, 95)
    got = jpeg.decode_alpha(data, size, WIDTH, HEIGHT, top_down=True)
    assert got.format == ARGB
    assert bytes(got.data)[3::4] == PIXELS[3::4]
    assert furthest(got.rows(), PIXELS) < 24


def test_alpha_may_have_its_bottom_row_first_and_colour_never() -> None:
    data, size = jpeg.encode_alpha(PIXELS, WIDTH, HEIGHT, 95)
    rows = [PIXELS[at : at + 4 * WIDTH] for at in range(0, len(PIXELS), 4 * WIDTH)]
    alpha = lz.encode(b"".join(rows[::-1]), WIDTH, HEIGHT, lz.XXXA, top_down=False)
    got = jpeg.decode_alpha(data[:size] + alpha, size, WIDTH, HEIGHT, top_down=False)
    assert got.rows() == jpeg.decode_alpha(data, size, WIDTH, HEIGHT, top_down=True).rows()


@pytest.mark.parametrize("part", [0, 1, 20, 300, 700])
def test_a_picture_that_ends_too_early_is_refused(part: int) -> None:
    data = jpeg.encode(PIXELS, WIDTH, HEIGHT)
    with pytest.raises(DecodeError):
        jpeg.decode(data[: min(part, len(data) - 10)], WIDTH, HEIGHT)


def test_another_size_than_announced_is_refused() -> None:
    data = jpeg.encode(PIXELS, WIDTH, HEIGHT)
    with pytest.raises(DecodeError, match="33x20 pixels, not 20x33"):
        jpeg.decode(data, HEIGHT, WIDTH)
    with pytest.raises(DecodeError, match="more than"):
        jpeg.decode(data, 1 << 16, 1 << 16)


@pytest.mark.parametrize(
    ("size", "top", "text"),
    [(0, True, "0 bytes of JPEG"), (1 << 30, True, "of JPEG, of"), (None, False, "order of rows")],
)
def test_alpha_that_does_not_fit_is_refused(size: int | None, top: bool, text: str) -> None:
    data, right = jpeg.encode_alpha(PIXELS, WIDTH, HEIGHT)
    with pytest.raises(DecodeError, match=text):
        jpeg.decode_alpha(data, right if size is None else size, WIDTH, HEIGHT, top_down=top)


@given(st.data())
def test_damage_is_decoded_or_refused(data: st.DataObject) -> None:
    stream, size = jpeg.encode_alpha(PIXELS, WIDTH, HEIGHT)
    damaged = bytearray(stream)
    for _ in range(3):
        damaged[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    try:
        jpeg.decode_alpha(bytes(damaged), size, WIDTH, HEIGHT, top_down=True)
    except DecodeError:
        pass


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with pytest.raises(MissingProgram, match="pip install simplejpeg"):
        jpeg.decode(b"", 1, 1)


def test_sizes_that_do_not_fit_are_not_encoded() -> None:
    with pytest.raises(ValueError, match="10 bytes for 2x2"):
        jpeg.encode(bytes(10), 2, 2)
