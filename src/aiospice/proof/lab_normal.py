"""What a message costs in normal running: bytes on the wire and time of the CPU, of our real cores.

A client and a server, joined in memory without time. The client writes messages to a port and the
guest reads them, then the guest writes and the client reads; what the link and the display say is
not counted. With a policy that keeps copies the server has the client keep them, as it would for
a machine that is to be moved like that one day.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from aiospice.client.config import ClientConfig
from aiospice.client.session import ClientSession
from aiospice.effects import Close, Compute, MakeKey, Open
from aiospice.server.config import Peer, ServerConfig
from aiospice.server.core import ServerCore
from aiospice.server.guest import Host
from aiospice.sim.chance import Chance
from aiospice.sim.crypto import SimCrypto

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SIZES", "Running", "config_of", "running"]

#: Bytes of a message.
SIZES = (16, 1000, 16_000)
_NAME = "org.example.stream"
_KEY = (10, 0)
#: Messages that are written before all that is under way is handed on; and how often.
_AT_ONCE, _ROUNDS = 8, 150


@dataclass(frozen=True)
class Running:
    """One message of a port, under some policies; bytes are those that don't belong to its data."""

    policy: str
    size: int
    #: Bytes on the wire beyond the data, for each message: to the server, and back.
    to_server: float
    to_client: float
    #: Microseconds of the CPU for each message from the client to the guest, both ends together;
    #: and the other way.
    micros: float
    micros_back: float
    #: The most bytes of copies at the client.
    copies: int


def config_of(policy: str) -> ServerConfig:
    """The settings of a server whose machine can be moved by a policy."""
    keep = {"replay": "tokens", "ack": "acks"}.get(policy)
    if keep is None or "keep" not in ServerConfig._fields:
        return ServerConfig()
    settings: dict[str, Any] = {"keep": keep}
    return ServerConfig(**settings)


class _Pair:
    """A client and a server; bytes arrive at once."""

    def __init__(self, settings: ServerConfig) -> None:
        self.server = ServerCore(settings, SimCrypto(Chance(1)))
        self.host = Host(self.server, lambda: None)
        self.port = self.host.port(_NAME)
        self.port.opened = True
        config = ClientConfig(host="server", port=5900, channels=("port",), agent=False)
        self.client = ClientSession(config, SimCrypto(Chance(2)))
        #: Bytes to the server, and to the client.
        self.sent = [0, 0]
        self.came = 0
        self._open: set[int] = set()
        #: The one connection that is looked at: what is timed is the channel, not this loop.
        self.only: int | None = None
        self.now = 1000.0
        self.client.start(self.now)
        for _ in range(100):
            self.turn()
        self.only = self.client.at[_KEY]

    @property
    def channel(self) -> Any:
        """The client's port."""
        return self.client.channels[_KEY]

    def turn(self) -> bool:
        """Hand on what there is; whether there was anything."""
        self._effects()
        any_bytes = False
        numbers = list(self._open) if self.only is None else [self.only]
        for number in numbers:
            while data := self.client.take(number):
                self.sent[0] += len(data)
                self.server.received(number, data, self.now)
                any_bytes = True
        self.server.events()
        for number in numbers:
            while data := self.server.take(number):
                self.sent[1] += len(data)
                self.client.received(number, data, self.now)
                any_bytes = True
        self._events()
        return any_bytes

    def _events(self) -> None:
        for event in self.client.events():
            data = getattr(event, "data", None)
            if event.kind == "device-data" and data is not None:
                self.came += len(data)
                self.channel.consumed(len(data))

    def _effects(self) -> None:
        for effect in self.client.effects():
            if isinstance(effect, Open):
                self._open.add(effect.connection)
                self.server.accepted(effect.connection, Peer("client", "client"), self.now)
                self.client.connected(effect.connection, self.now)
            elif isinstance(effect, Close):
                self._open.discard(effect.connection)
                self.server.closed(effect.connection, None, self.now)
        for wish in self.server.effects():
            if isinstance(wish, MakeKey):
                self.server.ticket_key(wish.connection, bytes(32), self.now)
            elif isinstance(wish, Compute):
                self.server.computed(wish.id, wish.job.run(), self.now)

    def settle(self) -> None:
        """Until nothing is under way."""
        while self.turn():
            pass


def _there(pair: _Pair, data: bytes) -> int:
    """The client writes, the guest reads; gives the bytes of copies before it has read."""
    for _ in range(_AT_ONCE):
        pair.channel.write(data)
        pair.turn()
    copies = getattr(pair.channel, "copies", None)
    most = 0 if copies is None else copies.size
    while pair.port.read(1 << 20):
        pair.turn()
    pair.settle()
    return most


def _back(pair: _Pair, data: bytes) -> None:
    """The guest writes, the client reads."""
    for _ in range(_AT_ONCE):
        pair.port.write(data)
        pair.turn()
    pair.settle()


def running(policies: Iterable[str], size: int) -> list[Running]:
    """Measure one message of ``size`` bytes, round by round in turn.

    Policies under which a server has the same settings are one: nothing differs until a move.
    """
    alike: dict[ServerConfig, list[str]] = {}
    for policy in policies:
        alike.setdefault(config_of(policy), []).append(policy)
    pairs = {", ".join(names): _Pair(config) for config, names in alike.items()}
    data, count = bytes(size), _ROUNDS * _AT_ONCE
    copies = dict.fromkeys(pairs, 0)
    there: dict[str, list[float]] = {policy: [] for policy in pairs}
    back: dict[str, list[float]] = {policy: [] for policy in pairs}
    for pair in pairs.values():
        pair.settle()
        pair.sent = [0, 0]
    for _ in range(_ROUNDS):
        for policy, pair in pairs.items():
            begin = time.process_time()
            copies[policy] = max(copies[policy], _there(pair, data))
            there[policy].append(time.process_time() - begin)
    over = {
        policy: (pair.sent[0] / count - size, pair.sent[1] / count)
        for policy, pair in pairs.items()
    }
    for _ in range(_ROUNDS):
        for policy, pair in pairs.items():
            begin = time.process_time()
            _back(pair, data)
            back[policy].append(time.process_time() - begin)
    assert all(pair.came == count * size for pair in pairs.values()), "clients have heard all"
    scale = 1e6 / _AT_ONCE
    return [
        Running(
            policy,
            size,
            *over[policy],
            scale * median(there[policy]),
            scale * median(back[policy]),
            copies[policy],
        )
        for policy in pairs
    ]
