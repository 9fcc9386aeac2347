"""What both ends of the agent's protocol tell: the clipboard's events."""

from __future__ import annotations

from aiospice.events import Event

__all__ = [
    "ClipboardData",
    "ClipboardGrabbed",
    "ClipboardReleased",
    "ClipboardRequested",
]


class ClipboardGrabbed(Event):
    """The other side has something new to paste, of these forms (``text``, ``png``, ...)."""

    #: ``clipboard``, ``primary`` or ``secondary``.
    selection: str
    forms: tuple[str, ...]


class ClipboardReleased(Event):
    """The other side has nothing to paste any more."""

    selection: str


class ClipboardRequested(Event):
    """The other side pastes what this side has grabbed."""

    selection: str
    form: str
    #: It is to be answered; otherwise the content was known and is on its way.
    open: bool


class ClipboardData(Event):
    """The answer to a request; ``data`` is None if there is nothing to give."""

    selection: str
    form: str
    data: bytes | None
    #: Bytes of content that was too large to be kept, else 0.
    dropped: int = 0
