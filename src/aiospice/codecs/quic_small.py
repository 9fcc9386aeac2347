# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True, annotation_typing=False
"""Small QUIC images, decoded where nothing is allocated for one.

A text screen is thousands of images a second of some hundred pixels each, so what an image costs
beside its pixels counts. A `Scratch` has everything that a decoder needs, made once. What is
unusual is left to `quic.decode`, which also says what is wrong with an image. Other kernels call
`decode_small` from C (``quic_small.pxd``).
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

from aiospice.codecs.quic_tables import RULES, TRIGGERS, codes

if TYPE_CHECKING:
    from aiospice import _cython as cython

    Bytes = bytes | bytearray | memoryview
    Array = array[int]
else:
    try:
        import cython
    except ImportError:
        from aiospice import _cython as cython

if not cython.compiled:
    from aiospice.codecs.quic_kernel import some_rows

__all__ = ["MAX_PIXELS", "MAX_WIDTH", "OTHER", "Scratch", "decode_small"]

# Types stand side by side.
# fmt: off

#: What fits into a scratch: pixels and the width of an image (and 4 bytes a pixel of a stream).
MAX_PIXELS = 65536
MAX_WIDTH = 2048
#: `decode_small` has left the image alone: it is no QUIC, of another type, or too large.
OTHER = 4


class Scratch:
    """What `decode_small` works with, about 600 kB; for one thread at a time.

    ``pixels`` has the rows of the image decoded last, tight, the top one first, four bytes a pixel:
    blue, green, red, and 0 or alpha (``image`` is the same as an object, ``cells`` as numbers).
    ``found`` has its width, height and type.
    """

    def __init__(self) -> None:
        table = codes(8)
        self.words = array("I", bytes(4 * MAX_PIXELS + 28 * (MAX_WIDTH + 2)))
        self.io = array("Q", bytes(8 * 9))
        self.state = array("I", bytes(4 * 16)) + TRIGGERS
        self.rules, self.fast, self.values = RULES, table.fast, table.values
        self.counts, self.counters, self.lanes = table.counts[:], table.counts[2048:], table.lanes
        self.best = table.head
        blank = array("Q", bytes(8 * (MAX_WIDTH + 2)))
        self.row, self.alpha = table.head + blank, table.head + blank
        self.image = bytearray(4 * MAX_PIXELS)
        self.pixels = self.image
        self.cells = memoryview(self.pixels).cast("I")
        self.found = array("i", bytes(4 * 3))
        #: Whether numbers have their bytes in the order of pixels.
        self.little = sys.byteorder == "little"

    def __reduce__(self) -> tuple[type[Scratch], tuple[()]]:
        """Pickle as a new one: nothing in it outlives an image."""
        return Scratch, ()


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.uint)
@cython.locals(data="const unsigned char[::1]", at=cython.Py_ssize_t, high=cython.uint)
def _u32(data: Bytes, at: int) -> int:
    """Return a number of 32 bits."""
    high = data[at + 3]
    return data[at] | data[at + 1] << 8 | data[at + 2] << 16 | high << 24


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.void)
@cython.locals(
    words=cython.uint[::1], data="const unsigned char[::1]", start=cython.Py_ssize_t,
    n=cython.Py_ssize_t, zeros=cython.Py_ssize_t, i=cython.Py_ssize_t,
)
def _load(words: Array, data: Bytes, start: int, n: int, zeros: int) -> None:
    """Set the first ``n`` words to those at ``start``, and the next ``zeros`` to 0."""
    for i in range(n):
        words[i] = _u32(data, start + 4 * i)
    for i in range(n, n + zeros):
        words[i] = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.void)
@cython.locals(
    row=cython.ulonglong[::1], best=cython.ulonglong[::1], width=cython.Py_ssize_t,
    i=cython.Py_ssize_t,
)
def _clear(row: Array, best: Array, width: int) -> None:
    """Make a row what it is before an image."""
    for i in range(32):
        row[i] = best[i]
    for i in range(32, 34 + width):
        row[i] = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.returns(cython.void)
@cython.locals(
    io=cython.ulonglong[::1], state=cython.uint[::1], counts=cython.short[::1],
    counters=cython.short[::1], i=cython.Py_ssize_t, first=cython.ulonglong,
)
def _begin(io: Array, state: Array, counts: Array, counters: Array, first: int) -> None:
    """Make models and bits what they are before an image whose first word is ``first``."""
    for i in range(256):
        counts[2048 + i] = counters[i]
    for i in range(16):
        state[i] = 0
    state[2] = state[10] = 2048
    state[3] = state[11] = 255
    io[0], io[1], io[2], io[3], io[4], io[5] = first << 32, 6, 32, 0, 0, 0


@cython.locals(
    n=cython.Py_ssize_t, zeros=cython.Py_ssize_t, kind=cython.uint, width=cython.uint,
    height=cython.uint,
)
def decode_small(scratch: Scratch, data: Bytes, start: int, size: int) -> int:
    """Decode the stream of ``size`` bytes at ``start`` into ``scratch``; return how it ended.

    0: its pixels and size are in the scratch. Else they are undefined: `OTHER`, or what
    `quic_kernel.decode_rows` says of a bad stream. Raises nothing and keeps the lock of the
    interpreter. The range must lie in ``data``.
    """
    if size < 24 or _u32(data, start) != 0x43495551:
        return 4
    kind = _u32(data, start + 8)
    width, height = _u32(data, start + 12), _u32(data, start + 16)
    if _u32(data, start + 4) or kind < 3 or kind > 5 or not width or not height:
        return 4
    if width > len(scratch.row) - 34 or height > len(scratch.pixels) // (4 * width):
        return 4
    n, zeros = size >> 2, 7 * (width + 2)
    if n + zeros > len(scratch.words) or not scratch.little:
        return 4
    _load(scratch.words, data, start, n, zeros)
    _begin(scratch.io, scratch.state, scratch.counts, scratch.counters, scratch.words[5])
    _clear(scratch.row, scratch.best, width)
    if kind == 5:
        _clear(scratch.alpha, scratch.best, width)
    scratch.found[0], scratch.found[1], scratch.found[2] = width, height, kind
    return some_rows(
        scratch.words, 32 * n, scratch.io, scratch.state, scratch.rules, scratch.fast,
        scratch.values, scratch.counts, scratch.row, scratch.alpha, scratch.pixels,
        scratch.cells, width, height, kind, scratch.lanes,
    )
