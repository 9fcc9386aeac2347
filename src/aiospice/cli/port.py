"""``aiospice port ADDRESS [NAME]``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiospice.cli.options import add_common, connected, seconds
from aiospice.cli.stdio import read_input, write_line, write_output

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

__all__ = ["Joint", "arguments", "run"]

_CHUNK = 1 << 16


def arguments(verb: str, parser: ArgumentParser) -> None:
    """Add the options."""
    add_common(parser)
    parser.add_argument("name", metavar="NAME", nargs="?", help="which port; without it, a list")
    parser.add_argument(
        "--drain",
        metavar="SECONDS",
        type=seconds,
        default=1.0,
        help="after the end of the input, end when nothing came back for so long (1; or inf)",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="control characters reach a terminal as they are (a file or pipe gets them anyway)",
    )


async def run(verb: str, args: Namespace) -> int:
    """List the ports, or join one to standard input and output."""
    async with connected(args, "main", "port") as session:
        if args.name is None:
            await _list(await session.ports())
            return 0
        port = await session.port(args.name)
        await Joint(port, args.drain, _filter(args.raw)).run()
    return 0


async def _list(names: list[str]) -> None:
    from aiospice.cli.escape import escape

    for name in names:
        await write_line(escape(name))


def _filter(raw: bool) -> Callable[[bytes], bytes]:
    import os
    import sys

    if raw or sys.stdout is None or not os.isatty(1):
        return bytes
    from codecs import getincrementaldecoder

    from aiospice.cli.escape import escape_stream

    decoder = getincrementaldecoder("utf-8")("backslashreplace")
    return lambda data: escape_stream(decoder.decode(data)).encode()


class Joint:
    """A port joined to standard input and output.

    It ends when the port does, or when the input has ended and the port has been silent, with
    everything written that came, for ``drain`` seconds.
    """

    def __init__(self, port: Any, drain: float, tame: Callable[[bytes], bytes] = bytes) -> None:
        self._port = port
        self._drain = drain
        self._tame = tame
        self._writing = False
        self._last = 0.0

    async def run(self) -> None:
        """Pass bytes until the end; errors of either side come out."""
        up, down = asyncio.create_task(self._up()), asyncio.create_task(self._down())
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if up.done():
                up.result()
                await self._silence(down)
            if down.done():
                down.result()
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _up(self) -> None:
        while data := await read_input():
            await self._port.write(data)

    async def _down(self) -> None:
        while data := await self._port.read(_CHUNK):
            self._writing = True
            await write_output(self._tame(data))
            self._writing = False
            self._last = asyncio.get_running_loop().time()

    async def _silence(self, down: asyncio.Task[None]) -> None:
        """Wait until the port has been silent for long enough, or has ended."""
        clock = asyncio.get_running_loop().time
        ended = clock()
        while not down.done():
            rest = max(self._last, ended) + self._drain - clock()
            if rest <= 0 and not self._writing:
                return
            await asyncio.wait({down}, timeout=min(max(rest, 0.01), 3600.0))
