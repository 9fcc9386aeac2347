# cython: language_level=3, annotation_typing=False
"""Messages that leave together, as bytes: each frame goes this way; compiled where possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.wire.common import SetAck
from aiospice.wire.header import FULL, MINI

if TYPE_CHECKING:
    from aiospice.channels.server.display import DisplayServer

__all__ = ["take_together"]

_SET_ACK = SetAck.number
_PACK_MINI, _PACK_FULL = MINI.pack, FULL.pack
_MINI_SIZE, _FULL_SIZE = MINI.size, FULL.size


def take_together(channel: DisplayServer) -> bytes:
    """Take messages out of a display channel's queue, which isn't empty: see its ``take``."""
    queue = channel._queue
    mini, together, serial = channel.framing.mini, channel.together, channel.serial
    window, unacked = channel.ack_window, channel.unacked
    parts: list[bytes | bytearray] = []
    bodies = count = 0
    while queue and (bodies < together or not count):
        number, body = queue.popleft()
        count += 1
        serial += 1
        if window:
            if number == _SET_ACK:  # the client begins to count with this one
                unacked = 0
            if not unacked:
                channel.acked_at = channel._now
            unacked += 1
        if isinstance(body, bytes):
            size = len(body)
            parts.append(_PACK_MINI(number, size) if mini else _PACK_FULL(serial, number, size, 0))
            parts.append(body)
        else:
            head, data = body
            size = len(head) + len(data)
            parts.append(_PACK_MINI(number, size) if mini else _PACK_FULL(serial, number, size, 0))
            parts.append(head)
            parts.append(data)
        bodies += size
    channel.serial, channel.unacked = serial, unacked
    channel.queued_bytes -= bodies
    channel.handed_out += bodies + count * (_MINI_SIZE if mini else _FULL_SIZE)
    return b"".join(parts)
