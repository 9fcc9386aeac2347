"""``python -m aiospice.proof.loadserver``: the server that is put under load, in a process alone.

Its guest has two displays: 0 stands still, on 1 a part changes ``--rate`` times a second while it
is told to (``stamp`` in `aiospice.proof.load`). Orders, one a line on standard input: ``start``,
``stop``, ``status`` (answered by a line of JSON: ``rss`` in bytes, ``cpu`` in seconds, ``frames``,
``clients``, ``connections``, ``links``, ``queued`` bytes), ``quit``. The first line of the output
is the port. ``--core N`` ties it to one core of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import aiospice
from aiospice.proof.load import stamp
from aiospice.server.config import Limits, ServerConfig
from aiospice.server.guest import Guest

if TYPE_CHECKING:
    from aiospice.aio.serve import Server
    from aiospice.server.guest import Host

__all__ = ["LoadGuest", "main", "resident"]

#: Of display 1, and the part of it that changes.
_SIZE, _PART = (320, 240), (96, 64)


class LoadGuest(Guest):
    """See the module's text."""

    name = "load"

    def __init__(self, rate: float, screen: tuple[int, int] = (1024, 768)) -> None:
        self.period = 1 / rate
        self.frames = 0
        self.running = asyncio.Event()
        self._screen = screen

    def attach(self, host: Host) -> None:
        """Make the displays, sound and a port."""
        host.sound(playback=True)
        host.port("org.aiospice.load").opened = True
        still = host.display(0)
        still.resize(*self._screen)
        chance = np.random.default_rng(1)
        height, width = self._screen[1] // 16, self._screen[0] // 8
        tiles = chance.integers(0, 255, (height, width, 4), dtype=np.uint8)
        still.pixels[:] = tiles.repeat(16, 0).repeat(8, 1)
        still.update()
        self.display = host.display(1)
        self.display.resize(*_SIZE)
        self.display.update()
        # Noise of 16 greys that is turned a little every frame.
        self._noise = (chance.integers(0, 16, (_PART[1], _PART[0], 1), dtype=np.uint8)) * 16

    async def run(self) -> None:
        while True:
            await self.running.wait()
            self.show()
            await asyncio.sleep(self.period)

    def show(self) -> None:
        """The next frame."""
        self.frames += 1
        width, height = _PART
        pixels = self.display.pixels
        pixels[:height, :width] = np.roll(self._noise, 7 * self.frames, 1)
        words = np.array(stamp(self.frames, time.monotonic()), "<u4").view(np.uint8)
        pixels[0, :3] = words.reshape(3, 4)
        self.display.update(0, 0, width, height)


def resident(pid: int) -> int:
    """Bytes of memory that a process has now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _status(server: Server, guest: LoadGuest) -> dict[str, Any]:
    found = server.status()
    queued = sum(
        channel["queued_bytes"] for client in found["clients"] for channel in client["channels"]
    )
    return {
        "rss": resident(os.getpid()),
        "cpu": time.process_time(),
        "frames": guest.frames,
        "clients": len(found["clients"]),
        "connections": found["connections"],
        "links": found["links"],
        "queued": queued,
    }


async def main(arguments: list[str]) -> None:
    """Serve until told to quit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--core", type=int)
    parser.add_argument("--stall", type=float, default=Limits().stall)
    parser.add_argument("--silence", type=float, default=Limits().silence)
    options = parser.parse_args(arguments)
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    guest = LoadGuest(options.rate)
    limits = Limits(stall=options.stall, silence=options.silence)
    config = ServerConfig(on_second_client="share", video="never", limits=limits)
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with aiospice.serve(guest, port=0, config=config) as server:
        print(server.addresses[0].rpartition(":")[2], flush=True)
        while (order := (await orders.readline()).strip()) not in (b"", b"quit"):
            if order == b"start":
                guest.running.set()
            elif order == b"stop":
                guest.running.clear()
            elif order == b"status":
                print(json.dumps(_status(server, guest)), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1:]))
