"""A program on a terminal of its own (a pty), on asyncio's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from typing import TYPE_CHECKING, Self

from aiospice.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Child"]

#: Keys that wait for a program that doesn't read; what is more is dropped, as a keyboard does.
WAITING_BYTES = 64 << 10
#: Seconds that a program has to end after SIGHUP.
GRACE_SECONDS = 2.0

#: Runs in the new session: makes the pty its controlling terminal and becomes the program. Python
#: ignores two signals, and who runs a server in the background others, which would be inherited.
_LAUNCH = """\
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
for name in ("PIPE", "XFSZ", "HUP", "INT", "QUIT", "TERM", "TSTP", "TTIN", "TTOU"):
    signal.signal(getattr(signal, "SIG" + name), signal.SIG_DFL)
try:
    os.execvp(sys.argv[1], sys.argv[1:])
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error.strerror}")
"""


class Child:
    """A program and its terminal. Started by `start`, ended by `stop`, which leaves no zombie."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self.process = process
        self._master = master
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        columns: int,
        rows: int,
        environment: Mapping[str, str] | None = None,
        folder: str | None = None,
    ) -> Self:
        """Start a program. Raises `LocalError` if there can be no terminal or process."""
        try:
            master, slave = pty.openpty()
        except OSError as error:
            raise LocalError(f"no pseudo terminal can be had: {error.strerror}") from error
        try:
            _set_size(master, columns, rows)
            os.set_blocking(master, False)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _LAUNCH, *command),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
                env=None if environment is None else dict(environment),
                cwd=folder,
            )
        except OSError as error:
            os.close(master)
            raise LocalError(f"{command[0]} can't be started: {error.strerror}") from error
        finally:
            os.close(slave)
        return cls(process, master)

    async def read(self, limit: int) -> bytes:
        """Wait for output and return at most ``limit`` bytes; b"" once the program has ended."""
        while True:
            try:
                return os.read(self._master, limit)
            except BlockingIOError:
                await self._readable()
            except OSError:  # EIO: nobody has the terminal open any more
                return b""

    async def _readable(self) -> None:
        ready = asyncio.Event()
        self._loop.add_reader(self._master, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(self._master)

    def write(self, data: bytes) -> None:
        """Hand keys to the program; they wait if it doesn't read, up to `WAITING_BYTES`."""
        self._waiting += data[: WAITING_BYTES - len(self._waiting)]
        self._flush()

    def _flush(self) -> None:
        try:
            while self._waiting:
                del self._waiting[: os.write(self._master, self._waiting[:4096])]
        except BlockingIOError:
            self._loop.add_writer(self._master, self._flush)
            return
        except OSError:  # it has ended
            self._waiting.clear()
        self._loop.remove_writer(self._master)

    def resize(self, columns: int, rows: int) -> None:
        """Tell the program that its terminal has another size."""
        with contextlib.suppress(OSError):
            _set_size(self._master, columns, rows)

    async def stop(self) -> int:
        """Hang up, then kill if need be; return the exit status (negative: the signal)."""
        self._loop.remove_writer(self._master)
        self._signal(signal.SIGHUP)
        os.close(self._master)
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                return await self.process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
        return await self.process.wait()

    def _signal(self, number: int) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


def _set_size(descriptor: int, columns: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("<4H", rows, columns, 0, 0))
