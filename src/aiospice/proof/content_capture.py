"""Captures the pictures of `proof.content` from QEMU and Xspice, with guests and X programs.

The screens are small, since the package carries them: 600 KB in all.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from aiospice.errors import SpiceTimeout
from aiospice.proof.content import WINDOW_PIXELS, Content
from aiospice.proof.painter import Painter, painting_options
from aiospice.proof.qemu import Qemu, QemuOptions
from aiospice.proof.recording import GLZ_WINDOW_PIXELS, Recording, record
from aiospice.wire import draw
from aiospice.wire.header import MINI
from aiospice.wire.images import BinaryData, ImageCompression, ImageType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["capture", "main"]

assert GLZ_WINDOW_PIXELS == WINDOW_PIXELS

_QEMU = "QEMU 7.2 -vga std, spice-server 0.15.1"
_PAINT = _QEMU + "; the guest is proof/guest/paint.c, told "
_XSPICE = "Xspice 0.1.5, spice-server 0.15.1; "
_DESKTOP = "xterm (ls -l /usr/bin), xclock, xeyes, xlogo, xcalc on a tiled root window"
#: Bytes that a row of GLZ images may take.
_ROW_BYTES = 40_000


def main() -> None:
    """Capture into the folder that the command line names."""
    asyncio.run(_all(Path(sys.argv[1])))


async def _all(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    async for content in capture():
        path = content.save(folder)
        print(path.name, path.stat().st_size, {k: len(v) for k, v in content.images.items()})


async def capture() -> AsyncIterator[Content]:
    """Everything, one after the other."""
    async with Qemu(QemuOptions(guest="quiet", vga="std")) as qemu:
        await asyncio.sleep(1)
        yield await _at_rest("qemu-console", f"{_QEMU}; text mode after the start", qemu.port)
    scenes = {
        "qemu-page": ("mode 480 360 32", "page 1"),
        "qemu-desktop": ("mode 640 480 32", "desktop 1"),
        "qemu-photo": ("mode 640 480 32", "fill 0 0 640 480 0x305070", "photo 220 160 192 144 1"),
    }
    for name, commands in scenes.items():
        async with Qemu(painting_options(vga="std")) as qemu, Painter(qemu) as painter:
            for command in commands:
                await painter.do(command)
            yield await _at_rest(name, _PAINT + repr("; ".join(commands)), qemu.port)
    yield await _scrolling("qemu-scrolling", "every 10 scroll 1")
    yield await _splash()
    async for content in _xspice():
        yield content


async def _scrolling(name: str, command: str) -> Content:
    options = painting_options(vga="std", spice=("image-compression=glz", "streaming-video=off"))
    async with Qemu(options) as qemu, Painter(qemu) as painter:
        await painter.do(command)
        found = await record(qemu.port, seconds=2)
        return _row(name, f"{_PAINT}{command!r}; image-compression=glz", found)


async def _splash() -> Content:
    """SeaBIOS shows a picture of its user's while it waits; here one of smooth colours."""
    size = (640, 480)
    picture = bytearray()
    for y in range(size[1]):
        for x in range(size[0]):
            inside = abs(x - 320) + abs(y - 240) < 120
            picture += bytes(
                (200, 230, 250) if inside else (90 + y // 4, 40 + y // 8, 20 + x // 16)
            )
    head = b"BM" + (54 + len(picture)).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    info = b"".join(n.to_bytes(4, "little") for n in (40, *size)) + bytes((1, 0, 24, 0)) + bytes(24)
    async with Qemu(QemuOptions(guest="quiet", vga="std")) as first:
        path = first.folder / "splash.bmp"
        path.write_bytes(head + info + picture)
        splash = ("-boot", f"menu=on,splash={path},splash-time=60000")
        options = QemuOptions(guest=path, vga="std", echo_port=None, extra=splash)
        async with Qemu(options) as qemu:
            await asyncio.sleep(3)
            return await _at_rest("qemu-splash", f"{_QEMU}; SeaBIOS with -boot splash", qemu.port)


async def _xspice() -> AsyncIterator[Content]:
    from aiospice.proof.xspice import Xspice, XspiceOptions

    async with Xspice(XspiceOptions()) as xspice:
        await xspice.do("xsetroot", "-mod", "16", "16", "-fg", "#4a6a8a", "-bg", "#3a5a7a")
        listing = "ls -l /usr/bin | head -300; sleep 1000"
        await xspice.run("xterm", "-geometry", "80x32+20+60", "-e", "sh", "-c", listing)
        await xspice.run("xclock", "-geometry", "160x160+640+40")
        await xspice.run("xeyes", "-geometry", "160x120+820+40")
        await xspice.run("xlogo", "-geometry", "200x200+640+240")
        await xspice.run("xcalc", "-geometry", "+640+470")
        await asyncio.sleep(1)
        async with xspice.still():
            yield await _at_rest("xspice-desktop", _XSPICE + _DESKTOP, xspice.port)
    async with Xspice(XspiceOptions(compression="glz", fallback_cache=False)) as xspice:
        recording = asyncio.create_task(record(xspice.port, seconds=5))
        await asyncio.sleep(0.5)
        listing = "ls -lR /usr/lib | head -3000; sleep 1000"
        await xspice.run("xterm", "-fa", "Monospace", "-e", "sh", "-c", listing)
        await xspice.run("xeyes", "-geometry", "160x120+820+40")
        source = f"{_XSPICE}SpiceImageCompression glz; xterm -fa Monospace ({listing}), xeyes"
        yield _row("xspice-terminal", source, await recording)


async def _at_rest(name: str, source: str, port: int) -> Content:
    """The whole screen in each codec; it must not change meanwhile."""
    images: dict[str, tuple[bytes, ...]] = {}
    sizes: dict[str, int] = {}
    for codec in (ImageCompression.QUIC, ImageCompression.LZ, ImageCompression.LZ4):
        data = await _whole(port, codec)
        if codec is ImageCompression.LZ4:
            sizes["lz4"] = len(data)
        else:
            images[codec.name.lower()] = (data,)
    return Content(name, source, images, sizes)


async def _whole(port: int, codec: ImageCompression) -> bytes:
    """The image of the whole screen that a new client is sent first."""
    for _ in range(5):
        recording = await record(port, seconds=1, compression=codec)
        for type, _width, _height, data in _images(recording):
            if ImageType(type).name.split("_")[0] == codec.name:
                return data
    raise SpiceTimeout(f"the server sends no {codec.name} image of the whole screen")


def _row(name: str, source: str, recording: Recording) -> Content:
    """The first GLZ images, as many as fit."""
    row: list[bytes] = []
    for type, _, _, data in _images(recording):
        if type == ImageType.GLZ_RGB:
            if len(zlib.compress(b"".join([*row, data]), 1)) > _ROW_BYTES:
                break
            row.append(data)
    return Content(name, source, {"glz": tuple(row)}, {})


def _images(recording: Recording) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, size and data of the compressed images of DRAW_COPY messages."""
    data, starts = recording.display, recording.starts
    for start, end in pairwise(starts):
        number, _ = MINI.unpack_from(data, start)
        if number != draw.DrawCopy.number:
            continue
        image = draw.DrawCopy.parse(data[start + MINI.size : end]).src_bitmap
        if image is not None and isinstance(image.body, BinaryData):
            about = image.descriptor
            yield about.type, about.width, about.height, image.body.data
