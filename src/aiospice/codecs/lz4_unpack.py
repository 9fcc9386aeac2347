# cython: language_level=3, boundscheck=True, wraparound=False, initializedcheck=False
# mypy: ignore-errors
"""The loop that unpacks the blocks of ordinary LZ4 images: compiled where possible.

The library (`aiospice.codecs.lz4`) takes a copy of a block and gives an object for each; this
unpacks where the bytes lie into a buffer that is there. It is stricter than the library: what is
refused here may be valid there, and only there it is said what is wrong.

A block is a row of sequences: a token (how many literals, how long a copy, four bits each; 15:
more follows), the literals, and 16 bits of how far back the copy is from, low byte first. The last
has literals only. Every read and write is preceded by a check against the ends of both buffers.
Facts: ``doc/lz4_Block_format.md`` of LZ4; the ends are those of ``LZ4_decompress_safe``.
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

if cython.compiled:
    from cython.cimports.libc.string import memcpy

__all__ = ["Rows", "unpack"]


class Rows:
    """Room for what kernels unpack, one image after another; for one thread at a time.

    ``data`` stays when an image has been drawn, so that its pages are there for the next.
    """

    def __init__(self) -> None:
        self.data = bytearray(1 << 18)

    def make_room(self, size: int) -> None:
        """Make it at least ``size`` bytes, with a part more for what is a little larger."""
        if len(self.data) < size:
            self.data = bytearray(size + (size >> 3))

    def __reduce__(self) -> tuple[type[Rows], tuple[()]]:
        """Pickle as new room: nothing in it outlives an image."""
        return Rows, ()


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _literals(
    out: cython.p_uchar,
    op: cython.Py_ssize_t,
    room: cython.Py_ssize_t,
    data: cython.p_uchar,
    ip: cython.Py_ssize_t,
    left: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
) -> cython.void:
    """Copy ``size`` bytes, of ``left`` that may be read, to a place with ``room``."""
    if cython.compiled:
        if size <= 16 and left >= 16 and room >= 16:
            memcpy(out + op, data + ip, 16)
        else:
            memcpy(out + op, data + ip, size)
    else:
        out[op : op + size] = data[ip : ip + size]


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _back(
    out: cython.p_uchar,
    op: cython.Py_ssize_t,
    room: cython.Py_ssize_t,
    back: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
) -> cython.void:
    """Copy ``size`` bytes from ``back`` bytes before, which may be those that are written here."""
    step: cython.Py_ssize_t
    if cython.compiled:
        if back >= 16 and size <= 32 and room >= 32:
            memcpy(out + op, out + op - back, 16)
            memcpy(out + op + 16, out + op + 16 - back, 16)
            return
        while size > 0:
            step = back if back < size else size
            memcpy(out + op, out + op - back, step)
            op += step
            size -= step
            back += step
    else:
        for step in range(op, op + size):
            out[step] = out[step - back]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _block(
    data: cython.p_uchar,
    ip: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    out: cython.p_uchar,
    op: cython.Py_ssize_t,
    total: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Unpack the block from ``ip`` to ``end``; where in ``out`` it ends, -1 if it is unusual."""
    token: cython.Py_ssize_t
    size: cython.Py_ssize_t
    back: cython.Py_ssize_t
    more: cython.Py_ssize_t
    while ip < end:
        token = data[ip]
        ip += 1
        size = token >> 4
        if size == 15:
            more = 255
            while more == 255:
                if ip >= end:
                    return -1
                more = data[ip]
                ip += 1
                size += more
        if size > end - ip or size > total - op:
            return -1
        _literals(out, op, total - op, data, ip, end - ip, size)
        ip += size
        op += size
        if ip == end:
            return op
        if end - ip < 8 or total - op < 12:
            return -1
        back = data[ip] | data[ip + 1] << 8
        ip += 2
        size = token & 15
        if size == 15:
            more = 255
            while more == 255:
                if ip >= end:
                    return -1
                more = data[ip]
                ip += 1
                size += more
        size += 4
        if back == 0 or back > op or size > total - op - 5:
            return -1
        _back(out, op, total - op, back, size)
        op += size
    return -1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _unpack(
    data: cython.const[cython.uchar][::1],
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    out: cython.uchar[::1],
    total: cython.Py_ssize_t,
    blocks: cython.Py_ssize_t,
) -> cython.bint:
    op: cython.Py_ssize_t = 0
    size: cython.Py_ssize_t
    source: cython.p_uchar
    target: cython.p_uchar
    if start < 0 or end > data.shape[0] or total < 1 or total > out.shape[0]:
        return False
    if start >= end:
        return False
    if cython.compiled:
        source = cython.cast(cython.p_uchar, cython.address(data[0]))
        target = cython.address(out[0])
    else:
        source, target = data, out
    while end - start > 4 and blocks > 0:
        size = cython.cast(cython.Py_ssize_t, source[start]) << 24
        size |= source[start + 1] << 16 | source[start + 2] << 8 | source[start + 3]
        start += 4
        if size > end - start:
            return False
        op = _block(source, start, start + size, target, op, total)
        if op < 0:
            return False
        start += size
        blocks -= 1
    return start == end and op == total


def unpack(
    data: cython.const[cython.uchar][::1],
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    out: cython.uchar[::1],
    total: cython.Py_ssize_t,
    blocks: cython.Py_ssize_t,
) -> bool:
    """Unpack ``data`` from ``start`` to ``end``: at most ``blocks`` blocks, each behind its size.

    They come to ``total`` bytes, which ``out`` has room for. False for whatever isn't like that;
    what ``out`` has then is undefined.
    """
    done: cython.bint
    with cython.nogil:
        done = _unpack(data, start, end, out, total, blocks)
    return done
