"""The clients that people use, in an X server of their own: ``spicy`` and ``remote-viewer``.

    async with Xvfb(1280, 1024) as x:
        viewer = await Viewer.start(x, "remote-viewer", f"spice://127.0.0.1:{port}")
        await viewer.shows(lambda: truth)   # somewhere in its window, pixel for pixel
        await viewer.click(40, 30)          # a place of the guest's screen
        await viewer.type("Return")

There is no window manager: xdotool gives the window the keyboard and its size. Both programs are
told to leave the guest's pixels and its size as they are. Where in the window they show the guest
isn't asked for: it is found.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiospice.client.picture import Picture
from aiospice.errors import LocalError, SessionLost, SpiceTimeout
from aiospice.proof.truth import difference
from aiospice.proof.xserver import find_program, parse_xwd

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import numpy as np

    from aiospice.proof.xserver import XProgram, XServer

__all__ = ["VIEWERS", "Viewer", "find_in"]

VIEWERS = ("spicy", "remote-viewer")
#: Neither scale nor resize; no bars of its own around the guest's screen.
_SPICY_SETTINGS = """\
[general]
scaling=false
resize-guest=false
auto-clipboard={clipboard}
[ui]
toolbar=false
statusbar=false
"""
_WINDOW = {"spicy": "spice display", "remote-viewer": r".*\([0-9]+\)$"}
_SAMPLES = 64


class Viewer:
    """A viewer that runs and its window; `start` makes one."""

    def __init__(self, x: XServer, program: XProgram, window: int) -> None:
        self.x = x
        self.program = program
        self.window = window
        #: Where the guest's screen begins in the window, once `shows` has found it.
        self.origin: tuple[int, int] | None = None

    @classmethod
    async def start(
        cls, x: XServer, name: str, address: str, *more: str, limit: float = 40
    ) -> Viewer:
        """Start ``spicy`` or ``remote-viewer`` with a server's address; ``more``: its arguments.

        ``address`` is ``spice://HOST:PORT``. Returns when the window is there. Raises
        `MissingProgram`, `SpiceTimeout`, `SessionLost` when the viewer ends.
        """
        settings = x.folder / "home" / ".config" / "spicy" / "settings"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(_SPICY_SETTINGS.format(clipboard="true"))
        if name == "spicy":
            parts = urlsplit(address)
            command = [name, "-h", str(parts.hostname), "-p", str(parts.port), *more]
        else:
            command = [name, "--auto-resize=never", "--zoom=100", *more, address]
        quiet = "env", "NO_AT_BRIDGE=1", "GSETTINGS_BACKEND=memory"
        program = await x.run(*quiet, find_program(name), *command[1:], window="")
        end = time.monotonic() + limit
        while not (found := await x.titled(_WINDOW[name])):
            if not program.running:
                raise SessionLost(f"{name} ended with status {program.process.returncode}")
            if time.monotonic() > end:
                raise SpiceTimeout(f"{name} shows no window after {limit:g} s")
            await asyncio.sleep(0.05)
        viewer = cls(x, program, found[-1])
        await x.xdotool("windowfocus", viewer.window)
        return viewer

    async def resize(self, width: int, height: int) -> None:
        """Give the window another size."""
        await self.x.xdotool("windowsize", self.window, width, height)

    async def picture(self) -> Picture:
        """What the window shows, its frame and menus included, the pointer not."""
        return parse_xwd(await self.x.do("xwd", "-id", str(self.window), "-silent"))

    async def shows(
        self,
        truth: Callable[[], Picture | Awaitable[Picture]],
        *,
        tolerance: int = 0,
        limit: float = 40,
    ) -> Picture:
        """Wait until the guest's screen stands in the window, and return that screen.

        Raises `SpiceTimeout` that tells how the two differ.
        """
        end = time.monotonic() + limit
        pause = 0.05
        while True:
            true = truth()
            wanted = true if isinstance(true, Picture) else await true
            try:
                place, wrong = find_in(await self.picture(), wanted, tolerance)
            except LocalError as error:  # a window that moves can't be dumped
                place, wrong = None, str(error)
            if place is not None:
                self.origin = place
                return wanted
            if not self.program.running:
                raise SessionLost(f"{self.program.name} has ended: {wrong}")
            if time.monotonic() > end:
                raise SpiceTimeout(f"the window isn't the guest's after {limit:g} s: {wrong}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.5)

    async def move(self, x: int, y: int) -> None:
        """Put the pointer on a pixel of the guest's screen."""
        if self.origin is None:
            raise LocalError("where the guest's screen is isn't known: shows() comes first")
        left, top = self.origin
        await self.x.xdotool("mousemove", "--window", self.window, left + x, top + y)

    async def click(self, x: int, y: int, button: int = 1) -> None:
        """Press and release a button of the mouse on a pixel of the guest's screen."""
        await self.move(x, y)
        await self.x.xdotool("click", button)

    async def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Press the left button at one place and release it at another."""
        await self.move(*start)
        await self.x.xdotool("mousedown", 1)
        await self.move(*end)
        await self.x.xdotool("mouseup", 1)

    async def type(self, *keys: str) -> None:
        """Press and release keys by their X names: ``a``, ``Return``, ``shift+b``."""
        await self.x.xdotool("key", *keys)


def find_in(
    shown: Picture, true: Picture, tolerance: int = 0
) -> tuple[tuple[int, int] | None, str]:
    """Find a picture in a larger one: its place (x, y), or None and how the likeliest differs."""
    import numpy as np

    if shown.width < true.width or shown.height < true.height:
        size = f"{shown.width}x{shown.height}"
        return None, f"a window of {size} can't show {true.width}x{true.height} pixels"
    window, wanted = shown.array().astype(np.int16), true.array().astype(np.int16)
    rows, columns = shown.height - true.height + 1, shown.width - true.width + 1
    alike = np.zeros((rows, columns), np.uint16)
    for y, x in _samples(wanted):
        apart = abs(window[y : y + rows, x : x + columns] - wanted[y, x])
        alike += apart.max(axis=2) <= tolerance
    wrong = ""
    for place in np.argsort(alike, axis=None)[::-1][:4]:
        top, left = divmod(int(place), columns)
        said = difference(_part(shown, left, top, true), true, tolerance)
        if not said:
            return (left, top), ""
        wrong = wrong or f"likeliest at {left},{top}: {said}"
    return None, wrong


def _part(picture: Picture, left: int, top: int, size: Picture) -> Picture:
    """The part of a picture that has the size of another."""
    starts = (4 * (picture.width * (top + y) + left) for y in range(size.height))
    rows = (picture.bgrx[start : start + 4 * size.width] for start in starts)
    return Picture(size.width, size.height, b"".join(rows))


def _samples(wanted: np.ndarray[Any, np.dtype[np.int16]]) -> list[tuple[int, int]]:
    """Places of a picture that tell it from others: where neighbours differ, corners, any."""
    import numpy as np

    height, width = wanted.shape[:2]
    edges = np.argwhere((wanted[:, 1:] != wanted[:, :-1]).any(axis=2))
    picked = edges[np.linspace(0, len(edges) - 1, min(len(edges), _SAMPLES)).astype(int)]
    corners = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)]
    return corners + [(int(y), int(x)) for y, x in picked]
