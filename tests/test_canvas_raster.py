"""Regions and raster operations, against a model that goes pixel by pixel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.canvas import raster
from aiospice.canvas.mask import Area
from aiospice.canvas.pixels import A1, A8, ARGB, BYTES, RGB555, RGB565, XRGB, Pixels
from aiospice.canvas.region import Box, Region, bounds, region_of, shifted
from aiospice.errors import RemoteProtocolError

FORMATS = (A8, RGB555, RGB565, XRGB, ARGB)
SIDES = st.integers(1, 12)
#: Rectangles near, across and beyond a small surface, turned ones and empty ones too.
BOXES = st.tuples(*(st.integers(-8, 20) for _ in range(4)))
FAR = st.sampled_from((-(1 << 31), (1 << 31) - 1, -1, 0, 5))
CLIPS = st.none() | st.lists(BOXES | st.tuples(FAR, FAR, FAR, FAR), max_size=8)
Model = dict[tuple[int, int], int]


@st.composite
def surfaces(draw: st.DrawFn, format: int | None = None) -> Pixels:
    """A surface of random pixels."""
    chosen = draw(st.sampled_from(FORMATS)) if format is None else format
    width, height = draw(SIDES), draw(SIDES)
    size = width * height * BYTES[chosen]
    return Pixels(width, height, chosen, bytearray(draw(st.binary(min_size=size, max_size=size))))


def model_of(image: Pixels) -> Model:
    """All pixels by place."""
    size = BYTES[image.format]
    return {
        (x, y): int.from_bytes(image.data[at : at + size], "little")
        for y in range(image.height)
        for x in range(image.width)
        for at in [image.offset + y * image.stride + x * size]
    }


def inside(box: Box, x: int, y: int) -> bool:
    return box[0] <= x < box[2] and box[1] <= y < box[3]


def hit(surface: Pixels, box: Box, clip: list[Box] | None) -> set[tuple[int, int]]:
    """The places that a draw may touch."""
    return {
        place
        for place in model_of(surface)
        if inside(box, *place) and (clip is None or any(inside(rect, *place) for rect in clip))
    }


def region_for(surface: Pixels, box: Box, clip: list[Box] | None) -> Region:
    within = region_of((0, 0, surface.width, surface.height), [box])
    return region_of(within[0], clip) if within else []


def combined(source: int, target: int, rop: int, format: int) -> int:
    """Bit by bit through the truth table."""
    result = 0
    for bit in range(8 * BYTES[format]):
        row = (source >> bit & 1) << 1 | (target >> bit & 1)
        result |= (rop >> row & 1) << bit
    return result


@given(BOXES, CLIPS)
def test_a_region_has_each_pixel_once_and_in_order(box: Box, clip: list[Box] | None) -> None:
    region = region_of(box, clip)
    seen = [
        (y, x)
        for left, top, right, bottom in region
        for y in range(top, bottom)
        for x in range(left, right)
    ]
    assert len(seen) == len(set(seen))
    wanted = {
        (y, x)
        for y in range(box[1], box[3])
        for x in range(box[0], box[2])
        if clip is None or any(inside(rect, x, y) for rect in clip)
    }
    assert set(seen) == wanted
    assert [(part[1], part[0]) for part in region] == sorted((p[1], p[0]) for p in region)
    around = bounds(region)
    assert (around is None) == (not wanted)
    if around is not None:
        assert all(inside(around, x, y) for y, x in wanted)


def test_a_list_in_order_is_taken_as_it_is() -> None:
    clip = [(0, 0, 2, 2), (3, 0, 5, 2), (0, 2, 5, 3)]
    assert region_of((0, 0, 9, 9), clip) == clip
    assert shifted(clip, 1, 1, (0, 0, 4, 9)) == [(1, 1, 3, 3), (1, 3, 4, 4)]


def test_a_clip_that_is_too_much_work_is_refused() -> None:
    box = (0, 0, 10_000, 10_000)
    clip = [(0, n, 10_000, 10_000 - n) for n in range(2000)]
    with pytest.raises(RemoteProtocolError, match="clip"):
        region_of(box, clip)


@pytest.mark.parametrize("inverts", range(8))
@pytest.mark.parametrize("operation", [8, 16, 32, 64, 128, 256, 512, 0])
@pytest.mark.parametrize("result", [0, 1024])
def test_a_rop_descriptor_means_its_formula(inverts: int, operation: int, result: int) -> None:
    for source, target in (("src", "dest"), ("brush", "dest"), ("brush", "src")):
        rop = raster.rop_of(inverts | operation | result, source=source, target=target)
        flips = {"src": inverts & 1, "brush": inverts >> 1 & 1, "dest": inverts >> 2 & 1}
        for row in range(4):
            one, other = row >> 1 ^ flips[source], row & 1 ^ flips[target]
            formula = {
                8: one,
                16: one | other,
                32: one & other,
                64: one ^ other,
            }
            if operation in formula:
                wanted = formula[operation] ^ (1 if result else 0)
            else:
                wanted = {128: 0, 256: 1, 512: 1 - (row & 1), 0: row >> 1}[operation]
            assert rop >> row & 1 == wanted


@given(surfaces(), BOXES, CLIPS, st.integers(0, 0xFFFFFFFF), st.integers(0, 15))
def test_fill_reaches_what_it_should(
    surface: Pixels, box: Box, clip: list[Box] | None, colour: int, rop: int
) -> None:
    model = model_of(surface)
    places = hit(surface, box, clip)
    done = raster.fill(surface, region_for(surface, box, clip), colour, rop)
    assert done == len(places)
    for place in places:
        model[place] = combined(colour, model[place], rop, surface.format)
    assert model_of(surface) == model


def test_filling_many_rows_at_once_fills_them_all() -> None:
    surface = Pixels(4096, 150, XRGB)
    assert raster.fill(surface, [(0, 1, 4096, 150)], 0x01020304) == 4096 * 149
    assert bytes(surface.data) == bytes(16384) + b"\x04\x03\x02\x01" * (4096 * 149)


@given(st.data(), BOXES, CLIPS, st.integers(-9, 15), st.integers(-9, 15), st.integers(0, 15))
def test_blit_reaches_what_it_should(
    data: st.DataObject, box: Box, clip: list[Box] | None, dx: int, dy: int, rop: int
) -> None:
    surface = data.draw(surfaces())
    image = surface if data.draw(st.booleans()) else data.draw(surfaces(surface.format))
    if image is not surface and data.draw(st.booleans()):
        stride = image.stride
        image = Pixels(
            image.width, image.height, image.format, image.data, len(image.data) - stride, -stride
        )
    model, source = model_of(surface), model_of(image)
    done = raster.blit(surface, region_for(surface, box, clip), image, dx, dy, rop)
    reached = 0
    for x, y in hit(surface, box, clip):
        if (x - dx, y - dy) in source:
            model[x, y] = combined(source[x - dx, y - dy], model[x, y], rop, surface.format)
            reached += 1
    assert model_of(surface) == model
    assert done == reached


@given(st.data(), BOXES, CLIPS, st.integers(-40, 40), st.integers(-40, 40), st.integers(0, 15))
def test_a_tile_repeats_without_end(
    data: st.DataObject, box: Box, clip: list[Box] | None, ox: int, oy: int, rop: int
) -> None:
    surface = data.draw(surfaces())
    image = surface if data.draw(st.booleans()) else data.draw(surfaces(surface.format))
    model, source = model_of(surface), model_of(image)
    raster.tile(surface, region_for(surface, box, clip), image, ox, oy, rop)
    for x, y in hit(surface, box, clip):
        value = source[(x - ox) % image.width, (y - oy) % image.height]
        model[x, y] = combined(value, model[x, y], rop, surface.format)
    assert model_of(surface) == model


@given(surfaces(), BOXES, CLIPS, st.integers(-9, 9), st.integers(-9, 9))
def test_copying_within_a_surface_reads_before_it_writes(
    surface: Pixels, box: Box, clip: list[Box] | None, dx: int, dy: int
) -> None:
    model = model_of(surface)
    before = dict(model)
    raster.copy_region(surface, region_for(surface, box, clip), dx, dy)
    for x, y in hit(surface, box, clip):
        model[x, y] = before.get((x - dx, y - dy), model[x, y])
    assert model_of(surface) == model


@given(
    st.data(),
    BOXES,
    CLIPS,
    st.integers(-9, 15),
    st.integers(-9, 15),
    st.booleans(),
    st.integers(0, 15),
)
def test_a_mask_lets_its_ones_through(
    data: st.DataObject,
    box: Box,
    clip: list[Box] | None,
    ox: int,
    oy: int,
    inverted: bool,
    rop: int,
) -> None:
    surface = data.draw(surfaces())
    width, height = data.draw(SIDES), data.draw(SIDES)
    bits = data.draw(
        st.lists(st.sampled_from((0, 255)), min_size=width * height, max_size=width * height)
    )
    mask = Pixels(width, height, A1, bytes(bits))
    model = model_of(surface)
    with Area(surface, region_for(surface, box, clip), mask, (ox, oy), inverted) as area:
        raster.fill(surface, area.region, 0xA5A5A5A5, rop)
    for x, y in hit(surface, box, clip):
        if 0 <= x - ox < width and 0 <= y - oy < height:
            drawn = bool(bits[(y - oy) * width + x - ox]) != inverted
            if drawn:
                model[x, y] = combined(0xA5A5A5A5, model[x, y], rop, surface.format)
    assert model_of(surface) == model
