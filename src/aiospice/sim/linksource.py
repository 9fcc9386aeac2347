"""A guest leaves: the source's end of a link, joined with its server (`aiospice.aio.going`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiospice.errors import AiospiceError, ConnectError, StateError
from aiospice.migration.link_source import Do, SourceLink, SourceLinkPhase
from aiospice.migration.plainform import encode_plain
from aiospice.migration.source import ClientStage, Policy, SourcePhase
from aiospice.server.early import EarlyPixels, guest_pieces, pack_piece, rest_pieces
from aiospice.sim.linkend import AGAIN, LINKS, LinkEnd, Task, Work
from aiospice.sim.linktarget import TargetEnd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiospice.migration.link_source import SourceOrder
    from aiospice.migration.peer import PeerMessage, Piece, Propose
    from aiospice.sim.process import ServerProcess

__all__ = ["CONNECT_SECONDS", "SourceEnd"]

#: How long a connection may take to be made, as in `aiospice.aio.peerlink`; and as in
#: `aiospice.aio.going` how often the state is told, what little is left for when the guest stands,
#: how long it is waited for images that are being packed, and the time beyond what clients get.
CONNECT_SECONDS = 5.0
ROUNDS, LAST_ROUNDS = 4, 3
LITTLE_BYTES = 1 << 10
PACK_SECONDS = 0.03
SPARE = 1.0
#: Seconds that a step takes at most that a real server does nearly in one go.
STEP = 0.002


class SourceEnd(LinkEnd):
    """The guest leaves (`aiospice.aio.going`)."""

    link: SourceLink

    def __init__(
        self,
        server: ServerProcess,
        target: ServerProcess,
        proposal: Propose,
        ready_seconds: float,
        reached: Callable[[str], None],
    ) -> None:
        super().__init__(server, reached)
        self.target = target
        self.link = SourceLink(
            proposal,
            target.name,
            server.crypto,
            self.now,
            ready_seconds=ready_seconds + SPARE,
        )
        self._ready_seconds = ready_seconds
        self._early = EarlyPixels(self.core.machine)
        self._told_guest = False
        self._copying: Task | None = None
        #: Clients were told to follow.
        self.completed = False
        self._followed = False
        self._link_up = False
        #: The guest's screen when it stood still.
        self.shown = b""
        self.task(self._begin())

    def _begin(self) -> Work:
        self.tell()
        try:
            yield from self._reach()
        except ConnectError as error:
            self.link.lost(str(error), self.now)
        yield from self.drive()

    def _reach(self) -> Work:
        """Connect to the target. Raises `ConnectError`."""
        target, line = self.target, self.net.between(self.name, self.target.name)
        until = self.now + CONNECT_SECONDS
        at = line.arrival(self.now, 0, there=True)
        yield min(at, until) - self.now
        while target.stopped and not line.dead and self.now < until:
            yield AGAIN
        if line.dead or self.now >= until:
            yield max(0.0, until - self.now)
            raise ConnectError(f"{target.name}: no connection within {CONNECT_SECONDS:g} s")
        back = line.arrival(self.now, 0, there=False)
        if target.dead or len(target.links) >= LINKS:
            yield back - self.now
            raise ConnectError(f"{target.name}: connection refused")
        come = TargetEnd(target, self.reached, self)
        here, there = self.net.connect(line, self, 0, come)
        there._last = back
        come.plug(there)
        try:
            yield back - self.now
        except GeneratorExit:
            self.net.finish(here)
            raise
        self.plug(here)

    # -- what happens ------------------------------------------------------------------------------

    def look(self) -> None:
        """Tell the link what has happened in the core, and the core what the link brought."""
        core, link, now = self.core, self.link, self.now
        if link.phase is SourceLinkPhase.MOVING and core.clients_ready:
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
            self.server.turn()
        self._pass_on()
        if link.phase is SourceLinkPhase.RETURNING and not link.orders and not core.returning:
            link.returned()
            self._unlink()
        if self._link_up and not link.up:
            self._link_up = False
            core.peer_link(False, None, "source", now)
            self.server.turn()

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
            if not self.link._left:
                self.reached("left")
            self.link.left(self.now)

    def lost(self, text: str) -> None:
        """The connection is gone."""
        self.link.lost(text, self.now)

    def failed(self, error: AiospiceError) -> None:
        """What can't be carried out ends it, if the guest is still here."""
        try:
            self.link.cancel(str(error))
        except StateError:
            self.cut(f"the link can't be gone on with: {error!r}")

    # -- orders ------------------------------------------------------------------------------------

    def do(self, order: SourceOrder) -> Work:
        """Carry out an order."""
        self.server.note(f"link: {order.do.value} {order.text}"[:120])
        if order.do is Do.LINKED:
            self._link_up = True
            name = self.link.proposal.migration
            self.server.linked = name
            self.core.peer_link(True, self.link.key, "source", self.now, name)
            self.reached("propose")
        elif order.do is Do.PREPARE:
            self._prepare()
        elif order.do is Do.FREEZE:
            self.reached("ready")
            yield from self._freeze()
        elif order.do is Do.COMPLETE:
            self.server.has_guest = False
            self._early.end()
            self.core.complete_migration(self.now)
            self.completed = True
            self.server.turn()
            self.reached("complete")
        elif order.do is Do.STAY:
            self._stay()
        elif order.do is Do.CONNECT:
            self.task(self._connect())
        elif order.do is Do.CLOSE:
            yield from self.flush()
            self.unplug()

    def _prepare(self) -> None:
        agreed = self.link.agreed
        assert agreed is not None
        self.core.prepare_migration(
            agreed.host,
            agreed.port,
            agreed.tls_port,
            agreed.cert_subject,
            Policy(self.link.proposal.policy),
            now=self.now,
            seconds=self._ready_seconds,
        )
        self.server.turn()
        self._copying = self.task(self._copy())
        self.reached("prepare")

    def _copy(self) -> Work:
        """Tell what can be told while the guest runs: all of it, then what has changed since."""
        for _ in range(ROUNDS):
            for piece in self._pieces():
                yield from self._tell_piece(piece, early=True)
                self._publish()
                yield self.chance.between(0.0, 2 * self.world.tick)
            if self.link.phase is not SourceLinkPhase.MOVING:
                return
            if self._early.waiting <= LITTLE_BYTES:
                break
        self.link.copied(self.now)
        self.poke()

    def _pieces(self) -> Iterator[Piece]:
        """What has changed since the last call, of the guest and its displays."""
        yield from self._guest_pieces()
        yield from self._early.pieces()

    def _guest_pieces(self) -> Iterator[Piece]:
        parts = self.server.guest.freeze_early(again=self._told_guest)
        self._told_guest = True
        for name, value in (parts or {}).items():
            yield from guest_pieces(name, encode_plain(value, name))

    def _publish(self) -> None:
        for number in self._early.looked:
            self.core.drawn(number)
        self._early.looked.clear()
        self.server.turn()

    def _tell_piece(self, piece: Piece, *, early: bool) -> Work:
        piece = pack_piece(piece)
        if early:
            self.link.early_bytes += len(piece.data)
        else:
            self.link.late_bytes += len(piece.data)
        yield from self.send([piece])

    def _freeze(self) -> Work:
        """Stop the guest, and tell the rest of it."""
        server, core = self.server, self.core
        core.rest(self.now)
        until = self.now + PACK_SECONDS
        while core.packing and self.now < until:
            yield STEP
        for _ in range(LAST_ROUNDS):
            if self._early.waiting > LITTLE_BYTES:
                for piece in self._pieces():
                    yield from self._tell_piece(piece, early=True)
        if self.link.phase is not SourceLinkPhase.STOPPING:  # called off meanwhile
            return
        self.link.stands_still(self.now)
        server.let_guest_go()
        yield self.chance.between(0.0, STEP)
        if core.source.policy is Policy.HOLD and core.source.phase is SourcePhase.READY:
            core.hold_clients(self.now)
            self.link.takes_back = core.sent_off
            server.turn()
            while not core.clients_held:
                yield from self._until_poked()
        core.rest(self.now)
        server.turn()
        state = core.freeze_machine(self.now)
        own = list(self._guest_pieces())
        guest = encode_plain(server.guest.freeze())
        self.shown = server.host.display(0).pixels.tobytes()
        server.turn()
        rest, last = rest_pieces(guest, state)
        for piece in (*own, *self._early.pieces(), *rest):
            yield from self._tell_piece(piece, early=False)
        self.link.stopped(last, self.now)
        self.reached("freeze")

    def _stay(self) -> None:
        """The guest goes on here."""
        if self._copying is not None:
            self._copying.cancel()
        self._early.end()
        core = self.core
        if core.source.phase is not SourcePhase.IDLE or core.frozen is not None:
            core.cancel_migration(self.now)
        if self.link.phase is SourceLinkPhase.RETURNING:
            self.poke()
        else:
            self._unlink()
        if not self.server.owns:
            self.server.take_guest()
        self.server.turn()

    def _connect(self) -> Work:
        """Reach the target once more, to ask what has become of the guest."""
        try:
            yield from self._reach()
        except ConnectError as error:
            self.link.lost(str(error), self.now)
        else:
            self.link.connected(self.now)
        self.poke()

    # -- the end -----------------------------------------------------------------------------------

    def _unlink(self) -> None:
        if self.server.linked == self.link.proposal.migration:
            self.server.linked = ""
            self.core.peer_unlink(self.now)
            self.server.turn()

    def finish(self) -> None:
        """It is over."""
        super().finish()
        if self.completed:
            self._unlink()
