"""Who becomes a client of a server core, and who is refused, by which rule."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from tests.server_pair import PairClient, ServerPair

from aiospice.channels.server.base import ASKED_LIMIT
from aiospice.errors import (
    NeedSecured,
    PermissionDenied,
    RemoteProtocolError,
    SpiceTimeout,
)
from aiospice.server.config import Limits, ServerConfig
from aiospice.server.events import (
    ClientConnected,
    ClientDisconnected,
    ClientRefused,
    ServerChannelClosed,
    ServerChannelOpened,
)
from aiospice.wire import common, inputs, main, vmc
from aiospice.wire.link import LinkMessage, frame
from aiospice.wire.message import Message

CUTS = pytest.mark.parametrize("cut", [0, 1], ids=["whole", "byte-by-byte"])


def rules(pair: ServerPair) -> list[str]:
    """The rules that connections were refused by."""
    return [event.rule for event in pair.seen(ClientRefused)]


def ended(client: PairClient) -> str:
    """The error that a client's session ended with."""
    assert client.core.error is not None
    return str(client.core.error)


def post(client: PairClient, key: tuple[int, int], message: Message) -> None:
    """Have a client send whatever it likes."""
    client.channel(*key).send(message)
    client.pair.run()


@CUTS
def test_a_client_opens_every_channel_there_is(cut: int) -> None:
    pair = ServerPair(cut=cut)
    pair.host.sound(playback=True, record=True)
    anna = pair.client()
    opened = [event.channel for event in pair.seen(ServerChannelOpened)]
    assert opened[0] == "main:0"
    assert sorted(opened) == ["inputs:0", "main:0", "playback:0", "record:0"]
    (connected,) = pair.seen(ClientConnected)
    assert connected.client == anna.core.session_id
    assert anna.core.name == "aiospice"


@CUTS
def test_the_right_ticket_lets_in_and_a_wrong_one_does_not(cut: int) -> None:
    pair = ServerPair(ServerConfig(password="sesame"), cut=cut)
    assert pair.client(password="sesame").core.ready
    for guess in ("guess", "", "sesame2", "SESAME"):
        assert isinstance(pair.client(password=guess).core.error, PermissionDenied)
    assert rules(pair) == ["ticket"] * 4
    assert "sesame" not in str(pair.events)


def test_no_password_that_is_set_to_nothing_is_right() -> None:
    pair = ServerPair(ServerConfig(password=""))
    assert isinstance(pair.client(password="").core.error, PermissionDenied)
    assert rules(pair) == ["ticket"]


def test_a_ticket_expires_and_sessions_that_are_up_go_on() -> None:
    pair = ServerPair(ServerConfig(on_second_client="share"))
    pair.core.set_password("brief", expires_at=pair.now + 60)
    anna = pair.client(password="brief")
    pair.wait(61)
    assert isinstance(pair.client(password="brief").core.error, PermissionDenied)
    assert rules(pair) == ["ticket-expired"]
    assert anna.core.error is None
    pair.core.set_password("next")
    assert pair.client(password="next").core.ready


def test_a_ticket_for_one_use_lets_one_session_in_with_all_its_channels() -> None:
    pair = ServerPair(ServerConfig(on_second_client="share"))
    pair.core.set_password("once", once=True)
    assert "inputs:0" in {link.name for link in pair.client(password="once").core.links.values()}
    assert isinstance(pair.client(password="once").core.error, PermissionDenied)
    assert rules(pair) == ["ticket-used"]


def test_channels_that_are_for_tls_only_are_refused_without() -> None:
    pair = ServerPair(ServerConfig(secure_channels=frozenset({"inputs"})))
    anna = pair.client()
    assert isinstance(anna.core.refused[3, 0], NeedSecured)
    assert rules(pair) == ["tls-only"]
    assert not pair.client(secure=True).core.refused


def test_all_channels_can_be_for_tls_only() -> None:
    pair = ServerPair(ServerConfig(secure_channels=frozenset({"all"})))
    assert isinstance(pair.client().core.error, NeedSecured)


@pytest.mark.parametrize("secure", [False, True])
def test_over_tls_each_message_leaves_by_itself(secure: bool) -> None:
    """spice-gtk reads one message of a TLS record, and the next when the socket has more."""
    pair = ServerPair(freezes=False)
    pair.host.port("p").opened = True
    anna = pair.client(secure=secure)
    for key, message in (
        ((3, 0), inputs.KeyModifiers(modifiers=1)),
        ((10, 0), vmc.Data(data=b"x")),
    ):
        channel = anna.served.channels[key]
        for _ in range(5):
            channel.send(message)
        assert channel.queued == 5
        assert len(channel.take()) == (6 + len(message.body())) * (1 if secure else 5)


def test_a_session_that_is_not_expected_is_refused() -> None:
    pair = ServerPair()
    assert "BadConnectionId" in link_result(pair, connection_id=77, channel_type=1)
    assert "BadConnectionId" in link_result(pair, connection_id=77, channel_type=3)
    assert "BadConnectionId" in link_result(pair, connection_id=0, channel_type=3)
    assert rules(pair) == ["session-not-expected", "no-such-session", "no-such-session"]


def test_a_channel_that_is_not_there_is_refused() -> None:
    pair = ServerPair()
    session = pair.client().core.session_id
    for kind, number in ((2, 0), (3, 1), (10, 0), (1, 1)):
        connection = 0 if kind == 1 else session
        found = link_result(pair, connection_id=connection, channel_type=kind, channel_id=number)
        assert "ChannelNotAvailable" in found
    assert rules(pair) == ["no-such-channel"] * 4


def test_a_channel_is_opened_once() -> None:
    pair = ServerPair()
    session = pair.client().core.session_id
    assert "LinkFailed" in link_result(pair, connection_id=session, channel_type=3)
    assert rules(pair) == ["channel-open"]


def link_result(pair: ServerPair, **asked: int) -> str:
    """Link by hand, with an empty ticket; the name of the error that comes of it, or nothing."""
    from aiospice.aio.crypto import Crypto
    from aiospice.errors import AiospiceError
    from aiospice.link.client import LinkClient

    values: dict[str, Any] = {"channel_id": 0, **asked}
    link = LinkClient(crypto=Crypto(), **values)
    number = pair.raw()
    link.start()
    for _ in range(8):
        link.receive(pair.feed(number, link.take()))
    error = link.error
    assert error is None or isinstance(error, AiospiceError)
    return repr(error)


def link_bytes(**changes: Any) -> bytes:
    """A link message."""
    values: dict[str, Any] = {
        "connection_id": 0,
        "channel_type": 1,
        "channel_id": 0,
        "common_caps": (13,),
        "channel_caps": (),
    }
    return frame(LinkMessage(**{**values, **changes}))


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not-spice"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "not-spice"),
        (b"REDQ" + struct.pack("<III", 1, 0, 18), "version"),
        (b"REDQ" + struct.pack("<III", 2, 2, 1 << 20), "link-message"),
        (b"REDQ" + struct.pack("<III", 2, 2, 3) + b"abc", "link-message"),
        # More capability words than the message has.
        (link_bytes()[:26] + struct.pack("<III", 0x7FFFFFFF, 0, 18) + bytes(4), "link-message"),
        # Capability words that begin outside.
        (link_bytes()[:26] + struct.pack("<III", 1, 0, 0xFFFFFF00) + bytes(4), "link-message"),
        (link_bytes(channel_type=7), "no-such-channel"),
        (link_bytes(channel_type=200), "no-such-channel"),
    ],
)
@CUTS
def test_a_bad_link_message_is_refused(data: bytes, rule: str, cut: int) -> None:
    pair = ServerPair()
    number = pair.raw()
    step = cut or len(data)
    for at in range(0, len(data), step):
        pair.feed(number, data[at : at + step])
    assert rules(pair) == [rule]
    assert number in pair.closed
    assert not pair.core.connections


def test_a_link_has_a_limit() -> None:
    pair = ServerPair(ServerConfig(limits=Limits(link=10.0)))
    quiet, slow = pair.raw(), pair.raw()
    for byte in link_bytes()[:8]:
        pair.feed(slow, bytes([byte]))
        pair.wait(1.5)
    assert rules(pair) == ["link-time", "link-time"]
    assert {quiet, slow} <= set(pair.closed)


def test_a_second_client_takes_over() -> None:
    pair = ServerPair()
    anna = pair.client()
    bert = pair.client()
    assert bert.core.ready
    assert anna.core.error is not None
    (gone,) = pair.seen(ClientDisconnected)
    assert (gone.client, gone.reason) == (anna.core.session_id, "another client took over")
    assert list(pair.core.sessions) == [bert.core.session_id]


def test_a_second_client_is_refused_where_it_is_to_be() -> None:
    pair = ServerPair(ServerConfig(on_second_client="refuse"))
    anna = pair.client()
    assert pair.client().core.error is not None
    assert rules(pair) == ["second-client"]
    assert anna.core.error is None
    anna.leave()
    assert pair.client().core.ready


def test_a_wrong_password_takes_nothing_over() -> None:
    pair = ServerPair(ServerConfig(password="sesame"))
    anna = pair.client(password="sesame")
    pair.client(password="guess")
    assert anna.core.error is None


def test_many_clients_share_where_they_may() -> None:
    pair = ServerPair(ServerConfig(on_second_client="share", limits=Limits(clients=5)))
    clients = [pair.client() for _ in range(5)]
    assert all(client.core.ready for client in clients)
    assert pair.client().core.error is not None
    assert rules(pair) == ["clients"]


def test_a_client_that_does_not_answer_pings_is_dropped() -> None:
    pair = ServerPair()
    anna = pair.client()
    pair.wait(60)
    assert anna.core.error is None
    anna.deaf = {0}
    pair.wait(60)
    (gone,) = pair.seen(ClientDisconnected)
    assert "doesn't answer pings for 30 s" in gone.reason


def test_a_channel_that_answers_no_pings_is_closed_alone() -> None:
    pair = ServerPair()
    display = pair.host.display(0)
    display.resize(320, 200)
    anna = pair.client()
    pair.wait(5)
    anna.deaf = {2}
    display.pixels[:] = np.random.default_rng(1).integers(0, 256, (200, 320, 4), np.uint8)
    display.update()
    pair.wait(60)
    assert not pair.seen(ServerChannelClosed)
    pair.wait(90)
    (closed,) = pair.seen(ServerChannelClosed)
    assert closed.channel == "display:0"
    assert "doesn't answer pings for 120 s" in str(closed.error)
    assert anna.core.error is None
    assert pair.core.sessions


def test_a_client_that_leaves_is_gone_with_its_channels() -> None:
    pair = ServerPair()
    anna = pair.client()
    anna.leave()
    assert [event.channel for event in pair.seen(ServerChannelClosed)] == ["inputs:0", "main:0"]
    assert pair.core.sessions == {}
    assert pair.core.connections == {}
    assert pair.core.status(pair.now)["clients"] == []


@CUTS
@pytest.mark.parametrize(
    ("key", "message", "words"),
    [
        ((1, 0), main.ClientAgentData(data=bytes(2049)), "2049 bytes for the agent"),
        ((1, 0), common.MigrateFlushMark(), "no migration is in progress"),
        ((3, 0), common.MigrateFlushMark(), "no migration is in progress"),
        ((1, 0), common.ClientMigrateData(data=b"MNMD"), "expects no session"),
        ((3, 0), common.ClientMigrateData(data=b"ICMD"), "expects no session"),
        ((1, 0), main.MigrateDstDoSeamless(src_version=1), "expects no session"),
        ((1, 0), main.ClientMigrateEnd(), "expects no session"),
        ((3, 0), common.AckSync(generation=5), "was not asked for"),
        ((3, 0), inputs.KeyScancode(codes=bytes(5000)), "limit"),
        ((3, 0), inputs.MousePress(button=9, buttons_state=0), "no button 9"),
    ],
)
def test_what_the_protocol_forbids_ends_the_channel_with_a_reason(
    key: tuple[int, int], message: Message, words: str, cut: int
) -> None:
    pair = ServerPair(cut=cut)
    anna = pair.client()
    post(anna, key, message)
    errors = [event.error for event in pair.seen(ServerChannelClosed) if event.error]
    assert len(errors) == 1
    error = errors[0]
    assert isinstance(error, RemoteProtocolError)
    assert words in str(error)
    where = "main:0 of 10.0.0.1:1" if key == (1, 0) else "inputs:0 of 10.0.0.1:2"
    assert error.where == where
    # Main's end is the session's; that of another channel is its own.
    assert bool(pair.core.sessions) == (key != (1, 0))


def test_a_late_answer_to_a_migration_is_answered_by_a_cancel() -> None:
    pair = ServerPair()
    anna = pair.client()
    post(anna, (1, 0), main.MigrateConnected())
    assert pair.core.sessions


def test_who_asks_and_does_not_read_is_closed() -> None:
    pair = ServerPair(freezes=False)
    anna = pair.client()
    anna.deaf = {1}
    pipe = pair.pipe((1, 0))
    pipe.to_server += struct.pack("<HI", main.AttachChannels.number, 0) * (30 * ASKED_LIMIT)
    pair.run()
    (gone,) = pair.seen(ClientDisconnected)
    assert "asks and does not read" in gone.reason


def test_a_client_that_leaves_its_messages_unread_is_dropped() -> None:
    pair = ServerPair(freezes=False)
    pair.host.sound()
    anna = pair.client()
    pair.host.playback_start()
    anna.deaf = {5}
    for _ in range(200):
        pair.host.playback(bytes(3840))
        pair.run()
    pair.wait(40)
    closed = [event for event in pair.seen(ServerChannelClosed) if event.channel == "playback:0"]
    assert isinstance(closed[0].error, SpiceTimeout)
    assert anna.core.error is None
