"""Chance that a seed decides: the same numbers on every machine, in every version of Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar
from zlib import crc32

__all__ = ["Chance"]

T = TypeVar("T")
_MASK = (1 << 64) - 1


class Chance:
    """A stream of numbers (splitmix64). Plain data.

    `fork` gives a stream of its own for each thing that needs one, so that what one thing draws
    doesn't change what others do: a scenario with an event less stays the same otherwise.
    """

    __slots__ = ("_state", "seed")

    def __init__(self, seed: int) -> None:
        self.seed = seed & _MASK
        self._state = self.seed

    def fork(self, name: str) -> Chance:
        """The stream of that name, whatever has been drawn from this one."""
        mixed = Chance(self.seed ^ (crc32(name.encode()) * 0x9E3779B97F4A7C15))
        return Chance(mixed.word())

    def word(self) -> int:
        """64 bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, limit: int) -> int:
        """0 to ``limit`` - 1."""
        return (self.word() * limit) >> 64

    def between(self, low: float, high: float) -> float:
        """A number from ``low`` to ``high``."""
        return low + (high - low) * (self.word() / (1 << 64))

    def yes(self, share: float) -> bool:
        """True so often, 0 to 1."""
        return self.word() < share * (1 << 64)

    def pick(self, things: Sequence[T]) -> T:
        """One of them."""
        return things[self.below(len(things))]

    def bytes(self, count: int) -> bytes:
        """So many bytes."""
        words = (self.word().to_bytes(8, "little") for _ in range((count + 7) // 8))
        return b"".join(words)[:count]
