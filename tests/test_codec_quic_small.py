"""Small QUIC images: what fits into a scratch is decoded there as it is elsewhere."""

from __future__ import annotations

import pickle
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codec_images import pictures, some_bytes
from tests.twins import uncompiled

from aiospice.codecs import quic, quic_small
from aiospice.errors import DecodeError

TWIN = uncompiled("aiospice.codecs.quic_small")
vars(TWIN)["some_rows"] = uncompiled("aiospice.codecs.quic_kernel").some_rows
TYPES = st.sampled_from((quic.RGB24, quic.RGB32, quic.RGBA))
SCRATCHES = {module: module.Scratch() for module in (quic_small, TWIN)}


def decoded(module: ModuleType, data: bytes, start: int, size: int) -> bytes | int:
    """The pixels, or the status that isn't 0."""
    scratch = SCRATCHES[module]
    status = module.decode_small(scratch, data, start, size)
    if status:
        return int(status)
    width, height, _ = scratch.found
    return bytes(scratch.pixels[: 4 * width * height])


@given(pictures(40), TYPES, st.integers(0, 9))
def test_a_scratch_holds_what_decode_gives(
    size: tuple[int, int, int], type: int, start: int
) -> None:
    width, height, seed = size
    pixels = some_bytes(4 * width * height, seed)
    stream = quic.encode(pixels, width, height, 4 * width, type)
    data = bytes(start) + stream + b"\xff" * 9
    assert decoded(quic_small, data, start, len(stream)) == bytes(quic.decode(stream).data)
    assert list(SCRATCHES[quic_small].found) == [width, height, type]


@settings(max_examples=15, deadline=None)
@given(pictures(16), TYPES)
def test_the_uncompiled_twin_does_the_same(size: tuple[int, int, int], type: int) -> None:
    width, height, seed = size
    stream = quic.encode(some_bytes(4 * width * height, seed), width, height, 4 * width, type)
    for data in (stream, stream[: len(stream) // 2 + 12], stream[:24] + b"\x80" + stream[25:]):
        args = data, 0, len(data)
        assert decoded(quic_small, *args) == decoded(TWIN, *args)


def test_one_image_leaves_nothing_for_the_next() -> None:
    images = [quic.encode(some_bytes(1200, n), 20, 15, 80, 3 + n % 3) for n in range(8)]
    for stream in images[::-1] + images:
        for bad in (stream[:-20], stream):
            got = decoded(quic_small, bad, 0, len(bad))
        assert got == bytes(quic.decode(stream).data)


def test_the_largest_images_fit_and_larger_ones_are_left_alone() -> None:
    most, widest = quic_small.MAX_PIXELS, quic_small.MAX_WIDTH
    for width, height, fits in (
        (widest, most // widest, True),
        (1, most, False),
        (1, quic.MAX_SIDE, True),
        (256, 256, True),
        (256, 257, False),
        (widest + 1, 1, False),
    ):
        if height > quic.MAX_SIDE:
            continue
        pixels = bytes(4 * width * height)
        stream = quic.encode(pixels, width, height, 4 * width, quic.RGB32)
        got = decoded(quic_small, stream, 0, len(stream))
        assert got == (pixels if fits else quic_small.OTHER)


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, 0x51), (4, 1), (8, 0), (8, 2), (8, 6), (12, 0), (12, 1 << 31), (16, 0), (16, 70000)],
)
def test_what_is_unusual_is_left_alone(at: int, value: int) -> None:
    stream = bytearray(quic.encode(bytes(400), 10, 10, 40, quic.RGB32))
    stream[at : at + 4] = value.to_bytes(4, "little")
    for module in (quic_small, TWIN):
        assert decoded(module, bytes(stream), 0, len(stream)) == quic_small.OTHER
        assert decoded(module, bytes(stream), 0, 23) == quic_small.OTHER


@given(st.data())
def test_damage_is_found_where_decode_finds_it(data: st.DataObject) -> None:
    width, height, seed = data.draw(pictures(24))
    pixels = some_bytes(4 * width * height, seed)
    stream = bytearray(quic.encode(pixels, width, height, 4 * width, data.draw(TYPES)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(20, len(stream) - 1))
        stream[at] ^= data.draw(st.integers(1, 255))
    del stream[data.draw(st.integers(24, len(stream))) :]
    got = decoded(quic_small, bytes(stream), 0, len(stream))
    try:
        assert got == bytes(quic.decode(stream).data)
    except DecodeError:
        assert isinstance(got, int)


def test_a_scratch_is_pickled_as_a_new_one() -> None:
    scratch = pickle.loads(pickle.dumps(SCRATCHES[quic_small]))
    stream = quic.encode(b"abc\0", 1, 1, 4, quic.RGB32)
    assert quic_small.decode_small(scratch, stream, 0, len(stream)) == 0
    assert bytes(scratch.pixels[:4]) == b"abc\0"
