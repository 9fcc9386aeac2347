"""The link between the two servers, for one move: what they tell each other, in order."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from aiospice.sim.lines import DEAD_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiospice.sim.process import ServerProcess
    from aiospice.sim.world import World

__all__ = ["PeerLine"]

#: How long messages wait in a process that stands still until it is looked at again, in seconds.
AGAIN = 0.05


class PeerLine:
    """See the module's text. It runs on the line of both servers, and breaks with it."""

    def __init__(self, world: World, source: ServerProcess, target: ServerProcess) -> None:
        self.world = world
        self.ends = (source, target)
        self.line = world.net.between(source.name, target.name)
        self.up = False
        self.bytes = 0
        self._last = {source.name: 0.0, target.name: 0.0}
        self._waiting: dict[str, list[bytes]] = {source.name: [], target.name: []}

    def start(self, number: int) -> None:
        """Both learn of it, with a key that only they know."""
        self.up = True
        name = f"{self.world.scenario.seed}.{number}"
        key = self.world.chance.fork(f"move {name}").bytes(32)
        for role, end in zip(("source", "target"), self.ends, strict=True):
            end.core.peer_link(True, key, role, self.world.clock.now, name)
            end.peer = self

    def collect(self, server: ServerProcess) -> None:
        """Send what a server has for the other one."""
        out = server.core.peer_out
        while out:
            data = pickle.dumps(out.pop(0))
            if not self.up or self.line.dead:
                continue
            self.bytes += len(data)
            clock = self.world.clock
            there = server is self.ends[0]
            at = max(self._last[server.name], self.line.arrival(clock.now, len(data), there=there))
            self._last[server.name] = at
            other = self.ends[1] if there else self.ends[0]
            clock.at(at, self._arrives, other, data)

    def _arrives(self, server: ServerProcess, data: bytes) -> None:
        if not self.up or self.line.dead or server.dead:
            return
        waiting = self._waiting[server.name]
        waiting.append(data)
        if len(waiting) == 1:
            self._deliver(server)

    def _deliver(self, server: ServerProcess) -> None:
        if server.stopped:
            self.world.clock.after(AGAIN, self._deliver, server)
            return
        waiting = self._waiting[server.name]
        while waiting and self.up and not server.dead:
            message = pickle.loads(waiting.pop(0))
            server.note(f"<- peer {type(message).__name__} {getattr(message, 'client', '')}")
            server.core.peer_in(message, self.world.clock.now)
            server.turn()

    # -- its end -----------------------------------------------------------------------------------

    def lost(self) -> None:
        """It breaks: both are told, as soon as they listen."""
        if self.up:
            self.up = False
            for role, end in zip(("source", "target"), self.ends, strict=True):
                self._tell(role, end)

    def _tell(self, role: str, server: ServerProcess) -> None:
        if server.dead or server.peer is not self:
            return
        if server.stopped:
            self.world.clock.after(AGAIN, self._tell, role, server)
            return
        server.note("the link to the other server is lost")
        server.core.peer_link(False, None, role, self.world.clock.now)
        server.turn()

    def dies(self) -> None:
        """Its line is dead, or one of its ends: that is noticed in time."""
        self.world.clock.after(DEAD_SECONDS if self.line.dead else 0.0, self.lost)

    def over(self, then: Callable[[], None]) -> None:
        """The move is over: the source hangs up, and what it has sent still arrives."""
        source, target = self.ends
        clock = self.world.clock
        if not source.dead and source.peer is self:
            self.collect(source)
            source.peer = None
            source.core.peer_unlink(clock.now)
        at = clock.now if self.line.dead or not self.up else self._last[source.name]
        clock.at(at, self._hung_up, target, then)

    def _hung_up(self, target: ServerProcess, then: Callable[[], None]) -> None:
        unread = self.up and bool(self._waiting[target.name])
        if (target.stopped or unread) and not target.dead:
            self.world.clock.after(AGAIN, self._hung_up, target, then)
            return
        self.up = False
        self.world.on_link_over(self)
        if not target.dead and target.peer is self:
            target.peer = None
            target.core.peer_unlink(self.world.clock.now)
        then()
