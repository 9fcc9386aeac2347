"""A message: a declared structure with a channel, a sender and a number."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from aiospice.errors import DecodeError
from aiospice.wire.reader import Reader, Writer
from aiospice.wire.record import Record

__all__ = ["CLIENT", "KINDS", "SERVER", "Message", "Sender"]

Sender = Literal["client", "server"]
SERVER: Sender = "server"
CLIENT: Sender = "client"

#: Every declared message by (channel type, sender, number); channel type 0 holds the messages
#: that all channels have. Filled as the modules of the channels are imported: use
#: `aiospice.wire.registry.find`, which imports them.
KINDS: dict[tuple[int, Sender, int], type[Message]] = {}


class Message(Record):
    """Base of all messages.

    A subclass names its place: ``class Ping(Message, channels=(0,), sender=SERVER, number=4)``.
    ``limit`` is the largest body in bytes that is accepted (None: the channel's limit);
    ``exact`` refuses bytes behind the last field (older peers may meet newer, longer messages,
    so most messages don't).
    """

    channels: ClassVar[tuple[int, ...]] = ()
    sender: ClassVar[Sender]
    number: ClassVar[int] = 0
    limit: ClassVar[int | None] = None
    exact: ClassVar[bool] = False

    def __init_subclass__(
        cls,
        *,
        channels: tuple[int, ...] = (),
        sender: Sender | None = None,
        number: int = 0,
        limit: int | None = None,
        exact: bool = False,
    ) -> None:
        super().__init_subclass__()
        if sender is None:
            return
        cls.channels = channels
        cls.sender = sender
        cls.number = number
        cls.limit = limit
        cls.exact = exact
        for channel in channels:
            KINDS[channel, sender, number] = cls

    @classmethod
    def parse(cls, body: bytes | bytearray | memoryview) -> Self:
        """Read a body; `DecodeError` (naming message, field and offset) if it isn't one."""
        try:
            if cls.limit is not None and len(body) > cls.limit:
                raise DecodeError(f"{len(body)} bytes, the limit is {cls.limit}")
            reader = Reader(body)
            message = cls.read(reader)
            if cls.exact and reader.pos != reader.end:
                raise DecodeError(
                    f"{reader.end - reader.pos} bytes behind the end", offset=reader.pos
                )
        except DecodeError as error:
            error.message = cls.__name__
            raise
        return message

    def body(self) -> bytes:
        """The message as bytes, without header; `LocalError` when a value doesn't fit."""
        writer = Writer()
        self.write(writer)
        return writer.finish()
