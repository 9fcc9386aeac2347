# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Draws a run of display messages at once: the common ones here, the others one by one.

Compiled where possible, the same file where not. The common message is DRAW_COPY of a small image
of 32 bit onto a surface of 32 bit, without mask, scaling or raster operation; the image is raw,
from the cache, or packed by any codec. Everything is checked against the message, the image and
the surface before a pixel is moved, and before a cache or window changes; whatever is unusual is
left to the slow way, which also says what is wrong. So rows move unchecked.

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
    from cython.cimports.aiospice.codecs.glz_window import decode_small as decode_glz
    from cython.cimports.aiospice.codecs.lz_unpack import _unpack as unpack
    from cython.cimports.aiospice.codecs.quic_small import Scratch as _Scratch
    from cython.cimports.aiospice.codecs.quic_small import decode_small
    from cython.cimports.libc.string import memcpy
else:
    from aiospice.codecs.glz_window import decode_small as decode_glz
    from aiospice.codecs.lz_unpack import unpack as _unpack_lz
    from aiospice.codecs.quic_small import Scratch as _Scratch
    from aiospice.codecs.quic_small import decode_small

    def unpack(view, place, out, units, kind):
        """What C calls without a detour."""
        return _unpack_lz(view, memoryview(place), memoryview(out), units, kind)


__all__ = ["COMPILED", "STOP", "Changes", "run"]

#: Whether this runs compiled, and so most likely all kernels.
COMPILED = cython.compiled

#: What ``slow`` returns to end a run: this message has to wait.
STOP = -2

_DRAW_COPY: cython.int = 304
_FIXED: cython.int = 57
_DESCRIPTOR: cython.int = 18
_BITMAP: cython.int = 18
#: Pixels of a packed image that is unpacked here; `Scratch` has room for as many.
_SMALL: cython.int = 65536
# By what comes out of `_slot`.
_NAMES = ("BITMAP", "QUIC", "LZ_RGB", "GLZ_RGB", "FROM_CACHE", "JPEG", "ZLIB_GLZ_RGB", "LZ4")


class Changes:
    """What a run has done: draws, pixels, and the box of the primary surface that changed."""

    __slots__ = ("at", "bottom", "count", "draws", "left", "pixels", "right", "top")

    def __init__(self) -> None:
        #: Where the run has got to, and how many messages that were.
        self.at = 0
        self.count = 0
        self.draws = 0
        self.pixels = 0
        self.left = self.top = 1 << 30
        self.right = self.bottom = -1

    @property
    def box(self):
        """Left, top, right, bottom; None if nothing of the primary surface has changed."""
        if self.right <= self.left or self.bottom <= self.top:
            return None
        return (self.left, self.top, self.right, self.bottom)


@cython.cfunc
@cython.inline
@cython.locals(view="const unsigned char[::1]", at=cython.Py_ssize_t)
@cython.returns("long long")
def _u32(view, at):
    """An unsigned number of 32 bits."""
    low = view[at] | view[at + 1] << 8 | view[at + 2] << 16
    if cython.compiled:
        return cython.cast("long long", low) | cython.cast("long long", view[at + 3]) << 24
    return low | view[at + 3] << 24


@cython.cfunc
@cython.inline
@cython.locals(view="const unsigned char[::1]", at=cython.Py_ssize_t, value="long long")
@cython.returns("long long")
def _i32(view, at):
    """A signed number of 32 bits."""
    value = _u32(view, at)
    return value - 0x100000000 if value >= 0x80000000 else value


# What `_look` finds out about a message, by place in ``job``: the box, where its upper left corner
# is in the image, how many rectangles clip it, and the image's rows.
#
#   0 left  1 top  2 right  3 bottom   4 x, 5 y of the corner in the image   6 rectangles
#   7 where the rows begin  8 stride  9 rows  10 not 0: the first row is the top one
#   11 left  12 top  13 right  14 bottom of what was touched
#   15 columns  16 not 0: the image has alpha
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
                _i32(view, one) < _i32(view, other + 8)
                and _i32(view, other) < _i32(view, one + 8)
                and _i32(view, one + 4) < _i32(view, other + 12)
                and _i32(view, other + 4) < _i32(view, one + 12)
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
    image="long long",
)
@cython.returns("long long")
def _look(view, body, size, job):
    """Read box, clip and operation; where the image is in the body, 0 if anything is unusual."""
    if size < _FIXED:
        return 0
    job[1] = _i32(view, body + 4)
    job[0] = _i32(view, body + 8)
    job[3] = _i32(view, body + 12)
    job[2] = _i32(view, body + 16)
    rects = 0
    at = body + 21
    if view[body + 20] == 1:
        rects = _u32(view, body + 21)
        if rects == 0 or rects > 16 or size < _FIXED + 4 + rects * 16:
            return 0
        if not _apart(view, body + 25, rects):
            return 0
        at += 4 + rects * 16
    elif view[body + 20] != 0:
        return 0
    job[6] = rects
    image = _u32(view, at)
    job[5] = _i32(view, at + 4)
    job[4] = _i32(view, at + 8)
    if _i32(view, at + 12) - job[5] != job[3] - job[1]:
        return 0
    if _i32(view, at + 16) - job[4] != job[2] - job[0]:
        return 0
    if job[1] >= job[3] or job[0] >= job[2] or job[4] < 0 or job[5] < 0:
        return 0
    # The operation (PUT), the mode of a scaling that doesn't happen, and the mask (none).
    if view[at + 20] != 8 or view[at + 21] != 0 or view[at + 22] > 1 or view[at + 23] > 1:
        return 0
    if _u32(view, at + 32) != 0 or image < _FIXED or image + _DESCRIPTOR > size:
        return 0
    return image


@cython.cfunc
@cython.locals(
    view="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    left="long long",
    job="long long[::1]",
    columns="long long",
)
@cython.returns(cython.bint)
def _raw(view, at, left, job):
    """Whether the bitmap at ``at``, ``left`` bytes before the end, is of 32 bit, and all there."""
    if left < _BITMAP:
        return False
    if (view[at] != 8 and view[at] != 9) or view[at + 1] & 3 or _u32(view, at + 14) != 0:
        return False
    job[16] = view[at] == 9
    job[10] = view[at + 1] & 4
    columns = _u32(view, at + 2)
    job[15] = columns
    job[9] = _u32(view, at + 6)
    job[8] = _u32(view, at + 10)
    job[7] = at + _BITMAP
    if columns < 1 or job[9] < 1 or columns > 16384 or job[9] > 16384:
        return False
    return job[8] >= columns * 4 and job[9] * job[8] <= left - _BITMAP


@cython.cfunc
@cython.locals(job="long long[::1]", columns="long long", rows="long long", alpha=cython.bint)
@cython.returns(cython.void)
def _tight(job, columns, rows, alpha):
    """The image has been decoded to tight rows, the top one first."""
    job[7], job[8], job[9], job[10], job[15] = 0, 4 * columns, rows, 1, columns
    job[16] = alpha


@cython.cfunc
@cython.locals(
    view="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    scratch=_Scratch,
    job="long long[::1]",
    status=cython.int,
)
@cython.returns(cython.bint)
def _quic(view, at, size, scratch, job):
    """Decode a QUIC image into the scratch; False if it isn't a small and ordinary one."""
    status = decode_small(scratch, view, at, size)
    if status:
        return False
    _tight(job, scratch.found[0], scratch.found[1], scratch.found[2] == 5)
    return True


@cython.cfunc
@cython.inline
@cython.locals(view="const unsigned char[::1]", at=cython.Py_ssize_t)
@cython.returns("long long")
def _big(view, at):
    """An unsigned number of 32 bits, the highest byte first."""
    high = view[at + 1] << 16 | view[at + 2] << 8 | view[at + 3]
    if cython.compiled:
        return cython.cast("long long", high) | cython.cast("long long", view[at]) << 24
    return high | view[at] << 24


@cython.cfunc
@cython.locals(
    view="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    scratch=_Scratch,
    place="long long[::1]",
    job="long long[::1]",
    columns="long long",
    rows="long long",
    type="long long",
    status=cython.int,
)
@cython.returns(cython.bint)
def _lz(view, at, size, scratch, place, job):
    """Decode an LZ image of pixels into the scratch; False if it isn't small and ordinary."""
    if size <= 28 or _big(view, at) != 0x20205A4C or _big(view, at + 4) != 0x00010001:
        return False
    type, columns, rows = _big(view, at + 8), _big(view, at + 12), _big(view, at + 16)
    if (type != 8 and type != 9) or columns < 1 or rows < 1 or columns > _SMALL:
        return False
    if columns * rows > _SMALL or _big(view, at + 20) != 4 * columns or _big(view, at + 24) > 1:
        return False
    place[0] = at + 28
    try:
        status = unpack(view, place, scratch.pixels, columns * rows, 4)
        if status == 0 and type == 9:
            status = unpack(view, place, scratch.pixels, columns * rows, 1)
    except IndexError:
        return False
    if status or place[0] != at + size:
        return False
    _tight(job, columns, rows, type == 9)
    job[10] = _big(view, at + 24)
    return True


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
            memcpy(cython.address(target[to]), cython.address(source[start]), length)
        else:
            target[to : to + length] = source[start : start + length]
        y += 1
    job[11] = min(job[11], x0)
    job[12] = min(job[12], y0)
    job[13] = max(job[13], x1)
    job[14] = max(job[14], y1)


@cython.cfunc
@cython.locals(
    view="const unsigned char[::1]",
    body=cython.Py_ssize_t,
    source="const unsigned char[::1]",
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
def _draw(view, body, source, target, width, height, job):
    """Draw the image in ``source``; how many pixels."""
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
            y0 = max(y0, _i32(view, at))
            x0 = max(x0, _i32(view, at + 4))
            y1 = min(y1, _i32(view, at + 8))
            x1 = min(x1, _i32(view, at + 12))
        if x0 < x1 and y0 < y1:
            _move(source, target, width, job, x0, y0, x1, y1)
            pixels += (x1 - x0) * (y1 - y0)
        index += 1
        if index >= job[6]:
            break
    return pixels


@cython.cfunc
@cython.inline
@cython.locals(job="long long[::1]")
@cython.returns(cython.bint)
def _inside(job):
    """Whether the part of the image that is wanted lies inside of it."""
    return job[5] + (job[3] - job[1]) <= job[9] and job[4] + (job[2] - job[0]) <= job[15]


@cython.cfunc
@cython.locals(job="long long[::1]", offset="long long", stride="long long", rows="long long")
@cython.returns(cython.bint)
def _whole(job, pixels):
    """Take the rows of `Pixels` of 32 bit; False for others, or rows that leave their buffer."""
    if pixels is None or (pixels.format != 32 and pixels.format != 96):
        return False
    offset, stride, rows = pixels.offset, pixels.stride, pixels.height
    job[7], job[8], job[9], job[10], job[15] = offset, stride, rows, 1, pixels.width
    last = offset + (rows - 1) * stride
    return min(offset, last) >= 0 and max(offset, last) + 4 * pixels.width <= len(pixels.data)


@cython.cfunc
@cython.inline
@cython.locals(type=cython.int)
@cython.returns(cython.int)
def _slot(type):
    """A small number for each type of image that is drawn here."""
    if type < 2:
        return type
    return type - 99 if type < 104 else (type - 95) // 2


@cython.cfunc
@cython.locals(view="const unsigned char[::1]", image=cython.Py_ssize_t, low=cython.ulonglong)
@cython.returns(cython.ulonglong)
def _number(view, image):
    """The number under which an image is kept."""
    low = _u32(view, image)
    high: cython.ulonglong = _u32(view, image + 4)
    return high << 32 | low


@cython.cfunc
@cython.locals(job="long long[::1]", columns="long long", rows="long long", type=cython.int)
def _glz(job, columns, rows, type, found):
    """The pixels of a GLZ image that was found, whose header has that byte of type."""
    _tight(job, columns, rows, type & 15 == 9)
    job[10] = found[1]
    return found[0]


@cython.cfunc
@cython.locals(
    view="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    size="long long",
    columns="long long",
    rows="long long",
    job="long long[::1]",
)
def _lz4(data, view, at, size, columns, rows, reader, job):
    """The pixels of an LZ4 image of one block; None if it isn't one, or damaged."""
    if size < 7 or (view[at + 1] != 8 and view[at + 1] != 9) or _big(view, at + 2) != size - 6:
        return None
    found = reader.unpack_block(data[at + 6 : at + size], 4 * columns * rows)
    if found is not None:
        _tight(job, columns, rows, view[at + 1] == 9)
        job[10] = view[at]
    return found


@cython.cfunc
@cython.locals(
    view="const unsigned char[::1]",
    image=cython.Py_ssize_t,
    left="long long",
    job="long long[::1]",
    place="long long[::1]",
    type=cython.int,
    size="long long",
    at=cython.Py_ssize_t,
    scratch=_Scratch,
    columns="long long",
    rows="long long",
)
def _packed(data, view, image, left, job, place, reader):
    """What a packed image at ``image`` is drawn from, its rows in ``job``; None: it is unusual.

    ``left`` bytes are left of the message from there on. Nothing has changed with None.
    """
    type = view[image + 8]
    columns, rows = _u32(view, image + 10), _u32(view, image + 14)
    at = image + _DESCRIPTOR + (8 if type == 107 else 4)
    if left < at - image or columns > _SMALL or columns * rows > _SMALL:
        return None
    size = _u32(view, at - 4)
    job[9], job[15] = rows, columns
    if size > left - (at - image) or not _inside(job):
        return None
    if type == 102:
        window = reader.window or reader.find_window()
        found = decode_glz(window, view, at, size, columns, rows)
        return None if found is None else _glz(job, columns, rows, view[at + 8], found)
    if type == 107:
        stream = reader.inflated(data[at : at + size], _u32(view, at - 8))
        window = reader.window or reader.find_window()
        found = stream and decode_glz(window, stream, 0, len(stream), columns, rows)
        return _glz(job, columns, rows, stream[8], found) if found else None
    if type == 109:
        found = _lz4(data, view, at, size, columns, rows, reader, job)
        if found is not None:
            return found
    if type == 105 or type == 109:
        found = reader.quick(type, columns, rows, data[at : at + size])
        job[16] = found is not None and found.format == 96
        return found.data if _whole(job, found) else None
    if type != 1 and type != 101:
        return None
    scratch = reader.scratch or reader.make_scratch()
    if type == 1:
        usual = _quic(view, at, size, scratch, job)
    else:
        usual = _lz(view, at, size, scratch, place, job)
    return scratch.pixels if usual and job[15] == columns and job[9] == rows else None


@cython.cfunc
@cython.locals(
    view="const unsigned char[::1]",
    image=cython.Py_ssize_t,
    left="long long",
    job="long long[::1]",
    place="long long[::1]",
    tally="long long[::1]",
    type=cython.int,
)
def _image(data, view, image, left, job, place, tally, reader):
    """What the image at ``image`` is drawn from; as `_packed`. Keeps it if that is asked for."""
    type = view[image + 8]
    if view[image + 9] > 1:  # what more may be asked for than to keep it
        return None
    if type == 103:
        kept = reader.images.get(_number(view, image))
        found = kept.data if _whole(job, kept) and _inside(job) else None
    elif type == 0:
        usual = _raw(view, image + _DESCRIPTOR, left - _DESCRIPTOR, job) and _inside(job)
        found = data if usual else None
    else:
        found = _packed(data, view, image, left, job, place, reader)
    if found is not None:
        tally[_slot(type)] += 1
        if view[image + 9] and type != 103:
            reader.keep_rows(_number(view, image), type, found, job)
    return found


@cython.locals(
    view="const unsigned char[::1]",
    target="unsigned char[::1]",
    source="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    end=cython.Py_ssize_t,
    body=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    image=cython.Py_ssize_t,
    number=cython.int,
    known="long long",
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
def run(data, surfaces, primary, reader, slow):
    """Draw the messages of ``data``: whole ones with their mini headers, one behind the other.

    ``surfaces`` are a screen's (id to `Pixels`), ``primary`` the id of what is shown or None,
    ``reader`` its `ImageReader`. ``slow(number, body)`` is called for every message that isn't a
    common one; it may change the surfaces, and returns the id of what is shown then (-1: nothing),
    or `STOP`, which ends the run behind that message. Returns `Changes`.
    """
    changes = Changes()
    left = top = 1 << 30
    right = bottom = -1
    view = memoryview(data)
    end = len(view)
    at = 0
    known = -1
    count = draws = pixels = 0
    width = height = 0
    target = bytearray(4)
    job = array("q", bytes(8 * _JOB))
    place = array("q", bytes(8))
    tally = array("q", bytes(64))
    shown = -1 if primary is None else primary
    while at < end:
        number = view[at] | view[at + 1] << 8
        size = _u32(view, at + 2)
        body = at + 6
        at = body + size
        count += 1
        if number == _DRAW_COPY and size >= 4:
            surface_id = _u32(view, body)
            if surface_id != known:
                surface = surfaces.get(surface_id)
                known = -1
                if surface is not None and surface.format in (32, 96) and surface.is_tight:
                    target = surface.data
                    width = surface.width
                    height = surface.height
                    known = surface_id
            image = _look(view, body, size, job) if known >= 0 else 0
            if image:
                found = _image(data, view, body + image, size - image, job, place, tally, reader)
                if found is not None:
                    source = view if found is data else found
                    pixels += _draw(view, body, source, target, width, height, job)
                    draws += 1
                    if known == shown:
                        left = min(left, job[11])
                        top = min(top, job[12])
                        right = max(right, job[13])
                        bottom = max(bottom, job[14])
                    continue
        known = -1
        after = slow(number, data[body:at])
        if after == -2:
            break
        shown = after
    for number in range(8):
        if tally[number]:
            reader.count(_NAMES[number], tally[number])
    changes.left, changes.top, changes.right, changes.bottom = left, top, right, bottom
    changes.at = at
    changes.count = count
    changes.draws = draws
    changes.pixels = pixels
    return changes
