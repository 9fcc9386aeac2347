"""The target's end of the link to a source: what it agrees to, and when the guest is its own.

::

    GREETING -Hello-> IDLE -Propose-> PROPOSED -agree-> AGREED -Stopped-> STOPPED -ready-> READY
    READY -Go-> STARTING -running-> RUNNING -the link ends-> OVER
    IDLE -Ask-> RUNNING (it runs here), or OVER (it never will); ASKED while it begins to
    any before STARTING --cancel, silence, link lost, refusal--> OVER (all of it is dropped)
    AGREED, STOPPED, READY with clients that are held --cancel, refusal--> RETURNING --> OVER

The guest is the target's from `Go` on and not before: what came of it is dropped if the link ends,
and a source that asks later is told so. Pure and plain data: who holds it carries out `orders`,
sends `outbox`, passes `inbox` on to the core, and tells what happens and the time.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from aiospice.channels.events import Event
from aiospice.errors import RemoteProtocolError
from aiospice.migration import peer
from aiospice.migration.link import GREET_SECONDS, Greeting
from aiospice.migration.source import Policy

if TYPE_CHECKING:
    from aiospice.migration.link import LinkCrypto
    from aiospice.migration.peer import Agree, PeerMessage, Propose

__all__ = [
    "GO_SECONDS",
    "IDLE_SECONDS",
    "STATE_SECONDS",
    "GuestAnnounced",
    "GuestArrived",
    "GuestDropped",
    "TargetDo",
    "TargetLink",
    "TargetLinkPhase",
    "TargetMemory",
    "TargetOrder",
]

#: How long a source that is linked may take to say what it wants.
IDLE_SECONDS = 10.0
#: How long the guest may take to come, from when it was agreed to take it.
STATE_SECONDS = 600.0
#: How long its source may take to say that it is this server's.
GO_SECONDS = 10.0
#: Migrations whose end is remembered, for sources that ask.
REMEMBERED = 64


class TargetLinkPhase(Enum):
    """See the module's text."""

    GREETING = "the source is greeted"
    IDLE = "the source is to say what it wants"
    ASKED = "it is seen whether the guest begins to run"
    PROPOSED = "it is looked whether the guest fits"
    AGREED = "the guest's state comes"
    STOPPED = "the guest is taken up"
    READY = "the source is to let go"
    STARTING = "the guest begins to run"
    RUNNING = "the guest runs here"
    RETURNING = "the guest doesn't come, and its clients go back"
    OVER = "over"


class GuestAnnounced(Event):
    """A guest is about to come from another server."""

    migration: str
    guest: str
    policy: str
    clients: int


class GuestArrived(Event):
    """The guest runs here; ``early`` bytes of it came while it ran there, ``late`` since."""

    migration: str
    early: int
    late: int


class GuestDropped(Event):
    """A guest that was announced doesn't come: it is its source's, and nothing of it is here."""

    migration: str
    reason: str


class TargetDo(Enum):
    """What the holder of a link is to do."""

    #: What concerns sessions goes over this link, its sealing key is `TargetLink.key`. A link that
    #: asks (``proposal`` is None) leaves the core to one of another migration that is up.
    LINKED = "linked"
    #: Look whether the guest fits, expect its clients, then call `agree` or `refuse`.
    EXPECT = "expect"
    #: Take the guest up without letting it run, then call `ready` or `refuse`.
    TAKE = "take"
    #: Let it run, then call `running` or `refuse`.
    RUN = "run"
    #: Forget all of it; while RETURNING, give back what clients have said here and still say, then
    #: call `returned`.
    DROP = "drop"
    #: The link isn't needed any more, once `outbox` is sent.
    CLOSE = "close"


class TargetOrder(NamedTuple):
    """An order, with a reason for people, or the state's last bytes."""

    do: TargetDo
    text: str = ""
    data: bytes = b""


class TargetMemory:
    """What a server knows of the guests that came to it, beyond a link's life. Plain data."""

    def __init__(self) -> None:
        #: Migrations whose guest began to run here, with their sealing keys; the oldest first.
        self.ran: dict[str, bytes] = {}
        #: Those that a link is at work on.
        self.active: dict[str, TargetLink] = {}
        #: Links whose sources ask for a guest that is just beginning to run.
        self.asked: list[TargetLink] = []

    def began(self, migration: str, key: bytes) -> None:
        """A guest runs here from now on."""
        self.ran[migration] = key
        while len(self.ran) > REMEMBERED:
            del self.ran[next(iter(self.ran))]

    def settle(self, migration: str) -> bool | None:
        """Whether the guest of a migration runs here; if not, it never will. None: not known yet.

        It is this server's and doesn't run yet, then; `answer` is called once that is decided.
        """
        link = self.active.get(migration)
        if link is not None and not link.owns_guest:
            link.drop("its source asks what has become of it")
        if link is not None and link.phase is TargetLinkPhase.STARTING:
            return None
        return migration in self.ran

    def answer(self) -> None:
        """Tell sources that have asked too early."""
        asked, self.asked = self.asked, []
        for link in asked:
            link.answer()


_EARLY = (
    TargetLinkPhase.GREETING,
    TargetLinkPhase.IDLE,
    TargetLinkPhase.PROPOSED,
    TargetLinkPhase.AGREED,
    TargetLinkPhase.STOPPED,
    TargetLinkPhase.READY,
)
_EXPECTING = (TargetLinkPhase.AGREED, TargetLinkPhase.STOPPED, TargetLinkPhase.READY)
_FOR_THE_CORE = (peer.Record, peer.Late, peer.LateEnd)


class TargetLink:
    """See the module's text."""

    def __init__(self, memory: TargetMemory, crypto: LinkCrypto, now: float) -> None:
        self.phase = TargetLinkPhase.GREETING
        self.proposal: Propose | None = None
        #: The migration, as soon as the source has named it.
        self.migration = ""
        #: The migration's sealing key, 32 bytes, once both have greeted.
        self.key: bytes | None = None
        self.outbox: list[PeerMessage] = []
        self.inbox: list[PeerMessage] = []
        #: Parts of the state that the holder is to take and keep.
        self.pieces: list[peer.Piece] = []
        self.orders: list[TargetOrder] = []
        self.events: list[Event] = []
        self.deadline: float | None = now + GREET_SECONDS
        #: Bytes of state that came while the guest ran, and since.
        self.early_bytes = 0
        self.late_bytes = 0
        self._memory = memory
        self._greeting = Greeting(crypto)
        self._crypto = crypto
        self._told: set[int] = set()
        #: The link was cut while the guest was beginning to run.
        self._cut = False
        self.outbox.append(self._greeting.hello)

    @property
    def over(self) -> bool:
        """Nothing more comes of it."""
        return self.phase is TargetLinkPhase.OVER

    @property
    def owns_guest(self) -> bool:
        """The guest is this server's."""
        return self.phase in (TargetLinkPhase.STARTING, TargetLinkPhase.RUNNING)

    # -- the holder tells ------------------------------------------------------------------------

    def receive(self, message: PeerMessage, now: float) -> None:
        """A message of the source. `RemoteProtocolError`: the link is to be cut, and `lost`."""
        if self.over or self.phase is TargetLinkPhase.RETURNING:
            return
        phase = self.phase
        if isinstance(message, peer.Hello) and phase is TargetLinkPhase.GREETING:
            self.key = self._greeting.key(self._crypto, message, source=False)
            self.phase = TargetLinkPhase.IDLE
            self.deadline = now + IDLE_SECONDS
        elif isinstance(message, peer.Propose) and phase is TargetLinkPhase.IDLE:
            self._proposed(message, now)
        elif isinstance(message, peer.Ask) and phase is TargetLinkPhase.IDLE:
            self._asked(message)
        elif isinstance(message, peer.Piece) and phase is TargetLinkPhase.AGREED:
            self.early_bytes += len(message.data)
            self.pieces.append(message)
        elif isinstance(message, peer.Stopped) and phase is TargetLinkPhase.AGREED:
            self.phase = TargetLinkPhase.STOPPED
            self.deadline = None
            self.late_bytes += len(message.data)
            self.orders.append(TargetOrder(TargetDo.TAKE, data=message.data))
        elif isinstance(message, peer.Go) and phase is TargetLinkPhase.READY:
            self.phase = TargetLinkPhase.STARTING
            self.deadline = None
            self.orders.append(TargetOrder(TargetDo.RUN))
        elif isinstance(message, peer.Cancel) and phase in _EARLY:
            self.drop(message.text[:1000])
        elif isinstance(message, _FOR_THE_CORE) and phase is TargetLinkPhase.RUNNING:
            self.inbox.append(message)
        else:
            raise RemoteProtocolError(
                f"it came while {phase.value}", message=f"peer {type(message).__name__}"
            )

    def agree(self, message: Agree, now: float) -> None:
        """The guest fits, and its clients are expected."""
        if self.phase is TargetLinkPhase.PROPOSED:
            self.phase = TargetLinkPhase.AGREED
            self.deadline = now + STATE_SECONDS
            # Not before: a guest of this server's own may be on its way from here.
            self.orders.append(TargetOrder(TargetDo.LINKED))
            self.outbox.append(message)

    def ready(self, now: float) -> None:
        """The guest is taken up, and doesn't run yet."""
        if self.phase is TargetLinkPhase.STOPPED:
            self.phase = TargetLinkPhase.READY
            self.deadline = now + GO_SECONDS
            self.outbox.append(peer.Ready())

    def running(self) -> None:
        """The guest runs."""
        assert self.phase is TargetLinkPhase.STARTING
        assert self.key is not None
        self.phase = TargetLinkPhase.RUNNING
        self._memory.began(self.migration, self.key)
        self.outbox.append(peer.Running(migration=self.migration))
        self.events.append(
            GuestArrived(migration=self.migration, early=self.early_bytes, late=self.late_bytes)
        )
        if self._cut:
            self._over()
        self._memory.answer()

    def refuse(self, text: str) -> None:
        """It can't be: the guest is the source's, whatever was agreed."""
        settled = (TargetLinkPhase.RUNNING, TargetLinkPhase.RETURNING)
        if not self.over and self.phase not in settled:
            self.outbox.append(peer.Refuse(text=text[:1000]))
            self._drop(text)
            self._memory.answer()

    def drop(self, text: str) -> None:
        """All of it is forgotten, if the guest isn't this server's yet."""
        if self.phase in _EARLY:
            self._drop(text)

    def lost(self, text: str) -> None:
        """The link is cut."""
        if self.phase in _EARLY:
            self._drop(f"the link to its source is lost: {text}", back=False)
        elif self.phase is TargetLinkPhase.STARTING:
            self._cut = True
        elif self.phase is not TargetLinkPhase.OVER:
            self._over()

    def returned(self) -> None:
        """All clients are gone, and nothing more is to be given back."""
        if self.phase is TargetLinkPhase.RETURNING:
            self._over()

    def tell(self, message: PeerMessage) -> None:
        """Tell the source something of step 5 to 7; who has arrived is told once."""
        if self.phase is TargetLinkPhase.RETURNING:
            if isinstance(message, _FOR_THE_CORE):
                self.outbox.append(message)
            return
        if self.phase is not TargetLinkPhase.RUNNING:
            return
        if isinstance(message, (peer.Arrived, peer.Missed)):
            if message.client in self._told:
                return
            self._told.add(message.client)
        self.outbox.append(message)

    # -- what messages mean ----------------------------------------------------------------------

    def _proposed(self, message: Propose, now: float) -> None:
        clients = [each.client for each in message.clients]
        if not message.migration or len(set(clients)) != len(clients) or len(clients) > 4096:
            raise RemoteProtocolError("it can't be so", message="peer Propose")
        self.proposal, self.migration = message, message.migration
        if message.migration in self._memory.ran or self._memory.active:
            self.outbox.append(peer.Refuse(text="another hand-over to this server is under way"))
            self._over()
            return
        self._memory.active[self.migration] = self
        self.phase = TargetLinkPhase.PROPOSED
        self.deadline = None
        self.orders.append(TargetOrder(TargetDo.EXPECT))
        self.events.append(
            GuestAnnounced(
                migration=message.migration,
                guest=message.guest[:200],
                policy=message.policy[:40],
                clients=len(message.clients),
            )
        )

    def _asked(self, message: peer.Ask) -> None:
        self.migration = message.migration
        self.phase, self.deadline = TargetLinkPhase.ASKED, None
        self.answer()

    def answer(self) -> None:
        """Tell a source that has asked whether the guest runs here, if that is known."""
        if self.phase is not TargetLinkPhase.ASKED:
            return
        runs = self._memory.settle(self.migration)
        if runs is None:
            self._memory.asked.append(self)
            return
        if not runs:
            self.outbox.append(peer.Refuse(text="the guest doesn't run here, and won't"))
            self._over()
            return
        self.key = self._memory.ran[self.migration]
        before = self._memory.active.get(self.migration)
        if before is not None:
            before._over()
        self._memory.active[self.migration] = self
        self.phase = TargetLinkPhase.RUNNING
        self.orders.append(TargetOrder(TargetDo.LINKED))
        self.outbox.append(peer.Running(migration=self.migration))

    def _drop(self, text: str, *, back: bool = True) -> None:
        known = self.phase not in (TargetLinkPhase.GREETING, TargetLinkPhase.IDLE)
        agreed = known and self.phase is not TargetLinkPhase.PROPOSED
        held = self.proposal is not None and self.proposal.policy == Policy.HOLD.value
        back = back and held and self.phase in _EXPECTING
        if agreed:
            self.orders.append(TargetOrder(TargetDo.DROP, text))
        elif known:  # nothing was expected yet, but sessions of others may be
            self.orders = [order for order in self.orders if order.do is not TargetDo.EXPECT]
        if known:
            self.events.append(GuestDropped(migration=self.migration, reason=text))
        if back:
            self.phase, self.deadline = TargetLinkPhase.RETURNING, None
        else:
            self._over()

    def _over(self) -> None:
        self.phase = TargetLinkPhase.OVER
        self.deadline = None
        if self._memory.active.get(self.migration) is self:
            del self._memory.active[self.migration]
        self.orders.append(TargetOrder(TargetDo.CLOSE))

    # -- time ------------------------------------------------------------------------------------

    def next_wake(self) -> float | None:
        """When `wake` wants to be called."""
        return self.deadline

    def wake(self, now: float) -> None:
        """Give up on what takes too long."""
        if self.deadline is None or now < self.deadline:
            return
        if self.phase in (TargetLinkPhase.GREETING, TargetLinkPhase.IDLE):
            # Nothing is refused by that: what it asks may be on its way.
            self._over()
            return
        self.refuse(f"nothing came in time ({self.phase.value})")
