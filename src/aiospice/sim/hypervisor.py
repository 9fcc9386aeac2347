"""The operator's side of a hand-over: orders both servers, carries the guest, calls it off.

It believes what servers tell it, and keeps one rule: the guest runs at one server, or stands still
on its way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.errors import AiospiceError
from aiospice.migration.source import ANSWER_SECONDS, LEAVE_SECONDS, Policy, SourcePhase
from aiospice.sim.operator import LOOK, Operator
from aiospice.sim.peerline import PeerLine

if TYPE_CHECKING:
    from aiospice.sim.world import World

__all__ = ["Hypervisor"]

#: How long it waits for a server that doesn't answer before it has the guest go on at the source.
CARRY_LIMIT = 20.0
#: A source may wait for answers, and then for clients to leave, so long in all.
LEFT_LIMIT = ANSWER_SECONDS + LEAVE_SECONDS + 5.0
#: How long the link stays up behind the last client that has left.
SETTLE_SECONDS = 15.0


class Hypervisor(Operator):
    """Carries guests itself, as a hypervisor does."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._since = self._stopped_at = 0.0
        self._looked = 0.0
        self._state: Any = None
        self._shown = b""

    def _over(self, what: str) -> None:
        super()._over(what)
        self._state = None
        link, self.link = self.link, None
        if link is None:
            self.start()
        else:
            link.over(self.start)

    @property
    def _cut_off(self) -> bool:
        """The guest's state would go by a link that brings nothing any more."""
        return self.link is not None and self.link.line.dead

    # -- before the guest leaves -------------------------------------------------------------------

    def _begin(self) -> None:
        here, there = self.here, self.there
        if here.dead or there.dead:
            self._over("can't: a server is dead")
        elif here.stopped or there.stopped or self.world.busy(here):
            self._later(self._begin)
        else:
            try:
                policy = Policy(self.world.scenario.policy)
                if policy.needs_link or self.world.scenario.link:
                    self.link = PeerLine(self.world, here, there)
                    self.link.start(self.place)
                for number in here.core.sessions:
                    there.core.expect_migration(number, now=self.clock.now)
                here.core.prepare_migration(there.name, 5900, policy=policy, now=self.clock.now)
            except AiospiceError as error:
                self._over(f"can't: {error}")
                return
            self.note(f"prepares {here.name} to {there.name}")
            self.step, self._since = "prepared", self.clock.now
            here.turn()
            there.turn()
            self.world.reached("prepare")
            self._wait()

    def _wait(self) -> None:
        if self._gone():
            return
        ready = self.here.core.clients_ready
        if self.here.stopped or not (ready or self.clock.now - self._since >= self.move.patience):
            self._later(self._wait)
            return
        self.world.reached("ready")
        self.clock.after(self.move.order, self._freeze)

    def _gone(self) -> bool:
        """Whether the move is at its end because somebody is dead, or it was called off."""
        if self.here.dead:
            self._over("the source is dead")
        elif self.cancelled or (self.there.dead and self.step != "carried"):
            self._back("called off" if self.cancelled else "the target is dead")
        else:
            return False
        return True

    def _back(self, why: str) -> None:
        """The guest stays at the source."""
        if self.here.stopped:
            self.clock.after(LOOK, self._back, why)
            return
        if self.here.dead:
            self._over("the source is dead")
            return
        self.note(f"cancels: {why}")
        if not self.there.dead:
            self.there.core.target.forget()
        if self.step in ("held", "frozen"):
            self.here.take_guest()
        self.here.core.cancel_migration(self.clock.now)
        self.here.turn()
        self._over("cancelled")

    # -- the guest moves ---------------------------------------------------------------------------

    def _freeze(self) -> None:
        if self._gone():
            return
        if self.here.stopped:
            self._later(self._freeze)
            return
        self.here.let_guest_go()
        self._stopped_at = self.clock.now
        core = self.here.core
        if core.source.policy is Policy.HOLD and core.clients_ready:
            core.hold_clients(self.clock.now)
            self.here.turn()
            self.step = "held"
        self._await_held()

    def _await_held(self) -> None:
        """Under `Policy.HOLD` the guest's state waits for what clients have under way."""
        if self._gone():
            return
        if self.here.stopped or not self.here.core.clients_held:
            self.clock.after(0.001, self._await_held)
            return
        machine = self.here.core.freeze_machine(self.clock.now)
        self.here.turn()
        self._state = (self.here.guest.freeze(), machine)
        self._shown = self.here.host.display(0).pixels.tobytes()
        self.step, self._since = "frozen", self.clock.now
        self.world.reached("freeze")
        self.clock.after(self.move.carries, self._thaw)

    def _thaw(self) -> None:
        late = self.clock.now - self._since > CARRY_LIMIT
        if self._gone():
            return
        if late:
            self._back("the target takes too long")
            return
        if self.there.stopped or self._cut_off:
            self._later(self._thaw)
            return
        there, (guest, machine) = self.there, self._state
        there.guest.thaw(guest)
        there.take_guest()
        there.core.thaw_machine(self.world.copy(machine, self.sizes), self.clock.now)
        if there.host.display(0).pixels.tobytes() != self._shown:
            self.world.wrong("the guest's screen is another at the target")
        there.turn()
        self.downtimes.append(self.clock.now - self._stopped_at)
        self.step = "carried"
        self.world.reached("thaw")
        self.clock.after(self.move.order, self._complete)

    def _complete(self) -> None:
        here = self.here
        if here.dead:
            self._moved("the source is dead, the guest runs at the target")
        elif here.stopped:
            self._later(self._complete)
        else:
            self.note("completes")
            self.completed_at.append(self.clock.now)
            here.core.complete_migration(self.clock.now)
            here.turn()
            self.world.reached("complete")
            self._looked = 0.0
            self._await_end()

    def _await_end(self) -> None:
        here = self.here
        if here.dead:
            self._moved("the source died behind the guest")
        elif here.stopped or here.core.source.phase is not SourcePhase.IDLE:
            self._looked += 0.0 if here.stopped else self._look
            if self._looked > LEFT_LIMIT:
                self.world.wrong(f"{here.name} waits for its clients longer than it may")
            self._later(self._await_end)
        else:
            self.world.reached("left")
            if self.link is not None:
                self._settle(self.clock.now + SETTLE_SECONDS)
                return
            late = here.core.late_inputs()
            self.clock.after(self.move.order, self._tell_late, late)

    def _settle(self, until: float) -> None:
        """What is on its way between the two still gets there, and sessions arrive or don't."""
        there = self.there
        if self.clock.now < until and not there.dead and there.core.target.arrivals:
            self.clock.after(self._look, self._settle, until)
        else:
            self._moved("moved")

    def _tell_late(self, late: Any) -> None:
        there = self.there
        if there.stopped:
            self.clock.after(LOOK, self._tell_late, late)
            return
        if not there.dead:
            there.core.take_late_inputs(self.world.copy(late, None), self.clock.now)
            there.turn()
        self._moved("moved")

    def _moved(self, what: str) -> None:
        self.here, self.there = self.there, self.here
        self._over(what)
