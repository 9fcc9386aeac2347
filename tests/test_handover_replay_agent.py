"""What the agent and a card reader haven't read is sent again by its client, to the byte."""

from __future__ import annotations

import pickle
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.test_handover_direct import PORT, TRIP
from tests.two_servers import TwoServers, WorldClient

from aiospice.migration.client import MigrationFinished
from aiospice.migration.source import Policy
from aiospice.server.config import ServerConfig
from aiospice.server.events import ServerChannelClosed
from aiospice.server.guest import Host
from aiospice.server.replaying import NotReplayed
from aiospice.wire.agent import AgentType
from aiospice.wire.agent_stream import CLIENT_PORT, pack_chunk, pack_message
from aiospice.wire.smartcard import DEVICE_HEADER, CardMessage

SHARED = ServerConfig(keep="tokens", on_second_client="share")


def machine(host: Host) -> None:
    host.display(0).resize(64, 48)
    host.port(PORT).opened = True
    host.smartcard()
    host.agent().opened = True


def world_that_keeps(config: ServerConfig = SHARED, **options: Any) -> TwoServers:
    world = TwoServers(machine, config, freezes=False, **options)
    world.policy = Policy.REPLAY if config.keep == "tokens" else Policy.ACK
    return world


def pieces(messages: list[int]) -> list[bytes]:
    """Messages of these sizes in pieces of 2048 bytes: every third is one that doesn't pass."""
    found = []
    for place, size in enumerate(messages):
        kind = AgentType.FILE_XFER_DATA if place % 3 == 2 else AgentType.CLIPBOARD
        message = pack_message(kind, bytes((place + at) % 251 for at in range(size)))
        found += [message[at : at + 2048] for at in range(0, len(message), 2048)]
    return found


def stream_of(sent: list[bytes], messages: list[int], passes: bool) -> bytes:
    """What the guest reads of these pieces."""
    out, at = b"", 0
    for place, size in enumerate(messages):
        count = -(-(size + 20) // 2048)
        for piece in sent[at : at + count]:
            out += pack_chunk(CLIENT_PORT, piece) if passes or place % 3 != 2 else b""
        at += count
    return out


def settle(world: TwoServers, delay: float) -> None:
    world.wait(delay)


@settings(max_examples=25, deadline=None)
@given(
    messages=st.lists(st.sampled_from([1, 30, 2027, 2028, 2029, 5000, 9000]), max_size=8),
    more=st.lists(st.sampled_from([1, 30, 2029, 5000]), max_size=4),
    reads=st.lists(st.integers(0, 4100), max_size=6),
    last=st.integers(0, 40),
    delay=st.sampled_from([0.0, TRIP]),
    files=st.booleans(),
    acks=st.booleans(),
)
def test_the_agent_reads_every_byte_once_wherever_the_move_strikes(
    messages: list[int],
    more: list[int],
    reads: list[int],
    last: int,
    delay: float,
    files: bool,
    acks: bool,
) -> None:
    config = SHARED._replace(file_transfer=files, keep="acks" if acks else "tokens")
    world = world_that_keeps(config, delay=delay)
    anna = world.client()
    world.wait(1)
    source, target = world["source"], world["target"]
    main = anna.channel(1)
    source.host.agent().read()
    first = pieces(messages)
    for piece in first:
        main.agent_send(piece)
    world.run()
    got = b""
    world.prepare("source", "target")
    world.wait(1)
    for size in (*reads, last):
        got += source.host.agent().read(size) if size else b""
        world.wait(delay / 3)
    world.carry("source", "target")
    source.core.complete_migration(world.now)
    second = pieces(more)
    for piece in second:
        main.agent_send(piece)
        world.wait(delay / 7)
    world.wait(0.5)
    for _ in range(100):
        got += target.host.agent().read(700)
        world.wait(2 * delay)
    assert not source.seen(NotReplayed)
    assert got == stream_of(first, messages, files) + stream_of(second, more, files)
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]
    (client,) = target.core.agent.core.clients.values()
    assert client.tokens + client.free == client.window == 10
    assert main.agent_tokens == client.tokens
    pickle.loads(pickle.dumps(target.core))


CARDS = st.sampled_from(
    [
        (CardMessage.READER_ADD, 0, b"reader\0"),
        (CardMessage.READER_REMOVE, 0, b""),
        (CardMessage.ATR, 0, b"\x3b\x00"),
        (CardMessage.APDU, 0, bytes(300)),
        (CardMessage.FLUSH, 0, b""),
    ]
)


def card_stream(cards: list[tuple[int, int, bytes]]) -> tuple[bytes, int]:
    """What the guest reads of card messages, and how many are answered with an error."""
    out, there, errors = b"", False, 0
    for kind, reader, data in cards:
        if kind == CardMessage.READER_ADD:
            there = True
            out += DEVICE_HEADER.pack(kind, reader, 0)
        elif kind == CardMessage.READER_REMOVE:
            out += DEVICE_HEADER.pack(kind, reader, 0) if there else b""
            errors += not there
            there = False
        elif kind != CardMessage.FLUSH:
            out += DEVICE_HEADER.pack(kind, reader, len(data)) + data
    return out, errors


@settings(max_examples=25, deadline=None)
@given(cards=st.lists(CARDS, max_size=25), read=st.integers(0, 700), acks=st.booleans())
def test_a_card_reader_gets_every_message_once(
    cards: list[tuple[int, int, bytes]], read: int, acks: bool
) -> None:
    world = world_that_keeps(SHARED._replace(keep="acks" if acks else "tokens"))
    anna = world.client()
    world.wait(1)
    source, target = world["source"], world["target"]
    channel = anna.channel(8)
    for card in cards:
        channel.send_card(*card)
    world.run()
    got = source.host.smartcard().read(read) if read else b""
    world.move("source", "target")
    world.wait(0.1)
    for _ in range(200):
        got += target.host.smartcard().read(31)
        world.run()
    expected, errors = card_stream(cards)
    assert not source.seen(NotReplayed)
    assert got == expected
    answers = [event for event in anna.events if type(event).__name__ == "CardMessageReceived"]
    assert len(answers) == errors


def test_an_agent_in_the_middle_of_a_chunk_is_not_left_there_by_a_client_that_never_comes() -> None:
    world = world_that_keeps()
    anna, bert = world.client(), world.client()
    world.wait(1)
    source, target = world["source"], world["target"]
    source.host.agent().read()
    message = pack_message(AgentType.CLIPBOARD, bytes(500))
    anna.channel(1).agent_send(message)
    world.run()
    head = source.host.agent().read(200)
    world.prepare("source", "target")
    world.carry("source", "target")
    world.lines = [line for line in world.lines if line.client is not anna]
    for session in list(source.core.sessions), list(target.core.sessions):
        assert len(session) == 2
    lost = anna.core.session_id
    target.core.disconnect(lost, "gone", world.now)
    source.core.disconnect(lost, "gone", world.now)
    source.core.complete_migration(world.now)
    bert.channel(1).agent_send(pack_message(AgentType.CLIPBOARD, b"from bert"))
    world.run()
    world.wait(1)
    got = head + target.host.agent().read()
    whole = pack_chunk(CLIENT_PORT, message[:192] + bytes(len(message) - 192))
    assert got.startswith(whole)
    rest = got[len(whole) :]
    assert pack_chunk(CLIENT_PORT, pack_message(AgentType.CLIPBOARD, b"from bert")) in rest


def two_clients() -> tuple[TwoServers, WorldClient, WorldClient]:
    world = world_that_keeps()
    anna, bert = world.client(), world.client()
    world.wait(1)
    world["source"].host.agent().read()
    return world, anna, bert


def test_a_liar_about_the_rest_of_a_message_ends_alone_and_the_guest_goes_on() -> None:
    world, anna, bert = two_clients()
    source, target = world["source"], world["target"]
    anna.channel(1).agent_send(pack_message(AgentType.CLIPBOARD, bytes(500)))
    world.run()
    source.host.agent().read(20)
    main = anna.channel(1)
    main.copies.bodies[-1] = main.copies.bodies[-1][:40]
    world.move("source", "target")
    world.wait(1)
    assert bert.core.session_id in target.core.sessions
    assert anna.core.session_id not in target.core.sessions
    assert any("rest of a message" in str(e.error) for e in target.seen(ServerChannelClosed))
    target.host.agent().read()
    bert.channel(1).agent_send(pack_message(AgentType.CLIPBOARD, b"bert"))
    world.run()
    assert target.host.agent().read().endswith(b"bert")
