"""LZ images: every type, both ways, against upstream's streams, and against hostile ones."""

from __future__ import annotations

import base64
import json
import sys
import tracemalloc
import zlib
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codec_images import pictures, some_bytes
from tests.twins import uncompiled

from aiospice.codecs import lz, lz_pack, lz_unpack
from aiospice.codecs.image import A8, ARGB, MAX_PIXELS, RGB555, XRGB
from aiospice.errors import DecodeError

GOLDEN = json.loads((Path(__file__).parent / "data" / "lz.json").read_text(encoding="utf-8"))
UNPACK = uncompiled("aiospice.codecs.lz_unpack")
PACK = uncompiled("aiospice.codecs.lz_pack")
GREY = tuple(0x010101 * v for v in range(256))
TYPES = st.integers(lz.PLT1_LE, lz.TYPE_A8)


def inflated(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def without_pad(pixels: bytes) -> bytes:
    clean = bytearray(pixels)
    clean[3::4] = bytes(len(pixels) // 4)
    return bytes(clean)


def expected(type: int, pixels: bytes) -> bytes:
    """What pixels of a type become (palette `GREY`, 16 bit kept)."""
    if type in (lz.RGBA, lz.RGB16, lz.TYPE_A8):
        return pixels
    if type == lz.RGB32:
        return without_pad(pixels)
    if type == lz.RGB24:
        return bytes(lz.widened(pixels))
    bits = {lz.PLT8: 8, lz.PLT4_LE: 4, lz.PLT4_BE: 4}.get(type, 1)
    shifts = range(0, 8, bits)
    if type in (lz.PLT4_BE, lz.PLT1_BE):
        shifts = shifts[::-1]
    indices = [byte >> shift & ((1 << bits) - 1) for byte in pixels for shift in shifts]
    return b"".join(bytes((index, index, index, 0)) for index in indices)


def header(type: int, width: int, height: int, stride: int, **other: int) -> bytes:
    words = (other.get("magic", lz.MAGIC), other.get("version", lz.VERSION), type, width, height)
    return b"".join(word.to_bytes(4, "big") for word in (*words, stride, 1))


@given(pictures(70), TYPES, st.booleans())
def test_what_is_encoded_is_decoded(size: tuple[int, int, int], type: int, top: bool) -> None:
    width, height, seed = size
    pixels = some_bytes(lz.row_bytes(type, width) * height, seed)
    stream = lz.encode(pixels, width, height, type, top_down=top)
    assert len(stream) <= len(pixels) + len(pixels) // 32 + 200
    if type == lz.XXXA:
        out = bytearray(len(pixels))
        assert lz.decode_alpha(stream, out, width, height) is top
        assert out[3::4] == pixels[3::4]
        assert out[0::4] == bytes(width * height)
        return
    got = lz.decode(stream, palette=GREY, keep16=True)
    formats = {lz.RGBA: ARGB, lz.RGB16: RGB555, lz.TYPE_A8: A8}
    assert (got.width, got.height, got.format) == (width, height, formats.get(type, XRGB))
    assert bytes(got.data) == expected(type, pixels)
    assert (got.stride > 0) is top
    assert len(got.rows()) == abs(got.stride) * height or type < lz.PLT8


@pytest.mark.parametrize("item", GOLDEN["lz"], ids=lambda item: item["type"])
def test_streams_of_upstream_are_decoded(item: dict[str, Any]) -> None:
    stream, pixels = inflated(item["stream"]), inflated(item["pixels"])
    if item["type"] == "XXXA":
        out = bytearray(len(pixels))
        lz.decode_alpha(stream, out, item["width"], item["height"])
        assert out == pixels
        return
    got = lz.decode(stream, palette=tuple(item["palette"]) or None, keep16=True)
    assert bytes(got.data) == pixels
    assert (got.width, got.height) == (item["width"], item["height"])
    assert (got.stride > 0) is item["top_down"]


def test_rows_come_top_first_whatever_their_order() -> None:
    pixels = bytes(range(1, 65))
    stream = lz.encode(pixels, 4, 4, lz.RGBA, top_down=False)
    rows = [pixels[at : at + 16] for at in range(0, 64, 16)]
    assert lz.decode(stream).rows() == b"".join(rows[::-1])


def test_16_bit_pixels_become_32_bit_ones() -> None:
    words = array("H", (0x7FFF, 0, 0x7C00, 0x03E0, 0x001F, 0x4210))
    if sys.byteorder == "big":
        words.byteswap()
    got = lz.decode(lz.encode(words.tobytes(), 3, 2, lz.RGB16))
    assert bytes(got.data).hex(" ", 4) == "ffffff00 00000000 0000ff00 00ff0000 ff000000 84848400"


def test_missing_colours_count_as_0_and_four_bits_begin_again() -> None:
    got = lz.decode(lz.encode(b"\x00\x01\x02", 3, 1, lz.PLT8), palette=(5, 6))
    assert bytes(got.data) == bytes((5, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0))
    got = lz.decode(lz.encode(b"\x01\x23", 4, 1, lz.PLT4_BE), palette=(5, 6))
    assert bytes(got.data)[::4] == b"\x05\x06\x05\x06"


@settings(max_examples=60)
@given(pictures(64), st.sampled_from((1, 2, 4)))
def test_the_uncompiled_twin_does_the_same(size: tuple[int, int, int], kind: int) -> None:
    width, height, seed = size
    units = width * height
    pixels = some_bytes(units * kind, seed)
    streams = []
    for module in (lz_pack, PACK):
        out = bytearray(lz_pack.room_for(units, kind))
        places = memoryview(array("I", bytes(4 << 10)))
        end = module.pack(memoryview(pixels), units, kind, places, 54, memoryview(out), 0)
        streams.append(bytes(out[:end]))
    assert streams[0] == streams[1]
    kinds = {1: (lz_unpack.BYTE, lz_unpack.ALPHA), 2: (2, 3), 4: (lz_unpack.PIXEL,)}[kind]
    damaged = bytes((streams[0][0] ^ (seed & 7),)) + streams[0][1:]
    for data in (streams[0], damaged, streams[0][: len(streams[0]) // 2]):
        for unit in kinds:
            assert ended(lz_unpack, data, units, unit) == ended(UNPACK, data, units, unit)


def ended(module: Any, data: bytes, units: int, kind: int) -> tuple[object, ...]:
    out, place = bytearray(4 * units), array("q", (0,))
    try:
        status = module.unpack(memoryview(data), memoryview(place), memoryview(out), units, kind)
    except IndexError:
        return ("short",)
    return (status, place[0], bytes(out) if status == 0 else b"")


@pytest.mark.parametrize("cut", [0, 3, 28, 29, 40, -1])
def test_a_stream_that_ends_too_early_is_refused(cut: int) -> None:
    stream = lz.encode(some_bytes(4 * 400, 5), 20, 20)
    with pytest.raises(DecodeError):
        lz.decode(stream[:cut])


def test_bytes_behind_the_image_are_refused() -> None:
    stream = lz.encode(bytes(400), 10, 10)
    with pytest.raises(DecodeError, match="1 bytes behind") as caught:
        lz.decode(stream + b"\0")
    assert caught.value.offset == len(stream)


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (header(8, 2, 2, 8, magic=1) + b"\0" * 9, "begins with"),
        (header(8, 2, 2, 8, version=1) + b"\0" * 9, "version"),
        (header(0, 2, 2, 8) + b"\0" * 9, "type 0"),
        (header(12, 2, 2, 8) + b"\0" * 9, "type 12"),
        (header(10, 2, 2, 8) + b"\0" * 9, "alpha without"),
        (header(8, 0, 2, 0) + b"\0" * 9, "0x2"),
        (header(8, 2, 2, 9) + b"\0" * 9, "rows of 9"),
        (header(1, 9, 2, 1) + b"\0" * 9, "rows of 1"),
        (header(8, 65536, 65536, 262144) + b"\0" * 9, "more than"),
        (header(8, 5000, 5000, 20000) + b"\0" * 9, "can't stand for"),
        (header(8, 1 << 31, 1 << 31, 0) + b"\0" * 9, "more than"),
        (header(8, 4, 2, 16) + b"\x20\x00\x00\x00", "before the image"),
        (header(8, 4, 2, 16) + b"\x00abc\x20\x01", "before the image"),
        (header(8, 4, 2, 16) + b"\x00abc\xff\xff\xff\x00", "too early"),
        (header(8, 4, 2, 16) + b"\x00abc\xe0\xff\xff\x09\x00", "more pixels"),
        (header(8, 4, 2, 16) + b"\x1f" + b"abc" * 32, "more pixels"),
        (header(5, 4, 2, 4) + b"\x07" + b"abcdefgh", "no palette"),
    ],
)
def test_what_no_server_may_send_is_refused(stream: bytes, text: str) -> None:
    with pytest.raises(DecodeError, match=text) as caught:
        lz.decode(stream)
    assert 0 <= caught.value.offset <= len(stream)


@given(st.data())
def test_damage_is_decoded_or_refused(data: st.DataObject) -> None:
    type = data.draw(TYPES)
    stream = bytearray(lz.encode(some_bytes(lz.row_bytes(type, 30) * 20, 7), 30, 20, type))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(8, len(stream) - 1))] = data.draw(st.integers(0, 255))
    try:
        lz.decode(bytes(stream), palette=GREY)
        lz.decode_alpha(bytes(stream), bytearray(2400), 30, 20)
    except DecodeError:
        pass


@given(st.binary(max_size=300), st.integers(1, 11), st.integers(1, 60), st.integers(1, 60))
def test_any_stream_is_decoded_or_refused(
    stream: bytes, type: int, width: int, height: int
) -> None:
    try:
        lz.decode(header(type, width, height, lz.row_bytes(type, width)) + stream, palette=GREY)
    except DecodeError:
        pass


def test_memory_is_bounded_by_the_data() -> None:
    stream = header(8, 8192, 8192, 32768) + bytes(1000)
    assert MAX_PIXELS == 8192 * 8192
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            lz.decode(stream)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_alpha_of_another_type_or_size_is_refused() -> None:
    out = bytearray(4 * 6)
    with pytest.raises(DecodeError, match="RGB32 instead of alpha"):
        lz.decode_alpha(lz.encode(bytes(24), 3, 2), out, 3, 2)
    with pytest.raises(DecodeError, match="3x2 for 2x3"):
        lz.decode_alpha(lz.encode(bytes(24), 3, 2, lz.XXXA), out, 2, 3)


def test_the_loops_refuse_buffers_that_are_too_small() -> None:
    places = memoryview(array("I", bytes(4 << 8)))
    for module in (lz_pack, PACK):
        with pytest.raises(ValueError, match="units"):
            module.pack(memoryview(bytes(10)), 11, 1, places, 56, memoryview(bytearray(999)), 0)
        with pytest.raises(ValueError, match="room"):
            module.pack(memoryview(bytes(10)), 10, 1, places, 56, memoryview(bytearray(20)), 0)
        with pytest.raises(ValueError, match="room"):
            module.pack(memoryview(bytes(10)), 10, 1, places, 55, memoryview(bytearray(999)), 0)


def test_sizes_that_do_not_fit_are_not_encoded() -> None:
    with pytest.raises(ValueError, match="10 bytes for 2x2"):
        lz.encode(bytes(10), 2, 2)
