"""What a target believes of a client that comes with a session, and a source of one that leaves.

A client may change the records that it carries. Each test changes one thing; the client's session
ends with an error that says what was wrong, and the server serves the next.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack, pack_into, unpack_from

import pytest
from tests.two_servers import Line, TwoServers, WorldClient

from aiospice.agent.guest import GuestAgent
from aiospice.channels.framing import Framing
from aiospice.channels.server.main import MainServer, TargetAnswered
from aiospice.migration.client import MigrationAbandoned
from aiospice.migration.target import EXPECT_SECONDS
from aiospice.server.config import ServerConfig
from aiospice.server.events import ClientDisconnected, ClientRefused, ServerChannelClosed
from aiospice.server.guest import Host
from aiospice.wire import common, main
from aiospice.wire.agent import AgentType
from aiospice.wire.agent_stream import pack_chunk, pack_message
from aiospice.wire.header import MINI

Change = Callable[[bytes], bytes]
PORT = "org.example.port"


def machine(host: Host) -> None:
    host.display(0).resize(64, 48)
    host.display(0).surface(16, 16)
    host.port(PORT).opened = True
    host.smartcard()
    host.agent()


def world_with_agent(**settings: object) -> tuple[TwoServers, WorldClient]:
    """A client on the source, whose guest has an agent."""
    world = TwoServers(machine, ServerConfig(**settings), freezes=False)  # type: ignore[arg-type]
    device, agent = world["source"].host.agent(), GuestAgent()
    device.opened = True
    anna = world.client()
    for _ in range(20):
        agent.receive(device.read())
        device.write(agent.take())
        world.run()
    return world, anna


def messages(data: bytes) -> list[tuple[int, bytes]]:
    """Number and body of each message."""
    found, at = [], 0
    while at < len(data):
        number, size = MINI.unpack_from(data, at)
        found.append((number, data[at + MINI.size :][:size]))
        at += MINI.size + size
    return found


def packed(number: int, body: bytes) -> bytes:
    return MINI.pack(number, len(body)) + body


def on_the_way(world: TwoServers, node: str, kind: int, number: int, change: Change) -> None:
    """Change the bodies of one kind of message of a client to a server, header and all."""

    def forge(line: Line, data: bytes) -> bytes:
        connection = world[node].core.connections.get(line.number)
        channel = connection.channel if connection is not None else None
        if line.node.name != node or channel is None or channel.key[0] != kind:
            return data
        return b"".join(
            change(body) if own == number else packed(own, body) for own, body in messages(data)
        )

    world.forge = forge


def change_record(world: TwoServers, kind: int, change: Change) -> None:
    """Change the record of a channel."""
    on_the_way(world, "target", kind, 5, lambda body: packed(5, change(body)))


def at(offset: int, form: str, *values: int) -> Change:
    """Put other numbers at a place."""

    def change(body: bytes) -> bytes:
        found = bytearray(body)
        pack_into("<" + form, found, offset, *values)
        return bytes(found)

    return change


def reason(world: TwoServers, node: str = "target") -> str:
    """Why the client's session has ended; the server must serve the next one."""
    ended = world[node].seen(ClientDisconnected)
    assert len(ended) == 1, "the session goes on"
    world.forge = lambda line, data: data
    return ended[0].reason


def with_data(offset: int, size_at: int, data: bytes) -> Change:
    """Put bytes for the guest into a record that has none: size, pointer, and the bytes."""

    def change(body: bytes) -> bytes:
        found = bytearray(body[:offset])
        pack_into("<I", found, size_at, len(data))
        pack_into("<I", found, size_at + 8, offset)
        return bytes(found) + data

    return change


def both(*changes: Change) -> Change:
    """One after the other."""

    def change(body: bytes) -> bytes:
        for one in changes:
            body = one(body)
        return body

    return change


FILE = pack_message(AgentType.FILE_XFER_START, bytes(12))
PARTLY = at(34, "III", 8, 1, 50)
MUCH = both(with_data(33, 21, bytes(99_999)), at(13, "I", 0), at(25, "I", 1))
RULES: list[tuple[str, int, Change, str]] = [
    ("6 magic of main", 1, lambda body: b"XXXX" + body[4:], "MainRecord"),
    ("6 magic of a port", 10, lambda body: b"DCMD" + body[4:], "VmcRecord"),
    ("6 version 2", 3, at(4, "I", 2), "version"),
    ("6 version 0", 2, at(4, "I", 0), "version"),
    ("6 device version 0", 10, at(8, "I", 0), "version"),
    ("7 nothing", 2, lambda body: b"", "0 bytes"),
    ("7 a byte less", 1, lambda body: body[:64], "64 bytes"),
    ("7 half of it", 10, lambda body: body[:16], "16 bytes"),
    ("7 inputs", 3, lambda body: body[:9], "9 bytes"),
    ("8 too much for main", 1, lambda body: body + bytes(30_000), "allowed are"),
    ("8 too much for inputs", 3, lambda body: body + bytes(70_000), "limit"),
    ("8 too much for a display", 2, lambda body: body + bytes(30_000), "limit"),
    ("9 bytes behind the end", 1, lambda body: body + b"x", "behind the end"),
    ("9 a gap", 10, both(with_data(33, 21, b"abc"), at(29, "I", 34)), "points to 34"),
    ("11 connected is 2", 10, at(12, "B", 2), "connected"),
    ("11 not connected, and tokens", 10, at(12, "B", 0), "connected"),
    ("12 more bytes than there are", 10, at(21, "III", 99, 0, 33), "99 bytes"),
    ("12 a size with a sign", 10, at(21, "III", 0xFFFFFFFF, 0, 33), "bytes"),
    ("13 tokens beyond the window", 1, at(13, "I", 11), "window"),
    ("13 tokens that wrap", 10, at(13, "I", 0xFFFFFF00), "window"),
    ("14 messages of nothing", 10, at(25, "I", 1), "no bytes of them"),
    ("14 bytes for one message", 10, MUCH, "1 messages"),
    ("16 half a chunk", 1, with_data(65, 21, pack_chunk(1, FILE)[:-1]), "ends in a chunk"),
    ("16 half a header", 1, with_data(65, 21, b"\1\0\0"), "header of a chunk"),
    ("16 port 7", 1, with_data(65, 21, pack("<II", 7, 4) + b"abcd"), "port 7"),
    ("16 a large chunk", 1, with_data(65, 21, pack("<II", 1, 4000) + bytes(4000)), "4000 bytes"),
    ("16 not paid for", 1, with_data(65, 21, pack_chunk(1, FILE)), "paid for"),
    ("17 a header of 9 bytes", 1, at(34, "I", 9), "chunk_header_size"),
    ("18 port 3", 1, at(34, "III", 8, 3, 10), "port"),
    ("18 a huge chunk", 1, at(34, "III", 8, 1, 0x7FFFFFFF), "chunk_size"),
    ("19 20 bytes of a header", 1, at(47, "I", 20), "from_agent_header_size"),
    ("20 a pointer elsewhere", 1, both(PARTLY, at(47, "II", 4, 60)), "points to 60"),
    ("21 a verdict of 2", 1, at(59, "B", 2), "from_agent_filter"),
    ("21 a verdict of 3", 1, at(64, "B", 3), "to_agent_filter"),
    ("22 a huge message", 1, at(60, "I", 0xFFFFFFFF), "to_agent_remaining"),
    ("22 a message that isn't under way", 1, at(60, "I", 100), "to_agent_remaining"),
    ("23 started is 2", 1, at(33, "B", 2), "client_agent_started"),
    ("23 done is 255", 1, at(46, "B", 255), "from_agent_header_done"),
    ("24 a card of any size", 8, at(34, "II", 0x7FFFFFFF, 42), "read"),
    ("24 a pointer to nothing", 8, at(38, "I", 7), "points to 7"),
    ("25 motion that can't be", 3, at(8, "H", 17), "motion_count"),
    ("26 more surfaces than there is room", 2, at(80, "I", 1 << 30), "surfaces"),
    ("27 a surface that isn't here", 2, at(84, "I", 77), "surface 77"),
    ("27 a surface beyond all", 2, at(84, "I", 1 << 31), "unknown"),
    ("27 a surface twice", 2, at(84, "II", 1, 1), "twice"),
    ("29 a huge window", 2, at(60, "I", (1 << 25) + 1), "glz_window_size"),
    ("29 many encoders", 2, at(64, "I", 1 << 20), "glz_max_encoders"),
    ("29 images without end", 2, at(68, "Q", 1 << 63), "glz_last_image_id"),
    ("30 a cache of no size", 2, at(18, "q", -5), "pixmap_cache_size"),
    ("30 a huge cache", 2, at(18, "q", 1 << 40), "pixmap_cache_size"),
    ("31 serial 0", 2, at(8, "Q", 0), "message_serial"),
    ("31 serial near the end", 2, at(8, "Q", (1 << 64) - 2), "message_serial"),
    ("31 a sibling's serial", 2, at(27, "Q", 1 << 63), "pixmap_cache_clients"),
    ("23 low_bandwidth is 9", 2, at(16, "B", 9), "low_bandwidth"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "change", "text"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES]
)
def test_a_record_that_is_not_right_ends_its_client(kind: int, change: Change, text: str) -> None:
    world, _ = world_with_agent()
    change_record(world, kind, change)
    world.move("source", "target")
    assert text in reason(world)
    world["target"].core.expect_migration(7, now=world.now)
    assert not world["target"].core.sessions or world.clients  # it lives


def test_a_rectangle_outside_of_its_surface_ends_its_client() -> None:
    for change in (at(88, "iiii", 0, 0, 65, 48), at(88, "iiii", 9, 0, 3, 4), at(88, "i", -1)):
        world, _ = world_with_agent(lossy="always")
        change_record(world, 2, change)
        world.move("source", "target")
        assert "outside" in reason(world)


def test_surfaces_of_the_other_form_end_their_client() -> None:
    world, _ = world_with_agent(lossy="never")
    change_record(world, 2, lambda body: body[:80] + pack("<I5i", 1, 0, 0, 0, 4, 4))
    world.move("source", "target")
    assert "other form" in reason(world)


def test_an_honest_record_is_taken_as_it_is() -> None:
    for lossy in ("auto", "always", "never"):
        world, anna = world_with_agent(lossy=lossy)
        world.move("source", "target")
        assert set(world["target"].core.sessions) == {anna.core.session_id}


def test_a_device_that_was_not_connected_begins_with_its_whole_window() -> None:
    world, anna = world_with_agent()
    change_record(world, 10, lambda body: body[:8] + pack("<IBIIIII", 1, 0, 0, 0, 0, 0, 0))
    world.move("source", "target")
    assert set(world["target"].core.sessions) == {anna.core.session_id}


def test_tokens_to_send_with_stay_within_their_limit() -> None:
    world, anna = world_with_agent()
    change_record(world, 1, at(17, "I", 0xFFFFFFFF))
    world.move("source", "target")
    anna.channel(1).send(main.ClientAgentToken(num_tokens=0xFFFFFFFF))
    world.run()
    client = world["target"].core.agent.core.clients[anna.core.session_id]
    assert client.send_tokens == 0xFFFFFFFF


def test_a_record_gets_no_message_past_what_is_allowed() -> None:
    world, anna = world_with_agent(file_transfer=False)
    change = both(with_data(65, 21, pack_chunk(1, FILE)), at(25, "I", 1), at(13, "I", 9))

    def tokens(body: bytes) -> bytes:
        assert unpack_from("<I", body, 13)[0] <= 10
        return change(body)

    change_record(world, 1, tokens)
    world.move("source", "target")
    assert set(world["target"].core.sessions) == {anna.core.session_id}
    assert not world["target"].core.agent.core.buffers
    world, _ = world_with_agent(file_transfer=False)
    rest = with_data(65, 21, pack_chunk(1, bytes(50)))
    change_record(world, 1, both(rest, at(25, "I", 1), at(13, "I", 9), at(60, "I", 100)))
    world.move("source", "target")
    assert "field" in reason(world)


def test_words_of_the_server_are_not_taken_from_a_client() -> None:
    world, anna = world_with_agent()
    data = pack_chunk(2, pack_message(AgentType.CLIENT_DISCONNECTED, b""))
    change_record(world, 1, with_data(65, 21, data))
    world.move("source", "target")
    assert set(world["target"].core.sessions) == {anna.core.session_id}
    assert not world["target"].core.agent.core.buffers


# -- who may come ----------------------------------------------------------------------------------


def test_nobody_is_let_in_who_is_not_expected() -> None:
    world, anna = world_with_agent()
    world["source"].core.prepare_migration("target", 5900, now=world.now)
    world.run()
    assert anna.seen(MigrationAbandoned)
    assert [e.rule for e in world["target"].seen(ClientRefused)][:1] == ["session-not-expected"]
    world.prepare("source", "target", (anna.core.session_id ^ 1,))
    assert len(anna.seen(MigrationAbandoned)) == 2
    assert not world["target"].core.sessions


def test_a_session_is_expected_for_some_time() -> None:
    world, anna = world_with_agent()
    world["target"].core.expect_migration(anna.core.session_id, now=world.now)
    world.wait(EXPECT_SECONDS + 1)
    world["source"].core.prepare_migration("target", 5900, now=world.now)
    world.run()
    assert anna.seen(MigrationAbandoned)


def test_a_session_is_expected_once() -> None:
    world, anna = world_with_agent()
    world.prepare("source", "target", (None,))
    assert world["source"].core.clients_ready
    world["source"].core.cancel_migration(world.now)
    world.run()
    world["source"].core.prepare_migration("target", 5900, now=world.now)
    world.run()
    assert anna.seen(MigrationAbandoned)


def test_who_comes_has_to_know_the_ticket() -> None:
    world, anna = world_with_agent()
    world["target"].core.expect_migration(anna.core.session_id, "another", now=world.now)
    world["source"].core.prepare_migration("target", 5900, now=world.now)
    world.run()
    assert anna.seen(MigrationAbandoned)
    assert next(e.rule for e in world["target"].seen(ClientRefused)) == "ticket"


# -- messages out of place -------------------------------------------------------------------------


def test_a_mark_that_nobody_asked_for_ends_its_channel_alone() -> None:
    world, anna = world_with_agent()
    anna.channel(10).send(common.MigrateFlushMark())
    world.run()
    closed = world["source"].seen(ServerChannelClosed)
    assert [event.channel for event in closed] == ["port:0"]
    assert "nobody asked" in str(closed[0].error)
    assert set(world["source"].core.sessions) == {anna.core.session_id}


def test_a_second_mark_ends_its_channel() -> None:
    world, _ = world_with_agent()
    on_the_way(world, "source", 10, 4, lambda body: packed(4, body) * 2)
    world.move("source", "target")
    errors = [e.error for e in world["source"].seen(ServerChannelClosed) if e.error is not None]
    assert "second time" in str(errors[0])


def test_who_is_no_target_is_not_asked_to_be_one() -> None:
    world, anna = world_with_agent()
    anna.channel(1).send(main.MigrateDstDoSeamless(src_version=1))
    world.run()
    assert "expects no session" in reason(world, "source")


def test_a_target_is_asked_once() -> None:
    world, _ = world_with_agent()
    on_the_way(world, "target", 1, 110, lambda body: packed(110, body) * 2)
    world.prepare("source", "target")
    assert "second time" in reason(world)


def test_a_session_that_was_to_come_whole_does_not_begin_anew() -> None:
    world, _ = world_with_agent()
    on_the_way(world, "target", 1, 110, lambda body: packed(110, body) + packed(109, b""))
    world.prepare("source", "target")
    assert "handed over whole" in reason(world)


def test_a_record_has_to_be_the_first() -> None:
    world, _ = world_with_agent()
    on_the_way(world, "target", 10, 5, lambda body: packed(101, b"x") + packed(5, body))
    world.move("source", "target")
    assert "before the record" in reason(world)


def test_answers_are_believed_only_to_what_was_asked() -> None:
    channel = MainServer((1, 0), Framing(1, True))
    whole, begun = packed(111, b""), packed(102, b"")
    where = main.DstInfo(port=1, secure_port=0, host=b"there", cert_subject=b"")
    channel.offer(main.MigrateBegin(destination=where))
    assert [type(e) for e in channel.receive(begun, 1.0)] == [TargetAnswered]
    channel.take()
    assert not [e for e in channel.receive(begun, 1.0) if isinstance(e, TargetAnswered)]
    assert messages(channel.take())[0][0] == main.MigrateCancel.number
    channel.offer(main.MigrateBegin(destination=where))
    channel.receive(whole, 1.0)
    assert "has not offered" in str(channel.error)
