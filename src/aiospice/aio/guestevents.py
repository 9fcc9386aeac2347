"""Events on their way from a server's core to the guest and the user, a little at a time.

A client may send keys and motion faster than a guest can take them. Events therefore wait here; a
turn of the shell delivers them for `SLICE_SECONDS` and then lets sockets have theirs. Who brings
more while `EVENT_LIMIT` wait isn't read until they have become fewer. What keyboards and mice do
stays in order, and so does all else, which never waits behind it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from aiospice.channels.server.inputs import (
    ButtonChanged,
    KeyChanged,
    LocksRequested,
    MouseMoved,
    PointerPlaced,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiospice.channels.events import Event

__all__ = ["EVENT_LIMIT", "SLICE_SECONDS", "GuestEvents"]

#: Seconds that one turn spends on events.
SLICE_SECONDS = 0.002
#: Events that wait before those who bring them aren't read.
EVENT_LIMIT = 256
#: Events that wait before motion is added up.
_MANY = 32
_INPUT = (KeyChanged, ButtonChanged, PointerPlaced, MouseMoved, LocksRequested)


class GuestEvents:
    """Events that wait, oldest first; ``tell`` delivers one."""

    def __init__(self, tell: Callable[[Event], None], clock: Callable[[], float]) -> None:
        self._tell = tell
        self._clock = clock
        self._input: deque[Event] = deque()
        self._other: deque[Event] = deque()

    def __len__(self) -> int:
        return len(self._input) + len(self._other)

    @property
    def few(self) -> bool:
        """So few wait that everybody can be read again."""
        return len(self) <= EVENT_LIMIT // 4

    def put(self, events: Iterable[Event]) -> None:
        """Add events. Where many wait, motion after motion becomes one motion."""
        queue = self._input
        for event in events:
            if not isinstance(event, _INPUT):
                self._other.append(event)
                continue
            if len(queue) >= _MANY:
                merged = _merged(queue[-1], event)
                if merged is not None:
                    queue[-1] = merged
                    continue
            queue.append(event)

    def deliver(self) -> None:
        """Deliver what waits, as far as the slice of time goes; one of each kind at least."""
        until = self._clock() + SLICE_SECONDS
        for queue in (self._other, self._input):
            while queue:
                self._tell(queue.popleft())
                if self._clock() >= until:
                    break


def _merged(first: Event, second: Event) -> Event | None:
    """Two motions of the pointer with the same buttons as one."""
    if isinstance(first, MouseMoved) and isinstance(second, MouseMoved):
        if first.buttons == second.buttons:
            return second.replace(dx=first.dx + second.dx, dy=first.dy + second.dy)
    elif isinstance(first, PointerPlaced) and isinstance(second, PointerPlaced):
        same = (first.display, first.buttons) == (second.display, second.buttons)
        return second if same else None
    return None
