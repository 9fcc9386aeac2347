"""Sessions that move between two servers of ours: nothing is lost, and nobody notices."""

from __future__ import annotations

import pytest
from tests.two_servers import TwoServers, WorldClient

from aiospice.channels.vmc import DeviceData
from aiospice.migration.client import MigrationAbandoned, MigrationFinished
from aiospice.migration.source import MoveFinished, MoveReady
from aiospice.migration.target import SessionArrived
from aiospice.server.guest import Host

CUTS = pytest.mark.parametrize("cut", [0, 1], ids=["whole", "byte-by-byte"])
PORT = "org.example.stream"


def machine(host: Host) -> None:
    """Everything that a machine can have."""
    host.display(0).resize(64, 48)
    host.sound(playback=True, record=True)
    host.port(PORT)
    host.webdav()
    host.usbredir()
    host.smartcard()


def modes(client: WorldClient) -> list[str]:
    """How the client's migrations went."""
    assert not client.seen(MigrationAbandoned)
    return [event.mode for event in client.seen(MigrationFinished)]


@CUTS
def test_a_session_with_all_channels_moves_whole(cut: int) -> None:
    world = TwoServers(machine, cut=cut)
    source, target = world["source"], world["target"]
    source.host.port(PORT).opened = True
    source.host.display(0).fill(3, 4, 20, 10, 0x123456)
    anna = world.client()
    number = anna.core.session_id
    channels = set(anna.core.channels)
    assert len(channels) == 10
    world.move("source", "target")
    assert modes(anna) == ["seamless"]
    assert set(anna.core.channels) == channels
    assert set(target.core.sessions) == {number}
    assert set(target.core.sessions[number].channels) == channels
    assert not source.core.sessions
    assert [event.whole for event in target.seen(SessionArrived)] == [True]
    assert [event.late for event in source.seen(MoveFinished)] == [0]
    assert [(e.whole, e.anew, e.away) for e in source.seen(MoveReady)] == [(1, 0, 0)]
    assert target.core.sessions[number].channels[10, 0].received


def received(client: WorldClient) -> bytes:
    """What came out of the port at the client's end."""
    found = [event for event in client.seen(DeviceData) if event.key == (10, 0)]
    return b"".join(event.data for event in found)
