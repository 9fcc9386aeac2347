"""The painting guest: what it is told is on its screen when it answers, the same every time."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import pytest

from aiospice.errors import StateError
from aiospice.proof.painter import Painter
from aiospice.proof.qemu import guest_image
from aiospice.proof.truth import picture_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import QemuFactory

pytestmark = pytest.mark.peers

COMMANDS = (
    "page 1",
    "scroll 2",
    "type 3",
    "desktop 4",
    "drag 5",
    "rects 6",
    "photo 10 20 300 200 7",
    "noise 10 20 300 200 8",
    "video 10 20 300 200 9",
    "gallery 10",
    "xor 100 100 300 300 0xffff00",
    "fill 0 0 2000 2000 0x336699",
)


#: These need a driver.
DRIVEN = tuple(f"image 10 20 300 200 {format} {format}" for format in (2, 4, 5, 6, 7, 8, 9))


@pytest.mark.parametrize(
    ("vga", "first"),
    [("std", "mode 1024 768 32"), ("qxl", "mode 1024 768 32"), ("qxl", "qxl 0 1024 768 32")],
    ids=["std", "qxl as VGA", "qxl"],
)
async def test_every_command_changes_the_screen_and_does_so_alike(
    qemu_factory: QemuFactory, vga: str, first: str
) -> None:
    screens = []
    for _ in range(2):
        qemu = await qemu_factory(guest="paint", commands=True, vga=vga)
        async with Painter(qemu) as painter:
            await painter.do(first)
            seen = [await qemu.screendump()]
            for command in (*COMMANDS, *(DRIVEN if first.startswith("qxl") else ())):
                await painter.do(command)
                seen.append(await qemu.screendump())
                assert seen[-1] != seen[-2], command
        screens.append(seen)
    assert screens[0] == screens[1]


async def test_a_driver_paints_what_the_vga_does(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(guest="paint", commands=True, extra=("-device", "qxl,id=second"))
    async with Painter(qemu) as painter:
        plain = []
        for command in COMMANDS:
            await painter.do(command)
            plain.append(await qemu.screendump())
        for number, device in ((0, None), (1, "second")):
            await painter.do(f"qxl {number} 1024 768 32")
            for command, picture in zip(COMMANDS, plain, strict=True):
                await painter.do(command)
                assert await qemu.screendump(device) == picture, command
        await painter.do("on 0")
        await painter.do("page 9")
        assert await qemu.screendump() != await qemu.screendump("second")
        await painter.do("mode 1024 768 32")
        await painter.do(COMMANDS[0])
        assert await qemu.screendump() == plain[0]


async def test_a_card_that_is_full_gets_its_memory_back(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(guest="paint", commands=True)
    async with Painter(qemu) as painter:
        await painter.do("qxl 0 1024 768 32")
        await painter.do("repeat 30 0 photo 0 0 1024 768 0")  # 90 MiB of images in 47
        many = await qemu.screendump()
        await painter.do("photo 0 0 1024 768 29")
        assert await qemu.screendump() == many


@pytest.mark.parametrize(
    ("mode", "colours"), [("800 600 16", 2000), ("640 480 8", 32), ("1280 720 24", 10000)]
)
async def test_every_mode_paints_as_many_colours_as_it_has(
    qemu_factory: QemuFactory, mode: str, colours: int
) -> None:
    qemu = await qemu_factory(guest="paint", commands=True, vga="std")
    width, height, _ = map(int, mode.split())
    async with Painter(qemu) as painter:
        await painter.do(f"mode {mode}")
        await painter.do(f"noise 0 0 {width} {height} 1")
        dump = await qemu.screendump()
    picture = picture_of(dump)
    assert (picture.width, picture.height) == (width, height)
    rgb = picture.rgb()
    assert len({rgb[at : at + 3] for at in range(0, len(rgb), 3)}) > colours


async def test_the_background_goes_on_until_it_is_stopped(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(guest="paint", commands=True, vga="std")
    async with Painter(qemu) as painter:
        await painter.do("every 2 video 10 10 64 64 0")
        first = await qemu.screendump()
        await painter.do("wait 30")
        assert await qemu.screendump() != first
        assert await painter.stop() > 3
        still = await qemu.screendump()
        await asyncio.sleep(0.2)
        assert await qemu.screendump() == still
        await painter.do("repeat 3 1 type 1")
        assert await qemu.screendump() != still


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sing", "no such command"),
        ("mode 1 2", "other numbers"),
        ("mode 1 2 3", "bits"),
        ("photo 1 2", "5 numbers"),
        ("photo 0 0 5000 1 1", "below 4096"),
        ("every 4 sing 1", "no such command"),
        ("repeat page", "repeat N T"),
        ("qxl 7 640 480 32", "no such device"),
    ],
)
async def test_what_the_guest_cannot_do_it_says(
    qemu_factory: QemuFactory, command: str, words: str
) -> None:
    qemu = await qemu_factory(guest="paint", commands=True, vga="std")
    async with Painter(qemu) as painter:
        with pytest.raises(StateError, match=words):
            await painter.do(command)
        assert await painter.do("page 1") == ""


def test_the_guests_are_built_from_their_sources(tmp_path: Path) -> None:
    subprocess.run(["sh", guest_image().with_name("build.sh"), tmp_path], check=True)
    for name in ("echo", "quiet"):
        assert (tmp_path / f"{name}.img").read_bytes() == guest_image(name).read_bytes()
    # Compilers differ in what they make of C; the start is assembled.
    built = (tmp_path / "paint.img").read_bytes()
    assert built[510:512] == b"\x55\xaa"
    assert len(built) % 512 == 0
