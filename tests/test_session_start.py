"""How a session begins: links, the list of channels, and what can go wrong on the way."""

from __future__ import annotations

import pytest
from tests.script import Play, channel_key, destination, surface

from aiospice.channels.events import UnknownMessage
from aiospice.client.moving import ChannelGone
from aiospice.client.screen import SurfaceCreated
from aiospice.client.session import (
    ChannelOpened,
    ChannelSkipped,
    SessionEnded,
    SessionPhase,
    SessionReady,
)
from aiospice.errors import (
    AddressError,
    BadConnectionId,
    ChannelNotAvailable,
    ConnectError,
    InvalidData,
    InvalidMagic,
    LinkError,
    LinkFailed,
    NeedSecured,
    NeedUnsecured,
    PermissionDenied,
    RemoteProtocolError,
    SessionLost,
    SpiceTimeout,
    VersionMismatch,
)
from aiospice.migration.client import MigrationFinished
from aiospice.wire import common, display, main
from aiospice.wire.common import LinkCode


@pytest.fixture(params=[0, 1], ids=["whole", "bytewise"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(cut=request.param)


def test_init_attach_channels_list_and_then_the_channels_with_the_session_id(play: Play) -> None:
    source = play.server("source")
    play.start(source)
    assert play.core.phase is SessionPhase.CONNECTING
    assert source.main.link.request is not None
    assert source.main.link.request.connection_id == 0
    source.main.gets_nothing()
    source.main.sends(source.init(session_id=0xBEEF))
    source.sessions.add(0xBEEF)
    source.main.gets(main.AttachChannels)
    source.lists("display:0", "inputs:0", "cursor:0")
    for name in ("display:0", "inputs:0", "cursor:0"):
        request = source[name].link.request
        assert request is not None
        assert request.connection_id == 0xBEEF
    source.display.gets(display.Init, pixmap_cache_id=1, glz_dictionary_id=1)
    source.display.gets(display.PreferredCompression)
    play.sees(SessionReady, channels=("cursor:0", "display:0", "inputs:0", "main:0"))
    assert [event.channel for event in play.happened(ChannelOpened)] == [
        "main:0",
        "display:0",
        "inputs:0",
        "cursor:0",
    ]
    source.main.gets_nothing()


def test_a_session_survives_a_pickle_at_every_byte() -> None:
    play = Play(cut=1, each_byte=True)
    source, target = play.server("source"), play.server("target")
    play.connect(source, "display:0", "port:0")
    source.display.sends(surface())
    play.sees(SurfaceCreated)
    play.prepare(source, target)
    play.hand_over(source, target, "display", "port", "main")
    play.sees(MigrationFinished)


def test_a_password_is_checked_and_never_shown(play: Play) -> None:
    source = play.server("source")
    source.password = "geheim!"
    play.start(source, password="falsch!")
    ended = play.sees(SessionEnded)
    assert isinstance(ended.error, PermissionDenied)
    assert "wrong" in str(ended.error)
    assert "source:5900" in str(ended.error)
    assert "falsch" not in str(ended.error) + repr(play.core.config) + repr(play.core.links)
    right = Play(cut=play.cut)
    source = right.server("source")
    source.password = "geheim!"
    right.start(source, password="geheim!")
    right.sees(ChannelOpened, channel="main:0")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1, LinkFailed),
        (2, InvalidMagic),
        (3, InvalidData),
        (4, VersionMismatch),
        (5, NeedSecured),
        (6, NeedUnsecured),
        (7, PermissionDenied),
        (8, BadConnectionId),
        (9, ChannelNotAvailable),
        (77, LinkFailed),
    ],
)
@pytest.mark.parametrize("late", [False, True], ids=["reply", "result"])
def test_each_link_error_reaches_the_user(code: int, kind: type[LinkError], late: bool) -> None:
    play = Play(cut=1)
    source = play.server("source")
    (source.results if late else source.refusals)[1, 0] = code
    play.start(source)
    error = play.sees(SessionEnded).error
    assert type(error) is kind
    assert "spice://source:5900" in str(error)
    assert play.core.error is error
    assert play.core.phase is SessionPhase.CLOSED
    assert not play.peers


def test_need_secured_leads_to_the_tls_port(play: Play) -> None:
    source = play.server("source", 5900, 5901)
    source.secured = {channel_key("main"), channel_key("inputs")}
    play.connect(source, "inputs:0", "cursor:0")
    assert source.main.endpoint.tls
    assert source.inputs.endpoint.tls
    assert not source.cursor.endpoint.tls
    assert play.sees(SessionReady).channels == ("cursor:0", "inputs:0", "main:0")
    play.sees_no(ChannelSkipped)


def test_need_secured_without_a_tls_port_is_an_error(play: Play) -> None:
    source = play.server("source")
    source.secured = {(1, 0)}
    play.start(source)
    assert isinstance(play.sees(SessionEnded).error, NeedSecured)


def test_need_secured_over_tls_is_not_tried_for_ever(play: Play) -> None:
    source = play.server("source", 5900, 5901)
    source.refusals[1, 0] = LinkCode.NEED_SECURED
    play.start(source)
    assert isinstance(play.sees(SessionEnded).error, NeedSecured)
    assert len(play.opened) == 2


def test_a_channel_that_must_be_secure_never_goes_to_the_plain_port(play: Play) -> None:
    source = play.server("source", 5900, 5901)
    play.start(source, secure_channels=("inputs",))
    source.main.sends(source.init())
    source.lists("inputs:0", "display:0")
    assert source.inputs.endpoint.tls
    assert not source.display.endpoint.tls
    with pytest.raises(AddressError):
        Play().start(play.server("other"), secure_channels=("main",))


def test_channels_that_cannot_be_opened_are_told_and_the_others_go_on(play: Play) -> None:
    source = play.server("source")
    source.refusals[channel_key("playback")] = LinkCode.CHANNEL_NOT_AVAILABLE
    play.start(source)
    source.main.sends(source.init())
    source.lists("playback:0", "tunnel:0", "cursor:0")
    skipped = {event.channel: event.reason for event in play.happened(ChannelSkipped)}
    assert set(skipped) == {"playback:0", "tunnel:0"}
    assert "type of channel" in skipped["tunnel:0"]
    assert play.sees(SessionReady).channels == ("cursor:0", "main:0")


def test_unknown_channel_types_are_skipped(play: Play) -> None:
    source = play.server("source")
    play.start(source)
    source.main.sends(source.init())
    source.main.sends(
        main.ChannelsList(available=(main.ChannelId(type=200, id=3), main.ChannelId(type=4, id=0)))
    )
    assert play.sees(ChannelSkipped).channel == "channel-200:3"
    assert play.sees(SessionReady).channels == ("cursor:0", "main:0")


def test_only_wanted_channels_are_opened(play: Play) -> None:
    source = play.server("source")
    play.start(source, channels=("cursor",))
    source.main.sends(source.init())
    source.lists("display:0", "cursor:0", "cursor:0", "main:0")
    assert play.sees(SessionReady).channels == ("cursor:0", "main:0")
    assert sum(peer.key == (4, 0) for peer in source.all) == 1


def test_the_list_coming_again_opens_only_what_is_new(play: Play) -> None:
    source = play.server("source")
    play.connect(source, "cursor:0")
    source.lists("cursor:0", "inputs:0")
    assert set(play.core.channels) == {(1, 0), (3, 0), (4, 0)}
    assert len(source.all) == 3


@pytest.mark.parametrize("what", ["unreachable", "black_hole"])
def test_a_server_that_cannot_be_reached(play: Play, what: str) -> None:
    source = play.server("source")
    setattr(source, what, True)
    play.start(source)
    play.wait(60)
    error = play.sees(SessionEnded).error
    assert isinstance(error, ConnectError)
    assert "source:5900" in str(error)


def test_a_link_that_is_never_answered_has_a_limit(play: Play) -> None:
    source = play.server("source")
    source.silent.add((1, 0))
    play.start(source)
    play.wait(9.9)
    play.sees_no(SessionEnded)
    play.wait(0.2)
    assert isinstance(play.sees(SessionEnded).error, SpiceTimeout)


def test_a_silent_channel_does_not_keep_the_session_from_being_ready(play: Play) -> None:
    source = play.server("source")
    source.silent.add(channel_key("display"))
    play.start(source)
    source.main.sends(source.init())
    source.lists("display:0", "cursor:0")
    play.sees_no(SessionReady)
    play.wait(11)
    assert "no answer" in play.sees(ChannelSkipped).reason
    assert play.sees(SessionReady).channels == ("cursor:0", "main:0")


@pytest.mark.parametrize("step", ["init", "list"])
def test_a_server_that_links_and_then_says_nothing_has_a_limit(play: Play, step: str) -> None:
    source = play.server("source")
    play.start(source)
    if step == "list":
        source.main.sends(source.init())
    play.wait(60)
    ended = play.sees(SessionEnded)
    assert isinstance(ended.error, SpiceTimeout)
    assert play.core.next_wake() is None


def test_a_server_that_closes_during_the_link(play: Play) -> None:
    source = play.server("source")
    source.silent.add((1, 0))
    play.start(source)
    next(iter(play.peers.values())).closes()
    assert isinstance(play.sees(SessionEnded).error, LinkFailed)


def test_a_server_that_speaks_something_else(play: Play) -> None:
    source = play.server("source")
    source.silent.add((1, 0))
    play.start(source)
    next(iter(play.peers.values())).sends_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert isinstance(play.sees(SessionEnded).error, InvalidMagic)


def test_init_comes_once(play: Play) -> None:
    source = play.server("source")
    play.connect(source, "cursor:0")
    source.main.sends(source.init())
    error = play.sees(SessionEnded).error
    assert isinstance(error, RemoteProtocolError)
    assert "main:0" in str(error)
    assert not play.peers


def test_the_end_of_main_is_the_end_of_the_session(play: Play) -> None:
    source = play.server("source")
    play.connect(source, "cursor:0")
    source.main.closes()
    error = play.sees(SessionEnded).error
    assert isinstance(error, SessionLost)
    assert "source:5900" in str(error)
    assert not play.peers
    play.wait(100)
    assert play.core.effects() == []


def test_the_end_of_another_channel_is_told_and_survived(play: Play) -> None:
    source = play.server("source")
    play.connect(source, "cursor:0", "inputs:0")
    source.cursor.closes(ConnectError("the network is down"))
    gone = play.sees(ChannelGone)
    assert gone.channel == "cursor:0"
    assert isinstance(gone.error, ConnectError)
    assert set(play.core.channels) == {(1, 0), (3, 0)}
    source.main.sends(common.Ping(id=1, timestamp=2, data=b""))
    source.main.gets(common.Pong, id=1, timestamp=2)


def test_closing_from_here_closes_everything_and_has_no_error(play: Play) -> None:
    source = play.server("source")
    play.connect(source, "cursor:0", "display:0")
    play.core.close()
    play.run()
    assert play.sees(SessionEnded).error is None
    assert not play.peers
    play.core.close()
    play.run()
    assert len(play.happened(SessionEnded)) == 1


def test_both_forms_of_the_header_work(play: Play) -> None:
    source = play.server("source")
    source.mini_header(False)
    play.connect(source, "display:0")
    assert not play.core.channels[2, 0].framing.mini
    source.display.sends(surface())
    play.sees(SurfaceCreated)
    assert play.core.channels[2, 0].serial == 1


def test_what_comes_right_behind_the_link_result_is_read(play: Play) -> None:
    source = play.server("source")
    play.start(source)
    source.main.sends(source.init())
    source.first[channel_key("cursor")] = (99, b"before anything else")
    source.lists("cursor:0")
    assert play.sees(UnknownMessage).head == b"before anything else"


def test_begin_before_there_is_a_session_is_refused(play: Play) -> None:
    source, target = play.server("source"), play.server("target")
    play.start(source)
    where = destination(target)
    source.main.sends(main.MigrateBeginSeamless(destination=where, src_mig_version=1))
    # A link with session 0 would ask the target for a new session.
    assert not any(peer.link.request for peer in target.all)
    assert all(end.host != "target" for end in play.opened)
