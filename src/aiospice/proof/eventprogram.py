"""A program that tells what happens to it as JSON, one event a line on its standard output."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from typing import TYPE_CHECKING, Any, TypeVar

from aiospice.errors import SessionLost, SpiceTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["EventProgram"]

T = TypeVar("T")


class EventProgram:
    """One run of a program; ``events`` holds all it has told, oldest first.

    An event is a dict with ``event``. It is started by `_run`, which the subclass's ``__aenter__``
    calls, and killed at the end.
    """

    #: What errors call it.
    name = "program"

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self._ended = False
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - lives with the process

    async def _run(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._output,
            env=environment,
            limit=1 << 26,  # a line that carries a large clipboard
        )
        self._reader = asyncio.create_task(self._read())

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def kill(self) -> None:
        """End the program at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._reader is not None:
            await self._reader
        self._output.close()

    # -- events ------------------------------------------------------------------------------------

    async def wait(
        self, event: str, *, timeout: float = 30, since: int = 0, **fields: object
    ) -> dict[str, Any]:
        """Wait for an event with these fields, one among ``events[since:]`` included.

        Raises `SpiceTimeout`, and `SessionLost` when the program ends before.
        """
        text = f"{event} {fields or ''}"
        return await self.until(lambda: self.find(event, since=since, **fields), text, timeout)

    async def until(self, found: Callable[[], T | None], what: str, timeout: float = 30) -> T:
        """Wait until ``found``, asked after every event, returns something true."""
        async with self._news:
            try:
                async with asyncio.timeout(timeout):
                    while not (value := found()):
                        if self._ended:
                            raise SessionLost(f"{self.name} ended before {what}: {self.output()}")
                        await self._news.wait()
            except TimeoutError:
                told = [_short(event) for event in self.events if event["event"] != "changed"][-8:]
                raise SpiceTimeout(
                    f"{self.name}: no {what} in {timeout:g} s, last {told}: {self.output()}"
                ) from None
        return value

    def find(self, event: str, *, since: int = 0, **fields: object) -> dict[str, Any] | None:
        """The first event with these fields among ``events[since:]``, or None."""
        wanted = {"event": event, **fields}.items()
        return next((item for item in self.events[since:] if wanted <= item.items()), None)

    def output(self) -> str:
        """The end of what the program printed to its standard error."""
        if self._output.closed:
            return ""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), 2000, max(0, size - 2000)).decode(errors="replace")

    # -- what it says ------------------------------------------------------------------------------

    async def _order(self, line: bytes) -> None:
        """Write a line to its standard input. Raises `SessionLost` when it has ended."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise SessionLost(f"{self.name} has ended: {self.output()}") from None

    def _said(self, said: dict[str, Any]) -> bool:
        """Look at what it says; whether that is an event."""
        return True

    def _is_over(self) -> None:
        """It says nothing more."""

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            if self._said(said):
                async with self._news:
                    self.events.append(said)
                    self._news.notify_all()
        self._is_over()
        async with self._news:
            self._ended = True
            self._news.notify_all()


def _short(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as an error shows it."""
    return {k: f"{len(v)} bytes" if isinstance(v, bytes) else v for k, v in event.items()}
