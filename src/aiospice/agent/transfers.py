"""Files on their way into the guest, the client's end.

The guest says when it wants a file; then it goes out in messages of 64 KiB, of which at most two
of a file wait at a time: whoever owns the file is asked for bytes as room appears (`wanted`). So
nothing of a large file but this stays in memory.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from aiospice.agent.files import CHUNK, FILE_LIMIT, is_safe_name, pack_announcement, why
from aiospice.errors import AiospiceError, LocalError, SpiceTimeout, TransferFailed
from aiospice.events import Event
from aiospice.wire.agent import (
    FileXferData,
    FileXferStart,
    FileXferStatus,
    GlibError,
    NotEnoughSpace,
    XferResult,
)

if TYPE_CHECKING:
    from aiospice.agent.outbox import Outbox, Piece, Tag

__all__ = ["Transfer", "TransferEnded", "TransferPhase", "TransferStarted", "Transfers"]

#: Messages of one file that wait to leave.
AHEAD = 2
#: Files on their way at once; what spice-vdagentd takes.
TRANSFERS_LIMIT = 128
#: Bytes before the content in a message with content: its header and fields.
_OVERHEAD = 20 + 12


class TransferPhase(Enum):
    """Where a file is."""

    ASKED = "asked"
    SENDING = "sending"
    SENT = "sent"
    ENDED = "ended"


class TransferStarted(Event):
    """A file has been offered to the guest."""

    number: int
    name: str
    size: int


class TransferEnded(Event):
    """The guest has a file (``error`` is None), or doesn't get it."""

    number: int
    name: str
    size: int
    #: Bytes of it that have left.
    sent: int
    error: AiospiceError | None


class Transfer:
    """One file; sizes in bytes."""

    def __init__(self, number: int, name: str, size: int, limit: float) -> None:
        self.number = number
        self.name = name
        self.size = size
        self.phase = TransferPhase.ASKED
        #: Bytes handed in, and bytes that have left.
        self.fed = 0
        self.sent = 0
        #: Seconds in which something must happen, and until when it must.
        self.limit = limit
        self.deadline: float | None = None
        self.error: AiospiceError | None = None

    @property
    def tag(self) -> Tag:
        """What its messages are marked with."""
        return ("file", self.number)


class Transfers:
    """All files of one session. Plain data."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._next = 1
        self.active: dict[int, Transfer] = {}
        self._events: list[Event] = []

    def events(self) -> list[Event]:
        """What has happened, each once."""
        found, self._events = self._events, []
        return found

    # -- calls ---------------------------------------------------------------------------------

    def start(self, name: str, size: int, limit: float, now: float) -> Transfer:
        """Offer a file; `LocalError` for a name that can't be one, or too many files."""
        refusal = is_safe_name(name)
        if refusal is not None:
            raise LocalError(f"the file {name!r} can't be sent: {refusal.text}")
        if not 0 <= size <= FILE_LIMIT:
            raise LocalError(f"no file has {size} bytes")
        if len(self.active) >= TRANSFERS_LIMIT:
            raise LocalError(f"{TRANSFERS_LIMIT} files are being sent; wait for one of them")
        transfer = Transfer(self._next, name, size, limit)
        self._next = self._next % 0xFFFFFFFF + 1
        self.active[transfer.number] = transfer
        transfer.deadline = now + limit
        self._outbox.push(FileXferStart(id=transfer.number, data=pack_announcement(name, size)))
        self._events.append(TransferStarted(number=transfer.number, name=name, size=size))
        return transfer

    def wanted(self, transfer: Transfer) -> int:
        """How many of the next bytes of the file there is room for; 0: none now."""
        if transfer.phase is not TransferPhase.SENDING:
            return 0
        if transfer.fed - transfer.sent > (AHEAD - 1) * CHUNK:
            return 0
        return min(CHUNK, transfer.size - transfer.fed)

    def feed(self, transfer: Transfer, data: bytes, now: float) -> None:
        """Hand in the next bytes, at most as many as are `wanted`."""
        if transfer.phase is TransferPhase.ENDED:
            return
        if not data or len(data) > self.wanted(transfer):
            raise LocalError(f"{len(data)} bytes, {self.wanted(transfer)} are wanted")
        transfer.fed += len(data)
        self._data(transfer, data)
        transfer.deadline = now + transfer.limit

    def cancel(self, transfer: Transfer, error: AiospiceError | None = None) -> None:
        """Stop sending a file; without ``error``: because the user wants so."""
        if transfer.phase is TransferPhase.ENDED:
            return
        result = XferResult.CANCELLED if error is None else XferResult.ERROR
        self._outbox.drop(transfer.tag)
        self._outbox.push(FileXferStatus(id=transfer.number, result=result, data=b""))
        self._end(transfer, error or TransferFailed(f"{transfer.name}: cancelled from here"))

    def end_all(self, reason: str) -> None:
        """The agent is gone: so are all files under way."""
        for transfer in list(self.active.values()):
            self._end(
                transfer,
                TransferFailed(
                    f"{transfer.name}: {reason}, after {transfer.sent} of {transfer.size} bytes"
                ),
            )

    # -- what happens ----------------------------------------------------------------------------

    def left(self, piece: Piece, now: float) -> None:
        """A piece of a file has left."""
        transfer = self.active.get(int(piece.tag[1]))
        if transfer is None:
            return
        transfer.sent += len(piece.data) - (_OVERHEAD if piece.first else 0)
        # The clock may be that of what came last, which is some time ago.
        transfer.deadline = max(transfer.deadline or 0.0, now + transfer.limit)
        if transfer.sent == transfer.size:
            transfer.phase = TransferPhase.SENT

    def handle(self, message: FileXferStatus, now: float) -> None:
        """The guest says how a file fares."""
        transfer = self.active.get(message.id)
        if transfer is None:
            return  # it has been cancelled meanwhile
        if message.result != XferResult.CAN_SEND_DATA:
            self._outbox.drop(transfer.tag)
            self._end(transfer, _verdict(transfer, message))
        elif transfer.phase is TransferPhase.ASKED:
            transfer.phase = TransferPhase.SENDING
            transfer.deadline = now + transfer.limit
            if not transfer.size:
                self._data(transfer, b"")  # the guest waits for one message, as of spice-gtk

    def next_wake(self) -> float | None:
        """When something will have taken too long."""
        times = [t.deadline for t in self.active.values() if self._is_guests_turn(t)]
        return min((time for time in times if time is not None), default=None)

    def wake(self, now: float) -> None:
        """Give up on files that the guest does nothing about."""
        for transfer in list(self.active.values()):
            late = transfer.deadline is not None and transfer.deadline <= now
            if late and self._is_guests_turn(transfer):
                what = {
                    TransferPhase.ASKED: "did not say whether it takes the file",
                    TransferPhase.SENDING: f"took no more of it after {transfer.sent} bytes",
                }.get(transfer.phase, "did not say that it has the file")
                self.cancel(
                    transfer,
                    SpiceTimeout(f"{transfer.name}: the guest {what} for {transfer.limit:g} s"),
                )

    def _is_guests_turn(self, transfer: Transfer) -> bool:
        sending = transfer.phase is TransferPhase.SENDING
        return not sending or transfer.sent < transfer.fed

    def _data(self, transfer: Transfer, data: bytes) -> None:
        self._outbox.push(FileXferData(id=transfer.number, data=data), tag=transfer.tag)

    def _end(self, transfer: Transfer, error: AiospiceError | None) -> None:
        del self.active[transfer.number]
        transfer.phase = TransferPhase.ENDED
        transfer.error = error
        transfer.deadline = None
        self._events.append(
            TransferEnded(
                number=transfer.number,
                name=transfer.name,
                size=transfer.size,
                sent=transfer.sent,
                error=error,
            )
        )


def _verdict(transfer: Transfer, message: FileXferStatus) -> AiospiceError | None:
    """What a last status means; None: the guest has the file."""
    result = message.result
    if result == XferResult.SUCCESS:
        if transfer.sent == transfer.size:
            return None
        text = f"the guest says it is complete after {transfer.sent} of {transfer.size} bytes"
    elif result == XferResult.ERROR:
        text = "the guest could not take it" + _detail(message.data)
    elif result == XferResult.NOT_ENOUGH_SPACE:
        text = "not enough space in the guest" + _space(transfer, message.data)
    else:
        text = _RESULTS.get(result, f"the guest ended it for a reason that isn't known ({result})")
    return TransferFailed(f"{transfer.name}: {text}")


_RESULTS: dict[int, str] = {
    XferResult.CANCELLED: "the guest has cancelled it",
    XferResult.SESSION_LOCKED: "the guest's screen is locked; unlock it and try again",
    XferResult.VDAGENT_NOT_CONNECTED: "nobody is logged in in the guest, or no agent runs there",
    XferResult.DISABLED: "file transfer is switched off in the guest",
}


def _detail(data: bytes) -> str:
    if len(data) < len(GlibError(error_type=0, error_code=0).body()):
        return ""
    detail = GlibError.parse(data)
    return f": {why(detail.error_code)}" if detail.error_type == 0 else ""


def _space(transfer: Transfer, data: bytes) -> str:
    if len(data) < len(NotEnoughSpace(disk_free_space=0).body()):
        return ""
    free = NotEnoughSpace.parse(data).disk_free_space
    return f": {transfer.size} bytes are needed, {free} are free"
