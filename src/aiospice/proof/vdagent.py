"""The agent that real guests have: spice-vdagentd, and spice-vdagent in an X session of its own.

The daemon takes a UNIX socket for its virtio port, so no machine is needed around it::

    async with VdAgent() as guest:
        await guest.copy(b"some text")
        print(await guest.paste("image/png"))
        guest.reader, guest.writer    # the port: chunks for and from the client and the server

What is copied and pasted is what any X program would, by ``xclip``. Files that come are in `files`.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import TYPE_CHECKING, Self

from aiospice.errors import MissingProgram, SessionLost, SpiceTimeout
from aiospice.proof.xserver import XProgram, Xvfb, find_program

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["VdAgent"]

#: How long the agent may take until it opens its port, in seconds.
START_SECONDS = 30.0
TEXT = "UTF8_STRING"


class VdAgent:
    """A guest's session with spice-vdagent; use it with ``async with``."""

    def __init__(self, width: int = 800, height: int = 600) -> None:
        self.x = Xvfb(width, height)
        self._server: asyncio.Server | None = None
        self._opened: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        self._owners: dict[str, XProgram] = {}
        self._copies = 0
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    @property
    def files(self) -> Path:
        """The folder that files are put into."""
        return self.x.folder / "files"

    async def __aenter__(self) -> Self:
        daemon = _daemon()
        for program in ("spice-vdagent", "xclip"):
            find_program(program)
        await self.x.start()
        try:
            await self._start(daemon)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(AttributeError):
                self.writer.close()
        await self.x.stop()

    async def _start(self, daemon: str) -> None:
        self._opened = asyncio.get_running_loop().create_future()
        self.files.mkdir()
        port, sessions = str(self.x.folder / "port"), str(self.x.folder / "sessions")
        (self.x.folder / "tablet").touch()
        self._server = await asyncio.start_unix_server(self._open, port)
        tablet = ("-f", "-u", str(self.x.folder / "tablet"))
        await self.x.run(daemon, "-x", "-X", *tablet, "-s", port, "-S", sessions, window="")
        end = asyncio.get_running_loop().time() + START_SECONDS
        while not (self.x.folder / "sessions").exists():
            if asyncio.get_running_loop().time() > end or not self.x.programs[0].running:
                raise SessionLost("spice-vdagentd doesn't start")
            await asyncio.sleep(0.02)
        save = ("-f", str(self.files), "-o", "0")
        await self.x.run("spice-vdagent", "-x", "-s", port, "-S", sessions, *save, window="")
        try:
            async with asyncio.timeout(START_SECONDS):
                self.reader, self.writer = await self._opened
        except TimeoutError:
            raise SpiceTimeout("spice-vdagentd doesn't open its port") from None

    async def _open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._opened.done():
            self._opened.set_result((reader, writer))

    async def copy(self, data: bytes, target: str = TEXT, selection: str = "clipboard") -> None:
        """Copy in the guest: ``data`` is owned by a program until something else is copied."""
        self._copies += 1
        path = self.x.folder / f"copy{self._copies}"
        path.write_bytes(data)
        command = ("xclip", "-quiet", "-selection", selection, "-t", target, "-i", str(path))
        self._owners[selection] = await self.x.run(*command, window="")

    async def paste(
        self, target: str = TEXT, selection: str = "clipboard", limit: float = 20
    ) -> bytes:
        """Paste in the guest; `LocalError` if there is nothing of that form."""
        return await self.x.do("xclip", "-o", "-selection", selection, "-t", target, limit=limit)

    async def end_owner(self, selection: str = "clipboard") -> None:
        """End the program that owns what was copied, so that nothing is there to paste."""
        await self._owners.pop(selection).end()


def _daemon() -> str:
    found = shutil.which("spice-vdagentd", path="/usr/sbin:/sbin:/usr/bin")
    if found is None:
        raise MissingProgram("spice-vdagentd isn't installed: install spice-vdagent (Debian)")
    return found
