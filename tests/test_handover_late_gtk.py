"""spice-gtk loses nothing where a hand-over doesn't go as it should.

It has to go before it can be handed over, on a line that is slow or cut.

It connects to the target anew then. What it had sent to the source is the guest's all the same:
bytes of a port, what was pasted, keys. And it gets all that the guest had sent. Or it is held by
sending it to the target, and the guest stays: what it said there comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
from tests.moving_stage import MovingStage, TwoStages, two_stages
from tests.serve_stage import ECHO

from aiospice.agent.events import ClipboardData, ClipboardGrabbed
from aiospice.errors import AiospiceError, LocalError
from aiospice.migration.link_source import HandoverFailed
from aiospice.migration.source import MoveCancelled, MoveReady
from aiospice.proof.delay import DelayedNetwork
from aiospice.proof.gtkclient import GtkClient
from aiospice.server.holding import NotHeld
from aiospice.server.leftover import LateLost
from aiospice.server.parting import LeftBehind

pytestmark = [pytest.mark.peers, pytest.mark.net]

TEXT = 1
#: One way, milliseconds: longer than the client is given for its connections.
DELAY, READY = 120, 0.3


#: Bytes that the client's kernel holds. What waits in spice-gtk's own queue is dropped where it
#: connects anew, and told as written (0.42, ``channel-base.c``: ``vmc_write_free_cb``).
ON_THE_WAY = 64 << 10


class Writer:
    """Numbered lines into the port, as fast as the line lets them, wherever it is."""

    def __init__(self, gtk: GtkClient, two: TwoStages) -> None:
        self.gtk, self.two = gtk, two
        self.lines: list[bytes] = []
        self.stopping = False
        self.task = asyncio.create_task(self.run())

    async def run(self) -> None:
        while not self.stopping:
            line = b"<%d>" % len(self.lines) + b"." * 700
            while self.on_the_way() > ON_THE_WAY and not self.stopping:
                await asyncio.sleep(0.004)
            with contextlib.suppress(AiospiceError):  # between two servers there is no port
                await self.gtk.do("port_write", name=ECHO, data=line)
                self.lines.append(line)
            await asyncio.sleep(0.004)

    def told(self) -> list[int]:
        """What the library says that it has written of each line."""
        return [event["size"] for event in self.gtk.events if event["event"] == "port-written"]

    def on_the_way(self) -> int:
        """Bytes that the guest hasn't got, but for lines that weren't sent."""
        failed = sum(
            len(line)
            for line, size in zip(self.lines, self.told(), strict=False)
            if size != len(line)
        )
        return sum(map(len, self.lines)) - failed - len(self.two.guest.port_heard)

    def sent(self) -> list[bytes]:
        """The lines that the library has sent."""
        told = self.told()
        return [line for line, size in zip(self.lines, told, strict=True) if size == len(line)]

    def all_told(self) -> bool:
        told = [event for event in self.gtk.events if event["event"] == "port-written"]
        return len(told) == len(self.lines)


async def at_last(gtk: GtkClient, net: DelayedNetwork, *, cut: bool) -> None:
    """What the user does while the guest is at neither server."""
    if cut:
        await net.partition(True)
    await gtk.do("key", code=0x1E, pressed=True)
    await gtk.do("clipboard_send", kind=TEXT, data=b"pasted at last")
    await gtk.do("key", code=0x1E, pressed=False)
    await gtk.do("key", code=0x20, pressed=True)
    if cut:
        await asyncio.sleep(1.5)
        await net.partition(False)


@pytest.mark.parametrize("line", ["slow", "cut"])
async def test_nothing_is_lost_when_spice_gtk_has_to_go_before_it_is_ready(line: str) -> None:
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(DelayedNetwork(DELAY, rate=400_000))
        making = two_stages(MovingStage, host=net.server_address, password="secret")
        two = await stack.enter_async_context(making)
        where: dict[str, Any] = {"port": two.port, "prefix": net.command(), "password": "secret"}
        gtk = await stack.enter_async_context(GtkClient(net.server_address, **where))
        await gtk.opened("main:0", "display:0", "inputs:0", "port:0")
        await gtk.wait("main", agent=True)
        await gtk.do("clipboard_grab", kinds=[TEXT])

        def told(kind: type[Any]) -> list[Any]:
            return [event for event in two.guest.agent_events if isinstance(event, kind)]

        await two.until(lambda _: told(ClipboardGrabbed), "the grab")
        two.guest.tell_agent(lambda agent: agent.request("text"))
        await gtk.wait("clipboard-request", kind=TEXT)
        writer = Writer(gtk, two)
        await two.until(lambda guest: len(guest.port_heard) > 30_000, "bytes of the port")
        tasks: list[asyncio.Task[None]] = []

        def stopped() -> None:
            tasks.append(asyncio.create_task(at_last(gtk, net, cut=line == "cut")))

        since = len(gtk.events)
        await two.move("direct", meanwhile=stopped, ready=READY)
        await tasks[0]
        await gtk.wait("port", name=ECHO, opened=True, since=since)
        await two.until(lambda guest: len(guest.port_heard) > 200_000, "bytes after it")
        writer.stopping = True
        await writer.task
        await gtk.until(writer.all_told, "all lines are sent")
        sent = b"".join(writer.sent())
        await two.until(lambda guest: len(guest.port_heard) >= len(sent), "all bytes")
        assert two.guest.port_heard == sent
        await gtk.until(lambda: len(gtk.all_data("port-data", name=ECHO)) >= len(sent), "the echo")
        assert gtk.all_data("port-data", name=ECHO) == sent
        await two.until(lambda _: told(ClipboardData), "what was pasted")
        assert told(ClipboardData)[-1].data == b"pasted at last"
        await two.until(lambda guest: len(guest.keys) >= 4, "keys")
        assert two.guest.keys == [(0x1E, True), (0x1E, False), (0x20, True), (0x20, False)]
        assert [(e.whole, e.anew, e.away) for e in two.events(MoveReady)] == [(0, 0, 1)]
        assert not two.events(LeftBehind)
        assert not two.events(LateLost)


class Refusing(MovingStage):
    """A guest that can't be taken up, a while after the clients were held."""

    def thaw(self, state: Any) -> None:
        raise LocalError("there is no room for it")


def happened(two: TwoStages, times: int, _: MovingStage) -> bool:
    """So many hand-overs have failed."""
    return len(two.events(HandoverFailed)) == len(two.events(MoveCancelled)) == times


async def test_a_hand_over_that_is_refused_after_spice_gtk_was_held_loses_nothing() -> None:
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(DelayedNetwork(20))
        making = two_stages(MovingStage, host=net.server_address, password="secret")
        two = await stack.enter_async_context(making)
        two.there.guest.__class__ = Refusing
        where: dict[str, Any] = {"port": two.port, "prefix": net.command(), "password": "secret"}
        gtk = await stack.enter_async_context(GtkClient(net.server_address, **where))
        await gtk.opened("main:0", "display:0", "inputs:0", "port:0")
        writer = Writer(gtk, two)
        presses: list[asyncio.Task[Any]] = []

        def stopped() -> None:
            presses.append(asyncio.create_task(gtk.do("key", code=0x1E, pressed=True)))

        two.here.guest.stopped = stopped
        for turn in range(1, 4):
            await two.until(lambda guest: len(guest.port_heard) > 9_000 * len(presses), "bytes")
            two.here.migrate(str(two.folder / "1.sock"), "hold")
            await two.until(partial(happened, two, turn), "its stay")
            await gtk.do("key", code=0x1E, pressed=False)
            await two.until(lambda _: two.here.handovers.leaving is None, "the end of it")
            assert len(presses) == turn
        writer.stopping = True
        await writer.task
        await gtk.until(writer.all_told, "all lines are sent")
        sent = b"".join(writer.lines)
        await two.until(lambda guest: len(guest.port_heard) >= len(sent), "all bytes")
        assert two.guest.port_heard == sent
        await gtk.until(lambda: len(gtk.all_data("port-data", name=ECHO)) >= len(sent), "the echo")
        assert gtk.all_data("port-data", name=ECHO) == sent
        await two.until(lambda guest: len(guest.keys) >= 6, "keys")
        assert two.guest.keys == [(0x1E, True), (0x1E, False)] * 3
        assert not two.events(LateLost)
        assert not two.events(NotHeld)
        assert gtk.find("disconnected") is None
