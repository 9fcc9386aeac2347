"""The codecs against a real QEMU: what it packs and is drawn here is what its guest shows."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.test_screen_qemu import COLOURS, becomes_true_screen, colours, watched

from aiospice.canvas.pixels import Pixels
from aiospice.client.images import ImageReader
from aiospice.codecs import glz, lz
from aiospice.codecs import zlib as zlib_glz
from aiospice.codecs.glz import GlzWindow
from aiospice.codecs.image import Decoded
from aiospice.wire.images import BinaryData, Image, ImageType, LzPltData, ZlibGlzData

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import QemuFactory

pytestmark = pytest.mark.peers


class Codecs:
    """Decodes what comes packed and leaves the rest to the reader of images."""

    def __init__(self) -> None:
        self.window = GlzWindow(1 << 20)
        self.seen: Counter[str] = Counter()
        self._rest = ImageReader._decoded

    def decoded(self, reader: ImageReader, image: Image, target: int) -> Pixels:
        """Stand in for the reader's method."""
        body, type = image.body, image.descriptor.type
        self.seen[ImageType(type).name] += 1
        got: object
        if isinstance(body, LzPltData):
            assert body.palette is not None, "palettes in this test are given, not cached"
            got = lz.decode(body.data, palette=body.palette.ents)
        elif isinstance(body, ZlibGlzData):
            got = zlib_glz.decode(body.data, body.glz_data_size, self.window)
        elif isinstance(body, BinaryData) and type == ImageType.LZ_RGB:
            got = lz.decode(body.data)
        elif isinstance(body, BinaryData) and type == ImageType.GLZ_RGB:
            got = glz.decode(body.data, self.window)
        else:
            return self._rest(reader, image, target)
        assert isinstance(got, Decoded), "one display channel has its images in order"
        return Pixels(got.width, got.height, got.format, got.data, got.offset, got.stride)


@pytest.fixture
def codecs(monkeypatch: pytest.MonkeyPatch) -> Codecs:
    made = Codecs()
    monkeypatch.setattr(
        ImageReader, "_decoded", lambda reader, image, target: made.decoded(reader, image, target)
    )
    return made


@pytest.mark.parametrize(
    ("options", "type"),
    [
        (("image-compression=lz",), "LZ_RGB"),
        (("image-compression=glz",), "GLZ_RGB"),
        (("image-compression=glz", "zlib-glz-wan-compression=always"), "ZLIB_GLZ_RGB"),
    ],
)
@pytest.mark.parametrize("vga", ["qxl", "std"])
async def test_what_qemu_packs_is_the_guests_screen(
    qemu_factory: QemuFactory, codecs: Codecs, vga: str, options: tuple[str, ...], type: str
) -> None:
    qemu = await qemu_factory(vga=vga, spice=(*options, "streaming-video=off"))
    async with watched(qemu) as tap:
        assert await becomes_true_screen(qemu, tap)
        for letter in "abcdefgh":
            await qemu.send_key(letter)
            await asyncio.sleep(0.05)
        assert await becomes_true_screen(qemu, tap)
        assert tap.screen.not_drawn == {}
        assert codecs.seen[type] > 0, codecs.seen


@pytest.mark.parametrize("compression", ["lz", "glz"])
async def test_a_screen_of_many_colours_is_followed(
    qemu_factory: QemuFactory, codecs: Codecs, tmp_path: Path, compression: str
) -> None:
    disk = tmp_path / "colours.img"
    disk.write_bytes(COLOURS.ljust(510, b"\0") + b"\x55\xaa")
    spice = (f"image-compression={compression}", "streaming-video=off")
    qemu = await qemu_factory(guest=disk, vga="std", spice=spice)
    async with watched(qemu) as tap:
        for _ in range(100):
            assert await becomes_true_screen(qemu, tap)
            if len(colours(tap.screen.snapshot())) > 100:
                break
            await asyncio.sleep(0.1)
        assert len(colours(tap.screen.snapshot())) > 100
        assert await becomes_true_screen(qemu, tap)
        assert codecs.seen[f"{compression.upper()}_RGB"] > 0, codecs.seen
