"""A server core and client sessions, joined in memory, time at will.

::

    pair = ServerPair()
    anna = pair.client()
    anna.core.channels[3, 0].key_down(0x1E)
    pair.run()
    assert pair.seen(KeyChanged) == [KeyChanged(code=0x1E, pressed=True)]

The server's core is pickled after every step and its copy carries on (``freezes``). Bytes travel
whole or one by one (``cut``). A client can be deaf: what the server sends it stays in a pipe that
holds ``PIPE`` bytes, as a kernel's buffer would.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, TypeVar

from tests.script import OneKey

from aiospice.channels.events import Event
from aiospice.client.config import ClientConfig
from aiospice.client.session import ClientSession
from aiospice.effects import Close, Compute, MakeKey, Open, Pause, Resume
from aiospice.errors import SessionLost
from aiospice.server.config import Peer, ServerConfig
from aiospice.server.core import ServerCore
from aiospice.server.guest import Host

if TYPE_CHECKING:
    from aiospice.effects import Endpoint

__all__ = ["PairClient", "ServerPair"]

EventT = TypeVar("EventT", bound=Event)

#: Bytes on the way to a client that doesn't read.
PIPE = 256 << 10
#: Rounds of one run; more is a hang.
ROUNDS = 50_000


class Pipe:
    """One connection."""

    def __init__(self, client: PairClient, endpoint: Endpoint) -> None:
        self.client = client
        self.endpoint = endpoint
        self.to_client = bytearray()
        self.to_server = bytearray()
        self.server_paused = False
        self.client_paused = False
        self.closing = False
        self.received = 0


class PairClient:
    """A session core of ours, as a client of the server."""

    def __init__(self, pair: ServerPair, config: ClientConfig, address: str, secure: bool) -> None:
        self.pair = pair
        self.core = ClientSession(config, OneKey())
        self.address = address
        self.secure = secure
        self.events: list[Event] = []
        self.numbers: dict[int, int] = {}
        #: Nothing is read from the server's connections of these channel types, or of all (0).
        self.deaf: set[int] = set()

    def seen(self, kind: type[EventT]) -> list[EventT]:
        """Events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def channel(self, kind: int, number: int = 0) -> Any:
        """A channel of the client's session."""
        return self.core.channels[kind, number]

    @property
    def served(self) -> Any:
        """The server's session of this client."""
        return self.pair.core.sessions[self.core.session_id]

    def start(self) -> None:
        """Connect."""
        self.core.start(self.pair.now)
        self.pair.run()

    def leave(self) -> None:
        """Cut all connections, as a process that dies."""
        for number in list(self.numbers.values()):
            self.pair.cut_off(number)
        self.pair.run()


class ServerPair:
    """See the module's text."""

    def __init__(
        self, config: ServerConfig | None = None, *, cut: int = 0, freezes: bool = True
    ) -> None:
        self.core = ServerCore(config or ServerConfig(), OneKey())
        self.host = Host(self.core, lambda: None)
        self.cut = cut
        self.freezes = freezes
        self.now = 1000.0
        self.events: list[Event] = []
        self.pipes: dict[int, Pipe] = {}
        self.clients: list[PairClient] = []
        self.jobs: list[Compute] = []
        #: Jobs wait until `compute` is called.
        self.holds_jobs = False
        self._number = 0
        self.closed: list[int] = []

    # -- clients -----------------------------------------------------------------------------

    def client(
        self,
        *,
        password: str = "",
        address: str = "",
        secure: bool = False,
        channels: tuple[str, ...] | None = None,
        start: bool = True,
        **options: Any,
    ) -> PairClient:
        """Another client connects."""
        config = ClientConfig(
            host="server",
            port=0 if secure else 5900,
            tls_port=5901 if secure else 0,
            password=password,
            channels=channels,
            **options,
        )
        address = address or f"10.0.0.{len(self.clients) + 1}"
        client = PairClient(self, config, address, secure)
        self.clients.append(client)
        if start:
            client.start()
        return client

    def raw(self, address: str = "10.1.0.1", *, secure: bool = False) -> int:
        """A connection without a client: feed it with `feed`, read it with `drain`."""
        self._number += 1
        peer = Peer(f"{address}:{self._number}", address, secure)
        self.core.accepted(self._number, peer, self.now)
        self.settle()
        return self._number

    def feed(self, number: int, data: bytes) -> bytes:
        """Bytes of a raw connection; what the server answers."""
        self.core.received(number, data, self.now)
        self.freeze()
        self.run()
        return self.drain(number)

    def drain(self, number: int) -> bytes:
        """What the server has to send on a raw connection."""
        parts = []
        while data := self.core.take(number):
            parts.append(data)
        self.settle()
        return b"".join(parts)

    def pipe(self, key: tuple[int, int], client: int = 0) -> Pipe:
        """The pipe of a client's channel."""
        for number, pipe in self.pipes.items():
            connection = self.core.connections.get(number)
            channel = connection.channel if connection is not None else None
            if pipe.client is self.clients[client] and channel is not None and channel.key == key:
                return pipe
        raise KeyError(key)

    def cut_off(self, number: int) -> None:
        """A connection breaks."""
        pipe = self.pipes.pop(number, None)
        self.core.closed(number, None, self.now)
        if pipe is not None:
            mine = [own for own, other in pipe.client.numbers.items() if other == number]
            for own in mine:
                del pipe.client.numbers[own]
                pipe.client.core.closed(own, SessionLost("cut"), self.now)

    # -- the world -----------------------------------------------------------------------------

    def seen(self, kind: type[EventT]) -> list[EventT]:
        """Events of the server so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def freeze(self) -> None:
        """The core goes on as a copy of itself."""
        if self.freezes:
            core = pickle.loads(pickle.dumps(self.core))
            self.core.__dict__ = core.__dict__

    def run(self) -> None:
        """Until nothing moves any more."""
        for _ in range(ROUNDS):
            self.core.publish(self.now)
            if not self._round():
                return
        raise AssertionError("it never comes to rest")

    def _round(self) -> bool:
        busy = self.settle()
        for number, pipe in list(self.pipes.items()):
            busy |= self._to_client(number, pipe)
            busy |= self._to_server(number, pipe)
        for client in self.clients:
            busy |= self._client_settles(client)
        return busy

    def settle(self) -> bool:
        """Carry out the server's effects, and collect its events."""
        busy = False
        for effect in self.core.effects():
            busy = True
            self._do(effect)
        found = self.core.events()
        self.events += found
        self.core.wanting()
        return busy or bool(found)

    def _do(self, effect: Any) -> None:
        if isinstance(effect, MakeKey):
            self.core.ticket_key(effect.connection, OneKey().make_ticket_key(), self.now)
        elif isinstance(effect, Compute):
            self.jobs.append(effect)
            if not self.holds_jobs:
                self.compute()
        elif isinstance(effect, (Pause, Resume)):
            if effect.connection in self.pipes:
                self.pipes[effect.connection].server_paused = isinstance(effect, Pause)
        elif isinstance(effect, Close):
            self.closed.append(effect.connection)
            pipe = self.pipes.get(effect.connection)
            if effect.discard:
                self.core.dropped(effect.connection, 0, self.now)
                self.core.wanting()
            if pipe is not None:
                while data := self.core.take(effect.connection):
                    pipe.to_client += data
                pipe.closing = True

    def compute(self, place: int = -1) -> None:
        """Do one of the jobs that wait."""
        job = self.jobs.pop(place)
        self.core.computed(job.id, job.job.run(), self.now)
        self.freeze()

    def _pieces(self, data: bytes) -> list[bytes]:
        step = self.cut or len(data)
        return [data[at : at + step] for at in range(0, len(data), step)]

    def _to_client(self, number: int, pipe: Pipe) -> bool:
        busy = False
        if len(pipe.to_client) < PIPE and not pipe.closing:
            data = self.core.take(number)
            if data:
                busy = True
                pipe.to_client += data
        own = next((own for own, other in pipe.client.numbers.items() if other == number), None)
        if own is None:
            return busy
        kind = self._kind(number)
        deaf = pipe.client.deaf & {0, kind} or pipe.client_paused
        if pipe.to_client and not deaf:
            data = bytes(pipe.to_client[: 64 << 10])
            del pipe.to_client[: len(data)]
            pipe.received += len(data)
            for piece in self._pieces(data):
                pipe.client.core.received(own, piece, self.now)
            return True
        if pipe.closing and not pipe.to_client:
            del self.pipes[number]
            del pipe.client.numbers[own]
            pipe.client.core.closed(own, None, self.now)
            return True
        return busy

    def _kind(self, number: int) -> int:
        connection = self.core.connections.get(number)
        channel = connection.channel if connection is not None else None
        return 0 if channel is None else channel.key[0]

    def _to_server(self, number: int, pipe: Pipe) -> bool:
        if number not in self.pipes:
            return False
        busy = False
        own = next((own for own, other in pipe.client.numbers.items() if other == number), None)
        if own is not None and len(pipe.to_server) < PIPE:
            data = pipe.client.core.take(own)
            if data:
                pipe.to_server += data
                busy = True
        if pipe.to_server and not pipe.server_paused:
            busy = True
            data = bytes(pipe.to_server[: 64 << 10])
            del pipe.to_server[: len(data)]
            for piece in self._pieces(data):
                self.core.received(number, piece, self.now)
            self.freeze()
        return busy

    def _client_settles(self, client: PairClient) -> bool:
        busy = False
        for effect in client.core.effects():
            busy = True
            if isinstance(effect, Open):
                self._connect(client, effect)
            elif isinstance(effect, Close):
                number = client.numbers.pop(effect.connection, None)
                pipe = self.pipes.pop(number, None) if number is not None else None
                if number is not None and pipe is not None:
                    if pipe.to_server:
                        self.core.received(number, bytes(pipe.to_server), self.now)
                    self.core.closed(number, None, self.now)
            elif isinstance(effect, (Pause, Resume)):
                number = client.numbers.get(effect.connection)
                if number in self.pipes:
                    self.pipes[number].client_paused = isinstance(effect, Pause)
            elif isinstance(effect, Compute):
                client.core.computed(effect.id, effect.job.run(), self.now)
        found = client.core.events()
        client.events += found
        return busy or bool(found)

    def _connect(self, client: PairClient, effect: Open) -> None:
        self._number += 1
        number = self._number
        client.numbers[effect.connection] = number
        self.pipes[number] = Pipe(client, effect.endpoint)
        peer = Peer(f"{client.address}:{number}", client.address, effect.endpoint.tls)
        self.core.accepted(number, peer, self.now)
        client.core.connected(effect.connection, self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass, with every call that the cores asked for on its way."""
        end = self.now + seconds
        for _ in range(10_000):
            cores: list[ServerCore | ClientSession] = [self.core]
            cores += [client.core for client in self.clients]
            times = [at for core in cores if (at := core.next_wake()) is not None]
            soonest = min(times, default=end)
            if not times or soonest > end:
                break
            self.now = max(self.now, soonest)
            for core in cores:
                at = core.next_wake()
                if at is not None and at <= self.now:
                    core.wake(self.now)
            self.freeze()
            self.run()
        else:
            raise AssertionError("the cores ask to be woken again and again")
        self.now = end
