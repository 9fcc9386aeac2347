# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# mypy: ignore-errors
"""Boxes of marked tiles: few around all that are marked, and the largest without any.

A grid has a byte a tile (0 or 1), in rows of ``columns``; boxes are in tiles. Compiled where
possible, since screens that scroll have dozens of boxes to be joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiospice import _cython as cython
else:
    try:
        import cython
    except ImportError:
        from aiospice import _cython as cython

__all__ = ["MAX_RECTANGLES", "largest", "rectangles"]

#: Boxes that the changes of one surface are made into at most.
MAX_RECTANGLES = 48
#: Tiles that a box may take in for nothing: sending them costs less than one more message.
_WASTE = 2


def _numbers(count):
    """Room for so many numbers of 32 bits, one at least."""
    return memoryview(bytearray(4 * max(1, count))).cast("i")


@cython.locals(
    marks="const unsigned char[::1]",
    boxes="int[::1]",
    runs="int[::1]",
    across=cython.Py_ssize_t,
    rows=cython.Py_ssize_t,
    most=cython.Py_ssize_t,
    count=cython.Py_ssize_t,
    done=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    index=cython.Py_ssize_t,
)
def rectangles(grid, columns):
    """Boxes around all tiles that are marked by 1; few, and none overlaps another.

    A list of (left, top, right, bottom), by top and left, of `MAX_RECTANGLES` at most.
    """
    across = columns
    rows = len(grid) // columns
    marks = grid
    most = 0
    for y in range(rows):
        if not y or not _as_above(marks, across, y):
            most += _count_runs(marks, across * y, across)
    if not most:
        return []
    boxes = _numbers(4 * most)
    runs = _numbers(6 * ((across + 2) // 3))
    done = count = 0
    for y in range(rows):
        if not y or not _as_above(marks, across, y):
            done, count = _next_row(marks, across, y, runs, count, boxes, done)
    for index in range(count):
        done = _put(boxes, done, runs[3 * index], runs[3 * index + 2], runs[3 * index + 1], rows)
    allowed = _WASTE
    while True:
        done = _join(boxes, done, allowed)
        if done <= MAX_RECTANGLES:
            break
        allowed = 2 * allowed + 2
    return [
        (boxes[4 * index], boxes[4 * index + 1], boxes[4 * index + 2], boxes[4 * index + 3])
        for index in range(done)
    ]


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
@cython.locals(
    marks="const unsigned char[::1]",
    across=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    at=cython.Py_ssize_t,
)
@cython.returns(cython.bint)
def _as_above(marks, across, y):
    """Whether a row of tiles is as the one above it."""
    for at in range(across * y, across * (y + 1)):  # noqa: SIM110 - a loop of C
        if marks[at] != marks[at - across]:
            return False
    return True


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
@cython.locals(
    marks="const unsigned char[::1]",
    start=cython.Py_ssize_t,
    across=cython.Py_ssize_t,
    at=cython.Py_ssize_t,
)
@cython.returns(cython.Py_ssize_t)
def _run_from(marks, start, across, at):
    """Where the next run of marked tiles begins in a row, ``across`` if there is none."""
    while at < across and not marks[start + at]:
        at += 1
    return at


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
@cython.locals(
    marks="const unsigned char[::1]",
    start=cython.Py_ssize_t,
    across=cython.Py_ssize_t,
    at=cython.Py_ssize_t,
)
@cython.returns(cython.Py_ssize_t)
def _run_to(marks, start, across, at):
    """Where a run ends that is at ``at``; a gap of one tile is taken in."""
    while at < across and (marks[start + at] or (at + 1 < across and marks[start + at + 1])):
        at += 1
    return at


@cython.cfunc
@cython.exceptval(check=False)
@cython.locals(
    marks="const unsigned char[::1]",
    start=cython.Py_ssize_t,
    across=cython.Py_ssize_t,
    at=cython.Py_ssize_t,
    count=cython.Py_ssize_t,
)
@cython.returns(cython.Py_ssize_t)
def _count_runs(marks, start, across):
    count = 0
    at = _run_from(marks, start, across, 0)
    while at < across:
        count += 1
        at = _run_from(marks, start, across, _run_to(marks, start, across, at))
    return count


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
@cython.locals(
    boxes="int[::1]",
    done=cython.Py_ssize_t,
    left=cython.int,
    top=cython.int,
    right=cython.int,
    bottom=cython.int,
)
@cython.returns(cython.Py_ssize_t)
def _put(boxes, done, left, top, right, bottom):
    """Add a box."""
    boxes[4 * done] = left
    boxes[4 * done + 1] = top
    boxes[4 * done + 2] = right
    boxes[4 * done + 3] = bottom
    return done + 1


@cython.cfunc
@cython.locals(
    marks="const unsigned char[::1]",
    boxes="int[::1]",
    runs="int[::1]",
    across=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    start=cython.Py_ssize_t,
    count=cython.Py_ssize_t,
    now=cython.Py_ssize_t,
    done=cython.Py_ssize_t,
    at=cython.Py_ssize_t,
    end=cython.Py_ssize_t,
    index=cython.Py_ssize_t,
    new=cython.Py_ssize_t,
    top=cython.Py_ssize_t,
)
def _next_row(marks, across, y, runs, count, boxes, done):
    """Go on with runs (left, right, top) that are as above, end the others: they are boxes.

    The runs of the new row are put together in the second half of ``runs``.
    """
    start = across * y
    new = 3 * ((across + 2) // 3)
    now = index = 0
    at = _run_from(marks, start, across, 0)
    while at < across:
        end = _run_to(marks, start, across, at)
        top = y
        while index < count and runs[3 * index] < at:
            done = _put(boxes, done, runs[3 * index], runs[3 * index + 2], runs[3 * index + 1], y)
            index += 1
        if index < count and runs[3 * index] == at:
            if runs[3 * index + 1] == end:
                top = runs[3 * index + 2]
            else:
                done = _put(boxes, done, at, runs[3 * index + 2], runs[3 * index + 1], y)
            index += 1
        runs[new + 3 * now] = at
        runs[new + 3 * now + 1] = end
        runs[new + 3 * now + 2] = top
        now += 1
        at = _run_from(marks, start, across, end)
    while index < count:
        done = _put(boxes, done, runs[3 * index], runs[3 * index + 2], runs[3 * index + 1], y)
        index += 1
    for index in range(3 * now):
        runs[index] = runs[new + index]
    return done, now


@cython.cfunc
@cython.exceptval(check=False)
@cython.locals(
    boxes="int[::1]",
    count=cython.Py_ssize_t,
    index=cython.Py_ssize_t,
    at=cython.Py_ssize_t,
    left=cython.int,
    top=cython.int,
    right=cython.int,
    bottom=cython.int,
)
@cython.returns(cython.void)
def _sort(boxes, count):
    """Put boxes in order, by top and left; they mostly are."""
    for index in range(1, count):
        left, top = boxes[4 * index], boxes[4 * index + 1]
        right, bottom = boxes[4 * index + 2], boxes[4 * index + 3]
        at = index
        while at > 0 and (
            boxes[4 * at - 3] > top or (boxes[4 * at - 3] == top and boxes[4 * at - 4] > left)
        ):
            boxes[4 * at], boxes[4 * at + 1] = boxes[4 * at - 4], boxes[4 * at - 3]
            boxes[4 * at + 2], boxes[4 * at + 3] = boxes[4 * at - 2], boxes[4 * at - 1]
            at -= 1
        _put(boxes, at, left, top, right, bottom)


@cython.cfunc
@cython.exceptval(check=False)
@cython.locals(
    boxes="int[::1]",
    count=cython.Py_ssize_t,
    wanted=cython.Py_ssize_t,
    done=cython.Py_ssize_t,
    source=cython.Py_ssize_t,
    index=cython.Py_ssize_t,
    at=cython.Py_ssize_t,
    left=cython.Py_ssize_t,
    top=cython.Py_ssize_t,
    right=cython.Py_ssize_t,
    bottom=cython.Py_ssize_t,
    a=cython.Py_ssize_t,
    b=cython.Py_ssize_t,
    c=cython.Py_ssize_t,
    d=cython.Py_ssize_t,
    x=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    z=cython.Py_ssize_t,
    w=cython.Py_ssize_t,
    around=cython.Py_ssize_t,
    extra=cython.Py_ssize_t,
    shared=cython.bint,
)
@cython.returns(cython.Py_ssize_t)
def _join(boxes, count, wanted):
    """Join boxes that overlap, or waste no more than so many tiles, or a fifth; how many are left.

    The first ones of ``boxes`` are those that are left.
    """
    _sort(boxes, count)
    done = 0
    for source in range(count):
        left, top = boxes[4 * source], boxes[4 * source + 1]
        right, bottom = boxes[4 * source + 2], boxes[4 * source + 3]
        index = 0
        while index < done:
            a, b, c, d = (
                boxes[4 * index],
                boxes[4 * index + 1],
                boxes[4 * index + 2],
                boxes[4 * index + 3],
            )
            x = a if a < left else left
            y = b if b < top else top
            z = c if c > right else right
            w = d if d > bottom else bottom
            around = (z - x) * (w - y)
            extra = around - (right - left) * (bottom - top) - (c - a) * (d - b)
            shared = (left < c and a < right) and (top < d and b < bottom)
            if shared or extra <= wanted or 5 * extra <= around:
                left, top, right, bottom = x, y, z, w
                done -= 1
                for at in range(4 * index, 4 * done):
                    boxes[at] = boxes[at + 4]
                index = 0
            else:
                index += 1
        done = _put(boxes, done, left, top, right, bottom)
    return done


@cython.locals(
    marks="const unsigned char[::1]",
    heights="int[::1]",
    firsts="int[::1]",
    across=cython.Py_ssize_t,
    rows=cython.Py_ssize_t,
    x=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    count=cython.Py_ssize_t,
    height=cython.int,
    first=cython.int,
    tall=cython.int,
    most=cython.Py_ssize_t,
    left=cython.Py_ssize_t,
    top=cython.Py_ssize_t,
    right=cython.Py_ssize_t,
    bottom=cython.Py_ssize_t,
)
def largest(grid, columns):
    """The largest box of tiles that are 0: (left, top, right, bottom)."""
    across = columns
    rows = len(grid) // columns
    marks = grid
    heights = _numbers(across + 1)
    firsts = _numbers(2 * (across + 2))
    most = left = top = right = bottom = 0
    for y in range(rows):
        count = 0
        for x in range(across + 1):
            height = 0
            if x < across and not marks[across * y + x]:
                height = heights[x] + 1
            heights[x] = height
            first = x
            while count and firsts[2 * count - 1] >= height:
                count -= 1
                first, tall = firsts[2 * count], firsts[2 * count + 1]
                if (x - first) * tall > most:
                    most = (x - first) * tall
                    left, top, right, bottom = first, y + 1 - tall, x, y + 1
            firsts[2 * count] = first
            firsts[2 * count + 1] = height
            count += 1
    return (left, top, right, bottom)
