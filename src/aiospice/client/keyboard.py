"""Key names and text, as the scancodes that the inputs channel carries.

A key is known by its code of PC set 1, plus `EXTENDED` when the keyboard sends 0xe0 before it
(spice-gtk writes them the same way, channel-inputs.c). On the wire a press or release is a number
of four bytes, the codes in the order of sending from the lowest byte up, ended by a zero byte;
a release has 0x80 added to its last code (spice-gtk spice-util.c, spice-server
inputs-channel.cpp).

Which key makes which character depends on the layout that the *guest* has chosen. The layouts
here are those of xkeyboard-config, without the characters that Windows has elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

from aiospice.errors import LocalError

__all__ = [
    "EXTENDED",
    "KEYS",
    "LAYOUT_NAMES",
    "KeyEvent",
    "press_code",
    "press_keys",
    "release_code",
    "scancodes",
    "type_text",
]

#: Added to the scancode of a key that sends 0xe0 first.
EXTENDED = 0x100

_SHIFT, _ALTGR, _SPACE = 0x2A, 0x38 | EXTENDED, 0x39


class KeyEvent(NamedTuple):
    """One press or release."""

    pressed: bool
    #: What KEY_DOWN or KEY_UP carries (u32).
    code: int


#: Scancode of every key that has a name. Letters, digits and signs go by layout instead.
KEYS: dict[str, int] = {
    "esc": 0x01,
    "escape": 0x01,
    "backspace": 0x0E,
    "tab": 0x0F,
    "enter": 0x1C,
    "return": 0x1C,
    "ctrl": 0x1D,
    "control": 0x1D,
    "lctrl": 0x1D,
    "rctrl": 0x1D | EXTENDED,
    "shift": _SHIFT,
    "lshift": _SHIFT,
    "rshift": 0x36,
    "alt": 0x38,
    "lalt": 0x38,
    "ralt": _ALTGR,
    "altgr": _ALTGR,
    "meta": 0x5B | EXTENDED,
    "super": 0x5B | EXTENDED,
    "win": 0x5B | EXTENDED,
    "lmeta": 0x5B | EXTENDED,
    "rmeta": 0x5C | EXTENDED,
    "menu": 0x5D | EXTENDED,
    "space": _SPACE,
    "capslock": 0x3A,
    "numlock": 0x45,
    "scrolllock": 0x46,
    "print": 0x37 | EXTENDED,
    "sysrq": 0x54,
    # A keyboard sends 0xe1 0x1d 0x45, but a server takes that 0x45 for the NumLock key.
    "pause": 0x46 | EXTENDED,
    "break": 0x46 | EXTENDED,
    "home": 0x47 | EXTENDED,
    "up": 0x48 | EXTENDED,
    "pageup": 0x49 | EXTENDED,
    "left": 0x4B | EXTENDED,
    "right": 0x4D | EXTENDED,
    "end": 0x4F | EXTENDED,
    "down": 0x50 | EXTENDED,
    "pagedown": 0x51 | EXTENDED,
    "insert": 0x52 | EXTENDED,
    "delete": 0x53 | EXTENDED,
    "del": 0x53 | EXTENDED,
    "minus": 0x0C,  # by its place, and for ``ctrl-minus``, where a sign would be misread
    "less": 0x56,  # the key that only ISO keyboards have, left of z or y
    **{f"f{n}": 0x3A + n for n in range(1, 11)},
    "f11": 0x57,
    "f12": 0x58,
    "f13": 0x5D,
    "f14": 0x5E,
    "f15": 0x5F,
    **{
        f"kp-{n}": code
        for n, code in enumerate((0x52, 0x4F, 0x50, 0x51, 0x4B, 0x4C, 0x4D, 0x47, 0x48, 0x49))
    },
    "kp-multiply": 0x37,
    "kp-minus": 0x4A,
    "kp-plus": 0x4E,
    "kp-decimal": 0x53,
    "kp-divide": 0x35 | EXTENDED,
    "kp-enter": 0x1C | EXTENDED,
    "mute": 0x20 | EXTENDED,
    "volumedown": 0x2E | EXTENDED,
    "volumeup": 0x30 | EXTENDED,
    "playpause": 0x22 | EXTENDED,
    "stop": 0x24 | EXTENDED,
    "previous": 0x10 | EXTENDED,
    "next": 0x19 | EXTENDED,
    "power": 0x5E | EXTENDED,
    "sleep": 0x5F | EXTENDED,
    "wake": 0x63 | EXTENDED,
}

#: Scancodes in the order of the strings below, row by row from the top left (ISO keyboard).
_PLACES = (
    *(0x29, *range(0x02, 0x0E)),
    *range(0x10, 0x1C),
    *(*range(0x1E, 0x29), 0x2B),
    *(0x56, *range(0x2C, 0x36)),
)
_LEVELS = ((), (_SHIFT,), (_ALTGR,), (_SHIFT, _ALTGR))

#: What text has beside characters of a layout.
_CONTROLS = {"\n": 0x1C, "\r": 0x1C, "\t": 0x0F, "\b": 0x0E, "\x1b": 0x01, "\x7f": 0x0E}
#: Signs that a dead key and the space key make on every system. (Not \u00b4 and \u00a8: there X11
#: wants the dead key twice, Windows wants it and space.)
_SPACED = {"^": "\u0302", "`": "\u0300", "~": "\u0303", "'": "\u0301", '"': "\u0308"}

#: Marks that dead keys stand for; in a text they come behind a letter.
_MARKS = frozenset(_SPACED.values())

_Layout = tuple[tuple[str, ...], dict[str, tuple[int, int]]]

#: By name: characters without modifier, with shift, with altgr, with both, in the order of
#: `_PLACES` (a space is none); then the dead keys, scancode and level by combining character.
_LAYOUTS: dict[str, _Layout] = {
    "us": (
        (
            "`1234567890-=qwertyuiop[]asdfghjkl;'\\ zxcvbnm,./",
            '~!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:"| ZXCVBNM<>?',
        ),
        {},
    ),
    "us-intl": (
        (
            " 1234567890-=qwertyuiop[]asdfghjkl; \\\\zxcvbnm,./",
            " !@#$% &*()_+QWERTYUIOP{}ASDFGHJKL: ||ZXCVBNM<>?",
            " ¡²³¤€¼½¾‘’¥×äåé®þüúíóö«»áßð     ø  ¬ æ ©  ñµç ¿",
            " ¹  £       ÷             §       °     ¢",
        ),
        {
            "\u0300": (0x29, 0),
            "\u0301": (0x28, 0),
            "\u0303": (0x29, 1),
            "\u0302": (0x07, 1),
            "\u0308": (0x28, 1),
        },
    ),
    "gb": (
        (
            "`1234567890-=qwertyuiop[]asdfghjkl;'#\\zxcvbnm,./",
            '¬!"£$%^&*()_+QWERTYUIOP{}ASDFGHJKL:@~|ZXCVBNM<>?',
            "    €",
        ),
        {},
    ),
    "de": (
        (
            " 1234567890ß qwertzuiopü+asdfghjklöä#<yxcvbnm,.-",
            "°!\"§$%&/()=? QWERTZUIOPÜ*ASDFGHJKLÖÄ'>YXCVBNM;:_",
            "  ²³   {[]}\\ @ €        ~            |      µ",
        ),
        {"\u0302": (0x29, 0), "\u0301": (0x0D, 0), "\u0300": (0x0D, 1)},
    ),
    "fr": (
        (
            "²&é\"'(-è_çà)=azertyuiop $qsdfghjklmù*<wxcvbn,;:!",
            "~1234567890°+AZERTYUIOP £QSDFGHJKLM%µ>WXCVBN?./§",
            "   #{[|`\\^@]}  €        ¤@           |",
        ),
        {"\u0302": (0x1A, 0), "\u0308": (0x1A, 1)},
    ),
    "es": (
        (
            "º1234567890'¡qwertyuiop +asdfghjklñ ç<zxcvbnm,.-",
            'ª!"·$%&/()=?¿QWERTYUIOP *ASDFGHJKLÑ Ç>ZXCVBNM;:_',
            "\\|@#~ ¬{[]}\\ @ €       []          {}|",
        ),
        {"\u0300": (0x1A, 0), "\u0301": (0x28, 0), "\u0302": (0x1A, 1), "\u0308": (0x28, 1)},
    ),
    "it": (
        (
            "\\1234567890'ìqwertyuiopè+asdfghjklòàù<zxcvbnm,.-",
            '|!"£$%&/()=?^QWERTYUIOPé*ASDFGHJKLç°§>ZXCVBNM;:_',
            "        [] `~@ €       []         @#",
            "                       {}",
        ),
        {},
    ),
    "pt": (
        (
            "\\1234567890'«qwertyuiop+ asdfghjklçº <zxcvbnm,.-",
            '|!"#$%&/()=?»QWERTYUIOP* ASDFGHJKLÇª >ZXCVBNM;:_',
            "  @£§  {[]}  @ €",
        ),
        {
            "\u0301": (0x1B, 0),
            "\u0303": (0x2B, 0),
            "\u0300": (0x1B, 1),
            "\u0302": (0x2B, 1),
            "\u0308": (0x1A, 2),
        },
    ),
    "br": (
        (
            "'1234567890-=qwertyuiop [asdfghjklç ]\\zxcvbnm,.;",
            '"!@#$% &*()_+QWERTYUIOP {ASDFGHJKLÇ }|ZXCVBNM<>:',
            "¬¹²³£¢¬     §/?°        ª           º",
        ),
        {
            "\u0301": (0x1A, 0),
            "\u0303": (0x28, 0),
            "\u0308": (0x07, 1),
            "\u0300": (0x1A, 1),
            "\u0302": (0x28, 1),
        },
    ),
    "se": (
        (
            "§1234567890+ qwertyuiopå asdfghjklöä'<zxcvbnm,.-",
            '½!"#¤%&/()=? QWERTYUIOPÅ ASDFGHJKLÖÄ*>ZXCVBNM;:_',
            "  @£$€ {[]}\\ @ €                     |      µ",
        ),
        {
            "\u0301": (0x0D, 0),
            "\u0308": (0x1B, 0),
            "\u0300": (0x0D, 1),
            "\u0302": (0x1B, 1),
            "\u0303": (0x1B, 2),
        },
    ),
    "dk": (
        (
            "½1234567890+ qwertyuiopå asdfghjklæø'<zxcvbnm,.-",
            '§!"#¤%&/()=? QWERTYUIOPÅ ASDFGHJKLÆØ*>ZXCVBNM;:_',
            "  @£$  {[]} |@ €                     \\      µ",
        ),
        {
            "\u0301": (0x0D, 0),
            "\u0308": (0x1B, 0),
            "\u0300": (0x0D, 1),
            "\u0302": (0x1B, 1),
            "\u0303": (0x1B, 2),
        },
    ),
    "no": (
        (
            "|1234567890+\\qwertyuiopå asdfghjkløæ'<zxcvbnm,.-",
            '§!"#¤%&/()=? QWERTYUIOPÅ ASDFGHJKLØÆ*>ZXCVBNM;:_',
            "  @£$  {[]}  @ €                            µ",
        ),
        {
            "\u0308": (0x1B, 0),
            "\u0300": (0x0D, 1),
            "\u0302": (0x1B, 1),
            "\u0301": (0x0D, 2),
            "\u0303": (0x1B, 2),
        },
    ),
    "fi": (
        (
            "§1234567890+ qwertyuiopå asdfghjklöä'<zxcvbnm,.-",
            '½!"#¤%&/()=? QWERTYUIOPÅ ASDFGHJKLÖÄ*>ZXCVBNM;:_',
            "  @£$  {[]}\\   €                     |",
        ),
        {
            "\u0301": (0x0D, 0),
            "\u0308": (0x1B, 0),
            "\u0300": (0x0D, 1),
            "\u0302": (0x1B, 1),
            "\u0303": (0x1B, 2),
        },
    ),
    "ch": (
        (
            "§1234567890' qwertzuiopü asdfghjklöä$<yxcvbnm,.-",
            '°+"*ç%&/()=? QWERTZUIOPè!ASDFGHJKLéà£>YXCVBNM;:_',
            "¬|@#  ¬|¢]}  @ €       []          {}\\  ¢",
        ),
        {
            "\u0302": (0x0D, 0),
            "\u0308": (0x1B, 0),
            "\u0300": (0x0D, 1),
            "\u0301": (0x0C, 2),
            "\u0303": (0x0D, 2),
        },
    ),
    "ch-fr": (
        (
            "§1234567890' qwertzuiopè asdfghjkléà$<yxcvbnm,.-",
            '°+"*ç%&/()=? QWERTZUIOPü!ASDFGHJKLöä£>YXCVBNM;:_',
            "¬|@#  ¬|¢]}  @ €       []          {}\\  ¢",
        ),
        {
            "\u0302": (0x0D, 0),
            "\u0308": (0x1B, 0),
            "\u0300": (0x0D, 1),
            "\u0301": (0x0C, 2),
            "\u0303": (0x0D, 2),
        },
    ),
    "be": (
        (
            "²&é\"'(§è!çà)-azertyuiop $qsdfghjklmùµ<wxcvbn,;:=",
            "³1234567890°_AZERTYUIOP *QSDFGHJKLM%£>WXCVBN?./+",
            " |@#  ^{[{}\\ @ €       []            \\",
        ),
        {
            "\u0302": (0x1A, 0),
            "\u0308": (0x1A, 1),
            "\u0301": (0x27, 2),
            "\u0300": (0x2B, 2),
            "\u0303": (0x35, 2),
        },
    ),
    "pl": (
        (
            "`1234567890-=qwertyuiop[]asdfghjkl;'\\ zxcvbnm,./",
            '~!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:"| ZXCVBNM<>?',
            "     €         ę     ó   ąś      ł    żźć  ń",
            "               Ę     Ó   ĄŚ      Ł    ŻŹĆ  Ń",
        ),
        {},
    ),
}

LAYOUT_NAMES: tuple[str, ...] = tuple(_LAYOUTS)

#: Scancode and modifiers.
_Stroke = tuple[int, tuple[int, ...]]

_tables: dict[str, dict[str, tuple[_Stroke, ...]]] = {}


def press_code(scancode: int) -> int:
    """Return what KEY_DOWN carries for a key (``0x48``, or ``EXTENDED | 0x48``)."""
    return 0xE0 | (scancode & 0x7F) << 8 if scancode & EXTENDED else scancode & 0x7F


def release_code(scancode: int) -> int:
    """Return what KEY_UP carries for a key."""
    return press_code(scancode) | (0x8000 if scancode & EXTENDED else 0x80)


def scancodes(keys: str, layout: str = "us") -> tuple[int, ...]:
    """Return the keys of a combination in the order of pressing: ``ctrl-alt-f2``, ``shift-a``.

    Names are those of `KEYS`, upper or lower case. A single character is the key that types it
    in the layout, with the modifiers that it needs; behind another key a letter's case doesn't
    matter (``ctrl-C`` is ``ctrl-c``). A minus sign may stand at the end (``ctrl--``). Raises
    `LocalError` for what isn't a key.
    """
    table = _table(layout)
    codes: list[int] = []
    for name in _split(keys):
        if len(name) != 1:
            codes.append(_named(keys, name))
            continue
        strokes = table.get(name.lower() if codes and name.lower() in table else name)
        if strokes is None or len(strokes) != 1:
            raise LocalError(f"{name!r} in {keys!r} isn't one key of the layout {layout}")
        codes += [*strokes[0][1], strokes[0][0]]
    return tuple(dict.fromkeys(codes))


def press_keys(keys: str, layout: str = "us") -> list[KeyEvent]:
    """Return the events of pressing a combination and letting go in reverse order."""
    codes = scancodes(keys, layout)
    down = [KeyEvent(True, press_code(code)) for code in codes]
    return down + [KeyEvent(False, release_code(code)) for code in reversed(codes)]


def type_text(text: str, layout: str = "us") -> list[KeyEvent]:
    """Return the events of typing a text; every key is up again at the end.

    A line end (``\\n``, ``\\r\\n``, ``\\r``) is the enter key; tab, backspace and escape are their
    keys. Modifiers stay down between characters that share them. Raises `LocalError` naming the
    first character that the layout can't type, and layouts that can.
    """
    table = _table(layout)
    events: list[KeyEvent] = []
    held: tuple[int, ...] = ()
    for char in _normal(text):
        strokes = None if char in _MARKS else table.get(char) or _composed(char, table)
        if strokes is None:
            raise _cannot(char, layout)
        for code, modifiers in strokes:
            if modifiers != held:
                events += _change(held, modifiers)
                held = modifiers
            events += (KeyEvent(True, press_code(code)), KeyEvent(False, release_code(code)))
    return events + _change(held, ())


def _normal(text: str) -> str:
    text = text.replace("\r\n", "\n")
    if text.isascii():
        return text
    from unicodedata import normalize

    return normalize("NFC", text)


def _change(old: tuple[int, ...], new: tuple[int, ...]) -> list[KeyEvent]:
    events = [KeyEvent(False, release_code(code)) for code in reversed(old) if code not in new]
    return events + [KeyEvent(True, press_code(code)) for code in new if code not in old]


def _split(keys: str) -> list[str]:
    """Cut at the minus signs, but not inside ``kp-5`` or before a minus sign that is the key."""
    if keys == "-":
        return ["-"]
    last = []
    if keys.endswith("--"):
        keys, last = keys[:-2], ["-"]
    parts: list[str] = []
    for part in keys.split("-"):
        if parts and parts[-1].lower() == "kp":
            parts[-1] = f"kp-{part}"
        else:
            parts.append(part)
    return parts + last


def _named(keys: str, name: str) -> int:
    code = KEYS.get(name.lower())
    if code is not None:
        return code
    if not name:
        raise LocalError(f"{keys!r} has an empty key name; write for example ctrl-alt-f2")
    near = ", ".join(sorted(k for k in KEYS if k[:2] == name[:2].lower())[:6])
    hint = f"; names that begin alike: {near}" if near else "; for example enter, f2, kp-5, altgr"
    raise LocalError(f"no key is called {name!r} (in {keys!r}){hint}")


def _table(layout: str) -> dict[str, tuple[_Stroke, ...]]:
    """Return the strokes of every character that has a key, dead keys as combining characters."""
    table = _tables.get(layout)
    if table is None:
        table = _tables[layout] = _make_table(layout)
    return table


def _make_table(layout: str) -> dict[str, tuple[_Stroke, ...]]:
    if layout not in _LAYOUTS:
        raise LocalError(f"no layout is called {layout!r}; there are {', '.join(LAYOUT_NAMES)}")
    rows, dead = _LAYOUTS[layout]
    table: dict[str, tuple[_Stroke, ...]] = {" ": ((_SPACE, ()),)}
    for row, modifiers in zip(rows, _LEVELS, strict=False):
        for char, code in zip(row, _PLACES, strict=False):
            table.setdefault(char, ((code, modifiers),))
    for char, code in _CONTROLS.items():
        table[char] = ((code, ()),)
    for char, (code, level) in dead.items():
        table[char] = ((code, _LEVELS[level]),)
    for char, mark in _SPACED.items():
        if char not in table and mark in table:
            table[char] = table[mark] + table[" "]
    return table


def _composed(char: str, table: dict[str, tuple[_Stroke, ...]]) -> tuple[_Stroke, ...] | None:
    """Return the strokes of a letter with an accent that a dead key makes."""
    from unicodedata import normalize

    parts = normalize("NFD", char)
    if len(parts) != 2 or parts[1] not in table or parts[0] not in table:
        return None
    return table[parts[1]] + table[parts[0]]


def _cannot(char: str, layout: str) -> LocalError:
    able = [name for name in LAYOUT_NAMES if char in (t := _table(name)) or _composed(char, t)]
    hint = f"the layout of {', '.join(able)} can" if able else "no layout here can"
    return LocalError(f"the layout {layout} has no key for {char!r} ({_name(char)}); {hint}")


def _name(char: str) -> str:
    from unicodedata import name

    return name(char, f"U+{ord(char):04X}")
