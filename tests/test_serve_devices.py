"""Devices over real sockets, our client against our server: who stops whom, and who gets what."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Any

import pytest
from tests.serve_rig import eventually, port_of, serving

import aiospice
from aiospice.aio.serve import Server
from aiospice.channels.smartcard import SmartcardChannel
from aiospice.channels.vmc import CHUNK_BYTES, VmcChannel
from aiospice.devices.chardev import CharDevice
from aiospice.devices.rules import VMC
from aiospice.proof.gtkclient import GtkClient
from aiospice.server.guest import Guest, Host, HostDevice
from aiospice.wire.smartcard import DEVICE_HEADER, CardMessage

NAME = "org.example.stream"
KEY = (10, 0)
WINDOW = VmcChannel.window * VmcChannel.message_size


def stream(begin: int, size: int) -> bytes:
    """A part of an endless stream that tells where each byte belongs."""
    first = begin // 8
    words = b"".join(number.to_bytes(8, "big") for number in range(first, first + size // 8 + 2))
    return words[begin - 8 * first :][:size]


class StreamGuest(Guest):
    """Writes an endless stream to a port as long as something is taken, reads when it is told."""

    name = "stream"

    def __init__(self, *, writes: bool = True) -> None:
        self.writes = writes
        self.port: Any = None
        self.sent = 0

    def attach(self, host: Host) -> None:
        self.port = host.port(NAME)
        self.port.opened = True
        self.device_writable(self.port)

    def device_writable(self, device: HostDevice) -> None:
        taken = 1
        while taken and self.writes:
            taken = device.write(stream(self.sent, 16 * VmcChannel.message_size))
            self.sent += taken


def core_of(server: Server) -> CharDevice:
    return server._shell.core.devices[KEY].core


def connect(server: Server, **options: Any) -> Any:
    return aiospice.connect(f"spice://127.0.0.1:{port_of(server)}", channels=("port",), **options)


def channel_of(session: Any) -> VmcChannel:
    found = session._shell.core.channels[KEY]
    assert isinstance(found, VmcChannel)
    return found


async def test_a_guest_that_does_not_read_stops_our_client_after_one_window() -> None:
    guest = StreamGuest(writes=False)
    async with serving(guest) as server, connect(server) as session:
        port = await session.port(NAME)
        sent = stream(0, WINDOW + 300_000)
        writing = asyncio.create_task(port.write(sent))
        await eventually(lambda: guest.port.readable == VMC.window * CHUNK_BYTES)
        await asyncio.sleep(0.2)  # what else was on its way would have come
        assert guest.port.readable == VMC.window * CHUNK_BYTES
        assert channel_of(session).sent_bytes == VMC.window * CHUNK_BYTES
        assert not writing.done()
        got = b""
        while len(got) < len(sent):
            got += guest.port.read(100_000)
            await asyncio.sleep(0)
        await writing
        assert got == sent


async def test_a_client_of_ours_that_does_not_read_stops_the_guest_after_one_window() -> None:
    guest = StreamGuest()
    async with serving(guest) as server, connect(server) as session:
        port = await session.port(NAME)
        await eventually(lambda: guest.sent == WINDOW)
        await asyncio.sleep(0.2)
        assert guest.sent == WINDOW
        assert channel_of(session).received_bytes == WINDOW
        # The connection itself is read all the time.
        assert KEY not in session._shell.core.stopped
        got = await port.readexactly(3 * WINDOW)
        assert got == stream(0, 3 * WINDOW)
        await eventually(lambda: guest.sent == 4 * WINDOW)


async def test_ports_that_nobody_wants_do_not_stop_the_guest() -> None:
    guest = StreamGuest()
    async with serving(guest) as server, connect(server) as session:
        session.discard_unclaimed()
        await eventually(lambda: guest.sent > 5 * WINDOW)
        guest.writes = False


async def taken_over(server: Server, count: int) -> int:
    """``count`` clients, each cut off or taken over by the next; how many bytes were looked at.

    All lengths are whole messages, so each client's stream begins with a whole word.
    """
    chance = random.Random(count)
    checked = 0
    #: Where the next client's stream begins at the earliest, and where at the latest if it's known.
    earliest, latest = 0, None
    before: Any = None
    for number in range(count):
        session = await connect(server)
        port, channel = await session.port(NAME), channel_of(session)
        if before is not None:
            await eventually(partial(getattr, before[0], "closed"))
            # What it was handed and hasn't received is lost with its socket.
            earliest, latest = earliest + before[1].received_bytes, None
        core = core_of(server)
        if number % 3:
            data = await port.readexactly(8 * chance.randrange(1, 40_000))
            begin = int.from_bytes(data[:8], "big") * 8
            assert earliest <= begin <= (core.from_guest if latest is None else latest)
            assert data == stream(begin, len(data))
            earliest = begin
            checked += len(data)
        else:  # this one reads nothing, and the guest stops
            await eventually(lambda: not core_of(server).guest_may_write)
        before = session, channel
        if not number % 5:  # cut off instead of taken over
            session._shell.abandon()
            await eventually(lambda: not core_of(server).clients)
            earliest = latest = core.from_guest - sum(map(len, core.backlog))
            before = None
    return checked


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.soak)])
async def test_clients_that_are_taken_over_while_the_guest_writes_break_nothing(
    count: int,
) -> None:
    guest = StreamGuest()
    async with asyncio.timeout(count), aiospice.serve(guest, port=0) as server:
        assert await taken_over(server, count) > count * 1000


# -- spice-gtk, which has no tokens for ports ------------------------------------------------------


@pytest.mark.peers
async def test_spice_gtk_is_held_up_by_its_socket_and_everything_arrives() -> None:
    guest = StreamGuest(writes=False)
    piece = 60_000
    async with (
        serving(guest) as server,
        GtkClient("127.0.0.1", port=int(port_of(server))) as gtk,
    ):
        await gtk.wait("port", name=NAME, opened=True)
        sent = stream(0, 200 * piece)
        for at in range(0, len(sent), piece):
            await gtk.do("port_write", name=NAME, data=sent[at : at + piece])
        # It is read until 1 MiB waits, the message that reaches it included.
        most = -(-VMC.unread // piece) * piece
        await eventually(lambda: guest.port.readable == most)
        await asyncio.sleep(0.2)
        assert guest.port.readable == most
        got = bytearray()
        while len(got) < len(sent):
            got += guest.port.read(300_000)
            await asyncio.sleep(0.001)
        assert got == sent


@pytest.mark.peers
async def test_spice_gtk_gets_a_ports_bytes_as_they_were_written() -> None:
    guest = StreamGuest()
    async with (
        serving(guest) as server,
        GtkClient("127.0.0.1", port=int(port_of(server))) as gtk,
    ):
        await eventually(lambda: guest.sent > 4 << 20)
        guest.writes = False
        assert await gtk.data("port-data", guest.sent, name=NAME) == stream(0, guest.sent)


# -- smartcards ----------------------------------------------------------------------------------


class CardGuest(Guest):
    """Writes numbered card messages as long as they are taken."""

    name = "cards"

    def __init__(self) -> None:
        self.reader: Any = None
        self.sent = 0

    def attach(self, host: Host) -> None:
        self.reader = host.smartcard()
        self.reader.opened = True

    def device_writable(self, device: HostDevice) -> None:
        while self.sent < 100:
            card = DEVICE_HEADER.pack(CardMessage.APDU, 0, 4) + self.sent.to_bytes(4, "big")
            if not device.write(card):
                break
            self.sent += 1


async def test_card_messages_stop_the_guest_until_they_are_read() -> None:
    guest = CardGuest()
    async with (
        serving(guest) as server,
        aiospice.connect(f"spice://127.0.0.1:{port_of(server)}") as session,
    ):
        cards = session.cards()
        guest.device_writable(guest.reader)
        await eventually(lambda: guest.sent == SmartcardChannel.window)
        await asyncio.sleep(0.2)
        assert guest.sent == SmartcardChannel.window
        for number in range(100):
            message = await cards.read()
            assert message.data == number.to_bytes(4, "big")
        await cards.write(CardMessage.READER_ADD, 0, b"name\0")
        for _ in range(50):
            await cards.write(CardMessage.APDU, 0, b"1234")
        await eventually(lambda: guest.reader.readable == 12 + 15 * 16)
        got = b""
        while len(got) < 12 + 50 * 16:
            got += guest.reader.read()
            await asyncio.sleep(0.001)
        reading = asyncio.create_task(cards.read())
        await asyncio.sleep(0)
    with pytest.raises(aiospice.AiospiceError):
        await reading
    with pytest.raises(aiospice.AiospiceError):
        await cards.write(CardMessage.APDU, 0, b"1234")
