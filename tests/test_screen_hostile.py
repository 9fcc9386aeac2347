"""The screen against hostile servers: documented errors only, and memory within its bounds."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.test_screen import (
    XOR,
    apply,
    base,
    bitmap,
    copy,
    rect,
    referred,
    screen_of,
    surface,
)

from aiospice.canvas.bitmap import BITS
from aiospice.canvas.pixels import RGB555, XRGB
from aiospice.channels.events import Event
from aiospice.client.caches import Caches
from aiospice.client.draws import Draws
from aiospice.client.screen import Screen, ScreenChanged
from aiospice.errors import DecodeError, RemoteProtocolError
from aiospice.wire import display, draw
from aiospice.wire.images import Brush, Pattern, QMask, SolidColor, SurfaceImage
from aiospice.wire.message import Message
from aiospice.wire.registry import find
from aiospice.wire.shapes import Palette, Point

NUMBERS = sorted({**Screen.handlers, **Draws.handlers})


@given(st.lists(st.tuples(st.sampled_from(NUMBERS), st.binary(max_size=120)), max_size=12))
def test_bytes_from_anyone_raise_documented_errors_only(
    script: list[tuple[int, bytes]],
) -> None:
    screen = Screen(0, Caches(), surface_bytes=1 << 16)
    screen.apply(surface(8, 6))
    for number, body in script:
        kind = find(2, "server", number)
        assert kind is not None
        try:
            events = screen.apply(kind.parse(body))
        except (DecodeError, RemoteProtocolError):
            break
        assert all(isinstance(event, Event) for event in events)
    assert sum(len(one.data) for one in screen.surfaces.values()) <= 1 << 16


EDGES = st.sampled_from((-(1 << 31), -9, -1, 0, 1, 3, 6, 8, 9, 20, (1 << 31) - 1))
RECTS = st.builds(rect, EDGES, EDGES, EDGES, EDGES)
IMAGES = st.one_of(
    st.none(),
    st.builds(referred, st.sampled_from((103, 106)), st.integers(0, 2)),
    st.builds(lambda n: referred(104, 0, SurfaceImage(surface_id=n)), st.integers(0, 2)),
    st.builds(
        lambda format, flags, keep, x, y, data: bitmap(
            x, y, data * y, format=format, flags=flags & ~2, keep=keep, palette=None
        ),
        st.integers(0, 11),
        st.integers(0, 7),
        st.integers(0, 7),
        st.integers(0, 40) | st.just(1 << 31),
        st.integers(1, 9),
        st.binary(max_size=40),
    ),
)
BASES = st.builds(base, RECTS, st.integers(0, 2), st.none() | st.lists(RECTS, max_size=4))
ROPS = st.integers(0, 2047)
MASKS = st.builds(
    lambda image, flags, x, y: QMask(flags=flags, pos=Point(x=x, y=y), bitmap=image),
    IMAGES,
    st.integers(0, 1),
    EDGES,
    EDGES,
)
BRUSHES = st.one_of(
    st.builds(lambda c: Brush(type=1, body=SolidColor(color=c)), st.integers(0, 0xFFFFFFFF)),
    st.just(Brush(type=0, body=None)),
    st.builds(
        lambda image, x, y: Brush(type=2, body=Pattern(pat=image, pos=Point(x=x, y=y))),
        IMAGES.filter(lambda image: image is not None),
        EDGES,
        EDGES,
    ),
)
MESSAGES = st.one_of(
    st.builds(draw.DrawFill, base=BASES, brush=BRUSHES, rop_descriptor=ROPS, mask=MASKS),
    st.builds(
        draw.DrawCopy,
        base=BASES,
        src_bitmap=IMAGES,
        src_area=RECTS,
        rop_descriptor=ROPS,
        scale_mode=st.integers(0, 1),
        mask=MASKS,
    ),
    st.builds(
        draw.DrawOpaque,
        base=BASES,
        src_bitmap=IMAGES,
        src_area=RECTS,
        brush=BRUSHES,
        rop_descriptor=ROPS,
        scale_mode=st.integers(0, 1),
        mask=MASKS,
    ),
    st.builds(display.CopyBits, base=BASES, src_pos=st.builds(Point, x=EDGES, y=EDGES)),
    st.builds(
        surface,
        EDGES.map(abs),
        EDGES.map(abs),
        st.integers(0, 2),
        st.sampled_from((1, 8, 16, 80, 96)),
    ),
    st.builds(display.SurfaceDestroy, surface_id=st.integers(0, 2)),
)


@given(st.lists(MESSAGES, max_size=15))
def test_well_formed_nonsense_raises_documented_errors_only(script: list[Message]) -> None:
    screen = Screen(0, Caches(image_pixels=100), surface_bytes=1 << 14)
    screen.apply(surface(8, 6))
    screen.apply(surface(5, 5, 1, flags=0))
    for message in script:
        try:
            apply(screen, message)
        except RemoteProtocolError:
            pass
        assert sum(len(one.data) for one in screen.surfaces.values()) <= 1 << 14
        assert screen.caches.images.pixels <= 200


@pytest.mark.parametrize("format", range(1, 11))
@pytest.mark.parametrize("target", [XRGB, RGB555])
def test_a_draw_needs_little_more_than_its_image(format: int, target: int) -> None:
    """The bound that the module states: three times the image, at four bytes a pixel."""
    side = 700
    screen = screen_of(side, side, target)
    stride = (side * BITS[format] + 7) // 8 + 8
    palette = Palette(unique=1, ents=tuple(range(256)))
    image = bitmap(side, side, bytes(stride * side), format=format, palette=palette, keep=1)
    message = copy(image, rect(0, 0, side, side), rop=XOR)
    tracemalloc.start()
    try:
        events = screen.apply(message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [type(event) for event in events] == [ScreenChanged]
    assert peak < 3 * 4 * side * side + (1 << 18)
