"""Clients that are held back while the guest's state is taken, and let go again."""

from __future__ import annotations

from typing import Any

import pytest
from tests.test_handover_direct import PORT, TRIP, came, told, world_with_client
from tests.two_servers import TwoServers, WorldClient

from aiospice.channels.base import HELD_SECONDS
from aiospice.channels.server.inputs import InputsServer, KeyChanged
from aiospice.client.connections import CHANNEL_CAPS
from aiospice.errors import StateError
from aiospice.migration.client import MigrationCancelled, MigrationFinished
from aiospice.migration.peer import Late, LateEnd
from aiospice.migration.source import Policy
from aiospice.server.events import ServerChannelClosed
from aiospice.server.holding import HOLD_SECONDS, ClientsHeld, NotHeld
from aiospice.server.leftover import LateLost
from aiospice.server.returning import RETURN_SECONDS, STILL_SECONDS
from aiospice.wire.caps import MainCap
from aiospice.wire.hold import Held

OURS = pytest.mark.parametrize("ours", [True, False], ids=["ours", "stock"])


def held_world(
    monkeypatch: pytest.MonkeyPatch, ours: bool, **options: Any
) -> tuple[TwoServers, WorldClient]:
    """Servers, and a client that is ready to go; ``ours``: it knows how to be held."""
    if not ours:
        caps = tuple(cap for cap in CHANNEL_CAPS[1] if cap != MainCap.HOLD)
        monkeypatch.setitem(CHANNEL_CAPS, 1, caps)
    world, anna = world_with_client(Policy.HOLD, **options)
    world.prepare("source", "target")
    world.wait(1)
    assert world["source"].core.clients_ready
    return world, anna


@OURS
def test_what_is_under_way_when_clients_are_held_is_in_the_guests_state(
    monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    world, anna = held_world(monkeypatch, ours, delay=TRIP)
    source, target = world["source"], world["target"]
    anna.channel(10).write(b"before ")
    world.run()
    source.core.hold_clients(world.now)
    anna.channel(10).write(b"under way ")
    anna.channel(3).key_down(0x1E)
    world.run()
    world.wait(3 * TRIP)
    assert source.core.clients_held
    assert not source.seen(NotHeld)
    anna.channel(10).write(b"behind it")
    anna.channel(3).key_down(0x20)
    world.wait(3 * TRIP)
    state = source.core.freeze_machine(world.now)
    data = b"".join(piece for piece, *_ in state.devices[10, 0].to_guest)
    assert data == b"before under way "
    assert state.held[anna.core.session_id].keys == (0x1E,)
    target.core.thaw_machine(state, world.now)
    source.core.complete_migration(world.now)
    world.wait(1)
    assert target.host.port(PORT).read() == b"before under way behind it"
    assert not told(world, Late)
    assert all(message.whole for message in told(world, LateEnd))
    inputs = target.core.sessions[anna.core.session_id].channels[3, 0]
    assert isinstance(inputs, InputsServer)
    assert list(inputs.keys_down) == [0x1E, 0x20]
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]


@OURS
@pytest.mark.parametrize("stays", [False, True])
def test_what_the_guest_still_says_while_its_clients_are_held_reaches_them(
    monkeypatch: pytest.MonkeyPatch, ours: bool, stays: bool
) -> None:
    world, anna = held_world(monkeypatch, ours)
    source, target = world["source"], world["target"]
    assert source.host.port(PORT).write(b"before ") == 7
    world.run()
    source.core.hold_clients(world.now)
    world.run()
    assert len(source.seen(ClientsHeld)) == 1  # whoever waits for it is woken
    for piece in (b"an answer ", b"in two"):
        assert source.host.port(PORT).write(piece) == len(piece)
    world.run()
    state = source.core.freeze_machine(world.now)
    if stays:
        source.core.cancel_migration(world.now)
    else:
        target.core.thaw_machine(state, world.now)
        source.core.complete_migration(world.now)
    world.wait(1)
    assert (source if stays else target).host.port(PORT).write(b", and more") == 10
    world.wait(1)
    assert came(anna) == b"before an answer in two, and more"


@OURS
def test_who_is_not_held_in_time_is_reported_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    world, anna = held_world(monkeypatch, ours)
    source, target = world["source"], world["target"]
    anna.deaf.add(10)
    source.core.hold_clients(world.now)
    world.run()
    assert not source.core.clients_held
    world.wait(HOLD_SECONDS - 0.1)
    assert not source.core.clients_held
    world.wait(0.2)
    assert source.core.clients_held
    assert [event.channels for event in source.seen(NotHeld)] == [("port:0",)]
    world.policy = Policy.DIRECT  # the clients are held already
    world.carry("source", "target")
    anna.channel(10).write(b"still to the source")
    world.run()
    source.core.complete_migration(world.now)
    anna.channel(10).write(b", and on")
    world.run()
    anna.deaf.clear()
    world.wait(1)
    assert target.host.port(PORT).read() == b"still to the source, and on"
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]


@OURS
@pytest.mark.parametrize("frozen", [False, True])
def test_a_cancel_lets_clients_go_on_as_before(
    monkeypatch: pytest.MonkeyPatch, ours: bool, frozen: bool
) -> None:
    world, anna = held_world(monkeypatch, ours)
    source = world["source"]
    port = source.host.port(PORT)
    sent = b""
    for turn in range(3):
        if turn:
            world.prepare("source", "target")
        anna.channel(10).write(b"%d" % turn)
        anna.channel(3).key_down(0x10 + turn)
        world.run()
        source.core.hold_clients(world.now)
        world.run()
        assert source.core.clients_held
        if frozen:
            source.core.freeze_machine(world.now)
        called_off(world)
        anna.channel(10).write(b"after")
        world.run()
        sent += b"%dafter" % turn
        assert len(anna.seen(MigrationCancelled)) == turn + 1
    assert port.read() == sent
    assert port.write(b"and back") == 8
    world.run()
    assert came(anna) == b"and back"
    world.move("source", "target")
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]
    inputs = world["target"].core.sessions[anna.core.session_id].channels[3, 0]
    assert isinstance(inputs, InputsServer)
    assert list(inputs.keys_down) == [0x10, 0x11, 0x12]


def test_a_client_that_is_forgotten_goes_on_by_itself() -> None:
    world, anna = world_with_client()
    port = world["source"].host.port(PORT)
    world["source"].core.sessions[anna.core.session_id].channels[10, 0].hold()
    world.run()
    anna.channel(10).write(b"held")
    world.wait(HELD_SECONDS - 1)
    assert port.read() == b""
    world.wait(2)
    assert port.read() == b"held"


def test_an_answer_that_nobody_asked_for_ends_its_channel_alone() -> None:
    world, anna = world_with_client()
    anna.channel(10).send(Held())
    world.run()
    assert [e.channel for e in world["source"].seen(ServerChannelClosed)] == ["port:0"]
    assert set(world["source"].core.sessions) == {anna.core.session_id}


def test_clients_are_held_only_when_they_are_ready_and_once() -> None:
    world, _ = world_with_client(Policy.HOLD)
    source = world["source"].core
    with pytest.raises(StateError):
        source.hold_clients(world.now)
    world.prepare("source", "target")
    source.hold_clients(world.now)
    with pytest.raises(StateError):
        source.hold_clients(world.now)


# -- a stock client that comes back ----------------------------------------------------------------


def called_off(world: TwoServers, *, at_target: bool = True) -> None:
    """The guest stays, and the target learns it."""
    world["source"].core.cancel_migration(world.now)
    if at_target:
        world["target"].core.give_back(world.now)
    world.run()


@pytest.mark.parametrize("marked", [True, False])
def test_what_a_stock_client_said_at_the_target_is_given_back(
    monkeypatch: pytest.MonkeyPatch, marked: bool
) -> None:
    world, anna = held_world(monkeypatch, False, delay=TRIP, peer_delay=TRIP)
    source, target = world["source"], world["target"]
    anna.channel(10).write(b"before ")
    if not marked:
        anna.deaf |= {3, 10}
    source.core.hold_clients(world.now)
    anna.channel(10).write(b"under way ")
    world.wait(3 * TRIP if marked else HOLD_SECONDS + 0.1)
    anna.channel(10).write(b"at the target ")
    anna.channel(3).key_down(0x1E)
    source.core.freeze_machine(world.now)
    anna.deaf.clear()
    anna.channel(10).write(b"and more ")
    world.wait(TRIP if marked else 0)
    called_off(world)
    anna.channel(10).write(b"still there ")
    world.wait(TRIP / 2)
    assert source.core.returning
    assert target.core.giving
    anna.channel(3).key_up(0x1E)
    world.wait(1)
    anna.channel(10).write(b"and back")
    world.wait(1)
    said = b"before under way at the target and more still there and back"
    assert source.host.port(PORT).read() == said
    keys = [(event.code, event.pressed) for event in source.seen(KeyChanged)]
    assert keys == [(0x1E, True), (0x1E, False)]
    assert not source.core.returning
    assert not target.core.giving
    assert not target.core.sessions
    assert not source.seen(LateLost)
    if marked:
        assert {late.channel for late in told(world, Late)} == {(3, 0), (10, 0)}
    world.unlink()
    world.prepare("source", "target")
    world.wait(1)
    world.carry("source", "target")
    source.core.complete_migration(world.now)
    world.wait(1)
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]


@pytest.mark.parametrize("how", ["silence", "link", "no link"])
def test_what_is_not_given_back_is_told(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    world, anna = held_world(monkeypatch, False, delay=TRIP)
    source = world["source"]
    source.core.hold_clients(world.now)
    world.wait(3 * TRIP)
    anna.channel(10).write(b"lost")
    world.wait(2 * TRIP)
    if how == "no link":
        world.unlink()
    called_off(world, at_target=False)
    if how == "silence":
        world.wait(RETURN_SECONDS)
        assert source.core.returning
        world.wait(RETURN_SECONDS)
    elif how == "link":
        world.unlink()
    world.wait(2 * TRIP)
    assert not source.core.returning
    assert sorted(e.channel for e in source.seen(LateLost)) == ["inputs:0", "port:0"]
    anna.channel(10).write(b"on")
    world.wait(1)
    assert source.host.port(PORT).read() == b"on"


def test_a_target_does_not_give_back_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    world, anna = held_world(monkeypatch, False)
    source, target = world["source"], world["target"]
    source.core.hold_clients(world.now)
    world.run()
    anna.deaf.add(1)  # it isn't told that the guest stays
    called_off(world)
    assert target.core.giving
    world.wait(RETURN_SECONDS + 0.1)
    assert not target.core.giving
    assert not target.core.sessions
    assert sorted(e.channel for e in source.seen(LateLost)) == ["inputs:0", "port:0"]


def test_a_client_that_leaves_connections_open_has_gone_back_when_it_is_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, anna = held_world(monkeypatch, False)
    source, target = world["source"], world["target"]
    source.core.hold_clients(world.now)
    world.run()
    anna.channel(10).write(b"there")
    world.run()
    closing = world.cut_off
    monkeypatch.setattr(world, "cut_off", lambda line: line.on_way(True) and closing(line))
    called_off(world)
    cursor = target.core.sessions[anna.core.session_id].connections[4, 0]
    target.core.closed(cursor.number, None, world.now)
    world.wait(STILL_SECONDS - 0.1)
    assert target.core.giving
    world.wait(0.2)
    assert not target.core.giving
    assert not target.core.sessions
    assert source.host.port(PORT).read() == b"there"
    assert not source.core.returning
    assert not source.seen(LateLost)
