"""An endless stream in which each byte tells where it belongs, and who follows it at its end."""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass, field

__all__ = ["LONGEST", "Follower", "stream"]

#: Bytes that the stream has at most.
LONGEST = 4 << 20
#: So many bytes tell where they belong.
SURE = 15
_made: list[bytes] = []


def stream(begin: int, size: int) -> bytes:
    """Bytes ``begin`` to ``begin + size``: numbers of eight bytes, the first byte first."""
    if not _made:
        words = array("Q", range(LONGEST // 8))
        if sys.byteorder == "little":
            words.byteswap()
        _made.append(words.tobytes())
    return _made[0][begin : begin + size]


@dataclass(slots=True)
class Follower:
    """Where a reader of a stream is, what it has missed, and what was wrong. Plain data."""

    at: int = 0
    #: Places from which something was missing, and how much.
    gaps: list[tuple[int, int]] = field(default_factory=list)
    #: What came behind a gap, too little to tell where it belongs.
    short: bytes = b""

    @property
    def missed(self) -> int:
        """Bytes that haven't come though later ones have."""
        return sum(size for _, size in self.gaps)

    def take(self, data: bytes) -> str:
        """The next bytes; gives what is wrong with them, "" if nothing or only a gap before."""
        data, self.short = self.short + data, b""
        if data == stream(self.at, len(data)):
            self.at += len(data)
            return ""
        same = _common(data, stream(self.at, len(data)))
        self.at += same
        data = data[same:]
        found = _place(data)
        if found is None and len(data) < SURE:
            self.short = data
            return ""
        if found is None:
            return f"{len(data)} bytes that aren't of the stream, where byte {self.at} should be"
        if found < self.at:
            return f"bytes {found} to {found + len(data)} again, where byte {self.at} should be"
        self.gaps.append((self.at, found - self.at))
        self.at = found + len(data)
        return ""


def _common(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _place(data: bytes) -> int | None:
    """Where bytes belong, None if nowhere; a few bytes alone can't tell."""
    for skipped in range(min(8, len(data) - 7)):
        place = int.from_bytes(data[skipped : skipped + 8], "big") * 8 - skipped
        if 0 <= place < LONGEST and data == stream(place, len(data)):
            return place
    return None
