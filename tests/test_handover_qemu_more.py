"""What else records carry between QEMU's server and ours: agent, cards, dictionaries, lossiness.

QEMU's small guest has no drivers. A serial port that it never reads stands behind the agent's
channel, or the card reader's: what the client sends waits there, and goes on with the record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.crossing_rig import (
    UNREAD,
    Twin,
    in_the_serial_port,
    leave_qemu,
    leaving_qemu,
    machine,
    on_com2,
    paint_all,
    to_qemu,
)
from tests.serve_rig import port_of, serving
from tests.serve_stage import ECHO, SCENES

import aiospice
from aiospice.agent.events import ClipboardData, ClipboardGrabbed
from aiospice.agent.guest_events import ClientAnnounced
from aiospice.proof.gtkclient import GtkClient
from aiospice.proof.stream import EventLog, numbers
from aiospice.wire.smartcard import DEVICE_HEADER, CardMessage

if TYPE_CHECKING:
    from tests.conftest import QemuFactory

pytestmark = pytest.mark.peers

AGENT = machine(extra=on_com2("spicevmc,name=vdagent"))
CARDS = machine(extra=on_com2("spicevmc,name=smartcard"))
TEXT = 1


def some(guest: Twin, kind: type[Any]) -> list[Any]:
    """What the agent was told of a kind."""
    return [event for event in guest.agent_events if isinstance(event, kind)]


async def clipboard_works(twin: Twin, gtk: GtkClient, text: bytes) -> None:
    """What is copied at one end can be pasted at the other."""
    since = len(gtk.events)
    twin.tell_agent(lambda agent: agent.clipboards.grab({"text": text}))
    await gtk.wait("clipboard-grab", kinds=[TEXT], since=since)
    await gtk.do("clipboard_request", kind=TEXT)
    assert (await gtk.wait("clipboard", kind=TEXT, since=since))["data"] == text
    await gtk.do("clipboard_grab", kinds=[TEXT])
    await twin.until(lambda: some(twin, ClipboardGrabbed), "the grab")
    twin.tell_agent(lambda agent: agent.request("text"))
    await gtk.wait("clipboard-request", kind=TEXT, since=since)
    await gtk.do("clipboard_send", kind=TEXT, data=text[::-1])
    await twin.until(lambda: some(twin, ClipboardData), "the clipboard")
    assert some(twin, ClipboardData)[-1].data == text[::-1]


# -- devices ---------------------------------------------------------------------------------------


async def test_an_agent_that_began_to_read_in_qemu_goes_on_with_us(
    qemu_factory: QemuFactory,
) -> None:
    async with (
        leaving_qemu(qemu_factory, AGENT) as (qemu, ours),
        GtkClient("127.0.0.1", port=qemu.port) as gtk,
    ):
        twin: Twin = ours.guest
        await gtk.opened("main:0", "display:0", "inputs:0", "cursor:0", "port:0")
        await gtk.wait("main", agent=True)
        await leave_qemu(qemu, ours, lambda: gtk.wait("migration", what="migrating"))
        await twin.has("agent", 20)
        twin.wake_agent(await in_the_serial_port(qemu))
        await twin.until(lambda: some(twin, ClientAnnounced), "the client's capabilities")
        await clipboard_works(twin, gtk, b"copied and pasted " * 5000)
        client = ours._shell.core.agent.core.clients[ours.host.clients[0].id]
        assert client.tokens + client.free == client.window
        assert gtk.complaints() == []


def card(kind: CardMessage, data: bytes = b"") -> bytes:
    """A card message as the guest's device has it."""
    return DEVICE_HEADER.pack(kind, 0, len(data)) + data


@pytest.mark.parametrize("kind", ["port", "smartcard"])
async def test_what_nobody_reads_goes_to_qemu_and_comes_back(
    qemu_factory: QemuFactory, kind: str
) -> None:
    """A record of ours, taken and given again by QEMU: every byte is there."""
    options = {"port": machine(), "smartcard": CARDS}[kind]
    async with (
        to_qemu(qemu_factory, options, reads=False) as crossing,
        serving(last_twin := Twin(await crossing.before(), options)) as last,
        aiospice.connect(f"spice://127.0.0.1:{port_of(crossing.ours)}") as session,
        EventLog(session) as log,
    ):
        if kind == "port":
            await (await session.port(UNREAD)).write(sent := numbers(0, 5000))
        else:
            await session.cards().write(CardMessage.READER_ADD, 0)
            for number in range(3):
                await session.cards().write(CardMessage.ATR, 0, bytes([number]) * 20)
            sent = card(CardMessage.READER_ADD) + b"".join(
                card(CardMessage.ATR, bytes([number]) * 20) for number in range(3)
            )
        device = crossing.ours._shell.core.device((10, 1) if kind == "port" else (8, 0))
        await until(lambda: device.core.unread_bytes == len(sent))
        await crossing.cross()
        since = len(log.events)
        await leave_qemu(crossing.target, last, lambda: log.wait("migration-ready", since=since))
        finished = [each for each in log.events if each.kind == "migration-finished"]
        assert [each.as_dict()["mode"] for each in finished] == ["seamless"] * 2
        came = await last_twin.has(UNREAD if kind == "port" else kind, len(sent) - 1)
        assert await in_the_serial_port(crossing.target) + came == sent


async def test_qemu_takes_an_agent_that_its_guest_is_yet_to_open(
    qemu_factory: QemuFactory,
) -> None:
    """It keeps the record until then: what is in it doesn't end it, and the session goes on.

    (An agent behind a serial port would be open too early: with that spice-server ends itself.)
    """
    ours = machine(extra=AGENT["extra"])
    theirs = machine(agent=True, extra=())
    async with (
        to_qemu(qemu_factory, theirs, twin_options=ours, reads=False) as crossing,
        GtkClient("127.0.0.1", port=port_of(crossing.ours)) as gtk,
    ):
        await gtk.opened("main:0", "display:0", "inputs:0", "cursor:0", "port:0")
        await gtk.wait("main", agent=True)
        core = crossing.ours._shell.core.agent.core
        await until(lambda: core.unread_bytes > 20)
        await crossing.cross()
        await gtk.wait("migration", what="none")
        await gtk.do("port_write", name=ECHO, data=numbers(0, 1000))
        assert await gtk.data("port-data", 1000, name=ECHO) == numbers(0, 1000)
        await gtk.shows(crossing.after)


async def until(done: Callable[[], object]) -> None:
    """Wait for something; a limit against hanging only."""
    async with asyncio.timeout(20):
        while not done():
            await asyncio.sleep(0.01)


# -- pictures --------------------------------------------------------------------------------------

#: How both servers pack.
PACKINGS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "glz": (("image-compression=glz",), {"compression": "glz", "lossy": "never"}),
    "lossy": (("jpeg-wan-compression=always",), {"lossy": "always"}),
    "auto": ((), {}),
}
SCREEN = "qxl 0 640 480 32"
BEFORE = (SCREEN, "photo 0 0 640 480 1", "stamp 10 10 64 64 2", "page 1", "stamp 99 99 64 64 2")
AFTER = ("stamp 300 200 64 64 2", "photo 30 40 300 200 3", "desktop 1", "drag 1", "drag 2")


def painting(packing: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A machine that paints what it is told to, and options of ours."""
    spice, ours = PACKINGS[packing]
    options = machine(guest="paint", commands=True, extra=(), spice=spice)
    return options, {**ours, "video": "never"}


@pytest.mark.parametrize("packing", PACKINGS)
async def test_pictures_of_qemu_and_of_ours_behind_them_fit_together(
    qemu_factory: QemuFactory, packing: str
) -> None:
    options, ours_options = painting(packing)
    async with (
        leaving_qemu(qemu_factory, options, SCREEN, **ours_options) as (qemu, ours),
        GtkClient("127.0.0.1", port=qemu.port) as gtk,
    ):
        twin: Twin = ours.guest
        await gtk.opened("main:0", "display:0", "inputs:0", "cursor:0", "port:0")
        await paint_all(qemu, *BEFORE)
        await leave_qemu(qemu, ours, lambda: gtk.wait("migration", what="migrating"))
        for scene in SCENES[:-1]:
            twin.draw(scene)
            await gtk.shows(twin.truth)
        assert gtk.complaints() == []


@pytest.mark.parametrize("packing", PACKINGS)
async def test_pictures_of_ours_and_of_qemu_behind_them_fit_together(
    qemu_factory: QemuFactory, packing: str
) -> None:
    options, ours_options = painting(packing)
    tolerance = 60 if packing == "lossy" else 0  # QEMU's stay as they are
    async with (
        to_qemu(qemu_factory, options, *BEFORE, **ours_options) as crossing,
        GtkClient("127.0.0.1", port=port_of(crossing.ours)) as gtk,
    ):
        twin = crossing.twin
        await gtk.opened("main:0", "display:0", "inputs:0", "cursor:0", "port:0")
        for scene in SCENES[:-1]:
            twin.draw(scene)
            await gtk.shows(twin.truth)
        twin.show()
        await crossing.cross("carry-early" if packing == "glz" else "carry")
        await gtk.wait("migration", what="none")
        await gtk.shows(crossing.after, tolerance=tolerance)
        for command in AFTER:
            await paint_all(crossing.target, command)
            await gtk.shows(crossing.after, tolerance=tolerance)
