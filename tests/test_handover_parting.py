"""Clients that can't be handed over, and begin anew at the target: devices lose nothing by it."""

from __future__ import annotations

import pytest
from tests.test_handover_checks import on_the_way, packed
from tests.test_handover_direct import PORT, TRIP, came, machine, told
from tests.two_servers import TwoServers, WorldClient

from aiospice.migration.client import MigrationFinished
from aiospice.migration.peer import Late, LateEnd, Record
from aiospice.migration.source import LEAVE_SECONDS, MoveFinished, MoveReady, Policy, SourcePhase
from aiospice.server.linked import LATE_END_SECONDS, LateLost
from aiospice.server.parting import QUIET_SECONDS, LeftBehind

AWAY = pytest.mark.parametrize("way", ["switch-host", "semi-seamless"])


def world_of(
    policy: Policy, way: str, *, linked: bool = True, delay: float = TRIP
) -> tuple[TwoServers, WorldClient]:
    """A client that can't be handed over: the target doesn't expect it, or is older."""
    world = TwoServers(machine, linked=linked, delay=delay)
    world.policy = policy
    anna = world.client()
    world.wait(1)
    if way == "semi-seamless":
        on_the_way(world, "target", 1, 110, lambda body: packed(110, b"\2\0\0\0"))
        world.prepare("source", "target")
    else:
        if linked:
            world.link("source", "target")
        world["source"].core.prepare_migration("target", 5900, policy=policy, now=world.now)
    world.wait(1)
    ready = world["source"].seen(MoveReady)[-1]
    assert (ready.whole, ready.anew, ready.away) == (
        (0, 1, 0) if way == "semi-seamless" else (0, 0, 1)
    )
    return world, anna


def consumed(client: WorldClient, read: int) -> int:
    """Let the reader of the port consume what has come."""
    heard = len(came(client))
    client.channel(10).consumed(heard - read)
    return heard


@AWAY
@pytest.mark.parametrize("policy", Policy, ids=[each.value for each in Policy])
def test_nothing_of_a_port_is_lost_when_a_client_begins_anew(policy: Policy, way: str) -> None:
    world, anna = world_of(policy, way)
    source, target = world["source"], world["target"]
    said = sent = b""
    read = 0

    def work(node: str, turns: int) -> None:
        nonlocal said, sent, read
        for _ in range(turns):
            data = b"<%d>" % len(said) * 900
            port = world[node].host.port(PORT)
            said += data[: port.write(data)]
            if (10, 0) in anna.core.channels:
                anna.channel(10).write(b"(%d)" % len(sent))
                sent += b"(%d)" % len(sent)
            world.wait(TRIP / 3)
            read = consumed(anna, read)

    work("source", 8)
    heard = source.host.port(PORT).read()
    world.carry("source", "target", lambda: work("source", 4))
    source.core.complete_migration(world.now)
    work("target", 40)
    world.wait(3)
    read = consumed(anna, read)
    world.wait(1)
    for _ in range(20):
        read = consumed(anna, read)
        world.wait(0.1)
    heard += target.host.port(PORT).read()
    assert heard == sent
    assert came(anna) == said
    assert [event.mode for event in anna.seen(MigrationFinished)] == [way]
    assert not source.core.sessions
    assert [event.late for event in source.seen(MoveFinished)] == [0]
    assert [m.whole for m in told(world, LateEnd) if m.channel == (10, 0)] == [True]
    assert Record(next(iter(told(world, Record))).client, (10, 0), b"") in told(world, Record)
    assert told(world, Late)
    assert not source.seen(LeftBehind)
    assert not target.seen(LateLost)


@AWAY
def test_without_a_link_what_is_lost_is_counted(way: str) -> None:
    world, anna = world_of(Policy.CARRY, way, linked=False)
    source = world["source"]
    source.host.port(PORT).write(b"to the client")
    anna.channel(10).write(b"read")
    world.wait(1)
    assert source.host.port(PORT).read() == b"read"
    state = source.core.freeze_machine(world.now)
    anna.channel(10).write(b"too late")
    world.wait(1)
    world["target"].core.thaw_machine(state, world.now)
    source.core.complete_migration(world.now)
    world.wait(3)
    assert came(anna) == b"to the client"
    lost = source.seen(LeftBehind)
    assert [(event.to_guest, event.from_guest) for event in lost] == [(8, 0)]


def test_a_client_that_answers_late_is_taken_along_with_what_it_sent_meanwhile() -> None:
    world = TwoServers(machine, delay=TRIP)
    world.policy = Policy.DIRECT
    anna = world.client()
    world.wait(1)
    source = world["source"].core
    world.link("source", "target")
    world["target"].core.expect_migration(anna.core.session_id, now=world.now)
    source.prepare_migration("target", 5900, policy=world.policy, now=world.now)
    assert not source.clients_ready
    anna.channel(10).write(b"1")
    world.run()
    world.carry("source", "target")
    anna.channel(10).write(b"2")
    source.complete_migration(world.now, wait=5)
    world.wait(TRIP)
    anna.channel(10).write(b"3")
    assert not source.clients_ready
    world.wait(2)
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]
    assert world["target"].host.port(PORT).read() == b"123"


def test_who_does_not_answer_in_the_time_that_is_given_has_to_reconnect() -> None:
    world = TwoServers(machine)
    anna = world.client()
    source = world["source"].core
    anna.deaf.add(0)
    source.prepare_migration("target", 5900, now=world.now)
    source.complete_migration(world.now, wait=1)
    phases = []
    for seconds in (0.9, 0.2, LEAVE_SECONDS + QUIET_SECONDS):
        world.wait(seconds)
        phases.append(source.source.phase)
    assert phases == [SourcePhase.CONNECTING, SourcePhase.LEAVING, SourcePhase.IDLE]
    assert not source.sessions


def test_a_target_does_not_wait_for_ever_for_what_a_client_sent_elsewhere() -> None:
    world = TwoServers(machine)
    target = world["target"].core
    target.peer_link(True, bytes(32), "target", world.now, "a move")
    target.peer_in(Record(7, (10, 0), b""), world.now)
    target.peer_in(Late(7, (10, 0), 101, b"early"), world.now)
    target.peer_in(Record(7, (10, 9), b""), world.now)  # a device that isn't here
    target.peer_in(Late(7, (10, 9), 101, b"?"), world.now)
    target.peer_in(Late(7, (10, 0), 77, b"no such message"), world.now)
    port = world["target"].host.port(PORT)
    assert port.read() == b"early"
    world.wait(LATE_END_SECONDS + 1)
    assert [event.channel for event in world["target"].seen(LateLost)] == ["port:0"]
    target.peer_in(Late(7, (10, 0), 101, b"too late"), world.now)
    assert port.read() == b""
