"""A picture of a running QEMU: ``aiospice screenshot`` beside ``spicy-screenshot``.

Both are measured as whole processes, in turn, on the same QEMU: wall time, CPU time and peak
memory as the kernel accounts them. The third figure is a program that is already running: connect,
picture, close. The screens: 720x400 text, and 1024x768 with 32 bits a pixel.
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
from aiospice.errors import SessionLost, SpiceTimeout
from aiospice.proof.bench import complain, median, ratio
from aiospice.proof.qemu import Qemu, QemuOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

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


#: What the installed command runs (``python -m`` would load more).
_OURS = "import sys; from aiospice.cli.main import main; sys.exit(main())"

#: Where guests say that they are ready, and how (``guest/echo.S``).
_READY_ADDRESS, _READY_WORD = 0x500, "6b6f"

#: A guest that shows coloured bars: VBE mode 0x144 (1024 x 768, 32 bits), whose 48 banks of 64 KiB
#: it fills with ``(address & 0xfc0) + bank``; then it says that it is ready, and halts.
_GRAPHICS = bytes.fromhex(
    "fa 31c0 8ed8 8ed0 bc0070 b8024f bb4401 cd10 b800a0 8ec0 31d2 b8054f 31db 52 cd10 5a 31ff"
    "89f8 25c00f 01d0 ab 85ff 75f4 42 83fa30 72e3 c70600056f6b fa f4 ebfd"
)


def _run(command: list[str], bytecode: Path) -> _Run:
    """Run a command to its end; `SessionLost` if it fails.

    Python keeps compiled modules in ``bytecode``, as it does beside an installed package.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
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
        complain("screenshot", f"{_PROGRAM} isn't installed: install spice-client-gtk (Debian)")
    with tempfile.TemporaryDirectory() as folder:
        graphics = Path(folder) / "graphics.img"
        graphics.write_bytes(_GRAPHICS.ljust(510, b"\0") + b"\x55\xaa")
        guests: dict[str, str | Path] = {"720x400": "quiet", "1024x768": graphics}
        for screen, guest in guests.items():
            async with Qemu(QemuOptions(guest=guest)) as qemu:
                found = await _rounds(qemu, program, Path(folder), runs, screen)
            for result in _results(*found):
                yield {"screen": screen, **result}


def _results(ours: list[_Run], theirs: list[_Run], inside: list[float]) -> Iterator[dict[str, Any]]:
    yield {"program": "aiospice screenshot", **_figures(ours)}
    if not theirs:
        yield {"program": "in a running process", "wall_ms": median(inside) * 1e3}
        return
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
    qemu: Qemu, program: str | None, folder: Path, runs: int, screen: str
) -> tuple[list[_Run], list[_Run], list[float]]:
    picture = str(folder / "ours.png")
    mine = [sys.executable, "-c", _OURS, "screenshot", qemu.address, "-o", picture]
    commands = [mine]
    if program is not None:
        commands.append([program, "-h", qemu.options.address, "-p", str(qemu.port)])
        commands[1] += ["-o", str(folder / "theirs.ppm")]
    await _shows(qemu, screen)
    ours, theirs, inside = [], [], []
    for index in range(runs + 1):
        pair = commands if index % 2 else commands[::-1]  # neither always comes first
        done = [await asyncio.to_thread(_run, command, folder / "bytecode") for command in pair]
        began = time.perf_counter()
        async with aiospice.connect(qemu.address, channels=("display",)) as session:
            await session.screen()
        took = time.perf_counter() - began
        if index:  # the first round fills caches
            ours.append(done[pair.index(mine)])
            theirs += [run for command, run in zip(pair, done, strict=True) if command != mine]
            inside.append(took)
    return ours, theirs, inside


async def _shows(qemu: Qemu, screen: str) -> None:
    """Wait until the guest's screen has that size and the guest has drawn it."""
    end = time.monotonic() + 20
    head = b"P6\n%b\n255\n" % screen.replace("x", " ").encode()
    while not (await qemu.screendump()).startswith(head) or _READY_WORD not in await qemu.monitor(
        f"xp /1hx {_READY_ADDRESS:#x}"
    ):
        if time.monotonic() > end:
            raise SpiceTimeout(f"the guest's screen isn't {screen} after 20 s: {qemu.output()}")
        await asyncio.sleep(0.05)


def _figures(runs: list[_Run]) -> dict[str, float]:
    return {
        "wall_ms": median([run.wall for run in runs]) * 1e3,
        "cpu_ms": median([run.cpu for run in runs]) * 1e3,
        "memory_MiB": median([run.memory for run in runs]),
    }
