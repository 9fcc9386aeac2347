"""Draws that nobody honest sends: nothing outside changes, and only documented errors come."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.canvas_cases import KINDS, Surface, case
from tests.test_screen import NO_MASK, base, rect

from aiospice.canvas import lines
from aiospice.canvas.pixels import ARGB, BYTES, RGB555, XRGB
from aiospice.client.caches import Caches
from aiospice.client.draws import box_of
from aiospice.client.screen import NotDrawn, Screen
from aiospice.errors import RemoteProtocolError
from aiospice.wire import display, draw
from aiospice.wire.images import (
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
from aiospice.wire.shapes import Clip, Point, Point16, PointFix, Rect, Transform

FAR = st.sampled_from((-(1 << 31), (1 << 31) - 1, -40000, 40000, -1, 0, 1, 7))
NUMBERS = st.integers(0, 1 << 40)
#: What clears fourth bytes that mean nothing wherever it might have drawn: upstream's
#: ``clear_dest_alpha`` (``sw_canvas.c``) heeds no clip.
_CLEARS = ("text", "alpha_blend")
EVERYWHERE = st.builds(Rect, left=FAR, top=FAR, right=FAR, bottom=FAR)


def screen_of(surfaces: list[Surface]) -> Screen:
    screen = Screen(0, Caches())
    for id, width, height, format, data in surfaces:
        screen.apply(
            display.SurfaceCreate(
                surface_id=id, width=width, height=height, format=format, flags=int(id == 0)
            )
        )
        memoryview(screen.surfaces[id].data)[:] = data
    return screen


def attempt(screen: Screen, message: Message) -> None:
    """Draw it, or be told what is wrong."""
    with suppress(RemoteProtocolError):
        screen.apply(message)


def allowed(message: Any, x: int, y: int) -> bool:
    """Tell whether box and clip let a pixel be drawn."""
    boxes = [box_of(message.base.box)]
    if message.base.clip.type:
        clip = [box_of(one) for one in message.base.clip.rects]
        if not any(one[0] <= x < one[2] and one[1] <= y < one[3] for one in clip):
            return False
    left, top, right, bottom = boxes[0]
    return left <= x < right and top <= y < bottom


@pytest.mark.parametrize("kind", KINDS)
@given(number=NUMBERS)
@example(number=31030104)  # a text whose glyphs reach over its box
@settings(max_examples=25)
def test_only_what_box_and_clip_let_through_changes(kind: str, number: int) -> None:
    surfaces, message = case(kind, number)
    screen = screen_of(surfaces)
    screen.apply(message)
    _, width, height, format, before = surfaces[0]
    after, size = bytes(screen.surfaces[0].data), BYTES[format]
    for at in range(width * height):
        if not allowed(message, at % width, at // width):
            now, was = (data[at * size : at * size + size] for data in (after, before))
            if kind in _CLEARS and format == XRGB and now[3] == 0:
                was = was[:3] + b"\0"
            assert now == was
    for id, _, _, _, data in surfaces[1:]:
        assert bytes(screen.surfaces[id].data) == data


@pytest.mark.parametrize("kind", KINDS)
@given(number=NUMBERS, data=st.data())
@settings(max_examples=25)
def test_numbers_that_lie_do_no_harm(kind: str, number: int, data: st.DataObject) -> None:
    surfaces, message = case(kind, number)
    screen = screen_of(surfaces)
    whole: Any = message
    changes: dict[str, Any] = {}
    if data.draw(st.booleans()):
        clip = Clip(type=1, rects=tuple(data.draw(st.lists(EVERYWHERE, max_size=3))))
        changes["base"] = whole.base.replace(box=data.draw(EVERYWHERE), clip=clip)
    for name in ("src_area", "back_area"):
        if hasattr(message, name):
            changes[name] = data.draw(EVERYWHERE)
    if hasattr(message, "mask"):
        point = Point(x=data.draw(FAR), y=data.draw(FAR))
        changes["mask"] = whole.mask.replace(pos=point)
    if hasattr(message, "src_pos"):
        changes["src_pos"] = Point(x=data.draw(FAR), y=data.draw(FAR))
    if hasattr(message, "src_transform"):
        some = st.integers(0, 0xFFFFFFFF) | st.sampled_from((0, 1, 0x7FFFFFFF, 0x80000000))
        names = ("t00", "t01", "t02", "t10", "t11", "t12")
        changes["src_transform"] = Transform(**{name: data.draw(some) for name in names})
        changes["flags"] = whole.flags & ~255 | 1 << 20 | data.draw(st.integers(0, 255))
        corner = st.sampled_from((-32768, 32767, 0))
        changes["src_origin"] = Point16(x=data.draw(corner), y=data.draw(corner))
    if hasattr(message, "path"):
        points = st.builds(PointFix, x=FAR, y=FAR)
        flags = st.integers(0, 31)
        segments = st.builds(
            draw.PathSegment, flags=flags, points=st.lists(points, max_size=7).map(tuple)
        )
        changes["path"] = draw.Path(segments=tuple(data.draw(st.lists(segments, max_size=4))))
        style = tuple(data.draw(st.lists(FAR, max_size=4)))
        changes["attr"] = draw.LineAttr(flags=data.draw(st.sampled_from((8, 12))), style=style)
    if hasattr(message, "string"):
        glyphs = tuple(
            glyph.replace(render_pos=Point(x=data.draw(FAR), y=data.draw(FAR)))
            for glyph in whole.string.glyphs
        )
        changes["string"] = whole.string.replace(glyphs=glyphs)
    attempt(screen, message.replace(**changes))


def itself(surface_id: int = 0) -> Image:
    head = ImageDescriptor(id=0, type=104, flags=0, width=0, height=0)
    return Image(descriptor=head, body=SurfaceImage(surface_id=surface_id))


def drawn_from_itself(surface_id: int) -> list[Message]:
    """A draw of every kind that takes images, each of them the surface with that id."""
    image, box, area = itself(surface_id), base(rect(1, 1, 9, 9)), rect(0, 0, 8, 8)
    large = rect(0, 0, 3, 3)
    mask = QMask(flags=0, pos=Point(x=0, y=0), bitmap=image)
    brush = Brush(type=2, body=Pattern(pat=image, pos=Point(x=2, y=3)))
    plain = Brush(type=1, body=SolidColor(color=7))  # the image is on the surface before the brush
    glyph = draw.GlyphA8(
        render_pos=Point(x=2, y=2),
        glyph_origin=Point(x=0, y=0),
        width=2,
        height=2,
        data=b"\xff" * 4,
    )
    path = draw.Path(
        segments=(draw.PathSegment(flags=3, points=(PointFix(x=0, y=0), PointFix(x=150, y=99))),)
    )
    messages: list[Message] = []
    for part in (area, large):
        messages += [
            draw.DrawCopy(
                base=box,
                src_bitmap=image,
                src_area=part,
                rop_descriptor=rop,
                scale_mode=0,
                mask=one,
            )
            for rop in (8, 64)
            for one in (NO_MASK, mask)
        ]
        messages += [
            draw.DrawOpaque(
                base=box, src_bitmap=image, src_area=part, brush=plain, rop_descriptor=64,
                scale_mode=1, mask=NO_MASK,
            ),
            draw.DrawRop3(
                base=box, src_bitmap=image, src_area=part, brush=brush, rop3=0x96, scale_mode=0,
                mask=NO_MASK,
            ),
            draw.DrawTransparent(
                base=box, src_bitmap=image, src_area=part, src_color=0, true_color=1
            ),
            draw.DrawAlphaBlend(
                base=box, alpha_flags=3, alpha=100, src_bitmap=image, src_area=part
            ),
        ]  # fmt: skip
    messages += [
        draw.DrawFill(base=box, brush=brush, rop_descriptor=rop, mask=NO_MASK) for rop in (8, 64)
    ]
    messages += [
        draw.DrawText(
            base=box, string=draw.String(flags=4, glyphs=(glyph,)), back_area=rect(0, 0, 9, 9),
            fore_brush=brush, back_brush=brush, fore_mode=8, back_mode=8,
        ),
        draw.DrawStroke(
            base=box, path=path, attr=draw.LineAttr(flags=0, style=()), brush=brush, fore_mode=64,
            back_mode=0,
        ),
    ]  # fmt: skip
    messages += [
        draw.DrawComposite(
            base=box, flags=operator | 1 << 14 | 1 << 16 | 1 << 19, src_bitmap=image,
            mask_bitmap=image, src_transform=None, mask_transform=None,
            src_origin=Point16(x=1, y=2), mask_origin=Point16(x=0, y=0),
        )
        for operator in (1, 3, 11)
    ]  # fmt: skip
    return messages


@pytest.mark.parametrize("format", [XRGB, ARGB, RGB555])
@pytest.mark.parametrize("number", range(len(drawn_from_itself(0))))
def test_a_surface_drawn_from_itself_is_read_before_it_is_written(format: int, number: int) -> None:
    data = bytes(range(256)) * 3
    size = 12 * 12 * BYTES[format]
    one = screen_of([(0, 12, 12, format, data[:size]), (1, 12, 12, format, data[:size])])
    other = screen_of([(0, 12, 12, format, data[:size]), (1, 12, 12, format, data[:size])])
    one.apply(drawn_from_itself(0)[number])
    other.apply(drawn_from_itself(1)[number])
    assert one.surfaces[0] == other.surfaces[0]
    assert bytes(one.surfaces[1].data) == data[:size]


def stroke(points: int, style: tuple[int, ...] = (), count: int = 1) -> draw.DrawStroke:
    zigzag = tuple(
        PointFix(x=(place & 1) * 16 * 4000, y=16 * (place % 50)) for place in range(points)
    )
    segment = draw.PathSegment(flags=3, points=zigzag)
    return draw.DrawStroke(
        base=base(rect(0, 0, 64, 64)), path=draw.Path(segments=(segment,) * count),
        attr=draw.LineAttr(flags=8 if style else 0, style=style),
        brush=Brush(type=1, body=SolidColor(color=1)), fore_mode=8, back_mode=0,
    )  # fmt: skip


def test_strokes_of_too_many_pieces_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_PIECES", 1 << 14)
    screen = screen_of([(0, 64, 64, XRGB, bytes(64 * 64 * 4))])
    with pytest.raises(RemoteProtocolError, match="pieces"):
        screen.apply(stroke(6000, count=3))
    with pytest.raises(RemoteProtocolError, match="pieces"):
        screen.apply(stroke(400, style=(16, 16)))
    with pytest.raises(RemoteProtocolError, match="without any length"):
        screen.apply(stroke(2, style=(0, 0)))
    assert not any(screen.surfaces[0].data)


def test_a_long_line_costs_what_is_seen_of_it() -> None:
    screen = screen_of([(0, 64, 64, XRGB, bytes(64 * 64 * 4))])
    far = (1 << 31) - 1
    ends = (PointFix(x=-far, y=0), PointFix(x=far, y=16 * 63))
    path = draw.Path(segments=(draw.PathSegment(flags=3, points=ends),))
    assert not [
        event for event in screen.apply(stroke(2).replace(path=path)) if isinstance(event, NotDrawn)
    ]
    assert any(screen.surfaces[0].data)


def test_many_glyphs_cost_what_their_bytes_do() -> None:
    screen = screen_of([(0, 64, 64, XRGB, bytes(64 * 64 * 4))])
    glyph = draw.GlyphA1(
        render_pos=Point(x=3, y=3), glyph_origin=Point(x=0, y=0), width=0, height=65535, data=b""
    )
    small = draw.GlyphA1(
        render_pos=Point(x=3, y=3), glyph_origin=Point(x=0, y=0), width=1, height=1, data=b"\xff"
    )
    text = draw.DrawText(
        base=base(rect(0, 0, 64, 64)), string=draw.String(flags=1, glyphs=(glyph, small) * 15000),
        back_area=rect(0, 0, 0, 0), fore_brush=Brush(type=1, body=SolidColor(color=5)),
        back_brush=Brush(type=0, body=None), fore_mode=8, back_mode=8,
    )  # fmt: skip
    screen.apply(text)
    assert sum(screen.surfaces[0].data) == 5


def test_images_scaled_to_boxes_without_end_cost_what_is_seen_of_them() -> None:
    screen = screen_of([(0, 64, 64, XRGB, bytes(64 * 64 * 4))])
    head = ImageDescriptor(id=1, type=0, flags=0, width=1, height=1)
    body = BitmapData(
        format=8, flags=4, x=1, y=1, stride=4, palette_id=None, palette=None, data=b"abcd"
    )
    far = (1 << 31) - 1
    for mode in (0, 1):
        message = draw.DrawCopy(
            base=base(rect(-far, -far, far, far)), src_bitmap=Image(descriptor=head, body=body),
            src_area=rect(-far, -far, far, far - 1), rop_descriptor=8, scale_mode=mode,
            mask=NO_MASK,
        )  # fmt: skip
        attempt(screen, message)
