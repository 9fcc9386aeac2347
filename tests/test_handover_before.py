"""Clients that are at a target before its guest is: those that waited there, or began anew."""

from __future__ import annotations

import numpy as np
import pytest
from tests.two_servers import TwoServers, WorldClient

from aiospice.agent.guest import GuestAgent
from aiospice.channels.main import AgentConnected, MouseModeChanged
from aiospice.channels.sound import SoundStarted, VolumeChanged
from aiospice.channels.vmc import DeviceData
from aiospice.client.config import ClientConfig
from aiospice.client.picture import Picture
from aiospice.client.session import SessionPhase
from aiospice.migration.source import Policy
from aiospice.server.config import ServerConfig
from aiospice.server.events import ClientDisconnected
from aiospice.server.guest import Host

PORT = "org.example.port"
POLICIES = pytest.mark.parametrize("policy", Policy, ids=[each.value for each in Policy])


def machine(host: Host) -> None:
    host.display(0).resize(64, 48)
    host.port(PORT)
    host.agent()
    host.sound(playback=True, record=True)


def comes(world: TwoServers, node: str) -> WorldClient:
    """A client connects to one of the servers."""
    client = WorldClient(ClientConfig(host=node, port=5900))
    world.clients.append(client)
    client.core.start(world.now)
    world.run()
    return client


@POLICIES
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "with one that moves"])
def test_who_waits_for_a_guest_is_told_all_that_is_another_with_it(
    policy: Policy, others: int
) -> None:
    world = TwoServers(machine, ServerConfig(on_second_client="share"), freezes=False)
    world.policy = policy
    host = world["source"].host
    for _ in range(others):
        world.client()
    early = comes(world, "target")
    world.wait(1)
    assert early.core.phase is SessionPhase.UP
    host.port(PORT).opened = True
    host.agent().opened = True
    host.set_locks(6)
    host.set_cursor(np.full((8, 8, 4), 90, np.uint8), 1, 2)
    host.set_volume((500, 600), muted=False)
    host.playback_start(44100, 2)
    host.record_start(44100, 2)
    host.mouse_modes(absolute=True)
    host.display(0).fill(3, 3, 20, 20, 0x336699)
    world.run()
    world.prepare("source", "target")
    world.wait(1)
    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    world.wait(1)
    if not world.has_link:
        world["target"].core.take_late_inputs({}, world.now)
    world.wait(1)
    here = world["target"].host
    assert len(world["target"].core.sessions) == 1 + others
    assert early.core.screens[0].snapshot() == Picture(64, 48, here.display(0).pixels.tobytes())
    assert early.seen(AgentConnected)
    assert early.seen(MouseModeChanged)[-1].current == 2
    started = {event.channel for event in early.seen(SoundStarted)}
    assert started == {"playback:0", "record:0"}
    assert [event.volume for event in early.seen(VolumeChanged)][-1] == (500, 600)
    shape = early.core.cursors[0].shape
    assert shape is not None
    assert bytes(shape.data)[:1] == b"\x5a"
    if not others:
        early.channel(10).write(b"to the guest")
        world.run()
        assert here.port(PORT).read() == b"to the guest"
        assert here.port(PORT).write(b"and back") == 8
        world.run()
        assert b"".join(event.data for event in early.seen(DeviceData)) == b"and back"
    agent = GuestAgent()
    for _ in range(4):
        agent.receive(here.agent().read())
        here.agent().write(agent.take())
        world.run()
    assert agent.events()


def test_who_has_begun_anew_for_a_guest_that_stays_is_sent_away() -> None:
    def plain(host: Host) -> None:
        host.display(0).resize(64, 48)

    shared = ServerConfig(on_second_client="share")
    world = TwoServers(plain, shared, linked=True, freezes=False)
    target = world["target"]
    anna = world.client()
    before = comes(world, "target")
    world.wait(1)
    world.prepare("source", "target")
    world.wait(1)
    meanwhile = comes(world, "target")
    target.core.guest_stays("its machine doesn't come", world.now)
    world.run()
    gone = [event.reason for event in target.seen(ClientDisconnected)]
    assert gone == ["its machine doesn't come"]
    assert meanwhile.core.phase is SessionPhase.CLOSED
    assert before.core.phase is SessionPhase.UP
    assert set(target.core.target.arrivals) == {anna.core.session_id}
    late = comes(world, "target")
    assert late.core.phase is not SessionPhase.UP
    assert "refused" in str(late.core.error)
    target.core.expect_guest(world.now)
    assert comes(world, "target").core.phase is SessionPhase.UP


def test_a_server_with_a_guest_of_its_own_lets_clients_in() -> None:
    world = TwoServers(machine, ServerConfig(on_second_client="share"), freezes=False)
    world.move("source", "target")
    assert comes(world, "target").core.phase is SessionPhase.UP
    world["source"].core.guest_stays("no other comes", world.now)
    world.move("target", "source")
    assert comes(world, "source").core.phase is SessionPhase.UP
