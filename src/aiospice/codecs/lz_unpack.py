# cython: language_level=3, boundscheck=True, wraparound=False, initializedcheck=False
# mypy: ignore-errors
"""The loops that unpack LZ and GLZ: compiled where possible, the same file where not.

A stream is a row of items. One whose first byte is below 32 is followed by that many units plus
one, as they are; any other says how many units to copy and from where: from some units back, or
(GLZ) from a place in an earlier image. A unit is what `KIND` of stream it is: a byte, a byte
that goes to every fourth place (alpha), or a pixel.

Every byte is read with its bounds checked; whoever calls gets an ``IndexError`` for a stream that
ends early. What is copied is checked once by `_refusal`, and then copied unchecked.

Facts: spice-common ``common/lz_decompress_tmpl.c``, spice-gtk ``src/decode-glz-tmpl.c``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiospice import _cython as cython
else:
    try:
        import cython
    except ImportError:
        from aiospice import _cython as cython

if cython.compiled:
    from cython.cimports.libc.string import memcpy, memmove

__all__ = [
    "ALPHA",
    "BYTE",
    "DONE",
    "NEEDS",
    "NO_IMAGE",
    "OUTSIDE",
    "OVERRUN",
    "PIXEL",
    "SLOTS",
    "WORD",
    "WORD_TO_PIXEL",
    "address_of",
    "unpack",
    "unpack_shared",
]

#: Kinds of units: a byte; a byte for every fourth place, from the third on; a word of 16 bits, kept
#: or spread to 32 bits; three bytes to 32 bits.
BYTE, ALPHA, WORD, WORD_TO_PIXEL, PIXEL = range(5)

#: What a loop ends with: all units are there; a copy from outside of the image; more units than
#: the image has; an image is needed that isn't in the table.
DONE, OUTSIDE, OVERRUN, NEEDS = range(4)

#: Images that the table of `unpack_shared` holds, and what is no number of any.
SLOTS = 64
NO_IMAGE = -(1 << 62)

# The same numbers, and where the first three of four bytes are in a number of this machine: C's
# own where compiled.
if cython.compiled:
    _BYTE = cython.declare(cython.int, 0)
    _ALPHA = cython.declare(cython.int, 1)
    _WORD = cython.declare(cython.int, 2)
    _WORD_TO_PIXEL = cython.declare(cython.int, 3)
    _COLOUR = cython.declare(cython.uint, 0x00FFFFFF)
    _PAIRS = cython.declare(cython.bint, sys.byteorder == "little")
    _FIRST = cython.declare(cython.ulonglong, 0x00FFFFFF)
    _SECOND = cython.declare(cython.ulonglong, 0x00FFFFFF << 32)
else:
    _BYTE, _ALPHA, _WORD, _WORD_TO_PIXEL, _COLOUR = 0, 1, 2, 3, 0x00FFFFFF
if sys.byteorder == "big":
    _COLOUR = 0xFFFFFF00


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _refusal(
    count: cython.Py_ssize_t,
    room: cython.Py_ssize_t,
    first: cython.Py_ssize_t,
    all: cython.Py_ssize_t,
) -> cython.int:
    """Judge the copying of ``count`` units from unit ``first`` of ``all`` to a place with ``room``.

    0 if the copy stays inside, else why it doesn't. Nothing is copied that wasn't asked here.
    """
    if count > room:
        return 2
    if first < 0 or first >= all:
        return 1
    return 0


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _copy(
    to: cython.p_uchar,
    at: cython.Py_ssize_t,
    source: cython.p_uchar,
    begin: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
) -> cython.void:
    """Copy ``size`` bytes that don't overlap."""
    if cython.compiled:
        memcpy(to + at, source + begin, size)
    else:
        to[at : at + size] = source[begin : begin + size]


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _repeat(
    out: cython.p_uchar,
    at: cython.Py_ssize_t,
    back: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
    room: cython.Py_ssize_t,
) -> cython.void:
    """Copy ``size`` bytes from ``back`` bytes before, which may be those that are written here.

    Up to ``room`` bytes may be written to; those beyond ``size`` are written again later.
    """
    step: cython.Py_ssize_t
    if cython.compiled and size <= 32 and size <= back and room >= 32:
        memmove(out + at, out + at - back, 16)
        memmove(out + at + 16, out + at - back + 16, 16)
        return
    while size > 0:
        step = back if back < size else size
        _copy(out, at, out, at - back, step)
        at += step
        size -= step
        back += step


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _fill(out: cython.p_uchar, at: cython.Py_ssize_t, count: cython.Py_ssize_t) -> cython.void:
    """Write the four bytes before ``at`` again, ``count`` times."""
    i: cython.Py_ssize_t
    if cython.compiled:
        value: cython.uint = 0
        memcpy(cython.address(value), out + at - 4, 4)
        for i in range(count):
            memcpy(out + at + 4 * i, cython.address(value), 4)
    else:
        out[at : at + 4 * count] = bytes(out[at - 4 : at]) * count


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _copy_alpha(
    out: cython.p_uchar,
    at: cython.Py_ssize_t,
    source: cython.p_uchar,
    begin: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
) -> cython.void:
    """Copy the fourth bytes of ``count`` pixels, first to last."""
    i: cython.Py_ssize_t
    for i in range(count):
        out[4 * (at + i) + 3] = source[4 * (begin + i) + 3]


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _colours(
    out: cython.p_uchar,
    at: cython.Py_ssize_t,
    data: cython.p_uchar,
    ip: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    spare: cython.bint,
) -> cython.void:
    """Spread ``count`` pixels of three bytes to four; ``spare``: another byte follows them."""
    i: cython.Py_ssize_t
    if cython.compiled:
        value: cython.uint = 0
        mask: cython.uint = _COLOUR
        first: cython.ulonglong = _FIRST
        second: cython.ulonglong = _SECOND
        both: cython.ulonglong = 0
        if _PAIRS:  # two at a time, as long as eight bytes may be read
            while count > 2:
                memcpy(cython.address(both), data + ip, 8)
                both = (both & first) | ((both << 8) & second)
                memcpy(out + at, cython.address(both), 8)
                ip += 6
                at += 8
                count -= 2
        if spare:
            for i in range(count):
                memcpy(cython.address(value), data + ip + 3 * i, 4)
                value = value & mask
                memcpy(out + at + 4 * i, cython.address(value), 4)
            return
    for i in range(count):  # noqa: B007
        out[at] = data[ip]
        out[at + 1] = data[ip + 1]
        out[at + 2] = data[ip + 2]
        out[at + 3] = 0
        at += 4
        ip += 3


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _words(
    out: cython.p_uchar,
    at: cython.Py_ssize_t,
    data: cython.p_uchar,
    ip: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
) -> cython.void:
    """Spread ``count`` pixels of 15 bits (the high byte first) to four bytes."""
    i: cython.Py_ssize_t
    high: cython.uint
    low: cython.uint
    green: cython.uint
    for i in range(count):  # noqa: B007
        high = data[ip]
        low = data[ip + 1]
        green = ((high << 6) | (low >> 2)) & 0xF8
        out[at] = ((low << 3) & 0xF8) | ((low >> 2) & 7)
        out[at + 1] = green | (green >> 5)
        out[at + 2] = ((high << 1) & 0xF8) | ((high >> 4) & 7)
        out[at + 3] = 0
        at += 4
        ip += 2


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _literals(
    kind: cython.int,
    out: cython.p_uchar,
    op: cython.Py_ssize_t,
    data: cython.p_uchar,
    ip: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    spare: cython.bint,
) -> cython.void:
    """Write ``count`` units at unit ``op`` as they come from place ``ip``; all is proven before."""
    i: cython.Py_ssize_t
    if kind == _BYTE:
        _copy(out, op, data, ip, count)
    elif kind == _ALPHA:
        for i in range(count):
            out[4 * (op + i) + 3] = data[ip + i]
    elif kind == _WORD:
        for i in range(count):
            out[2 * (op + i)] = data[ip + 2 * i + 1]
            out[2 * (op + i) + 1] = data[ip + 2 * i]
    elif kind == _WORD_TO_PIXEL:
        _words(out, 4 * op, data, ip, count)
    else:
        _colours(out, 4 * op, data, ip, count, spare)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _copy_back(
    kind: cython.int,
    size: cython.Py_ssize_t,
    out: cython.p_uchar,
    op: cython.Py_ssize_t,
    back: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    room: cython.Py_ssize_t,
) -> cython.void:
    """Copy ``count`` units of ``size`` bytes from ``back`` units before unit ``op``."""
    if kind == _ALPHA:
        _copy_alpha(out, op, out, op - back, count)
    elif size == 4 and back == 1:
        _fill(out, 4 * op, count)
    else:
        _repeat(out, size * op, size * back, size * count, size * room)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _unit(kind: cython.int) -> cython.Py_ssize_t:
    """Bytes of a unit in the stream."""
    return 1 if kind <= _ALPHA else 3 if kind > _WORD_TO_PIXEL else 2


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _bias(kind: cython.int) -> cython.Py_ssize_t:
    """Units that the length of a copy is short of, beyond one."""
    return 2 if kind <= _ALPHA else 0 if kind > _WORD_TO_PIXEL else 1


@cython.cfunc
@cython.nogil
def _unpack(
    data: cython.const[cython.uchar][::1],
    place: cython.longlong[::1],
    out: cython.uchar[::1],
    units: cython.Py_ssize_t,
    kind: cython.int,
) -> cython.int:
    ip: cython.Py_ssize_t = place[0]
    op: cython.Py_ssize_t = 0
    end: cython.Py_ssize_t = data.shape[0]
    unit: cython.Py_ssize_t = _unit(kind)
    size: cython.Py_ssize_t = 1 if kind == _BYTE else 2 if kind == _WORD else 4
    bias: cython.Py_ssize_t = _bias(kind)
    count: cython.Py_ssize_t
    back: cython.Py_ssize_t
    code: cython.Py_ssize_t
    why: cython.int
    source: cython.p_uchar
    target: cython.p_uchar
    if cython.compiled:
        source = cython.cast(cython.p_uchar, cython.address(data[0]))
        target = cython.address(out[0])
    else:
        source, target = data, out
    while op < units:
        place[0] = ip
        code = data[ip]
        ip += 1
        if code < 32:
            count = code + 1
            if count > units - op:
                return 2
            code = data[ip + unit * count - 1]  # all of them are there
            _literals(kind, target, op, source, ip, count, ip + unit * count < end)
            ip += unit * count
        else:
            count = code >> 5
            back = (code & 31) << 8
            if count == 7:
                code = 255
                while code == 255:
                    code = data[ip]
                    ip += 1
                    count += code
            back += data[ip]
            ip += 1
            if back == 8191:
                back += data[ip] * 256 + data[ip + 1]
                ip += 2
            back += 1
            count += bias
            why = _refusal(count, units - op, op - back, op)
            if why:
                return why
            _copy_back(kind, size, target, op, back, count, units - op)
        op += count
    place[0] = ip
    return 0


def unpack(
    data: cython.const[cython.uchar][::1],
    place: cython.longlong[::1],
    out: cython.uchar[::1],
    units: cython.Py_ssize_t,
    kind: cython.int,
) -> int:
    """Unpack an LZ stream of ``units`` units of a kind, which begins at ``data[place[0]]``.

    ``out`` has room for them. Returns `DONE`, `OUTSIDE` or `OVERRUN`; ``place[0]`` is then behind
    the stream, or at the item that can't be followed. Raises `IndexError` for too little data,
    `ValueError` for too little room.
    """
    size: cython.Py_ssize_t = 1 if kind == _BYTE else 2 if kind == _WORD else 4
    if units < 0 or out.shape[0] < 1 or out.shape[0] < units * size:
        raise ValueError(f"{units} units of {size} bytes, and room for {out.shape[0]} bytes")
    status: cython.int
    with cython.nogil:
        status = _unpack(data, place, out, units, kind)
    return status


@cython.cfunc
@cython.inline
@cython.nogil
def _read_copy(
    data: cython.const[cython.uchar][::1], ip: cython.Py_ssize_t, item: cython.longlong[::1]
) -> cython.Py_ssize_t:
    """Read the copy at ``ip`` into ``item`` (units, distance of images, offset); tell its end."""
    code: cython.longlong = data[ip]
    count: cython.longlong = code >> 5
    offset: cython.longlong = code & 15
    images: cython.longlong = 0
    far: cython.longlong = code & 16
    shift: cython.longlong = 0
    byte: cython.longlong
    ip += 1
    if count == 7:
        code = 255
        while code == 255:
            code = data[ip]
            ip += 1
            count += code
    offset += data[ip] * 16
    code = data[ip + 1]
    ip += 2
    if far:
        offset += (code & 31) << 12
        far = code & 32
    else:
        images = code & 63
        shift = 6
    code >>= 6
    while code > 0:
        byte = data[ip]
        images += byte << shift
        shift += 8
        ip += 1
        code -= 1
    if far:
        offset += data[ip] * 131072
        ip += 1
    item[0] = count
    item[1] = images
    item[2] = offset
    return ip


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _copy_from(
    kind: cython.int,
    out: cython.p_uchar,
    op: cython.Py_ssize_t,
    image: cython.p_uchar,
    offset: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    slack: cython.Py_ssize_t,
) -> cython.void:
    """Copy ``count`` pixels of another image; ``slack`` pixels may be read and written to."""
    if kind == _ALPHA:
        _copy_alpha(out, op, image, offset, count)
    elif cython.compiled:
        if count <= 8 and slack >= 8:
            memcpy(out + 4 * op, image + 4 * offset, 32)
        else:
            memcpy(out + 4 * op, image + 4 * offset, 4 * count)
    else:
        _copy(out, 4 * op, image, 4 * offset, 4 * count)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _follow(
    kind: cython.int,
    out: cython.p_uchar,
    op: cython.Py_ssize_t,
    room: cython.Py_ssize_t,
    item: cython.longlong[::1],
    table: cython.longlong[::1],
    images: object,
) -> cython.int:
    """Do the copy that `_read_copy` read, or tell why not."""
    count: cython.Py_ssize_t = item[0] + _bias(kind)
    offset: cython.Py_ssize_t = item[2]
    wanted: cython.longlong = item[3] - item[1]
    slot: cython.Py_ssize_t = 3 * (wanted & 63)
    size: cython.Py_ssize_t = table[slot + 1]
    why: cython.int
    image: cython.p_uchar
    if item[1] == 0:
        why = _refusal(count, room, op - offset - 1, op)
        if why == 0:
            _copy_back(kind, 4, out, op, offset + 1, count, room)
        return why
    if table[slot] != wanted:
        return 3
    why = _refusal(count, room, offset, size - count + 1)
    if why == 0:
        if cython.compiled:
            image = cython.cast(cython.p_uchar, cython.cast(cython.size_t, table[slot + 2]))
        else:
            image = images[wanted & 63]
        _copy_from(kind, out, op, image, offset, count, min(room, size - offset))
    return why


@cython.cfunc
@cython.nogil
def _unpack_shared(
    data: cython.const[cython.uchar][::1],
    place: cython.longlong[::1],
    target: cython.p_uchar,
    units: cython.Py_ssize_t,
    kind: cython.int,
    table: cython.longlong[::1],
    item: cython.longlong[::1],
    images: object,
) -> cython.int:
    ip: cython.Py_ssize_t = place[0]
    op: cython.Py_ssize_t = place[1]
    end: cython.Py_ssize_t = data.shape[0]
    unit: cython.Py_ssize_t = _unit(kind)
    count: cython.Py_ssize_t
    why: cython.int
    source: cython.p_uchar
    if cython.compiled:  # noqa: SIM108 - types differ
        source = cython.cast(cython.p_uchar, cython.address(data[0]))
    else:
        source = data
    while op < units:
        place[0] = ip
        place[1] = op
        count = data[ip]
        if count < 32:
            ip += 1
            count += 1
            if count > units - op:
                return 2
            why = data[ip + unit * count - 1]  # all of them are there
            _literals(kind, target, op, source, ip, count, ip + unit * count < end)
            ip += unit * count
        else:
            ip = _read_copy(data, ip, item)
            why = _follow(kind, target, op, units - op, item, table, images)
            if why:
                return why
            count = item[0] + _bias(kind)
        op += count
    place[0] = ip
    place[1] = op
    return 0


def unpack_shared(
    data: cython.const[cython.uchar][::1],
    place: cython.longlong[::1],
    out: cython.uchar[::1],
    kind: cython.int,
    table: cython.longlong[::1],
    item: cython.longlong[::1],
    images: object,
) -> int:
    """Unpack a GLZ stream of the pixels that fit into ``out``, from ``data[place[0]]`` on.

    ``place[1]`` is the number of pixels that are there already. ``table`` has `SLOTS` rows of
    three: the number of an image (`NO_IMAGE`: none), its pixels, `address_of` them; an image
    belongs into row ``number % SLOTS``, its pixels also into that place of ``images``, which
    keeps them where they are. ``item[3]`` is the number of the image that is unpacked, 0 or more.
    Returns `DONE`, `OUTSIDE`, `OVERRUN`, or `NEEDS` for an image that isn't in the table;
    ``item[1]`` is then how many images back it is, and the same call goes on when it is there.
    Raises `IndexError` for too little data, `ValueError` for tables that are too small.
    """
    if table.shape[0] < 192 or item.shape[0] < 4 or place.shape[0] < 2 or out.shape[0] < 4:
        raise ValueError("tables that are too small")
    if place[1] < 0:
        raise ValueError(f"{place[1]} pixels")
    status: cython.int
    units: cython.Py_ssize_t = out.shape[0] // 4
    target: cython.p_uchar
    if cython.compiled:  # noqa: SIM108 - types differ
        target = cython.address(out[0])
    else:
        target = out
    with cython.nogil:
        status = _unpack_shared(data, place, target, units, kind, table, item, images)
    return status


def address_of(pixels: cython.uchar[::1]) -> int:
    """Where compiled code finds the pixels of an image, for as long as the view is kept."""
    if cython.compiled:
        return cython.cast(cython.size_t, cython.address(pixels[0]))
    else:
        return 0
