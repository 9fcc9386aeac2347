"""A client of QEMU's machine protocol (QMP): commands, and events with their times.

QMP is one JSON object a line: a greeting, then answers to commands in order, mixed with events
(QEMU, ``docs/interop/qmp-spec.txt``).
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, NamedTuple

from aiospice.errors import ConnectError, LocalError, SpiceTimeout

__all__ = ["Qmp", "QmpError", "QmpEvent"]

#: Longest answer that is read, in bytes.
LINE_LIMIT = 16 << 20


class QmpError(LocalError):
    """QEMU refused a command; ``reason`` is QEMU's class of the error."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


class QmpEvent(NamedTuple):
    """Something QEMU reported on its own account."""

    time: float  #: QEMU's wall clock, in seconds since 1970
    name: str  #: as in QEMU's reference, such as ``SPICE_MIGRATE_COMPLETED``
    data: dict[str, Any]


class Qmp:
    """One QMP connection; made by `connect`.

    ``events`` holds every event since then, oldest first.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.events: list[QmpEvent] = []
        self._reader = reader
        self._writer = writer
        self._answers: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._turn = asyncio.Lock()
        self._news = asyncio.Condition()
        self._closed = False
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, path: str, *, timeout: float = 10) -> Qmp:
        """Connect to the unix socket ``path`` and leave the negotiation mode.

        Waits up to ``timeout`` seconds for the socket to appear. Raises `ConnectError`.
        """
        end = time.monotonic() + timeout
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(path, limit=LINE_LIMIT)
                break
            except OSError as error:
                if time.monotonic() > end:
                    raise ConnectError(f"no QMP server at {path}: {error}") from error
                await asyncio.sleep(0.01)
        qmp = cls(reader, writer)
        try:
            await qmp.command("qmp_capabilities", timeout=timeout)
        except BaseException:
            await qmp.close()
            raise
        return qmp

    async def command(self, name: str, *, timeout: float = 30, **arguments: Any) -> Any:
        """Run the command ``name`` and return its result.

        Underscores in the names of arguments stand for hyphens. Raises `QmpError` when QEMU
        refuses, `ConnectError` when QEMU is gone, `SpiceTimeout` after ``timeout`` seconds,
        which also ends the connection since a late answer would be taken for the next one.
        """
        wanted = {key.replace("_", "-"): value for key, value in arguments.items()}
        line = json.dumps({"execute": name, "arguments": wanted}) + "\n"
        async with self._turn:
            if self._closed:
                raise ConnectError(f"QMP command {name}: QEMU has gone")
            try:
                self._writer.write(line.encode())
                answer = await asyncio.wait_for(self._answers.get(), timeout)
            except TimeoutError:
                self._writer.close()
                raise SpiceTimeout(f"QMP command {name}: no answer in {timeout:g} s") from None
            except asyncio.CancelledError:
                self._writer.close()
                raise
        if answer is None:
            raise ConnectError(f"QMP command {name}: QEMU went away before it answered")
        if "error" in answer:
            error = answer["error"]
            raise QmpError(f"QMP command {name}: {error.get('desc')}", str(error.get("class")))
        return answer.get("return")

    def find(self, name: str, *, since: int = 0) -> QmpEvent | None:
        """The first event called ``name`` among ``events[since:]``, or None."""
        return next((event for event in self.events[since:] if event.name == name), None)

    async def wait_event(self, name: str, timeout: float = 30, *, since: int = 0) -> QmpEvent:
        """Wait for an event called ``name``, one among ``events[since:]`` included.

        Raises `SpiceTimeout` after ``timeout`` seconds and `ConnectError` when QEMU goes away.
        """
        async with self._news:
            try:
                async with asyncio.timeout(timeout):
                    while (event := self.find(name, since=since)) is None:
                        if self._closed:
                            raise ConnectError(f"QEMU went away before {name}")
                        await self._news.wait()
            except TimeoutError:
                raise SpiceTimeout(f"no QMP event {name} in {timeout:g} s") from None
        return event

    async def close(self) -> None:
        """Close the connection; QEMU runs on."""
        self._writer.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                message = json.loads(line)
                if "event" in message:
                    await self._note(message)
                elif "QMP" not in message:
                    self._answers.put_nowait(message)
        except (OSError, ValueError):
            pass
        finally:
            self._closed = True
            self._answers.put_nowait(None)
            async with self._news:
                self._news.notify_all()

    async def _note(self, message: dict[str, Any]) -> None:
        stamp = message["timestamp"]
        when = stamp["seconds"] + stamp["microseconds"] / 1e6
        async with self._news:
            self.events.append(QmpEvent(when, message["event"], message.get("data", {})))
            self._news.notify_all()
