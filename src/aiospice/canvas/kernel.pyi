Bytes = bytes | bytearray | memoryview

def stamp(
    target: Bytes,
    at: int,
    stride: int,
    width: int,
    height: int,
    source: Bytes,
    begin: int,
    source_stride: int,
    first: int,
    depth: int,
) -> None: ...
def key(
    target: Bytes,
    at: int,
    stride: int,
    width: int,
    height: int,
    source: Bytes,
    begin: int,
    source_stride: int,
    size: int,
    colour: int,
) -> None: ...
def nearest(
    target: Bytes,
    at: int,
    count: int,
    source: Bytes,
    begin: int,
    size: int,
    width: int,
    start: int,
    step: int,
) -> None: ...
def smooth(
    target: Bytes,
    at: int,
    count: int,
    source: Bytes,
    rows: tuple[int, int],
    size: int,
    width: int,
    start: int,
    step: int,
    down: int,
) -> None: ...
def blend(
    target: Bytes,
    at: int,
    stride: int,
    width: int,
    height: int,
    source: Bytes,
    begin: int,
    source_stride: int,
    mask: Bytes,
    mask_at: int,
    mask_stride: int,
    size: int,
    flip: int,
) -> None: ...
