"""An X server without a screen, for one guest: started, guarded by a cookie, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aiospice.errors import LocalError, MissingProgram, SpiceTimeout

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Cookie", "Xvfb", "end_process"]

START_SECONDS = 20.0
GRACE_SECONDS = 2.0
_NAME = b"MIT-MAGIC-COOKIE-1"
_ANY_FAMILY = 0xFFFF


class Cookie(NamedTuple):
    """What a client of an X server shows to be let in."""

    name: bytes
    data: bytes

    def entry(self) -> bytes:
        """Return it as a line of an authority file, for whatever display (``Xauth.h``)."""
        parts = (b"", b"", self.name, self.data)
        counted = b"".join(struct.pack(">H", len(part)) + part for part in parts)
        return struct.pack(">H", _ANY_FAMILY) + counted


async def end_process(process: asyncio.subprocess.Process) -> None:
    """End a process: ask, wait for a while, then kill."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class Xvfb:
    """The server. ``await start()``, then ``display`` and ``environment``; ``await stop()``."""

    def __init__(self, width: int, height: int) -> None:
        """Prepare one whose screen has at most this size, in pixels."""
        self._size = (width, height)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.cookie = Cookie(_NAME, secrets.token_bytes(16))
        #: Its name, such as ``:1``; known once it runs.
        self.display = ""

    @property
    def environment(self) -> dict[str, str]:
        """What programs need to find it and to be let in."""
        assert self._folder is not None
        return {"DISPLAY": self.display, "XAUTHORITY": os.path.join(self._folder.name, "authority")}

    async def start(self) -> None:
        """Start it. Raises `MissingProgram` if there is none, `LocalError` if it fails."""
        program = shutil.which("Xvfb")
        if program is None:
            raise MissingProgram("Xvfb isn't installed; on Debian: apt-get install xvfb")
        self._folder = tempfile.TemporaryDirectory(prefix="aiospice-x11-")
        authority = Path(self._folder.name) / "authority"
        authority.touch(mode=0o600)
        authority.write_bytes(self.cookie.entry())
        reading, writing = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(program, "-displayfd", str(writing), "-auth", str(authority)),
                *("-screen", "0", "{}x{}x24".format(*self._size), "-nolisten", "tcp", "-noreset"),
                pass_fds=(writing,),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(writing)
        self.display = ":" + await self._number(reading)

    async def _number(self, reading: int) -> str:
        """Wait until it has chosen a display."""
        loop = asyncio.get_running_loop()
        stream = asyncio.StreamReader()
        pipe = os.fdopen(reading, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), pipe
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await stream.readline()
        except TimeoutError:
            raise SpiceTimeout(f"Xvfb did not start within {START_SECONDS:g} s") from None
        finally:
            transport.close()
        if not line.strip().isdigit():
            raise LocalError("Xvfb ended at once; start it by hand to see why")
        return line.strip().decode()

    async def stop(self) -> None:
        """End it, and remove what it needed."""
        if self._process is not None:
            await end_process(self._process)
        if self._folder is not None:
            self._folder.cleanup()


async def start_program(
    command: Sequence[str], environment: dict[str, str]
) -> asyncio.subprocess.Process:
    """Start a program on an X server. Raises `MissingProgram` if there is none of that name."""
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise MissingProgram(f"{command[0]} can't be started: {error.strerror}") from error
