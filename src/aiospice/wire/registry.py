"""Finds the declaration that belongs to a number on the wire."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from aiospice.wire.message import KINDS

if TYPE_CHECKING:
    from aiospice.wire.message import Message, Sender

__all__ = ["MODULES", "find", "load_all", "message_name"]

#: The module that declares the messages of each channel type; 0: what all channels have.
MODULES = {
    0: "common",
    1: "main",
    2: "display",
    3: "inputs",
    4: "cursor",
    5: "playback",
    6: "recording",
    8: "smartcard",
    9: "vmc",
    10: "vmc",
    11: "vmc",
}
_loaded: set[int] = set()


def _load(channel: int) -> None:
    if channel not in _loaded and channel in MODULES:
        import_module(f"aiospice.wire.{MODULES[channel]}")
        _loaded.add(channel)


def load_all() -> dict[tuple[int, Sender, int], type[Message]]:
    """Every declared message by (channel type, sender, number); channel type 0 is for all."""
    for channel in MODULES:
        _load(channel)
    return dict(KINDS)


def find(channel: int, sender: Sender, number: int) -> type[Message] | None:
    """The declaration of message ``number`` on a channel, None if there is none."""
    if number <= 100:
        _load(0)
        return KINDS.get((0, sender, number))
    _load(channel)
    return KINDS.get((channel, sender, number))


def message_name(channel: int, sender: Sender, number: int) -> str:
    """The name of a message, ``message 77`` for one that isn't known."""
    kind = find(channel, sender, number)
    return kind.__name__ if kind else f"message {number}"
