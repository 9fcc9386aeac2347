"""The delayed network: what it promises to tests that use it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from typing import TYPE_CHECKING

import pytest

from aiospice.errors import MissingProgram
from aiospice.proof.delay import DelayedNetwork
from aiospice.proof.pcap import read_packets, read_tcp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import NetworkFactory

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@contextlib.asynccontextmanager
async def echo_through(net: DelayedNetwork) -> AsyncIterator[Streams]:
    server = await asyncio.start_server(echo, net.server_address, 0)
    port = server.sockets[0].getsockname()[1]
    sock = await net.connect(net.server_address, port)
    assert sock.getsockname()[0] == net.client_address
    reader, writer = await asyncio.open_connection(sock=sock)
    yield reader, writer
    writer.close()
    server.close()


@pytest.mark.net
async def test_each_way_takes_the_delay(delayed_network: NetworkFactory) -> None:
    net = await delayed_network(delay_ms=20)
    begin = time.monotonic()
    async with echo_through(net) as (reader, writer):
        assert time.monotonic() - begin >= 0.04
        begin = time.monotonic()
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        assert time.monotonic() - begin >= 0.04
        await net.change(delay_ms=60)
        begin = time.monotonic()
        writer.write(b"pong")
        assert await reader.readexactly(4) == b"pong"
        assert time.monotonic() - begin >= 0.12


@pytest.mark.net
async def test_tcp_survives_loss_in_order(delayed_network: NetworkFactory) -> None:
    net = await delayed_network(delay_ms=1, loss=0.03, seed=7)
    sent = os.urandom(300_000)
    async with echo_through(net) as (reader, writer):
        writer.write(sent)
        assert await reader.readexactly(len(sent)) == sent
    assert (await net.change(loss=0))["lost"] > 0


@pytest.mark.net
async def test_a_partition_stops_all_until_it_is_mended(delayed_network: NetworkFactory) -> None:
    net = await delayed_network(delay_ms=1)
    async with echo_through(net) as (reader, writer):
        await net.partition(True)
        writer.write(b"held")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        await net.partition(False)
        assert await reader.readexactly(4) == b"held"


@pytest.mark.net
async def test_the_rate_is_kept(delayed_network: NetworkFactory) -> None:
    net = await delayed_network(delay_ms=1, rate=500_000)
    async with echo_through(net) as (reader, writer):
        begin = time.monotonic()
        writer.write(bytes(100_000))
        await reader.readexactly(100_000)
        assert time.monotonic() - begin >= 0.2


@pytest.mark.net
async def test_the_capture_has_the_clients_times(
    delayed_network: NetworkFactory, tmp_path: Path
) -> None:
    path = tmp_path / "run.pcap"
    net = await delayed_network(delay_ms=20, pcap=path)
    async with echo_through(net) as (reader, writer):
        writer.write(b"question")
        await reader.readexactly(8)
        writer.close()
        await writer.wait_closed()
    await net.close()
    assert len(list(read_packets(path))) >= 6
    [tcp] = read_tcp(path)
    assert tcp.client_address[0] == net.client_address
    assert bytes(tcp.client.data) == bytes(tcp.server.data) == b"question"
    assert tcp.client.closed is not None
    assert tcp.server.time(0) - tcp.client.time(0) >= 0.04


@pytest.mark.net
async def test_two_networks_stand_side_by_side_and_leave_nothing(
    delayed_network: NetworkFactory,
) -> None:
    one, two = await delayed_network(delay_ms=1), await delayed_network(delay_ms=1)
    assert one.server_address != two.server_address
    async with echo_through(one) as (reader, writer):
        writer.write(b"1")
        assert await reader.readexactly(1) == b"1"
    names = [one.client_namespace, two.client_namespace]
    await one.close()
    await two.close()
    assert not any(os.path.exists(f"/run/netns/{name}") for name in names)


@pytest.mark.net
async def test_other_programs_run_on_the_clients_side(delayed_network: NetworkFactory) -> None:
    net = await delayed_network(delay_ms=1)
    code = f"import socket; s=socket.socket(); s.bind(('{net.client_address}', 0))"
    process = await asyncio.create_subprocess_exec(*net.command(sys.executable, "-c", code))
    assert await process.wait() == 0
    with socket.socket() as here, pytest.raises(OSError, match="assign"):
        here.bind((net.client_address, 0))


async def test_without_root_the_error_says_what_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingProgram, match=r"root|iproute2"):
        async with DelayedNetwork():
            pass


@pytest.mark.net
async def test_what_a_killed_process_left_is_removed(delayed_network: NetworkFactory) -> None:
    code = """
import asyncio, os
from aiospice.proof.delay import DelayedNetwork

async def main():
    net = await DelayedNetwork().__aenter__()
    print(net.client_namespace, flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), stdout=asyncio.subprocess.PIPE
    )
    name = (await process.communicate())[0].decode().strip()
    place = f"/run/netns/{name}"
    assert os.path.exists(place)
    while os.path.exists(f"/sys/class/net/aio{name.split('-')[1]}s"):
        await asyncio.sleep(0.02)
    await delayed_network(delay_ms=1)
    assert not os.path.exists(place)


@pytest.mark.net
async def test_a_reset_tells_both_ends_at_once(delayed_network: NetworkFactory) -> None:
    net = await delayed_network(delay_ms=5)
    ended: asyncio.Queue[str] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionResetError:
            ended.put_nowait("reset")
        writer.close()

    server = await asyncio.start_server(serve, net.server_address, 0)
    sock = await net.connect(net.server_address, server.sockets[0].getsockname()[1])
    reader, writer = await asyncio.open_connection(sock=sock)
    writer.write(b"ping")
    assert await reader.readexactly(4) == b"ping"
    await net.reset()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), 5)
    assert await asyncio.wait_for(ended.get(), 5) == "reset"
    writer.close()
    server.close()
    async with echo_through(net) as (again, out):  # new connections work
        out.write(b"pong")
        assert await again.readexactly(4) == b"pong"
