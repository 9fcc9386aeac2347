"""QUIC images: every type, both ways, against upstream's streams, and against hostile ones."""

from __future__ import annotations

import base64
import hashlib
import json
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codec_images import pictures, shades, some_bytes
from tests.twins import uncompiled

from aiospice.codecs import quic
from aiospice.codecs.image import A8, ARGB, MAX_PIXELS, RGB555, XRGB
from aiospice.errors import DecodeError, LocalError

GOLDEN = json.loads((Path(__file__).parent / "data" / "quic.json").read_text(encoding="utf-8"))
TWIN = uncompiled("aiospice.codecs.quic_kernel")
DEPTHS = {quic.GRAY: 1, quic.RGB16: 2, quic.RGB24: 4, quic.RGB32: 4, quic.RGBA: 4}
FORMATS = {quic.GRAY: A8, quic.RGB16: RGB555, quic.RGBA: ARGB}
TYPES = st.sampled_from(sorted(DEPTHS))
NATURES = st.sampled_from(("some", "shades"))


def made(type: int, width: int, height: int, nature: str, seed: int) -> bytes:
    """Pixels to encode; what no format keeps of them is set, too."""
    if nature == "shades":
        return shades(width, height, DEPTHS[type], seed)
    return some_bytes(width * height * DEPTHS[type], seed)


def kept(type: int, pixels: bytes) -> bytes:
    """What comes back of pixels."""
    clean = bytearray(pixels)
    if type == quic.RGB16:
        clean[1::2] = bytes(byte & 0x7F for byte in clean[1::2])
    elif type in (quic.RGB24, quic.RGB32):
        clean[3::4] = bytes(len(clean) // 4)
    return bytes(clean)


def packed(type: int, width: int, height: int, pixels: bytes) -> bytes:
    return quic.encode(pixels, width, height, width * DEPTHS[type], type)


def head(type: int = 4, width: int = 4, height: int = 4, version: int = 0) -> bytes:
    words = (version, type, width, height)
    return b"QUIC" + b"".join(word.to_bytes(4, "little") for word in words)


def ended(stream: bytes) -> bytes | bytearray | memoryview | str:
    """The pixels, or the error's text."""
    try:
        return quic.decode(stream).data
    except DecodeError as error:
        if not 0 <= error.offset <= len(stream):
            raise
        return str(error)


@given(pictures(70), TYPES, NATURES)
def test_what_is_encoded_is_decoded(size: tuple[int, int, int], type: int, nature: str) -> None:
    width, height, seed = size
    pixels = made(type, width, height, nature, seed)
    stream = packed(type, width, height, pixels)
    got = quic.decode(stream)
    assert (got.width, got.height, got.format) == (width, height, FORMATS.get(type, XRGB))
    assert (got.offset, got.stride) == (0, width * DEPTHS[type])
    assert bytes(got.data) == kept(type, pixels)
    assert quic.header(stream) == (type, width, height)
    assert len(stream) % 4 == 0


@settings(max_examples=25, deadline=None)
@given(pictures(24), TYPES, NATURES)
def test_the_uncompiled_twin_does_the_same(
    size: tuple[int, int, int], type: int, nature: str
) -> None:
    width, height, seed = size
    twins_agree(type, width, height, made(type, width, height, nature, seed))


@pytest.mark.parametrize("type", sorted(DEPTHS))
def test_the_uncompiled_twin_does_the_same_with_64_x_64_pixels(type: int) -> None:
    twins_agree(type, 64, 64, made(type, 64, 64, "shades", 7))


def twins_agree(type: int, width: int, height: int, pixels: bytes) -> None:
    stream = packed(type, width, height, pixels)
    damaged = bytearray(stream)
    damaged[20 + len(stream) * 3 // 5 % (len(stream) - 20)] ^= 0x5A
    results = [ended(data) for data in (stream, bytes(damaged), stream[: len(stream) * 2 // 3])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quic, "_kernel", TWIN)
        assert not quic.compiled()
        assert packed(type, width, height, pixels) == stream
        for data, result in zip(
            (stream, bytes(damaged), stream[: len(stream) * 2 // 3]), results, strict=True
        ):
            assert ended(data) == result


@pytest.mark.parametrize("item", GOLDEN["small"], ids=lambda i: f"{i['type']}-{i['width']}")
def test_streams_of_upstream_are_decoded_and_written(item: dict[str, Any]) -> None:
    type, width, height = item["type"], item["width"], item["height"]
    stream = zlib.decompress(base64.b64decode(item["stream"]))
    pixels = made(type, width, height, item["nature"], item["seed"])
    assert bytes(quic.decode(stream).data) == kept(type, pixels)
    assert packed(type, width, height, pixels) == stream


@pytest.mark.parametrize("item", GOLDEN["large"], ids=lambda i: f"{i['type']}-{i['width']}")
def test_large_images_become_the_bytes_that_upstream_writes(item: dict[str, Any]) -> None:
    type, width, height = item["type"], item["width"], item["height"]
    pixels = made(type, width, height, item["nature"], item["seed"])
    stream = packed(type, width, height, pixels)
    assert (len(stream), hashlib.sha256(stream).hexdigest()) == (item["size"], item["sha256"])
    assert bytes(quic.decode(stream).data) == kept(type, pixels)


def test_rows_may_be_further_apart() -> None:
    pixels = some_bytes(4 * 5 * 3, 10)
    apart = b"".join(pixels[at : at + 20] + b"spare" for at in (0, 20, 40))[:-5]
    assert quic.encode(apart, 5, 3, 25, quic.RGBA) == packed(quic.RGBA, 5, 3, pixels)


def test_bytes_behind_an_image_are_ignored_and_its_data_may_be_any_buffer() -> None:
    pixels = some_bytes(4 * 30, 10)
    stream = packed(quic.RGBA, 6, 5, pixels)
    for data in (stream + b"\xff" * 7, bytearray(stream), memoryview(b"ab" + stream)[2:]):
        assert bytes(quic.decode(data).data) == pixels


@pytest.mark.parametrize("type", sorted(DEPTHS))
def test_every_beginning_of_a_stream_is_refused(type: int) -> None:
    for nature in ("some", "shades"):
        pixels = made(type, 9, 7, nature, 10)
        stream = packed(type, 9, 7, pixels)
        for cut in range(len(stream) - 8):  # the last words are spare
            with pytest.raises(DecodeError):
                quic.decode(stream[:cut])
        assert bytes(quic.decode(stream[:-4]).data) == kept(type, pixels)


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (b"", "less than a header"),
        (head()[:19], "less than a header"),
        (b"QUIX" + head()[4:] + bytes(99), "begin with QUIC"),
        (head(version=0x10002) + bytes(99), r"version 1\.2"),
        (head(type=0) + bytes(99), "type 0"),
        (head(type=6) + bytes(99), "type 6"),
        (head(type=1 << 31) + bytes(99), "type 2147483648"),
        (head(width=0) + bytes(99), "width is 0"),
        (head(height=0) + bytes(99), "height is 0"),
        (head(width=32769, height=1) + bytes(99), "width is 32769"),
        (head(width=1, height=1 << 31) + bytes(99), "height is 2147483648"),
        (head(width=0xFFFFFFFF, height=0xFFFFFFFF) + bytes(99), "width is 4294967295"),
        (head(width=8193, height=8192) + bytes(99), "more than 67108864 pixels"),
        (head(width=8192, height=8192) + bytes(99), "can't be 8192 x 8192"),
        (head(), "can't be 4 x 4"),
        (head(type=2) + bytes(7), "the data end"),
    ],
)
def test_what_no_server_may_send_is_refused(stream: bytes, text: str) -> None:
    with pytest.raises(DecodeError, match=text) as caught:
        quic.decode(stream)
    assert 0 <= caught.value.offset <= len(stream)


@pytest.mark.parametrize("type", sorted(DEPTHS))
def test_bits_that_no_encoder_writes_are_refused(type: int) -> None:
    stream = packed(type, 200, 2, bytes(200 * 2 * DEPTHS[type]))
    ones = b"\xff" * 40
    wrong = (ones, b"\xff\x3f\0\0" + ones, b"\xff\x07\0\0" + ones, b"")
    texts = {str(ended(stream[:at] + bits)) for at in range(24, len(stream), 4) for bits in wrong}
    for text in ("a run goes beyond its row", "bits that are no code word", "the data end"):
        assert any(f"QUIC image: {text} in row" in found for found in texts)


def test_more_pixels_than_allowed_are_refused() -> None:
    stream = packed(quic.RGB32, 20, 10, bytes(800))
    assert quic.decode(stream, max_pixels=200).width == 20
    with pytest.raises(DecodeError, match="more than 199 pixels") as caught:
        quic.decode(stream, max_pixels=199)
    assert caught.value.field == "width"


def test_room_is_used_if_it_is_as_large_as_the_image() -> None:
    stream = packed(quic.RGBA, 9, 7, some_bytes(4 * 9 * 7, 1))
    pixels = quic.decode(stream).data
    room = bytearray(b"\xee" * len(pixels))
    assert quic.decode(stream, room=room).data is room
    assert room == pixels
    for size in (0, len(pixels) - 4, len(pixels) + 4):
        other = bytearray(size)
        found = quic.decode(stream, room=other).data
        assert found is not other
        assert found == pixels


@given(st.data())
def test_damage_is_decoded_or_refused(data: st.DataObject) -> None:
    width, height, seed = data.draw(pictures(30))
    type = data.draw(TYPES)
    pixels = made(type, width, height, data.draw(NATURES), seed)
    stream = bytearray(packed(type, width, height, pixels))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(8, len(stream) - 1))
        stream[at] ^= data.draw(st.integers(1, 255))
    ended(bytes(stream))


@given(st.binary(max_size=300), TYPES, st.integers(1, 60), st.integers(1, 60))
def test_any_stream_is_decoded_or_refused(
    stream: bytes, type: int, width: int, height: int
) -> None:
    ended(head(type, width, height) + stream)


def test_memory_is_bounded_by_the_data() -> None:
    assert MAX_PIXELS == 8192 * 8192
    flat = packed(quic.RGB32, 1000, 300, bytes(4 * 1000 * 300))
    quic.decode(packed(quic.RGB16, 1, 1, b"ab"))  # the tables of both depths are made once
    limits = {
        head(quic.RGBA, 8192, 8192) + bytes(9000): 20_000,
        head(quic.GRAY, 32768, 2048) + b"\xff" * 2000: 20_000,
        head(quic.RGB32, 32768, 1) + b"\xff" * 13000: 5_000_000,
        flat: 4 * 1000 * 300 + 2 * len(flat) + 44 * 1001 + 10_000,
    }
    for stream, limit in limits.items():
        tracemalloc.start()
        try:
            ended(stream)
            assert tracemalloc.get_traced_memory()[1] < limit
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    ("size", "width", "height", "stride", "type", "text"),
    [
        (4, 1, 1, 4, 0, "type 0"),
        (4, 1, 1, 4, 6, "type 6"),
        (4, 0, 1, 4, 4, "0x1"),
        (4, 1, -1, 4, 4, "1x-1"),
        (4, 32769, 1, 4, 4, "32769x1"),
        (4, 32768, 32768, 4, 4, "32768x32768"),
        (39, 5, 2, 20, 4, "39 bytes"),
        (99, 5, 2, 19, 4, "rows of 19"),
        (9, 5, 1, 10, 2, "RGB16"),
    ],
)
def test_what_no_decoder_takes_is_not_encoded(
    size: int, width: int, height: int, stride: int, type: int, text: str
) -> None:
    with pytest.raises(LocalError, match=text):
        quic.encode(bytes(size), width, height, stride, type)


def test_an_image_is_the_same_whatever_was_encoded_before() -> None:
    small, large = bytes(range(256)) * 4, bytes(range(251)) * 8 * 251
    alone = quic.encode(small, 16, 16, 64, 4)
    assert len(quic.encode(large[: 4 * 300 * 400], 300, 400, 1200, 4)) > len(alone)
    assert quic.encode(small, 16, 16, 64, 4) == alone
    first, second = (quic.encode(large[n : n + 65536], 128, 128, 512, 4) for n in (0, 4))
    assert first != second
    assert quic.encode(large[:65536], 128, 128, 512, 4) == first
