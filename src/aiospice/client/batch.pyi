from collections.abc import Callable, Mapping

from aiospice.canvas.pixels import Pixels

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
    data: bytes,
    surfaces: Mapping[int, Pixels],
    primary: int | None,
    slow: Callable[[int, bytes], int],
) -> Changes: ...
