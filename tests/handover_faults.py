"""Hand-overs in which something goes wrong: at any step, with anybody, in any way.

::

    world = FaultyWorld(Fault("migrate", (2, 0), "target", "death"))
    world.operate()
    world.outcome()

A fault strikes when a message of the hand-over is on its way (or a call of the operator is). An
operator, as ``aiospice migrate`` or a hypervisor is one, leads through the hand-over and calls it
off when it can't go on. Time is virtual; nobody waits longer than some limits together.
"""

from __future__ import annotations

import pickle
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tests.two_servers import Line, Node, TwoServers, WorldClient

from aiospice.channels.vmc import DeviceData
from aiospice.client.moving import BytesAtRisk, ChannelGone
from aiospice.client.session import SessionEnded, SessionPhase
from aiospice.errors import AiospiceError, ConnectError, LocalError
from aiospice.migration.client import MigrationFinished, MigrationPhase
from aiospice.migration.source import Policy, SourcePhase
from aiospice.server.config import ServerConfig
from aiospice.server.events import ClientDisconnected
from aiospice.server.guest import Host
from aiospice.server.leftover import LateLost
from aiospice.wire.caps import MainCap
from aiospice.wire.header import MINI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiospice.effects import Endpoint
    from aiospice.server.carried import MachineState

__all__ = [
    "CHANNELS",
    "HOWS",
    "POLICIES",
    "STEPS",
    "WHOS",
    "Fault",
    "FaultyWorld",
    "Outcome",
    "Way",
    "faults",
]

Key = tuple[int, int]
MAIN: Key = (1, 0)
PORT = "org.example.port"
#: How long a silence lasts: longer than all limits of a hand-over.
SILENCE = 45.0
#: How long an operator waits for an answer of a server, and for all to be over.
PATIENCE = 5.0
END = 120.0


class Step(NamedTuple):
    """What is on its way when the fault strikes. ``number``: of a message, 0 for no message."""

    text: str
    #: The server that it is about, and whether the client sends it.
    node: str
    to_server: bool
    number: int
    #: Channels that send it.
    kinds: tuple[int, ...]


ALL = (1, 2, 3, 4, 10)
WITH_RECORD = (1, 2, 3, 10)
STEPS: dict[str, Step] = {
    "link": Step("a channel is linked at the target", "target", True, 0, ALL),
    "ask": Step("the target is asked to take it whole", "target", True, 110, (1,)),
    "answer": Step("the client says that it is ready", "source", True, 111, (1,)),
    "hold": Step("clients are to stop sending", "source", False, 0, (1,)),
    "held": Step("the client says that it has stopped", "source", True, 31_002, (1, 3, 10)),
    "freeze": Step("the guest is stopped", "source", False, 0, (1,)),
    "thaw": Step("the guest comes to the target", "target", False, 0, (1,)),
    "migrate": Step("MIGRATE", "source", False, 1, ALL),
    "mark": Step("the client's flush mark", "source", True, 4, WITH_RECORD),
    "data": Step("the record, to the client", "source", False, 2, WITH_RECORD),
    "record": Step("the record, to the target", "target", True, 5, WITH_RECORD),
    "close": Step("the client closes its last connection to the source", "source", True, 0, (1,)),
}
WHOS = {
    "source": "the source",
    "target": "the target",
    "client": "the client",
    "client-source": "the line between client and source",
    "client-target": "the line between client and target",
    "servers": "the link between the servers",
}
HOWS = {
    "error": "nonsense, a refusal, a connection that is reset",
    "silence": f"nothing more for {SILENCE:.0f} s",
    "death": "the process is gone, or the line with all connections",
}


class Way(NamedTuple):
    """A policy; ``ours``: the client knows how to be held."""

    value: str
    policy: Policy
    ours: bool = True


POLICIES = (
    *(Way(policy.value, policy) for policy in Policy),
    Way("hold: others", Policy.HOLD, ours=False),
)
#: The steps at which a policy is another than `Policy.CARRY`.
_OWN_STEPS = {
    "direct": ("migrate", "mark", "close"),
    "hold": ("hold", "held", "thaw", "migrate", "close"),
    "hold: others": ("hold", "mark", "thaw", "migrate", "close"),
    "replay": ("thaw", "migrate", "close"),
    "ack": ("migrate",),
}
#: What servers have clients keep copies of.
KEEPS: dict[Policy, Literal["none", "tokens", "acks"]] = {
    Policy.REPLAY: "tokens",
    Policy.ACK: "acks",
}
CHANNELS = {1: "main", 2: "display", 3: "inputs", 4: "cursor", 10: "port"}


class Fault(NamedTuple):
    """What goes wrong."""

    step: str
    channel: Key
    who: str
    how: str


def faults(way: Way) -> Iterator[Fault]:
    """All that can go wrong; of other policies, where they differ from `CARRY`."""
    for step, about in STEPS.items():
        for kind in about.kinds:
            early = kind == 2 and step in ("migrate", "data", "record")
            if way.policy is Policy.CARRY_EARLY and not early:
                continue
            if way.policy is not Policy.HOLD and step in ("hold", "held"):
                continue
            if step not in _OWN_STEPS.get(way.value, STEPS):
                continue  # what comes before is the same, and no client carries records
            if not way.ours and step == "mark" and kind not in (3, 10):
                continue  # these are held, and their marks say so
            for who in WHOS:
                if who == "servers" and not way.policy.needs_link:
                    continue
                for how in HOWS:
                    yield Fault(step, (kind, 0), who, how)


class Outcome(Enum):
    """Where the client's session is in the end."""

    STAYS = "at the source, as it was"
    LOSES = "at the source, but what the client had sent to the target is lost, which is told"
    WHOLE = "at the target, whole"
    ANEW = "at the target, begun anew"
    LESS = "at the target, whole but for the channel, which is gone"
    ENDED = "ended"


def machine(host: Host) -> None:
    host.display(0).resize(32, 24)
    host.port(PORT)


class FaultyWorld(TwoServers):
    """See the module's text."""

    def __init__(self, fault: Fault | None, way: Way = POLICIES[0], **options: Any) -> None:
        keep = KEEPS.get(way.policy, "none")
        super().__init__(machine, freezes=False, config=ServerConfig(keep=keep), **options)
        self.policy = way.policy
        self.ours = way.ours
        self.fault = fault
        #: Who says nothing at the moment, and who is gone for good.
        self.silent: set[str] = set()
        self.gone: set[str] = set()
        self.struck = False
        self.ends_at: float | None = None
        #: What the operator was told.
        self.complaints: list[str] = []
        #: Connections that hang.
        self._opening: list[tuple[WorldClient, int, Endpoint, float]] = []
        self["source"].host.port(PORT).opened = True
        self["source"].host.display(0).fill(1, 2, 9, 9, 0x123456)
        self.anna = self.client()
        self.anna.channel(10).write(b"first, ")
        self["source"].host.port(PORT).write(b"one, ")
        self.run()
        if not way.ours:
            held = self["source"].core.sessions[self.anna.core.session_id].channels[MAIN]
            word, *rest = held.client_caps
            held.client_caps = (word & ~(1 << MainCap.HOLD), *rest)
        self.keys = set(self.anna.core.channels)
        self.thawed = False

    # -- who can do what -------------------------------------------------------------------------

    def carries(self, line: Line) -> bool:
        """Whether bytes still arrive on a connection."""
        parties = {line.node.name, "client", f"client-{line.node.name}"}
        return line in self.lines and not parties & (self.silent | self.gone)

    def _away(self, *names: str) -> bool:
        return bool(set(names) & (self.silent | self.gone))

    def _peers(self) -> bool:
        return not self._away(*self.nodes, "servers") and super()._peers()

    def _settle(self, node: Node) -> bool:
        return not self._away(node.name) and super()._settle(node)

    def _to_client(self, line: Line) -> bool:
        return self.carries(line) and super()._to_client(line)

    def _to_server(self, line: Line) -> bool:
        return self.carries(line) and super()._to_server(line)

    def _client_settles(self, client: WorldClient) -> bool:
        return not self._away("client") and super()._client_settles(client)

    def _connect(self, client: WorldClient, own: int, endpoint: Endpoint) -> None:
        leg = f"client-{endpoint.host}"
        if {endpoint.host, leg} & self.gone:
            client.core.closed(own, ConnectError(f"{endpoint}: connection refused"), self.now)
        elif self._away(leg):
            self._opening.append((client, own, endpoint, self.now + 10))
        else:
            super()._connect(client, own, endpoint)

    def cut_off(self, line: Line) -> None:
        """The client's end of a connection is gone."""
        last = [each for each in self.lines if each.node is line.node and not each.closed]
        if last == [line] and line.node.name == "source" and self._waits_for("close"):
            self.strike(line)
        if line in self.lines:
            super().cut_off(line)

    # -- the fault ---------------------------------------------------------------------------------

    def _waits_for(self, *steps: str) -> bool:
        return self.fault is not None and not self.struck and self.fault.step in steps

    def passes(self, line: Line, data: bytes, *, to_client: bool) -> None:
        """Something is on its way."""
        if self._waits_for("hold", "freeze", "thaw", "close") or not self._waits_for(*STEPS):
            return
        assert self.fault is not None
        step = STEPS[self.fault.step]
        if line.node.name != step.node or to_client is step.to_server:
            return
        connection = line.node.core.connections.get(line.number)
        if self.fault.step == "link":
            if data[:4] == b"REDQ" and tuple(data[20:22]) == self.fault.channel:
                self.strike(line)
            return
        channel = None if connection is None else connection.channel
        if channel is not None and channel.key == self.fault.channel and has(data, step.number):
            self.strike(line)

    def strike(self, line: Line | None) -> None:
        """Now."""
        assert self.fault is not None
        self.struck = True
        for name, node in self.nodes.items():
            if name not in self.gone:
                node.core.__dict__ = pickle.loads(pickle.dumps(node.core)).__dict__
        who, how = self.fault.who, self.fault.how
        if how == "silence":
            self.silent.add(who)
            self.ends_at = self.now + SILENCE
        elif how == "death":
            self.kill(who)
        else:
            self.err(who, line)

    def kill(self, who: str) -> None:
        """It is gone for good."""
        self.gone.add(who)
        if who in (*self.nodes, "servers"):
            self.unlink()
        for line in [each for each in self.lines if not self.carries(each)]:
            self.lines.remove(line)
            if who not in ("client", f"client-{line.node.name}"):
                line.client.core.closed(line.own, None, self.now)
                continue
            error = None if who == "client" else reset(line)
            line.node.core.closed(line.number, error, self.now)
            if who != "client":
                line.client.core.closed(line.own, reset(line), self.now)

    def err(self, who: str, struck: Line | None) -> None:
        """It says nonsense on the connection that is struck, or on main's; or it is reset."""
        assert self.fault is not None
        if who == "servers":
            self.kill(who)  # nonsense ends it, too
            return
        where = {"client": STEPS[self.fault.step].node}.get(who, who.removeprefix("client-"))
        line = self.line_of(where, self.fault.channel)
        if struck is not None and struck.node.name == where:
            line = struck
        if line is None:
            return
        nonsense = b"nonsense" * 4 if self.fault.step == "link" else MINI.pack(7, 0x7FFFFFFF)
        if who == "client":
            line.to_server[:] = nonsense
        elif who in self.nodes:
            line.to_client += nonsense
        else:
            self.lines.remove(line)
            line.node.core.closed(line.number, reset(line), self.now)
            line.client.core.closed(line.own, reset(line), self.now)

    def line_of(self, node: str, key: Key) -> Line | None:
        """The connection of a channel to a server."""
        for line in self.lines:
            connection = line.node.core.connections.get(line.number)
            if line.node.name != node or connection is None or connection.channel is None:
                continue
            if line.closed:
                continue
            if connection.channel.key == key:
                return line
        return None

    # -- time ------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Let time pass; who is silent or gone does nothing in it."""
        end = self.now + seconds
        for _ in range(20_000):
            times = [at for at in self._times() if at is not None and at <= end]
            if not times:
                break
            self.now = max(self.now, min(times))
            self._time_has_come()
            self.run()
        else:
            raise AssertionError("the cores ask to be woken again and again")
        self.now = end

    def _awake(self) -> list[Any]:
        cores: list[Any] = [node.core for name, node in self.nodes.items() if not self._away(name)]
        return cores + ([] if self._away("client") else [each.core for each in self.clients])

    def _times(self) -> list[float | None]:
        times = [core.next_wake() for core in self._awake()]
        return [*times, self.ends_at, *(each[3] for each in self._opening)]

    def _time_has_come(self) -> None:
        if self.ends_at is not None and self.ends_at <= self.now:
            self.ends_at = None
            self.silent.clear()
            self.run()  # who was stopped reads what has come before it looks at the clock
            for client, own, endpoint, _ in self._opening:
                self._connect(client, own, endpoint)
            self._opening.clear()
        for place in [each for each in self._opening if each[3] <= self.now]:
            self._opening.remove(place)
            client, own, endpoint, _ = place
            client.core.closed(own, ConnectError(f"{endpoint}: no answer for 10 s"), self.now)
        for core in self._awake():
            at = core.next_wake()
            if at is not None and at <= self.now:
                core.wake(self.now)

    # -- the operator ------------------------------------------------------------------------------

    def operate(self) -> None:
        """Move the machine, or call it off."""
        source, target = self["source"].core, self["target"].core
        if self.has_link:
            self.link("source", "target")
        target.expect_migration(self.anna.core.session_id, now=self.now)
        source.prepare_migration("target", 5900, policy=self.policy, now=self.now)
        self.run()
        try:
            self._lead()
        except AiospiceError as error:
            self.complaints.append(str(error))
            self._call_off()
        end = self.now + END
        while not self._rests() and self.now < end:
            self.wait(1)
        if self.thawed:
            self._follow()
        self.wait(2)

    def _rests(self) -> bool:
        """Nobody waits for anything any more."""
        if self.silent or self._opening or self.ends_at is not None:
            return False
        core = self.anna.core
        for name, node in self.nodes.items():
            quiet = node.core.source.phase in (SourcePhase.IDLE, SourcePhase.READY)
            if name not in self.gone and not (quiet and not node.core.target.arrivals):
                return False
            if name not in self.gone and (node.core.returning or node.core.giving):
                return False
        moves = core.migration.phase is not MigrationPhase.IDLE or core._starting_over
        return "client" in self.gone or core.phase is SessionPhase.CLOSED or not moves

    def run(self) -> None:
        """Until nothing moves any more."""
        super().run()
        self.owners()

    def _lead(self) -> None:
        if not self._until(lambda: self["source"].core.clients_ready, 11):
            raise LocalError("the source doesn't say whether its clients are ready")
        self._hold()
        if self._waits_for("freeze"):
            self.strike(self.line_of("source", MAIN))
            self._or_refuse("freeze", "source", "the guest can't be stopped")
        self._reach("source")
        self["source"].host.port(PORT).write(b"two, ")
        if (10, 0) in self.anna.core.channels:
            self.anna.channel(10).write(b"second, ")
        state = pickle.loads(pickle.dumps(self["source"].core.freeze_machine(self.now)))
        self.run()
        if self._waits_for("thaw"):
            self.strike(self.line_of("target", MAIN))
            self._or_refuse("thaw", "target", "the guest can't be taken")
        self._thaw(state)
        self._follow()

    def _hold(self) -> None:
        """Have clients stop sending, if that is the policy."""
        source = self["source"].core
        if self.policy is not Policy.HOLD or not self.anna.core.session_id:
            return
        if self._waits_for("hold"):
            self.strike(self.line_of("source", MAIN))
            self._or_refuse("hold", "source", "the guest can't be stopped")
        self._reach("source")
        if source.source.phase is not SourcePhase.READY:
            return
        source.hold_clients(self.now)
        self.run()
        if not self._until(lambda: source.clients_held, 1):
            self._reach("source")

    def _or_refuse(self, step: str, node: str, text: str) -> None:
        assert self.fault is not None
        if (self.fault.step, self.fault.who, self.fault.how) == (step, node, "error"):
            raise LocalError(text)

    def _thaw(self, state: MachineState) -> None:
        self._reach("source")  # it is asked last of all
        self._reach("target")
        if self.has_link:
            self._reach("servers")
        self["target"].core.thaw_machine(state, self.now)
        self.thawed = True
        self.run()

    def _follow(self) -> None:
        """The guest is at the target: its clients are to follow."""
        source = self["source"].core
        self.run()
        if self._away("source"):
            self.complaints.append("the source is gone, and the guest is at the target")
            return
        if source.source.phase in (SourcePhase.CONNECTING, SourcePhase.READY):
            source.complete_migration(self.now)
            self._until(lambda: source.source.phase is SourcePhase.IDLE, 25)
        if not self._away("source", "target") and not self.has_link:
            self["target"].core.take_late_inputs(source.late_inputs(), self.now)
        self.run()

    def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait, and look now and then."""
        end = self.now + seconds
        while not (self._answers("source") and done()) and self.now < end:
            self.wait(0.5)
        return self._answers("source") and done()

    def _answers(self, name: str) -> bool:
        return not self._away(name)

    def _reach(self, name: str) -> None:
        """A server is to be asked something: it answers, or not in time."""
        self.run()
        if self._away(name):
            self.wait(PATIENCE)
        if self._away(name):
            raise LocalError(f"the {name} doesn't answer")

    def _call_off(self) -> None:
        """The guest stays; a source that doesn't answer now is told when it does."""
        if "source" not in self.gone:
            while self._away("source"):
                self.wait(1)
            self["source"].core.cancel_migration(self.now)
            self.run()
        target = self["target"].core
        if self.has_link and "target" not in self.gone and not self._away("target"):
            target.guest_stays("its machine doesn't come", self.now)
            if self.policy is Policy.HOLD and target.peer.up:
                target.give_back(self.now)
            else:
                for client in list(target.target.arrivals):
                    target.disconnect(client, "its machine doesn't come", self.now)
        self.run()

    # -- what became of it -------------------------------------------------------------------------

    def owners(self) -> list[str]:
        """Who has the guest: one at most, at any moment."""
        found = []
        for name, node in self.nodes.items():
            here = node.core.carried is not None if name == "target" else True
            if name not in self.gone and here and node.core.frozen is None:
                found.append(name)
        assert len(found) <= 1, "two owners"
        return found

    def outcome(self) -> Outcome:
        """Where the session is; what isn't allowed is an `AssertionError`."""
        assert self.struck or self.fault is None, "nothing went wrong"
        owners = self.owners()
        assert owners or self.complaints or self.gone & set(self.nodes), "nobody has the guest"
        core = self.anna.core
        self._clean()
        if "client" in self.gone or core.phase is SessionPhase.CLOSED:
            self._says_why()
            self._serves_another(owners)
            return Outcome.ENDED
        assert core.phase is SessionPhase.UP
        where = {line.node.name for line in self.lines if not line.closed}
        assert len(where) == 1, f"the session is at {where}"
        (node,) = where
        assert owners == [node], f"the session is at {node}, the guest at {owners}"
        assert core.session_id in self[node].core.sessions
        found = self._how_it_stays() if node == "source" else self._how_it_moved()
        self._works(self[node], whole=found is not Outcome.ANEW, told=found is Outcome.LOSES)
        return found

    def _how_it_stays(self) -> Outcome:
        lost = {event.channel for event in self["source"].seen(LateLost)}
        return Outcome.LOSES if lost else Outcome.STAYS

    def _how_it_moved(self) -> Outcome:
        core = self.anna.core
        lost = self.keys - set(core.channels)
        gone = {event.key for event in self.anna.seen(ChannelGone)}
        if self.anna.seen(MigrationFinished)[-1].mode != "seamless":
            assert lost <= gone  # others may be there again
            assert self.anna.seen(BytesAtRisk) or (10, 0) in lost
            return Outcome.ANEW
        assert lost == gone
        return Outcome.LESS if lost else Outcome.WHOLE

    def _says_why(self) -> None:
        """Whoever is left is told what has happened, and where."""
        if "client" not in self.gone:
            error = self.anna.core.error
            assert isinstance(error, AiospiceError)
            assert "source" in str(error) or "target" in str(error)
            assert [event.error for event in self.anna.seen(SessionEnded)] == [error]
        for name, node in self.nodes.items():
            if name not in self.gone:
                assert not node.core.sessions
                assert all(event.reason for event in node.seen(ClientDisconnected))

    def _clean(self) -> None:
        """Nothing is left half done anywhere."""
        assert not self._opening
        assert not self.silent
        for name, node in self.nodes.items():
            if name in self.gone:
                continue
            assert not node.core.target.arrivals, f"{name} still waits for a session"
            assert node.core.source.phase is SourcePhase.IDLE
            assert not node.core.agent.core.waiting
            for device in node.core.devices.values():
                assert not device.core.waiting
                left = set(device.core.clients) - set(node.core.sessions)
                assert not left, f"{name} keeps a client of {device.name} that is gone"

    def _works(self, node: Node, *, whole: bool, told: bool = False) -> None:
        """Bytes go both ways; if the session is ``whole``, all that were on their way have come.

        ``told``: but for what the client had sent.
        """
        if (10, 0) not in self.anna.core.channels:
            return
        port = node.host.port(PORT)
        self.anna.channel(10).write(b"third")
        assert port.write(b"three") == 5
        self.run()
        read = port.read()
        heard = b"".join(event.data for event in self.anna.seen(DeviceData))
        if whole:
            assert read in (b"first, second, third", b"first, third")
            assert heard in (b"one, two, three", b"one, three")
            assert (b"second" in read) is (b"two" in heard) or told
        assert read.endswith(b"third")
        assert heard.endswith(b"three")

    def _serves_another(self, owners: list[str]) -> None:
        """Whoever has the guest lets the next client in."""
        for name in owners:
            self.gone -= {"client", "client-source", "client-target"}
            self.clients[:] = []
            self.fault = None
            from aiospice.client.config import ClientConfig

            self.anna = WorldClient(ClientConfig(host=name, port=5900))
            self.clients.append(self.anna)
            self.anna.core.start(self.now)
            self.run()
            assert self.anna.core.phase is SessionPhase.UP
            self._works(self[name], whole=False)


def reset(line: Line) -> ConnectError:
    """What a shell tells of a connection that was reset."""
    return ConnectError(f"{line.node.name}:5900: connection reset by peer")


def has(data: bytes, number: int) -> bool:
    """Whether a message is among those that are on their way."""
    at = 0
    while at + MINI.size <= len(data):
        found, size = MINI.unpack_from(data, at)
        if found == number:
            return True
        at += MINI.size + size
    return False
