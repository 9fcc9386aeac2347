# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Pixels put onto others through a mask by pixman's SRC, OVER and ADD, which is what screens need.

Compiled where possible, the same where not. A row is worked on in pieces of `PIECE` pixels: the
source is fetched as bytes of the target's format, the mask as one byte for each of those, and then
all bytes go through the same arithmetic without a choice, which is compiled to vectors.

Every call proves with `fits` that all rows lie inside their buffers, before the first pixel is
written, and then goes without checks. Facts: pixman ``pixman-combine32.c`` for the rounding.
"""

from __future__ import annotations

try:
    import cython
except ImportError:
    from aiospice import _cython as cython

from aiospice.canvas.rows import fits

__all__ = ["ADD", "OVER", "PIECE", "SRC", "lay"]

#: Operators, as pixman numbers them.
SRC, OVER, ADD = 1, 3, 12
#: Pixels that are worked on at a time.
PIECE = 256

# Parts of the scratch memory: from 0 the source's bytes; from 1024 its alpha, a byte for each of
# those; from 2048 the mask's; then patterns that keep colours alone (3072), that make pixels opaque
# (4096), and that keep all (5120). Compiled code has no constants of its own but numbers.
_SCRATCH = bytes(3072) + b"\xff\xff\xff\0" * PIECE + b"\0\0\0\xff" * PIECE + b"\xff" * 4 * PIECE


def _prove(buffer, at, step, size, rows):
    if not fits(len(buffer), at, step, size, rows):
        raise IndexError(f"{rows} rows of {size} bytes, {step} apart from {at}, in {len(buffer)}")


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    tmp="unsigned char[::1]",
    pixels="const unsigned char[::1]",
    to=cython.Py_ssize_t,
    begin=cython.Py_ssize_t,
    step=cython.int,
    alpha=cython.bint,
    count=cython.Py_ssize_t,
    i=cython.Py_ssize_t,
)
@cython.returns(cython.void)
def _wide(tmp, to, pixels, begin, step, alpha, count):
    """Fetch pixels of ``step`` bytes (4, 1: alpha only) as four bytes each."""
    if step == 4:
        if alpha:
            for i in range(4 * count):
                tmp[to + i] = pixels[begin + i]
        else:
            for i in range(4 * count):
                tmp[to + i] = pixels[begin + i] | tmp[4096 + i]
    else:
        for i in range(count):
            tmp[to + 4 * i] = 0
            tmp[to + 4 * i + 1] = 0
            tmp[to + 4 * i + 2] = 0
            tmp[to + 4 * i + 3] = pixels[begin + i]


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    tmp="unsigned char[::1]",
    pixels="const unsigned char[::1]",
    to=cython.Py_ssize_t,
    begin=cython.Py_ssize_t,
    step=cython.int,
    alpha=cython.bint,
    channels=cython.int,
    count=cython.Py_ssize_t,
    i=cython.Py_ssize_t,
    value=cython.uchar,
)
@cython.returns(cython.void)
def _alphas(tmp, to, pixels, begin, step, alpha, channels, count):
    """Fetch the alpha of pixels of ``step`` bytes, once for each of ``channels`` bytes."""
    if not alpha:
        for i in range(count * channels):
            tmp[to + i] = 255
    elif channels == 1 and step == 1:
        for i in range(count):
            tmp[to + i] = pixels[begin + i]
    elif channels == 1:
        for i in range(count):
            tmp[to + i] = pixels[begin + 4 * i + 3]
    elif step == 1:
        for i in range(count):
            value = pixels[begin + i]
            tmp[to + 4 * i] = value
            tmp[to + 4 * i + 1] = value
            tmp[to + 4 * i + 2] = value
            tmp[to + 4 * i + 3] = value
    else:
        for i in range(count):
            value = pixels[begin + 4 * i + 3]
            tmp[to + 4 * i] = value
            tmp[to + 4 * i + 1] = value
            tmp[to + 4 * i + 2] = value
            tmp[to + 4 * i + 3] = value


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    tmp="unsigned char[::1]",
    to=cython.Py_ssize_t,
    one=cython.Py_ssize_t,
    other=cython.Py_ssize_t,
    count=cython.Py_ssize_t,
    i=cython.Py_ssize_t,
    v=cython.ushort,
)
@cython.returns(cython.void)
def _multiply(tmp, to, one, other, count):
    """Products of parts of 255, rounded as pixman does it."""
    for i in range(count):
        v = tmp[one + i] * tmp[other + i] + 128
        tmp[to + i] = (v + (v >> 8)) >> 8


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    into="unsigned char[::1]",
    made="const unsigned char[::1]",
    tmp="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    source=cython.Py_ssize_t,
    alpha=cython.Py_ssize_t,
    keep=cython.Py_ssize_t,
    operator=cython.int,
    count=cython.Py_ssize_t,
    i=cython.Py_ssize_t,
    v=cython.ushort,
)
@cython.returns(cython.void)
def _put(into, at, made, source, tmp, alpha, keep, operator, count):
    """Bytes of the source onto those of the target; ``keep`` is a pattern's place."""
    if operator == 3:
        for i in range(count):
            v = into[at + i] * (255 - tmp[alpha + i]) + 128
            v = ((v + (v >> 8)) >> 8) + made[source + i]
            into[at + i] = (255 if v > 255 else v) & tmp[keep + i]
    elif operator == 12:
        for i in range(count):
            v = into[at + i] + made[source + i]
            into[at + i] = (255 if v > 255 else v) & tmp[keep + i]
    else:
        for i in range(count):
            into[at + i] = made[source + i] & tmp[keep + i]


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    tmp="unsigned char[::1]",
    pixels="const unsigned char[::1]",
    parts="const unsigned char[::1]",
    begin=cython.Py_ssize_t,
    step=cython.int,
    has_alpha=cython.bint,
    mask_at=cython.Py_ssize_t,
    mask_step=cython.int,
    mask_alpha=cython.bint,
    each=cython.bint,
    channels=cython.int,
    over=cython.bint,
    direct=cython.bint,
    count=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
)
@cython.returns(cython.void)
def _fetch(
    tmp, pixels, begin, step, has_alpha,
    parts, mask_at, mask_step, mask_alpha, each, channels, over, direct, count,
):  # fmt: skip
    """Fetch source and mask, multiplied.

    With ``over`` also the alphas that count against the target; with ``direct`` nothing but them.
    """
    size = channels * count
    if not direct:
        if channels == 4:
            _wide(tmp, 0, pixels, begin, step, has_alpha, count)
        else:
            _alphas(tmp, 0, pixels, begin, step, has_alpha, 1, count)
    if over:
        _alphas(tmp, 1024, pixels, begin, step, has_alpha, channels, count)
    if mask_step:
        if each and channels == 4:
            _wide(tmp, 2048, parts, mask_at, mask_step, mask_alpha, count)
        else:
            _alphas(tmp, 2048, parts, mask_at, mask_step, mask_alpha, channels, count)
        _multiply(tmp, 0, 0, 2048, size)
        if over:
            _multiply(tmp, 1024, 1024, 2048, size)


@cython.locals(
    into="unsigned char[::1]",
    tmp="unsigned char[::1]",
    pixels="const unsigned char[::1]",
    parts="const unsigned char[::1]",
    operator=cython.int,
    at=cython.Py_ssize_t,
    stride=cython.Py_ssize_t,
    width=cython.Py_ssize_t,
    height=cython.Py_ssize_t,
    channels=cython.int,
    alpha=cython.bint,
    begin=cython.Py_ssize_t,
    source_stride=cython.Py_ssize_t,
    step=cython.int,
    has_alpha=cython.bint,
    advance=cython.int,
    mask_at=cython.Py_ssize_t,
    mask_stride=cython.Py_ssize_t,
    mask_step=cython.int,
    mask_alpha=cython.bint,
    mask_advance=cython.int,
    each=cython.bint,
    keep=cython.Py_ssize_t,
    once=cython.bint,
    over=cython.bint,
    direct=cython.bint,
    x=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    count=cython.Py_ssize_t,
)
def lay(operator, width, height, target, source, mask, each):
    """Put ``width`` x ``height`` pixels of a source, through a mask, onto a target.

    ``operator`` is SRC, OVER or ADD. ``target``, ``source`` and ``mask`` (None: nothing is held
    back) are ``(buffer, place, stride, step, alpha, solid)``: ``step`` bytes a pixel, 4 or 1 (alpha
    alone); whether the last of four is alpha (else pixels are opaque, and the target's become 0);
    and whether `PIECE` pixels at the place stand for all. ``each``: every channel of the mask
    counts for itself. Raises `IndexError` when rows aren't inside their buffers.
    """
    target, at, stride, channels, alpha, once = target
    pixels, begin, source_stride, step, has_alpha, once = source
    advance = 0 if once else step
    _prove(target, at, stride, channels * width, height)
    if once:
        source_stride = 0
    _prove(pixels, begin, source_stride, step * (256 if once else width), height)
    mask_step = mask_advance = 0
    mask_at = mask_stride = 0
    mask_alpha = True
    parts = pixels
    if mask is not None:
        parts, mask_at, mask_stride, mask_step, mask_alpha, solid = mask
        mask_advance = 0 if solid else mask_step
        if solid:
            mask_stride = 0
        else:
            once = False
        _prove(parts, mask_at, mask_stride, mask_step * (256 if solid else width), height)
    into = target
    tmp = bytearray(_SCRATCH)
    keep = 5120 if alpha or channels == 1 else 3072
    over = operator == 3
    # Bytes that are taken as they are needn't be fetched.
    direct = mask is None and not advance - channels and (has_alpha or (not alpha and not over))
    with cython.nogil:
        if once:
            _fetch(
                tmp, pixels, begin, step, has_alpha, parts, mask_at, mask_step, mask_alpha, each,
                channels, over, False, min(width, 256),
            )  # fmt: skip
        for y in range(height):  # noqa: B007
            for x in range(0, width, 256):
                count = min(width - x, 256)
                if not once:
                    _fetch(
                        tmp, pixels, begin + x * advance, step, has_alpha,
                        parts, mask_at + x * mask_advance, mask_step, mask_alpha, each,
                        channels, over, direct, count,
                    )  # fmt: skip
                if direct:
                    _put(
                        into, at + x * channels, pixels, begin + x * step, tmp, 1024, keep,
                        operator, channels * count,
                    )  # fmt: skip
                else:
                    _put(
                        into, at + x * channels, tmp, 0, tmp, 1024, keep, operator,
                        channels * count,
                    )  # fmt: skip
            at += stride
            begin += source_stride
            mask_at += mask_stride
