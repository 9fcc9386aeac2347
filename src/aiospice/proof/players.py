"""Clients that a recording is played to, each as a process of its own, and what it costs them.

CPU time is that of all threads of the process between two moments: the client has opened the
display and sits still, and it has answered the PING behind the recording and sits still again. So
neither its start nor its end counts. Linux only (clock ids made from process numbers: glibc
``sysdeps/unix/sysv/linux/clock_getcpuclockid.c``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiospice.errors import MissingProgram, SessionLost, SpiceTimeout
from aiospice.proof import gtkpeer
from aiospice.proof.replay import ReplayServer

if TYPE_CHECKING:
    from aiospice.proof.recording import Recording

__all__ = ["CLIENTS", "Played", "command", "play"]

CLIENTS = ("aiospice", "spice-gtk", "ryll")
#: A process sits still when it uses less than this share of a CPU over `_STILL_SECONDS`.
_STILL_SHARE, _STILL_SECONDS, _STILL_LIMIT = 0.02, 0.1, 20.0


class Played(NamedTuple):
    """What one client did with a recording."""

    #: CPU seconds, user and system.
    cpu: float
    #: Seconds until it had answered the PING.
    wall: float
    #: MiB at the peak of the whole process.
    memory: float
    #: What it tells of itself: ``draws``, ``screen`` (`keeper.digest`); nothing from ryll.
    report: dict[str, Any]


def command(client: str, port: int) -> list[str]:
    """The command line that connects a client to 127.0.0.1; `MissingProgram`."""
    if client == "aiospice":
        return [sys.executable, "-m", "aiospice.proof.keeper", f"spice://127.0.0.1:{port}"]
    if client == "spice-gtk":
        return [str(gtkpeer.build()), "--host=127.0.0.1", f"--port={port}"]
    beside = Path(sys.executable).with_name("ryll")
    program = str(beside) if beside.exists() else shutil.which("ryll")
    if program is None:
        raise MissingProgram("ryll isn't installed: pip install ryll")
    return [program, "--headless", "--direct", f"127.0.0.1:{port}"]


async def play(
    client: str,
    recording: Recording,
    *,
    paced: bool = False,
    window: int | None = None,
    bytecode: Path | None = None,
    timeout: float = 120.0,
) -> Played:
    """Start a client, play the recording to it, and end it.

    Python keeps bytecode in the folder ``bytecode``, as it does beside an installed package.

    Raises `MissingProgram`, `SessionLost` when the client goes or says that it drew nothing,
    `SpiceTimeout`.
    """
    async with ReplayServer(recording, paced=paced, window=window) as server:
        line = await asyncio.to_thread(command, client, server.port)
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
            process = await asyncio.create_subprocess_exec(
                *line,
                stdin=asyncio.subprocess.PIPE,
                # ryll reports nothing there, but complains.
                stdout=output if client == "ryll" else asyncio.subprocess.PIPE,
                stderr=output,
                cwd=folder,
                env=_environment(bytecode),
            )
            try:
                return await _played(client, process, server, timeout)
            except (SessionLost, SpiceTimeout) as error:
                output.seek(0)
                said = output.read()[-500:].decode(errors="replace").strip()
                raise type(error)(f"{client}: {error}; it says: {said or 'nothing'}") from None
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                await process.wait()


def _environment(bytecode: Path | None) -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if "COV" not in name}
    if bytecode is not None:
        found.pop("PYTHONDONTWRITEBYTECODE", None)
        found["PYTHONPYCACHEPREFIX"] = str(bytecode)
    found["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return found


async def _played(
    client: str, process: asyncio.subprocess.Process, server: ReplayServer, timeout: float
) -> Played:
    reading = asyncio.create_task(_read(process))
    try:
        await server.ready()
        await _still(process.pid)
        before, began = _cpu(process.pid), time.monotonic()
        await server.play(timeout)
        wall = time.monotonic() - began
        await _still(process.pid)
        cpu, memory = _cpu(process.pid) - before, _memory(process.pid)
        report = {} if client == "ryll" else await _report(process, reading)
        return Played(cpu, wall, memory, report)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _read(process: asyncio.subprocess.Process) -> str:
    """The last line of what the client prints."""
    last = b""
    while process.stdout is not None and (line := await process.stdout.readline()):
        last = line
    return last.decode()


async def _report(
    process: asyncio.subprocess.Process, reading: asyncio.Task[str]
) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(b"quit\n")
    try:
        async with asyncio.timeout(20):
            found: dict[str, Any] = json.loads(await reading)
            await process.wait()
    except (TimeoutError, ValueError, OSError):
        raise SessionLost("it doesn't tell what it has drawn") from None
    return found


def _cpu(pid: int) -> float:
    """CPU seconds of all threads of a process, those that have ended too."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        raise SessionLost("it has ended") from None


async def _still(pid: int) -> None:
    """Wait until a process sits still."""
    end = time.monotonic() + _STILL_LIMIT
    before, began = _cpu(pid), time.monotonic()
    while True:
        await asyncio.sleep(_STILL_SECONDS)
        now, at = _cpu(pid), time.monotonic()
        if now - before < _STILL_SHARE * (at - began):
            return
        if at > end:
            raise SpiceTimeout(f"it works on for {_STILL_LIMIT:g} s")
        before, began = now, at


def _memory(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return float("nan")
