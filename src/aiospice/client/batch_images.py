# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The rows of the image of a common draw: decoded, from a cache, or where they came.

Compiled where possible, the same file where not; `aiospice.client.batch` draws with it. Whatever
isn't an ordinary image of 32 bit gives None, with no cache and no window changed. What is unpacked
quickly (LZ, GLZ, LZ4) may be as large as a screen: a thread for it would cost more than it gains.

What a job has by place, for the draw and for the image:

    0 left  1 top  2 right  3 bottom   4 x, 5 y of the corner in the image   6 rectangles
    7 where the rows begin  8 stride  9 rows  10 not 0: the first row is the top one
    11 left  12 top  13 right  14 bottom of what was touched
    15 columns  16 not 0: the image has alpha
"""

from __future__ import annotations

try:
    import cython
except ImportError:
    from aiospice import _cython as cython

if cython.compiled:
    from cython.cimports.aiospice.client.peek import big, u32
    from cython.cimports.aiospice.codecs.glz_window import decode_small as decode_glz
    from cython.cimports.aiospice.codecs.lz4_unpack import Rows as _Rows
    from cython.cimports.aiospice.codecs.lz4_unpack import _unpack as unpack_lz4
    from cython.cimports.aiospice.codecs.lz_unpack import _unpack as unpack
    from cython.cimports.aiospice.codecs.quic_small import Scratch as _Scratch
    from cython.cimports.aiospice.codecs.quic_small import decode_small
else:
    from aiospice.client.peek import big, u32
    from aiospice.codecs.glz_window import decode_small as decode_glz
    from aiospice.codecs.lz4_unpack import Rows as _Rows
    from aiospice.codecs.lz_unpack import unpack as _unpack_lz
    from aiospice.codecs.quic_small import Scratch as _Scratch
    from aiospice.codecs.quic_small import decode_small

    def unpack(view, place, out, units, kind):
        """What C calls without a detour."""
        return _unpack_lz(view, memoryview(place), memoryview(out), units, kind)


__all__ = ["NAMES", "image_rows"]

# Numbers of C where compiled: ``batch_images.pxd``.
_DESCRIPTOR = 18
_BITMAP = 18
#: Pixels of a packed image that is unpacked here; `Scratch` has room for as many.
_SMALL = 65536
#: The same for what is unpacked at a GB of pixels a second or more: some ms of work.
_LARGE = 1 << 21 if cython.compiled else 65536
#: Types of images, in the order of ``tally``.
NAMES = ("BITMAP", "QUIC", "LZ_RGB", "GLZ_RGB", "FROM_CACHE", "JPEG", "ZLIB_GLZ_RGB", "LZ4")


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
    if (view[at] != 8 and view[at] != 9) or view[at + 1] & 3 or u32(view, at + 14) != 0:
        return False
    job[16] = view[at] == 9
    job[10] = view[at + 1] & 4
    columns = u32(view, at + 2)
    job[15] = columns
    job[9] = u32(view, at + 6)
    job[8] = u32(view, at + 10)
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
@cython.locals(
    view="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    room=_Rows,
    place="long long[::1]",
    job="long long[::1]",
    columns="long long",
    rows="long long",
    type="long long",
    status=cython.int,
)
@cython.returns(cython.bint)
def _lz(view, at, size, room, place, job):
    """Decode an LZ image of pixels into the room for rows; False if it isn't ordinary."""
    if size <= 28 or big(view, at) != 0x20205A4C or big(view, at + 4) != 0x00010001:
        return False
    type, columns, rows = big(view, at + 8), big(view, at + 12), big(view, at + 16)
    if (type != 8 and type != 9) or columns < 1 or rows < 1 or columns > _LARGE:
        return False
    if columns * rows > _LARGE or big(view, at + 20) != 4 * columns or big(view, at + 24) > 1:
        return False
    # What stands for less can't be an image of that size, and no room is made for it.
    if columns * rows > 255 * size:
        return False
    if 4 * columns * rows > len(room.data):
        room.make_room(4 * columns * rows)
    place[0] = at + 28
    try:
        status = unpack(view, place, room.data, columns * rows, 4)
        if status == 0 and type == 9:
            status = unpack(view, place, room.data, columns * rows, 1)
    except IndexError:
        return False
    if status or place[0] != at + size:
        return False
    _tight(job, columns, rows, type == 9)
    job[10] = big(view, at + 24)
    return True


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
@cython.locals(view="const unsigned char[::1]", image=cython.Py_ssize_t, low=cython.ulonglong)
@cython.returns(cython.ulonglong)
def _number(view, image):
    """The number under which an image is kept."""
    low = u32(view, image)
    high: cython.ulonglong = u32(view, image + 4)
    return high << 32 | low


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
@cython.locals(
    view="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    size="long long",
    columns="long long",
    rows="long long",
    job="long long[::1]",
    room=_Rows,
)
def _lz4(data, view, at, size, columns, rows, reader, job):
    """The pixels of an LZ4 image; None if it isn't an ordinary one, or damaged."""
    if size < 7 or (view[at + 1] != 8 and view[at + 1] != 9) or columns * rows < 1:
        return None
    if 4 * columns * rows > 255 * size:
        return None
    if cython.compiled:
        room = reader.rows or reader.make_rows()
        if 4 * columns * rows > len(room.data):
            room.make_room(4 * columns * rows)
        found = None
        if unpack_lz4(view, at + 2, at + size, room.data, 4 * columns * rows, rows):
            found = room.data
    elif big(view, at + 2) == size - 6:  # the library is quicker then
        found = reader.unpack_block(data[at + 6 : at + size], 4 * columns * rows)
    else:
        found = None
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
    room=_Rows,
    columns="long long",
    rows="long long",
    limit="long long",
)
def _packed(data, view, image, left, job, place, reader):
    """What a packed image at ``image`` is drawn from, its rows in ``job``; None: it is unusual.

    ``left`` bytes are left of the message from there on. Nothing has changed with None.
    """
    type = view[image + 8]
    columns, rows = u32(view, image + 10), u32(view, image + 14)
    at = image + _DESCRIPTOR + (8 if type == 107 else 4)
    limit = _LARGE if type == 101 or type == 102 or type == 109 else _SMALL
    if left < at - image or columns > limit or columns * rows > limit:
        return None
    size = u32(view, at - 4)
    job[9], job[15] = rows, columns
    if size > left - (at - image) or not _inside(job):
        return None
    if type == 102:
        window = reader.window or reader.find_window()
        found = decode_glz(window, view, at, size, columns, rows)
        if found is not None:
            _tight(job, columns, rows, view[at + 8] & 15 == 9)
            job[10] = view[at + 8] > 15
        return found
    if type == 107:
        stream = reader.inflated(bytes(data[at : at + size]), u32(view, at - 8))
        window = reader.window or reader.find_window()
        if not stream:
            return None
        found = decode_glz(window, stream, 0, len(stream), columns, rows)
        if found is not None:
            _tight(job, columns, rows, stream[8] & 15 == 9)
            job[10] = stream[8] > 15
        return found
    if type == 109:
        found = _lz4(data, view, at, size, columns, rows, reader, job)
        if found is not None or columns * rows > _SMALL:
            return found
    if type == 105 or type == 109:
        found = reader.quick(type, columns, rows, bytes(data[at : at + size]))
        job[16] = found is not None and found.format == 96
        return found.data if _whole(job, found) else None
    if type != 1 and type != 101:
        return None
    if type == 1:
        scratch = reader.scratch or reader.make_scratch()
        usual, found = _quic(view, at, size, scratch, job), scratch.image
    else:
        room = reader.rows or reader.make_rows()
        usual, found = _lz(view, at, size, room, place, job), room.data
    return found if usual and job[15] == columns and job[9] == rows else None


@cython.cfunc
@cython.locals(
    view="const unsigned char[::1]",
    image=cython.Py_ssize_t,
    left="long long",
    job="long long[::1]",
)
def _surface(view, image, left, job, surfaces, target):
    """The rows of another surface of 32 bit; None if it is unusual."""
    if left < _DESCRIPTOR + 4:
        return None
    other = surfaces.get(u32(view, image + _DESCRIPTOR))
    if other is None or other is target or not _whole(job, other) or not _inside(job):
        return None
    return other.data


@cython.locals(
    view="const unsigned char[::1]",
    image=cython.Py_ssize_t,
    left="long long",
    job="long long[::1]",
    place="long long[::1]",
    tally="long long[::1]",
    type=cython.int,
)
def image_rows(data, view, image, left, job, place, tally, reader, surfaces, target):
    """What the image at ``image`` is drawn from; as `_packed`. Keeps it if that is asked for."""
    type = view[image + 8]
    if view[image + 9] > 1:  # what more may be asked for than to keep it
        return None
    if type == 104:
        return _surface(view, image, left, job, surfaces, target)
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
