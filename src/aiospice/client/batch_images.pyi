from array import array
from collections.abc import Mapping

from aiospice.canvas.pixels import Pixels
from aiospice.client.images import ImageReader

Buffer = bytes | bytearray | memoryview

NAMES: tuple[str, ...]

def image_rows(
    data: bytes | bytearray | memoryview,
    view: Buffer,
    image: int,
    left: int,
    job: array[int],
    place: array[int],
    tally: array[int],
    reader: ImageReader,
    surfaces: Mapping[int, Pixels],
    target: Pixels,
) -> Buffer | None: ...
