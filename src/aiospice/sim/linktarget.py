"""A guest comes: the target's end of a link, joined with its server (`aiospice.aio.coming`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiospice.errors import AiospiceError, LocalError, StateError
from aiospice.migration.link_target import TargetDo, TargetLink, TargetLinkPhase
from aiospice.migration.peer import Agree
from aiospice.migration.plainform import decode_plain
from aiospice.migration.source import Policy
from aiospice.server.early import Collected
from aiospice.server.match import match_devices, renumber
from aiospice.sim.linkend import LinkEnd, Work

if TYPE_CHECKING:
    from aiospice.migration.link_target import TargetOrder
    from aiospice.server.carried import MachineState
    from aiospice.sim.linksource import SourceEnd
    from aiospice.sim.process import ServerProcess

__all__ = ["TargetEnd"]

#: How long clients of a source may take to connect here (`aiospice.aio.coming`).
EXPECT_SECONDS = 60.0


class TargetEnd(LinkEnd):
    """A guest comes (`aiospice.aio.coming`)."""

    link: TargetLink

    def __init__(
        self, server: ServerProcess, reached: Callable[[str], None], source: SourceEnd | None
    ) -> None:
        super().__init__(server, reached)
        self.source = source
        self.link = TargetLink(server.memory, server.crypto, self.now)
        self._collected = Collected()
        self._machine: MachineState | None = None
        self._link_up = False
        self.task(self.drive())

    # -- what happens ------------------------------------------------------------------------------

    def took(self) -> None:
        """Pieces of the state are kept at once: nothing waits for them."""
        pieces, self.link.pieces = self.link.pieces, []
        try:
            for piece in pieces:
                self._collected.keep(piece)
        except AiospiceError as error:
            self.link.refuse(str(error))
        messages, self.link.inbox = self.link.inbox, []
        for message in messages:
            self.core.peer_in(message, self.now)
        if messages:
            self.server.turn()

    def look(self) -> None:
        """Tell the source what the core wants to tell."""
        core, link = self.core, self.link
        if link.phase in (TargetLinkPhase.RUNNING, TargetLinkPhase.RETURNING):
            for message in core.peer_out:
                link.tell(message)
            core.peer_out.clear()
        if link.phase is TargetLinkPhase.RETURNING and not link.orders and not core.giving:
            self._send_away("its machine doesn't come")
            link.returned()
        if self._link_up and self.end is None:
            self._unlink()

    def finish(self) -> None:
        """It is over."""
        super().finish()
        if self._link_up:
            self._unlink()

    def lost(self, text: str) -> None:
        """The connection is gone."""
        back = self.link.phase is TargetLinkPhase.RETURNING
        self.link.lost(text)
        if back:
            self._send_away("its machine doesn't come")

    def failed(self, error: AiospiceError) -> None:
        """What can't be carried out is refused."""
        if self.link.phase is TargetLinkPhase.RUNNING:
            self.cut(f"the link can't be gone on with: {error!r}")
        else:
            self.link.refuse(str(error))

    # -- orders ------------------------------------------------------------------------------------

    def do(self, order: TargetOrder) -> Work:
        """Carry out an order."""
        self.server.note(f"link: {order.do.value} {order.text}"[:120])
        if order.do is TargetDo.LINKED:
            self._join()
        elif order.do is TargetDo.EXPECT:
            self._expect()
        elif order.do is TargetDo.TAKE:
            yield self._carries / 2
            self._take(order.data)
        elif order.do is TargetDo.RUN:
            yield self._carries / 2
            self._run()
        elif order.do is TargetDo.DROP:
            self._drop(order.text)
        elif order.do is TargetDo.CLOSE:
            yield from self.flush()
            self.unplug()
            self.poke()

    @property
    def _carries(self) -> float:
        """Seconds that it takes to take the guest up."""
        move = max(self.world.operator.place, 0)
        return self.world.scenario.moves[move].carries

    def _join(self) -> None:
        """Have the core's link be this one."""
        core, link = self.core, self.link
        other = core.peer.up and core.peer.migration != link.migration
        if link.proposal is None and other:
            return
        self._link_up = True
        self.server.linked = link.migration
        core.peer_link(True, link.key, "target", self.now, link.migration)

    def _expect(self) -> None:
        """Look whether the guest fits; let its clients come."""
        proposal, server, core = self.link.proposal, self.server, self.core
        assert proposal is not None
        if server.has_guest:
            raise StateError("a guest runs on this server already: start it with --incoming")
        if proposal.policy not in [each.value for each in Policy]:
            raise LocalError(f"the policy {proposal.policy[:40]!r} isn't known here")
        if proposal.guest != server.guest.name:
            raise LocalError(f"the guest {proposal.guest[:40]!r} can't come")
        numbers = match_devices(core, proposal.devices)
        core.expect_guest(self.now)
        server.expects = self.link.migration
        renumber(core, server.host, numbers)
        for client in proposal.clients:
            core.expect_migration(client.client, client.ticket, EXPECT_SECONDS, now=self.now)
        server.turn()
        changed = tuple((theirs, own) for own, theirs in numbers.items() if own != theirs)
        self.link.agree(Agree(server.name, 5900, 0, "", changed), self.now)

    def _take(self, last: bytes) -> None:
        """Take the guest up without letting it run."""
        if self._overtaken:
            raise StateError("the guest of another hand-over is expected since")
        guest, machine = self._collected.rest(last)
        early = {name: decode_plain(data) for name, data in self._collected.guest_parts().items()}
        self._collected = Collected()
        match_devices(self.core, tuple((*k, d.name) for k, d in machine.devices.items()))
        self.server.guest.thaw_early(early)
        self.server.guest.thaw(decode_plain(guest))
        self._machine = machine
        self.link.ready(self.now)
        self.reached("taken")

    def _run(self) -> None:
        assert self._machine is not None
        machine, self._machine = self._machine, None
        server = self.server
        server.turn()
        server.core.thaw_machine(machine, self.now)
        shown = server.host.display(0).pixels.tobytes()
        if self.source is not None and shown != self.source.shown:
            self.world.wrong("the guest's screen is another at the target")
        server.has_guest = True
        server.take_guest()
        server.turn()
        self.link.running()
        self.reached("thaw")

    def _drop(self, text: str) -> None:
        """Nothing comes: forget it, and who came for it."""
        self._machine = None
        self._collected = Collected()
        if self._overtaken:
            return
        if self.server.has_guest:
            self.core.target.forget()
        else:
            self.core.guest_stays(f"its machine doesn't come: {text}", self.now)
        if self.link.phase is TargetLinkPhase.RETURNING:
            self.core.give_back(self.now)
            self.server.turn()
            self.poke()
        else:
            self._send_away(f"its machine doesn't come: {text}")

    @property
    def _overtaken(self) -> bool:
        """Whoever is expected here comes with the guest of another hand-over."""
        return self.server.expects != self.link.migration

    def _send_away(self, text: str) -> None:
        if self._overtaken:
            return
        for client in list(self.core.target.arrivals):
            self.core.disconnect(client, text, self.now)
        self.server.turn()

    def _unlink(self) -> None:
        """The link is gone: for good, or for the time being."""
        server, core = self.server, self.core
        self._link_up = False
        if server.linked != self.link.migration:
            return
        if core.target.arrivals or core.target.expected:
            core.peer_link(False, None, "target", self.now)
        else:
            server.linked = ""
            core.peer_unlink(self.now)
        server.turn()
