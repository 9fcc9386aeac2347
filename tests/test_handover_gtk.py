"""spice-gtk's library moves between two servers of ours, unmodified, and notices nothing.

A guest draws, echoes a port, copies, pastes and takes files while it moves; keys are held down
across each move. Everything has to be exact, on the channels that were there at the beginning.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.moving_stage import POLICIES, MovingStage, TwoStages, two_stages
from tests.serve_stage import ECHO, SCENES, photo

from aiospice.agent.events import ClipboardData, ClipboardGrabbed
from aiospice.agent.guest_events import ClientAnnounced
from aiospice.proof.certificates import make_certificates
from aiospice.proof.gtkclient import GtkClient
from aiospice.proof.stream import EchoCheck, numbers

pytestmark = pytest.mark.peers

#: Every channel that the guest has for spice-gtk.
CHANNELS = {"main:0", "display:0", "inputs:0", "cursor:0", "playback:0", "record:0", "port:0"}
TEXT = 1
#: Bytes of the stream that are on their way at most.
WINDOW = 64 << 10
#: Images as they are: what is shown can be compared at any moment.
STILL = {"lossy": "never", "video": "never"}


class GtkStream:
    """Numbers through the echoing port, without a pause, until `stop`."""

    def __init__(self, gtk: GtkClient) -> None:
        self.gtk = gtk
        self.check = EchoCheck()
        self.sent = 0
        self._seen = 0
        self._stopping = False
        self._task = asyncio.create_task(self._run())

    def _read(self) -> int:
        """Look at what has come back; gives how far it has come."""
        events = self.gtk.events
        for event in events[self._seen :]:
            if event["event"] == "port-data" and event["name"] == ECHO:
                self.check.feed(event["data"], self.sent)
        self._seen = len(events)
        return self.check.reached

    async def _run(self) -> None:
        chance = np.random.default_rng(11)
        while not self._stopping:
            size = int(chance.integers(1, 9000))
            await self.gtk.do("port_write", name=ECHO, data=numbers(self.sent, size))
            self.sent += size
            while self.sent - self._read() > WINDOW:
                await asyncio.sleep(0.002)
            await asyncio.sleep(0.002)

    @property
    def under_way(self) -> int:
        """Bytes that haven't come back."""
        return self.sent - self._read()

    async def stop(self) -> None:
        """End it, and check that each byte came back once and in order."""
        self._stopping = True
        await self._task
        await self.gtk.until(lambda: self._read() >= self.sent, f"{self.sent} bytes of the echo")
        assert self.check.finish(self.sent) == 0
        assert (self.check.repeated, self.check.out_of_order) == (0, 0)


class Desk:
    """What a user does over a move: copies, pastes, sends files, holds a key."""

    def __init__(self, two: TwoStages, gtk: GtkClient, folder: Path) -> None:
        self.two, self.gtk, self.folder = two, gtk, folder
        self.chance = np.random.default_rng(12)
        self.files: dict[str, bytes] = {}
        #: In how many moves a file, a paste, bytes of the stream were on their way.
        self.busy = [0, 0, 0]
        self.keys: list[tuple[int, bool]] = []

    def look(self, stream: GtkStream, paste: asyncio.Task[None]) -> None:
        """The guest stands still: what is on its way?"""
        under_way = (
            len(self.two.guest.files) < len(self.files),
            not paste.done(),
            stream.under_way,
        )
        self.busy = [count + bool(now) for count, now in zip(self.busy, under_way, strict=True)]

    def text(self) -> bytes:
        """Text of some hundred kilobytes, another each time."""
        letters = self.chance.integers(32, 127, 200_000, np.uint8)
        return letters.tobytes()

    def events(self, kind: type[Any]) -> list[Any]:
        """What the guest's agent was told of a kind."""
        return [event for event in self.two.guest.agent_events if isinstance(event, kind)]

    async def send_file(self, turn: int) -> None:
        """Begin to send a file."""
        name, data = f"file {turn}", self.chance.bytes(600_000)
        self.files[name] = data
        (self.folder / name).write_bytes(data)
        await self.gtk.do("send_files", paths=[str(self.folder / name)])

    async def copy_in_guest(self) -> Any:
        """Begin to paste here what was copied there; await what this gives for the end."""
        data, since = self.text(), len(self.gtk.events)
        self.two.guest.tell_agent(lambda agent: agent.clipboards.grab({"text": data}))
        await self.gtk.wait("clipboard-grab", kinds=[TEXT], since=since)
        await self.gtk.do("clipboard_request", kind=TEXT)

        async def pasted() -> None:
            got = await self.gtk.wait("clipboard", kind=TEXT, since=since)
            assert got["data"] == data

        return pasted()

    async def copy_in_client(self) -> Any:
        """Begin to paste there what was copied here."""
        data, since = self.text(), len(self.gtk.events)
        grabs, pastes = len(self.events(ClipboardGrabbed)), len(self.events(ClipboardData))
        await self.gtk.do("clipboard_grab", kinds=[TEXT])
        await self.two.until(lambda _: len(self.events(ClipboardGrabbed)) > grabs, "the grab")
        self.two.guest.tell_agent(lambda agent: agent.request("text"))
        await self.gtk.wait("clipboard-request", kind=TEXT, since=since)
        await self.gtk.do("clipboard_send", kind=TEXT, data=data)

        async def pasted() -> None:
            await self.two.until(lambda _: len(self.events(ClipboardData)) > pastes, "the text")
            assert self.events(ClipboardData)[-1].data == data

        return pasted()

    async def key(self, code: int, pressed: bool) -> None:
        """Press a key, or let it up."""
        await self.gtk.do("key", code=code, pressed=pressed)
        self.keys.append((code, pressed))


def draw(guest: MovingStage, step: int) -> None:
    """Another screen: the next scene, and what no scene has."""
    scene = SCENES[step % (len(SCENES) - 1)]  # the last one is another size
    getattr(guest, f"scene_{scene}")()
    if scene == "again":
        guest.glasses.clear()
    guest.put(7 * step % 500, 5 * step % 400, photo(60, 50, step))


async def moves(policy: str, count: int, folder: Path, *, tls: bool = False) -> None:
    """Move so often while everything goes on; ``tls``: with a ticket, too."""
    options: dict[str, Any] = dict(STILL)
    if tls:
        pki = make_certificates(folder / "pki")
        options |= {"certificate": pki.certificate_file, "key": pki.key_file, "password": "secret"}
        options |= {"port": None, "tls_port": 0, "secure_channels": "all"}
    async with AsyncExitStack() as stack:
        making = two_stages(lambda: MovingStage(record=True), **options)
        two = await stack.enter_async_context(making)
        where: dict[str, Any] = {"port": two.port} if not tls else {}
        if tls:
            where = {"tls_port": two.tls_port, "ca_file": pki.ca_file, "password": "secret"}
        gtk = await stack.enter_async_context(GtkClient("127.0.0.1", **where))
        await gtk.opened(*CHANNELS)
        await gtk.wait("port", name=ECHO, opened=True)
        await gtk.wait("main", agent=True)
        desk, stream = Desk(two, gtk, folder), GtkStream(gtk)
        await two.until(lambda _: desk.events(ClientAnnounced), "the client's capabilities")
        for turn in range(count):
            draw(two.guest, 2 * turn)
            await gtk.shows(two.guest.truth)
            draw(two.guest, 2 * turn + 1)
            pasted = await (desk.copy_in_client() if turn % 2 else desk.copy_in_guest())
            await desk.send_file(turn)
            await desk.key(0x10 + turn % 8, True)
            paste = asyncio.create_task(pasted)
            await two.move(policy, meanwhile=partial(desk.look, stream, paste))
            await desk.key(0x10 + turn % 8, False)
            await gtk.shows(two.guest.truth)
            await paste
        await stream.stop()
        assert two.guest.port_heard == numbers(0, stream.sent)
        await two.until(lambda guest: guest.files.keys() == desk.files.keys(), "all files")
        assert two.guest.files == desk.files
        await two.until(lambda guest: len(guest.keys) >= len(desk.keys), f"{desk.keys}")
        assert two.guest.keys == desk.keys
        nothing_noticed(two, gtk)
        two.all_went_whole()
        assert any(desk.busy)
        print(f"\n{policy}: {count} moves, busy {desk.busy}, {stream.sent} bytes echoed")


def nothing_noticed(two: TwoStages, gtk: GtkClient) -> None:
    """Channels are those of the beginning, at the client; each was linked once a move."""
    told = [event for event in gtk.events if event["event"].startswith("channel")]
    assert {event["event"] for event in told} == {"channel-new", "channel-event"}
    happened = [(e["channel"], e["what"]) for e in told if e["event"] == "channel-event"]
    assert sorted(happened) == sorted((channel, "opened") for channel in CHANNELS)
    assert gtk.find("disconnected") is None
    states = [event["what"] for event in gtk.events if event["event"] == "migration"]
    assert states == ["migrating", "none"] * two.moves
    assert sorted(two.links()) == sorted([*CHANNELS] * (two.moves + 1))
    assert gtk.complaints() == []


@pytest.mark.parametrize("policy", POLICIES)
async def test_spice_gtk_notices_nothing_of_five_moves(policy: str, tmp_path: Path) -> None:
    await moves(policy, 5, tmp_path)


async def test_spice_gtk_notices_nothing_over_tls(tmp_path: Path) -> None:
    await moves("direct", 3, tmp_path, tls=True)


@pytest.mark.parametrize("policy", ["carry-early", "direct"])
async def test_two_clients_move_at_once(policy: str) -> None:
    options: dict[str, Any] = {"on_second_client": "share", **STILL}
    async with AsyncExitStack() as stack:
        two = await stack.enter_async_context(two_stages(**options))
        both: dict[int, GtkClient] = {}
        for code in (0x10, 0x20):
            gtk = await stack.enter_async_context(GtkClient("127.0.0.1", port=two.port))
            await gtk.opened("main:0", "display:0", "inputs:0", "cursor:0")
            if not both:  # the port is for one: the other isn't offered it then
                await gtk.opened("port:0")
            both[code] = gtk
        for turn in range(2):
            draw(two.guest, 2 * turn)
            for code, gtk in both.items():
                await gtk.do("key", code=code, pressed=True)
            await two.move(policy)
            for code, gtk in both.items():
                await gtk.do("key", code=code, pressed=False)
            draw(two.guest, 2 * turn + 1)
            for gtk in both.values():
                await gtk.shows(two.guest.truth)
                assert gtk.complaints() == []
        await two.until(lambda guest: len(guest.keys) >= 8, "all keys")
        for code in both:
            own = [pressed for key, pressed in two.guest.keys if key == code]
            assert own == [True, False] * 2
        two.all_went_whole(2)


@pytest.mark.soak
@pytest.mark.parametrize("policy", POLICIES)
async def test_spice_gtk_notices_nothing_of_fifty_moves(policy: str, tmp_path: Path) -> None:
    await moves(policy, 50, tmp_path)
