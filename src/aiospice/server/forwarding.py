"""Sessions that leave directly: the source tells the target what it knows, and forwards the rest.

A client changes over to the target as soon as it reads MIGRATE, which comes with the record of its
channel already on its way to the target. What it had sent before it read that still comes here,
ends with its mark, and is passed on message by message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.errors import RemoteProtocolError
from aiospice.migration.peer import Late, LateEnd, Record
from aiospice.server.leaving import Leaving
from aiospice.wire.common import MigrateFlags

if TYPE_CHECKING:
    from aiospice.channels.server.base import Passed, ServerChannel
    from aiospice.errors import AiospiceError
    from aiospice.server.config import ServerConfig
    from aiospice.server.machine import Machine
    from aiospice.server.session import ServerSession

__all__ = ["LATE_LIMIT", "Forwarding"]

#: Bytes of one channel that are passed on at most: what sockets hold, and more.
LATE_LIMIT = 16 << 20
#: What a message costs beyond its body.
_MESSAGE = 64


class Forwarding(Leaving):
    """See the module's text."""

    def __init__(self, config: ServerConfig, machine: Machine) -> None:
        super().__init__(config, machine)
        #: Channels whose clients may still send here, and how many bytes came: (client, channel).
        self._forwarded: dict[tuple[int, tuple[int, int]], int] = {}

    def _is_direct(self) -> bool:
        return self.peer.up and self.peer.role == "source" and self.source.policy.needs_link

    def _send_directly(self, session: ServerSession, channel: ServerChannel) -> None:
        channel.migrate(MigrateFlags.NEED_FLUSH)
        self._tell_record(session, channel, whole=False)

    def _tell_record(self, session: ServerSession, channel: ServerChannel, *, whole: bool) -> None:
        """Tell the target a channel's record; ``whole``: nothing is under way behind it."""
        data = self._record(session, channel, told=True)
        if data is None:
            return
        self._tell_peer(Record(session.id, channel.key, data))
        for number, body in self._late.pop(session.id, ()) if channel.key[0] == 3 else ():
            self._tell_peer(Late(session.id, channel.key, number, body))
        channel.passes_on = True
        channel.reading_paused = False
        if whole:
            self._tell_peer(LateEnd(session.id, channel.key, True))
        else:
            self._forwarded[session.id, channel.key] = 0

    def _passed(self, session: ServerSession, channel: ServerChannel, event: Passed) -> None:
        place = (session.id, channel.key)
        if place not in self._forwarded:
            if not event.behind:
                super()._passed(session, channel, event)
        else:
            self._forwarded[place] += len(event.body) + _MESSAGE
            self._tell_peer(Late(*place, event.number, event.body))
            if self._forwarded[place] > LATE_LIMIT:
                self._floods(session, channel)

    def _floods(self, session: ServerSession, channel: ServerChannel) -> None:
        text = f"{LATE_LIMIT} bytes since the hand-over began, and no end of it"
        error = RemoteProtocolError(text, where=channel.name)
        channel.fail(error)
        self._channel_gone(session.connections[channel.key], error)

    def _flushed(self, session: ServerSession, channel: ServerChannel) -> None:
        place = (session.id, channel.key)
        if place not in self._forwarded:
            super()._flushed(session, channel)
            return
        del self._forwarded[place]
        self._tell_peer(LateEnd(*place, whole=True))
        self._over(session)

    def _goes(self, session: ServerSession) -> None:
        """A client closes its main channel."""

    def _lingers(self, session: ServerSession) -> bool:
        """Whether a client that has closed its main channel has more under way to us."""
        return any(client == session.id for client, _ in self._forwarded)

    def _over(self, session: ServerSession) -> None:
        """A channel is closed, or has said all: end a session that has left."""
        left = session.leaving and (1, 0) not in session.channels
        if left and session.id in self.sessions and not self._lingers(session):
            self._end(session, "the client left")

    def _leave(self, session: ServerSession, channel: ServerChannel) -> None:
        super()._leave(session, channel)
        if self._forwarded.pop((session.id, channel.key), None) is not None:
            self._tell_peer(LateEnd(session.id, channel.key, whole=False))

    if TYPE_CHECKING:

        def _end(
            self, session: ServerSession, reason: str, error: AiospiceError | None = None
        ) -> None: ...
