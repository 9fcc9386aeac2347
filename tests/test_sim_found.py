"""What simulated hand-overs have found in the cores, each as the smallest story that shows it.

The seeds that found them are in ``tests/test_sim.py``.
"""

from __future__ import annotations

import pytest
from tests.link_pair import LinkCrypto, LinkPair
from tests.test_handover_checks import world_with_agent
from tests.two_servers import Line, Node, TwoServers

from aiospice.channels.base import HELD_SECONDS
from aiospice.channels.server.inputs import ButtonChanged, KeyChanged
from aiospice.devices.carry import DeviceState, lift, lower, put_back, thaw_client
from aiospice.devices.chardev import CharDevice
from aiospice.devices.rules import VMC
from aiospice.errors import ConnectError, RemoteProtocolError
from aiospice.migration import peer
from aiospice.migration.client import MigrationFinished, MigrationPhase, MigrationStarted
from aiospice.migration.link_source import SourceLinkPhase
from aiospice.migration.link_target import TargetDo, TargetLink, TargetLinkPhase
from aiospice.migration.peer import Late, LateEnd, Record
from aiospice.migration.source import Policy
from aiospice.migration.target import SessionArrived
from aiospice.server.config import ServerConfig
from aiospice.server.events import ClientRefused, ServerChannelClosed
from aiospice.server.guest import Host
from aiospice.server.leftover import LateLost
from aiospice.wire import handover, inputs, vmc
from aiospice.wire import main as messages
from aiospice.wire.agent import AgentType
from aiospice.wire.agent_stream import pack_message

PORT = "org.example.stream"


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


def with_port(host: Host) -> None:
    """A display, a keyboard and a port."""
    machine(host)
    host.port(PORT).opened = True


def test_who_connects_while_clients_of_a_guest_that_has_gone_are_yet_to_answer_is_refused() -> None:
    world = TwoServers(machine)
    anna = world.client()
    anna.deaf.add(0)
    world.prepare("source", "target")
    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    world.client()
    assert [event.rule for event in world["source"].seen(ClientRefused)] == ["machine-moved"]
    assert list(world["source"].core.sessions) == [anna.core.session_id]


def test_what_comes_late_does_not_get_behind_what_the_new_session_says() -> None:
    world = TwoServers(with_port)
    world.linked = True
    world.client()
    target = world["target"]
    world.link("source", "target")
    device = target.core.devices[10, 0]
    device.core.start()
    client = device.core.add_client(9, world.now, flow_control=True)
    device.core.client_writes(client.id, b"new")
    target.core.peer_in(Record(7, (10, 0), b""), world.now)
    body = vmc.ClientData(data=b"old").body()
    target.core.peer_in(Late(7, (10, 0), vmc.ClientData.number, body), world.now)
    target.core.peer_in(LateEnd(7, (10, 0), whole=True), world.now)
    world.run()
    assert device.core.waiting_bytes() == b"new"
    assert [event.client for event in target.seen(LateLost)] == [7]


def test_tokens_of_what_has_gone_with_the_guest_are_not_given_twice() -> None:
    core = CharDevice("a port", VMC)
    core.start()
    core.attach()
    before = DeviceState(to_guest=[(b"from before", "client", 5, 1)])
    lower(core, before)
    client = core.add_client(5, 0.0, flow_control=True)
    gone = lift(core, 0.0)
    record = handover.CharDevice(
        connected=1,
        num_client_tokens=client.window - 1,
        num_send_tokens=3,
        write_num_client_tokens=0,
        write_data=b"",
    )
    thaw_client(core, 5, record, 0.0)
    assert client.tokens + client.free == client.window - 1
    put_back(core, gone, 0.0)
    assert client.tokens + client.free + core.unread_price(5) == client.window


def test_what_is_held_goes_up_if_the_last_channel_that_was_waited_for_goes() -> None:
    world = TwoServers(machine)
    anna = world.client()
    anna.channel(3).key_down(0x1E)
    world.run()
    world.prepare("source", "target")
    world.carry("source", "target")
    source = world["source"].core
    number = source.sessions[anna.core.session_id].connections[3, 0].number
    line = next(each for each in world.lines if each.number == number)
    world.lines.remove(line)
    source.closed(number, ConnectError("reset"), world.now)
    anna.core.closed(line.own, ConnectError("reset"), world.now)
    source.complete_migration(world.now)
    world.wait(2.0)
    assert world["target"].seen(SessionArrived)
    assert KeyChanged(code=0x1E, pressed=False) in world["target"].seen(KeyChanged)


def test_what_is_held_goes_up_if_the_record_of_inputs_cannot_be_so() -> None:
    world = TwoServers(machine)
    anna = world.client()
    anna.channel(3).key_down(0x1E)
    world.run()

    def forge(line: Line, data: bytes) -> bytes:
        honest, forged = (handover.InputsRecord(motion_count=count) for count in (0, 0xFFFF))
        return data.replace(honest.encode(), forged.encode())

    world.forge = forge
    world.move("source", "target")
    assert world["target"].seen(KeyChanged) == [KeyChanged(code=0x1E, pressed=False)]


def test_who_is_still_arriving_is_asked_to_follow_the_next_move() -> None:
    world = TwoServers(machine)
    anna = world.client()
    world.prepare("source", "target")
    anna.deaf.add(1)
    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    world.run()
    target = world["target"].core
    assert target.target.arrivals
    target.prepare_migration("source", 5900, now=world.now)
    anna.deaf.clear()
    world.wait(2.0)
    assert not target.target.arrivals
    assert len(anna.seen(MigrationStarted)) == 2


def test_what_is_held_goes_up_if_nobody_tells_what_was_typed_meanwhile() -> None:
    world = TwoServers(machine)
    anna = world.client()
    anna.channel(3).key_down(0x1E)
    world.run()

    def meanwhile() -> None:
        anna.channel(3).key_up(0x1E)
        world.run()

    world.prepare("source", "target")
    world.carry("source", "target", meanwhile)
    world["source"].core.complete_migration(world.now)
    world.wait(2.0)  # and the source is dead
    assert world["target"].seen(KeyChanged) == [KeyChanged(code=0x1E, pressed=False)]


def beginning_to_run() -> LinkPair:
    """The guest is the target's, and doesn't run yet."""
    pair = LinkPair()
    pair.mute = {"Go"}
    pair.run()
    pair.target.receive(peer.Go(), pair.now)
    assert [order.do for order in pair.target.orders] == [TargetDo.RUN]
    pair.target.orders.clear()
    return pair


def asks(pair: LinkPair) -> TargetLink:
    """The source has asked once more, over another link."""
    link = TargetLink(pair.memory, LinkCrypto(), pair.now)
    link.receive(link.outbox.pop(), pair.now)
    link.receive(peer.Ask("m1"), pair.now)
    return link


def test_a_target_whose_source_is_gone_right_behind_its_word_is_done_once_the_guest_runs() -> None:
    pair = beginning_to_run()
    pair.target.lost("closed")
    assert pair.target.owns_guest
    pair.target.running()
    assert pair.target.over
    assert list(pair.memory.ran) == ["m1"]
    assert not pair.memory.active


@pytest.mark.parametrize("runs", [True, False])
def test_a_source_that_asks_while_the_guest_begins_to_run_is_answered_then(runs: bool) -> None:
    pair = beginning_to_run()
    before = pair.target
    before.lost("closed")
    links = [asks(pair), asks(pair)]
    assert [link.outbox for link in links] == [[], []]
    assert all(link.next_wake() is None for link in links)
    if runs:
        before.running()
    else:
        before.refuse("it can't be")
    answers = [[type(message) for message in link.outbox] for link in links]
    assert answers == [[peer.Running if runs else peer.Refuse]] * 2
    assert before.over
    assert links[0].over
    assert links[1].phase is (TargetLinkPhase.RUNNING if runs else TargetLinkPhase.OVER)
    assert list(pair.memory.active.values()) == links[1:] * runs


def test_who_is_linked_and_silent_is_not_told_that_a_guest_does_not_run() -> None:
    pair = LinkPair()
    pair.run()
    link = TargetLink(pair.memory, LinkCrypto(), pair.now)
    link.receive(link.outbox.pop(), pair.now)
    link.wake(pair.now + 60.0)  # and what it asks is on its way
    assert link.over
    assert link.outbox == []


def test_a_guest_that_is_refused_touches_nothing_of_another_hand_over() -> None:
    pair = LinkPair()
    pair.refuses = "expect"
    pair.run()
    assert pair.source.phase is SourceLinkPhase.OVER
    done = [what for what in pair.done if what.startswith("target")]
    assert done == ["target expect", "target close"]
    pair = LinkPair()
    target = pair.target
    target.receive(peer.Hello(peer.VERSION, bytes(32), bytes(16)), pair.now)
    target.receive(pair.source.proposal, pair.now)
    target.receive(peer.Cancel("never mind"), pair.now)
    assert [order.do for order in target.orders] == [TargetDo.CLOSE]


def test_who_keeps_back_its_own_answer_goes_on_when_the_move_is_off_and_follows_the_next() -> None:
    world = TwoServers(machine)
    anna = world.client()

    def swallow(line: Line, data: bytes) -> bytes:
        wanted = messages.MigrateConnectedSeamless.number
        swallowed = line.node.name == "source" and data[:2] == wanted.to_bytes(2, "little")
        return b"" if swallowed and len(data) == 6 else data

    world.forge = swallow
    world.prepare("source", "target")
    source, target = world["source"].core, world["target"].core
    assert not source.clients_ready
    source.cancel_migration(world.now)
    world.wait(1000.0)
    assert anna.core.migration.phase is MigrationPhase.IDLE
    assert not target.connections
    anna.channel(3).key_down(0x1E)
    world.run()
    assert world["source"].seen(KeyChanged)
    world.forge = lambda line, data: data
    world.move("source", "target")
    assert [event.whole for event in world["target"].seen(SessionArrived)] == [True]


def test_what_a_client_held_that_begins_anew_goes_up_when_the_link_to_its_source_is_lost() -> None:
    world = TwoServers(machine)
    world.linked = True
    world.client()
    target = world["target"]
    world.link("source", "target")
    target.core.peer_in(Record(7, (3, 0), b""), world.now)
    body = inputs.KeyDown(code=0x1E).body()
    target.core.peer_in(Late(7, (3, 0), inputs.KeyDown.number, body), world.now)
    world.unlink()
    world.run()
    assert [event.pressed for event in target.seen(KeyChanged)] == [True, False]
    assert [event.client for event in target.seen(LateLost)] == [7]


def test_what_was_typed_late_by_who_begins_anew_goes_up_where_the_guest_goes_next() -> None:
    world = TwoServers(machine)
    world.linked = True
    source, target = world["source"], world["target"]
    world.link("source", "target")
    target.core.peer_in(Record(7, (3, 0), b""), world.now)
    body = inputs.KeyDown(code=0x1E).body()
    target.core.peer_in(Late(7, (3, 0), inputs.KeyDown.number, body), world.now)
    state = target.core.freeze_machine(world.now)
    assert state.held[7].keys == (0x1E,)
    source.core.expect_guest(world.now)
    source.core.thaw_machine(state, world.now)
    world.run()
    assert [(event.code, event.pressed) for event in source.seen(KeyChanged)] == [(0x1E, False)]


def test_tokens_of_what_was_given_up_for_a_client_that_stays_come_back() -> None:
    device = CharDevice("a port", VMC)
    device.start()
    device.attach()
    client = device.add_client(1, 0.0, flow_control=True, send_tokens=3)
    while device.guest_may_write:
        device.guest_writes(bytes(client.limit), 0.0)
    assert (client.send_tokens, len(client.outgoing)) == (0, 3)
    state = lift(device, 0.0)
    device.give_up(1)
    assert client.send_tokens == 3
    put_back(device, state, 0.0)
    while device.backlog:
        device.add_tokens(1, 0, 0.0)
    assert (client.send_tokens, len(client.outgoing)) == (0, 3)


def test_what_was_lifted_is_put_back_in_its_order_and_ahead_of_what_came_since() -> None:
    device = CharDevice("a port", VMC)
    device.start()
    device.attach()
    device.add_client(1, 0.0, flow_control=True)
    for data in (b"first ", b"second ", b"third "):
        device.client_writes(1, data)
    state = lift(device, 0.0)
    device.client_writes(1, b"since")
    put_back(device, state, 0.0)
    said = b""
    while data := device.guest_reads(4, 0.0):
        said += data
    assert said == b"first second third since"


def test_copies_are_of_what_is_said_behind_the_word_that_they_are_kept() -> None:
    world, anna = world_with_agent()
    source = world["source"].core
    (session,) = source.sessions.values()
    # The agent is still to hear what another client has left behind; what is said now waits.
    source._owed, source._parting = {99}, {(99, (1, 0)): world.now + 9}
    anna.channel(1).agent_send(pack_message(AgentType.CLIPBOARD_RELEASE, b""))
    world.run()
    source.config = source.config._replace(keep="acks")
    session.channels[1, 0].keep(10)
    source._wants(session.connections[1, 0])
    world.run()
    source._parting = {}
    source._agent_goes_on()
    assert source.agent.core.clients[session.id].keeps
    assert world["source"].host.agent().read()
    anna.channel(1).agent_send(pack_message(AgentType.CLIPBOARD_RELEASE, b""))
    world.run()
    assert anna.core.error is None
    assert world["source"].host.agent().read()
    world.run()
    assert anna.core.error is None
    assert anna.channel(1).copies.taken == 1


def test_who_was_held_back_and_stopped_reads_first_that_its_machine_has_gone() -> None:
    world = TwoServers(with_port)
    world.policy, world.linked = Policy.HOLD, True
    anna = world.client()
    world.prepare("source", "target")
    world.carry("source", "target")
    anna.channel(10).write(b"all of it")
    anna.deaf.add(0)
    world["source"].core.complete_migration(world.now)
    world.wait(HELD_SECONDS)
    anna.deaf.clear()
    world.run()
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]
    assert world["target"].host.port(PORT).read() == b"all of it"


def test_what_comes_late_does_not_get_behind_what_a_session_said_that_is_gone_again() -> None:
    world = TwoServers(with_port)
    source = world["source"]
    anna = world.client()
    anna.channel(10).write(b"new")
    world.run()
    anna.core.close()
    world.run()
    assert not source.core.sessions
    source.core.peer_link(True, bytes(32), "target", world.now, "a move")
    source.core.peer_in(Record(7, (10, 0), b""), world.now)
    body = vmc.ClientData(data=b"old").body()
    source.core.peer_in(Late(7, (10, 0), vmc.ClientData.number, body), world.now)
    source.core.peer_in(LateEnd(7, (10, 0), whole=True), world.now)
    world.run()
    assert source.core.devices[10, 0].core.waiting_bytes() == b"new"
    assert [event.client for event in source.seen(LateLost)] == [7]


def test_what_is_typed_and_read_together_with_the_mark_behind_it_is_not_lost() -> None:
    world = TwoServers(machine)
    anna = world.client()
    source, target = world["source"], world["target"]
    world.prepare("source", "target")
    world.carry("source", "target")
    number = source.core.sessions[anna.core.session_id].connections[3, 0].number
    source.paused.add(number)
    anna.channel(3).key_down(0x1E)
    anna.channel(3).key_up(0x1E)
    world.run()
    source.core.complete_migration(world.now)
    world.run()
    source.paused.discard(number)
    world.run()
    target.core.take_late_inputs(source.core.late_inputs(), world.now)
    world.run()
    assert [event.pressed for event in target.seen(KeyChanged)] == [True, False]
