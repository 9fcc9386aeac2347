"""A guest comes: the target's end of a link, joined with its server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.aio.calm import CALM
from aiospice.aio.handover import Driver
from aiospice.errors import AiospiceError, LocalError, StateError
from aiospice.migration.link_target import TargetDo, TargetLink, TargetLinkPhase
from aiospice.migration.peer import Agree
from aiospice.migration.plainform import decode_plain
from aiospice.migration.source import Policy
from aiospice.server.early import Collected
from aiospice.server.match import match_devices, renumber

if TYPE_CHECKING:
    from aiospice.aio.peerlink import PeerStream
    from aiospice.aio.serve import Server
    from aiospice.migration.link_target import TargetMemory, TargetOrder
    from aiospice.server.carried import MachineState

__all__ = ["EXPECT_SECONDS", "Come"]

#: How long clients of a source may take to connect here, once it has been agreed.
EXPECT_SECONDS = 60.0


class Come(Driver):
    """One hand-over to here."""

    link: TargetLink

    def __init__(self, server: Server, memory: TargetMemory, stream: PeerStream) -> None:
        super().__init__(server)
        self.link = TargetLink(memory, server._crypto, self.now())
        self._collected = Collected()
        self._machine: MachineState | None = None
        self._link_up = False
        self.plug(stream)

    # -- what happens ----------------------------------------------------------------------------

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
            self.core.peer_in(message, self.now())
        if messages:
            self.shell.turn_at_once()

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
        if self._link_up and self.stream is None:
            self._unlink()

    def lost(self, text: str) -> None:
        """The connection is gone."""
        back = self.link.phase is TargetLinkPhase.RETURNING
        self.link.lost(text)
        if back:
            self._send_away("its machine doesn't come")

    async def drive(self) -> None:
        """Until it is over."""
        try:
            await super().drive()
        finally:
            if self._link_up:  # it was closed here, and not by the source
                self._unlink()
            CALM.end(self)
            self.shell.keys.rest(self, False)

    def failed(self, error: Exception) -> None:
        """What can't be carried out is refused."""
        if self.link.phase is TargetLinkPhase.RUNNING:
            self.cut(f"the link can't be gone on with: {error!r}")
        else:
            self.link.refuse(str(error) or repr(error))

    # -- orders ----------------------------------------------------------------------------------

    async def do(self, order: TargetOrder) -> None:
        """Carry out an order."""
        if order.do is TargetDo.LINKED:
            self._join()
        elif order.do is TargetDo.EXPECT:
            self._expect()
        elif order.do is TargetDo.TAKE:
            self._take(order.data)
        elif order.do is TargetDo.RUN:
            assert self._machine is not None
            machine, self._machine = self._machine, None
            self.server._guest_came(machine)
            self.link.running()
            CALM.begin(self)  # clients are on their way
            self.shell.keys.rest(self, False)
        elif order.do is TargetDo.DROP:
            self._drop(order.text)
        elif order.do is TargetDo.CLOSE:
            await self.flush()
            self.unplug()
            self.poke()

    def _join(self) -> None:
        """Have the core's link be this one."""
        core, link = self.core, self.link
        other = core.peer.up and core.peer.migration != link.migration
        if link.proposal is None and other:
            return
        self._link_up = True
        self.warm_up()
        self.server.handovers.linked = link.migration
        core.peer_link(True, link.key, "target", self.now(), link.migration)

    def _expect(self) -> None:
        """Look whether the guest fits; let its clients come."""
        proposal, server, core = self.link.proposal, self.server, self.core
        assert proposal is not None
        if server.has_guest:
            raise StateError("a guest runs on this server already: start it with --incoming")
        if proposal.policy not in [each.value for each in Policy]:
            raise LocalError(f"the policy {proposal.policy[:40]!r} isn't known here")
        if proposal.guest != server.guest.name:
            raise LocalError(
                f"the guest {proposal.guest[:40]!r} can't come: here is {server.guest.name!r}"
            )
        numbers = match_devices(core, proposal.devices)
        host, port, tls_port = server._migration_address()
        core.expect_guest(self.now())
        server.handovers.expects = self.link.migration
        renumber(core, server.host, numbers)
        for client in proposal.clients:
            core.expect_migration(client.client, client.ticket, EXPECT_SECONDS, now=self.now())
        self.shell.turn()
        self.shell.keys.rest(self, True)
        changed = tuple((theirs, own) for own, theirs in numbers.items() if own != theirs)
        subject = server.handovers.subject if tls_port else ""
        self.link.agree(Agree(host, port, tls_port, subject, changed), self.now())

    def _take(self, last: bytes) -> None:
        """Take the guest up without letting it run."""
        if self._overtaken:
            raise StateError("the guest of another hand-over is expected since")
        CALM.begin(self)
        guest, machine = self._collected.rest(last)
        early = {name: decode_plain(data) for name, data in self._collected.guest_parts().items()}
        self._collected = Collected()
        match_devices(self.core, tuple((*k, d.name) for k, d in machine.devices.items()))
        self.server.guest.thaw_early(early)
        self.server.guest.thaw(decode_plain(guest))
        self._machine = machine
        self.link.ready(self.now())

    def _drop(self, text: str) -> None:
        """Nothing comes: forget it, and who came for it."""
        self._machine = None
        self._collected = Collected()
        core = self.core
        if self._overtaken:
            return
        if self.server.has_guest:
            core.target.forget()
        else:
            core.guest_stays(f"its machine doesn't come: {text}", self.now())
        if self.link.phase is TargetLinkPhase.RETURNING:
            core.give_back(self.now())
            self.shell.turn()
            self.poke()
        else:
            self._send_away(f"its machine doesn't come: {text}")

    @property
    def _overtaken(self) -> bool:
        """Whoever is expected here comes with the guest of another hand-over."""
        return self.server.handovers.expects != self.link.migration

    def _send_away(self, text: str) -> None:
        if self._overtaken:
            return
        for client in list(self.core.target.arrivals):
            self.core.disconnect(client, text, self.now())
        self.shell.turn()

    def _unlink(self) -> None:
        """The link is gone: for good, or for the time being."""
        handovers, core, now = self.server.handovers, self.core, self.now()
        self._link_up = False
        if handovers.linked != self.link.migration:
            return
        if core.target.arrivals or core.target.expected:
            core.peer_link(False, None, "target", now)
        else:
            handovers.linked = ""
            core.peer_unlink(now)

    def status(self) -> dict[str, Any]:
        """JSON-able."""
        link = self.link
        return {
            "migration": link.migration,
            "phase": link.phase.name.lower(),
            "early_bytes": link.early_bytes,
            "late_bytes": link.late_bytes,
        }
