"""The data header before every message, in its two forms, and sub-message lists.

Full (18 bytes): u64 serial, u16 type, u32 size, u32 sub_list. Mini (6 bytes): u16 type, u32 size;
used when both link messages carry the common capability ``MINI_HEADER`` (spice-protocol
``spice/protocol.h``). ``sub_list`` is an offset into the body, to a u16 count and that many u32
offsets of sub-messages, each a u16 type, a u32 size and a body; they come before the message
itself (spice-gtk ``src/spice-channel.c``).
"""

from __future__ import annotations

from struct import Struct

from aiospice.errors import DecodeError

__all__ = ["FULL", "MINI", "pack_header", "read_sub_messages"]

MINI = Struct("<HI")
FULL = Struct("<QHII")
_SUB_COUNT = Struct("<H")
_SUB_OFFSET = Struct("<I")
_SUB_HEADER = Struct("<HI")


def pack_header(mini: bool, serial: int, number: int, size: int) -> bytes:
    """The header of a message without sub-messages."""
    return MINI.pack(number, size) if mini else FULL.pack(serial, number, size, 0)


def read_sub_messages(
    body: bytes | bytearray | memoryview, offset: int
) -> list[tuple[int, memoryview]]:
    """The sub-messages of a list that begins at ``offset`` of a body: (type, body) of each.

    `DecodeError` when the list, or a sub-message, doesn't lie inside the body, or when they
    overlap so that together they are larger than the body.
    """
    view = memoryview(body)
    end = len(view)
    if offset + _SUB_COUNT.size > end:
        raise DecodeError("the list lies outside the body", field="sub_list", offset=offset)
    (count,) = _SUB_COUNT.unpack_from(view, offset)
    offset += _SUB_COUNT.size
    if count * _SUB_OFFSET.size > end - offset:
        raise DecodeError(f"{count} entries don't fit", field="sub_list", offset=offset)
    budget = end
    found = []
    for index in range(count):
        (place,) = _SUB_OFFSET.unpack_from(view, offset + index * _SUB_OFFSET.size)
        if place + _SUB_HEADER.size > end:
            raise DecodeError("a message lies outside the body", field="sub_list", offset=place)
        number, size = _SUB_HEADER.unpack_from(view, place)
        start = place + _SUB_HEADER.size
        budget -= size + _SUB_HEADER.size
        if size > end - start or budget < 0:
            raise DecodeError(
                f"a message of {size} bytes doesn't fit", field="sub_list", offset=place
            )
        found.append((number, view[start : start + size]))
    return found
