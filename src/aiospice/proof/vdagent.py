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
from aiospice.proof.xserver import XProgram, XServer, Xvfb, find_program

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["VdAgent"]

#: How long the agent may take until it opens its port, in seconds.
START_SECONDS = 30.0
TEXT = "UTF8_STRING"


class VdAgent:
    """A guest's session with spice-vdagent; use it with ``async with``.

    Without arguments it has an X server of its own, and its port is `reader` and `writer`. With
    ``x`` and ``port`` it runs on an X server that has a port for it (`Xspice.agent_port`), and
    a tablet beside it.
    """

    def __init__(self, x: XServer | None = None, port: Path | None = None) -> None:
        self.x: XServer = x or Xvfb(800, 600)
        self._own = x is None
        self._port = port
        self._server: asyncio.Server | None = None
        self._opened: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        self._programs: list[XProgram] = []
        self._owners: dict[str, XProgram] = {}
        self._copies = 0
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    @property
    def files(self) -> Path:
        """The folder that files are put into."""
        return self.x.folder / "files"

    async def __aenter__(self) -> Self:
        _daemon()
        for program in ("spice-vdagent", "xclip"):
            find_program(program)
        if self._own:
            await self.x.start()
        try:
            await self._listen()
            await self.begin()
            if self._server is not None:
                await self._wait_for_port()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(AttributeError):
                self.writer.close()
        if self._own:
            await self.x.stop()

    async def _listen(self) -> None:
        self.files.mkdir(exist_ok=True)
        if self._port is None:
            self._port = self.x.folder / "port"
            self._opened = asyncio.get_running_loop().create_future()
            self._server = await asyncio.start_unix_server(self._open, self._port)
            self._port.with_name("tablet").touch()

    async def begin(self) -> None:
        """Start the daemon and the session's agent."""
        assert self._port is not None
        port, sessions = str(self._port), self.x.folder / "sessions"
        sessions.unlink(missing_ok=True)
        tablet = ("-f", "-u", str(self._port.with_name("tablet")))
        command = (_daemon(), "-x", "-X", *tablet, "-s", port, "-S", str(sessions))
        daemon = await self.x.run(*command, window="")
        self._programs.append(daemon)
        end = asyncio.get_running_loop().time() + START_SECONDS
        while not sessions.exists():
            if asyncio.get_running_loop().time() > end or not daemon.running:
                raise SessionLost("spice-vdagentd doesn't start")
            await asyncio.sleep(0.02)
        save = ("-f", str(self.files), "-o", "0")
        command = ("spice-vdagent", "-x", "-s", port, "-S", str(sessions), *save)
        self._programs.append(await self.x.run(*command, window=""))

    async def end(self) -> None:
        """End both, the daemon first; `begin` starts them anew."""
        programs, self._programs = self._programs, []
        for program in programs:
            await program.end()

    async def _wait_for_port(self) -> None:
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
