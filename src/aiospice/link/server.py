"""The server's end of the link, for one connection: see `LinkServer`.

::

    LINK_AWAITED -> REQUESTED -accept-> MECHANISM_AWAITED -> TICKET_AWAITED or AUTHENTICATING
                    -> (AUTHENTICATED -finish->) DONE

Any phase but DONE can become FAILED. What is sent for each kind of error follows spice-server's
``server/reds.cpp``.
"""

from __future__ import annotations

import hmac
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from aiospice.errors import (
    AiospiceError,
    DecodeError,
    InvalidData,
    InvalidMagic,
    LinkFailed,
    PermissionDenied,
    RemoteProtocolError,
    StateError,
    VersionMismatch,
    link_error,
)
from aiospice.wire import caps
from aiospice.wire.caps import CommonCap
from aiospice.wire.channels import channel_name
from aiospice.wire.common import LinkCode
from aiospice.wire.link import (
    HEADER_SIZE,
    LINK_LIMIT,
    MAGIC_BYTES,
    MAJOR_VERSION,
    PUBLIC_KEY_SIZE,
    TICKET_SIZE,
    U32,
    LinkHeader,
    LinkMessage,
    LinkReply,
    frame,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Protocol

    from aiospice.link.sasl import SaslServer, SaslUser

    class ServerCrypto(Protocol):
        """What a server's link needs of cryptography and chance (`aiospice.aio.crypto`)."""

        def make_ticket_key(self) -> bytes:
            """A new private RSA key of 1024 bits, DER."""

        def public_key(self, private: bytes) -> bytes:
            """Its public half, 162 bytes of DER."""

        def decrypt_ticket(self, private: bytes, encrypted: bytes) -> bytes:
            """The password bytes; `RemoteProtocolError` if it isn't a ticket for this key."""

        def random_bytes(self, count: int) -> bytes:
            """``count`` unpredictable bytes."""

        def seal(self, key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes:
            """Seal data so that only who has the key can read or change it; 16 bytes longer."""

        def unseal(self, key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
            """What was sealed so; None if it wasn't."""


__all__ = ["LinkRequested", "LinkServer", "ServerLinkPhase"]

#: Bytes of the client that wait for a decision of ours; no honest client comes near it.
_WAITING_LIMIT = 128 << 10


class ServerLinkPhase(Enum):
    """Where a `LinkServer` is."""

    LINK_AWAITED = "link message awaited"
    #: `LinkServer.request` waits for `LinkServer.accept` or `LinkServer.refuse`.
    REQUESTED = "requested"
    MECHANISM_AWAITED = "mechanism awaited"
    TICKET_AWAITED = "ticket awaited"
    AUTHENTICATING = "authenticating"
    #: The client has proven who it is; `LinkServer.finish` gives the verdict.
    AUTHENTICATED = "authenticated"
    DONE = "done"
    FAILED = "failed"


class LinkRequested(NamedTuple):
    """What a client asks for."""

    #: 0 asks for a new session.
    connection_id: int
    channel_type: int
    channel_id: int
    #: Words of the client's capabilities (`aiospice.wire.caps.has`).
    common_caps: tuple[int, ...]
    channel_caps: tuple[int, ...]


class LinkServer:
    """Takes the link of one channel. Plain data; does no I/O and has no clock.

    ``password`` is the expected ticket, None lets any ticket pass, an empty one none (as
    spice-server does before a password is set). ``users`` (passwords or `ScramKeys` by name)
    asks for SASL instead, by the given ``mechanisms`` (None: all of `aiospice.link.sasl`, PLAIN
    over TLS only, ANONYMOUS only with ``anonymous``). ``secure`` tells that the connection is
    TLS. With ``confirm`` the core waits in AUTHENTICATED until `finish` is called: only there
    may a server tell whether it knows the connection id.

    Errors close the core: ``phase`` is FAILED, ``error`` holds an `AiospiceError`, and what
    `take` still returns is to be sent before the connection is closed.
    """

    def __init__(
        self,
        *,
        crypto: ServerCrypto,
        password: str | None = None,
        users: Mapping[str, SaslUser] | None = None,
        secure: bool = False,
        anonymous: bool = False,
        mechanisms: tuple[str, ...] | None = None,
        confirm: bool = False,
    ) -> None:
        self.phase = ServerLinkPhase.LINK_AWAITED
        self.error: AiospiceError | None = None
        #: What the client asks for, from REQUESTED on.
        self.request: LinkRequested | None = None
        #: Whether the channel uses the short data header, from `accept` on.
        self.mini_header = False
        #: Who came by SASL, empty otherwise.
        self.username = ""
        #: What came behind the last byte of the link: the first bytes of the channel itself.
        self.trailing = b""
        self._crypto: ServerCrypto = crypto
        self._password = password
        self._users = None if users is None else dict(users)
        self._secure = secure
        self._anonymous = anonymous
        self._mechanisms = mechanisms
        self._confirm = confirm
        self._key = b""
        self._sasl: SaslServer | None = None
        self._in = bytearray()
        self._out = bytearray()

    def __repr__(self) -> str:
        return f"LinkServer({self.name}, {self.phase.name})"

    @property
    def name(self) -> str:
        """The channel as in ``display:0``, ``link`` before it is known."""
        asked = self.request
        return channel_name(asked.channel_type, asked.channel_id) if asked else "link"

    @property
    def finished(self) -> bool:
        """Whether the core is DONE or FAILED."""
        return self.phase in (ServerLinkPhase.DONE, ServerLinkPhase.FAILED)

    # -- calls -----------------------------------------------------------------------------

    def expect(self, password: str | None) -> None:
        """Change the expected ticket: it may depend on what was requested."""
        self._password = password

    def accept(
        self,
        common_caps: Iterable[int] | None = None,
        channel_caps: Iterable[int] = (),
        *,
        ticket_key: bytes | None = None,
    ) -> None:
        """Answer the request with our capabilities (bit numbers; None: what this core can do).

        ``ticket_key`` is a private key made before (`make_ticket_key` takes tens of
        milliseconds). `StateError` when nothing is requested.
        """
        asked = self._requested()
        with_sasl = self._users is not None
        mechanism = CommonCap.AUTH_SASL if with_sasl else CommonCap.AUTH_SPICE
        if common_caps is None:
            common_caps = (
                CommonCap.PROTOCOL_AUTH_SELECTION,
                mechanism,
                CommonCap.MINI_HEADER,
            )
        words = caps.pack(common_caps)
        public = bytes(PUBLIC_KEY_SIZE)
        if not with_sasl or not caps.has(asked.common_caps, CommonCap.AUTH_SASL):
            self._key = ticket_key or self._crypto.make_ticket_key()
            public = self._crypto.public_key(self._key)
        self._out += frame(
            LinkReply(pub_key=public, common_caps=words, channel_caps=caps.pack(channel_caps))
        )
        self.mini_header = _both(asked.common_caps, words, CommonCap.MINI_HEADER)
        if _both(asked.common_caps, words, CommonCap.PROTOCOL_AUTH_SELECTION):
            self.phase = ServerLinkPhase.MECHANISM_AWAITED
        elif with_sasl:
            text = f"{self.name}: the client knows tickets only, SASL is wanted"
            self._fail(VersionMismatch(text), LinkCode.VERSION_MISMATCH)
        else:
            self.phase = ServerLinkPhase.TICKET_AWAITED
        self._pump()

    def refuse(self, code: int) -> None:
        """Answer the request with a `LinkCode` other than OK; `StateError` when none waits."""
        self._requested()
        self._fail(link_error(code, f"{self.name}: refused with error {code}"), code)

    def finish(self, code: int = 0) -> None:
        """Give the verdict in AUTHENTICATED (``confirm``); `StateError` elsewhere."""
        if self.phase is not ServerLinkPhase.AUTHENTICATED:
            raise StateError(f"{self.name}: nothing to decide ({self.phase.name})")
        self._out += U32.pack(code)
        if code:
            self._fail(link_error(code, f"{self.name}: refused with result {code}"))
        else:
            self.trailing = bytes(self._in)
            self._in.clear()
            self.phase = ServerLinkPhase.DONE

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes from the client, any number of them. Never raises."""
        if self.phase is ServerLinkPhase.DONE:
            self.trailing += bytes(data)
        elif self.phase is not ServerLinkPhase.FAILED:
            self._in += data
            self._pump()

    def receive_eof(self) -> None:
        """The client has closed the connection. Never raises; an error unless DONE."""
        if not self.finished:
            where = "before it asked for a channel" if self.request is None else "during the link"
            self._fail(LinkFailed(f"{self.name}: the client closed the connection {where}"))

    def take(self) -> bytes:
        """Hand over the bytes to send; also after an error."""
        data = bytes(self._out)
        self._out.clear()
        return data

    # -- steps -----------------------------------------------------------------------------

    def _requested(self) -> LinkRequested:
        if self.phase is not ServerLinkPhase.REQUESTED or self.request is None:
            raise StateError(f"{self.name}: no request waits for an answer ({self.phase.name})")
        return self.request

    def _pump(self) -> None:
        try:
            while self._step():
                pass
            if len(self._in) > _WAITING_LIMIT and not self.finished:
                raise RemoteProtocolError(
                    f"{len(self._in)} bytes during the link, where none belong"
                )
        except AiospiceError as error:
            self._fail(error)

    def _step(self) -> bool:
        """Do one thing if it can be done; True asks to be called again."""
        if self.phase is ServerLinkPhase.LINK_AWAITED:
            self._take_link()
            return False
        if self.phase is ServerLinkPhase.MECHANISM_AWAITED:
            return self._take_mechanism()
        if self.phase is ServerLinkPhase.TICKET_AWAITED:
            return self._take_ticket()
        if self.phase is ServerLinkPhase.AUTHENTICATING:
            return self._exchange_sasl()
        return False

    def _take_link(self) -> None:
        if len(self._in) >= 4 and self._in[:4] != MAGIC_BYTES:
            start = ascii(bytes(self._in[:40]))[1:]
            error = InvalidMagic(f"{self.name}: the client begins with {start}, that isn't SPICE")
            return self._fail(error, LinkCode.INVALID_MAGIC)
        if len(self._in) < HEADER_SIZE:
            return None
        header = LinkHeader.parse(self._in[:HEADER_SIZE])
        if header.major_version != MAJOR_VERSION:
            text = f"{self.name}: the client speaks SPICE {header.major_version}"
            # Version 0 is told nothing, as upstream does.
            known = LinkCode.VERSION_MISMATCH if header.major_version else LinkCode.OK
            return self._fail(VersionMismatch(text), known)
        end = HEADER_SIZE + header.size
        try:
            if header.size > LINK_LIMIT:
                raise DecodeError(
                    f"{header.size} is above the limit of {LINK_LIMIT}",
                    field="size",
                    offset=12,
                    message="LinkHeader",
                )
            if len(self._in) >= end:
                self._open(LinkMessage.parse(self._in[HEADER_SIZE:end]))
                del self._in[:end]
        except DecodeError as error:
            self._fail(error, LinkCode.INVALID_DATA)
        return None

    def _open(self, message: LinkMessage) -> None:
        self.request = LinkRequested(
            message.connection_id,
            message.channel_type,
            message.channel_id,
            message.common_caps,
            message.channel_caps,
        )
        self.phase = ServerLinkPhase.REQUESTED

    def _take_mechanism(self) -> bool:
        if len(self._in) < 4:
            return False
        (mechanism,) = U32.unpack_from(self._in)
        del self._in[:4]
        if mechanism == CommonCap.AUTH_SPICE and self._users is None:
            self.phase = ServerLinkPhase.TICKET_AWAITED
        elif mechanism == CommonCap.AUTH_SASL and self._users is not None:
            from aiospice.link.sasl import MECHANISMS, SaslServer

            self._sasl = SaslServer(
                self._users,
                self._secure,
                self._crypto,
                anonymous=self._anonymous,
                mechanisms=MECHANISMS if self._mechanisms is None else self._mechanisms,
            )
            self._out += self._sasl.greeting()
            self.phase = ServerLinkPhase.AUTHENTICATING
        else:
            text = f"{self.name}: the client wants the authentication mechanism {mechanism}"
            self._fail(InvalidData(text), LinkCode.INVALID_DATA)
        return True

    def _take_ticket(self) -> bool:
        if len(self._in) < TICKET_SIZE:
            return False
        ticket = bytes(self._in[:TICKET_SIZE])
        del self._in[:TICKET_SIZE]
        refusal = self._judge_ticket(ticket)
        if refusal:
            self._out += U32.pack(LinkCode.PERMISSION_DENIED)
            self._fail(PermissionDenied(f"{self.name}: {refusal}"))
        else:
            self._pass()
        return False

    def _judge_ticket(self, ticket: bytes) -> str:
        """Why the ticket doesn't do, empty when it does."""
        if self._password is None:
            return ""
        try:
            given = self._crypto.decrypt_ticket(self._key, ticket)
        except RemoteProtocolError as error:
            return str(error)
        if not self._password:
            return "no password is set, so none is right"
        if hmac.compare_digest(given, self._password.encode()):
            return ""
        return "wrong password" if given else "no password given"

    def _exchange_sasl(self) -> bool:
        sasl = self._sasl
        assert sasl is not None
        before = len(self._in)
        try:
            self._out += sasl.advance(self._in)
        except PermissionDenied as error:
            self._out += sasl.farewell
            self._fail(error)
            return False
        except RemoteProtocolError as error:
            self._fail(error, LinkCode.INVALID_DATA)
            return False
        if sasl.done:
            self.username = sasl.username
            self._pass()
            return False
        return len(self._in) != before

    def _pass(self) -> None:
        self._forget()
        self.phase = ServerLinkPhase.AUTHENTICATED
        if not self._confirm:
            self.finish()

    def _forget(self) -> None:
        self._password = ""
        self._users = None
        self._sasl = None
        self._key = b""

    # -- errors ----------------------------------------------------------------------------

    def _fail(self, error: AiospiceError, code: int = LinkCode.OK) -> None:
        """Close with ``error``; a ``code`` other than OK is answered by a link reply."""
        if isinstance(error, RemoteProtocolError):
            error.where = error.where or self.name
        elif self.name not in str(error):
            error = type(error)(f"{self.name}: {error}")
        if code:
            self._out += frame(LinkReply(error=code, pub_key=bytes(PUBLIC_KEY_SIZE)))
        self.error = error.with_traceback(None)
        self.phase = ServerLinkPhase.FAILED
        self._forget()
        self._in.clear()


def _both(ours: tuple[int, ...], theirs: tuple[int, ...], bit: int) -> bool:
    return caps.has(ours, bit) and caps.has(theirs, bit)
