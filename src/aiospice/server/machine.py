"""What clients are shown, as plain data: displays, cursor, sound, locks, character devices.

One `Machine` stands behind all clients. A guest changes it through `aiospice.server.guest.Host`;
the core tells the clients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiospice.channels.server.cursor import Shape
from aiospice.channels.server.playback import SoundFormat
from aiospice.wire.main import MouseModes

if TYPE_CHECKING:
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
    #: The guest's agent can be told them instead.
    agent_mouse: bool = False
    mouse_mode: int = MouseModes.CLIENT
    #: Where the agent was last told that the pointer is: x, y, display.
    pointer: tuple[int, int, int] = (0, 0, 0)
    #: What the agent is to know of the graphics devices: display, monitor, the device's own number
    #: of that monitor, and the device's address (``pci/0000/02.0``).
    graphics: tuple[tuple[int, int, int, str], ...] = ()
    #: How often an agent had come when one was last told.
    graphics_told: int = 0

    @property
    def mouse_modes(self) -> int:
        """What mouse modes there are (`MouseModes`)."""
        positions = self.absolute or self.agent_mouse
        return MouseModes.SERVER | (MouseModes.CLIENT if positions else 0)

    def set_absolute(self, *, absolute: bool | None = None, agent: bool | None = None) -> bool:
        """Say who can be told positions (None: as before); whether that changes the modes."""
        before = (self.mouse_modes, self.mouse_mode)
        self.absolute = self.absolute if absolute is None else absolute
        self.agent_mouse = self.agent_mouse if agent is None else agent
        if not self.mouse_modes & MouseModes.CLIENT:
            self.mouse_mode = MouseModes.SERVER
        return before != (self.mouse_modes, self.mouse_mode)
