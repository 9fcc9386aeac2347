"""Virtual time, and the trace of what happens in it."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any

__all__ = ["Clock", "Trace"]

#: Where time begins; no core may rely on it.
EPOCH = 1000.0


class Trace:
    """One line an event. Its hash is always there, the lines only where they are ``kept``."""

    def __init__(self, kept: bool = False) -> None:
        self.kept = kept
        self.lines: list[str] = []
        self.count = 0
        self._hash = blake2b(digest_size=16)
        self._fresh: list[str] = []

    def add(self, now: float, who: str, what: str) -> None:
        """Something has happened."""
        line = f"{now - EPOCH:12.6f}  {who:<14} {what}"
        self.count += 1
        self._fresh.append(line)
        if self.kept:
            self.lines.append(line)
        if len(self._fresh) >= 1000:
            self._hash_them()

    def _hash_them(self) -> None:
        self._hash.update("".join(self._fresh).encode())
        self._fresh.clear()

    def digest(self) -> str:
        """Of all lines so far."""
        self._hash_them()
        return self._hash.hexdigest()


class Clock:
    """Calls that are due, in order of time, and of being asked for."""

    def __init__(self) -> None:
        self.now = EPOCH
        self._order = 0
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, when: float, call: Callable[..., None], *args: Any) -> None:
        """Have something called at a time; now, if that has passed."""
        self._order += 1
        heappush(self._due, (max(when, self.now), self._order, call, args))

    def after(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        """Have something called some time from now."""
        self.at(self.now + seconds, call, *args)

    def step(self, until: float) -> bool:
        """Do what is due next, by ``until``; False, and it is ``until``, if nothing is."""
        if not self._due or self._due[0][0] > until:
            self.now = max(self.now, until)
            return False
        self.now, _, call, args = heappop(self._due)
        call(*args)
        return True
