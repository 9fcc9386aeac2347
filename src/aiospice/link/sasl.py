"""SASL inside the link, both ends: `SaslClient` and `SaslServer`.

The exchange as spice-server (``server/red-stream.cpp``) and spice-gtk (``src/spice-channel.c``)
speak it; all numbers little endian::

    server  u32 length, mechanisms separated by commas
    client  u32 length, mechanism; u32 length, data          (length 0: no data; else data and NUL)
    server  u32 length, data; u8 complete                    (the same)
    client  u32 length, data                                 unless complete, and so on
    server  u32 0; or u32 1, u32 length, text                once complete

spice-server ends the connection without a word when a step fails. On connections without TLS it
offers only mechanisms with a security layer of their own (Kerberos), which aiospice doesn't have.

Both ends are plain data: the client's ``scramp`` object is made anew for each step from the
messages so far; the server keeps the transcript.
"""

from __future__ import annotations

import hmac
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from aiospice.errors import (
    LocalError,
    MissingProgram,
    PermissionDenied,
    RemoteProtocolError,
    SaslError,
)
from aiospice.wire.link import U32

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class Chance(Protocol):
        """Where nonces and salts come from (`aiospice.aio.crypto`)."""

        def random_bytes(self, count: int) -> bytes:
            """``count`` unpredictable bytes."""


__all__ = [
    "MECHANISMS",
    "SaslClient",
    "SaslServer",
    "SaslUser",
    "ScramKeys",
    "make_scram_keys",
]

#: What is known here, best first.
MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "ANONYMOUS")

#: Limits in bytes: the list of mechanisms, the name of one (``SASL_MAX_MECHNAME_LEN``), a step.
#: Upstream allows steps of 1 MiB; no mechanism here needs 1 KiB.
_LIST_LIMIT = 4096
_NAME_LIMIT = 100
_DATA_LIMIT = 64 << 10
#: Replies that an exchange may take; SCRAM needs three.
_STEP_LIMIT = 6
#: PBKDF2 rounds that a server may ask of us, about half a second.
_ITERATION_LIMIT = 1_000_000
_ITERATIONS = 4096
_REJECTION = b"Authentication failed\0"


class ScramKeys(NamedTuple):
    """What a server needs to keep of a password for one SCRAM mechanism (RFC 5802)."""

    mechanism: str
    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int

    def __repr__(self) -> str:
        return f"ScramKeys({self.mechanism})"


#: A password, or the keys made of it.
SaslUser = str | ScramKeys


def _scramp() -> Any:
    try:
        import scramp
    except ImportError:
        raise MissingProgram("SASL needs the Python package scramp: pip install scramp") from None
    return scramp


def make_scram_keys(
    password: str, salt: bytes, *, mechanism: str = "SCRAM-SHA-256", iterations: int = _ITERATIONS
) -> ScramKeys:
    """Derive what a server keeps; ``salt`` 12 random bytes or more, ``iterations`` from 4096.

    Raises `LocalError` for a password with characters that SASL forbids, or a weak argument.
    """
    scramp = _scramp()
    try:
        made = scramp.ScramMechanism(mechanism).make_auth_info(password, iterations, salt)
    except (scramp.ScramException, ValueError) as error:
        raise LocalError(f"no SCRAM keys can be made of this: {error}") from None
    return ScramKeys(mechanism, *made)


def _take_block(buffer: bytearray, limit: int, what: str, extra: int = 0) -> bytes | None:
    """A u32 length and that many bytes; None (and nothing taken) until ``extra`` more are there."""
    if len(buffer) < 4:
        return None
    (length,) = U32.unpack_from(buffer)
    if length > limit:
        raise RemoteProtocolError(
            f"{what} of {length} bytes, the limit is {limit}", message="SASL exchange"
        )
    end = 4 + length
    if len(buffer) < end + extra:
        return None
    block = bytes(buffer[4:end])
    del buffer[:end]
    return block


def _data_block(data: bytes | None) -> bytes:
    """Data of a step; None differs from empty data."""
    return U32.pack(0) if data is None else U32.pack(len(data) + 1) + data + b"\0"


def _data_of(block: bytes) -> bytes | None:
    """Reverse of `_data_block`; the last byte stands for the NUL whatever it is, as upstream."""
    return block[:-1] if block else None


def _text(data: bytes | None) -> str:
    try:
        return (data or b"").decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError("SCRAM text that isn't UTF-8", message="SASL exchange") from None


def _plain_bytes(text: str) -> bytes:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise LocalError("the user name or the password holds characters that SASL doesn't allow")
    return encoded


def _printable(data: bytes) -> str:
    shown = data.rstrip(b"\0")[:200].decode("ascii", "replace")
    return "".join(char if 32 <= ord(char) < 127 else "?" for char in shown)


class _Stage(Enum):
    """What is awaited from the other side."""

    LIST = "list of mechanisms"
    MECHANISM = "mechanism"
    STEP = "step"
    VERDICT = "verdict"
    REASON = "reason of the rejection"
    DONE = "done"


class SaslClient:
    """The client's exchange; `advance` takes whole parts from a buffer and says what to send.

    ``secure`` allows PLAIN. ANONYMOUS is used only when neither name nor password is given.
    """

    def __init__(self, username: str, password: str, secure: bool, chance: Chance) -> None:
        self.done = False
        #: The mechanism in use, empty before the server's list is here.
        self.mechanism = ""
        self._username = username
        self._password = password
        self._secure = secure
        self._nonce = chance.random_bytes(18).hex()
        self._stage = _Stage.LIST
        self._signature = b""
        self._proven = False
        self._steps = 0

    def __repr__(self) -> str:
        return f"SaslClient({self.mechanism or 'no mechanism yet'}, awaits {self._stage.value})"

    def advance(self, buffer: bytearray) -> bytes:
        """Take one part from the front of ``buffer`` if it is complete; return bytes to send.

        Raises `SaslError` (no common mechanism, refused, a server that can't prove that it knows
        the password) and `RemoteProtocolError`; the exchange is over then.
        """
        if self._stage is _Stage.LIST:
            return self._begin(buffer)
        if self._stage is _Stage.STEP:
            return self._reply(buffer)
        if self._stage is _Stage.VERDICT:
            self._judge(buffer)
        elif self._stage is _Stage.REASON:
            reason = _take_block(buffer, _DATA_LIMIT, "a reason")
            if reason is not None:
                raise self._rejected(_printable(reason))
        return b""

    def _begin(self, buffer: bytearray) -> bytes:
        offered = _take_block(buffer, _LIST_LIMIT, "a list of mechanisms")
        if offered is None:
            return b""
        self.mechanism = name = self._choose(offered)
        self._stage = _Stage.STEP
        if name == "PLAIN":
            first = b"".join(
                b"\0" + _plain_bytes(part) for part in (self._username, self._password)
            )
            self._forget(proven=True)
        elif name == "ANONYMOUS":
            first = b"aiospice"
            self._forget(proven=True)
        else:
            client = self._scram()
            first = client.get_client_first().encode()
        return U32.pack(len(name)) + name.encode() + _data_block(first)

    def _choose(self, offered: bytes) -> str:
        names = offered.rstrip(b"\0").replace(b" ", b",").split(b",")
        known = [name for name in MECHANISMS if name.encode() in names]
        if not known:
            # Without TLS spice-server offers only what brings a security layer of its own.
            hint = "" if self._secure else "; over TLS it may offer more: use its TLS port"
            raise SaslError(
                f"no SASL mechanism in common: the server offers "
                f"{_printable(offered).strip(',') or 'none'}, this client {', '.join(MECHANISMS)}"
                f"{hint}"
            )
        if not self._username and not self._password and "ANONYMOUS" in known:
            return "ANONYMOUS"
        usable = [name for name in known if name != "ANONYMOUS"]
        if not usable or not self._username:
            raise SaslError(
                "the server takes anonymous users only, and a user name or password was given"
                if not usable
                else "the server asks for a user name and a password (SASL): no name was given"
            )
        if usable == ["PLAIN"] and not self._secure:
            raise SaslError(
                "the server wants the password in the clear (SASL PLAIN), which this client "
                "sends over TLS only"
            )
        return usable[0]

    def _scram(self) -> Any:
        scramp = _scramp()
        try:
            return scramp.ScramClient(
                [self.mechanism], self._username, self._password, c_nonce=self._nonce
            )
        except (scramp.ScramException, ValueError):
            raise LocalError(
                "the user name or the password holds characters that SASL doesn't allow"
            ) from None

    def _forget(self, *, proven: bool) -> None:
        self._password = ""
        self._proven = proven

    def _reply(self, buffer: bytearray) -> bytes:
        block = _take_block(buffer, _DATA_LIMIT, "a step", extra=1)
        if block is None:
            return b""
        complete = buffer[0]
        del buffer[0]
        data = _data_of(block)
        self._steps += 1
        if self._steps > _STEP_LIMIT:
            raise SaslError(f"the server wants more than {_STEP_LIMIT} steps")
        answer = None
        if self._proven or data is None:
            pass  # nothing to learn from it
        elif self._signature:
            self._check_signature(data)
        elif not complete:
            answer = self._final(data)
        if complete:
            self._stage = _Stage.VERDICT
            return b""
        return _data_block(answer)

    def _final(self, data: bytes) -> bytes:
        scramp = _scramp()
        client = self._scram()
        try:
            client.get_client_first()
            client.set_server_first(_text(data))
            if int(client.iterations) > _ITERATION_LIMIT:
                raise SaslError(
                    f"the server wants {int(client.iterations)} rounds of hashing, "
                    f"the limit is {_ITERATION_LIMIT}"
                )
            final: bytes = client.get_client_final().encode()
        except (scramp.ScramException, ValueError) as error:
            raise SaslError(f"{self.mechanism} failed: {_printable(str(error).encode())}") from None
        self._signature = bytes(client.server_signature)
        self._forget(proven=False)
        return final

    def _check_signature(self, data: bytes) -> None:
        expected = b"v=" + _base64(self._signature).encode()
        if data.startswith(b"e="):
            raise self._rejected(_printable(data[2:]))
        if not hmac.compare_digest(data.split(b",")[0], expected):
            raise SaslError(f"{self.mechanism}: the server doesn't know the password itself")
        self._proven = True
        self._signature = b""

    def _judge(self, buffer: bytearray) -> None:
        if len(buffer) < 4:
            return
        (verdict,) = U32.unpack_from(buffer)
        del buffer[:4]
        if verdict:
            self._stage = _Stage.REASON
        elif not self._proven:
            raise SaslError(f"{self.mechanism}: the server has not proven to know the password")
        else:
            self._stage = _Stage.DONE
            self.done = True

    def _rejected(self, reason: str) -> SaslError:
        return SaslError(
            f"the server refused the user name or the password ({self.mechanism}"
            f"{reason and ': ' + reason})"
        )


class SaslServer:
    """The server's exchange. ``users`` holds a password or `ScramKeys` by user name.

    PLAIN is offered only when ``secure``, ANONYMOUS only with ``anonymous``. `greeting` goes out
    first. After `advance` with ``done``, ``username`` is who came (empty: anonymous). A failed
    exchange raises `PermissionDenied` after the rejection was put into ``farewell``; an unknown
    user is refused at once, as Cyrus SASL does.
    """

    def __init__(
        self,
        users: Mapping[str, SaslUser],
        secure: bool,
        chance: Chance,
        *,
        anonymous: bool = False,
        mechanisms: tuple[str, ...] = MECHANISMS,
    ) -> None:
        self.done = False
        self.username = ""
        self.mechanism = ""
        #: What to send after an error, before the connection is closed.
        self.farewell = b""
        self._users = dict(users)
        self._offers = tuple(
            name
            for name in MECHANISMS
            if name in mechanisms
            and (name != "PLAIN" or secure)
            and (name != "ANONYMOUS" or anonymous)
        )
        self._nonce = chance.random_bytes(18).hex()
        self._salt = chance.random_bytes(16)
        self._stage = _Stage.MECHANISM
        #: SCRAM: both first messages, the binding that the final one must repeat.
        self._first = ""
        self._binding = ""
        self._keys: ScramKeys | None = None

    def __repr__(self) -> str:
        return f"SaslServer({self.mechanism or 'no mechanism yet'}, awaits {self._stage.value})"

    def greeting(self) -> bytes:
        """The list of mechanisms, as spice-server writes it: a comma before and behind each."""
        offered = f",{','.join(self._offers)},".encode()
        return U32.pack(len(offered)) + offered

    def advance(self, buffer: bytearray) -> bytes:
        """Take one part from the front of ``buffer`` if it is complete; return bytes to send.

        Raises `PermissionDenied` and `RemoteProtocolError`; the exchange is over then.
        """
        if self._stage is _Stage.MECHANISM:
            self._take_mechanism(buffer)
            return b""
        if self._stage is not _Stage.STEP:
            return b""
        block = _take_block(buffer, _DATA_LIMIT, "a step")
        if block is None:
            return b""
        data = _data_of(block)
        if self.mechanism == "PLAIN":
            return self._plain(data)
        if self.mechanism == "ANONYMOUS":
            return self._finish("", None)
        return self._scram_final(data) if self._first else self._scram_first(data)

    def _take_mechanism(self, buffer: bytearray) -> None:
        name = _take_block(buffer, _NAME_LIMIT, "the name of a mechanism")
        if name is None:
            return
        chosen = _printable(name)
        if chosen not in self._offers or name != chosen.encode():
            raise RemoteProtocolError(
                f'the client wants the mechanism "{chosen}", which wasn\'t offered',
                message="SASL exchange",
            )
        self.mechanism = chosen
        self._stage = _Stage.STEP

    def _plain(self, data: bytes | None) -> bytes:
        parts = (data or b"").split(b"\0")
        if len(parts) != 3 or parts[0] not in (b"", parts[1]):
            raise self._refuse("PLAIN data that isn't name and password")
        try:
            name, password = parts[1].decode(), parts[2].decode()
        except UnicodeDecodeError:
            raise self._refuse("PLAIN data that isn't UTF-8") from None
        known = self._users.get(name, "")
        if isinstance(known, ScramKeys):
            right = _matches(known, password)
        else:
            right = hmac.compare_digest(known.encode(), password.encode())
        if not right or name not in self._users or not password:
            raise self._refuse("wrong user name or password")
        return self._finish(name, None)

    def _scram_first(self, data: bytes | None) -> bytes:
        # By hand: `scramp` knows no authorisation name, and Cyrus' client always sends one.
        header, _, rest = _text(data).partition(",")
        authorised, _, bare = rest.partition(",")
        attributes = bare.split(",")
        if header not in ("n", "y") or len(attributes) < 2 or attributes[1][:2] != "r=":
            raise self._refuse("SCRAM data that can't be read")
        name = _unescaped(attributes[0], "n=")
        if authorised and _unescaped(authorised, "a=") != name:
            raise self._refuse("a user who wants to be somebody else")
        known = self._users.get(name)
        if isinstance(known, str) and known:
            known = make_scram_keys(known, self._salt, mechanism=self.mechanism)
        if not isinstance(known, ScramKeys) or known.mechanism != self.mechanism:
            raise self._refuse("unknown user, or no keys for this mechanism")
        self._nonce = attributes[1][2:] + self._nonce
        first = f"r={self._nonce},s={_base64(known.salt)},i={known.iterations}"
        self._binding = f"c={_base64(f'{header},{authorised},'.encode())}"
        self._first, self._keys, self.username = f"{bare},{first}", known, name
        return _data_block(first.encode()) + b"\0"

    def _scram_final(self, data: bytes | None) -> bytes:
        import binascii

        keys = self._keys
        assert keys is not None  # kept by the first step
        bare, _, proof = _text(data).rpartition(",p=")
        try:
            given = binascii.a2b_base64(proof.encode(), strict_mode=True)
        except ValueError:
            given = b""
        digest = "sha256" if self.mechanism == "SCRAM-SHA-256" else "sha1"
        transcript = f"{self._first},{bare}".encode()
        mask = hmac.digest(keys.stored_key, transcript, digest)
        right = len(given) == len(mask) and hmac.compare_digest(
            _hash(digest, bytes(a ^ b for a, b in zip(given, mask, strict=True))), keys.stored_key
        )
        if bare.split(",")[:2] != [self._binding, f"r={self._nonce}"] or not right:
            raise self._refuse("wrong password")
        signature = hmac.digest(keys.server_key, transcript, digest)
        return self._finish(self.username, f"v={_base64(signature)}".encode())

    def _finish(self, username: str, data: bytes | None) -> bytes:
        self.username = username
        self.done = True
        self._stage = _Stage.DONE
        self._drop()
        return _data_block(data) + b"\1" + U32.pack(0)

    def _refuse(self, why: str) -> PermissionDenied:
        self.username = ""
        self._drop()
        reason = U32.pack(1) + U32.pack(len(_REJECTION)) + _REJECTION
        self.farewell = _data_block(None) + b"\1" + reason
        return PermissionDenied(f"SASL: {why}")

    def _drop(self) -> None:
        self._users.clear()
        self._keys = None
        self._first = ""


def _unescaped(attribute: str, kind: str) -> str:
    """A name of SCRAM; empty if it is none."""
    name = attribute.removeprefix(kind) if attribute.startswith(kind) else ""
    return name.replace("=2C", ",").replace("=3D", "=")


def _base64(data: bytes) -> str:
    from base64 import b64encode

    return b64encode(data).decode()


def _hash(digest: str, data: bytes) -> bytes:
    import hashlib

    return hashlib.new(digest, data).digest()


def _matches(keys: ScramKeys, password: str) -> bool:
    try:
        made = make_scram_keys(
            password, keys.salt, mechanism=keys.mechanism, iterations=keys.iterations
        )
    except LocalError:
        return False
    return hmac.compare_digest(made.stored_key, keys.stored_key)
