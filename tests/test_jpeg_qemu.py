"""JPEG from a real QEMU: as near as its quality allows, and exact once overwritten without losses.

spice-server 0.15.1 packs with quality 85 what it would have packed with QUIC (``dcc.cpp``), and
remembers which areas of a surface its client has with losses (``dcc-send.cpp``). Such an area
becomes exact by being overwritten, or because a draw needs what is there: then it is sent again
first. Nothing else mends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import simplejpeg
from tests.test_codec_qemu import CARDS, ENOUGH, nothing_left_out, painting

import aiospice
from aiospice.proof.painter import Painter
from aiospice.proof.truth import picture_of, shows_the_truth

if TYPE_CHECKING:
    from tests.conftest import QemuFactory

    from aiospice.aio.session import Session
    from aiospice.proof.qemu import Qemu

    Array = np.ndarray[Any, np.dtype[np.uint8]]

pytestmark = pytest.mark.peers

QUALITY = 85
#: Everything that is painted so, and seldom anything else, is sent as JPEG.
PHOTOS = ("photo 0 0 1024 768 3", "photo 101 53 333 222 4", "gallery 5")
#: Rows at which a screen may have been caught half painted.
CUTS = range(53, 768, 102)


def losses(a: Array, b: Array) -> tuple[int, float]:
    """The largest difference of a colour, and the mean one."""
    wrong = np.abs(a.astype(np.int16) - b)
    return int(wrong.max()), float(wrong.mean())


def packed_and_back(picture: Array) -> Array:
    packed = simplejpeg.encode_jpeg(picture, QUALITY, "RGB", "420")
    array: Array = simplejpeg.decode_jpeg(packed)
    return array


def allowed(before: Array, now: Array) -> tuple[float, float]:
    """What JPEG does to the true picture, and to one that was caught half painted."""
    worst, mean = losses(packed_and_back(now), now)
    for cut in CUTS if before.shape == now.shape else ():
        half = np.concatenate([now[:cut], before[cut:]])
        worst = max(worst, losses(packed_and_back(half), half)[0])
    return 1.5 * worst, 1.1 * mean


async def settled(qemu: Qemu, session: Session) -> tuple[Array, Array]:
    """What is shown, and the truth, once nothing comes any more."""
    shown = await session.screenshot(settle=0.7)
    return shown, picture_of(await qemu.screendump()).array()


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("compression", ["quic", "auto_glz"])
async def test_photos_are_as_near_as_the_quality_allows(
    qemu_factory: QemuFactory, card: str, compression: str
) -> None:
    vga, first = CARDS[card]
    spice = (f"image-compression={compression}", "jpeg-wan-compression=always")
    qemu = await painting(qemu_factory, vga, spice)
    async with Painter(qemu) as painter, aiospice.connect(qemu.address) as session:
        await painter.do(first)
        _, before = await settled(qemu, session)
        for command in PHOTOS:
            await painter.do(command)
            shown, true = await settled(qemu, session)
            worst, mean = allowed(before, true)
            found = losses(shown, true)
            assert 0 < found[0] <= worst, command
            assert 0 < found[1] <= mean, command
            before = true
        nothing_left_out(session)
        assert session._shell.core.screens[0].images["JPEG"] >= ENOUGH


@pytest.mark.parametrize("card", CARDS)
async def test_what_overwrites_a_photo_without_losses_is_exact(
    qemu_factory: QemuFactory, card: str
) -> None:
    vga, first = CARDS[card]
    spice = ("image-compression=auto_glz", "jpeg-wan-compression=always")
    qemu = await painting(qemu_factory, vga, spice)
    async with Painter(qemu) as painter, aiospice.connect(qemu.address) as session:
        await painter.do(first)
        for command in ("fill 0 0 1024 768 0x336699", "page 1", "desktop 2"):
            await painter.do("gallery 6")
            shown, true = await settled(qemu, session)
            assert losses(shown, true)[0] > 0
            await painter.do(command)
            await shows_the_truth(qemu, session)
        nothing_left_out(session)
        assert session._shell.core.screens[0].images["JPEG"] >= ENOUGH


@pytest.mark.parametrize("compression", ["quic", "auto_glz"])
async def test_what_a_draw_needs_is_sent_again_without_losses(
    qemu_factory: QemuFactory, compression: str
) -> None:
    spice = (f"image-compression={compression}", "jpeg-wan-compression=always")
    qemu = await painting(qemu_factory, "qxl", spice)
    boxes = {
        "fill 64 32 200 100 0x99cc33": np.s_[32:132, 64:264],
        "xor 301 203 400 300 0xff8040": np.s_[203:503, 301:701],
    }
    async with Painter(qemu) as painter, aiospice.connect(qemu.address) as session:
        await painter.do("qxl 0 1024 768 32")
        await painter.do("photo 0 0 1024 768 7")
        shown, true = await settled(qemu, session)
        for command, box in boxes.items():
            assert losses(shown[box], true[box])[0] > 0
            await painter.do(command)
            shown, true = await settled(qemu, session)
            assert losses(shown[box], true[box])[0] == 0, command
        assert losses(shown, true)[0] > 0  # where nothing was needed it stays as it was
        nothing_left_out(session)


async def test_a_cached_photo_is_shown_as_it_came(qemu_factory: QemuFactory) -> None:
    spice = ("image-compression=quic", "jpeg-wan-compression=always")
    qemu = await painting(qemu_factory, "qxl", spice)
    async with Painter(qemu) as painter, aiospice.connect(qemu.address) as session:
        await painter.do("qxl 0 1024 768 32")
        for x in range(0, 1024, 128):
            await painter.do(f"stamp {x} 64 120 90 8")
            await session.screen(settle=0.1)
        shown, true = await settled(qemu, session)
        nothing_left_out(session)
        images = session._shell.core.screens[0].images
        assert images["FROM_CACHE"] >= 7, images
        for x in range(128, 1024, 128):
            assert (shown[64:154, x : x + 120] == shown[64:154, :120]).all()
        worst, mean = allowed(true, true)
        found = losses(shown, true)
        assert 0 < found[0] <= worst
        assert 0 < found[1] <= mean


async def test_alpha_beside_jpeg_is_understood(qemu_factory: QemuFactory) -> None:
    spice = ("image-compression=quic", "jpeg-wan-compression=always")
    qemu = await painting(qemu_factory, "qxl", spice)
    async with Painter(qemu) as painter, aiospice.connect(qemu.address) as session:
        await painter.do("qxl 0 1024 768 32")
        before = (await settled(qemu, session))[1]
        await painter.do("image 40 50 300 200 9 1")
        shown, true = await settled(qemu, session)
        nothing_left_out(session)
        assert session._shell.core.screens[0].images["JPEG_ALPHA"] == 1
        worst, mean = allowed(before, true)
        found = losses(shown, true)
        assert 0 < found[0] <= worst
        assert 0 < found[1] <= mean
