"""A guest that paints what it is told to: text, windows, pictures, videos, in any screen mode.

    options = painting_options(vga="std", spice=("image-compression=quic",))
    async with Qemu(options) as qemu, Painter(qemu) as painter:
        await painter.do("photo 0 0 1024 768 1")
        await painter.do("every 4 video 64 64 320 240 0")   # 25 times a second, until "stop"
        frames = await painter.stop()

The commands stand at the top of ``guest/paint.c``. They go over COM2, which is a unix socket
beside QEMU's other files; COM1 is echoed, as by the other guests. An answer means that the pixels
are in the guest's screen, not that a client has them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from aiospice.errors import ConnectError, SpiceTimeout, StateError
from aiospice.proof.qemu import QemuOptions

if TYPE_CHECKING:
    from aiospice.proof.qemu import Qemu

__all__ = ["Painter", "painting_options"]


def painting_options(**options: Any) -> QemuOptions:
    """`QemuOptions` for a machine that a `Painter` can command."""
    return QemuOptions(guest="paint", commands=True, **options)


class Painter:
    """The line of commands to the painting guest; one at a time for each machine."""

    def __init__(self, qemu: Qemu) -> None:
        self.qemu = qemu
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def open(self) -> Self:
        """Connect to the guest's serial port. Raises `ConnectError`."""
        try:
            pair = await asyncio.open_unix_connection(self.qemu.commands_path)
        except OSError as error:
            raise ConnectError(
                f"{self.qemu.commands_path}: {error.strerror}; start QEMU with painting_options()"
            ) from error
        self._reader, self._writer = pair
        return self

    def close(self) -> None:
        """Let go of the port; what is under way in the guest goes on."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def do(self, command: str, *, timeout: float = 60) -> str:
        """Have a command carried out; returns what the guest answers behind ``ok``.

        Raises `StateError` with the guest's words when it refuses, `SpiceTimeout` when it takes
        longer than ``timeout`` seconds.
        """
        if self._reader is None or self._writer is None:
            raise StateError("the painter isn't connected: open() comes first")
        self._writer.write(command.encode() + b"\n")
        try:
            async with asyncio.timeout(timeout):
                answer = (await self._reader.readline()).decode("ascii", "replace").strip()
        except TimeoutError:
            raise SpiceTimeout(f"the guest hasn't done {command!r} in {timeout:g} s") from None
        word, _, rest = answer.partition(" ")
        if word != "ok":
            raise StateError(f"{command!r}: the guest says {answer or 'nothing any more'!r}")
        return rest

    async def stop(self) -> int:
        """End what goes on in the background (``every``); returns how often it was done."""
        return int(await self.do("stop"))
