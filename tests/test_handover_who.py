"""Who may come to a target: a session that is expected, once, for some time, with its ticket."""

from __future__ import annotations

from struct import pack

import pytest
from tests.test_handover_checks import PORT, machine, messages, packed, world_with_agent
from tests.two_servers import Line, TwoServers, WorldClient

from aiospice.agent.guest import GuestAgent
from aiospice.client.config import ClientConfig
from aiospice.client.session import SessionPhase
from aiospice.errors import StateError
from aiospice.migration.client import MigrationAbandoned, MigrationFinished
from aiospice.migration.source import MoveReady
from aiospice.migration.target import EXPECT_SECONDS, SessionArrived, SessionMissed
from aiospice.server.config import ServerConfig
from aiospice.server.events import ClientRefused
from aiospice.server.guest import Host
from aiospice.wire import main
from aiospice.wire.agent import AgentType
from aiospice.wire.agent_stream import pack_chunk, pack_message


def rules(world: TwoServers) -> list[str]:
    """Why connections to the target were refused so far."""
    return [event.rule for event in world["target"].seen(ClientRefused)]


def asked(world: TwoServers) -> None:
    """Have the clients go there; the target has been told before, or it hasn't."""
    world["source"].core.prepare_migration("target", 5900, now=world.now)
    world.run()


def newcomer(world: TwoServers, node: str, password: str = "") -> WorldClient:
    """A new client of a server."""
    found = WorldClient(ClientConfig(host=node, port=5900, password=password))
    world.clients.append(found)
    found.core.start(world.now)
    world.run()
    return found


def stays(world: TwoServers, client: WorldClient) -> bool:
    """Whether a client is at the source, as before, and nothing of it is at the target."""
    source, target = world["source"], world["target"]
    source.events.clear()
    client.channel(10).write(b"here")
    world.run()
    return (
        source.host.port(PORT).read() == b"here"
        and client.core.session_id not in target.core.sessions
        and client.core.phase is SessionPhase.UP
    )


def test_nobody_comes_who_is_not_expected() -> None:
    world, anna = world_with_agent()
    asked(world)
    assert anna.seen(MigrationAbandoned)
    assert rules(world)[:1] == ["session-not-expected"]
    assert stays(world, anna)


@pytest.mark.parametrize("change", [1, 1 << 31, -1])
def test_another_number_is_not_the_one_that_is_expected(change: int) -> None:
    world, anna = world_with_agent()
    wrong = (anna.core.session_id + change) & 0xFFFFFFFF
    world["target"].core.expect_migration(wrong, now=world.now)
    asked(world)
    assert rules(world)[:1] == ["session-not-expected"]
    assert stays(world, anna)
    assert [one.connection_id for one in world["target"].core.target.expected] == [wrong]


def test_a_session_is_expected_for_some_time() -> None:
    world, anna = world_with_agent()
    world["target"].core.expect_migration(anna.core.session_id, now=world.now)
    world.wait(EXPECT_SECONDS + 1)
    assert [event.reason for event in world["target"].seen(SessionMissed)] == ["it hasn't come"]
    asked(world)
    assert rules(world)[:1] == ["session-not-expected"]
    assert stays(world, anna)


def test_a_session_is_expected_once() -> None:
    world, anna = world_with_agent()
    world.prepare("source", "target", (None,))
    assert world["source"].core.clients_ready
    world["source"].core.cancel_migration(world.now)
    world.run()
    assert not world["target"].core.sessions
    asked(world)
    assert anna.seen(MigrationAbandoned)
    assert stays(world, anna)


def test_a_session_that_is_there_does_not_come_a_second_time() -> None:
    world, anna = world_with_agent()
    world.move("source", "target")
    target = world["target"].core
    assert set(target.sessions) == {anna.core.session_id}
    target.expect_migration(anna.core.session_id, now=world.now)
    thief = newcomer(world, "target")
    assert thief.core.session_id != anna.core.session_id  # it isn't told another's number
    world.clients[:] = [anna]
    forged = WorldClient(ClientConfig(host="target", port=5900))
    world.clients.append(forged)
    forged.core._open((1, 0), connection_id=anna.core.session_id)
    forged.core.phase = SessionPhase.CONNECTING
    world.run()
    assert rules(world)[-1:] in (["session-not-expected"], [])


def test_two_that_show_one_number_are_not_both_let_in() -> None:
    world, anna = world_with_agent()
    world["target"].core.expect_migration(anna.core.session_id, now=world.now)
    forged = WorldClient(ClientConfig(host="target", port=5900))
    world.clients.append(forged)
    forged.core._open((1, 0), connection_id=anna.core.session_id)
    world.run()
    asked(world)
    assert rules(world)[:1] == ["session-not-expected"]
    assert len(world["target"].core.target.arrivals) == 1
    assert [(e.whole, e.anew, e.away) for e in world["source"].seen(MoveReady)] == [(0, 0, 1)]


def test_other_channels_do_not_come_before_main() -> None:
    world, anna = world_with_agent()
    world["target"].core.expect_migration(anna.core.session_id, now=world.now)
    forged = WorldClient(ClientConfig(host="target", port=5900))
    world.clients.append(forged)
    forged.core._open((10, 0), connection_id=anna.core.session_id)
    world.run()
    assert rules(world) == ["no-such-session"]
    assert len(world["target"].core.target.expected) == 1


def test_who_comes_has_to_know_the_ticket_and_a_guess_uses_nothing_up() -> None:
    world, anna = world_with_agent(password="secret")
    anna = world.client(password="secret")
    number = anna.core.session_id
    world["target"].core.expect_migration(number, "another", now=world.now)
    asked(world)
    assert rules(world)[:1] == ["ticket"]
    assert stays(world, anna)
    assert [one.connection_id for one in world["target"].core.target.expected] == [number]
    world["target"].core.target.forget()
    world.prepare("source", "target", (number,))
    assert world["source"].core.clients_ready
    assert set(world["target"].core.sessions) == {number}


def test_the_ticket_of_a_session_that_comes_lets_nobody_else_in() -> None:
    world = TwoServers(machine, ServerConfig(password="its own"), freezes=False)
    world["target"].core.expect_migration(7, "for seven", now=world.now)
    eve = newcomer(world, "target", "for seven")
    assert eve.core.phase is SessionPhase.CLOSED
    assert rules(world) == ["ticket"]
    assert not world["target"].core.sessions


def test_each_of_several_is_expected_by_its_own_number() -> None:
    world, _ = world_with_agent(more=2)
    numbers = [client.core.session_id for client in world.clients]
    world.prepare("source", "target", tuple(numbers[:2]))
    assert [(e.whole, e.anew, e.away) for e in world["source"].seen(MoveReady)] == [(2, 0, 1)]
    assert set(world["target"].core.target.arrivals) == set(numbers[:2])
    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    world.run()
    world.wait(2)
    modes = [client.seen(MigrationFinished)[-1].mode for client in world.clients]
    assert modes == ["seamless", "seamless", "switch-host"]
    arrived = [(event.client, event.whole) for event in world["target"].seen(SessionArrived)]
    assert sorted(arrived) == sorted((number, True) for number in numbers[:2])


def test_after_a_cancelled_move_a_session_is_expected_anew() -> None:
    world, anna = world_with_agent()
    for _ in range(3):
        world.prepare("source", "target")
        world["source"].core.freeze_machine(world.now)
        world["source"].core.cancel_migration(world.now)
        world.run()
        assert stays(world, anna)
    world.move("source", "target")
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]


# -- meanwhile -------------------------------------------------------------------------------------


def shared(host: Host) -> None:
    host.display(0).resize(64, 48)
    host.port(PORT).opened = True
    host.agent()


def to_target(world: TwoServers, line: Line, key: tuple[int, int]) -> bool:
    """Whether this is a channel of that kind at the target."""
    connection = world["target"].core.connections.get(line.number)
    channel = None if connection is None else connection.channel
    return line.node.name == "target" and channel is not None and channel.key == key


def test_a_device_of_a_session_that_arrives_is_taken() -> None:
    world = TwoServers(shared, ServerConfig(on_second_client="share"), freezes=False)
    anna = world.client()
    held: list[bytes] = []

    def forge(line: Line, data: bytes) -> bytes:
        if line.client is anna and to_target(world, line, (1, 0)):
            held.append(data)
            return b""
        return data

    world.forge = forge
    world.prepare("source", "target")
    assert (10, 0) in world["target"].core.target.arrivals[anna.core.session_id].parked
    eve = newcomer(world, "target")
    assert (10, 0) not in eve.core.channels
    world.forge = lambda line, data: data
    line = next(line for line in world.lines if to_target(world, line, (1, 0)))
    line.to_server += b"".join(held)
    world.run()
    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    world.run()
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]
    assert set(world["target"].core.devices[10, 0].core.clients) == {anna.core.session_id}


def test_who_takes_up_with_the_agent_does_not_wait_for_others_that_arrive() -> None:
    world = TwoServers(shared, ServerConfig(on_second_client="share"), freezes=False)
    world["source"].host.agent().opened = True
    anna, bea = world.client(), world.client()

    def forge(line: Line, data: bytes) -> bytes:
        if not to_target(world, line, (1, 0)):
            return data
        found = b""
        for number, body in messages(data):
            if number == 5 and line.client is bea:
                continue  # its record doesn't come
            if number == 5:  # and this one's says that it had no agent
                body = body[:8] + pack("<IBIIIII", 1, 0, 0, 0, 0, 0, 0) + bytes(32)
            found += packed(number, body)
        return found

    world.forge = forge
    world.move("source", "target")
    core = world["target"].core.agent.core
    assert core.waiting
    assert set(core.clients) == {anna.core.session_id}
    world.wait(15)
    assert set(world["target"].core.sessions) == {anna.core.session_id}
    assert not core.waiting
    device, agent = world["target"].host.agent(), GuestAgent()
    for _ in range(10):
        agent.receive(device.read())
        device.write(agent.take())
        world.run()
    assert agent.client


# -- one guest -------------------------------------------------------------------------------------


def test_a_second_guest_is_not_taken() -> None:
    world, _ = world_with_agent()
    world.prepare("source", "target")
    state = world["source"].core.freeze_machine(world.now)
    world["target"].core.thaw_machine(state, world.now)
    with pytest.raises(StateError, match="already"):
        world["target"].core.thaw_machine(state, world.now)
    with pytest.raises(StateError, match="already"):
        world["source"].core.thaw_machine(state, world.now)
    with pytest.raises(StateError, match="still"):
        world["source"].core.freeze_machine(world.now)


def test_a_guest_that_is_about_to_leave_is_not_replaced_by_another() -> None:
    world, anna = world_with_agent()
    anna.channel(10).write(b"unread")
    world.run()
    world.prepare("source", "target")
    for _ in range(2):
        with pytest.raises(StateError, match="about to leave"):
            world["source"].core.expect_migration(7, now=world.now)
        if world["source"].core.frozen is None:
            world["source"].core.freeze_machine(world.now)
            for line in list(world.lines):
                world.cut_off(line)
            world.clients.clear()
    world["source"].core.cancel_migration(world.now)
    assert world["source"].host.port(PORT).read() == b"unread"


def test_a_guest_without_clients_comes_back() -> None:
    world = TwoServers(shared, freezes=False)
    here, there = "source", "target"
    for turn in range(4):
        world[here].host.display(0).fill(0, 0, 9, 9, turn + 1)
        world.move(here, there)
        here, there = there, here
        assert world[here].core.frozen is None
        assert not world[there].core.clients_ready
    anna = newcomer(world, here)
    world.wait(0.1)
    assert anna.core.screens[0].snapshot().array()[0, 0].tolist() == [0, 0, 4]


def test_what_a_client_sent_that_left_while_the_guest_stood_still_is_the_guests() -> None:
    world, anna = world_with_agent(more=1)
    bea = world.clients[1]
    source = world["source"]
    anna.channel(10).write(b"unread")
    piece = pack_message(AgentType.CLIPBOARD, bytes(3000))[:2048]
    anna.channel(1).send(main.ClientAgentData(data=piece))  # the first part of one
    world.run()
    bea.channel(1).send(main.ClientAgentData(data=pack_message(AgentType.CLIPBOARD, b"from bea")))
    world.run()
    world.prepare("source", "target")
    source.core.freeze_machine(world.now)
    for line in [line for line in world.lines if line.client is anna]:
        world.cut_off(line)
    world.clients.remove(anna)
    world.run()
    source.core.cancel_migration(world.now)
    assert source.host.port(PORT).read() == b"unread"
    said = source.host.agent().read()
    assert said.startswith(pack_chunk(1, piece))
    assert b"from bea" in said
    for client in source.core.agent.core.clients.values():
        assert client.tokens + client.free == client.window
