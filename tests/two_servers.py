"""Two servers' cores and client sessions between them, joined in memory, time at will.

::

    world = TwoServers()
    anna = world.client()
    world.move("source", "target")

The cores are pickled after every step and their copies carry on (``freezes``). Bytes travel whole
or one by one (``cut``). What goes with the guest, goes pickled.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from tests.script import OneKey

from aiospice.channels.events import Event
from aiospice.client.config import ClientConfig
from aiospice.client.session import ClientSession
from aiospice.effects import Close, Compute, MakeKey, Open, Pause, Resume
from aiospice.migration.source import Policy
from aiospice.server.config import Peer, ServerConfig
from aiospice.server.core import ServerCore
from aiospice.server.guest import Host

if TYPE_CHECKING:
    from aiospice.effects import Endpoint
    from aiospice.migration.peer import PeerMessage

__all__ = ["Line", "Node", "TwoServers", "WorldClient"]

EventT = TypeVar("EventT", bound=Event)

#: Bytes on the way to a client that doesn't read.
PIPE = 256 << 10
ROUNDS = 50_000


class Node:
    """A server."""

    def __init__(self, name: str, config: ServerConfig) -> None:
        self.name = name
        self.core = ServerCore(config, OneKey())
        self.host = Host(self.core, lambda: None)
        self.events: list[Event] = []
        self.paused: set[int] = set()
        self.closing: set[int] = set()

    def seen(self, kind: type[EventT]) -> list[EventT]:
        """Events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


class Line:
    """A connection of a client to a server."""

    def __init__(self, client: WorldClient, own: int, node: Node, number: int) -> None:
        self.client, self.own, self.node, self.number = client, own, node, number
        self.to_client = bytearray()
        self.to_server = bytearray()
        #: What is on its way: when it comes, to whom (True: the client), and the bytes.
        self.on_its_way: deque[tuple[float, bool, bytes]] = deque()
        self.client_paused = False
        #: The client's end is closed.
        self.closed = False

    def send(self, to_client: bool, data: bytes, due: float, now: float) -> None:
        """Bytes leave."""
        self.on_its_way.append((due, to_client, data))
        self.come(now)

    def come(self, now: float) -> bool:
        """What is due is there."""
        busy = False
        while self.on_its_way and self.on_its_way[0][0] <= now:
            _, to_client, data = self.on_its_way.popleft()
            target = self.to_client if to_client else self.to_server
            target += data
            busy = True
        return busy

    def on_way(self, to_client: bool) -> int:
        """Bytes that haven't been read at that end."""
        waiting = len(self.to_client if to_client else self.to_server)
        return waiting + sum(len(data) for _, way, data in self.on_its_way if way is to_client)


class WorldClient:
    """A session core of ours."""

    def __init__(self, config: ClientConfig) -> None:
        self.core = ClientSession(config, OneKey())
        self.events: list[Event] = []
        #: Channel types whose connections aren't read, or 0 for all of them.
        self.deaf: set[int] = set()

    def seen(self, kind: type[EventT]) -> list[EventT]:
        """Events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def channel(self, kind: int, number: int = 0) -> Any:
        """A channel of the session."""
        return self.core.channels[kind, number]


class TwoServers:
    """See the module's text."""

    def __init__(
        self,
        setup: Callable[[Host], None] = lambda host: None,
        config: ServerConfig | None = None,
        *,
        cut: int = 0,
        freezes: bool = True,
        linked: bool = False,
        delay: float = 0.0,
        peer_delay: float = 0.0,
    ) -> None:
        config = config or ServerConfig()
        self.nodes = {name: Node(name, config) for name in ("source", "target")}
        for node in self.nodes.values():
            setup(node.host)
        self.clients: list[WorldClient] = []
        self.lines: list[Line] = []
        self.cut, self.freezes = cut, freezes
        self.policy = Policy.CARRY
        #: The servers have a link of their own (`aiospice.migration.peer`).
        self.linked = linked
        #: Seconds that bytes of clients are on their way, and messages of that link.
        self.delay, self.peer_delay = delay, peer_delay
        self.told: list[PeerMessage] = []
        self._peer_line: deque[tuple[float, Node, bytes]] = deque()
        self._moves = 0
        self.now = 1000.0
        self._number = 0
        #: Changes what the client carries to a server: (channel key, message's bytes).
        self.forge: Callable[[Line, bytes], bytes] = lambda line, data: data

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def client(self, password: str = "", **options: Any) -> WorldClient:
        """A client connects to the source."""
        found = WorldClient(ClientConfig(host="source", port=5900, password=password, **options))
        self.clients.append(found)
        found.core.start(self.now)
        self.run()
        return found

    # -- a hand-over -------------------------------------------------------------------------------

    def prepare(self, source: str, target: str, ids: tuple[int | None, ...] = ()) -> None:
        """Clients connect to the target."""
        if self.has_link:
            self.link(source, target)
        for id in ids or tuple(self[source].core.sessions):
            self[target].core.expect_migration(id, now=self.now)
        self[source].core.prepare_migration(target, 5900, policy=self.policy, now=self.now)
        self.run()

    @property
    def has_link(self) -> bool:
        """Whether the servers have a link of their own."""
        return self.linked or self.policy.needs_link

    def link(self, source: str, target: str) -> None:
        """The two servers are joined, for one migration."""
        self._moves += 1
        key = self._moves.to_bytes(32, "big")
        self[source].core.peer_link(True, key, "source", self.now, f"move {self._moves}")
        self[target].core.peer_link(True, key, "target", self.now, f"move {self._moves}")

    def unlink(self) -> None:
        """The link between them is lost."""
        self._peer_line.clear()
        for node in self.nodes.values():
            role = node.core.peer.role
            if role:
                node.core.peer_link(False, None, role, self.now)

    def carry(self, source: str, target: str, during: Callable[[], None] = lambda: None) -> None:
        """The guest moves."""
        if self.policy is Policy.HOLD and self[source].core.clients_ready:
            self[source].core.hold_clients(self.now)
            while not self[source].core.clients_held:
                self.wait(0.005)
        state = pickle.loads(pickle.dumps(self[source].core.freeze_machine(self.now)))
        during()
        self[target].core.thaw_machine(state, self.now)

    def move(
        self, source: str, target: str, during: Callable[[], None] = lambda: None, run: bool = True
    ) -> None:
        """The guest and its clients move."""
        self.prepare(source, target)
        self.carry(source, target, during)
        self[source].core.complete_migration(self.now)
        if run:
            self.run()
            if not self.has_link:
                self[target].core.take_late_inputs(self[source].core.late_inputs(), self.now)
            self.run()

    # -- the world ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Until nothing moves any more."""
        for _ in range(ROUNDS):
            for node in self.nodes.values():
                node.core.publish(self.now)
            if not self._round():
                return
        raise AssertionError("it never comes to rest")

    def _round(self) -> bool:
        busy = False
        for node in self.nodes.values():
            busy |= self._settle(node)
        for line in list(self.lines):
            if line in self.lines:
                busy |= self._to_client(line)
            if line in self.lines:
                busy |= self._to_server(line)
        for client in self.clients:
            busy |= self._client_settles(client)
        return self._peers() or busy

    def _peers(self) -> bool:
        """What the servers tell each other, in order."""
        busy = False
        for node, other in (tuple(self.nodes.values()), tuple(self.nodes.values())[::-1]):
            for message in node.core.peer_out:
                self.told.append(message)
                due = self.now + self.peer_delay
                self._peer_line.append((due, other, pickle.dumps(message)))
            node.core.peer_out.clear()
        while self._peer_line and self._peer_line[0][0] <= self.now:
            busy = True
            _, node, data = self._peer_line.popleft()
            node.core.peer_in(pickle.loads(data), self.now)
            self.freeze(node)
        return busy

    def freeze(self, node: Node) -> None:
        """The core goes on as a copy of itself."""
        if self.freezes:
            node.core.__dict__ = pickle.loads(pickle.dumps(node.core)).__dict__

    def _settle(self, node: Node) -> bool:
        busy = False
        for effect in node.core.effects():
            busy = True
            if isinstance(effect, MakeKey):
                node.core.ticket_key(effect.connection, OneKey().make_ticket_key(), self.now)
            elif isinstance(effect, Compute):
                node.core.computed(effect.id, effect.job.run(), self.now)
            elif isinstance(effect, Pause):
                node.paused.add(effect.connection)
            elif isinstance(effect, Resume):
                node.paused.discard(effect.connection)
            elif isinstance(effect, Close):
                self._server_closes(node, effect)
        found = node.core.events()
        node.events += found
        node.core.wanting()
        return busy or bool(found)

    def _server_closes(self, node: Node, effect: Close) -> None:
        line = next((line for line in self.lines if line.number == effect.connection), None)
        if effect.discard:
            node.core.dropped(effect.connection, 0, self.now)
        while data := node.core.take(effect.connection):
            if line is not None:
                line.send(True, data, self.now + self.delay, self.now)
        node.closing.add(effect.connection)

    def _pieces(self, data: bytes) -> list[bytes]:
        step = self.cut or len(data)
        return [data[at : at + step] for at in range(0, len(data), step)]

    def _to_client(self, line: Line) -> bool:
        if line.closed:
            return line.come(self.now)
        busy, node = line.come(self.now), line.node
        closing = line.number in node.closing
        while line.on_way(True) < PIPE and not closing and (data := node.core.take(line.number)):
            busy = True
            line.send(True, data, self.now + self.delay, self.now)
            self.passes(line, data, to_client=True)
        if not self.carries(line):
            return busy
        connection = node.core.connections.get(line.number)
        channel = connection.channel if connection is not None else None
        kind = 0 if channel is None else channel.key[0]
        deaf = bool((0 in line.client.deaf) or (kind in line.client.deaf and kind))
        if line.to_client and not line.client_paused and not deaf:
            data = bytes(line.to_client[: 64 << 10])
            del line.to_client[: len(data)]
            for piece in self._pieces(data):
                line.client.core.received(line.own, piece, self.now)
            return True
        if closing and not line.on_way(True) and not deaf:
            self.lines.remove(line)
            line.client.core.closed(line.own, None, self.now)
            return True
        return busy

    def _to_server(self, line: Line) -> bool:
        busy, node = False, line.node
        while (
            not line.closed
            and line.on_way(False) < PIPE
            and (data := line.client.core.take(line.own))
        ):
            line.send(False, self.forge(line, data), self.now + self.delay, self.now)
            busy = True
            self.passes(line, data, to_client=False)
        if not self.carries(line):
            return busy
        if line.to_server and line.number not in node.paused:
            busy = True
            data = bytes(line.to_server[: 64 << 10])
            del line.to_server[: len(data)]
            for piece in self._pieces(data):
                node.core.received(line.number, piece, self.now)
            self.freeze(node)
        return busy or (line.closed and self._closes(line))

    def passes(self, line: Line, data: bytes, *, to_client: bool) -> None:
        """Something is on its way. For worlds in which that has consequences."""

    def carries(self, line: Line) -> bool:
        """Whether bytes still arrive on a connection."""
        return True

    def _client_settles(self, client: WorldClient) -> bool:
        busy = False
        for effect in client.core.effects():
            busy = True
            line = None
            if not isinstance(effect, (Open, Compute)):
                line = next(
                    (
                        line
                        for line in self.lines
                        if line.client is client and line.own == effect.connection
                    ),
                    None,
                )
            if isinstance(effect, Open):
                self._connect(client, effect.connection, effect.endpoint)
            elif isinstance(effect, Compute):
                client.core.computed(effect.id, effect.job.run(), self.now)
            elif line is not None and isinstance(effect, Close):
                self.cut_off(line)
            elif line is not None:
                line.client_paused = isinstance(effect, Pause)
        found = client.core.events()
        client.events += found
        return busy or bool(found)

    def cut_off(self, line: Line) -> None:
        """The client's end of a connection is gone; what is under way still comes."""
        line.closed = True
        line.to_client.clear()

    def _closes(self, line: Line) -> bool:
        """The server sees the end of a connection that the client has closed."""
        if line.on_way(False) or line.number in line.node.paused:
            return False
        self.lines.remove(line)
        line.node.core.closed(line.number, None, self.now)
        self.freeze(line.node)
        return True

    def _connect(self, client: WorldClient, own: int, endpoint: Endpoint) -> None:
        self._number += 1
        node = self.nodes[endpoint.host]
        self.lines.append(Line(client, own, node, self._number))
        node.core.accepted(self._number, Peer(f"10.0.0.1:{self._number}", "10.0.0.1"), self.now)
        client.core.connected(own, self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass, with every call that the cores asked for on its way."""
        end = self.now + seconds
        self.run()
        for _ in range(10_000):
            cores: list[ServerCore | ClientSession] = [each.core for each in self.nodes.values()]
            cores += [client.core for client in self.clients]
            times = [at for core in cores if (at := core.next_wake()) is not None]
            times += [line.on_its_way[0][0] for line in self.lines if line.on_its_way]
            times += [self._peer_line[0][0]] if self._peer_line else []
            soonest = min(times, default=end)
            if not times or soonest > end:
                break
            self.now = max(self.now, soonest)
            for core in cores:
                at = core.next_wake()
                if at is not None and at <= self.now:
                    core.wake(self.now)
            self.run()
        else:
            raise AssertionError("the cores ask to be woken again and again")
        self.now = end
