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
    header is there, and memory grows only with bytes that have really come. What comes isn't
    copied where that can be helped: only the message that one read ends in, and the next begins
    with, is put together.
    """

    def __init__(self, channel_type: int, mini: bool, data: bytes = b"") -> None:
        self.mini = mini
        self.limit = CHANNEL_LIMITS.get(channel_type, _DEFAULT_LIMIT)
        #: What is looked at, from ``start`` on. Whoever is given a bytearray keeps it.
        self.buffer: bytes | bytearray | memoryview = data
        self.start = 0
        # What follows the buffer, from a place on.
        self._later = b""
        self._later_start = 0

    def lend(self, view: memoryview) -> None:
        """Take in what came, as long as it lies there; only when all before it is `drained`."""
        self.buffer, self.start = view, 0

    def give_back(self, most: int) -> int:
        """Let go of what was lent: how many bytes of its end belong to a message that isn't whole.

        A message of ``most`` bytes or more is kept here instead, and all of it if ``most`` is 0.
        """
        if not isinstance(self.buffer, memoryview):
            return 0
        left = len(self.buffer) - self.start
        if left + self._missing() < most:
            self.buffer, self.start = b"", 0
            return left
        self._own()
        return 0

    def give_back_torso(self, most: int) -> int:
        """`give_back`, if nothing is left but a part of a message that goes back; -1 if not."""
        left = len(self.buffer) - self.start
        if left >= (MINI if self.mini else FULL).size:
            missing = self._missing()
            if missing <= 0 or left + missing >= most:
                return -1
        self.buffer, self.start = b"", 0
        return left

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take in what came from the socket."""
        if self._later:
            self._join()
        elif self.start == len(self.buffer):
            self.buffer, self.start = bytes(data), 0
            return
        missing = self._missing()
        own = self._own()
        if 0 < missing < len(data):
            own += memoryview(data)[:missing]
            if isinstance(data, bytes):
                self._later, self._later_start = data, missing
            else:
                self._later, self._later_start = bytes(memoryview(data)[missing:]), 0
        else:
            own += data

    def _own(self) -> bytearray:
        """The buffer, beginning with what hasn't been taken, as one that can grow."""
        if isinstance(self.buffer, bytearray):
            del self.buffer[: self.start]
            own = self.buffer
        else:
            own = bytearray(memoryview(self.buffer)[self.start :])
        self.buffer, self.start = own, 0
        return own

    def _join(self) -> None:
        """Put everything into one buffer."""
        own = self._own()
        own += memoryview(self._later)[self._later_start :]
        self._later, self._later_start = b"", 0

    def _missing(self) -> int:
        """Bytes that the first message lacks; 0 or less if it is whole, or nobody knows."""
        at, left = self.start, len(self.buffer) - self.start
        header, place = (MINI, 1) if self.mini else (FULL, 2)
        if left < header.size:
            return 0
        size: int = header.unpack_from(self.buffer, at)[place]
        return header.size + size - left

    def taken(self, end: int) -> None:
        """All before ``end`` is done with."""
        if end < len(self.buffer):
            self.start = end
        else:
            self.buffer, self.start = self._later, self._later_start
            self._later, self._later_start = b"", 0

    @property
    def drained(self) -> bool:
        """Nothing has come that isn't cut into messages yet."""
        return self.start == len(self.buffer) and not self._later

    @property
    def buffered(self) -> int:
        """Bytes that have come and aren't cut into messages yet."""
        return len(self.buffer) - self.start + len(self._later) - self._later_start

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
        self.taken(end)
        return number, serial, sub_list, body

    def extract(self, numbers: tuple[int, ...]) -> Frame | None:
        """Take the first whole message with one of ``numbers`` out, leaving the others be."""
        self._join()
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
                del self._own()[at : start + size]
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
