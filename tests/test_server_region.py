"""Regions: short lists of boxes that cover what was added, and nothing of what was cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiospice.server.region import MAX_BOXES, Box, add, area, cut, meet, shift

SIDE = st.integers(0, 12)
BOXES = st.tuples(SIDE, SIDE, SIDE, SIDE).map(
    lambda box: (min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3]))
)


def pixels(region: list[Box]) -> set[tuple[int, int]]:
    return {(x, y) for a, b, c, d in region for x in range(a, c) for y in range(b, d)}


@given(st.lists(st.tuples(st.booleans(), BOXES), max_size=12))
def test_boxes_are_added_and_cut(steps: list[tuple[bool, Box]]) -> None:
    region: list[Box] = []
    want: set[tuple[int, int]] = set()
    for more, box in steps:
        region = add(region, box) if more else cut(region, box)
        want = want | pixels([box]) if more else want - pixels([box])
        assert pixels(region) == want
        assert area(region) == len(want)
        assert pixels(meet(region, box)) == want & pixels([box])
        assert pixels(shift(region, 2, -1)) == {(x + 2, y - 1) for x, y in want}


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=200))
def test_there_are_never_many_boxes_and_nothing_is_lost(places: list[tuple[int, int]]) -> None:
    region: list[Box] = []
    for x, y in places:
        region = add(region, (x, y, x + 1, y + 1))
        assert len(region) <= MAX_BOXES
    assert all(meet(region, (x, y, x + 1, y + 1)) for x, y in places)
