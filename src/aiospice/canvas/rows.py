# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Rows of bytes copied and combined bit by bit: compiled where possible, the same where not.

Raster operations work on bits, so pixels of every size are bytes here. An operation is given by its
algebraic form: numbers of 0 or 255 that say which of the products of source, target (and brush) are
XORed together. That needs no choice within the loop, which is compiled to vectors.

Every function proves with `fits` that all rows lie inside their buffers, before the first byte is
written, and then goes without checks. Rows are given by the buffer, the place of their first byte,
and the bytes from one row to the next (negative: upwards).
"""

from __future__ import annotations

try:
    import cython
except ImportError:
    from aiospice import _cython as cython

if cython.compiled:
    from cython.cimports.libc.string import memmove

__all__ = ["copy", "fits", "mix", "mix3", "repeat"]


def fits(length, at, step, size, rows):
    """Whether ``rows`` rows of ``size`` bytes, ``step`` apart from ``at`` on, lie in ``length``."""
    if size < 0 or rows < 0:
        return False
    if size == 0 or rows == 0:
        return True
    last = at + (rows - 1) * step
    return min(at, last) >= 0 and max(at, last) + size <= length


def _prove(buffer, at, step, size, rows):
    if not fits(len(buffer), at, step, size, rows):
        raise IndexError(f"{rows} rows of {size} bytes, {step} apart from {at}, in {len(buffer)}")


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    into="unsigned char[::1]",
    pixels="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    begin=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
)
@cython.returns(cython.void)
def _move(into, at, pixels, begin, size):
    if cython.compiled:
        memmove(cython.address(into[at]), cython.address(pixels[begin]), size)
    else:
        into[at : at + size] = bytes(pixels[begin : begin + size])


@cython.locals(
    into="unsigned char[::1]",
    pixels="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    stride=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    height=cython.Py_ssize_t,
    begin=cython.Py_ssize_t,
    source_stride=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
)
def copy(target, at, stride, size, height, source, begin, source_stride):
    """Copy rows of ``size`` bytes, in the order given; both may be the same buffer.

    With a ``source_stride`` of 0 it is one row, again and again. Raises `IndexError` when rows
    aren't inside their buffers.
    """
    _prove(target, at, stride, size, height)
    _prove(source, begin, source_stride, size, height)
    if size <= 0 or height <= 0:
        return
    if stride == size and source_stride == size:
        size *= height
        height = 1
    into = target
    pixels = source
    with cython.nogil:
        for y in range(height):  # noqa: B007
            _move(into, at, pixels, begin, size)
            at += stride
            begin += source_stride


@cython.locals(
    into="unsigned char[::1]",
    pixels="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    stride=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    height=cython.Py_ssize_t,
    begin=cython.Py_ssize_t,
    source_stride=cython.Py_ssize_t,
    width=cython.Py_ssize_t,
    source_height=cython.Py_ssize_t,
    skip=cython.Py_ssize_t,
    row=cython.Py_ssize_t,
    first=cython.Py_ssize_t,
    part=cython.Py_ssize_t,
    done=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
)
def repeat(
    target, at, stride, size, height, source, begin, source_stride, width, source_height, skip, row
):
    """Fill rows of ``size`` bytes with an image repeated without end.

    The image has ``source_height`` rows of ``width`` bytes; the first byte is taken from row
    ``row``, ``skip`` bytes from its beginning. The buffers are two. Raises `IndexError` when rows
    aren't inside their buffers.
    """
    _prove(target, at, stride, size, height)
    _prove(source, begin, source_stride, width, source_height)
    if not (0 <= skip < width and 0 <= row < source_height):
        raise IndexError(f"byte {skip} of row {row} in {source_height} rows of {width} bytes")
    if size <= 0:
        return
    into = target
    pixels = source
    with cython.nogil:
        for y in range(height):
            if y >= source_height:  # like the row that lies one image above
                _move(into, at, into, at - source_height * stride, size)
            else:
                first = begin + (row + y) % source_height * source_stride
                part = min(size, width - skip)
                _move(into, at, pixels, first + skip, part)
                done = min(size, width)
                _move(into, at + part, pixels, first, done - part)
                while done < size:  # whole images so far: as many again
                    part = min(done, size - done)
                    _move(into, at + done, into, at, part)
                    done += part
            at += stride


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    into="unsigned char[::1]",
    pixels="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    begin=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    k0=cython.uchar,
    k1=cython.uchar,
    k2=cython.uchar,
    k3=cython.uchar,
    s=cython.uchar,
    d=cython.uchar,
    i=cython.Py_ssize_t,
)
@cython.returns(cython.void)
def _mix_row(into, at, pixels, begin, size, k0, k1, k2, k3):
    for i in range(size):
        s = pixels[begin + i]
        d = into[at + i]
        into[at + i] = k0 ^ (s & k1) ^ (d & k2) ^ (s & d & k3)


@cython.locals(
    into="unsigned char[::1]",
    pixels="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    stride=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    height=cython.Py_ssize_t,
    begin=cython.Py_ssize_t,
    source_stride=cython.Py_ssize_t,
    k0=cython.uchar,
    k1=cython.uchar,
    k2=cython.uchar,
    k3=cython.uchar,
    y=cython.Py_ssize_t,
)
def mix(target, at, stride, size, height, source, begin, source_stride, form):
    """Combine rows of ``size`` bytes with others, bit by bit.

    ``form``: four numbers of 0 or 255; the result is their first, the source AND the second, the
    target AND the third, and source AND target AND the fourth, all XORed. With a ``source_stride``
    of 0 the source is one row, again and again. Raises `IndexError` when rows aren't inside their
    buffers.
    """
    _prove(target, at, stride, size, height)
    _prove(source, begin, source_stride, size, height)
    k0, k1, k2, k3 = form
    into = target
    pixels = source
    with cython.nogil:
        for y in range(height):  # noqa: B007
            _mix_row(into, at, pixels, begin, size, k0, k1, k2, k3)
            at += stride
            begin += source_stride


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    into="unsigned char[::1]",
    pixels="const unsigned char[::1]",
    inks="const unsigned char[::1]",
    forms="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    begin=cython.Py_ssize_t,
    ink_at=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    k0=cython.uchar,
    k1=cython.uchar,
    k2=cython.uchar,
    k3=cython.uchar,
    k4=cython.uchar,
    k5=cython.uchar,
    k6=cython.uchar,
    k7=cython.uchar,
    s=cython.uchar,
    d=cython.uchar,
    p=cython.uchar,
    i=cython.Py_ssize_t,
)
@cython.returns(cython.void)
def _mix3_row(into, at, pixels, begin, inks, ink_at, size, forms):
    k0 = forms[0]
    k1 = forms[1]
    k2 = forms[2]
    k3 = forms[3]
    k4 = forms[4]
    k5 = forms[5]
    k6 = forms[6]
    k7 = forms[7]
    for i in range(size):
        s = pixels[begin + i]
        d = into[at + i]
        p = inks[ink_at + i]
        into[at + i] = (k0 ^ (s & k1) ^ (d & k2) ^ (s & d & k3)) ^ (
            p & (k4 ^ (s & k5) ^ (d & k6) ^ (s & d & k7))
        )


@cython.locals(
    into="unsigned char[::1]",
    pixels="const unsigned char[::1]",
    inks="const unsigned char[::1]",
    forms="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    stride=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    height=cython.Py_ssize_t,
    begin=cython.Py_ssize_t,
    source_stride=cython.Py_ssize_t,
    ink_at=cython.Py_ssize_t,
    ink_stride=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
)
def mix3(
    target, at, stride, size, height, source, begin, source_stride, ink, ink_at, ink_stride, form
):
    """Combine rows with those of a source and a brush, bit by bit.

    ``form``: eight numbers of 0 or 255; the first four as for `mix`, the others the same with what
    they make ANDed to the brush. Raises `IndexError` when rows aren't inside their buffers.
    """
    _prove(target, at, stride, size, height)
    _prove(source, begin, source_stride, size, height)
    _prove(ink, ink_at, ink_stride, size, height)
    if len(form) != 8:
        raise IndexError("a form of three inputs has eight numbers")
    into = target
    pixels = source
    inks = ink
    forms = form
    with cython.nogil:
        for y in range(height):  # noqa: B007
            _mix3_row(into, at, pixels, begin, inks, ink_at, size, forms)
            at += stride
            begin += source_stride
            ink_at += ink_stride
