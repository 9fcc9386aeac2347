"""The loops that look for what has changed: right, in bounds, and the same uncompiled."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.twins import uncompiled

from aiospice.server import boxes, compare, moves, shots
from aiospice.server.boxes import MAX_RECTANGLES, rectangles
from aiospice.server.compare import ALL, COLOUR, TILE
from aiospice.server.moves import find_move

SLOW: Any = uncompiled("aiospice.server.compare")
BOTH = (compare, SLOW)
BOTH_SHOTS: Any = (shots, uncompiled("aiospice.server.shots"))
BOTH_BOXES: Any = (boxes, uncompiled("aiospice.server.boxes"))
BOTH_MOVES: Any = (moves, uncompiled("aiospice.server.moves"))
SEEDS = st.integers(0, 1 << 30)
Box = tuple[int, int, int, int]


def words(data: bytes | bytearray) -> memoryview:
    return memoryview(data).cast("I")


def two(seed: int) -> tuple[int, int, bytearray, bytearray]:
    """A picture, and one that differs in some pixels or only in the byte that doesn't count."""
    chance = random.Random(seed)
    width, height = chance.randint(1, 70), chance.randint(1, 50)
    old = bytearray(chance.choice((bytes(4), chance.randbytes(4))) * (width * height))
    new = bytearray(old)
    for _ in range(chance.choice((0, 1, 2, 30))):
        at = 4 * chance.randrange(width * height) + chance.choice((0, 1, 2, 3, 3))
        new[at] ^= chance.randint(1, 255)
    return width, height, old, new


def some_box(seed: int, width: int, height: int) -> Box:
    chance = random.Random(seed)
    left, right = sorted((chance.randint(0, width), chance.randint(0, width)))
    top, bottom = sorted((chance.randint(0, height), chance.randint(0, height)))
    return left, top, right, bottom


def differing(
    width: int, box: Box, old: bytes | bytearray, new: bytes | bytearray, mask: int
) -> list[tuple[int, int]]:
    a, b = words(old), words(new)
    return [
        (x, y)
        for y in range(box[1], box[3])
        for x in range(box[0], box[2])
        if (a[y * width + x] ^ b[y * width + x]) & mask
    ]


@given(SEEDS, st.sampled_from((ALL, COLOUR)))
def test_what_differs_is_marked_and_bounded(seed: int, mask: int) -> None:
    width, height, old, new = two(seed)
    box = some_box(seed, width, height)
    pixels = differing(width, box, old, new, mask)
    columns = -(-width // TILE)
    tiles = {(y // TILE) * columns + x // TILE for x, y in pixels}
    for module in BOTH:
        grid = bytearray(columns * -(-height // TILE))
        assert module.mark(words(old), words(new), width, *box, mask, grid) == len(tiles)
        assert {place for place, mark in enumerate(grid) if mark} == tiles
        found = module.tighten(words(old), words(new), width, *box, mask)
        if not pixels:
            assert found is None
        else:
            across, down = [x for x, _ in pixels], [y for _, y in pixels]
            assert found == (min(across), min(down), max(across) + 1, max(down) + 1)


@given(SEEDS, st.sampled_from((ALL, COLOUR)))
def test_one_colour_is_told_from_several(seed: int, mask: int) -> None:
    width, height, _, new = two(seed)
    box = some_box(seed, width, height)
    pixels = words(new)
    found = {
        pixels[y * width + x] & mask for y in range(box[1], box[3]) for x in range(box[0], box[2])
    }
    want = found.pop() if len(found) == 1 else -1
    assert [module.solid(words(new), width, *box, mask) for module in BOTH] == [want, want]


@given(SEEDS)
def test_numbers_of_images_and_steps_are_the_same_uncompiled(seed: int) -> None:
    width, height, old, new = two(seed)
    box = some_box(seed, width, height)
    for mask in (ALL, COLOUR):
        one, other = (module.hash_rows(words(new), width, *box, mask) for module in BOTH_SHOTS)
        assert one == other < 1 << 64
        same = not differing(width, box, old, new, mask)
        assert (shots.hash_rows(words(old), width, *box, mask) == one) == same
    fast, slow = (module.count_steps(words(new), width, *box, 2) for module in BOTH_SHOTS)
    assert fast == slow
    rows = -(-(box[3] - box[1]) // 2)
    assert sum(fast) == rows * max(0, box[2] - box[0] - 1)


@given(SEEDS)
def test_moves_are_traced_the_same_uncompiled(seed: int) -> None:
    chance = random.Random(seed)
    width, height = chance.randint(16, 60), chance.randint(4, 40)
    old = chance.randbytes(4 * width * height)
    shift = 4 * chance.randint(0, 2 * width)
    new = old[shift:] + chance.randbytes(shift)
    results = []
    for module in BOTH:
        places = memoryview(bytearray(8 * 16)).cast("i")
        hits = memoryview(bytearray(12 * 40)).cast("i")
        slots = memoryview(bytearray(4096)).cast("i")
        box = (0, 0, width, height)
        told = module.trace(words(old), words(new), width, *box, COLOUR, places, hits, slots)
        grid = bytearray(64)
        dy = min(1, height - 1)
        part = (0, 0, width, height - dy)
        module.moved(words(old), words(new), width, *part, 0, -dy, COLOUR, grid)
        results.append((told, places.tolist(), hits.tolist(), grid))
    assert results[0] == results[1]


@given(SEEDS, st.sampled_from((ALL, COLOUR)))
def test_what_is_dragged_is_compared_and_moved(seed: int, mask: int) -> None:
    chance = random.Random(seed)
    width, height = chance.randint(1, 70), chance.randint(1, 40)
    old = bytes(chance.choice((0, 0, 7)) for _ in range(4 * width * height))
    dx, dy = chance.randint(1 - width, width - 1), chance.randint(1 - height, height - 1)
    left, top, right, bottom = (
        max(0, dx),
        max(0, dy),
        min(width, width + dx),
        min(height, height + dy),
    )
    new = bytearray(old)
    moved = bytearray(old)
    for y in range(top, bottom):
        source = 4 * ((y - dy) * width + left - dx)
        row = old[source : source + 4 * (right - left)]
        at = 4 * (y * width + left)
        moved[at : at + len(row)] = new[at : at + len(row)] = row
    for _ in range(chance.choice((0, 0, 1, 5))):
        new[chance.randrange(len(new))] ^= chance.randint(1, 255)
    box = (left, top, right, bottom)
    want = bytearray(200)
    compare.moved(words(old), words(new), width, *box, dx, dy, mask, want)
    for module in BOTH:
        grid, shadow = bytearray(200), bytearray(old)
        module.drag(words(shadow), words(new), width, *box, dx, dy, mask, grid)
        assert (grid, shadow) == (want, moved)
    sure = {module.sample(words(old), words(new), width, *box, dx, dy, mask, 20) for module in BOTH}
    assert len(sure) == 1
    if right - left >= 16 and bottom - top > 3 and not any(want):
        assert sure == {True}


@pytest.mark.parametrize("module", BOTH_MOVES, ids=["as imported", "uncompiled"])
def test_what_has_moved_so_before_is_tried_first(module: Any) -> None:
    width, height = 320, 256
    chance = random.Random(5)
    old = bytearray(chance.choice((0, 0, 9)) for _ in range(4 * width * height))
    new = old[4 * width * 16 :] + bytearray(4 * width * 16)
    new[4 * width * 100] ^= 9
    box = (0, 0, width, height)
    assert module.moves_on(words(old), words(new), width, box, COLOUR, (0, -15)) is None
    move = module.moves_on(words(old), words(new), width, box, COLOUR, (0, -16))
    assert move.done
    assert (move.box, move.dx, move.dy) == ((0, 0, width, height - 16), 0, -16)
    assert {(0, height - 16, width, height), (0, 96, 16, 112)} == set(move.rest)
    assert old[: 4 * width * 96] == new[: 4 * width * 96]


@given(st.integers(1, 12), st.data())
def test_the_largest_box_without_a_mark_is_found(columns: int, data: st.DataObject) -> None:
    grid = data.draw(st.binary(max_size=100).map(lambda raw: bytes(byte & 1 for byte in raw)))
    rows = len(grid) // columns
    grid = grid[: rows * columns]
    best = 0
    for a in range(columns):
        for b in range(rows):
            for c in range(a + 1, columns + 1):
                for d in range(b + 1, rows + 1):
                    if (c - a) * (d - b) > best and not any(
                        1 in grid[y * columns + a : y * columns + c] for y in range(b, d)
                    ):
                        best = (c - a) * (d - b)
    for module in BOTH_BOXES:
        left, top, right, bottom = module.largest(grid, columns)
        assert (right - left) * (bottom - top) == best
        assert not any(
            1 in grid[y * columns + left : y * columns + right] for y in range(top, bottom)
        )


@given(st.lists(st.tuples(st.integers(0, 2), *2 * [st.integers(0, 4)]), max_size=60))
def test_the_offset_that_most_hits_have_wins_the_first_of_several(
    hits: list[tuple[int, int, int]],
) -> None:
    anchors = [(1, 2), (3, 2), (2, 4)]
    votes = Counter((anchors[n][0] - x, anchors[n][1] - y) for n, x, y in hits)
    del votes[0, 0]
    (offset, count) = votes.most_common(1)[0] if votes else ((0, 0), 0)
    places, seen = (memoryview(bytearray(4 * 800)).cast("i") for _ in range(2))
    for index, number in enumerate(number for anchor in anchors for number in anchor):
        places[index] = number
    for index, number in enumerate(number for hit in hits for number in hit):
        seen[index] = number
    for module in BOTH_MOVES:
        assert module.vote(places, seen, len(hits)) == (*offset, count)


@given(SEEDS)
def test_moves_and_rectangles_are_the_same_uncompiled(seed: int) -> None:
    chance = random.Random(seed)
    grid = bytes(chance.random() < 0.2 for _ in range(20 * 12))
    one, other = (module.rectangles(grid, 20) for module in BOTH_BOXES)
    assert one == other
    width, height, dy = 160, 60, chance.randint(1, 20)
    old = bytes(chance.choice((0, 0, 0, 9)) for _ in range(4 * width * height))
    new = old[4 * width * dy :] + bytes(4 * width * dy)
    box = (0, 0, width, height)
    moved, same = (
        module.find_move(words(old), words(new), width, box, COLOUR) for module in BOTH_MOVES
    )
    assert moved == same
    assert moved is not None
    assert (moved.dx, moved.dy) == (0, -dy)


@given(st.lists(st.integers(0, 65535), max_size=20), st.integers(0, 70000), st.integers(0, 5))
def test_warmth_rises_and_fades_the_same_uncompiled(
    warmth: list[int], amount: int, times: int
) -> None:
    grid = bytes(number & 1 for number in warmth)
    results = []
    for module in BOTH:
        view = memoryview(bytearray(2 * len(warmth))).cast("H")
        for place, number in enumerate(warmth):
            view[place] = number
        module.warm(view, grid, amount)
        assert view.tolist() == [min(65535, n + amount) if n & 1 else n for n in warmth]
        module.age(view, times)
        results.append(view.tolist())
    assert results[0] == results[1]


@pytest.mark.parametrize("module", BOTH, ids=["as imported", "uncompiled"])
@pytest.mark.parametrize("box", [(0, 0, 5, 4), (0, 0, 4, 5), (-1, 0, 2, 2), (3, 0, 2, 2)])
def test_a_box_outside_is_refused(module: Any, box: Box) -> None:
    data = words(bytes(4 * 4 * 4))
    calls: tuple[Callable[[], Any], ...] = (
        lambda: module.mark(data, data, 4, *box, ALL, bytearray(9)),
        lambda: module.tighten(data, data, 4, *box, ALL),
        lambda: module.solid(data, 4, *box, ALL),
        lambda: module.trace(data, data, 4, *box, ALL, data, data, data),
        lambda: module.moved(data, data, 4, *box, 0, 0, ALL, bytearray(9)),
        lambda: module.drag(words(bytearray(64)), data, 4, *box, 0, 0, ALL, bytearray(9)),
        lambda: module.sample(data, data, 4, *box, 0, 0, ALL, 20),
    )
    for call in calls:
        with pytest.raises(IndexError):
            call()
    with pytest.raises(IndexError):
        module.moved(data, data, 4, 0, 0, 4, 4, 0, 1, ALL, bytearray(9))
    with pytest.raises(IndexError):
        module.mark(data, data, 4, 0, 0, 4, 4, ALL, bytearray())
    with pytest.raises(IndexError):
        module.warm(memoryview(bytearray(4)).cast("H"), b"1", 1)


@pytest.mark.parametrize("module", BOTH_SHOTS, ids=["as imported", "uncompiled"])
@pytest.mark.parametrize("box", [(0, 0, 5, 4), (0, 0, 4, 5), (-1, 0, 2, 2), (3, 0, 2, 2)])
def test_no_image_is_made_of_a_box_outside(module: Any, box: Box) -> None:
    data, small = words(bytearray(4 * 4 * 4)), words(bytearray(4))
    calls: tuple[Callable[[], Any], ...] = (
        lambda: module.count_steps(data, 4, *box, 1),
        lambda: module.hash_rows(data, 4, *box, ALL),
        lambda: module.grab(data, None, 4, *box, ALL),
        lambda: module.grab(data, small, 4, 0, 0, 4, 4, ALL),
        lambda: module.grab(data, data, 4, 1, 1, 1, 2, ALL),
        lambda: module.grab(data, data, 4, 1, 1, 2, 1, ALL),
    )
    for call in calls:
        with pytest.raises(IndexError):
            call()


@given(SEEDS, st.sampled_from((ALL, COLOUR)), st.booleans())
def test_a_box_is_published_copied_and_numbered_at_once(
    seed: int, mask: int, publish: bool
) -> None:
    width, height, old, new = two(seed)
    left, top, right, bottom = box = some_box(seed, width, height)
    if left == right or top == bottom:
        return
    rows = [new[4 * (y * width + left) : 4 * (y * width + right)] for y in range(top, bottom)]
    want = (
        b"".join(rows),
        shots.hash_rows(words(new), width, *box, mask),
        compare.solid(words(new), width, *box, mask),
    )
    for module in BOTH_SHOTS:
        shadow = bytearray(old)
        to = words(shadow) if publish else None
        assert module.grab(words(new), to, width, *box, mask) == want
        for y in range(height):
            row = old[4 * y * width : 4 * (y + 1) * width]
            if publish and top <= y < bottom:
                row[4 * left : 4 * right] = rows[y - top]
            assert shadow[4 * y * width : 4 * (y + 1) * width] == row


@given(st.integers(1, 40), st.data())
def test_rectangles_cover_all_marked_tiles_and_no_two_overlap(
    columns: int, data: st.DataObject
) -> None:
    grid = data.draw(st.binary(max_size=400).map(lambda raw: bytes(byte & 1 for byte in raw)))
    grid = grid[: len(grid) // columns * columns]
    boxes = rectangles(grid, columns)
    assert len(boxes) <= MAX_RECTANGLES
    covered: set[tuple[int, int]] = set()
    for left, top, right, bottom in boxes:
        tiles = {(x, y) for x in range(left, right) for y in range(top, bottom)}
        assert not tiles & covered
        covered |= tiles
    assert {(at % columns, at // columns) for at, mark in enumerate(grid) if mark} <= covered


@pytest.mark.parametrize(("dx", "dy"), [(0, -16), (0, 7), (23, 0), (-5, 9), (40, 30)])
def test_what_was_moved_is_found(dx: int, dy: int) -> None:
    import numpy as np

    chance = np.random.default_rng(1)
    old = np.zeros((200, 300, 4), np.uint8)
    window = chance.integers(0, 255, (100, 150, 4), np.uint8)
    new = old.copy()
    old[40:140, 60:210] = window
    new[40 + dy : 140 + dy, 60 + dx : 210 + dx] = window
    a, b = words(old.tobytes()), words(new.tobytes())
    box = compare.tighten(a, b, 300, 0, 0, 300, 200, COLOUR)
    assert box is not None
    move = find_move(a, b, 300, box, COLOUR)
    assert move is not None
    assert (move.dx, move.dy) == (dx, dy)
    left, top, right, bottom = move.box
    assert np.array_equal(
        new[top:bottom, left:right], old[top - dy : bottom - dy, left - dx : right - dx]
    )
    # Most of the window comes from where it was, but for what lay outside of what has changed.
    assert (right - left) * (bottom - top) >= 0.6 * 100 * 150


def test_new_pixels_are_not_taken_for_moved_ones() -> None:
    import numpy as np

    chance = np.random.default_rng(1)
    a, b = (words(chance.integers(0, 255, (200, 300, 4), np.uint8).tobytes()) for _ in range(2))
    assert find_move(a, b, 300, (0, 0, 300, 200), COLOUR) is None
