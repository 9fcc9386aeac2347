"""Many clients on one server process that is tied to one core of the machine.

First what an idle client takes: memory of the server, with main, display, inputs, cursor and
playback channels open and a screen of 1024x768 that stands still. Then active ones join, who are
shown a new frame 20 times a second: seconds from when the guest has made it until a client's core
has drawn it (p50, p99), all clients in one process beside the server. Then the same with somebody
who misbehaves (`aiospice.proof.badclients`), and without just before: the ratio of the two p99.
"""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from aiospice.errors import ConnectError, LocalError, SessionLost
from aiospice.proof.badclients import KINDS
from aiospice.proof.bench import median
from aiospice.proof.load import Crowd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["BadClient", "LoadServer", "measure"]

IDLE, ACTIVE, RATE = 500, 50, 20.0
#: Seconds of each measurement.
SECONDS = 8.0


class _Process:
    """A program of this package that is told things by lines."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.name = arguments[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def order(self, line: str) -> None:
        """Say a line."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def hear(self) -> str:
        """The next line; `SessionLost` when it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SessionLost(f"{self.name} has ended")
        return line.strip()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid


class LoadServer(_Process):
    """`aiospice.proof.loadserver` in a process of its own; use it with ``with``."""

    def __init__(self, *options: str) -> None:
        super().__init__("aiospice.proof.loadserver", *options)
        try:
            self.port = int(self.hear())
        except SessionLost as error:
            raise ConnectError("the server under load doesn't start") from error

    def status(self) -> dict[str, Any]:
        """What the server says of itself."""
        self.order("status")
        found: dict[str, Any] = json.loads(self.hear())
        return found


class BadClient(_Process):
    """One of `aiospice.proof.badclients`; it is at work once this is made.

    ``crowd`` runs meanwhile, so that its clients answer. `SessionLost` if it doesn't get there.
    """

    def __init__(self, kind: str, crowd: Crowd) -> None:
        super().__init__("aiospice.proof.badclients", kind, str(crowd.port))
        if not crowd.until(self._said, 60):
            self.__exit__()
            raise SessionLost(f"the {kind} client doesn't start")
        self.hear()

    def _said(self) -> bool:
        assert self._process.stdout is not None
        poll = select.poll()  # beyond the 1024 descriptors of select
        poll.register(self._process.stdout, select.POLLIN | select.POLLHUP)
        return bool(poll.poll(0))

    def stop(self) -> dict[str, Any]:
        """End it; what it has done."""
        self.order("stop")
        found: dict[str, Any] = json.loads(self.hear())
        return found


async def measure(
    *, runs: int = 2, only: str = "", idle: int = IDLE, active: int = ACTIVE, **_: Any
) -> AsyncIterator[dict[str, Any]]:
    """Yield the rows; ``only`` chooses among those who misbehave. Raises `LocalError` for none."""
    kinds = [kind for kind in KINDS if only in kind]
    if not kinds:
        raise LocalError(f"nobody who misbehaves has {only!r} in their names: {', '.join(KINDS)}")
    with LoadServer("--core=0", f"--rate={RATE:g}") as server:
        crowd = Crowd(server.port)
        try:
            yield _idle(server, crowd, idle)
            crowd.join(active, active=True)
            server.order("start")
            crowd.run(2)
            yield {"clients": f"{active} active", **_frames(server, crowd, SECONDS)}
            for kind in kinds:
                yield {"clients": f"and one: {kind}", **_beside(server, crowd, kind, runs)}
            yield {"clients": "at the end", "sessions_lost": len(crowd.lost)}
        finally:
            crowd.close()


def _idle(server: LoadServer, crowd: Crowd, count: int) -> dict[str, Any]:
    """Have idle clients join; what one takes."""
    crowd.join(1, active=False)
    crowd.run(1)
    before, began = server.status(), time.monotonic()
    crowd.join(count, active=False)
    took = time.monotonic() - began
    crowd.run(2)
    after = server.status()
    channels = (after["connections"] - before["connections"]) / count
    quiet = server.status()["cpu"]
    crowd.run(5)
    return {
        "clients": f"{count} idle",
        "channels_each": channels,
        "KiB_each": (after["rss"] - before["rss"]) / count / 1024,
        "joined_a_second": count / took,
        "cpu_ms_to_join": 1e3 * (after["cpu"] - before["cpu"]) / count,
        "cpu_share_while_idle": (server.status()["cpu"] - quiet) / 5,
    }


def _frames(server: LoadServer, crowd: Crowd, seconds: float) -> dict[str, Any]:
    """Show frames for a while; what has waited while nobody looked isn't counted."""
    crowd.run(0.5)
    before = server.status()
    crowd.run(0.1)
    crowd.latencies.clear()
    crowd.run(seconds)
    after = server.status()
    found = sorted(crowd.latencies)
    frames = after["frames"] - before["frames"]
    return {
        "frames_a_second": frames / seconds,
        "drawn": len(found) / max(1, frames * len(crowd.active)),
        "p50_ms": 1e3 * found[len(found) // 2] if found else float("nan"),
        "p99_ms": 1e3 * found[len(found) * 99 // 100] if found else float("nan"),
        "cpu_share": (after["cpu"] - before["cpu"]) / seconds,
        "rss_MiB": after["rss"] / (1 << 20),
    }


def _beside(server: LoadServer, crowd: Crowd, kind: str, runs: int) -> dict[str, Any]:
    """With one who misbehaves, and without."""
    ratios, rows, grown, done = [], [], 0.0, {}
    for _ in range(runs):
        without = _frames(server, crowd, SECONDS)
        with BadClient(kind, crowd) as bad:
            rows.append(_frames(server, crowd, SECONDS))
            done = bad.stop()
        crowd.run(1)
        ratios.append(rows[-1]["p99_ms"] / without["p99_ms"])
        grown = max(grown, rows[-1]["rss_MiB"] - without["rss_MiB"])
    return {
        "p50_ms": median([row["p50_ms"] for row in rows]),
        "p99_ms": median([row["p99_ms"] for row in rows]),
        "p99_to_without": median(ratios),
        "cpu_share": median([row["cpu_share"] for row in rows]),
        "grown_MiB": grown,
        **{f"its_{name}": count for name, count in done.items()},
    }
