"""A server's core: connections, clients' sessions, and the machine that they are shown.

Pure: the shell (``aio``) tells it what happens (`ServerCore.accepted`, `received`, `closed`,
`ticket_key`, `computed`, `wake`), carries out its `effects`, fetches what is to be sent from the
connections that `wanting` names, and passes its `events` on to the guest and the user. After
whatever the guest did, and at each turn, it calls `publish`. Plain data: it pickles at any moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.channels.framing import Framing
from aiospice.channels.server.base import ServerPhase
from aiospice.channels.server.vmc import DeviceServer
from aiospice.effects import Close, Compute, Pause, Resume, ServerEffect
from aiospice.errors import AiospiceError, RemoteProtocolError, SpiceTimeout
from aiospice.server.connection import Connection
from aiospice.server.events import (
    ClientConnected,
    ClientDisconnected,
    ServerChannelClosed,
    ServerChannelOpened,
)
from aiospice.server.links import Links, Ticket
from aiospice.server.machine import Machine
from aiospice.server.resuming import Resuming
from aiospice.server.serving import Serving
from aiospice.server.session import ServerSession, capabilities, channel_class
from aiospice.wire.channels import ChannelType
from aiospice.wire.common import LinkCode

if TYPE_CHECKING:
    from aiospice.channels.events import Event
    from aiospice.channels.server.base import ServerChannel
    from aiospice.link.server import LinkRequested, LinkServer, ServerCrypto
    from aiospice.server.config import ServerConfig

__all__ = ["ServerCore"]

Key = tuple[int, int]

#: How often limits are looked at, in seconds.
TICK = 1.0
#: Seconds between pings on a client's main channel.
PING_SECONDS = 15.0
#: A ping on another channel than main may wait behind many bytes on a thin line: it is given so
#: many times as long.
SILENT_TIMES = 4
NO_PONG = "it doesn't answer pings"


class ServerCore(Resuming, Links):
    """See the module's text."""

    def __init__(self, config: ServerConfig, crypto: ServerCrypto) -> None:
        Links.__init__(self, config, crypto)
        Resuming.__init__(self, config, Machine())
        self._tick_at: float | None = None
        #: The last `take` was a display's, and another one would give nothing.
        self.took_all = False
        #: The connection whose messages are being handled: what they change waits for their end.
        self._handling = 0

    # -- the shell tells ---------------------------------------------------------------------------

    def received(self, number: int, data: bytes, now: float) -> None:
        """Bytes of a connection. Never raises."""
        self._now = now
        connection = self.connections.get(number)
        if connection is None or connection.closing:
            return
        connection.received_bytes += len(data)
        if connection.link is not None:
            self._link_received(connection, data)
        else:
            self._channel_received(connection, data)

    def closed(
        self, number: int, error: AiospiceError | None, now: float, unwritten: int = 0
    ) -> None:
        """A connection is gone; ``error`` is None when the peer just closed it.

        ``unwritten``: bytes of what `take` gave that the kernel has never taken.
        """
        self._now = now
        connection = self.connections.pop(number, None)
        self._wanting.pop(number, None)
        if connection is None:
            return
        if connection.closing:  # with a `Close` that hasn't been carried out, maybe
            if isinstance(connection.channel, DeviceServer):
                self._leave_device(connection.client, connection.channel, unwritten)
            return
        if connection.link is not None:
            connection.link.receive_eof()
            connection.closing = True
            if error is None:
                self._refuse(connection, "left", "the client left during the link")
            else:
                prefix = f"{connection.peer.address}: "
                self._refuse(connection, "connection", str(error).removeprefix(prefix))
        elif connection.channel is not None:
            connection.unwritten = unwritten
            self._channel_gone(connection, error)

    def dropped(self, number: int, unwritten: int, now: float) -> None:
        """A connection was closed with ``discard``, and so many bytes of `take` with it."""
        self._now = now
        connection = self.connections.pop(number, None)
        if connection is not None and connection.channel is not None:
            self._leave_device(connection.client, connection.channel, unwritten)

    def wake(self, now: float) -> None:
        """The time of `next_wake` has come."""
        self._now = now
        if self._tick_at is not None and now >= self._tick_at:
            self._tick_at = now + TICK
            self._tick()
        self._wake_serving(now)

    def next_wake(self) -> float | None:
        """When `wake` is to be called, None for never."""
        if not self.connections:
            self._tick_at = None
        elif self._tick_at is None:
            self._tick_at = self._now + TICK
        # Asked in each turn, and most of the time nothing of a hand-over waits.
        serving = self._serving_wake() if self._moves() else Serving._serving_wake(self)
        tick = self._tick_at
        if tick is None or serving is None:
            return serving if tick is None else tick
        return min(tick, serving)

    # -- the shell asks ----------------------------------------------------------------------------

    def effects(self) -> list[ServerEffect]:
        """What the shell is to do, in order; empties the list."""
        found, self._effects = self._effects, []
        return found

    def events(self) -> list[Event]:
        """What has happened, in order; empties the list."""
        found, self._events = self._events, []
        return found

    def wanting(self) -> list[int]:
        """Connections that may have something to send, since this was last asked."""
        found = list(self._wanting)
        self._wanting.clear()
        return found

    def take(self, number: int) -> bytes:
        """What goes out next on a connection, b"" for nothing. Also once it is to be closed."""
        connection = self.connections.get(number)
        self.took_all = False
        if connection is None:
            return b""
        if connection.closing and isinstance(connection.channel, DeviceServer):
            return b""  # what is left is for the device's next client, once `dropped` is told
        connection.stuck_since = None
        if connection.link is not None:
            data = connection.link.take()
        else:
            data = self._channel_take(connection)
            self.took_all = self._has_all(connection)
        connection.sent_bytes += len(data)
        if not data or self.took_all:
            self._wanting.pop(number, None)
            if connection.closing:
                del self.connections[number]
        return data

    # -- limits of time ----------------------------------------------------------------------------

    def _tick(self) -> None:
        limits = self.config.limits
        for connection in list(self.connections.values()):
            if connection.closing:
                continue
            if connection.link is not None:
                if self._now >= connection.deadline:
                    self._link_late(connection)
                continue
            channel = connection.channel
            assert channel is not None
            if channel.phase is not ServerPhase.OPEN:
                continue  # it moves, which has limits of its own
            if not channel.wants_to_send:
                connection.stuck_since = None
            elif connection.stuck_since is None:
                connection.stuck_since = self._now
            elif self._now - connection.stuck_since > limits.stall:
                what = f"it left {channel.queued_bytes} bytes unread"
                self._too_slow(connection, what, limits.stall)
                continue
            pinged = channel.pinged_at
            if channel.blocked and self._now - channel.acked_at > limits.stall:
                what = f"it acknowledged none of {channel.unacked} messages"
                self._too_slow(connection, what, limits.stall)
            elif pinged is not None and self._now - pinged > SILENT_TIMES * limits.silence:
                self._too_slow(connection, NO_PONG, SILENT_TIMES * limits.silence)
        for session in list(self.sessions.values()):
            self._tick_session(session)

    def _tick_session(self, session: ServerSession) -> None:
        main = session.channels.get((1, 0))
        if main is None or main.phase is not ServerPhase.OPEN or session.leaving:
            return
        pinged = main.pinged_at
        if pinged is not None and self._now - pinged > self.config.limits.silence:
            connection = session.connections[1, 0]
            self._too_slow(connection, NO_PONG, self.config.limits.silence)
        elif self._now - session.pinged_at >= PING_SECONDS or (
            main.serial and pinged is None and (main.round_trip is None)
        ):
            session.pinged_at = self._now
            main.ping(self._now)
            self._wants(session.connections[1, 0])

    def _too_slow(self, connection: Connection, what: str, limit: float) -> None:
        channel = connection.channel
        assert channel is not None
        channel.fail(
            SpiceTimeout(f"{channel.name} of {connection.peer.address}: {what} for {limit:g} s")
        )
        self._channel_gone(connection, channel.error)

    # -- channels ----------------------------------------------------------------------------------

    def _caps_of(self, channel_type: int) -> tuple[int, ...]:
        return capabilities(channel_type, opus=self.config.opus)

    def _ticket_of(self, client: int) -> tuple[str | None] | None:
        session = self.sessions.get(client)
        return self._arriving_ticket(client) if session is None else (session.ticket,)

    def _judge(self, connection: Connection, asked: LinkRequested) -> tuple[int, str]:
        key = (asked.channel_type, asked.channel_id)
        if asked.channel_type == ChannelType.MAIN:
            if asked.connection_id and not self._arrival_judged(asked):
                return LinkCode.BAD_CONNECTION_ID, "session-not-expected"
            takes_over = self.config.on_second_client == "takeover"
            gone = self.source.moved or self.guest_elsewhere
            if gone or (self.source.wanted and takes_over):
                return LinkCode.ERROR, "machine-moved"
            if asked.channel_id:
                return LinkCode.CHANNEL_NOT_AVAILABLE, "no-such-channel"
            if self.sessions and self.config.on_second_client == "refuse":
                return LinkCode.ERROR, "second-client"
            if len(self.sessions) >= self.config.limits.clients:
                return LinkCode.ERROR, "clients"
            return LinkCode.OK, ""
        session = self.sessions.get(asked.connection_id)
        link = connection.link
        if session is None or (link is not None and link.username != session.user):
            return LinkCode.BAD_CONNECTION_ID, "no-such-session"
        if key not in self.keys():
            return LinkCode.CHANNEL_NOT_AVAILABLE, "no-such-channel"
        if key in session.channels or len(session.channels) >= self.config.limits.channels:
            return LinkCode.ERROR, "channel-open"
        if self.taken(key):
            return LinkCode.ERROR, "device-in-use"
        return LinkCode.OK, ""

    def _open(self, connection: Connection, link: LinkServer) -> None:
        asked = link.request
        assert asked is not None
        key = (asked.channel_type, asked.channel_id)
        kind = channel_class(asked.channel_type)
        channel = kind(key, Framing(asked.channel_type, link.mini_header), asked.channel_caps)
        if connection.peer.secure:
            channel.together = 0
        connection.channel = channel
        if asked.channel_type == ChannelType.MAIN:
            session = self._new_session(connection, link, asked.connection_id)
        else:
            session = self.sessions[asked.connection_id]
        # What the link still has to send goes out ahead of the channel's first message.
        self._result[connection.number] = link.take()
        connection.client = session.id
        session.add(connection, channel)
        self._events.append(
            ServerChannelOpened(
                client=session.id, channel=channel.name, peer=connection.peer.address
            )
        )
        if asked.connection_id and (channel.key == (1, 0) or session.id in self.target.arrivals):
            self._link_arrival(session, channel)
        else:
            self._begin(session, channel)
        self._wants(connection)
        if link.trailing:
            self._channel_received(connection, link.trailing)

    def _new_session(
        self, connection: Connection, link: LinkServer, number: int = 0
    ) -> ServerSession:
        """A session begins, or arrives with the number that it had."""
        arrives = number > 0
        if self.config.on_second_client == "takeover":
            for other in list(self.sessions.values()):
                if not (arrives and other.id in self.target.arrivals):
                    self.disconnect(other.id, "another client took over", self._now)
        while not number or number in self.sessions:
            number = int.from_bytes(self._crypto.random_bytes(4), "little")
        own = self._arriving_ticket(number) if arrives else None
        self.ticket.used = self.ticket.used or own is None
        ticket = self.ticket.password if own is None else own[0]
        session = ServerSession(number, connection.peer.address, link.username, ticket, self._now)
        self.sessions[number] = session
        self.source.joined(number)
        self._events.append(ClientConnected(client=number, peer=session.peer, user=session.user))
        return session

    def companions(self, number: int) -> list[int]:
        """The connections of a connection's client, as numbers; none before its session begins."""
        connection = self.connections.get(number)
        session = self.sessions.get(connection.client) if connection is not None else None
        return [each.number for each in session.connections.values()] if session else []

    def _channel_take(self, connection: Connection) -> bytes:
        result = self._result.pop(connection.number, b"")
        channel = connection.channel
        assert channel is not None
        if result:
            return result
        data = channel.take()
        if not data and not connection.closing:
            self._drained(connection, channel)
            if channel.wants_to_send:
                data = channel.take()
        return data

    def _channel_received(self, connection: Connection, data: bytes) -> None:
        channel, session = connection.channel, self.sessions.get(connection.client)
        if channel is None or session is None:
            return
        if data and channel.phase is ServerPhase.PARKED:
            self._touched(session, channel.key)
        before, self._handling = self._handling, connection.number
        try:
            for event in channel.receive(data, self._now):
                if connection.closing:
                    return
                self._handle(session, channel, event)
        finally:
            self._handling = before
        if connection.closing:
            return
        if channel.error is not None:
            self._channel_gone(connection, channel.error)
            return
        self._after(session, channel)
        self._look_at_reading(connection, channel)
        if channel.wants_to_send:
            self._wants(connection)

    def _reading_changed(self, connection: Connection, channel: ServerChannel) -> None:
        if self._handling != connection.number:
            self._look_at_reading(connection, channel)

    def _look_at_reading(self, connection: Connection, channel: ServerChannel) -> None:
        if channel.holds_back == connection.paused or connection.closing:
            return
        connection.paused = channel.holds_back
        if connection.paused:
            self._effects.append(Pause(connection.number))
        else:
            self._effects.append(Resume(connection.number))
            self._channel_received(connection, b"")

    def _channel_gone(self, connection: Connection, error: AiospiceError | None) -> None:
        """A channel has ended: by the peer, by an error, or because it took too long."""
        session = self.sessions.get(connection.client)
        channel = connection.channel
        if session is None or channel is None:
            self._close(connection)
            return
        if isinstance(error, RemoteProtocolError):
            error.where = f"{channel.name} of {connection.peer.address}"
        if channel.key[0] == ChannelType.MAIN and error is None:
            self._goes(session)
        if channel.key[0] == ChannelType.MAIN and not (error is None and self._lingers(session)):
            self._end(session, "the client left" if error is None else str(error), error)
        elif error is not None and session.id in self.target.arrivals:
            self._end(session, str(error), error)  # it can't be whole any more
        else:
            self._drop_channel(session, channel, error)
            self._over(session)

    def _drop_channel(
        self, session: ServerSession, channel: ServerChannel, error: AiospiceError | None
    ) -> None:
        connection = session.connections[channel.key]
        self._leave(session, channel)
        session.drop(channel.key)
        if channel.key[0] == 2:
            self._woken(channel.key[1])
        self._result.pop(connection.number, None)
        self._events.append(
            ServerChannelClosed(
                client=session.id,
                channel=channel.name,
                peer=connection.peer.address,
                error=error,
            )
        )
        gone = connection.number not in self.connections
        if gone or not isinstance(channel, DeviceServer):
            self._leave_device(session.id, channel, connection.unwritten)
            self._close(connection)
        elif not connection.closing:
            # What it hasn't been handed is for the next client: how much that is, the shell knows.
            connection.closing = True
            self._effects.append(Close(connection.number, discard=True))

    def _end(self, session: ServerSession, reason: str, error: AiospiceError | None = None) -> None:
        """A client's session is over."""
        if self.sessions.pop(session.id, None) is None:
            return
        for key in sorted(session.channels, reverse=True):  # main last
            self._drop_channel(session, session.channels[key], error if key == (1, 0) else None)
        self._events.append(ClientDisconnected(client=session.id, peer=session.peer, reason=reason))
        self._ended(session)

    # -- control -----------------------------------------------------------------------------------

    def disconnect(self, client: int, reason: str, now: float) -> bool:
        """End a client's session; False if there is none of that number."""
        self._now = now
        session = self.sessions.get(client)
        if session is None:
            return False
        for key, channel in session.channels.items():
            if isinstance(channel, DeviceServer):
                continue
            channel.finish()
            self._wants(session.connections[key])
        self._end(session, reason)
        return True

    def set_password(
        self, password: str | None, *, expires_at: float | None = None, once: bool = False
    ) -> None:
        """Ask for another ticket from now on; sessions that are up go on.

        ``expires_at`` is on the core's clock; ``once`` lets one more session in.
        """
        self.ticket = Ticket(password)
        self.ticket.expires_at = expires_at
        self.ticket.once = once

    def status(self, now: float) -> dict[str, Any]:
        """JSON-able: clients with their channels, the machine, what was refused."""
        return {
            "name": self.config.name,
            "connections": len(self.connections),
            "clients": [session.status(now) for session in self.sessions.values()],
            "machine": self.machine_status(),
            "links": self.doorkeeper.status(),
        }

    def _compute(self, number: int, job: Any) -> None:
        self._effects.append(Compute(number, job))
