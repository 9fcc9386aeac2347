"""What each policy does when the client dies or lies, the guest is too fast, or a line stalls.

Each figure is of one move on virtual time, the calm one of `aiospice.sim.scenario.calm` with one
thing that goes wrong. All times are from the order that clients follow the guest, in one-way trips.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from aiospice.proof.timeline_sim import message_of
from aiospice.server.events import ClientDisconnected, ClientRefused, ServerChannelClosed
from aiospice.sim.clock import EPOCH
from aiospice.sim.measure import Counting
from aiospice.sim.process import ClientProcess
from aiospice.sim.scenario import Fault, calm
from aiospice.sim.world import World
from aiospice.wire.header import MINI

if TYPE_CHECKING:
    from aiospice.channels.events import Event
    from aiospice.sim.lines import End
    from aiospice.sim.process import ServerProcess
    from aiospice.sim.scenario import Scenario

__all__ = [
    "DEATHS",
    "LIES",
    "STALLS",
    "Death",
    "Fast",
    "Lie",
    "Stall",
    "death",
    "fast",
    "lie",
    "stall",
]

#: One-way trip of all this, in seconds.
TRIP = 0.05
#: When a client dies: so many trips after a moment of the move.
DEATHS = (
    ("ready", 0.0),
    ("freeze", 0.0),
    ("complete", 0.5),
    ("complete", 1.5),
    ("complete", 2.5),
    ("complete", 3.5),
    ("complete", 5.5),
)
#: Which line stands still, from which moment on, for how many seconds.
STALLS = (
    ("source", "ready", 1.0),
    ("source", "complete", 1.0),
    ("source", "complete", 5.0),
    ("target", "complete", 1.0),
    ("target", "complete", 5.0),
)


# -- the client dies -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Death:
    """A client's process is ended; its kernel still sends what it was given."""

    policy: str
    anchor: str
    trips: float
    #: Bytes that had left the client's process and never reach the guest.
    lost: int
    #: How long the guest stood still, in seconds, and whether it runs in the end.
    downtime: float
    runs: bool
    wrong: str


def death(policy: str, anchor: str, trips: float) -> Death:
    """A client dies so many trips after a moment."""
    fault = Fault("crash", "client0", anchor=anchor, delay=trips * TRIP, amount=2.0)
    world = World(replace(calm(policy, TRIP), faults=(fault,)))
    world.play()
    client, owner = world.clients[0], world.owner
    lost = 0
    if owner is not None:
        heard = owner.guest.memory.heard
        channel: Any = client.core.channels.get((10, 0))
        unsent = 0 if channel is None else channel.queued_bytes
        lost = client.said - unsent - heard.at + heard.missed
    return Death(
        policy=policy,
        anchor=anchor,
        trips=trips,
        lost=lost,
        downtime=max(world.operator.downtimes, default=0.0),
        runs=owner is not None and not owner.dead,
        wrong=world.failure,
    )


# -- the client lies -----------------------------------------------------------------------------

#: A lie: about which message, on which type of channel (0: any), and what is made of it.
LIES: dict[str, tuple[str, int, str]] = {
    "a record is changed in one byte": ("ClientMigrateData", 10, "flip"),
    "a screen's record is changed": ("ClientMigrateData", 2, "flip"),
    "main's record is changed": ("ClientMigrateData", 1, "flip"),
    "a record is cut short": ("ClientMigrateData", 10, "cut"),
    "a record comes twice": ("ClientMigrateData", 10, "twice"),
    "a record never comes": ("ClientMigrateData", 10, "never"),
    "a mark never comes": ("MigrateFlushMark", 10, "never"),
    "a mark comes twice": ("MigrateFlushMark", 10, "twice"),
    "it is ready and says nothing": ("MigrateConnectedSeamless", 1, "never"),
    "it sends more than its tokens allow": ("ClientData", 10, "flood"),
    "it gives the server tokens beyond any": ("ClientTokens", 10, "fill"),
    "it resumes with tokens beyond any": ("Resume", 10, "fill"),
    "it shows what it doesn't": ("Shows", 2, "fill"),
    "it shows nonsense": ("Shows", 2, "cut"),
    "it resumes twice": ("Resume", 10, "twice"),
}


@dataclass(frozen=True)
class Lie:
    """A client says something that isn't so, while another beside it is honest."""

    policy: str
    lie: str
    #: It had an occasion to.
    told: bool
    #: Who noticed, on which channel, in which words; "" if nobody did.
    refused: str
    #: What became of the liar: how it moved, or that it ended.
    liar: str
    #: The honest one moved whole, the guest runs, and nothing of it was wrong.
    others_whole: bool
    wrong: str


class _Liar(ClientProcess):
    """Changes the first message of a kind that it writes once the move has begun."""

    about: tuple[str, int, str] = ("nothing", 0, "")
    told = False

    def put(self, end: End, data: bytes) -> None:
        """Write a message, or what is made of it."""
        name, kind, how = self.about
        link = self.core.links.get(end.number) or self.core._any_link(end.number)
        began = self.world.operator.place >= 0 and self.world.operator.step != "idle"
        due = began and not self.told and link is not None and kind in (0, link.key[0])
        if due and link is not None and message_of(link.key[0], "client", data) == name:
            self.told = self.was_hostile = True
            self.note(f"lies: {how} {name}")
            data = _changed(how, data)
        super().put(end, data)


def _changed(how: str, data: bytes) -> bytes:
    head, body = data[: MINI.size], data[MINI.size :]
    if how == "flip":
        place = len(body) // 2
        return head + body[:place] + bytes((body[place] ^ 0x55,)) + body[place + 1 :]
    if how == "cut":
        number, size = MINI.unpack(head)
        return MINI.pack(number, size // 2) + body[: size // 2]
    if how == "twice":
        return data + data
    if how == "flood":
        return data * 400
    if how == "fill":
        return head + b"\xff" * (len(body) - 1) + body[-1:]
    return b""  # never


class _Court(World):
    """A world that remembers who refused what."""

    client = _Liar

    def __init__(self, scenario: Scenario, about: tuple[str, int, str]) -> None:
        super().__init__(scenario)
        self.refused = ""
        liar = self.clients[0]
        assert isinstance(liar, _Liar)
        liar.about = about
        self.liar = liar

    def server_event(self, server: ServerProcess, event: Event) -> None:
        """A server has told something."""
        super().server_event(server, event)
        if self.refused or not self.liar.told:
            return
        where = "source" if server.name == self.scenario.names[0] else "target"
        if isinstance(event, ServerChannelClosed) and event.error is not None:
            self.refused = f"{where}: {_short(event.error)}"
        elif isinstance(event, ClientRefused) and event.rule != "left":
            self.refused = f"{where}: {event.rule}"
        elif isinstance(event, ClientDisconnected) and "left" not in event.reason:
            self.refused = f"{where}: {event.reason}"


def _short(error: BaseException) -> str:
    return str(error).split("; ")[0][:110]


def lie(policy: str, what: str, *, link: bool = False) -> Lie:
    """A client tells one of `LIES`; ``link``: the servers have a link, whatever the policy."""
    never = Fault("forge", "client0", move=99)  # so a client may end
    scenario = replace(calm(policy, TRIP), clients=2, after=2.0, link=link, faults=(never,))
    world = _Court(scenario, LIES[what])
    world.play()
    liar, honest = world.clients
    owner = world.owner
    fate = "ended" if liar.ended else ", ".join(liar.modes) or "stays"
    if not liar.ended and liar.port_gone:
        fate += ", without its port"
    fine = honest.modes == ["seamless"] and not honest.ended and owner is not None
    return Lie(
        policy=policy + (", sealed" if link else ""),
        lie=what,
        told=world.liar.told,
        refused=world.refused,
        liar=fate,
        others_whole=fine and not world.failure,
        wrong=world.failure,
    )


# -- the guest is fast, the line slow --------------------------------------------------------------


@dataclass(frozen=True)
class Fast:
    """The guest writes more than the client's line carries; bytes, seconds."""

    policy: str
    #: Bytes a second of the line, and what the guest would write.
    line: int
    guest: int
    #: From the order until the target's first picture; the longest time that a port is silent.
    first: float
    silence: float
    downtime: float
    #: The most that a server held for the client, and the client for the move.
    server_backlog: int
    client_held: int
    whole: bool
    wrong: str


class _Backlog(Counting):
    """Counts what servers hold, besides."""

    servers = 0

    def process(self, process: Any) -> None:
        """A process has had its turn."""
        super().process(process)
        if isinstance(process, ClientProcess):
            return
        held = 0
        for session in process.core.sessions.values():
            held += sum(channel.queued_bytes for channel in session.channels.values())
        for device in process.core.devices.values():
            held += sum(client.outgoing_bytes for client in device.core.clients.values())
        self.servers = max(self.servers, held)


def fast(policy: str, line: int = 100_000, guest: int = 400_000) -> Fast:
    """A guest writes to a port as fast as it can."""
    scenario = replace(calm(policy, TRIP), bandwidth=float(line), to_client=guest, after=3.0)
    world = World(scenario)
    checks = world.checks = _Backlog(world)
    world.play()
    first, silence = _pauses(world)
    client = world.clients[0]
    return Fast(
        policy=policy,
        line=line,
        guest=guest,
        first=first,
        silence=silence,
        downtime=max(world.operator.downtimes, default=0.0),
        server_backlog=checks.servers,
        client_held=checks.client_peak + checks.copies,
        whole=client.modes == ["seamless"],
        wrong=world.failure,
    )


def _pauses(world: World) -> tuple[float, float]:
    """From the order until the target's first picture, and the longest silence of the port."""
    client, operator = world.clients[0], world.operator
    ordered = operator.completed_at[0] if operator.completed_at else EPOCH
    drew = [at for at in client.drew_at if at > ordered and at >= client.moved_at]
    heard = [(one, other) for one, other in pairwise(client.heard_at) if other > ordered - 0.5]
    return (
        min(drew, default=ordered) - ordered,
        max((other - one for one, other in heard), default=0.0),
    )


# -- a line stands still -------------------------------------------------------------------------


@dataclass(frozen=True)
class Stall:
    """A line stands still for some seconds; how the move goes."""

    policy: str
    #: The client's line to ``source`` or ``target``, from which moment on, for how long.
    line: str
    anchor: str
    seconds: float
    first: float
    silence: float
    downtime: float
    #: How the client moved.
    mode: str
    wrong: str


def stall(policy: str, line: str, anchor: str, seconds: float) -> Stall:
    """One of `STALLS`."""
    scenario = calm(policy, TRIP)
    server = scenario.names[0] if line == "source" else scenario.names[1]
    fault = Fault("stall", f"client0-{server}", anchor=anchor, amount=seconds)
    world = World(replace(scenario, faults=(fault,), after=seconds + 1.0))
    world.play()
    first, silence = _pauses(world)
    client = world.clients[0]
    return Stall(
        policy=policy,
        line=line,
        anchor=anchor,
        seconds=seconds,
        first=first,
        silence=silence,
        downtime=max(world.operator.downtimes, default=0.0),
        mode="ended" if client.ended else ", ".join(client.modes) or "stays",
        wrong=world.failure,
    )
