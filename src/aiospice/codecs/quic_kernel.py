# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True, annotation_typing=False
"""The loops of the QUIC codec: rows of pixels from bits, and bits from rows.

A row is an array of 64-bit numbers. First 32 that say which code is best, by channel (blue, green,
red; alpha or grey) and bucket, then 8 hints, one a code (`Codes.hints`); from 40 on the pixels. A
pixel has a sample in each of its low three bytes, whatever the format (5-bit samples too), so that
all three are predicted and summed at once; in rows of alpha and grey just one. From bit 32 on, a
byte each, are the buckets of the values last written there: a run leaves them as they were. A row
is worked on in place: what isn't overwritten yet is the row above.

All else that a call leaves for the next stands in arrays too. ``io``: 0 bits at hand, the next on
top, 1 where the words go on, 2 how many bits are at hand, 3 the colour above on the left, 4 the
same of alpha or grey, 5 the row. ``state``, for colour from 0 and for alpha or grey from 8: 0
pixels until the next lesson, 1 how many bits wide the wait mask is, 2 pixels until that grows, 3
where the walk through `RULES` is, 4 the state of runs; and `TRIGGERS` from 16.

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
else:
    try:
        import cython
    except ImportError:
        from aiospice import _cython as cython

# Types stand side by side.
# fmt: off

__all__ = [
    "BAD_CODE", "BAD_RUN", "COMPILED", "DONE", "ENDED", "decode_rows", "encode_rows", "some_rows",
]

#: Whether these loops run compiled.
COMPILED = cython.compiled

if not cython.compiled:

    def _top_bit(x: int) -> int:
        """Return the number of the highest bit that is set; C has its own (``quic_kernel.pxd``)."""
        return x.bit_length() - 1


# What `decode_rows` ends with: all rows; the stream is used up; a run goes beyond its row; bits
# that are no code word.
DONE, ENDED, BAD_RUN, BAD_CODE = 0, 1, 2, 3

@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.uint)
@cython.locals(
    values=cython.uint[::1], code=cython.uint, acc=cython.ulonglong, zeros=cython.uint,
    limit=cython.uint, length=cython.uint, value=cython.uint,
)
def _long(values: Array, code: int, acc: int) -> int:
    """Return the entry of a code word longer than `FAST_BITS`, 0 if there is none."""
    limit = values[256 + code]
    zeros = 10 - code
    while zeros < limit and not (acc >> (63 - zeros)) & 1:
        zeros += 1
    if zeros < limit:
        length = zeros + 1 + code
        value = zeros << code | (acc >> (64 - length)) & ((1 << code) - 1)
    else:
        length = limit + values[264 + code]
        value = (limit << code) + ((acc >> (64 - length)) & ((1 << values[264 + code]) - 1))
    if value > 255 or not values[value]:
        return 0
    return values[value] | length


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.void)
@cython.locals(
    counts=cython.short[::1], row=cython.ulonglong[::1], slot=cython.uint, value=cython.uint,
    trigger=cython.int, k=cython.Py_ssize_t, base=cython.Py_ssize_t, cost=cython.Py_ssize_t,
    least=cython.short, n0=cython.short, n1=cython.short, n2=cython.short, n3=cython.short,
    n4=cython.short, n5=cython.short, n6=cython.short, n7=cython.short,
)
def _learn(counts: Array, row: Array, slot: int, value: int, trigger: int) -> None:
    """Count what ``value`` would have cost in each code; choose the cheapest, the longer of equals.

    A counter is 8 times the bits, plus 7 minus the code (so that the least one tells its code),
    minus 32768. No code costs more than 8 times the cheapest for any value, and the cheapest is
    halved beyond 900 + 26: 8 * 8 * 927 + 7 is below 65536.
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
    row[slot] = row[39 - (least & 7)]
    if (least + 32768) >> 3 > trigger:
        for k in range(8):
            if counts[base + k] != 32767:
                counts[base + k] = ((counts[base + k] + 32768) >> 4 << 3) + (7 - k) - 32768


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.uint)
@cython.locals(state=cython.uint[::1], rules=cython.uchar[::1], s=cython.uint)
def _pause(state: Array, rules: Array, s: int) -> int:
    """Return how many pixels pass until the next lesson."""
    state[s + 3] = (state[s + 3] + 1) & 255
    return rules[state[s + 3]] & ((1 << state[s + 1]) - 1)


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
@cython.returns(cython.uint)
@cython.locals(
    row=cython.ulonglong[::1], i=cython.Py_ssize_t, n=cython.uint, corner=cython.uint,
    end=cython.Py_ssize_t, left=cython.ulonglong, seen=cython.ulonglong,
)
def _repeat(row: Array, i: int, n: int, corner: int) -> int:
    """Repeat the pixel before ``i`` for ``n`` pixels; return what then is above on the left."""
    left = row[i - 1] & 0xFFFFFF
    end = i + n
    if n:
        corner = row[end - 1] & 0xFFFFFF
    while i < end:
        seen = row[i] >> 32
        row[i] = seen << 32 | left
        i += 1
    return corner


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.void)
@cython.locals(src=cython.uint[::1], io=cython.ulonglong[::1], word=cython.ulonglong)
def _refill(src: Array, io: Array) -> None:
    """Have more than 32 bits at hand: a word is taken where 1 to 32 are."""
    if io[2] <= 32:
        word = src[io[1]]
        io[0] |= word << 32 >> io[2]
        io[1] += 1
        io[2] += 32


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
    """Return the entry of the next code word, 0 if it is none."""
    full = 0xFFFFFFFFFFFFFFFF
    _refill(src, io)
    acc = io[0]
    entry = fast[code + (acc >> 54)] or _long(values, code >> 10, acc)
    io[0] = (acc << (entry & 63)) & full
    io[2] -= entry & 63
    return entry


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.int)
@cython.locals(
    src=cython.uint[::1], io=cython.ulonglong[::1], state=cython.uint[::1], rules=cython.uchar[::1],
    fast=cython.uint[::1], values=cython.uint[::1], counts=cython.short[::1],
    row=cython.ulonglong[::1], i=cython.Py_ssize_t, end=cython.Py_ssize_t, lanes=cython.uint,
    trigger=cython.uint, acc=cython.ulonglong, full=cython.ulonglong, word=cython.ulonglong,
    pos=cython.Py_ssize_t, have=cython.uint, wait=cython.uint, start=cython.Py_ssize_t,
    n=cython.uint, r=cython.uint, g=cython.uint, b=cython.uint, seen=cython.uint,
    hint=cython.ulonglong, used=cython.uint, left=cython.uint, up=cython.uint, corner=cython.uint,
    delta=cython.uint, mean=cython.uint,
)
def _decode3(
    src: Array, io: Array, state: Array, rules: Array, fast: Array, values: Array, counts: Array,
    row: Array, i: int, end: int, lanes: int, trigger: int,
) -> int:
    """Decode the pixels ``i`` to ``end`` of a row of three channels."""
    full = 0xFFFFFFFFFFFFFFFF
    acc, pos, have, corner = io[0], io[1], io[2], io[3]
    wait, start = state[0], 0
    left, seen = row[i - 1 if i > 40 else 40] & 0xFFFFFF, row[i - 1 if i > 40 else 40] >> 32
    while i < end:
        up = row[i] & 0xFFFFFF
        if up == corner and i > 42 and i != start and left == row[i - 2] & 0xFFFFFF:
            io[0], io[1], io[2] = acc, pos, have
            n = _read_run(src, io, state, rules, 0, end - i)
            acc, pos, have = io[0], io[1], io[2]
            if n > end - i:
                return 2
            corner = _repeat(row, i, n, corner)
            start, i = i, i + n
            seen = row[i - 1] >> 32
            continue
        word = src[pos]
        acc |= word << 32 >> have
        n = (64 - have) >> 5
        pos, have = pos + n, have + (n << 5)
        hint = row[16 + (seen >> 16)]
        r = fast[(hint >> 8 & 0xFFFF) + (acc >> 54)]
        n = (hint & 255) - _top_bit(acc | hint)
        acc, used = (acc << n) & full, n
        hint = row[8 + (seen >> 8 & 255)]
        g = fast[(hint >> 8 & 0xFFFF) + (acc >> 54)]
        n = (hint & 255) - _top_bit(acc | hint)
        acc, used = (acc << n) & full, used + n
        hint = row[seen & 255]
        b = fast[(hint >> 8 & 0xFFFF) + (acc >> 54)]
        n = (hint & 255) - _top_bit(acc | hint)
        acc = (acc << n) & full
        if r & g & b & 0x80:
            have -= used + n
        else:
            word = src[pos - 2]
            io[0], io[1], io[2] = (word << 32 | src[pos - 1]) << (64 - have) & full, pos, have
            r = _read(src, io, fast, values, row[16 + (seen >> 16)] >> 8 & 0xFFFF)
            g = _read(src, io, fast, values, row[8 + (seen >> 8 & 255)] >> 8 & 0xFFFF)
            b = _read(src, io, fast, values, row[seen & 255] >> 8 & 0xFFFF)
            acc, pos, have = io[0], io[1], io[2]
            if not r & g & b & 0x80:
                return 3
        delta = (r & 0xFF00) << 8 | g & 0xFF00 | b >> 8 & 0xFF
        mean = (left & up) + ((left ^ up) >> 1 & 0x7F7F7F)
        left = ((mean & 0x7F7F7F) + (delta & 0x7F7F7F) ^ (mean ^ delta) & 0x808080) & lanes
        corner = up
        if not wait:
            _learn(counts, row, seen & 255, b >> 16 & 255, trigger)
            _learn(counts, row, 8 + (seen >> 8 & 255), g >> 16 & 255, trigger)
            _learn(counts, row, 16 + (seen >> 16), r >> 16 & 255, trigger)
            wait = _pause(state, rules, 0) + 1
        wait -= 1
        seen = r >> 8 & 0xFF0000 | g >> 16 & 0xFF00 | b >> 24
        word = seen
        row[i] = word << 32 | left
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
    row=cython.ulonglong[::1], i=cython.Py_ssize_t, end=cython.Py_ssize_t, trigger=cython.uint,
    word=cython.ulonglong, start=cython.Py_ssize_t, n=cython.uint, entry=cython.uint,
    slot=cython.uint, left=cython.uint, up=cython.uint, corner=cython.uint,
)
def _decode1(
    src: Array, io: Array, state: Array, rules: Array, fast: Array, values: Array, counts: Array,
    row: Array, i: int, end: int, trigger: int,
) -> int:
    """Decode the samples ``i`` to ``end`` of a row of alpha or grey."""
    corner, start = io[4], 0
    left, slot = row[i - 1 if i > 40 else 40] & 255, 24 + (row[i - 1 if i > 40 else 40] >> 32)
    while i < end:
        up = row[i] & 255
        if up == corner and i > 42 and i != start and left == row[i - 2] & 255:
            n = _read_run(src, io, state, rules, 8, end - i)
            if n > end - i:
                return 2
            start = i
            corner = _repeat(row, i, n, corner)
            i += n
            slot = 24 + (row[i - 1] >> 32)
            continue
        entry = _read(src, io, fast, values, row[slot] >> 8 & 0xFFFF)
        if not entry:
            return 3
        corner = up
        left = ((left + up) >> 1) + (entry >> 8) & 255
        if state[8]:
            state[8] -= 1
        else:
            _learn(counts, row, slot, entry >> 16 & 255, trigger)
            state[8] = _pause(state, rules, 8)
        slot = 24 + (entry >> 24)
        word = entry >> 24
        row[i] = word << 32 | left
        i += 1
    io[4] = corner
    return 0


@cython.locals(left=cython.ulonglong)
def _above(row: Array, io: Array, i: int, s: int) -> None:
    """Make the pixel above ``i`` the one on its left, 0 for the first, and no place for a run."""
    left = row[i - 1] & 0xFFFFFF if i > 40 else 0
    row[i] = row[i] >> 32 << 32 | left
    io[3 + (s >> 3)] = left ^ 1


@cython.locals(i=cython.Py_ssize_t, pixel=cython.uint)
def _write_row(out: Bytes, at: int, row: Array, alpha: Array, width: int, kind: int) -> None:
    """Write a decoded row in its format, from byte ``at`` on."""
    if kind == 1:
        for i in range(width):
            out[at + i] = alpha[40 + i] & 255
    elif kind == 2:
        for i in range(width):
            pixel = row[40 + i] & 0xFFFFFF
            pixel = pixel >> 6 & 0x7C00 | pixel >> 3 & 0x3E0 | pixel & 0x1F
            out[at + 2 * i] = pixel & 255
            out[at + 2 * i + 1] = pixel >> 8
    else:
        for i in range(width):
            pixel = row[40 + i] & 0xFFFFFF
            if kind == 5:
                pixel |= (alpha[40 + i] & 255) << 24
            out[at + 4 * i] = pixel & 255
            out[at + 4 * i + 1] = pixel >> 8 & 255
            out[at + 4 * i + 2] = pixel >> 16 & 255
            out[at + 4 * i + 3] = pixel >> 24


@cython.locals(
    y=cython.Py_ssize_t, i=cython.Py_ssize_t, end=cython.Py_ssize_t, stride=cython.Py_ssize_t,
    last=cython.Py_ssize_t, n=cython.uint, s=cython.uint, trigger=cython.uint, status=cython.int,
)
def some_rows(
    src: Array, stop: int, io: Array, state: Array, rules: Array, fast: Array, values: Array,
    counts: Array, row: Array, alpha: Array, out: Bytes, width: int, height: int, kind: int,
    lanes: int,
) -> int:
    """Do what `decode_rows` does, without letting go of the lock of the interpreter."""
    status = 0
    stride = width * (1 if kind == 1 else 2 if kind == 2 else 4)
    for y in range(height):
        s = 8 if kind == 1 else 0
        i = 40
        while i < 40 + width and not status:
            n = _piece(state, s, 40 + width - i)
            last = i + (n & 0x3FFFFFFF)
            trigger = state[16 + state[s + 1]]
            while i < last and not status:
                end = last
                if not y:  # what is above a pixel is the one on its left; no runs
                    end = i + 1
                    _above(row if not s else alpha, io, i, s)
                if s:
                    status = _decode1(
                        src, io, state, rules, fast, values, counts, alpha, i, end, trigger
                    )
                else:
                    status = _decode3(
                        src, io, state, rules, fast, values, counts, row, i, end, lanes, trigger
                    )
                i = end
            if io[1] * 32 - io[2] > stop:
                status = 1
            state[s + 1] += n >> 30
            if i == 40 + width and kind == 5 and s == 0:
                s = 8
                i = 40
        if status:
            io[5] = y
            break
        _write_row(out, y * stride, row, alpha, width, kind)
    return status


def decode_rows(
    src: Array, stop: int, io: Array, state: Array, rules: Array, fast: Array, values: Array,
    counts: Array, row: Array, alpha: Array, out: Bytes, width: int, height: int, kind: int,
    lanes: int,
) -> int:
    """Decode an image of type ``kind`` into ``out``, rows tight; return how it ended.

    ``src`` is the stream as numbers, with zeros after its ``stop`` bits. ``row`` and ``alpha``
    (that one for alpha and grey) have ``width`` zeros for pixels.
    """
    with cython.nogil:
        return some_rows(
            src, stop, io, state, rules, fast, values, counts, row, alpha, out, width, height,
            kind, lanes,
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
    row=cython.ulonglong[::1], line=cython.uint[::1], i=cython.Py_ssize_t, end=cython.Py_ssize_t,
    lanes=cython.uint, trigger=cython.uint, acc=cython.ulonglong, full=cython.ulonglong,
    word=cython.ulonglong, pos=cython.Py_ssize_t, have=cython.uint, start=cython.Py_ssize_t,
    n=cython.uint, r=cython.uint, g=cython.uint, b=cython.uint, wr=cython.uint, wg=cython.uint,
    wb=cython.uint, seen=cython.uint, left=cython.uint, up=cython.uint, corner=cython.uint,
    delta=cython.uint, mean=cython.uint, pixel=cython.uint,
)
def _encode3(
    out: Array, io: Array, state: Array, rules: Array, words: Array, folded: Array, counts: Array,
    row: Array, line: Array, i: int, end: int, lanes: int, trigger: int,
) -> None:
    """Encode the pixels ``i`` to ``end`` of a row of three channels, from ``line``."""
    full = 0xFFFFFFFFFFFFFFFF
    acc, pos, have, corner = io[0], io[1], io[2], io[3]
    start = 0
    left, seen = row[i - 1 if i > 40 else 40] & 0xFFFFFF, row[i - 1 if i > 40 else 40] >> 32
    while i < end:
        up = row[i] & 0xFFFFFF
        if up == corner and i > 42 and i != start and left == row[i - 2] & 0xFFFFFF:
            n = 0
            while i + n < end and line[i + n - 40] == left:
                n += 1
            io[0], io[1], io[2] = acc, pos, have
            _write_run(out, io, state, rules, 0, n)
            acc, pos, have = io[0], io[1], io[2]
            corner = _repeat(row, i, n, corner)
            start, i = i, i + n
            seen = row[i - 1] >> 32
            continue
        corner = up
        pixel = line[i - 40]
        mean = (left & up) + ((left ^ up) >> 1 & 0x7F7F7F)
        delta = (pixel | 0x808080) - (mean & 0x7F7F7F)
        delta = (delta ^ (pixel ^ mean ^ 0x808080) & 0x808080) & lanes
        r, g, b = folded[delta >> 16], folded[delta >> 8 & 255], folded[delta & 255]
        wr = words[(row[16 + (seen >> 16)] & 7) << 8 | r & 255]
        wg = words[(row[8 + (seen >> 8 & 255)] & 7) << 8 | g & 255]
        wb = words[(row[seen & 255] & 7) << 8 | b & 255]
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
            _learn(counts, row, seen & 255, b & 255, trigger)
            _learn(counts, row, 8 + (seen >> 8 & 255), g & 255, trigger)
            _learn(counts, row, 16 + (seen >> 16), r & 255, trigger)
            state[0] = _pause(state, rules, 0)
        seen = (r >> 8) << 16 | g & 0xFF00 | b >> 8
        word = seen
        row[i] = word << 32 | pixel
        left = pixel
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
    trigger=cython.uint, start=cython.Py_ssize_t, n=cython.uint, value=cython.uint,
    word=cython.ulonglong, slot=cython.uint, left=cython.uint, up=cython.uint, corner=cython.uint,
)
def _encode1(
    out: Array, io: Array, state: Array, rules: Array, words: Array, folded: Array, counts: Array,
    row: Array, line: Array, i: int, end: int, trigger: int,
) -> None:
    """Encode the samples ``i`` to ``end`` of a row of alpha or grey, from ``line``."""
    corner, start = io[4], 0
    left, slot = row[i - 1 if i > 40 else 40] & 255, 24 + (row[i - 1 if i > 40 else 40] >> 32)
    while i < end:
        up = row[i] & 255
        if up == corner and i > 42 and i != start and left == row[i - 2] & 255:
            n = 0
            while i + n < end and line[i + n - 40] == left:
                n += 1
            _write_run(out, io, state, rules, 8, n)
            start = i
            corner = _repeat(row, i, n, corner)
            i += n
            slot = 24 + (row[i - 1] >> 32)
            continue
        corner = up
        value = folded[(line[i - 40] - ((left + up) >> 1)) & 255]
        n = words[(row[slot] & 7) << 8 | value & 255]
        _put(out, io, n & 0x3FFFFFF, n >> 26)
        if state[8]:
            state[8] -= 1
        else:
            _learn(counts, row, slot, value & 255, trigger)
            state[8] = _pause(state, rules, 8)
        slot = 24 + (value >> 8)
        left = line[i - 40]
        word = value >> 8
        row[i] = word << 32 | left
        i += 1
    io[4] = corner


@cython.locals(i=cython.Py_ssize_t, pixel=cython.uint)
def _read_row(pixels: Bytes, at: int, line: Array, line1: Array, width: int, kind: int) -> None:
    """Read a row to encode, from byte ``at`` on."""
    if kind == 1:
        for i in range(width):
            line1[i] = pixels[at + i]
    elif kind == 2:
        for i in range(width):
            pixel = pixels[at + 2 * i] | pixels[at + 2 * i + 1] << 8
            line[i] = (pixel & 0x7C00) << 6 | (pixel & 0x3E0) << 3 | pixel & 0x1F
    else:
        for i in range(width):
            pixel = pixels[at + 4 * i] | pixels[at + 4 * i + 1] << 8
            line[i] = pixel | pixels[at + 4 * i + 2] << 16
        if kind == 5:
            for i in range(width):
                line1[i] = pixels[at + 4 * i + 3]


@cython.locals(
    y=cython.Py_ssize_t, i=cython.Py_ssize_t, end=cython.Py_ssize_t, last=cython.Py_ssize_t,
    n=cython.uint, s=cython.uint, trigger=cython.uint, room=cython.ulonglong,
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
            _read_row(pixels, y * stride, line, line1, width, kind)
            s = 8 if kind == 1 else 0
            i = 40
            while i < 40 + width:
                n = _piece(state, s, 40 + width - i)
                last = i + (n & 0x3FFFFFFF)
                trigger = state[16 + state[s + 1]]
                while i < last:
                    end = last
                    if not y:  # what is above a pixel is the one on its left; no runs
                        end = i + 1
                        _above(row if not s else alpha, io, i, s)
                    if s:
                        _encode1(out, io, state, rules, words, folded, counts, alpha, line1, i, end,
                                 trigger)
                    else:
                        _encode3(out, io, state, rules, words, folded, counts, row, line, i, end,
                                 lanes, trigger)
                    i = end
                state[s + 1] += n >> 30
                if i == 40 + width and kind == 5 and s == 0:
                    s = 8
                    i = 40
    return bool(io[5] == height)
