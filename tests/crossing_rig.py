"""For sessions that cross over between QEMU's server and ours.

The machine itself doesn't: QEMU's goes to a sink (`leave_qemu`), or comes from another QEMU
(`Crossing`), while the client goes to where a guest of ours, its `Twin`, shows the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.moving_stage import MovingStage
from tests.serve_rig import seen, serving
from tests.serve_stage import ECHO, port_of

from aiospice.client.picture import Picture
from aiospice.errors import ConnectError, SpiceTimeout
from aiospice.migration.target import SessionArrived
from aiospice.proof.painter import Painter
from aiospice.proof.qemu import Qemu
from aiospice.proof.relay import DelayRelay
from aiospice.proof.truth import difference, picture_of
from aiospice.server.guest import Host, HostDevice

if TYPE_CHECKING:
    from tests.conftest import QemuFactory

__all__ = [
    "COM2",
    "SETTLE",
    "UNREAD",
    "Crossing",
    "Twin",
    "in_the_serial_port",
    "leave_qemu",
    "leaving_qemu",
    "machine",
    "on_com2",
    "paint_all",
    "screen_of",
    "shows",
    "to_qemu",
]

#: A port on COM2, which QEMU's guest never reads.
UNREAD = "org.aiospice.unread"
COM2 = 0x2F8
#: Seconds after which QEMU has read that its client is ready; it doesn't tell.
SETTLE = 0.3


def on_com2(chardev: str) -> tuple[str, ...]:
    """Options for what stands behind the serial port that QEMU's guest never reads."""
    return ("-chardev", f"{chardev},id=unread", "-device", "isa-serial,chardev=unread,index=1")


def machine(**more: Any) -> dict[str, Any]:
    """Options of QEMU, for a machine of which `Twin` is one, unless they are others."""
    extra = on_com2(f"spiceport,name={UNREAD}")
    return {"guest": "quiet", "echo_port": ECHO, "audio": True, "extra": extra, **more}


class Twin(MovingStage):
    """The same machine, run by us: its screen, its ports, its devices."""

    def __init__(
        self, picture: Picture, options: dict[str, Any], *, reads: bool = True, talks: bool = False
    ) -> None:
        """``reads``: whether it reads anything but the echoing port; ``talks``: its agent does."""
        super().__init__(picture.width, picture.height, record=True)
        self.picture = picture
        self.options = options
        self.reads, self.talks = reads, talks
        #: What came on each device but the echoing port, and the agent's.
        self.came: dict[str, bytes] = {}

    def attach(self, host: Host) -> None:
        super().attach(host)
        behind = " ".join(self.options["extra"])
        self.device.opened = "name=vdagent" in behind
        if UNREAD in behind:
            host.port(UNREAD).opened = True
        for _ in range(self.options.get("usb_redir", 0)):
            host.usbredir()
        if self.options.get("webdav"):
            host.webdav()
        if self.options.get("smartcard") or "name=smartcard" in behind:
            host.smartcard()
        self.show()

    def show(self) -> None:
        """Show what QEMU's machine does."""
        pixels = np.frombuffer(self.picture.bgrx, np.uint8)
        self.put(0, 0, pixels.reshape(self.picture.height, self.picture.width, 4))

    def _pump_agent(self) -> None:
        """Unless it talks, what the agent is told is for the test."""
        if self.talks:
            super()._pump_agent()
        elif self.device.readable:
            self.device_readable(self.device)

    def wake_agent(self, first: bytes) -> None:
        """The agent begins to talk, with what it was told so far, of which ``first`` elsewhere."""
        self.talks = True
        self.agent.receive(first + self.came.pop(self.device.name))
        self._pump_agent()

    def draw(self, scene: str) -> None:
        """Draw a scene; "" is what is there."""
        if scene:
            getattr(self, f"scene_{scene}")()

    def device_readable(self, device: HostDevice) -> None:
        if device is self.port or (self.talks and device is self.device):
            super().device_readable(device)
            return
        while self.reads and (data := device.read()):
            self.came[device.name] = self.came.get(device.name, b"") + data
        self._news.set()

    async def has(self, name: str, size: int) -> bytes:
        """Wait until so many bytes have come on a device; gives all."""
        found = self.came
        await self.until(lambda: len(found.get(name, b"")) >= size, f"{size} bytes on {name}")
        return found[name]


async def screen_of(qemu: Qemu) -> Picture:
    """What QEMU's guest shows."""
    return picture_of(await qemu.screendump())


async def paint_all(qemu: Qemu, *commands: str) -> None:
    """Have a painting guest do things."""
    if commands:
        async with Painter(qemu) as painter:
            for command in commands:
                await painter.do(command)


async def shows(
    shown: Callable[[], Awaitable[Picture | None]], true: Callable[[], Awaitable[Picture]]
) -> None:
    """Wait until a client shows what is true."""
    wrong = "nothing"
    try:
        async with asyncio.timeout(30):
            while wrong:
                picture = await shown()
                wrong = "nothing" if picture is None else difference(picture, await true())
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise SpiceTimeout(f"it isn't shown: {wrong}") from None


async def in_the_serial_port(qemu: Qemu, port: int = COM2) -> bytes:
    """The byte that a serial port has taken and its guest hasn't read."""
    said = await qemu.monitor(f"i /1b {port:#x}")
    return bytes([int(said.split("=")[1], 16)])


# -- QEMU is the source ----------------------------------------------------------------------------


@asynccontextmanager
async def leaving_qemu(
    qemu_factory: QemuFactory, options: dict[str, Any], *paint: str, **ours: Any
) -> AsyncIterator[tuple[Qemu, Any]]:
    """A machine in QEMU, and a server of ours with its twin; ``paint``: what it shows at first."""
    qemu = await qemu_factory(**options)
    await paint_all(qemu, *paint)
    async with serving(Twin(await screen_of(qemu), options), **ours) as server:
        yield qemu, server


async def leave_qemu(
    qemu: Qemu, ours: Any, ready: Callable[[], Awaitable[object]] | None, *, whole: bool = True
) -> None:
    """The machine goes to a sink, its client to our server, as soon as it is ready."""
    await ours.expect_migration()
    where: dict[str, Any] = {"protocol": "spice", "hostname": "127.0.0.1", "port": port_of(ours)}
    await qemu.qmp.command("client_migrate_info", **where)
    if ready is not None:
        await ready()
        await asyncio.sleep(SETTLE)
    await qemu.qmp.command("migrate", uri="exec:cat >/dev/null")
    assert await qemu.wait_migration() == "completed"
    await qemu.qmp.wait_event("SPICE_MIGRATE_COMPLETED")
    if ready is None:
        return
    async with asyncio.timeout(20):
        while not seen(ours, SessionArrived):
            await asyncio.sleep(0.01)
    assert [event.whole for event in seen(ours, SessionArrived)] == [whole]


# -- ours is the source ----------------------------------------------------------------------------


class Crossing:
    """A server of ours whose client goes to where a machine of QEMU's comes as well."""

    def __init__(self, machine: Qemu, target: Qemu, ours: Any, port: int) -> None:
        self.machine, self.target, self.ours, self.port = machine, target, ours, port

    @property
    def twin(self) -> Twin:
        """The guest of our server."""
        found: Twin = self.ours.guest
        return found

    async def cross(self, policy: str = "carry") -> None:
        """Move both; the client finds the target behind a relay."""
        options: dict[str, Any] = {"policy": policy, "upstream": True}
        move = await self.ours.prepare_migration("127.0.0.1", self.port, **options)
        await move.clients_ready()
        await move.freeze()
        await self.machine.migrate(self.target)
        assert await self.machine.wait_migration() == "completed"
        await move.complete()
        try:
            await self.target.qmp.wait_event("RESUME")
            await self.target.query_spice()
        except ConnectError as error:
            raise ConnectError(f"{error}: {self.target.output()}") from error

    async def before(self) -> Picture:
        """What the machine shows before it moves, in QEMU as with us."""
        return await screen_of(self.machine)

    async def after(self) -> Picture:
        """What it shows where it has come."""
        return await screen_of(self.target)

    async def typed(self, *ends: str) -> None:
        """Wait until the last scancodes that the machine has got are these."""
        async with asyncio.timeout(20):
            while not (await self.target.text())[23].endswith(ends):
                await asyncio.sleep(0.02)


@asynccontextmanager
async def to_qemu(
    qemu_factory: QemuFactory,
    options: dict[str, Any],
    *paint: str,
    reads: bool = True,
    twin_options: dict[str, Any] | None = None,
    **ours: Any,
) -> AsyncIterator[Crossing]:
    """The same machine thrice: in QEMU, in another that waits for it, and with us."""
    here = await qemu_factory(**options)
    await paint_all(here, *paint)
    there = await qemu_factory(incoming=True, **options)
    twin = Twin(await screen_of(here), twin_options or options, reads=reads)
    async with serving(twin, **ours) as server, DelayRelay(0.001) as relay:
        yield Crossing(here, there, server, await relay.to("127.0.0.1", there.port))
