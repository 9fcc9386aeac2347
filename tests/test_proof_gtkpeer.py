"""The stock client against QEMU: the whole rig, migration included, before ours joins in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from aiospice.errors import MissingProgram, SessionLost, SpiceTimeout
from aiospice.proof import gtkpeer
from aiospice.proof.certificates import make_certificates
from aiospice.proof.gtkpeer import GtkPeer
from aiospice.proof.pcap import Connection, read_connections

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import NetworkFactory, PairFactory, QemuFactory

MAIN, PORT = 1, 10
MIGRATE, MIGRATE_DATA, FLUSH_MARK, CLIENT_MIGRATE_DATA = 1, 2, 4, 5


def test_without_a_compiler_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gtkpeer.shutil, "which", lambda name: None)  # type: ignore[attr-defined]
    with pytest.raises(MissingProgram, match="install gcc"):
        gtkpeer.build()


@pytest.mark.peers
async def test_the_echo_is_exact_and_fast_enough(qemu_factory: QemuFactory, tmp_path: Path) -> None:
    qemu = await qemu_factory()
    dump = tmp_path / "got"
    async with GtkPeer(qemu.options.address, port=qemu.port, dump=dump) as peer:
        await peer.wait("port-open", name=qemu.options.echo_port)
        await peer.start_stream(window=4096, chunk=256)
        await peer.wait("first-byte")
        await asyncio.sleep(1)
        report = await peer.drain()
        assert report["wrong"] == report["dropped"] == 0
        assert report["received"] == report["sent"] > 0
        assert report["draws"] > 0
        assert (await peer.quit())["sent"] == report["sent"]
    got = dump.read_bytes()
    assert got == b"".join(i.to_bytes(8, "big") for i in range(len(got) // 8))


@pytest.mark.peers
async def test_the_client_tells_why_it_ends(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(password="right")
    async with GtkPeer(qemu.options.address, port=qemu.port, password="wrong") as peer:
        await peer.wait("channel-event", channel="main", what="error-auth")
        with pytest.raises(SpiceTimeout, match="no port-open"):
            await peer.wait("port-open", timeout=0.05)
        await peer.kill()
        with pytest.raises(SessionLost):
            await peer.wait("port-open")


@pytest.mark.peers
async def test_the_client_takes_our_certificates(qemu_factory: QemuFactory, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    qemu = await qemu_factory(tls_dir=made.folder, plain=False)
    host = qemu.options.address
    good = GtkPeer(host, tls_port=qemu.tls_port, ca_file=made.ca_file, subject=made.subject)
    async with good as peer:
        await peer.wait("port-open")
    bad = GtkPeer(host, tls_port=qemu.tls_port, ca_file=made.ca_file, subject="CN=other")
    async with bad as peer:
        await peer.wait("channel-event", channel="main", what="error-tls")


def port_connections(connections: list[Connection]) -> list[Connection]:
    return [item for item in connections if item.channel_type == PORT]


@pytest.mark.peers
@pytest.mark.net
async def test_a_stream_survives_a_seamless_migration_and_the_capture_shows_how(
    qemu_pair: PairFactory, delayed_network: NetworkFactory, tmp_path: Path
) -> None:
    path = tmp_path / "run.pcap"
    net = await delayed_network(delay_ms=5, pcap=path)
    pair = await qemu_pair(address=net.server_address)
    host, port = net.server_address, pair.source.port
    async with GtkPeer(host, port=port, prefix=net.command()) as peer:
        await peer.wait("port-open")
        await peer.start_stream()
        await peer.wait("first-byte")
        assert (await pair.migrate()).status == "completed"
        seen = (await peer.report())["received"]
        while (await peer.report())["received"] < seen + 4096:
            await asyncio.sleep(0.02)
        report = await peer.drain()
        assert report["wrong"] == report["dropped"] == 0
        assert peer.find("migration-state", what="migrating")
    await net.close()
    old, new = port_connections(read_connections(path))
    assert new.connection_id != 0
    migrate = old.find("server", MIGRATE)
    assert migrate is not None
    mark = old.find("client", FLUSH_MARK, after=migrate.first)
    assert mark is not None
    data = old.find("server", MIGRATE_DATA, after=mark.first)
    assert data is not None
    assert new.sent_by("client")[0].type == CLIENT_MIGRATE_DATA
    assert new.sent_by("client")[0].body == data.body
    assert data.last - mark.first >= 0.01
    assert old.bytes_between("client", migrate.first, mark.first) == 0


@pytest.mark.peers
@pytest.mark.net
async def test_a_machine_that_is_faster_than_its_client_loses_the_session(
    qemu_pair: PairFactory, delayed_network: NetworkFactory
) -> None:
    net = await delayed_network(delay_ms=50)
    pair = await qemu_pair(address=net.server_address)
    host, port = net.server_address, pair.source.port
    async with GtkPeer(host, port=port, prefix=net.command()) as peer:
        await peer.wait("port-open")
        assert (await pair.migrate(race=True)).status == "completed"
        await peer.wait("channel-destroy", channel="port")
        seen = len(peer.events)
        await peer.wait("port-open", since=seen)
