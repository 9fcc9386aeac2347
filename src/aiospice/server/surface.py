"""The pixels of one surface of the guest, twice: as they are, and as clients were told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.canvas import rows
from aiospice.canvas.pixels import MAX_PIXELS, MAX_SIDE
from aiospice.errors import LocalError
from aiospice.server.compare import ALL, COLOUR
from aiospice.server.region import Box, add, intersect

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "STRIP_PIXELS",
    "Surface",
    "check_surface",
    "copy_rows",
    "fill_rows",
    "strip_rows",
    "strips",
]

#: Pixels of one image: 256 KiB before they are packed, so that a slow client isn't kept from
#: everything else by one message.
STRIP_PIXELS = 1 << 16
#: The same where all clients are on this machine: each image costs, and none waits for the line.
NEAR_PIXELS = 1 << 19


class Surface:
    """The pixels of a surface as the guest has them, and as they were published."""

    __slots__ = (
        "alpha",
        "damage",
        "dirty",
        "fresh",
        "height",
        "id",
        "misses",
        "piece",
        "pixels",
        "shadow",
        "slide",
        "width",
    )

    def __init__(
        self, id: int, width: int, height: int, alpha: bool, pixels: bytearray | None = None
    ) -> None:
        self.id = id
        self.width = width
        self.height = height
        self.alpha = alpha
        self.pixels = bytearray(4 * width * height) if pixels is None else pixels
        #: What was published; None while nobody looks.
        self.shadow: bytearray | None = None
        #: Where the guest may have changed something.
        self.damage: list[Box] = []
        #: Strips that have changed since they were told to another server; None: none were told.
        self.dirty: set[int] | None = None
        #: Pixels of one image: `STRIP_PIXELS` or `NEAR_PIXELS`.
        self.piece = STRIP_PIXELS
        #: Nothing of it has been published yet.
        self.fresh = False
        #: How often in a row nothing was found that had moved, by the part where it was looked for.
        self.misses: dict[Box, int] = {}
        #: How far nearly all of a large box has moved, when that was seen last (`settle`).
        self.slide: tuple[int, int] | None = None

    @property
    def whole(self) -> Box:
        """All of it."""
        return (0, 0, self.width, self.height)

    @property
    def mask(self) -> int:
        """The bits of a pixel that count."""
        return ALL if self.alpha else COLOUR

    @property
    def array(self) -> NDArray[np.uint8]:
        """The guest's pixels, to be written to: (height, width, 4), B G R and a fourth byte."""
        import numpy as np

        return np.frombuffer(self.pixels, np.uint8).reshape(self.height, self.width, 4)

    def words(self) -> tuple[memoryview, memoryview]:
        """The published pixels and the guest's, a number of 32 bits each."""
        assert self.shadow is not None
        return memoryview(self.shadow).cast("I"), memoryview(self.pixels).cast("I")

    def clip(self, x: int, y: int, width: int, height: int) -> Box | None:
        """The part of a rectangle that lies on the surface."""
        right, bottom = x + width, y + height
        if 0 <= x < right <= self.width and 0 <= y < bottom <= self.height:
            return (x, y, right, bottom)
        return intersect((x, y, right, bottom), self.whole)

    def changed(self, box: Box | None) -> None:
        """The guest may have changed something in the box."""
        if box is None:
            return
        self.look(box)
        if self.dirty is not None:
            rows = strip_rows(self.width)
            self.dirty.update(range(box[1] // rows, -(-box[3] // rows)))

    def look(self, box: Box) -> None:
        """Compare the box when the next frame is published, if somebody looks."""
        if self.shadow is not None:
            self.damage = add(self.damage, box) if self.damage else [box]

    @property
    def strips(self) -> int:
        """How many strips of rows it has (`strip_rows`)."""
        return -(-self.height // strip_rows(self.width))

    def strip(self, number: int) -> Box:
        """A strip of rows."""
        rows = strip_rows(self.width)
        return (0, rows * number, self.width, min(rows * (number + 1), self.height))

    def show(self, copy: bytearray | None = None) -> None:
        """Somebody looks: everything is published as it is; ``copy``: of all pixels, if known."""
        self.shadow = bytearray(self.pixels) if copy is None else copy
        self.damage = []
        self.fresh = False

    def hide(self) -> None:
        """Nobody looks any more."""
        self.shadow = None
        self.damage = []

    def tight(self, box: Box) -> bytearray:
        """A copy of the published pixels of a box, rows with nothing between them."""
        assert self.shadow is not None
        width, height = box[2] - box[0], box[3] - box[1]
        pixels = bytearray(4 * width * height)
        whole = (0, 0, width, height)
        copy_rows(pixels, width, whole, self.shadow, self.width, box[0], box[1])
        return pixels

    def accept(self, box: Box) -> None:
        """Publish the guest's pixels in a box."""
        assert self.shadow is not None
        copy_rows(self.shadow, self.width, box, self.pixels, self.width, box[0], box[1])


def copy_rows(
    target: bytearray, width: int, box: Box, source: bytearray, source_width: int, x: int, y: int
) -> None:
    """Copy pixels into a box from ``x``, ``y`` on; both may be the same buffer."""
    stride, source_stride = 4 * width, 4 * source_width
    at = stride * box[1] + 4 * box[0]
    begin = source_stride * y + 4 * x
    height = box[3] - box[1]
    if target is source and at > begin:
        at += (height - 1) * stride
        begin += (height - 1) * source_stride
        stride, source_stride = -stride, -source_stride
    rows.copy(target, at, stride, 4 * (box[2] - box[0]), height, source, begin, source_stride)


def fill_rows(target: bytearray, width: int, box: Box, colour: int) -> None:
    """Fill a box with a colour."""
    line = colour.to_bytes(4, "little") * (box[2] - box[0])
    at = 4 * (width * box[1] + box[0])
    rows.copy(target, at, 4 * width, len(line), box[3] - box[1], line, 0, 0)


def strip_rows(width: int) -> int:
    """Rows of a strip, in which surfaces are told to another server: 256 KiB, or one row."""
    return max(1, STRIP_PIXELS // width)


def strips(box: Box, most: int = STRIP_PIXELS) -> Iterator[Box]:
    """Cut a box into pieces of at most ``most`` pixels, whole rows where that can be."""
    left, top, right, bottom = box
    across = min(right - left, most)
    down = max(1, most // across)
    for y in range(top, bottom, down):
        for x in range(left, right, across):
            yield (x, y, min(x + across, right), min(y + down, bottom))


def check_surface(width: int, height: int) -> None:
    """Refuse a surface that clients could not take, by `LocalError`."""
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE) or width * height > MAX_PIXELS:
        raise LocalError(
            f"a surface of {width}x{height}: sides are 1 to {MAX_SIDE} pixels, at most "
            f"{MAX_PIXELS} pixels together"
        )
