"""The demo desktop with a witness: a port on which it says what it shows and what it has got.

A client writes a line, ``stand`` or ``go``, and reads a line of JSON. From ``stand`` on nothing on
the desktop moves by itself: ``screen`` is the digest of its pixels then (`keeper.digest`), ``keys``
are the scancodes that are down, and ``files`` has name and SHA-256 of each file that has come; they
are forgotten then.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from aiospice.client.picture import Picture
from aiospice.guests.demo import DemoGuest
from aiospice.proof.keeper import digest

if TYPE_CHECKING:
    from aiospice.server.guest import Host, HostDevice

__all__ = ["WITNESS_PORT", "WitnessGuest"]

WITNESS_PORT = "org.aiospice.witness"
_LINE = 64


class WitnessGuest(DemoGuest):
    """See the module's text."""

    def attach(self, host: Host) -> None:
        """One port more."""
        super().attach(host)
        self._witness = host.port(WITNESS_PORT)
        self._witness.opened = True
        self._asked = bytearray()
        self._unsaid = bytearray()

    def device_readable(self, device: HostDevice) -> None:
        """A question, or what the desktop is for."""
        if device is self._witness:
            self._answer()
        else:
            super().device_readable(device)

    def device_writable(self, device: HostDevice) -> None:
        """What is unsaid can be said."""
        if device is self._witness:
            self._say()
        else:
            super().device_writable(device)

    def _answer(self) -> None:
        while data := self._witness.read():
            self._asked += data
        *lines, rest = bytes(self._asked).split(b"\n")
        self._asked[:] = rest[-_LINE:]
        for line in lines:
            self.moving = line != b"stand"
            self._unsaid += json.dumps(self._testimony()).encode() + b"\n"
        self._say()

    def _say(self) -> None:
        del self._unsaid[: self._witness.write(bytes(self._unsaid))]

    def _testimony(self) -> dict[str, Any]:
        pixels = self.desktops[0].display.pixels
        height, width = pixels.shape[:2]
        files = {
            name: hashlib.sha256(data).hexdigest() for name, data in self.files.contents.items()
        }
        self.files.contents.clear()
        self.files.files.clear()
        return {
            "screen": digest(Picture(width, height, pixels.tobytes())),
            "keys": sorted(self.state.keyboard.down),
            "files": files,
        }

    def freeze(self) -> Any:
        """The desktop, and what was asked."""
        return super().freeze(), bytes(self._asked), bytes(self._unsaid), self.moving

    def thaw(self, state: Any) -> None:
        """Go on answering."""
        desktop, self._asked[:], self._unsaid[:], self.moving = state
        super().thaw(desktop)
