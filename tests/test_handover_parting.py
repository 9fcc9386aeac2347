"""Clients that can't be handed over, and begin anew at the target: devices lose nothing by it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.test_handover_checks import on_the_way, packed
from tests.test_handover_direct import PORT, TRIP, came, machine, told
from tests.two_servers import TwoServers, WorldClient

from aiospice.channels.server.inputs import KeyChanged
from aiospice.channels.smartcard import CardMessageReceived
from aiospice.migration.client import MigrationFinished
from aiospice.migration.peer import Late, LateEnd, Record
from aiospice.migration.source import (
    LEAVE_SECONDS,
    MoveFinished,
    MoveReady,
    Policy,
    SourcePhase,
)
from aiospice.server.config import ServerConfig
from aiospice.server.guest import Host
from aiospice.server.leftover import LATE_END_SECONDS, LateLost
from aiospice.server.parting import QUIET_SECONDS, LeftBehind
from aiospice.wire import main
from aiospice.wire.agent import AgentType
from aiospice.wire.agent_stream import CHUNK_HEADER, HEADER, pack_chunk, pack_message
from aiospice.wire.smartcard import DEVICE_HEADER, CardMessage

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


@AWAY
def test_nothing_more_is_awaited_of_a_source_that_is_gone(way: str) -> None:
    world, _ = world_of(Policy.DIRECT, way)
    target = world["target"]
    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    world.wait(TRIP / 2)
    assert target.core._parting
    before = world.now
    world.unlink()
    world.run()
    assert world.now == before
    assert not target.core._parting
    assert "port:0" in [event.channel for event in target.seen(LateLost)]


# -- smartcards, the agent, keyboard and mouse -----------------------------------------------------


def cards_and_agent(host: Host) -> None:
    machine(host)
    host.smartcard()
    host.agent().opened = True


def leaving_world(way: str, setup: Callable[[Host], None]) -> tuple[TwoServers, WorldClient]:
    world = TwoServers(setup, linked=True, delay=TRIP)
    world.policy = Policy.DIRECT
    anna = world.client()
    world.wait(1)
    if way == "semi-seamless":
        on_the_way(world, "target", 1, 110, lambda body: packed(110, b"\2\0\0\0"))
    else:
        world.link("source", "target")
        world["source"].core.prepare_migration("target", 5900, policy=world.policy, now=world.now)
    if way == "semi-seamless":
        world.prepare("source", "target")
    world.wait(1)
    return world, anna


def card(kind: CardMessage, reader: int = 0, data: bytes = b"") -> bytes:
    return DEVICE_HEADER.pack(kind, reader, len(data)) + data


@AWAY
def test_what_a_card_says_at_last_reaches_the_guest_before_the_reader_goes(way: str) -> None:
    world, anna = leaving_world(way, cards_and_agent)
    here, there = (world[name].host.smartcard() for name in ("source", "target"))
    anna.channel(8).send_card(CardMessage.READER_ADD, 0, b"")
    anna.channel(8).send_card(CardMessage.APDU, 0, b"one")
    world.wait(1)
    assert here.read() == card(CardMessage.READER_ADD) + card(CardMessage.APDU, data=b"one")
    half = card(CardMessage.APDU, data=b"a question")
    here.write(half[:15])
    anna.channel(8).send_card(CardMessage.APDU, 0, b"two")
    world.carry("source", "target", lambda: world.wait(TRIP * 2))
    anna.channel(8).send_card(CardMessage.APDU, 0, b"three")
    world["source"].core.complete_migration(world.now)
    anna.channel(8).send_card(CardMessage.APDU, 0, b"four")
    world.wait(3)
    assert [event.mode for event in anna.seen(MigrationFinished)] == [way]
    said = b"".join(card(CardMessage.APDU, data=word) for word in (b"two", b"three", b"four"))
    anna.channel(8).send_card(CardMessage.READER_ADD, 0, b"")
    world.wait(1)
    assert there.read() == said + card(CardMessage.READER_REMOVE) + card(CardMessage.READER_ADD)
    assert there.write(half[15:]) == len(half) - 15  # what the guest began it ends there
    world.wait(1)
    assert [each.data for each in anna.seen(CardMessageReceived)] == [b"a question"]
    assert not world["source"].seen(LeftBehind)
    assert not world["target"].seen(LateLost)


def heard_by_agent(world: TwoServers, node: str, before: bytes = b"") -> list[tuple[int, bytes]]:
    """The messages that a guest's agent got: type (with 1000 for those of the server), body."""
    data = before + world[node].host.agent().read()
    found, streams = [], {1: b"", 2: b""}
    while data:
        port, size = CHUNK_HEADER.unpack_from(data)
        streams[port] += data[8 : 8 + size]
        data = data[8 + size :]
        while len(streams[port]) >= HEADER.size:
            _, kind, _, length = HEADER.unpack_from(streams[port])
            if len(streams[port]) < HEADER.size + length:
                break
            body = streams[port][HEADER.size : HEADER.size + length]
            found.append((kind + 1000 * (port == 2), body))
            streams[port] = streams[port][HEADER.size + length :]
        if found and found[-1][0] == 1000 + AgentType.CLIENT_DISCONNECTED:
            streams[1] = b""  # what it had begun is nothing
    return found


def say(client: WorldClient, text: bytes, size: int | None = None) -> None:
    """Send a clipboard's content, or so many bytes of it."""
    message = pack_message(AgentType.CLIPBOARD, bytes(8) + text)[:size]
    for at in range(0, len(message), 2048):
        client.channel(1).send(main.ClientAgentData(data=message[at : at + 2048]))


@AWAY
@pytest.mark.parametrize("torn", [False, True])
def test_what_a_client_says_to_the_agent_at_last_is_said(way: str, torn: bool) -> None:
    world, anna = leaving_world(way, cards_and_agent)
    heard_by_agent(world, "source")
    world.wait(1)
    message = pack_message(AgentType.CLIPBOARD, bytes(8) + b"long" * 800)
    anna.channel(1).send(main.ClientAgentData(data=message[:2048]))
    world.wait(1)
    begun = world["source"].host.agent().read(1000)
    anna.channel(1).send(main.ClientAgentData(data=message[2048:]))
    world.carry("source", "target", lambda: world.wait(TRIP * 2))
    say(anna, b"second")
    world["source"].core.complete_migration(world.now)
    say(anna, b"third" * 100, 300 if torn else None)
    world.wait(3)
    assert [event.mode for event in anna.seen(MigrationFinished)] == [way]
    world.wait(1)
    found = heard_by_agent(world, "target", begun)
    words = [body[8:] for kind, body in found if kind == AgentType.CLIPBOARD]
    assert words == [b"long" * 800, b"second", *([] if torn else [b"third" * 100])]
    kinds = [kind for kind, _ in found]
    gone = 1000 + AgentType.CLIENT_DISCONNECTED
    assert kinds.count(gone) == 1
    assert AgentType.ANNOUNCE_CAPABILITIES in kinds[kinds.index(gone) :]
    say(anna, b"and on")
    world.wait(1)
    assert heard_by_agent(world, "target")[-1] == (AgentType.CLIPBOARD, bytes(8) + b"and on")
    assert not world["target"].seen(LateLost)


def test_what_the_agent_had_said_reaches_the_client_before_it_goes() -> None:
    config = ServerConfig(on_second_client="share")
    world = TwoServers(cards_and_agent, config, linked=True, delay=TRIP)
    world.policy = Policy.DIRECT
    anna = world.client()
    world.client()
    world.wait(1)
    source = world["source"]
    world.link("source", "target")
    source.core.prepare_migration("target", 5900, policy=world.policy, now=world.now)
    world.wait(1)
    first, other = source.core.agent.core.clients.values()
    first.send_tokens = 0
    for _ in range(3):
        source.host.agent().write(pack_chunk(1, pack_message(AgentType.CLIPBOARD, bytes(9))))
    assert (len(first.send_queue), len(other.send_queue)) == (3, 0)
    world.carry("source", "target", lambda: world.wait(TRIP * 2))
    source.core.complete_migration(world.now)
    world.wait(TRIP * 4)
    assert not anna.seen(MigrationFinished)  # what waits for a token comes first
    anna.channel(1).send(main.ClientAgentToken(num_tokens=40))
    world.wait(4)
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["switch-host"]
    assert not source.seen(LeftBehind)


@AWAY
def test_what_is_typed_at_last_is_typed_and_let_go(way: str) -> None:
    world, anna = leaving_world(way, machine)
    world.carry("source", "target", lambda: world.wait(TRIP * 2))
    anna.channel(3).key_down(0x1E)
    anna.channel(3).key_up(0x1E)
    world.wait(TRIP * 2)
    world["source"].core.complete_migration(world.now)
    anna.channel(3).key_down(0x20)
    world.wait(3)
    assert [event.mode for event in anna.seen(MigrationFinished)] == [way]
    keys = [(event.code, event.pressed) for event in world["target"].seen(KeyChanged)]
    assert keys == [(0x1E, True), (0x1E, False), (0x20, True), (0x20, False)]
