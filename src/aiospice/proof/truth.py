"""Whether a client shows what the guest shows, pixel for pixel.

    async with aiospice.connect(qemu.address) as session:
        await painter.do("page 1")
        await shows_the_truth(qemu, session)

The truth is QEMU's ``screendump``. The guest must be at rest, or the two never meet.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from aiospice.client.picture import Picture
from aiospice.errors import SpiceTimeout

if TYPE_CHECKING:
    from aiospice.aio.session import Session
    from aiospice.proof.qemu import Qemu

__all__ = ["difference", "picture_of", "shows_the_truth"]


def picture_of(ppm: bytes) -> Picture:
    """A picture from QEMU's dump (binary PPM, 8 bits a colour)."""
    kind, size, top, rgb = ppm.split(b"\n", 3)  # pixels may begin with what looks like a blank
    if (kind, top) != (b"P6", b"255"):
        raise ValueError(f"not a PPM file of 8 bits a colour: {ppm[:20]!r}")
    width, height = size.split()
    bgrx = bytearray(len(rgb) // 3 * 4)
    bgrx[0::4], bgrx[1::4], bgrx[2::4] = rgb[2::3], rgb[1::3], rgb[0::3]
    return Picture(int(width), int(height), bytes(bgrx))


def difference(shown: Picture, true: Picture, tolerance: int = 0) -> str:
    """How two pictures differ, in words; empty when they don't. Needs NumPy.

    ``tolerance`` is how far a colour (0 to 255) may be off, for what JPEG had to do with.
    """
    if shown == true:
        return ""
    if (shown.width, shown.height) != (true.width, true.height):
        return f"{shown.width}x{shown.height} instead of {true.width}x{true.height}"
    import numpy as np

    apart = abs(shown.array().astype(np.int16) - true.array())
    wrong = (apart > tolerance).any(axis=2)
    if not wrong.any():
        return ""
    rows, columns = np.nonzero(wrong)
    x, y = columns[0], rows[0]
    return (
        f"{len(rows)} pixels differ between x {columns.min()} and {columns.max()}, "
        f"y {rows.min()} and {rows.max()}; the first at {x},{y} is {shown.array()[y, x]} "
        f"instead of {true.array()[y, x]}"
    )


async def shows_the_truth(
    qemu: Qemu,
    session: Session,
    *,
    display: int = 0,
    device: str | None = None,
    limit: float = 30,
) -> Picture:
    """Wait until a display of the session is what the guest shows, and return that picture.

    ``device`` is the id of QEMU's graphics device, None: the first. `SpiceTimeout` tells how the
    two differ after ``limit`` seconds.
    """
    end = time.monotonic() + limit
    pause = 0.02
    while True:
        true = picture_of(await qemu.screendump(device))
        shown = await session.screen(display, timeout=limit)
        if shown == true:
            return shown
        if time.monotonic() > end:
            raise SpiceTimeout(
                f"{session.address}: display {display} isn't the guest's screen after "
                f"{limit:g} s: {difference(shown, true)}"
            )
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.5)
