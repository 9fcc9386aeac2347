"""Conversion and scaling beside pixman, the library that every other client draws with."""

from __future__ import annotations

import ctypes
import random
from typing import Any

import pytest

from aiospice.canvas.composite import OPERATORS, Matrix, Source, composite
from aiospice.canvas.pixels import A8, ARGB, BYTES, RGB555, RGB565, XRGB, Pixels
from aiospice.canvas.raster import blit
from aiospice.canvas.region import intersect
from aiospice.canvas.scale import scaled
from aiospice.errors import MissingProgram, RemoteProtocolError

FORMATS = {A8: 0x08018000, RGB555: 0x10020555, RGB565: 0x10020565, XRGB: 0x20020888}
FORMATS[ARGB] = 0x20028888
SRC, NEAREST, GOOD, SIDE = 1, 3, 1, 40


class Transform(ctypes.Structure):
    _fields_ = [("matrix", (ctypes.c_int32 * 3) * 3)]


@pytest.fixture
def pixman() -> ctypes.CDLL:
    """The library, with the signatures that are needed."""
    try:
        library = ctypes.CDLL("libpixman-1.so.0")
    except OSError:
        raise MissingProgram("pixman isn't installed: install libpixman-1-0 (Debian)") from None
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.pixman_image_create_bits.restype = pointer
    library.pixman_image_create_bits.argtypes = [ctypes.c_uint, number, number, pointer, number]
    library.pixman_image_set_transform.argtypes = [pointer, pointer]
    library.pixman_image_set_filter.argtypes = [pointer, number, pointer, number]
    library.pixman_image_set_repeat.argtypes = [pointer, number]
    library.pixman_image_set_component_alpha.argtypes = [pointer, number]
    library.pixman_image_unref.argtypes = [pointer]
    library.pixman_image_composite32.argtypes = [number, *[pointer] * 3, *[number] * 8]
    library.pixman_transform_init_scale.argtypes = [pointer, number, number]
    library.pixman_transform_translate.argtypes = [pointer, pointer, number, number]
    return library


class Theirs:
    """Our pixels as an image of pixman's, whose rows begin at whole words."""

    def __init__(self, library: ctypes.CDLL, image: Pixels) -> None:
        self.library, self.image = library, image
        self.stride = (image.row_bytes + 3) // 4 * 4
        gap = bytes(self.stride - image.row_bytes)
        rows = b"".join(image.rows(y, y + 1) + gap for y in range(image.height))
        self.buffer: Any = ctypes.create_string_buffer(rows, len(rows) + 16)
        self.handle = library.pixman_image_create_bits(
            FORMATS[image.format],
            image.width,
            image.height,
            ctypes.addressof(self.buffer),
            self.stride,
        )

    def pixels(self) -> Pixels:
        image = self.image
        return Pixels(
            image.width, image.height, image.format, self.buffer.raw, 0, self.stride
        ).copy()

    def close(self) -> None:
        self.library.pixman_image_unref(self.handle)


def visible(image: Pixels, *, alpha: bool) -> bytes:
    """The bytes that mean something: without unused bits, and alpha only where it counts."""
    data = bytearray(image.tight())
    if BYTES[image.format] == 4 and not alpha:
        data[3::4] = bytes(len(data) // 4)
    elif image.format == RGB555:
        data[1::2] = bytes(value & 0x7F for value in data[1::2])
    return bytes(data)


def some_image(chance: random.Random, format: int, side: int) -> Pixels:
    width, height = chance.randint(1, side), chance.randint(1, side)
    return Pixels(width, height, format, chance.randbytes(width * height * BYTES[format]))


@pytest.mark.peers
@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_pixels_are_converted_as_pixman_does(pixman: ctypes.CDLL, source: int, target: int) -> None:
    chance = random.Random(source << 8 | target)
    for _ in range(30):
        image = some_image(chance, source, 20)
        one = Theirs(pixman, image)
        other = Theirs(pixman, Pixels(image.width, image.height, target))
        pixman.pixman_image_composite32(
            SRC, one.handle, None, other.handle, *[0] * 6, image.width, image.height
        )
        alpha = source == target == ARGB
        ours = image.converted(target)
        assert visible(ours, alpha=alpha) == visible(other.pixels(), alpha=alpha)
        one.close()
        other.close()


@pytest.mark.peers
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_images_are_scaled_as_pixman_does(pixman: ctypes.CDLL, format: int, smooth: bool) -> None:
    chance = random.Random(format)
    for _ in range(150):
        image = some_image(chance, format, 30)
        area_x, area_y = chance.randint(-3, image.width), chance.randint(-3, image.height)
        area_w, area_h = chance.randint(1, image.width + 3), chance.randint(1, image.height + 3)
        x, y = chance.randint(-5, 10), chance.randint(-5, 10)
        width, height = chance.randint(6, 60), chance.randint(6, 60)
        turn_x, turn_y = chance.choice((1, 1, -1)), chance.choice((1, 1, -1))
        transform = Transform()
        place = ctypes.byref(transform)
        pixman.pixman_transform_init_scale(
            place, turn_x * (area_w * 65536 // width), turn_y * (area_h * 65536 // height)
        )
        pixman.pixman_transform_translate(place, None, area_x << 16, area_y << 16)
        one, other = Theirs(pixman, image), Theirs(pixman, Pixels(SIDE, SIDE, format))
        pixman.pixman_image_set_transform(one.handle, place)
        pixman.pixman_image_set_filter(one.handle, GOOD if smooth else NEAREST, None, 0)
        pixman.pixman_image_set_repeat(one.handle, 0)
        pixman.pixman_image_composite32(
            SRC, one.handle, None, other.handle, *[0] * 4, x, y, width, height
        )
        ours = Pixels(SIDE, SIDE, format)
        box = (x, y, x + width, y + height)
        part = intersect(box, (0, 0, SIDE, SIDE))
        assert part is not None
        area = (area_x, area_y, area_x + turn_x * area_w, area_y + turn_y * area_h)
        made = scaled(image, area, box, part, smooth=smooth)
        blit(ours, [part], made, part[0], part[1])
        alpha = format == ARGB
        assert visible(ours, alpha=alpha) == visible(other.pixels(), alpha=alpha)
        one.close()
        other.close()


def matrix_of(chance: random.Random) -> Matrix:
    """Whole pixels, scaled, turned by a right angle, or anything."""
    one, shift = 1 << 16, [chance.randint(-6, 12) << 16 for _ in range(2)]
    if chance.random() < 0.4:
        return (one, 0, shift[0]), (0, one, shift[1])
    if chance.random() < 0.3:
        return (0, one, shift[0]), (-one, 0, 20 << 16)
    wide = [chance.randint(one // 4, 3 * one) for _ in range(2)]
    if chance.random() < 0.5:
        return (wide[0], 0, shift[0] + 99), (0, wide[1], shift[1] - 99)
    some = [chance.randint(-2 * one, 2 * one) for _ in range(4)]
    return (some[0], some[1], shift[0]), (some[2], some[3], shift[1])


def both(pixman: ctypes.CDLL, chance: random.Random, format: int) -> tuple[Source, Theirs]:
    """The same image, sampled in the same way, for us and for pixman."""
    image = some_image(chance, format, 24)
    if format == ARGB:  # premultiplied, as everybody's is
        data = bytearray(image.data)
        for at in range(0, len(data), 4):
            data[at : at + 3] = bytes(value * data[at + 3] // 255 for value in data[at : at + 3])
        image = Pixels(image.width, image.height, format, bytes(data))
    matrix = matrix_of(chance)
    filter, repeat = chance.choice((0, 1, 3, 4)), chance.randint(0, 3)
    source = Source(
        image,
        (chance.randint(-6, 6), chance.randint(-6, 6)),
        filter=filter,
        repeat=repeat,
        matrix=matrix,
    )
    theirs = Theirs(pixman, image)
    transform = Transform()
    for row in range(2):
        for column in range(3):
            transform.matrix[row][column] = matrix[row][column]
    transform.matrix[2][2] = 1 << 16
    pixman.pixman_image_set_transform(theirs.handle, ctypes.byref(transform))
    pixman.pixman_image_set_filter(theirs.handle, filter, None, 0)
    pixman.pixman_image_set_repeat(theirs.handle, repeat)
    return source, theirs


#: Operators whose result is the quotient of floats: rounding may differ by one on some machines.
DIVIDED = frozenset((13, *range(0x10, 0x2C), 0x35, 0x36, 0x38, *range(0x3B, 0x3F)))


@pytest.mark.peers
@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_operators_are_those_of_pixman(pixman: ctypes.CDLL, operator: int) -> None:
    chance = random.Random(operator)
    for _ in range(40):
        surface = some_image(chance, chance.choice((XRGB, ARGB, ARGB, A8, RGB565, RGB555)), 30)
        surface.data = bytearray(surface.data)
        source, one = both(pixman, chance, chance.choice((XRGB, ARGB, ARGB, A8, RGB565)))
        mask, other = both(pixman, chance, chance.choice((A8, ARGB)))
        masked, each = chance.random() < 0.5, chance.random() < 0.3
        if operator >= 0x3B and masked:
            continue  # what pixman does with masks there: tests/test_canvas_golden.py
        pixman.pixman_image_set_component_alpha(other.handle, each)
        target = Theirs(pixman, surface)
        pixman.pixman_image_composite32(
            operator, one.handle, other.handle if masked else None, target.handle,
            *source.origin, *mask.origin, 0, 0, surface.width, surface.height,
        )  # fmt: skip
        box = (0, 0, surface.width, surface.height)
        through = mask if masked else None
        composite(surface, box, (0, 0), operator, source, through, component_alpha=each)
        alpha = surface.format == ARGB
        ours = visible(surface, alpha=alpha)
        theirs = visible(target.pixels(), alpha=alpha)
        if operator in DIVIDED and BYTES[surface.format] != 2:
            assert all(abs(a - b) <= 1 for a, b in zip(ours, theirs, strict=True))
        else:
            assert ours == theirs
        for image in (one, other, target):
            image.close()


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (3, 0, 1, 5), (0, 5, 3, 4)])
def test_a_turned_or_empty_box_is_refused(box: tuple[int, int, int, int]) -> None:
    image = Pixels(8, 8, XRGB)
    with pytest.raises(RemoteProtocolError, match="fill"):
        scaled(image, (0, 0, 4, 4), box, (0, 0, 4, 4), smooth=False)
