"""``python -m aiospice.proof.frameserver``: our server, whose guest shows a film.

The same orders and options as ``native/frameserver.c``, so that the two can be measured side by
side: ``frame N`` and ``quit`` on standard input; ``ready`` on standard output. One more order is
``settle``: it is answered by ``settled`` once nothing is made ahead any more (keys for tickets).
``--profile FILE`` writes what cProfile saw of the loop's thread from the first frame on, in CPU
seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiospice
from aiospice.aio.memory import keep_memory
from aiospice.proof.film import Film
from aiospice.server.guest import Guest

if TYPE_CHECKING:
    from aiospice.aio.keypool import KeyPool
    from aiospice.server.guest import Host

__all__ = ["FilmGuest", "main"]


class FilmGuest(Guest):
    """A framebuffer that shows the frames of a film."""

    name = "film"

    def __init__(self, film: Film) -> None:
        self.film = film

    def attach(self, host: Host) -> None:
        """Make the display, of the film's size."""
        self.display = host.display(0)
        self.display.resize(self.film.width, self.film.height)

    def show(self, number: int) -> None:
        """Put a frame's pixels on the screen, and say where."""
        pixels, display = self.display.pixels, self.display
        for (x, y, width, height), changed in self.film.frame(number):
            pixels[y : y + height, x : x + width] = changed
            display.update(x, y, width, height)


async def _settle(keys: KeyPool) -> None:
    while not keys.full:
        await asyncio.sleep(0.01)
    print("settled", flush=True)


async def main(arguments: list[str]) -> None:
    """Serve until told to quit, as `aiospice serve` does."""
    keep_memory()
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--film", type=Path, required=True)
    parser.add_argument("--compression", default="auto")
    parser.add_argument("--video", default="never")
    parser.add_argument("--lossy", default="never")
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args(arguments)
    guest = FilmGuest(Film(options.film))
    quit = asyncio.Event()
    profile: Any = None
    if options.profile is not None:
        import cProfile

        profile = cProfile.Profile(time.thread_time)
    pending = bytearray()
    settling: set[asyncio.Task[None]] = set()

    def on_order() -> None:
        data = os.read(sys.stdin.fileno(), 4096)
        pending.extend(data)
        *lines, rest = pending.split(b"\n")
        pending[:] = rest
        for line in lines:
            word, _, number = line.partition(b" ")
            if word == b"frame":
                guest.show(int(number))
                if profile is not None and int(number) == 1:
                    profile.enable()
            elif word == b"settle":
                settling.add(loop.create_task(_settle(server._shell.keys)))
            elif word == b"quit":
                quit.set()
        if not data:
            quit.set()

    settings = {name: getattr(options, name) for name in ("compression", "video", "lossy")}
    loop = asyncio.get_running_loop()
    async with aiospice.serve(guest, port=options.port, **settings) as server:
        loop.add_reader(sys.stdin.fileno(), on_order)
        print("ready", flush=True)
        await quit.wait()
    if profile is not None:
        profile.disable()
        profile.dump_stats(options.profile)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
