"""The clipboards of one end: what it offers, what the other end offers, who waits for what.

Content crosses only when the other side asks for it. Whoever grabs last owns a selection; when
both grab at once the client's grab wins, which the serials see to (capability
CLIPBOARD_GRAB_SERIAL of ``spice/vd_agent.h``): both ends count the grabs of a selection, a grab
carries the count before it, the client drops one that doesn't fit, and the agent takes one that is
behind by one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiospice.agent.events import (
    ClipboardData,
    ClipboardGrabbed,
    ClipboardReleased,
    ClipboardRequested,
)
from aiospice.agent.names import FORM_NAMES, SELECTION_NAMES, bits, form_number, selection_number
from aiospice.agent.outbox import Tag
from aiospice.errors import LocalError, RemoteProtocolError, StateError
from aiospice.wire.agent import (
    AgentCapability,
    AgentType,
    Clipboard,
    ClipboardGrab,
    ClipboardRelease,
    ClipboardRequest,
    ClipboardType,
)
from aiospice.wire.agent_stream import DEFAULT_LIMITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiospice.agent.outbox import Outbox
    from aiospice.events import Event
    from aiospice.wire.agent import AgentMessage

__all__ = ["CONTENT_LIMIT", "Clipboards"]

#: Bytes of content that are sent and kept: what spice-gtk takes by default.
CONTENT_LIMIT = DEFAULT_LIMITS[AgentType.CLIPBOARD] - 64
#: Requests of one selection and form that may wait for an answer.
ASK_LIMIT = 256
#: Refusals that wait for an agent that asks and does not read. (A client isn't read any more.)
REFUSALS_LIMIT = 1000
#: Requests of ours of one selection that are remembered.
_REQUESTS = 64
_TEXT = int(ClipboardType.UTF8_TEXT)
_BY_DEMAND = bits(AgentCapability.CLIPBOARD_BY_DEMAND)
_SELECTION = bits(AgentCapability.CLIPBOARD_SELECTION)
_SERIAL = bits(AgentCapability.CLIPBOARD_GRAB_SERIAL)
_NO_RELEASE = bits(AgentCapability.CLIPBOARD_NO_RELEASE_ON_REGRAB)
_MASK = 0xFFFFFFFF
_REFUSED: Tag = ("refused",)
_LINE_END = re.compile(rb"\r?\n")


class Clipboards:
    """One end's clipboards; ``agent``: this is the guest's end. Plain data."""

    def __init__(self, outbox: Outbox, *, agent: bool) -> None:
        self._outbox = outbox
        self._agent = agent
        #: What both can do; only known once the other side has announced itself.
        self.layout = 0
        self.ready = False
        #: The guest ends lines with CR LF; text is turned on its way.
        self.crlf = False
        #: The most that the other side takes, in bytes.
        self.limit = CONTENT_LIMIT
        #: What we have grabbed: selection -> form -> content, None if it is asked for when needed.
        self._mine: dict[int, dict[int, bytes | None]] = {}
        self._theirs: dict[int, tuple[int, ...]] = {}
        self._serials: dict[int, int] = {}
        #: Requests of the other side that wait: for the user, or for an answer to leave.
        self._asked: dict[tuple[int, int], int] = {}
        self._again: dict[tuple[int, int], int] = {}
        #: Answers that are leaving, for those who ask for the same meanwhile.
        self._answers: dict[tuple[int, int], bytes] = {}
        self._refusals = 0
        #: Our requests, the oldest first: selection -> forms.
        self._requested: dict[int, list[int]] = {}

    # -- the other side ----------------------------------------------------------------------------

    def start(self, common: int) -> None:
        """The other side is there, and new: what we have is offered to it."""
        self.layout = common
        self.ready = bool(common & _BY_DEMAND)
        self._serials = {}
        for selection in self._mine:
            self._announce(selection)

    def update(self, common: int) -> None:
        """The other side has announced itself again, as an answer."""
        self.layout = common
        self.ready = bool(common & _BY_DEMAND)

    def stop(self) -> list[Event]:
        """The other side is gone, with what it offered and wanted. What we have is kept."""
        self.ready, self.layout = False, 0
        self._asked, self._again, self._answers = {}, {}, {}
        self._refusals = 0
        events: list[Event] = [
            ClipboardReleased(selection=SELECTION_NAMES[selection]) for selection in self._theirs
        ]
        self._theirs = {}
        return self._unanswered() + events

    def _unanswered(self) -> list[Event]:
        waiting = [(sel, form) for sel, forms in self._requested.items() for form in forms]
        self._requested = {}
        return [_data(selection, form, None) for selection, form in waiting]

    # -- calls ---------------------------------------------------------------------------------

    def grab(self, contents: Mapping[str, bytes | None], selection: str = "clipboard") -> None:
        """Offer content by form; None: it is asked for (`ClipboardRequested`) when it is needed.

        `LocalError` for content above `CONTENT_LIMIT`, unknown names, or nothing at all.
        """
        number = selection_number(selection)
        found = {form_number(name): data for name, data in contents.items()}
        if not found:
            raise LocalError("nothing to offer; to have nothing, release the selection")
        for name, data in contents.items():
            if data is not None and len(data) > CONTENT_LIMIT:
                raise LocalError(
                    f"{name} of {len(data)} bytes; a clipboard takes {CONTENT_LIMIT} bytes"
                )
        if number in self._mine and self._reachable(number) and not self.layout & _NO_RELEASE:
            self._push(ClipboardRelease(layout=self.layout, selection=number))
        self._refuse(number)
        self._mine[number] = found
        self._theirs.pop(number, None)
        self._announce(number)

    def release(self, selection: str = "clipboard") -> None:
        """Offer nothing any more; nothing happens if nothing was."""
        number = selection_number(selection)
        if self._mine.pop(number, None) is not None:
            self._refuse(number)
            if self._reachable(number):
                self._push(ClipboardRelease(layout=self.layout, selection=number))

    def request(self, form: str = "text", selection: str = "clipboard") -> None:
        """Ask for what the other side has; `ClipboardData` is the answer.

        `StateError` if the other side can't be asked.
        """
        number, wanted = selection_number(selection), form_number(form)
        if not self._reachable(number):
            raise StateError(f"the other side has no {selection} that could be asked for")
        waiting = self._requested.setdefault(number, [])
        if len(waiting) >= _REQUESTS:
            raise StateError(f"{_REQUESTS} requests of the {selection} are unanswered")
        waiting.append(wanted)
        self._push(ClipboardRequest(layout=self.layout, selection=number, type=wanted))

    def answer(self, form: str, data: bytes | None, selection: str = "clipboard") -> None:
        """Answer an open `ClipboardRequested`; None: there is nothing (any more)."""
        key = (selection_number(selection), form_number(form))
        count = self._asked.pop(key, 0)
        if data is not None and len(data) > CONTENT_LIMIT:
            data = None
        if count and data is not None:
            if count > 1:
                self._again[key] = count - 1
            self._send(key, data)
        elif count:
            self._nothing(key[0], count)

    def offered(self, selection: str = "clipboard") -> tuple[str, ...]:
        """Kinds of what the other side has, none if it has nothing."""
        forms = self._theirs.get(selection_number(selection), ())
        return tuple(FORM_NAMES[form] for form in forms)

    def owned(self, selection: str = "clipboard") -> tuple[str, ...]:
        """Kinds of what this side has, none if it has nothing."""
        return tuple(FORM_NAMES[form] for form in self._mine.get(selection_number(selection), ()))

    @property
    def awaiting(self) -> bool:
        """Whether content is to come."""
        return any(self._requested.values())

    # -- out -----------------------------------------------------------------------------------

    def _reachable(self, selection: int) -> bool:
        return self.ready and (not selection or bool(self.layout & _SELECTION))

    def _push(self, message: AgentMessage) -> None:
        self._outbox.push(message)

    def _announce(self, selection: int) -> None:
        if not self._reachable(selection):
            return
        serial = 0
        if self.layout & _SERIAL:
            serial = self._serials.get(selection, 0)
            self._serials[selection] = serial + 1 & _MASK
        forms = tuple(self._mine[selection])
        self._push(
            ClipboardGrab(layout=self.layout, selection=selection, serial=serial, types=forms)
        )

    def _send(self, key: tuple[int, int], content: bytes) -> None:
        selection, form = key
        data = content
        if form == _TEXT and self.crlf and not self._agent:
            data = _LINE_END.sub(b"\r\n", data)
        if len(data) > self.limit:
            self._nothing(selection, 1 + self._again.pop(key, 0))
            return
        self._answers[key] = content
        front = Clipboard(layout=self.layout, selection=selection, type=form, data=b"")
        self._outbox.push(front, data, tag=("clipboard", *key))

    def _nothing(self, selection: int, count: int = 1) -> None:
        """Say that there is nothing to give."""
        for _ in range(count):
            self._refusals += 1
            empty = Clipboard(layout=self.layout, selection=selection, type=0, data=b"")
            self._outbox.push(empty, tag=_REFUSED)

    def _refuse(self, selection: int) -> None:
        """Who waits for what we have no more is told so."""
        for table in (self._asked, self._again):
            for key in [key for key in table if key[0] == selection]:
                self._nothing(selection, table.pop(key))

    def left(self, tag: Tag) -> None:
        """A message of ours has left: the next request for the same content may be answered."""
        if tag == _REFUSED:
            self._refusals = max(self._refusals - 1, 0)
            return
        _, selection, form = tag
        key = (int(selection), int(form))
        content = self._answers.pop(key, None)
        count = self._again.pop(key, 0)
        if count and content is not None:
            if count > 1:
                self._again[key] = count - 1
            self._send(key, content)

    # -- in ------------------------------------------------------------------------------------

    def handle(self, number: int, body: bytes | None, size: int) -> list[Event]:
        """Take a clipboard message; `RemoteProtocolError` for one that can't be."""
        if not self.ready:
            return []  # from before we knew each other: its layout isn't known
        if body is None:
            return self._too_large(number, size)
        if number == AgentType.CLIPBOARD_GRAB:
            return self._on_grab(ClipboardGrab.parse(body, self.layout))
        if number == AgentType.CLIPBOARD_RELEASE:
            return self._on_release(ClipboardRelease.parse(body, self.layout))
        if number == AgentType.CLIPBOARD_REQUEST:
            return self._on_request(ClipboardRequest.parse(body, self.layout))
        return self._on_data(Clipboard.parse(body, self.layout))

    def _in_turn(self, message: ClipboardGrab) -> bool:
        """Whether a grab is the last one, and not one that crossed ours and lost."""
        if not self.layout & _SERIAL:
            return True
        count = self._serials.get(message.selection, 0)
        if message.serial == count:
            self._serials[message.selection] = count + 1 & _MASK
            return True
        return self._agent and message.serial == count - 1 & _MASK

    def _on_grab(self, message: ClipboardGrab) -> list[Event]:
        selection = message.selection
        if selection not in SELECTION_NAMES or not self._in_turn(message):
            return []
        if self._mine.pop(selection, None) is not None:
            self._refuse(selection)
        forms = tuple(dict.fromkeys(form for form in message.types if form in FORM_NAMES))
        self._theirs[selection] = forms
        names = tuple(FORM_NAMES[form] for form in forms)
        return [ClipboardGrabbed(selection=SELECTION_NAMES[selection], forms=names)]

    def _on_release(self, message: ClipboardRelease) -> list[Event]:
        if self._theirs.pop(message.selection, None) is None:
            return []
        return [ClipboardReleased(selection=SELECTION_NAMES[message.selection])]

    def _on_request(self, message: ClipboardRequest) -> list[Event]:
        selection, form = key = (message.selection, message.type)
        mine = self._mine.get(selection, {})
        if form not in mine:
            if self._refusals >= REFUSALS_LIMIT and not self._agent:
                raise _deaf(f"{REFUSALS_LIMIT} answers wait for it")
            self._nothing(selection)
            return []
        if key in self._answers:
            self._wait(self._again, key)
            return []
        data = mine[form]
        first = key not in self._asked
        if data is None:
            self._wait(self._asked, key)
        else:
            self._send(key, data)
        event = ClipboardRequested(
            selection=SELECTION_NAMES[selection], form=FORM_NAMES[form], open=data is None
        )
        return [event] if first else []

    def _wait(self, table: dict[tuple[int, int], int], key: tuple[int, int]) -> None:
        table[key] = table.get(key, 0) + 1
        if table[key] > ASK_LIMIT:
            raise _deaf(f"{ASK_LIMIT} requests for the same content wait")

    def _on_data(self, message: Clipboard) -> list[Event]:
        waiting = self._requested.get(message.selection, [])
        if not waiting:
            return []  # nobody asked, or has given up
        if message.type == ClipboardType.NONE:
            return [_data(message.selection, waiting.pop(0), None)]
        if message.type not in waiting:
            return []
        waiting.remove(message.type)
        data = message.data
        if message.type == _TEXT and self.crlf and not self._agent:
            data = data.replace(b"\r\n", b"\n")
        return [_data(message.selection, message.type, data)]

    def _too_large(self, number: int, size: int) -> list[Event]:
        """A message was read past; which selection it was of is not known."""
        if number != AgentType.CLIPBOARD:
            raise RemoteProtocolError(f"{size} bytes", message=AgentType(number).name)
        found = self._unanswered()
        return [event.replace(dropped=size) for event in found]


def _data(selection: int, form: int, data: bytes | None) -> ClipboardData:
    return ClipboardData(selection=SELECTION_NAMES[selection], form=FORM_NAMES[form], data=data)


def _deaf(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"the other side asks and does not read: {what}", message="agent ClipboardRequest"
    )
