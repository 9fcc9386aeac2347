"""A device that gives back what it is given, and holds only so much of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiospice.server.guest import HostDevice

__all__ = ["HELD_BYTES", "Echo"]

#: What an echo holds while the client doesn't read.
HELD_BYTES = 64 << 10


class Echo:
    """Writes what it reads back to the same device.

    What the client doesn't read stays here, and beyond ``limit`` bytes nothing more is read: that
    is what stops a client that only sends.
    """

    def __init__(self, device: HostDevice, limit: int = HELD_BYTES) -> None:
        self.device = device
        self.limit = limit
        #: What was read and not yet written.
        self.held = bytearray()
        #: Bytes that have gone through.
        self.echoed = 0

    def pump(self) -> None:
        """Do what can be done: call it when the device has become readable or writable."""
        moved = True
        while moved:
            data = self.device.read(self.limit - len(self.held)) if not self.full else b""
            self.held += data
            written = self.device.write(bytes(self.held)) if self.held else 0
            del self.held[:written]
            self.echoed += written
            moved = bool(data or written)

    @property
    def full(self) -> bool:
        """Whether nothing is read until the client has read something."""
        return len(self.held) >= self.limit
