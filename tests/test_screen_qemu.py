"""The screen against a real QEMU: what is drawn here is what its guest shows, pixel for pixel."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from aiospice.aio.crypto import Crypto
from aiospice.channels.base import ClientChannel
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.client.caches import IMAGE_CACHE_PIXELS, Caches
from aiospice.client.draws import Draws
from aiospice.client.screen import NotDrawn, Picture, Screen
from aiospice.link.client import LinkClient
from aiospice.proof.truth import picture_of
from aiospice.wire import display, main
from aiospice.wire.caps import DisplayCap
from aiospice.wire.message import Message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import QemuFactory

    from aiospice.proof.qemu import Qemu

pytestmark = pytest.mark.peers
CAPS = (DisplayCap.SIZED_STREAM, DisplayCap.MONITORS_CONFIG, DisplayCap.COMPOSITE)


class MainTap(ClientChannel):
    """A main channel that remembers the session's number and nothing else."""

    handlers: ClassVar[dict[int, str]] = {main.Init.number: "_init"}
    session_id = 0

    def _init(self, message: main.Init) -> None:
        self.session_id = message.session_id
        self.send(main.AttachChannels())


class DisplayTap(ClientChannel):
    """A display channel that gives everything to a screen."""

    handlers: ClassVar[dict[int, str]] = dict.fromkeys((*Screen.handlers, *Draws.handlers), "_draw")

    def follow(self, screen: Screen) -> None:
        """Begin."""
        self.screen = screen
        self.seen: list[Event] = []
        self.send(
            display.Init(
                pixmap_cache_id=1,
                pixmap_cache_size=IMAGE_CACHE_PIXELS,
                glz_dictionary_id=1,
                glz_dictionary_window_size=1 << 20,
            )
        )

    def _draw(self, message: Message) -> None:
        self.seen += self.screen.apply(message)


async def open_channel(
    qemu: Qemu, key: tuple[int, int], connection_id: int
) -> tuple[LinkClient, asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", qemu.port)
    link = LinkClient(
        connection_id=connection_id,
        channel_type=key[0],
        channel_id=key[1],
        crypto=Crypto(),
        channel_caps=CAPS if key[0] == 2 else (),
    )
    link.start()
    while not link.finished:
        writer.write(link.take())
        data = await reader.read(65536)
        if data:
            link.receive(data)
        else:
            link.receive_eof()
    assert link.error is None
    return link, reader, writer


async def pump(
    channel: ClientChannel, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while channel.error is None:
        while channel.wants_to_send:
            writer.write(channel.take())
        data = await reader.read(1 << 20)
        if not data:
            return
        channel.receive(data, 0.0)


@contextlib.asynccontextmanager
async def watched(qemu: Qemu) -> AsyncIterator[DisplayTap]:
    """Give a `DisplayTap` whose screen follows the machine's."""
    link, reader, writer = await open_channel(qemu, (1, 0), 0)
    first = MainTap((1, 0), Framing(1, link.mini_header, link.trailing))
    tasks = [asyncio.create_task(pump(first, reader, writer))]
    writers = [writer]
    try:
        while not first.session_id:
            await asyncio.sleep(0.01)
        link, reader, writer = await open_channel(qemu, (2, 0), first.session_id)
        tap = DisplayTap((2, 0), Framing(2, link.mini_header, link.trailing))
        tap.follow(Screen(0, Caches()))
        tasks.append(asyncio.create_task(pump(tap, reader, writer)))
        writers.append(writer)
        yield tap
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.close()


async def becomes_true_screen(qemu: Qemu, tap: DisplayTap, limit: float = 20) -> bool:
    """Whether the screen becomes the guest's before the limit; its cursor may be blinking."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        assert tap.error is None, str(tap.error)
        if tap.screen.ready and tap.screen.snapshot() == picture_of(await qemu.screendump()):
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.mark.parametrize("vga", ["qxl", "std"])
async def test_the_picture_is_the_guests_screen(qemu_factory: QemuFactory, vga: str) -> None:
    qemu = await qemu_factory(vga=vga, spice=("image-compression=off", "streaming-video=off"))
    async with watched(qemu) as tap:
        assert await becomes_true_screen(qemu, tap)
        before = tap.screen.snapshot()
        assert (before.width, before.height) == (720, 400)
        assert len(set(before.bgrx[1::4])) > 1
        for letter in "abc":
            await qemu.send_key(letter)
        await asyncio.sleep(0.3)
        assert await becomes_true_screen(qemu, tap)
        assert tap.screen.snapshot() != before
        assert tap.screen.draws > 1
        assert [event for event in tap.seen if isinstance(event, NotDrawn)] == []
        assert tap.unknown == {}


#: Mode 13h (320 x 200, 256 colours), each pixel the exclusive or of its address's two bytes.
COLOURS = bytes.fromhex("b81300 cd10 b800a0 8ec0 31ff 89f8 30e0 aa 81ff00fa 75f5 f4 ebfd")


@pytest.mark.parametrize("vga", ["qxl", "std", "cirrus"])
async def test_a_guest_that_changes_its_mode_is_followed(
    qemu_factory: QemuFactory, tmp_path: Path, vga: str
) -> None:
    disk = tmp_path / "colours.img"
    disk.write_bytes(COLOURS.ljust(510, b"\0") + b"\x55\xaa")
    qemu = await qemu_factory(guest=disk, vga=vga, spice=("image-compression=off",))
    async with watched(qemu) as tap:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if await becomes_true_screen(qemu, tap) and len(colours(tap.screen.snapshot())) > 100:
                break
        assert await becomes_true_screen(qemu, tap)
        assert len(colours(tap.screen.snapshot())) > 100
        assert tap.screen.not_drawn == {}


def colours(picture: Picture) -> set[bytes]:
    rgb = picture.rgb()
    return {rgb[at : at + 3] for at in range(0, len(rgb), 3)}
