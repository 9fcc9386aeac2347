"""Seamless migration with real QEMUs on both sides: no byte is lost, repeated or reordered.

Most of these run over a network with 1 ms one way: without any delay upstream's target may hand
the carried bytes to the serial port before the port's own state is loaded, and lose one
(`test_without_delay_...` shows that what this client sends is complete even then).
"""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from tests.moving_rig import (
    CLIENT_MIGRATE_DATA,
    MIGRATE_DATA,
    PORT,
    Moving,
    classic,
    data_of,
    moving,
    of_channel,
)

from aiospice.aio.capture import CaptureFile
from aiospice.proof.certificates import make_certificates, make_sasl
from aiospice.proof.pcap import read_connections
from aiospice.proof.stream import numbers
from aiospice.wire.handover import queued_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import NetworkFactory, PairFactory

    from aiospice.proof.qemu import QemuPair

pytestmark = pytest.mark.peers


@pytest.mark.net
async def test_twenty_migrations_without_a_byte_lost(
    qemu_pair: PairFactory, delayed_network: NetworkFactory
) -> None:
    net = await delayed_network(delay_ms=1)
    pair = await qemu_pair(address=net.server_address)
    async with moving(pair, net=net) as rig:
        await rig.seamless(20)
        report = await rig.exact()
        assert report.sent > 20 * 2048
    assert len(pair.moves) == 20


async def test_without_delay_what_was_sent_is_complete_even_if_the_target_loses_a_byte(
    qemu_pair: PairFactory, tmp_path: Path
) -> None:
    pair = await qemu_pair()
    migrations = 4
    with CaptureFile(tmp_path / "a.pcapng") as capture:
        async with moving(pair, capture=capture) as rig:
            await rig.seamless(migrations)
            report = await rig.stream.stop(drain=4)
    ports = of_channel(read_connections(classic(tmp_path / "a.pcapng")), (PORT, 0))
    assert len(ports) == migrations + 1
    assert data_of(ports, "client") == numbers(0, report.sent)
    sent = 0
    for old, new in pairwise(ports):
        sent += len(data_of([old], "client"))
        record = data_of([old], "server", MIGRATE_DATA)
        assert data_of([new], "client", CLIENT_MIGRATE_DATA) == record
        # What the source says the guest has not read is the end of what it was sent.
        waiting = queued_bytes(record)
        assert waiting is not None
        assert record.endswith(numbers(sent - waiting, waiting))
    # Upstream's fault, if it shows at all: one byte of those carried.
    assert report.lost <= migrations
    assert (report.repeated, report.out_of_order) == (0, 0)


@pytest.mark.net
async def test_a_port_that_is_not_read_moves_as_well(
    qemu_pair: PairFactory,
    delayed_network: NetworkFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aiospice.aio.port.READ_LIMIT", 8 << 10)
    net = await delayed_network(delay_ms=1)
    pair = await qemu_pair(address=net.server_address)
    async with moving(pair, net=net, window=32_000, chunk=2_000) as rig:
        for _ in range(2):
            await rig.stream.flowing()
            rig.stream.pause_reading(True)
            async with asyncio.timeout(60):
                while rig.port.key not in rig.session._shell.core.stopped:
                    await asyncio.sleep(0.05)
            await rig.seamless(between=0)
            rig.stream.pause_reading(False)
        await rig.exact()


@pytest.mark.net
async def test_without_mini_headers(
    qemu_pair: PairFactory, delayed_network: NetworkFactory
) -> None:
    net = await delayed_network(delay_ms=1)
    pair = await qemu_pair(address=net.server_address)
    async with moving(pair, net=net, mini_header=False) as rig:
        await rig.seamless(3)
        await rig.exact()


@pytest.mark.net
async def test_with_tls_and_a_ticket(
    qemu_pair: PairFactory, delayed_network: NetworkFactory, tmp_path: Path
) -> None:
    net = await delayed_network(delay_ms=1)
    made = make_certificates(tmp_path, names=(net.server_address,))
    pair = await qemu_pair(
        address=net.server_address, tls_dir=made.folder, plain=False, password="sesame"
    )
    async with moving(pair, net=net, ca_file=made.ca_file, password="sesame") as rig:
        await rig.seamless(3)
        assert rig.session.address.startswith("spice+tls://")
        await rig.exact()


@pytest.mark.net
async def test_with_a_subject_that_the_source_names(
    qemu_pair: PairFactory, delayed_network: NetworkFactory, tmp_path: Path
) -> None:
    net = await delayed_network(delay_ms=1)
    made = make_certificates(tmp_path, names=())
    pair = await qemu_pair(
        address=net.server_address, tls_dir=made.folder, plain=False, subject=made.subject
    )
    options: dict[str, Any] = {"ca_file": made.ca_file, "host_subject": made.subject}
    async with moving(pair, net=net, **options) as rig:
        await rig.seamless(2)
        await rig.exact()


@pytest.mark.net
async def test_with_sasl_over_tls(
    qemu_pair: PairFactory, delayed_network: NetworkFactory, tmp_path: Path
) -> None:
    net = await delayed_network(delay_ms=1)
    made = make_certificates(tmp_path / "tls", names=(net.server_address,))
    users = make_sasl(tmp_path / "sasl", "ann", "sesame", mechanisms=("scram-sha-256",))
    pair = await qemu_pair(address=net.server_address, tls_dir=made.folder, plain=False, sasl=users)
    options: dict[str, Any] = {"ca_file": made.ca_file, "username": "ann", "password": "sesame"}
    async with moving(pair, net=net, **options) as rig:
        await rig.seamless(2)
        await rig.exact()


@pytest.mark.net
async def test_over_websockets(qemu_pair: PairFactory, delayed_network: NetworkFactory) -> None:
    net = await delayed_network(delay_ms=1)
    pair = await qemu_pair(address=net.server_address)
    address = f"ws://{net.server_address}:{pair.source.port}/"
    async with moving(pair, net=net, address=address) as rig:
        await rig.seamless(2)
        assert rig.session.address.startswith("ws://")
        await rig.exact()


@pytest.mark.net
async def test_over_websockets_in_tls(
    qemu_pair: PairFactory, delayed_network: NetworkFactory, tmp_path: Path
) -> None:
    net = await delayed_network(delay_ms=1)
    made = make_certificates(tmp_path, names=(net.server_address,))
    pair = await qemu_pair(address=net.server_address, tls_dir=made.folder, plain=False)
    address = f"wss://{net.server_address}:{pair.source.tls_port}/"
    async with moving(pair, net=net, address=address, ca_file=made.ca_file) as rig:
        await rig.seamless(2)
        assert rig.session.address.startswith("wss://")
        await rig.exact()


async def row(pair: QemuPair, number: int, *ends: str) -> str:
    """A row of the guest's screen, as soon as it ends with one of ``ends``."""
    async with asyncio.timeout(20):
        while not (text := (await pair.source.text())[number]).endswith(ends):
            await asyncio.sleep(0.02)
    return text


async def same_screen(rig: Moving) -> None:
    """Wait until what is seen here is what the guest shows, pixel for pixel."""
    async with asyncio.timeout(20):
        while True:
            kind, size, depth, pixels = (await rig.pair.source.screendump()).split(b"\n", 3)
            picture = await rig.session.screenshot()
            assert (kind, depth) == (b"P6", b"255")
            assert size.split() == [b"%d" % side for side in picture.shape[1::-1]]
            if picture.tobytes() == pixels:
                return
            await asyncio.sleep(0.05)


async def test_screen_keys_and_mouse_go_on_as_if_nothing_had_happened(
    qemu_pair: PairFactory,
) -> None:
    pair = await qemu_pair(guest="quiet")
    async with moving(pair, stream=False) as rig:
        keyboard, mouse = rig.session.keyboard, rig.session.mouse
        await same_screen(rig)
        for number in range(4):
            word = b"on machine %d " % number
            await rig.port.write(word)
            async with asyncio.timeout(20):
                assert await rig.port.readexactly(len(word)) == word
            keyboard.down(0x1E)
            await row(pair, 23, "1e")
            await mouse.click(100, 100)
            await rig.seamless(between=0)
            await same_screen(rig)
            keyboard.up(0x1E)
            await row(pair, 23, "1e 9e")
            before = (await pair.source.text())[22]
            await mouse.click(200 + number, 200)
            async with asyncio.timeout(20):
                while (await pair.source.text())[22] == before:
                    await asyncio.sleep(0.02)
            await same_screen(rig)
        keyboard.down(0x30)
        await row(pair, 23, "30")
        await rig.seamless(between=0)
    await row(pair, 23, "30 b0")  # what was held is let go when the session ends
