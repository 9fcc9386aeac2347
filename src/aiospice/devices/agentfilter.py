"""Which of the agent's messages pass, each way (spice-server ``server/agent-msg-filter.c``)."""

from __future__ import annotations

from aiospice.errors import DecodeError
from aiospice.wire.agent import AgentType
from aiospice.wire.agent_stream import HEADER, MAX_AGENT_DATA, MAX_MESSAGE, PROTOCOL
from aiospice.wire.handover import FilterResult

__all__ = ["AgentFilter"]

_CLIPBOARD = frozenset(
    (
        AgentType.CLIPBOARD,
        AgentType.CLIPBOARD_GRAB,
        AgentType.CLIPBOARD_REQUEST,
        AgentType.CLIPBOARD_RELEASE,
    )
)
_FILES = frozenset(
    (AgentType.FILE_XFER_START, AgentType.FILE_XFER_STATUS, AgentType.FILE_XFER_DATA)
)


class AgentFilter:
    """Judges one direction, piece by piece: a message's verdict holds for all its pieces.

    A piece has bytes of one message only, at most 2048, and a message's header is whole in its
    first piece. The policy may be changed at any time; it holds from the next message on.
    """

    def __init__(
        self,
        *,
        copy_paste: bool = True,
        file_transfer: bool = True,
        monitors: bool = False,
        discard: bool = False,
    ) -> None:
        self.copy_paste = copy_paste
        self.file_transfer = file_transfer
        #: The client's monitors are for the graphics device, not for the agent.
        self.monitors = monitors
        #: Nothing passes.
        self.discard = discard
        #: Type of the message that is under way, bytes of it still to come, and its verdict.
        self.type = 0
        self.left = 0
        self.verdict = FilterResult.OK

    def judge(self, piece: bytes | bytearray | memoryview) -> FilterResult:
        """What becomes of the next piece; `DecodeError` names the rule that it breaks."""
        size = len(piece)
        if size > MAX_AGENT_DATA:
            raise _bad(f"a piece of {size} bytes, the limit is {MAX_AGENT_DATA}", "data")
        if self.left:
            if size > self.left:
                raise _bad(f"a piece of {size} bytes, {self.left} are left of its message", "data")
            self.left -= size
            return self.verdict
        if size < HEADER.size:
            raise _bad(f"a message's header is in a piece of {size} bytes", "data")
        protocol, self.type, _, length = HEADER.unpack_from(piece)
        if protocol != PROTOCOL:
            raise _bad(f"{protocol}, must be {PROTOCOL}", "protocol")
        if length > MAX_MESSAGE:
            raise _bad(f"{length} bytes, the limit is {MAX_MESSAGE}", "size")
        if size - HEADER.size > length:
            raise _bad(f"{size - HEADER.size} bytes behind a header that says {length}", "size")
        self.left = length - (size - HEADER.size)
        self.verdict = self._verdict(self.type)
        return self.verdict

    def _verdict(self, kind: int) -> FilterResult:
        if self.discard:
            return FilterResult.DISCARD
        if kind in _CLIPBOARD and not self.copy_paste:
            return FilterResult.DISCARD
        if kind in _FILES and not self.file_transfer:
            return FilterResult.DISCARD
        if kind == AgentType.MONITORS_CONFIG and self.monitors:
            return FilterResult.MONITORS_CONFIG
        return FilterResult.OK

    def restart(self) -> None:
        """Forget a message that is under way: the next piece begins one."""
        self.left = self.type = 0
        self.verdict = FilterResult.OK


def _bad(text: str, field: str) -> DecodeError:
    return DecodeError(text, field=field, message="agent message")
