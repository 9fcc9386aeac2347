"""Holding a client back: an extension of aiospice's own.

A source that is about to take its guest's state can have a client stop sending first, so that
nothing is under way. A client that announces the capability ``HOLD`` (bit 29 of main's first word,
which spice-server, spice-gtk and spice-html5 leave alone) may be asked to on every channel that
carries something to the guest. It answers with its last message there, and sends nothing but
acknowledgements and answers to pings until it is let go, or has changed over to another server. It
goes on by itself after 30 s.
"""

from __future__ import annotations

from aiospice.wire.message import CLIENT, SERVER, Message

__all__ = ["HOLD", "HOLD_CHANNELS", "Held", "Hold", "Release"]

#: The capability's bit, on main alone.
HOLD = 29
#: Main, inputs, smartcard, usbredir, port, webdav.
HOLD_CHANNELS = (1, 3, 8, 9, 10, 11)


class Hold(Message, channels=HOLD_CHANNELS, sender=SERVER, number=31_002):
    """Send nothing more on this channel, and say `Held`; an extension of aiospice's own."""


class Release(Message, channels=HOLD_CHANNELS, sender=SERVER, number=31_003):
    """Go on after `Hold`: the machine stays; an extension of aiospice's own."""


class Held(Message, channels=HOLD_CHANNELS, sender=CLIENT, number=31_002):
    """The answer to `Hold`: nothing comes behind it; an extension of aiospice's own."""
