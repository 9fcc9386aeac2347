"""A client's pings, and the time it has to answer them, go on at the target as at the source."""

from __future__ import annotations

import pytest
from tests.two_servers import TwoServers

from aiospice.migration.client import MigrationFinished
from aiospice.migration.source import Policy
from aiospice.server.core import PING_SECONDS
from aiospice.server.events import ClientDisconnected
from aiospice.server.guest import Host

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
