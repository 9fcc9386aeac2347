"""Clients that leave while a guest writes: what they weren't handed reaches the next, in order."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.server_pair import PairClient, ServerPair

from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.server.vmc import PortServer
from aiospice.channels.vmc import DeviceData, PortStateChanged
from aiospice.devices.chardev import CharDevice
from aiospice.devices.rules import VMC
from aiospice.server.config import ServerConfig
from aiospice.server.events import ClientDisconnected, ServerChannelClosed
from aiospice.wire.caps import VmcCap, pack

KEY = (10, 0)
CAPS = {
    "plain": pack(()),
    "lz4": pack((VmcCap.DATA_COMPRESS_LZ4,)),
    "tokens": pack((VmcCap.DATA_COMPRESS_LZ4, VmcCap.TOKENS)),
}


class Reader:
    """What arrives at a client: whole messages only."""

    def __init__(self, caps: tuple[int, ...]) -> None:
        from aiospice.channels.vmc import PortChannel

        self.channel = PortChannel(KEY, Framing(KEY[0], mini=True), caps)

    def gets(self, data: bytes) -> bytes:
        events: list[Event] = self.channel.receive(data, 0.0)
        assert self.channel.error is None
        return b"".join(event.data for event in events if isinstance(event, DeviceData))


@pytest.mark.parametrize("kind", list(CAPS))
def test_a_thousand_clients_that_leave_at_any_moment_lose_and_repeat_nothing(kind: str) -> None:
    chance = random.Random(kind)
    device = CharDevice("port:0")
    device.attach()
    device.start()
    block = chance.randbytes(1 << 16)
    written, got = 0, bytearray()

    def guest_writes(most: int) -> None:
        nonlocal written
        at = written % (1 << 16)
        written += device.guest_writes((block + block)[at : at + chance.randrange(1, most)], 0.0)

    for client in range(1000):
        channel = PortServer(KEY, Framing(KEY[0], mini=True), CAPS[kind])
        reader = Reader(CAPS["plain"])
        device.add_client(client, 0.0, flow_control=channel.flow_control)
        device.add_tokens(client, chance.randrange(9), 0.0)
        unwritten = 0
        for _ in range(chance.randrange(12)):
            guest_writes(50_000)
            while channel.queued_bytes < 64 << 10 and (data := device.take(client, 0.0)):
                channel.send_data(data)
            left = channel.take()
            if chance.random() < 0.2:  # the kernel takes a part of it, and the client is gone
                unwritten = chance.randrange(len(left) + 1)
                got += reader.gets(left[: len(left) - unwritten])
                break
            got += reader.gets(left)
        device.remove_client(client, channel.unsent(unwritten))
        if not client % 100:
            device = pickle.loads(pickle.dumps(device))
        waiting = sum(map(len, device.backlog))
        assert waiting <= VMC.outgoing_bytes + (256 << 10)
    got += b"".join(device.backlog)
    expected = block * (written // len(block)) + block[: written % len(block)]
    assert len(got) == written > 1 << 20
    if bytes(got) != expected:
        at = next(at for at in range(written) if got[at] != expected[at])
        pytest.fail(f"byte {at} of {written} differs")


def takes_over(pair: ServerPair, client: PairClient) -> None:
    """The next client does it; this one gets nothing more."""
    client.deaf = {0}


def leaves(pair: ServerPair, client: PairClient) -> None:
    client.leave()


@pytest.mark.parametrize("goes", [takes_over, leaves])
def test_sessions_that_are_taken_over_or_cut_off_lose_and_repeat_nothing(
    goes: Callable[[ServerPair, PairClient], None],
) -> None:
    chance = random.Random(4)
    pair = ServerPair(ServerConfig(), freezes=False)
    device = pair.host.port("org.example.port")
    device.opened = True
    left_behind = 0
    sent = bytearray()
    kernels: list[tuple[bytes, Any]] = []
    for number in range(30):
        client = pair.client(channels=("port",))
        channel = client.channel(*KEY)
        # Half of them aren't read at all, so all that doesn't fit the kernel stays behind.
        client.deaf = {10} if number % 2 else set()
        for _ in range(3):
            data = chance.randbytes(chance.randrange(600_000))
            sent += data[: device.write(data)]
            pair.run()
            channel.consumed(chance.randrange(400_000))
            pair.run()
        kernels.append((bytes(pair.pipe(KEY, number).to_client), copy.deepcopy(channel)))
        goes(pair, client)
        left_behind += sum(map(len, pair.core.devices[KEY].core.backlog))
    last = pair.client(channels=("port",))
    for _ in range(100):
        last.channel(*KEY).consumed(100_000)
        pair.run()
    everything = b""
    for client, (unread, channel) in zip(pair.clients, [*kernels, (b"", None)], strict=True):
        found: list[Event] = list(client.seen(DeviceData))
        if unread:  # what the kernel had is with the client that is gone
            found += channel.receive(unread, 0.0)
        everything += b"".join(event.data for event in found if isinstance(event, DeviceData))
    assert everything == bytes(sent)
    assert len(sent) > 1 << 20
    assert left_behind or goes is takes_over
    assert not [event for event in pair.seen(ServerChannelClosed) if event.error is not None]
    assert len(pair.seen(ClientDisconnected)) == 30


def test_a_port_is_closed_behind_what_was_written_to_it() -> None:
    pair = ServerPair()
    device = pair.host.port("org.example.port")
    device.opened = True
    client = pair.client()
    client.deaf = {10}
    pair.run()
    assert device.write(bytes(300_000)) == 300_000
    device.opened = False
    client.deaf = set()
    pair.run()
    (place,) = [
        at
        for at, event in enumerate(client.events)
        if isinstance(event, PortStateChanged) and event.state == "closed"
    ]
    before = [event for event in client.events[:place] if isinstance(event, DeviceData)]
    assert sum(len(event.data) for event in before) == 300_000


def test_a_device_has_one_client_when_sessions_are_shared() -> None:
    pair = ServerPair(ServerConfig(on_second_client="share"))
    device = pair.host.port("org.example.port")
    device.opened = True
    first, second = pair.client(), pair.client()
    assert KEY in first.core.channels
    assert KEY not in second.core.channels
    assert device.clients == 1
    first.leave()
    third = pair.client()
    assert KEY in third.core.channels
