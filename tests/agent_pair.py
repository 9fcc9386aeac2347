"""A client's and a guest's end of the agent's protocol, joined in memory as a server joins them."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, TypeVar

from aiospice.agent.client import ClientAgent
from aiospice.agent.guest import GuestAgent
from aiospice.wire.agent_stream import (
    CLIENT_PORT,
    MAX_AGENT_DATA,
    SERVER_PORT,
    ChunkReader,
    pack_chunk,
    pack_message,
)

if TYPE_CHECKING:
    from aiospice.agent.outbox import Outbox
    from aiospice.events import Event
    from aiospice.wire.agent import AgentMessage

    EventT = TypeVar("EventT", bound=Event)

__all__ = ["Pair"]

#: Steps of one run; more is a hang.
STEPS = 100_000


class Pair:
    """Both ends, what they told, and a server's way between them.

    ``cut``: bytes that the guest's device passes at a time, 0: as they come. Every step is made by
    a copy out of a pickle.
    """

    def __init__(self, cut: int = 0, *, files: bool = True, frozen: bool = True) -> None:
        self.now = 0.0
        self.cut = cut
        self.frozen = frozen
        self.client = ClientAgent()
        self.guest = GuestAgent(files=files)
        self.reader = ChunkReader()
        self.client_events: list[Event] = []
        self.guest_events: list[Event] = []
        #: A client is attached: what the guest writes reaches it.
        self.attached = False
        #: Pieces that the client may still send; None: as many as it likes.
        self.tokens: int | None = None
        #: The client doesn't read.
        self.deaf = False
        self.pieces: list[bytes] = []

    def connect(self, run: bool = True) -> Pair:
        """A client comes, and finds the agent there."""
        self.attached = True
        self.client.connected()
        if run:
            self.run()
        return self

    def leave(self) -> None:
        """The client goes; the server tells the guest."""
        self.attached = False
        self.client = ClientAgent()
        self.guest.receive(pack_chunk(SERVER_PORT, pack_message(13, b"")))
        self.run()

    def from_server(self, message: AgentMessage) -> None:
        """The server tells the agent something."""
        self.to_guest(pack_chunk(SERVER_PORT, pack_message(message.number, message.body())))
        self.run()

    def to_guest(self, data: bytes) -> None:
        for start in range(0, len(data), self.cut or len(data)):
            self.guest.receive(data[start : start + (self.cut or len(data))])
            self.guest_events += self.guest.events()
            self._freeze()

    def run(self) -> None:
        """Let everything take its course."""
        for _ in range(STEPS):
            if not (self._client_step() | self._guest_step()):
                return
        raise AssertionError("it never ends")

    def _client_step(self) -> bool:
        self.client_events += self.client.events()
        if self.tokens == 0 or not self.guest.room:
            return False
        piece = self.client.pop(self.now)
        if not piece:
            return False
        if self.tokens is not None:
            self.tokens -= 1
        assert len(piece) <= MAX_AGENT_DATA
        self.pieces.append(piece)
        self.to_guest(pack_chunk(CLIENT_PORT, piece))
        return True

    def _guest_step(self) -> bool:
        self.guest_events += self.guest.events()
        if self.deaf:
            return False
        data = self.guest.take(self.cut or 4096)
        if not data:
            return False
        half = len(data) // 2 + 1
        self.guest.put_back(data[half:])
        for port, piece in self.reader.receive(data[:half]):
            if port == CLIENT_PORT and self.attached:
                self.client.receive(piece, self.now)
                self.client_events += self.client.events()
        self._freeze()
        return True

    def _freeze(self) -> None:
        if self.frozen:
            self.client = pickle.loads(pickle.dumps(self.client))
            self.guest = pickle.loads(pickle.dumps(self.guest))

    def client_saw(self, kind: type[EventT]) -> EventT:
        """The next event of that kind that the client's end told; what came before is forgotten."""
        return _next(self.client_events, kind)

    def guest_saw(self, kind: type[EventT]) -> EventT:
        """The next event of that kind that the guest's end told."""
        return _next(self.guest_events, kind)


def _next(events: list[Event], kind: type[EventT]) -> EventT:
    told = list(events)
    while events:
        event = events.pop(0)
        if isinstance(event, kind):
            return event
    raise AssertionError(f"no {kind.__name__} among {told}")


def waiting(outbox: Outbox) -> int:
    """Messages that wait to leave."""
    return outbox.waiting
