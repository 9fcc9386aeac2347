"""Two server processes of ours, between which a guest moves back and forth.

    async with ServerPair("demo") as pair:
        async with aiospice.connect(pair.source.address) as session:
            told = await pair.move("direct")      # and pair.source is the other one now

The processes are ``aiospice serve``, and are told to move by their control sockets, as ``aiospice
migrate`` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from aiospice.aio.control import ControlClient
from aiospice.errors import ConnectError, MigrationFailed, SpiceTimeout

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HandedOver", "ServerPair", "ServerProcess", "hand_over"]

_START_SECONDS = 60.0
_MOVE_SECONDS = 60.0
_ENDS = ("handover-finished", "handover-failed", "handover-uncertain")


class HandedOver(NamedTuple):
    """One move; times are seconds since 1970."""

    stopped: float  #: the guest stood still
    running: float  #: the source knew that it runs on the target
    ended: float  #: clients were told to follow, or the first of them
    still: float  #: seconds that the guest stood still, as the source measured it
    whole: int  #: clients of which nothing had to begin anew
    others: int  #: clients that had to begin anew or are missed
    early: int  #: bytes of the guest's state that were told while it ran
    late: int  #: and while it stood still


class ServerProcess:
    """``aiospice serve``; use it with ``async with``.

    ``guest``: as for ``--guest``. ``words``: more of the command line. ``prefix``: words before it,
    such as those that put it into a network namespace.
    """

    def __init__(
        self,
        guest: str,
        folder: Path,
        name: str,
        words: Sequence[str] = (),
        password: str = "",
        prefix: Sequence[str] = (),
    ) -> None:
        self.control = str(folder / f"{name}.control")
        self.address = ""
        self._output = folder / f"{name}.log"
        self._words = ["--guest", guest, "--control", self.control, *words]
        self._password = password
        self._prefix = prefix
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        path = os.pathsep.join(each for each in sys.path if each)
        environment = {**os.environ, "PYTHONPATH": path}
        if self._password:
            environment["AIOSPICE_PASSWORD"] = self._password
        command = [*self._prefix, sys.executable, "-m", "aiospice.cli", "serve", *self._words]
        if shutil.which("setpriv"):  # it ends with this process, however that ends
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        with self._output.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=output, env=environment
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_START_SECONDS):
                self.address = (await self._process.stdout.readline()).decode().strip()
        except TimeoutError:
            pass
        if not self.address:
            await self.kill()
            raise ConnectError(f"aiospice serve doesn't start: {self.output()}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    @property
    def port(self) -> int:
        """The port of its address."""
        return int(self.address.rpartition(":")[2])

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def output(self) -> str:
        """The end of what it has logged."""
        with contextlib.suppress(OSError):
            return self._output.read_text(errors="replace")[-2000:].strip()
        return ""

    async def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class ServerPair:
    """See the module's text. ``host``: where they listen; ``password``: needed but on loopback."""

    def __init__(
        self,
        guest: str = "demo",
        *,
        host: str = "127.0.0.1",
        password: str = "",
        words: Sequence[str] = (),
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="aiospice-pair-")
        words = ("--listen", f"{host}:0", *words)
        path = Path(self._folder.name)
        self.source = ServerProcess(guest, path, "a", words, password)
        self.target = ServerProcess(guest, path, "b", (*words, "--incoming"), password)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            self._stack.callback(self._folder.cleanup)
            for server in (self.source, self.target):
                await self._stack.enter_async_context(server)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def move(self, policy: str = "carry", *, limit: float = _MOVE_SECONDS) -> HandedOver:
        """Move the guest and all clients to the target, which is the source then.

        Raises `MigrationFailed` if the guest stays, `SpiceTimeout`.
        """
        told = await hand_over(self.source.control, self.target.control, policy, limit=limit)
        self.source, self.target = self.target, self.source
        return told


async def hand_over(
    source: str, target: str, policy: str, *, limit: float = _MOVE_SECONDS
) -> HandedOver:
    """Move a guest and its clients; ``source``, ``target``: paths of control sockets.

    Raises `MigrationFailed` if the guest stays, `SpiceTimeout`.
    """
    async with ControlClient(source) as control:
        await control.ask("subscribe")
        try:
            async with asyncio.timeout(limit):
                migration = await control.ask("migrate", target=target, policy=policy)
                return _told(await _followed(control, migration))
        except TimeoutError:
            raise SpiceTimeout(f"{source}: the guest hasn't moved after {limit:g} s") from None


async def _followed(control: ControlClient, migration: str) -> list[dict[str, Any]]:
    """The events of a move until it is over."""
    found: list[dict[str, Any]] = []
    async for event in control.events():
        if event.get("migration", migration) != migration:
            continue
        found.append(event)
        if event["event"] in _ENDS and event.get("migration") == migration:
            if event["event"] != "handover-finished":
                raise MigrationFailed(f"{event['event']}: {event['reason']}")
            return found
    raise MigrationFailed("the source has ended")


def _told(events: list[dict[str, Any]]) -> HandedOver:
    def first(*kinds: str) -> dict[str, Any]:
        return next((each for each in events if each["event"] in kinds), {})

    running, stopped = first("handover-running"), first("handover-stopped")
    finished = first("handover-finished")
    at = running.get("time", 0.0)
    return HandedOver(
        stopped=at - running.get("seconds", 0.0),
        running=at,
        ended=first("move-started").get("time", at),
        still=running.get("seconds", 0.0),
        whole=finished["whole"],
        others=finished["anew"] + finished["away"] + finished["missed"],
        early=stopped.get("early", 0),
        late=stopped.get("late", 0),
    )
