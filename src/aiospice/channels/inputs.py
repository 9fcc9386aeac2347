"""The inputs channel, client end: keys, buttons and the mouse.

Motion is limited by acknowledgements: the server returns one for every `MOTION_ACK_BUNCH`
messages, and spice-gtk (``src/channel-inputs.c``) has at most twice as many on the way; what moves
meanwhile is added up.
"""

from __future__ import annotations

from typing import ClassVar

from aiospice.channels.base import ClientChannel, Key
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.wire import inputs
from aiospice.wire.message import Message

__all__ = ["InputsChannel", "LocksChanged"]

_MOTION_WINDOW = 2 * inputs.MOTION_ACK_BUNCH


class LocksChanged(Event):
    """The guest's keyboard lights: 1 scroll lock, 2 num lock, 4 caps lock."""

    locks: int


class InputsChannel(ClientChannel):
    """Inputs: what is pressed is remembered, so that it can be released."""

    handlers: ClassVar[dict[int, str]] = {
        inputs.Init.number: "_on_init",
        inputs.KeyModifiers.number: "_on_key_modifiers",
        inputs.MouseMotionAck.number: "_on_motion_ack",
    }

    def __init__(self, key: Key, framing: Framing, server_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, server_caps)
        self.locks = 0
        #: Scancodes of the keys that are down, in the order they went down.
        self.keys_down: dict[int, None] = {}
        #: Buttons that are down, as `inputs.Buttons`.
        self.buttons = 0
        self._unacked = 0
        self._motion: tuple[int, int] | None = None
        self._position: tuple[int, int, int] | None = None

    def key_down(self, code: int) -> None:
        """Press a key: scancode of set 1, 0xe0 in the low byte for extended keys."""
        self.keys_down[code] = None
        self.send(inputs.KeyDown(code=code))

    def key_up(self, code: int) -> None:
        """Release a key, given by the code it was pressed with (or by its break code)."""
        break_bit = 0x8000 if code > 0xFF else 0x80  # in the last byte of the sequence
        self.keys_down.pop(code & ~break_bit, None)
        self.send(inputs.KeyUp(code=code | break_bit))

    def set_locks(self, locks: int) -> None:
        """Ask for keyboard lights (`inputs.Locks`)."""
        self.send(inputs.ClientKeyModifiers(modifiers=locks))

    def press(self, button: int) -> None:
        """Press a mouse button (`inputs.Button`)."""
        self._flush_pointer()
        self.buttons |= 1 << (button - 1)
        self.send(inputs.MousePress(button=button, buttons_state=self.buttons))

    def release(self, button: int) -> None:
        """Release a mouse button."""
        self._flush_pointer()
        self.buttons &= ~(1 << (button - 1))
        self.send(inputs.MouseRelease(button=button, buttons_state=self.buttons))

    def position(self, x: int, y: int, display: int = 0) -> None:
        """Put the pointer at a pixel (client mouse mode)."""
        self._motion = None
        self._position = (x, y, display)
        self._pump_pointer()

    def motion(self, dx: int, dy: int) -> None:
        """Move the mouse by so much (server mouse mode)."""
        before = self._motion or (0, 0)
        self._position = None
        self._motion = (before[0] + dx, before[1] + dy)
        self._pump_pointer()

    def release_all(self) -> None:
        """Release every key and button that is down."""
        for code in list(self.keys_down):
            self.key_up(code)
        for button in inputs.Button:
            if button and self.buttons & (1 << (button - 1)):
                self.release(button)

    @property
    def pointer_waits(self) -> bool:
        """Whether motion is held back until the server acknowledges."""
        return self._motion is not None or self._position is not None

    def _pump_pointer(self) -> None:
        if self._unacked < _MOTION_WINDOW:
            self._flush_pointer()

    def _flush_pointer(self) -> None:
        message: Message
        if self._position is not None:
            x, y, display = self._position
            message = inputs.MousePosition(x=x, y=y, buttons_state=self.buttons, display_id=display)
        elif self._motion is not None:
            dx, dy = self._motion
            message = inputs.MouseMotion(dx=dx, dy=dy, buttons_state=self.buttons)
        else:
            return
        self._position = self._motion = None
        self._unacked += 1
        self.send(message)

    def _on_init(self, message: inputs.Init) -> None:
        self._locks(message.keyboard_modifiers)

    def _on_key_modifiers(self, message: inputs.KeyModifiers) -> None:
        self._locks(message.modifiers)

    def _locks(self, locks: int) -> None:
        self.locks = locks
        self._events.append(LocksChanged(locks=locks))

    def _on_motion_ack(self, message: inputs.MouseMotionAck) -> None:
        self._unacked = max(0, self._unacked - inputs.MOTION_ACK_BUNCH)
        self._pump_pointer()

    def restart(self, framing: Framing, server_caps: tuple[int, ...]) -> list[Event]:
        """Begin anew: nothing is unacknowledged there."""
        self._unacked = 0
        events = super().restart(framing, server_caps)
        self._pump_pointer()
        return events
