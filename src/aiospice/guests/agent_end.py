"""The agent that a guest of ours has: clipboard, dropped files, monitors, pointer.

What the protocol is about is in `aiospice.agent.guest`; here it meets a device of the host and a
folder. An agent whose client breaks the protocol begins anew, as if it had been restarted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypedDict

from aiospice.agent import guest_events
from aiospice.agent.events import ClipboardData, ClipboardGrabbed, ClipboardReleased
from aiospice.agent.files import IOErrors
from aiospice.agent.guest import GuestAgent
from aiospice.errors import LocalError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiospice.guests.filedrop import FileDrop, Incoming
    from aiospice.server.guest import Guest, HostDevice

__all__ = ["AgentEnd", "as_kind"]

_log = logging.getLogger("aiospice.guests")

#: Most characters of a client's clipboard that are kept.
CLIPBOARD_CHARS = 1 << 20


class _Frozen(TypedDict):
    core: dict[str, Any]
    clipboard: str
    text: str | None
    buttons: int
    coming: dict[int, tuple[str, int]]


def as_kind(value: Any, kind: Any, what: str) -> Any:
    """A value from another server, if it is of that type: `LocalError` else."""
    import msgspec

    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        raise LocalError(f"{what} can't be restored: {error}") from None


class AgentEnd:
    """An agent behind a device.

    ``guest`` is told of monitors and the pointer as the server would tell it. ``changed`` is called
    with ``"clipboard"`` or ``"files"`` when there is something new in `clipboard` or ``files``.
    """

    def __init__(
        self,
        device: HostDevice,
        guest: Guest,
        changed: Callable[[str], None],
        files: FileDrop | None = None,
    ) -> None:
        self.device = device
        #: Text of the client's clipboard, as soon as it has some.
        self.clipboard = ""
        self._guest = guest
        self._changed = changed
        self._files = files
        self._coming: dict[int, Incoming] = {}
        self._text: str | None = None
        self._buttons = 0
        self._start()

    def _start(self) -> None:
        self.core = GuestAgent(files=self._files is not None)
        if self._text is not None:
            self.copy(self._text)
        self.device.opened = True
        self.pump()

    def close(self) -> None:
        """Cancel files that are on their way."""
        for incoming in self._coming.values():
            incoming.cancel()
        self._coming = {}

    # -- moving ----------------------------------------------------------------------------------

    def freeze(self) -> dict[str, Any]:
        """All of it but the bytes of files that are on their way, plain; see `Incoming.read`."""
        from aiospice.agent.frozen import freeze_agent_end

        return {
            "core": freeze_agent_end(self.core),
            "clipboard": self.clipboard,
            "text": self._text,
            "buttons": self._buttons,
            "coming": {number: (one.name, one.size) for number, one in self._coming.items()},
        }

    def thaw(self, state: Any, parts: dict[int, bytes]) -> None:
        """Be what `freeze` told of; ``parts``: what has come of each file. Raises `LocalError`."""
        from aiospice.agent.frozen import thaw_agent_end

        state = as_kind(state, _Frozen, "agent")
        self.close()
        self.core = thaw_agent_end(state["core"])
        self.clipboard, self._text = state["clipboard"], state["text"]
        self._buttons = state["buttons"]
        for number, (name, size) in state["coming"].items():
            if self._files is None:
                raise LocalError("files are on their way, and none are taken here")
            incoming = self._coming[number] = self._files.begin(name, size)
            incoming.write(parts.get(number, b""))

    @property
    def coming(self) -> dict[int, Incoming]:
        """Files that are on their way, by their numbers."""
        return self._coming

    def copy(self, text: str) -> None:
        """Put a text into the clipboard, for clients to paste."""
        self._text = text
        self.core.clipboards.grab({"text": text.encode("utf-8", "replace")})

    def pump(self) -> None:
        """Move what can be moved: call it when the device has become readable or writable."""
        moved = True
        while moved and self.core.error is None:
            room = self.core.room
            data = self.device.read(room) if room else b""
            if data:
                self.core.receive(data)
            for event in self.core.events():
                handle = _HANDLERS.get(type(event))
                if handle is not None:
                    handle(self, event)
            ready = self.core.take()
            taken = self.device.write(ready) if ready else 0
            self.core.put_back(ready[taken:])
            moved = bool(data or taken)
        if self.core.error is not None:
            _log.warning("the agent starts anew: %s", self.core.error)
            self.close()
            self.device.opened = False
            self._start()

    # -- clipboard -----------------------------------------------------------------------------

    def _on_grab(self, event: ClipboardGrabbed) -> None:
        if event.selection != "clipboard":
            return
        self._text = None
        if "text" in event.forms:
            try:
                self.core.clipboards.request("text")
            except StateError as error:
                _log.info("the clipboard isn't asked for: %s", error)
        else:
            self._set_clipboard("")

    def _on_released(self, event: ClipboardReleased) -> None:
        if event.selection == "clipboard":
            self._set_clipboard("")

    def _on_data(self, event: ClipboardData) -> None:
        if event.data is not None:
            text = event.data[: 4 * CLIPBOARD_CHARS].decode("utf-8", "replace")
            self._set_clipboard(text.removesuffix("\0")[:CLIPBOARD_CHARS])

    def _set_clipboard(self, text: str) -> None:
        self.clipboard = text
        self._changed("clipboard")

    # -- files ---------------------------------------------------------------------------------

    def _on_offered(self, event: guest_events.FileOffered) -> None:
        assert self._files is not None
        try:
            self._coming[event.number] = self._files.begin(event.name, event.size)
        except LocalError as error:
            _log.warning("a file isn't taken: %s", error)
            if event.size > self._files.free:
                self.core.no_space(event.number, self._files.free)
            else:
                self.core.fail_file(event.number, IOErrors.FAILED)
        else:
            self.core.accept_file(event.number)

    def _on_part(self, event: guest_events.FilePart) -> None:
        incoming = self._coming.get(event.number)
        if incoming is None:
            return
        try:
            incoming.write(event.data)
        except LocalError as error:
            self._failed(event.number, error)

    def _on_came(self, event: guest_events.FileCame) -> None:
        incoming = self._coming.get(event.number)
        if incoming is None:
            return
        try:
            incoming.finish()
        except LocalError as error:
            self._failed(event.number, error)
        else:
            del self._coming[event.number]
            self.core.finish_file(event.number)
            self._changed("files")

    def _on_ended(self, event: guest_events.FileEnded) -> None:
        incoming = self._coming.pop(event.number, None)
        if incoming is not None:
            incoming.cancel()

    def _failed(self, number: int, error: LocalError) -> None:
        _log.warning("a file isn't kept: %s", error)
        self._coming.pop(number).cancel()
        self.core.fail_file(number, IOErrors.FAILED)

    # -- monitors and pointer ------------------------------------------------------------------

    def _on_monitors(self, event: guest_events.MonitorsConfigured) -> None:
        self._guest.monitors(tuple((x, y, w, h) for w, h, x, y, _ in event.monitors))

    def _on_pointer(self, event: guest_events.PointerMoved) -> None:
        """The agent's buttons are one bit above those that a guest is told."""
        before, now = self._buttons, event.buttons >> 1
        self._buttons = now
        self._guest.mouse_move(event.x, event.y, event.display, before)
        for number in range(8):
            if (before ^ now) >> number & 1:
                before ^= 1 << number
                self._guest.mouse_button(number + 1, bool(now >> number & 1), before)


_HANDLERS: dict[type, Callable[[AgentEnd, Any], None]] = {
    ClipboardGrabbed: AgentEnd._on_grab,
    ClipboardReleased: AgentEnd._on_released,
    ClipboardData: AgentEnd._on_data,
    guest_events.FileOffered: AgentEnd._on_offered,
    guest_events.FilePart: AgentEnd._on_part,
    guest_events.FileCame: AgentEnd._on_came,
    guest_events.FileEnded: AgentEnd._on_ended,
    guest_events.MonitorsConfigured: AgentEnd._on_monitors,
    guest_events.PointerMoved: AgentEnd._on_pointer,
}
