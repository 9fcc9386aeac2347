"""Encoders of VP8: what they make our decoders show, and what they do when something is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from tests.random_guest import photo

from aiospice.aio.video import Decoder
from aiospice.aio.videoencode import MAX_ENCODERS, Encoders, vp8_works
from aiospice.codecs.video import VP8, VideoFrame, is_key_frame
from aiospice.errors import LocalError, MissingProgram
from aiospice.server.encode import Encoded, VideoJob


def job(
    time: int, width: int = 161, height: int = 99, key: int = 1, bits: int = 400_000
) -> VideoJob:
    pixels = photo(width, height, time).tobytes()
    return VideoJob((0, 1, key), width, height, bits, 1000 + 40 * time, pixels)


def frame(encoders: Encoders, work: VideoJob) -> bytes:
    result = encoders.run(work)
    assert isinstance(result, Encoded)
    return bytes(result.data)


@pytest.mark.parametrize("size", [(161, 99), (160, 96), (97, 700)])
def test_frames_come_out_as_they_went_in(size: tuple[int, int]) -> None:
    encoders, decoder = Encoders(), Decoder(VP8)
    for time in range(12):
        work = job(time, *size, bits=4_000_000)
        data = frame(encoders, work)
        assert is_key_frame(VP8, data) == (time == 0)
        shown = decoder.decode(VideoFrame((0, 0, 0), VP8, data, *size, number=time))
    assert shown is not None
    got = np.frombuffer(shown.rows(), np.uint8).reshape(size[1], size[0], 4)[:, :, :3]
    difference = got.astype(int) - photo(*size, 11)[:, :, :3]
    assert np.abs(difference).mean() < 4
    assert np.abs(difference.mean(axis=(0, 1))).max() < 2  # the colours are the right ones


def test_an_encoder_that_isnt_there_any_more_begins_with_a_key_frame() -> None:
    encoders = Encoders()
    frame(encoders, job(0))
    assert not is_key_frame(VP8, frame(encoders, job(1)))
    assert is_key_frame(VP8, frame(encoders, job(2, bits=300_000)))
    assert is_key_frame(VP8, frame(encoders, job(3, width=120, bits=300_000)))
    encoders.close()
    assert is_key_frame(VP8, frame(encoders, job(4, width=120, bits=300_000)))


def test_the_oldest_encoders_go() -> None:
    encoders = Encoders()
    for key in range(MAX_ENCODERS + 3):
        frame(encoders, job(0, 32, 32, key))
    assert len(encoders) == MAX_ENCODERS
    assert is_key_frame(VP8, frame(encoders, job(1, 32, 32, 0)))
    assert not is_key_frame(VP8, frame(encoders, job(1, 32, 32, MAX_ENCODERS)))


def test_what_fails_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(Encoders().run(job(0)._replace(pixels=b"short")), LocalError)
    assert isinstance(job(0).run(), MissingProgram)
    assert job(0).stateful
    assert vp8_works()
    monkeypatch.setitem(sys.modules, "av", None)
    assert isinstance(Encoders().run(job(0)), MissingProgram)
    assert not vp8_works()
