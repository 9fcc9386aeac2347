"""What a client holds down while it is on its way, and its guest runs at the target already."""

from __future__ import annotations

import pytest
from tests.test_handover_direct import machine
from tests.two_servers import Node, TwoServers, WorldClient

from aiospice.channels.server.inputs import ButtonChanged, HeldDown, InputsServer, KeyChanged
from aiospice.migration.client import MigrationFinished
from aiospice.migration.source import Policy
from aiospice.migration.target import RECORD_SECONDS
from aiospice.server.arriving import KEYS_SECONDS
from aiospice.server.config import ServerConfig
from aiospice.server.guest import Host

POLICIES = pytest.mark.parametrize("policy", Policy, ids=[each.value for each in Policy])
A, B = 0x1E, 0x30


def pressed(node: Node) -> list[tuple[int, bool]]:
    """What the guest was told of keys (codes) and buttons (numbers)."""
    return [
        (event.code if isinstance(event, KeyChanged) else event.button, event.pressed)
        for event in node.events
        if isinstance(event, (KeyChanged, ButtonChanged))
    ]


def world_with_keys(policy: Policy, linked: bool = True) -> tuple[TwoServers, WorldClient]:
    """A client that holds two keys and a button, and reads nothing while its guest moves."""
    world = TwoServers(machine, linked=linked, freezes=False)
    world.policy = policy
    anna = world.client()
    world.wait(1)
    keys = anna.channel(3)
    keys.key_down(A)
    keys.key_down(B)
    keys.press(3)
    world.run()
    world.prepare("source", "target")
    world.wait(1)
    anna.deaf.add(0)
    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    world.run()
    return world, anna


def comes(world: TwoServers, anna: WorldClient) -> InputsServer:
    """The client follows."""
    anna.deaf.clear()
    world.run()
    if not world.has_link:
        world["target"].core.take_late_inputs(world["source"].core.late_inputs(), world.now)
    world.wait(1)
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]
    inputs = world["target"].core.sessions[anna.core.session_id].channels[3, 0]
    assert isinstance(inputs, InputsServer)
    return inputs


@POLICIES
@pytest.mark.parametrize("linked", [True, False], ids=["link", "no link"])
def test_what_is_held_goes_up_soon_and_down_again_when_its_client_is_there(
    policy: Policy, linked: bool
) -> None:
    world, anna = world_with_keys(policy, linked)
    target = world["target"]
    world.wait(KEYS_SECONDS - 0.1)
    assert pressed(target) == []
    world.wait(0.2)
    assert pressed(target) == [(A, False), (B, False), (3, False)]
    anna.channel(3).key_up(B)
    world.run()
    inputs = comes(world, anna)
    assert pressed(target)[3:] in (
        [(B, False), (A, True), (3, True)],
        [(A, True), (3, True), (B, False)],
    )
    assert list(inputs.keys_down) == [A]
    assert inputs.buttons == 4
    anna.channel(3).key_up(A)
    anna.channel(3).release(3)
    world.run()
    assert pressed(target)[-2:] == [(A, False), (3, False)]
    assert not inputs.keys_down
    assert not inputs.buttons


@POLICIES
def test_who_is_quick_holds_on(policy: Policy) -> None:
    world, anna = world_with_keys(policy)
    world.wait(KEYS_SECONDS / 2)
    inputs = comes(world, anna)
    world.wait(KEYS_SECONDS)
    assert pressed(world["target"]) == []
    assert list(inputs.keys_down) == [A, B]


@POLICIES
def test_what_went_up_meanwhile_is_pressed_once_if_the_client_repeats_it(policy: Policy) -> None:
    world, anna = world_with_keys(policy)
    world.wait(KEYS_SECONDS + 0.1)
    anna.channel(3).key_down(A)
    comes(world, anna)
    downs = [key for key, down in pressed(world["target"]) if down]
    assert sorted(downs) == [3, A, B] or sorted(downs) == [3, A, A, B]


@POLICIES
def test_who_never_comes_holds_nothing_and_is_told_up_once(policy: Policy) -> None:
    world, _ = world_with_keys(policy)
    target = world["target"]
    world.wait(KEYS_SECONDS + RECORD_SECONDS + 5)
    world["source"].core.peer_unlink(world.now)
    target.core.peer_unlink(world.now)
    for client in list(target.core.sessions):
        target.core.disconnect(client, "it doesn't come", world.now)
    world.run()
    assert pressed(target) == [(A, False), (B, False), (3, False)]


def test_a_guest_that_moves_on_has_no_key_down_that_went_up() -> None:
    world, anna = world_with_keys(Policy.CARRY)
    world.wait(KEYS_SECONDS + 0.1)
    state = world["target"].core.freeze_machine(world.now)
    assert state.held[anna.core.session_id] == HeldDown()
    world["target"].core.cancel_migration(world.now)
    world.wait(KEYS_SECONDS + 0.1)
    assert pressed(world["target"]) == [(A, False), (B, False), (3, False)]


def test_a_guest_that_stays_after_all_does_not_keep_keys_down_for_clients_on_their_way() -> None:
    world, anna = world_with_keys(Policy.CARRY)
    world.wait(KEYS_SECONDS - 0.1)
    core = world["target"].core
    state = core.freeze_machine(world.now)
    assert state.held[anna.core.session_id].keys == (A, B)
    world.wait(KEYS_SECONDS)
    assert pressed(world["target"]) == []
    core.cancel_migration(world.now)
    world.wait(KEYS_SECONDS + 0.1)
    assert pressed(world["target"]) == [(A, False), (B, False), (3, False)]


def test_who_is_expected_and_comes_after_its_guest_finds_its_keys_again() -> None:
    world = TwoServers(machine, ServerConfig(on_second_client="share"), linked=True)
    anna = world.client()
    world.wait(1)
    anna.channel(3).key_down(A)
    world.run()
    anna.deaf.add(0)  # it isn't asked in time, and is waited for by the source alone
    world.prepare("source", "target")
    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    world.run()
    assert pressed(world["target"]) == [(A, False)]
    world.wait(1)
    anna.deaf.clear()
    world.wait(2)
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]
    assert pressed(world["target"]) == [(A, False), (A, True)]
    inputs = world["target"].core.sessions[anna.core.session_id].channels[3, 0]
    assert isinstance(inputs, InputsServer)
    assert list(inputs.keys_down) == [A]


def test_buttons_that_go_up_are_told_to_the_agent_where_it_moves_the_pointer() -> None:
    def setup(host: Host) -> None:
        host.display(0).resize(64, 48)
        host.mouse_modes(absolute=False)

    world = TwoServers(setup, freezes=False)
    source = world["source"]
    anna = world.client()
    world.wait(1)
    source.core.machine.set_absolute(agent=True)
    source.core._tell_mouse_mode()
    world.run()
    anna.channel(3).press(1)
    world.run()
    source.core.disconnect(anna.core.session_id, "enough", world.now)
    world.run()
    assert not source.seen(ButtonChanged)  # the agent has been told, not the guest's mouse
