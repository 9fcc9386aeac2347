"""Sessions that move directly: the source tells the target, and clients change over at once."""

from __future__ import annotations

from typing import Any

import pytest
from tests.test_handover_checks import on_the_way, packed, reason
from tests.two_servers import TwoServers, WorldClient

from aiospice.channels.server.inputs import InputsServer, KeyChanged
from aiospice.channels.vmc import DeviceData
from aiospice.client.picture import Picture
from aiospice.migration.client import MigrationFinished
from aiospice.migration.peer import Arrived, Late, LateEnd, Record
from aiospice.migration.source import LEAVE_SECONDS, MoveFinished, Policy
from aiospice.migration.target import RECORD_SECONDS
from aiospice.server.config import ServerConfig
from aiospice.server.events import ClientDisconnected, ServerChannelClosed
from aiospice.server.guest import Host

PORT = "org.example.stream"
TRIP = 0.025


def machine(host: Host) -> None:
    host.display(0).resize(64, 48)
    host.port(PORT).opened = True


def world_with_client(
    policy: Policy = Policy.DIRECT, **options: Any
) -> tuple[TwoServers, WorldClient]:
    """A client on the source."""
    world = TwoServers(machine, **options)
    world.policy = policy
    anna = world.client()
    world.wait(2)
    return world, anna


def told(world: TwoServers, kind: type) -> list[Any]:
    """What the servers have told each other."""
    return [message for message in world.told if isinstance(message, kind)]


def test_the_source_tells_the_records_and_the_client_carries_none() -> None:
    world, anna = world_with_client()
    carried: list[bytes] = []

    def noted(body: bytes) -> bytes:
        carried.append(body)
        return packed(5, body)

    on_the_way(world, "target", 10, 5, noted)
    world.move("source", "target")
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]
    assert not carried
    channels = {(1, 0), (2, 0), (3, 0), (10, 0)}
    assert {message.channel for message in told(world, Record)} == channels
    assert {message.channel for message in told(world, LateEnd) if message.whole} == channels
    assert told(world, Arrived) == [Arrived(anna.core.session_id, True)]
    assert [event.late for event in world["source"].seen(MoveFinished)] == [0]


# -- how long it takes -----------------------------------------------------------------------------


def until(world: TwoServers, done: Any, most: float = 40 * TRIP) -> float:
    """Let time pass until something is so; gives how many trips that took."""
    began = world.now
    while not done():
        assert world.now - began < most, "it takes too long"
        world.wait(TRIP / 20)
        world.run()
    return (world.now - began) / TRIP


@pytest.mark.parametrize(
    ("policy", "trips"),
    [(Policy.DIRECT, 1), (Policy.HOLD, 1), (Policy.CARRY_EARLY, 3), (Policy.CARRY, 5)],
    ids=lambda value: str(getattr(value, "value", value)),
)
def test_one_way_trips_until_the_target_is_seen(policy: Policy, trips: int) -> None:
    world, anna = world_with_client(policy, freezes=False, delay=TRIP)
    world.prepare("source", "target")
    world.wait(1)
    assert world["source"].core.clients_ready
    world.carry("source", "target")
    target = world["target"]
    target.host.display(0).fill(0, 0, 64, 48, 0x00336699)
    world["source"].core.complete_migration(world.now)

    def seen() -> bool:
        shown = target.host.display(0).pixels
        return anna.core.screens[0].snapshot() == Picture(64, 48, shown.tobytes())

    assert until(world, seen) == pytest.approx(trips, abs=0.15)


def came(client: WorldClient) -> bytes:
    """What came out of the port."""
    return b"".join(event.data for event in client.seen(DeviceData))


def test_a_port_that_the_guest_writes_is_silent_for_one_trip() -> None:
    world, anna = world_with_client(freezes=False, delay=TRIP)
    world.prepare("source", "target")
    world.wait(1)
    port = world["source"].host.port(PORT)
    port.write(b"source")
    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    world.run()
    assert world["target"].host.port(PORT).write(b"target") == 6
    assert until(world, lambda: came(anna) == b"sourcetarget") == pytest.approx(1, abs=0.15)


def test_what_is_typed_into_an_echo_comes_back_within_three_trips() -> None:
    world, anna = world_with_client(freezes=False, delay=TRIP)
    world.prepare("source", "target")
    world.wait(1)
    target = world["target"]
    said: dict[bytes, float] = {}
    longest, read, held = 0.0, 0, b""

    def step() -> None:
        nonlocal longest, read, held
        port = target.host.port(PORT)
        held += port.read()
        held = held[port.write(held) :]
        world.run()
        heard = came(anna)
        anna.channel(10).consumed(len(heard) - read)
        read = len(heard)
        for word, since in list(said.items()):
            if word in heard:
                longest = max(longest, (world.now - since) / TRIP)
                del said[word]

    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    sent = b""
    for number in range(100):
        word = b"%04d;" % number
        said[word] = world.now
        sent += word
        anna.channel(10).write(word)
        world.wait(TRIP / 20)
        step()
    for _ in range(80):
        world.wait(TRIP / 20)
        step()
    assert came(anna) == sent
    assert not said
    assert longest <= 3.2


# -- order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer_delay", [0.0, 3 * TRIP])
def test_what_was_under_way_to_the_source_comes_before_what_is_sent_to_the_target(
    peer_delay: float,
) -> None:
    world, anna = world_with_client(delay=TRIP, peer_delay=peer_delay)
    world.prepare("source", "target")
    world.wait(1)
    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    keys = [0x10, 0x11, 0x12, 0x13, 0x14, 0x15]
    for number, code in enumerate(keys):
        anna.channel(3).key_down(code)
        anna.channel(10).write(b"%d" % number)
        world.wait(TRIP / 2.2)
    world.wait(1)
    world.run()
    late = {message.channel for message in told(world, Late)}
    assert late == {(3, 0), (10, 0)}
    assert world["target"].host.port(PORT).read() == b"012345"
    inputs = world["target"].core.sessions[anna.core.session_id].channels[3, 0]
    assert isinstance(inputs, InputsServer)
    assert list(inputs.keys_down) == keys


def test_a_client_that_does_not_read_delays_nobody() -> None:
    shared = ServerConfig(on_second_client="share")
    world = TwoServers(
        lambda host: host.display(0).resize(64, 48), shared, delay=TRIP, freezes=False
    )
    world.policy = Policy.DIRECT
    anna, deaf = world.client(), world.client()
    world.wait(1)
    world.prepare("source", "target")
    world.wait(1)
    deaf.deaf.add(0)
    world["source"].host.display(0).fill(0, 0, 64, 40, 0x123456)
    world.carry("source", "target")
    target = world["target"]
    target.host.display(0).fill(0, 0, 64, 48, 0x00336699)
    world["source"].core.complete_migration(world.now)

    def seen() -> bool:
        shown = target.host.display(0).pixels
        return anna.core.screens[0].snapshot() == Picture(64, 48, shown.tobytes())

    assert until(world, seen) == pytest.approx(1, abs=0.15)
    world.wait(LEAVE_SECONDS + 1)
    assert anna.core.session_id in target.core.sessions
    assert not world["source"].core.sessions
    assert [event.late for event in world["source"].seen(MoveFinished)] == [1]


def test_sessions_whose_source_is_lost_between_records_are_ended_and_others_go_on() -> None:
    shared = ServerConfig(on_second_client="share")
    world = TwoServers(lambda host: host.display(0).resize(64, 48), shared, freezes=False)
    world.policy = Policy.DIRECT
    anna, bert = world.client(), world.client()
    world.prepare("source", "target")
    world.carry("source", "target")
    target = world["target"].core
    lost, take = bert.core.session_id, target.peer_in

    def some(message: Any, now: float) -> None:
        if getattr(message, "client", 0) != lost or getattr(message, "channel", ()) == (2, 0):
            take(message, now)

    target.peer_in = some  # type: ignore[method-assign]
    world["source"].core.complete_migration(world.now)
    world.run()
    world.unlink()
    world.wait(RECORD_SECONDS + 2)
    assert set(target.sessions) == {anna.core.session_id}
    ended = world["target"].seen(ClientDisconnected)
    assert "the link to the source is lost" in ended[0].reason


# -- what goes wrong -------------------------------------------------------------------------------


def test_records_that_never_come_end_the_session_at_the_target_and_the_source_is_told() -> None:
    world, anna = world_with_client()
    world.prepare("source", "target")
    world.carry("source", "target")
    target = world["target"]
    target.core.peer_in = lambda message, now: None  # type: ignore[method-assign]
    world.freezes = False
    world["source"].core.complete_migration(world.now)
    world.run()
    assert target.core.sessions
    world.unlink()
    world.wait(RECORD_SECONDS - 1)
    assert target.core.sessions
    world.wait(3)
    assert not target.core.sessions
    assert "the link to the source is lost" in target.seen(ClientDisconnected)[0].reason
    assert not world["source"].core.sessions
    assert world["source"].seen(MoveFinished)
    assert anna.core.error is not None or not anna.core.channels


def test_a_client_that_sends_no_mark_is_ended_when_its_data_would_be_lost() -> None:
    world, _ = world_with_client()
    on_the_way(world, "source", 10, 4, lambda body: b"")
    world.move("source", "target")
    world.wait(LEAVE_SECONDS + 1)
    assert "is lost" in reason(world)
    assert not world["source"].core.sessions


def test_keys_go_up_if_what_a_client_typed_at_last_is_lost() -> None:
    world, anna = world_with_client()
    anna.channel(3).key_down(0x1E)
    world.run()
    on_the_way(world, "source", 3, 4, lambda body: b"")
    world.move("source", "target")
    world.wait(LEAVE_SECONDS + 1)
    session = world["target"].core.sessions[anna.core.session_id]
    inputs = session.channels[3, 0]
    assert isinstance(inputs, InputsServer)
    assert not inputs.keys_down
    anna.channel(3).key_down(0x20)
    world.run()
    assert list(inputs.keys_down) == [0x20]


@pytest.mark.parametrize("port", [True, False], ids=["with a port", "keys alone"])
def test_nothing_is_waited_for_that_a_source_can_not_tell_any_more(port: bool) -> None:
    world = TwoServers(machine if port else lambda host: host.display(0).resize(64, 48))
    world.policy = Policy.DIRECT
    anna = world.client()
    world.wait(1)
    anna.channel(3).key_down(0x1E)
    world.run()
    for kind in (3, 10) if port else (3,):
        assert (kind, 0) in anna.core.channels
    world.prepare("source", "target")
    world.carry("source", "target")
    anna.deaf.add(10 if port else 3)
    world["source"].core.complete_migration(world.now)
    world.run()
    target, before = world["target"], world.now
    session = target.core.sessions[anna.core.session_id]
    assert session.channels[10 if port else 3, 0].late_awaited
    world.unlink()
    world.run()
    assert world.now == before
    if port:
        assert "is lost" in reason(world)
        return
    assert not session.channels[3, 0].late_awaited
    ups = [event.code for event in target.seen(KeyChanged) if not event.pressed]
    assert ups == [0x1E]
    anna.deaf.clear()
    world.run()
    anna.channel(3).key_down(0x20)
    world.run()
    assert target.seen(KeyChanged)[-1].code == 0x20


def test_a_client_that_floods_the_source_instead_of_leaving_is_ended() -> None:
    world, anna = world_with_client(freezes=False)
    world.prepare("source", "target")
    world.carry("source", "target")
    on_the_way(world, "source", 10, 4, lambda body: packed(101, bytes(60_000)) * 300)
    world["source"].core.complete_migration(world.now)
    world.run()
    ends = [message for message in told(world, LateEnd) if message.channel == (10, 0)]
    assert [message.whole for message in ends] == [False]
    closed = [event.channel for event in world["target"].seen(ServerChannelClosed)]
    assert closed == ["port:0"]
    assert set(world["target"].core.sessions) == {anna.core.session_id}
