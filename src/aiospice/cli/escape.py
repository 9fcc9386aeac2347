"""Makes text of others harmless for a terminal."""

from __future__ import annotations

__all__ = ["escape", "escape_stream"]

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
#: What a stream may do to a terminal: end lines, step back, ring.
_PLAIN = frozenset("\n\r\t\b\a")


def escape(text: str) -> str:
    """Return one line without control characters, as ``\\xNN`` and the like.

    Escaped is what Unicode doesn't count as printable: C0 and C1 controls, DEL, line and
    paragraph separators, marks that change the direction of text, surrogates, unassigned.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _SHORT.get(c) or _hex(c) for c in text)


def escape_stream(text: str) -> str:
    """Return text as `escape` does, but with line ends, tabs, backspaces and bells as they are."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _PLAIN else _hex(c) for c in text)


def _hex(char: str) -> str:
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
