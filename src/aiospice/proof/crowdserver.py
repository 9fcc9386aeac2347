"""``python -m aiospice.proof.crowdserver OPTIONS``: many small servers in one process.

Each has a guest of its own with an echo and a screen on which a box changes, and a control socket
``FOLDER/NAME-0``, ``NAME-1``, ... A line of JSON tells the ports; the process ends with its
standard input. The options are a `Servers`, as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import aiospice
from aiospice.guests.echo import Echo
from aiospice.server.guest import Guest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiospice.server.guest import Host, HostDevice

__all__ = ["ECHO", "Servers", "SmallGuest", "main", "out_of_step"]

ECHO = "org.aiospice.echo"
_SIZE = (320, 240)


class Servers(NamedTuple):
    """What a process has: so many servers, and what they do."""

    servers: int
    folder: str
    name: str
    #: They wait for guests.
    incoming: bool = False
    #: Seconds between two changes of a guest's screen.
    beat: float = 0.2
    #: Where clients come, and their ticket (None: none is asked for).
    host: str = "127.0.0.1"
    password: str | None = None


async def out_of_step(period: float) -> AsyncIterator[None]:
    """Come round each ``period`` seconds, at a time of its own, and keep to that.

    Who only waited for so long would fall into step with all others at the first moment in which
    their process doesn't get on, and many at once is something else than many.
    """
    clock = asyncio.get_running_loop().time
    due = clock() + period * random.random()
    while True:
        await asyncio.sleep(max(0.0, due - clock()))
        yield
        due += period * max(1, math.ceil((clock() - due) / period))


class SmallGuest(Guest):
    """An echo, and a box that changes each ``beat`` seconds."""

    name = "small"

    def __init__(self, beat: float = 0.2) -> None:
        self.beats, self._beat = 0, beat

    def attach(self, host: Host) -> None:
        """Make both."""
        self.echo = Echo(host.port(ECHO))
        self.echo.device.opened = True
        self.screen = host.display(0)
        self.screen.resize(*_SIZE)

    async def run(self) -> None:
        """Paint, until the guest moves."""
        async for _ in out_of_step(self._beat):
            self.beats += 1
            self.screen.fill(0, 0, 32, 32, self.beats * 0x0A1E32 & 0xFFFFFF)

    def device_readable(self, device: HostDevice) -> None:
        """Echo it."""
        self.echo.pump()

    device_writable = device_readable

    def freeze(self) -> Any:
        """What it remembers."""
        return self.beats, bytes(self.echo.held)

    def thaw(self, state: Any) -> None:
        """Go on with that."""
        self.beats, self.echo.held[:] = state


async def main(wanted: Servers) -> None:
    """Serve until the input ends."""
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    servers = [
        await aiospice.serve(
            SmallGuest(wanted.beat),
            host=wanted.host,
            port=0,
            password=wanted.password,
            control=f"{wanted.folder}/{wanted.name}-{number}",
            incoming=wanted.incoming,
            keep="acks",
        )
        for number in range(wanted.servers)
    ]
    ports = [int(server.addresses[0].rpartition(":")[2]) for server in servers]
    print(json.dumps(ports), flush=True)
    await orders.read()
    await asyncio.gather(*(server.close() for server in servers))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(Servers(*json.loads(sys.argv[1]))))
