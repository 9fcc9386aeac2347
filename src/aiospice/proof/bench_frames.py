"""Bytes and CPU a frame of our server beside spice-server's, which shows the same film.

Both get the same framebuffer and damage (`aiospice.proof.film`), frame after frame at a fixed rate,
and one client, ours; the next frame comes when the client shows the last one with the right pixels,
so neither server may leave one out. Bytes are what came through the client's sockets; CPU is the
server's process with all of its threads, less what it takes while nothing happens, and nan where
that was most of it. Ours has made the keys that it keeps ready before that begins. The guest's own
work (copying the frame's pixels into the framebuffer) is in both.

A row a scene and way of packing: ours, spice-server's, and the ratios. ``auto`` is compared with
spice-server's ``auto_glz``, its default in QEMU. Rows ``video`` let both send videos; the pixels
are not checked there, and frames are sent at the rate alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

import aiospice
from aiospice.errors import ConnectError, LocalError, MissingProgram, SessionLost, SpiceTimeout
from aiospice.proof.bench import complain, median, ratio
from aiospice.proof.film import SCENES, Film, save
from aiospice.proof.gtkpeer import build
from aiospice.proof.qemu import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiospice.aio.session import Session

__all__ = ["PACKINGS", "FrameServer", "Shown", "measure", "show"]

_SOURCE = Path(__file__).with_name("native") / "frameserver.c"
_LIBRARIES = {"spice-server": "libspice-server-dev", "glib-2.0": "libglib2.0-dev"}
SERVERS = ("aiospice", "spice-server")
#: Ours and spice-server's name for each way of packing.
PACKINGS = {
    "auto": ("auto", "auto_glz"),
    "auto_glz": ("auto_glz", "auto_glz"),
    "auto_lz": ("auto_lz", "auto_lz"),
    "quic": ("quic", "quic"),
    "lz": ("lz", "lz"),
    "glz": ("glz", "glz"),
    "lz4": ("lz4", "lz4"),
    "off": ("off", "off"),
    "video": ("auto", "auto_glz"),
}
#: Scenes that are measured as videos, too.
_VIDEO_SCENES = ("moving", "mixed")
#: Where ``tcpi_bytes_received`` is in Linux's ``struct tcp_info``.
_RECEIVED = 128
FRAMES, RATE = 60, 20.0
#: Seconds without a frame, to see what that takes; and until a frame must be there.
_IDLE_SECONDS, _LIMIT = 0.3, 60.0
#: The share of the CPU time that may be due to something else than frames.
_MOST_IDLE = 0.5


class Shown(NamedTuple):
    """What a server took to show a film, a frame."""

    #: Through the client's sockets.
    bytes: float
    #: CPU milliseconds of the server; nan if that couldn't be told from what else it did.
    cpu: float
    #: Milliseconds from the order until the client showed the frame, medians.
    latency: float
    #: MB of changed pixels (4 bytes each) in a CPU second.
    speed: float


class FrameServer:
    """One of the two servers, in a process of its own; use it with ``async with``."""

    def __init__(self, server: str, film: Path, packing: str, *extra: str) -> None:
        self.server = server
        self.port = 0
        self._film = film
        self._packing = packing
        self._extra = extra
        self._process: asyncio.subprocess.Process | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - lives with the process

    async def __aenter__(self) -> Self:
        if self.server == "aiospice":
            program = [sys.executable, "-m", "aiospice.proof.frameserver"]
        else:
            program = [str(await asyncio.to_thread(build, _SOURCE, _LIBRARIES))]
        self.port = free_port()
        options = (f"--port={self.port}", f"--film={self._film}", f"--compression={self._packing}")
        self._process = await asyncio.create_subprocess_exec(
            *(*program, *options, *self._extra),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._output,
            env={name: value for name, value in os.environ.items() if "COV" not in name},
        )
        if await self._hear() != b"ready":
            await self._kill()
            raise ConnectError(f"{self.server} doesn't start: {self.output()}")
        return self

    async def _hear(self) -> bytes:
        """The next line that it says, b"" if none comes."""
        assert self._process is not None
        assert self._process.stdout is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LIMIT):
                return (await self._process.stdout.readline()).strip()
        return b""

    async def settle(self) -> None:
        """Wait until it makes nothing ahead any more; spice-server never does."""
        if self.server == "aiospice":
            self._order("settle")
            if await self._hear() != b"settled":
                raise SpiceTimeout(f"{self.server} doesn't come to rest: {self.output()}")

    async def __aexit__(self, *_: object) -> None:
        self._order("quit")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                assert self._process is not None
                await self._process.wait()
        await self._kill()
        self._output.close()

    async def _kill(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def output(self) -> str:
        """The end of what the server complained about."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), 2000, max(0, size - 2000)).decode(errors="replace")

    def frame(self, number: int) -> None:
        """Have the guest show a frame."""
        self._order(f"frame {number}")

    def _order(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line.encode() + b"\n")

    def cpu(self) -> float:
        """CPU seconds of all threads so far. Raises `SessionLost` when the server has ended."""
        assert self._process is not None
        try:
            return time.clock_gettime((~self._process.pid << 3) | 2)
        except OSError:
            raise SessionLost(f"{self.server} has ended: {self.output()}") from None


class _Watcher:
    """The client: tells what came through its sockets, and compares its screen with the film."""

    def __init__(self, session: Session) -> None:
        self._core = session._shell.core
        self._wires = session._shell._wires

    @property
    def bytes(self) -> int:
        """What has come through the session's sockets so far, as the kernel counts it."""
        total = 0
        for wire in self._wires.values():
            raw = None if wire.transport is None else wire.transport._raw
            if raw is not None:
                sock = raw.get_extra_info("socket")
                info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
                total += int.from_bytes(info[_RECEIVED : _RECEIVED + 8], sys.byteorder)
        return total

    def shows(self, film: Film, number: int) -> bool:
        """Whether the screen has a frame's pixels."""
        screen = self._core.screens.get(0)
        if screen is None or screen.primary is None:
            return False
        shown = screen.surfaces[screen.primary]
        words = np.frombuffer(shown.data, np.uint32).reshape(shown.height, shown.stride // 4)
        for (x, y, width, height), pixels in film.frame(number):
            wanted = pixels.view(np.uint32)[:, :, 0]
            if ((words[y : y + height, x : x + width] ^ wanted) & 0xFFFFFF).any():
                return False
        return True

    async def until(self, film: Film, number: int) -> None:
        """Wait until the screen shows a frame."""
        end = time.monotonic() + _LIMIT
        while not self.shows(film, number):
            if time.monotonic() > end:
                raise SpiceTimeout(f"frame {number} isn't shown after {_LIMIT:g} s")
            await asyncio.sleep(0.001)

    async def still(self, seconds: float = 0.3) -> None:
        """Wait until nothing has come for so long."""
        end = time.monotonic() + _LIMIT
        before = -1
        while before != self.bytes and time.monotonic() < end:
            before = self.bytes
            await asyncio.sleep(seconds)


async def _idle(server: FrameServer) -> float:
    """The share of a CPU that a server takes while nothing happens, when it has settled."""
    await server.settle()
    found = []
    for _ in range(3):
        start = server.cpu()
        await asyncio.sleep(_IDLE_SECONDS)
        found.append((server.cpu() - start) / _IDLE_SECONDS)
    return min(found)


def _of_frames(total: float, idle: float) -> float:
    """CPU seconds without those that have nothing to do with frames; nan if these are too many."""
    return total - idle if idle <= _MOST_IDLE * total else float("nan")


async def show(
    server: FrameServer, film: Film, *, rate: float = RATE, checked: bool = True
) -> Shown:
    """Show a film to a client of ours, and measure. `SpiceTimeout`, `SessionLost`."""
    address = f"spice://127.0.0.1:{server.port}"
    codecs = () if checked else ("mjpeg",)
    async with aiospice.connect(
        address, channels=("display", "cursor"), video_codecs=codecs
    ) as session:
        watcher = _Watcher(session)
        server.frame(0)
        await watcher.until(film, 0)
        await watcher.still()
        idle = await _idle(server)
        before, start, began = watcher.bytes, server.cpu(), time.monotonic()
        latencies, due = [], began
        for number in range(1, film.frames):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = time.monotonic() + 1 / rate
            told = time.monotonic()
            server.frame(number)
            if checked:
                await watcher.until(film, number)
                latencies.append(time.monotonic() - told)
        if not checked:
            await watcher.still()
        took = time.monotonic() - began
        cpu = _of_frames(server.cpu() - start, idle * took)
        frames = film.frames - 1
        pixels = sum(film.pixels(number) for number in range(1, film.frames))
        return Shown(
            (watcher.bytes - before) / frames,
            1e3 * cpu / frames,
            1e3 * median(latencies),
            4e-6 * pixels / cpu,
        )


async def measure(
    *, runs: int = 1, only: str = "", frames: int = FRAMES, **_: Any
) -> AsyncIterator[dict[str, Any]]:
    """Yield the rows; ``only`` chooses them by a word in "SCENE PACKING".

    Raises `LocalError` when that leaves nothing.
    """
    wanted = [
        (scene, packing)
        for scene in SCENES
        for packing in PACKINGS
        if only in f"{scene} {packing}" and (packing != "video" or scene in _VIDEO_SCENES)
    ]
    if not wanted:
        raise LocalError(f"no scene and packing have {only!r} in their names")
    servers = list(SERVERS)
    try:
        await asyncio.to_thread(build, _SOURCE, _LIBRARIES)
    except MissingProgram as error:
        complain("frames", f"spice-server is left out: {error}")
        servers.remove("spice-server")
    with tempfile.TemporaryDirectory(prefix="aiospice-film-") as folder:
        path = Path(folder) / "film"
        for scene in SCENES:
            packings = [packing for name, packing in wanted if name == scene]
            if packings:
                await asyncio.to_thread(save, path, scene, frames)
            for packing in packings:
                found = await _beside(path, packing, servers, runs)
                for row in _rows(found):
                    yield {"scene": scene, "packing": packing, **row}


async def _beside(
    path: Path, packing: str, servers: list[str], runs: int
) -> dict[str, list[Shown]]:
    """Each server in turn, ``runs`` times."""
    film = Film(path)
    found: dict[str, list[Shown]] = {name: [] for name in servers}
    video = packing == "video"
    for _ in range(runs):
        for name in servers:
            how = PACKINGS[packing][SERVERS.index(name)]
            extra: tuple[str, ...] = ()
            if video:
                extra = ("--video=auto", "--lossy=auto") if name == "aiospice" else ("--video=all",)
            async with FrameServer(name, path, how, *extra) as server:
                found[name].append(await show(server, film, checked=not video))
    return found


def _rows(found: dict[str, list[Shown]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "server": name,
            "bytes_a_frame": median([run.bytes for run in runs]),
            "cpu_ms_a_frame": median([run.cpu for run in runs]),
            "shown_after_ms": median([run.latency for run in runs]),
            "pixels_MB_s": median([run.speed for run in runs]),
        }
        for name, runs in found.items()
    ]
    if len(found) == 2:
        ours, theirs = (found[name] for name in SERVERS)
        rows.append(
            {
                "server": "ratio",
                "bytes": ratio([run.bytes for run in ours], [run.bytes for run in theirs]),
                "cpu": ratio([run.cpu for run in ours], [run.cpu for run in theirs]),
            }
        )
    return rows
