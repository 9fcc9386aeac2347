"""A small desktop in pure Python and NumPy, to try a server and its clients with.

It has windows that can be dragged by their title bars, a text area that shows what is typed, a
moving picture, a clock, a tone, a microphone's level, an agent with clipboard and file drop, and
the port ``org.aiospice.echo``. Keys: F5 tone, F6 microphone, F7 copies the text area, F8 pastes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from aiospice.guests import scenery
from aiospice.guests.agent_end import AgentEnd
from aiospice.guests.demo_moving import Moving
from aiospice.guests.demo_panel import BUTTONS, Panel, button_at
from aiospice.guests.demo_state import (
    BAR,
    COLUMNS,
    PAD,
    PICTURE,
    ROWS,
    DemoState,
    first_windows,
    second_windows,
)
from aiospice.guests.desktop import TITLE, Desktop, View, draw_frame
from aiospice.guests.echo import Echo
from aiospice.guests.filedrop import FileDrop
from aiospice.guests.font import CELL_HEIGHT, CELL_WIDTH, bgrx, draw_text
from aiospice.guests.rects import Rect
from aiospice.server.guest import Guest

if TYPE_CHECKING:
    from aiospice.server.guest import Host, HostDevice

__all__ = ["ECHO_PORT", "DemoGuest"]

ECHO_PORT = "org.aiospice.echo"
#: Smallest and largest size of a display that a client may ask for.
SMALLEST, LARGEST = (320, 240), (4096, 2160)

_COLOURS = (0x2E5A7D, 0x5A3E6B, 0x3E6B4A, 0x6B5A3E)
_PAPER, _INK, _CARET, _BAR_COLOUR = 0xFBFBF8, 0x20242C, 0x2E5A7D, 0x20242C
_LEFT = 1
_AHEAD = 0.1  # seconds of sound that are handed over before their time
_MOST_FRAMES = scenery.RATE // 2  # of sound, at once
_PACKET = scenery.RATE // 50  # frames of sound that are handed over together


class DemoGuest(Guest):
    """The demo desktop.

    ``clock`` returns seconds since 1970 and ``seed`` makes the picture, so that the same calls
    give the same pixels; with ``moving=False`` neither clock nor picture changes after the start.
    ``folder``: where dropped files are put; None: they stay in memory (`files`).
    """

    name = "demo"

    def __init__(
        self,
        *,
        size: tuple[int, int] = (1024, 768),
        displays: int = 1,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
        moving: bool = True,
        fps: int = 15,
        folder: str | None = None,
    ) -> None:
        self.clock = clock
        self.moving = moving
        self.fps = fps
        #: All that is remembered; plain data.
        self.state = DemoState()
        #: Files that clients have sent.
        self.files = FileDrop(folder)
        self._size = size
        self._displays = displays
        self._landscape = scenery.Landscape(*PICTURE, seed)
        self._start = 0.0
        self._handlike = False
        self.desktops: list[Desktop] = []
        self._moving = Moving(self)

    # -- start and life ------------------------------------------------------------------------

    def attach(self, host: Host) -> None:
        """The server has started: draw everything."""
        self.host = host
        self._start = self.clock()
        host.sound(playback=True, record=True)
        self.state.second = int(self._start)
        for number in range(self._displays):
            self._add_display(number)
        self._panel = Panel(self.desktops[0], self)
        for desktop in self.desktops:
            self._draw_all(desktop)
        host.set_cursor(scenery.arrow(), 0, 0)
        self.echo = Echo(host.port(ECHO_PORT))
        self.echo.device.opened = True
        self.agent = AgentEnd(host.agent(), self, self._from_agent, self.files)

    def _add_display(self, number: int) -> None:
        display = self.host.display(number)
        display.resize(*self._size)
        make = second_windows if number else first_windows
        windows = make(*self._size)
        self.state.windows.append(windows)
        self.state.order.append(list(windows))
        colour = _COLOURS[number % len(_COLOURS)]
        desktop = Desktop(display, colour, self.state.order[number])
        direct = ("notes", "picture", "bar")
        for name, window in windows.items():
            size = (window.width, window.height)
            desktop.add(View(window, None if name in direct else display.surface(*size)))
        self.desktops.append(desktop)

    def _draw_all(self, desktop: Desktop) -> None:
        for view in desktop.views.values():
            if view.window.framed:
                draw_frame(view)
        if desktop is self.desktops[0]:
            self._draw_notes()
            self._panel.draw()
            scenery.icon(desktop.views["files"].pixels, "folder", "files", desktop.colour)
            scenery.icon(desktop.views["speaker"].pixels, "speaker", "tone", desktop.colour)
            desktop.views["picture"].content[:] = self._landscape.frame(self.state.frame)
        else:
            self._draw_about(desktop)
        self._draw_bar(desktop)
        for view in desktop.views.values():
            if view.surface is not None:
                view.surface.update(0, 0, view.window.width, view.window.height)
        desktop.redraw()

    async def run(self) -> None:
        """Move what moves, until the server ends."""
        while True:
            self.tick()
            playing = self.state.tone_since is not None
            await asyncio.sleep(0.02 if playing else 1 / self.fps)

    def close(self) -> None:
        """Files that are on their way stay away."""
        self.agent.close()
        self.files.close()

    left = close

    # -- moving --------------------------------------------------------------------------------

    def freeze_early(self, *, again: bool) -> dict[str, Any] | None:
        """Files, a MiB each part."""
        return self._moving.freeze_early(again=again)

    def freeze(self) -> Any:
        """All else that is remembered."""
        return self._moving.freeze()

    def thaw_early(self, parts: dict[str, Any]) -> None:
        """Files."""
        self._moving.parts = parts

    def thaw(self, state: Any) -> None:
        """Be the guest that was frozen."""
        self._moving.thaw(state)

    def tick(self) -> None:
        """Bring clock, picture and tone to the time of now."""
        now = self.clock()
        self._play(now)
        if not self.moving:
            return
        if int(now) != self.state.second:
            self.state.second = int(now)
            for desktop in self.desktops:
                self._draw_bar(desktop)
                desktop.changed("bar")
        frame = int((now - self._start) * self.fps)
        if frame != self.state.frame and self.host.clients:
            self.state.frame = frame
            view = self.desktops[0].views["picture"]
            view.content[:] = self._landscape.frame(frame)
            self.desktops[0].changed("picture", view.window.inside)

    # -- input ---------------------------------------------------------------------------------

    def key(self, code: int, pressed: bool) -> None:
        """A key: types into the text area, or does what F5 to F8 do."""
        keyboard = self.state.keyboard
        locks = keyboard.locks
        found = keyboard.key(code, pressed)
        if keyboard.locks != locks:
            self.host.set_locks(keyboard.locks)
        self._note(f"key {found:02x} {'down' if pressed else 'up'}")
        if not pressed:
            return
        function = found - 0x3F  # F5
        if 0 <= function < len(BUTTONS):
            self.press(BUTTONS[function])
        elif not (keyboard.modifiers.ctrl or keyboard.modifiers.alt):
            self.type(keyboard.char(found))

    def locks(self, locks: int) -> None:
        """The client wants its keyboard lights."""
        self.state.keyboard.locks = locks
        self.host.set_locks(locks)
        self._panel.draw()

    def mouse_move(self, x: int, y: int, display: int, buttons: int) -> None:
        """The pointer is somewhere."""
        self._point(x, y, display)
        self._note("position")

    def mouse_motion(self, dx: int, dy: int, buttons: int) -> None:
        """The mouse was moved by so much."""
        x, y, display = self.state.pointer
        x, y = x + dx, y + dy
        width = self.desktops[display].screen.width
        if x >= width and display + 1 < len(self.desktops):
            x, display = x - width, display + 1
        elif x < 0 and display:
            display -= 1
            x += self.desktops[display].screen.width
        self._point(x, y, display)
        self.host.move_cursor(*self.state.pointer)
        self._note(f"motion {dx:+} {dy:+}")

    def mouse_button(self, button: int, pressed: bool, buttons: int) -> None:
        """A button: raises and drags windows, presses what can be pressed."""
        self.state.buttons = buttons
        self._note(f"button {button} {'down' if pressed else 'up'}")
        if button != _LEFT:
            return
        if pressed:
            self._press_left()
        else:
            self._release_left()

    def monitors(self, heads: tuple[tuple[int, int, int, int], ...]) -> None:
        """A client wants its monitors' sizes."""
        for desktop, (_, _, width, height) in zip(self.desktops, heads, strict=False):
            if width > 0 and height > 0:
                self._resize(desktop, width, height)

    def recorded(self, samples: bytes) -> None:
        """Sound from the client: its level is shown."""
        wave = np.frombuffer(samples[: len(samples) & ~1], "<i2")
        self.state.level = min(32767, int(abs(wave.astype(np.int32)).max())) if wave.size else 0
        self._panel.draw()

    def device_readable(self, device: HostDevice) -> None:
        """The client has written to a device."""
        self._pump(device)

    def device_writable(self, device: HostDevice) -> None:
        """The client has read from a device."""
        self._pump(device)

    def _pump(self, device: HostDevice) -> None:
        if device is self.echo.device:
            self.echo.pump()
        elif device is self.agent.device:
            self.agent.pump()

    def client_connected(self, client: int) -> None:
        """Count it."""
        self._count(1)

    def client_disconnected(self, client: int) -> None:
        """Count it; when it was the last, nothing stays pressed."""
        self._count(-1)
        if not self.state.clients:
            self.state.keyboard.release_all()
            self.state.buttons = 0
            self._release_left()

    def _count(self, change: int) -> None:
        self.state.clients = max(0, self.state.clients + change)
        self._panel.draw()

    # -- what the user does --------------------------------------------------------------------

    def press(self, button: str) -> None:
        """Do what a button of the panel does."""
        if button == "tone":
            self._switch_tone()
        elif button == "mic":
            self.state.listening = not self.state.listening
            if self.state.listening:
                self.host.record_start()
            else:
                self.host.record_stop()
                self.state.level = 0
        elif button == "copy":
            self.agent.copy(self.text)
            self.agent.pump()
        elif button == "paste":
            for char in self.state.clipboard[: COLUMNS * ROWS]:
                self.type(char)
        self._panel.draw()

    def _from_agent(self, what: str) -> None:
        if what == "clipboard":
            self.state.clipboard = self.agent.clipboard
        self._panel.draw()

    @property
    def text(self) -> str:
        """What the text area shows."""
        return "\n".join(self.state.lines)

    def type(self, char: str) -> None:
        r"""Put a character into the text area (``\n``, ``\t`` and ``\b`` too, "" for none)."""
        lines = self.state.lines
        if char == "\b":
            self._backspace()
        elif char == "\n":
            self._new_line()
        elif char == "\t":
            for _ in range(4 - len(lines[-1]) % 4):
                self.type(" ")
        elif char.isprintable() and char:
            if len(lines[-1]) >= COLUMNS:
                self._new_line()
            lines[-1] += char
            self._row_changed(len(lines) - 1)

    def _backspace(self) -> None:
        lines = self.state.lines
        if lines[-1]:
            lines[-1] = lines[-1][:-1]
        elif len(lines) > 1:
            lines.pop()
            self._row_changed(len(lines))
        self._row_changed(len(lines) - 1)

    def _new_line(self) -> None:
        lines = self.state.lines
        lines.append("")
        if len(lines) <= ROWS:
            self._row_changed(len(lines) - 2)
        else:
            self._draw_row(ROWS - 1)  # without its caret
            lines.pop(0)
            self.desktops[0].scroll("notes", self._text_rect(), CELL_HEIGHT)
            self._row_changed(ROWS - 2)
        self._row_changed(len(lines) - 1)

    def _switch_tone(self) -> None:
        if self.state.tone_since is not None:
            self.state.tone_since = None
            self.host.playback_stop()
            return
        self.state.tone_since, self.state.tone_frames = self.clock(), 0
        self.host.playback_start(scenery.RATE, 2)
        self.tick()

    def _play(self, now: float) -> None:
        since = self.state.tone_since
        if since is None:
            return
        due = round((now + _AHEAD - since) * scenery.RATE)
        count = due - self.state.tone_frames
        if count > _MOST_FRAMES:  # the loop stood still: what should have sounded is left out
            self.state.tone_since, count = (
                since + (count - _MOST_FRAMES) / scenery.RATE,
                _MOST_FRAMES,
            )
        while count > 0:
            part = min(count, _PACKET)
            self.host.playback(scenery.tone(self.state.tone_frames, part))
            self.state.tone_frames += part
            count -= part

    # -- windows -------------------------------------------------------------------------------

    def _point(self, x: int, y: int, display: int) -> None:
        display = min(max(display, 0), len(self.desktops) - 1)
        screen = self.desktops[display].screen
        x, y = min(max(x, 0), screen.width - 1), min(max(y, 0), screen.height - 1)
        self.state.pointer = (x, y, display)
        if self.state.drag is not None:
            name, dx, dy = self.state.drag
            if name in self.desktops[display].views:
                self.desktops[display].move(name, x - dx, y - dy)

    def _press_left(self) -> None:
        x, y, display = self.state.pointer
        desktop = self.desktops[display]
        name = desktop.top_at(x, y)
        if name is None:
            return
        desktop.raise_(name)
        window = desktop.views[name].window
        x, y = x - window.x, y - window.y
        if window.framed and y < TITLE:
            self.state.drag = (name, x, y)
            self._set_pointer(moving=True)
        elif name == "panel":
            self.state.held = button_at(x, y)
        elif name in ("files", "speaker"):
            self.state.held = "tone" if name == "speaker" else ""
        self._panel.draw()

    def _release_left(self) -> None:
        if self.state.drag is not None:
            self.state.drag = None
            self._set_pointer(moving=False)
        held, self.state.held = self.state.held, ""
        if held:
            self.press(held)

    def _set_pointer(self, *, moving: bool) -> None:
        if moving:
            self.host.set_cursor(scenery.hand(), 8, 8)
        else:
            self.host.set_cursor(scenery.arrow(), 0, 0)

    def _resize(self, desktop: Desktop, width: int, height: int) -> None:
        width = min(max(width, SMALLEST[0]), LARGEST[0])
        height = min(max(height, SMALLEST[1]), LARGEST[1])
        if (width, height) == (desktop.screen.width, desktop.screen.height):
            return
        desktop.display.resize(width, height)
        bar = desktop.views["bar"].window
        bar.y, bar.width = height - BAR, width
        desktop.views["bar"] = View(bar)
        self._draw_bar(desktop)
        desktop.gather()
        desktop.redraw()

    # -- drawing -------------------------------------------------------------------------------

    def _note(self, what: str) -> None:
        self.state.last = what
        self._panel.draw()

    def _text_rect(self) -> Rect:
        inside = self.desktops[0].views["notes"].window.inside
        size = (inside.width - 2 * PAD, ROWS * CELL_HEIGHT)
        return Rect(inside.x + PAD, inside.y + PAD, *size)

    def _draw_notes(self) -> None:
        self.desktops[0].views["notes"].content[:] = bgrx(_PAPER)
        for row in range(len(self.state.lines)):
            self._draw_row(row)

    def _draw_row(self, row: int) -> Rect:
        """Draw a line of the text area; return where it is in the window."""
        lines, area = self.state.lines, self._text_rect()
        pixels = self.desktops[0].views["notes"].pixels
        place = Rect(area.x, area.y + row * CELL_HEIGHT, area.width, CELL_HEIGHT)
        part = pixels[place.y : place.bottom, place.x : place.right]
        part[:] = bgrx(_PAPER)
        text = lines[row] if row < len(lines) else ""
        draw_text(part, 0, 0, text, _INK)
        if row == len(lines) - 1:
            caret = min(len(text), COLUMNS - 1) * CELL_WIDTH
            part[-2:, caret : caret + CELL_WIDTH] = bgrx(_CARET)
        return place

    def _row_changed(self, row: int) -> None:
        self.desktops[0].changed("notes", self._draw_row(row))

    def _draw_bar(self, desktop: Desktop) -> None:
        pixels = desktop.views["bar"].pixels
        pixels[:] = bgrx(_BAR_COLOUR)
        clock = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.state.second))
        draw_text(pixels, 10, 7, "aiospice", 0x88C0D0, bold=True)
        place = pixels.shape[1] - CELL_WIDTH * len(clock) - 10
        draw_text(pixels, place, 7, clock, 0xECEFF4)

    def _draw_about(self, desktop: Desktop) -> None:
        content = desktop.views["about"].content
        content[:] = bgrx(_PAPER)
        number = self.desktops.index(desktop)
        draw_text(content, 10, 10, f"This is display {number} of {self._displays}.", _INK)
        draw_text(content, 10, 30, "Its window can be dragged by its title bar.", _INK)
