"""The source's end of the link to the target: in what order what is told, and who has the guest.

::

    GREETING -Hello-> PROPOSED -Agree-> MOVING -clients ready, state copied-> STOPPING
    STOPPING -all is told-> STOPPED -Ready-> GONE -Running-> RUNNING -all have arrived-> OVER
    any before GONE --refused, silence, link lost, cancel--> OVER (the guest stays)
    the same, and clients were sent off to be held --> RETURNING --they are back--> OVER
    GONE --link lost, silence--> ASKING --Running--> RUNNING; --Refuse--> OVER (the guest stays)
    ASKING --nobody answers--> UNCERTAIN --an answer, resume, discard--> as above

The guest is the source's until `Go` is sent. From then on it is only given back by the target's own
word that it has dropped it, or by an operator's. Pure and plain data: who holds it carries out
`orders`, sends `outbox`, passes `inbox` on to the core, and tells what happens and the time.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from aiospice.channels.events import Event
from aiospice.errors import RemoteProtocolError, StateError
from aiospice.migration import peer
from aiospice.migration.link import GREET_SECONDS, Greeting

if TYPE_CHECKING:
    from aiospice.migration.link import LinkCrypto
    from aiospice.migration.peer import Agree, PeerMessage, Propose

__all__ = [
    "ASK_SECONDS",
    "FOLLOW_SECONDS",
    "PROPOSE_SECONDS",
    "READY_SECONDS",
    "RETRY_SECONDS",
    "RUN_SECONDS",
    "ClientFollowed",
    "ClientMissed",
    "Do",
    "HandoverAgreed",
    "HandoverBegan",
    "HandoverFailed",
    "HandoverFinished",
    "HandoverReady",
    "HandoverRunning",
    "HandoverStopped",
    "HandoverUncertain",
    "SourceLink",
    "SourceLinkPhase",
    "SourceOrder",
]

#: How long the target may take to say whether it agrees.
PROPOSE_SECONDS = 10.0
#: How long it may take to take the guest's state up, and then to let it run.
READY_SECONDS = 10.0
RUN_SECONDS = 5.0
#: How long it is asked what has become of the guest until an operator is told, how often, and how
#: often from then on.
ASK_SECONDS = 15.0
RETRY_SECONDS = 0.5
LATER_SECONDS = 10.0
#: How long clients that have left may take to be told to have arrived.
FOLLOW_SECONDS = 15.0


class SourceLinkPhase(Enum):
    """See the module's text."""

    GREETING = "the target is greeted"
    PROPOSED = "the target is asked"
    MOVING = "clients connect, the state is copied"
    STOPPING = "the guest stands still"
    STOPPED = "the target takes the guest up"
    GONE = "the guest was handed over"
    ASKING = "the target is asked what has become of the guest"
    UNCERTAIN = "nobody knows who has the guest"
    RUNNING = "the guest runs on the target"
    RETURNING = "the guest stayed, and clients come back"
    OVER = "over"


class HandoverBegan(Event):
    """The target of a hand-over is asked."""

    migration: str
    target: str
    policy: str
    clients: int


class HandoverAgreed(Event):
    """The target takes the guest; clients are to connect to it."""

    migration: str
    host: str
    port: int
    tls_port: int


class HandoverReady(Event):
    """Clients have connected or had their time, and what can be copied beforehand is there."""

    migration: str


class HandoverStopped(Event):
    """All of the guest is told; ``early`` bytes while it ran, ``late`` since it stands still."""

    migration: str
    early: int
    late: int


class HandoverRunning(Event):
    """The guest runs on the target; it stood still for ``seconds``."""

    migration: str
    seconds: float


class HandoverFinished(Event):
    """No client is left here.

    How many arrived whole, had to begin anew, were sent there as new clients (``away``), or are
    missed.
    """

    migration: str
    whole: int
    anew: int
    away: int
    missed: int
    seconds: float


class ClientFollowed(Event):
    """A client is at the target; ``whole``: nothing of its session had to begin anew."""

    migration: str
    client: int
    whole: bool


class ClientMissed(Event):
    """A client hasn't arrived at the target, or its session ended on the way."""

    migration: str
    client: int
    reason: str


class HandoverFailed(Event):
    """The guest stays here, and goes on."""

    migration: str
    reason: str


class HandoverUncertain(Event):
    """The guest was handed over, and the target doesn't say whether it runs it.

    It stands still here. The target is asked on; an operator can decide (`resume`, `discard`).
    """

    migration: str
    reason: str


class Do(Enum):
    """What the holder of a link is to do."""

    #: The link is up: its sealing key is `SourceLink.key`.
    LINKED = "linked"
    #: Have clients connect to `SourceLink.agreed`, and copy what can be copied.
    PREPARE = "prepare"
    #: Stop the guest and tell all of it, then call `SourceLink.stopped`.
    FREEZE = "freeze"
    #: The guest is the target's: clients follow.
    COMPLETE = "complete"
    #: The guest stays: undo what was begun.
    STAY = "stay"
    #: Connect to the target once more, then call `SourceLink.connected` or `lost`.
    CONNECT = "connect"
    #: The link isn't needed any more, once `outbox` is sent.
    CLOSE = "close"


class SourceOrder(NamedTuple):
    """An order, with a reason for people."""

    do: Do
    text: str = ""


_EARLY = (
    SourceLinkPhase.GREETING,
    SourceLinkPhase.PROPOSED,
    SourceLinkPhase.MOVING,
    SourceLinkPhase.STOPPING,
    SourceLinkPhase.STOPPED,
)
_FOR_THE_CORE = (peer.Record, peer.Late, peer.LateEnd)


class SourceLink:
    """See the module's text."""

    def __init__(
        self,
        proposal: Propose,
        target: str,
        crypto: LinkCrypto,
        now: float,
        *,
        ready_seconds: float = 10.0,
    ) -> None:
        self.proposal = proposal
        #: The target, for people.
        self.target = target
        self.phase = SourceLinkPhase.GREETING
        self.agreed: Agree | None = None
        #: The migration's sealing key, 32 bytes, once both have greeted.
        self.key: bytes | None = None
        self.outbox: list[PeerMessage] = []
        self.inbox: list[PeerMessage] = []
        self.orders: list[SourceOrder] = []
        self.events: list[Event] = []
        self.deadline: float | None = now + GREET_SECONDS
        #: What has become of each client: None while it is on its way, then whether it is whole.
        self.clients: dict[int, bool | None] = {}
        self.missed: dict[int, str] = {}
        #: Clients that couldn't be connected beforehand, and are sent there as new ones.
        self.away = 0
        #: Bytes of state that were told while the guest ran, and since it stands still.
        self.early_bytes = 0
        self.late_bytes = 0
        #: Why the guest stayed, or nobody knows.
        self.reason = ""
        self.up = True
        #: If the guest stays, the target has something of its clients to give back (`returned`).
        self.takes_back = False
        self._ready_seconds = ready_seconds
        self._ready = self._copied = False
        self._began = now
        self._stopped_at = now
        self._left = False
        self._ask_until = 0.0
        self._greeting = Greeting(crypto)
        self._crypto = crypto
        self.outbox.append(self._greeting.hello)
        self.events.append(
            HandoverBegan(
                migration=proposal.migration,
                target=target,
                policy=proposal.policy,
                clients=len(proposal.clients),
            )
        )

    @property
    def over(self) -> bool:
        """Nothing more comes of it."""
        return self.phase is SourceLinkPhase.OVER

    @property
    def owns_guest(self) -> bool:
        """The guest is this server's: it runs here, or goes on here if nothing else is done."""
        stayed = self.phase is SourceLinkPhase.OVER and bool(self.reason)
        return self.phase in _EARLY or self.phase is SourceLinkPhase.RETURNING or stayed

    # -- the holder tells ------------------------------------------------------------------------

    def receive(self, message: PeerMessage, now: float) -> None:
        """A message of the target. `RemoteProtocolError`: the link is to be cut, and `lost`."""
        if self.over:
            return
        if self.phase is SourceLinkPhase.RETURNING:
            if isinstance(message, _FOR_THE_CORE):
                self.inbox.append(message)
        elif isinstance(message, peer.Hello):
            self._greeted(message, now)
        elif isinstance(message, peer.Refuse):
            self._refused(message.text, now)
        elif isinstance(message, peer.Agree) and self.phase is SourceLinkPhase.PROPOSED:
            self._agreed(message, now)
        elif isinstance(message, peer.Ready) and self.phase is SourceLinkPhase.STOPPED:
            self.phase = SourceLinkPhase.GONE
            self.deadline = now + RUN_SECONDS
            self.outbox.append(peer.Go())
        elif isinstance(message, peer.Running):
            self._runs(message, now)
        elif self.phase is SourceLinkPhase.RUNNING:
            self._followed(message, now)
        else:
            raise RemoteProtocolError(
                f"it came while {self.phase.value}", message=f"peer {type(message).__name__}"
            )

    def clients_ready(self, now: float) -> None:
        """Clients are connected to the target, or had their time."""
        self._ready = True
        self._freeze_if_ready(now)

    def copied(self, now: float) -> None:
        """What can be told while the guest runs has been told."""
        self._copied = True
        self._freeze_if_ready(now)

    def stands_still(self, now: float) -> None:
        """The guest stands still from now on, where that isn't since `Do.FREEZE` was ordered."""
        if self.phase is SourceLinkPhase.STOPPING:
            self._stopped_at = now

    def stopped(self, data: bytes, now: float) -> None:
        """The guest stands still; ``data`` is the rest of its state, behind the last `Piece`."""
        if self.phase is not SourceLinkPhase.STOPPING:
            return
        self.phase = SourceLinkPhase.STOPPED
        self.deadline = now + READY_SECONDS
        self.late_bytes += len(data)
        self.outbox.append(peer.Stopped(data=data))
        self.events.append(
            HandoverStopped(
                migration=self.proposal.migration, early=self.early_bytes, late=self.late_bytes
            )
        )

    def left(self, now: float) -> None:
        """No client is on this server any more."""
        if self.phase is SourceLinkPhase.RUNNING and not self._left:
            self._left = True
            self.deadline = now + FOLLOW_SECONDS
            if self.up:
                self._look(now)
            else:
                self._finish(now)

    def client_gone(self, client: int, now: float) -> None:
        """A client that was to come along has ended its session itself, before it left."""
        if self.clients.get(client, True) is None:
            del self.clients[client]
            self._look(now)

    def lost(self, text: str, now: float) -> None:
        """The link is cut, or couldn't be made."""
        self.up = False
        if self.phase in _EARLY:
            self._stay(f"the link to {self.target} is lost: {text}")
        elif self.phase is SourceLinkPhase.GONE:
            self._ask(text, now)
        elif self.phase in (SourceLinkPhase.ASKING, SourceLinkPhase.UNCERTAIN):
            asking = self.phase is SourceLinkPhase.ASKING
            self.deadline = now + (RETRY_SECONDS if asking else LATER_SECONDS)
        elif self.phase is SourceLinkPhase.RUNNING and self._left:
            self._finish(now)
        elif self.phase is SourceLinkPhase.RETURNING:
            self.returned()

    def returned(self) -> None:
        """All that clients had said at the target is here, or has had its time."""
        if self.phase is SourceLinkPhase.RETURNING:
            self.phase = SourceLinkPhase.OVER
            self.orders.append(SourceOrder(Do.CLOSE))

    def connected(self, now: float) -> None:
        """The link is made again (`Do.CONNECT`)."""
        self.up = True
        self._greeting = Greeting(self._crypto)
        self.outbox = [self._greeting.hello]
        self.deadline = now + GREET_SECONDS

    def cancel(self, text: str) -> None:
        """The guest is to stay. `StateError` once it was handed over, or nothing is under way."""
        if self.phase not in _EARLY:
            raise StateError(f"the hand-over can't be called off: {self.phase.value}")
        if self.up:
            self.outbox.append(peer.Cancel(text=text[:1000]))
        self._stay(text)

    def resume(self) -> None:
        """An operator says that the target doesn't have the guest. `StateError` if it is known."""
        self._operator()
        self._stay("an operator let the guest go on here")

    def discard(self, now: float) -> None:
        """An operator says that the target has the guest. `StateError` if it is known."""
        self._operator()
        self.orders.append(SourceOrder(Do.CLOSE))
        self.up = False
        self._gone(now)

    def _operator(self) -> None:
        if self.phase is not SourceLinkPhase.UNCERTAIN:
            raise StateError(f"there is nothing to decide: {self.phase.value}")

    # -- what messages mean ----------------------------------------------------------------------

    def _greeted(self, hello: peer.Hello, now: float) -> None:
        asking = self.phase in (SourceLinkPhase.ASKING, SourceLinkPhase.UNCERTAIN)
        if self.phase is not SourceLinkPhase.GREETING and not asking:
            raise RemoteProtocolError("a second one", message="peer Hello")
        key = self._greeting.key(self._crypto, hello, source=True)
        if asking:
            self.deadline = now + GREET_SECONDS
            self.outbox.append(peer.Ask(migration=self.proposal.migration))
            return
        self.key = key
        self.phase = SourceLinkPhase.PROPOSED
        self.deadline = now + PROPOSE_SECONDS
        self.orders.append(SourceOrder(Do.LINKED))
        self.outbox.append(self.proposal)

    def _agreed(self, message: Agree, now: float) -> None:
        self.agreed = message
        self.phase = SourceLinkPhase.MOVING
        self.deadline = now + self._ready_seconds
        self.orders.append(SourceOrder(Do.PREPARE))
        self.events.append(
            HandoverAgreed(
                migration=self.proposal.migration,
                host=message.host,
                port=message.port,
                tls_port=message.tls_port,
            )
        )

    def _refused(self, text: str, now: float) -> None:
        if self.phase is SourceLinkPhase.RUNNING:
            raise RemoteProtocolError("the guest runs there already", message="peer Refuse")
        self._stay(f"{self.target} refuses: {text[:1000]}")

    def _runs(self, message: peer.Running, now: float) -> None:
        phases = (SourceLinkPhase.GONE, SourceLinkPhase.ASKING, SourceLinkPhase.UNCERTAIN)
        if self.phase not in phases or message.migration != self.proposal.migration:
            raise RemoteProtocolError(
                f"of {message.migration[:40]!r} while {self.phase.value}", message="peer Running"
            )
        self._gone(now)

    def _gone(self, now: float) -> None:
        self.phase = SourceLinkPhase.RUNNING
        self.deadline = None
        self.reason = ""
        self.orders.append(SourceOrder(Do.COMPLETE))
        self.events.append(
            HandoverRunning(migration=self.proposal.migration, seconds=now - self._stopped_at)
        )

    def _followed(self, message: PeerMessage, now: float) -> None:
        if isinstance(message, peer.Arrived):
            self.clients[message.client] = message.whole
            self.events.append(
                ClientFollowed(
                    migration=self.proposal.migration, client=message.client, whole=message.whole
                )
            )
        elif isinstance(message, peer.Missed):
            self.clients.pop(message.client, None)
            self._miss(message.client, message.text[:1000])
        elif isinstance(message, _FOR_THE_CORE):
            self.inbox.append(message)
            return
        else:
            raise RemoteProtocolError(
                "the guest runs already", message=f"peer {type(message).__name__}"
            )
        self._look(now)

    # -- steps -----------------------------------------------------------------------------------

    def _freeze_if_ready(self, now: float) -> None:
        if self.phase is SourceLinkPhase.MOVING and self._ready and self._copied:
            self.phase = SourceLinkPhase.STOPPING
            self.deadline = None
            self._stopped_at = now
            self.orders.append(SourceOrder(Do.FREEZE))
            self.events.append(HandoverReady(migration=self.proposal.migration))

    def _stay(self, text: str) -> None:
        back = self.takes_back and self.up
        self.phase = SourceLinkPhase.RETURNING if back else SourceLinkPhase.OVER
        self.deadline = None
        self.reason = text
        self.orders.append(SourceOrder(Do.STAY, text))
        if not back:
            self.orders.append(SourceOrder(Do.CLOSE))
        self.events.append(HandoverFailed(migration=self.proposal.migration, reason=text))

    def _ask(self, text: str, now: float) -> None:
        self.reason = text
        self.phase = SourceLinkPhase.ASKING
        self._ask_until = now + ASK_SECONDS
        self.orders += [SourceOrder(Do.CLOSE), SourceOrder(Do.CONNECT)]
        self.deadline = self._ask_until

    def _look(self, now: float) -> None:
        if self._left and None not in self.clients.values():
            self._finish(now)

    def _miss(self, client: int, text: str) -> None:
        self.missed[client] = text
        self.events.append(
            ClientMissed(migration=self.proposal.migration, client=client, reason=text)
        )

    def _finish(self, now: float) -> None:
        for client, whole in list(self.clients.items()):
            if whole is None:
                self._miss(client, "the target doesn't tell that it has arrived")
                del self.clients[client]
        known = list(self.clients.values())
        self.phase = SourceLinkPhase.OVER
        self.deadline = None
        self.orders.append(SourceOrder(Do.CLOSE))
        self.events.append(
            HandoverFinished(
                migration=self.proposal.migration,
                whole=known.count(True),
                anew=known.count(False),
                away=self.away,
                missed=len(self.missed),
                seconds=now - self._began,
            )
        )

    # -- time ------------------------------------------------------------------------------------

    def next_wake(self) -> float | None:
        """When `wake` wants to be called."""
        return self.deadline

    def wake(self, now: float) -> None:
        """Give up on what takes too long."""
        if self.deadline is None or now < self.deadline:
            return
        phase = self.phase
        if phase is SourceLinkPhase.MOVING:
            self.deadline = None
            self.clients_ready(now)
        elif phase in _EARLY:
            self.cancel(f"{self.target} doesn't answer in time ({phase.value})")
        elif phase is SourceLinkPhase.GONE:
            self._ask(f"no word within {RUN_SECONDS:g} s", now)
        elif phase is SourceLinkPhase.RUNNING:
            self._finish(now)
        else:
            self._ask_again(now)

    def _ask_again(self, now: float) -> None:
        if self.phase is SourceLinkPhase.ASKING and now >= self._ask_until:
            self.phase = SourceLinkPhase.UNCERTAIN
            self.events.append(
                HandoverUncertain(migration=self.proposal.migration, reason=self.reason)
            )
        asking = self.phase is SourceLinkPhase.ASKING
        wait = GREET_SECONDS if asking else LATER_SECONDS
        self.deadline = min(now + wait, self._ask_until) if asking else now + wait
        self.orders += [SourceOrder(Do.CLOSE), SourceOrder(Do.CONNECT)]
        self.up = False
