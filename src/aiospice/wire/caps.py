"""Capability bits of the link, and the words that carry them (spice-protocol ``protocol.h``).

Each side announces two sets of bits: the common ones, and those of the channel's type. On the
wire a set is a row of u32 words; bit ``n`` is bit ``n % 32`` of word ``n // 32``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "ALL_COMMON",
    "CommonCap",
    "DisplayCap",
    "InputsCap",
    "MainCap",
    "PlaybackCap",
    "RecordCap",
    "SmartcardCap",
    "VmcCap",
    "bits",
    "cap_names",
    "has",
    "pack",
]


class CommonCap(IntEnum):
    """``SPICE_COMMON_CAP_*``; `AUTH_SPICE` and `AUTH_SASL` are the mechanisms' numbers too."""

    PROTOCOL_AUTH_SELECTION = 0
    AUTH_SPICE = 1
    AUTH_SASL = 2
    MINI_HEADER = 3


class MainCap(IntEnum):
    """``SPICE_MAIN_CAP_*``."""

    SEMI_SEAMLESS_MIGRATE = 0
    NAME_AND_UUID = 1
    AGENT_CONNECTED_TOKENS = 2
    SEAMLESS_MIGRATE = 3
    #: aiospice's own (`aiospice.wire.hold`).
    HOLD = 29
    #: aiospice's own (`aiospice.wire.keep`).
    KEEP = 30


class DisplayCap(IntEnum):
    """``SPICE_DISPLAY_CAP_*``."""

    SIZED_STREAM = 0
    MONITORS_CONFIG = 1
    COMPOSITE = 2
    A8_SURFACE = 3
    STREAM_REPORT = 4
    LZ4_COMPRESSION = 5
    PREF_COMPRESSION = 6
    GL_SCANOUT = 7
    MULTI_CODEC = 8
    CODEC_MJPEG = 9
    CODEC_VP8 = 10
    CODEC_H264 = 11
    PREF_VIDEO_CODEC_TYPE = 12
    CODEC_VP9 = 13
    CODEC_H265 = 14


class PlaybackCap(IntEnum):
    """``SPICE_PLAYBACK_CAP_*``."""

    CELT_0_5_1 = 0
    VOLUME = 1
    LATENCY = 2
    OPUS = 3


class RecordCap(IntEnum):
    """``SPICE_RECORD_CAP_*``."""

    CELT_0_5_1 = 0
    VOLUME = 1
    OPUS = 2


class InputsCap(IntEnum):
    """``SPICE_INPUTS_CAP_*``."""

    KEY_SCANCODE = 0


class VmcCap(IntEnum):
    """``SPICE_SPICEVMC_CAP_*``: port, webdav and usbredir channels; TOKENS is ours."""

    DATA_COMPRESS_LZ4 = 0
    TOKENS = 31


class SmartcardCap(IntEnum):
    """Smartcard channels: upstream has none, TOKENS is ours."""

    TOKENS = 31


#: What a complete implementation announces.
ALL_COMMON = frozenset(int(cap) for cap in CommonCap)

_BY_CHANNEL: dict[int, type[IntEnum]] = {
    1: MainCap,
    2: DisplayCap,
    3: InputsCap,
    5: PlaybackCap,
    6: RecordCap,
    8: SmartcardCap,
    9: VmcCap,
    10: VmcCap,
    11: VmcCap,
}


def pack(caps: Iterable[int]) -> tuple[int, ...]:
    """Turn bit numbers (0 and up) into u32 words, as few as hold them; none for no bits."""
    words: list[int] = []
    for bit in caps:
        index = bit >> 5
        while len(words) <= index:
            words.append(0)
        words[index] |= 1 << (bit & 31)
    return tuple(words)


def has(words: Sequence[int], bit: int) -> bool:
    """Whether ``bit`` is set in u32 ``words``; bits beyond the last word are not."""
    index = bit >> 5
    return index < len(words) and bool(words[index] >> (bit & 31) & 1)


def bits(words: Sequence[int]) -> frozenset[int]:
    """The numbers of the bits that are set."""
    return frozenset(bit for bit in range(32 * len(words)) if has(words, bit))


def cap_names(words: Sequence[int], channel_type: int = 0) -> tuple[str, ...]:
    """Names of the bits that are set, ``bit 17`` for those that aren't known.

    ``channel_type`` 0 stands for the common capabilities.
    """
    names = _BY_CHANNEL.get(channel_type) if channel_type else CommonCap
    known = {int(member): member.name for member in names} if names else {}
    return tuple(known.get(bit, f"bit {bit}") for bit in sorted(bits(words)))
