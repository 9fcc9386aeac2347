# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# mypy: ignore-errors
"""The loops that pack LZ and GLZ: compiled where possible, the same file where not.

A unit (a byte, a word of 16 bits or a pixel of 32, of which 24 count) and those behind it are
looked up in a table of places by a hash; where the same units came before, a copy is written,
else they are written as they are. The table is small, so that it stays in the processor's cache;
where nothing matches for long the search takes longer steps.

A copy is only written where it takes less than the units themselves, counting the byte that a
second row of plain units begins with. So a stream takes at most `room_for` bytes, which is what
lets these loops write unchecked.

Facts: spice-common ``common/lz_compress_tmpl.c``, spice-server ``server/glz-encode-match.tmpl.c``.
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
    from cython.cimports.libc.string import memcpy

__all__ = ["BLOCK", "BYTE", "IMAGES", "PIXEL", "WORD", "pack", "pack_shared", "room_for"]

#: Kinds of units: a byte, a word (low byte first), a pixel of four bytes, three of which count.
BYTE, WORD, PIXEL = 1, 2, 4
#: Pixels of a block, which belongs to one image.
BLOCK = 64
#: Rows of the table of images.
IMAGES = 4096

# C's own where compiled: where the bytes that count are in one pixel and in two; the furthest
# that an LZ copy can reach; what the hash is multiplied with.
if cython.compiled:
    _COLOUR = cython.declare(cython.uint, 0x00FFFFFF)
    _COLOURS = cython.declare(cython.ulonglong, 0x00FFFFFF00FFFFFF)
    _REACH = cython.declare(cython.Py_ssize_t, 65535 + 8191)
    _FACTOR = cython.declare(cython.ulonglong, 0x1E3779B97F4A7C15)
    _ROWS = cython.declare(cython.Py_ssize_t, 4096)
else:
    _COLOUR, _COLOURS, _REACH = 0x00FFFFFF, 0x00FFFFFF00FFFFFF, 65535 + 8191
    _FACTOR, _ROWS = 0x1E3779B97F4A7C15, 4096
if sys.byteorder == "big":
    _COLOUR, _COLOURS = 0xFFFFFF00, 0xFFFFFF00FFFFFF00


def room_for(units: int, kind: int) -> int:
    """Bytes that a stream of ``units`` units takes at most, and a little to write over."""
    return units * min(kind, 3) + units // 32 + 64


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _load(data: cython.p_uchar, at: cython.Py_ssize_t, kind: cython.int) -> cython.uint:
    """The unit at ``at`` as a number."""
    value: cython.uint = 0
    if kind == 1:
        return data[at]
    if kind == 2:
        return data[2 * at] | (data[2 * at + 1] << 8)
    if cython.compiled:
        memcpy(cython.address(value), data + 4 * at, 4)
        return value & _COLOUR
    else:
        return data[4 * at] | (data[4 * at + 1] << 8) | (data[4 * at + 2] << 16)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _hash(
    data: cython.p_uchar, at: cython.Py_ssize_t, kind: cython.int, shift: cython.int
) -> cython.Py_ssize_t:
    """A hash of 64 minus ``shift`` bits of four bytes, three words or three pixels."""
    key: cython.ulonglong = _load(data, at, kind)
    next: cython.ulonglong = _load(data, at + 1, kind)
    if kind == 4:
        key |= next << 24
        next = _load(data, at + 2, kind)
        key ^= next << 40
    elif kind == 2:
        key |= next << 16
        next = _load(data, at + 2, kind)
        key |= next << 32
    else:
        key |= next << 8
        next = _load(data, at + 2, kind)
        key |= next << 16
        next = _load(data, at + 3, kind)
        key |= next << 24
    if cython.compiled:
        return cython.cast(cython.Py_ssize_t, (key * _FACTOR) >> shift)
    else:
        return ((key * _FACTOR) & ((1 << 64) - 1)) >> shift


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _same(
    data: cython.p_uchar,
    one: cython.Py_ssize_t,
    other: cython.Py_ssize_t,
    limit: cython.Py_ssize_t,
    kind: cython.int,
) -> cython.Py_ssize_t:
    """How many units, at most ``limit``, are the same at two places."""
    count: cython.Py_ssize_t = 0
    if cython.compiled:
        left: cython.ulonglong = 0
        right: cython.ulonglong = 0
        wide: cython.Py_ssize_t = 8 // kind
        mask: cython.ulonglong = ~cython.cast(cython.ulonglong, 0)
        if kind == 4:
            mask = _COLOURS
        while count + wide <= limit:
            memcpy(cython.address(left), data + kind * (one + count), 8)
            memcpy(cython.address(right), data + kind * (other + count), 8)
            if (left ^ right) & mask:
                break
            count += wide
    while count < limit and _load(data, one + count, kind) == _load(data, other + count, kind):
        count += 1
    return count


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _put_plain(
    out: cython.p_uchar,
    op: cython.Py_ssize_t,
    data: cython.p_uchar,
    at: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    kind: cython.int,
) -> cython.Py_ssize_t:
    """Write units as they are; tells where the next item goes."""
    value: cython.uint = 0
    some: cython.Py_ssize_t
    i: cython.Py_ssize_t
    while count > 0:
        some = count if count < 32 else 32
        out[op] = some - 1
        op += 1
        if cython.compiled:
            if kind == 1:
                memcpy(out + op, data + at, some)
            elif kind == 2:
                for i in range(some):
                    out[op + 2 * i] = data[2 * (at + i) + 1]
                    out[op + 2 * i + 1] = data[2 * (at + i)]
            else:
                for i in range(some):
                    memcpy(cython.address(value), data + 4 * (at + i), 4)
                    memcpy(out + op + 3 * i, cython.address(value), 4)
        else:
            for i in range(some):
                value = _load(data, at + i, kind)
                if kind == 1:
                    out[op + i] = value
                elif kind == 2:
                    out[op + 2 * i], out[op + 2 * i + 1] = value >> 8, value & 255
                else:
                    out[op + 3 * i : op + 3 * i + 3] = value.to_bytes(3, "little")
        op += some * (kind if kind < 3 else 3)
        at += some
        count -= some
    return op


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _put_length(
    out: cython.p_uchar, op: cython.Py_ssize_t, count: cython.Py_ssize_t, low: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write the first byte of a copy, whose low five bits are given, and the rest of its length."""
    if count < 7:
        out[op] = (count << 5) | low
        return op + 1
    out[op] = 0xE0 | low
    op += 1
    count -= 7
    while count >= 255:
        out[op] = 255
        op += 1
        count -= 255
    out[op] = count
    return op + 1


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _put_back(
    out: cython.p_uchar,
    op: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    back: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Write an LZ copy: ``count`` without its bias, ``back`` units before, at least 1."""
    back -= 1
    if back < 8191:
        op = _put_length(out, op, count, back >> 8)
        out[op] = back & 255
        return op + 1
    op = _put_length(out, op, count, 31)
    back -= 8191
    out[op] = 255
    out[op + 1] = back >> 8
    out[op + 2] = back & 255
    return op + 3


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _cost(images: cython.longlong, offset: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Bytes of a GLZ copy without those of its length."""
    if offset < 4096:
        return 3 + (images >= 64) + (images >= 16384) + (images >= 4194304)
    return 3 + (images > 0) + (images >= 256) + (images >= 65536) + (offset >= 131072)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _put_from(
    out: cython.p_uchar,
    op: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    images: cython.longlong,
    offset: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Write a GLZ copy: ``count`` without its bias, from ``offset`` in an image so far back."""
    head: cython.Py_ssize_t
    op = _put_length(out, op, count, (offset & 15) | (16 if offset >= 4096 else 0))
    out[op] = (offset >> 4) & 255
    head = op + 1
    op += 2
    if offset < 4096:
        out[head] = images & 63
        images >>= 6
    else:
        out[head] = (offset >> 12) & 31
    while images > 0:
        out[head] += 64
        out[op] = images & 255
        op += 1
        images >>= 8
    if offset >= 131072:
        out[head] |= 32
        out[op] = offset >> 17
        op += 1
    return op


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _pack(
    data: cython.p_uchar,
    units: cython.Py_ssize_t,
    kind: cython.int,
    places: cython.uint[::1],
    shift: cython.int,
    out: cython.p_uchar,
    op: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    need: cython.Py_ssize_t = 4 if kind == 1 else 3
    bias: cython.Py_ssize_t = 2 // kind
    size: cython.Py_ssize_t = kind if kind < 3 else 3
    at: cython.Py_ssize_t = 0
    done: cython.Py_ssize_t = 0
    misses: cython.Py_ssize_t = 0
    back: cython.Py_ssize_t
    count: cython.Py_ssize_t
    slot: cython.Py_ssize_t
    while at + need <= units:
        back = 1
        if at == 0 or _same(data, at, at - 1, need, kind) < need:
            slot = _hash(data, at, kind, shift)
            back = at + 1 - places[slot]
            places[slot] = at + 1
        count = 0
        if back <= at and back <= _REACH:
            count = _same(data, at, at - back, units - at, kind)
        if count * size < (4 if back <= 8191 else 6):
            misses += 1
            at += 1 + (misses >> 6 if misses < 512 else 8)
            continue
        while at > done and back < at and _same(data, at - 1, at - back - 1, 1, kind):
            at -= 1
            count += 1
        op = _put_plain(out, op, data, done, at - done, kind)
        op = _put_back(out, op, count - bias, back)
        at += count
        done = at
        misses = 0
        if at + need - 2 <= units:
            places[_hash(data, at - 2, kind, shift)] = at - 1
    return _put_plain(out, op, data, done, units - done, kind)


def pack(
    data: cython.const[cython.uchar][::1],
    units: cython.Py_ssize_t,
    kind: cython.int,
    places: cython.uint[::1],
    shift: cython.int,
    out: cython.uchar[::1],
    op: cython.Py_ssize_t,
) -> int:
    """Pack ``units`` units (at least 1) of a kind into LZ items at ``out[op]``; tells their end.

    ``places`` is ``2 ** (64 - shift)`` zeros to work with. ``out`` must have `room_for` them.
    """
    if units < 1 or units * kind > data.shape[0]:
        raise ValueError(f"{units} units of {kind} bytes, and {data.shape[0]} bytes")
    if places.shape[0] < 1 << (64 - shift) or out.shape[0] - op < room_for(units, kind):
        raise ValueError("too little room to work in")
    end: cython.Py_ssize_t
    if cython.compiled:
        source: cython.p_uchar = cython.cast(cython.p_uchar, cython.address(data[0]))
        target: cython.p_uchar = cython.address(out[0])
        with cython.nogil:
            if kind == 4:
                end = _pack(source, units, 4, places, shift, target, op)
            elif kind == 2:
                end = _pack(source, units, 2, places, shift, target, op)
            else:
                end = _pack(source, units, 1, places, shift, target, op)
    else:
        end = _pack(data, units, kind, places, shift, out, op)
    return end


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _pack_shared(
    data: cython.p_uchar,
    first: cython.Py_ssize_t,
    units: cython.Py_ssize_t,
    kind: cython.int,
    number: cython.longlong,
    places: cython.uint[::1],
    shift: cython.int,
    owners: cython.ushort[::1],
    images: cython.longlong[::1],
    out: cython.p_uchar,
    op: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    need: cython.Py_ssize_t = 3 if kind == 4 else 4
    bias: cython.Py_ssize_t = 0 if kind == 4 else 2
    size: cython.Py_ssize_t = kind if kind < 3 else 3
    end: cython.Py_ssize_t = first + units
    at: cython.Py_ssize_t = first
    done: cython.Py_ssize_t = first
    low: cython.Py_ssize_t
    misses: cython.Py_ssize_t = 0
    source: cython.Py_ssize_t
    count: cython.Py_ssize_t
    limit: cython.Py_ssize_t
    slot: cython.Py_ssize_t
    distance: cython.longlong
    while at + need <= end:
        distance = 0
        low = first
        limit = end - at
        source = at - 1
        if at == first or _same(data, at, source, need, kind) < need:
            slot = _hash(data, at, kind, shift)
            source = places[slot]
            source -= 1
            places[slot] = at + 1
            if source < 0 or (first <= source and source >= at):
                limit = 0
            elif source < first or source >= end:
                slot = 3 * owners[source >> 6]
                distance = number - images[slot]
                low = images[slot + 1]
                if images[slot + 2] - source < limit:
                    limit = images[slot + 2] - source
                if distance & 1 or source < low or images[slot] < 0:
                    limit = 0
                distance >>= 1
        count = 0
        if limit > 1:
            count = _same(data, at, source, limit, kind)
        if count < bias + 2 or count * size <= _cost(
            distance, at - source - 1 if distance == 0 else source - low
        ):
            misses += 1
            at += 1 + (misses >> 6 if misses < 512 else 8)
            continue
        while at > done and source > low and _same(data, at - 1, source - 1, 1, kind):
            at -= 1
            source -= 1
            count += 1
        op = _put_plain(out, op, data, done, at - done, kind)
        op = _put_from(
            out, op, count - bias, distance, at - source - 1 if distance == 0 else source - low
        )
        at += count
        done = at
        misses = 0
        if at + need - 2 <= end:
            places[_hash(data, at - 2, kind, shift)] = at - 1
    return _put_plain(out, op, data, done, end - done, kind)


def pack_shared(
    data: cython.const[cython.uchar][::1],
    first: cython.Py_ssize_t,
    units: cython.Py_ssize_t,
    kind: cython.int,
    number: cython.longlong,
    places: cython.uint[::1],
    shift: cython.int,
    owners: cython.ushort[::1],
    images: cython.longlong[::1],
    out: cython.uchar[::1],
    op: cython.Py_ssize_t,
) -> int:
    """Pack ``units`` units (`BYTE` or `PIXEL`) from unit ``first`` of the window ``data`` on.

    ``places`` has ``2 ** (64 - shift)`` places in the window plus one, of the images before, or
    0. ``owners`` has for each `BLOCK` of the window the row of its image in ``images``, which has
    `IMAGES` rows of three: twice the image's number, odd for images with alpha and negative for
    none, its first place and the place behind it. ``number`` is that of this image. ``out`` must
    have `room_for` the units. Returns where the next byte goes.
    """
    room: cython.Py_ssize_t = data.shape[0] // kind
    if units < 1 or first < 0 or first + units > room or owners.shape[0] * 64 < room:
        raise ValueError(f"{units} units at {first}, of a window of {room}")
    if places.shape[0] < 1 << (64 - shift) or images.shape[0] < 3 * _ROWS:
        raise ValueError("too little room to work in")
    if out.shape[0] - op < room_for(units, kind):
        raise ValueError("too little room for the stream")
    end: cython.Py_ssize_t
    if cython.compiled:
        source: cython.p_uchar = cython.cast(cython.p_uchar, cython.address(data[0]))
        target: cython.p_uchar = cython.address(out[0])
        with cython.nogil:
            if kind == 4:
                end = _pack_shared(
                    source, first, units, 4, number, places, shift, owners, images, target, op
                )
            else:
                end = _pack_shared(
                    source, first, units, 1, number, places, shift, owners, images, target, op
                )
    else:
        end = _pack_shared(data, first, units, kind, number, places, shift, owners, images, out, op)
    return end
