"""spice-gtk's library as a client that does what it is told: `native/gtkclient.py`, driven.

    async with GtkClient("127.0.0.1", port=server.port) as gtk:
        await gtk.opened("display:0")
        picture = await gtk.pixels()
        await gtk.key(0x1E)
        await gtk.shows(lambda: truth)

The program runs in Debian's own Python, since the library's introspection belongs to that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from aiospice.client.picture import Picture
from aiospice.errors import LocalError, MissingProgram, SessionLost, SpiceTimeout
from aiospice.proof.truth import difference

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

__all__ = ["GtkClient"]

T = TypeVar("T")

_COMPLAINT = re.compile(r"(?:GSpice|GLib\S*)-(?:WARNING|CRITICAL|ERROR) \*\*|Traceback")

_PYTHON = "/usr/bin/python3"
_PROGRAM = Path(__file__).with_name("native") / "gtkclient.py"
_PROBE = "import gi; gi.require_version('SpiceClientGLib', '2.0')"
_found: list[bool] = []


def _look_for_it() -> None:
    """Raise `MissingProgram` unless the library can be used from Debian's Python."""
    if not _found:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = [_PYTHON, "-c", _PROBE]
            subprocess.run(command, check=True, capture_output=True, timeout=30)
            _found.append(True)
            return
        raise MissingProgram(
            "spice-gtk can't be used from Python: install python3-gi and "
            "gir1.2-spiceclientglib-2.0 (Debian)"
        )


class GtkClient:
    """One run of the program; ``events`` holds all it has told, oldest first.

    ``raw_sound`` keeps the library from offering Opus. Other options are properties of its
    session, such as ``password``, ``ca_file``, ``unix_path``, ``shared_dir``.

    Events are dicts with ``event``: ``channel-new``, ``channel-event`` (``channel``, ``what``,
    ``error``), ``channel-destroy``, ``disconnected``, ``migration``, ``main`` (``mouse_mode``,
    ``agent``), ``primary``, ``changed``, ``cursor``, ``cursor-move``, ``cursor-hide``, ``locks``,
    ``port``, ``port-event``, ``port-data``, ``port-written``, ``playback-start``,
    ``playback-data``, ``playback-stop``, ``volume``, ``record-start``, ``record-stop``,
    ``clipboard-grab``, ``clipboard-request``, ``clipboard``, ``clipboard-release``, ``transfer``,
    ``transferred``, ``files-sent``. Their ``data`` is `bytes`.
    """

    def __init__(
        self,
        host: str = "",
        *,
        port: int = 0,
        tls_port: int = 0,
        raw_sound: bool = False,
        prefix: Sequence[str] = (),
        **properties: object,
    ) -> None:
        wanted: dict[str, object] = {"host": host, "port": port or "", "tls-port": tls_port or ""}
        wanted = {name: str(value) for name, value in wanted.items() if value}
        for name, value in properties.items():
            wanted[name.replace("_", "-")] = str(value) if isinstance(value, Path) else value
        self._arguments = json.dumps(wanted)
        self._prefix = list(prefix)
        self._environment = dict(os.environ)
        for name in [name for name in self._environment if name.startswith(("PYTHON", "COV"))]:
            del self._environment[name]
        if raw_sound:
            self._environment["SPICE_DISABLE_OPUS"] = "1"
        self.events: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._orders = 0
        self._ended = False
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="aiospice-gtkclient-")
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - lives with the process

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(_look_for_it)
        self._process = await asyncio.create_subprocess_exec(
            *(*self._prefix, _PYTHON, str(_PROGRAM), self._arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._output,
            env=self._environment,
            limit=1 << 26,  # a line that carries a large clipboard
        )
        self._reader = asyncio.create_task(self._read())
        return self

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
        self._folder.cleanup()

    # -- orders ----------------------------------------------------------------------------

    async def do(self, order: str, *, timeout: float = 30, **arguments: object) -> Any:
        """Carry out an order (a ``do_...`` of the program); returns its answer.

        Bytes among the arguments are sent as digits. Raises `LocalError` with the program's words
        when it can't, `SessionLost` when it has ended, `SpiceTimeout`.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        self._orders += 1
        values = {k: v.hex() if isinstance(v, bytes) else v for k, v in arguments.items()}
        line = json.dumps({"id": self._orders, "do": order, **values})
        answer = self._answers[self._orders] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                self._process.stdin.write(line.encode() + b"\n")
                await self._process.stdin.drain()
                return await answer
        except TimeoutError:
            raise SpiceTimeout(f"gtkclient: {order} takes longer than {timeout:g} s") from None
        except (BrokenPipeError, ConnectionResetError):
            raise SessionLost(f"gtkclient has ended: {self.output()}") from None

    async def opened(self, *channels: str, timeout: float = 30) -> None:
        """Wait until these channels (``display:0``) are open."""
        for channel in channels:
            await self.wait("channel-event", channel=channel, what="opened", timeout=timeout)

    async def pixels(self, display: int = 0) -> Picture | None:
        """What a display shows; None while it has no surface."""
        path = Path(self._folder.name) / "pixels"
        found = await self.do("pixels", path=str(path), display=display)
        if found is None:
            return None
        return Picture(found["width"], found["height"], path.read_bytes())

    async def shows(
        self,
        truth: Callable[[], Picture | Awaitable[Picture]],
        *,
        display: int = 0,
        tolerance: int = 0,
        limit: float = 40,
    ) -> Picture:
        """Wait until a display is what ``truth`` gives, and return that.

        ``tolerance`` is how far a colour may be off, for what JPEG had to do with. Raises
        `SpiceTimeout` that tells how the two differ.
        """
        await self.opened(f"display:{display}")
        wrong = "no surface yet"
        try:
            async with asyncio.timeout(limit):
                while True:
                    seen = len(self.events)
                    true = truth()
                    wanted = true if isinstance(true, Picture) else await true
                    shown = await self.pixels(display)
                    if shown is not None:
                        wrong = difference(shown, wanted, tolerance)
                        if not wrong:
                            return shown
                    with contextlib.suppress(SpiceTimeout):  # the truth may change by itself
                        await self.wait("changed", display=display, since=seen, timeout=0.5)
        except TimeoutError:
            raise SpiceTimeout(
                f"spice-gtk: display {display} isn't the guest's after {limit:g} s: {wrong}"
            ) from None

    # -- events ----------------------------------------------------------------------------

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
                            raise SessionLost(f"gtkclient ended before {what}: {self.output()}")
                        await self._news.wait()
            except TimeoutError:
                told = [_short(event) for event in self.events if event["event"] != "changed"][-8:]
                raise SpiceTimeout(
                    f"gtkclient: no {what} in {timeout:g} s, last {told}: {self.output()}"
                ) from None
        return value

    async def data(self, event: str, size: int, *, timeout: float = 30, **fields: object) -> bytes:
        """Wait until events with these fields have brought ``size`` bytes; returns all they have.

        For example ``data("port-data", 1000, name="org.example.echo")``.
        """

        def all_of_it() -> bytes | None:
            data = self.all_data(event, **fields)
            return data if len(data) >= size else None

        return await self.until(all_of_it, f"{size} bytes of {event}", timeout) if size else b""

    def all_data(self, event: str, **fields: object) -> bytes:
        """What all events with these fields have brought, in order."""
        wanted = {"event": event, **fields}.items()
        return b"".join(item["data"] for item in self.events if wanted <= item.items())

    def find(self, event: str, *, since: int = 0, **fields: object) -> dict[str, Any] | None:
        """The first event with these fields among ``events[since:]``, or None."""
        wanted = {"event": event, **fields}.items()
        return next((item for item in self.events[since:] if wanted <= item.items()), None)

    def complaints(self) -> list[str]:
        """What the library warned of; that this machine has no sound card isn't among it."""
        return [line for line in self.output().splitlines() if _COMPLAINT.search(line)]

    def output(self) -> str:
        """The end of what the program printed to its standard error."""
        if self._output.closed:
            return ""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), 2000, max(0, size - 2000)).decode(errors="replace")

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            if "id" in said:
                self._answer(said)
                continue
            if isinstance(said.get("data"), str):
                said["data"] = bytes.fromhex(said["data"])
            async with self._news:
                self.events.append(said)
                self._news.notify_all()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(SessionLost(f"gtkclient has ended: {self.output()}"))
        self._answers.clear()
        async with self._news:
            self._ended = True
            self._news.notify_all()

    def _answer(self, said: Mapping[str, Any]) -> None:
        answer = self._answers.pop(said["id"])
        if answer.done():
            return
        if "error" in said:
            answer.set_exception(LocalError(f"gtkclient: {said['error']}"))
        else:
            answer.set_result(said["ok"])


def _short(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as an error shows it."""
    return {k: f"{len(v)} bytes" if isinstance(v, bytes) else v for k, v in event.items()}
