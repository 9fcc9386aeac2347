"""The operator where the servers hand guests over themselves, by the link between them.

He orders a move, may call it off, and decides where nobody knows who has the guest. He looks at the
servers: what he decides is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.errors import StateError
from aiospice.migration.link_source import ASK_SECONDS, READY_SECONDS, RUN_SECONDS, SourceLinkPhase
from aiospice.migration.peer import Expected, Propose
from aiospice.sim.linksource import CONNECT_SECONDS, SourceEnd
from aiospice.sim.linktarget import TargetEnd
from aiospice.sim.operator import Operator

if TYPE_CHECKING:
    from aiospice.sim.world import World

__all__ = ["LinkOperator"]

#: The guest may be nowhere for so long until it runs, or the operator is told.
NOWHERE_SECONDS = READY_SECONDS + RUN_SECONDS + ASK_SECONDS + CONNECT_SECONDS + 5.0
#: How long he waits for sessions that are still arriving where the guest is to leave.
ARRIVE_SECONDS = 30.0
#: Seconds that a move with clients that have time for themselves gets, at the least.
LEAST_PATIENCE = 0.01


class LinkOperator(Operator):
    """Has servers hand guests over themselves."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.leave: SourceEnd | None = None
        self._since = self._stood_at = 0.0
        self._nowhere: float | None = None
        self._decided = ""

    def start(self) -> None:
        """Begin with the next move, some time from now."""
        super().start()
        if not self.done:
            self._decided = ""
            self._since = self.clock.now + self.move.gap

    def _over(self, what: str) -> None:
        super()._over(what)
        self.leave = None
        self.start()

    def _begin(self) -> None:
        here, there, clock = self.here, self.there, self.clock
        if here.dead or there.dead:
            self._over("can't: a server is dead")
        elif here.stopped or self.world.busy(here):
            self._later(self._begin)
        elif not here.has_guest or not here.owns:
            self._over("can't: the guest isn't here")
        elif here.core.target.arrivals:
            if clock.now - self._since > ARRIVE_SECONDS:
                self._over("can't: sessions are still arriving")
            else:
                self._later(self._begin)
        else:
            core = here.core
            proposal = Propose(
                migration=f"{self.world.scenario.seed}.{self.place}",
                policy=self.world.scenario.policy,
                guest=here.guest.name,
                clients=tuple(Expected(each.id, each.ticket) for each in core.sessions.values()),
                devices=tuple((*device.key, device.name) for device in core.devices.values()),
                displays=tuple(sorted(core.machine.displays)),
            )
            self.note(f"moves the guest from {here.name} to {there.name}")
            self.step = "moving"
            patience = max(self.move.patience, LEAST_PATIENCE)
            self.leave = SourceEnd(here, there, proposal, patience, self.reached)
            self._watch()

    def reached(self, anchor: str) -> None:
        """The move is so far."""
        now = self.clock.now
        if anchor == "freeze":
            self._stood_at = now
        elif anchor == "thaw":
            self.downtimes.append(now - self._stood_at)
        elif anchor == "complete":
            self.completed_at.append(now)
            if self.leave is not None:
                self.sizes.append(self.leave.link.early_bytes + self.leave.link.late_bytes)
        self.world.reached(anchor)

    # -- while it moves ----------------------------------------------------------------------------

    def _watch(self) -> None:
        leave = self.leave
        assert leave is not None
        self._somewhere()
        if self.here.dead:
            self._orphaned()
        elif leave.done:
            self._moved(self._decided or "moved") if leave.completed else self._over("cancelled")
        else:
            if not self.here.stopped:
                self._act(leave)
            self._later(self._watch)

    def _act(self, leave: SourceEnd) -> None:
        if self.cancelled:
            self.cancelled = False
            try:
                leave.link.cancel("it was called off")
            except StateError as error:
                self.note(str(error))
            leave.poke()
        elif leave.link.phase is SourceLinkPhase.UNCERTAIN and not self.there.stopped:
            self._decide(leave)

    def _decide(self, leave: SourceEnd) -> None:
        """Nobody knows who has the guest, but who looks."""
        if self.there.owns:
            self.note("the target has the guest")
            leave.link.discard(self.clock.now)
            self._decided = "moved, an operator said so"
        elif self.there.dead or not self._coming():
            self.note("the target doesn't have the guest")
            leave.link.resume()
        leave.poke()

    def _coming(self) -> bool:
        """The target may yet take the guest."""
        ends = [each for each in self.there.links if isinstance(each, TargetEnd)]
        return not self.there.dead and any(not each.link.over for each in ends)

    def _orphaned(self) -> None:
        """The source is dead."""
        if self.there.owns:
            self._moved("the source is dead, the guest runs at the target")
        elif self._coming():
            self._later(self._watch)
        else:
            self._over("the source is dead")

    def _moved(self, what: str) -> None:
        self.here, self.there = self.there, self.here
        self._over(what)

    def _somewhere(self) -> None:
        """The guest runs, or the operator has been told, or somebody isn't as he should be."""
        world, leave = self.world, self.leave
        servers = world.servers.values()
        told = leave is not None and leave.link.phase is SourceLinkPhase.UNCERTAIN
        if told or any(each.owns or each.away for each in servers):
            self._nowhere = None
        elif self._nowhere is None:
            self._nowhere = self.clock.now
        elif self.clock.now - self._nowhere > NOWHERE_SECONDS:
            world.wrong("the guest runs nowhere, and nobody is told")
