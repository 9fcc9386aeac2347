# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The loops over pixels that no slice of bytes does: compiled where possible, the same where not.

Every function proves with `fits` that all rows lie inside their buffers, before the first pixel,
and then goes without checks. Rows are given by the buffer, the place of their first byte and the
bytes from one row to the next (negative: upwards).

Facts: spice-common ``common/canvas_base.c`` and ``common/pixman_utils.c``; pixman
``pixman-inlines.h`` for the rounding.
"""

from __future__ import annotations

try:
    import cython
except ImportError:
    from aiospice import _cython as cython

from aiospice.canvas.rows import fits

__all__ = ["blend", "key", "nearest", "smooth", "stamp"]


def _prove(buffer, at, step, size, rows):
    if not fits(len(buffer), at, step, size, rows):
        raise IndexError(f"{rows} rows of {size} bytes, {step} apart from {at}, in {len(buffer)}")


@cython.locals(
    into="unsigned char[::1]",
    bits="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    stride=cython.Py_ssize_t,
    width=cython.Py_ssize_t,
    height=cython.Py_ssize_t,
    begin=cython.Py_ssize_t,
    source_stride=cython.Py_ssize_t,
    first=cython.Py_ssize_t,
    x=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    depth=cython.int,
    value=cython.int,
)
def _stamp(target, at, stride, width, height, source, begin, source_stride, first, depth):
    into = target
    bits = source
    with cython.nogil:
        for y in range(height):  # noqa: B007
            for x in range(width):
                if depth == 1:
                    value = (
                        255 if bits[begin + ((first + x) >> 3)] << ((first + x) & 7) & 128 else 0
                    )
                elif depth == 4:
                    value = bits[begin + ((first + x) >> 1)]
                    value = value << 4 if (first + x) & 1 else value & 240
                else:
                    value = bits[begin + first + x]
                if value > into[at + x]:
                    into[at + x] = value & 255
            at += stride
            begin += source_stride


def stamp(target, at, stride, width, height, source, begin, source_stride, first, depth):
    """Lay part of a glyph of 1, 4 or 8 bits a pixel into a mask of bytes; the larger value stays.

    ``first`` is the first column of the glyph that is wanted. A pixel of 4 bits counts sixteen
    times, so none is full; every second one is compared together with the one before it, as
    upstream does. Raises `IndexError` when rows aren't inside their buffers.
    """
    _prove(target, at, stride, width, height)
    _prove(source, begin, source_stride, ((first + width) * depth + 7) // 8, height)
    if first < 0:
        raise IndexError("a glyph's column before its first")
    _stamp(target, at, stride, width, height, source, begin, source_stride, first, depth)


@cython.locals(
    into="unsigned char[::1]",
    pixels="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    stride=cython.Py_ssize_t,
    width=cython.Py_ssize_t,
    height=cython.Py_ssize_t,
    begin=cython.Py_ssize_t,
    source_stride=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    x=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    z=cython.Py_ssize_t,
    value=cython.uint,
    colour=cython.uint,
)
def _key(target, at, stride, width, height, source, begin, source_stride, size, colour):
    into = target
    pixels = source
    with cython.nogil:
        for y in range(height):  # noqa: B007
            for x in range(width):
                z = size * x
                value = pixels[begin + z]
                if size > 1:
                    value |= pixels[begin + z + 1] << 8
                if size > 2:
                    value |= pixels[begin + z + 2] << 16
                if value == colour:
                    continue
                into[at + z] = pixels[begin + z]
                if size > 1:
                    into[at + z + 1] = pixels[begin + z + 1]
                if size > 2:
                    into[at + z + 2] = pixels[begin + z + 2]
                    into[at + z + 3] = pixels[begin + z + 3]
            at += stride
            begin += source_stride


def key(target, at, stride, width, height, source, begin, source_stride, size, colour):
    """Copy pixels of ``size`` bytes (1, 2, 4) but those of one colour.

    Of four bytes three are compared. Raises `IndexError` when rows aren't inside their buffers.
    """
    _prove(target, at, stride, size * width, height)
    _prove(source, begin, source_stride, size * width, height)
    colour &= (1 << 8 * min(size, 3)) - 1
    _key(target, at, stride, width, height, source, begin, source_stride, size, colour)


@cython.locals(
    into="unsigned char[::1]",
    pixels="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    count=cython.Py_ssize_t,
    begin=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    width="long long",
    start="long long",
    step="long long",
    i=cython.Py_ssize_t,
    z=cython.Py_ssize_t,
    x="long long",
)
def nearest(target, at, count, source, begin, size, width, start, step):
    """Take ``count`` pixels of ``size`` bytes from a row of ``width``, from ``start`` on in 16.16.

    Each is ``step`` further on; beyond the row they are 0. Raises `IndexError` when the rows
    aren't inside their buffers.
    """
    _prove(target, at, 0, size * count, 1)
    _prove(source, begin, 0, size * width, 1)
    into = target
    pixels = source
    with cython.nogil:
        for i in range(count):  # noqa: B007
            x = start >> 16
            for z in range(size):
                into[at + z] = pixels[begin + size * x + z] if 0 <= x < width else 0
            at += size
            start += step


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    pixels="const unsigned char[::1]",
    begin=cython.Py_ssize_t,
    x="long long",
    width="long long",
    size=cython.Py_ssize_t,
    z=cython.Py_ssize_t,
    there=cython.bint,
)
@cython.returns(cython.uint)
def _at(pixels, begin, x, width, size, z, there):
    """A byte of a pixel, 0 beyond the row."""
    if there and 0 <= x < width:
        return pixels[begin + x * size + z]
    return 0


@cython.locals(
    into="unsigned char[::1]",
    pixels="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    count=cython.Py_ssize_t,
    one=cython.Py_ssize_t,
    other=cython.Py_ssize_t,
    has_one=cython.bint,
    has_other=cython.bint,
    size=cython.Py_ssize_t,
    width="long long",
    start="long long",
    step="long long",
    down=cython.uint,
    over_=cython.uint,
    i=cython.Py_ssize_t,
    z=cython.Py_ssize_t,
    x="long long",
    total=cython.uint,
)
def _smooth(
    target, at, count, source, one, other, has_one, has_other, size, width, start, step, down
):
    into = target
    pixels = source
    with cython.nogil:
        for i in range(count):  # noqa: B007
            x = start >> 16
            over_ = (start >> 9 & 127) << 1
            for z in range(size):
                total = _at(pixels, one, x, width, size, z, has_one) * (256 - over_) * (256 - down)
                total += _at(pixels, one, x + 1, width, size, z, has_one) * over_ * (256 - down)
                total += _at(pixels, other, x, width, size, z, has_other) * (256 - over_) * down
                total += _at(pixels, other, x + 1, width, size, z, has_other) * over_ * down
                into[at + z] = total >> 16
            at += size
            start += step


def smooth(target, at, count, source, rows, size, width, start, step, down):
    """Mix ``count`` pixels out of two rows: ``rows`` are their places, -1 for one of zeros.

    ``start`` and ``step`` are in 16.16, ``down`` (0 to 254, even) how much of the second row
    counts, of 256. Raises `IndexError` when the rows aren't inside their buffers.
    """
    one, other = rows
    _prove(target, at, 0, size * count, 1)
    for place in rows:
        if place >= 0:
            _prove(source, place, 0, size * width, 1)
    _smooth(
        target, at, count, source, max(one, 0), max(other, 0), one >= 0, other >= 0,
        size, width, start, step, down,
    )  # fmt: skip


@cython.locals(
    into="unsigned char[::1]",
    pixels="const unsigned char[::1]",
    parts="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    stride=cython.Py_ssize_t,
    width=cython.Py_ssize_t,
    height=cython.Py_ssize_t,
    begin=cython.Py_ssize_t,
    source_stride=cython.Py_ssize_t,
    mask_at=cython.Py_ssize_t,
    mask_stride=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    flip=cython.int,
    x=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    z=cython.Py_ssize_t,
    bits=cython.int,
)
def blend(
    target, at, stride, width, height, source, begin, source_stride,
    mask, mask_at, mask_stride, size, flip,
):  # fmt: skip
    """Copy pixels of ``size`` bytes where the mask's byte, XOR ``flip``, is 255; it is 0 elsewhere.

    Raises `IndexError` when rows aren't inside their buffers.
    """
    _prove(target, at, stride, size * width, height)
    _prove(source, begin, source_stride, size * width, height)
    _prove(mask, mask_at, mask_stride, width, height)
    into = target
    pixels = source
    parts = mask
    with cython.nogil:
        for y in range(height):  # noqa: B007
            for x in range(width):
                bits = parts[mask_at + x] ^ flip
                for z in range(size * x, size * x + size):
                    into[at + z] = (into[at + z] & ~bits) | (pixels[begin + z] & bits)
            at += stride
            begin += source_stride
            mask_at += mask_stride
