"""A hand-over, staged: a guest that never rests, two servers of ours or two QEMUs, one client.

The guest paints, echoes a port and writes numbers to another one without pause. What is seen of
the move is read from the capture of a `DelayedNetwork` (`aiospice.proof.handover_capture`), the
same way for ours and for QEMU::

    async with DelayedNetwork(25, pcap=path) as net:
        seen = await our_move(net, path, "carry")
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from aiospice.errors import SpiceTimeout
from aiospice.guests.echo import Echo
from aiospice.proof.gtkpeer import GtkPeer
from aiospice.proof.painter import Painter, painting_options
from aiospice.proof.pair import ServerPair
from aiospice.proof.qemu import ECHO_PORT, QemuPair
from aiospice.server.guest import Guest

if TYPE_CHECKING:
    from aiospice.proof.delay import DelayedNetwork
    from aiospice.server.guest import Host, HostDevice

__all__ = ["TALK_PORT", "Moved", "RestlessGuest", "our_move", "qemu_move"]

#: Name of the port that the guest writes to without pause.
TALK_PORT = "org.example.talk"
_SIZE, _BOX = (640, 480), 64
_BEAT = 0.002  # seconds between two pictures
#: Pictures for each number. TCP lets ten packets go on a new connection before the first is
#: acknowledged, so more of them would measure that.
_FOR_EACH = 5
_UNSENT = 4096
_WINDOW, _CHUNK, _EVERY = 2048, 16, 10  # bytes under way, bytes a write, ms between two
_BETWEEN = 512  # bytes of the stream before the move
_DRAIN = 3.0  # seconds
_GUEST = f"{__name__}:RestlessGuest"
_SETTLED = 0.5  # seconds that a guest has painted before it moves
_AFTER = 0.5  # seconds and ten trips that are watched behind the move


class RestlessGuest(Guest):
    """Numbers (8 bytes, high byte first) every 10 ms, a picture every 2 ms, and an echo."""

    name = "restless"

    def __init__(self) -> None:
        self.beats = self.number = 0
        self.unsent = bytearray()

    def attach(self, host: Host) -> None:
        """Make the devices and a screen."""
        self.host = host
        self.echo = Echo(host.port(ECHO_PORT))
        self.talk = host.port(TALK_PORT)
        self.echo.device.opened = self.talk.opened = True
        self.screen = host.display(0)
        self.screen.resize(*_SIZE)

    async def run(self) -> None:
        """Be restless, until the guest moves."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self.beat()
            due = max(due + _BEAT, loop.time())
            await asyncio.sleep(due - loop.time())

    def beat(self) -> None:
        """Another picture, and now and then one number more."""
        self.beats += 1
        if self.beats % _FOR_EACH == 0 and len(self.unsent) < _UNSENT:
            self.unsent += self.number.to_bytes(8, "big")
            self.number += 1
        self.flush()
        self.screen.fill(0, 0, _BOX, _BOX, self.beats * 0x010305 & 0xFFFFFF)

    def flush(self) -> None:
        """Write what is to be written, as far as it is taken."""
        del self.unsent[: self.talk.write(bytes(self.unsent))]

    def device_readable(self, device: HostDevice) -> None:
        """Echo it."""
        self.echo.pump()

    def device_writable(self, device: HostDevice) -> None:
        """Go on, as a UART does: not only with the next number."""
        self.echo.pump()
        if self.unsent:
            self.flush()

    def freeze(self) -> Any:
        """What it remembers."""
        return self.beats, self.number, bytes(self.unsent), bytes(self.echo.held)

    def thaw(self, state: Any) -> None:
        """Go on with that."""
        self.beats, self.number, unsent, held = state
        self.unsent[:], self.echo.held[:] = unsent, held


class Moved(NamedTuple):
    """One move: what the client tells of its stream, and when things happened (since 1970)."""

    stopped: float  #: the guest stood still
    ended: float  #: the source was told that the machine has moved; 0.0: it isn't known
    wrong: int  #: bytes of the echo that came wrong, or never
    reopened: int  #: channels that were lost and made anew


async def our_move(net: DelayedNetwork, policy: str) -> Moved:
    """Move the guest and spice-gtk from one server process to another."""
    host, password = net.server_address, secrets.token_hex(8)
    guest = _GUEST
    async with (
        ServerPair(guest, host=host, password=password) as pair,
        _streaming(net, pair.source.port, password) as peer,
    ):
        told = await pair.move(policy)
        return await peer.finish(told.stopped, told.running)


async def qemu_move(net: DelayedNetwork, *, talk: bool) -> Moved:
    """Move a painting QEMU and spice-gtk; ``talk``: its port is written to instead of echoed."""
    async with (
        QemuPair(painting_options(address=net.server_address)) as pair,
        _streaming(net, pair.source.port, "", stream=not talk) as peer,
    ):
        async with Painter(pair.source) as painter:
            await painter.do("every 1 tell 0" if talk else "every 1 fill 0 0 64 64 0")
        await asyncio.sleep(_SETTLED)
        move = await pair.migrate(peer.arrived_at(pair))
        return await peer.finish(move.stopped, 0.0)


class _streaming:
    """spice-gtk as client with a stream through the echo port, at the far end of ``net``."""

    def __init__(
        self, net: DelayedNetwork, port: int, password: str, *, stream: bool = True
    ) -> None:
        self._net, self._stream = net, stream
        self._peer = GtkPeer(
            net.server_address,
            port=port,
            password=password or None,
            port_name=ECHO_PORT,
            prefix=net.command(),
        )

    async def __aenter__(self) -> _streaming:
        await self._peer.__aenter__()
        await self._peer.wait("port-open", name=ECHO_PORT)
        await self._peer.wait("surface")
        if self._stream:
            await self._peer.start_stream(window=_WINDOW, chunk=_CHUNK, every=_EVERY)
            await self._peer.wait("first-byte")
            while (await self._peer.report())["received"] < _BETWEEN:
                await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._peer.__aexit__(*error)

    def arrived_at(self, pair: QemuPair) -> Any:
        """Waits until QEMU's client is at the target, and QEMU knows."""

        async def ready() -> None:
            await pair.client_arrived(settle=1.0)

        return ready

    async def finish(self, stopped: float, ended: float) -> Moved:
        """Watch a little longer, and end the client."""
        await asyncio.sleep(_AFTER + 10 * self._net.delay_ms / 1e3)
        if self._stream:
            with suppress(SpiceTimeout):
                await self._peer.drain(timeout=_DRAIN)
        report = await self._peer.quit()
        wrong = report["sent"] - report["received"] + report["wrong"] + report["dropped"]
        events = self._peer.events
        anew = [each for each in events if each["event"] == "channel-new" and each["t"] > stopped]
        return Moved(stopped, ended, wrong if self._stream else 0, len(anew))
