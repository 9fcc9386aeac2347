"""All that the demo desktop remembers, as plain data: its pixels follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiospice.guests.desktop import BORDER, TITLE, Window
from aiospice.guests.font import CELL_HEIGHT, CELL_WIDTH
from aiospice.guests.keys import Keyboard

__all__ = [
    "BAR",
    "COLUMNS",
    "PAD",
    "PICTURE",
    "ROWS",
    "DemoState",
    "first_windows",
    "second_windows",
]

#: The text area in characters, and the space around it in pixels.
COLUMNS, ROWS, PAD = 60, 16, 6
#: The moving picture in pixels.
PICTURE = (320, 240)
#: Height of the bar at the lower edge.
BAR = 28

_PANEL = (400, 250)


def _framed(name: str, title: str, place: tuple[int, int], inside: tuple[int, int]) -> Window:
    width, height = inside[0] + 2 * BORDER, inside[1] + TITLE + BORDER
    return Window(name, title, *place, width, height)


def first_windows(width: int, height: int) -> dict[str, Window]:
    """Return the windows of the first display."""
    notes = (COLUMNS * CELL_WIDTH + 2 * PAD, ROWS * CELL_HEIGHT + 2 * PAD)
    windows = [
        Window("files", "", 8, 16, 88, 64, framed=False, at_bottom=True),
        Window("speaker", "", 8, 96, 88, 64, framed=False, at_bottom=True),
        _framed("notes", "Notes", (112, 24), notes),
        _framed("panel", "Panel", (112, 330), _PANEL),
        _framed("picture", "Picture", (560, 300), PICTURE),
        Window("bar", "", 0, height - BAR, width, BAR, framed=False, on_top=True),
    ]
    return {window.name: window for window in windows}


def second_windows(width: int, height: int) -> dict[str, Window]:
    """Return the windows of any other display."""
    windows = [
        _framed("about", "Another display", (80, 80), (420, 90)),
        Window("bar", "", 0, height - BAR, width, BAR, framed=False, on_top=True),
    ]
    return {window.name: window for window in windows}


@dataclass(slots=True)
class DemoState:
    """What the demo guest is."""

    #: By display.
    windows: list[dict[str, Window]] = field(default_factory=list)
    #: By display: names of the windows, the topmost last.
    order: list[list[str]] = field(default_factory=list)
    #: The text area's lines; what is typed goes to the end of the last.
    lines: list[str] = field(default_factory=lambda: [""])
    keyboard: Keyboard = field(default_factory=Keyboard)
    #: Column, row and display of the pointer.
    pointer: tuple[int, int, int] = (0, 0, 0)
    #: Buttons that are down: 1 left, 2 middle, 4 right, ...
    buttons: int = 0
    #: Window that is being moved, and where it was gripped.
    drag: tuple[str, int, int] | None = None
    #: Button of the panel, or icon, that is held down.
    held: str = ""
    #: What the last input was.
    last: str = "none"
    #: When the tone began, and how many frames of it have been played.
    tone_since: float | None = None
    tone_frames: int = 0
    listening: bool = False
    #: Peak of what was recorded last, 0 to 32767.
    level: int = 0
    #: Text that came from the client's clipboard.
    clipboard: str = ""
    clients: int = 0
    #: The frame of the moving picture, and the second that the clock shows.
    frame: int = 0
    second: int = 0
