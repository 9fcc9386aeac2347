"""How a connection becomes a channel: the server's side of the link, and who may have what.

The order of the questions matters. Before a client has proven who it is, it learns nothing but the
server's capabilities and that a channel is for TLS only; whether a session or a channel exists is
told after that (`LinkServer` with ``confirm``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.effects import Close, MakeKey, ServerEffect
from aiospice.errors import AiospiceError, LinkFailed
from aiospice.link.server import LinkServer, ServerLinkPhase
from aiospice.server.connection import Connection
from aiospice.server.doorkeeper import RULES, Doorkeeper
from aiospice.server.events import ClientRefused
from aiospice.wire.caps import CommonCap
from aiospice.wire.channels import ChannelType, channel_name
from aiospice.wire.common import LinkCode

if TYPE_CHECKING:
    from aiospice.channels.events import Event
    from aiospice.link.server import LinkRequested, ServerCrypto
    from aiospice.server.config import Peer, ServerConfig

__all__ = ["Links", "Ticket"]

_CHANNELS = frozenset(int(kind) for kind in ChannelType) - {int(ChannelType.TUNNEL)}


class Ticket:
    """The password that is asked for now, until when, and how often. Plain data."""

    def __init__(self, password: str | None) -> None:
        self.password = password
        #: On the core's clock; None for ever.
        self.expires_at: float | None = None
        #: It lets one session in.
        self.once = False
        self.used = False

    def state(self, now: float) -> str:
        """``valid``, or why it isn't: ``expired``, ``used``."""
        if self.expires_at is not None and now >= self.expires_at:
            return "expired"
        return "used" if self.once and self.used else "valid"


class Links:
    """What `ServerCore` does before there is a channel; the rest of the core builds on it."""

    def __init__(self, config: ServerConfig, crypto: ServerCrypto) -> None:
        self.config = config
        self.doorkeeper = Doorkeeper(config.limits.door)
        self.ticket = Ticket(config.password)
        self.connections: dict[int, Connection] = {}
        self._crypto = crypto
        self._effects: list[ServerEffect] = []
        self._events: list[Event] = []
        #: Connections that got something to send since the shell last asked; a set with an order.
        self._wanting: dict[int, None] = {}
        self._now = 0.0

    # -- a connection begins -----------------------------------------------------------------------

    def accepted(self, number: int, peer: Peer, now: float) -> None:
        """A peer has connected; ``number`` stands for the connection from now on."""
        self._now = now
        rule = self.doorkeeper.admit(peer.host, now)
        if rule is not None:
            self._events.append(ClientRefused(peer=peer.address, rule=rule, detail=RULES[rule]))
            self._effects.append(Close(number))
            return
        link = LinkServer(
            crypto=self._crypto,
            password="",
            users=self.config.users,
            mechanisms=self.config.mechanisms,
            secure=peer.secure or peer.local,
            confirm=True,
        )
        self.connections[number] = Connection(number, peer, link, now + self.config.limits.link)

    def ticket_key(self, number: int, key: bytes, now: float) -> None:
        """The key that was asked for (`MakeKey`)."""
        self._now = now
        connection = self.connections.get(number)
        if connection is None or connection.link is None or not connection.key_wanted:
            return
        connection.key_wanted = False
        self._accept(connection, key)
        self._link_moved(connection)

    def _link_received(self, connection: Connection, data: bytes) -> None:
        link = connection.link
        assert link is not None
        before = link.phase
        link.receive(data)
        if link.phase is ServerLinkPhase.REQUESTED and before is ServerLinkPhase.LINK_AWAITED:
            self._requested(connection)
        self._link_moved(connection)

    def _requested(self, connection: Connection) -> None:
        link = connection.link
        assert link is not None
        assert link.request is not None
        asked = link.request
        kind = channel_name(asked.channel_type)
        tls_only = self.config.needs_tls(kind)
        if tls_only and not (connection.peer.secure or connection.peer.local):
            link.refuse(LinkCode.NEED_SECURED)
            return
        if asked.channel_type not in _CHANNELS:
            link.refuse(LinkCode.CHANNEL_NOT_AVAILABLE)
            return
        if self.config.users is not None:
            self._accept(connection, None)
        else:
            connection.key_wanted = True
            self._effects.append(MakeKey(connection.number))

    def _accept(self, connection: Connection, key: bytes | None) -> None:
        link = connection.link
        assert link is not None
        assert link.request is not None
        sasl = self.config.users is not None
        common = (
            CommonCap.PROTOCOL_AUTH_SELECTION,
            CommonCap.AUTH_SASL if sasl else CommonCap.AUTH_SPICE,
            CommonCap.MINI_HEADER,
        )
        link.expect(self._expected(link.request))
        link.accept(common, self._caps_of(link.request.channel_type), ticket_key=key)

    def _expected(self, asked: LinkRequested) -> str | None:
        """The ticket for this request: a session's own channels go on with the one it came by."""
        if asked.connection_id:
            own = self._ticket_of(asked.connection_id)
            if own is not None:
                return own[0]
        if self.ticket.password is None:
            return None
        return self.ticket.password if self.ticket.state(self._now) == "valid" else ""

    def _link_moved(self, connection: Connection) -> None:
        link = connection.link
        assert link is not None
        self._wanting[connection.number] = None
        if link.phase is ServerLinkPhase.AUTHENTICATED:
            self._authenticated(connection)
        elif link.phase is ServerLinkPhase.FAILED:
            self._link_failed(connection)

    def _authenticated(self, connection: Connection) -> None:
        link = connection.link
        assert link is not None
        assert link.request is not None
        code, rule = self._judge(connection, link.request)
        link.finish(code)
        if code:
            self._refuse(connection, rule, str(link.error))
            return
        connection.link = None
        self._wanting[connection.number] = None
        self.doorkeeper.link_done(connection.peer.host, self._now)
        self._open(connection, link)

    # -- and doesn't become a channel --------------------------------------------------------------

    def _link_failed(self, connection: Connection) -> None:
        link = connection.link
        assert link is not None
        error = link.error or LinkFailed("the link failed")
        rule = self._rule_of(error)
        if rule == "ticket" and self.config.users is not None:
            rule = "sasl"
        elif rule == "ticket" and self.ticket.state(self._now) != "valid":
            rule = f"ticket-{self.ticket.state(self._now)}"
        self._refuse(connection, rule, str(error))

    @staticmethod
    def _rule_of(error: AiospiceError) -> str:
        name = type(error).__name__
        known = {
            "PermissionDenied": "ticket",
            "SaslError": "sasl",
            "NeedSecured": "tls-only",
            "ChannelNotAvailable": "no-such-channel",
            "InvalidMagic": "not-spice",
            "VersionMismatch": "version",
            "SpiceTimeout": "link-time",
            "LinkFailed": "link",
        }
        return known.get(name, "link-message")

    def _refuse(self, connection: Connection, rule: str, detail: str) -> None:
        """End a half link. What the peer sent is in ``detail`` only where `LinkServer` put it."""
        link = connection.link
        guess = rule.startswith("ticket") or rule == "sasl"
        # Who looks whether somebody listens costs nothing; a request has cost a key.
        if rule == "left" and (link is None or link.request is None):
            self.doorkeeper.link_dropped(connection.peer.host, self._now)
        else:
            self.doorkeeper.link_failed(connection.peer.host, self._now, guess=guess)
            self._events.append(
                ClientRefused(peer=connection.peer.address, rule=rule, detail=detail)
            )
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        """Have the connection closed, once what is left has gone out."""
        if not connection.closing:
            connection.closing = True
            self._effects.append(Close(connection.number))

    def _link_late(self, connection: Connection) -> None:
        limit = self.config.limits.link
        self._refuse(connection, "link-time", f"the link took longer than {limit:g} s")

    # -- what the core's other parts know ----------------------------------------------------------

    if TYPE_CHECKING:

        def _ticket_of(self, client: int) -> tuple[str | None] | None:
            """The ticket that a session came by; None if there is no such session."""

        def _caps_of(self, channel_type: int) -> tuple[int, ...]:
            """Our capabilities on a channel of that type."""

        def _judge(self, connection: Connection, asked: LinkRequested) -> tuple[int, str]:
            """Whether the client may have the channel: `LinkCode`, and the rule if not."""

        def _open(self, connection: Connection, link: LinkServer) -> None:
            """The link is done: the connection is a channel from now on."""
