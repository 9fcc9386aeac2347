"""Types of the kernel, for callers."""

from typing import Final

TILE: Final[int]
ANCHOR: Final[int]
COLOUR: Final[int]
ALL: Final[int]

Words = memoryview
Marks = bytes | bytearray

def mark(
    old: Words,
    new: Words,
    width: int,
    left: int,
    top: int,
    right: int,
    bottom: int,
    mask: int,
    grid: bytearray,
) -> int: ...
def tighten(
    old: Words,
    new: Words,
    width: int,
    left: int,
    top: int,
    right: int,
    bottom: int,
    mask: int,
) -> tuple[int, int, int, int] | None: ...
def solid(
    pixels: Words, width: int, left: int, top: int, right: int, bottom: int, mask: int
) -> int: ...
def trace(
    old: Words,
    new: Words,
    width: int,
    left: int,
    top: int,
    right: int,
    bottom: int,
    mask: int,
    places: memoryview,
    hits: memoryview,
    slots: memoryview,
) -> tuple[int, int]: ...
def moved(
    old: Words,
    new: Words,
    width: int,
    left: int,
    top: int,
    right: int,
    bottom: int,
    dx: int,
    dy: int,
    mask: int,
    grid: bytearray,
) -> None: ...
def sample(
    old: Words,
    new: Words,
    width: int,
    left: int,
    top: int,
    right: int,
    bottom: int,
    dx: int,
    dy: int,
    mask: int,
    times: int,
) -> bool: ...
def drag(
    old: Words,
    new: Words,
    width: int,
    left: int,
    top: int,
    right: int,
    bottom: int,
    dx: int,
    dy: int,
    mask: int,
    grid: bytearray,
) -> None: ...
def warm(warmth: memoryview, grid: Marks, amount: int) -> None: ...
def age(warmth: memoryview, times: int) -> None: ...
