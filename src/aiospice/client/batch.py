# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Draws a run of display messages at once: the common ones here, the others one by one.

Compiled where possible, the same file where not. Common messages are DRAW_COPY of a small image
of 32 bit onto a surface of 32 bit, without mask, scaling or raster operation (the image is raw,
from the cache, another surface, or packed by any codec), DRAW_FILL of one colour, and COPY_BITS.
Everything is checked against the message, the image and the surface before a pixel is moved, and
before a cache or window changes; whatever is unusual is left to the slow way, which also says what
is wrong. So rows move unchecked.

What the bytes mean: spice-common ``spice.proto``; the checks and pixels are those of
`aiospice.wire.draw` and `aiospice.client.draws`, against which the tests hold this.
"""

from __future__ import annotations

from array import array

try:
    import cython
except ImportError:
    from aiospice import _cython as cython

if cython.compiled:
    from cython.cimports.aiospice.client.batch_images import image_rows
    from cython.cimports.aiospice.client.peek import i32, u32
    from cython.cimports.libc.string import memcpy, memmove
else:
    from aiospice.client.batch_images import image_rows
    from aiospice.client.peek import i32, u32

from aiospice.client.batch_images import NAMES

__all__ = ["COMPILED", "STOP", "Changes", "run"]

#: Whether this runs compiled, and so most likely all kernels.
COMPILED = cython.compiled

#: What ``slow`` returns to end a run: this message has to wait.
STOP = -2

# Numbers of C where compiled: ``batch.pxd``.
_DRAW_FILL = 302
_DRAW_COPY = 304
_COPY_BITS = 104
_FIXED = 57
_DESCRIPTOR = 18
# Bytes that a narrow row has at most.
_NARROW = 512


class Changes:
    """What a run has done: draws, pixels, and the box of the primary surface that changed."""

    __slots__ = ("around", "at", "count", "draws", "pixels")

    def __init__(self, at, count, draws, pixels, around):
        #: Where the run has got to, and how many messages that were.
        self.at = at
        self.count = count
        self.draws = draws
        self.pixels = pixels
        self.around = around

    @property
    def box(self):
        """Left, top, right, bottom; None if nothing of the primary surface has changed."""
        left, top, right, bottom = self.around
        return None if right <= left or bottom <= top else self.around


# What `_look` finds out about a message, and `image_rows` about its image: see there.
_JOB = 17


@cython.cfunc
@cython.locals(
    view="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    rects="long long",
    one=cython.Py_ssize_t,
    other=cython.Py_ssize_t,
    end=cython.Py_ssize_t,
)
@cython.returns(cython.bint)
def _apart(view, at, rects):
    """Whether the rectangles at ``at`` don't overlap, so that no pixel is counted twice."""
    end = at + rects * 16
    one = at
    while one < end:
        other = one + 16
        while other < end:
            if (
                i32(view, one) < i32(view, other + 8)
                and i32(view, other) < i32(view, one + 8)
                and i32(view, one + 4) < i32(view, other + 12)
                and i32(view, other + 4) < i32(view, one + 12)
            ):
                return False
            other += 16
        one += 16
    return True


@cython.cfunc
@cython.locals(
    view="const unsigned char[::1]",
    body=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    job="long long[::1]",
    at=cython.Py_ssize_t,
    rects="long long",
)
@cython.returns(cython.Py_ssize_t)
def _base(view, body, size, job):
    """Read box and clip; where the rest begins, 0 if anything is unusual."""
    if size < 21:
        return 0
    job[1] = i32(view, body + 4)
    job[0] = i32(view, body + 8)
    job[3] = i32(view, body + 12)
    job[2] = i32(view, body + 16)
    rects = 0
    at = body + 21
    if view[body + 20] == 1:
        if size < 25:
            return 0
        rects = u32(view, at)
        if rects == 0 or rects > 16 or size < 25 + rects * 16:
            return 0
        if not _apart(view, body + 25, rects):
            return 0
        at += 4 + rects * 16
    elif view[body + 20] != 0:
        return 0
    job[6] = rects
    return at if job[1] < job[3] and job[0] < job[2] else 0


@cython.cfunc
@cython.locals(
    view="const unsigned char[::1]",
    body=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    job="long long[::1]",
    at=cython.Py_ssize_t,
    image="long long",
)
@cython.returns("long long")
def _look(view, body, size, job):
    """Read a DRAW_COPY; where the image is in the body, 0 if anything is unusual."""
    at = _base(view, body, size, job)
    if at == 0 or body + size - at < 36:
        return 0
    image = u32(view, at)
    job[5] = i32(view, at + 4)
    job[4] = i32(view, at + 8)
    if i32(view, at + 12) - job[5] != job[3] - job[1]:
        return 0
    if i32(view, at + 16) - job[4] != job[2] - job[0] or job[4] < 0 or job[5] < 0:
        return 0
    # The operation (PUT), the mode of a scaling that doesn't happen, and the mask (none).
    if view[at + 20] != 8 or view[at + 21] != 0 or view[at + 22] > 1 or view[at + 23] > 1:
        return 0
    if u32(view, at + 32) != 0 or image < _FIXED or image + _DESCRIPTOR > size:
        return 0
    return image


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
@cython.locals(
    target="unsigned char*",
    source="const unsigned char*",
    length=cython.Py_ssize_t,
    done=cython.Py_ssize_t,
)
@cython.returns(cython.void)
def _copy_row(target, source, length):
    """Copy a row; a narrow one in pieces that need no call."""
    if length > _NARROW or length < 64:
        memcpy(target, source, length)
        return
    done = 64
    while done <= length:
        memcpy(target + done - 64, source + done - 64, 64)
        done += 64
    memcpy(target + length - 64, source + length - 64, 64)


@cython.cfunc
@cython.locals(
    source="const unsigned char[::1]",
    target="unsigned char[::1]",
    width="long long",
    job="long long[::1]",
    x0="long long",
    y0="long long",
    x1="long long",
    y1="long long",
    y="long long",
    row="long long",
    length=cython.Py_ssize_t,
    to=cython.Py_ssize_t,
    start=cython.Py_ssize_t,
)
@cython.returns(cython.void)
def _move(source, target, width, job, x0, y0, x1, y1):
    """Copy what belongs to a rectangle that lies inside the box and the surface."""
    length = (x1 - x0) * 4
    y = y0
    while y < y1:
        row = job[5] + (y - job[1])
        if not job[10]:
            row = job[9] - 1 - row
        start = job[7] + row * job[8] + (job[4] + (x0 - job[0])) * 4
        to = (y * width + x0) * 4
        if cython.compiled:
            _copy_row(cython.address(target[to]), cython.address(source[start]), length)
        else:
            target[to : to + length] = source[start : start + length]
        y += 1


@cython.cfunc
@cython.locals(
    view="const unsigned char[::1]",
    body=cython.Py_ssize_t,
    source="const unsigned char[::1]",
    colour=cython.Py_ssize_t,
    target="unsigned char[::1]",
    width="long long",
    height="long long",
    job="long long[::1]",
    index="long long",
    at=cython.Py_ssize_t,
    pixels="long long",
    x0="long long",
    y0="long long",
    x1="long long",
    y1="long long",
)
@cython.returns("long long")
def _draw(view, body, source, colour, target, width, height, job):
    """Draw the image in ``source``, or the pixel at ``colour`` (-1: none); how many pixels."""
    pixels = 0
    job[11] = job[12] = 1 << 30
    job[13] = job[14] = -1
    index = 0
    while True:
        x0 = max(job[0], 0)
        y0 = max(job[1], 0)
        x1 = min(job[2], width)
        y1 = min(job[3], height)
        if job[6]:
            at = body + 25 + index * 16
            y0 = max(y0, i32(view, at))
            x0 = max(x0, i32(view, at + 4))
            y1 = min(y1, i32(view, at + 8))
            x1 = min(x1, i32(view, at + 12))
        if x0 < x1 and y0 < y1:
            if colour < 0:
                _move(source, target, width, job, x0, y0, x1, y1)
            else:
                _paint(view, colour, target, width, x0, y0, x1, y1)
            pixels += (x1 - x0) * (y1 - y0)
            job[11] = min(job[11], x0)
            job[12] = min(job[12], y0)
            job[13] = max(job[13], x1)
            job[14] = max(job[14], y1)
        index += 1
        if index >= job[6]:
            break
    return pixels


@cython.cfunc
@cython.locals(
    target="unsigned char[::1]",
    view="const unsigned char[::1]",
    colour=cython.Py_ssize_t,
    width="long long",
    x0="long long",
    y0="long long",
    x1="long long",
    y1="long long",
    y="long long",
    length=cython.Py_ssize_t,
    done=cython.Py_ssize_t,
    to=cython.Py_ssize_t,
    rows="unsigned char*",
)
@cython.returns(cython.void)
def _paint(view, colour, target, width, x0, y0, x1, y1):
    """Fill a rectangle that lies inside the surface with the pixel at ``colour``."""
    length = (x1 - x0) * 4
    to = (y0 * width + x0) * 4
    if cython.compiled:
        memcpy(cython.address(target[to]), cython.address(view[colour]), 4)
        done = 4
        while done < length:
            memcpy(
                cython.address(target[to + done]),
                cython.address(target[to]),
                min(done, length - done),
            )
            done *= 2
        rows = cython.address(target[to])
        for y in range(y0 + 1, y1):
            _copy_row(cython.address(target[(y * width + x0) * 4]), rows, length)
    else:
        row = bytes(view[colour : colour + 4]) * (x1 - x0)
        for y in range(y0, y1):
            to = (y * width + x0) * 4
            target[to : to + length] = row


@cython.cfunc
@cython.locals(
    view="const unsigned char[::1]",
    body=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    target="unsigned char[::1]",
    width="long long",
    height="long long",
    job="long long[::1]",
    at=cython.Py_ssize_t,
)
@cython.returns("long long")
def _fill(view, body, size, target, width, height, job):
    """Draw a DRAW_FILL of one colour; how many pixels, -1 (and nothing drawn) if it is unusual."""
    at = _base(view, body, size, job)
    # A solid brush, its colour, the operation (PUT), and the mask (none).
    if at == 0 or body + size - at < 20 or view[at] != 1 or u32(view, at + 16) != 0:
        return -1
    if view[at + 5] != 8 or view[at + 6] != 0:
        return -1
    return _draw(view, body, view, at + 1, target, width, height, job)


@cython.cfunc
@cython.locals(
    view="const unsigned char[::1]",
    body=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    target="unsigned char[::1]",
    width="long long",
    height="long long",
    job="long long[::1]",
    at=cython.Py_ssize_t,
    dx="long long",
    dy="long long",
    x0="long long",
    y0="long long",
    x1="long long",
    y1="long long",
    y="long long",
    row="long long",
    length=cython.Py_ssize_t,
    to=cython.Py_ssize_t,
    start=cython.Py_ssize_t,
)
@cython.returns("long long")
def _scroll(view, body, size, target, width, height, job):
    """Draw a COPY_BITS that isn't clipped; how many pixels, -1 if it is unusual."""
    at = _base(view, body, size, job)
    if at == 0 or body + size - at < 8 or job[6]:
        return -1
    dx, dy = job[0] - i32(view, at), job[1] - i32(view, at + 4)
    if dx == 0 and dy == 0:
        return -1
    # What would come from outside of the surface stays as it is.
    x0, y0 = max(job[0], 0, dx), max(job[1], 0, dy)
    x1, y1 = min(job[2], width, width + dx), min(job[3], height, height + dy)
    if x0 >= x1 or y0 >= y1:
        return -1
    length = (x1 - x0) * 4
    for y in range(y1 - y0):
        row = y1 - 1 - y if dy > 0 else y0 + y
        to = (row * width + x0) * 4
        start = ((row - dy) * width + x0 - dx) * 4
        if cython.compiled:
            memmove(cython.address(target[to]), cython.address(target[start]), length)
        else:
            target[to : to + length] = bytes(target[start : start + length])
    job[11], job[12], job[13], job[14] = x0, y0, x1, y1
    return (x1 - x0) * (y1 - y0)


# fmt: off
@cython.cfunc
@cython.locals(
    view="const unsigned char[::1]",
    body=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    source="const unsigned char[::1]",
    target="unsigned char[::1]",
    width="long long",
    height="long long",
    job="long long[::1]",
    place="long long[::1]",
    tally="long long[::1]",
    image=cython.Py_ssize_t,
)
@cython.returns("long long")
def _copy(
    data, view, body, size, target, width, height, job, place, tally, reader, surfaces, surface,
):
    """Draw a DRAW_COPY; how many pixels, -1 (and nothing drawn) if it is unusual."""
    image = _look(view, body, size, job)
    if image == 0:
        return -1
    found = image_rows(
        data, view, body + image, size - image, job, place, tally, reader, surfaces, surface,
    )
    if found is None:
        return -1
    source = view if found is data else found
    return _draw(view, body, source, -1, target, width, height, job)
# fmt: on


@cython.cfunc
@cython.locals(stride=cython.Py_ssize_t)
def _is_tight(surface):
    """What `Pixels.is_tight` asks of a surface of 32 bits, without the calls."""
    if surface.format not in (32, 96) or surface.offset != 0:
        return False
    stride = surface.width * 4
    return surface.stride == stride and len(surface.data) == stride * surface.height


@cython.locals(
    view="const unsigned char[::1]",
    target="unsigned char[::1]",
    at=cython.Py_ssize_t,
    end=cython.Py_ssize_t,
    body=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    number=cython.int,
    known="long long",
    drawn="long long",
    surface_id="long long",
    count="long long",
    draws="long long",
    pixels="long long",
    width="long long",
    height="long long",
    left="long long",
    top="long long",
    right="long long",
    bottom="long long",
    shown="long long",
    job="long long[::1]",
    place="long long[::1]",
    tally="long long[::1]",
)
def run(data, at, end, surfaces, primary, reader, slow):
    """Draw the messages of ``data`` from ``at`` to ``end``: whole ones with their mini headers.

    ``surfaces`` are a screen's (id to `Pixels`), ``primary`` the id of what is shown or None,
    ``reader`` its `ImageReader`. ``slow(number, body)`` is called for every message that isn't a
    common one, with a body that may be lent if ``data`` is; it may change the surfaces, and returns
    the id of what is shown then (-1: nothing), or `STOP`, which ends the run behind that message.
    Returns `Changes`.
    """
    left = top = 1 << 30
    right = bottom = -1
    view = memoryview(data)
    known = -1
    count = draws = pixels = 0
    width = height = 0
    surface = None
    target = bytearray(4)
    job = array("q", bytes(8 * _JOB))
    place = array("q", bytes(8))
    tally = array("q", bytes(64))
    shown = -1 if primary is None else primary
    while at < end:
        number = view[at] | view[at + 1] << 8
        size = u32(view, at + 2)
        body = at + 6
        at = body + size
        count += 1
        drawn = -1
        if number in (_DRAW_COPY, _DRAW_FILL, _COPY_BITS) and size >= 4:
            surface_id = u32(view, body)
            if surface_id != known:
                surface = surfaces.get(surface_id)
                known = -1
                if surface is not None and _is_tight(surface):
                    width = surface.width
                    height = surface.height
                    target = surface.data
                    known = surface_id
            if known < 0:
                pass
            elif number == _DRAW_FILL:
                drawn = _fill(view, body, size, target, width, height, job)
            elif number == _COPY_BITS:
                drawn = _scroll(view, body, size, target, width, height, job)
            else:
                # fmt: off
                drawn = _copy(
                    data, view, body, size, target, width, height, job, place, tally, reader,
                    surfaces, surface,
                )
                # fmt: on
        if drawn >= 0:
            pixels += drawn
            draws += 1
            if known == shown:
                left = min(left, job[11])
                top = min(top, job[12])
                right = max(right, job[13])
                bottom = max(bottom, job[14])
            continue
        known = -1
        after = slow(number, data[body:at] if size > 65536 else bytes(data[body:at]))
        if after == -2:
            break
        shown = after
    for number in range(8):
        if tally[number]:
            reader.count(NAMES[number], tally[number])
    return Changes(at, count, draws, pixels, (left, top, right, bottom))
