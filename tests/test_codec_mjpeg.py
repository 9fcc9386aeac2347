"""Frames of MJPEG: what a server's encoder makes, and what none may send."""

from __future__ import annotations

import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.codecs import jpeg
from aiospice.codecs.image import XRGB, check_size
from aiospice.codecs.mjpeg import MjpegFrame, decode
from aiospice.errors import DecodeError, MissingProgram

WIDTH, HEIGHT = 40, 24
PIXELS = b"".join(bytes((x * 6, y * 10, 90, 255)) for y in range(HEIGHT) for x in range(WIDTH))
FRAME = jpeg.encode(PIXELS, WIDTH, HEIGHT, 92)


def furthest(one: bytes, other: bytes) -> int:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def without_tables(data: bytes) -> bytes:
    """The frame without its Huffman tables."""
    out, at = data[:2], 2
    while True:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] != 0xC4:
            out += data[at : at + 2 + size]
        at += 2 + size
        if data[at - size - 1] == 0xDA:
            return out + data[at:]


def test_a_frame_becomes_pixels_whose_fourth_byte_is_full() -> None:
    got = decode(FRAME, WIDTH, HEIGHT)
    assert (got.width, got.height, got.format) == (WIDTH, HEIGHT, XRGB)
    assert furthest(got.rows(), PIXELS) < 16
    assert bytes(got.data)[3::4] == b"\xff" * (WIDTH * HEIGHT)


def test_a_frame_whose_rows_come_from_the_bottom_is_turned() -> None:
    upside = decode(FRAME, WIDTH, HEIGHT, top_down=False).rows()
    rows = [upside[at : at + 4 * WIDTH] for at in range(0, len(upside), 4 * WIDTH)]
    assert b"".join(rows[::-1]) == decode(FRAME, WIDTH, HEIGHT).rows()


def test_a_frame_without_huffman_tables_has_those_of_the_standard() -> None:
    short = without_tables(FRAME)
    assert len(short) < len(FRAME) - 100
    assert decode(short, WIDTH, HEIGHT) == decode(FRAME, WIDTH, HEIGHT)


def test_the_work_is_plain_data() -> None:
    work = pickle.loads(pickle.dumps(MjpegFrame(FRAME, WIDTH, HEIGHT)))
    assert work.run() == decode(FRAME, WIDTH, HEIGHT)


@pytest.mark.parametrize(("width", "height"), [(WIDTH + 1, HEIGHT), (WIDTH, 1), (HEIGHT, WIDTH)])
def test_a_frame_of_another_size_is_refused(width: int, height: int) -> None:
    with pytest.raises(DecodeError, match=f"40x24 pixels, not {width}x{height}"):
        decode(FRAME, width, height)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (1 << 16, 1 << 16)])
def test_a_size_that_no_frame_may_have_is_refused_first(width: int, height: int) -> None:
    with pytest.raises(DecodeError):
        check_size(width, height, 0)
    with pytest.raises(DecodeError, match="pixels"):
        decode(FRAME, width, height)


@pytest.mark.parametrize("part", [0, 1, 2, 20, 300, 600])
def test_a_frame_that_ends_too_early_is_refused(part: int) -> None:
    with pytest.raises(DecodeError, match="JPEG frame"):
        decode(FRAME[: min(part, len(FRAME) - 5)], WIDTH, HEIGHT)


@given(st.binary(max_size=64), st.integers(0, len(FRAME)), st.integers(0, 64))
def test_whatever_comes_is_pixels_or_the_documented_error(data: bytes, at: int, cut: int) -> None:
    broken = FRAME[:at] + data + FRAME[at + cut :]
    try:
        got = decode(broken, WIDTH, HEIGHT)
    except DecodeError:
        return
    assert len(got.rows()) == len(PIXELS)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with pytest.raises(MissingProgram, match="pip install simplejpeg"):
        decode(FRAME, WIDTH, HEIGHT)
