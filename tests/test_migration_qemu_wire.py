"""What a seamless migration looks like on the wire, read from captures of real ones."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from tests.moving_rig import (
    CLIENT_MIGRATE_DATA,
    DATA,
    FLUSH_MARK,
    MIGRATE,
    MIGRATE_DATA,
    PORT,
    classic,
    data_of,
    moving,
    of_channel,
)

from aiospice.aio.capture import CaptureFile
from aiospice.proof.pcap import read_connections

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import NetworkFactory, PairFactory

    from aiospice.proof.pcap import Connection

pytestmark = [pytest.mark.peers, pytest.mark.net]

MAIN = (1, 0)
NEED_FLUSH, NEED_DATA = 1, 2
CONNECTED_SEAMLESS, BEGIN_SEAMLESS = 111, 116
DO_SEAMLESS, SEAMLESS_ACK = 110, 117


async def captured(
    path: Path,
    qemu_pair: PairFactory,
    delayed_network: NetworkFactory,
    *,
    delay_ms: float,
    migrations: int,
    busy: bool = True,
) -> tuple[list[Connection], list[Connection]]:
    """The connections of a session that moved so often under a stream without a pause.

    ``busy``: a wide stream, with somebody typing.
    From the network, and from the client's own record, whose order is that of its work.
    """
    net = await delayed_network(delay_ms=delay_ms, pcap=path / "network.pcap")
    pair = await qemu_pair(address=net.server_address)
    capture = CaptureFile(path / "own.pcapng")
    async with moving(pair, net=net, window=8192 if busy else 256, capture=capture) as rig:
        keys = asyncio.create_task(rig.session.keyboard.type("moving " * 200 * busy))
        await rig.seamless(migrations)
        keys.cancel()
        await asyncio.gather(keys, return_exceptions=True)
        await rig.exact()
    await net.close()
    own = read_connections(classic(path / "own.pcapng"))
    return read_connections(path / "network.pcap"), own


@pytest.mark.parametrize("delay_ms", [1, 25])
async def test_the_order_of_a_hand_over(
    tmp_path: Path, qemu_pair: PairFactory, delayed_network: NetworkFactory, delay_ms: float
) -> None:
    migrations = 3
    network, own = await captured(
        tmp_path, qemu_pair, delayed_network, delay_ms=delay_ms, migrations=migrations
    )
    keys = {(c.channel_type, c.channel_id) for c in network}
    assert {MAIN, (2, 0), (3, 0), (4, 0), (PORT, 0)} <= keys
    for connections, latency in ((network, 1.0), (own, 0.0)):
        flags = set()
        for key in keys:
            stays = of_channel(connections, key)
            assert len(stays) == migrations + 1
            flags |= {handed_over(old, new, latency) for old, new in pairwise(stays)}
        assert {NEED_FLUSH | NEED_DATA, 0} <= flags


def handed_over(old: Connection, new: Connection, latency: float) -> int:
    """Check the end of a channel on the source and its beginning on the target.

    ``latency``: seconds that the client may take to read what has reached its machine.
    """
    migrate = old.find("server", MIGRATE)
    assert migrate is not None
    flags = int.from_bytes(migrate.body[:4], "little")
    ours, theirs = old.sent_by("client"), old.sent_by("server")
    # The source is silent after MIGRATE and its record.
    after = theirs[theirs.index(migrate) + 1 :]
    assert [m.type for m in after] == ([MIGRATE_DATA] if flags & NEED_DATA else [])
    # So are we: what left before MIGRATE came, then the mark, and nothing behind it.
    begun = [m for m in ours if m.first > migrate.last + latency]
    if latency:
        begun += [m for m in ours[-1:] if m.type == FLUSH_MARK and m not in begun]
    assert [m.type for m in begun] == ([FLUSH_MARK] if flags & NEED_FLUSH else [])
    assert all(m.complete for m in ours)
    if flags & NEED_FLUSH:
        assert ours[-1].type == FLUSH_MARK
    moved = [m for m in new.sent_by("client") if m.first > migrate.last]
    if flags & NEED_DATA:
        # The record goes back as it came, before everything else that we send for the channel.
        record = after[0]
        assert moved[0].type == CLIENT_MIGRATE_DATA
        assert moved[0].body == record.body
        assert moved[0].first >= record.last
        assert CLIENT_MIGRATE_DATA not in [m.type for m in moved[1:]]
        if old.channel_type != MAIN[0]:
            assert new.sent_by("client")[0] is moved[0]
    return flags


async def test_what_waits_during_the_flush_goes_to_the_target(
    tmp_path: Path, qemu_pair: PairFactory, delayed_network: NetworkFactory
) -> None:
    """Numbers written between the mark and the record arrive behind the record."""
    connections, _ = await captured(tmp_path, qemu_pair, delayed_network, delay_ms=25, migrations=1)
    old, new = of_channel(connections, (PORT, 0))
    mark, record = old.find("client", FLUSH_MARK), new.find("client", CLIENT_MIGRATE_DATA)
    assert mark is not None
    assert record is not None
    data = [m for m in new.sent_by("client") if m.type == DATA]
    assert data[0].first >= record.first
    # Both together are the stream without a gap: the last of one is followed by the first of two.
    last = data_of([old], "client")[-8:]
    first = data_of([new], "client")[:8]
    assert int.from_bytes(first, "big") == int.from_bytes(last, "big") + 1


async def test_connecting_to_the_target_takes_four_round_trips(
    tmp_path: Path, qemu_pair: PairFactory, delayed_network: NetworkFactory
) -> None:
    """TCP, link, ticket, and the answer to DO_SEAMLESS: everything else runs beside them.

    Trips are counted by what may have waited for what, not by the clock: how long a server takes
    to make the key for a link is its own affair. The fewest count, since a key that took longer
    than a trip looks like a wait.
    """
    connections, _ = await captured(
        tmp_path, qemu_pair, delayed_network, delay_ms=25, migrations=5, busy=False
    )
    counted = []
    for old, new in pairwise(of_channel(connections, MAIN)):
        told = old.find("client", CONNECTED_SEAMLESS)
        asked, answered = new.find("client", DO_SEAMLESS), new.find("server", SEAMLESS_ACK)
        assert told is not None
        assert asked is not None
        assert answered is not None
        there = [c for c in connections if c.tcp.server_address == new.tcp.server_address]
        there = [c for c in there if c.connection_id == new.connection_id]
        assert len(there) == 5
        exchanges = [(asked.first, answered.first)]
        for connection in there:
            exchanges += link_exchanges(connection)
            assert connection.linked <= told.first
            # The others' tickets wait until the target has accepted main.
            if connection is not new:
                assert exchanges[-1][0] >= new.linked
        counted.append(trips_before(told.first, exchanges))
    assert min(counted) == 4, counted


def link_exchanges(connection: Connection) -> list[tuple[float, float]]:
    """When the client asked and when it had the answer: TCP, link, ticket."""
    client, server = connection.tcp.client, connection.tcp.server
    link_size = 16 + int.from_bytes(client.data[12:16], "little")
    begun, ticket = client.time(0), client.time(link_size)
    tcp = (connection.tcp.opened, begun)  # the link message follows TCP's answer at once
    return [tcp, (begun, server.time(0)), (ticket, connection.linked)]


def trips_before(moment: float, exchanges: list[tuple[float, float]]) -> int:
    """The longest chain of exchanges, each asked after the one before was answered."""
    longest: list[tuple[float, int]] = []
    for asked, answered in sorted(exchanges):
        before = [depth for end, depth in longest if end <= asked]
        longest.append((answered, 1 + max(before, default=0)))
    return max(depth for end, depth in longest if end <= moment)
