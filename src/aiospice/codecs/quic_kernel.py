# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True, annotation_typing=False
"""The loops of the QUIC codec: rows of pixels from bits, and bits from rows.

A row is an array of 64-bit numbers. First 32 that say where in ``fast`` the best code is, by
channel (blue, green, red; alpha or grey) and bucket; then the pixel that counts as the first one's
left neighbour; from 33 on the pixels. A pixel has a lane of 16 bits for each of blue, green and
red, whatever the format, so that all three are predicted and summed at once; rows of alpha and grey
have just one. A lane has the sample in its low byte, and from bit 9 the bucket of the value last
written there: a run leaves that as it was. A row is worked on in place: what isn't overwritten yet
is the row above. In the first row, each pixel is also written to where the next one will be, since
the one on the left is what a pixel of that row is predicted from.

All else that a call leaves for the next stands in arrays too. ``io``: 0 bits at hand, the next on
top, 1 where the words go on, 2 how many bits are at hand, 3 the pixel above on the left, 4 the same
of alpha or grey, 5 the row, 6 to 8 entries of a pixel that was read word by word. ``state``, for
colour from 0 and for alpha or grey from 8: 0 pixels until the next lesson, 1 how many bits wide the
wait mask is, 2 pixels until that grows, 3 where the walk through `RULES` is, 4 the state of runs;
and `TRIGGERS` from 16.

Types that are missing here are in ``quic_kernel.pxd``.

Why nothing here is checked by index:

- Bits: after its words the source has zeros for the longest code words of a whole row, and after
  each piece of a row `decode_rows` asks whether the stream is used up.
- Tables: an index into ``fast`` is a code and 10 bits; codes and buckets come from our own tables.
- Rows: every index is below the end of the piece; a run is compared with that before it is drawn.
- Output: whole rows; `encode_rows` stops while there is no room for the longest code words of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array

    from aiospice import _cython as cython

    Bytes = array[int] | memoryview | bytearray
    Array = array[int]
    Cells = array[int] | memoryview
else:
    try:
        import cython
    except ImportError:
        from aiospice import _cython as cython

# Types stand side by side.
# fmt: off

if not cython.compiled:
    from aiospice.codecs.quic_pixels import read_row, write_row

__all__ = [
    "BAD_CODE", "BAD_RUN", "COMPILED", "DONE", "ENDED", "decode_rows", "encode_rows", "some_rows",
]

#: Whether these loops run compiled.
COMPILED = cython.compiled

# What `decode_rows` ends with: all rows; the stream is used up; a run goes beyond its row; bits
# that are no code word.
DONE, ENDED, BAD_RUN, BAD_CODE = 0, 1, 2, 3

@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.uint)
@cython.locals(
    values=cython.uint[::1], place=cython.uint, acc=cython.ulonglong, code=cython.uint,
    zeros=cython.uint, limit=cython.uint, length=cython.uint, value=cython.uint,
)
def _long(values: Array, place: int, acc: int) -> int:
    """Return the entry of a code word longer than `FAST_BITS`, `LONG` (64) if it is none."""
    code, limit = 7 - place, values[256 + place]
    if acc >> (64 - limit):
        zeros = 10 - code
        while not (acc >> (63 - zeros)) & 1:
            zeros += 1
        length = zeros + 1 + code
        value = zeros << code | (acc >> (64 - length)) & ((1 << code) - 1)
    else:
        length = limit + values[264 + place]
        value = (limit << code) + ((acc >> (64 - length)) & ((1 << values[264 + place]) - 1))
    return values[value] | length if value < 256 else 64


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.void)
@cython.locals(counts=cython.short[::1], base=cython.Py_ssize_t, k=cython.Py_ssize_t)
def _halve(counts: Array, base: int) -> None:
    """Halve a bucket's counters."""
    for k in range(8):
        if counts[base + k] != 32767:
            counts[base + k] = ((counts[base + k] + 32768) >> 4 << 3) + k - 32768


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.void)
@cython.locals(
    counts=cython.short[::1], row=cython.ulonglong[::1], slot=cython.uint, value=cython.uint,
    trigger=cython.int, base=cython.Py_ssize_t, cost=cython.Py_ssize_t,
    least=cython.short, n0=cython.short, n1=cython.short, n2=cython.short, n3=cython.short,
    n4=cython.short, n5=cython.short, n6=cython.short, n7=cython.short,
)
def _learn(counts: Array, row: Array, slot: int, value: int, trigger: int) -> None:
    """Count what ``value`` would have cost in each code; choose the cheapest, the longer of equals.

    A counter is 8 times the bits, plus its place (so that the least one tells that), minus 32768.
    No code costs more than 8 times the cheapest for any value, and the cheapest is halved beyond
    900 + 26: 8 * 8 * 927 + 7 is below 65536.
    """
    base = 2048 + (slot << 3)
    cost = value << 3
    n0 = counts[base] + counts[cost]
    n1 = counts[base + 1] + counts[cost + 1]
    n2 = counts[base + 2] + counts[cost + 2]
    n3 = counts[base + 3] + counts[cost + 3]
    n4 = counts[base + 4] + counts[cost + 4]
    n5 = counts[base + 5] + counts[cost + 5]
    n6 = counts[base + 6] + counts[cost + 6]
    n7 = counts[base + 7] + counts[cost + 7]
    counts[base], counts[base + 1], counts[base + 2], counts[base + 3] = n0, n1, n2, n3
    counts[base + 4], counts[base + 5], counts[base + 6], counts[base + 7] = n4, n5, n6, n7
    least = min(min(min(n0, n4), min(n1, n5)), min(min(n2, n6), min(n3, n7)))
    row[slot] = (least & 7) << 10
    if least > trigger:
        _halve(counts, base)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.uint)
@cython.locals(
    state=cython.uint[::1], rules=cython.uchar[::1], s=cython.uint, mask=cython.uint,
)
def _pause(state: Array, rules: Array, s: int, mask: int) -> int:
    """Return how many pixels pass until the next lesson."""
    state[s + 3] = (state[s + 3] + 1) & 255
    return rules[state[s + 3]] & mask


@cython.locals(n=cython.uint)
def _piece(state: Array, s: int, left: int) -> int:
    """Return how many of the row's ``left`` pixels come before the wait mask grows.

    Runs end there, and so does the piece that one call works on. Bit 30 says that it grows then.
    """
    if state[s + 1] >= 6:
        return left
    n = state[s + 2]
    if n <= left:
        state[s + 2] = 2048
        return n | 0x40000000
    state[s + 2] = n - left
    return left


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.ulonglong)
@cython.locals(
    row=cython.ulonglong[::1], i=cython.Py_ssize_t, n=cython.uint, corner=cython.ulonglong,
    end=cython.Py_ssize_t, left=cython.ulonglong, seen=cython.ulonglong, same=cython.ulonglong,
)
def _repeat(row: Array, i: int, n: int, corner: int) -> int:
    """Repeat the pixel before ``i`` for ``n`` pixels; return what then is above on the left."""
    same, seen = 0xFF00FF00FF, 0xE000E000E00
    left = row[i - 1] & same
    end = i + n
    if n:
        corner = row[end - 1]
    while i < end:
        row[i] = row[i] & seen | left
        i += 1
    return corner


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.void)
@cython.locals(
    src=cython.uint[::1], io=cython.ulonglong[::1], word=cython.ulonglong, n=cython.uint,
)
def _refill(src: Array, io: Array) -> None:
    """Have 64 bits at hand, more than 32 of them counted (words are counted when they are used up).

    What isn't counted is there again in the words that follow, so it may be added twice.
    """
    if io[2] < 64:
        word = src[io[1]]
        word = word << 32 | src[io[1] + 1]
        io[0] |= word >> io[2]
        n = (64 - io[2]) >> 5
        io[1] += n
        io[2] += n << 5


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.uint)
@cython.locals(
    src=cython.uint[::1], io=cython.ulonglong[::1], state=cython.uint[::1], rules=cython.uchar[::1],
    s=cython.uint, limit=cython.uint, acc=cython.ulonglong, full=cython.ulonglong,
    word=cython.ulonglong, have=cython.uint, run=cython.uint, kind=cython.uint, n=cython.uint,
)
def _read_run(src: Array, io: Array, state: Array, rules: Array, s: int, limit: int) -> int:
    """Return the length of a run, more than ``limit`` if it is longer than that.

    At most 48 bits are read: 32 ones already stand for more than the widest row.
    """
    full = 0xFFFFFFFFFFFFFFFF
    _refill(src, io)
    acc, have = io[0], io[2]
    run = 0
    kind = state[s + 4]
    while acc >> 63 and run <= limit:
        run += 1 << rules[256 + kind]
        kind = kind + 1 if kind < 31 else kind
        acc = (acc << 1) & full
        have -= 1
    acc = (acc << 1) & full
    have -= 1
    if have < 16:
        word = src[io[1]]
        acc |= word << 32 >> have
        have += 32
        io[1] += 1
    n = rules[256 + kind]
    run += acc >> 32 >> (32 - n)
    io[0], io[2] = (acc << n) & full, have - n
    _refill(src, io)
    state[s + 4] = kind - 1 if kind else 0
    return run


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.uint)
@cython.locals(
    src=cython.uint[::1], io=cython.ulonglong[::1], fast=cython.uint[::1], values=cython.uint[::1],
    code=cython.uint, acc=cython.ulonglong, full=cython.ulonglong, entry=cython.uint,
)
def _read(src: Array, io: Array, fast: Array, values: Array, code: int) -> int:
    """Return the entry of the next code word; `LONG` is set in it if it is none."""
    full = 0xFFFFFFFFFFFFFFFF
    acc = io[0]
    entry = fast[code + (acc >> 54)]
    if entry == 64:
        entry = _long(values, code >> 10, acc)
    io[0] = (acc << (entry & 63)) & full
    io[2] -= entry & 63
    _refill(src, io)
    return entry


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.bint)
@cython.locals(
    src=cython.uint[::1], io=cython.ulonglong[::1], fast=cython.uint[::1], values=cython.uint[::1],
    row=cython.ulonglong[::1], last=cython.ulonglong, at=cython.ulonglong, word=cython.ulonglong,
    full=cython.ulonglong,
)
def _read3(
    src: Array, io: Array, fast: Array, values: Array, row: Array, last: int, at: int
) -> bool:
    """Read a pixel's entries word by word, from bit ``at`` of the stream on; tell if all are some.

    ``last`` is the pixel on its left.
    """
    full = 0xFFFFFFFFFFFFFFFF
    io[1], io[2] = (at >> 5) + 2, 64 - (at & 31)
    word = src[io[1] - 2]
    word = word << 32 | src[io[1] - 1]
    io[0] = (word << (at & 31)) & full
    io[6] = _read(src, io, fast, values, row[16 + (last >> 41 & 7)])
    io[7] = _read(src, io, fast, values, row[8 + (last >> 25 & 7)])
    io[8] = _read(src, io, fast, values, row[last >> 9 & 7])
    return not (io[6] | io[7] | io[8]) & 64


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.int)
@cython.locals(
    src=cython.uint[::1], io=cython.ulonglong[::1], state=cython.uint[::1], rules=cython.uchar[::1],
    fast=cython.uint[::1], values=cython.uint[::1], counts=cython.short[::1],
    row=cython.ulonglong[::1], i=cython.Py_ssize_t, end=cython.Py_ssize_t, first=cython.bint,
    lanes=cython.ulonglong, acc=cython.ulonglong, full=cython.ulonglong, word=cython.ulonglong,
    pos=cython.Py_ssize_t, have=cython.uint, wait=cython.uint, trigger=cython.int,
    start=cython.Py_ssize_t, least=cython.Py_ssize_t, n=cython.uint, r=cython.uint, g=cython.uint,
    b=cython.uint, last=cython.ulonglong, up=cython.ulonglong, corner=cython.ulonglong,
    same=cython.ulonglong, keep=cython.ulonglong, delta=cython.ulonglong, seen=cython.ulonglong,
    mask=cython.uint,
)
def _decode3(
    src: Array, io: Array, state: Array, rules: Array, fast: Array, values: Array, counts: Array,
    row: Array, i: int, end: int, first: int, lanes: int,
) -> int:
    """Decode the pixels ``i`` to ``end`` of a row of three channels, the first one or not."""
    full, same, keep = 0xFFFFFFFFFFFFFFFF, 0xFF00FF00FF, 0xE000E000E00
    keep |= lanes
    _refill(src, io)
    acc, pos, have, corner = io[0], io[1], io[2], io[3]
    wait, mask, trigger = state[0], (1 << state[1]) - 1, state[16 + state[1]]
    trigger -= 32768
    start, least = 0, end if first else 35
    if i == 33:
        row[32] = row[33]
    last = row[i - 1]
    r, g, b = last >> 41 << 25, (last >> 25 & 7) << 25, (last >> 9 & 7) << 25
    while i < end:
        up = row[i]
        if not (up ^ corner) & same and i > least and i != start and not (last ^ row[i - 2]) & same:
            io[0], io[1], io[2] = acc, pos, have
            n = _read_run(src, io, state, rules, 0, end - i)
            acc, pos, have = io[0], io[1], io[2]
            if n > end - i:
                return 2
            corner = _repeat(row, i, n, corner)
            start, i = i, i + n
            last = row[i - 1]
            r, g, b = last >> 41 << 25, (last >> 25 & 7) << 25, (last >> 9 & 7) << 25
            continue
        corner = up
        r = fast[row[16 + (r >> 25)] + (acc >> 54)]
        acc = (acc << (r & 63)) & full
        have -= r & 63
        word = src[pos]
        word = word << 32 | src[pos + 1]
        g = fast[row[8 + (g >> 25)] + (acc >> 54)]
        acc = ((acc | word >> have) << (g & 63)) & full
        n = (64 - have) >> 5
        pos, have = pos + n, have + (n << 5)
        b = fast[row[b >> 25] + (acc >> 54)]
        acc = (acc << (b & 63)) & full
        if not (r | g | b) & 64:
            have -= g + b & 63
        else:
            if not _read3(src, io, fast, values, row, row[i - 1], 32 * pos - have - (r & 63)):
                return 3
            r, g, b = io[6], io[7], io[8]
            acc, pos, have = io[0], io[1], io[2]
        if not wait:
            seen = row[i - 1]  # `last`, so that compilers needn't keep what they made of it
            _learn(counts, row, 16 + (seen >> 41 & 7), r >> 8 & 255, trigger)
            _learn(counts, row, 8 + (seen >> 25 & 7), g >> 8 & 255, trigger)
            _learn(counts, row, seen >> 9 & 7, b >> 8 & 255, trigger)
            wait = _pause(state, rules, 0, mask) + 1
        wait -= 1
        delta = r >> 16
        delta = delta << 32 | g >> 16 << 16 | b >> 16
        last = ((last + up >> 1 & same) + delta) & keep
        row[i + first] = last
        row[i] = last
        i += 1
    io[0], io[1], io[2], io[3] = acc, pos, have, corner
    state[0] = wait
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.int)
@cython.locals(
    src=cython.uint[::1], io=cython.ulonglong[::1], state=cython.uint[::1], rules=cython.uchar[::1],
    fast=cython.uint[::1], values=cython.uint[::1], counts=cython.short[::1],
    row=cython.ulonglong[::1], i=cython.Py_ssize_t, end=cython.Py_ssize_t, first=cython.bint,
    trigger=cython.int, start=cython.Py_ssize_t, least=cython.Py_ssize_t, n=cython.uint,
    entry=cython.uint, slot=cython.uint, last=cython.ulonglong, up=cython.ulonglong,
    corner=cython.ulonglong,
)
def _decode1(
    src: Array, io: Array, state: Array, rules: Array, fast: Array, values: Array, counts: Array,
    row: Array, i: int, end: int, first: int,
) -> int:
    """Decode the samples ``i`` to ``end`` of a row of alpha or grey, the first one or not."""
    _refill(src, io)
    corner, trigger = io[4], state[16 + state[9]]
    trigger -= 32768
    start, least = 0, end if first else 35
    if i == 33:
        row[32] = row[33]
    last = row[i - 1]
    while i < end:
        up = row[i]
        if not (up ^ corner) & 255 and i > least and i != start and not (last ^ row[i - 2]) & 255:
            n = _read_run(src, io, state, rules, 8, end - i)
            if n > end - i:
                return 2
            corner = _repeat(row, i, n, corner)
            start, i = i, i + n
            last = row[i - 1]
            continue
        corner = up
        slot = 24 + (last >> 9)
        entry = _read(src, io, fast, values, row[slot])
        if entry & 64:
            return 3
        if state[8]:
            state[8] -= 1
        else:
            _learn(counts, row, slot, entry >> 8 & 255, trigger)
            state[8] = _pause(state, rules, 8, (1 << state[9]) - 1)
        last = ((last + up >> 1 & 255) + (entry >> 16)) & 0xEFF
        row[i + first] = last
        row[i] = last
        i += 1
    io[4] = corner
    return 0


@cython.locals(
    y=cython.Py_ssize_t, i=cython.Py_ssize_t, end=cython.Py_ssize_t, n=cython.uint, s=cython.uint,
    status=cython.int,
)
def some_rows(
    src: Array, stop: int, io: Array, state: Array, rules: Array, fast: Array, values: Array,
    counts: Array, row: Array, alpha: Array, out: Bytes, cells: Cells, width: int, height: int,
    kind: int, lanes: int,
) -> int:
    """Do what `decode_rows` does, without letting go of the lock of the interpreter."""
    status = 0
    for y in range(height):
        s = 8 if kind == 1 else 0
        i = 33
        while i < 33 + width and not status:
            n = _piece(state, s, 33 + width - i)
            end = i + (n & 0x3FFFFFFF)
            if s:
                status = _decode1(
                    src, io, state, rules, fast, values, counts, alpha, i, end, not y
                )
            else:
                status = _decode3(
                    src, io, state, rules, fast, values, counts, row, i, end, not y, lanes
                )
            i = end
            if io[1] * 32 - io[2] > stop and not status:
                status = 1
            state[s + 1] += n >> 30
            if i == 33 + width and kind == 5 and s == 0:
                s = 8
                i = 33
        if status:
            io[5] = y
            break
        write_row(out, cells, y * width, row, alpha, width, kind)
    return status


def decode_rows(
    src: Array, stop: int, io: Array, state: Array, rules: Array, fast: Array, values: Array,
    counts: Array, row: Array, alpha: Array, out: Bytes, cells: Cells, width: int, height: int,
    kind: int, lanes: int,
) -> int:
    """Decode an image of type ``kind``, rows tight; return how it ended.

    Bytes of pixels go to ``out`` for types 1 and 2, pixels as numbers of 32 bits to ``cells`` else.

    ``src`` is the stream as numbers, with zeros after its ``stop`` bits. ``row`` and ``alpha``
    (that one for alpha and grey) have zeros for ``width`` pixels and one.
    """
    with cython.nogil:
        return some_rows(
            src, stop, io, state, rules, fast, values, counts, row, alpha, out, cells, width,
            height, kind, lanes,
        )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.void)
@cython.locals(
    out=cython.uint[::1], io=cython.ulonglong[::1], word=cython.ulonglong, length=cython.uint,
    full=cython.ulonglong, acc=cython.ulonglong, n=cython.uint,
)
def _put(out: Array, io: Array, word: int, length: int) -> None:
    """Write ``length`` bits, 1 to 32."""
    full = 0xFFFFFFFFFFFFFFFF
    acc = io[0] | word << (64 - io[2] - length)
    n = io[2] + length
    if n >= 32:
        out[io[1]] = acc >> 32
        io[1] += 1
        acc = (acc << 32) & full
        n -= 32
    io[0], io[2] = acc, n


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.void)
@cython.locals(
    out=cython.uint[::1], io=cython.ulonglong[::1], state=cython.uint[::1], rules=cython.uchar[::1],
    s=cython.uint, n=cython.uint, kind=cython.uint,
)
def _write_run(out: Array, io: Array, state: Array, rules: Array, s: int, n: int) -> None:
    """Write a run of ``n`` pixels."""
    kind = state[s + 4]
    while n >> rules[256 + kind]:
        n -= 1 << rules[256 + kind]
        kind = kind + 1 if kind < 31 else kind
        _put(out, io, 1, 1)
    _put(out, io, n, rules[256 + kind] + 1)
    state[s + 4] = kind - 1 if kind else 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.void)
@cython.locals(
    out=cython.uint[::1], io=cython.ulonglong[::1], state=cython.uint[::1], rules=cython.uchar[::1],
    words=cython.uint[::1], folded=cython.ushort[::1], counts=cython.short[::1],
    row=cython.ulonglong[::1], line=cython.ulonglong[::1], i=cython.Py_ssize_t,
    end=cython.Py_ssize_t, first=cython.bint, lanes=cython.ulonglong, trigger=cython.int,
    acc=cython.ulonglong, full=cython.ulonglong, word=cython.ulonglong, pos=cython.Py_ssize_t,
    have=cython.uint, start=cython.Py_ssize_t, least=cython.Py_ssize_t, n=cython.uint,
    r=cython.ulonglong, g=cython.ulonglong, b=cython.ulonglong, wr=cython.uint, wg=cython.uint,
    wb=cython.uint, last=cython.ulonglong, up=cython.ulonglong, corner=cython.ulonglong,
    same=cython.ulonglong, guard=cython.ulonglong, delta=cython.ulonglong, pixel=cython.ulonglong,
)
def _encode3(
    out: Array, io: Array, state: Array, rules: Array, words: Array, folded: Array, counts: Array,
    row: Array, line: Array, i: int, end: int, first: int, lanes: int,
) -> None:
    """Encode the pixels ``i`` to ``end`` of a row of three channels, from ``line``."""
    full, same, guard = 0xFFFFFFFFFFFFFFFF, 0xFF00FF00FF, 0x10001000100
    acc, pos, have, corner = io[0], io[1], io[2], io[3]
    trigger = state[16 + state[1]]
    trigger -= 32768
    start, least = 0, end if first else 35
    if i == 33:
        row[32] = row[33]
    last = row[i - 1]
    while i < end:
        up = row[i]
        if not (up ^ corner) & same and i > least and i != start and not (last ^ row[i - 2]) & same:
            n = 0
            while i + n < end and line[i + n - 33] == last & same:
                n += 1
            io[0], io[1], io[2] = acc, pos, have
            _write_run(out, io, state, rules, 0, n)
            acc, pos, have = io[0], io[1], io[2]
            corner = _repeat(row, i, n, corner)
            start, i = i, i + n
            last = row[i - 1]
            continue
        corner = up
        pixel = line[i - 33]
        delta = ((pixel | guard) - (last + up >> 1 & same)) & lanes
        r, g, b = folded[delta >> 32], folded[delta >> 16 & 255], folded[delta & 255]
        wr = words[row[16 + (last >> 41 & 7)] >> 2 | r & 255]
        wg = words[row[8 + (last >> 25 & 7)] >> 2 | g & 255]
        wb = words[row[last >> 9 & 7] >> 2 | b & 255]
        n = (wr >> 26) + (wg >> 26) + (wb >> 26)
        if n <= 32:
            word = ((wr & 0x3FFFFFF) << (wg >> 26) | wg & 0x3FFFFFF) << (wb >> 26) | wb & 0x3FFFFFF
            acc |= word << (64 - have - n)
            have += n
            out[pos] = acc >> 32
            n = have >> 5
            pos += n
            acc = (acc << (n << 5)) & full
            have &= 31
        else:
            io[0], io[1], io[2] = acc, pos, have
            _put(out, io, wr & 0x3FFFFFF, wr >> 26)
            _put(out, io, wg & 0x3FFFFFF, wg >> 26)
            _put(out, io, wb & 0x3FFFFFF, wb >> 26)
            acc, pos, have = io[0], io[1], io[2]
        if state[0]:
            state[0] -= 1
        else:
            _learn(counts, row, last >> 9 & 7, b & 255, trigger)
            _learn(counts, row, 8 + (last >> 25 & 7), g & 255, trigger)
            _learn(counts, row, 16 + (last >> 41 & 7), r & 255, trigger)
            state[0] = _pause(state, rules, 0, (1 << state[1]) - 1)
        last = pixel | (r & 0xE00) << 32 | (g & 0xE00) << 16 | b & 0xE00
        row[i + first] = last
        row[i] = last
        i += 1
    io[0], io[1], io[2], io[3] = acc, pos, have, corner


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.void)
@cython.locals(
    out=cython.uint[::1], io=cython.ulonglong[::1], state=cython.uint[::1], rules=cython.uchar[::1],
    words=cython.uint[::1], folded=cython.ushort[::1], counts=cython.short[::1],
    row=cython.ulonglong[::1], line=cython.uint[::1], i=cython.Py_ssize_t, end=cython.Py_ssize_t,
    first=cython.bint, trigger=cython.int, start=cython.Py_ssize_t, least=cython.Py_ssize_t,
    n=cython.uint, value=cython.uint, slot=cython.uint, last=cython.ulonglong, up=cython.ulonglong,
    corner=cython.ulonglong,
)
def _encode1(
    out: Array, io: Array, state: Array, rules: Array, words: Array, folded: Array, counts: Array,
    row: Array, line: Array, i: int, end: int, first: int,
) -> None:
    """Encode the samples ``i`` to ``end`` of a row of alpha or grey, from ``line``."""
    corner, trigger = io[4], state[16 + state[9]]
    trigger -= 32768
    start, least = 0, end if first else 35
    if i == 33:
        row[32] = row[33]
    last = row[i - 1]
    while i < end:
        up = row[i]
        if not (up ^ corner) & 255 and i > least and i != start and not (last ^ row[i - 2]) & 255:
            n = 0
            while i + n < end and line[i + n - 33] == last & 255:
                n += 1
            _write_run(out, io, state, rules, 8, n)
            corner = _repeat(row, i, n, corner)
            start, i = i, i + n
            last = row[i - 1]
            continue
        corner = up
        value = folded[(line[i - 33] - (last + up >> 1 & 255)) & 255]
        slot = 24 + (last >> 9)
        n = words[row[slot] >> 2 | value & 255]
        _put(out, io, n & 0x3FFFFFF, n >> 26)
        if state[8]:
            state[8] -= 1
        else:
            _learn(counts, row, slot, value & 255, trigger)
            state[8] = _pause(state, rules, 8, (1 << state[9]) - 1)
        last = line[i - 33] | value & 0xE00
        row[i + first] = last
        row[i] = last
        i += 1
    io[4] = corner


@cython.locals(
    y=cython.Py_ssize_t, i=cython.Py_ssize_t, end=cython.Py_ssize_t, n=cython.uint, s=cython.uint,
    room=cython.ulonglong,
)
def encode_rows(
    pixels: Bytes, stride: int, io: Array, state: Array, rules: Array, words: Array, folded: Array,
    counts: Array, row: Array, alpha: Array, line: Array, line1: Array, out: Array, width: int,
    height: int, kind: int, lanes: int,
) -> bool:
    """Encode rows, from the one ``io`` names, as numbers; tell whether all are done.

    They aren't when ``out`` has less room than 7 words a pixel, and 8.
    """
    room = len(out)
    with cython.nogil:
        for y in range(io[5], height):
            if io[1] + 7 * width + 8 > room:
                break
            io[5] = y + 1
            read_row(pixels, y * stride, line, line1, width, kind)
            s = 8 if kind == 1 else 0
            i = 33
            while i < 33 + width:
                n = _piece(state, s, 33 + width - i)
                end = i + (n & 0x3FFFFFFF)
                if s:
                    _encode1(out, io, state, rules, words, folded, counts, alpha, line1, i, end,
                             not y)
                else:
                    _encode3(out, io, state, rules, words, folded, counts, row, line, i, end,
                             not y, lanes)
                i = end
                state[s + 1] += n >> 30
                if i == 33 + width and kind == 5 and s == 0:
                    s = 8
                    i = 33
    return bool(io[5] == height)
