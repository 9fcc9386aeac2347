"""Deflated GLZ streams: the announced size is the limit, and the data must be able to hold it."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.codecs.zlib import MAX_SIZE, deflate, inflate
from aiospice.errors import DecodeError


@given(st.binary(max_size=3000), st.integers(0, 9))
def test_what_is_deflated_is_inflated(stream: bytes, level: int) -> None:
    assert inflate(deflate(stream, level), len(stream)) == stream


@pytest.mark.parametrize("size", [0, 99, 101, 4000])
def test_another_size_than_announced_is_refused(size: int) -> None:
    with pytest.raises(DecodeError, match=f"{size} bytes that were announced"):
        inflate(deflate(bytes(100)), size)


def test_a_bomb_is_stopped_at_the_announced_size() -> None:
    bomb = zlib.compress(bytes(50 << 20), 9)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="announced"):
            inflate(bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [MAX_SIZE + 1, 1 << 31])
def test_a_size_that_the_data_cannot_hold_is_refused(size: int) -> None:
    with pytest.raises(DecodeError, match="can't be inflated"):
        inflate(deflate(bytes(100)), size)


@given(st.binary(max_size=200), st.integers(0, 5000))
def test_anything_is_inflated_or_refused(data: bytes, size: int) -> None:
    try:
        assert len(inflate(data, size)) == size
    except DecodeError:
        pass


@pytest.mark.parametrize("cut", [1, 5, -1])
def test_a_stream_that_ends_too_early_is_refused(cut: int) -> None:
    with pytest.raises(DecodeError):
        inflate(deflate(bytes(range(256)) * 9)[:cut], 2304)


def test_bytes_behind_the_stream_are_refused() -> None:
    with pytest.raises(DecodeError):
        inflate(deflate(bytes(100)) + b"\0", 100)
