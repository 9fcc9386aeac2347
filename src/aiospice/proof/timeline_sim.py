"""What one simulated run was like, as a timeline: phases of the real cores, and their messages.

A lane for each channel of each party: which phase its core is in. Arrows are the messages that make
a move. Watching changes nothing: the run has the same hash as without.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aiospice.channels.base import ChannelPhase
from aiospice.channels.server.base import ServerPhase
from aiospice.proof.timeline import Timeline
from aiospice.sim.checks import Checks
from aiospice.sim.clock import EPOCH
from aiospice.sim.lines import Network
from aiospice.sim.process import ClientProcess, ServerProcess
from aiospice.sim.world import World
from aiospice.wire.channels import channel_name
from aiospice.wire.header import FULL, MINI
from aiospice.wire.registry import message_name

if TYPE_CHECKING:
    from aiospice.channels.base import Key
    from aiospice.channels.events import Event
    from aiospice.sim.lines import End
    from aiospice.sim.process import Process
    from aiospice.sim.scenario import Fault, Scenario
    from aiospice.wire.message import Sender

__all__ = ["Watched", "message_of", "watch"]

#: Messages that make a move, by the names of their declarations.
_OF_A_MOVE = re.compile("^(Client)?(Migrate|Hold|Held|Release|Keep|Replay|Resume|Shows)")
_NAMES = {
    "Migrate": "MIGRATE",
    "MigrateFlushMark": "mark",
    "MigrateData": "record",
    "ClientMigrateData": "record",
    "MigrateBegin": "connect",
    "MigrateBeginSeamless": "connect",
    "MigrateDstDoSeamless": "whole?",
    "MigrateDstSeamlessAck": "yes",
    "MigrateDstSeamlessNack": "no",
    "MigrateConnected": "ready",
    "MigrateConnectedSeamless": "ready",
    "MigrateConnectError": "failed",
    "MigrateCancel": "cancel",
    "MigrateEnd": "end",
    "ClientMigrateEnd": "end",
}
_CLIENT_STATES = {
    ChannelPhase.AWAITING_DATA: "waits for its record",
    ChannelPhase.FROZEN: "has left",
    ChannelPhase.CLOSED: "",
}
_SERVER_STATES = {
    ServerPhase.OPEN: "open",
    ServerPhase.PARKED: "parked",
    ServerPhase.WAITING: "waits for the record",
    ServerPhase.MIGRATING: "leaves",
    ServerPhase.CLOSED: "",
}
#: What the operator does from each moment of a move on.
_STEPS = {
    "prepare": "clients connect",
    "ready": "orders the stop",
    "freeze": "carries the guest's state",
    "thaw": "orders to follow",
    "complete": "clients follow",
    "left": "",
}
#: Seconds between two changes of a screen, or two messages of a port, that are one burst.
_GAP = 0.035


def message_of(channel: int, sender: Sender, data: bytes) -> str:
    """The name of the message that these bytes are, "" if they aren't one."""
    if len(data) >= MINI.size:
        number, size = MINI.unpack_from(data)
        if size == len(data) - MINI.size:
            return message_name(channel, sender, number)
    if len(data) >= FULL.size:
        _, number, size, _ = FULL.unpack_from(data)
        if size == len(data) - FULL.size:
            return message_name(channel, sender, number)
    return ""


class WatchedNetwork(Network):
    """Tells what is written."""

    watcher: Watched | None = None

    def write(self, end: End, data: bytes) -> None:
        """Write, and tell."""
        super().write(end, data)
        if self.watcher is not None:
            self.watcher.written(end, data)


class WatchedServer(ServerProcess):
    """Tells when the guest runs."""

    world: Watched

    def take_guest(self) -> None:
        """It runs here."""
        super().take_guest()
        self.world.timeline.state(self.name, "guest", "runs", self.clock.now)

    def let_guest_go(self) -> None:
        """It stands still."""
        super().let_guest_go()
        self.world.timeline.state(self.name, "guest", "stands still", self.clock.now)


class WatchedChecks(Checks):
    """Looks at each process after its turn, besides."""

    world: Watched

    def process(self, process: Process) -> None:
        """A process has had its turn."""
        super().process(process)
        self.world.look(process)


class Watched(World):
    """A world that writes down what happens in it: `timeline`."""

    network = WatchedNetwork
    server = WatchedServer

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario, keep=True)
        self.timeline = Timeline(gap=max(_GAP, 2.5 * scenario.tick), start=EPOCH)
        self.checks = WatchedChecks(self)
        self._lanes()
        assert isinstance(self.net, WatchedNetwork)
        self.net.watcher = self

    def _lanes(self) -> None:
        """In the order in which they are shown."""
        line, keys = self.timeline, ((1, 0), (2, 0), (3, 0), (4, 0), (10, 0))
        line.lane("operator", "move")
        for server in self.scenario.names[:1]:
            self._server_lanes(server, keys)
        for client in self.clients:
            own = keys if client.place == 0 else keys[:4]
            for key in own:
                line.lane(client.name, channel_name(*key))
            for name in ("move", "screen changes", "port is heard")[: 3 if not client.place else 2]:
                line.lane(client.name, name)
        for server in self.scenario.names[1:]:
            self._server_lanes(server, keys)

    def _server_lanes(self, server: str, keys: tuple[Key, ...]) -> None:
        self.timeline.lane(server, "guest")
        for client in self.clients:
            for key in keys if client.place == 0 else keys[:4]:
                self.timeline.lane(server, self._at_server(key, client.name))

    def _at_server(self, key: Key, client: str) -> str:
        name = channel_name(*key)
        return name if len(self.clients) == 1 else f"{name} of {client}"

    # -- what happens ------------------------------------------------------------------------------

    def look(self, process: Process) -> None:
        """A process has had its turn."""
        if isinstance(process, ClientProcess):
            self._look_at_client(process)
        elif isinstance(process, ServerProcess):
            self._look_at_server(process)

    def _look_at_client(self, client: ClientProcess) -> None:
        core, now = client.core, self.clock.now
        for key, channel in core.channels.items():
            state = _CLIENT_STATES.get(channel.phase)
            if state is None:
                end = client.ends.get(core.at.get(key, -1))
                state = "" if end is None else f"at {end.other.owner.name}"
            self.timeline.state(client.name, channel_name(*key), state, now)
        phase = core.migration.phase.value
        self.timeline.state(client.name, "move", "" if phase == "idle" else phase, now)

    def _look_at_server(self, server: ServerProcess) -> None:
        now, found = self.clock.now, {}
        for number, connection in server.core.connections.items():
            end = server.ends.get(number)
            if connection.channel is not None and end is not None and not connection.closing:
                name = self._at_server(connection.channel.key, end.other.owner.name)
                found[name] = _SERVER_STATES[connection.channel.phase]
        for lane in self.timeline.lanes:
            if lane.party == server.name and lane.name != "guest":
                self.timeline.state(server.name, lane.name, found.pop(lane.name, ""), now)
        for name, state in found.items():
            self.timeline.state(server.name, name, state, now)

    def written(self, end: End, data: bytes) -> None:
        """Somebody has written a message."""
        process = end.owner
        sender: Sender = "client" if isinstance(process, ClientProcess) else "server"
        key = _channel_of(process, end.number)
        if key is None or end.line.dead:
            return
        name = message_of(key[0], sender, data)
        if not _OF_A_MOVE.match(name):
            return
        names = (end.owner.name, end.other.owner.name)
        client = names[0] if sender == "client" else names[1]
        lanes = [
            (who, channel_name(*key) if who == client else self._at_server(key, client))
            for who in names
        ]
        told = _NAMES.get(name, name)
        self.timeline.arrow(told, lanes[0], self.clock.now, lanes[1], end._last)

    def reached(self, anchor: str) -> None:
        """The move is so far."""
        line, now = self.timeline, self.clock.now
        if anchor in _STEPS:
            line.state("operator", "move", _STEPS[anchor], now)
        line.mark("operator", "move", anchor, now)
        if anchor == "thaw":
            line.state(self.operator.here.name, "guest", "", now)
        super().reached(anchor)

    def happens(self, fault: Fault) -> None:
        """Something goes wrong."""
        self.timeline.mark("operator", "faults", str(fault), self.clock.now)
        super().happens(fault)

    def client_event(self, client: ClientProcess, event: Event) -> None:
        """A client has told something."""
        args = event.as_dict()
        lane = args.get("channel", "") or "move"
        self.timeline.mark(client.name, lane, event.kind, self.clock.now, args)
        super().client_event(client, event)

    def server_event(self, server: ServerProcess, event: Event) -> None:
        """A server has told something."""
        kind = type(event).__name__
        if kind.startswith(("Move", "Session", "Record", "Client", "Late", "Not")):
            args = event.as_dict()
            self.timeline.mark(server.name, "guest", event.kind, self.clock.now, args)
        super().server_event(server, event)

    def finish(self) -> None:
        """The run is over."""
        line = self.timeline
        for client in self.clients:
            for at in client.drew_at:
                line.burst(client.name, "screen changes", "changes", at)
            for at in client.heard_at if not client.place else ():
                line.burst(client.name, "port is heard", "bytes", at)
        for name in [*self.processes, "operator"]:
            for at, what in self._notes(name):
                line.mark(name, "told" if name != "operator" else "move", what, at)
        line.finish(self.clock.now)
        ordered = self.operator.completed_at
        line.zero = ordered[-1] if ordered else EPOCH

    def _notes(self, who: str) -> list[tuple[float, str]]:
        """What a process has told the trace, but for what came on its lines."""
        return [
            (EPOCH + float(text[:12]), text[29:].strip())
            for text in self.trace.lines
            if text[14:29].rstrip() == who and "<- peer" in text
        ]


def _channel_of(process: Any, number: int) -> Key | None:
    """The channel of a connection, None if none is open on it yet."""
    if isinstance(process, ServerProcess):
        connection = process.core.connections.get(number)
        channel = None if connection is None else connection.channel
        return None if channel is None else channel.key
    if isinstance(process, ClientProcess):
        link = process.core.links.get(number) or process.core._any_link(number)
        return None if link is None else link.key
    return None


def watch(scenario: Scenario) -> Watched:
    """Play a scenario; gives the world as it is at the end, with its timeline."""
    world = Watched(scenario)
    world.play()
    world.finish()
    return world
