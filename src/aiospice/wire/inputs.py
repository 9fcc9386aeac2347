"""The inputs channel (spice-common ``spice.proto``, ``InputsChannel``)."""

from __future__ import annotations

from enum import IntEnum

from aiospice.wire.hold import Held, Hold, Release
from aiospice.wire.message import CLIENT, SERVER, Message
from aiospice.wire.record import i32, rest, u8, u16, u32

__all__ = [
    "MOTION_ACK_BUNCH",
    "Button",
    "Buttons",
    "ClientKeyModifiers",
    "Held",
    "Hold",
    "Init",
    "KeyDown",
    "KeyModifiers",
    "KeyScancode",
    "KeyUp",
    "Locks",
    "MouseMotion",
    "MouseMotionAck",
    "MousePosition",
    "MousePress",
    "MouseRelease",
    "Release",
]

_INPUTS = (3,)
#: The server acknowledges every so many motion and position messages
#: (``SPICE_INPUT_MOTION_ACK_BUNCH``, spice-protocol ``spice/protocol.h``).
MOTION_ACK_BUNCH = 4


class Locks(IntEnum):
    """``SPICE_KEYBOARD_MODIFIER_FLAGS_*``: the lights of the keyboard."""

    SCROLL_LOCK = 1
    NUM_LOCK = 2
    CAPS_LOCK = 4


class Button(IntEnum):
    """``SPICE_MOUSE_BUTTON_*``; the wheel is buttons UP and DOWN."""

    INVALID = 0
    LEFT = 1
    MIDDLE = 2
    RIGHT = 3
    UP = 4
    DOWN = 5
    SIDE = 6
    EXTRA = 7


class Buttons(IntEnum):
    """``SPICE_MOUSE_BUTTON_MASK_*``: bit ``button - 1`` for each pressed button."""

    LEFT = 1
    MIDDLE = 2
    RIGHT = 4
    UP = 8
    DOWN = 16
    SIDE = 32
    EXTRA = 64


class Init(Message, channels=_INPUTS, sender=SERVER, number=101):
    """The first message: the guest's locks."""

    keyboard_modifiers: int = u16(flags=Locks)


class KeyModifiers(Message, channels=_INPUTS, sender=SERVER, number=102):
    """The guest's locks have changed."""

    modifiers: int = u16(flags=Locks)


class MouseMotionAck(Message, channels=_INPUTS, sender=SERVER, number=111):
    """`MOTION_ACK_BUNCH` more motion or position messages have been taken."""


class KeyDown(Message, channels=_INPUTS, sender=CLIENT, number=101):
    """A key goes down: its PC scancode (set 1), the first byte in the lowest 8 bits."""

    code: int = u32()


class KeyUp(Message, channels=_INPUTS, sender=CLIENT, number=102):
    """A key goes up: the scancode with the break bit (0x80) set in its last byte."""

    code: int = u32()


class ClientKeyModifiers(Message, channels=_INPUTS, sender=CLIENT, number=103):
    """The locks that the guest should have."""

    modifiers: int = u16(flags=Locks)


class KeyScancode(Message, channels=_INPUTS, sender=CLIENT, number=104, limit=4096):
    """Raw scancode bytes in order; only if the server has the capability KEY_SCANCODE."""

    codes: bytes = rest()


class MouseMotion(Message, channels=_INPUTS, sender=CLIENT, number=111):
    """The mouse has moved by so many pixels (server mouse mode)."""

    dx: int = i32()
    dy: int = i32()
    buttons_state: int = u16(flags=Buttons)


class MousePosition(Message, channels=_INPUTS, sender=CLIENT, number=112):
    """The mouse is at a pixel of a display (client mouse mode)."""

    x: int = u32()
    y: int = u32()
    buttons_state: int = u16(flags=Buttons)
    display_id: int = u8()


class MousePress(Message, channels=_INPUTS, sender=CLIENT, number=113):
    """A button goes down; ``buttons_state`` has all that are down then."""

    button: int = u8(names=Button)
    buttons_state: int = u16(flags=Buttons)


class MouseRelease(Message, channels=_INPUTS, sender=CLIENT, number=114):
    """A button goes up; ``buttons_state`` has all that are down then."""

    button: int = u8(names=Button)
    buttons_state: int = u16(flags=Buttons)
