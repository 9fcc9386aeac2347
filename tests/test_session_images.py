"""Images that take their time: decoded elsewhere, or waiting for one of another display."""

from __future__ import annotations

import pytest
from tests.script import Play, Server, destination, surface

from aiospice.client.decode import compression_for
from aiospice.client.moving import ChannelGone
from aiospice.client.screen import NotDrawn, ScreenChanged, SurfaceDestroyed
from aiospice.client.session import BACKLOG_LIMIT
from aiospice.client.waiting import WAIT_SECONDS
from aiospice.codecs import lz, quic, zlib
from aiospice.codecs.glz import GlzDictionary
from aiospice.errors import RemoteProtocolError
from aiospice.wire import common, display, draw, main
from aiospice.wire.caps import DisplayCap, pack
from aiospice.wire.images import (
    BinaryData,
    Brush,
    Image,
    ImageDescriptor,
    Pattern,
    QMask,
    ZlibGlzData,
)
from aiospice.wire.shapes import Clip, DisplayBase, Point, Rect

#: Large enough for a thread, and only a few hundred bytes when packed.
SIDE = 260


@pytest.fixture(params=[0, 1], ids=["whole", "bytewise"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(cut=request.param)


def image(kind: int, side: int, data: bytes, *, number: int = 0, flags: int = 0) -> Image:
    head = ImageDescriptor(id=number, type=kind, flags=flags, width=side, height=side)
    return Image(descriptor=head, body=BinaryData(data=data))


def large(colour: int, **cache: int) -> Image:
    """A large image of one colour."""
    pixels = colour.to_bytes(4, "little") * (SIDE * SIDE)
    return image(1, SIDE, quic.encode(pixels, SIDE, SIDE, 4 * SIDE, quic.RGB32), **cache)


def cached(number: int, side: int = SIDE) -> Image:
    head = ImageDescriptor(id=number, type=103, flags=0, width=side, height=side)
    return Image(descriptor=head, body=None)


def drawn(what: Image, x: int = 0, y: int = 0, side: int = 8) -> draw.DrawCopy:
    """A draw of the upper left part of an image."""
    side = min(side, what.descriptor.width)
    return draw.DrawCopy(
        base=DisplayBase(
            surface_id=0,
            box=Rect(left=x, top=y, right=x + side, bottom=y + side),
            clip=Clip(type=0, rects=()),
        ),
        src_bitmap=what,
        src_area=Rect(left=0, top=0, right=side, bottom=side),
        rop_descriptor=8,
        scale_mode=0,
        mask=QMask(flags=0, pos=Point(x=0, y=0), bitmap=None),
    )


def pixel(play: Play, x: int = 0, y: int = 0, screen: int = 0) -> int:
    shown = play.core.screens[screen].snapshot()
    at = 4 * (y * shown.width + x)
    return int.from_bytes(shown.bgrx[at : at + 3], "little")


def connected(play: Play, *names: str) -> Server:
    server = play.server("source")
    play.connect(server, *(names or ("display:0",)))
    for name in names or ("display:0",):
        server[name].sends(surface(32, 32))
    return server


# -- images that are decoded elsewhere ------------------------------------------------------------


def test_large_images_are_decoded_together_and_drawn_in_order(play: Play) -> None:
    play.holds_jobs = True
    source = connected(play)
    source.display.sends(drawn(large(0x112233)), drawn(large(0x445566)), drawn(large(0x778899)))
    assert len(play.jobs) == 3
    play.compute(2)  # the last one is ready first, and waits
    play.sees_no(ScreenChanged)
    assert pixel(play) == 0
    play.compute(0)
    assert pixel(play) == 0x112233
    play.compute(0)
    assert pixel(play) == 0x778899
    assert play.core.screens[0].images == {"QUIC": 3}
    assert not play.core.screens[0].backlog


def test_what_comes_behind_waits_and_is_answered_all_the_same(play: Play) -> None:
    play.holds_jobs = True
    source = connected(play)
    source.display.sends(drawn(large(0x112233)))
    source.display.sends(display.SurfaceDestroy(surface_id=0), surface(16, 16))
    source.display.sends(common.Ping(id=5, timestamp=0, data=b""))
    source.display.gets(common.Pong, id=5)
    play.sees_no(SurfaceDestroyed)
    assert play.core.screens[0].size == (32, 32)
    play.compute()
    play.sees(SurfaceDestroyed)
    assert play.core.screens[0].size == (16, 16)


def test_an_image_is_kept_once_however_often_its_message_is_tried(play: Play) -> None:
    play.holds_jobs = True
    source = connected(play)
    one, other = large(0x112233, number=7, flags=1), large(0x445566, number=8, flags=1)
    opaque = draw.DrawOpaque(
        base=drawn(one).base,
        src_bitmap=one,
        src_area=drawn(one).src_area,
        brush=Brush(type=2, body=Pattern(pat=other, pos=Point(x=0, y=0))),
        rop_descriptor=8,
        scale_mode=0,
        mask=drawn(one).mask,
    )
    source.display.sends(opaque)
    while play.jobs:
        play.compute()
    for number in (7, 8):
        assert number in play.core.screens[0].caches.images
        source.display.sends(display.InvalList(resources=(display.ResourceId(type=1, id=number),)))
        assert number not in play.core.screens[0].caches.images


def test_a_cached_image_that_is_still_being_decoded_is_there_when_it_is_drawn(play: Play) -> None:
    play.holds_jobs = True
    source = connected(play)
    source.display.sends(drawn(large(0x112233, number=7, flags=1)), drawn(cached(7), x=16))
    play.compute()
    assert pixel(play, 16) == 0x112233
    play.sees_no(NotDrawn)


def test_a_damaged_image_is_left_out_and_the_session_goes_on(play: Play) -> None:
    source = connected(play)
    whole = large(0x112233)
    assert isinstance(whole.body, BinaryData)
    source.display.sends(drawn(image(1, SIDE, whole.body.data[:40])))
    event = play.sees(NotDrawn, reason="the QUIC image is damaged")
    assert "QUIC image" in event.detail
    source.display.sends(drawn(whole))
    assert pixel(play) == 0x112233


def test_a_server_that_sends_faster_than_images_are_decoded_is_not_read() -> None:
    play = Play(frozen=False)
    play.holds_jobs = True
    source = connected(play)
    source.display.sends(drawn(large(0x112233)))
    chatter = display.InvalPalette(id=1)
    peer = source.display
    sent = 0
    while not peer.paused:
        for _ in range(5000):
            peer.post(chatter.number, chatter.body())
        sent += 5000
        play.run()
        assert sent * 14 < 2 * BACKLOG_LIMIT
    assert play.core.screens[0].backlog.size > BACKLOG_LIMIT
    play.compute()
    assert not peer.paused
    assert not play.core.screens[0].backlog


def test_only_so_many_images_are_decoded_ahead() -> None:
    play = Play(frozen=False)
    play.holds_jobs = True
    source = connected(play)
    source.display.sends(*[drawn(large(number + 1)) for number in range(30)])
    assert len(play.jobs) == 8
    while play.jobs:
        play.compute()
    assert pixel(play) == 30


def test_what_is_decoded_when_the_session_starts_over_is_dropped(play: Play) -> None:
    play.holds_jobs = True
    source, target = play.server("source"), play.server("target", 5901)
    play.connect(source, "display:0")
    source.display.sends(surface(32, 32), drawn(large(0x112233)))
    source.main.sends(main.MigrateSwitchHost(destination=destination(target)))
    target.main.sends(target.init())
    target.lists("display:0")
    target.display.sends(surface(32, 32))
    play.compute()
    assert pixel(play) == 0
    target.display.sends(drawn(large(0x445566)))
    play.compute()
    assert pixel(play) == 0x445566


# -- images that copy from those of another display -----------------------------------------------


def glz_images(count: int, side: int = 8) -> list[Image]:
    """Images of one window, each mostly a copy of the one before."""
    dictionary = GlzDictionary(1 << 16)
    images = []
    for place in range(count):
        pixels = bytes((place, 7, 9, 0)) + bytes(
            value for at in range(1, side * side) for value in (at * 37 & 255, at, at // 3, 0)
        )
        images.append(image(102, side, dictionary.encode(pixels, side, side, lz.RGB32)))
    return images


def test_a_glz_image_is_drawn_once_the_one_before_has_come(play: Play) -> None:
    source = connected(play, "display:0", "display:1")
    images = glz_images(6)
    for place in (1, 3, 5):
        source["display:1"].sends(drawn(images[place]))
    assert play.core.screens[1].needs_glz == 0
    assert play.core.next_wake() is not None
    source["display:0"].sends(drawn(images[0]))
    assert pixel(play, screen=1) == 0x090701
    source["display:0"].sends(drawn(images[2]), drawn(images[4]))
    assert pixel(play, screen=1) == 0x090705
    assert play.core.screens[1].needs_glz is None
    assert play.core.next_wake() is None
    assert pixel(play, 3, 3, 0) == pixel(play, 3, 3, 1) != 0


def test_a_deflated_glz_image_waits_as_well(play: Play) -> None:
    source = connected(play, "display:0", "display:1")
    images = glz_images(2)
    assert isinstance(images[1].body, BinaryData)
    stream = images[1].body.data
    body = ZlibGlzData(glz_data_size=len(stream), data=zlib.deflate(stream))
    head = images[1].descriptor.replace(type=107)
    source["display:1"].sends(drawn(Image(descriptor=head, body=body)))
    assert play.core.screens[1].needs_glz == 0
    source["display:0"].sends(drawn(images[0]))
    assert pixel(play, screen=1) == 0x090701
    assert play.core.screens[1].images == {"ZLIB_GLZ_RGB": 1}


def test_waiting_for_a_glz_image_has_a_limit(play: Play) -> None:
    source = connected(play, "display:0", "display:1")
    source["display:1"].sends(drawn(glz_images(2)[1]))
    play.wait(WAIT_SECONDS - 1)
    play.sees_no(ChannelGone)
    play.wait(2)
    gone = play.sees(ChannelGone, channel="display:1")
    assert isinstance(gone.error, RemoteProtocolError)
    assert play.core.next_wake() is None
    source["display:0"].sends(drawn(large(0x112233)))
    assert pixel(play) == 0x112233


def test_with_one_display_nothing_else_can_bring_the_image(play: Play) -> None:
    source = connected(play)
    images = glz_images(3)
    source.display.sends(drawn(images[1]))
    assert "has not come" in play.sees(NotDrawn, reason="the GLZ_RGB image is damaged").detail
    source.display.sends(drawn(images[2]))
    assert "damaged" in play.sees(NotDrawn).detail


def test_points_of_a_channel_are_reached_when_they_are_drawn(play: Play) -> None:
    play.holds_jobs = True
    source = connected(play, "display:0", "display:1")
    source["display:0"].sends(drawn(large(0x112233, number=7, flags=1)))
    point = play.core.channels[2, 0].serial
    wait = common.WaitForChannel(channel_type=2, channel_id=0, message_serial=point)
    source["display:1"].sends(common.WaitForChannels(waits=(wait,)), drawn(cached(7)))
    assert pixel(play, screen=1) == 0
    play.compute()
    assert pixel(play, screen=1) == 0x112233
    play.sees_no(NotDrawn)


# -- what is asked for ----------------------------------------------------------------------------


def test_no_compression_is_asked_for_unless_the_user_wants_one() -> None:
    play = Play(compression="")
    source = play.server("source")
    play.start(source)
    source.main.sends(source.init())
    source.lists("display:0")
    source.display.gets(display.Init)
    source.display.gets_nothing()
    play = Play(compression="lz4")
    source = play.server("source")
    play.start(source)
    source.main.sends(source.init())
    source.lists("display:0")
    source.display.gets(display.Init)
    source.display.gets(display.PreferredCompression, image_compression=7)


def test_uncompiled_kernels_ask_for_what_a_library_unpacks(monkeypatch: pytest.MonkeyPatch) -> None:
    caps = pack((DisplayCap.LZ4_COMPRESSION,))
    assert compression_for("", caps) == 0
    monkeypatch.setattr("aiospice.client.decode.COMPILED", False)
    assert compression_for("", caps) == 7
    assert compression_for("", ()) == 1
    assert compression_for("quic", caps) == 4
