# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Copies of pixels that become images, and what these are like: compiled where possible.

`grab` looks at each row once: it is published, copied, and counted into the number by which equal
images are known again while it is in the processor's cache. `hash_rows` gives that number alone,
`count_steps` tells pictures from drawings. Words, boxes and masks are as in
`aiospice.server.compare`.
"""

from __future__ import annotations

try:
    import cython
except ImportError:
    from aiospice import _cython as cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.string import memcpy

__all__ = ["count_steps", "grab", "hash_rows"]

_BITS = (1 << 64) - 1
if cython.compiled:
    _FACTOR = cython.declare(cython.ulonglong, 0x9E3779B97F4A7C15)
    _START = cython.declare(cython.ulonglong, 0x243F6A8885A308D3)
else:
    _FACTOR, _START = 0x9E3779B97F4A7C15, 0x243F6A8885A308D3


def _prove(pixels, width, left, top, right, bottom):
    """Raise `IndexError` unless the box is in rows of ``width`` words, and they in the buffer."""
    if not (0 <= left <= right <= width and 0 <= top <= bottom):
        raise IndexError(f"a box from {left}, {top} to {right}, {bottom} in rows of {width} pixels")
    if bottom * width > len(pixels):
        raise IndexError(f"{bottom} rows of {width} pixels in {len(pixels)}")


@cython.locals(
    words="const unsigned int[::1]",
    width=cython.Py_ssize_t,
    left=cython.Py_ssize_t,
    top=cython.Py_ssize_t,
    right=cython.Py_ssize_t,
    bottom=cython.Py_ssize_t,
    every=cython.Py_ssize_t,
    x=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    row=cython.Py_ssize_t,
    one=cython.uint,
    other=cython.uint,
    a=cython.int,
    b=cython.int,
    c=cython.int,
    equal=cython.int,
    near=cython.int,
    same=cython.Py_ssize_t,
    small=cython.Py_ssize_t,
    total=cython.Py_ssize_t,
)
def count_steps(pixels, width, left, top, right, bottom, every):
    """How many neighbours in a row are the same colour, nearly the same, and another one.

    Every ``every``-th row is looked at. Nearly: no channel differs by more than 16.
    """
    _prove(pixels, width, left, top, right, bottom)
    if every < 1:
        raise ValueError(f"every {every}th row")
    words = pixels
    same = 0
    small = 0
    total = 0
    y = top
    if right - left < 2:
        return 0, 0, 0
    with cython.nogil:
        while y < bottom:
            row = y * width
            equal = 0
            near = 0
            for x in range(row + left + 1, row + right):  # without a branch: a loop over vectors
                one = words[x]
                other = words[x - 1]
                a = (one & 255) - (other & 255)
                b = (one >> 8 & 255) - (other >> 8 & 255)
                c = (one >> 16 & 255) - (other >> 16 & 255)
                a = a * a
                b = b * b
                c = c * c
                equal += (a | b | c) == 0
                near += (a <= 256) & (b <= 256) & (c <= 256)
            same += equal
            small += near - equal
            total += right - left - 1
            y += every
    return same, small, total - same - small


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(state=cython.ulonglong, word=cython.ulonglong)
@cython.returns(cython.ulonglong)
def _mix(state, word):
    state = (state ^ word) * _FACTOR
    if not cython.compiled:
        state &= _BITS
    return state ^ state >> 29


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(words="const unsigned int[::1]", at=cython.Py_ssize_t)
@cython.returns(cython.ulonglong)
def _pair(words, at):
    """Two pixels as one word."""
    if cython.compiled:
        return words[at] | cython.cast("unsigned long long", words[at + 1]) << 32
    return words[at] | words[at + 1] << 32


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    words="const unsigned int[::1]",
    at=cython.Py_ssize_t,
    end=cython.Py_ssize_t,
    wide=cython.ulonglong,
    a=cython.ulonglong,
    b=cython.ulonglong,
    c=cython.ulonglong,
    d=cython.ulonglong,
    total=cython.ulonglong,
)
@cython.returns(cython.ulonglong)
def _hash_row(words, at, end, wide, total):
    """The number so far, with the pixels of one more row; ``wide``: the mask of two pixels."""
    a = total
    b = total ^ 0x5555
    c = total ^ 0x2AAA0000
    d = total ^ 0x33330000
    while at + 8 <= end:
        a = _mix(a, _pair(words, at) & wide)
        b = _mix(b, _pair(words, at + 2) & wide)
        c = _mix(c, _pair(words, at + 4) & wide)
        d = _mix(d, _pair(words, at + 6) & wide)
        at += 8
    while at + 2 <= end:
        a = _mix(a, _pair(words, at) & wide)
        at += 2
    if at < end:
        b = _mix(b, words[at] & wide)
    return _mix(_mix(_mix(a, b), c), d)


@cython.locals(
    words="const unsigned int[::1]",
    width=cython.Py_ssize_t,
    left=cython.Py_ssize_t,
    top=cython.Py_ssize_t,
    right=cython.Py_ssize_t,
    bottom=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    row=cython.Py_ssize_t,
    wide=cython.ulonglong,
    total=cython.ulonglong,
)
def hash_rows(pixels, width, left, top, right, bottom, mask):
    """A number of 64 bits for the pixels in the box, its width and its height."""
    _prove(pixels, width, left, top, right, bottom)
    words = pixels
    wide = mask | mask << 32
    total = (_START ^ (right - left)) * _FACTOR & _BITS
    with cython.nogil:
        for y in range(top, bottom):
            row = y * width
            total = _hash_row(words, row + left, row + right, wide, total)
    return total


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    words="const unsigned int[::1]",
    at=cython.Py_ssize_t,
    end=cython.Py_ssize_t,
    colour=cython.uint,
    differs=cython.uint,
)
@cython.returns(cython.uint)
def _unlike(words, at, end, colour):
    """The bits in which a pixel of a row differs from a colour."""
    differs = 0
    while at < end:
        differs |= words[at] ^ colour
        at += 1
    return differs


@cython.locals(
    words="const unsigned int[::1]",
    into="unsigned int[::1]",
    to="unsigned char *",
    width=cython.Py_ssize_t,
    left=cython.Py_ssize_t,
    top=cython.Py_ssize_t,
    right=cython.Py_ssize_t,
    bottom=cython.Py_ssize_t,
    mask=cython.uint,
    y=cython.Py_ssize_t,
    row=cython.Py_ssize_t,
    line=cython.Py_ssize_t,
    wide=cython.ulonglong,
    total=cython.ulonglong,
    colour=cython.uint,
    differs=cython.uint,
    publish=cython.bint,
)
def grab(pixels, shadow, width, left, top, right, bottom, mask):
    """A copy of a box that isn't empty, its number (`hash_rows`), and its colour if it has but one.

    The copy are rows of four bytes a pixel with nothing between them; the colour is -1 if there are
    several. The box is copied into ``shadow``, too, unless that is None.
    """
    _prove(pixels, width, left, top, right, bottom)
    publish = shadow is not None
    words = pixels
    if publish:
        _prove(shadow, width, left, top, right, bottom)
        into = shadow
    line = 4 * (right - left)
    if line == 0 or top == bottom:
        raise IndexError("a box without a pixel")
    if cython.compiled:
        copy = PyBytes_FromStringAndSize(cython.NULL, line * (bottom - top))
        to = cython.cast("unsigned char *", PyBytes_AS_STRING(copy))
    else:
        copy = bytearray()
    wide = mask
    wide |= wide << 32
    total = (_START ^ (right - left)) * _FACTOR & _BITS
    colour = words[top * width + left] & mask
    differs = 0
    with cython.nogil:
        for y in range(top, bottom):
            row = y * width
            if cython.compiled:
                memcpy(to, cython.address(words[row + left]), line)
                to += line
                if publish:
                    memcpy(
                        cython.address(into[row + left]), cython.address(words[row + left]), line
                    )
            else:
                copy += words[row + left : row + right]
                if publish:
                    into[row + left : row + right] = words[row + left : row + right]
            if not differs & mask:
                differs = _unlike(words, row + left, row + right, colour)
            total = _hash_row(words, row + left, row + right, wide, total)
    return bytes(copy), total, -1 if differs & mask else colour
