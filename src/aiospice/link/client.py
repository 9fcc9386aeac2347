"""The client's end of the link, for one channel: see `LinkClient`.

::

    START -start-> LINK_SENT -reply-> (HELD -proceed->) AUTHENTICATING -> RESULT_AWAITED -> DONE
                                                        (SASL only)

Any phase but DONE can become FAILED. The facts are spice-server's ``server/reds.cpp`` and
spice-gtk's ``src/spice-channel.c``.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from aiospice.errors import (
    AiospiceError,
    DecodeError,
    InvalidMagic,
    LinkFailed,
    LocalError,
    RemoteProtocolError,
    SaslError,
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
    from collections.abc import Iterable
    from typing import Protocol

    from aiospice.link.sasl import SaslClient

    class ClientCrypto(Protocol):
        """What a client's link needs of cryptography and chance (`aiospice.aio.crypto`)."""

        def encrypt_ticket(self, public_key_der: bytes, password: str) -> bytes:
            """RSA-OAEP with SHA-1 of the password, 128 bytes."""

        def random_bytes(self, count: int) -> bytes:
            """``count`` unpredictable bytes."""


__all__ = ["LinkClient", "LinkPhase"]

#: Bytes of the peer that wait for a decision of ours; no honest server comes near it.
_WAITING_LIMIT = 128 << 10


class LinkPhase(Enum):
    """Where a `LinkClient` is."""

    START = "start"
    #: The link message is out, the server's reply isn't here yet.
    LINK_SENT = "link sent"
    #: The reply is here; `LinkClient.proceed` goes on.
    HELD = "held"
    #: A SASL exchange.
    AUTHENTICATING = "authenticating"
    #: All is said, the server's verdict isn't here yet.
    RESULT_AWAITED = "result awaited"
    DONE = "done"
    FAILED = "failed"


_AWAITED = {
    LinkPhase.START: "before the link began",
    LinkPhase.LINK_SENT: "while the link reply was awaited",
    LinkPhase.HELD: "before the channel was authenticated",
    LinkPhase.AUTHENTICATING: "during the SASL exchange",
    LinkPhase.RESULT_AWAITED: "while the link result was awaited",
}

_STEPS = {
    LinkPhase.LINK_SENT: "the link message",
    LinkPhase.AUTHENTICATING: "the SASL exchange",
    LinkPhase.RESULT_AWAITED: "the link",
}


class LinkClient:
    """Opens one channel on a connection that is up. Plain data; does no I/O and has no clock.

    ``connection_id`` is 0 for the main channel of a new session, else the session's number.
    ``common_caps`` and ``channel_caps`` are bit numbers (`aiospice.wire.caps`); ``mini_header``
    False withholds that capability. ``secure`` tells that the connection is TLS (SASL sends a
    plain password over nothing less). With ``hold`` the link message goes out at once, but the
    core waits in HELD after the server's reply until `proceed` is called: the connection id is
    checked behind the ticket only, so the links of several channels may overlap.

    Errors close the core: ``phase`` is FAILED and ``error`` holds an `AiospiceError`. The password
    is forgotten as soon as it has been used.
    """

    def __init__(
        self,
        *,
        connection_id: int,
        channel_type: int,
        channel_id: int,
        crypto: ClientCrypto,
        common_caps: Iterable[int] = caps.ALL_COMMON,
        channel_caps: Iterable[int] = (),
        password: str = "",
        username: str = "",
        secure: bool = False,
        hold: bool = False,
        mini_header: bool = True,
    ) -> None:
        self.phase = LinkPhase.START
        self.error: AiospiceError | None = None
        #: Words of the server's capabilities, from HELD on.
        self.server_common_caps: tuple[int, ...] = ()
        self.server_channel_caps: tuple[int, ...] = ()
        #: Whether the channel uses the short data header, from HELD on.
        self.mini_header = False
        #: What came behind the result: the first bytes of the channel itself.
        self.trailing = b""
        self.connection_id = connection_id
        self.channel_type = channel_type
        self.channel_id = channel_id
        common = frozenset(int(bit) for bit in common_caps)
        self._common = common if mini_header else common - {CommonCap.MINI_HEADER}
        self._channel_words = caps.pack(channel_caps)
        self._crypto: ClientCrypto = crypto
        self._password = password
        self._had_password = bool(password)
        self._username = username
        self._secure = secure
        self._hold = hold
        self._key = b""
        self._sasl: SaslClient | None = None
        self._in = bytearray()
        self._out = bytearray()

    def __repr__(self) -> str:
        return f"LinkClient({self.name}, {self.phase.name})"

    @property
    def name(self) -> str:
        """The channel as in ``display:0``."""
        return channel_name(self.channel_type, self.channel_id)

    @property
    def finished(self) -> bool:
        """Whether the core is DONE or FAILED."""
        return self.phase in (LinkPhase.DONE, LinkPhase.FAILED)

    # -- calls -----------------------------------------------------------------------------

    def start(self) -> None:
        """Send the link message; `StateError` when that has been done, `LocalError` for an
        id or capabilities that don't fit the message."""
        if self.phase is not LinkPhase.START:
            raise StateError(f"{self.name}: the link has been started ({self.phase.name})")
        message = LinkMessage(
            connection_id=self.connection_id,
            channel_type=self.channel_type,
            channel_id=self.channel_id,
            common_caps=caps.pack(self._common),
            channel_caps=self._channel_words,
        )
        self._out += frame(message)
        self.phase = LinkPhase.LINK_SENT
        self._pump()

    def proceed(self) -> None:
        """End ``hold``, now or (when the reply isn't here yet) as soon as it comes."""
        self._hold = False
        self._pump()

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes from the server, any number of them. Never raises."""
        if self.phase is LinkPhase.DONE:
            self.trailing += bytes(data)
        elif self.phase is not LinkPhase.FAILED:
            self._in += data
            self._pump()

    def receive_eof(self) -> None:
        """The server has closed the connection. Never raises; an error unless DONE."""
        if not self.finished:
            self._fail(self._cut_off())

    @property
    def wants_to_send(self) -> bool:
        """Whether `take` would give something now."""
        return bool(self._out)

    def take(self) -> bytes:
        """Hand over the bytes to send."""
        data = bytes(self._out)
        self._out.clear()
        return data

    # -- steps -----------------------------------------------------------------------------

    def _pump(self) -> None:
        try:
            while self._step():
                pass
            if len(self._in) > _WAITING_LIMIT:
                raise RemoteProtocolError(
                    f"{len(self._in)} bytes {_AWAITED[self.phase]}, where none belong"
                )
        except AiospiceError as error:
            self._fail(error)

    def _step(self) -> bool:
        """Do one thing if it can be done; True asks to be called again."""
        if self.phase is LinkPhase.LINK_SENT:
            return self._take_reply()
        if self.phase is LinkPhase.HELD:
            return self._authenticate()
        if self.phase is LinkPhase.AUTHENTICATING:
            return self._exchange_sasl()
        if self.phase is LinkPhase.RESULT_AWAITED:
            return self._take_result()
        return False

    def _take_reply(self) -> bool:
        reply = self._read_reply()
        if reply is None:
            return False
        if reply.error:
            raise self._refused(reply.error)
        self.server_common_caps = reply.common_caps
        self.server_channel_caps = reply.channel_caps
        self.mini_header = CommonCap.MINI_HEADER in self._common and caps.has(
            reply.common_caps, CommonCap.MINI_HEADER
        )
        self._key = reply.pub_key
        self.phase = LinkPhase.HELD
        return True

    def _read_reply(self) -> LinkReply | None:
        """The reply once it is complete, taken from the buffer."""
        if len(self._in) >= 4 and self._in[:4] != MAGIC_BYTES:
            raise self._foreign()
        if len(self._in) < HEADER_SIZE:
            return None
        header = LinkHeader.parse(self._in[:HEADER_SIZE])
        if header.major_version != MAJOR_VERSION:
            raise VersionMismatch(
                f"{self.name}: the server speaks SPICE "
                f"{header.major_version}.{header.minor_version}, this client {MAJOR_VERSION}.x"
            )
        if header.size > LINK_LIMIT:
            raise DecodeError(
                f"{header.size} is above the limit of {LINK_LIMIT}",
                field="size",
                offset=12,
                message="LinkHeader",
            )
        end = HEADER_SIZE + header.size
        if len(self._in) < end:
            return None
        reply = LinkReply.parse(self._in[HEADER_SIZE:end])
        del self._in[:end]
        return reply

    def _authenticate(self) -> bool:
        if self._hold:
            return False
        if self._chooses_sasl():
            from aiospice.link.sasl import SaslClient

            self._out += U32.pack(CommonCap.AUTH_SASL)
            self._sasl = SaslClient(self._username, self._password, self._secure, self._crypto)
            self.phase = LinkPhase.AUTHENTICATING
        else:
            ticket = self._crypto.encrypt_ticket(self._key, self._password)
            if len(ticket) != TICKET_SIZE:
                raise LocalError(f"a ticket of {len(ticket)} bytes, {TICKET_SIZE} are needed")
            if self._selects():
                self._out += U32.pack(CommonCap.AUTH_SPICE)
            self._out += ticket
            self.phase = LinkPhase.RESULT_AWAITED
        self._password = ""
        return True

    def _selects(self) -> bool:
        """Whether both sides know the selection of a mechanism; else a ticket is all there is.

        A server judges by what the client announced, so both have to.
        """
        selection = CommonCap.PROTOCOL_AUTH_SELECTION
        return selection in self._common and caps.has(self.server_common_caps, selection)

    def _chooses_sasl(self) -> bool:
        if not self._selects():
            return False
        ticket = caps.has(self.server_common_caps, CommonCap.AUTH_SPICE)
        sasl = caps.has(self.server_common_caps, CommonCap.AUTH_SASL)
        if sasl and CommonCap.AUTH_SASL in self._common:
            # A key of zeros: the server made none, because it will insist on SASL.
            return bool(not ticket or self._username or self._key == bytes(PUBLIC_KEY_SIZE))
        if ticket:
            return False
        raise SaslError(
            f"{self.name}: the server asks for SASL, which is switched off here"
            if sasl
            else f"{self.name}: the server offers neither a ticket nor SASL"
        )

    def _exchange_sasl(self) -> bool:
        if self._in[:4] == MAGIC_BYTES:  # no length in SASL: the server gives up by a reply
            return self._take_late_reply()
        sasl = self._sasl
        assert sasl is not None
        before = len(self._in)
        self._out += sasl.advance(self._in)
        if sasl.done:
            self._sasl = None
            self.phase = LinkPhase.RESULT_AWAITED
        return len(self._in) != before

    def _take_result(self) -> bool:
        if len(self._in) < 4:
            return False
        if self._in[:4] == MAGIC_BYTES:
            return self._take_late_reply()
        (code,) = U32.unpack_from(self._in)
        if code:
            raise self._refused(code)
        self.trailing = bytes(self._in[4:])
        self._in.clear()
        self._key = b""
        self.phase = LinkPhase.DONE
        return False

    def _take_late_reply(self) -> bool:
        """spice-server answers a mechanism it doesn't take with a second reply."""
        reply = self._read_reply()
        if reply is None:
            return False
        if not reply.error:
            raise RemoteProtocolError("a second link reply without error", message="LinkReply")
        raise self._refused(reply.error)

    # -- errors ----------------------------------------------------------------------------

    def _fail(self, error: AiospiceError) -> None:
        if isinstance(error, RemoteProtocolError):
            error.where = error.where or self.name
        elif self.name not in str(error):
            error = type(error)(f"{self.name}: {error}")
        self.error = error.with_traceback(None)
        self.phase = LinkPhase.FAILED
        self._password = ""
        self._sasl = None
        self._key = b""
        self._in.clear()
        self._out.clear()

    def _refused(self, code: int) -> AiospiceError:
        known = next((member for member in LinkCode if member == code), None)
        if known is None:
            text = f"error {code}, which this client doesn't know"
        elif known is LinkCode.PERMISSION_DENIED:
            text = (
                "permission denied: the password is wrong or has expired"
                if self._had_password
                else "permission denied: the server wants a password and none was given"
            )
        else:
            text = _REFUSALS[known]
        return link_error(code, f"{self.name}: the server refused {_STEPS[self.phase]}: {text}")

    def _foreign(self) -> AiospiceError:
        start = bytes(self._in[:40])
        guess = next((what for prefix, what in _FOREIGN if start.startswith(prefix)), "")
        return InvalidMagic(
            f"{self.name}: this is no SPICE server{guess and ', but ' + guess}: the link reply "
            f"begins with {_escaped(start)} instead of {_escaped(MAGIC_BYTES)}"
        )

    def _cut_off(self) -> AiospiceError:
        text = f"{self.name}: the server closed the connection {_AWAITED[self.phase]}"
        if self.phase is LinkPhase.LINK_SENT:
            if not MAGIC_BYTES.startswith(bytes(self._in[:4])):
                return self._foreign()
            text += (
                " (is this its TLS port? does it offer this channel?)"
                if not self._secure
                else " (does it offer this channel?)"
            )
        elif self.phase is LinkPhase.AUTHENTICATING:
            return SaslError(f"{text}: most likely the user name or password is wrong")
        return LinkFailed(text)


_REFUSALS = {
    LinkCode.OK: "success",
    LinkCode.ERROR: "an error that it doesn't explain",
    LinkCode.INVALID_MAGIC: "invalid magic: something between here and the server changes bytes",
    LinkCode.INVALID_DATA: "invalid data: it could not read the message or doesn't take the "
    "authentication mechanism",
    LinkCode.VERSION_MISMATCH: "version mismatch: it speaks another SPICE, or wants SASL",
    LinkCode.NEED_SECURED: "need secured: it takes this channel over TLS only; connect to its "
    "TLS port (spice+tls://HOST:PORT, or tls-port=PORT)",
    LinkCode.NEED_UNSECURED: "need unsecured: it takes this channel without TLS only; connect "
    "to its plain port (spice://HOST:PORT, or port=PORT)",
    LinkCode.BAD_CONNECTION_ID: "bad connection id: it knows no such session (any more)",
    LinkCode.CHANNEL_NOT_AVAILABLE: "channel not available: it has no such channel",
}

_FOREIGN = (
    (b"HTTP", "a web server"),
    (b"RFB ", "a VNC server"),
    (b"SSH-", "an SSH server"),
    (b"\x15\x03", "a TLS server (use its port as tls-port, or spice+tls://)"),
    (b"\x16\x03", "a TLS server (use its port as tls-port, or spice+tls://)"),
    (b"\x03\x00", "an RDP server"),
    (b'{"QMP"', "QEMU's QMP monitor"),
)


def _escaped(data: bytes) -> str:
    """Bytes of the peer as text that is safe on a terminal."""
    shown = "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else _hex(byte) for byte in data)
    return f'"{shown}"'


def _hex(byte: int) -> str:
    return {10: "\\n", 13: "\\r", 92: "\\\\"}.get(byte, f"\\x{byte:02x}")
