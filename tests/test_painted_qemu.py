"""What a guest paints on a real QEMU in every mode, format and number of screens is what is shown.

Beside ``test_codec_qemu.py``, which has every compression: here are other depths and sizes, modes
that change while pictures are on their way, images with palettes, images that are kept, several
monitors, and two cards whose display channels share caches.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.test_codec_qemu import ENOUGH, nothing_left_out, painting
from tests.test_png import read_png

import aiospice
from aiospice.canvas.pixels import FORMAT_NAMES
from aiospice.client.session import ClientSession
from aiospice.proof.painter import Painter
from aiospice.proof.truth import picture_of, shows_the_truth

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import PairFactory, QemuFactory

    from aiospice.aio.session import Session

pytestmark = pytest.mark.peers

COMPRESSIONS = ("off", "lz", "quic", "glz", "auto_glz", "lz4")
#: The second card of a machine that has two.
SECOND = ("-device", "qxl,id=second")
SHORT = ("page 1", "desktop 2", "photo 50 60 400 300 3", "scroll 4", "xor 9 9 99 99 0xffff00")


def images_of(session: Session, display: int = 0) -> dict[str, int]:
    return session._shell.core.screens[display].images


@pytest.mark.parametrize("compression", ["lz", "auto_glz"])
async def test_every_depth_of_a_vga_is_followed(
    qemu_factory: QemuFactory, compression: str
) -> None:
    qemu = await painting(qemu_factory, "std", (f"image-compression={compression}",))
    async with Painter(qemu) as painter, aiospice.connect(qemu.address) as session:
        for mode in ("800 600 8", "640 480 15", "1024 768 16", "720 400 24", "1280 720 32"):
            await painter.do(f"mode {mode}")
            for command in SHORT:
                await painter.do(command)
                shown = await shows_the_truth(qemu, session)
            assert f"{shown.width} {shown.height}" == mode.rpartition(" ")[0]
        nothing_left_out(session)


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_cards_of_16_bits_are_followed(qemu_factory: QemuFactory, compression: str) -> None:
    asked = compression if compression == "lz4" else None
    spice = () if asked else (f"image-compression={compression}",)
    qemu = await painting(qemu_factory, "qxl", spice)
    async with (
        Painter(qemu) as painter,
        aiospice.connect(qemu.address, compression=asked) as session,
    ):
        for bits, format in ((15, "16_555"), (16, "16_565")):
            await painter.do(f"qxl 0 800 600 {bits}")
            formats = [*SHORT, *(f"image 500 400 150 120 {format} 5" for format in (6, 7, 8))]
            for command in formats:
                await painter.do(command)
                await shows_the_truth(qemu, session)
            screen = session._shell.core.screens[0]
            assert screen.primary is not None
            assert FORMAT_NAMES[screen.surfaces[screen.primary].format] == format
        nothing_left_out(session)


@pytest.mark.parametrize("compression", ["lz", "quic", "glz", "auto_glz"])
async def test_modes_change_while_pictures_are_on_their_way(
    qemu_factory: QemuFactory, compression: str
) -> None:
    qemu = await painting(qemu_factory, "qxl", (f"image-compression={compression}",))
    modes = ("mode 800 600 32", "qxl 0 1024 768 32", "qxl 0 640 480 32", "mode 1280 800 16")
    async with Painter(qemu) as painter, aiospice.connect(qemu.address) as session:
        await painter.do("mode 1024 768 32")
        await painter.do("every 2 photo 30 40 500 400 0")
        for turn in range(3):
            for mode in modes:
                await painter.do(f"wait {1 + 7 * turn}")
                await painter.do(mode)
        await painter.do("wait 10")
        assert await painter.stop() > 12
        shown = await shows_the_truth(qemu, session)
        assert (shown.width, shown.height) == (1280, 800)
        await painter.do("desktop 1")
        await shows_the_truth(qemu, session)
        nothing_left_out(session)


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_images_of_every_bitmap_format_are_drawn(
    qemu_factory: QemuFactory, compression: str
) -> None:
    asked = compression if compression == "lz4" else None
    spice = () if asked else (f"image-compression={compression}",)
    qemu = await painting(qemu_factory, "qxl", spice)
    async with (
        Painter(qemu) as painter,
        aiospice.connect(qemu.address, compression=asked) as session,
    ):
        await painter.do("qxl 0 1024 768 32")
        for turn in range(25):
            for column, format in enumerate((2, 4, 5, 6, 7, 8, 9)):
                width = (128, 96, 64, 131)[turn % 4]  # rows with a rest aren't packed by LZ
                place = f"{column * 140} {turn * 30} {width} {18 + turn % 9}"
                await painter.do(f"image {place} {format} {7 * turn + column}")
            if turn % 5 == 4:
                await shows_the_truth(qemu, session)
        nothing_left_out(session)
        indexed = {"off": "BITMAP", "quic": "BITMAP"}.get(compression, "LZ_PLT")
        assert images_of(session)[indexed] >= ENOUGH


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_a_user_gets_the_compression_that_was_asked_for(
    qemu_factory: QemuFactory, compression: str
) -> None:
    types = {"off": "BITMAP", "lz": "LZ_RGB", "quic": "QUIC", "lz4": "LZ4"}
    told = "quic" if compression != "quic" else "lz"
    qemu = await painting(qemu_factory, "std", (f"image-compression={told}",))
    async with (
        Painter(qemu) as painter,
        aiospice.connect(qemu.address, compression=compression) as session,
    ):
        await painter.do("page 1")
        await shows_the_truth(qemu, session)
        assert images_of(session).get(types.get(compression, "GLZ_RGB"), 0) > 20


async def test_images_that_are_kept_are_shown_again(qemu_factory: QemuFactory) -> None:
    qemu = await painting(qemu_factory, "qxl", ("image-compression=auto_glz",), SECOND)
    async with Painter(qemu) as painter, aiospice.connect(qemu.address) as session:
        await painter.do("qxl 0 1024 768 32")
        await painter.do("qxl 1 800 600 32")
        for turn in range(12):
            for card, device in ((0, None), (1, "second")):
                await painter.do(f"on {card}")
                for seed in range(3):
                    await painter.do(f"stamp {60 * turn} {100 * seed} 90 70 {seed}")
                await shows_the_truth(qemu, session, display=card, device=device)
        nothing_left_out(session)
        # Three images came once, for whichever card was first: the cache is the session's.
        kinds = Counter(images_of(session, 0)) + Counter(images_of(session, 1))
        kept = kinds["FROM_CACHE"] + kinds["FROM_CACHE_LOSSLESS"]
        assert kept >= 60, kinds


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int]]:
    """Bytes that have come, by channel."""
    seen: Counter[tuple[int, int]] = Counter()
    received = ClientSession.received

    def counting(self: ClientSession, connection: int, data: bytes, now: float) -> None:
        if connection in self.links:
            seen[self.links[connection].key] += len(data)
        received(self, connection, data, now)

    lent = ClientSession.received_lent

    def counting_lent(
        self: ClientSession, connection: int, view: memoryview, most: int, now: float
    ) -> int:
        key = self.links[connection].key if connection in self.links else None
        before = seen.total()
        left = lent(self, connection, view, most, now)
        if key is not None and seen.total() == before:
            seen[key] += len(view) - left
        return left

    monkeypatch.setattr(ClientSession, "received", counting)
    monkeypatch.setattr(ClientSession, "received_lent", counting_lent)
    return seen


@pytest.mark.parametrize("more", [(), ("zlib-glz-wan-compression=always",)], ids=["", "zlib"])
async def test_two_cards_copy_from_each_others_images(
    qemu_factory: QemuFactory, arrived: Counter[tuple[int, int]], more: tuple[str, ...]
) -> None:
    qemu = await painting(qemu_factory, "qxl", ("image-compression=glz", *more), SECOND)
    cards = ((0, None), (1, "second"))
    async with Painter(qemu) as painter, aiospice.connect(qemu.address) as session:
        for card, _ in cards:
            await painter.do(f"qxl {card} 1024 768 32")
        for command in ("page 1", "desktop 2", "repeat 10 0 drag 0", "page 4"):
            for card, _ in cards:  # one right after the other, so that their images cross
                await painter.do(f"on {card}")
                await painter.do(command)
            for card, device in cards:
                await shows_the_truth(qemu, session, display=card, device=device)
        sizes = []
        for card, device in cards:
            await painter.do(f"on {card}")
            before = arrived[2, card]
            await painter.do("gallery 3")
            await shows_the_truth(qemu, session, display=card, device=device)
            sizes.append(arrived[2, card] - before)
        nothing_left_out(session)
        type = "ZLIB_GLZ_RGB" if more else "GLZ_RGB"
        for card, _ in cards:
            assert images_of(session, card)[type] >= ENOUGH
        # The second card's photos are those of the first, and were sent as copies of them.
        assert 0 < sizes[1] < sizes[0] / 10


async def test_several_monitors_of_one_card_are_told(qemu_factory: QemuFactory) -> None:
    outputs = ("-global", "qxl-vga.max_outputs=4")
    qemu = await painting(qemu_factory, "qxl", ("image-compression=auto_glz",), outputs)
    async with Painter(qemu) as painter, aiospice.connect(qemu.address) as session:
        await painter.do("qxl 0 1024 768 32")
        screen = session._shell.core.screens[0]
        for count in (2, 4, 1, 3):
            await painter.do(f"heads {count}")
            await painter.do(f"desktop {count}")
            await shows_the_truth(qemu, session)
            width = 1024 // count
            told = [(n, 0, n * width, 0, width, 768) for n in range(count)]
            async with asyncio.timeout(10):
                while [monitor.as_tuple() for monitor in screen.monitors] != told:
                    await asyncio.sleep(0.01)
        nothing_left_out(session)


@pytest.mark.parametrize("first", ["mode 1024 768 32", "qxl 0 1024 768 32", "qxl 0 800 600 15"])
async def test_who_comes_late_sees_all(qemu_factory: QemuFactory, first: str) -> None:
    qemu = await painting(qemu_factory, "qxl", ("image-compression=auto_glz",))
    async with Painter(qemu) as painter:
        await painter.do(first)
        for number, command in enumerate(("page 1", "desktop 2", "gallery 3")):
            await painter.do(command)
            async with aiospice.connect(qemu.address) as session:
                await shows_the_truth(qemu, session)
                await painter.do(f"rects {number}")
                await shows_the_truth(qemu, session)
                nothing_left_out(session)


@pytest.mark.parametrize(
    ("vga", "first"), [("std", "mode 1024 768 32"), ("qxl", "qxl 0 1024 768 32")]
)
@pytest.mark.parametrize("more", [(), ("zlib-glz-wan-compression=always",)], ids=["", "zlib"])
async def test_the_screen_stays_right_while_the_machine_moves(
    qemu_pair: PairFactory, vga: str, first: str, more: tuple[str, ...]
) -> None:
    spice = ("image-compression=glz", "streaming-video=off", *more)
    pair = await qemu_pair(guest="paint", commands=True, vga=vga, echo_port=None, spice=spice)
    async with Painter(pair.source) as painter:
        await painter.do(first)
    async with aiospice.connect(pair.source.address) as session:
        for turn in range(3):
            if turn:
                await pair.migrate()
            async with Painter(pair.source) as painter:
                await painter.stop()
                await shows_the_truth(pair.source, session)
                for command in ("page 1", "stamp 9 9 90 70 1", "desktop 2", "repeat 5 4 scroll 5"):
                    await painter.do(command)
                    await shows_the_truth(pair.source, session)
                await painter.do("every 2 drag 0")  # what is under way when it moves
                await painter.do("wait 10")
        nothing_left_out(session)


@pytest.mark.parametrize("asked", [(), ("--compression", "lz4"), ("--compression", "quic")])
async def test_the_command_writes_the_guests_screen(
    qemu_factory: QemuFactory, tmp_path: Path, asked: tuple[str, ...]
) -> None:
    qemu = await painting(qemu_factory, "qxl", ("image-compression=auto_glz",))
    async with Painter(qemu) as painter:
        await painter.do("qxl 0 1024 768 32")
        for command in SHORT:
            await painter.do(command)
        picture = tmp_path / "picture.png"
        arguments = ("screenshot", *asked, qemu.address, "-o", str(picture))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "aiospice.cli", *arguments
        )
        assert await asyncio.wait_for(process.wait(), 60) == 0
        width, height, rgb = read_png(picture.read_bytes())
        true = picture_of(await qemu.screendump())
        assert (width, height, bytes(rgb)) == (true.width, true.height, true.rgb())
