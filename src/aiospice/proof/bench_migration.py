"""A session that follows a migrating QEMU: ours beside spice-gtk's, under network delay.

Each client streams numbers through the guest's echo port while the machine moves. Everything is
read from captures taken on the client's side of a network that holds each packet for a fixed time,
the same way for both clients:

* pause: the longest silence of the port's data, from either server;
* first data from the target: since the source's STOP event, also in one-way trips;
* connecting: from the source's MIGRATE_BEGIN_SEAMLESS until the client's answer, also in round
  trips: by the clock, in which the server's making of keys counts too, and by what waited for what.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import aiospice
from aiospice.errors import MissingProgram, SpiceTimeout
from aiospice.proof import gtkpeer
from aiospice.proof.bench import complain, median, ratio
from aiospice.proof.delay import DelayedNetwork
from aiospice.proof.gtkpeer import GtkPeer
from aiospice.proof.pcap import Connection, read_connections
from aiospice.proof.qemu import QemuOptions, QemuPair
from aiospice.proof.stream import EchoStream, EventLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["measure"]

_MAIN, _PORT = 1, 10
_DATA, _BEGIN_SEAMLESS, _CONNECTED_SEAMLESS = 101, 116, 111
_DO_SEAMLESS, _SEAMLESS_ACK = 110, 117
_LINK_HEADER = 16
_WINDOW, _CHUNK = 4096, 256
_BETWEEN = 8192  # bytes of the stream before the move
_SOCKETS = 10  # five channels, at two servers
_DRAIN = 3.0  # seconds; without delay QEMU may lose a byte, whatever the client
_TOLD = 0.2  # seconds and four trips for the client's answer to reach QEMU


class _Run(NamedTuple):
    pause: float  #: seconds
    first: float  #: seconds
    connecting: float  #: seconds
    exchanges: int  #: round trips that waited for one another while connecting


async def measure(
    *, runs: int = 5, delays: tuple[float, ...] = (0, 25, 50), **_: Any
) -> AsyncIterator[dict[str, Any]]:
    """Yield both clients' figures and their ratios for each one-way delay in ms."""
    beside = _spice_gtk_is_there()
    for delay in delays:
        ours: list[_Run] = []
        theirs: list[_Run] = []
        for _run in range(runs):
            ours.append(await _one(delay, _our_stream))
            if beside:
                theirs.append(await _one(delay, _gtk_stream))
        yield {"client": "aiospice", "delay_ms": delay, **_figures(ours, delay / 1e3)}
        if not beside:
            continue
        yield {"client": "spice-gtk", "delay_ms": delay, **_figures(theirs, delay / 1e3)}
        yield {
            "client": "ratio",
            "delay_ms": delay,
            "pause": ratio([run.pause for run in ours], [run.pause for run in theirs]),
            "first_data": ratio([run.first for run in ours], [run.first for run in theirs]),
            "connecting": ratio(
                [run.connecting for run in ours], [run.connecting for run in theirs]
            ),
        }


def _spice_gtk_is_there() -> bool:
    try:
        gtkpeer.build()
    except MissingProgram as error:
        complain("migration", f"spice-gtk is left out: {error}")
        return False
    return True


def _figures(runs: list[_Run], delay: float) -> dict[str, float]:
    first = median([run.first for run in runs])
    connecting = median([run.connecting for run in runs])
    found = {
        "pause_ms": median([run.pause for run in runs]) * 1e3,
        "first_data_ms": first * 1e3,
        "connecting_ms": connecting * 1e3,
    }
    if delay:
        found["first_data_trips"] = first / delay
        found["connecting_round_trips"] = connecting / (2 * delay)
        # A key that took longer than a trip looks like a wait, so the fewest count.
        found["connecting_round_trips_counted"] = min(run.exchanges for run in runs)
    return found


async def _one(delay: float, stream: Callable[[QemuPair, DelayedNetwork], Any]) -> _Run:
    """One machine, one move, one client."""
    with tempfile.TemporaryDirectory() as folder:
        capture = Path(folder) / "run.pcap"
        async with (
            DelayedNetwork(delay, pcap=capture) as net,
            QemuPair(QemuOptions(address=net.server_address)) as pair,
            stream(pair, net) as ready,
        ):
            move = await pair.migrate(ready)
            await asyncio.sleep(0.5 + delay * 8 / 1e3)
        return _read(read_connections(capture), move.stopped)


@asynccontextmanager
async def _our_stream(
    pair: QemuPair, net: DelayedNetwork
) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    async with aiospice.connect(pair.source.address, dial=_dial(net)) as session:
        port = await session.port()
        async with (
            EventLog(session) as log,
            EchoStream(port, window=_WINDOW, chunk=_CHUNK) as stream,
        ):
            await stream.flowing(_BETWEEN)

            async def ready() -> None:
                await log.wait("migration-ready")
                await asyncio.sleep(_TOLD)

            yield ready
            await stream.stop(drain=_DRAIN)


def _dial(net: DelayedNetwork) -> Callable[[str, int], Awaitable[socket.socket]]:
    """Connects sockets made beforehand: entering the clients' namespace takes 3 ms for each."""
    create = net.socket_factory()
    ready = [create(socket.AF_INET, socket.SOCK_STREAM) for _ in range(_SOCKETS)]

    async def dial(host: str, port: int) -> socket.socket:
        sock = ready.pop()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
        return sock

    return dial


@asynccontextmanager
async def _gtk_stream(
    pair: QemuPair, net: DelayedNetwork
) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    host, port = pair.source.options.address, pair.source.port
    async with GtkPeer(host, port=port, prefix=net.command()) as peer:
        await peer.wait("port-open", name=pair.source.options.echo_port)
        await peer.start_stream(window=_WINDOW, chunk=_CHUNK)
        await peer.wait("first-byte")
        while (await peer.report())["received"] < _BETWEEN:
            await asyncio.sleep(0.05)

        async def ready() -> None:
            await pair.client_arrived(settle=1.0)

        yield ready
        with suppress(SpiceTimeout):
            await peer.drain(timeout=_DRAIN)
        await peer.quit()


def _read(connections: list[Connection], stopped: float) -> _Run:
    port = sorted(
        message.first
        for connection in connections
        if connection.channel_type == _PORT
        for message in connection.sent_by("server")
        if message.type == _DATA
    )
    mains = [connection for connection in connections if connection.channel_type == _MAIN]
    begin = next(found for c in mains if (found := c.find("server", _BEGIN_SEAMLESS)))
    told = next(found for c in mains if (found := c.find("client", _CONNECTED_SEAMLESS)))
    target = [connection for connection in connections if connection.channel_type == _PORT][-1]
    first = next(message for message in target.sent_by("server") if message.type == _DATA)
    around = [(a, b) for a, b in pairwise(port) if b > stopped]
    pause = max(b - a for a, b in around if a < first.first + 0.2)
    at_target = [c for c in connections if c.tcp.server_address == target.tcp.server_address]
    return _Run(
        pause,
        first.first - stopped,
        told.first - begin.last,
        _chain([pair for c in at_target for pair in _exchanges(c)], told.first),
    )


def _exchanges(connection: Connection) -> list[tuple[float, float]]:
    """When the client asked and when it had the answer: TCP, link, ticket, DO_SEAMLESS."""
    client, server = connection.tcp.client, connection.tcp.server
    begun = client.time(0)  # the link message follows TCP's answer at once
    ticket = client.time(_LINK_HEADER + int.from_bytes(client.data[12:16], "little"))
    found = [(connection.tcp.opened, begun), (begun, server.time(0)), (ticket, connection.linked)]
    asked = connection.find("client", _DO_SEAMLESS)
    answered = connection.find("server", _SEAMLESS_ACK)
    if connection.channel_type == _MAIN and asked and answered:
        found.append((asked.first, answered.first))
    return found


def _chain(exchanges: list[tuple[float, float]], until: float) -> int:
    """The longest chain of exchanges, each asked after the one before was answered."""
    chains: list[tuple[float, int]] = []
    for asked, answered in sorted(exchanges):
        before = [length for end, length in chains if end <= asked]
        chains.append((answered, 1 + max(before, default=0)))
    return max((length for end, length in chains if end <= until), default=0)
