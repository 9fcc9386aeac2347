"""The screen of a display channel: messages in, pixels and events out."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from aiospice.canvas.pixels import ARGB, RGB555, XRGB
from aiospice.channels.events import Event
from aiospice.client import screen as module
from aiospice.client.caches import MAX_PALETTES, Caches, PaletteCache
from aiospice.client.screen import (
    MonitorsChanged,
    NotDrawn,
    Picture,
    Screen,
    ScreenChanged,
    ScreenMarked,
    StreamEnded,
    StreamStarted,
    SurfaceCreated,
    SurfaceDestroyed,
)
from aiospice.client.streams import MAX_STREAMS
from aiospice.errors import RemoteProtocolError, StateError
from aiospice.wire import display, draw
from aiospice.wire.images import (
    BinaryData,
    BitmapData,
    Brush,
    Image,
    ImageDescriptor,
    Pattern,
    QMask,
    SolidColor,
    SurfaceImage,
)
from aiospice.wire.message import Message
from aiospice.wire.shapes import NO_CLIP, Clip, DisplayBase, Palette, Point, Rect

NO_MASK = QMask(flags=0, pos=Point(x=0, y=0), bitmap=None)
PUT, XOR = 8, 64


def rect(left: int, top: int, right: int, bottom: int) -> Rect:
    return Rect(top=top, left=left, bottom=bottom, right=right)


def base(box: Rect, surface_id: int = 0, clip: list[Rect] | None = None) -> DisplayBase:
    shape = NO_CLIP if clip is None else Clip(type=1, rects=tuple(clip))
    return DisplayBase(surface_id=surface_id, box=box, clip=shape)


def surface(
    width: int, height: int, surface_id: int = 0, format: int = XRGB, flags: int = 1
) -> display.SurfaceCreate:
    return display.SurfaceCreate(
        surface_id=surface_id, width=width, height=height, format=format, flags=flags
    )


def bitmap(
    width: int,
    height: int,
    data: bytes,
    *,
    format: int = 8,
    flags: int = 4,
    image_id: int = 1,
    keep: int = 0,
    palette: Palette | None = None,
    palette_id: int | None = None,
) -> Image:
    return Image(
        descriptor=ImageDescriptor(id=image_id, type=0, flags=keep, width=width, height=height),
        body=BitmapData(
            format=format,
            flags=flags,
            x=width,
            y=height,
            stride=len(data) // height,
            palette_id=palette_id,
            palette=palette,
            data=data,
        ),
    )


def referred(kind: int, image_id: int, body: Any = None) -> Image:
    head = ImageDescriptor(id=image_id, type=kind, flags=0, width=1, height=1)
    return Image(descriptor=head, body=body)


def copy(
    image: Image | None, box: Rect, area: Rect | None = None, rop: int = PUT, **where: Any
) -> draw.DrawCopy:
    return draw.DrawCopy(
        base=base(box, **where),
        src_bitmap=image,
        src_area=area or rect(0, 0, box.width, box.height),
        rop_descriptor=rop,
        scale_mode=0,
        mask=NO_MASK,
    )


def fill(box: Rect, colour: int, rop: int = PUT, **where: Any) -> draw.DrawFill:
    brush = Brush(type=1, body=SolidColor(color=colour))
    return draw.DrawFill(base=base(box, **where), brush=brush, rop_descriptor=rop, mask=NO_MASK)


def screen_of(width: int = 8, height: int = 6, format: int = XRGB) -> Screen:
    screen = Screen(0, Caches())
    screen.apply(surface(width, height, format=format))
    return screen


def apply(screen: Screen, message: Message) -> list[Event]:
    """Apply a message as it comes from the wire."""
    return screen.apply(type(message).parse(message.body()))


def value(screen: Screen, x: int, y: int) -> int:
    picture = screen.snapshot()
    at = 4 * (y * picture.width + x)
    return int.from_bytes(picture.bgrx[at : at + 4], "little")


def missing(events: list[Event]) -> list[str]:
    return [event.reason for event in events if isinstance(event, NotDrawn)]


def test_a_screen_is_ready_once_marked_or_drawn_on() -> None:
    screen = Screen(3, Caches())
    assert not screen.ready
    assert screen.size == (0, 0)
    with pytest.raises(StateError, match="display 3"):
        screen.snapshot()
    made = apply(screen, surface(8, 6))
    assert made == [
        SurfaceCreated(display=3, surface_id=0, width=8, height=6, format="32_xRGB", primary=True)
    ]
    assert not screen.ready
    assert apply(screen, display.Mark()) == [ScreenMarked(display=3)]
    assert screen.ready
    assert screen.snapshot() == Picture(8, 6, bytes(192))

    drawn = screen_of()
    apply(drawn, fill(rect(0, 0, 1, 1), 1))
    assert drawn.ready
    assert drawn.size == (8, 6)


def test_a_copy_puts_pixels_and_tells_where() -> None:
    screen = screen_of(4, 3)
    data = bytes(range(48))
    assert apply(screen, copy(bitmap(4, 3, data), rect(0, 0, 4, 3))) == [
        ScreenChanged(display=0, x=0, y=0, width=4, height=3)
    ]
    picture = screen.snapshot()
    assert picture.bgrx == data
    assert picture.rgb()[:6] == bytes([2, 1, 0, 6, 5, 4])
    assert (screen.draws, screen.pixels) == (1, 12)


def test_a_picture_is_an_array_of_rows_of_red_green_blue() -> None:
    array = Picture(2, 1, bytes([3, 2, 1, 0, 6, 5, 4, 0])).array()
    assert array.shape == (1, 2, 3)
    assert array.tolist() == [[[1, 2, 3], [4, 5, 6]]]
    with pytest.raises(ValueError, match="2x2"):
        Picture(2, 2, b"")
    assert Picture(1, 1, b"abcd") == Picture(1, 1, b"abcX")
    assert hash(Picture(1, 1, b"abcd")) == hash(Picture(1, 1, b"abcX"))
    assert Picture(1, 1, b"abcd") != 3


def test_a_draw_that_reaches_beyond_is_cut() -> None:
    screen = screen_of(4, 3)
    box = rect(-2, -1, 100, 100)
    events = apply(screen, copy(bitmap(3, 2, b"\1" * 24), box, rect(0, 0, 102, 101)))
    assert events == [ScreenChanged(display=0, x=0, y=0, width=4, height=3)]
    assert [value(screen, x, 0) != 0 for x in range(4)] == [True, False, False, False]
    assert apply(screen, fill(rect(50, 50, 60, 60), 1)) == []
    assert apply(screen, fill(rect(3, 2, 1, 1), 1)) == []


def test_only_the_clip_is_drawn_and_told() -> None:
    screen = screen_of()
    events = apply(screen, fill(rect(0, 0, 8, 6), 7, clip=[rect(1, 1, 3, 2), rect(2, 1, 5, 4)]))
    assert events == [ScreenChanged(display=0, x=1, y=1, width=4, height=3)]
    assert screen.pixels == 10
    apply(screen, fill(rect(0, 0, 8, 6), 0xFFFFFFFF, clip=[]))
    assert screen.pixels == 10


def test_overlapping_clips_invert_once() -> None:
    screen = screen_of()
    clip = [rect(0, 0, 4, 4), rect(2, 2, 6, 6)]
    apply(screen, draw.DrawInvers(base=base(rect(0, 0, 8, 6), clip=clip), mask=NO_MASK))
    assert value(screen, 3, 3) == 0xFFFFFFFF


def test_plain_draws_black_white_and_invert() -> None:
    screen = screen_of()
    whole = base(rect(0, 0, 8, 6))
    apply(screen, draw.DrawWhiteness(base=whole, mask=NO_MASK))
    assert value(screen, 7, 5) == 0xFFFFFFFF
    apply(screen, draw.DrawBlackness(base=whole, mask=NO_MASK))
    assert value(screen, 7, 5) == 0
    apply(screen, draw.DrawInvers(base=whole, mask=NO_MASK))
    assert value(screen, 7, 5) == 0xFFFFFFFF


def test_an_opaque_draw_lays_the_brush_over_the_image() -> None:
    screen = screen_of(2, 1)
    message = draw.DrawOpaque(
        base=base(rect(0, 0, 2, 1)),
        src_bitmap=bitmap(2, 1, b"\x0f\0\0\0\xf0\0\0\0"),
        src_area=rect(0, 0, 2, 1),
        brush=Brush(type=1, body=SolidColor(color=0xFF)),
        rop_descriptor=XOR,
        scale_mode=0,
        mask=NO_MASK,
    )
    apply(screen, message)
    assert (value(screen, 0, 0), value(screen, 1, 0)) == (0xF0, 0x0F)
    apply(screen, message.replace(rop_descriptor=PUT))
    assert value(screen, 0, 0) == 0xFF
    broken = message.replace(
        brush=Brush(type=2, body=Pattern(pat=referred(103, 9), pos=Point(x=0, y=0)))
    )
    assert missing(apply(screen, broken)) == ["the image is not in the cache"]
    assert value(screen, 0, 0) == 0xFF


def test_a_pattern_is_repeated() -> None:
    screen = screen_of(5, 2)
    tile = bitmap(2, 1, b"\1\0\0\0\2\0\0\0")
    brush = Brush(type=2, body=Pattern(pat=tile, pos=Point(x=1, y=0)))
    whole = base(rect(0, 0, 5, 2))
    apply(screen, draw.DrawFill(base=whole, brush=brush, rop_descriptor=PUT, mask=NO_MASK))
    assert [value(screen, x, 1) for x in range(5)] == [2, 1, 2, 1, 2]


def test_a_fill_without_brush_still_obeys_its_operation() -> None:
    screen = screen_of(2, 1)
    nothing = Brush(type=0, body=None)
    whole = base(rect(0, 0, 2, 1))
    apply(screen, draw.DrawFill(base=whole, brush=nothing, rop_descriptor=512, mask=NO_MASK))
    assert value(screen, 1, 0) == 0xFFFFFFFF


def test_bits_are_copied_within_the_screen() -> None:
    screen = screen_of(4, 1)
    apply(screen, copy(bitmap(4, 1, bytes(range(16))), rect(0, 0, 4, 1)))
    events = apply(screen, display.CopyBits(base=base(rect(1, 0, 4, 1)), src_pos=Point(x=0, y=0)))
    assert events == [ScreenChanged(display=0, x=1, y=0, width=3, height=1)]
    assert screen.snapshot().bgrx == bytes(range(4)) + bytes(range(12))


def test_surfaces_off_screen_are_drawn_on_and_from() -> None:
    screen = screen_of()
    apply(screen, surface(4, 4, 7, format=ARGB, flags=0))
    assert apply(screen, fill(rect(0, 0, 4, 4), 0x11223344, surface_id=7)) == []
    image = referred(104, 0, SurfaceImage(surface_id=7))
    events = apply(screen, copy(image, rect(2, 2, 4, 4), rect(1, 1, 3, 3)))
    assert events == [ScreenChanged(display=0, x=2, y=2, width=2, height=2)]
    assert value(screen, 3, 3) == 0x11223344
    assert apply(screen, display.SurfaceDestroy(surface_id=7)) == [
        SurfaceDestroyed(display=0, surface_id=7, primary=False)
    ]
    assert apply(screen, display.SurfaceDestroy(surface_id=7)) == []
    assert missing(apply(screen, copy(image, rect(0, 0, 1, 1)))) == ["there is no such surface"]


def test_a_surface_of_16_bits_shows_its_colours() -> None:
    screen = screen_of(2, 1, RGB555)
    apply(screen, copy(bitmap(2, 1, b"\x1f\0\0\x7c", format=6), rect(0, 0, 2, 1)))
    assert screen.snapshot().rgb() == bytes([0, 0, 255, 255, 0, 0])
    apply(screen, copy(bitmap(2, 1, b"\0\xff\0\0\0\0\xff\0"), rect(0, 0, 2, 1)))
    assert screen.snapshot().rgb() == bytes([0, 255, 0, 255, 0, 0])


def test_a_primary_surface_like_the_last_keeps_its_pixels() -> None:
    screen = screen_of()
    apply(screen, fill(rect(0, 0, 8, 6), 5))
    assert apply(screen, surface(8, 6)) == []
    assert value(screen, 0, 0) == 5
    events = apply(screen, surface(9, 6))
    assert [type(event) for event in events] == [SurfaceDestroyed, SurfaceCreated]
    assert value(screen, 0, 0) == 0
    assert not screen.ready


def test_the_old_mode_message_makes_the_primary_surface() -> None:
    screen = Screen(0, Caches())
    apply(screen, display.Mode(x_res=3, y_res=2, bits=16))
    assert screen.surfaces[0].format == RGB555
    apply(screen, display.Mode(x_res=3, y_res=2, bits=32))
    assert screen.surfaces[0].format == XRGB
    assert screen.size == (3, 2)


def test_reset_blacks_the_screen() -> None:
    screen = screen_of()
    apply(screen, fill(rect(0, 0, 8, 6), 5))
    apply(screen, display.Mark())
    events = apply(screen, display.Reset())
    assert events == [ScreenChanged(display=0, x=0, y=0, width=8, height=6)]
    assert not screen.ready
    assert value(screen, 0, 0) == 0
    assert apply(Screen(0, Caches()), display.Reset()) == []


def test_a_fresh_connection_starts_from_nothing() -> None:
    screen = screen_of()
    apply(screen, surface(4, 4, 7, flags=0))
    apply(screen, display.Mark())
    events = screen.reset()
    assert [type(event) for event in events] == [SurfaceDestroyed] * 2
    assert (screen.surfaces, screen.primary, screen.ready) == ({}, None, False)
    apply(screen, surface(8, 6))
    assert not screen.ready


def test_monitors_are_told() -> None:
    screen = screen_of()
    head = display.Head(monitor_id=1, surface_id=0, width=8, height=6, x=2, y=3, flags=0)
    events = apply(screen, display.MonitorsConfig(max_allowed=4, heads=(head,)))
    assert events == [MonitorsChanged(display=0, monitors=((1, 0, 2, 3, 8, 6),))]
    assert screen.max_monitors == 4
    assert apply(screen, display.MonitorsConfig(max_allowed=4, heads=())) == []


def test_kept_images_are_drawn_again_until_dropped() -> None:
    screen = screen_of(2, 1)
    image = bitmap(2, 1, b"\1\0\0\0\2\0\0\0", image_id=1 << 63, keep=1)
    apply(screen, copy(image, rect(0, 0, 2, 1)))
    again = copy(referred(103, 1 << 63), rect(1, 0, 2, 1))
    assert missing(apply(screen, again)) == []
    assert [value(screen, x, 0) for x in range(2)] == [1, 1]
    lossless = copy(referred(106, 1 << 63), rect(0, 0, 2, 1))
    assert missing(apply(screen, lossless)) == []
    drop = display.InvalList(resources=(display.ResourceId(type=1, id=1 << 63),))
    apply(screen, drop)
    assert missing(apply(screen, again)) == ["the image is not in the cache"]
    apply(screen, copy(image, rect(50, 0, 52, 1)))  # not seen, yet kept
    assert missing(apply(screen, again)) == []
    apply(screen, display.InvalAllPixmaps(waits=()))
    assert missing(apply(screen, again)) == ["the image is not in the cache"]


def test_an_image_is_scaled_to_its_box() -> None:
    screen = screen_of(4, 1)
    image = bitmap(2, 1, bytes([0, 0, 0, 0, 128, 0, 0, 0]))
    box = rect(0, 0, 4, 1)
    nearest = copy(image, box, rect(0, 0, 2, 1)).replace(scale_mode=1)
    apply(screen, nearest)
    assert [value(screen, x, 0) for x in range(4)] == [0, 0, 128, 128]
    apply(screen, nearest.replace(scale_mode=0))
    assert [value(screen, x, 0) for x in range(4)] == [0, 32, 96, 96]
    half = copy(image, rect(-2, 0, 2, 1), rect(0, 0, 2, 1), rop=XOR).replace(scale_mode=1)
    apply(screen, half)
    assert [value(screen, x, 0) for x in range(4)] == [128, 160, 96, 96]


def test_a_kept_image_is_the_image_at_that_time() -> None:
    screen = screen_of(2, 1)
    other = Screen(1, screen.caches)
    apply(other, surface(2, 1))
    image = bitmap(2, 1, b"\1\0\0\0\2\0\0\0", keep=3)
    apply(screen, copy(image, rect(0, 0, 2, 1)))
    apply(screen, fill(rect(0, 0, 2, 1), 0))
    apply(other, copy(referred(103, 1), rect(0, 0, 2, 1)))
    assert value(other, 0, 0) == 0xFF000001  # HIGH_BITS_SET, through the session's cache


def test_a_mask_says_which_pixels_are_drawn() -> None:
    screen = screen_of(4, 1)
    box = rect(0, 0, 4, 1)
    bits = bitmap(4, 1, b"\x50", format=2, image_id=8, keep=1)
    through = QMask(flags=0, pos=Point(x=0, y=0), bitmap=bits)
    apply(screen, fill(box, 7).replace(mask=through))
    assert [value(screen, x, 0) for x in range(4)] == [0, 7, 0, 7]
    inverted = QMask(flags=1, pos=Point(x=1, y=0), bitmap=referred(103, 8))
    apply(screen, copy(bitmap(4, 1, bytes([9, 0, 0, 0] * 4)), box).replace(mask=inverted))
    assert [value(screen, x, 0) for x in range(4)] == [0, 9, 0, 7]
    empty = QMask(flags=0, pos=Point(x=9, y=9), bitmap=bits)
    assert apply(screen, fill(box, 1).replace(mask=empty)) == []
    wrong = QMask(flags=0, pos=Point(x=0, y=0), bitmap=bitmap(1, 1, b"abcd"))
    assert missing(apply(screen, fill(box, 1).replace(mask=wrong))) == ["the mask is not of 1 bit"]
    assert missing(apply(screen, copy(referred(103, 8), box))) == ["the image is a mask"]
    apply(screen, surface(4, 1, 3, format=1, flags=0))
    zero = QMask(flags=1, pos=Point(x=0, y=0), bitmap=referred(104, 0, SurfaceImage(surface_id=3)))
    apply(screen, fill(box, 3).replace(mask=zero))
    assert value(screen, 0, 0) == 3
    assert missing(apply(screen, fill(box, 3, surface_id=3)))


def test_palettes_are_kept_by_their_number() -> None:
    screen = screen_of(4, 1)
    palette = Palette(unique=77, ents=(0x111111, 0x222222))
    box = rect(0, 0, 4, 1)
    apply(screen, copy(bitmap(4, 1, b"\x50", format=2, flags=5, palette=palette), box))
    assert [value(screen, x, 0) for x in range(4)] == [0x111111, 0x222222] * 2
    later = bitmap(4, 1, b"\xa0", format=2, flags=6, palette_id=77)
    apply(screen, copy(later, box))
    assert [value(screen, x, 0) for x in range(4)] == [0x222222, 0x111111] * 2
    apply(screen, display.InvalPalette(id=77))
    assert missing(apply(screen, copy(later, box))) == ["the palette is not in the cache"]
    apply(screen, copy(bitmap(4, 1, b"\x50", format=2, flags=5, palette=palette), box))
    apply(screen, display.InvalAllPalettes())
    assert missing(apply(screen, copy(later, box))) == ["the palette is not in the cache"]


def test_what_is_not_drawn_is_told_and_counted() -> None:
    screen = screen_of()
    head = ImageDescriptor(id=1, type=1, flags=0, width=2, height=2)
    quic = Image(descriptor=head, body=BinaryData(data=b"QUIC"))
    event = apply(screen, copy(quic, rect(1, 2, 3, 4)))
    assert event == [
        NotDrawn(
            display=0,
            what="DrawCopy",
            surface_id=0,
            box=(1, 2, 3, 4),
            reason="the QUIC image is damaged",
            detail="offset 4: QUIC image: 4 bytes are less than a header (20)",
        )
    ]
    apply(screen, copy(quic, rect(1, 2, 3, 4)))
    assert screen.not_drawn == {("DrawCopy", "the QUIC image is damaged"): 2}
    assert not screen.ready
    assert missing(apply(screen, fill(rect(0, 0, 1, 1), 1, surface_id=9)))
    assert missing(apply(screen, copy(None, rect(0, 0, 1, 1)))) == ["there is no image"]
    blend = draw.DrawAlphaBlend(
        base=base(rect(0, 0, 1, 1)),
        alpha_flags=0,
        alpha=9,
        src_bitmap=None,
        src_area=rect(0, 0, 1, 1),
    )
    assert missing(apply(screen, blend)) == ["there is no image"]
    assert screen.draws == 0


def test_a_part_with_its_sides_turned_is_mirrored() -> None:
    screen = screen_of()
    image = bitmap(2, 1, b"\1\0\0\0\2\0\0\0")
    assert not missing(apply(screen, copy(image, rect(1, 0, 3, 1), rect(2, 0, 0, 1))))
    assert [value(screen, x, 0) for x in range(4)] == [0, 2, 1, 0]


def video(stream_id: int) -> display.StreamCreate:
    return display.StreamCreate(
        surface_id=0,
        id=stream_id,
        flags=1,
        codec_type=1,
        stamp=0,
        stream_width=4,
        stream_height=4,
        src_width=4,
        src_height=4,
        dest=rect(1, 1, 5, 5),
        clip=Clip(type=1, rects=(rect(1, 1, 2, 2),)),
    )


def test_videos_are_followed() -> None:
    screen = screen_of()
    assert apply(screen, video(5)) == [
        StreamStarted(display=0, stream_id=5, codec=1, width=4, height=4)
    ]
    frame = display.StreamData(id=5, multi_media_time=1, data=b"x")
    (event,) = apply(screen, frame)
    assert isinstance(event, NotDrawn)
    assert (event.what, event.box) == ("StreamData", (1, 1, 5, 5))
    apply(screen, display.StreamClip(id=5, clip=NO_CLIP))
    assert screen.streams[5].clip is None
    assert apply(screen, display.StreamDestroy(id=5)) == [
        StreamEnded(display=0, stream_id=5, frames=1)
    ]
    assert apply(screen, display.StreamDestroy(id=5)) == []
    assert missing(apply(screen, frame)) == ["there is no such video"]
    for number in range(MAX_STREAMS):
        apply(screen, video(number))
    with pytest.raises(RemoteProtocolError, match="videos"):
        apply(screen, video(MAX_STREAMS))
    assert len(apply(screen, display.StreamDestroyAll())) == MAX_STREAMS


def test_too_many_or_too_large_surfaces_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(0, Caches(), surface_bytes=1000)
    with pytest.raises(RemoteProtocolError, match=r"display:0, SurfaceCreate: .* 16x16"):
        apply(screen, surface(16, 16))
    apply(screen, surface(15, 16))
    with pytest.raises(RemoteProtocolError):
        apply(screen, surface(8, 8, 1, flags=0))
    apply(screen, display.SurfaceDestroy(surface_id=0))
    apply(screen, surface(8, 8, 1, flags=0))
    for broken in (surface(1 << 31, 1), surface(0, 1), surface(16384, 16384)):
        with pytest.raises(RemoteProtocolError):
            apply(screen, broken)
    with pytest.raises(RemoteProtocolError, match="format"):
        apply(screen, surface(1, 1, format=31))
    monkeypatch.setattr(module, "MAX_SURFACES", 3)
    for number in range(1, 4):
        apply(screen, surface(1, 1, number, flags=0))
    with pytest.raises(RemoteProtocolError, match="3 surfaces"):
        apply(screen, surface(1, 1, 4, flags=0))


def test_caches_have_limits() -> None:
    reader = Screen(0, Caches(image_pixels=8))
    apply(reader, surface(8, 6))
    for number in range(4):
        image = bitmap(2, 2, bytes(16), image_id=number, keep=1)
        apply(reader, copy(image, rect(0, 0, 2, 2)))
    cache = reader.caches.images
    assert (len(cache), cache.pixels) == (4, 16)
    with pytest.raises(RemoteProtocolError, match="room for 8 pixels"):
        apply(reader, copy(bitmap(1, 1, bytes(4), image_id=9, keep=1), rect(0, 0, 1, 1)))
    palettes = PaletteCache()
    for number in range(MAX_PALETTES):
        palettes.put(number, ())
    palettes.put(0, (1,))
    assert len(palettes) == MAX_PALETTES
    with pytest.raises(RemoteProtocolError, match="palettes"):
        palettes.put(MAX_PALETTES, ())


def test_an_image_put_twice_is_dropped_twice() -> None:
    caches = Caches()
    screens = [Screen(number, caches) for number in range(2)]
    for screen in screens:
        apply(screen, surface(2, 1))
        apply(screen, copy(bitmap(2, 1, bytes(8), keep=1), rect(0, 0, 2, 1)))
    assert caches.images.pixels == 2
    drop = display.InvalList(resources=(display.ResourceId(type=1, id=1),))
    apply(screens[0], drop)
    assert 1 in caches.images
    apply(screens[1], drop)
    apply(screens[1], drop)
    assert 1 not in caches.images
    assert caches.images.pixels == 0
    caches.images.put(1, screens[0].surfaces[0], lossy=True)
    assert caches.images.get(1, lossless=True) is None
    apply(screens[0], copy(bitmap(2, 1, b"abcdefgh", keep=4), rect(0, 0, 2, 1)))
    kept = caches.images.get(1, lossless=True)
    assert kept is not None
    assert bytes(kept.tight()) == b"abcdefgh"
    caches.clear()
    assert len(caches.images) == 0


def test_a_screen_can_move_at_any_moment() -> None:
    image = bitmap(2, 1, b"\1\0\0\0\2\0\0\0", keep=1)
    script: list[Message] = [
        surface(8, 6),
        surface(4, 4, 1, flags=0),
        display.Mark(),
        copy(image, rect(0, 0, 2, 1)),
        video(2),
        fill(rect(0, 0, 4, 4), 9, surface_id=1),
        copy(referred(103, 1), rect(4, 4, 6, 5)),
        copy(referred(104, 0, SurfaceImage(surface_id=1)), rect(2, 2, 6, 6)),
        display.StreamDestroyAll(),
        display.SurfaceDestroy(surface_id=1),
    ]
    stays, moves = Screen(0, Caches()), Screen(0, Caches())
    for message in script:
        moves = pickle.loads(pickle.dumps(moves))
        assert apply(moves, message) == apply(stays, message)
        assert moves.snapshot().bgrx == stays.snapshot().bgrx
    assert moves.caches.images is moves._draws.reader.images
