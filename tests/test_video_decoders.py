"""Decoders of VP8, VP9, H.264 and H.265: pixels, order, losses, hostile frames."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.video_samples import encoded, mean_error, moving

from aiospice.aio.video import MAX_QUEUED, Decoder, Decoders, colours_of
from aiospice.aio.videocodecs import available
from aiospice.codecs.image import XRGB, Decoded
from aiospice.codecs.video import CODECS, H264, H265, VP8, VP9, VideoFrame, is_key_frame
from aiospice.errors import AiospiceError, DecodeError, MissingProgram, StateError

ALL = (VP8, H264, VP9, H265)
WIDTH, HEIGHT = 128, 96
KEY = (0, 1, 1)


def frames(
    codec: int, count: int = 6, width: int = WIDTH, height: int = HEIGHT
) -> list[VideoFrame]:
    return [
        VideoFrame(KEY, codec, data, width, height, number=number)
        for number, data in enumerate(encoded(codec, count, width, height))
    ]


def part(rows: bytes, width: int) -> bytes:
    """The last four columns."""
    size = 4 * width
    return b"".join(rows[at - 16 : at] for at in range(size, len(rows) + 1, size))


def named(codec: int) -> str:
    return CODECS[codec]


@pytest.mark.parametrize("codec", ALL, ids=named)
@pytest.mark.parametrize(("width", "height"), [(WIDTH, HEIGHT), (130, 70), (76, 32), (64, 600)])
def test_every_frame_becomes_its_picture(codec: int, width: int, height: int) -> None:
    decoder = Decoder(codec)
    for step, frame in enumerate(frames(codec, 4, width, height)):
        got = decoder.decode(frame)
        assert got is not None
        assert (got.width, got.height, got.format) == (width, height, XRGB)
        assert mean_error(got.rows(), moving(step, width, height).tobytes()) < 6
        assert got.rows()[3::4] == b"\xff" * (width * height)
        edge = [part(got.rows(), width), part(moving(step, width, height).tobytes(), width)]
        assert mean_error(*edge) < 9
        assert pickle.loads(pickle.dumps(got)) == got


@pytest.mark.parametrize("codec", [VP8, VP9], ids=named)
def test_sides_may_be_odd(codec: int) -> None:
    got = Decoder(codec).decode(frames(codec, 1, 131, 73)[0])
    assert got is not None
    assert mean_error(got.rows(), moving(0, 131, 73).tobytes()) < 6


def test_a_frame_whose_rows_come_from_the_bottom_is_turned() -> None:
    frame = frames(VP8, 1)[0]
    turned = Decoder(VP8).decode(frame._replace(top_down=False))
    plain = Decoder(VP8).decode(frame)
    assert turned is not None
    assert plain is not None
    rows = [turned.rows()[at : at + 4 * WIDTH] for at in range(0, 4 * WIDTH * HEIGHT, 4 * WIDTH)]
    assert b"".join(rows[::-1]) == plain.rows()


@pytest.mark.parametrize("codec", ALL, ids=named)
def test_key_frames_are_known(codec: int) -> None:
    found = [is_key_frame(codec, frame.data) for frame in frames(codec)]
    assert found == [True, False, False, False, False, False]
    assert not is_key_frame(codec, b"")


def test_a_vp9_frame_that_is_shown_again_is_no_key_frame() -> None:
    assert not is_key_frame(VP9, b"\x88")
    assert is_key_frame(VP9, b"\xb0")  # profile 3
    assert not is_key_frame(VP9, b"\xb2")
    assert not is_key_frame(VP9, b"\x02")


@pytest.mark.parametrize("codec", ALL, ids=named)
def test_a_decoder_begins_with_a_key_frame(codec: int) -> None:
    several = frames(codec)
    decoder = Decoder(codec)
    for frame in several[2:4]:
        with pytest.raises(StateError, match="key frame"):
            decoder.decode(frame)
    again = decoder.decode(several[0]._replace(number=4))
    assert again is not None
    assert decoder.decode(several[1]._replace(number=5)) is not None


@pytest.mark.parametrize("codec", ALL, ids=named)
def test_after_a_missing_frame_a_key_frame_is_awaited(codec: int) -> None:
    several = frames(codec)
    decoder = Decoder(codec)
    decoder.decode(several[0])
    with pytest.raises(StateError, match="key frame"):
        decoder.decode(several[2])


@pytest.mark.parametrize("codec", ALL, ids=named)
def test_a_late_frame_is_decoded_and_not_made_pixels(codec: int) -> None:
    several = frames(codec)
    one, other = Decoder(codec), Decoder(codec)
    for frame in several[:-1]:
        one.decode(frame)
        assert other.decode(frame, late=True) is None
    assert one.decode(several[-1]) == other.decode(several[-1])


@pytest.mark.parametrize("codec", ALL, ids=named)
def test_a_frame_larger_than_announced_is_refused(codec: int) -> None:
    frame = frames(codec, 1, 640, 480)[0]
    with pytest.raises(DecodeError):
        Decoder(codec).decode(frame._replace(width=64, height=48))
    with pytest.raises(DecodeError, match="640x480 pixels, not 640x481"):
        Decoder(codec).decode(frame._replace(height=481))
    with pytest.raises(DecodeError):
        Decoder(codec).decode(frame._replace(width=1 << 16, height=1 << 16))


@pytest.mark.parametrize("codec", ALL, ids=named)
def test_another_size_begins_with_a_key_frame(codec: int) -> None:
    decoder = Decoder(codec)
    for number, frame in enumerate([*frames(codec, 2), *frames(codec, 2, 64, 48)]):
        got = decoder.decode(frame._replace(number=number))
        assert got is not None
        assert (got.width, got.height) == (frame.width, frame.height)


@pytest.mark.parametrize("codec", ALL, ids=named)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_whatever_comes_is_pixels_or_a_documented_error(codec: int, data: st.DataObject) -> None:
    decoder = Decoder(codec)
    for number, frame in enumerate(frames(codec, 3)):
        at = data.draw(st.integers(0, len(frame.data)))
        broken = frame.data[:at] + data.draw(st.binary(max_size=40)) + frame.data[at + 3 :]
        try:
            got = decoder.decode(frame._replace(data=broken, number=number))
        except (DecodeError, StateError):
            continue
        assert got is None or (got.width, got.height) == (WIDTH, HEIGHT)


def test_colours_are_those_of_the_encoder() -> None:
    assert colours_of(VP8, 5, 480) == 5
    assert colours_of(VP8, 5, 720) == 1
    assert colours_of(H264, 2, 576) == 5
    assert colours_of(H264, 2, 577) == 1
    assert colours_of(H264, 2, 2160) == 9
    assert colours_of(H264, 5, 1080) == 5
    assert colours_of(H265, 0, 480) == 5  # RGB isn't YUV


class Bench:
    """Decoders with threads, and what they have told."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(3)
        self.told: list[tuple[int, Any]] = []
        self.at_least = threading.Condition()
        self.decoders = Decoders(self.pool.submit, self.done)

    def done(self, number: int, result: Any) -> None:
        with self.at_least:
            self.told.append((number, result))
            self.at_least.notify_all()

    def wait(self, count: int) -> list[tuple[int, Any]]:
        with self.at_least:
            assert self.at_least.wait_for(lambda: len(self.told) >= count, 30)
            return list(self.told)


def test_frames_of_a_video_are_decoded_in_order_and_videos_side_by_side() -> None:
    bench = Bench()
    count = 0
    for step in range(6):
        for stream, codec in enumerate(ALL):
            frame = frames(codec)[step]
            bench.decoders.decode(10 * stream + step, frame._replace(key=(0, stream, 1)))
            count += 1
    told = bench.wait(count)
    assert len(bench.decoders) == 4
    for stream in range(4):
        mine = [(number, result) for number, result in told if number // 10 == stream]
        assert [number % 10 for number, _ in mine] == list(range(6))
        for number, result in mine:
            assert isinstance(result, Decoded)
            assert mean_error(result.rows(), moving(number % 10, WIDTH, HEIGHT).tobytes()) < 6
        bench.decoders.end((0, stream, 1))
    bench.pool.shutdown()
    assert len(bench.decoders) == 0


def held() -> tuple[Decoders, list[Callable[[], None]], list[tuple[int, Any]]]:
    """Decoders whose work waits until it is called."""
    work: list[Callable[[], None]] = []
    told: list[tuple[int, Any]] = []
    return Decoders(work.append, lambda number, result: told.append((number, result))), work, told


def test_late_frames_that_a_newer_one_hides_are_skipped() -> None:
    decoders, work, told = held()
    for number, frame in enumerate(frames(VP8)):
        decoders.decode(number, frame._replace(covers=number != 3))
    while work:
        work.pop(0)()
    shown = [number for number, result in told if result is not None]
    assert shown == [2, 5]
    assert [number for number, _ in told] == list(range(6))


def test_more_frames_than_may_wait_are_refused_until_a_key_frame() -> None:
    decoders, work, told = held()
    key, later = frames(VP8)[:2]
    decoders.decode(0, key)
    for number in range(1, MAX_QUEUED + 2):
        decoders.decode(number, later._replace(number=number))
    refused = [(number, type(result)) for number, result in told]
    assert refused == [(MAX_QUEUED, StateError), (MAX_QUEUED + 1, StateError)]
    while work:
        work.pop(0)()
    del told[:]
    decoders.decode(200, later._replace(number=MAX_QUEUED + 2))
    decoders.decode(201, key._replace(number=MAX_QUEUED + 3))
    while work:
        work.pop(0)()
    assert [type(result) for _, result in told] == [StateError, Decoded]


def test_a_video_that_ends_while_frames_wait_has_them_decoded() -> None:
    decoders, work, told = held()
    for number, frame in enumerate(frames(H264)):
        decoders.decode(number, frame)
    decoders.end(KEY)
    assert len(decoders) == 1
    while work:
        work.pop(0)()
    assert [number for number, _ in told] == list(range(6))
    assert len(decoders) == 0
    decoders.end(KEY)


def test_what_waits_is_dropped_at_the_end() -> None:
    decoders, work, told = held()
    for number, frame in enumerate(frames(H264)):
        decoders.decode(number, frame)
    decoders.close()
    while work:
        work.pop(0)()
    assert told == []
    assert len(decoders) == 0


def test_without_pyav_only_mjpeg_is_there_and_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert available() == tuple(CODECS.values())
    frame = frames(VP8)[0]
    monkeypatch.setitem(sys.modules, "av", None)
    assert available() == ("mjpeg",)
    with pytest.raises(MissingProgram, match=r"pip install 'aiospice\[video\]'"):
        Decoder(VP8).decode(frame)


def test_a_codec_that_this_pyav_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiospice.aio.video._NAMES", {VP8: "nonsuch"})
    with pytest.raises(MissingProgram, match="doesn't decode vp8"):
        Decoder(VP8).decode(frames(VP8)[0])


def test_errors_are_results() -> None:
    decoders, work, told = held()
    decoders.decode(7, frames(VP8)[0]._replace(data=b"\0\1\2"))
    work.pop()()
    assert isinstance(told[0][1], AiospiceError)
