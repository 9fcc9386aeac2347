"""Types of the kernel, for callers."""

Words = memoryview

def count_steps(
    pixels: Words, width: int, left: int, top: int, right: int, bottom: int, every: int
) -> tuple[int, int, int]: ...
def hash_rows(
    pixels: Words, width: int, left: int, top: int, right: int, bottom: int, mask: int
) -> int: ...
def grab(
    pixels: Words,
    shadow: Words | None,
    width: int,
    left: int,
    top: int,
    right: int,
    bottom: int,
    mask: int,
) -> tuple[bytes, int, int]: ...
