# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The loops that look at pixels to find the cheapest message: compiled where possible.

What has changed (`mark`, `tighten`), whether it is one colour (`solid`), and where it has been
before (`trace`, `sample`, `moved`, `drag`). What becomes of it is in `aiospice.server.shots`.

Pixels are words of 32 bits in a view of such words; a box is given by left, top, right and bottom,
the last two exclusive, and rows are ``width`` words apart. ``mask`` has the bits that count: the
fourth byte of a screen's pixel doesn't. Every function proves first that the box lies inside of
its buffers, and then goes without checks.
"""

from __future__ import annotations

import sys

try:
    import cython
except ImportError:
    from aiospice import _cython as cython

if cython.compiled:
    from cython.cimports.libc.string import memcmp, memmove

__all__ = [
    "ALL",
    "ANCHOR",
    "COLOUR",
    "TILE",
    "age",
    "drag",
    "mark",
    "moved",
    "sample",
    "solid",
    "tighten",
    "trace",
    "warm",
]

#: Sides of the tiles that changes are marked by.
TILE = 16
#: Pixels of the pieces of rows that are looked for elsewhere.
ANCHOR = 16
#: Masks: the colour of a pixel, and all of it.
COLOUR = 0x00FFFFFF if sys.byteorder == "little" else 0xFFFFFF00
ALL = 0xFFFFFFFF

if cython.compiled:  # noqa: SIM108 - a declaration is a statement
    _ROLL = cython.declare(cython.uint, 0x01000193)
else:
    _ROLL = 0x01000193


def _prove(pixels, width, left, top, right, bottom):
    """Raise `IndexError` unless the box is in rows of ``width`` words, and they in the buffer."""
    if not (0 <= left <= right <= width and 0 <= top <= bottom):
        raise IndexError(f"a box from {left}, {top} to {right}, {bottom} in rows of {width} pixels")
    if bottom * width > len(pixels):
        raise IndexError(f"{bottom} rows of {width} pixels in {len(pixels)}")


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    one="const unsigned int[::1]",
    other="const unsigned int[::1]",
    at=cython.Py_ssize_t,
    to=cython.Py_ssize_t,
    count=cython.Py_ssize_t,
)
@cython.returns(cython.bint)
def _equal(one, at, other, to, count):
    """Whether ``count`` words (1 or more) are the same in both; the C library is quick at that."""
    if cython.compiled:
        return memcmp(cython.address(one[at]), cython.address(other[to]), 4 * count) == 0
    return one[at : at + count] == other[to : to + count]


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    one="const unsigned int[::1]",
    other="const unsigned int[::1]",
    at=cython.Py_ssize_t,
    to=cython.Py_ssize_t,
    count=cython.Py_ssize_t,
    mask=cython.uint,
    z=cython.Py_ssize_t,
    differs=cython.uint,
)
@cython.returns(cython.bint)
def _alike(one, at, other, to, count, mask):
    """Whether ``count`` pixels are the same but for bits that don't count."""
    differs = 0
    for z in range(count):
        differs |= one[at + z] ^ other[to + z]
    return (differs & mask) == 0


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    one="const unsigned int[::1]",
    other="const unsigned int[::1]",
    at=cython.Py_ssize_t,
    mask=cython.uint,
    z=cython.Py_ssize_t,
    bits=cython.uint,
)
@cython.returns(cython.bint)
def _differs(one, other, at, mask):
    """Whether 16 pixels from ``at`` on are others: a loop that the compiler unrolls."""
    bits = 0
    for z in range(at, at + 16):
        bits |= one[z] ^ other[z]
    return (bits & mask) != 0


@cython.locals(
    one="const unsigned int[::1]",
    other="const unsigned int[::1]",
    marks="unsigned char[::1]",
    width=cython.Py_ssize_t,
    left=cython.Py_ssize_t,
    top=cython.Py_ssize_t,
    right=cython.Py_ssize_t,
    bottom=cython.Py_ssize_t,
    columns=cython.Py_ssize_t,
    mask=cython.uint,
    x=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    end=cython.Py_ssize_t,
    tile=cython.Py_ssize_t,
    row=cython.Py_ssize_t,
    line=cython.Py_ssize_t,
    found=cython.Py_ssize_t,
    open_=cython.Py_ssize_t,
    alike=cython.bint,
)
def mark(old, new, width, left, top, right, bottom, mask, grid):
    """Set to 1 the bytes of ``grid`` whose tiles differ within the box; tell how many it were.

    The grid has a byte a tile of `TILE` pixels square, rows of ``ceil(width / TILE)``.
    """
    _prove(old, width, left, top, right, bottom)
    _prove(new, width, left, top, right, bottom)
    columns = (width + 15) // 16
    if columns * ((bottom + 15) // 16) > len(grid):
        raise IndexError(f"{len(grid)} tiles for {bottom} rows of {width} pixels")
    one = old
    other = new
    marks = grid
    found = 0
    if left == right:
        return 0
    with cython.nogil:
        y = top
        while y < bottom:
            row = y * width
            if _equal(one, row + left, other, row + left, right - left):
                y += 1
                continue
            line = (y >> 4) * columns
            x = left
            open_ = 0
            while x < right:
                tile = line + (x >> 4)
                end = (x & ~15) + 16
                if end > right:
                    end = right
                if not marks[tile]:
                    if end - x == 16:
                        alike = not _differs(one, other, row + x, mask)
                    else:
                        alike = _alike(one, row + x, other, row + x, end - x, mask)
                    if alike:
                        open_ += 1
                        # Lines of text end somewhere: what is right of them is often the same.
                        if (
                            end < right
                            and not end & 127
                            and _equal(one, row + end, other, row + end, right - end)
                        ):
                            break
                    else:
                        marks[tile] = 1
                        found += 1
                x = end
            # Where all tiles are marked there is nothing more to find in their rows.
            y = y + 1 if open_ else (y & ~15) + 16
    return found


@cython.locals(
    one="const unsigned int[::1]",
    other="const unsigned int[::1]",
    width=cython.Py_ssize_t,
    left=cython.Py_ssize_t,
    top=cython.Py_ssize_t,
    right=cython.Py_ssize_t,
    bottom=cython.Py_ssize_t,
    mask=cython.uint,
    x=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    row=cython.Py_ssize_t,
    first=cython.Py_ssize_t,
    last=cython.Py_ssize_t,
    above=cython.Py_ssize_t,
    below=cython.Py_ssize_t,
    across=cython.Py_ssize_t,
)
def tighten(old, new, width, left, top, right, bottom, mask):
    """The smallest box around what differs within the box, None where nothing does."""
    _prove(old, width, left, top, right, bottom)
    _prove(new, width, left, top, right, bottom)
    one = old
    other = new
    first = right
    last = left
    above = top
    below = bottom
    across = right - left
    if across == 0:
        return None
    with cython.nogil:
        while above < below:
            row = above * width + left
            if not _equal(one, row, other, row, across) and not _alike(
                one, row, other, row, across, mask
            ):
                break
            above += 1
        while below > above:
            row = (below - 1) * width + left
            if not _equal(one, row, other, row, across) and not _alike(
                one, row, other, row, across, mask
            ):
                break
            below -= 1
        for y in range(above, below):
            row = y * width
            x = left
            while x + 16 <= first and not _differs(one, other, row + x, mask):
                x += 16
            while x < first and not (one[row + x] ^ other[row + x]) & mask:
                x += 1
            first = x
            x = right
            while x - 16 >= last and not _differs(one, other, row + x - 16, mask):
                x -= 16
            while x > last and not (one[row + x - 1] ^ other[row + x - 1]) & mask:
                x -= 1
            last = x
    return None if above == below else (first, above, last, below)


@cython.locals(
    words="const unsigned int[::1]",
    width=cython.Py_ssize_t,
    left=cython.Py_ssize_t,
    top=cython.Py_ssize_t,
    right=cython.Py_ssize_t,
    bottom=cython.Py_ssize_t,
    mask=cython.uint,
    x=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    row=cython.Py_ssize_t,
    colour=cython.uint,
    differs=cython.uint,
)
def solid(pixels, width, left, top, right, bottom, mask):
    """The colour (with ``mask`` applied) that all of the box has; -1 where there are several."""
    _prove(pixels, width, left, top, right, bottom)
    if left == right or top == bottom:
        return -1
    words = pixels
    colour = words[top * width + left] & mask
    differs = 0
    with cython.nogil:
        for y in range(top, bottom):
            row = y * width
            for x in range(left, right):
                differs |= words[row + x] ^ colour
            if differs & mask:
                break
    return -1 if differs & mask else colour


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    words="const unsigned int[::1]",
    at=cython.Py_ssize_t,
    mask=cython.uint,
    z=cython.Py_ssize_t,
    value=cython.uint,
)
@cython.returns(cython.uint)
def _anchor(words, at, mask):
    """The rolling hash of the 16 pixels from ``at`` on."""
    value = 0
    for z in range(16):
        if cython.compiled:
            value = value * _ROLL + (words[at + z] & mask)
        else:
            value = value * _ROLL + (words[at + z] & mask) & 0xFFFFFFFF
    return value


@cython.locals(
    one="const unsigned int[::1]",
    other="const unsigned int[::1]",
    into="int[::1]",
    keys="unsigned int[::1]",
    table="int[::1]",
    width=cython.Py_ssize_t,
    left=cython.Py_ssize_t,
    top=cython.Py_ssize_t,
    right=cython.Py_ssize_t,
    bottom=cython.Py_ssize_t,
    mask=cython.uint,
    x=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    row=cython.Py_ssize_t,
    z=cython.Py_ssize_t,
    across=cython.Py_ssize_t,
    band=cython.Py_ssize_t,
    down=cython.Py_ssize_t,
    wanted=cython.Py_ssize_t,
    anchors=cython.Py_ssize_t,
    found=cython.Py_ssize_t,
    room=cython.Py_ssize_t,
    steps=cython.int,
    value=cython.uint,
    power=cython.uint,
    slot=cython.Py_ssize_t,
)
def trace(old, new, width, left, top, right, bottom, mask, places, hits, slots):
    """Look in the box of the old pixels for pieces of rows of the new ones.

    About ``len(places) // 2`` pieces (anchors) of `ANCHOR` pixels with several colours are taken
    from all over the box; ``places`` gets where they are: x and y. ``hits`` gets where each was
    found: number of the anchor, x and y, as long as there is room. ``slots`` is room for a table:
    1024 numbers. Tells how many anchors and how many hits there are.
    """
    _prove(old, width, left, top, right, bottom)
    _prove(new, width, left, top, right, bottom)
    if right - left < 16 or len(slots) < 1024:
        return 0, 0
    one = old
    other = new
    into = places
    table = slots
    keys = memoryview(bytearray(4 * (len(places) // 2 + 1))).cast("I")
    result = hits
    wanted = len(places) // 2
    anchors = 0
    with cython.nogil:
        for z in range(1024):
            table[z] = -1
        down = 1
        while (bottom - top) // (down * 2) * ((right - left) // 32) >= wanted:
            down *= 2
        across = 16
        band = 0
        while top + band * down < bottom and anchors < wanted:
            # Elsewhere in each band, or lines of text as far apart would lie between all of them.
            y = top + band * down + (band * 5 + down // 2) % down
            band += 1
            if y >= bottom:
                y = bottom - 1
            row = y * width
            x = left + (y * 7 & 15)
            while x + 16 <= right and anchors < wanted:
                steps = 0
                for z in range(x + 1, x + 16):
                    if (other[row + z] ^ other[row + z - 1]) & mask:
                        steps += 1
                if steps >= 4 and _differs(one, other, row + x, mask):
                    value = _anchor(other, row + x, mask)
                    slot = (value ^ value >> 15) & 1023
                    if table[slot] < 0:
                        table[slot] = anchors
                        keys[anchors] = value
                        into[2 * anchors] = x
                        into[2 * anchors + 1] = y
                        anchors += 1
                        x += 32
                x += across
    found = _search(one, width, left, top, right, bottom, mask, table, keys, result, anchors)
    return anchors, found


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    words="const unsigned int[::1]",
    at=cython.Py_ssize_t,
    mask=cython.uint,
    z=cython.Py_ssize_t,
    first=cython.uint,
    bits=cython.uint,
)
@cython.returns(cython.bint)
def _flat(words, at, mask):
    """Whether 32 pixels are of one colour."""
    first = words[at]
    bits = 0
    for z in range(at, at + 32):
        bits |= words[z] ^ first
    return (bits & mask) == 0


@cython.locals(
    words="const unsigned int[::1]",
    table="int[::1]",
    keys="unsigned int[::1]",
    into="int[::1]",
    width=cython.Py_ssize_t,
    left=cython.Py_ssize_t,
    top=cython.Py_ssize_t,
    right=cython.Py_ssize_t,
    bottom=cython.Py_ssize_t,
    mask=cython.uint,
    anchors=cython.Py_ssize_t,
    x=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    z=cython.Py_ssize_t,
    row=cython.Py_ssize_t,
    room=cython.Py_ssize_t,
    found=cython.Py_ssize_t,
    value=cython.uint,
    power=cython.uint,
    slot=cython.Py_ssize_t,
    number=cython.int,
)
def _search(pixels, width, left, top, right, bottom, mask, slots, wanted, hits, anchors):
    """Roll over all rows of the box and note where one of the keys is."""
    words = pixels
    table = slots
    keys = wanted
    into = hits
    room = len(hits) // 3
    found = 0
    if anchors == 0:
        return 0
    power = 1
    for z in range(16):  # noqa: B007
        power = power * _ROLL & 0xFFFFFFFF
    with cython.nogil:
        for y in range(top, bottom):
            row = y * width
            value = _anchor(words, row + left, mask)
            x = left
            while True:
                if not (x - left) & 15 and x + 32 < right and _flat(words, row + x, mask):
                    # No piece with several colours begins here.
                    x += 16
                    value = _anchor(words, row + x, mask)
                    continue
                slot = (value ^ value >> 15) & 1023
                number = table[slot]
                if number >= 0 and keys[number] == value and found < room:
                    into[3 * found] = number
                    into[3 * found + 1] = x
                    into[3 * found + 2] = y
                    found += 1
                if x + 16 >= right:
                    break
                if cython.compiled:
                    value = (
                        value * _ROLL
                        + (words[row + x + 16] & mask)
                        - (words[row + x] & mask) * power
                    )
                else:
                    value = (
                        value * _ROLL
                        + (words[row + x + 16] & mask)
                        - (words[row + x] & mask) * power
                    ) & 0xFFFFFFFF
                x += 1
    return found


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    one="const unsigned int[::1]",
    other="const unsigned int[::1]",
    marks="unsigned char[::1]",
    at=cython.Py_ssize_t,
    to=cython.Py_ssize_t,
    count=cython.Py_ssize_t,
    mask=cython.uint,
    tile=cython.Py_ssize_t,
    x=cython.Py_ssize_t,
    end=cython.Py_ssize_t,
)
@cython.returns(cython.void)
def _mark_row(one, at, other, to, count, mask, marks, tile):
    """Mark the tiles, from ``tile`` on, whose pieces of a row are others."""
    x = 0
    while x < count:
        end = x + 16 if x + 16 < count else count
        if not marks[tile] and not _alike(one, at + x, other, to + x, end - x, mask):
            marks[tile] = 1
        tile += 1
        x = end


@cython.locals(
    one="const unsigned int[::1]",
    other="const unsigned int[::1]",
    marks="unsigned char[::1]",
    width=cython.Py_ssize_t,
    left=cython.Py_ssize_t,
    top=cython.Py_ssize_t,
    right=cython.Py_ssize_t,
    bottom=cython.Py_ssize_t,
    dx=cython.Py_ssize_t,
    dy=cython.Py_ssize_t,
    mask=cython.uint,
    x=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    row=cython.Py_ssize_t,
    source=cython.Py_ssize_t,
    columns=cython.Py_ssize_t,
)
def moved(old, new, width, left, top, right, bottom, dx, dy, mask, grid):
    """Set to 1 the tiles of a box whose new pixels aren't the old ones at ``-dx``, ``-dy``.

    The grid's tiles (`TILE` pixels square) are counted from the box's corner, in rows of
    ``ceil((right - left) / TILE)``. The place that pixels come from must be on the surface.
    """
    _prove(new, width, left, top, right, bottom)
    _prove(old, width, left - dx, top - dy, right - dx, bottom - dy)
    columns = (right - left + 15) // 16
    if columns * ((bottom - top + 15) // 16) > len(grid):
        raise IndexError(f"{len(grid)} tiles for {bottom - top} rows of {right - left} pixels")
    one = old
    other = new
    marks = grid
    if left == right:
        return
    with cython.nogil:
        for y in range(top, bottom):
            row = y * width
            source = (y - dy) * width - dx
            if _equal(one, source + left, other, row + left, right - left):
                continue
            _mark_row(
                one, source + left, other, row + left, right - left, mask, marks,
                ((y - top) >> 4) * columns,
            )  # fmt: skip


@cython.locals(
    one="const unsigned int[::1]",
    other="const unsigned int[::1]",
    width=cython.Py_ssize_t,
    left=cython.Py_ssize_t,
    top=cython.Py_ssize_t,
    right=cython.Py_ssize_t,
    bottom=cython.Py_ssize_t,
    dx=cython.Py_ssize_t,
    dy=cython.Py_ssize_t,
    mask=cython.uint,
    times=cython.Py_ssize_t,
    x=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    row=cython.Py_ssize_t,
    source=cython.Py_ssize_t,
    total=cython.Py_ssize_t,
    others=cython.Py_ssize_t,
)
def sample(old, new, width, left, top, right, bottom, dx, dy, mask, times):
    """Whether the box has most likely come from ``-dx``, ``-dy``, as every eighth row says.

    Of ``times`` pieces of 16 pixels at most one may be another one. As `moved` otherwise.
    """
    _prove(new, width, left, top, right, bottom)
    _prove(old, width, left - dx, top - dy, right - dx, bottom - dy)
    one, other = old, new
    total = others = 0
    with cython.nogil:
        y = top + 3
        while y < bottom:
            row = y * width
            source = (y - dy) * width - dx
            x = left
            while x + 16 <= right:
                total += 1
                if not _alike(one, source + x, other, row + x, 16, mask):
                    others += 1
                x += 16
            y += 8
    return total > 0 and others * times <= total


@cython.locals(
    one="const unsigned int[::1]",
    into="unsigned int[::1]",
    other="const unsigned int[::1]",
    marks="unsigned char[::1]",
    width=cython.Py_ssize_t,
    left=cython.Py_ssize_t,
    top=cython.Py_ssize_t,
    right=cython.Py_ssize_t,
    bottom=cython.Py_ssize_t,
    dx=cython.Py_ssize_t,
    dy=cython.Py_ssize_t,
    mask=cython.uint,
    step=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    row=cython.Py_ssize_t,
    source=cython.Py_ssize_t,
    across=cython.Py_ssize_t,
    columns=cython.Py_ssize_t,
)
def drag(old, new, width, left, top, right, bottom, dx, dy, mask, grid):
    """`moved`, and each row of the old pixels is moved once it has been compared."""
    _prove(new, width, left, top, right, bottom)
    _prove(old, width, left, top, right, bottom)
    _prove(old, width, left - dx, top - dy, right - dx, bottom - dy)
    columns = (right - left + 15) // 16
    if columns * ((bottom - top + 15) // 16) > len(grid):
        raise IndexError(f"{len(grid)} tiles for {bottom - top} rows of {right - left} pixels")
    one, into, other = old, old, new
    marks = grid
    across = right - left
    if across == 0:
        return
    # What other rows come from is overwritten after them.
    step = -1 if dy > 0 else 1
    with cython.nogil:
        y = bottom - 1 if dy > 0 else top
        while top <= y < bottom:
            row = y * width
            source = (y - dy) * width - dx
            if not _equal(one, source + left, other, row + left, across):
                _mark_row(
                    one, source + left, other, row + left, across, mask, marks,
                    ((y - top) >> 4) * columns,
                )  # fmt: skip
            if cython.compiled:
                memmove(
                    cython.address(into[row + left]),
                    cython.address(one[source + left]),
                    4 * across,
                )
            else:
                into[row + left : row + right] = memoryview(
                    bytes(one[source + left : source + left + across])
                ).cast("I")
            y += step


@cython.locals(
    heat="unsigned short[::1]",
    marks="const unsigned char[::1]",
    amount=cython.uint,
    z=cython.Py_ssize_t,
    value=cython.uint,
)
def warm(warmth, grid, amount):
    """Add ``amount`` to each number whose byte in the grid is set, up to 65535."""
    heat = warmth
    marks = grid
    if len(warmth) > len(grid):
        raise IndexError(f"{len(grid)} marks for {len(warmth)} tiles")
    with cython.nogil:
        for z in range(heat.shape[0]):
            if marks[z]:
                value = heat[z] + amount
                heat[z] = 65535 if value > 65535 else value


@cython.locals(heat="unsigned short[::1]", times=cython.int, z=cython.Py_ssize_t, t=cython.int)
def age(warmth, times):
    """Take an eighth from each number, so many times."""
    heat = warmth
    with cython.nogil:
        for t in range(times):  # noqa: B007
            for z in range(heat.shape[0]):
                heat[z] -= (heat[z] + 7) >> 3
