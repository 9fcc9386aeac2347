"""A guest that is a terminal with a real shell in it.

Whoever is let in can do what the user can that the server runs as: it is never served without a
password. Shift with page up and down, and the wheel, go through what has scrolled off.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, ClassVar

from aiospice.guests import scenery
from aiospice.guests.agent_end import AgentEnd
from aiospice.guests.font import CELL_HEIGHT, CELL_WIDTH
from aiospice.guests.keys import EXTENDED, Keyboard, terminal_keys
from aiospice.guests.ptychild import Child
from aiospice.guests.selection import Selection
from aiospice.guests.terminal_screen import TerminalScreen
from aiospice.guests.terminal_view import TerminalView
from aiospice.server.guest import Guest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiospice.guests.terminal_screen import Row
    from aiospice.server.guest import Host, HostDevice

__all__ = ["TerminalGuest"]

_log = logging.getLogger("aiospice.guests")

#: Smallest and largest terminal, in columns and rows.
SMALLEST, LARGEST = (20, 5), (400, 150)
#: Bytes of output that are taken at once: about 8 ms of work.
_READ = 2048
_FRAME_SECONDS = 0.02
_WHEEL_LINES = 3
_LEFT, _MIDDLE, _WHEEL_UP, _WHEEL_DOWN = 1, 2, 4, 5
_PAGE_UP, _PAGE_DOWN, _INSERT = (EXTENDED | code for code in (0x49, 0x51, 0x52))


def _environment() -> dict[str, str]:
    return {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}


def _fitting(width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the nearest size in pixels that a terminal can have, and its columns and rows."""
    columns = min(max(width // CELL_WIDTH, SMALLEST[0]), LARGEST[0])
    rows = min(max(height // CELL_HEIGHT, SMALLEST[1]), LARGEST[1])
    width = min(max(width, columns * CELL_WIDTH), (columns + 1) * CELL_WIDTH - 1)
    height = min(max(height, rows * CELL_HEIGHT), (rows + 1) * CELL_HEIGHT - 1)
    return (width, height), (columns, rows)


class TerminalGuest(Guest):
    """A terminal.

    ``command``: the program and its arguments; None: the user's shell. ``size``: in pixels, until
    a client asks for another. ``environment``, ``folder``: of the program; None: as here.
    ``again``: when the program has ended, Enter starts it again; else `run` returns.
    """

    name: ClassVar[str] = "terminal"
    needs_password: ClassVar[bool] = True
    can_move: ClassVar[bool] = False

    def __init__(
        self,
        command: Sequence[str] | None = None,
        *,
        size: tuple[int, int] = (80 * CELL_WIDTH, 24 * CELL_HEIGHT),
        environment: Mapping[str, str] | None = None,
        folder: str | None = None,
        again: bool = True,
    ) -> None:
        self.command = list(command) if command else [os.environ.get("SHELL") or "/bin/sh"]
        self.environment = _environment() if environment is None else dict(environment)
        self.folder = folder
        self.again = again
        self._size, (columns, rows) = _fitting(*size)
        self.screen = TerminalScreen(columns, rows, self._send)
        self.keyboard = Keyboard()
        #: How many lines of the history are looked back at.
        self.back = 0
        #: The exit status of the program that ended last.
        self.status: int | None = None
        self._child: Child | None = None
        self._selection = Selection()
        self._changed = asyncio.Event()
        self._enter = asyncio.Event()
        self._pointer = (0, 0)  # column and row
        self._relative = (0, 0)  # pixels, in the relative mouse mode

    def attach(self, host: Host) -> None:
        """The server has started."""
        self.host = host
        self._view = TerminalView(host.display(0))
        self._view.resize(*self._size)
        host.set_cursor(scenery.beam(), 3, 8)
        self.agent = AgentEnd(host.agent(), self, lambda what: None)
        self.show()

    # -- life ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the program, again and again if it is to be."""
        drawing = asyncio.create_task(self._draw())
        try:
            while True:
                self.status = await self._run_once()
                if not self.again:
                    return
                self._say(f"[ended with status {self.status}; Enter starts it again]")
                self._enter.clear()
                await self._enter.wait()
                self._say("")
        finally:
            drawing.cancel()
            self.show()

    async def _run_once(self) -> int:
        size = (self.screen.columns, self.screen.lines)
        child = await Child.start(self.command, *size, self.environment, self.folder)
        self._child = child
        loop = asyncio.get_running_loop()
        try:
            while data := await child.read(_READ):
                began = loop.time()
                self._feed(data)
                # A program that only writes leaves half of the time to everything else.
                await asyncio.sleep(min(loop.time() - began, 0.1))
        finally:
            self._child = None
            status = await child.stop()
        return status

    def _feed(self, data: bytes) -> None:
        scrolled = self.screen.scrolled
        self.screen.feed(data)
        if self.back:  # what is looked at stays in place
            self.back = min(self.back + self.screen.scrolled - scrolled, len(self.screen.history))
        self._changed.set()

    def _say(self, text: str) -> None:
        self._feed(f"\x1b[m\x1b[?1049l\x1b[?25h\r\n{text}\r\n".encode())

    async def _draw(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self.show()
            await asyncio.sleep(_FRAME_SECONDS)

    def show(self) -> None:
        """Draw what has changed."""
        self._view.show(self.rows())

    def rows(self) -> list[Row]:
        """Return the lines that are looked at, with cursor and selection as reversed cells."""
        screen = self.screen
        rows = [screen.row(y) for y in range(screen.lines)]
        if self.back and not screen.alternate:
            past = list(screen.history)[-self.back :][: screen.lines]
            blank = (screen.default_char,) * screen.columns
            filled = [(row + blank)[: screen.columns] for row in past]
            rows = filled + rows[: screen.lines - len(filled)]
        elif not screen.cursor.hidden:
            x, y = min(screen.cursor.x, screen.columns - 1), screen.cursor.y
            char = rows[y][x]
            cursor = (char._replace(reverse=not char.reverse),)
            rows[y] = rows[y][:x] + cursor + rows[y][x + 1 :]
        return self._selection.mark(rows)

    # -- input ---------------------------------------------------------------------------------

    def _send(self, text: str) -> None:
        if self._child is not None:
            self._child.write(text.encode("utf-8", "replace"))

    def key(self, code: int, pressed: bool) -> None:
        """A key: to the program, or through the history."""
        locks = self.keyboard.locks
        found = self.keyboard.key(code, pressed)
        if locks != self.keyboard.locks:
            self.host.set_locks(self.keyboard.locks)
        if not pressed:
            return
        held = self.keyboard.modifiers
        if held.shift and found in (_PAGE_UP, _PAGE_DOWN):
            lines = self.screen.lines - 1
            self.look_back(lines if found == _PAGE_UP else -lines)
        elif held.shift and found == _INSERT:
            self.paste(self.agent.clipboard)
        else:
            self._key_to_program(found)

    def _key_to_program(self, found: int) -> None:
        text = terminal_keys(self.keyboard, found, self.screen.application_keys)
        if not text:
            return
        if text == "\r":
            self._enter.set()
        self.look_back(-self.back)
        self._selection.clear()
        self._send(text)
        self._changed.set()

    def locks(self, locks: int) -> None:
        """The client wants its keyboard lights."""
        self.keyboard.locks = locks
        self.host.set_locks(locks)

    def paste(self, text: str) -> None:
        """Type a text as a terminal pastes it."""
        text = text.replace("\r\n", "\r").replace("\n", "\r").replace("\x1b", "")
        if self.screen.bracketed_paste:
            text = f"\x1b[200~{text}\x1b[201~"
        self._send(text)

    def look_back(self, lines: int) -> None:
        """Go back in the history by so many lines, or forth."""
        back = min(max(self.back + lines, 0), len(self.screen.history))
        if back != self.back and not self.screen.alternate:
            self.back = back
            self._selection.clear()
            self._changed.set()

    def mouse_move(self, x: int, y: int, display: int, buttons: int) -> None:
        """The pointer is somewhere: to the program if it asked, else it selects."""
        column = min(max(x // CELL_WIDTH, 0), self.screen.columns - 1)
        row = min(max(y // CELL_HEIGHT, 0), self.screen.lines - 1)
        if (column, row) == self._pointer:
            return
        self._pointer = (column, row)
        wanted = self.screen.mouse
        if wanted == 3 or (wanted == 2 and buttons & 7):
            first = next((n for n in range(3) if buttons >> n & 1), 3)
            self._report(32 + first, True)
        elif not wanted and buttons & 1:
            self._selection.extend(self._pointer)
            self._changed.set()

    def mouse_motion(self, dx: int, dy: int, buttons: int) -> None:
        """The mouse has moved by so much."""
        self._relative = (
            min(max(self._relative[0] + dx, 0), self.screen.columns * CELL_WIDTH - 1),
            min(max(self._relative[1] + dy, 0), self.screen.lines * CELL_HEIGHT - 1),
        )
        self.mouse_move(*self._relative, 0, buttons)
        self.host.move_cursor(*self._relative)

    def mouse_button(self, button: int, pressed: bool, buttons: int) -> None:
        """A button: to the program if it asked, else it selects, pastes or scrolls."""
        if self.screen.mouse and not self.keyboard.modifiers.shift:
            code = {4: 64, 5: 65}.get(button, button - 1)
            if pressed or button <= 3:
                self._report(code, pressed)
        elif button in (_WHEEL_UP, _WHEEL_DOWN):
            if pressed:
                self._wheel(button == _WHEEL_UP)
        elif button == _LEFT:
            self._select(pressed)
        elif button == _MIDDLE and pressed:
            self.paste(self.agent.clipboard)

    def _wheel(self, up: bool) -> None:
        if self.screen.alternate:
            start = "\x1bO" if self.screen.application_keys else "\x1b["
            self._send((start + ("A" if up else "B")) * _WHEEL_LINES)
        else:
            self.look_back(_WHEEL_LINES if up else -_WHEEL_LINES)

    def _select(self, pressed: bool) -> None:
        if pressed:
            self._selection.start(self._pointer)
        elif text := self._selection.text(self.rows()):
            self.agent.copy(text)
            self.agent.pump()
        self._changed.set()

    def _report(self, code: int, pressed: bool) -> None:
        """Tell the program of the mouse, as xterm does."""
        held = self.keyboard.modifiers
        code += 8 * held.alt + 16 * held.ctrl
        x, y = self._pointer[0] + 1, self._pointer[1] + 1
        if self.screen.mouse_in_digits:
            self._send(f"\x1b[<{code};{x};{y}{'M' if pressed else 'm'}")
        elif max(x, y) <= 94:  # each is one character below 127
            code = code if pressed else code | 3
            self._send("\x1b[M" + "".join(chr(32 + value) for value in (code, x, y)))

    # -- what clients do -----------------------------------------------------------------------

    def monitors(self, heads: tuple[tuple[int, int, int, int], ...]) -> None:
        """A client wants another size."""
        if heads and heads[0][2] > 0 and heads[0][3] > 0:
            self.resize(heads[0][2], heads[0][3])

    def resize(self, width: int, height: int) -> None:
        """Take a size in pixels, as far as it is one that a terminal can have."""
        size, (columns, rows) = _fitting(width, height)
        if size == self._view.size:
            return
        self.back = 0
        self._selection.clear()
        self.screen.resize(rows, columns)
        if self._child is not None:
            self._child.resize(columns, rows)
        self._view.resize(*size)
        self.show()

    def client_disconnected(self, client: int) -> None:
        """When the last has gone, no key stays down."""
        if not self.host.clients:
            self.keyboard.release_all()

    def device_readable(self, device: HostDevice) -> None:
        """The client has written to the agent."""
        self._pump(device)

    def device_writable(self, device: HostDevice) -> None:
        """The client has read from the agent."""
        self._pump(device)

    def _pump(self, device: HostDevice) -> None:
        if device is self.agent.device:
            self.agent.pump()
