"""How a file is announced, and what may be said of one (``spice/vd_agent.h``, GLib's key files).

The announcement is a key file: ``[vdagent-file-xfer]`` with ``name`` and ``size``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from aiospice.errors import DecodeError

__all__ = [
    "CHUNK",
    "FILE_LIMIT",
    "IOErrors",
    "Refusal",
    "is_safe_name",
    "pack_announcement",
    "read_announcement",
    "why",
]

#: Bytes of a file in one message, as spice-gtk cuts them.
CHUNK = 64 << 10
#: The largest file: what fits a signed 64-bit number.
FILE_LIMIT = (1 << 63) - 1
#: Longest name of a file, in bytes of UTF-8, as on most file systems.
NAME_LIMIT = 255
#: A key file is refused above this size, in bytes.
_ANNOUNCEMENT_LIMIT = 16 << 10
_GROUP = "[vdagent-file-xfer]"
_ESCAPES = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
_ESCAPED = re.compile(r"\\(.?)", re.DOTALL)


class IOErrors:
    """``G_IO_ERROR_*`` of GLib (``gio/gioenums.h``), as they are told of a file."""

    FAILED = 0
    FILENAME_TOO_LONG = 9
    INVALID_FILENAME = 10
    NO_SPACE = 12
    INVALID_ARGUMENT = 13
    PERMISSION_DENIED = 14
    TOO_MANY_OPEN_FILES = 31


_IO_TEXTS = {
    IOErrors.FILENAME_TOO_LONG: "the name is too long",
    IOErrors.INVALID_FILENAME: "the name is not one of a file",
    IOErrors.NO_SPACE: "no space is left",
    IOErrors.PERMISSION_DENIED: "it may not be written there",
    IOErrors.TOO_MANY_OPEN_FILES: "too many files are being sent",
}


class Refusal(NamedTuple):
    """Why a file isn't taken: a ``G_IO_ERROR_*``, or -1 for none of them, and text for people."""

    code: int
    text: str


def why(code: int) -> str:
    """What a ``G_IO_ERROR_*`` means, for people."""
    return _IO_TEXTS.get(code, f"error {code} of GLib's input and output")


def is_safe_name(name: str) -> Refusal | None:
    """None for the name of a file in whatever folder; else why it isn't one.

    No folder may be in it, for any system: neither ``/`` nor ``\\``, nor ``..``.
    """
    if name in ("", ".", "..") or any(char in "/\\" or not _shown(char) for char in name):
        return Refusal(IOErrors.INVALID_FILENAME, why(IOErrors.INVALID_FILENAME))
    if len(name.encode("utf-8", "surrogatepass")) > NAME_LIMIT:
        return Refusal(IOErrors.FILENAME_TOO_LONG, why(IOErrors.FILENAME_TOO_LONG))
    return None


def _shown(char: str) -> bool:
    """Neither a control character nor half of a surrogate pair."""
    return not (ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000)


def pack_announcement(name: str, size: int) -> bytes:
    """The key file of a file, ended by NUL."""
    escaped = name.replace("\\", "\\\\")
    for letter, char in (("n", "\n"), ("t", "\t"), ("r", "\r")):
        escaped = escaped.replace(char, f"\\{letter}")
    spaces = len(escaped) - len(escaped.lstrip(" "))
    escaped = "\\s" * spaces + escaped[spaces:]
    return f"{_GROUP}\nname={escaped}\nsize={size}\n\0".encode()


def read_announcement(data: bytes) -> tuple[str, int]:
    """Name and size of a file; `DecodeError` for what isn't such a key file.

    The name is the peer's: `is_safe_name` tells whether it may be one.
    """
    if len(data) > _ANNOUNCEMENT_LIMIT:
        raise _bad(f"a key file of {len(data)} bytes")
    try:
        text = data.split(b"\0", 1)[0].decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(f"a key file that isn't UTF-8 (byte {error.start})") from None
    values = _values(text)
    name, size = values.get("name"), values.get("size", "").strip()
    if name is None:
        raise _bad("a key file without a name")
    if not (size.isascii() and size.isdigit() and len(size) < 20 and int(size) <= FILE_LIMIT):
        raise _bad("a key file without a size")
    return name, int(size)


def _values(text: str) -> dict[str, str]:
    """Keys and values of the group."""
    found: dict[str, str] = {}
    inside = False
    for line in text.split("\n"):
        if line.startswith("["):
            inside = line.strip() == _GROUP
        elif inside and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key.rstrip(" ")] = _ESCAPED.sub(
                lambda match: _ESCAPES.get(match[1], ""), value.strip(" \r\t")
            )
    return found


def _bad(text: str) -> DecodeError:
    return DecodeError(text, field="data", offset=4, message="agent FileXferStart")
