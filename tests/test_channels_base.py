"""What all channels have in common: acknowledgements, pings, waits, lists, unknown messages."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from tests.script import Play, Server, surface

from aiospice.channels.events import ChannelClosing, Notified, UnknownMessage
from aiospice.client.moving import ChannelGone
from aiospice.client.screen import SurfaceCreated
from aiospice.client.session import SessionEnded
from aiospice.errors import DecodeError, RemoteProtocolError
from aiospice.migration.links import PARKED_LIMIT
from aiospice.wire import common, cursor, inputs, main
from aiospice.wire.channels import CHANNEL_LIMITS


@pytest.fixture(params=[0, 1], ids=["whole", "bytewise"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(cut=request.param)


def up(play: Play, *names: str, mini: bool = True) -> Server:
    source = play.server("source")
    source.mini_header(mini)
    play.connect(source, *names)
    return source


def ping(number: int = 1) -> common.Ping:
    return common.Ping(id=number, timestamp=number << 40, data=b"padding")


def wait(*points: tuple[int, int, int]) -> common.WaitForChannels:
    return common.WaitForChannels(
        waits=tuple(
            common.WaitForChannel(channel_type=kind, channel_id=number, message_serial=serial)
            for kind, number, serial in points
        )
    )


def count(source: Server, name: str, kind: type) -> int:
    return sum(isinstance(message, kind) for message in source[name].log)


# -- acknowledgements, pings, texts ----------------------------------------------------------------


def test_acknowledgements_are_counted_exactly(play: Play) -> None:
    source = up(play, "cursor:0")
    source.cursor.sends(common.SetAck(generation=7, window=3))
    source.cursor.gets(common.AckSync, generation=7)
    for number in range(1, 10):
        source.cursor.sends(cursor.Hide())
        assert count(source, "cursor", common.Ack) == number // 3


def test_a_new_window_replaces_the_old_one(play: Play) -> None:
    source = up(play, "cursor:0")
    source.cursor.sends(common.SetAck(generation=1, window=4), cursor.Hide(), cursor.Hide())
    source.cursor.sends(common.SetAck(generation=2, window=2), cursor.Hide())
    assert count(source, "cursor", common.Ack) == 0
    source.cursor.sends(cursor.Hide())
    assert count(source, "cursor", common.Ack) == 1
    source.cursor.sends(common.SetAck(generation=3, window=0))
    source.cursor.sends(*[cursor.Hide()] * 10)
    assert count(source, "cursor", common.Ack) == 1
    assert count(source, "cursor", common.AckSync) == 3


def test_a_ping_is_answered_with_its_numbers(play: Play) -> None:
    source = up(play, "inputs:0")
    source.inputs.sends(ping(5))
    source.inputs.gets(common.Pong, id=5, timestamp=5 << 40)


def test_answers_go_ahead_of_what_is_queued(play: Play) -> None:
    source = up(play, "inputs:0")
    source.inputs.deaf = True
    play.core.channels[3, 0].send(inputs.KeyDown(code=30))
    play.core.channels[3, 0].send(inputs.KeyUp(code=158))
    source.inputs.sends(ping())
    source.inputs.deaf = False
    play.run()
    source.inputs.gets(common.Pong)
    source.inputs.gets(inputs.KeyDown)
    source.inputs.gets(inputs.KeyUp)


def test_a_peer_that_pings_and_never_reads_is_given_up(play: Play) -> None:
    source = up(play, "cursor:0")
    source.cursor.deaf = True
    flood = common.Ping(id=1, timestamp=1, data=b"")
    body = flood.body()
    tracemalloc.start()
    try:
        for _ in range(200):
            if source.cursor.left:
                break
            for _ in range(1000):
                source.cursor.post(flood.number, body)
            play.cut = 1 << 16
            play.run()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(play.sees(ChannelGone).error, RemoteProtocolError)
    assert peak < 32 << 20


def test_a_server_that_asks_and_never_reads_is_given_up(play: Play) -> None:
    source = up(play)
    source.main.deaf = True
    play.cut = 1 << 16
    for _ in range(100):
        if source.main.left:
            break
        for _ in range(1000):
            source.main.post(main.AgentConnected.number, b"")
        play.run()
    assert isinstance(play.sees(SessionEnded).error, RemoteProtocolError)


def test_texts_and_farewells_reach_the_user(play: Play) -> None:
    source = up(play, "cursor:0")
    source.cursor.sends(
        common.Notify(time_stamp=1, severity=2, visibility=1, what=0, text=b"a\xff\x1bb\0"),
        common.Disconnecting(time_stamp=1, reason=7),
    )
    assert play.sees(Notified, channel="cursor:0", severity=2).text == "a\ufffd\x1bb"
    play.sees(ChannelClosing, channel="cursor:0", reason=7)


def test_unknown_messages_are_counted_and_shown_by_their_first_bytes(play: Play) -> None:
    source = up(play, "cursor:0")
    source.cursor.sends_raw(99, bytes(range(100)))
    event = play.sees(UnknownMessage, channel="cursor:0", number=99, size=100)
    assert event.head == bytes(range(32))
    source.cursor.sends_raw(99, b"")
    source.cursor.sends_raw(4711, b"x")
    assert play.core.channels[4, 0].unknown == {99: 2, 4711: 1}
    source.cursor.sends(ping())
    source.cursor.gets(common.Pong)


# -- bad messages ----------------------------------------------------------------------------------


def test_a_message_that_is_too_short_names_channel_message_field_and_offset(play: Play) -> None:
    source = up(play, "cursor:0")
    source.cursor.sends_raw(common.SetAck.number, b"\1\0\0\0\2")
    error = play.sees(ChannelGone).error
    assert isinstance(error, DecodeError)
    text = str(error)
    assert "cursor:0" in text
    assert "SetAck" in text
    assert "window" in text
    assert "offset 4" in text
    assert source.cursor.left


@pytest.mark.parametrize("name", ["main", "inputs", "cursor", "playback", "port", "display"])
def test_a_length_above_the_channels_limit_costs_no_memory(name: str) -> None:
    play = Play()
    source = play.server("source")
    play.connect(source, *([] if name == "main" else [f"{name}:0"]))
    limit = CHANNEL_LIMITS[source[name].key[0]]  # type: ignore[index]
    tracemalloc.start()
    try:
        source[name].sends_bytes(struct.pack("<HI", 101, limit + 1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    assert source[name].left
    gone = play.sees(SessionEnded) if name == "main" else play.sees(ChannelGone)
    assert isinstance(gone.error, DecodeError)
    assert name in str(gone.error)


def test_a_length_within_the_limit_takes_memory_only_as_bytes_come() -> None:
    play = Play()
    source = play.server("source")
    play.connect(source, "display:0")
    tracemalloc.start()
    try:
        source.display.sends_bytes(struct.pack("<HI", 101, CHANNEL_LIMITS[2]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    assert not source.display.left


# -- lists of sub-messages -------------------------------------------------------------------------


def listed(*parts: tuple[int, bytes], before: bytes = b"") -> tuple[bytes, int]:
    """A body with a list of sub-messages behind ``before``, and where the list begins."""
    at = len(before) + 2 + 4 * len(parts)
    places, blob = [], b""
    for number, body in parts:
        places.append(at + len(blob))
        blob += struct.pack("<HI", number, len(body)) + body
    return before + struct.pack(f"<H{len(parts)}I", len(parts), *places) + blob, len(before)


def test_a_list_message_is_its_parts_in_order(play: Play) -> None:
    source = up(play, "cursor:0")
    body, _ = listed((4, ping(1).body()), (99, b"?"), (4, ping(2).body()))
    source.cursor.sends_raw(common.List.number, body)
    source.cursor.gets(common.Pong, id=1)
    source.cursor.gets(common.Pong, id=2)
    play.sees(UnknownMessage, number=99)
    assert play.core.channels[4, 0].serial == 1


def test_sub_messages_of_a_full_header_come_before_the_message_itself(play: Play) -> None:
    source = up(play, "cursor:0", mini=False)
    body, at = listed((4, ping(1).body()), (4, ping(2).body()), before=ping(3).body())
    source.cursor.sends_raw(4, body, serial=41, sub_list=at)
    assert [source.cursor.gets(common.Pong).id for _ in range(3)] == [1, 2, 3]
    assert play.core.channels[4, 0].serial == 41


def test_a_wait_among_sub_messages_holds_back_the_rest_and_the_message_itself(play: Play) -> None:
    source = up(play, "display:0", "display:1", mini=False)
    body, at = listed((5, wait((2, 1, 2)).body()), (4, ping(1).body()), before=ping(2).body())
    source.display.sends_raw(4, body, sub_list=at)
    source.display.gets_nothing()
    source["display:1"].sends(ping(8), ping(9))
    source.display.gets(common.Pong, id=1)
    source.display.gets(common.Pong, id=2)
    assert play.core.channels[2, 0].serial == 1


@pytest.mark.parametrize(
    "body",
    [b"\1", b"\1\0", b"\1\0\xff\xff\xff\xff", b"\xff\xff" + b"\6\0\0\0" * 8],
    ids=["short", "no-offset", "outside", "too-many"],
)
def test_bad_lists_end_the_channel(play: Play, body: bytes) -> None:
    source = up(play, "cursor:0")
    source.cursor.sends_raw(common.List.number, body)
    assert isinstance(play.sees(ChannelGone).error, DecodeError)


# -- waiting for other channels --------------------------------------------------------------------


def test_a_display_waits_for_another_one(play: Play) -> None:
    source = up(play, "display:0", "display:1")
    source["display:1"].sends(ping())
    source.display.sends(wait((2, 1, 3)), surface())
    play.sees_no(SurfaceCreated)
    source["display:1"].sends(ping())
    play.sees_no(SurfaceCreated)
    source["display:1"].sends(ping())
    play.sees(SurfaceCreated)
    play.wait(100)
    play.sees_no(ChannelGone)


def test_a_wait_for_what_has_been_reached_is_no_wait(play: Play) -> None:
    source = up(play, "display:0", "display:1")
    source["display:1"].sends(ping(), ping())
    source.display.sends(wait((2, 1, 2), (2, 1, 1)), surface())
    play.sees(SurfaceCreated)


def test_two_displays_wait_for_each_other_in_turn(play: Play) -> None:
    source = up(play, "display:0", "display:1")
    source.display.sends(wait((2, 1, 1)), ping(1))  # serial 1, 2
    source["display:1"].sends(ping(7))  # lets display 0 go on
    source["display:1"].sends(wait((2, 0, 3)), ping(8))
    source.display.gets(common.Pong, id=1)
    assert count(source, "display:1", common.Pong) == 1
    source.display.sends(ping(2))
    source["display:1"].gets(common.Pong, id=7)
    source["display:1"].gets(common.Pong, id=8)


def test_a_wait_for_itself_is_an_error(play: Play) -> None:
    source = up(play, "display:0")
    source.display.sends(wait((2, 0, 1)))
    assert "wait for itself" in str(play.sees(ChannelGone).error)


def test_a_wait_for_a_channel_that_is_not_there_is_over_at_once(play: Play) -> None:
    source = up(play, "display:0")
    source.display.sends(wait((2, 3, 1 << 60)), surface())
    play.sees(SurfaceCreated)


def test_a_wait_ends_when_the_other_channel_is_gone(play: Play) -> None:
    source = up(play, "display:0", "display:1")
    source.display.sends(wait((2, 1, 1 << 60)), surface())
    play.sees_no(SurfaceCreated)
    source["display:1"].closes()
    play.wait(31)
    play.sees(SurfaceCreated)
    assert (2, 0) in play.core.channels


def test_a_wait_that_never_ends_has_a_limit(play: Play) -> None:
    source = up(play, "display:0", "display:1")
    source.display.sends(wait((2, 1, 1000)))
    play.wait(29.9)
    play.sees_no(ChannelGone)
    play.wait(0.2)
    gone = play.sees(ChannelGone, channel="display:0")
    assert "30 s" in str(gone.error)
    assert play.core.next_wake() is None


def test_a_channel_that_is_gone_while_it_waits_is_forgotten(play: Play) -> None:
    source = up(play, "display:0", "display:1")
    source.display.sends(wait((2, 1, 1000)))
    source.display.closes()
    play.sees(ChannelGone, channel="display:0")
    play.wait(100)
    assert play.core.next_wake() is None


def test_thousands_of_waits_that_are_over_at_once_are_just_read(play: Play) -> None:
    source = up(play, "display:0", "display:1")
    body = wait((2, 9, 5)).body()
    for _ in range(3000):
        source.display.post(common.WaitForChannels.number, body)
    source.display.sends(ping())
    source.display.gets(common.Pong)


def test_a_waiting_channel_is_not_read_beyond_a_limit() -> None:
    play = Play()
    source = up(play, "display:0", "display:1")
    source.display.sends(wait((2, 1, 1)))
    source.display.sends_raw(99, bytes(4 * PARKED_LIMIT))
    source.display.sends(ping())
    assert source.display.paused
    assert play.core.channels[2, 0].framing.buffered < PARKED_LIMIT + (128 << 10)
    source["display:1"].sends(ping())
    assert not source.display.paused
    source.display.gets(common.Pong)
    play.sees(UnknownMessage, size=4 * PARKED_LIMIT)


def test_the_serial_of_a_full_header_counts_not_the_number_of_messages(play: Play) -> None:
    source = up(play, "display:0", "display:1", mini=False)
    source.display.sends(wait((2, 1, 500)), ping())
    source["display:1"].sends_raw(4, ping().body(), serial=499)
    source.display.gets_nothing()
    source["display:1"].sends_raw(4, ping().body(), serial=500)
    source.display.gets(common.Pong)
