"""The agent's messages cut into pieces and put together (spice-protocol ``spice/vd_agent.h``).

Between client and server a message (header and body) is cut into AGENT_DATA bodies of at most
2048 bytes, each with bytes of one message only. Between server and guest the pieces travel behind
a chunk header with a port: 1 for the client, 2 for the server.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from aiospice.errors import DecodeError, LocalError
from aiospice.wire.agent import AgentType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiospice.wire.agent import AgentMessage

__all__ = [
    "CHUNK_HEADER",
    "CLIENT_PORT",
    "DEFAULT_LIMITS",
    "HEADER",
    "MAX_AGENT_DATA",
    "MAX_MESSAGE",
    "PROTOCOL",
    "SERVER_PORT",
    "Assembled",
    "ChunkReader",
    "Chunker",
    "Reassembler",
    "pack_chunk",
    "pack_message",
]

#: ``VDAgentMessage`` without data: u32 protocol, u32 type, u64 opaque, u32 size.
HEADER = Struct("<IIQI")
#: ``VDIChunkHeader``: u32 port, u32 size.
CHUNK_HEADER = Struct("<II")
PROTOCOL = 1
#: The most bytes of one AGENT_DATA, and of one chunk.
MAX_AGENT_DATA = 2048
CLIENT_PORT = 1
SERVER_PORT = 2
#: The largest body of any message; `DecodeError` above.
MAX_MESSAGE = 1 << 30
#: The largest body that is kept, by type; 0 for all others. Larger ones are read past.
DEFAULT_LIMITS: dict[int, int] = {
    0: 64 << 10,
    AgentType.CLIPBOARD: 100 << 20,
    AgentType.FILE_XFER_DATA: 1 << 20,
}


def pack_message(number: int, body: bytes, opaque: int = 0) -> bytes:
    """A message with its header, not cut up; `LocalError` above `MAX_MESSAGE` bytes."""
    if len(body) > MAX_MESSAGE:
        raise LocalError(f"an agent message takes {MAX_MESSAGE} bytes, not {len(body)}")
    return HEADER.pack(PROTOCOL, number, opaque, len(body)) + body


def pack_chunk(port: int, data: bytes) -> bytes:
    """A chunk for the guest's device; at most `MAX_AGENT_DATA` bytes of data."""
    if len(data) > MAX_AGENT_DATA:
        raise LocalError(f"a chunk takes {MAX_AGENT_DATA} bytes, not {len(data)}")
    return CHUNK_HEADER.pack(port, len(data)) + data


class Chunker:
    """Cuts messages into AGENT_DATA bodies, which are taken out as there are tokens for them."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._sent = 0
        #: Bytes that wait, headers included.
        self.pending = 0

    def push(self, number: int, body: bytes, opaque: int = 0) -> None:
        """Add a message of type ``number`` behind those that wait."""
        message = pack_message(number, body, opaque)
        self._messages.append(message)
        self.pending += len(message)

    def push_message(self, message: AgentMessage) -> None:
        """Add a declared message behind those that wait."""
        self.push(message.number, message.body())

    def pop(self) -> bytes | None:
        """The next AGENT_DATA body, None when there is none."""
        if not self._messages:
            return None
        message = self._messages[0]
        piece = message[self._sent : self._sent + MAX_AGENT_DATA]
        self._sent += len(piece)
        if self._sent == len(message):
            self._messages.popleft()
            self._sent = 0
        self.pending -= len(piece)
        return piece

    @property
    def inside(self) -> bool:
        """Whether a message has been sent in part."""
        return self._sent > 0

    def drop_unsent(self) -> None:
        """Forget all messages but the rest of one that has been sent in part."""
        begun = [self._messages[0]] if self._sent else []
        self._messages = deque(begun)
        self.pending = sum(map(len, begun)) - self._sent

    def clear(self) -> None:
        """Forget everything, as after AGENT_DISCONNECTED."""
        self._messages.clear()
        self._sent = self.pending = 0


class Assembled(NamedTuple):
    """A whole message; ``body`` is None if it was larger than its type's limit, and left out."""

    type: int
    opaque: int
    size: int
    body: bytes | None


class Reassembler:
    """Puts AGENT_DATA bodies together to messages; memory grows only by what has arrived.

    ``limits`` replaces entries of `DEFAULT_LIMITS`. ``strict`` also refuses what spice-server
    refuses of a client (``server/agent-msg-filter.cpp``): pieces of more than 2048 bytes, a header
    in two pieces, bytes of two messages in one piece.
    """

    def __init__(
        self,
        limits: Mapping[int, int] | None = None,
        *,
        maximum: int = MAX_MESSAGE,
        strict: bool = False,
    ) -> None:
        self._limits = {**DEFAULT_LIMITS, **(limits or {})}
        self._maximum = maximum
        self._strict = strict
        self._head = b""
        self._body = bytearray()
        self._number = self._opaque = self._size = self._left = 0
        self._inside = self._keep = False

    def set_limit(self, number: int, size: int) -> None:
        """Keep bodies of messages of type ``number`` up to ``size`` bytes from now on."""
        self._limits[number] = size

    @property
    def inside(self) -> bool:
        """Whether a message has arrived in part."""
        return self._inside or bool(self._head)

    @property
    def held(self) -> int:
        """Bytes that are kept of a message that has arrived in part."""
        return len(self._head) + len(self._body)

    def reset(self) -> None:
        """Forget a message that has arrived in part, as after AGENT_DISCONNECTED."""
        self._head = b""
        self._body = bytearray()
        self._left = 0
        self._inside = self._keep = False

    def receive(self, data: bytes | bytearray | memoryview) -> list[Assembled]:
        """Take one AGENT_DATA body and return the messages that it completes.

        `DecodeError` if this isn't an agent's stream; nothing can be received any more then.
        """
        view = memoryview(data)
        if self._strict:
            self._check_piece(view)
        found: list[Assembled] = []
        pos = 0
        while pos < len(view):
            take = self._take_body if self._inside else self._take_header
            pos = take(view, pos)
            if self._inside and not self._left:
                found.append(self._finish())
        return found

    def _check_piece(self, view: memoryview) -> None:
        size = len(view)
        if size > MAX_AGENT_DATA:
            raise _bad(f"a piece of {size} bytes", "data", 0)
        if self._inside:
            if size > self._left:
                raise _bad(f"{size} bytes, {self._left} were left of the message", "data", 0)
        elif size < HEADER.size:
            raise _bad(f"a header in a piece of {size} bytes", "data", 0)
        elif HEADER.unpack_from(view)[3] < size - HEADER.size:
            raise _bad("bytes behind the end of the message", "size", 16)

    def _take_header(self, view: memoryview, pos: int) -> int:
        more = view[pos : pos + HEADER.size - len(self._head)]
        self._head += more
        if len(self._head) < HEADER.size:
            return len(view)
        protocol, number, opaque, size = HEADER.unpack(self._head)
        if protocol != PROTOCOL:
            raise _bad(f"{protocol}, must be {PROTOCOL}", "protocol", 0)
        if size > self._maximum:
            raise _bad(f"{size} bytes, the limit is {self._maximum}", "size", 16)
        self._head = b""
        self._number, self._opaque, self._size, self._left = number, opaque, size, size
        self._keep = size <= self._limits.get(number, self._limits[0])
        self._inside = True
        return pos + len(more)

    def _take_body(self, view: memoryview, pos: int) -> int:
        size = min(self._left, len(view) - pos)
        if self._keep:
            self._body += view[pos : pos + size]
        self._left -= size
        return pos + size

    def _finish(self) -> Assembled:
        body = bytes(self._body) if self._keep else None
        self._body = bytearray()
        self._inside = False
        return Assembled(self._number, self._opaque, self._size, body)


def _bad(text: str, field: str, offset: int) -> DecodeError:
    return DecodeError(text, field=field, offset=offset, message="agent message")


class ChunkReader:
    """Takes the guest device's stream of chunks apart; keeps at most a part of a header.

    A chunk may be large: spice-vdagentd 0.22 sends each of its messages in one
    (``src/vdagentd/virtio-port.c``), clipboards included.

    Its fields are what the main channel's record of a hand-over carries: ``header`` (bytes of a
    chunk header read so far), ``port`` and ``left`` (bytes still to come of the chunk).
    """

    def __init__(self, *, max_chunk: int = HEADER.size + MAX_MESSAGE) -> None:
        self.max_chunk = max_chunk
        self.header = b""
        self.port = 0
        self.left = 0

    def receive(self, data: bytes | bytearray | memoryview) -> list[tuple[int, bytes]]:
        """Take bytes of any number: (port, piece of a chunk) of each, in order.

        `DecodeError` on a port other than 1 and 2, or a chunk larger than ``max_chunk``.
        """
        view = memoryview(data)
        found = []
        pos = 0
        while pos < len(view):
            if not self.left:
                pos = self._take_header(view, pos)
                continue
            piece = bytes(view[pos : pos + self.left])
            self.left -= len(piece)
            pos += len(piece)
            found.append((self.port, piece))
        return found

    def _take_header(self, view: memoryview, pos: int) -> int:
        more = view[pos : pos + CHUNK_HEADER.size - len(self.header)]
        self.header += more
        if len(self.header) == CHUNK_HEADER.size:
            self.port, self.left = CHUNK_HEADER.unpack(self.header)
            self.header = b""
            if self.port not in (CLIENT_PORT, SERVER_PORT):
                raise DecodeError(f"{self.port}", field="port", offset=0, message="agent chunk")
            if self.left > self.max_chunk:
                raise DecodeError(
                    f"{self.left} bytes, the limit is {self.max_chunk}",
                    field="size",
                    offset=4,
                    message="agent chunk",
                )
        return pos + len(more)
