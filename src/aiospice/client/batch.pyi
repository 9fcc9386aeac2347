from collections.abc import Callable, Mapping

from aiospice.canvas.pixels import Pixels
from aiospice.client.images import ImageReader

COMPILED: bool
STOP: int

class Changes:
    at: int
    count: int
    draws: int
    pixels: int
    @property
    def box(self) -> tuple[int, int, int, int] | None: ...

def run(
    data: bytes | bytearray | memoryview,
    at: int,
    end: int,
    surfaces: Mapping[int, Pixels],
    primary: int | None,
    reader: ImageReader,
    slow: Callable[[int, bytes], int],
) -> Changes: ...
