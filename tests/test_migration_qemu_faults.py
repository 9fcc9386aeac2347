"""What real QEMUs and their targets do wrong: the session goes on, or ends with a clear error."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.moving_rig import Moving, moving

from aiospice.errors import MigrationFailed, SessionLost
from aiospice.proof.qemu import Move, free_port
from aiospice.proof.relay import DelayRelay

if TYPE_CHECKING:
    import socket

    from tests.conftest import NetworkFactory, PairFactory


pytestmark = pytest.mark.peers

LIMIT = 15  #: seconds within which a session works again, or says why not


async def started_over(rig: Moving, since: int) -> int:
    """After a switch-host: bytes flow again; returns how many may be lost at most."""
    finished = (await rig.log.wait("migration-finished", since=since)).as_dict()
    assert finished["mode"] == "switch-host"
    await rig.stream.flowing(4096, timeout=LIMIT)
    [risk] = (event.as_dict() for event in rig.log.find("bytes-at-risk", since=since))
    assert risk["name"] == "org.example.echo"
    assert finished["bytes_at_risk"] == risk["to_guest"]
    bound: int = risk["to_guest"] + risk["from_guest"]
    report = rig.stream.report
    assert report.lost <= bound
    assert (report.repeated, report.out_of_order) == (0, 0)
    return bound


@pytest.mark.net
@pytest.mark.parametrize("delay_ms", [0, 25])
async def test_a_machine_faster_than_the_client_is_followed_all_the_same(
    qemu_pair: PairFactory, delayed_network: NetworkFactory, delay_ms: float
) -> None:
    net = await delayed_network(delay_ms=delay_ms)
    pair = await qemu_pair(address=net.server_address)
    source = pair.source.port
    slow = [True]

    async def dial(host: str, port: int) -> socket.socket:
        if slow[0] and port != source and not delay_ms:
            await asyncio.sleep(0.5)  # without delay the client might win
        return await net.connect(host, port)

    async with moving(pair, dial=dial) as rig:
        await rig.stream.flowing(4096)
        since = len(rig.log.events)
        assert (await pair.migrate(race=True)).status == "completed"
        async with asyncio.timeout(LIMIT):
            await started_over(rig, since)
        slow[0] = False
        lost = rig.stream.report.lost
        # The next ones, for which QEMU waits, are seamless: nothing more is lost.
        await rig.seamless(2)
        await rig.stream.flowing()
        report = await rig.stream.stop(drain=4)
        upstream = 0 if delay_ms else 2  # without delay, a byte of each
        assert lost <= report.lost <= lost + upstream
        assert (report.repeated, report.out_of_order) == (0, 0)


async def test_a_target_that_refuses_and_a_migration_that_is_cancelled(
    qemu_pair: PairFactory,
) -> None:
    pair = await qemu_pair()
    async with moving(pair) as rig:
        await rig.stream.flowing()
        target = await pair.prepare()
        since = len(rig.log.events)
        await pair.source.client_migrate_info(target, port=free_port())
        abandoned = await rig.log.wait("migration-abandoned", since=since, timeout=LIMIT)
        assert "refused" in abandoned.as_dict()["reason"]
        await rig.stream.flowing()
        assert await pair.cancel() == "cancelled"
        await rig.stream.flowing()
        assert not rig.log.find("migration-finished", "bytes-at-risk", "channel-gone")
        await pair.source.set_bandwidth(1 << 30)
        await rig.seamless()
        await rig.stream.flowing()
        report = await rig.stream.stop(drain=4)
        assert report.lost <= 1  # without delay, upstream's target
        assert (report.repeated, report.out_of_order) == (0, 0)


async def test_a_target_that_refuses_and_a_machine_that_goes_there_end_in_a_clear_error(
    qemu_pair: PairFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiospice.client.moving.START_OVER_SECONDS", 4.0)
    pair = await qemu_pair()
    async with moving(pair, stream=False) as rig:
        target = await pair.prepare()
        await pair.source.client_migrate_info(target, port=free_port())
        await rig.log.wait("migration-abandoned", timeout=LIMIT)
        move = Move()
        pair.moves.append(move)
        moved = asyncio.create_task(pair.move(move))
        async with asyncio.timeout(LIMIT):
            with pytest.raises(MigrationFailed, match=r"has moved to 127\.0\.0\.1.*refused"):
                await rig.port.readexactly(1)
            with pytest.raises(MigrationFailed, match="refused"):
                await rig.log.wait("never")
        await moved


async def test_a_target_that_refuses_at_first_is_reached_in_the_end(
    qemu_pair: PairFactory,
) -> None:
    """SWITCH_HOST names a port where nobody listens for another second."""
    pair = await qemu_pair()
    async with moving(pair) as rig:
        await rig.stream.flowing()
        target = await pair.prepare()
        since = len(rig.log.events)
        gate = free_port()
        await pair.source.client_migrate_info(target, port=gate)
        await rig.log.wait("migration-abandoned", since=since, timeout=LIMIT)
        move = Move()
        pair.moves.append(move)
        moved = asyncio.create_task(pair.move(move))
        await asyncio.sleep(1)
        async with DelayRelay() as relay:
            await relay.to("127.0.0.1", target.port, at=gate)
            await started_over(rig, since)
            await moved
            await rig.stream.stop()
            await rig.session.close()


@pytest.mark.parametrize("ready", [False, True])
async def test_a_source_that_is_killed_ends_the_session_with_a_clear_error(
    qemu_pair: PairFactory, ready: bool
) -> None:
    pair = await qemu_pair()
    async with moving(pair, stream=False) as rig:
        port = rig.port
        writing = asyncio.create_task(write_for_ever(rig))
        reading = asyncio.create_task(read_for_ever(rig))
        target = await pair.prepare()
        since = len(rig.log.events)
        await pair.source.client_migrate_info(target)
        if ready:
            await rig.log.wait("migration-ready", since=since)
        await pair.kill_source()
        async with asyncio.timeout(LIMIT):
            results = await asyncio.gather(writing, reading, return_exceptions=True)
            for result in results:
                assert isinstance(result, SessionLost), result
                assert "127.0.0.1" in str(result)
            with pytest.raises(SessionLost):
                await rig.log.wait("never")
            with pytest.raises(SessionLost):
                await port.read()
            with pytest.raises(SessionLost):
                await port.write(b"x")
            with pytest.raises(SessionLost):
                await rig.session.wait_closed()
        assert rig.session.closed


async def write_for_ever(rig: Moving) -> None:
    while True:
        await rig.port.write(bytes(64))
        await asyncio.sleep(0.01)


async def read_for_ever(rig: Moving) -> None:
    while await rig.port.read():
        pass


@pytest.mark.net
@pytest.mark.parametrize("ready", [False, True])
async def test_after_a_cancelled_migration_the_next_one_is_seamless(
    qemu_pair: PairFactory, delayed_network: NetworkFactory, ready: bool
) -> None:
    net = await delayed_network(delay_ms=1)
    pair = await qemu_pair(address=net.server_address)
    async with moving(pair, net=net) as rig:
        for _ in range(2):
            await rig.stream.flowing()
            target = await pair.prepare()
            since = len(rig.log.events)
            if not ready:
                await net.change(delay_ms=60)  # the client is still connecting when it ends
            await pair.source.client_migrate_info(target)
            if ready:
                await rig.ready(since)()
            assert await pair.cancel(after=0.02) == "cancelled"
            # A target whose machine doesn't come ends itself: that may be noticed first.
            await rig.log.wait("migration-cancelled", "migration-abandoned", since=since)
            await net.change(delay_ms=1)
            await pair.source.set_bandwidth(1 << 30)
            assert not rig.log.find("migration-finished", "channel-moved", since=since)
            await rig.seamless()
        await rig.exact()


async def test_a_port_whose_flush_upstream_never_reads_begins_anew(
    qemu_pair: PairFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream's server stops reading a port with 128 messages that its guest has not read."""
    monkeypatch.setattr("aiospice.migration.client.SWITCH_SECONDS", 4.0)
    pair = await qemu_pair()
    async with moving(pair, window=40_000, chunk=16) as rig:
        await rig.stream.flowing()
        since = len(rig.log.events)
        assert (await pair.migrate(rig.ready(since))).status == "completed"
        abandoned = await rig.log.wait("migration-abandoned", since=since)
        assert "port:0 did not leave the source in time" in abandoned.as_dict()["reason"]
        await started_over(rig, since)
