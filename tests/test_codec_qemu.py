"""Every compression of a real QEMU: what a session shows is what the guest shows.

The guest paints text, windows and pictures on command (``aiospice.proof.painter``); QEMU's
``screendump`` is the truth. Each run counts the images by type: at least `ENOUGH` of the wanted
one must have come, or nothing was tested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import aiospice
from aiospice.proof.painter import Painter
from aiospice.proof.truth import shows_the_truth

if TYPE_CHECKING:
    from tests.conftest import QemuFactory

    from aiospice.aio.session import Session
    from aiospice.proof.qemu import Qemu

pytestmark = pytest.mark.peers

#: Images of the wanted type that a run must have brought.
ENOUGH = 50

#: Text, windows and pictures; small and large, single and many.
SCRIPT = (
    "page 1",
    "repeat 8 4 scroll 10",
    "repeat 10 3 type 20",
    "desktop 2",
    "repeat 12 4 drag 0",
    "photo 0 0 1024 768 3",
    "photo 101 53 333 222 4",
    "rects 5",
    "gallery 9",
    "xor 300 200 400 300 0xff8040",
    "noise 700 400 129 77 6",
    "repeat 8 4 video 37 41 480 360 0",
    "desktop 7",
    "scroll 8",
)


async def painting(
    qemu_factory: QemuFactory, vga: str, spice: tuple[str, ...], extra: tuple[str, ...] = ()
) -> Qemu:
    """A machine with the guest that paints; a `Painter` commands it."""
    spice = (*spice, "streaming-video=off")
    return await qemu_factory(guest="paint", commands=True, vga=vga, spice=spice, extra=extra)


def nothing_left_out(session: Session) -> None:
    for screen in session._shell.core.screens.values():
        assert screen.not_drawn == {}
    assert session.messages_unknown() == {}


#: How the guest drives its card, and QEMU's.
CARDS = {
    "std": ("std", "mode 1024 768 32"),
    "vga": ("qxl", "mode 1024 768 32"),
    "qxl": ("qxl", "qxl 0 1024 768 32"),
}
#: What the server is told, what it is asked for, and what must come then.
WAYS = {
    "off": (("image-compression=off",), None, ("BITMAP",)),
    "lz": (("image-compression=lz",), None, ("LZ_RGB",)),
    "quic": (("image-compression=quic",), None, ("QUIC",)),
    "glz": (("image-compression=glz",), None, ("GLZ_RGB",)),
    "auto_lz": (("image-compression=auto_lz",), None, ("LZ_RGB", "QUIC")),
    "auto_glz": (("image-compression=auto_glz",), None, ("GLZ_RGB", "QUIC")),
    "lz4": (("image-compression=off",), "lz4", ("LZ4",)),
    "zlib_glz": (
        ("image-compression=glz", "zlib-glz-wan-compression=always"),
        None,
        ("ZLIB_GLZ_RGB",),
    ),
}


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("way", WAYS)
async def test_the_screen_is_the_guests(qemu_factory: QemuFactory, card: str, way: str) -> None:
    vga, first = CARDS[card]
    spice, asked, wanted = WAYS[way]
    qemu = await painting(qemu_factory, vga, spice)
    async with (
        Painter(qemu) as painter,
        aiospice.connect(qemu.address, compression=asked) as session,
    ):
        for command in (first, *SCRIPT):
            await painter.do(command)
            await shows_the_truth(qemu, session)
        nothing_left_out(session)
        images = session._shell.core.screens[0].images
        assert all(images.get(type, 0) >= ENOUGH for type in wanted), images
