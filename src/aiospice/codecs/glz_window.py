# cython: language_level=3, boundscheck=True, wraparound=False, initializedcheck=False
# mypy: ignore-errors
"""The images that GLZ copies from, on the client's side, and images that are unpacked with them.

Compiled where possible, the same file where not: a text screen is thousands of images a second,
of some hundred pixels each. Facts: spice-gtk ``src/decode-glz.c``.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from aiospice.codecs.lz_unpack import ALPHA, NO_IMAGE, PIXEL, SLOTS, WORD_TO_PIXEL, address_of
from aiospice.errors import DecodeError

if TYPE_CHECKING:
    from aiospice import _cython as cython
else:
    try:
        import cython
    except ImportError:
        from aiospice import _cython as cython

if cython.compiled:
    from cython.cimports.aiospice.codecs.lz_unpack import _unpack_shared
    from cython.cimports.cpython.bytearray import (
        PyByteArray_AS_STRING,
        PyByteArray_FromStringAndSize,
    )
from aiospice.codecs.lz_unpack import unpack_shared

__all__ = ["MAX_IMAGES", "GlzWindow", "NeedsImage", "decode_small", "unpack"]

#: Images that a window keeps, of whatever size.
MAX_IMAGES = 1 << 16
_MOST = MAX_IMAGES
_REASONS = ("", "a copy from outside of an image", "more pixels than the image has")
_RGB16, _RGBA = 6, 9
#: Pixels of an image that `decode_small` takes.
_SMALL = 1 << 21 if cython.compiled else 65536
#: Bytes from which on the room of an image that has left is worth keeping for the next one, since
#: the pages of new room have to be cleared; and how much of such room is kept at most.
_LEAST = 1 << 15
_SPARE_MOST = 1 << 23


class NeedsImage(NamedTuple):
    """An image can't be decoded yet."""

    #: The number of the image that is needed first.
    id: int


class GlzWindow:
    """The images that later ones may copy from: one window for all display channels of a session.

    Plain data. An image leaves when the server's window has left it behind, as far as images came
    without a gap (spice-gtk ``glz_decoder_window_release``); and, since a gap must not make the
    window grow for ever, from the oldest on beyond four times ``limit`` pixels or `MAX_IMAGES`.
    """

    def __init__(self, limit):
        #: Pixels that the server was told the window may have.
        self.limit = limit
        self.clear()

    def clear(self):
        """Forget everything: for a session that starts over with a server that knows nothing."""
        #: Pixels that are kept now.
        self.pixels = 0
        self._images = {}
        self._windows = {}  # of those ahead of a gap, by id: the oldest that it may copy from
        self._lent = set()  # images whose pixels others have, too
        self._next = 0  # all before this have come; servers begin with 0
        self._oldest = 0  # all before this have left
        self._forget_places()

    def _forget_places(self):
        """Where the pixels of images are is another thing in each process."""
        self._spare = []
        self._spare_bytes = 0
        self._table = memoryview(array("q", (NO_IMAGE, 0, 0)) * SLOTS)
        self._views = [None] * SLOTS
        self._item = memoryview(array("q", bytes(32)))
        self._place = memoryview(array("q", bytes(16)))

    def __reduce__(self):
        """Pickle all but places in memory."""
        state = (
            *(self.pixels, self._images, self._windows, self._lent),
            *(self._next, self._oldest),
        )
        return GlzWindow, (self.limit,), state

    def __setstate__(self, state):
        """As it was."""
        self.pixels, self._images, self._windows, self._lent, self._next, self._oldest = state

    def __len__(self):
        """Images that are kept."""
        return len(self._images)

    def __contains__(self, image_id):
        """Whether an image has come and is kept."""
        return image_id in self._images

    def get(self, image_id, place):
        """The pixels of an image, or that it hasn't come; `DecodeError` if it won't come (again).

        ``place`` is the offset in the data that is read.
        """
        pixels = self._images.get(image_id)
        if pixels is None:
            if image_id < self._next:
                raise DecodeError(f"a copy from image {image_id}, not in the window", offset=place)
            return NeedsImage(image_id)
        if not pixels:
            raise DecodeError(f"a copy from image {image_id}, which was damaged", offset=place)
        return pixels

    def add(self, image_id, window, pixels):
        """Keep an image and drop what is too old.

        ``window`` is how many images before it may still be copied from; ``pixels`` are four bytes
        each in the order of its stream. `DecodeError` for a number that is there already.
        """
        if image_id in self._images:
            raise DecodeError(f"image {image_id} is there already", offset=21)
        self._put(image_id, window, pixels)

    def _put(self, image_id, window, pixels):
        oldest: cython.longlong = -1
        self._images[image_id] = pixels
        self.pixels += len(pixels) // 4
        if image_id == self._next:
            self._next += 1
            oldest = image_id - window
        else:
            self._windows[image_id] = image_id - window
        while len(self._windows) > 0 and self._next in self._windows:
            oldest = self._windows.pop(self._next)
            self._next += 1
        if oldest > self._oldest:
            self._drop(oldest)
        if self.pixels > 4 * self.limit or len(self._images) > _MOST:
            self._shrink(image_id)

    def lose(self, image_id, window):
        """An image is damaged: what copies from it is not to wait for it."""
        if image_id not in self._images and image_id >= self._next:
            self.add(image_id, window, bytearray())

    def _drop(self, oldest):
        known: cython.longlong = self._oldest
        self._oldest = oldest
        if oldest - known > 2 * len(self._images):
            for image_id in [image_id for image_id in self._images if image_id < oldest]:
                self._forget(image_id)
            return
        while known < oldest:
            self._forget(known)
            known += 1

    def lend(self, image_id):
        """The caller keeps the pixels of an image: they are never written to again."""
        self._lent.add(image_id)
        self._leave_table(image_id)

    def _leave_table(self, image_id):
        slot: cython.Py_ssize_t = image_id & 63
        if self._table[3 * slot] == image_id:
            self._table[3 * slot] = NO_IMAGE
            self._views[slot] = None

    def _forget(self, image_id):
        """Drop an image if it is there."""
        pixels = self._images.pop(image_id, None)
        if pixels is None:
            return
        self.pixels -= len(pixels) // 4
        if len(self._windows) > 0:
            self._windows.pop(image_id, None)
        self._leave_table(image_id)
        if len(self._lent) > 0 and image_id in self._lent:
            self._lent.discard(image_id)
        elif len(pixels) >= _LEAST:
            self._spare.append(pixels)
            self._spare_bytes += len(pixels)
            while self._spare_bytes > _SPARE_MOST:
                self._spare_bytes -= len(self._spare.pop(0))

    def _room(self, size):
        """Room for the pixels of an image; what is in it is of no use."""
        if size >= _LEAST:
            for place, pixels in enumerate(self._spare):
                if len(pixels) == size:
                    self._spare_bytes -= size
                    return self._spare.pop(place)
        if cython.compiled:
            return PyByteArray_FromStringAndSize(cython.NULL, size)
        return bytearray(size)

    def _shrink(self, newest):
        while self.pixels > 4 * self.limit or len(self._images) > MAX_IMAGES:
            oldest = min(self._images)
            if oldest == newest and len(self._images) == 1:
                return  # one image alone has its own limit
            self._forget(oldest)
            self._next = max(self._next, oldest + 1)

    def fetch(self, image_id, place):
        """Enter an image into the table, or tell that it isn't there; raises as `get`."""
        pixels = self.get(image_id, place)
        if isinstance(pixels, NeedsImage):
            return pixels
        if len(self._lent) > 0 and image_id in self._lent:
            slot = image_id % SLOTS
            view = memoryview(pixels)  # as long as it is there nobody can make them fewer
            self._views[slot] = view
            self._table[3 * slot] = image_id
            self._table[3 * slot + 1] = len(view) // 4
            self._table[3 * slot + 2] = address_of(view)
        else:
            self._enter(image_id, pixels)
        return None

    def _enter(self, image_id, pixels):
        """Enter an image into the table that nobody else has."""
        slot: cython.Py_ssize_t = image_id & 63
        self._views[slot] = pixels
        self._table[3 * slot] = image_id
        self._table[3 * slot + 1] = len(pixels) // 4
        if cython.compiled:
            self._table[3 * slot + 2] = cython.cast(cython.size_t, PyByteArray_AS_STRING(pixels))


@cython.locals(
    window=GlzWindow,
    view="const unsigned char[::1]",
    target="unsigned char[::1]",
    place="long long[::1]",
    item="long long[::1]",
    image_id=cython.longlong,
    start=cython.Py_ssize_t,
    type=cython.int,
    kind=cython.int,
    passes=cython.int,
    status=cython.int,
)
def unpack(window, data, start, out, type, image_id):
    """Unpack the stream at ``start`` into ``out``, four bytes a pixel.

    Returns where it ends, or `NeedsImage`. Raises `DecodeError`.
    """
    view, target = memoryview(data), memoryview(out)
    place, item = window._place, window._item
    place[0] = start
    item[3] = image_id
    kind = WORD_TO_PIXEL if type == _RGB16 else PIXEL
    passes = 2 if type == _RGBA else 1
    while passes:
        place[1] = 0
        while True:
            try:
                status = unpack_shared(
                    view, place, target, kind, window._table, item, window._views
                )
            except IndexError:
                raise DecodeError("the GLZ image ends too early", offset=len(data)) from None
            if status == 0:
                break
            if status != 3:
                raise DecodeError(_REASONS[status], offset=place[0])
            needs = window.fetch(image_id - item[1], place[0])
            if needs is not None:
                return needs
        kind = ALPHA
        passes -= 1
    return place[0]


@cython.cfunc
@cython.locals(
    window=GlzWindow,
    data="const unsigned char[::1]",
    out=bytearray,
    start=cython.Py_ssize_t,
    type=cython.int,
    image_id=cython.longlong,
    place="long long[::1]",
    item="long long[::1]",
    kind=cython.int,
    status=cython.int,
    units=cython.Py_ssize_t,
)
@cython.returns(cython.int)
def _unpack_small(window, data, start, out, units, type, image_id):
    """Unpack ``units`` pixels as `unpack` does; 0, or not 0 for what has to wait or is wrong."""
    place, item = window._place, window._item
    if cython.compiled:
        target: cython.p_uchar = cython.cast(cython.p_uchar, PyByteArray_AS_STRING(out))
    else:
        data, target = memoryview(data), memoryview(out)
    place[0] = start
    item[3] = image_id
    kind = 4
    try:
        while True:
            place[1] = 0
            status = 3
            while status == 3:
                if cython.compiled:
                    status = _unpack_shared(
                        data, place, target, units, kind, window._table, item, window._views
                    )
                else:
                    status = unpack_shared(
                        data, place, target, kind, window._table, item, window._views
                    )
                if status == 3 and window.fetch(image_id - item[1], 0) is not None:
                    return 3
            if status or type != 9 or kind == 1:
                return status
            kind = 1
    except (IndexError, DecodeError):
        return 1


@cython.cfunc
@cython.exceptval(check=False)
@cython.locals(data="const unsigned char[::1]", at=cython.Py_ssize_t)
@cython.returns(cython.uint)
def _u32(data, at):
    """A number of 32 bits, the highest first."""
    if cython.compiled:
        high: cython.uint = data[at]
        return high << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]
    return data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]


@cython.locals(type=cython.int, high=cython.longlong, image_id=cython.longlong, out=bytearray)
@cython.locals(before=cython.longlong)
def decode_small(window, data, start, size, width, height):
    """Decode an image of ``size`` bytes at ``start`` whose size in pixels is known to be small.

    Returns its pixels, which the window keeps too: only to be read. None, with nothing changed, for
    whatever isn't ordinary: `aiospice.codecs.glz.decode` says what is wrong with it.
    """
    if size < 34 or width * height > _SMALL:
        return None
    type = data[start + 8] & 15
    if _u32(data, start) != 0x20205A4C or _u32(data, start + 4) != 0x00010001:
        return None
    if (type != 8 and type != 9) or _u32(data, start + 21) >> 30:
        return None
    if _u32(data, start + 9) != width or _u32(data, start + 13) != height:
        return None
    if _u32(data, start + 17) != 4 * width:
        return None
    high = _u32(data, start + 21)
    image_id = high << 32 | _u32(data, start + 25)
    before = _u32(data, start + 29)
    if before > image_id or image_id in window._images:
        return None
    if width < 1 or height < 1 or width * height > 255 * size:
        return None
    out = window._room(4 * width * height)
    if _unpack_small(window, data, start + 33, out, width * height, type, image_id) != 0:
        return None
    if window._place[0] > start + size:
        return None
    window._put(image_id, before, out)
    if image_id in window._images:  # an image alone may be more than the window has
        window._enter(image_id, out)  # the next one copies from it most likely
    return out
