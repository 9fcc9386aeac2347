"""A session crosses over from QEMU's server to ours, and from ours to QEMU's.

What clients carry between the two has to be accepted, and their streams to be exact: to the byte
but for what QEMU's serial port holds in its own state.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.crossing_rig import (
    UNREAD,
    Twin,
    in_the_serial_port,
    leave_qemu,
    leaving_qemu,
    machine,
    shows,
    to_qemu,
)
from tests.serve_stage import ECHO, port_of

import aiospice
from aiospice.client.picture import Picture
from aiospice.proof.gtkclient import GtkClient
from aiospice.proof.stream import EchoStream, EventLog, numbers

if TYPE_CHECKING:
    from tests.conftest import QemuFactory

    from aiospice.aio.session import Session

pytestmark = pytest.mark.peers

#: With everything that QEMU has. spice-gtk without USB of its own complains of USB.
MACHINE = machine(usb_redir=1, smartcard=True, webdav=True)
FOR_GTK = machine(smartcard=True, webdav=True)
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


# -- QEMU is the source ----------------------------------------------------------------------------


async def test_our_client_goes_from_qemu_to_our_server(qemu_factory: QemuFactory) -> None:
    async with (
        leaving_qemu(qemu_factory, MACHINE) as (qemu, ours),
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
        unread_there = await twin.has(UNREAD, 2999)
        assert await in_the_serial_port(qemu) + unread_there == numbers(0, 3000)
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
        leaving_qemu(qemu_factory, FOR_GTK) as (qemu, ours),
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
        unread_there = await twin.has(UNREAD, 2999)
        assert await in_the_serial_port(qemu) + unread_there == numbers(0, 3000)
        await gtk.do("key", code=A, pressed=False)
        await gtk.do("key", code=B, pressed=True)
        await twin.until(lambda: twin.keys == [(A, False), (B, True)], f"keys, only {twin.keys}")
        for scene in SEEN:
            twin.draw(scene)
            await gtk.shows(twin.truth)
        await cursor_and_sound(twin, gtk)
        assert (await gtk.do("state"))["open"] == channels
        assert gtk.complaints() == []


async def cursor_and_sound(twin: Twin, gtk: GtkClient) -> None:
    """What our guest's cursor looks like, and what it plays, comes as it is."""
    shape = np.zeros((20, 30, 4), np.uint8)
    shape[..., 3] = np.arange(30) * 8
    since = len(gtk.events)
    twin.host.set_cursor(shape, 3, 4)
    await gtk.wait("cursor", since=since)
    found = await gtk.do("cursor")
    assert (found["width"], found["height"], found["hot_x"], found["hot_y"]) == (30, 20, 3, 4)
    assert bytes.fromhex(found["rgba"]) == shape.tobytes()
    twin.host.playback_start(44100, 2)
    samples = np.random.default_rng(3).bytes(4 * 441)
    twin.host.playback(samples)
    await gtk.wait("playback-start", since=since, rate=44100)
    assert await gtk.data("playback-data", len(samples)) == samples


async def test_a_session_that_qemu_does_not_hand_over_whole_begins_anew_with_us(
    qemu_factory: QemuFactory,
) -> None:
    async with (
        leaving_qemu(qemu_factory, machine(seamless=False)) as (qemu, ours),
        aiospice.connect(qemu.address) as session,
        EventLog(session) as log,
    ):
        twin: Twin = ours.guest
        echo = await session.port(ECHO)
        await leave_qemu(qemu, ours, lambda: log.wait("migration-ready"), whole=False)
        finished = await log.wait("migration-finished")
        assert finished.as_dict()["mode"] == "semi-seamless"
        await echo.write(b"here")
        async with asyncio.timeout(20):
            assert await echo.readexactly(4) == b"here"
        await ours_is_shown(twin, session)


# -- ours is the source ----------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["carry", "carry-early"])
async def test_our_client_goes_from_our_server_to_qemu(
    qemu_factory: QemuFactory, policy: str
) -> None:
    async with (
        to_qemu(qemu_factory, MACHINE) as crossing,
        aiospice.connect(f"spice://127.0.0.1:{port_of(crossing.ours)}") as session,
        EventLog(session) as log,
    ):
        twin = crossing.twin
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
        to_qemu(qemu_factory, FOR_GTK) as crossing,
        GtkClient("127.0.0.1", port=port_of(crossing.ours)) as gtk,
    ):
        twin = crossing.twin
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
        before = (await crossing.target.text())[22]
        await gtk.do("motion", dx=5, dy=3)
        async with asyncio.timeout(20):
            while (await crossing.target.text())[22] == before:  # the bytes of its mouse
                await asyncio.sleep(0.02)
        assert (await gtk.do("state"))["open"] == channels
        assert all(line.endswith(NAMED_AGAIN) for line in gtk.complaints())


async def write_slowly(gtk: GtkClient, data: bytes) -> None:
    """Write to the echoing port, a little at a time."""
    for start in range(0, len(data), 100):
        await gtk.do("port_write", name=ECHO, data=data[start : start + 100])
        await asyncio.sleep(0.01)
