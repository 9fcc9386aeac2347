"""Keyboard and mouse of a session, as a person thinks of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiospice.channels.inputs import InputsChannel
from aiospice.errors import LocalError, StateError
from aiospice.wire.inputs import Button
from aiospice.wire.main import MouseModes

if TYPE_CHECKING:
    from aiospice.aio.shell import Shell
    from aiospice.client.keyboard import KeyEvent

__all__ = ["Keyboard", "Mouse"]

#: Seconds between keystrokes and clicks: an emulated PS/2 keyboard queues 16 bytes and drops the
#: rest.
PAUSE = 0.02
_BUTTONS = {
    "left": Button.LEFT,
    "middle": Button.MIDDLE,
    "right": Button.RIGHT,
    "up": Button.UP,
    "down": Button.DOWN,
    "side": Button.SIDE,
    "extra": Button.EXTRA,
}
#: Pixels of one relative motion: an emulated mouse reports 127 at a time, and what it could not
#: report yet would be added to the next motion.
_STRIDE = 200
#: Longer than a screen of unknown size is wide: brings a relative pointer into the corner.
_FAR = 8192


class _Device:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def _inputs(self) -> InputsChannel:
        channel = self._shell.core.channels.get((3, 0))
        if not isinstance(channel, InputsChannel):
            raise self._shell.core.refused.get((3, 0)) or StateError(
                "the server has no inputs channel, or it was not opened"
            )
        return channel


class Keyboard(_Device):
    """Keys. What goes down comes up again, at the latest when the session is closed."""

    async def type(self, text: str, *, layout: str = "us", pause: float = PAUSE) -> None:
        """Type text through a keyboard layout, ``pause`` seconds between two strokes.

        The layout must be the guest's. `LocalError` for characters that it doesn't have.
        """
        from aiospice.client.keyboard import type_text

        await self._play(type_text(text, layout), pause)

    async def press(self, *keys: str, layout: str = "us", pause: float = PAUSE) -> None:
        """Press and release keys or combinations such as ``ctrl-alt-f2``, one after the other."""
        from aiospice.client.keyboard import press_keys

        strokes = [press_keys(key, layout) for key in keys]  # all are known before one is pressed
        for events in strokes:
            await self._play(events, pause)

    def down(self, code: int) -> None:
        """Hold a key down, by scancode (set 1; extended keys with 0xe0 in the low byte)."""
        self._inputs().key_down(code)
        self._shell.turn()

    def up(self, code: int) -> None:
        """Let a key go."""
        self._inputs().key_up(code)
        self._shell.turn()

    async def _play(self, events: list[KeyEvent], pause: float) -> None:
        for event in events:
            if event.pressed:
                self.down(event.code)
            else:
                self.up(event.code)
                await asyncio.sleep(pause)


class Mouse(_Device):
    """The pointer. In client mouse mode positions are pixels of a display.

    In server mode (no tablet and no agent in the guest) only relative motion exists: a position is
    reached by way of the upper left corner, as exactly as the guest's acceleration allows.
    """

    async def move(self, x: int, y: int, *, display: int = 0) -> None:
        """Put the pointer at pixel (x, y)."""
        channel = self._inputs()
        if x < 0 or y < 0:
            raise LocalError(f"({x}, {y}) is no pixel")
        core = self._shell.core.main_channel()
        if core is not None and core.current_mouse_mode == MouseModes.CLIENT:
            channel.position(x, y, display)
            self._shell.turn()
        else:
            screen = self._shell.core.screens.get(display)
            far = max(screen.size) if screen is not None and screen.ready else _FAR
            await self._glide(channel, -far, -far)
            await self._glide(channel, x, y)

    async def click(
        self, x: int, y: int, *, button: str = "left", display: int = 0, pause: float = PAUSE
    ) -> None:
        """Move to (x, y), press and release."""
        number = self._button(button)
        await self.move(x, y, display=display)
        await asyncio.sleep(pause)
        self._inputs().press(number)
        self._shell.turn()
        await asyncio.sleep(pause)
        self._inputs().release(number)
        self._shell.turn()

    async def drag(
        self, x0: int, y0: int, x1: int, y1: int, *, button: str = "left", pause: float = PAUSE
    ) -> None:
        """Press at one point, move to another in small steps, release."""
        number = self._button(button)
        await self.move(x0, y0)
        await asyncio.sleep(pause)
        self._inputs().press(number)
        self._shell.turn()
        steps = max(1, min(16, max(abs(x1 - x0), abs(y1 - y0)) // 8))
        relative = self._relative()
        last = (x0, y0)
        for step in range(1, steps + 1):
            await asyncio.sleep(pause)
            at = (x0 + (x1 - x0) * step // steps, y0 + (y1 - y0) * step // steps)
            if relative:
                self._inputs().motion(at[0] - last[0], at[1] - last[1])
            else:
                self._inputs().position(*at)
            last = at
            self._shell.turn()
        await asyncio.sleep(pause)
        self._inputs().release(number)
        self._shell.turn()

    async def scroll(self, steps: int, *, pause: float = PAUSE) -> None:
        """Turn the wheel: down for positive steps, up for negative ones."""
        number = Button.DOWN if steps > 0 else Button.UP
        for _ in range(abs(steps)):
            self._inputs().press(number)
            self._inputs().release(number)
            self._shell.turn()
            await asyncio.sleep(pause)

    async def _glide(self, channel: InputsChannel, dx: int, dy: int) -> None:
        """Move by so much, in steps that the guest's mouse can follow."""
        steps = max(1, -(-max(abs(dx), abs(dy)) // _STRIDE))
        for step in range(1, steps + 1):
            channel.motion(
                dx * step // steps - dx * (step - 1) // steps,
                dy * step // steps - dy * (step - 1) // steps,
            )
            self._shell.turn()
            await asyncio.sleep(PAUSE)

    def _relative(self) -> bool:
        core = self._shell.core.main_channel()
        return core is None or core.current_mouse_mode != MouseModes.CLIENT

    @staticmethod
    def _button(name: str) -> int:
        try:
            return _BUTTONS[name]
        except KeyError:
            raise LocalError(f"no button {name!r}; there are {', '.join(_BUTTONS)}") from None
