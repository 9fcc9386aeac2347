"""A guest leaves: the source's end of a link, joined with its server (`aiospice.aio.going`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiospice.errors import ConnectError
from aiospice.migration.link_source import Do, SourceLink, SourceLinkPhase
from aiospice.migration.plainform import encode_plain
from aiospice.migration.source import Policy, SourcePhase
from aiospice.server.early import pack_piece, rest_pieces
from aiospice.server.giving import LAST_ROUNDS, PACK_SECONDS, ROUNDS, SPARE, Giving
from aiospice.sim.linkend import AGAIN, LINKS, LinkEnd, Work
from aiospice.sim.linktarget import TargetEnd

if TYPE_CHECKING:
    from aiospice.migration.link_source import SourceOrder
    from aiospice.migration.peer import Piece, Propose
    from aiospice.server.guest import Guest
    from aiospice.sim.process import ServerProcess

__all__ = ["CONNECT_SECONDS", "SourceEnd"]

#: How long a connection may take to be made, as in `aiospice.aio.peerlink`.
CONNECT_SECONDS = 5.0
#: What little is left to be told for when the guest stands, in bytes: this guest is a small one.
LITTLE_BYTES = 1 << 10
#: Seconds that a step takes at most that a real server does nearly in one go.
STEP = 0.002


class SourceEnd(Giving, LinkEnd):
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
        LinkEnd.__init__(self, server, reached)
        Giving.__init__(self, server.book, ready_seconds)
        self.target = target
        self.link = SourceLink(
            proposal,
            target.name,
            server.crypto,
            self.now(),
            ready_seconds=ready_seconds + SPARE,
        )
        #: The guest's screen when it stood still.
        self.shown = b""
        self.task(self._begin())

    @property
    def guest(self) -> Guest:
        """The server's guest."""
        return self.server.guest

    def _begin(self) -> Work:
        self.tell()
        try:
            yield from self._reach()
        except ConnectError as error:
            self.link.lost(str(error), self.now())
        yield from self.drive()

    def _reach(self) -> Work:
        """Connect to the target. Raises `ConnectError`."""
        target, line = self.target, self.net.between(self.name, self.target.name)
        until = self.now() + CONNECT_SECONDS
        at = line.arrival(self.now(), 0, there=True)
        yield min(at, until) - self.now()
        while target.stopped and not line.dead and self.now() < until:
            yield AGAIN
        if line.dead or self.now() >= until:
            yield max(0.0, until - self.now())
            raise ConnectError(f"{target.name}: no connection within {CONNECT_SECONDS:g} s")
        back = line.arrival(self.now(), 0, there=False)
        if target.dead or len(target.links) >= LINKS:
            yield back - self.now()
            raise ConnectError(f"{target.name}: connection refused")
        come = TargetEnd(target, self.reached, self)
        here, there = self.net.connect(line, self, 0, come)
        there._last = back
        come.plug(there)
        try:
            yield back - self.now()
        except GeneratorExit:
            self.net.finish(here)
            raise
        self.plug(here)

    # -- what happens ------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Which clients are on their way, and whether all have left."""
        left = self.link._left
        super()._follow()
        if self.link._left and not left:
            self.reached("left")

    # -- orders ------------------------------------------------------------------------------------

    def do(self, order: SourceOrder) -> Work:
        """Carry out an order."""
        self.server.note(f"link: {order.do.value} {order.text}"[:120])
        if order.do is Do.LINKED:
            self.join()
            self.reached("propose")
        elif order.do is Do.PREPARE:
            self.prepare()
            self._copying = self.task(self._copy())
            self.reached("prepare")
        elif order.do is Do.FREEZE:
            self.reached("ready")
            yield from self._freeze()
        elif order.do is Do.COMPLETE:
            self.server.has_guest = False
            self.complete()
            self.reached("complete")
        elif order.do is Do.STAY:
            self._stay()
        elif order.do is Do.CONNECT:
            self.task(self._connect())
        elif order.do is Do.CLOSE:
            yield from self.flush()
            self.unplug()

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
        self.link.copied(self.now())
        self.poke()

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
        core.rest(self.now())
        until = self.now() + PACK_SECONDS
        while core.packing and self.now() < until:
            yield STEP
        for _ in range(LAST_ROUNDS):
            if self._early.waiting > LITTLE_BYTES:
                for piece in self._pieces():
                    yield from self._tell_piece(piece, early=True)
        if self.link.phase is not SourceLinkPhase.STOPPING:  # called off meanwhile
            return
        self.link.stands_still(self.now())
        server.let_guest_go()
        yield self.chance.between(0.0, STEP)
        if core.source.policy is Policy.HOLD and core.source.phase is SourcePhase.READY:
            core.hold_clients(self.now())
            self.link.takes_back = core.sent_off
            server.turn()
            while not core.clients_held:
                yield from self._until_poked()
        core.rest(self.now())
        server.turn()
        state = core.freeze_machine(self.now())
        own = list(self._guest_pieces())
        guest = encode_plain(server.guest.freeze())
        self.shown = server.host.display(0).pixels.tobytes()
        server.turn()
        rest, last = rest_pieces(guest, state)
        for piece in (*own, *self._early.pieces(), *rest):
            yield from self._tell_piece(piece, early=False)
        self.link.stopped(last, self.now())
        self.reached("freeze")

    def _stay(self) -> None:
        """The guest goes on here."""
        self.stay()
        if not self.server.owns:
            self.server.take_guest()
        self.server.turn()

    def _connect(self) -> Work:
        """Reach the target once more, to ask what has become of the guest."""
        try:
            yield from self._reach()
        except ConnectError as error:
            self.link.lost(str(error), self.now())
        else:
            self.link.connected(self.now())
        self.poke()

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> None:
        """It is over."""
        super().finish()
        if self.completed:
            self.unlink()
