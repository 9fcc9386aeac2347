"""Conversion and scaling beside pixman, the library that every other client draws with."""

from __future__ import annotations

import ctypes
import random
from typing import Any

import pytest

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


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (3, 0, 1, 5), (0, 5, 3, 4)])
def test_a_turned_or_empty_box_is_refused(box: tuple[int, int, int, int]) -> None:
    image = Pixels(8, 8, XRGB)
    with pytest.raises(RemoteProtocolError, match="fill"):
        scaled(image, (0, 0, 4, 4), box, (0, 0, 4, 4), smooth=False)
