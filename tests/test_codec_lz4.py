"""LZ4 images: both ways, in blocks as spice-server makes them, and hostile ones."""

from __future__ import annotations

import sys
import tracemalloc

import lz4.block
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codec_images import pictures, some_bytes
from tests.twins import uncompiled

from aiospice.codecs import lz4 as codec
from aiospice.codecs import lz4_unpack
from aiospice.codecs.image import A8, ARGB, RGB555, XRGB
from aiospice.errors import DecodeError, MissingProgram

UNPACK = uncompiled("aiospice.codecs.lz4_unpack")

SIZES = {codec.FORMAT_16: 2, codec.FORMAT_24: 3, codec.FORMAT_32: 4} | {
    codec.FORMAT_RGBA: 4,
    codec.FORMAT_A8: 1,
}


def blocks(pixels: bytes, size: int) -> bytes:
    """Pixels in blocks of ``size`` bytes, each of which may copy from those before."""
    made = b""
    for at in range(0, len(pixels), size):
        before = pixels[max(0, at - 65536) : at]
        block = lz4.block.compress(pixels[at : at + size], store_size=False, dict=before)
        made += len(block).to_bytes(4, "big") + block
    return made


@given(pictures(60), st.sampled_from(sorted(SIZES)), st.booleans(), st.integers(0, 9))
def test_what_is_encoded_is_decoded(
    size: tuple[int, int, int], format: int, top: bool, lines: int
) -> None:
    width, height, seed = size
    pixels = some_bytes(width * height * SIZES[format], seed)
    if lines:
        step = lines * width * SIZES[format]
        stream = bytes((top, format)) + blocks(pixels, step)
    else:
        stream = codec.encode(pixels, width, height, format, top_down=top)
    got = codec.decode(stream, width, height)
    formats = {codec.FORMAT_16: RGB555, codec.FORMAT_RGBA: ARGB, codec.FORMAT_A8: A8}
    assert got.format == formats.get(format, XRGB)
    assert (got.stride > 0) is top
    data = bytes(got.data)
    if format == codec.FORMAT_24:
        assert data[3::4] == bytes(width * height)
        data = bytes(byte for at, byte in enumerate(data) if at % 4 < 3)
    assert data == pixels


ROW = b"\1\x08" + blocks(bytes(16), 16)


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (b"", "header"),
        (b"\1\x05" + ROW[2:], "format 5"),
        (ROW[:2], "0 bytes of 16"),
        (ROW[:-1], "a block of"),
        (ROW[:4], "a block of"),
        (b"\1\x08" + bytes(4), "a block of 0"),
        (b"\1\x08" + b"\xff" * 20, "a block of"),
        (ROW + ROW[2:], "more than the rows"),
        (b"\1\x08" + blocks(bytes(8), 8), "8 bytes of 16"),
        (b"\1\x08" + blocks(bytes(17), 17), "too long"),
        (b"\1\x08\0\0\0\5abcde", "isn't LZ4"),
    ],
)
def test_what_no_server_may_send_is_refused(stream: bytes, text: str) -> None:
    with pytest.raises(DecodeError, match=text) as caught:
        codec.decode(stream, 4, 1)
    assert 0 <= caught.value.offset <= len(stream)


@given(st.binary(max_size=200))
def test_any_stream_is_decoded_or_refused(stream: bytes) -> None:
    for prefix in (b"", b"\1\x08", b"\0\x06" + len(stream).to_bytes(4, "big")):
        try:
            codec.decode(prefix + stream, 5, 3)
        except DecodeError:
            pass


def test_memory_is_bounded_by_the_data() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="can't stand for"):
            codec.decode(ROW, 8192, 8192)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lz4.block", None)
    with pytest.raises(MissingProgram, match="pip install lz4"):
        codec.decode(ROW, 4, 1)


def test_sizes_that_do_not_fit_are_not_encoded() -> None:
    with pytest.raises(ValueError, match="10 bytes for 2x2"):
        codec.encode(bytes(10), 2, 2)


@given(
    st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 60)), max_size=12),
    st.integers(1, 200),
    st.integers(0, 3),
    st.data(),
)
def test_the_kernel_unpacks_what_the_library_unpacks_or_nothing(
    parts: list[tuple[bytes, int]], step: int, other: int, data: st.DataObject
) -> None:
    pixels = b"".join(part * times for part, times in parts)[:3000]
    pixels += bytes(-len(pixels) % 4) or bytes(4)
    stream = bytearray(blocks(pixels, step))
    for _ in range(other):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    if other == 3:
        del stream[data.draw(st.integers(0, len(stream) - 1)) :]
    rows = len(pixels) // 4
    try:
        whole = bytes(codec.decode(b"\1\x08" + stream, 1, rows).data)
    except DecodeError:
        whole = None
    for module in (lz4_unpack, UNPACK):
        ahead = b"\xee" * data.draw(st.integers(0, 3))
        source = memoryview(ahead + bytes(stream) + b"\xee" * 9)
        memory = bytearray(b"\xdd" * (len(pixels) + 40))
        done = module.unpack(
            source, len(ahead), len(ahead) + len(stream), memoryview(memory), len(pixels), rows
        )
        assert memory[len(pixels) :] == b"\xdd" * 40
        assert not done or bytes(memory[: len(pixels)]) == whole
        assert done or other or rows * 4 < 12 or len(pixels) > step * rows


def test_the_kernel_takes_what_servers_pack() -> None:
    pixels = some_bytes(4 * 300 * 200, 7)
    for step in (len(pixels), 4 * 300 * 16, 4 * 300):
        stream = memoryview(blocks(pixels, step))
        memory = memoryview(bytearray(len(pixels)))
        assert lz4_unpack.unpack(stream, 0, len(stream), memory, len(pixels), 200)
        assert bytes(memory) == pixels
    assert not lz4_unpack.unpack(stream, 0, len(stream), memory, len(pixels), 199)
    assert not lz4_unpack.unpack(stream, 0, len(stream) + 1, memory, len(pixels), 200)
    assert not lz4_unpack.unpack(stream, 0, len(stream), memory, len(pixels) + 1, 200)
