"""What selections and forms of content are called, and their numbers on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.errors import LocalError
from aiospice.wire.agent import AgentCapability, ClipboardType, Selection

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "FORMS",
    "FORM_NAMES",
    "SELECTIONS",
    "SELECTION_NAMES",
    "bits",
    "capability_names",
    "form_number",
    "selection_number",
    "words",
]

SELECTIONS = {
    "clipboard": int(Selection.CLIPBOARD),
    "primary": int(Selection.PRIMARY),
    "secondary": int(Selection.SECONDARY),
}
SELECTION_NAMES = {number: name for name, number in SELECTIONS.items()}
FORMS = {
    "text": int(ClipboardType.UTF8_TEXT),
    "png": int(ClipboardType.IMAGE_PNG),
    "bmp": int(ClipboardType.IMAGE_BMP),
    "tiff": int(ClipboardType.IMAGE_TIFF),
    "jpg": int(ClipboardType.IMAGE_JPG),
    "file-list": int(ClipboardType.FILE_LIST),
}
FORM_NAMES = {number: name for name, number in FORMS.items()}


def selection_number(name: str) -> int:
    """Number of a selection; `LocalError` if there is none of that name."""
    try:
        return SELECTIONS[name]
    except KeyError:
        raise LocalError(f"no selection {name!r}; there are {', '.join(SELECTIONS)}") from None


def form_number(name: str) -> int:
    """Number of a form of data; `LocalError` if there is none of that name."""
    try:
        return FORMS[name]
    except KeyError:
        raise LocalError(f"no form of content {name!r}; there are {', '.join(FORMS)}") from None


def words(capabilities: Iterable[int]) -> tuple[int, ...]:
    """Capability bits as the words of an announcement."""
    number = sum(1 << bit for bit in {int(bit) for bit in capabilities})
    size = max(1, -(-number.bit_length() // 32))
    return tuple(number >> 32 * index & 0xFFFFFFFF for index in range(size))


def bits(*capabilities: AgentCapability) -> int:
    """Capabilities as a number with a bit for each."""
    return sum(1 << bit for bit in capabilities)


def capability_names(number: int) -> tuple[str, ...]:
    """Names of the capabilities that are set, such as ``clipboard-by-demand``."""
    found = []
    for bit in range(number.bit_length()):
        if number >> bit & 1:
            known = bit in AgentCapability._value2member_map_
            found.append(AgentCapability(bit).name.lower().replace("_", "-") if known else str(bit))
    return tuple(found)
