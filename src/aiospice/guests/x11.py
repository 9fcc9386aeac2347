"""A guest that is an X program in an X server of its own, or a display that is there already.

Whoever is let in can do what the program, or the display's user, can: it is never served without a
password.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

from aiospice.errors import LocalError, SessionLost
from aiospice.guests.keys import Keyboard, x_keycode
from aiospice.guests.xscreen import Input, News, XScreen
from aiospice.guests.xvfb import Xvfb, end_process, start_program
from aiospice.server.guest import Guest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiospice.server.guest import Host

__all__ = ["X11Guest"]

_log = logging.getLogger("aiospice.guests")

SMALLEST = (320, 200)
#: Side and extra buttons: those before are numbered alike, but X counts four directions of wheels.
_BUTTONS = {6: 8, 7: 9}
_FRAME_SECONDS = 1 / 30
_LAST_SECONDS = 0.5
#: Events that wait for the X server; a flood beyond is dropped, but for releases.
_WAITING_INPUTS = 1000


class X11Guest(Guest):
    """An X screen.

    ``command``: the program to run and its arguments (xterm), None with ``display``: none.
    ``display``: a display that runs, such as ``:0``; None: an Xvfb is started, of the given
    ``size``, which clients may change up to ``largest``. When the program has ended, `run` raises
    `SessionLost`, which says so.
    """

    name: ClassVar[str] = "x11"
    needs_password: ClassVar[bool] = True
    can_move: ClassVar[bool] = False

    def __init__(
        self,
        command: Sequence[str] | None = None,
        *,
        display: str | None = None,
        size: tuple[int, int] = (1024, 768),
        largest: tuple[int, int] = (2560, 1600),
    ) -> None:
        self.command = list(command or ([] if display else ["xterm"]))
        self.display = display
        self.keyboard = Keyboard()
        self._size = size
        self._largest = (max(size[0], largest[0]), max(size[1], largest[1]))
        self._server: Xvfb | None = None
        self._screen: XScreen | None = None
        self._thread = ThreadPoolExecutor(1, "aiospice-x11")
        self._inputs: list[Input] = []
        self._wanted: tuple[int, int] | None = None
        self._wanted_locks: int | None = None
        self._locks = 0
        self._heard = asyncio.Event()
        self._relative = False

    def attach(self, host: Host) -> None:
        """The server has started; the screen is black until the X server is there."""
        self.host = host
        self._display = host.display(0)
        self._display.resize(*self._size)

    @property
    def environment(self) -> dict[str, str]:
        """What further programs need to show themselves here; empty while there is no server."""
        if self._server is not None:
            return self._server.environment
        return {"DISPLAY": self.display} if self.display else {}

    # -- life ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start what is to be started, show it, end it."""
        program: asyncio.subprocess.Process | None = None
        try:
            screen = self._screen = await self._connect()
            if self.command:
                program = await start_program(self.command, self.environment)
            showing = asyncio.create_task(self._show(screen))
            ending = asyncio.create_task(self._ended(program))
            try:
                await asyncio.wait((showing, ending), return_when=asyncio.FIRST_COMPLETED)
                # A program may have ended because the X server has: that is told then.
                await asyncio.wait((showing,), timeout=_LAST_SECONDS)
            finally:
                ending.cancel()
                showing.cancel()
                await asyncio.gather(ending, return_exceptions=True)
                (result,) = await asyncio.gather(showing, return_exceptions=True)
            if isinstance(result, Exception):
                raise result
            if program is not None:
                raise SessionLost(f"{self.command[0]} has ended, status {program.returncode}")
        finally:
            await self._finish(program)

    async def _connect(self) -> XScreen:
        if self.display is not None:
            found: XScreen = await self._do(XScreen, self.display)
            return found
        self._server = Xvfb(*self._largest)
        await self._server.start()
        screen: XScreen = await self._do(XScreen, self._server.display, self._server.cookie)
        await self._do(screen.resize, *self._size)
        return screen

    async def _ended(self, program: asyncio.subprocess.Process | None) -> None:
        if program is None:
            await asyncio.Event().wait()
        else:
            await program.wait()

    async def _finish(self, program: asyncio.subprocess.Process | None) -> None:
        screen, self._screen = self._screen, None
        if program is not None:
            await end_process(program)
        if screen is not None:
            await self._do(screen.close)
        self._thread.shutdown(wait=False)
        if self._server is not None:
            await self._server.stop()

    async def _do(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call what waits for the X server, in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    async def _show(self, screen: XScreen) -> None:
        """Bring to the host what is new and to the X server what clients do."""
        loop = asyncio.get_running_loop()
        while True:
            await self._to_screen(screen)
            news = await self._do(screen.news)
            self._take(news)
            if not news.empty:
                await asyncio.sleep(_FRAME_SECONDS if not self._inputs else 0)
                continue
            if self._inputs:
                continue
            self._heard.clear()
            loop.add_reader(screen.descriptor, self._heard.set)
            try:
                await self._heard.wait()
            finally:
                loop.remove_reader(screen.descriptor)

    async def _to_screen(self, screen: XScreen) -> None:
        if self._wanted is not None:
            size, self._wanted = self._wanted, None
            try:
                await self._do(screen.resize, *size)
            except LocalError as error:
                _log.warning("%s", error)
        if self._wanted_locks is not None:
            locks, self._wanted_locks = self._wanted_locks, None
            await self._do(screen.set_locks, locks)
        if self._inputs:
            inputs, self._inputs = self._inputs, []
            place = await self._do(screen.inject, inputs)
            if self._relative:
                self.host.move_cursor(*place)

    def _take(self, news: News) -> None:
        display = self._display
        if news.size != (display.width, display.height):
            display.resize(*news.size)
        for rect, pixels in news.parts:
            display.pixels[rect.y : rect.bottom, rect.x : rect.right] = pixels
            display.update(*rect)
        if news.cursor is not None:
            self._set_cursor(*news.cursor)
        if news.locks != self._locks:
            self._locks = news.locks
            self.host.set_locks(news.locks)

    def _set_cursor(self, pixels: Any, hot_x: int, hot_y: int) -> None:
        if pixels.size and pixels[..., 3].any():
            self.host.set_cursor(pixels, hot_x, hot_y)
        else:
            self.host.hide_cursor()

    # -- input ---------------------------------------------------------------------------------

    def _input(self, kind: str, a: int, b: int) -> None:
        last = self._inputs[-1] if self._inputs else None
        if kind == "place" and last is not None and last.kind == kind:
            self._inputs.pop()
        elif kind == "motion" and last is not None and last.kind == kind:
            self._inputs.pop()
            a, b = a + last.a, b + last.b
        elif len(self._inputs) >= _WAITING_INPUTS and (b or kind == "place"):
            return
        self._inputs.append(Input(kind, a, b))
        self._heard.set()

    def key(self, code: int, pressed: bool) -> None:
        """A key; repeats are left to the X server."""
        held = set(self.keyboard.down)
        found = self.keyboard.key(code, pressed)
        keycode = x_keycode(found)
        if keycode and (found in held) != pressed:
            self._input("key", keycode, int(pressed))

    def mouse_move(self, x: int, y: int, display: int, buttons: int) -> None:
        """The pointer is somewhere."""
        self._relative = False
        self._input("place", x, y)

    def mouse_motion(self, dx: int, dy: int, buttons: int) -> None:
        """The mouse has moved by so much."""
        self._relative = True
        self._input("motion", dx, dy)

    def mouse_button(self, button: int, pressed: bool, buttons: int) -> None:
        """A button."""
        self._input("button", _BUTTONS.get(button, button), int(pressed))

    def locks(self, locks: int) -> None:
        """The client wants its keyboard lights."""
        self._wanted_locks = locks
        self._heard.set()

    def monitors(self, heads: tuple[tuple[int, int, int, int], ...]) -> None:
        """A client wants another size; a display that isn't ours keeps its own."""
        if self.display is None and heads and heads[0][2] > 0 and heads[0][3] > 0:
            width = min(max(heads[0][2], SMALLEST[0]), self._largest[0])
            self._wanted = (width, min(max(heads[0][3], SMALLEST[1]), self._largest[1]))
            self._heard.set()

    def client_disconnected(self, client: int) -> None:
        """When the last has gone, no key stays down."""
        if not self.host.clients:
            for code in self.keyboard.release_all():
                self._input("key", x_keycode(code), 0)
