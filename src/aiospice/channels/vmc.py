"""Character devices, client end: usbredir, port and webdav channels as streams of bytes.

What is known to have reached the guest
---------------------------------------
Upstream's servers don't acknowledge what a guest has read. Two facts bound what can be lost when
a hand-over falls back to an ordinary reconnect (``server/spicevmc.cpp``, ``char-device.cpp``):

* the record of a seamless hand-over says how many bytes the guest had not read at that moment, so
  all before them have been read;
* the server holds at most 128 messages of the client, and reads no more from the socket then; the
  rest sits in the two kernels' socket buffers, `KERNEL_BYTES` at most with Linux's default limits
  (``tcp_wmem`` 4 MiB, ``tcp_rmem`` 6 MiB).

`VmcChannel.bytes_at_risk` is the smaller of what the two give. A server with tokens
(`aiospice.channels.tokens`) says what has been read as it gives them back.
"""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from aiospice.channels.base import Key
from aiospice.channels.compressed import uncompress
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.scan import bodies, scan
from aiospice.channels.tokens import FlowChannel
from aiospice.errors import RemoteProtocolError, StateError
from aiospice.wire import vmc
from aiospice.wire.handover import queued_bytes
from aiospice.wire.header import MINI

__all__ = [
    "DeviceData",
    "PortChannel",
    "PortOpened",
    "PortStateChanged",
    "VmcChannel",
]

#: Bytes of one DATA message of ours, at most. A hand-over waits for the message that has begun.
CHUNK_BYTES = 16 << 10
#: A message that waits for a token grows until it has so many bytes: each time copies it.
GROWS_TO = 4096
#: ``SPICEVMC`` self tokens (spice-server ``server/spicevmc.cpp``): client messages it holds.
SERVER_MESSAGES = 128
_DATA_ONLY = bytes(number == vmc.Data.number for number in range(vmc.Data.number + 1))
#: Socket buffers of both hosts at Linux's default limits.
KERNEL_BYTES = 10 << 20


class DeviceData(Event):
    """Bytes from the guest's device."""

    key: tuple[int, int]
    data: bytes


class PortOpened(Event):
    """A port channel told its name, and whether the guest has it open."""

    key: tuple[int, int]
    channel: str
    name: str
    opened: bool


class PortStateChanged(Event):
    """The guest opened or closed a port, or sent a break."""

    key: tuple[int, int]
    channel: str
    #: ``opened``, ``closed`` or ``break``.
    state: str


class VmcChannel(FlowChannel):
    """A character device: `write` bytes, get `DeviceData`, say how much was `consumed`."""

    handlers: ClassVar[dict[int, str]] = {
        vmc.Data.number: "_on_data",
        vmc.CompressedData.number: "_on_compressed_data",
        vmc.Tokens.number: "_on_tokens",
    }

    def __init__(self, key: Key, framing: Framing, server_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, server_caps)
        self.received_bytes = 0
        self.sent_bytes = 0
        #: Bytes given to servers since all before them are known to have reached the guest.
        self._unproved = 0
        #: Sizes of the last messages given.
        self._last: deque[int] = deque(maxlen=SERVER_MESSAGES)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue bytes for the guest."""
        view = memoryview(data).cast("B")
        view = view[self._grow(view) :]
        for start in range(0, len(view), CHUNK_BYTES):
            self.send(vmc.ClientData(data=bytes(view[start : start + CHUNK_BYTES])))

    def _grow(self, view: memoryview) -> int:
        """Add bytes to the message that waits last, so that many small ones take one token."""
        if self.flow is None or not self._queue:
            return 0
        number, body = self._queue[-1]
        if number != vmc.ClientData.number or len(body) >= GROWS_TO:
            return 0
        more = view[: CHUNK_BYTES - len(body)]
        self._queue[-1] = (number, body + more)
        self.queued_bytes += len(more)
        return len(more)

    @property
    def bytes_at_risk(self) -> int:
        """At most so many of the bytes that have left aren't known to have reached the guest."""
        if self.flow is not None:
            return min(self._unproved, sum(self.flow.sent))
        return min(self._unproved, sum(self._last) + KERNEL_BYTES)

    def _left(self, number: int, body: bytes) -> None:
        super()._left(number, body)
        if number == vmc.ClientData.number:
            self.sent_bytes += len(body)
            self._unproved += len(body)
            self._last.append(len(body))

    def _resumed(self, size: int) -> None:
        self.sent_bytes -= size
        self._unproved = 0
        self._last.clear()

    def _take_run(self) -> bool:
        """Join the bytes of many small messages: a slow device sends one for each byte."""
        framing = self.framing
        if not framing.mini:  # the serial is in each header then
            return False
        end, count = scan(framing.buffer, framing.start, _DATA_ONLY, framing.limit)
        if count < 2:
            return False
        if self.flow is not None:
            for size in _sizes(framing.buffer, framing.start, end):
                self.flow.came(size, size)
        data = bodies(framing.buffer, framing.start, end, count)
        framing.taken(end)
        self._counted(0, count)
        self._deliver(data)
        return True

    def _on_data(self, message: vmc.Data) -> None:
        self._came(message.data)

    def _on_compressed_data(self, message: vmc.CompressedData) -> None:
        self._came(uncompress(message))

    def _came(self, data: bytes) -> None:
        if self.flow is not None:
            self.flow.came(len(data), len(data))
        self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if data:
            self._events.append(DeviceData(key=self.key, data=data))

    def switch(self, framing: Framing, server_caps: tuple[int, ...]) -> None:
        """Go on with the target; the record tells what the guest has read until then."""
        waiting = queued_bytes(self.migrate_data) if self.migrate_data is not None else None
        if waiting is not None and waiting <= self._unproved:
            self._unproved = waiting
            self._last.clear()
            self._last.append(waiting)
        super().switch(framing, server_caps)

    def restart(self, framing: Framing, server_caps: tuple[int, ...]) -> list[Event]:
        """Begin anew; what was at risk is lost or delivered, nobody can tell."""
        self._unproved = 0
        self._last.clear()
        return super().restart(framing, server_caps)


class PortChannel(VmcChannel):
    """A named port (also webdav): data leaves only while the guest has it open."""

    handlers: ClassVar[dict[int, str]] = {
        **VmcChannel.handlers,
        vmc.PortInit.number: "_on_port_init",
        vmc.PortEvent.number: "_on_port_event",
    }

    def __init__(self, key: Key, framing: Framing, server_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, server_caps)
        self.port_name: str | None = None
        self.gate_open = False

    @property
    def opened(self) -> bool:
        """Whether the guest has the port open."""
        return self.gate_open

    def send_break(self) -> None:
        """Send a serial break; `StateError` while the guest has the port closed."""
        if not self.gate_open:
            raise StateError(f"{self.name}: the guest hasn't opened the port")
        self.send(vmc.ClientPortEvent(event=vmc.PortEvents.BREAK))

    def _on_port_init(self, message: vmc.PortInit) -> None:
        name = message.name.decode("utf-8", "replace")
        if self.port_name is not None and name != self.port_name:
            raise RemoteProtocolError(
                f"the port was {self.port_name!r} and is now {name!r}: source and target "
                f"have their devices in different order",
                message="PortInit",
            )
        again = self.port_name is not None and self.gate_open == bool(message.opened)
        self.port_name = name
        self.gate_open = bool(message.opened)
        if not again:  # upstream's target repeats it after a seamless hand-over
            self._events.append(
                PortOpened(key=self.key, channel=self.name, name=name, opened=self.gate_open)
            )

    def _on_port_event(self, message: vmc.PortEvent) -> None:
        if message.event == vmc.PortEvents.BREAK:
            state = "break"
        elif message.event in (vmc.PortEvents.OPENED, vmc.PortEvents.CLOSED):
            self.gate_open = message.event == vmc.PortEvents.OPENED
            state = "opened" if self.gate_open else "closed"
        else:
            self._ignored("PortEvent", f"event {message.event} isn't known", message.body())
            return
        self._events.append(PortStateChanged(key=self.key, channel=self.name, state=state))

    def restart(self, framing: Framing, server_caps: tuple[int, ...]) -> list[Event]:
        """Begin anew: data waits until the new server says that the port is open."""
        self.gate_open = False
        return super().restart(framing, server_caps)


def _sizes(buffer: bytes | bytearray | memoryview, start: int, end: int) -> list[int]:
    """The sizes of the bodies of messages with mini headers."""
    found = []
    while start < end:
        size: int = MINI.unpack_from(buffer, start)[1]
        found.append(size)
        start += MINI.size + size
    return found
