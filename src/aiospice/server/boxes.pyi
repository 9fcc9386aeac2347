"""Types of the kernel, for callers."""

from typing import Final

MAX_RECTANGLES: Final[int]

Box = tuple[int, int, int, int]

def rectangles(grid: bytes | bytearray, columns: int) -> list[Box]: ...
def largest(grid: bytes | bytearray, columns: int) -> Box: ...
