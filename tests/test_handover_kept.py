"""The list of images that a client keeps, as it goes with a display's record."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiospice.errors import DecodeError
from aiospice.server.kept import MAX_IMAGES, ClientCaches, ImageCache
from aiospice.server.keptlist import LIST_MORE, LISTED, list_kept, split_kept

NUMBERS = st.integers(0, (1 << 64) - 1)
LISTS = st.lists(st.tuples(NUMBERS, st.integers(256, 9_000)), unique_by=lambda each: each[0])


def cache_of(kept: list[tuple[int, int]]) -> ImageCache:
    cache = ImageCache(ClientCaches())
    cache.go_on(tuple(kept))
    return cache


@settings(deadline=None)
@given(record=st.binary(max_size=200), kept=LISTS)
def test_what_is_listed_is_read_as_it_was(record: bytes, kept: list[tuple[int, int]]) -> None:
    cache = cache_of(kept)
    assert split_kept(list_kept(record, cache)) == (record, tuple(kept))
    assert cache.caches.pixels == sum(size for _, size in kept)


def test_no_more_are_listed_than_there_is_room_for_and_those_used_last() -> None:
    cache = cache_of([(id, 300) for id in range(MAX_IMAGES)])
    cache.use(7)
    data = list_kept(b"record", cache, LISTED)
    assert len(data) == len(b"record") + LIST_MORE
    _, kept = split_kept(data)
    assert kept is not None
    assert kept[-1] == (7, 300)
    assert kept[0] == (MAX_IMAGES - LISTED + 1, 300)


@settings(deadline=None)
@given(data=st.binary(max_size=100))
def test_any_bytes_are_a_list_or_refused(data: bytes) -> None:
    for found in (data, b"AIOX" + data, b"AIOX\0\0\0\0" + data):
        try:
            record, kept = split_kept(found)
        except DecodeError:
            continue
        assert len(record) <= len(found)
        assert kept is None or len(kept) * 12 <= len(found)


def test_an_image_is_listed_once() -> None:
    with pytest.raises(DecodeError, match="twice"):
        split_kept(b"AIOX\0\0\0\0" + 2 * (bytes(8) + b"\0\1\0\0"))
    with pytest.raises(DecodeError):
        split_kept(b"AIOX\0\0\0\0" + bytes(12 * (MAX_IMAGES + 1)))
