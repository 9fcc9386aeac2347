"""A guest stands still, or its clients are on their way: what can wait in this process, waits.

That is keys made ahead and the search for garbage, each worth milliseconds. It lasts for
`CALM_SECONDS` at most, so that nothing waits for long where a move takes its time.
"""

from __future__ import annotations

import asyncio
import gc
import time

__all__ = ["CALM", "CALM_SECONDS", "Calm"]

#: How long anything waits at most for one move.
CALM_SECONDS = 0.25


class Calm:
    """Who has asked for it. All servers of a process share `CALM`."""

    def __init__(self, seconds: float = CALM_SECONDS) -> None:
        self._seconds = seconds
        self._asked: dict[object, asyncio.TimerHandle] = {}
        self._collects = False
        self._ended = -float("inf")

    def __bool__(self) -> bool:
        """Whether things are to wait."""
        return bool(self._asked)

    def since(self) -> float:
        """For how many seconds nothing had to wait. Any thread may ask."""
        return 0.0 if self._asked else time.monotonic() - self._ended

    def begin(self, who: object) -> None:
        """Let things wait from now on, until `end`; asked again, for as long once more."""
        if not self._asked:
            self._collects = gc.isenabled()
            gc.disable()
        before = self._asked.get(who)
        if before is not None:
            before.cancel()
        loop = asyncio.get_running_loop()
        self._asked[who] = loop.call_later(self._seconds, self.end, who)

    def end(self, who: object) -> None:
        """It is done; nothing happens to who hasn't begun."""
        timer = self._asked.pop(who, None)
        if timer is None:
            return
        timer.cancel()
        if self._asked:
            return
        self._ended = time.monotonic()
        if self._collects:
            gc.enable()


CALM = Calm()
