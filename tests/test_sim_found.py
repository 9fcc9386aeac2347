"""What simulated hand-overs have found in the cores, each as the smallest story that shows it.

The seeds that found them are in ``tests/test_sim.py``.
"""

from __future__ import annotations

from tests.two_servers import Node, TwoServers

from aiospice.channels.server.inputs import ButtonChanged, KeyChanged
from aiospice.errors import RemoteProtocolError
from aiospice.migration.source import Policy
from aiospice.server.config import ServerConfig
from aiospice.server.events import ServerChannelClosed
from aiospice.server.guest import Host
from aiospice.wire import vmc


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


def test_what_a_client_holds_that_is_still_on_its_way_is_let_up_behind_the_next_move() -> None:
    world = TwoServers(machine)
    anna = world.client()
    anna.channel(3).key_down(0x1E)
    anna.channel(3).press(1)
    world.run()
    world.prepare("source", "target")
    anna.deaf.add(3)
    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    world.run()
    world["target"].core.prepare_migration("elsewhere", 5900, now=world.now)
    state = world["target"].core.freeze_machine(world.now)
    elsewhere = Node("elsewhere", ServerConfig())
    machine(elsewhere.host)
    elsewhere.core.thaw_machine(state, world.now)
    found = elsewhere.core.events()
    assert [event.code for event in found if isinstance(event, KeyChanged)] == [0x1E]
    assert [event.buttons for event in found if isinstance(event, ButtonChanged)] == [0]


def test_a_session_that_has_ended_while_it_was_held_is_not_woken_again() -> None:
    world = TwoServers(machine)
    world.policy = Policy.HOLD
    anna = world.client()
    world.prepare("source", "target")
    world["source"].core.hold_clients(world.now)
    world.run()
    anna.core.close()
    world.run()
    assert anna.core.next_wake() is None
    world.wait(60.0)  # which fails if somebody is woken again and again


def test_a_key_goes_up_if_the_link_is_lost_before_it_is_told_what_was_typed() -> None:
    world = TwoServers(machine)
    world.linked = True
    anna = world.client()
    anna.channel(3).key_down(0x1E)
    world.run()

    def meanwhile() -> None:
        anna.channel(3).key_up(0x1E)
        world.run()

    world.prepare("source", "target")
    world.carry("source", "target", meanwhile)
    world["source"].core.complete_migration(world.now)
    world.unlink()
    world.run()
    assert [event.pressed for event in world["target"].seen(KeyChanged)] == [False]
    anna.channel(3).key_down(0x1F)
    world.run()
    assert world["target"].seen(KeyChanged)[-1] == KeyChanged(code=0x1F, pressed=True)


def test_what_was_kept_and_cannot_be_read_ends_the_channel_at_once() -> None:
    def with_port(host: Host) -> None:
        machine(host)
        host.port("org.example.stream").opened = True

    world = TwoServers(with_port)
    world.linked = True
    anna = world.client()
    source = world["source"]
    world.link("source", "target")
    world["target"].core.expect_migration(anna.core.session_id, now=world.now)
    source.core.prepare_migration("target", 5900, policy=Policy.DIRECT, now=world.now)
    world.carry("source", "target")
    anna.channel(10)._queue.append((vmc.ClientTokens.number, b"short"))
    anna.channel(10).queued_bytes += 5
    world.run()
    source.core.complete_migration(world.now)
    world.run()
    found = [event for event in source.seen(ServerChannelClosed) if event.channel == "port:0"]
    assert [isinstance(event.error, RemoteProtocolError) for event in found] == [True]
