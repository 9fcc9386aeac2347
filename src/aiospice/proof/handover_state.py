"""What a hand-over carries of a full desktop, beside sending that desktop again.

The desktop has 200 off-screen surfaces, and its client's image cache is full (20 Mi pixels). All
bytes that servers send to the client are counted, of every channel: what a move costs, with all
that it takes to connect to the target, what the same pictures cost when they are drawn again before
and after it, and what the target sends to a client that comes anew (as one that is sent away by
switch-host does). And what the servers tell each other of the guest, before and while it stands
still.
"""

from __future__ import annotations

import asyncio
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

import aiospice
from aiospice.errors import SpiceTimeout
from aiospice.proof.content import made_up
from aiospice.proof.pair import hand_over
from aiospice.proof.relay import DelayRelay
from aiospice.server.guest import Guest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiospice.aio.serve import Server
    from aiospice.aio.session import Session
    from aiospice.server.guest import Host

__all__ = ["StudioGuest", "measure"]

_SIZE, SURFACES = (1024, 768), 200
_THUMB, _COLUMNS = (96, 72), 10
_ICON, _ICONS = 32, 2048
#: Screens that fill a cache of 20 Mi pixels as far as servers do, who drop an eighth at a time.
PAGES = (20 << 20) * 7 // 8 // (_SIZE[0] * _SIZE[1])
_LIMIT = 60.0  # seconds until a client shows what is there


class StudioGuest(Guest):
    """200 small pictures on surfaces of their own, and icons that come again and again."""

    name = "studio"

    def attach(self, host: Host) -> None:
        """Draw the surfaces."""
        self.screen = host.display(0)
        self.screen.resize(*_SIZE)
        self._pages = [
            np.frombuffer(page.pixels, np.uint8).reshape(page.height, page.width, 4)
            for page in made_up()
        ]
        self.surfaces = [self.screen.surface(*_THUMB) for _ in range(SURFACES)]
        for number, surface in enumerate(self.surfaces):
            page = self._pages[number % len(self._pages)]
            x = number * 37 % (page.shape[1] - _THUMB[0])
            y = number * 23 % (page.shape[0] - _THUMB[1])
            surface.pixels[:] = page[y : y + _THUMB[1], x : x + _THUMB[0]]
            surface.update()
            row, column = divmod(number % (_COLUMNS * _COLUMNS), _COLUMNS)
            self.screen.draw(surface, column * (_THUMB[0] + 4), row * (_THUMB[1] + 4))
        chance = np.random.default_rng(7)
        small = chance.integers(0, 256, (_ICONS, 8, 8, 4), np.uint8)
        self._icons = small.repeat(_ICON // 8, 1).repeat(_ICON // 8, 2)

    def freeze(self) -> Any:
        """Everything is in its display."""

    def thaw(self, state: Any) -> None:
        """As it is in its display."""

    def page(self, number: int) -> None:
        """Show a screen full of icons in an order of its own."""
        down, across = _SIZE[1] // _ICON, _SIZE[0] // _ICON
        order = np.random.default_rng(number).permutation(_ICONS)[: down * across]
        rows = self._icons[order].reshape(down, across, _ICON, _ICON, 4)
        self.screen.pixels[:] = rows.swapaxes(1, 2).reshape(_SIZE[1], _SIZE[0], 4)
        self.screen.update()


def _port(server: Server) -> int:
    return int(server.addresses[0].rpartition(":")[2])


async def measure(*, policies: tuple[str, ...], **_: Any) -> AsyncIterator[dict[str, Any]]:
    """Yield a row for each policy; all figures are bytes but ``images``, which are in the cache."""
    for policy in policies:
        yield {"policy": policy, **await _one(policy)}


async def _one(policy: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="aiospice-") as folder:
        return await _between(policy, f"{folder}/a", f"{folder}/b")


async def _between(policy: str, here: str, there: str) -> dict[str, Any]:
    async with (
        aiospice.serve(StudioGuest(), port=0, control=here, keep="acks") as source,
        aiospice.serve(StudioGuest(), port=0, control=there, incoming=True, keep="acks") as target,
        DelayRelay(0) as relay,
    ):
        ways = [await relay.to("127.0.0.1", _port(each)) for each in (source, target)]
        target._migration_address = lambda: ("127.0.0.1", ways[1], 0)  # type: ignore[method-assign]
        async with aiospice.connect(f"spice://127.0.0.1:{ways[0]}") as session:
            await _shown(session, source)
            for _ in range(2):  # what comes again is kept
                await _pages(session, source)
            again = await _cost(relay, _pages(session, source))
            held = next(iter(source._shell.core.sessions.values())).helds[0]
            cached = {"cached_images": len(held.images), "cached_pixels": held.images.pixels}
            carried = -relay.passed
            told = await hand_over(here, there, policy)
            await _shown(session, target)
            carried += relay.passed
            after = await _cost(relay, _pages(session, target))
            found = {
                "surfaces": len(held.planes) - 1,
                **cached,
                "told_early": told.early,
                "told_late": told.late,
                "move": carried,
                "pages_before": again,
                "pages_after": after,
            }
        return {**found, "resent": await _anew(relay, target, ways[1])}


async def _anew(relay: DelayRelay, server: Server, way: int) -> int:
    """What a client is sent that comes anew."""
    before = relay.passed
    async with aiospice.connect(f"spice://127.0.0.1:{way}") as session:
        await _shown(session, server)
        await asyncio.sleep(0.5)
        return relay.passed - before


async def _cost(relay: DelayRelay, doing: Any) -> int:
    before = relay.passed
    await doing
    return relay.passed - before


async def _pages(session: Session, server: Server) -> None:
    """Show all pages, one after the other."""
    guest = server.guest
    assert isinstance(guest, StudioGuest)
    for number in range(PAGES):
        guest.page(number)
        await _shown(session, server)


async def _shown(session: Session, server: Server) -> None:
    """Wait until the client shows what the guest shows."""
    guest = server.guest
    assert isinstance(guest, StudioGuest)
    try:
        async with asyncio.timeout(_LIMIT):
            while True:
                shown = (await session.screen(0)).array()
                if np.array_equal(shown, guest.screen.pixels[:, :, 2::-1]):
                    return
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise SpiceTimeout(f"the client doesn't show the desktop after {_LIMIT:g} s") from None
