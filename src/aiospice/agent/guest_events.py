"""What the guest's end of the agent's protocol tells whoever plays the guest."""

from __future__ import annotations

from aiospice.events import Event

__all__ = [
    "ClientAnnounced",
    "ClientLeft",
    "DesktopConfigured",
    "FileCame",
    "FileEnded",
    "FileOffered",
    "FilePart",
    "GraphicsDevices",
    "MonitorsConfigured",
    "PointerMoved",
    "VolumeWanted",
]


class ClientAnnounced(Event):
    """A client is there, and has told what it can do."""

    capabilities: tuple[str, ...]


class ClientLeft(Event):
    """The client is gone, or another one has taken its place."""


class MonitorsConfigured(Event):
    """The client wants these monitors; it has been told that it is heard."""

    #: (width, height, x, y, depth) of each, in pixels and bits; width 0: off.
    monitors: tuple[tuple[int, int, int, int, int], ...]
    #: Whether x and y count.
    positions: bool
    #: (width, height) of each in mm, 0 if it isn't known; none if no sizes were told.
    sizes: tuple[tuple[int, int], ...]


class PointerMoved(Event):
    """The pointer, in absolute pixels of a display."""

    x: int
    y: int
    #: Bits of `aiospice.wire.agent.MouseButtons`.
    buttons: int
    display: int


class VolumeWanted(Event):
    """The client wants this volume."""

    #: Of what is played, or else of what is recorded.
    playback: bool
    mute: bool
    #: 0 to 65535 a channel.
    volume: tuple[int, ...]


class DesktopConfigured(Event):
    """How the client wants the desktop to look (`aiospice.wire.agent.DisplayConfigFlags`)."""

    flags: int
    depth: int


class GraphicsDevices(Event):
    """The server tells which display is on which device."""

    #: (channel, monitor, display of the device, address of the device) of each.
    devices: tuple[tuple[int, int, int, str], ...]


class FileOffered(Event):
    """The client wants to send a file: accept or refuse it. The name has no folder in it."""

    number: int
    name: str
    size: int


class FilePart(Event):
    """The next bytes of a file."""

    number: int
    #: Where in the file they belong.
    offset: int
    data: bytes


class FileCame(Event):
    """All bytes of a file are here: say with `finish_file` or `fail_file` what came of it."""

    number: int


class FileEnded(Event):
    """A file won't come: it was cancelled, broken off, or is longer than it said."""

    number: int
    reason: str
