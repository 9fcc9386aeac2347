"""Channel types, and the limits of what may come on each."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CHANNEL_LIMITS", "ChannelType", "channel_name"]


class ChannelType(IntEnum):
    """``SPICE_CHANNEL_*`` (spice-protocol ``spice/enums.h``)."""

    MAIN = 1
    DISPLAY = 2
    INPUTS = 3
    CURSOR = 4
    PLAYBACK = 5
    RECORD = 6
    TUNNEL = 7
    SMARTCARD = 8
    USBREDIR = 9
    PORT = 10
    WEBDAV = 11


_NAMES = {int(member): member.name.lower() for member in ChannelType}

#: The largest body in bytes that is accepted on each channel type, both directions. Display takes
#: one raw image of 7680 x 4320 pixels; the character devices a record with a full write queue.
CHANNEL_LIMITS = {
    1: 1 << 20,
    2: 128 << 20,
    3: 64 << 10,
    4: 4 << 20,
    5: 1 << 20,
    6: 1 << 20,
    8: 1 << 20,
    9: 16 << 20,
    10: 16 << 20,
    11: 16 << 20,
}


def channel_name(channel: int, number: int | None = None) -> str:
    """``display:0`` for (2, 0), ``channel-77:0`` for types that aren't known."""
    name = _NAMES.get(channel, f"channel-{channel}")
    return name if number is None else f"{name}:{number}"
