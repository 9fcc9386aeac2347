"""A picture of a running QEMU: ``aiospice screenshot`` beside ``spicy-screenshot``.

Both are measured as whole processes, in turn, on the same QEMU: wall time, CPU time and peak
memory as the kernel accounts them. The third figure is a program that is already running.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import aiospice
from aiospice.errors import MissingProgram, SessionLost
from aiospice.proof.bench import median, ratio
from aiospice.proof.qemu import Qemu, QemuOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["measure"]

_PROGRAM = "spicy-screenshot"


class _Run(NamedTuple):
    wall: float  #: seconds
    cpu: float  #: seconds, user and system
    memory: float  #: MiB at the peak


#: Runs a command and prints wall time, CPU time and peak memory. A process of its own, and a small
#: one, since the kernel counts the parent's memory at the fork as the child's.
_WATCH = """
import os, sys, time
nothing = os.open(os.devnull, os.O_RDWR)
actions = [(os.POSIX_SPAWN_DUP2, nothing, n) for n in (0, 1, 2)]
began = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
_, status, used = os.wait4(child, 0)
print(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


def _run(command: list[str]) -> _Run:
    """Run a command to its end; `SessionLost` if it fails."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", _WATCH, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    )
    if done.returncode:
        raise SessionLost(f"{command[0]} failed: {done.stderr.strip()[-200:]}")
    wall, cpu, memory = map(float, done.stdout.split())
    return _Run(wall, cpu, memory)


async def measure(*, runs: int = 10, **_: Any) -> AsyncIterator[dict[str, Any]]:
    """Yield the figures of both programs, their ratios, and those of a running program."""
    program = shutil.which(_PROGRAM)
    if program is None:
        raise MissingProgram(f"{_PROGRAM} isn't installed: install spice-client-gtk (Debian)")
    with tempfile.TemporaryDirectory() as folder:
        async with Qemu(QemuOptions(guest="quiet")) as qemu:
            ours, theirs, inside = await _rounds(qemu, program, Path(folder), runs)
    yield {"program": "aiospice screenshot", **_figures(ours)}
    yield {"program": _PROGRAM, **_figures(theirs)}
    yield {
        "program": "ratio",
        "wall": ratio([run.wall for run in ours], [run.wall for run in theirs]),
        "cpu": ratio([run.cpu for run in ours], [run.cpu for run in theirs]),
        "memory": ratio([run.memory for run in ours], [run.memory for run in theirs]),
    }
    yield {
        "program": "in a running process",
        "wall_ms": median(inside) * 1e3,
        "to_whole_run_of_the_C_program": ratio(inside, [run.wall for run in theirs]),
    }


async def _rounds(
    qemu: Qemu, program: str, folder: Path, runs: int
) -> tuple[list[_Run], list[_Run], list[float]]:
    port = str(qemu.port)
    picture = str(folder / "ours.png")
    mine = [sys.executable, "-m", "aiospice", "screenshot", qemu.address, "-o", picture]
    other = [program, "-h", qemu.options.address, "-p", port, "-o", str(folder / "theirs.ppm")]
    ours, theirs, inside = [], [], []
    for index in range(runs + 1):
        first = await asyncio.to_thread(_run, mine)
        second = await asyncio.to_thread(_run, other)
        began = time.perf_counter()
        async with aiospice.connect(qemu.address, channels=("display",)) as session:
            await session.screen()
            took = time.perf_counter() - began
        if index:  # the first round fills caches
            ours.append(first)
            theirs.append(second)
            inside.append(took)
    return ours, theirs, inside


def _figures(runs: list[_Run]) -> dict[str, float]:
    return {
        "wall_ms": median([run.wall for run in runs]) * 1e3,
        "cpu_ms": median([run.cpu for run in runs]) * 1e3,
        "memory_MiB": median([run.memory for run in runs]),
    }
