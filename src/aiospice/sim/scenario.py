"""What happens in one run: lines, work, moves and faults, all drawn from a seed. Plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from aiospice.errors import LocalError
from aiospice.migration.source import Policy
from aiospice.sim.chance import Chance

__all__ = ["ANCHORS", "FAULTS", "LINK_ANCHORS", "Fault", "Move", "Scenario", "calm", "draw"]

#: Moments of a move that a fault can follow: the order to prepare, the clients' answers, the guest
#: stands still, it runs at the target, the order that clients follow, the first that has arrived,
#: all have left.
ANCHORS = ("prepare", "ready", "freeze", "thaw", "complete", "arrived", "left")
#: Where the servers hand the guest over themselves there are more: they have greeted each other,
#: and the target has taken the guest up.
LINK_ANCHORS = ("propose", "prepare", "ready", "freeze", "taken", "thaw", "complete", "left")

#: What can happen, and to whom: a line between two hosts, a server, or a client.
FAULTS = {
    "stall": "line",
    "dead": "line",
    "reset": "line",
    "reset-one": "line",
    "stop": "process",
    "crash": "process",
    "cancel": "operator",
    "deaf": "client",
    "forge": "client",
    "repeat": "client",
    "swallow": "client",
    "truncate": "client",
    "garbage": "client",
    "leave": "client",
    "intruder": "network",
}
#: What a session survives whole if it is short.
GENTLE = frozenset(("stall", "stop", "deaf", "intruder"))


#: How many of the seeds have servers that hand the guest over themselves.
ROLES = 0.4


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, so many seconds after a moment of a move."""

    kind: str
    #: A host, or two of them with a dash between.
    who: str
    move: int = 0
    anchor: str = "prepare"
    delay: float = 0.0
    #: Seconds, or whatever the kind makes of it.
    amount: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.who} {self.delay * 1000:.1f} ms after {self.anchor} of move "
            f"{self.move + 1} ({self.amount:.3f})"
        )


@dataclass(frozen=True)
class Move:
    """The guest is ordered to the other server."""

    #: Seconds after the last move was over.
    gap: float = 0.2
    #: The operator waits until clients are ready, so many seconds at most; 0: not at all.
    patience: float = 10.0
    #: Seconds that the guest's state is on its way, and each order between the servers.
    carries: float = 0.02
    order: float = 0.005


@dataclass(frozen=True)
class Scenario:
    """One run. Whatever isn't fixed here is drawn from ``seed`` as it goes."""

    seed: int
    policy: str = "carry"
    clients: int = 1
    latency: float = 0.02
    jitter: float = 0.0
    #: Bytes a second of each client's line, 0: without limit.
    bandwidth: float = 0.0
    #: Packets of a new connection (`aiospice.sim.lines.LineShape`), 0: without limit.
    window: int = 0
    #: What the client with the port writes and the guest writes, bytes a second each.
    to_guest: int = 40_000
    to_client: int = 40_000
    draws: bool = True
    keys: bool = True
    #: Bytes of a file that is sent through the agent; 0: there is no agent.
    file: int = 0
    #: Seconds that a reader of a device takes until it reads, at most.
    slow_client: float = 0.0
    slow_guest: float = 0.0
    #: The servers have a link of their own, whatever the policy.
    link: bool = False
    #: They hand the guest over themselves, by that link (`aiospice.migration.link_source`).
    roles: bool = False
    #: Many reads bring a few bytes only.
    crumbs: bool = False
    tokens: bool = True
    mini: bool = True
    moves: tuple[Move, ...] = (Move(),)
    faults: tuple[Fault, ...] = ()
    #: Seconds between two turns of the guest, and how often it draws in one.
    tick: float = 0.015
    drawing: float = 0.3
    #: Where nothing has happened for a while, people and guests take turns less often.
    lulls: bool = False
    #: Seconds of work after the last move.
    after: float = 0.2
    names: tuple[str, ...] = field(default=("left", "right"))

    @property
    def client_names(self) -> tuple[str, ...]:
        """The clients' hosts."""
        return tuple(f"client{number}" for number in range(self.clients))

    @property
    def gentle(self) -> bool:
        """Nothing happens that a session doesn't survive whole."""
        hard = any(fault.kind not in GENTLE for fault in self.faults)
        return not self.slow and not hard and sum(fault.amount for fault in self.faults) < 2.0

    @property
    def exact_keys(self) -> bool:
        """Every key reaches the guest once, in order: nothing happens but moves and their end."""
        return not self.slow and all(fault.kind in ("cancel", "intruder") for fault in self.faults)

    @property
    def slow(self) -> bool:
        """Whether limits of time may pass with nothing wrong."""
        return self.latency + self.jitter > 0.25 or 0 < self.bandwidth < 1e6

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; `Scenario.of` reads it."""
        return asdict(self)

    @staticmethod
    def of(values: dict[str, Any]) -> Scenario:
        """What `as_dict` gave. `LocalError` if it can't be that."""
        try:
            found = Scenario(**values)
            return replace(
                found,
                moves=tuple(Move(**each) for each in values["moves"]),
                faults=tuple(Fault(**each) for each in values["faults"]),
                names=tuple(values["names"]),
            )
        except (TypeError, KeyError) as error:
            raise LocalError(f"that is no scenario: {error}") from None

    def __str__(self) -> str:
        changed = [
            f"{name}={value}"
            for name, value in vars(self).items()
            if name not in ("moves", "faults", "names") and value != getattr(_USUAL, name)
        ]
        lines = [" ".join(changed)]
        lines += [f"  move {place + 1}: {_move(move)}" for place, move in enumerate(self.moves)]
        return "\n".join([*lines, *(f"  {fault}" for fault in self.faults)])


def _move(move: Move) -> str:
    return (
        f"{move.gap * 1000:.0f} ms later, waits {move.patience:g} s, "
        f"state {move.carries * 1000:.1f} ms, orders {move.order * 1000:.1f} ms"
    )


_USUAL = Scenario(seed=-1, policy="", clients=0)


def calm(policy: str, latency: float, seed: int = 0) -> Scenario:
    """One move of a busy guest, without faults, for measuring: the servers are near each other."""
    return Scenario(
        seed=seed,
        policy=policy,
        latency=latency,
        window=10,
        to_guest=20_000,
        to_client=20_000,
        keys=False,
        tick=0.01,
        drawing=1.0,
        moves=(Move(gap=0.5, carries=0.005, order=0.0005),),
        after=0.5 + 8 * latency,
    )


def draw(seed: int, policy: str = "") -> Scenario:
    """The scenario of a seed; the policy is drawn, too, if none is asked for."""
    chance = Chance(seed)
    drawn = chance.pick([each.value for each in Policy])
    latency = chance.pick((0.0005, 0.005, 0.02, 0.05, 0.1, 0.2))
    jitter = latency * chance.pick((0.0, 0.1, 1.0, 3.0))
    plain = chance.yes(0.7)
    scenario = Scenario(
        seed=seed,
        policy=policy or drawn,
        clients=chance.pick((1, 1, 1, 1, 2, 3)),
        latency=latency,
        jitter=jitter,
        tick=max(0.015, 0.3 * latency + 0.3 * jitter),
        bandwidth=chance.pick((0.0, 0.0, 1e6, 2e5)),
        to_guest=chance.pick((0, 4_000, 40_000, 200_000)),
        to_client=chance.pick((0, 4_000, 40_000, 200_000)),
        file=0 if plain else chance.pick((1, 3_000, 20_000)),
        slow_client=chance.pick((0.0, 0.0, 0.03, 0.15)),
        slow_guest=chance.pick((0.0, 0.0, 0.03, 0.15)),
        link=chance.yes(0.5),
        crumbs=chance.yes(0.03),
        tokens=chance.yes(0.8),
        mini=chance.yes(0.85),
        moves=tuple(_draw_move(chance) for _ in range(chance.pick((1, 1, 1, 2, 3)))),
        after=chance.between(0.02, 0.2),
        lulls=True,
    )
    count = chance.pick((0, 0, 1, 1, 1, 2, 3))
    faults = tuple(_draw_fault(chance, scenario) for _ in range(count))
    roles = chance.fork("roles")
    if not roles.yes(ROLES):
        return replace(scenario, faults=faults)
    more = tuple(_draw_link_fault(roles, scenario) for _ in range(roles.pick((0, 0, 1, 1, 2))))
    return replace(scenario, roles=True, faults=faults + more)


def _draw_move(chance: Chance) -> Move:
    return Move(
        gap=chance.between(0.02, 0.2),
        patience=chance.pick((0.0, 0.3, 10.5, 10.5)),
        carries=chance.pick((0.0, 0.002, 0.03, 0.5)),
        order=chance.pick((0.0, 0.0005, 0.02, 0.2)),
    )


def _draw_fault(chance: Chance, scenario: Scenario) -> Fault:
    kind = chance.pick(tuple(FAULTS))
    about = FAULTS[kind]
    client = chance.pick(scenario.client_names)
    server = chance.pick(scenario.names)
    who = {
        "line": chance.pick((f"{client}-{server}",) * 3 + ("-".join(scenario.names),)),
        "process": chance.pick((client, server, server)),
        "operator": "operator",
        "client": client,
        "network": server,
    }[about]
    trip = max(scenario.latency, 0.002)
    return Fault(
        kind=kind,
        who=who,
        move=chance.below(len(scenario.moves)),
        anchor=chance.pick(ANCHORS[:3] if about == "operator" else ANCHORS),
        delay=chance.pick((0.0, 1.0, 1.0, 1.0, 4.0)) * chance.between(0.0, 3.0 * trip),
        amount=chance.pick((0.05, 0.5, 1.5, 6.0, 15.0, 40.0)),
    )


def _draw_link_fault(chance: Chance, scenario: Scenario) -> Fault:
    """Something that goes wrong with the servers, or with the line between them."""
    kind = chance.pick(("stall", "dead", "reset", "stop", "stop", "crash", "cancel", "intruder"))
    server = chance.pick(scenario.names)
    about = {"line": "-".join(scenario.names), "operator": "operator"}
    trip = max(*(move.order for move in scenario.moves), 0.002)
    return Fault(
        kind=kind,
        who=about.get(FAULTS[kind], server),
        move=chance.below(len(scenario.moves)),
        anchor=chance.pick((*LINK_ANCHORS, "taken", "taken")),  # who has the guest is decided
        delay=chance.pick((0.0, 0.5, 1.0, 1.0, 3.0)) * chance.between(0.0, 3.0 * trip),
        amount=chance.pick((0.05, 0.5, 1.5, 6.0, 15.0, 40.0)),
    )
