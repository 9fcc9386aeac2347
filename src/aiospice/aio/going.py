"""The guest leaves: the source's end of a link, joined with its server."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiospice.aio.calm import CALM
from aiospice.aio.handover import Driver
from aiospice.aio.peerlink import connect_peer
from aiospice.errors import AiospiceError, StateError
from aiospice.migration.link_source import Do, SourceLink, SourceLinkPhase
from aiospice.migration.plainform import encode_plain
from aiospice.migration.source import ClientStage, Policy, SourcePhase
from aiospice.server.early import EarlyPixels, guest_pieces, pack_piece, rest_pieces
from aiospice.server.holding import Patience

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiospice.aio.serve import Server
    from aiospice.migration.link_source import SourceOrder
    from aiospice.migration.peer import PeerMessage, Piece, Propose

__all__ = ["ROUNDS", "Leave"]

#: How often the state is told while the guest runs, and what little is left for when it stands.
ROUNDS = 4
FEW_BYTES = 2 << 20
#: What little is left for when it stands, where the guest lets it be: bytes, and how often it is
#: tried at last, when nothing else is waited for.
LITTLE_BYTES = 64 << 10
LAST_ROUNDS = 3
#: How long it is waited for images that are being packed, so that the guest needn't.
PACK_SECONDS = 0.03
#: What the link gives clients beyond what the core gives them, in seconds: the core's word counts.
_SPARE = 1.0
#: How long it is waited for what was told to be published.
_FRAMES, _FRAME_SECONDS = 10, 0.01


class Leave(Driver):
    """One hand-over from here."""

    link: SourceLink

    def __init__(
        self,
        server: Server,
        proposal: Propose,
        target: str,
        ready_seconds: float,
        hold_seconds: float,
    ) -> None:
        super().__init__(server)
        self._target = target
        self.link = SourceLink(
            proposal, target, server._crypto, self.now(), ready_seconds=ready_seconds + _SPARE
        )
        self._ready_seconds = ready_seconds
        self._hold_seconds = hold_seconds
        self._turned = asyncio.Event()
        self._early = EarlyPixels(self.core.machine)
        self._told_guest = False
        self._copying: asyncio.Task[None] | None = None
        self._completed = self._followed = False
        self._link_up = False
        self.outcome = ""

    async def begin(self) -> None:
        """Connect to the target."""
        self.tell()
        try:
            self.plug(await connect_peer(self._target, self.server.handovers.tls))
        except AiospiceError as error:
            self.link.lost(str(error), self.now())

    # -- what happens ----------------------------------------------------------------------------

    def look(self) -> None:
        """Tell the link what has happened in the core, and the core what the link brought."""
        core, link, now = self.core, self.link, self.now()
        if link.phase is SourceLinkPhase.MOVING and core.clients_ready:
            self.shell.turn()  # the core tells of it first
            link.clients_ready(now)
        if link.phase is SourceLinkPhase.RUNNING:  # first: the last client's last word, too
            link.outbox += core.peer_out
            core.peer_out.clear()
        if self._completed:
            self._follow()
        messages: list[PeerMessage] = []
        if link.phase is not SourceLinkPhase.RETURNING or not link.orders:  # the core stays first
            messages, link.inbox = link.inbox, []
        for message in messages:
            core.peer_in(message, now)
        if messages:
            self.shell.turn()
        if link.phase is SourceLinkPhase.RUNNING:
            link.outbox += core.peer_out
            core.peer_out.clear()
        if link.phase is SourceLinkPhase.RETURNING and not link.orders and not core.returning:
            link.returned()
            self._unlink()
        if self._link_up and not link.up:
            self._link_up = False
            core.peer_link(False, None, "source", now)

    def _follow(self) -> None:
        """Which clients are on their way, and whether all have left."""
        source = self.core.source
        if not self._followed and source.phase is not SourcePhase.CONNECTING:
            self._followed = True
            going = (ClientStage.WHOLE, ClientStage.ANEW)
            for client, stage in source.clients.items():
                if stage in going:
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

    # -- orders ----------------------------------------------------------------------------------

    async def do(self, order: SourceOrder) -> None:
        """Carry out an order."""
        now = self.now()
        if order.do is Do.LINKED:
            self._link_up = True
            self.warm_up()
            self.server.handovers.linked = self.link.proposal.migration
            self.core.peer_link(True, self.link.key, "source", now, self.link.proposal.migration)
        elif order.do is Do.PREPARE:
            self._prepare()
        elif order.do is Do.FREEZE:
            await self._freeze()
        elif order.do is Do.COMPLETE:
            self.server._guest_left()
            self._early.end()
            self.core.complete_migration(now)
            self._completed = True
            CALM.begin(self)  # clients are on their way
            self.shell.turn_at_once()
        elif order.do is Do.STAY:
            self.outcome = f"the guest stayed: {order.text}"
            self._stay()
        elif order.do is Do.CONNECT:
            self.task(self._connect())
        elif order.do is Do.CLOSE:
            await self.flush()
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
            now=self.now(),
            seconds=self._ready_seconds,
        )
        self.shell.turn()
        self._copying = self.task(self._copy())

    async def _copy(self) -> None:
        """Tell what can be told while the guest runs: all of it, then what has changed since."""
        for _ in range(ROUNDS):
            before = self.link.early_bytes
            for piece in self._pieces():
                self.link.early_bytes += await self._tell_piece(piece)
                self._publish()
            for _ in range(_FRAMES):
                if self.core.stale:
                    await asyncio.sleep(_FRAME_SECONDS)
            if self.link.phase is not SourceLinkPhase.MOVING:
                return
            told = self.link.early_bytes - before
            if told <= FEW_BYTES or self._early.waiting <= FEW_BYTES:
                break
        self.link.copied(self.now())
        self.poke()

    async def _hold(self, since: float) -> None:
        """Have clients stop sending; the guest stands still ``since`` then, and not for long."""
        self.core.hold_clients(self.now(), self._hold_seconds, since)
        self.link.takes_back = self.core.sent_off
        self.shell.turn()
        patience = Patience(since + self._hold_seconds)
        while not self.core.clients_held and self.link.phase is SourceLinkPhase.STOPPING:
            wait = patience.look(self.now())
            if wait is None:
                return  # `freeze_machine` goes on without who hasn't answered
            CALM.begin(self)
            self._turned.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._turned.wait()

    def poke(self) -> None:
        """Something may have changed."""
        self._turned.set()
        super().poke()

    def _guest_pieces(self) -> Iterator[Piece]:
        """What has changed of the guest since the last call."""
        parts = self.server.guest.freeze_early(again=self._told_guest)
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
        self.shell.turn()

    async def _tell_piece(self, piece: Piece) -> int:
        """Send a part of the state; gives how many bytes it took."""
        piece = pack_piece(piece)
        if self.stream is not None:
            try:
                await self.stream.send(piece)
            except (OSError, AiospiceError) as error:
                self.cut(str(error))
        return len(piece.data)

    async def _catch_up(self) -> None:
        """Have as little as can be left to be done while the guest stands still."""
        core = self.core
        core.rest(self.now())
        CALM.begin(self)
        until = self.now() + PACK_SECONDS
        while core.packing and self.now() < until:
            self._turned.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._turned.wait()
        for _ in range(LAST_ROUNDS):
            if self._early.waiting <= LITTLE_BYTES:
                break
            for piece in self._pieces():
                self.link.early_bytes += await self._tell_piece(piece)

    async def _freeze(self) -> None:
        """Stop the guest, and tell the rest of it."""
        server, core = self.server, self.core
        await self._catch_up()
        if self.link.phase is not SourceLinkPhase.STOPPING:  # called off meanwhile
            return
        since = self.now()
        self.link.stands_still(since)
        await server._end_life()
        going = self.link.phase is SourceLinkPhase.STOPPING
        if going and core.source.policy is Policy.HOLD and core.source.phase is SourcePhase.READY:
            await self._hold(since)
        if self.link.phase is not SourceLinkPhase.STOPPING:
            return
        core.rest(self.now())
        CALM.begin(self)
        self.shell.settle()
        state = core.freeze_machine(self.now())
        own = list(self._guest_pieces())
        guest = encode_plain(server.guest.freeze(), "Guest.freeze")
        self.shell.turn()
        rest, last = rest_pieces(guest, state)
        for piece in (*own, *self._early.pieces(), *rest):
            self.link.late_bytes += await self._tell_piece(piece)
        self.link.stopped(last, self.now())

    def _stay(self) -> None:
        """The guest goes on here."""
        if self._copying is not None:
            self._copying.cancel()
        self._early.end()
        CALM.end(self)
        core, now = self.core, self.now()
        if core.source.phase is not SourcePhase.IDLE or core.frozen is not None:
            core.cancel_migration(now)
        if self.link.phase is SourceLinkPhase.RETURNING:
            self.poke()
        else:
            self._unlink()
        if self.server._life is None:
            self.server._begin_life()
        self.shell.turn()

    async def _connect(self) -> None:
        """Reach the target once more, to ask what has become of the guest."""
        try:
            stream = await connect_peer(self._target, self.server.handovers.tls)
        except AiospiceError as error:
            self.link.lost(str(error), self.now())
        else:
            self.link.connected(self.now())
            self.plug(stream)
        self.poke()

    # -- the end ---------------------------------------------------------------------------------

    def _unlink(self) -> None:
        handovers = self.server.handovers
        if handovers.linked == self.link.proposal.migration:
            handovers.linked = ""
            self.core.peer_unlink(self.now())

    async def drive(self) -> None:
        """Until it is over."""
        try:
            await super().drive()
        finally:
            CALM.end(self)
            if self._completed:
                self.outcome = f"the guest moved to {self._target}"
                self._unlink()

    def status(self) -> dict[str, Any]:
        """JSON-able."""
        link = self.link
        return {
            "migration": link.proposal.migration,
            "target": self._target,
            "policy": link.proposal.policy,
            "phase": link.phase.name.lower(),
            "early_bytes": link.early_bytes,
            "late_bytes": link.late_bytes,
        }
