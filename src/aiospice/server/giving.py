"""A guest leaves: what the source's end of a link does with its server.

Whoever has the link (`aiospice.aio.going`, `aiospice.sim.linksource`) moves its bytes, keeps its
time, waits where something is to be waited for, and calls these for what `SourceLink` orders.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from aiospice.errors import StateError
from aiospice.migration.link_source import SourceLink, SourceLinkPhase
from aiospice.migration.plainform import encode_plain
from aiospice.migration.source import ClientStage, Policy, SourcePhase
from aiospice.server.early import EarlyPixels, guest_pieces
from aiospice.server.linkhost import LinkBook, LinkHost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiospice.migration.peer import PeerMessage, Piece
    from aiospice.server.guest import Guest

__all__ = ["LAST_ROUNDS", "PACK_SECONDS", "ROUNDS", "SPARE", "Giving"]

#: How often the state is told while the guest runs, and at last, when nothing else is waited for.
ROUNDS, LAST_ROUNDS = 4, 3
#: How long it is waited for images that are being packed, so that the guest needn't.
PACK_SECONDS = 0.03
#: What the link gives clients beyond what the core gives them, in seconds: the core's word counts.
SPARE = 1.0


class Copying(Protocol):
    """The work of telling the state while the guest runs."""

    def cancel(self) -> Any:
        """It isn't gone on with."""


class Giving(LinkHost):
    """See the module's text. ``ready_seconds``: what clients get to connect to the target."""

    link: SourceLink

    def __init__(self, book: LinkBook, ready_seconds: float) -> None:
        self.book = book
        #: Clients were told to follow.
        self.completed = False
        self._ready_seconds = ready_seconds
        self._early = EarlyPixels(self.core.machine)
        self._told_guest = False
        self._copying: Copying | None = None
        self._ready = self._followed = self._link_up = False

    # -- what whoever has the link does --------------------------------------------------------

    @property
    @abstractmethod
    def guest(self) -> Guest:
        """The server's guest."""

    # -- what happens --------------------------------------------------------------------------

    def look(self) -> None:
        """Tell the link what has happened in the core, and the core what the link brought."""
        core, link, now = self.core, self.link, self.now()
        ready = link.phase is SourceLinkPhase.MOVING and core.clients_ready
        if ready and not self._ready:
            self._ready = True
            self.turn(at_once=True)  # the core tells of it first
            link.clients_ready(now)
        self._pass_on()  # first: the last client's last word, too
        if self.completed:
            self._follow()
        messages: list[PeerMessage] = []
        if link.phase is not SourceLinkPhase.RETURNING or not link.orders:  # the core stays first
            messages, link.inbox = link.inbox, []
        for message in messages:
            core.peer_in(message, now)
        if messages:
            self.turn()
        self._pass_on()
        if link.phase is SourceLinkPhase.RETURNING and not link.orders and not core.returning:
            link.returned()
            self.unlink()
        if self._link_up and not link.up:
            self._link_up = False
            core.peer_link(False, None, "source", now)
            self.turn()

    def _pass_on(self) -> None:
        if self.link.phase is SourceLinkPhase.RUNNING:
            self.link.outbox += self.core.peer_out
            self.core.peer_out.clear()

    def _follow(self) -> None:
        """Which clients are on their way, and whether all have left."""
        source = self.core.source
        if not self._followed and source.phase is not SourcePhase.CONNECTING:
            self._followed = True
            for client, stage in source.clients.items():
                if stage in (ClientStage.WHOLE, ClientStage.ANEW):
                    self.link.clients.setdefault(client, None)
                else:
                    self.link.away += 1
        if self._followed and source.phase is SourcePhase.IDLE:
            self.link.left(self.now())

    def lost(self, text: str) -> None:
        """The connection is gone."""
        self.link.lost(text, self.now())

    def failed(self, error: Exception) -> None:
        """What can't be carried out ends it, if the guest is still here."""
        try:
            self.link.cancel(str(error) or repr(error))
        except StateError:
            self.cut(f"the link can't be gone on with: {error!r}")

    # -- orders --------------------------------------------------------------------------------

    def join(self) -> None:
        """Have the core's link be this one."""
        name = self.link.proposal.migration
        self._link_up = True
        self.book.linked = name
        self.core.peer_link(True, self.link.key, "source", self.now(), name)

    def prepare(self) -> None:
        """Have clients connect to the target."""
        agreed = self.link.agreed
        assert agreed is not None
        self.core.prepare_migration(
            agreed.host,
            agreed.port,
            agreed.tls_port,
            agreed.cert_subject,
            Policy(self.link.proposal.policy),
            now=self.now(),
            seconds=self._ready_seconds,
        )
        self.turn()

    def complete(self) -> None:
        """The guest runs at the target: clients are to follow."""
        self._early.end()
        self.core.complete_migration(self.now())
        self.completed = True
        self.turn(at_once=True)

    def stay(self) -> None:
        """The guest goes on here; whoever has the link lets it."""
        if self._copying is not None:
            self._copying.cancel()
        self._early.end()
        core = self.core
        if core.source.phase is not SourcePhase.IDLE or core.frozen is not None:
            core.cancel_migration(self.now())
        if self.link.phase is SourceLinkPhase.RETURNING:
            self.poke()
        else:
            self.unlink()

    def unlink(self) -> None:
        """The link is gone for good."""
        if self.book.linked == self.link.proposal.migration:
            self.book.linked = ""
            self.core.peer_unlink(self.now())
            self.turn()

    # -- the state -----------------------------------------------------------------------------

    def _guest_pieces(self) -> Iterator[Piece]:
        """What has changed of the guest since the last call."""
        parts = self.guest.freeze_early(again=self._told_guest)
        self._told_guest = True
        for name, value in (parts or {}).items():
            yield from guest_pieces(name, encode_plain(value, f"Guest.freeze_early: {name!r}"))

    def _pieces(self) -> Iterator[Piece]:
        """What has changed since the last call, of the guest and its displays."""
        yield from self._guest_pieces()
        yield from self._early.pieces()

    def _publish(self) -> None:
        """Show clients what was told, bit by bit: at the end there would be too much of it."""
        for number in self._early.looked:
            self.core.drawn(number)
        self._early.looked.clear()
        self.turn()
