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
from typing import TYPE_CHECKING, Any, Self

from aiospice.client.picture import Picture
from aiospice.errors import LocalError, MissingProgram, SessionLost, SpiceTimeout
from aiospice.proof.eventprogram import EventProgram
from aiospice.proof.truth import difference

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

__all__ = ["GtkClient"]

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


class GtkClient(EventProgram):
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

    name = "gtkclient"

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
        super().__init__()
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
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._orders = 0
        self._folder = tempfile.TemporaryDirectory(prefix="aiospice-gtkclient-")

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(_look_for_it)
        await self._run([*self._prefix, _PYTHON, str(_PROGRAM), self._arguments], self._environment)
        return self

    async def kill(self) -> None:
        """End the program at once."""
        await super().kill()
        self._folder.cleanup()

    # -- orders ----------------------------------------------------------------------------

    async def do(self, order: str, *, timeout: float = 30, **arguments: object) -> Any:
        """Carry out an order (a ``do_...`` of the program); returns its answer.

        Bytes among the arguments are sent as digits. Raises `LocalError` with the program's words
        when it can't, `SessionLost` when it has ended, `SpiceTimeout`.
        """
        self._orders += 1
        values = {k: v.hex() if isinstance(v, bytes) else v for k, v in arguments.items()}
        line = json.dumps({"id": self._orders, "do": order, **values})
        answer = self._answers[self._orders] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                await self._order(line.encode())
                return await answer
        except TimeoutError:
            raise SpiceTimeout(f"gtkclient: {order} takes longer than {timeout:g} s") from None

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

    # -- events ------------------------------------------------------------------------------------

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

    def complaints(self) -> list[str]:
        """What the library warned of; that this machine has no sound card isn't among it."""
        return [line for line in self.output().splitlines() if _COMPLAINT.search(line)]

    def _said(self, said: dict[str, Any]) -> bool:
        if "id" in said:
            self._answer(said)
            return False
        if isinstance(said.get("data"), str):
            said["data"] = bytes.fromhex(said["data"])
        return True

    def _is_over(self) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(SessionLost(f"gtkclient has ended: {self.output()}"))
        self._answers.clear()

    def _answer(self, said: Mapping[str, Any]) -> None:
        answer = self._answers.pop(said["id"])
        if answer.done():
            return
        if "error" in said:
            answer.set_exception(LocalError(f"gtkclient: {said['error']}"))
        else:
            answer.set_result(said["ok"])
