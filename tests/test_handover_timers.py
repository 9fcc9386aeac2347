"""What runs by the clock goes on at the target as at the source, on every channel."""

from __future__ import annotations

import numpy as np
import pytest
from tests.random_guest import photo
from tests.test_handover_checks import messages, packed
from tests.two_servers import Line, TwoServers

from aiospice.client.picture import Picture
from aiospice.devices.rules import TOKEN_SECONDS
from aiospice.migration.client import MigrationFinished
from aiospice.migration.source import Policy
from aiospice.server.config import Limits, ServerConfig
from aiospice.server.core import PING_SECONDS
from aiospice.server.events import ClientDisconnected, DeviceWritable
from aiospice.server.guest import Host
from aiospice.wire import main
from aiospice.wire.agent import AgentType
from aiospice.wire.agent_stream import CLIENT_PORT, pack_chunk, pack_message

PORT = "org.example.port"
POLICIES = pytest.mark.parametrize("policy", Policy, ids=[each.value for each in Policy])
SILENCE = 30.0


def machine(host: Host) -> None:
    host.display(0).resize(64, 48)
    host.port(PORT).opened = True


def moved_world(policy: Policy, moves: int = 1) -> TwoServers:
    """A client that has been a while at one server, and has followed its guest to another."""
    world = TwoServers(machine, delay=0.02, peer_delay=0.001, freezes=False)
    world.policy = policy
    (anna,) = (world.client(),)
    world.wait(20)
    ways = ("source", "target")
    for number in range(moves):
        here, there = ways if number % 2 == 0 else ways[::-1]
        world.prepare(here, there)
        world.wait(2)
        world.carry(here, there)
        world[here].core.complete_migration(world.now)
        world.wait(1)
        if not world.has_link:
            world[there].core.take_late_inputs(world[here].core.late_inputs(), world.now)
        world.wait(1)
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"] * moves
    return world


@POLICIES
@pytest.mark.parametrize("moves", [1, 2])
def test_a_client_is_pinged_on_all_its_life(policy: Policy, moves: int) -> None:
    world = moved_world(policy, moves)
    core = world["target" if moves == 1 else "source"].core
    (session,) = core.sessions.values()
    for _ in range(3):
        before = world.now
        world.wait(PING_SECONDS + 2)
        assert session.pinged_at > before
        main = session.channels[1, 0]
        assert main.pinged_at is None  # it is answered
        assert main.round_trip == pytest.approx(0.04, abs=0.02)
    assert not core.peer_out
    assert session.id in core.sessions


@POLICIES
def test_a_client_that_is_silent_at_the_target_is_dropped(policy: Policy) -> None:
    world = moved_world(policy)
    target = world["target"]
    (anna,) = world.clients
    anna.deaf.add(0)
    world.wait(PING_SECONDS)
    assert target.core.sessions
    world.wait(SILENCE + 5)
    assert not target.core.sessions
    assert "ping" in target.seen(ClientDisconnected)[-1].reason


# -- devices: what waits for a client, and who waits for a device ----------------------------------

GRANTED = 3
STAYS = pytest.mark.parametrize("stays", [False, True], ids=["moves", "stays"])


def goes(world: TwoServers, *, stays: bool = False, here: str = "source") -> str:
    """The guest moves to the other server with its clients, or it is called off; gives where."""
    there = "target" if here == "source" else "source"
    source, target = world[here].core, world[there].core
    before = [len(client.seen(MigrationFinished)) for client in world.clients]
    world.prepare(here, there)
    world.wait(0.5)
    world.carry(here, there) if not stays else source.freeze_machine(world.now)
    if stays:
        source.cancel_migration(world.now)
        target.target.forget()
        for client in list(target.target.arrivals):
            target.disconnect(client, "its machine doesn't come", world.now)
        world.wait(1)
        return here
    source.complete_migration(world.now)
    world.wait(0.5)
    if not world.has_link:
        target.take_late_inputs(source.late_inputs(), world.now)
    world.wait(0.5)
    for each, count in zip(world.clients, before, strict=True):
        found = each.seen(MigrationFinished)[count:]
        assert [event.mode for event in found] == ["seamless"]
    return there


def stingy_world(policy: Policy) -> TwoServers:
    """Two clients of an agent; the first lets itself be sent `GRANTED` messages, and no more."""
    world = TwoServers(machine, ServerConfig(on_second_client="share"), freezes=False)
    world.policy = policy
    anna = world.client()
    world.client()

    def forge(line: Line, data: bytes) -> bytes:
        connection = line.node.core.connections.get(line.number)
        channel = connection.channel if connection is not None else None
        if channel is None or channel.key != (1, 0) or line.client is not anna:
            return data
        few = {
            main.AgentStart.number: main.AgentStart(num_tokens=GRANTED).body(),
            main.ClientAgentToken.number: main.ClientAgentToken(num_tokens=0).body(),
        }
        return b"".join(packed(number, few.get(number, body)) for number, body in messages(data))

    world.forge = forge
    world["source"].host.agent().opened = True
    world.run()
    return world


def agent_says(world: TwoServers, node: str, count: int) -> None:
    device = world[node].host.agent()
    for _ in range(count):
        data = pack_chunk(CLIENT_PORT, pack_message(AgentType.CLIPBOARD_RELEASE, bytes(4)))
        assert device.write(data) == len(data)
        world.run()


@POLICIES
@STAYS
def test_what_waits_for_tokens_of_a_client_waits_no_longer_for_the_move(
    policy: Policy, stays: bool
) -> None:
    world = stingy_world(policy)
    anna, bert = (client.core.session_id for client in world.clients)
    world.wait(1)
    agent_says(world, "source", GRANTED + 2)
    world.wait(20)
    here = goes(world, stays=stays)
    assert set(world[here].core.sessions) == {anna, bert}
    assert len(world[here].core.agent.core.clients[anna].send_queue) == 2
    world.wait(TOKEN_SECONDS - 20 - 4)
    assert set(world[here].core.sessions) == {anna, bert}
    world.wait(4.5)
    assert set(world[here].core.sessions) == {bert}
    assert "it doesn't read" in world[here].seen(ClientDisconnected)[-1].reason


@POLICIES
@STAYS
def test_a_guest_that_waits_until_it_can_write_is_told_where_it_goes_on(
    policy: Policy, stays: bool
) -> None:
    world = TwoServers(machine, freezes=False)
    world.policy = policy
    anna = world.client()
    world.wait(1)
    port = world["source"].host.port(PORT)
    data = bytes(3 << 20)
    assert port.write(data) < len(data)
    world.run()
    while port.write(data):  # its client consumes nothing
        world.run()
    here = goes(world, stays=stays)
    before = len(world[here].seen(DeviceWritable))
    anna.channel(10).consumed(2 << 20)
    world.run()
    assert len(world[here].seen(DeviceWritable)) > before
    assert world[here].host.port(PORT).write(b"on") == 2


# -- a client that takes nothing any more ----------------------------------------------------------


@POLICIES
@STAYS
def test_a_client_that_leaves_all_unread_has_as_long_as_before(policy: Policy, stays: bool) -> None:
    config = ServerConfig(limits=Limits(silence=1000.0, stall=20.0))
    world = TwoServers(machine, config, freezes=False)
    world.policy = policy
    anna = world.client()
    world.wait(1)
    here = goes(world, stays=stays)
    anna.deaf.add(2)
    noise = np.random.default_rng(3)
    display = world[here].host.display(0)
    for _ in range(60):
        display.pixels[:] = noise.integers(0, 255, display.pixels.shape, np.uint8)
        display.update()
        world.wait(0.05)
    world.wait(12)
    assert (2, 0) in world[here].core.sessions[anna.core.session_id].channels
    world.wait(12)
    assert (2, 0) not in world[here].core.sessions[anna.core.session_id].channels


# -- displays --------------------------------------------------------------------------------------


def film(world: TwoServers, node: str, frames: int, first: int = 0) -> None:
    """A movie of 25 frames a second."""
    display = world[node].host.display(0)
    for time in range(first, first + frames):
        display.pixels[50:200, 40:240] = photo(200, 150, time)
        display.update(40, 50, 200, 150)
        world.wait(0.04)


def shows(world: TwoServers, node: str) -> bool:
    """The client shows what the guest does, exactly."""
    display = world[node].host.display(0)
    shown = world.clients[0].core.screens[0].snapshot()
    return bool(shown == Picture(display.width, display.height, display.pixels.tobytes()))


@POLICIES
def test_a_video_begins_again_at_the_target_and_ends_exact_in_its_time(policy: Policy) -> None:
    world = TwoServers(lambda host: host.display(0).resize(320, 240), freezes=False)
    world.policy = policy
    anna = world.client()
    world.wait(1)
    film(world, "source", 60)
    (held,) = (session.helds[0] for session in world["source"].core.sessions.values())
    assert held.streams.playing
    here = goes(world)
    (held,) = (session.helds[0] for session in world[here].core.sessions.values())
    assert not held.streams.playing
    assert shows(world, here)
    film(world, here, 60, 60)
    assert held.streams.playing
    assert anna.core.screens[0].streams
    world.wait(3)
    assert not held.streams.playing
    assert not anna.core.screens[0].streams
    assert shows(world, here)
    assert world[here].core._wakes == {}


@POLICIES
def test_a_line_that_was_thin_is_thin_at_the_target_until_it_is_measured(policy: Policy) -> None:
    world = TwoServers(lambda host: host.display(0).resize(320, 240), freezes=False)
    world.policy = policy
    world.client()
    world.wait(1)
    (session,) = world["source"].core.sessions.values()
    session.helds[0].line._thin = True
    here = goes(world)
    (session,) = world[here].core.sessions.values()
    held = session.helds[0]
    assert held.thin
    display = world[here].host.display(0)
    display.pixels[:] = photo(320, 240, 1)
    display.update()
    world.run()
    assert any(plane.lossy or plane.fading for plane in held.planes.values())
    world.wait(3)  # what is rough becomes exact, as ever
    assert shows(world, here)
    noise = np.random.default_rng(5)
    for _ in range(8):
        display.pixels[:] = noise.integers(0, 255, display.pixels.shape, np.uint8)
        display.update()
        world.wait(0.5)
    assert not held.thin  # it is wide after all
