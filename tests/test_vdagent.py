"""The client's end of the agent's protocol against Debian's spice-vdagentd and spice-vdagent."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest
import pytest_asyncio

from aiospice.agent.client import AgentPhase, AgentReady, AgentReplied, ClientAgent
from aiospice.agent.events import ClipboardData, ClipboardGrabbed, ClipboardReleased
from aiospice.agent.transfers import TransferEnded, TransferPhase
from aiospice.errors import LocalError, SpiceTimeout, TransferFailed
from aiospice.events import Event
from aiospice.proof.vdagent import VdAgent
from aiospice.wire.agent import AgentCapability
from aiospice.wire.agent_stream import CLIENT_PORT, ChunkReader, pack_chunk

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

EventT = TypeVar("EventT", bound=Event)


def picture() -> bytes:
    """A PNG file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 2, 1, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" + bytes(6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


async def targets(guest: VdAgent, selection: str, wanted: bytes | None) -> None:
    """Wait until a selection can be had in some form, or has no owner (None)."""
    while True:
        try:
            # One that asks while the owner changes may never be answered: that is X's way.
            found = await guest.paste("TARGETS", selection, limit=2)
        except SpiceTimeout:
            continue
        except LocalError:
            found = b""
        if (wanted in found.split()) if wanted else not found:
            return


class Joint:
    """The client's end, joined to a real agent as a server joins them."""

    def __init__(self, guest: VdAgent) -> None:
        self.guest = guest
        self.core = ClientAgent()
        self.events: list[Event] = []
        self.longest = 0
        self._chunks = ChunkReader()
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while data := await self.guest.reader.read(65536):
            for port, piece in self._chunks.receive(data):
                assert port == CLIENT_PORT
                self.longest = max(self.longest, len(piece))
                self.core.receive(piece, 0.0)
            self.turn()

    def turn(self) -> None:
        """Send what is to be sent, and look what has happened."""
        while piece := self.core.pop(0.0):
            self.guest.writer.write(pack_chunk(CLIENT_PORT, piece))
        self.events += self.core.events()
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def sees(self, kind: type[EventT]) -> EventT:
        """The next event of that kind; those before it are forgotten."""
        await self.until(lambda: any(isinstance(event, kind) for event in self.events))
        while True:
            event = self.events.pop(0)
            if isinstance(event, kind):
                return event

    async def send(self, name: str, data: bytes) -> TransferEnded:
        transfer = self.core.send_file(name, len(data), 0.0)
        self.turn()
        while transfer.phase is not TransferPhase.ENDED:
            wanted = self.core.transfers.wanted(transfer)
            if wanted:
                self.core.transfers.feed(transfer, data[transfer.fed : transfer.fed + wanted], 0.0)
                self.turn()
                await self.guest.writer.drain()
            else:
                await self.until(
                    lambda: (
                        transfer.phase is TransferPhase.ENDED
                        or self.core.transfers.wanted(transfer)
                    )
                )
        return await self.sees(TransferEnded)

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


@pytest_asyncio.fixture
async def joint() -> AsyncIterator[Joint]:
    async with VdAgent() as guest:
        found = Joint(guest)
        found.core.connected()
        found.turn()
        await found.sees(AgentReady)
        yield found
        await found.close()


async def test_the_real_agent_tells_what_it_can(joint: Joint) -> None:
    for capability in (
        AgentCapability.CLIPBOARD_BY_DEMAND,
        AgentCapability.CLIPBOARD_SELECTION,
        AgentCapability.CLIPBOARD_GRAB_SERIAL,
        AgentCapability.MAX_CLIPBOARD,
    ):
        assert joint.core.can(capability)
    assert joint.core.phase is AgentPhase.READY
    joint.core.set_monitors([(800, 600, 0, 0)])
    joint.turn()
    assert await joint.sees(AgentReplied) == AgentReplied(message="monitors-config", success=True)


@pytest.mark.parametrize("selection", ["clipboard", "primary"])
async def test_what_is_copied_in_the_guest_is_got_byte_for_byte(
    joint: Joint, selection: str
) -> None:
    texts = ["grüße".encode(), b"a second one", b"line\nline\n" * 30_000]
    for text in texts:
        await joint.guest.copy(text, selection=selection)
        grabbed = await joint.sees(ClipboardGrabbed)
        assert (grabbed.selection, "text" in grabbed.forms) == (selection, True)
        joint.core.request("text", selection)
        joint.turn()
        assert (await joint.sees(ClipboardData)).data == text
    assert joint.longest > 2048  # the daemon's chunks are as long as its messages
    await joint.guest.end_owner(selection)
    assert (await joint.sees(ClipboardReleased)).selection == selection
    joint.core.request("text", selection)
    joint.turn()
    assert (await joint.sees(ClipboardData)).data is None


@pytest.mark.parametrize("selection", ["clipboard", "primary"])
async def test_what_is_offered_is_pasted_in_the_guest_byte_for_byte(
    joint: Joint, selection: str
) -> None:
    for text in ("grüße".encode(), b"a second one", b"line\nline\n" * 30_000):
        joint.core.clipboards.grab({"text": text, "png": picture()}, selection)
        joint.turn()
        await targets(joint.guest, selection, b"image/png")
        assert await joint.guest.paste(selection=selection) == text
        assert await joint.guest.paste("image/png", selection) == picture()
        joint.core.clipboards.release(selection)
        joint.turn()
        await targets(joint.guest, selection, None)


async def test_pictures_and_turns_of_the_owner(joint: Joint) -> None:
    await joint.guest.copy(picture(), "image/png")
    assert (await joint.sees(ClipboardGrabbed)).forms == ("png",)
    joint.core.request("png")
    joint.turn()
    assert (await joint.sees(ClipboardData)).data == picture()
    for turn in range(5):
        joint.core.clipboards.grab({"text": b"client %d" % turn})
        joint.turn()
        pasted = b""
        while pasted != b"client %d" % turn:
            with contextlib.suppress(LocalError, SpiceTimeout):
                pasted = await joint.guest.paste(limit=2)
        await joint.guest.copy(b"guest %d" % turn)
        await joint.sees(ClipboardGrabbed)
        joint.core.request()
        joint.turn()
        assert (await joint.sees(ClipboardData)).data == b"guest %d" % turn
        assert joint.core.clipboards.owned() == ()


@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_001])
async def test_a_file_arrives_byte_for_byte(joint: Joint, size: int) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    name = "größe = [1] # file.bin"
    for expected in (name, "größe = [1] # file (1).bin"):
        ended = await joint.send(name, data)
        assert (ended.error, ended.sent) == (None, size)
        assert (joint.guest.files / expected).read_bytes() == data


async def test_several_files_at_once_and_one_that_is_cancelled(joint: Joint) -> None:
    files = {f"file{i}": bytes([i]) * (200_000 + i) for i in range(5)}
    stopped = joint.core.send_file("never", 1 << 30, 0.0)
    joint.turn()
    await joint.until(lambda: joint.core.transfers.wanted(stopped))
    joint.core.transfers.feed(stopped, bytes(1000), 0.0)
    joint.turn()
    transfers = {name: joint.core.send_file(name, len(data), 0.0) for name, data in files.items()}
    while not all(t.phase is TransferPhase.ENDED for t in transfers.values()):
        for name, transfer in transfers.items():
            if wanted := joint.core.transfers.wanted(transfer):
                data = files[name][transfer.fed : transfer.fed + wanted]
                joint.core.transfers.feed(transfer, data, 0.0)
        joint.turn()
        await asyncio.sleep(0.01)
    assert all(transfer.error is None for transfer in transfers.values())
    for name, data in files.items():
        assert (joint.guest.files / name).read_bytes() == data
    joint.core.transfers.cancel(stopped)
    joint.turn()
    async with asyncio.timeout(20):
        while (joint.guest.files / "never").exists():
            await asyncio.sleep(0.02)


async def test_a_file_that_does_not_fit_is_refused_with_the_reason(joint: Joint) -> None:
    joint.core.send_file("huge", 1 << 60, 0.0)
    joint.turn()
    ended = await joint.sees(TransferEnded)
    assert isinstance(ended.error, TransferFailed)
    assert "not enough space" in str(ended.error)
    assert f"{1 << 60} bytes are needed" in str(ended.error)
