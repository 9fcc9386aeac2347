"""Bounded reading and writing of message bodies."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from aiospice.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RECORDS", "Reader", "Writer"]

_U32 = Struct("<I")
#: How many structures the arrays of one body may hold together. An object is many times larger
#: than its bytes, so the size of the body alone would not bound the memory.
RECORDS = 1 << 18


class Reader:
    """Bounded access to one message body."""

    __slots__ = ("budget", "data", "end", "pos", "records", "strict")

    def __init__(self, data: bytes | bytearray | memoryview, *, strict: bool = False) -> None:
        self.data = data
        self.pos = 0
        self.end = len(data)
        self.strict = strict
        #: Bytes that may still be read in total; overlapping blocks run out of it.
        self.budget = 2 * self.end + 64
        #: Structures that arrays may still hold.
        self.records = RECORDS

    def skip(self, size: int) -> int:
        """Claim ``size`` bytes and return where they start; `DecodeError` when there aren't."""
        start = self.pos
        if size > self.end - start:
            raise DecodeError(f"needs {size} bytes, {self.end - start} are left", offset=start)
        self.budget -= size
        if self.budget < 0:
            raise DecodeError("the same bytes are pointed to again and again", offset=start)
        self.pos = start + size
        return start

    def claim(self, count: int, least: int) -> None:
        """Make sure that ``count`` structures of at least ``least`` bytes can follow."""
        if count * least > self.end - self.pos:
            raise DecodeError(
                f"{count} elements of {least} bytes don't fit into the rest", offset=self.pos
            )
        self.records -= count
        if self.records < 0:
            raise DecodeError(f"more than {RECORDS} structures in one body", offset=self.pos)

    def take(self, size: int) -> bytes:
        """Copy ``size`` bytes."""
        start = self.skip(size)
        return bytes(self.data[start : start + size])

    def number(self, struct: Struct) -> int:
        """Read one number."""
        value: int = struct.unpack_from(self.data, self.skip(struct.size))[0]
        return value

    def jump(self) -> int | None:
        """Read a pointer and go there: returns where to go on afterwards, None if it was 0."""
        start = self.pos
        target = self.number(_U32)
        if not target:
            return None
        back = self.pos
        if target > self.end:
            raise DecodeError(f"points to {target}, outside the {self.end} bytes", offset=start)
        self.pos = target
        return back


class Writer:
    """Collects a body; what pointers refer to is appended after the fixed parts."""

    __slots__ = ("buffer", "pending")

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.pending: list[tuple[int, Callable[[Writer], None]]] = []

    def defer(self, write: Callable[[Writer], None] | None) -> None:
        """Write a pointer now and what it refers to later; None makes it 0."""
        if write is not None:
            self.pending.append((len(self.buffer), write))
        self.buffer += b"\0\0\0\0"

    def finish(self) -> bytes:
        """Append what pointers refer to, first come first served, and return the body."""
        index = 0
        while index < len(self.pending):
            place, write = self.pending[index]
            _U32.pack_into(self.buffer, place, len(self.buffer))
            write(self)
            index += 1
        return bytes(self.buffer)
