"""The demo desktop on its way to another server: what it remembers, as plain values.

Files go early, in parts of a MiB: the bytes of those that are on their way, and those that are kept
in memory. Files in a folder stay there; a guest elsewhere sees them if its folder is the same.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from aiospice.errors import LocalError
from aiospice.guests.agent_end import as_kind
from aiospice.guests.demo_state import DemoState
from aiospice.guests.desktop import View, Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiospice.guests.demo import DemoGuest

__all__ = ["Moving"]

_PART = 1 << 20
_WINDOW = tuple[int, int, int, int]
#: What `DemoState` has besides windows and keyboard, and what each has to be.
_TYPES: dict[str, Any] = {
    "lines": list[str],
    "pointer": tuple[int, int, int],
    "buttons": int,
    "drag": tuple[str, int, int] | None,
    "held": str,
    "last": str,
    "tone_since": float | None,
    "tone_frames": int,
    "listening": bool,
    "level": int,
    "clipboard": str,
    "clients": int,
    "frame": int,
    "second": int,
}
_STATE = {
    "plain": dict[str, Any],
    "windows": list[dict[str, _WINDOW]],
    "order": list[list[str]],
    "sizes": list[tuple[int, int]],
    "keys": tuple[list[int], int],
    "start": float,
    "echo": tuple[bytes, int],
    "agent": dict[str, Any],
    "files": list[tuple[str, int]],
}
assert {field.name for field in fields(DemoState)} == {*_TYPES, "windows", "order", "keyboard"}


class Moving:
    """Freezes and thaws a `DemoGuest`."""

    def __init__(self, guest: DemoGuest) -> None:
        self._guest = guest
        #: What has come early.
        self.parts: dict[str, Any] = {}
        self._told: dict[str, int] = {}

    # -- files -----------------------------------------------------------------------------------

    def freeze_early(self, *, again: bool) -> dict[str, Any]:
        """Parts of files that have come or grown since they were told."""
        if not again:
            self._told = {}
        found: dict[str, Any] = {}
        for name, data, size in self._files():
            if self._told.get(name) != size:
                self._told[name] = size
                found[name] = data()
        return found

    def _files(self) -> Iterator[tuple[str, Any, int]]:
        for number, incoming in self._guest.agent.coming.items():
            for at in range(0, incoming.received, _PART):
                size = min(_PART, incoming.received - at)
                yield (
                    f"coming/{number}/{at // _PART}",
                    lambda one=incoming, at=at, size=size: one.read(at, size),
                    size,
                )
        for number, data in enumerate(self._guest.files.contents.values()):
            for at in range(0, len(data), _PART):
                part = data[at : at + _PART]
                yield f"file/{number}/{at // _PART}", lambda part=part: part, len(part)

    def _joined(self, prefix: str) -> bytes:
        number = 0
        found: list[bytes] = []
        while isinstance(part := self.parts.get(prefix.replace("*", str(number))), bytes):
            found.append(part)
            number += 1
        return b"".join(found)

    # -- the rest --------------------------------------------------------------------------------

    def freeze(self) -> dict[str, Any]:
        """All else, plain."""
        guest, state = self._guest, self._guest.state
        return {
            "plain": {name: getattr(state, name) for name in _TYPES},
            "windows": [
                {name: (w.x, w.y, w.width, w.height) for name, w in windows.items()}
                for windows in state.windows
            ],
            "order": [list(order) for order in state.order],
            "sizes": [(each.screen.width, each.screen.height) for each in guest.desktops],
            "keys": (sorted(state.keyboard.down), state.keyboard.locks),
            "start": guest._start,
            "echo": (bytes(guest.echo.held), guest.echo.echoed),
            "agent": guest.agent.freeze(),
            "files": [(file.name, file.size) for file in guest.files.files],
        }

    def thaw(self, given: Any) -> None:
        """Be what `freeze` told of. Raises `LocalError` for what can't be so."""
        if not isinstance(given, dict) or set(given) != set(_STATE):
            raise LocalError("the demo can't be restored from that")
        new = {
            name: as_kind(given[name], type, f"the demo's {name}") for name, type in _STATE.items()
        }
        if set(new["plain"]) != set(_TYPES):
            raise LocalError("the demo's state is of another version")
        guest, state = self._guest, self._guest.state
        if [set(each) for each in new["windows"]] != [set(each) for each in state.windows]:
            raise LocalError("the demo has other displays or windows there: start both alike")
        for name, type in _TYPES.items():
            setattr(state, name, as_kind(new["plain"][name], type, f"the demo's {name}"))
        state.keyboard.down, state.keyboard.locks = set(new["keys"][0]), new["keys"][1]
        guest._start = new["start"]
        guest.echo.held[:], guest.echo.echoed = new["echo"]
        self._thaw_files(new)
        for number, size in enumerate(new["sizes"]):
            self._thaw_display(number, size, new["windows"][number], new["order"][number])
        guest._panel.draw_anew()

    def _thaw_files(self, new: dict[str, Any]) -> None:
        guest = self._guest
        contents: dict[str, bytes] = {}
        if guest.files.folder is None:
            contents = {
                name: self._joined(f"file/{number}/*")
                for number, (name, _) in enumerate(new["files"])
            }
            if [(name, len(data)) for name, data in contents.items()] != new["files"]:
                raise LocalError("the demo's files haven't come whole")
        guest.files.adopt(new["files"], contents)
        coming = new["agent"].get("coming")
        parts = {number: self._joined(f"coming/{number}/*") for number in coming or ()}
        guest.agent.thaw(new["agent"], parts)
        self.parts = {}

    def _thaw_display(
        self, number: int, size: tuple[int, int], windows: dict[str, _WINDOW], order: list[str]
    ) -> None:
        guest = self._guest
        desktop = guest.desktops[number]
        if size != (desktop.screen.width, desktop.screen.height):
            guest._resize(desktop, *size)
        for name, (x, y, width, height) in windows.items():
            window: Window = desktop.views[name].window
            if name != "bar" and (width, height) != (window.width, window.height):
                raise LocalError(f"the demo's window {name} has another size there")
            window.x, window.y = x, y
        if sorted(order) != sorted(desktop.order):
            raise LocalError("the demo has other windows there")
        desktop.order[:] = order
        if number == 0:
            guest._draw_notes()
            picture: View = desktop.views["picture"]
            picture.content[:] = guest._landscape.frame(guest.state.frame)
        guest._draw_bar(desktop)
