"""GLZ images: both ways, in and out of order, against upstream's streams and hostile ones."""

from __future__ import annotations

import pickle
import random
import tracemalloc
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codec_images import pictures, some_bytes
from tests.test_codec_lz import GOLDEN, PACK, UNPACK, inflated, without_pad
from tests.twins import uncompiled

from aiospice.codecs import glz, glz_window, lz, lz_pack, lz_unpack
from aiospice.codecs import zlib as zlib_glz
from aiospice.codecs.glz import GlzDictionary, GlzWindow, NeedsImage
from aiospice.codecs.image import ARGB, XRGB, Decoded
from aiospice.errors import DecodeError

WINDOW = uncompiled("aiospice.codecs.glz_window")
WINDOW.unpack_shared, WINDOW.address_of = UNPACK.unpack_shared, UNPACK.address_of  # type: ignore[attr-defined]

#: A copy of four pixels from the image before, from its first one on.
COPY_OF_ONE_BACK = bytes((4 << 5, 0, 1))

#: Several images of a session: sizes and seeds, and whether they have alpha.
SESSIONS = st.lists(st.tuples(pictures(40), st.booleans()), min_size=1, max_size=12)


def header(image_id: int, width: int, height: int, **other: int) -> bytes:
    first = other.get("type", lz.RGB32) | 16
    stride = other.get("stride", width * 4)
    parts = (
        other.get("magic", lz.MAGIC).to_bytes(4, "big"),
        other.get("version", lz.VERSION).to_bytes(4, "big"),
        bytes((first,)),
        *(value.to_bytes(4, "big") for value in (width, height, stride)),
        image_id.to_bytes(8, "big"),
        other.get("window", 0).to_bytes(4, "big"),
    )
    return b"".join(parts)


def plain(image_id: int, *, window: int = 0, fill: int = 1) -> bytes:
    """An image of 4x1 pixels."""
    return header(image_id, 4, 1, window=window) + b"\x03" + bytes((fill,)) * 12


def image(seed: int, size: tuple[int, int], alpha: bool, before: list[bytes]) -> bytes:
    """Pixels, of which many were seen before."""
    chance = random.Random(seed)
    length = 4 * size[0] * size[1]
    made = bytearray()
    while len(made) < length:
        source = chance.choice(before) if before and chance.random() < 0.7 else b""
        source = source or some_bytes(4 * chance.randint(1, 100), chance.randrange(1 << 16))
        begin = chance.randrange(0, len(source), 4)
        made += source[begin : begin + 4 * chance.randint(1, 300)]
    return bytes(made[:length]) if alpha else without_pad(bytes(made[:length]))


def encoded(
    session: list[tuple[tuple[int, int, int], bool]], dictionary: GlzDictionary
) -> list[tuple[bytes, bytes]]:
    """The streams of a session's images, and their pixels."""
    done: list[tuple[bytes, bytes]] = []
    for (width, height, seed), alpha in session:
        pixels = image(seed, (width, height), alpha, [pixels for _, pixels in done])
        kind = lz.RGBA if alpha else lz.RGB32
        done.append((dictionary.encode(pixels, width, height, kind), pixels))
    return done


def decoded(stream: bytes, window: GlzWindow) -> Decoded:
    got = glz.decode(stream, window)
    assert isinstance(got, Decoded)
    return got


@given(SESSIONS, st.sampled_from((1600, 4000, 1 << 20)))
def test_what_is_encoded_is_decoded(
    session: list[tuple[tuple[int, int, int], bool]], limit: int
) -> None:
    dictionary, window = GlzDictionary(limit), GlzWindow(limit)
    for stream, pixels in encoded(session, dictionary):
        window = pickle.loads(pickle.dumps(window))
        got = decoded(stream, window)
        assert bytes(got.data) == pixels
        assert got.format == (ARGB if stream[8] & 15 == lz.RGBA else XRGB)
        assert window.pixels <= limit + 64 * 12
    assert len(window) <= len(session)


@given(SESSIONS, st.randoms(use_true_random=False))
def test_images_in_any_order_wait_for_those_they_copy_from(
    session: list[tuple[tuple[int, int, int], bool]], chance: random.Random
) -> None:
    waiting = encoded(session, GlzDictionary(1 << 20))
    chance.shuffle(waiting)
    window = GlzWindow(1 << 20)
    while waiting:
        left = []
        for stream, pixels in waiting:
            before = len(window)
            got = glz.decode(stream, window)
            if isinstance(got, NeedsImage):
                assert got.id < glz.parse_header(stream).id
                assert got.id not in window
                assert len(window) == before
                left.append((stream, pixels))
            else:
                assert bytes(got.data) == pixels
        assert len(left) < len(waiting)
        waiting = left
    assert len(window) == len(session)


def test_a_picture_seen_before_takes_few_bytes() -> None:
    pixels = without_pad(random.Random(1).randbytes(4 * 100 * 100))
    dictionary, window = GlzDictionary(1 << 16), GlzWindow(1 << 16)
    first = dictionary.encode(pixels, 100, 100)
    again = dictionary.encode(pixels, 100, 100, top_down=False)
    assert len(first) > 30_000
    assert len(again) < 100
    decoded(first, window)
    got = decoded(again, window)
    assert got.rows() == b"".join(pixels[at : at + 400] for at in range(39_600, -1, -400))


def test_streams_of_upstream_are_decoded() -> None:
    window = GlzWindow(4000)
    for item in GOLDEN["glz"]:
        got = decoded(inflated(item["stream"]), window)
        assert bytes(got.data) == inflated(item["pixels"])
        assert (got.width, got.height) == (item["width"], item["height"])
        assert (got.stride > 0) is item["top_down"]
        assert window.pixels <= 4000
    assert len(window) < len(GOLDEN["glz"])


def test_a_dictionary_that_moved_goes_on_with_the_next_number() -> None:
    dictionary, window = GlzDictionary(1000), GlzWindow(1000)
    pixels = without_pad(some_bytes(400, 3))
    decoded(dictionary.encode(pixels, 10, 10), window)
    dictionary = pickle.loads(pickle.dumps(dictionary))
    stream = dictionary.encode(pixels, 10, 10)
    assert glz.parse_header(stream).id == 1
    assert glz.parse_header(stream).window == 0
    assert bytes(decoded(stream, window).data) == pixels
    assert len(window) == 1


def test_images_leave_when_the_window_of_the_server_leaves_them_behind() -> None:
    window = GlzWindow(1 << 20)
    for number in (0, 1, 2):
        decoded(plain(number, window=number), window)
    decoded(plain(4, window=1), window)
    assert len(window) == 4, "image 3 may still copy from the first ones"
    decoded(plain(3, window=2), window)
    assert [number for number in range(5) if number in window] == [3, 4]
    assert window.pixels == 8


def test_a_gap_that_is_never_closed_does_not_make_the_window_grow() -> None:
    window = GlzWindow(100)
    for number in range(1, 500):
        decoded(plain(number, window=1), window)
        assert window.pixels <= 400
    assert isinstance(window.get(600, 0), NeedsImage)
    with pytest.raises(DecodeError, match="not in the window"):
        window.get(3, 0)
    window.clear()
    assert (len(window), window.pixels) == (0, 0)
    decoded(plain(0), window)


# A copy of 4 pixels: from the place ``back`` in the image itself, or of an earlier image.
def copy(count: int = 4, *, images: int = 0, offset: int = 0) -> bytes:
    return bytes((count << 5 | offset & 15, offset >> 4, images))


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (header(5, 4, 1, magic=1) + b"\0" * 13, "begins with"),
        (header(5, 4, 1, version=1) + b"\0" * 13, "version"),
        (header(5, 4, 1, type=5) + b"\0" * 13, "type 5"),
        (header(5, 4, 1, type=10) + b"\0" * 13, "type 10"),
        (header(5, 0, 1) + b"\0" * 13, "0x1"),
        (header(5, 4, 1, stride=17) + b"\0" * 13, "rows of 17"),
        (header(5, 65536, 65536, stride=262144) + b"\0" * 13, "more than"),
        (header(5, 5000, 5000) + b"\0" * 13, "can't stand for"),
        (header(5, 4, 1, window=6) + b"\0" * 13, "a window of 6"),
        (header(5, 4, 1), "no GLZ image"),
        (header(5, 4, 1) + b"\x03abc", "too early"),
        (header(5, 4, 1) + b"\x04" + b"abc" * 5, "more pixels"),
        (header(5, 4, 1) + copy(), "outside of an image"),
        (header(5, 4, 1) + b"\x00abc" + copy(3, offset=1), "outside of an image"),
        (header(5, 4, 1) + b"\x00abc" + copy(4), "more pixels"),
        (header(5, 4, 1) + copy(4, images=4, offset=1), "outside of an image"),
        (header(5, 4, 1) + copy(4, images=4, offset=4000), "outside of an image"),
        (header(5, 4, 1) + copy(5, images=4), "more pixels"),
        (header(5, 4, 1) + copy(4, images=5), "from image 0, not in the window"),
        (header(5, 4, 1) + copy(4, images=9), "from image -4, not in the window"),
        (header(5, 4, 1) + b"\xe0" + b"\xff" * 40, "too early"),
        (plain(2, window=1), "is there already"),
    ],
)
def test_what_no_server_may_send_is_refused(stream: bytes, text: str) -> None:
    window = GlzWindow(1 << 20)
    for number in (0, 1, 2):
        decoded(plain(number, window=min(number, 1)), window)
    known = [number for number in range(6) if number in window]
    assert known == [1, 2]
    with pytest.raises(DecodeError, match=text) as caught:
        glz.decode(stream, window)
    assert 0 <= caught.value.offset <= len(stream)
    assert [number for number in range(6) if number in window] == known


def test_an_image_that_did_not_come_is_named() -> None:
    window = GlzWindow(1 << 20)
    decoded(plain(0, fill=9), window)
    stream = header(3, 8, 1, window=3) + copy(4, images=3) + copy(4, images=1)
    assert glz.decode(stream, window) == NeedsImage(2)
    decoded(plain(2, window=2, fill=7), window)
    assert bytes(decoded(stream, window).data) == b"\x09\x09\x09\0" * 4 + b"\x07\x07\x07\0" * 4


def test_many_images_may_be_copied_from() -> None:
    window = GlzWindow(1 << 20)
    for number in range(200):
        decoded(plain(number, window=number, fill=number), window)
    chance = random.Random(5)
    copies = [chance.randrange(200) for _ in range(1000)]
    items = b""
    for number in copies:
        back = 200 - number
        items += (
            bytes((0x80, 0, back)) if back < 64 else bytes((0x80, 0, 64 | back & 63, back >> 6))
        )
    got = decoded(header(200, 4, 1000, window=200) + items, window)
    assert bytes(got.data[::16]) == bytes(copies)


@given(st.binary(max_size=200), st.sampled_from((lz.RGB16, lz.RGB24, lz.RGB32, lz.RGBA)))
def test_any_stream_is_decoded_or_refused(stream: bytes, kind: int) -> None:
    window = GlzWindow(1 << 20)
    for number in range(4):
        decoded(plain(number, window=number), window)
    stride = 12 * {lz.RGB16: 2, lz.RGB24: 3}.get(kind, 4)
    try:
        glz.decode(header(5, 12, 9, type=kind, stride=stride, window=5) + stream, window)
    except DecodeError:
        pass


@given(SESSIONS, st.data())
def test_damage_is_decoded_or_refused(
    session: list[tuple[tuple[int, int, int], bool]], data: st.DataObject
) -> None:
    window = GlzWindow(1 << 12)
    for stream, _ in encoded(session, GlzDictionary(1 << 12)):
        damaged = bytearray(stream)
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
        try:
            glz.decode(bytes(damaged), window)
        except DecodeError:
            pass


def test_memory_is_bounded_by_the_data() -> None:
    stream = header(0, 8192, 8192) + bytes(1000)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            glz.decode(stream, GlzWindow(100))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@settings(max_examples=30)
@given(SESSIONS)
def test_the_uncompiled_twin_does_the_same(
    session: list[tuple[tuple[int, int, int], bool]],
) -> None:
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for pack, windows in ((lz_pack, glz_window), (PACK, WINDOW)):
            patch.setattr("aiospice.codecs.lz_pack", pack)
            patch.setattr("aiospice.codecs.glz.unpack", windows.unpack)
            window = windows.GlzWindow(4000)
            streams = [stream for stream, _ in encoded(session, GlzDictionary(4000))]
            results.append((streams, [bytes(decoded(s, window).data) for s in streams]))
    assert results[0] == results[1]


@settings(max_examples=30)
@given(SESSIONS)
def test_small_images_are_decoded_alike_wherever_they_lie(
    session: list[tuple[tuple[int, int, int], bool]],
) -> None:
    window = GlzWindow(4000)
    ways: list[tuple[Any, Any]] = [(glz_window, GlzWindow(4000)), (WINDOW, WINDOW.GlzWindow(4000))]
    for stream, _ in encoded(session, GlzDictionary(4000)):
        true = decoded(stream, window)
        data, size = b"before" + stream + b"behind", (true.width, true.height)
        for module, other in ways:
            # What isn't ordinary is refused, and changes nothing.
            for wrong in ((true.width + 1, true.height), (true.height, true.width + 1)):
                assert module.decode_small(other, data, 6, len(stream), *wrong) is None
            assert module.decode_small(other, data, 6, len(stream) // 2, *size) is None
            assert module.decode_small(other, data, 7, len(stream), *size) is None
            found = module.decode_small(other, data, 6, len(stream), *size)
            assert found is not None
            assert bytes(found) == bytes(true.data)
            assert module.decode_small(other, data, 6, len(stream), *size) is None
            assert (len(other), other.pixels) == (len(window), window.pixels)


def test_an_image_that_was_damaged_is_not_waited_for() -> None:
    window = GlzWindow(100)
    glz.decode(plain(0), window)
    broken = header(1, 4, 1, window=1) + b"\x03abc"
    with pytest.raises(DecodeError):
        glz.decode(broken, window)
    later = header(2, 4, 1, window=2) + COPY_OF_ONE_BACK
    assert glz.decode(later, window) == NeedsImage(1)
    glz.lose(broken, window)
    with pytest.raises(DecodeError, match="image 1, which was damaged"):
        glz.decode(later, window)
    glz.lose(b"no image", window)
    glz.lose(plain(0, fill=9), window)  # is there: stays as it is
    assert len(window) == 2


def test_a_window_that_was_pickled_goes_on() -> None:
    window = GlzWindow(100)
    glz.decode(plain(0, fill=7), window)
    glz.decode(header(1, 4, 1, window=1) + COPY_OF_ONE_BACK, window)
    copied = pickle.loads(pickle.dumps(window))
    got = decoded(header(2, 4, 1, window=2) + COPY_OF_ONE_BACK, copied)
    assert bytes(got.data) == b"\7\7\7\0" * 4


def test_the_loops_refuse_tables_that_are_too_small() -> None:
    small: Any = memoryview(array("q", (0, 0, 0)))
    for module in (lz_unpack, UNPACK):
        with pytest.raises(ValueError, match="too small"):
            module.unpack_shared(
                memoryview(b"\0abc"), small, memoryview(bytearray(4)), 4, small, small, []
            )
    with pytest.raises(ValueError, match="the window has 100"):
        GlzDictionary(100).encode(bytes(404), 101, 1)
    with pytest.raises(ValueError, match="7 bytes"):
        GlzDictionary(100).encode(bytes(7), 2, 1)


def test_a_deflated_stream_is_inflated_and_decoded() -> None:
    pixels = bytes(range(0, 240, 4)) * 40
    pixels = without_pad(pixels)
    stream = GlzDictionary(1000).encode(pixels, 20, 30)
    got = zlib_glz.decode(zlib_glz.deflate(stream), len(stream), GlzWindow(1000))
    assert isinstance(got, Decoded)
    assert bytes(got.data) == pixels


def test_room_of_images_that_have_left_is_used_again_unless_others_have_it() -> None:
    window = GlzWindow(1 << 20)
    side = 128

    def stream(image_id: int) -> bytes:
        row = b"\x00" + bytes((image_id, 0, 0)) + b"\xe0" + b"\xff" * 64 + bytes((56, 0, 0))
        return header(image_id, side, side, window=min(image_id, 1)) + row

    def small(image_id: int) -> bytearray:
        data = stream(image_id)
        found = glz_window.decode_small(window, data, 0, len(data), side, side)
        assert found is not None
        assert bytes(found) == bytes((image_id, 0, 0, 0)) * side * side
        return found

    first, second, third = small(0), small(1), small(2)
    assert len({id(first), id(second), id(third)}) == 3
    assert small(3) in (first, second)  # one that has left
    lent = glz.decode(stream(4), window)
    assert isinstance(lent, Decoded)
    kept = bytes(lent.data)
    for image_id in range(5, 12):
        small(image_id)
    assert bytes(lent.data) == kept
    pickle.loads(pickle.dumps(window))
