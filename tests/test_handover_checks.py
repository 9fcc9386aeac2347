"""What a target believes of a client that comes with a session, and a source of one that leaves.

A client may change the records that it carries. Each test changes one thing; the client's session
ends with an error that says what was wrong, and the server serves the next.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from struct import pack, pack_into, unpack_from
from typing import Any

import pytest
from lz4.block import compress
from tests.test_handover_shown import check, show, two_screens
from tests.two_servers import Line, Node, TwoServers, WorldClient

from aiospice.agent.guest import GuestAgent
from aiospice.channels.framing import Framing
from aiospice.channels.server.base import ServerChannel
from aiospice.channels.server.inputs import KeyChanged
from aiospice.channels.server.main import MainServer, TargetAnswered
from aiospice.channels.server.vmc import VmcServer
from aiospice.client.config import ClientConfig
from aiospice.client.picture import Picture
from aiospice.migration.client import MigrationFinished
from aiospice.server.config import ServerConfig
from aiospice.server.events import ClientDisconnected, ServerChannelClosed
from aiospice.server.guest import Host
from aiospice.server.session import channel_class
from aiospice.wire import common, main, vmc
from aiospice.wire.agent import AgentType
from aiospice.wire.agent_stream import pack_chunk, pack_message
from aiospice.wire.header import MINI

#: What a target has to check of a client, by number, and the tests of this module that show it
#: (``RULES``: entries of that number). The others: 10 is about servers that seal their records.
CHECKS: dict[int, tuple[str, str]] = {
    1: ("sessions come only where and while they are expected", "tests/test_handover_who.py"),
    2: ("a mark comes once, and only if MIGRATE asked for it", "mark"),
    3: ("only who arrives asks to be taken over whole, once", "asked"),
    4: ("a session that comes whole does not begin anew", "begin_anew"),
    5: ("answers are believed only to what was asked, once", "answers"),
    6: ("letters and version are those of the record", "RULES"),
    7: ("a record has its least length before it is read", "RULES"),
    8: ("nor is it longer than it can be, before room is made for it", "RULES, room"),
    9: ("blocks lie in order, without gaps, and nothing is behind them", "RULES"),
    11: ("a device is connected or not; one that wasn't begins as new", "RULES, not_connected"),
    12: ("what the guest hasn't read lies inside of the record", "RULES"),
    13: ("tokens and what they were spent on are one window at most", "RULES"),
    14: ("bytes for the guest came in as many messages as the record says", "RULES"),
    15: ("tokens to send with have a limit", "within_their_limit"),
    16: (
        "bytes for the agent are judged again",
        "RULES, past_what_is, words_of_the_server",
    ),
    17: ("a chunk's header has 8 bytes at most", "RULES"),
    18: ("a chunk has port and size of one", "RULES"),
    19: ("a message's header is read only behind a chunk's, up to 19 bytes", "RULES"),
    20: ("the part of it lies inside of the record", "RULES"),
    21: ("verdicts are those that a message can be under way with", "RULES, past_what_is_allowed"),
    22: ("what is to come of a message has its limit", "RULES"),
    23: ("flags are 0 or 1", "RULES"),
    24: ("a card's message is one, inside of the record, and has a card's size", "RULES"),
    25: ("motion that isn't acknowledged has a limit", "RULES"),
    26: ("surfaces fill their block, in the form that is set here", "RULES, other_form"),
    27: ("surfaces are known here, and come once", "RULES"),
    28: ("what is lossy lies on its surface", "rectangle"),
    29: ("the window of GLZ has its limits; displays share it", "RULES, share_their_caches"),
    30: ("the cache has its limits; one display empties it", "RULES, second_display, no_display"),
    31: ("serials are those of a session", "RULES"),
    32: ("a thin line is one client's", "thin_line"),
    33: ("a piece for the agent has 2048 bytes at most", "piece_for_the_agent"),
    34: ("what unpacks has its limits, and counts", "unpacks"),
}
Change = Callable[[bytes], bytes]
PORT = "org.example.port"


def machine(host: Host) -> None:
    host.display(0).resize(64, 48)
    host.display(0).surface(16, 16)
    host.port(PORT).opened = True
    host.smartcard()
    host.agent()


def world_with_agent(*, more: int = 0, **settings: Any) -> tuple[TwoServers, WorldClient]:
    """A client on the source, whose guest has an agent; ``more`` share it."""
    if more:
        settings["on_second_client"] = "share"
    world = TwoServers(machine, ServerConfig(**settings), freezes=False)
    device, agent = world["source"].host.agent(), GuestAgent()
    device.opened = True
    anna = world.client()
    for _ in range(more):
        world.client()
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


def packed_as(number: int, body: bytes, _: bytes) -> bytes:
    """Another message in place of one."""
    return packed(number, body)


def on_the_way(
    world: TwoServers, node: str, kind: int, number: int, change: Change, id: int | None = None
) -> None:
    """Change the bodies of one kind of message of the first client to a server, header and all."""

    def forge(line: Line, data: bytes) -> bytes:
        connection = world[node].core.connections.get(line.number)
        channel = connection.channel if connection is not None else None
        if line.node.name != node or channel is None or channel.key[0] != kind:
            return data
        if line.client is not world.clients[0] or id not in (None, channel.key[1]):
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
    """Why the first client's session has ended; the server serves the others, and the next."""
    ended = world[node].seen(ClientDisconnected)
    assert len(ended) == 1, "the session goes on"
    world.forge = lambda line, data: data
    for other in world.clients[1:]:
        assert serves(world[node], world, other)
    found = WorldClient(ClientConfig(host=node, port=5900))
    if world[node].core.config.on_second_client == "share" or not world[node].core.sessions:
        world.clients.append(found)
        found.core.start(world.now)
        world.run()
        assert serves(world[node], world, found)
    return ended[0].reason


def serves(node: Node, world: TwoServers, client: WorldClient) -> bool:
    """Whether a client is at work there: what it types comes, what is drawn is shown."""
    before = len(node.seen(KeyChanged))
    client.channel(3).key_down(0x1E)
    client.channel(3).key_up(0x1E)
    node.host.display(0).fill(1, 2, 3, 4, before + 7)
    world.run()
    world.wait(1.5)
    typed = [event.pressed for event in node.seen(KeyChanged)[before:]]
    shown = Picture(64, 48, node.host.display(0).pixels.tobytes())
    return typed == [True, False] and client.core.screens[0].snapshot() == shown


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


def card(part: bytes) -> Change:
    """Put what was read of a card's message into a record that has none."""
    return lambda body: body[:34] + pack("<II", len(part), 42) + part


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
    ("24 a card's message that is too long", 8, card(pack(">III", 1, 0, 1 << 30)), "card message"),
    ("24 more than one card's message", 8, card(bytes(13)), "more than one"),
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
    world, _ = world_with_agent(more=1)
    change_record(world, kind, change)
    world.move("source", "target")
    assert [event.mode for event in world.clients[1].seen(MigrationFinished)] == ["seamless"]
    assert text in reason(world)


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


def test_a_mark_that_migrate_did_not_ask_for_ends_the_channel() -> None:
    for flags in (0, int(common.MigrateFlags.NEED_DATA_TRANSFER)):
        channel = VmcServer((10, 0), Framing(10, True))
        channel.migrate(flags)
        channel.take()
        assert channel.receive(packed(4, b""), 1.0) == []
        assert "nobody asked" in str(channel.error)


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [1, 2, 3, 8, 10])
def test_no_room_is_made_for_a_record_that_is_too_long(kind: int) -> None:
    channel: ServerChannel = channel_class(kind)((kind, 0), Framing(kind, True))
    channel.expect_record()
    most = channel.framing.limit
    assert channel.receive(MINI.pack(5, most), 1.0) == []
    assert channel.error is None
    other: ServerChannel = channel_class(kind)((kind, 0), Framing(kind, True))
    other.expect_record()
    other.receive(MINI.pack(5, most + 1), 1.0)
    assert "limit" in str(other.error)
    assert most <= (16 << 20 if kind == 10 else 1 << 20)


def test_a_piece_for_the_agent_has_its_limit_before_room_is_made_for_it() -> None:
    world, anna = world_with_agent()
    anna.channel(1).send(main.ClientAgentData(data=bytes(2049)))
    world.run()
    assert "2049 bytes for the agent" in reason(world, "source")
    channel = MainServer((1, 0), Framing(1, True))
    channel.receive(MINI.pack(main.ClientAgentData.number, 1 << 30), 1.0)
    assert "limit" in str(channel.error)


def test_what_unpacks_has_its_limit_and_counts_as_what_it_unpacks_to() -> None:
    bomb = compress(bytes(1 << 20), store_size=False)
    for size, text in ((1 << 31, "uncompressed_size"), (1 << 20, "the limit is 16384")):
        world, anna = world_with_agent()
        body = pack("<BI", 1, size) + bomb
        on_the_way(world, "source", 10, 101, partial(packed_as, 102, body))
        anna.channel(10).write(b"x")
        world.run()
        closed = world["source"].seen(ServerChannelClosed)
        assert [event.channel for event in closed] == ["port:0"]
        assert text in str(closed[0].error)
        assert set(world["source"].core.sessions) == {anna.core.session_id}
    small = compress(bytes(4000), store_size=False)
    packet = vmc.ClientCompressedData(type=1, uncompressed_size=4000, data=small).body()
    channel = VmcServer((10, 0), Framing(10, True))
    channel.allow(100, 5000)
    assert len(channel.receive(packed(102, packet) * 9, 1.0)) == 2
    assert channel.reading_paused


# -- several displays, several clients -------------------------------------------------------------


def two_displays() -> tuple[TwoServers, WorldClient]:
    world = TwoServers(two_screens, freezes=False)
    return world, world.client()


@pytest.mark.parametrize(("offset", "text"), [(17, "other caches"), (59, "other caches")])
def test_displays_of_a_session_share_their_caches(offset: int, text: str) -> None:
    world, _ = two_displays()
    on_the_way(world, "target", 2, 5, lambda body: packed(5, at(offset, "B", 7)(body)), id=1)
    world.move("source", "target")
    ended = world["target"].seen(ClientDisconnected)
    assert text in ended[0].reason


def test_a_second_display_that_froze_the_cache_is_refused() -> None:
    world, _ = two_displays()
    change_record(world, 2, at(26, "B", 1))
    world.move("source", "target")
    assert "second channel that froze" in world["target"].seen(ClientDisconnected)[0].reason


def test_the_cache_is_emptied_if_no_display_says_that_it_froze_it() -> None:
    world, anna = two_displays()
    show(world["source"], 1, 20)
    check(world, world["source"], anna)
    change_record(world, 2, at(26, "B", 0))
    world.move("source", "target")
    session = world["target"].core.sessions[anna.core.session_id]
    assert session.caches.cleared_by is not None
    for place in (20, 40, 60):
        show(world["target"], 1, place)
        check(world, world["target"], anna)
    assert session.caches.pixels


def test_a_thin_line_is_that_of_one_client() -> None:
    world, _ = world_with_agent(more=1, lossy="always")
    change_record(world, 2, at(16, "B", 1))
    world.move("source", "target")
    sessions = world["target"].core.sessions
    thin = [sessions[client.core.session_id].helds[0].thin for client in world.clients]
    assert thin == [True, False]
    assert all(serves(world["target"], world, client) for client in world.clients)


# -- all of them -----------------------------------------------------------------------------------


def test_every_check_has_its_tests() -> None:
    assert set(CHECKS) | {10} == set(range(1, 35))
    rules = {int(name.split()[0]) for name, *_ in RULES}
    tests = [name for name in globals() if name.startswith("test_")]
    for number, (_, where) in CHECKS.items():
        for part in where.split(", "):
            if part.endswith(".py"):
                assert (Path(__file__).parent.parent / part).exists()
            elif part == "RULES":
                assert number in rules, number
            else:
                assert any(part in name for name in tests), (number, part)
    assert rules <= set(CHECKS)
