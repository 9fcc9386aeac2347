"""What simulated hand-overs have found in the cores, each as the smallest story that shows it.

The seeds that found them are in ``tests/test_sim.py``.
"""

from __future__ import annotations

from tests.two_servers import TwoServers

from aiospice.channels.server.inputs import KeyChanged
from aiospice.migration.source import Policy
from aiospice.server.guest import Host


def machine(host: Host) -> None:
    """A display and a keyboard."""
    host.display(0).resize(64, 48)


def test_what_is_typed_until_migrate_is_read_reaches_the_guest_under_every_policy() -> None:
    for policy in (Policy.CARRY, Policy.CARRY_EARLY, Policy.DIRECT):
        world = TwoServers(machine)
        world.policy = policy
        anna = world.client()
        world.prepare("source", "target")
        world.carry("source", "target")
        anna.deaf.add(3)
        world["source"].core.complete_migration(world.now)
        world.run()
        anna.channel(3).key_down(0x1E)
        anna.channel(3).key_up(0x1E)
        world.run()
        anna.deaf.clear()
        world.run()
        if not world.has_link:
            world["target"].core.take_late_inputs(world["source"].core.late_inputs(), world.now)
            world.run()
        pressed = [event.pressed for event in world["target"].seen(KeyChanged)]
        assert pressed == [True, False], policy


def test_a_server_whose_guest_stands_still_is_not_woken_for_what_was_drawn() -> None:
    world = TwoServers(machine)
    source = world["source"]
    source.core.freeze_machine(world.now)
    source.host.display(0).fill(0, 0, 4, 4, 0xFFFFFF)
    world.wait(1.0)  # which fails if it is woken again and again
    assert source.core.next_wake() is None
