"""A guest comes: what the target's end of a link does with its server.

Whoever has the link (`aiospice.aio.coming`, `aiospice.sim.linktarget`) moves its bytes, keeps its
time, and calls these for what `TargetLink` orders.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aiospice.errors import AiospiceError, LocalError, StateError
from aiospice.migration.link_target import TargetLink, TargetLinkPhase
from aiospice.migration.peer import Agree
from aiospice.migration.plainform import decode_plain
from aiospice.migration.source import Policy
from aiospice.server.early import Collected
from aiospice.server.linkhost import LinkBook, LinkHost
from aiospice.server.match import match_devices, renumber

if TYPE_CHECKING:
    from aiospice.server.carried import MachineState
    from aiospice.server.guest import Guest, Host

__all__ = ["EXPECT_SECONDS", "Address", "Taking"]

#: How long clients of a source may take to connect here, once it has been agreed.
EXPECT_SECONDS = 60.0


class Address(NamedTuple):
    """Where clients are to go; ``subject``: of the server's certificate, "" without TLS."""

    host: str
    port: int
    tls_port: int = 0
    subject: str = ""


class Holder(Protocol):
    """A server, as far as a guest that comes is concerned."""

    @property
    def guest(self) -> Guest:
        """It, or one that is to take up the state of another."""

    @property
    def host(self) -> Host:
        """What it is attached to."""

    @property
    def has_guest(self) -> bool:
        """Whether it runs here, or stands still here."""


class Taking(LinkHost):
    """See the module's text. Errors that come out of `expect` and `take` are told to `failed`."""

    link: TargetLink

    def __init__(self, book: LinkBook) -> None:
        self.book = book
        self.machine: MachineState | None = None
        self._collected = Collected()
        self._link_up = False

    # -- what whoever has the link does --------------------------------------------------------

    @property
    @abstractmethod
    def holder(self) -> Holder:
        """The server."""

    @property
    @abstractmethod
    def plugged(self) -> bool:
        """There is a connection."""

    @abstractmethod
    def address(self) -> Address:
        """Where clients are to go."""

    # -- what happens --------------------------------------------------------------------------

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
            self.turn(at_once=True)

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
        if self._link_up and not self.plugged:
            self.unlink()

    def lost(self, text: str) -> None:
        """The connection is gone."""
        back = self.link.phase is TargetLinkPhase.RETURNING
        self.link.lost(text)
        if back:
            self._send_away("its machine doesn't come")

    def failed(self, error: Exception) -> None:
        """What can't be carried out is refused."""
        if self.link.phase is TargetLinkPhase.RUNNING:
            self.cut(f"the link can't be gone on with: {error!r}")
        else:
            self.link.refuse(str(error) or repr(error))

    # -- orders --------------------------------------------------------------------------------

    def join(self) -> None:
        """Have the core's link be this one."""
        core, link = self.core, self.link
        other = core.peer.up and core.peer.migration != link.migration
        if link.proposal is None and other:
            return
        self._link_up = True
        self.book.linked = link.migration
        core.peer_link(True, link.key, "target", self.now(), link.migration)

    def expect(self) -> None:
        """Look whether the guest fits; let its clients come."""
        proposal, core, holder = self.link.proposal, self.core, self.holder
        assert proposal is not None
        if holder.has_guest:
            raise StateError("a guest runs on this server already: start it with --incoming")
        if proposal.policy not in [each.value for each in Policy]:
            raise LocalError(f"the policy {proposal.policy[:40]!r} isn't known here")
        if proposal.guest != holder.guest.name:
            raise LocalError(
                f"the guest {proposal.guest[:40]!r} can't come: here is {holder.guest.name!r}"
            )
        numbers = match_devices(core, proposal.devices)
        host, port, tls_port, subject = self.address()
        core.expect_guest(self.now())
        self.book.expects = self.link.migration
        renumber(core, holder.host, numbers)
        for client in proposal.clients:
            core.expect_migration(client.client, client.ticket, EXPECT_SECONDS, now=self.now())
        self.turn()
        changed = tuple((theirs, own) for own, theirs in numbers.items() if own != theirs)
        self.link.agree(Agree(host, port, tls_port, subject, changed), self.now())

    def take(self, last: bytes) -> None:
        """Take the guest up without letting it run."""
        if self._overtaken:
            raise StateError("the guest of another hand-over is expected since")
        guest, machine = self._collected.rest(last)
        early = {name: decode_plain(data) for name, data in self._collected.guest_parts().items()}
        self._collected = Collected()
        match_devices(self.core, tuple((*k, d.name) for k, d in machine.devices.items()))
        self.holder.guest.thaw_early(early)
        self.holder.guest.thaw(decode_plain(guest))
        self.machine = machine
        self.link.ready(self.now())

    def drop(self, text: str) -> None:
        """Nothing comes: forget it, and who came for it."""
        core, reason = self.core, f"its machine doesn't come: {text}"
        self.machine = None
        self._collected = Collected()
        if self._overtaken:
            return
        if self.holder.has_guest:
            core.target.forget()
        else:
            core.guest_stays(reason, self.now())
        if self.link.phase is TargetLinkPhase.RETURNING:
            core.give_back(self.now())
            self.turn()
            self.poke()
        else:
            self._call_off(reason)

    def unlink(self) -> None:
        """The link is gone: for good, or for the time being."""
        core = self.core
        self._link_up = False
        if self.book.linked != self.link.migration:
            return
        if core.target.awaits:
            core.peer_link(False, None, "target", self.now())
        else:
            self.book.linked = ""
            core.peer_unlink(self.now())
        self.turn()

    @property
    def _overtaken(self) -> bool:
        """Whoever is expected here comes with the guest of another hand-over."""
        return self.book.expects != self.link.migration

    def _call_off(self, text: str) -> None:
        """Nobody is to wait here for a machine that doesn't come."""
        self.core.call_off_arrivals(text, self.now())
        self.turn()

    def _send_away(self, text: str) -> None:
        if self._overtaken:
            return
        for client in list(self.core.target.arrivals):
            self.core.disconnect(client, text, self.now())
        self.turn()
