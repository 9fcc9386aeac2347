"""The source's side of a hand-over, for all its clients: who is asked what, and how each leaves.

::

    IDLE -prepare-> CONNECTING -all have answered, or 10 s-> READY
    READY -complete-> LEAVING -all gone, or 10 s-> IDLE

`SourceMigration.cancel` leads back to IDLE until `complete`. `complete` while CONNECTING waits for
READY: a client that is nearly there loses nothing by it. Pure and plain data: it is told what
happens and the time, and gives `orders` and `events`. Facts: spice-server ``server/reds.cpp``.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from aiospice.channels.events import Event
from aiospice.errors import StateError
from aiospice.migration.targets import destination_text
from aiospice.wire import main
from aiospice.wire.caps import MainCap, has

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiospice.wire.message import Message

__all__ = [
    "ANSWER_SECONDS",
    "LEAVE_SECONDS",
    "ClientStage",
    "MoveCancelled",
    "MoveFinished",
    "MovePrepared",
    "MoveReady",
    "MoveStarted",
    "Order",
    "Policy",
    "RecordLeft",
    "SourceMigration",
    "SourcePhase",
]

#: How long a source waits for its clients to connect to the target, and to leave once the machine
#: has (spice-server: 10 s each).
ANSWER_SECONDS = 10.0
LEAVE_SECONDS = 10.0


class Policy(Enum):
    """How the state of a session gets to the target."""

    #: As upstream: the client sends a mark when it has sent everything, and carries the record.
    CARRY = "carry"
    #: As `CARRY`, but a display's record follows at once: nothing that its client may still send
    #: matters. Two trips less until the target can draw.
    CARRY_EARLY = "carry-early"
    #: The source tells the target itself, over a link between the two: the client changes over at
    #: once, and what it still sends to the source goes on to the target.
    DIRECT = "direct"
    #: As `DIRECT`, but the client stops sending before the guest's state is taken, so that nothing
    #: is under way.
    HOLD = "hold"
    #: The client keeps copies of what the guest may not have taken, and sends them again. The
    #: source tells it how far the guest is, and the target nothing that the client knows itself.
    REPLAY = "replay"
    #: The same; the client is told of each message that the guest takes.
    ACK = "ack"

    @property
    def needs_link(self) -> bool:
        """Whether the two servers need a link of their own."""
        return self not in (Policy.CARRY, Policy.CARRY_EARLY)

    @property
    def replays(self) -> bool:
        """Whether clients that keep copies send again what the guest hasn't taken."""
        return self in (Policy.REPLAY, Policy.ACK)


class SourcePhase(Enum):
    """Where a `SourceMigration` is."""

    IDLE = "idle"
    CONNECTING = "clients connect to the target"
    READY = "ready"
    LEAVING = "clients leave"


class ClientStage(Enum):
    """What one client has said, and so how it leaves."""

    ASKED = "asked"
    #: Everything of its session goes with it.
    WHOLE = "whole"
    #: It is connected, and begins anew there.
    ANEW = "anew"
    #: It isn't connected there: it has to go there as a new client.
    AWAY = "away"


class MovePrepared(Event):
    """Clients have been asked to connect to the target."""

    target: str
    clients: int


class MoveReady(Event):
    """Every client has answered, or had its time: how many go whole, begin anew, or reconnect."""

    target: str
    whole: int
    anew: int
    away: int


class MoveStarted(Event):
    """The machine has moved: clients are told to follow."""

    target: str


class RecordLeft(Event):
    """The first state of a channel is on its way to the target."""

    client: int
    channel: str


class MoveFinished(Event):
    """No client is left; ``late`` had to be disconnected."""

    target: str
    late: int
    seconds: float


class MoveCancelled(Event):
    """The machine stays here."""

    target: str


class Order(NamedTuple):
    """What is to be done for a client."""

    client: int
    #: A message to be sent on its main channel: a question, or the end.
    message: Message | None = None
    #: It is sent once the client has been handed all that was sent to it.
    quiet: bool = False
    #: Its channels are to move; what is asked of it doesn't count any more; it is to be dropped.
    move: bool = False
    withdraw: bool = False
    drop: bool = False


class SourceMigration:
    """See the module's text."""

    def __init__(self) -> None:
        self.phase = SourcePhase.IDLE
        self.destination: main.DstInfo | None = None
        self.policy = Policy.CARRY
        self.clients: dict[int, ClientStage] = {}
        #: `complete` has been called.
        self.wanted = False
        #: The machine is on the target: this server has nothing to show any more.
        self.moved = False
        self.deadline: float | None = None
        self.orders: list[Order] = []
        self.events: list[Event] = []
        self._began = 0.0

    @property
    def target(self) -> str:
        """The target, for people."""
        return "" if self.destination is None else destination_text(self.destination)

    # -- calls -----------------------------------------------------------------------------------

    def prepare(
        self,
        destination: main.DstInfo,
        policy: Policy,
        clients: Mapping[int, tuple[int, ...]],
        now: float,
        seconds: float = ANSWER_SECONDS,
    ) -> None:
        """Have clients connect to the target; ``clients``: capabilities of their main channels.

        Who hasn't answered after ``seconds`` isn't waited for.

        An earlier attempt is cancelled. `StateError` once the machine has left.
        """
        if self.phase is SourcePhase.LEAVING or self.moved:
            raise StateError(f"the machine has moved to {self.target}")
        if self.phase is not SourcePhase.IDLE:
            self.cancel()
        self.destination, self.policy = destination, policy
        self.phase = SourcePhase.CONNECTING
        self.wanted = False
        self.clients = {}
        self._began = now
        self.deadline = now + seconds
        for client, caps in clients.items():
            self._ask(client, caps)
        self.events.append(MovePrepared(target=self.target, clients=len(self.clients)))
        self._look(now)

    def _ask(self, client: int, caps: tuple[int, ...]) -> None:
        assert self.destination is not None
        self.clients[client] = ClientStage.ASKED
        tokens = has(caps, MainCap.AGENT_CONNECTED_TOKENS)
        message: Message
        if tokens and has(caps, MainCap.SEAMLESS_MIGRATE):
            message = main.MigrateBeginSeamless(
                destination=self.destination, src_mig_version=main.MIGRATION_VERSION
            )
        elif has(caps, MainCap.SEMI_SEAMLESS_MIGRATE):
            message = main.MigrateBegin(destination=self.destination)
        else:
            self.clients[client] = ClientStage.AWAY
            return
        self.orders.append(Order(client, message))

    def complete(self, now: float, wait: float | None = None) -> None:
        """The machine is on the target: have clients follow, as soon as they have answered.

        ``wait``: who hasn't in so many seconds reconnects; None leaves it at `ANSWER_SECONDS`.
        """
        if self.phase not in (SourcePhase.CONNECTING, SourcePhase.READY):
            raise StateError("no migration has been prepared")
        self.wanted = True
        if wait is not None and self.deadline is not None:
            self.deadline = min(self.deadline, now + wait)
            self.wake(now)
        self._look(now)

    def cancel(self) -> None:
        """The machine stays. `StateError` once it has left."""
        if self.phase is SourcePhase.LEAVING or self.moved:
            raise StateError(f"the machine has moved to {self.target}: there is no way back")
        if self.phase is SourcePhase.IDLE:
            return
        for client, stage in self.clients.items():
            if stage in (ClientStage.WHOLE, ClientStage.ANEW):
                self.orders.append(Order(client, main.MigrateCancel()))
            elif stage is ClientStage.ASKED:  # the same, and its answer doesn't count
                self.orders.append(Order(client, withdraw=True))
        self._rest()
        self.events.append(MoveCancelled(target=self.target))

    def _rest(self) -> None:
        self.phase = SourcePhase.IDLE
        self.deadline = None
        self.wanted = False
        self.clients = {}

    # -- what happens ----------------------------------------------------------------------------

    def answered(self, client: int, number: int, now: float) -> None:
        """A client's answer: the number of its message."""
        if self.clients.get(client) is not ClientStage.ASKED:
            return
        stages = {
            main.MigrateConnectedSeamless.number: ClientStage.WHOLE,
            main.MigrateConnected.number: ClientStage.ANEW,
        }
        self.clients[client] = stages.get(number, ClientStage.AWAY)
        self._look(now)

    def gone(self, client: int, now: float) -> None:
        """A client's session has ended."""
        self.clients.pop(client, None)
        self._look(now)

    def _look(self, now: float) -> None:
        """Go on if nobody is waited for any more."""
        asked = ClientStage.ASKED in self.clients.values()
        if self.phase is SourcePhase.CONNECTING and not asked:
            self._ready()
        if self.phase is SourcePhase.READY and self.wanted:
            self._leave(now)
        if self.phase is SourcePhase.LEAVING and not self.clients:
            self._finished(now, 0)

    def _ready(self) -> None:
        self.phase = SourcePhase.READY
        self.deadline = None
        stages = list(self.clients.values())
        self.events.append(
            MoveReady(
                target=self.target,
                whole=stages.count(ClientStage.WHOLE),
                anew=stages.count(ClientStage.ANEW),
                away=stages.count(ClientStage.AWAY),
            )
        )

    def _leave(self, now: float) -> None:
        assert self.destination is not None
        self.phase = SourcePhase.LEAVING
        self.moved = True
        self.deadline = now + LEAVE_SECONDS
        self.events.append(MoveStarted(target=self.target))
        for client, stage in self.clients.items():
            if stage is ClientStage.WHOLE:
                self.orders.append(Order(client, move=True))
            elif stage is ClientStage.ANEW:
                self.orders.append(Order(client, main.MigrateEnd(), quiet=True))
            else:
                message = main.MigrateSwitchHost(destination=self.destination)
                self.orders.append(Order(client, message, quiet=True))

    def joined(self, client: int) -> None:
        """A client has come that nobody has asked: it has to go to the target as a new one."""
        if self.phase in (SourcePhase.CONNECTING, SourcePhase.READY):
            self.clients[client] = ClientStage.AWAY

    def _finished(self, now: float, late: int) -> None:
        self.events.append(MoveFinished(target=self.target, late=late, seconds=now - self._began))
        self._rest()

    def next_wake(self) -> float | None:
        """When `wake` wants to be called."""
        return self.deadline

    def wake(self, now: float) -> None:
        """Give up on who takes too long."""
        if self.deadline is None or now < self.deadline:
            return
        if self.phase is SourcePhase.CONNECTING:
            for client, stage in self.clients.items():
                if stage is ClientStage.ASKED:
                    self.clients[client] = ClientStage.AWAY
                    self.orders.append(Order(client, withdraw=True))
            self._look(now)
        elif self.phase is SourcePhase.LEAVING:
            late = list(self.clients)
            self.orders += [Order(client, drop=True) for client in late]
            self._finished(now, len(late))
