Bytes = bytes | bytearray | memoryview

def fits(length: int, at: int, step: int, size: int, rows: int) -> bool: ...
def copy(
    target: Bytes,
    at: int,
    stride: int,
    size: int,
    height: int,
    source: Bytes,
    begin: int,
    source_stride: int,
) -> None: ...
def repeat(
    target: Bytes,
    at: int,
    stride: int,
    size: int,
    height: int,
    source: Bytes,
    begin: int,
    source_stride: int,
    width: int,
    source_height: int,
    skip: int,
    row: int,
) -> None: ...
def mix(
    target: Bytes,
    at: int,
    stride: int,
    size: int,
    height: int,
    source: Bytes,
    begin: int,
    source_stride: int,
    form: tuple[int, int, int, int],
) -> None: ...
def mix3(
    target: Bytes,
    at: int,
    stride: int,
    size: int,
    height: int,
    source: Bytes,
    begin: int,
    source_stride: int,
    ink: Bytes,
    ink_at: int,
    ink_stride: int,
    form: bytes,
) -> None: ...
