"""A session with videos: what is offered and asked for, and what the server is told of them."""

from __future__ import annotations

import pytest
from tests.script import CAPS, Play, Server
from tests.test_screen import surface
from tests.test_streams import BLUE, GREEN, RED, activate, create, data, flat

from aiospice.client.config import ClientConfig
from aiospice.client.screen import NotDrawn, ScreenChanged, StreamEnded, StreamStarted
from aiospice.codecs.video import VP8
from aiospice.wire import display, main
from aiospice.wire.caps import DisplayCap, bits
from aiospice.wire.message import Message

#: What spice-server 0.15 announces.
SERVER_CAPS = {
    **CAPS,
    2: (
        DisplayCap.MONITORS_CONFIG,
        DisplayCap.PREF_COMPRESSION,
        DisplayCap.PREF_VIDEO_CODEC_TYPE,
        DisplayCap.STREAM_REPORT,
    ),
}
ALL = ("mjpeg", "vp8", "h264", "vp9", "h265")
CODEC_CAPS = {
    "mjpeg": DisplayCap.CODEC_MJPEG,
    "vp8": DisplayCap.CODEC_VP8,
    "h264": DisplayCap.CODEC_H264,
    "vp9": DisplayCap.CODEC_VP9,
    "h265": DisplayCap.CODEC_H265,
}


def start(play: Play, name: str = "source", port: int = 5900) -> Server:
    server = play.server(name, port)
    server.caps = SERVER_CAPS
    return server


def announced(server: Server) -> set[str]:
    request = server.display.link.request
    assert request is not None
    words = bits(request.channel_caps)
    assert {DisplayCap.SIZED_STREAM, DisplayCap.MULTI_CODEC, DisplayCap.STREAM_REPORT} <= words
    return {name for name, cap in CODEC_CAPS.items() if cap in words}


@pytest.mark.parametrize(
    ("decodable", "wanted", "offered", "asked"),
    [
        (("mjpeg",), None, {"mjpeg"}, None),
        (ALL, None, set(ALL), None),
        (ALL, ("vp8", "mjpeg"), {"vp8", "mjpeg"}, (2, 1)),
        (("mjpeg",), ("vp9", "mjpeg"), {"mjpeg"}, (1,)),
        (ALL, (), set(), None),
    ],
)
def test_only_what_can_be_decoded_is_offered_and_only_a_wish_is_sent(
    decodable: tuple[str, ...],
    wanted: tuple[str, ...] | None,
    offered: set[str],
    asked: tuple[int, ...] | None,
) -> None:
    play = Play(decodable=decodable, video_codecs=wanted)
    server = start(play)
    play.connect(server, "display:0")
    assert announced(server) == offered
    sent = [m.codecs for m in server.display.log if isinstance(m, display.PreferredVideoCodecType)]
    assert sent == ([] if asked is None else [asked])


def test_a_server_that_does_not_know_the_wish_is_not_sent_it() -> None:
    play = Play(decodable=ALL, video_codecs=("vp8",))
    server = play.server("source")
    play.connect(server, "display:0")
    assert not [m for m in server.display.log if isinstance(m, display.PreferredVideoCodecType)]


def test_a_target_is_asked_again() -> None:
    play = Play(decodable=ALL, video_codecs=("vp9", "mjpeg"))
    source, target = start(play), start(play, "target", 5901)
    play.connect(source, "display:0")
    source.display.sends(surface(40, 40), create())
    play.prepare(source, target)
    play.hand_over(source, target, "main:0", "display:0")
    asked = [m for m in target.display.log if isinstance(m, display.PreferredVideoCodecType)]
    assert [message.codecs for message in asked] == [(4, 1)]
    target.display.sends(display.StreamDestroyAll(), create(), data(flat(GREEN)))
    assert play.core.screens[0].draws == 1


@pytest.mark.parametrize("mini", [True, False], ids=["short headers", "long headers"])
@pytest.mark.parametrize("cut", [0, 1, 7], ids=["whole", "byte by byte", "by sevens"])
def test_a_video_is_drawn_and_reported_however_its_bytes_come(cut: int, mini: bool) -> None:
    play = Play(cut=cut)
    server = start(play)
    server.mini_header(mini)
    play.connect(server, "display:0", multi_media_time=5000)
    server.display.skip()
    play.wait(0.25)
    talk: list[Message] = [surface(40, 40), create(), activate(window=3)]
    talk += [data(flat(colour), time=5600) for colour in (RED, GREEN, BLUE)]
    server.display.sends(*talk, display.StreamDestroy(id=1))
    play.sees(StreamStarted, stream_id=1, codec=1)
    play.sees(ScreenChanged, x=4, y=4, width=16, height=16)
    play.sees(StreamEnded, frames=3)
    report = server.display.gets(display.StreamReport, stream_id=1, num_frames=3, num_drops=0)
    assert report.last_frame_delay == 350
    server.display.gets_nothing()
    middle = play.core.screens[0].snapshot().bgrx[4 * (10 * 40 + 10) :][:3]
    assert middle[0] > 200 > 50 > middle[1]
    assert play.happened(NotDrawn) == []


def test_a_report_leaves_when_its_time_is_over_by_the_newest_clock() -> None:
    play = Play()
    server = start(play)
    play.connect(server, "display:0", multi_media_time=5000)
    server.display.skip()
    server.display.sends(surface(40, 40), create(), activate(window=100, timeout=700))
    server.main.sends(main.MultiMediaTime(time=9000))
    server.display.sends(data(flat(RED), time=8900))
    server.display.gets_nothing()
    play.wait(0.6)
    server.display.gets_nothing()
    play.wait(0.2)
    server.display.gets(display.StreamReport, num_frames=1, num_drops=1, last_frame_delay=-100)
    play.wait(5)
    server.display.gets_nothing()


def test_a_session_that_is_over_wants_no_report_to_be_made() -> None:
    play = Play()
    server = start(play)
    play.connect(server, "display:0")
    server.display.sends(surface(40, 40), create(), activate(window=100), data(flat(RED)))
    assert play.core.next_wake() is not None
    play.core.close()
    assert play.core.next_wake() is None


def test_large_frames_are_computed_and_drawn_in_order() -> None:
    play = Play()
    server = start(play)
    play.connect(server, "display:0")
    play.holds_jobs = True
    big = (300, 300)
    server.display.sends(surface(320, 320), create(size=big))
    server.display.sends(data(flat(RED, *big)), data(flat(GREEN, *big)))
    assert len(play.jobs) == 2
    play.compute(1)
    assert play.core.screens[0].draws == 0
    play.compute(0)
    assert play.core.screens[0].draws == 2


def test_a_world_without_decoders_has_images_sent_instead() -> None:
    play = Play(decodable=ALL)
    server = start(play)
    play.connect(server, "display:0")
    server.display.skip()
    server.display.sends(surface(40, 40), create(codec=VP8))
    for _ in range(5):
        server.display.sends(data(b"\0frame"))
    server.display.gets(display.StreamReport, num_frames=0, num_drops=0xFFFFFFFF)
    server.display.sends(display.StreamDestroy(id=1))
    assert len(play.happened(NotDrawn)) == 5


def test_a_server_that_takes_no_reports_is_sent_none() -> None:
    play = Play()
    server = play.server("source")
    play.connect(server, "display:0")
    server.display.skip()
    server.display.sends(surface(40, 40), create(), activate(window=1), data(flat(RED)))
    server.display.sends(data(b"junk", 9))
    server.display.gets_nothing()


def test_the_configuration_names_codecs() -> None:
    config = ClientConfig(decodable=ALL)
    assert config.offered_codecs() == (1, 2, 3, 4, 5)
    assert config.preferred_codecs() == ()
    assert config._replace(video_codecs=("h264", "vp8")).preferred_codecs() == (3, 2)
