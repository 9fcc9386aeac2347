"""Both ends of a link between two servers in memory, with a guest that is a name of its owner.

Bytes travel whole or one by one; each end is pickled after every step. `LinkPair.cut` breaks the
line, a dead end answers nothing and can't be reached.
"""

from __future__ import annotations

import pickle
from typing import Any

from tests.script import OneKey

from aiospice.channels.events import Event
from aiospice.errors import AiospiceError
from aiospice.migration.link_source import Do, SourceLink, SourceLinkPhase
from aiospice.migration.link_target import TargetDo, TargetLink, TargetMemory
from aiospice.migration.peer import Agree, Expected, Piece, Propose
from aiospice.migration.peer_codec import PeerReader, encode_peer

__all__ = ["LinkCrypto", "LinkPair"]

PROPOSAL = Propose("m1", "carry", "demo", (Expected(7, "secret"),), ((10, 0, "echo"),), (0,))


class LinkCrypto(OneKey):
    """Keys that can be foretold."""

    def make_exchange_key(self) -> tuple[bytes, bytes]:
        """Always the same."""
        return b"p" * 32, b"q" * 32

    def exchange(self, private: bytes, public: bytes, context: bytes) -> bytes:
        """A mixture."""
        return bytes(a ^ b for a, b in zip(private, context[-32:], strict=True))


class LinkPair:
    """See the module's text."""

    def __init__(self, *, cut: int = 0) -> None:
        self.now = 100.0
        self.cut_to = cut
        self.memory = TargetMemory()
        self.source = SourceLink(PROPOSAL, "the target", LinkCrypto(), self.now)
        self.targets: list[TargetLink] = []
        self.events: list[Event] = []
        #: Where the guest may run: what the shells have been ordered so far.
        self.runs_at_source = True
        self.runs_at_target = False
        self.done: list[str] = []
        self.source_dead = self.target_dead = False
        #: Messages of a kind that get lost without the line being cut.
        self.mute: set[str] = set()
        self.line = False
        self.reachable = True
        self.auto = True
        #: What either side is to fail at, with a text.
        self.refuses = ""
        self._readers: dict[str, PeerReader] = {}
        self.connect()

    def connect(self) -> None:
        """The source reaches the target."""
        self.line = True
        self._readers = {"source": PeerReader(), "target": PeerReader()}
        self.targets.append(TargetLink(self.memory, LinkCrypto(), self.now))

    @property
    def target(self) -> TargetLink:
        """The newest link at the target."""
        return self.targets[-1]

    # -- the world -------------------------------------------------------------------------------

    def run(self) -> None:
        """Until nothing moves."""
        for _ in range(1000):
            self.check()
            if not self._round():
                return
        raise AssertionError("it never comes to rest")

    def check(self) -> None:
        """A guest never runs at both, and doesn't stand still with nobody being told."""
        assert not (self.runs_at_source and self.runs_at_target)

    def _round(self) -> bool:
        busy = False
        if not self.source_dead:
            busy |= self._send(self.source, "source")
            busy |= self._source_orders()
            self.events += self.source.events
            self.source.events = []
        for target in self.targets if not self.target_dead else ():
            if target is self.target:
                busy |= self._send(target, "target")
            target.outbox.clear()
            busy |= self._target_orders(target)
            self.events += target.events
            target.events = []
        return busy

    def _send(self, end: SourceLink | TargetLink, name: str) -> bool:
        messages, end.outbox = end.outbox, []
        for message in messages:
            if not self.line or type(message).__name__ in self.mute:
                continue
            data = encode_peer(message)
            step = self.cut_to or len(data)
            for at in range(0, len(data), step):
                self._arrive(name, data[at : at + step])
        return bool(messages)

    def _arrive(self, sender: str, data: bytes) -> None:
        receiver: Any = self.target if sender == "source" else self.source
        dead = self.target_dead if sender == "source" else self.source_dead
        if dead:
            return
        for message in self._readers[sender].receive(data):
            try:
                receiver.receive(message, self.now)
            except AiospiceError as error:
                self.break_line(str(error))
                return

    def pickled(self) -> None:
        """All ends go on as copies of themselves."""
        kept = pickle.loads(pickle.dumps((self.source, self.targets, self.memory)))
        self.source, self.targets, self.memory = kept

    def break_line(self, text: str = "cut") -> None:
        """The connection is gone, and both ends learn of it."""
        self.line = False
        if not self.source_dead:
            self.source.lost(text, self.now)
        if not self.target_dead:
            self.target.lost(text)

    # -- what shells do --------------------------------------------------------------------------

    def _source_orders(self) -> bool:
        orders, self.source.orders = self.source.orders, []
        for order in orders:
            self.done.append(f"source {order.do.value}")
            if order.do is Do.PREPARE and self.auto:
                self.source.outbox.append(Piece("pixels/0", b"early"))
                self.source.copied(self.now)
                self.source.clients_ready(self.now)
            elif order.do is Do.FREEZE:
                self.runs_at_source = False
                self.source.stopped(b"late", self.now)
            elif order.do is Do.STAY:
                self.runs_at_source = True
            elif order.do is Do.COMPLETE:
                self.source.clients[7] = None
            elif order.do is Do.CLOSE and self.line:
                self._send(self.source, "source")
                self.line = False
                self.target.lost("closed")
            elif order.do is Do.CONNECT:
                self._connect_again()
        return bool(orders)

    def _connect_again(self) -> None:
        if self.reachable and not self.target_dead:
            self.connect()
            self.source.connected(self.now)
        else:
            self.source.lost("nobody listens", self.now)

    def _target_orders(self, target: TargetLink) -> bool:
        orders, target.orders = target.orders, []
        for order in orders:
            self.done.append(f"target {order.do.value}")
            if self.refuses and order.do.value == self.refuses:
                target.refuse("it can't be")
            elif order.do is TargetDo.EXPECT:
                target.agree(Agree("target", 5900, 0, ""), self.now)
            elif order.do is TargetDo.TAKE:
                target.ready(self.now)
            elif order.do is TargetDo.RUN:
                self.runs_at_target = True
                target.running()
            elif order.do is TargetDo.CLOSE and target is self.target and self.line:
                self._send(target, "target")
                self.line = False
                if not self.source_dead:
                    self.source.lost("closed", self.now)
        return bool(orders)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        for _ in range(1000):
            ends: list[Any] = [] if self.source_dead else [self.source]
            ends += [] if self.target_dead else self.targets
            times = [at for one in ends if (at := one.next_wake()) is not None and at <= end]
            if not times:
                break
            self.now = max(self.now, min(times))
            for one in ends:
                one.wake(self.now)
            self.run()
        else:
            raise AssertionError("the ends ask to be woken again and again")
        self.now = end

    def step_until(self, phase: SourceLinkPhase) -> None:
        """Go on, one thing at a time, until the source is there."""
        for _ in range(100):
            if self.source.phase is phase:
                return
            self.pickled()
            self._round()
            self.check()
        raise AssertionError(f"{phase} isn't reached: {self.source.phase}")
