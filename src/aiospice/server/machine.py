"""What clients are shown, as plain data: displays, cursor, sound, locks, character devices.

One `Machine` stands behind all clients. A guest changes it through `aiospice.server.guest.Host`;
the core tells the clients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiospice.wire.main import MouseModes

if TYPE_CHECKING:
    from aiospice.channels.server.cursor import Shape
    from aiospice.channels.server.playback import SoundFormat
    from aiospice.server.frames import Display

__all__ = ["CursorState", "Machine", "Sound"]

#: Channel type and id.
Key = tuple[int, int]


@dataclass(slots=True)
class CursorState:
    """The cursor of a display."""

    shape: Shape | None = None
    #: Of its hot spot, in pixels.
    position: tuple[int, int] = (0, 0)
    visible: bool = True


@dataclass(slots=True)
class Sound:
    """One direction of sound; ``format`` is None while nothing is played or wanted."""

    format: SoundFormat | None = None
    #: 0 to 65535 a channel; empty: the guest said nothing.
    volume: tuple[int, ...] = ()
    muted: bool = False


@dataclass(slots=True)
class Machine:
    """The virtual hardware."""

    displays: dict[int, Display] = field(default_factory=dict)
    cursors: dict[int, CursorState] = field(default_factory=dict)
    playback: Sound = field(default_factory=Sound)
    record: Sound = field(default_factory=Sound)
    has_sound: bool = False
    has_record: bool = False
    #: `aiospice.wire.inputs.Locks`.
    locks: int = 0
    #: The guest can be told absolute positions.
    absolute: bool = True
    mouse_mode: int = MouseModes.CLIENT

    @property
    def mouse_modes(self) -> int:
        """What mouse modes there are (`MouseModes`)."""
        return MouseModes.SERVER | (MouseModes.CLIENT if self.absolute else 0)

    def set_absolute(self, absolute: bool) -> bool:
        """Say whether positions can be told; whether the mode has changed."""
        before = (self.mouse_modes, self.mouse_mode)
        self.absolute = absolute
        if not absolute:
            self.mouse_mode = MouseModes.SERVER
        return before != (self.mouse_modes, self.mouse_mode)
