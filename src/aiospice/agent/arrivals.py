"""Files on their way into the guest, the guest's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.agent.files import IOErrors, Refusal, is_safe_name, read_announcement, why
from aiospice.agent.guest_events import FileCame, FileEnded, FileOffered, FilePart
from aiospice.errors import DecodeError, RemoteProtocolError, StateError
from aiospice.wire.agent import (
    FileXferData,
    FileXferStart,
    FileXferStatus,
    GlibError,
    NotEnoughSpace,
    XferResult,
)

if TYPE_CHECKING:
    from aiospice.agent.outbox import Outbox
    from aiospice.events import Event

__all__ = ["Arrival", "Arrivals"]

#: Files on their way at once.
ARRIVALS_LIMIT = 64


class Arrival:
    """One file; sizes in bytes."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.got = 0
        self.accepted = False


class Arrivals:
    """All files of one client. Plain data."""

    def __init__(self, outbox: Outbox, *, enabled: bool) -> None:
        self._outbox = outbox
        self.enabled = enabled
        #: The client understands results beyond error and success.
        self.detailed = False
        self.active: dict[int, Arrival] = {}

    # -- calls ---------------------------------------------------------------------------------

    def accept(self, number: int) -> None:
        """Have a file sent; nothing happens if it was cancelled meanwhile."""
        arrival = self.active.get(number)
        if arrival is not None and not arrival.accepted:
            arrival.accepted = True
            self._status(number, XferResult.CAN_SEND_DATA)

    def finish(self, number: int) -> None:
        """The file is whole and in its place."""
        arrival = self.active.get(number)
        if arrival is None:
            return
        if not arrival.accepted or arrival.got < arrival.size:
            raise StateError(f"{arrival.got} of {arrival.size} bytes of the file have come")
        del self.active[number]
        self._status(number, XferResult.SUCCESS)

    def fail(self, number: int, code: int = IOErrors.FAILED) -> None:
        """The file isn't taken; ``code``: a ``G_IO_ERROR_*``."""
        if self.active.pop(number, None) is not None:
            self._error(number, code)

    def cancel(self, number: int) -> None:
        """The file isn't wanted."""
        if self.active.pop(number, None) is not None:
            self._status(number, XferResult.CANCELLED)

    def no_space(self, number: int, free: int) -> None:
        """The file doesn't fit: ``free`` bytes are free."""
        if self.active.pop(number, None) is not None:
            self._detailed(
                number, XferResult.NOT_ENOUGH_SPACE, NotEnoughSpace(disk_free_space=free)
            )

    def end_all(self, reason: str) -> list[Event]:
        """The client is gone: so are all its files."""
        numbers, self.active = list(self.active), {}
        return [FileEnded(number=number, reason=reason) for number in numbers]

    # -- out -----------------------------------------------------------------------------------

    def _status(self, number: int, result: int, data: bytes = b"") -> None:
        self._outbox.push(FileXferStatus(id=number, result=result, data=data))

    def _error(self, number: int, code: int) -> None:
        detail = GlibError(error_type=0, error_code=code).body() if self.detailed and code else b""
        self._status(number, XferResult.ERROR, detail)

    def _detailed(self, number: int, result: int, detail: NotEnoughSpace | None = None) -> None:
        if not self.detailed:
            self._status(number, XferResult.ERROR)
        else:
            self._status(number, result, b"" if detail is None else detail.body())

    # -- in ------------------------------------------------------------------------------------

    def on_start(self, message: FileXferStart) -> list[Event]:
        """The client offers a file."""
        if not self.enabled:
            self._detailed(message.id, XferResult.DISABLED)
            return []
        if message.id in self.active:
            raise RemoteProtocolError(
                f"the number {message.id} is that of another file", message="agent FileXferStart"
            )
        try:
            name, size = read_announcement(message.data)
        except DecodeError:
            self._error(message.id, IOErrors.INVALID_ARGUMENT)
            return []
        refusal = is_safe_name(name)
        if refusal is None and len(self.active) >= ARRIVALS_LIMIT:
            refusal = Refusal(IOErrors.TOO_MANY_OPEN_FILES, why(IOErrors.TOO_MANY_OPEN_FILES))
        if refusal is not None:
            self._error(message.id, refusal.code)
            return []
        self.active[message.id] = Arrival(name, size)
        return [FileOffered(number=message.id, name=name, size=size)]

    def on_data(self, message: FileXferData) -> list[Event]:
        """Bytes of a file have come."""
        arrival = self.active.get(message.id)
        if arrival is None:
            return []  # it was refused or has failed, which the client doesn't know yet
        if not arrival.accepted:
            return self._broken(message.id, "it came before it was asked for")
        if arrival.got + len(message.data) > arrival.size:
            return self._broken(message.id, f"it is longer than the {arrival.size} bytes it said")
        if arrival.got == arrival.size and arrival.size:
            return []
        part = FilePart(number=message.id, offset=arrival.got, data=message.data)
        arrival.got += len(message.data)
        events: list[Event] = [part] if message.data else []
        if arrival.got == arrival.size:
            events.append(FileCame(number=message.id))
        return events

    def _broken(self, number: int, reason: str) -> list[Event]:
        self.fail(number, IOErrors.INVALID_ARGUMENT)
        return [FileEnded(number=number, reason=reason)]

    def on_status(self, message: FileXferStatus) -> list[Event]:
        """The client says that a file won't come."""
        if message.result == XferResult.CAN_SEND_DATA or message.id not in self.active:
            return []
        del self.active[message.id]
        cancelled = message.result == XferResult.CANCELLED
        reason = "the client has cancelled it" if cancelled else "the client could not read it"
        return [FileEnded(number=message.id, reason=reason)]

    def lost_part(self, size: int) -> list[Event]:
        """A message with content was too large to be kept; whose it was is not known."""
        numbers = [number for number, arrival in self.active.items() if arrival.accepted]
        reason = f"a message of {size} bytes is too large"
        return [event for number in numbers for event in self._broken(number, reason)]
