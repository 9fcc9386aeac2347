"""Opus: what is packed is heard again, as long and as loud; what is no packet is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.aio.opus import FREQUENCY, PACKET_SAMPLES, OpusDecoder, OpusEncoder, opus_works
from aiospice.errors import DecodeError


def tone(seconds: float, channels: int, hertz: float = 440.0, level: int = 8000) -> bytes:
    """A sine, the same on all channels."""
    time = np.arange(round(seconds * FREQUENCY)) / FREQUENCY
    samples = (level * np.sin(2 * np.pi * hertz * time)).astype("<i2")
    return np.repeat(samples, channels).tobytes()


def test_opus_is_there() -> None:
    assert opus_works()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("piece", [480, 1000, 333])
def test_a_tone_comes_back_as_long_and_as_loud(channels: int, piece: int) -> None:
    encoder, decoder = OpusEncoder(channels), OpusDecoder(channels)
    sound = tone(0.5, channels)
    step = piece * 2 * channels
    packets = [
        packet
        for at in range(0, len(sound), step)
        for packet in encoder.encode(sound[at : at + step])
    ]
    heard = b"".join(decoder.decode(packet) for packet in packets)
    samples = len(sound) // 2 // channels
    assert samples - len(heard) // 2 // channels <= PACKET_SAMPLES
    out = np.frombuffer(heard, "<i2")[FREQUENCY // 10 * channels :].astype(float)
    assert abs(np.sqrt((out**2).mean()) / (8000 / np.sqrt(2)) - 1) < 0.1
    assert sum(map(len, packets)) < len(sound) / 4


@given(st.binary(max_size=200))
def test_what_is_no_packet_is_refused_or_is_short(packet: bytes) -> None:
    decoder = OpusDecoder()
    try:
        assert len(decoder.decode(packet)) <= FREQUENCY * 4 * 120 // 1000
    except DecodeError:
        pass
    with pytest.raises(DecodeError):
        decoder.decode(bytes(5000))
