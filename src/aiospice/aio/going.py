"""The guest leaves: the source's end of a link, joined with its server."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiospice.aio.calm import CALM
from aiospice.aio.handover import Driver
from aiospice.aio.peerlink import connect_peer
from aiospice.errors import AiospiceError
from aiospice.migration.link_source import Do, SourceLink, SourceLinkPhase
from aiospice.migration.plainform import encode_plain
from aiospice.migration.source import Policy, SourcePhase
from aiospice.server.early import pack_piece, rest_pieces
from aiospice.server.giving import LAST_ROUNDS, PACK_SECONDS, ROUNDS, SPARE, Giving
from aiospice.server.holding import Patience

if TYPE_CHECKING:
    from aiospice.aio.serve import Server
    from aiospice.migration.link_source import SourceOrder
    from aiospice.migration.peer import Piece, Propose
    from aiospice.server.guest import Guest

__all__ = ["Leave"]

#: What little is left to be told for when the guest is stopped.
FEW_BYTES = 2 << 20
#: What little is left for when it stands, where the guest lets it be, in bytes.
LITTLE_BYTES = 64 << 10
#: How long it is waited for what was told to be published.
_FRAMES, _FRAME_SECONDS = 10, 0.01


class Leave(Giving, Driver):
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
        Driver.__init__(self, server)
        Giving.__init__(self, server.handovers.book, ready_seconds)
        self._target = target
        self.link = SourceLink(
            proposal, target, server._crypto, self.now(), ready_seconds=ready_seconds + SPARE
        )
        self._hold_seconds = hold_seconds
        self._turned = asyncio.Event()
        self.outcome = ""

    @property
    def guest(self) -> Guest:
        """The server's guest."""
        return self.server.guest

    async def begin(self) -> None:
        """Connect to the target."""
        self.tell()
        try:
            self.plug(await connect_peer(self._target, self.server.handovers.tls))
        except AiospiceError as error:
            self.link.lost(str(error), self.now())

    # -- orders ----------------------------------------------------------------------------------

    async def do(self, order: SourceOrder) -> None:
        """Carry out an order."""
        if order.do is Do.LINKED:
            self.join()
            self.warm_up()
        elif order.do is Do.PREPARE:
            self.prepare()
            self._copying = self.task(self._copy())
        elif order.do is Do.FREEZE:
            await self._freeze()
        elif order.do is Do.COMPLETE:
            self.server._guest_left()
            CALM.begin(self)  # clients are on their way
            self.complete()
        elif order.do is Do.STAY:
            self.outcome = f"the guest stayed: {order.text}"
            self._stay()
        elif order.do is Do.CONNECT:
            self.task(self._connect())
        elif order.do is Do.CLOSE:
            await self.flush()
            self.unplug()

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
        CALM.end(self)
        self.stay()
        if self.server._life is None:
            self.server._begin_life()
        self.turn()

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

    async def drive(self) -> None:
        """Until it is over."""
        try:
            await super().drive()
        finally:
            CALM.end(self)
            if self.completed:
                self.outcome = f"the guest moved to {self._target}"
                self.unlink()

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
