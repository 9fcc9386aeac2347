"""``python -m aiospice.proof.keeper ADDRESS``: a client that keeps the screen, to be measured.

It does what a program with an open session does that listens to nothing. At a line on standard
input it tells of its screen as one JSON object (``screen``: MD5 of the pixels, see `digest`) and
ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from typing import TYPE_CHECKING

import aiospice

if TYPE_CHECKING:
    from aiospice.client.picture import Picture

__all__ = ["digest", "main"]


def digest(picture: Picture) -> str:
    """MD5 of the pixels as blue, green, red and a zero, rows from the top."""
    rows = bytearray(picture.bgrx)
    rows[3::4] = bytes(len(rows) // 4)
    return hashlib.md5(rows, usedforsecurity=False).hexdigest()


async def main(address: str) -> None:
    """Keep the session until a line comes."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), asked.set)
    async with aiospice.connect(address, channels=("display", "cursor")) as session:
        await asked.wait()
        loop.remove_reader(sys.stdin.fileno())
        screen = session._screen(0)
        not_drawn = {f"{what}: {why}": count for (what, why), count in screen.not_drawn.items()}
        told = {"draws": screen.draws, "pixels": screen.pixels, "not_drawn": not_drawn}
        shown = {} if screen.primary is None else {"screen": digest(screen.snapshot())}
        print(json.dumps({**shown, **told}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
