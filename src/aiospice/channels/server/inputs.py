"""The inputs channel, server end: what the client presses and where its pointer is.

Clients send keys as the bytes that a PC keyboard sends (scancode set 1). Bytes are put together
here, so that a guest sees whole keys: ``0x1c`` for Enter, ``0xe048`` for the cursor key up (prefix
0xe0), ``0xe11d45`` for Pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from aiospice.channels.base import Key
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.server.base import ServerChannel, ServerPhase
from aiospice.errors import RemoteProtocolError
from aiospice.wire import inputs
from aiospice.wire.handover import InputsRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ButtonChanged",
    "HeldDown",
    "InputsServer",
    "KeyChanged",
    "LocksRequested",
    "MouseMoved",
    "PointerPlaced",
    "Scancodes",
    "let_up",
]

#: Bytes of one key (Pause has the most, 0xe1 0x1d 0x45) and its break bit.
_BREAK = 0x80
#: Keys that one client may hold down at a time; no keyboard has more.
KEYS_DOWN_LIMIT = 256
_MOTION = (inputs.MouseMotion.number, inputs.MousePosition.number)
#: Motion messages that a client may have sent without an acknowledgement.
MOST_MOTION = 16


class KeyChanged(Event):
    """A key went down or up; down again while it is down is the keyboard's repeat."""

    #: Scancode of set 1: 0x01 to 0x7f, 0xe001 to 0xe07f, or 0xe11d45.
    code: int
    pressed: bool


class LocksRequested(Event):
    """The client wants the keyboard's locks to be so (`inputs.Locks`)."""

    locks: int


class PointerPlaced(Event):
    """The pointer is at a pixel of a display (client mouse mode)."""

    x: int
    y: int
    display: int
    #: `inputs.Buttons` that are down.
    buttons: int


class MouseMoved(Event):
    """The mouse moved by so many pixels (server mouse mode)."""

    dx: int
    dy: int
    buttons: int


class ButtonChanged(Event):
    """A button of the mouse went down or up (`inputs.Button`; 4 and 5 are the wheel)."""

    button: int
    pressed: bool
    buttons: int


class HeldDown(NamedTuple):
    """What a client holds down: keys in the order they went down, `inputs.Buttons`."""

    keys: tuple[int, ...] = ()
    buttons: int = 0
    #: The first bytes of a key whose last hasn't come.
    prefix: int = 0


def let_up(keys: Iterable[int], buttons: int) -> list[Event]:
    """What is to be told when what was held down isn't any more: everything goes up."""
    events: list[Event] = [KeyChanged(code=code, pressed=False) for code in keys]
    for button in range(1, 8):
        bit = 1 << (button - 1)
        if buttons & bit:
            buttons &= ~bit
            events.append(ButtonChanged(button=button, pressed=False, buttons=buttons))
    return events


class Scancodes:
    """Puts the bytes of a keyboard together to keys. Plain data."""

    def __init__(self) -> None:
        self.prefix = 0

    def feed(self, byte: int) -> tuple[int, bool] | None:
        """Take a byte; the key (code, pressed) that it completes, or None."""
        if byte in (0xE0, 0xE1):
            self.prefix = byte
            return None
        prefix, code, pressed = self.prefix, byte & ~_BREAK, not byte & _BREAK
        if prefix == 0xE1:  # Pause: e1 1d 45, and e1 9d c5 for its end
            self.prefix = 0xE11D if code == 0x1D else 0
            return None
        self.prefix = 0
        if prefix == 0xE11D:
            return (0xE11D45, pressed) if code == 0x45 else None
        if not code:
            return None
        return (prefix << 8 | code, pressed)


class InputsServer(ServerChannel):
    """Inputs: remembers what is down, so that it can be released when the client leaves."""

    handlers: ClassVar[dict[int, str]] = {
        inputs.KeyDown.number: "_on_key",
        inputs.KeyUp.number: "_on_key",
        inputs.ClientKeyModifiers.number: "_on_locks",
        inputs.KeyScancode.number: "_on_scancode",
        inputs.MouseMotion.number: "_on_motion",
        inputs.MousePosition.number: "_on_position",
        inputs.MousePress.number: "_on_press",
        inputs.MouseRelease.number: "_on_release",
    }
    limit: ClassVar[int] = 4 << 10

    def __init__(self, key: Key, framing: Framing, client_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, client_caps)
        self._scancodes = Scancodes()
        #: Keys that are down, in the order they went down.
        self.keys_down: dict[int, None] = {}
        #: Buttons that are down, as `inputs.Buttons`.
        self.buttons = 0
        #: Motion messages since the last acknowledgement.
        self.motion_count = 0
        #: Whether motion is counted: what the source has counted isn't again.
        self.counts = True
        #: The newest locks that the client doesn't know of yet.
        self._locks: int | None = None
        #: What went up though the client holds it down, since it was on its way for too long.
        self._lifted = HeldDown()

    def init(self, locks: int) -> None:
        """Begin: the guest's locks."""
        self.send(inputs.Init(keyboard_modifiers=locks))

    def locks(self, locks: int) -> None:
        """Tell the guest's locks; a client that doesn't read is told the newest only."""
        self._locks = locks
        self._tell_locks()

    def _tell_locks(self) -> None:
        waiting = any(number == inputs.KeyModifiers.number for number, _ in self._queue)
        if self._locks is not None and not waiting:
            self.send(inputs.KeyModifiers(modifiers=self._locks))
            self._locks = None

    def _left(self, number: int, body: bytes) -> None:
        if self._locks is not None:
            self._tell_locks()

    def release_all(self) -> list[Event]:
        """What is to be told when the client leaves: everything goes up."""
        events = let_up(self.keys_down, self.buttons)
        self.keys_down.clear()
        self.buttons = 0
        self._lifted = HeldDown()
        return events

    def lift_all(self) -> list[Event]:
        """As `release_all`, until it is known what the client still holds: `press_again`."""
        before = self._lifted
        lifted = HeldDown((*before.keys, *self.keys_down), before.buttons | self.buttons)
        events = self.release_all()
        self._lifted = lifted
        return events

    def press_again(self) -> list[Event]:
        """What is to be told now that all is known that the client has typed meanwhile."""
        lifted, self._lifted = self._lifted, HeldDown()
        events: list[Event] = []
        for code in lifted.keys:
            self.keys_down[code] = None
            events.append(KeyChanged(code=code, pressed=True))
        for button in range(1, 8):
            bit = 1 << (button - 1)
            if lifted.buttons & bit:
                self.buttons |= bit
                event = ButtonChanged(button=button, pressed=True, buttons=self.buttons)
                events.append(event)
        return events

    # -- moving ------------------------------------------------------------------------------

    def freeze(self, kept: Iterable[tuple[int, bytes]] = ()) -> InputsRecord:
        """The record for the target; what is held down isn't released here any more.

        kept: messages that the target gets without counting what moves in them.
        """
        self.keys_down.clear()
        self.buttons = 0
        self._lifted = HeldDown()
        count = self.motion_count + sum(number in _MOTION for number, _ in kept)
        return InputsRecord(motion_count=min(count, MOST_MOTION))

    def thaw(
        self, record: InputsRecord, locks: int, held: HeldDown | None, *, lifted: bool = False
    ) -> None:
        """Go on where the source's record says; ``held``: what is held down, as the source knew.

        ``lifted``: it went up here meanwhile, see `press_again`.
        """
        record.check(max_motion=MOST_MOTION)
        if held is not None:
            self._scancodes.prefix = held.prefix
            if lifted:
                self._lifted = held
            else:
                self.keys_down = dict.fromkeys(held.keys)
                self.buttons = held.buttons
        self.locks(locks)
        self.motion_count = record.motion_count
        for _ in range(self.motion_count // inputs.MOTION_ACK_BUNCH):
            self.answer(inputs.MouseMotionAck())
        self.motion_count %= inputs.MOTION_ACK_BUNCH

    @property
    def held_down(self) -> HeldDown:
        """What the client holds down."""
        return HeldDown(tuple(self.keys_down), self.buttons, self._scancodes.prefix)

    # -- in ----------------------------------------------------------------------------------

    def _on_key(self, message: inputs.KeyDown | inputs.KeyUp) -> None:
        code = message.code
        while code:
            self._byte(code & 0xFF)
            code >>= 8

    def _on_scancode(self, message: inputs.KeyScancode) -> None:
        for byte in message.codes:
            self._byte(byte)

    def _byte(self, byte: int) -> None:
        key = self._scancodes.feed(byte)
        if key is None:
            return
        code, pressed = key
        if code in self._lifted.keys:
            keys = tuple(other for other in self._lifted.keys if other != code)
            self._lifted = self._lifted._replace(keys=keys)
        if pressed:
            if len(self.keys_down) >= KEYS_DOWN_LIMIT:
                raise RemoteProtocolError(f"{KEYS_DOWN_LIMIT} keys are down at a time")
            self.keys_down[code] = None
        else:
            self.keys_down.pop(code, None)
        self._events.append(KeyChanged(code=code, pressed=pressed))

    def _on_locks(self, message: inputs.ClientKeyModifiers) -> None:
        self._events.append(LocksRequested(locks=message.modifiers & 7))

    def _moved(self) -> None:
        self.motion_count += int(self.counts)
        # Once the session moves, nothing is acknowledged here any more: the target does it.
        while self.motion_count >= inputs.MOTION_ACK_BUNCH and self.phase is ServerPhase.OPEN:
            self.motion_count -= inputs.MOTION_ACK_BUNCH
            self.answer(inputs.MouseMotionAck())

    def _on_motion(self, message: inputs.MouseMotion) -> None:
        self._moved()
        buttons = message.buttons_state & 0x7F
        self._events.append(MouseMoved(dx=message.dx, dy=message.dy, buttons=buttons))

    def _on_position(self, message: inputs.MousePosition) -> None:
        self._moved()
        self._events.append(
            PointerPlaced(
                x=message.x,
                y=message.y,
                display=message.display_id,
                buttons=message.buttons_state & 0x7F,
            )
        )

    def _on_press(self, message: inputs.MousePress) -> None:
        self._button(message.button, pressed=True)

    def _on_release(self, message: inputs.MouseRelease) -> None:
        self._button(message.button, pressed=False)

    def _button(self, button: int, *, pressed: bool) -> None:
        if not 1 <= button <= 7:
            raise RemoteProtocolError(f"there is no button {button}")
        bit = 1 << (button - 1)
        self._lifted = self._lifted._replace(buttons=self._lifted.buttons & ~bit)
        self.buttons = self.buttons | bit if pressed else self.buttons & ~bit
        self._events.append(ButtonChanged(button=button, pressed=pressed, buttons=self.buttons))
