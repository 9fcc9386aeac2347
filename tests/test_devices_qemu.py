"""Every device of a real QEMU: input, screens, streams, the agent; through migrations, to the end.

The guest is a boot sector without drivers that echoes its serial port. So the devices that need
a driver (virtio ports, USB, sound) are open and move, and carry no data. But a serial port may
stand behind any channel of bytes: with the agent's, USB redirection's or the card reader's on it,
the guest gives back whatever it is sent, through the same server code that a driver would use.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import aiospice
from aiospice.client.keyboard import type_text
from aiospice.errors import AiospiceError, SessionLost, SpiceTimeout
from aiospice.proof.qemu import ECHO_PORT
from aiospice.wire.agent_stream import pack_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import PairFactory, QemuFactory

    from aiospice.aio.session import Session
    from aiospice.proof.qemu import Qemu, QemuPair

pytestmark = pytest.mark.peers
LIMIT = 30
FULL: dict[str, Any] = {
    "agent": True,
    "webdav": True,
    "usb_redir": 2,
    "smartcard": True,
    "audio": True,
    "tablet": True,
}
EVERYTHING = {
    *("main:0", "display:0", "inputs:0", "cursor:0", "playback:0", "record:0", "smartcard:0"),
    *("usbredir:0", "usbredir:1", "port:0", "webdav:0"),
}
_TYPES = {
    "main": 1,
    "display": 2,
    "inputs": 3,
    "cursor": 4,
    "playback": 5,
    "record": 6,
    "smartcard": 8,
    "usbredir": 9,
    "port": 10,
    "webdav": 11,
}


def keys_of(names: tuple[str, ...]) -> list[tuple[int, int]]:
    """Channel names as QEMU lists them."""
    pairs = (name.split(":") for name in names)
    return sorted((_TYPES[kind], int(number)) for kind, number in pairs)


def behind_a_serial_port(kind: str, name: str) -> dict[str, Any]:
    """Options for a machine whose echoing port is another channel."""
    chardev = f"{kind},id=echo,name={name}"
    extra = ("-chardev", chardev, "-device", "isa-serial,chardev=echo")
    return {"guest": "quiet", "echo_port": None, "extra": extra}


def traced(qemu: Qemu) -> str:
    """All that QEMU has printed, its trace included."""
    return (qemu.folder / "output").read_text(errors="replace")


async def until(condition: Any, limit: float = LIMIT) -> None:
    """Wait until a plain or awaitable condition holds."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return
        assert time.monotonic() < end, f"not within {limit} s"
        await asyncio.sleep(0.02)


async def dumped(qemu: Qemu, device: str = "") -> tuple[int, int, bytes]:
    """Width, height and RGB pixels of what the machine really shows."""
    path = qemu.folder / "dump.ppm"
    which: dict[str, Any] = {"device": device, "head": 0} if device else {}
    await qemu.qmp.command("screendump", filename=str(path), **which)
    kind, size, top, pixels = path.read_bytes().split(b"\n", 3)
    assert (kind, top) == (b"P6", b"255")
    width, height = map(int, size.split())
    return width, height, pixels


async def true_screen(session: Session, qemu: Qemu, display: int = 0, device: str = "") -> None:
    """See that the screen here becomes the machine's, pixel for pixel."""

    async def same() -> bool:
        picture = await session.screen(display)
        seen = (picture.width, picture.height, picture.rgb())
        return seen == await dumped(qemu, device)

    await until(same)


async def echoes(port: Any, data: bytes) -> None:
    """See that the guest gives back exactly these bytes."""
    async with asyncio.timeout(LIMIT):
        writing = asyncio.create_task(port.write(data))
        assert await port.readexactly(len(data)) == data
        await writing


def open_sockets() -> set[str]:
    """The TCP sockets of this process; the rig's own are UNIX sockets."""
    lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    tcp = {f"socket:[{line.split()[9]}]" for line in lines}
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return found & tcp


def tasks() -> set[Any]:
    """The tasks that aren't the rig's."""
    return {task for task in asyncio.all_tasks() if "Qmp._read" not in repr(task.get_coro())}


@contextlib.asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """See that neither tasks nor sockets are left by what happens inside."""
    before, sockets = tasks(), open_sockets()
    yield
    for _ in range(3):  # asyncio closes a socket in the next turn of its loop
        await asyncio.sleep(0)
    assert tasks() - before == set()
    assert open_sockets() - sockets == set()


# -- all at once -----------------------------------------------------------------------------------


@pytest.mark.parametrize("vga", ["qxl", "std"])
async def test_a_machine_with_everything_moves_and_moves_again(
    qemu_pair: PairFactory, vga: str
) -> None:
    """To another process, and then to a third; nothing is lost that a user could see."""
    pair = await qemu_pair(guest="quiet", vga=vga, **FULL)
    async with nothing_left(), aiospice.connect(pair.source.address) as session:
        assert set(session.channels) == EVERYTHING
        assert await pair.source.channels() == keys_of(session.channels)
        assert await session.ports() == [ECHO_PORT, "org.spice-space.webdav.0"]
        names = session.channels
        port = await session.port(ECHO_PORT)
        await use(session, pair.source, port)
        for number in (1, 2):
            await pair.migrate()
            await until(lambda number=number: len(finished(session)) == number)
            assert session.channels == names
            assert session.address == pair.source.address
            assert await pair.source.channels() == keys_of(names)
            await use(session, pair.source, port)
        for event in finished(session):
            assert (event.mode, event.bytes_at_risk) == ("seamless", 0)
        seen = [event.kind for event in early(session)]
        for kind in ("channel-gone", "channel-skipped", "not-drawn", "message-ignored"):
            assert kind not in seen
        assert session.messages_unknown() == {}


def early(session: Session) -> list[Any]:
    """What has happened, of a session whose events nobody reads."""
    assert session._early is not None
    return list(session._early.queue)


def finished(session: Session) -> list[Any]:
    """The migrations that were completed."""
    return [event for event in early(session) if event.kind == "migration-finished"]


async def use(session: Session, qemu: Qemu, port: Any) -> None:
    """Use what can be used without a driver."""
    await true_screen(session, qemu)
    await echoes(port, random.randbytes(3000))
    await true_screen(session, qemu)
    before = await qemu.text()
    await session.keyboard.press("a", "f12")
    await until(lambda: keys_shown(qemu, "1e 9e 58 d8", before[23]))
    await session.mouse.move(10, 20)
    await until(lambda: differs(qemu, 22, before[22]))
    await true_screen(session, qemu)


async def differs(qemu: Qemu, row: int, before: str) -> bool:
    return (await qemu.text())[row] != before


async def keys_shown(qemu: Qemu, codes: str, before: str) -> bool:
    row = (await qemu.text())[23]
    return row != before and codes in f"{row} {row}"  # the row wraps around


# -- input -----------------------------------------------------------------------------------------


async def test_typed_text_arrives_key_by_key(qemu_factory: QemuFactory) -> None:
    """No key of a long text is lost, and the guest shows the last of them."""
    qemu = await qemu_factory(guest="quiet", vga="std")
    letters = random.Random(1)
    text = "".join(letters.choices("abcXYZ 019,.;:'\"!?@[]{}\n\t", k=150))
    async with aiospice.connect(qemu.address) as session:
        await session.keyboard.type("Hi!")
        await until(lambda: keys_shown(qemu, "2a 23 a3 aa 17 97 2a 02 82 aa", ""))
        await qemu.monitor("trace-event pckbd_kbd_read_data on")
        await session.keyboard.type(text)
        await session.keyboard.press("ctrl-alt-f2", "up")
        tail = "1d 38 3c bc b8 9d e0 48 e0 c8"
        await until(lambda: keys_shown(qemu, tail, ""))
        await qemu.monitor("trace-event pckbd_kbd_read_data off")
    read = [int(code, 16) for code in re.findall(r"pckbd_kbd_read_data (\S+)", traced(qemu))]
    sent = b"".join(scancode(event.code, event.pressed) for event in type_text(text))
    assert bytes(read) == sent + bytes.fromhex(tail)


def scancode(code: int, pressed: bool) -> bytes:
    """What a keyboard sends for a key, extended ones behind 0xe0."""
    prefix = b"\xe0" if code > 0xFF else b""
    last = code >> 8 if code > 0xFF else code
    return prefix + bytes((last if pressed else last | 0x80,))


async def test_a_relative_mouse_reaches_the_pixel(qemu_factory: QemuFactory) -> None:
    """Server mouse mode, as the guest's driver would see it that adds up what the mouse sends."""
    qemu = await qemu_factory(guest="quiet", vga="std")
    async with aiospice.connect(qemu.address) as session:
        assert (await qemu.query_spice())["mouse-mode"] == "server"
        await session.screen()
        await qemu.monitor("trace-event ps2_mouse_send_packet on")
        await session.mouse.click(333, 222)
        await session.mouse.click(700, 10, button="right")
        await session.mouse.drag(0, 0, 300, 399)
        await until(lambda: buttons_of(qemu) == [1, 0, 2, 0, 1, 0])
        await asyncio.sleep(0.1)
    places = positions(qemu, (500, 100), (720, 400))
    assert next(place for button, place in places if button == 1) == (333, 222)
    assert [place for button, place in places if button == 2][-1] == (700, 10)
    assert [place for button, place in places if button == 1][-1] == (300, 399)


def packets(qemu: Qemu) -> list[tuple[int, int, int]]:
    """Right, down and buttons of each packet that the mouse has sent."""
    pattern = r"ps2_mouse_send_packet \S+ x (-?\d+) y (-?\d+) z -?\d+ bs (\S+)"
    found = re.findall(pattern, traced(qemu))
    # On the wire up is positive, and the first byte has more than the buttons.
    return [(int(x), -int(y), int(first, 16) & 7) for x, y, first in found]


def buttons_of(qemu: Qemu) -> list[int]:
    """The states of the buttons, each change once, from the first press on."""
    states = [buttons for _, _, buttons in packets(qemu)]
    changes = [b for a, b in zip([0, *states], states, strict=False) if a != b]
    return changes


def positions(
    qemu: Qemu, start: tuple[int, int], size: tuple[int, int]
) -> list[tuple[int, tuple[int, int]]]:
    """Buttons and place of a pointer after each packet."""
    x, y = start
    found = []
    for right, down, buttons in packets(qemu):
        x = min(max(x + right, 0), size[0] - 1)
        y = min(max(y + down, 0), size[1] - 1)
        found.append((buttons, (x, y)))
    return found


async def test_a_tablet_is_told_the_pixel(qemu_factory: QemuFactory) -> None:
    """Client mouse mode: the server offers it once a tablet is in use."""
    qemu = await qemu_factory(guest="quiet", vga="std", tablet=True)
    async with aiospice.connect(qemu.address) as session:
        picture = await session.screen()
        width, height = picture.width, picture.height
        mice = await qemu.monitor("info mice")
        tablet = re.search(r"#(\d+): \S+ HID Tablet", mice)
        assert tablet is not None
        await qemu.monitor(f"mouse_set {tablet[1]}")
        await until(lambda: in_mode(qemu, "client"))
        for event in ("input_event_abs", "input_event_btn"):
            await qemu.monitor(f"trace-event {event} on")
        await session.mouse.click(0, 0)
        await session.mouse.click(width - 1, height - 1, button="middle")
        await until(lambda: traced(qemu).count("down 0") == 2)
        await session.mouse.scroll(2)
        await until(lambda: traced(qemu).count("wheel-down, down 0") == 2)
    trace = traced(qemu)
    values = [int(v, 16) for v in re.findall(r"axis [xy], value (\S+)", trace)]
    corner = [round((width - 1) * 0x7FFF / width), round((height - 1) * 0x7FFF / height)]
    assert values[:2] == [0, 0]
    assert values[-2:] == pytest.approx(corner, abs=1)
    downs = re.findall(r"button (\S+), down (\d)", trace)
    assert downs[:4] == [("left", "1"), ("left", "0"), ("middle", "1"), ("middle", "0")]


async def in_mode(qemu: Qemu, mode: str) -> bool:
    return bool((await qemu.query_spice())["mouse-mode"] == mode)


async def test_closing_releases_what_is_pressed(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(guest="quiet", vga="std")
    async with aiospice.connect(qemu.address) as session:
        session.keyboard.down(0x2A)
        session.keyboard.down(0x1E)
    await until(lambda: keys_shown(qemu, "2a 1e aa 9e", ""))


# -- screens ---------------------------------------------------------------------------------------


async def test_two_screens_are_two_pictures(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(guest="quiet", vga="std", extra=("-device", "secondary-vga,id=two"))
    async with aiospice.connect(qemu.address) as session:
        assert {"display:0", "display:1", "cursor:1"} <= set(session.channels)
        await true_screen(session, qemu)
        await true_screen(session, qemu, display=1, device="two")


async def test_a_screen_that_no_driver_has_set_up_has_no_picture(
    qemu_factory: QemuFactory,
) -> None:
    qemu = await qemu_factory(guest="quiet", extra=("-device", "qxl,id=two"))
    async with aiospice.connect(qemu.address) as session:
        assert "display:1" in session.channels
        with pytest.raises(SpiceTimeout, match=r"no picture of display 1 within 0\.2 s"):
            await session.screen(1, timeout=0.2)
        await true_screen(session, qemu)


@pytest.mark.parametrize("compression", ["glz", "quic", "lz", "off"])
async def test_whatever_the_server_would_compress_the_picture_is_true(
    qemu_factory: QemuFactory, compression: str
) -> None:
    """The client asks for uncompressed images, and gets them."""
    qemu = await qemu_factory(guest="quiet", spice=(f"image-compression={compression}",))
    async with aiospice.connect(qemu.address) as session:
        await true_screen(session, qemu)
        await echoes(await session.port(), random.randbytes(2000))
        await true_screen(session, qemu)
        assert "not-drawn" not in [event.kind for event in early(session)]


# -- streams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "channel"),
    [("spicevmc", "usbredir", "usbredir"), ("spiceport", "org.spice-space.webdav.0", "webdav")],
)
async def test_a_device_carries_bytes_and_goes_on_after_migrations(
    qemu_pair: PairFactory, kind: str, name: str, channel: str
) -> None:
    pair = await qemu_pair(**behind_a_serial_port(kind, name))
    async with aiospice.connect(pair.source.address) as session:
        device = session.device(channel)
        await echoes(device, random.randbytes(20_000))
        for _ in range(2):
            await pair.migrate()
            await echoes(device, random.randbytes(5000))


async def test_an_unread_port_stops_its_connection_and_nothing_else(
    qemu_pair: PairFactory,
) -> None:
    """What nobody reads is bounded here; it comes when somebody reads, even after a migration."""
    pair = await qemu_pair(guest="quiet")
    data = random.randbytes(350_000) + b"<the end>"
    async with aiospice.connect(pair.source.address, dial=narrow) as session:
        port = await session.port()
        async with asyncio.timeout(90):
            await port.write(data)
        await until(lambda: ended(pair.source), 60)  # the guest has written it all
        held = len(port._buffer)
        assert 256 << 10 <= held < (256 << 10) + 70_000
        await true_screen(session, pair.source)
        await session.keyboard.press("a")
        await until(lambda: keys_shown(pair.source, "1e 9e", ""))
        assert len(port._buffer) == held
        await pair.migrate()
        async with asyncio.timeout(60):
            assert await port.readexactly(len(data)) == data
        await echoes(port, b"and on")


async def ended(qemu: Qemu) -> bool:
    return "<the end>" in "".join(line.ljust(80) for line in (await qemu.text())[:22])


def narrow(host: str, port: int) -> socket.socket:
    """A socket whose kernel buffers are small."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    made.connect((host, port))
    return made


async def test_the_agents_stream_keeps_to_its_tokens(qemu_factory: QemuFactory) -> None:
    """Ten tokens for dozens of pieces: all come back in order, and so do the tokens.

    (No migration: an agent behind a serial port is there before the machine is, which
    spice-server's hand-over takes for impossible and ends QEMU.)
    """
    qemu = await qemu_factory(**behind_a_serial_port("spicevmc", "vdagent"))
    async with aiospice.connect(qemu.address, agent=False) as session:
        channel = session._shell.core.main_channel()
        assert channel is not None
        assert channel.agent_connected
        await until(lambda: in_mode(qemu, "client"))  # the agent moves the mouse
        for _ in range(2):
            messages = [pack_message(6, random.randbytes(size)) for size in (1, 50, 5000, 9000)]
            for message in messages * 3:  # a piece never has bytes of two messages
                for start in range(0, len(message), 700):
                    channel.agent_send(message[start : start + 700])
            sent = b"".join(messages * 3)
            assert channel.agent_queued > 40
            session._shell.turn()
            await until(lambda sent=sent: len(from_agent(session)) >= len(sent) or session.closed)
            assert from_agent(session) == sent
            assert channel.agent_queued == 0
            await until(lambda: channel.agent_tokens > 5)
            assert channel.agent_granted > 16
            forget(session)


def from_agent(session: Session) -> bytes:
    return b"".join(event.data for event in early(session) if event.kind == "agent-data-received")


def forget(session: Session) -> None:
    assert session._early is not None
    session._early.queue.clear()


async def test_the_card_reader_carries_messages(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(**behind_a_serial_port("spicevmc", "smartcard"))
    async with aiospice.connect(qemu.address) as session:
        channel: Any = session._shell.core.channels[(8, 0)]

        def came() -> list[Any]:
            return [event for event in early(session) if event.kind == "card-message-received"]

        channel.send_card(3, 0xFFFFFFFF, b"reader\0")  # a reader is added
        session._shell.turn()
        await until(lambda: len(came()) == 1)
        for kind, data in ((5, b"reset answer"), (7, b"command")):
            channel.send_card(kind, 0, data)
        session._shell.turn()
        await until(lambda: len(came()) == 3)
        assert [(event.type, event.data) for event in came()[1:]] == [
            (5, b"reset answer"),
            (7, b"command"),
        ]


# -- the end ---------------------------------------------------------------------------------------


async def end_by(how: str, qemu: Qemu) -> None:
    if how == "quit":
        await qemu.quit()
    elif how == "kill":
        os.kill(qemu.pid, signal.SIGKILL)
    else:
        await qemu.drop_clients()


@pytest.mark.parametrize("how", ["quit", "kill", "dropped"])
async def test_a_server_that_goes_is_a_lost_session_for_everybody(
    qemu_factory: QemuFactory, how: str
) -> None:
    """Whoever waits for the session is told, and what is asked of it later fails at once."""
    # A second display without a picture: somebody waits for it.
    extra = ("-device", "qxl,id=two") if how != "dropped" else ()
    qemu = await qemu_factory(guest="quiet", password="sesame", extra=extra, usb_redir=1)
    async with nothing_left():
        session = await aiospice.connect(qemu.address, password="sesame")
        await session.screen()
        port = await session.port()

        async def all_events() -> None:
            async for _ in session.events():
                pass

        waits: list[Any] = [port.read(), session.wait_closed(), all_events()]
        waits += [session.screen(1, timeout=LIMIT)] if extra else []
        waiting = [asyncio.create_task(wait) for wait in waits]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waiting)
        await end_by(how, qemu)
        async with asyncio.timeout(LIMIT):
            results = await asyncio.gather(*waiting, return_exceptions=True)
        for result in results:
            assert type(result) is SessionLost, repr(result)
            assert f"127.0.0.1:{qemu.port}" in str(result)
        assert session.closed
        async with asyncio.timeout(LIMIT):
            late: list[Any] = [port.write(b"x"), port.read(), port.drain()]
            for call in [*late, session.wait_closed(), session.screen()]:
                with pytest.raises(SessionLost):
                    await call
            await session.close()
            await session.close()


async def test_a_frozen_server_holds_nobody(qemu_factory: QemuFactory) -> None:
    """Connecting and closing have their limits."""
    qemu = await qemu_factory(guest="quiet")
    async with nothing_left():
        session = await aiospice.connect(qemu.address, dial=narrow)
        port = await session.port()
        os.kill(qemu.pid, signal.SIGSTOP)
        with pytest.raises(SpiceTimeout, match=r"link of main:0 for 0\.3 s"):
            await aiospice.connect(qemu.address, timeout=0.3)
        writing = asyncio.create_task(port.write(bytes(30 << 20)))
        await asyncio.sleep(0.3)
        assert not writing.done()
        session.keyboard.down(0x1E)
        async with asyncio.timeout(LIMIT):
            await session.close()
            with pytest.raises(AiospiceError):
                await writing


async def test_sessions_leave_nothing_behind(qemu_factory: QemuFactory) -> None:
    """Ended in order, by an error in their block, by cancelling, or before they were up."""
    qemu = await qemu_factory(guest="quiet")
    async with nothing_left():
        async with aiospice.connect(qemu.address) as session:
            await session.screen()
        assert session.closed
        with pytest.raises(KeyError):
            async with aiospice.connect(qemu.address):
                raise KeyError
        session = await aiospice.connect(qemu.address)
        await session.close()

        async def stay() -> None:
            async with aiospice.connect(qemu.address) as session:
                await session.wait_closed()

        for delay in (0, 0.001, 0.01, 0.02, 0.05, 0.3):
            task = asyncio.create_task(stay())
            await asyncio.sleep(delay)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        del session
    await until(lambda: no_channels(qemu))
    async with aiospice.connect(qemu.address) as session:
        await true_screen(session, qemu)


@pytest.mark.parametrize("channels", [None, ("display",), ("cursor",)])
async def test_leaving_early_leaves_the_machine_alive(
    qemu_factory: QemuFactory, channels: tuple[str, ...] | None
) -> None:
    """spice-server 0.15.1 dies when a screen goes that it is just setting up."""
    qemu = await qemu_factory(guest="quiet", vga="std")

    async def come_and_go() -> None:
        async with aiospice.connect(qemu.address, channels=channels):
            pass

    for _ in range(15):
        await come_and_go()
    for delay in range(5, 50, 3):
        task = asyncio.create_task(come_and_go())
        await asyncio.sleep(delay / 1000)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert qemu.running
    await come_and_go()


async def no_channels(qemu: Qemu) -> bool:
    return await qemu.channels() == []


async def test_a_migration_and_a_lost_source_leave_nothing_behind(qemu_pair: PairFactory) -> None:
    pair: QemuPair = await qemu_pair(guest="quiet")
    async with nothing_left():
        async with aiospice.connect(pair.source.address) as session:
            await pair.migrate()
            await until(lambda: len(finished(session)) == 1)
        target = await pair.prepare()
        async with aiospice.connect(pair.source.address) as session:
            await pair.source.client_migrate_info(target)
            await until(lambda: arrived(target))
            os.kill(pair.source.pid, signal.SIGKILL)
            async with asyncio.timeout(LIMIT):
                with pytest.raises(SessionLost):
                    await session.wait_closed()


async def arrived(target: Qemu) -> bool:
    return len(await target.channels()) == 5
