"""The messages of the link, which precede every channel (spice-protocol ``protocol.h``).

::

    client                                       server
    LinkHeader LinkMessage            ->
                                      <-         LinkHeader LinkReply
    u32 mechanism, ticket or SASL     ->
                                      <-         u32 result

The capability words stand at ``caps_offset`` bytes from the start of the body, the common ones
first. `Message.parse` reads a body and raises `DecodeError` that names field and offset.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any, ClassVar, cast

from aiospice.errors import DecodeError, LocalError
from aiospice.wire.common import LinkCode
from aiospice.wire.fields import Field
from aiospice.wire.message import Message
from aiospice.wire.record import counter, fixed_bytes, u8, u32

if TYPE_CHECKING:
    from aiospice.wire.reader import Reader, Writer
    from aiospice.wire.record import Record

__all__ = [
    "HEADER_SIZE",
    "LINK_LIMIT",
    "MAGIC",
    "MAGIC_BYTES",
    "MAJOR_VERSION",
    "MINOR_VERSION",
    "PUBLIC_KEY_SIZE",
    "TICKET_SIZE",
    "U32",
    "LinkHeader",
    "LinkMessage",
    "LinkReply",
    "frame",
]

MAGIC_BYTES = b"REDQ"
#: `MAGIC_BYTES` as the number that the header holds.
MAGIC = int.from_bytes(MAGIC_BYTES, "little")
MAJOR_VERSION = 2
MINOR_VERSION = 2
HEADER_SIZE = 16
#: The longest link message or reply in bytes, without header, that either side takes
#: (spice-server ``server/reds.cpp``).
LINK_LIMIT = 4096
#: ``SPICE_TICKET_PUBKEY_BYTES``.
PUBLIC_KEY_SIZE = 162
#: Bytes of an encrypted ticket: one RSA block of 1024 bits.
TICKET_SIZE = 128

#: One little endian u32: the mechanism, the result, the lengths of SASL.
U32 = Struct("<I")

_MESSAGE_SIZE = 18
_REPLY_SIZE = 178
#: Words of capabilities in either set (spice-server ``server/reds.cpp``).
_MAX_WORDS = 1024


class _Caps(Field):
    """Capability words at ``caps_offset``, behind those of the field ``after``."""

    __slots__ = ("after", "count", "fixed")

    def __init__(self, count: str, fixed: int, after: str = "") -> None:
        super().__init__(())
        self.count = count
        self.fixed = fixed
        self.after = after

    def read(self, reader: Reader, values: dict[str, Any]) -> tuple[int, ...]:
        count = values[self.count]
        if not count:
            return ()
        offset = values["caps_offset"]
        if not self.fixed <= offset <= reader.end:
            raise DecodeError(
                f"caps_offset {offset} is not between {self.fixed} and the end at {reader.end}",
                offset=self.fixed - 4,
            )
        reader.pos = offset + (4 * values[self.after] if self.after else 0)
        start = reader.skip(4 * count)
        words: tuple[int, ...] = Struct(f"<{count}I").unpack_from(reader.data, start)
        return words

    def write(self, writer: Writer, value: tuple[int, ...], record: Record) -> None:
        if record.__dict__["caps_offset"] != self.fixed:
            raise LocalError(f"{type(record).__name__}.caps_offset is written as {self.fixed} only")
        for word in value:
            writer.buffer += U32.pack(word & 0xFFFFFFFF)


def _caps(count: str, fixed: int, after: str = "") -> tuple[int, ...]:
    return cast("tuple[int, ...]", _Caps(count, fixed, after))


class LinkHeader(Message):
    """Stands before `LinkMessage` and `LinkReply`; ``size`` is the number of bytes that follow.

    The limit of ``size`` and the magic are judged by whoever reads it: the two ends answer
    differently.
    """

    magic: int = u32(default=MAGIC)
    major_version: int = u32(default=MAJOR_VERSION)
    minor_version: int = u32(default=MINOR_VERSION)
    size: int = u32()


class LinkMessage(Message):
    """The client's request for one channel; ``connection_id`` 0 asks for a new session.

    Any minor version is taken by either side; the words may stand anywhere behind the fixed
    part.
    """

    limit: ClassVar[int | None] = LINK_LIMIT

    connection_id: int = u32()
    channel_type: int = u8()
    channel_id: int = u8()
    num_common_caps: int = counter("common_caps", "I", maximum=_MAX_WORDS)
    num_channel_caps: int = counter("channel_caps", "I", maximum=_MAX_WORDS)
    caps_offset: int = u32(default=_MESSAGE_SIZE)
    common_caps: tuple[int, ...] = _caps("num_common_caps", _MESSAGE_SIZE)
    channel_caps: tuple[int, ...] = _caps("num_channel_caps", _MESSAGE_SIZE, "num_common_caps")


class LinkReply(Message):
    """The server's answer; with an error the rest is zero, and the server closes.

    ``pub_key`` is an RSA key of 1024 bits as DER, or zeros from a spice-server that expects SASL.
    """

    limit: ClassVar[int | None] = LINK_LIMIT

    error: int = u32(names=LinkCode, default=0)
    pub_key: bytes = fixed_bytes(PUBLIC_KEY_SIZE)
    num_common_caps: int = counter("common_caps", "I", maximum=_MAX_WORDS)
    num_channel_caps: int = counter("channel_caps", "I", maximum=_MAX_WORDS)
    caps_offset: int = u32(default=_REPLY_SIZE)
    common_caps: tuple[int, ...] = _caps("num_common_caps", _REPLY_SIZE)
    channel_caps: tuple[int, ...] = _caps("num_channel_caps", _REPLY_SIZE, "num_common_caps")


def frame(message: LinkMessage | LinkReply) -> bytes:
    """The message behind its `LinkHeader`; `LocalError` when it gets longer than `LINK_LIMIT`."""
    body = message.body()
    if len(body) > LINK_LIMIT:
        raise LocalError(f"{type(message).__name__} of {len(body)} bytes, {LINK_LIMIT} are allowed")
    return LinkHeader(size=len(body)).body() + body
