"""A session crosses over from QEMU's server to ours, and from ours to QEMU's.

The machine itself doesn't: QEMU's goes to a sink, or comes from another QEMU, while the client goes
to where a guest of ours shows the same. What clients carry between the two has to be accepted, and
their streams to be exact: to the byte but for what QEMU's serial port holds in its own state.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.moving_stage import MovingStage
from tests.serve_rig import seen, serving
from tests.serve_stage import ECHO, port_of

import aiospice
from aiospice.client.picture import Picture
from aiospice.errors import SpiceTimeout
from aiospice.migration.target import SessionArrived
from aiospice.proof.gtkclient import GtkClient
from aiospice.proof.qemu import Qemu
from aiospice.proof.relay import DelayRelay
from aiospice.proof.stream import EchoStream, EventLog, numbers
from aiospice.proof.truth import difference, picture_of
from aiospice.server.guest import Host, HostDevice

if TYPE_CHECKING:
    from tests.conftest import QemuFactory

    from aiospice.aio.session import Session

pytestmark = pytest.mark.peers

#: A port on COM2, which QEMU's guest never reads.
UNREAD = "org.aiospice.unread"
COM2 = 0x2F8
MACHINE: dict[str, Any] = {
    "guest": "quiet",
    "echo_port": ECHO,
    "audio": True,
    "usb_redir": 1,
    "smartcard": True,
    "webdav": True,
    "extra": ("-chardev", f"spiceport,id=unread,name={UNREAD}")
    + ("-device", "isa-serial,chardev=unread,index=1"),
}
EVERYTHING = {
    *("main:0", "display:0", "inputs:0", "cursor:0", "playback:0", "record:0", "smartcard:0"),
    *("usbredir:0", "port:0", "port:1", "webdav:0"),
}
#: What our guest shows to who has come from QEMU: first what was there.
SEEN = ("", "photo", "surfaces", "page")
A, B = 0x1E, 0x30
#: What QEMU's serial port may hold: its queue, and a byte that the guest has in its hands.
UART = 17
#: What spice-gtk says when QEMU tells it the name of a port once more.
NAMED_AGAIN = "port_handle_init: assertion 'c->name == NULL' failed"
#: Seconds after which QEMU has read that its client is ready; it doesn't tell.
SETTLE = 0.3


class Twin(MovingStage):
    """The same machine, run by us: its screen, its ports, its devices."""

    def __init__(self, picture: Picture, usb: int = 1) -> None:
        super().__init__(picture.width, picture.height, record=True)
        self.usb = usb
        self.picture = picture
        self.unread_heard = b""

    def attach(self, host: Host) -> None:
        super().attach(host)
        self.device.opened = False  # there is no agent
        self.unread = host.port(UNREAD)
        self.unread.opened = True
        host.webdav()
        for _ in range(self.usb):
            host.usbredir()
        host.smartcard()
        self.show(self.picture)

    def show(self, picture: Picture) -> None:
        """Show what QEMU's guest shows."""
        pixels = np.frombuffer(picture.bgrx, np.uint8)
        self.put(0, 0, pixels.reshape(picture.height, picture.width, 4))

    def draw(self, scene: str) -> None:
        """Draw a scene; "" is what is there."""
        if scene:
            getattr(self, f"scene_{scene}")()

    def device_readable(self, device: HostDevice) -> None:
        if device.name == UNREAD:
            while data := device.read():
                self.unread_heard += data
            self._news.set()
            return
        super().device_readable(device)


async def screen_of(qemu: Qemu) -> Picture:
    """What QEMU's guest shows."""
    return picture_of(await qemu.screendump())


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


# -- QEMU is the source ----------------------------------------------------------------------------


@asynccontextmanager
async def leaving_qemu(qemu_factory: QemuFactory, **more: Any) -> AsyncIterator[tuple[Qemu, Any]]:
    """A machine in QEMU, and a server of ours with its twin, who expects the next session."""
    options = {**MACHINE, **more}
    qemu = await qemu_factory(**options)
    twin = Twin(await screen_of(qemu), options["usb_redir"])
    async with serving(twin) as ours:
        yield qemu, ours


async def leave_qemu(qemu: Qemu, ours: Any, ready: Callable[[], Awaitable[object]]) -> None:
    """The machine goes to a sink, its client to our server."""
    await ours.expect_migration()
    where: dict[str, Any] = {"protocol": "spice", "hostname": "127.0.0.1", "port": port_of(ours)}
    await qemu.qmp.command("client_migrate_info", **where)
    await ready()
    await asyncio.sleep(SETTLE)
    await qemu.qmp.command("migrate", uri="exec:cat >/dev/null")
    assert await qemu.wait_migration() == "completed"
    await qemu.qmp.wait_event("SPICE_MIGRATE_COMPLETED")
    async with asyncio.timeout(20):
        while not seen(ours, SessionArrived):
            await asyncio.sleep(0.01)
    assert [event.whole for event in seen(ours, SessionArrived)] == [True]


async def in_the_serial_port(qemu: Qemu, port: int) -> bytes:
    """The byte that a serial port has taken and its guest hasn't read."""
    said = await qemu.monitor(f"i /1b {port:#x}")
    return bytes([int(said.split("=")[1], 16)])


async def test_our_client_goes_from_qemu_to_our_server(qemu_factory: QemuFactory) -> None:
    async with (
        leaving_qemu(qemu_factory) as (qemu, ours),
        aiospice.connect(qemu.address) as session,
        EventLog(session) as log,
    ):
        twin: Twin = ours.guest
        assert set(session.channels) == EVERYTHING
        echo, unread = await session.port(ECHO), await session.port(UNREAD)
        session.keyboard.down(A)
        await unread.write(numbers(0, 3000))
        async with EchoStream(echo) as stream:
            await stream.flowing(2048)
            await leave_qemu(qemu, ours, lambda: log.wait("migration-ready"))
            finished = await log.wait("migration-finished")
            assert finished.as_dict()["mode"] == "seamless"
            await stream.flowing(2048)
            report = await stream.stop(drain=2)
        assert (report.repeated, report.out_of_order) == (0, 0)
        assert report.lost <= UART
        assert numbers(0, report.sent).endswith(twin.port_heard)
        await twin.until(lambda: len(twin.unread_heard) >= 2999, "what QEMU's guest didn't read")
        assert await in_the_serial_port(qemu, COM2) + twin.unread_heard == numbers(0, 3000)
        session.keyboard.up(A)
        session.keyboard.down(B)
        await twin.until(lambda: twin.keys == [(A, False), (B, True)], f"keys, only {twin.keys}")
        await ours_is_shown(twin, session)
        assert set(session.channels) == EVERYTHING


async def ours_is_shown(twin: Twin, session: Session) -> None:
    """What our guest draws is seen: what it had, and more."""

    async def true() -> Picture:
        return twin.truth()

    for scene in SEEN:
        twin.draw(scene)
        await shows(session.screen, true)


async def test_spice_gtk_goes_from_qemu_to_our_server(qemu_factory: QemuFactory) -> None:
    async with (
        leaving_qemu(qemu_factory, usb_redir=0) as (qemu, ours),
        GtkClient("127.0.0.1", port=qemu.port) as gtk,
    ):
        twin: Twin = ours.guest
        await gtk.opened("main:0", "display:0", "inputs:0", "cursor:0", "port:0", "port:1")
        for name in (ECHO, UNREAD):
            await gtk.wait("port", name=name, opened=True)
        await gtk.do("key", code=A, pressed=True)
        await gtk.do("port_write", name=ECHO, data=numbers(0, 1000))
        assert await gtk.data("port-data", 1000, name=ECHO) == numbers(0, 1000)
        await gtk.do("port_write", name=UNREAD, data=numbers(0, 3000))
        channels = (await gtk.do("state"))["open"]
        await leave_qemu(qemu, ours, lambda: gtk.wait("migration", what="migrating"))
        await gtk.wait("migration", what="none")
        await gtk.do("port_write", name=ECHO, data=numbers(1000, 50_000))
        assert await gtk.data("port-data", 51_000, name=ECHO) == numbers(0, 51_000)
        await twin.until(lambda: len(twin.unread_heard) >= 2999, "what QEMU's guest didn't read")
        assert await in_the_serial_port(qemu, COM2) + twin.unread_heard == numbers(0, 3000)
        await gtk.do("key", code=A, pressed=False)
        await gtk.do("key", code=B, pressed=True)
        await twin.until(lambda: twin.keys == [(A, False), (B, True)], f"keys, only {twin.keys}")
        for scene in SEEN:
            twin.draw(scene)
            await gtk.shows(twin.truth)
        assert (await gtk.do("state"))["open"] == channels
        assert gtk.complaints() == []


# -- ours is the source ----------------------------------------------------------------------------


class Crossing:
    """A server of ours whose client goes to where a machine of QEMU's comes as well."""

    def __init__(self, machine: Qemu, target: Qemu, ours: Any, port: int) -> None:
        self.machine, self.target, self.ours, self.port = machine, target, ours, port

    async def cross(self, policy: str) -> None:
        """Move both; the client finds the target behind a relay."""
        options: dict[str, Any] = {"policy": policy, "upstream": True}
        move = await self.ours.prepare_migration("127.0.0.1", self.port, **options)
        await move.clients_ready()
        await move.freeze()
        await self.machine.migrate(self.target)
        assert await self.machine.wait_migration() == "completed"
        await move.complete()
        await self.target.qmp.wait_event("RESUME")
        assert self.target.running

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
async def to_qemu(qemu_factory: QemuFactory, **more: Any) -> AsyncIterator[Crossing]:
    """The same machine thrice: in QEMU, in another that waits for it, and with us."""
    options = {**MACHINE, **more}
    machine = await qemu_factory(**options)
    target = await qemu_factory(incoming=True, **options)
    twin = Twin(await screen_of(machine), options["usb_redir"])
    async with serving(twin) as ours, DelayRelay(0.001) as relay:
        yield Crossing(machine, target, ours, await relay.to("127.0.0.1", target.port))


@pytest.mark.parametrize("policy", ["carry", "carry-early"])
async def test_our_client_goes_from_our_server_to_qemu(
    qemu_factory: QemuFactory, policy: str
) -> None:
    async with (
        to_qemu(qemu_factory) as crossing,
        aiospice.connect(f"spice://127.0.0.1:{port_of(crossing.ours)}") as session,
        EventLog(session) as log,
    ):
        twin: Twin = crossing.ours.guest
        assert set(session.channels) == EVERYTHING
        await shows(session.screen, crossing.before)
        session.keyboard.down(A)
        await twin.until(lambda: twin.keys == [(A, True)], "the key")
        async with EchoStream(await session.port(ECHO)) as stream:
            await stream.flowing(2048)
            await crossing.cross(policy)
            finished = await log.wait("migration-finished")
            assert finished.as_dict()["mode"] == "seamless"
            await stream.flowing(2048)
            report = await stream.stop()
        assert report.exact, report
        assert numbers(0, report.sent).startswith(twin.port_heard)
        session.keyboard.up(A)
        await crossing.typed("9e")
        await session.keyboard.type("b")
        await crossing.typed("30 b0")
        await shows(session.screen, crossing.after)
        assert set(session.channels) == EVERYTHING


@pytest.mark.parametrize("policy", ["carry", "carry-early"])
async def test_spice_gtk_goes_from_our_server_to_qemu(
    qemu_factory: QemuFactory, policy: str
) -> None:
    async with (
        to_qemu(qemu_factory, usb_redir=0) as crossing,
        GtkClient("127.0.0.1", port=port_of(crossing.ours)) as gtk,
    ):
        twin: Twin = crossing.ours.guest
        await gtk.opened("main:0", "display:0", "inputs:0", "cursor:0", "port:0", "port:1")
        for name in (ECHO, UNREAD):
            await gtk.wait("port", name=name, opened=True)
        await shows(gtk.pixels, crossing.before)
        twin.echo = False  # what it has read is for the test, what it hasn't for QEMU's guest
        channels = (await gtk.do("state"))["open"]
        await gtk.do("key", code=A, pressed=True)
        await gtk.do("port_write", name=ECHO, data=numbers(0, 1000))
        await twin.until(lambda: len(twin.port_heard) == 1000, "1000 bytes")
        stream = asyncio.create_task(write_slowly(gtk, numbers(1000, 8000)))
        await crossing.cross(policy)
        await stream
        await gtk.wait("migration", what="none")
        heard = len(twin.port_heard)
        assert await gtk.data("port-data", 9000 - heard, name=ECHO) == numbers(heard, 9000 - heard)
        await gtk.do("key", code=A, pressed=False)
        await crossing.typed("9e")
        await gtk.do("key", code=B)
        await crossing.typed("30 b0")
        await shows(gtk.pixels, crossing.after)
        assert (await gtk.do("state"))["open"] == channels
        assert all(line.endswith(NAMED_AGAIN) for line in gtk.complaints())


async def write_slowly(gtk: GtkClient, data: bytes) -> None:
    """Write to the echoing port, a little at a time."""
    for start in range(0, len(data), 100):
        await gtk.do("port_write", name=ECHO, data=data[start : start + 100])
        await asyncio.sleep(0.01)
