"""Cuts the bytes of one direction of a connection into messages."""

from __future__ import annotations

from struct import Struct

from aiospice.errors import DecodeError
from aiospice.wire.channels import CHANNEL_LIMITS
from aiospice.wire.header import FULL, MINI

__all__ = ["Frame", "Framing"]

_DEFAULT_LIMIT = 1 << 20

#: (number, serial from the header or 0, offset of the sub-message list or 0, body)
Frame = tuple[int, int, int, bytes]


class Framing:
    """The receive buffer of a connection: bytes go in, whole messages come out.

    A message's size is checked against the channel's limit (`CHANNEL_LIMITS`) as soon as its
    header is there, and memory grows only with bytes that have really come.
    """

    def __init__(self, channel_type: int, mini: bool, data: bytes = b"") -> None:
        self.mini = mini
        self.limit = CHANNEL_LIMITS.get(channel_type, _DEFAULT_LIMIT)
        self.buffer = bytearray(data)
        self.start = 0

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take in what came from the socket."""
        if self.start:
            del self.buffer[: self.start]
            self.start = 0
        self.buffer += data

    @property
    def buffered(self) -> int:
        """Bytes that have come and aren't cut into messages yet."""
        return len(self.buffer) - self.start

    def next(self) -> Frame | None:
        """The next whole message, None if more bytes are needed; `DecodeError` if too large."""
        found = self._header(self.start)
        if found is None:
            return None
        number, serial, size, sub_list, start = found
        end = start + size
        if end > len(self.buffer):
            return None
        body = bytes(memoryview(self.buffer)[start:end])
        self.start = end
        if self.start == len(self.buffer):
            self.buffer.clear()
            self.start = 0
        return number, serial, sub_list, body

    def extract(self, numbers: tuple[int, ...]) -> Frame | None:
        """Take the first whole message with one of ``numbers`` out, leaving the others be."""
        at = self.start
        while True:
            found = self._header(at)
            if found is None:
                return None
            number, serial, size, sub_list, start = found
            if start + size > len(self.buffer):
                return None
            if number in numbers:
                body = bytes(memoryview(self.buffer)[start : start + size])
                del self.buffer[at : start + size]
                return number, serial, sub_list, body
            at = start + size

    def _header(self, at: int) -> tuple[int, int, int, int, int] | None:
        header: Struct = MINI if self.mini else FULL
        if at + header.size > len(self.buffer):
            return None
        if self.mini:
            number, size = MINI.unpack_from(self.buffer, at)
            serial = sub_list = 0
        else:
            serial, number, size, sub_list = FULL.unpack_from(self.buffer, at)
        if size > self.limit:
            raise DecodeError(
                f"message {number} has {size} bytes, the limit of this channel is {self.limit}",
                field="size",
            )
        return number, serial, size, sub_list, at + header.size
