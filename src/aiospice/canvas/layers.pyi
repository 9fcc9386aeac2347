Bytes = bytes | bytearray | memoryview

SRC: int
OVER: int
ADD: int
PIECE: int

#: Buffer, place, stride, bytes a pixel, whether there is alpha, whether one pixel stands for all.
Layer = tuple[Bytes, int, int, int, bool, bool]

def lay(
    operator: int,
    width: int,
    height: int,
    target: Layer,
    source: Layer,
    mask: Layer | None,
    each: bool,
) -> None: ...
