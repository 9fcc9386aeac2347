"""How long a guest stands still doesn't depend on its clients, but for the policy that waits."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import pytest
from tests.two_servers import TwoServers

from aiospice.client.picture import Picture
from aiospice.migration.client import MigrationFinished
from aiospice.migration.source import Policy, SourcePhase
from aiospice.server.guest import Host
from aiospice.server.holding import HOLD_SECONDS
from aiospice.server.leaving import DRAIN_SECONDS, REST_SECONDS

PORT = "org.example.port"
SIZE = (640, 480)
POLICIES = pytest.mark.parametrize("policy", Policy, ids=[each.value for each in Policy])


class Case(NamedTuple):
    """A client, or none: how long its bytes take, whether it reads."""

    name: str
    there: bool = True
    delay: float = 0.0
    reads: bool = True


CASES = (
    Case("none", there=False),
    Case("fast"),
    Case("far", delay=0.1),
    Case("deaf", reads=False),
)
ALL = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def machine(host: Host) -> None:
    host.display(0).resize(*SIZE)
    host.port(PORT).opened = True


def busy_world(policy: Policy, case: Case) -> TwoServers:
    """Servers whose client, if there is one, has much to read and is ready to go."""
    world = TwoServers(machine, delay=case.delay, peer_delay=0.01, freezes=False)
    world.policy = policy
    if case.there:
        world.client()
        world.wait(3)
    world.prepare("source", "target")
    world.wait(3)
    assert world["source"].core.clients_ready
    for client in world.clients:
        client.deaf |= set() if case.reads else {0}
        client.channel(10).write(b"to the guest")
    paint(world["source"].host)
    world["source"].host.port(PORT).write(bytes(900_000))
    world.run()
    return world


def paint(host: Host) -> None:
    """A picture that no packing makes small."""
    display = host.display(0)
    noise = random.Random(5).randbytes(SIZE[0] * SIZE[1] * 4)
    display.pixels[:] = np.frombuffer(noise, np.uint8).reshape(SIZE[1], SIZE[0], 4)
    display.update()


def stood_still(world: TwoServers) -> float:
    """Move the guest as an operator does; gives the seconds in which it ran nowhere."""
    paint(world["source"].host)
    since = world.now
    world.carry("source", "target")
    return world.now - since


@ALL
@POLICIES
def test_a_guest_stands_still_as_long_whatever_its_clients_do(policy: Policy, case: Case) -> None:
    world = busy_world(policy, case)
    still = stood_still(world)
    if policy is Policy.HOLD:
        # Clients of ours answer in a trip there and back; the others have their limit.
        expected = {"none": 0.0, "fast": 0.0, "far": 2 * case.delay, "deaf": HOLD_SECONDS}[
            case.name
        ]
        assert expected <= still <= expected + 0.011
    else:
        assert still == 0
    # And the guest runs: it can draw, read what came, and write, before any client is there.
    host = world["target"].host
    host.display(0).fill(0, 0, 9, 9, 0x123456)
    world["source"].core.complete_migration(world.now)
    assert host.port(PORT).read() in (b"", b"to the guest")
    assert world["source"].core.frozen is not None


@pytest.mark.parametrize("policy", [each for each in Policy if each is not Policy.HOLD])
def test_a_display_that_is_still_to_be_sent_does_not_hold_up_the_guest(policy: Policy) -> None:
    world = busy_world(policy, Case("deaf", reads=False))
    source, target = world["source"].core, world["target"]
    assert stood_still(world) == 0
    source.complete_migration(world.now)
    world.run()
    assert source._draining or policy.needs_link
    target.host.display(0).fill(0, 0, *SIZE, 0x336699)  # it runs meanwhile
    world.wait(DRAIN_SECONDS / 2)
    assert source.source.phase is SourcePhase.LEAVING
    (anna,) = world.clients
    anna.deaf.clear()
    world.wait(2)
    if not world.has_link:
        target.core.take_late_inputs(source.late_inputs(), world.now)
    world.wait(2)
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]
    shown = target.host.display(0).pixels
    assert anna.core.screens[0].snapshot() == Picture(*SIZE, shown.tobytes())


def resting_world(policy: Policy = Policy.CARRY) -> TwoServers:
    """A source whose displays are left alone, since its guest is about to stop, and has drawn."""
    world = busy_world(policy, Case("fast"))
    world.wait(2)
    source = world["source"]
    source.core.rest(world.now)
    source.host.display(0).fill(0, 0, *SIZE, 0x2468AC)
    world.run()
    assert shown(world) != 0x2468AC
    return world


def shown(world: TwoServers) -> int:
    (anna,) = world.clients
    red, green, blue = (int(part) for part in anna.core.screens[0].snapshot().array()[5, 5])
    return red << 16 | green << 8 | blue


@pytest.mark.parametrize("policy", [each for each in Policy if each is not Policy.HOLD])
def test_displays_do_nothing_until_the_guest_has_gone(policy: Policy) -> None:
    world = resting_world(policy)
    source, target = world["source"].core, world["target"]
    world.carry("source", "target")
    world.run()
    assert shown(world) != 0x2468AC
    assert not source.packing
    source.complete_migration(world.now)
    world.wait(1)
    if not world.has_link:
        target.core.take_late_inputs(source.late_inputs(), world.now)
    world.wait(1)
    assert shown(world) == 0x2468AC
    (anna,) = world.clients
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]
    target.host.display(0).fill(0, 0, *SIZE, 0x13579B)
    world.wait(1)
    assert shown(world) == 0x13579B


@pytest.mark.parametrize("frozen", [False, True])
def test_displays_go_on_where_the_guest_stays(frozen: bool) -> None:
    world = resting_world()
    source = world["source"]
    if frozen:
        source.core.freeze_machine(world.now)
        world.run()
    source.core.cancel_migration(world.now)
    world.wait(0.1)
    assert shown(world) == 0x2468AC
    source.host.display(0).fill(0, 0, *SIZE, 0x13579B)
    world.wait(0.1)
    assert shown(world) == 0x13579B


@pytest.mark.parametrize("frozen", [False, True])
def test_displays_rest_for_a_moment_only(frozen: bool) -> None:
    world = resting_world()
    if frozen:
        world["source"].core.freeze_machine(world.now)
    world.wait(REST_SECONDS / 2)
    assert shown(world) != 0x2468AC
    world.wait(REST_SECONDS)
    assert shown(world) == 0x2468AC


def test_a_display_leaves_without_waiting_for_acknowledgements() -> None:
    world = TwoServers(machine, delay=0.1, peer_delay=0.01, freezes=False)
    world.policy = Policy.DIRECT
    world.client()
    world.wait(3)
    world.prepare("source", "target")
    world.wait(3)
    source = world["source"].core
    (session,) = source.sessions.values()
    display, rounds = world["source"].host.display(0), 0
    while not session.channels[2, 0].blocked:  # the client is far: it has seen none of this
        rounds += 1
        for number in range(40):
            display.fill(number * 16, rounds * 16, 8, 8, 0x010203 * (number + rounds))
        world.wait(0.02)
    display.fill(0, 460, 8, 8, 0x445566)
    world.carry("source", "target")
    source.complete_migration(world.now)
    world.wait(0.02)
    assert not source._draining
    world.wait(2)
    (anna,) = world.clients
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]
