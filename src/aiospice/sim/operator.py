"""Whoever makes the moves of a scenario: what is the same however guests are moved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiospice.sim.peerline import PeerLine
    from aiospice.sim.process import ServerProcess
    from aiospice.sim.scenario import Move
    from aiospice.sim.world import World

__all__ = ["LOOK", "LULL_LOOK", "Operator"]

#: How often it looks how far something is, in seconds; and while nothing happens.
LOOK, LULL_LOOK = 0.005, 0.05


class Operator(ABC):
    """Makes the moves of a scenario, one after the other."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = world.clock
        self.place = -1
        self.here: ServerProcess = world.servers[world.scenario.names[0]]
        self.there: ServerProcess = world.servers[world.scenario.names[1]]
        self.done = False
        #: Of the move that is under way.
        self.step = "idle"
        self.cancelled = False
        #: Of a line that it has made between the servers itself.
        self.link: PeerLine | None = None
        #: When the guest stood still and ran again, and how many bytes went with it.
        self.downtimes: list[float] = []
        self.sizes: list[int] = []
        self.completed_at: list[float] = []
        #: How each move went.
        self.ends: list[str] = []

    @property
    def move(self) -> Move:
        """The move that is under way."""
        return self.world.scenario.moves[self.place]

    def note(self, what: str) -> None:
        """Put a line into the trace."""
        self.world.trace.add(self.clock.now, "operator", what)

    def start(self) -> None:
        """Begin with the next move, some time from now."""
        if self.place + 1 >= len(self.world.scenario.moves):
            self.done = True
            return
        self.place += 1
        self.step, self.cancelled = "idle", False
        self.clock.after(self.move.gap, self._begin)

    @abstractmethod
    def _begin(self) -> None:
        """Begin with the move, or look again later."""

    def _over(self, what: str) -> None:
        """The move has come to an end."""
        self.note(what)
        self.ends.append(what.partition(":")[0])
        self.step = "idle"

    @property
    def _look(self) -> float:
        """Seconds until it looks again."""
        return LULL_LOOK if self.world.lull else LOOK

    def _later(self, call: Any) -> None:
        self.clock.after(self._look, call)
