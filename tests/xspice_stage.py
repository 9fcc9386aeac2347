"""What a test against Xspice does between two looks: our client, and spice-gtk beside it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import xcffib
from tests.x_painter import connect
from xcffib import xfixes

import aiospice
from aiospice.aio.capture import CaptureFile
from aiospice.proof.gtkpeer import GtkPeer
from aiospice.proof.pcap import read_connections
from aiospice.proof.truth import difference
from aiospice.proof.xserver import XProgram
from aiospice.proof.xspice import Xspice, XspiceOptions
from aiospice.wire.images import Image, ImageType
from aiospice.wire.message import SERVER
from aiospice.wire.registry import find

if TYPE_CHECKING:
    from aiospice.aio.session import Session
    from aiospice.client.picture import Picture

__all__ = ["Look", "Seen", "Stage", "seen_in"]

#: Until a client shows what the X server shows, in seconds.
LIMIT = 20


class Look(NamedTuple):
    """One comparison of the screens, in pixels."""

    step: str
    ours: str  #: how our client's picture differs from the X server's; empty: not at all
    gtk: str  #: how spice-gtk's does
    only_ours: int  #: pixels that are wrong here and right in spice-gtk

    def __str__(self) -> str:
        return f"{self.step}: here {self.ours or 'equal'}; spice-gtk: {self.gtk or 'equal'}"


class Stage:
    """An Xspice with two clients, and programs on it."""

    def __init__(self, folder: Path, compression: str, **options: Any) -> None:
        server = "off" if compression == "lz4" else compression  # which only clients ask for
        self.compression = compression
        self.xspice = Xspice(XspiceOptions(compression=server, several_clients=True, **options))
        self.capture = folder / f"{compression}.pcapng"
        self.programs: dict[str, XProgram] = {}
        self.looks: list[Look] = []
        self.session: Session
        self.gtk: GtkPeer
        self._stack = AsyncExitStack()
        self._before: Picture | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.xspice)
            stack.callback(_without_pointer(self.xspice).disconnect)
            capture = CaptureFile(self.capture)
            self.session = await stack.enter_async_context(
                aiospice.connect(self.xspice.address, compression=self.compression, capture=capture)
            )
            self.gtk = GtkPeer(self.xspice.options.address, port=self.xspice.port)
            await stack.enter_async_context(self.gtk)
            await self.gtk.wait("surface")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._stack.__aexit__(*exception)

    async def run(self, name: str, *command: str, window: str | None = None) -> None:
        """Start a program, to be called ``name``."""
        self.programs[name] = await self.xspice.run(*command, window=window)

    async def window(self, name: str, order: str, *arguments: object) -> None:
        """An order of xdotool (``windowmove``, ``windowraise``...) about a window."""
        found = await self.xspice.windows(name)
        await self.xspice.xdotool(order, found[-1], *arguments)

    async def key(self, name: str, key: str) -> None:
        """Type into a window, whichever has the focus."""
        await self.xspice.xdotool("key", "--window", (await self.xspice.windows(name))[-1], key)

    async def end(self, name: str) -> None:
        """End a program that `run` started."""
        await self.programs.pop(name).end()

    async def look(self, step: str, *, changed: bool = True) -> None:
        """Compare the screens once all is at rest.

        With ``changed`` this begins when the screen is another one than at the last look.
        """
        end = time.monotonic() + LIMIT
        while changed and await self.xspice.root() == self._before:
            assert time.monotonic() < end, f"{step} changes nothing"
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        async with self.xspice.still() as true:
            ours, gtk = await self._both(true)
            self._before = true
        found = Look(step, difference(ours, true), difference(gtk, true), 0)
        if found.ours:
            found = found._replace(only_ours=_only(ours, gtk, true))
        self.looks.append(found)

    async def _both(self, true: Picture) -> tuple[Picture, Picture]:
        """Both clients' screens, the true one or what they show after a while."""
        end = time.monotonic() + LIMIT / 2
        pause = 0.02
        while True:
            ours, gtk = await self.session.screen(), await self.gtk.screen()
            if (ours == true and gtk == true) or time.monotonic() > end:
                return ours, gtk
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.5)


def _without_pointer(xspice: Xspice) -> xcffib.Connection:
    """Hide the pointer for as long as the connection lives.

    The X server draws those of two colours into the screen itself, and ``xwd`` leaves them out.
    """
    connection = connect(xspice)
    fixes = connection(xfixes.key)
    fixes.QueryVersion(4, 0).reply()
    fixes.HideCursor(connection.get_setup().roots[0].root)
    connection.core.GetInputFocus().reply()
    return connection


def _only(ours: Picture, gtk: Picture, true: Picture) -> int:
    if ours.array().shape != true.array().shape:
        return true.width * true.height
    wrong = (ours.array() != true.array()).any(axis=2)
    if gtk.array().shape == true.array().shape:
        wrong &= (gtk.array() == true.array()).all(axis=2)
    return int(np.count_nonzero(wrong))


class Seen(NamedTuple):
    """How often what was on the wire of a display channel."""

    messages: Counter[str]
    images: Counter[str]  #: by the names of `ImageType`, sources and masks of draws
    surfaces: int  #: off-screen ones that were made
    on_surfaces: int  #: draws on them

    def __str__(self) -> str:
        counts = [dict(self.messages), dict(self.images)]
        return f"{counts}, {self.on_surfaces} draws on {self.surfaces} off-screen surfaces"


def seen_in(capture: Path) -> Seen:
    """Count what the server sent, as the messages stand in a capture."""
    seen = Seen(Counter(), Counter(), 0, 0)
    for connection in read_connections(capture):
        if connection.channel_type != 2:
            continue
        for message in connection.sent_by("server"):
            kind = find(2, SERVER, message.type)
            assert kind is not None, message.type
            seen.messages[kind.__name__] += 1
            body: Any = kind.parse(message.body)
            if kind.__name__ == "SurfaceCreate" and not body.flags:
                seen = seen._replace(surfaces=seen.surfaces + 1)
            with contextlib.suppress(AttributeError):
                seen = seen._replace(on_surfaces=seen.on_surfaces + bool(body.base.surface_id))
            for name in ("src_bitmap", "mask_bitmap"):
                image = getattr(body, name, None)
                if isinstance(image, Image):
                    seen.images[ImageType(image.descriptor.type).name] += 1
    return seen
