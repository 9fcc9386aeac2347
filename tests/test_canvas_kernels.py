"""The compiled loops of the canvas: bounds, both ways of running, and one way beside the other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.twins import uncompiled

from aiospice.canvas import composite as module
from aiospice.canvas import kernel, layers, rows
from aiospice.canvas.composite import Source, composite
from aiospice.canvas.pixels import A8, ARGB, BYTES, RGB565, XRGB, Pixels

ROWS: Any = uncompiled("aiospice.canvas.rows")
KERNEL: Any = uncompiled("aiospice.canvas.kernel")
LAYERS: Any = uncompiled("aiospice.canvas.layers")
SIDES = st.integers(1, 24)
WIDE = st.integers(1, 64) | st.just(300)


def pixels(data: st.DataObject, width: int, height: int, format: int) -> Pixels:
    size = width * height * BYTES[format]
    seed = data.draw(st.binary(min_size=1, max_size=40))
    return Pixels(width, height, format, bytearray((seed * size)[:size]))


def layer(image: Pixels) -> tuple[Any, ...]:
    return (image.data, 0, image.stride, BYTES[image.format], image.format != XRGB, False)


@given(st.data(), WIDE, st.integers(1, 4), st.sampled_from((1, 3, 12)), st.booleans())
def test_layers_are_the_same_uncompiled(
    data: st.DataObject, width: int, height: int, operator: int, each: bool
) -> None:
    target = pixels(data, width, height, data.draw(st.sampled_from((A8, XRGB, ARGB))))
    formats = st.sampled_from((A8, XRGB, ARGB))
    source = layer(pixels(data, width, height, data.draw(formats)))
    mask = layer(pixels(data, width, height, data.draw(formats)))
    if data.draw(st.booleans()):
        source = (data.draw(st.binary(min_size=4, max_size=4)) * 256, 0, 0, 4, True, True)
    kind = data.draw(st.integers(0, 2))
    through = (
        None,
        mask,
        (data.draw(st.binary(min_size=1, max_size=1)) * 256, 0, 0, 1, True, True),
    )
    other = target.copy()
    other.data = bytearray(other.data)
    layers.lay(operator, width, height, layer(target), source, through[kind], each)
    LAYERS.lay(operator, width, height, layer(other), source, through[kind], each)
    assert target == other


@given(st.data(), SIDES, SIDES, st.integers(0, 255), st.integers(0, 15))
def test_rows_are_the_same_uncompiled(
    data: st.DataObject, width: int, height: int, code: int, rop: int
) -> None:
    targets = [bytearray(data.draw(st.binary(min_size=1, max_size=9)) * 600) for _ in range(1)]
    targets.append(bytearray(targets[0]))
    source = data.draw(st.binary(min_size=1, max_size=9)) * 600
    form = tuple(255 * (rop >> bit & 1) for bit in range(4))
    long = bytes(255 * (code >> bit & 1) for bit in range(8))
    for target, loops in zip(targets, (rows, ROWS), strict=True):
        loops.copy(target, 3, width, width, height, target, 0, width)
        loops.copy(target, 0, 24, width, height, source, height * 24, -24)
        loops.repeat(target, 600 - width * height, width, width, height, source, 0, 7, 5, 3, 4, 2)
        loops.mix(target, 1, 25, width, height, source, 0, 0, form)
        loops.mix3(target, 0, 24, width, height, source, 0, 24, source, 5, 0, long)
    assert targets[0] == targets[1]


@given(st.data(), SIDES, SIDES, st.sampled_from((1, 2, 4)), st.sampled_from((1, 4, 8)))
def test_other_loops_are_the_same_uncompiled(
    data: st.DataObject, width: int, height: int, size: int, depth: int
) -> None:
    targets = [bytearray(data.draw(st.binary(min_size=1, max_size=9)) * 3000)]
    targets.append(bytearray(targets[0]))
    source = data.draw(st.binary(min_size=1, max_size=99)) * 3000
    mask = bytes(255 * (value & 1) for value in source)
    start, step = (
        data.draw(st.integers(-(1 << 20), 1 << 20)),
        data.draw(st.integers(-200000, 200000)),
    )
    down, colour = 2 * data.draw(st.integers(0, 127)), data.draw(st.integers(0, 0xFFFFFFFF))
    for target, loops in zip(targets, (kernel, KERNEL), strict=True):
        loops.key(target, 0, 96, width, height, source, 0, 96, size, colour)
        loops.stamp(target, 5, 30, width, height, source, 0, 30, 3, depth)
        loops.nearest(target, 9, width, source, 2, size, height, start, step)
        loops.smooth(target, 200, width, source, (-1, 8), size, height, start, step, down)
        loops.smooth(target, 400, width, source, (96, 8), size, height, start, step, down)
        loops.blend(target, 0, 96, width, height, source, 1, 96, mask, 3, 25, size, 255)
    assert targets[0] == targets[1]


PLACES: list[tuple[Any, ...]] = [(-1, 4), (0, 40), (61, 4), (0, -4), (64, 1)]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("compiled", [True, False])
def test_rows_outside_of_their_buffers_are_refused(place: tuple[int, int], compiled: bool) -> None:
    one: Any = rows if compiled else ROWS
    two: Any = kernel if compiled else KERNEL
    three: Any = layers if compiled else LAYERS
    target, fine = bytearray(64), (bytes(64), 0, 4)
    away = (bytes(64), *place)
    good: tuple[Any, ...] = (bytes(1024), 0, 4, 4, True, False)
    bad: tuple[Any, ...] = (bytes(64), *place, 4, True, False)
    calls: list[Any] = [
        lambda: one.copy(target, *place, 4, 3, *fine),
        lambda: one.copy(target, 0, 4, 4, 3, *away),
        lambda: one.mix(target, *place, 4, 3, *fine, (0, 255, 0, 0)),
        lambda: one.mix(target, 0, 4, 4, 3, *away, (0, 255, 0, 0)),
        lambda: one.mix3(target, *place, 4, 3, *fine, *fine, bytes(8)),
        lambda: one.mix3(target, 0, 4, 4, 3, *away, *fine, bytes(8)),
        lambda: one.mix3(target, 0, 4, 4, 3, *fine, *away, bytes(8)),
        lambda: one.repeat(target, *place, 4, 3, *fine, 4, 3, 0, 0),
        lambda: one.repeat(target, 0, 4, 4, 3, *away, 4, 3, 0, 0),
        lambda: two.key(target, *place, 1, 3, *fine, 4, 0),
        lambda: two.key(target, 0, 4, 1, 3, *away, 4, 0),
        lambda: two.stamp(target, *place, 4, 3, *fine, 0, 8),
        lambda: two.stamp(target, 0, 4, 4, 3, *away, 0, 8),
        lambda: two.blend(target, *place, 1, 3, *fine, *fine, 4, 0),
        lambda: two.blend(target, 0, 4, 1, 3, *away, *fine, 4, 0),
        lambda: two.blend(target, 0, 4, 4, 3, bytes(64), 0, 16, *away, 4, 0),
        lambda: three.lay(3, 1, 3, (target, *place, 4, True, False), good, None, False),
        lambda: three.lay(3, 1, 3, (target, 0, 4, 4, True, False), bad, None, False),
        lambda: three.lay(3, 1, 3, (target, 0, 4, 4, True, False), good, bad, True),
    ]
    for call in calls:
        with pytest.raises(IndexError):
            call()
    assert target == bytearray(64)


@pytest.mark.parametrize("compiled", [True, False])
def test_single_rows_and_columns_outside_are_refused(compiled: bool) -> None:
    one: Any = rows if compiled else ROWS
    two: Any = kernel if compiled else KERNEL
    three: Any = layers if compiled else LAYERS
    target = bytearray(64)
    image = (target, 0, 4, 4, True, False)
    calls: list[Any] = [
        lambda: two.nearest(target, 61, 1, bytes(8), 0, 4, 2, 0, 0),
        lambda: two.nearest(target, 0, 1, bytes(8), 1, 4, 2, 0, 0),
        lambda: two.smooth(target, 61, 1, bytes(8), (0, -1), 4, 2, 0, 0, 0),
        lambda: two.smooth(target, 0, 1, bytes(8), (0, 1), 4, 2, 0, 0, 0),
        lambda: two.stamp(target, 0, 4, 4, 3, bytes(64), 0, 4, -1, 8),
        lambda: one.repeat(target, 0, 4, 4, 3, bytes(64), 0, 4, 4, 3, 4, 0),
        lambda: one.repeat(target, 0, 4, 4, 3, bytes(64), 0, 4, 4, 3, 0, -1),
        lambda: one.mix3(target, 0, 4, 4, 3, bytes(64), 0, 4, bytes(64), 0, 4, bytes(7)),
        lambda: three.lay(3, 1, 1, image, (bytes(1023), 0, 0, 4, True, True), None, False),
        lambda: three.lay(3, 1, 1, image, image, (bytes(255), 0, 0, 1, True, True), False),
    ]
    for call in calls:
        with pytest.raises(IndexError):
            call()
    assert target == bytearray(64)


@given(st.data(), SIDES, SIDES, st.sampled_from((1, 3, 12)), st.booleans())
def test_the_short_way_of_a_composite_is_the_long_one(
    data: st.DataObject, width: int, height: int, operator: int, each: bool
) -> None:
    formats = st.sampled_from((A8, XRGB, ARGB, RGB565))
    surface = pixels(data, width, height, data.draw(st.sampled_from((A8, XRGB, ARGB))))
    places = st.integers(-9, 9)

    def some() -> Source:
        image = pixels(data, data.draw(SIDES), data.draw(SIDES), data.draw(formats))
        x, y = data.draw(places), data.draw(places)
        shift = ((1 << 16, 0, data.draw(places) << 16), (0, 1 << 16, data.draw(places) << 16))
        return Source(
            image, (x, y), filter=data.draw(st.sampled_from((0, 3, 4))),
            repeat=data.draw(st.integers(0, 3)), matrix=shift,
        )  # fmt: skip

    source, mask = some(), some() if data.draw(st.booleans()) else None
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box, corner = (left, top, width, height), (data.draw(places), data.draw(places))
    other = Pixels(width, height, surface.format, bytearray(surface.data))
    composite(surface, box, corner, operator, source, mask, component_alpha=each)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "straight", lambda *_, **__: False)
        composite(other, box, corner, operator, source, mask, component_alpha=each)
    if surface.format == XRGB:  # the bytes beside the colours mean nothing
        surface.data[3::4] = other.data[3::4] = bytes(width * height)  # type: ignore[index]
    assert surface == other
