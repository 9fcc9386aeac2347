"""What a real server's display sends, kept as it was, to be played to clients (`proof.replay`).

`record` is a client that decodes nothing: it links, says what is necessary, acknowledges and keeps
the messages. So it is never what a server waits for::

    recording = await record(qemu.port, seconds=3)
    recording.save(Path("ui-quic.recording"))
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
import zlib
from array import array
from typing import TYPE_CHECKING, NamedTuple, Self

from aiospice.aio.crypto import Crypto
from aiospice.channels.framing import Framing
from aiospice.channels.scan import scan
from aiospice.errors import ConnectError, LinkFailed, LocalError, RemoteProtocolError, SpiceTimeout
from aiospice.link.client import LinkClient, LinkPhase
from aiospice.wire import common, display, main
from aiospice.wire.caps import DisplayCap
from aiospice.wire.channels import channel_name
from aiospice.wire.header import MINI
from aiospice.wire.images import ImageCompression

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from aiospice.wire.message import Message

__all__ = ["Conversation", "Recording", "linked", "message_starts", "record"]

#: What the recorder says that it can: everything that draws, and no video but plain MJPEG.
CAPS = (
    DisplayCap.SIZED_STREAM,
    DisplayCap.MONITORS_CONFIG,
    DisplayCap.COMPOSITE,
    DisplayCap.A8_SURFACE,
    DisplayCap.LZ4_COMPRESSION,
    DisplayCap.PREF_COMPRESSION,
)
#: Cache that upstream's client offers (spice-gtk ``src/channel-display.c``), and the smallest GLZ
#: window of the clients that a recording is for: ryll's. In pixels.
PIXMAP_CACHE_PIXELS, GLZ_WINDOW_PIXELS = 20 << 20, 3 << 20
#: Messages up to this number belong to a connection and aren't kept.
_BASE_LAST = 100
#: A recording ends here whatever it was asked for.
_MOST_BYTES = 256 << 20
_MAIN, _DISPLAY, _CURSOR = (1, 0), (2, 0), (4, 0)
_MAGIC = b"aiospice recording 1\n"
_TIME = struct.Struct("<dQ")


class Recording(NamedTuple):
    """Messages of a display channel and a cursor channel, with mini headers, one after another."""

    display: bytes
    cursor: bytes
    #: When how much of ``display`` was there: seconds from the first message on, bytes.
    times: tuple[tuple[float, int], ...]
    #: Words of the server's capabilities on the display channel.
    caps: tuple[int, ...]
    #: What the server asked for in SET_ACK, 0 for nothing.
    window: int
    #: Messages of a connection's own (PING and so on) that were left out, by number.
    left_out: dict[int, int]

    @property
    def starts(self) -> array[int]:
        """Where each message of ``display`` begins, and the end of the last one."""
        return message_starts(self.display)

    def count(self, number: int) -> int:
        """How many messages of ``display`` have that number."""
        data, places = self.display, self.starts
        return sum(data[at] | data[at + 1] << 8 == number for at in places[:-1])

    def save(self, path: Path) -> None:
        """Write it to a file."""
        head = {
            "display": len(self.display),
            "cursor": len(self.cursor),
            "times": len(self.times),
            "caps": self.caps,
            "window": self.window,
            "left_out": self.left_out,
        }
        times = b"".join(_TIME.pack(*when) for when in self.times)
        body = zlib.compress(self.display + self.cursor + times, 1)
        path.write_bytes(_MAGIC + json.dumps(head).encode() + b"\n" + body)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of `save`; `LocalError` if it is something else."""
        data = path.read_bytes()
        try:
            if not data.startswith(_MAGIC):
                raise ValueError("it doesn't begin like one")
            end = data.index(b"\n", len(_MAGIC))
            head = json.loads(data[len(_MAGIC) : end])
            body = zlib.decompress(data[end + 1 :])
            cursor, times = head["display"], head["display"] + head["cursor"]
            return cls(
                display=body[:cursor],
                cursor=body[cursor:times],
                times=tuple(_TIME.iter_unpack(body[times:])),
                caps=tuple(head["caps"]),
                window=head["window"],
                left_out={int(number): count for number, count in head["left_out"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError, struct.error, zlib.error) as error:
            raise LocalError(f"{path} isn't a recording: {error}") from None


def message_starts(data: bytes) -> array[int]:
    """Where each message of a run with mini headers begins, and the end of the last one."""
    places = array("Q", [0])
    at = 0
    while at < len(data):
        at += MINI.size + MINI.unpack_from(data, at)[1]
        places.append(at)
    if at != len(data):
        raise LocalError("the recording ends within a message")
    return places


class Conversation:
    """An open channel, client end, without the channel's meaning."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        key: tuple[int, int],
        link: LinkClient,
    ) -> None:
        self.key = key
        self.caps = link.server_channel_caps
        self.framing = Framing(key[0], True, link.trailing)
        self.window = 0
        self.left_out: dict[int, int] = {}
        self._left = 0
        self._reader = reader
        self._writer = writer

    def send(self, message: Message) -> None:
        """Send one message."""
        body = message.body()
        self._writer.write(MINI.pack(message.number, len(body)) + body)

    async def more(self) -> bool:
        """Take in what comes next; False at the end of the connection."""
        data = await self._reader.read(1 << 18)
        self.framing.feed(data)
        return bool(data)

    def run(self) -> bytes:
        """Whole messages of the channel itself, as they are; the connection's own are answered."""
        framing, kept = self.framing, []
        while True:
            end, count = scan(framing.buffer, framing.start, _OF_CHANNELS, framing.limit)
            if count:
                kept.append(bytes(memoryview(framing.buffer)[framing.start : end]))
                framing.taken(end)
                self._acknowledge(count)
                continue
            frame = framing.next()
            if frame is None:
                return b"".join(kept)
            number, _, _, body = frame
            if number > _BASE_LAST:
                raise RemoteProtocolError(f"message {number}, which nobody knows", where="record")
            self._answer(number, body)
            self._acknowledge(1)

    async def expect(self, number: int) -> bytes:
        """The body of the next message of that number; others are dropped."""
        while True:
            frame = self.framing.next()
            if frame is None:
                if not await self.more():
                    raise LinkFailed("the server closed the connection")
                continue
            if frame[0] <= _BASE_LAST:
                self._answer(frame[0], frame[3])
            self._acknowledge(1)
            if frame[0] == number:
                return frame[3]

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    def _answer(self, number: int, body: bytes) -> None:
        if number == common.Ping.number:
            ping = common.Ping.parse(body)
            self.send(common.Pong(id=ping.id, timestamp=ping.timestamp))
        elif number == common.SetAck.number:
            asked = common.SetAck.parse(body)
            self.send(common.AckSync(generation=asked.generation))
            self.window = asked.window
            self._left = asked.window + 1
        self.left_out[number] = self.left_out.get(number, 0) + 1

    def _acknowledge(self, count: int) -> None:
        if self.window:
            self._left -= count
            while self._left <= 0:
                self._left += self.window
                self.send(common.Ack())


#: A 1 for each number that isn't the connection's own.
_OF_CHANNELS = bytes(number > _BASE_LAST for number in range(1024))


async def linked(
    host: str, port: int, key: tuple[int, int], session: int, caps: Iterable[int] = ()
) -> Conversation:
    """Open a channel without a password; `ConnectError`, `LinkError` if the server refuses it."""
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise ConnectError(f"{host}:{port}: {error.strerror}") from error
    link = LinkClient(
        connection_id=session,
        channel_type=key[0],
        channel_id=key[1],
        crypto=Crypto(),
        channel_caps=caps,
    )
    link.start()
    while not link.finished:
        writer.write(link.take())
        data = await reader.read(65536)
        if data:
            link.receive(data)
        else:
            link.receive_eof()
    if link.phase is not LinkPhase.DONE:
        writer.close()
        assert link.error is not None
        raise link.error
    if not link.mini_header:
        writer.close()
        raise LinkFailed("the server doesn't know the short header, which recordings have")
    return Conversation(reader, writer, key, link)


async def record(
    port: int,
    *,
    host: str = "127.0.0.1",
    seconds: float = 3.0,
    most: int = _MOST_BYTES,
    compression: ImageCompression | None = None,
    timeout: float = 20.0,
    begun: asyncio.Event | None = None,
) -> Recording:
    """Record display 0 and its cursor for ``seconds``, or until ``most`` bytes have come.

    ``compression`` is asked for by PREFERRED_COMPRESSION; None leaves it to the server. ``begun``
    is set once the channels are open, and what is drawn from then on is recorded. Raises
    `ConnectError`, `LinkError`, and `SpiceTimeout` when the server offers no display within
    ``timeout`` seconds.
    """
    channels: list[Conversation] = []
    try:
        async with asyncio.timeout(timeout):
            session, offered = await _begin(host, port, channels)
            channels.append(await linked(host, port, _DISPLAY, session, CAPS))
            if _CURSOR in offered:
                channels.append(await linked(host, port, _CURSOR, session))
        _ask(channels[1], compression)
        if begun is not None:
            begun.set()
        return await _keep(channels, seconds, most)
    except TimeoutError:
        opened = ", ".join(channel_name(*channel.key) for channel in channels) or "nothing"
        raise SpiceTimeout(
            f"{host}:{port}: no display within {timeout:g} s; opened: {opened}"
        ) from None
    finally:
        for channel in channels[::-1]:
            channel.close()


async def _begin(
    host: str, port: int, channels: list[Conversation]
) -> tuple[int, set[tuple[int, int]]]:
    """Open the main channel: the session's number, and what the server offers."""
    first = await linked(host, port, _MAIN, 0)
    channels.append(first)
    init = main.Init.parse(await first.expect(main.Init.number))
    first.send(main.AttachChannels())
    listed = main.ChannelsList.parse(await first.expect(main.ChannelsList.number))
    return init.session_id, {(item.type, item.id) for item in listed.available}


def _ask(channel: Conversation, compression: ImageCompression | None) -> None:
    channel.send(
        display.Init(
            pixmap_cache_id=1,
            pixmap_cache_size=PIXMAP_CACHE_PIXELS,
            glz_dictionary_id=1,
            glz_dictionary_window_size=GLZ_WINDOW_PIXELS,
        )
    )
    if compression is not None:
        channel.send(display.PreferredCompression(image_compression=compression))


async def _keep(channels: list[Conversation], seconds: float, most: int) -> Recording:
    shown = channels[1]
    kept: list[list[bytes]] = [[] for _ in channels]
    times: list[tuple[float, int]] = []
    began = 0.0

    async def take(index: int) -> None:
        nonlocal began
        size, going_on = 0, True
        while going_on:
            data = channels[index].run()  # the first may have come with the link's end
            kept[index].append(data)
            size += len(data)
            if data and index == 1:
                began = began or time.monotonic()
                times.append((time.monotonic() - began, size))
            going_on = (index != 1 or size < most) and await channels[index].more()

    tasks = [asyncio.create_task(take(index)) for index in range(len(channels))]
    done, waiting = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for task in done:
        task.result()
    return Recording(
        display=b"".join(kept[1]),
        cursor=b"".join(kept[2]) if len(kept) > 2 else b"",
        times=tuple(times),
        caps=tuple(shown.caps),
        window=shown.window,
        left_out=shown.left_out,
    )
