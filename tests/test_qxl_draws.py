"""Every kind of draw, from a real spice-server that also draws it itself: the pictures are equal.

Xspice and a machine without a driver send few kinds of draws; here a test gives any draw to
spice-server, in the clothes of a QXL device.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from tests.random_draws import KINDS, RandomDraws

import aiospice
from aiospice.canvas.pixels import XRGB
from aiospice.client.picture import Picture
from aiospice.proof.qxl import QxlOptions, QxlServer
from aiospice.proof.truth import difference
from aiospice.wire.draw import Ropd
from aiospice.wire.shapes import ClipType

if TYPE_CHECKING:
    from aiospice.aio.session import Session

pytestmark = [pytest.mark.peers, pytest.mark.timeout(300)]
SIZE = 640, 480
#: Until the session shows what the server has drawn, in seconds.
LIMIT = 20
COMPRESSIONS = ("off", "quic", "lz", "glz", "auto_lz", "auto_glz", "lz4")


def overwrites(message: Any) -> bool:
    """Whether a draw replaces all of its box, so that the server may forget what was there."""
    if type(message).__name__ not in ("DrawFill", "DrawCopy", "DrawOpaque"):
        return False
    plain = message.mask.bitmap is None and message.base.clip.type == ClipType.NONE
    return bool(plain and message.rop_descriptor == Ropd.OP_PUT)


async def equal(server: QxlServer, session: Session, surface_id: int = 0) -> str:
    """How a surface differs from the server's after a while; empty: not at all."""
    true = await server.screen(surface_id)
    end = time.monotonic() + LIMIT
    while (found := _shown(session, surface_id, true)) and time.monotonic() < end:
        await asyncio.sleep(0.05)
    return found


def _shown(session: Session, surface_id: int, true: Picture) -> str:
    surface = session._screen(0).surfaces.get(surface_id)
    if surface is None:
        return f"there is no surface {surface_id}"
    shown = Picture(surface.width, surface.height, bytes(surface.converted(XRGB).tight()))
    return difference(shown, true)


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_of_draw_looks_as_spice_server_draws_it(kind: str) -> None:
    async with QxlServer() as server, aiospice.connect(server.address) as session:
        draws = RandomDraws(kind, *SIZE, palettes_cached=True)
        for first in ("fill", "copy") * 8:
            server.draw(draws.draw(first))
        for number in range(8):
            given = [draws.draw(kind) for _ in range(12)]
            for message in given:
                server.draw(message, opaque=overwrites(message))
            assert await equal(server, session) == "", (number, given)
        assert session._screen(0).not_drawn == {}


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_all_draws_together_look_as_spice_server_draws_them(compression: str) -> None:
    """Off-screen surfaces that come and go are drawn on and from; images are cached.

    Each draw is looked at: what spice-server left to be drawn later, it may draw from pixels of
    another surface that aren't there yet or any more (spice-gtk then shows what is shown here).
    Surfaces with alpha only without compression: that of images without alpha loses their fourth
    bytes, and of palettes too, which such a surface takes for alpha (``canvas_get_lz`` in
    spice-common ``common/canvas_base.c``); so client and server differ there.
    """
    formats = (32, 96) if compression == "off" else (32, 32)
    options = QxlOptions(compression=compression)
    async with (
        QxlServer(options) as server,
        aiospice.connect(server.address, compression=compression) as session,
    ):
        draws = RandomDraws(compression, *SIZE, palettes_cached=True)
        seen: Counter[str] = Counter()
        for number in range(6):
            surface = 1 + number % 4
            if surface in draws.surfaces:
                del draws.surfaces[surface]
                server.destroy_surface(surface)
            width, height = 80 + 9 * number, 90 + 5 * number
            draws.surfaces[surface] = width, height
            server.create_surface(surface, width, height, formats[number % 2])
            for i, kind in enumerate(KINDS * 3):
                target = surface if i % 5 == 0 else 0
                message = draws.draw(kind, target)
                server.draw(message, opaque=overwrites(message))
                assert await equal(server, session, target) == "", (number, i, message)
                seen[type(message).__name__] += 1
            for known in (0, *draws.surfaces):
                assert await equal(server, session, known) == "", (number, known)
        screen = session._screen(0)
        assert screen.not_drawn == {}
        assert len(screen.surfaces) == 5
        assert len(seen) == 14, seen
