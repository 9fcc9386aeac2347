"""Copies that a client keeps for a hand-over: an extension of aiospice's own.

A client that announces the capability ``KEEP`` (bit 30 of main's first word, which spice-server,
spice-gtk and spice-html5 leave alone) may be asked by `Keep`, channel by channel, to keep a copy of
each message of data that it sends there. It says `Keeping` in its place among them, and keeps a
message until the guest is known to have taken it: by the tokens that come back, or by `Committed`.

When the machine moves, the source says with `Replay`, right before a MIGRATE without flags, how far
the guest has come; nothing that comes behind that counts any more. The client changes over, says
`Resume` there (on a display `Shows`), and sends what the guest hasn't taken. If copies on a channel
would be more than the client likes to keep, it says so by `Keeping`, and sends no more data there
until it was told not to keep any, or the guest has taken some.
"""

from __future__ import annotations

from aiospice.wire.message import CLIENT, SERVER, Message
from aiospice.wire.record import Record, counter, record_array, u8, u32, u64

__all__ = [
    "KEEP",
    "KEEP_CHANNELS",
    "MOST_IMAGES",
    "MOST_SURFACES",
    "REPLAY_CHANNELS",
    "RESUME_NUMBER",
    "SHOWS_LIMIT",
    "Committed",
    "Keep",
    "Keeping",
    "Replay",
    "Resume",
    "ShownSurface",
    "Shows",
    "StoredImage",
]

#: The capability's bit, on main alone.
KEEP = 30
#: Main (for the agent's data), smartcard, usbredir, port, webdav.
KEEP_CHANNELS = (1, 8, 9, 10, 11)
#: These, and displays.
REPLAY_CHANNELS = (1, 2, 8, 9, 10, 11)
#: Number of the first message on the new server.
RESUME_NUMBER = 31_006
#: Surfaces and images that a client tells of at most, and the bytes of all that.
MOST_SURFACES, MOST_IMAGES = 1024, 2048
SHOWS_LIMIT = 38 + 20 * MOST_SURFACES + 12 * MOST_IMAGES


class Keep(Message, channels=KEEP_CHANNELS, sender=SERVER, number=31_004):
    """Keep copies of the data that is sent here from now on; an extension of aiospice's own.

    ``window``: messages whose tokens all sides have together, so that the client knows of how many
    of its own the guest has taken; 0: keep none any more.
    """

    window: int = u32()


class Committed(Message, channels=KEEP_CHANNELS, sender=SERVER, number=31_005):
    """The guest has taken so many messages of data, counted from `Keeping` (an extension).

    A client that came here by `Resume` counts from there.
    """

    messages: int = u64()


class Replay(Message, channels=REPLAY_CHANNELS, sender=SERVER, number=31_006):
    """How far the guest has come at last (an extension): a MIGRATE without flags follows.

    ``messages`` as in `Committed`; ``partial``: bytes of the data of the next one. Both are 0 on a
    display.
    """

    messages: int = u64()
    partial: int = u32()


class Keeping(Message, channels=KEEP_CHANNELS, sender=CLIENT, number=31_004):
    """Copies of all data behind this are kept, or would be more than is liked (an extension)."""

    on: int = u8(maximum=1)


class Resume(Message, channels=KEEP_CHANNELS, sender=CLIENT, number=RESUME_NUMBER):
    """The first message on the server that a session has moved to by `Replay` (an extension).

    ``tokens``: messages of data that may be sent, as far as the client knows; ``granted``: messages
    that the server may send, each of ``message_size`` bytes of data at most. ``started`` on main:
    the client has taken up with the agent; 1 elsewhere.
    """

    tokens: int = u32()
    granted: int = u32()
    message_size: int = u32()
    started: int = u8(maximum=1)


class ShownSurface(Record):
    """A surface that the client has, in pixels, and its format (`SurfaceFormat`)."""

    id: int = u32()
    width: int = u32()
    height: int = u32()
    format: int = u32()
    flags: int = u32()


class StoredImage(Record):
    """An image that the client keeps, and how many pixels it has."""

    id: int = u64()
    pixels: int = u32()


class Shows(Message, channels=(2,), sender=CLIENT, number=RESUME_NUMBER):
    """`Resume` of a display (an extension): what the client shows and keeps.

    ``serial``: messages that have come on this channel; ``glz_next``: the number behind the newest
    image of the GLZ window; ``rough``: something shown may have come with losses. Images are those
    of all displays, the one that was put last at the end.
    """

    serial: int = u64()
    pixmap_cache_size: int = u64()
    glz_window_size: int = u32()
    glz_next: int = u64()
    rough: int = u8(maximum=1)
    surface_count: int = counter("surfaces", "H", maximum=MOST_SURFACES)
    image_count: int = counter("images", "H", maximum=MOST_IMAGES)
    surfaces: tuple[ShownSurface, ...] = record_array(ShownSurface, "surface_count")
    images: tuple[StoredImage, ...] = record_array(StoredImage, "image_count")
