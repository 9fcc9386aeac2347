"""Scancodes as characters, as what a terminal sends, and as keys of an X server.

A guest is told of a key by its code of PC set 1; keys that send 0xe0 first have that byte above or
below the code (``0xe048``, or ``0x48e0`` as it travels), which `scancode` makes one. The layout is
that of a US keyboard.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["EXTENDED", "Keyboard", "Modifiers", "scancode", "terminal_keys", "x_keycode"]

#: Added to the scancode of a key that sends 0xe0 first.
EXTENDED = 0x100

_PLAIN = "`1234567890-=qwertyuiop[]asdfghjkl;'\\zxcvbnm,./ "
_SHIFTED = '~!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:"|ZXCVBNM<>? '
_CODES = (
    *(0x29, *range(0x02, 0x0E), *range(0x10, 0x1C), *range(0x1E, 0x29), 0x2B),
    *(*range(0x2C, 0x36), 0x39),
)
_CHARS = {code: (low, high) for code, low, high in zip(_CODES, _PLAIN, _SHIFTED, strict=True)}
_CHARS[0x56] = ("\\", "|")  # beside the left shift, on ISO keyboards
_CHARS[0x35 | EXTENDED] = ("/", "/")
_CHARS[0x37], _CHARS[0x4A], _CHARS[0x4E] = ("*", "*"), ("-", "-"), ("+", "+")
_CHARS[0x1C] = _CHARS[0x1C | EXTENDED] = ("\n", "\n")
_CHARS[0x0F], _CHARS[0x0E], _CHARS[0x01] = ("\t", "\t"), ("\b", "\b"), ("\x1b", "\x1b")
#: The number pad while NumLock is on.
_PAD = dict(
    zip((*range(0x47, 0x4A), *range(0x4B, 0x4E), *range(0x4F, 0x54)), "7894561230.", strict=True)
)

_SHIFTS, _CTRLS, _ALTS = {0x2A, 0x36}, {0x1D, 0x1D | EXTENDED}, {0x38, 0x38 | EXTENDED}
_MODIFIERS = _SHIFTS | _CTRLS | _ALTS
_CAPS_LOCK, _NUM_LOCK, _SCROLL_LOCK = 0x3A, 0x45, 0x46
#: Keyboard lights as SPICE numbers them: scroll lock, num lock, caps lock.
_LIGHTS = {_SCROLL_LOCK: 1, _NUM_LOCK: 2, _CAPS_LOCK: 4}

#: What a number pad key is without NumLock; its extended twin is the key of that name.
_ARROWS = {0x48: "A", 0x50: "B", 0x4D: "C", 0x4B: "D", 0x47: "H", 0x4F: "F"}
_TILDES = {0x52: 2, 0x53: 3, 0x49: 5, 0x51: 6}
_F1_TO_F4 = {0x3B: "P", 0x3C: "Q", 0x3D: "R", 0x3E: "S"}
_F5_UP = dict(zip((*range(0x3F, 0x45), 0x57, 0x58), (15, 17, 18, 19, 20, 21, 23, 24), strict=True))

#: X keycodes (evdev) of the keys that send 0xe0 first; all others are their scancode plus 8.
_X_EXTENDED = {
    0x1C: 104,
    0x1D: 105,
    0x35: 106,
    0x37: 107,
    0x38: 108,
    0x47: 110,
    0x48: 111,
    0x49: 112,
    0x4B: 113,
    0x4D: 114,
    0x4F: 115,
    0x50: 116,
    0x51: 117,
    0x52: 118,
    0x53: 119,
    0x20: 121,
    0x2E: 122,
    0x30: 123,
    0x5E: 124,
    0x46: 127,
    0x5B: 133,
    0x5C: 134,
    0x5D: 135,
    0x5F: 150,
    0x63: 151,
    0x19: 171,
    0x22: 172,
    0x10: 173,
    0x24: 174,
    0x21: 148,
    0x32: 180,
    0x6C: 163,
    0x6A: 166,
    0x69: 167,
    0x67: 181,
    0x65: 225,
    0x66: 164,
}


class Modifiers(NamedTuple):
    """What is held or switched on while a key goes down."""

    shift: bool = False
    ctrl: bool = False
    alt: bool = False


def scancode(code: int) -> int:
    """Return the scancode of a key as one number: 1 to 0x7f, plus `EXTENDED` behind 0xe0.

    0 for what is no key of one or two bytes.
    """
    low, high = code & 0xFF, code >> 8
    if high == 0xE0:
        low, high = high, low
    if low == 0xE0 and 0 < high < 0x100:
        return high & 0x7F | EXTENDED
    return low & 0x7F if not high else 0


class Keyboard:
    """Remembers what is held down and which locks are on. Plain data."""

    def __init__(self) -> None:
        #: Scancodes that are down.
        self.down: set[int] = set()
        #: Keyboard lights: 1 scroll lock, 2 num lock, 4 caps lock.
        self.locks = 0

    def key(self, code: int, pressed: bool) -> int:
        """Take a press or release; return the scancode (see `scancode`), 0 for none."""
        found = scancode(code)
        if pressed:
            if found in _LIGHTS and found not in self.down:
                self.locks ^= _LIGHTS[found]
            self.down.add(found)
        else:
            self.down.discard(found)
        return found

    def release_all(self) -> list[int]:
        """Forget what is down, as when the last client has gone; return the scancodes."""
        held, self.down = sorted(self.down), set()
        return held

    @property
    def modifiers(self) -> Modifiers:
        """The modifiers that are down."""
        down = self.down
        return Modifiers(bool(down & _SHIFTS), bool(down & _CTRLS), bool(down & _ALTS))

    def char(self, code: int) -> str:
        r"""Return the character that a key types now, "" for none.

        Enter is ``\n``, tab ``\t``, backspace ``\b``, escape ``\x1b``. Ctrl and alt are not
        looked at.
        """
        if code in _PAD:
            return _PAD[code] if self.locks & 2 else ""
        low, high = _CHARS.get(code, ("", ""))
        shift = self.modifiers.shift
        return high if shift != (low.isalpha() and bool(self.locks & 4)) else low


def _control(char: str) -> str:
    """What ctrl makes of a character, as xterm does."""
    if "@" <= char.upper() <= "_":
        return chr(ord(char.upper()) & 0x1F)
    special = {" ": "\0", "2": "\0", "3": "\x1b", "4": "\x1c", "5": "\x1d", "6": "\x1e"}
    special |= {"7": "\x1f", "8": "\x7f", "/": "\x1f", "?": "\x7f", "`": "\0", "~": "\x1e"}
    return special.get(char, char)


def terminal_keys(keyboard: Keyboard, code: int, application: bool = False) -> str:
    """Return what xterm sends to a program when a key goes down, "" for keys that send nothing.

    ``code`` is a scancode as `scancode` returns it; ``application``: the program has asked for
    application cursor keys (DECCKM).
    """
    held = keyboard.modifiers
    char = keyboard.char(code)
    if char:
        return ("\x1b" if held.alt else "") + _typed(char, held)
    if code in _MODIFIERS or code in _LIGHTS:
        return ""
    key = code & ~EXTENDED
    if code & EXTENDED and key not in _ARROWS and key not in _TILDES:
        return ""
    number = 1 + held.shift + 2 * held.alt + 4 * held.ctrl
    if key in _ARROWS:
        if number > 1:
            return f"\x1b[1;{number}{_ARROWS[key]}"
        return ("\x1bO" if application else "\x1b[") + _ARROWS[key]
    if key in _F1_TO_F4:
        return f"\x1b[1;{number}{_F1_TO_F4[key]}" if number > 1 else f"\x1bO{_F1_TO_F4[key]}"
    tilde = _TILDES.get(key) or _F5_UP.get(key)
    modified = f";{number}" if number > 1 else ""
    return f"\x1b[{tilde}{modified}~" if tilde else ""


def _typed(char: str, held: Modifiers) -> str:
    if char == "\n":
        return "\r"
    if char == "\t":
        return "\x1b[Z" if held.shift else "\t"
    if char == "\b":
        return "\b" if held.ctrl else "\x7f"
    return _control(char) if held.ctrl else char


def x_keycode(code: int) -> int:
    """Return the keycode of a scancode on an X server with evdev's keycodes, 0 for none."""
    if code & EXTENDED:
        return _X_EXTENDED.get(code & ~EXTENDED, 0)
    return code + 8 if 0 < code <= 0x58 else 0
