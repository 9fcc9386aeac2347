"""Clients that are held back while the guest's state is taken, and let go again."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from tests.test_handover_direct import PORT, TRIP, came, told, world_with_client
from tests.two_servers import TwoServers, WorldClient

from aiospice.aio.calm import CALM
from aiospice.aio.going import Leave
from aiospice.channels.base import HELD_SECONDS
from aiospice.channels.server.inputs import InputsServer, KeyChanged
from aiospice.channels.smartcard import CardMessageReceived
from aiospice.client.config import ClientConfig
from aiospice.client.connections import CHANNEL_CAPS
from aiospice.errors import StateError
from aiospice.migration.client import MigrationCancelled, MigrationFinished
from aiospice.migration.link_source import SourceLinkPhase
from aiospice.migration.peer import Late, LateEnd
from aiospice.migration.source import Policy
from aiospice.server.events import ServerChannelClosed
from aiospice.server.guest import Host
from aiospice.server.holding import HOLD_SECONDS, LOOK_SECONDS, ClientsHeld, NotHeld, Patience
from aiospice.server.leftover import LateLost
from aiospice.server.returning import RETURN_SECONDS, STILL_SECONDS
from aiospice.wire.caps import MainCap
from aiospice.wire.hold import Held
from aiospice.wire.smartcard import DEVICE_HEADER, CardMessage

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


# -- the limit of the wait -------------------------------------------------------------------------


def test_the_limit_counts_from_when_the_guest_stopped() -> None:
    world, anna = world_with_client(Policy.HOLD)
    world.prepare("source", "target")
    world.wait(1)
    source = world["source"]
    anna.deaf.add(0)
    stopped = world.now
    world.wait(0.2)  # it takes a while until its clients can be asked
    source.core.hold_clients(world.now, since=stopped)
    world.wait(HOLD_SECONDS - 0.2 - 0.01)
    assert not source.core.clients_held
    world.wait(0.01)
    assert source.core.clients_held
    assert [event.seconds for event in source.seen(NotHeld)] == [HOLD_SECONDS]


@pytest.mark.parametrize("busy", [0.0, 0.001, 0.03, 0.094])
def test_a_wait_ends_in_time_though_the_clock_is_looked_at_late(busy: float) -> None:
    patience = Patience(1000.5)
    now, looks = 1000.0, 0
    while (wait := patience.look(now)) is not None:
        now += wait + busy
        looks += 1
    assert 1000.5 - LOOK_SECONDS - busy <= now <= 1000.5 + 1e-9
    assert looks >= 0.5 / (LOOK_SECONDS + busy) - 2


def test_a_wait_that_something_else_ends_is_not_late() -> None:
    patience = Patience(1000.5)
    for step in range(498):  # each before the next look is due
        assert patience.look(1000 + step / 1000) is not None
    assert patience.look(1000.5) is None


async def test_the_guest_goes_on_in_time_however_busy_its_source_is() -> None:
    clock = [1000.0]

    def busy() -> float:
        clock[0] += 0.03  # whatever else the loop does takes that long each time
        return clock[0]

    asked: list[tuple[float, float, float]] = []
    core = SimpleNamespace(clients_held=False, sent_off=False)
    core.hold_clients = lambda *given: asked.append(given)
    leave: Any = type("Some", (), {})()
    leave.core, leave.now, leave._hold_seconds, leave._turned = core, busy, 0.5, asyncio.Event()
    leave.shell = SimpleNamespace(turn=lambda: None)
    leave.link = SimpleNamespace(phase=SourceLinkPhase.STOPPING)
    try:
        await Leave._hold(leave, 1000.0)
    finally:
        CALM.end(leave)
    assert asked == [(1000.03, 0.5, 1000.0)]
    assert 1000.4 < clock[0] <= 1000.5
    core.clients_held = True
    await Leave._hold(leave, 1000.0)
    assert asked[1][2] == 1000.0
    core.clients_held = False
    leave.link.phase = SourceLinkPhase.OVER  # it has been called off, or the target is gone
    await Leave._hold(leave, clock[0])


def test_a_stock_client_is_not_sent_to_a_target_that_is_out_of_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, anna = held_world(monkeypatch, False)
    source = world["source"]
    world.unlink()
    source.core.hold_clients(world.now)
    assert source.core.clients_held
    assert not source.core.sent_off
    source.core.cancel_migration(world.now)
    world.run()
    anna.channel(10).write(b"as before")
    world.run()
    assert source.host.port(PORT).read() == b"as before"


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


@pytest.mark.parametrize("later", [0.0, 2 * TRIP, 1.0])
def test_it_is_given_back_though_the_client_goes_before_the_target_knows(
    monkeypatch: pytest.MonkeyPatch, later: float
) -> None:
    world, anna = held_world(monkeypatch, False, delay=TRIP)
    source, target = world["source"], world["target"]
    anna.channel(10).write(b"before ")
    source.core.hold_clients(world.now)
    world.wait(3 * TRIP)
    for _ in range(3):  # the first of them has the target read no further
        anna.channel(10).write(b"at the target ")
        anna.channel(3).key_down(0x1E)
        world.wait(TRIP / 4)
    source.core.freeze_machine(world.now)
    source.core.cancel_migration(world.now)
    world.wait(later)
    target.core.give_back(world.now)
    world.wait(1)
    anna.channel(10).write(b"and back")
    world.wait(1)
    said = b"before " + 3 * b"at the target " + b"and back"
    assert source.host.port(PORT).read() == said
    assert len(source.seen(KeyChanged)) == 3
    assert not source.seen(LateLost)
    assert not source.core.returning
    assert not target.core.sessions
    assert not target.core._untold


def test_what_a_client_said_that_went_before_its_guest_came_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, anna = held_world(monkeypatch, False, delay=TRIP)
    source, target = world["source"], world["target"]
    source.core.hold_clients(world.now)
    world.wait(3 * TRIP)
    anna.channel(10).write(b"at the target ")
    world.wait(2 * TRIP)
    state = source.core.freeze_machine(world.now)
    for line in [each for each in world.lines if each.node is target]:
        connection = target.core.connections[line.number]
        if connection.channel is not None and connection.channel.key == (1, 0):
            world.cut_off(line)
    world.run()
    assert target.core.giving
    assert target.core._untold
    target.core.thaw_machine(state, world.now)
    world.run()
    assert not target.core.giving
    assert not target.core._untold
    assert not target.core.sessions


def card_reader(host: Host) -> None:
    host.smartcard()


def test_card_messages_that_wait_while_clients_are_held_come_at_the_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caps = tuple(cap for cap in CHANNEL_CAPS[1] if cap != MainCap.HOLD)
    monkeypatch.setitem(CHANNEL_CAPS, 1, caps)
    world = TwoServers(card_reader, linked=True)
    world.policy = Policy.HOLD
    anna = world.client()
    anna.channel(8).send_card(CardMessage.READER_ADD, 0xFFFFFFFF, b"reader\0")
    world.wait(1)
    world.prepare("source", "target")
    world.wait(1)
    source = world["source"]
    source.core.hold_clients(world.now)
    world.run()
    said = DEVICE_HEADER.pack(CardMessage.APDU, 0, 4) + b"card"
    assert source.host.smartcard().write(said) == len(said)
    world["target"].core.thaw_machine(source.core.freeze_machine(world.now), world.now)
    source.core.complete_migration(world.now)
    world.wait(1)
    assert [event.data for event in anna.seen(CardMessageReceived)] == [b"card"]


@pytest.mark.parametrize("marked", [True, False])
def test_what_a_client_was_to_be_handed_that_does_not_come_is_the_next_ones(
    monkeypatch: pytest.MonkeyPatch, marked: bool
) -> None:
    world, anna = held_world(monkeypatch, False)
    source, target = world["source"], world["target"]
    source.core.hold_clients(world.now)
    world.run()
    assert source.host.port(PORT).write(b"for whoever comes") == 17
    state = source.core.freeze_machine(world.now)
    if marked:
        target.core.thaw_machine(state, world.now)
    for line in list(world.lines):
        world.cut_off(line)
    world.run()
    if not marked:
        target.core.thaw_machine(state, world.now)
    world.clients.clear()
    bert = WorldClient(ClientConfig(host="target", port=5900))
    world.clients.append(bert)
    bert.core.start(world.now)
    world.wait(1)
    assert came(bert) == b"for whoever comes"
    assert anna is not bert


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
