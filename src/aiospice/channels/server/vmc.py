"""Character devices, server end: usbredir, port and webdav channels.

Data waits here as it is and is compressed when it leaves, so what a client that is gone wasn't
handed can go to the next (`VmcServer.unsent`).
"""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from aiospice.channels.base import Key
from aiospice.channels.compressed import uncompress
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.server.base import ServerChannel
from aiospice.errors import RemoteProtocolError
from aiospice.wire import vmc
from aiospice.wire.caps import VmcCap, has
from aiospice.wire.channels import CHANNEL_LIMITS
from aiospice.wire.header import pack_header
from aiospice.wire.tokens import LEAST_MESSAGE, TOKENS, Tokens

__all__ = [
    "COMPRESS_FROM",
    "DeviceServer",
    "DeviceTokens",
    "DeviceWritten",
    "PortServer",
    "PortSignalled",
    "VmcServer",
]

#: Data of so many bytes is worth compressing (``COMPRESS_THRESHOLD`` of spice-server 1000).
COMPRESS_FROM = 1001
_DATA = vmc.Data.number


class DeviceWritten(Event):
    """Bytes of one message of the client for the guest's device."""

    data: bytes


class DeviceTokens(Event):
    """The client takes so many more messages, each with ``size`` bytes of data at most."""

    count: int
    size: int


class PortSignalled(Event):
    """The client has opened or closed the port, or sends a break (`vmc.PortEvents`)."""

    key: tuple[int, int]
    event: int


class DeviceServer(ServerChannel):
    """What the channels of all devices have in common: tokens, and how much is read.

    A client with tokens (`flow_control`) is told its own by `give`; of one without, only so many
    messages of data are read as `allow` says.
    """

    #: Number of the server's message of data.
    data_number: ClassVar[int] = _DATA
    #: The least that a client has to take in one message.
    least_size: ClassVar[int] = LEAST_MESSAGE
    #: The largest body that a client with tokens may send: its data is smaller still.
    flow_limit: ClassVar[int] = 4 * LEAST_MESSAGE

    def __init__(self, key: Key, framing: Framing, client_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, client_caps)
        self.flow_control = has(client_caps, TOKENS)
        if self.flow_control:
            framing.limit = min(framing.limit, self.flow_limit)
        #: Messages of data that may still be read, and bytes in them.
        self.allowed = self.allowed_bytes = 0
        #: Data that was taken last: the end of each message, counted in bytes of the connection.
        self._leaving: deque[tuple[int, bytes]] = deque()
        self.taken_bytes = 0

    def allow(self, messages: int, size: int) -> None:
        """So many messages of data, and bytes in them, may be read; the session reads on then."""
        self.allowed, self.allowed_bytes = messages, size
        self.reading_paused = messages <= 0 and not self.flow_control

    def give(self, count: int, size: int) -> None:
        """The client may send ``count`` more messages of at most ``size`` bytes of data."""
        self.send(Tokens(count=count, message_size=size))

    def _read_one(self, size: int) -> None:
        """A message with so many bytes of data has been read."""
        self.allowed -= 1
        self.allowed_bytes -= size
        if self.allowed <= 0 or self.allowed_bytes <= 0:
            self.reading_paused = not self.flow_control

    def _on_tokens(self, message: vmc.ClientTokens) -> None:
        if not self.flow_control:
            raise RemoteProtocolError("came without the capability")
        if message.message_size < self.least_size:
            raise RemoteProtocolError(
                f"takes messages of {message.message_size} bytes only, {self.least_size} is the "
                f"least"
            )
        self._events.append(DeviceTokens(count=message.count, size=message.message_size))

    # -- out -----------------------------------------------------------------------------------

    def send_data(self, data: bytes) -> None:
        """Queue data of the guest."""
        self.send_body(self.data_number, data)

    def take(self) -> bytes:
        """The next messages with their headers, b"" if there are none."""
        if not self.wants_to_send:
            return b""
        self._leaving.clear()
        parts: list[bytes] = []
        size = 0
        while self._queue and (size < self.together or not parts):
            number, body = self._queue.popleft()
            self.queued_bytes -= len(body)
            self.serial += 1
            data = body if number == self.data_number else None
            if data is not None:
                number, body = self._pack(data)
            header = pack_header(self.framing.mini, self.serial, number, len(body))
            parts += (header, body)
            size += len(header) + len(body)
            if data is not None:
                self._leaving.append((self.taken_bytes + size, data))
        if not self._queue:
            self._asked = 0
        self.taken_bytes += size
        return b"".join(parts)

    def _pack(self, data: bytes) -> tuple[int, bytes]:
        """Number and body of a message with this data."""
        return self.data_number, data

    def unsent(self, unwritten: int = 0) -> list[bytes]:
        """The data that hasn't reached the socket, oldest first; it isn't sent any more.

        ``unwritten``: how many bytes of what `take` gave last the kernel hasn't taken; a message
        that reached it in part can't be read by the client, so it counts as unsent.
        """
        written = self.taken_bytes - unwritten
        found = [data for end, data in self._leaving if end > written]
        found += [body for number, body in self._queue if number == self.data_number]
        self._leaving.clear()
        self._queue = deque(item for item in self._queue if item[0] != self.data_number)
        self.queued_bytes = sum(len(body) for _, body in self._queue)
        return found


class VmcServer(DeviceServer):
    """A device that is a stream of bytes. ``compresses``: data may leave compressed."""

    handlers: ClassVar[dict[int, str]] = {
        vmc.ClientData.number: "_on_data",
        vmc.ClientCompressedData.number: "_on_compressed_data",
        vmc.ClientTokens.number: "_on_tokens",
    }
    limit: ClassVar[int] = CHANNEL_LIMITS[10]

    def __init__(
        self,
        key: Key,
        framing: Framing,
        client_caps: tuple[int, ...] = (),
        *,
        compresses: bool = True,
    ) -> None:
        super().__init__(key, framing, client_caps)
        self.compresses = compresses and has(client_caps, VmcCap.DATA_COMPRESS_LZ4)

    def _pack(self, data: bytes) -> tuple[int, bytes]:
        if not self.compresses or len(data) < COMPRESS_FROM:
            return _DATA, data
        from lz4.block import compress

        packed = compress(data, store_size=False)
        if len(packed) >= len(data):
            return _DATA, data
        message = vmc.CompressedData(
            type=vmc.Compression.LZ4, uncompressed_size=len(data), data=packed
        )
        return message.number, message.body()

    def _on_data(self, message: vmc.ClientData) -> None:
        self._read(message.data)

    def _on_compressed_data(self, message: vmc.ClientCompressedData) -> None:
        self._read(uncompress(message))

    def _read(self, data: bytes) -> None:
        self._read_one(len(data))
        self._events.append(DeviceWritten(data=data))


class PortServer(VmcServer):
    """A named port (also webdav); its first message says how it is called."""

    handlers: ClassVar[dict[int, str]] = {
        **VmcServer.handlers,
        vmc.ClientPortEvent.number: "_on_port_event",
    }

    def begin(self, name: str, opened: bool) -> None:
        """Tell the port's name, and whether the guest has it open."""
        self.send(vmc.PortInit(name=name.encode(), opened=int(opened)))

    def state(self, event: int) -> None:
        """The guest opened or closed the port, or sent a break (`vmc.PortEvents`)."""
        self.send(vmc.PortEvent(event=event))

    def _on_port_event(self, message: vmc.ClientPortEvent) -> None:
        self._events.append(PortSignalled(key=self.key, event=message.event))
