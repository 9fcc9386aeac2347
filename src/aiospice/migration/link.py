"""What both ends of the link between two servers share: how they greet, and their key.

Each end sends `Hello` with an X25519 public key of its own first. From both comes the key that
records are sealed with, one for each migration; who is who has been proven below (the user of a
UNIX socket, certificates of TLS).
"""

from __future__ import annotations

from typing import Protocol

from aiospice.errors import RemoteProtocolError
from aiospice.migration.peer import VERSION, Hello

__all__ = ["GREET_SECONDS", "Greeting", "LinkCrypto"]

#: How long an end waits for the other's `Hello`.
GREET_SECONDS = 5.0
_LABEL = b"aiospice hand-over"


class LinkCrypto(Protocol):
    """What the link needs of cryptography and chance (`aiospice.aio.crypto.Crypto`)."""

    def random_bytes(self, count: int) -> bytes:
        """So many bytes that nobody can foretell."""
        ...

    def make_exchange_key(self) -> tuple[bytes, bytes]:
        """A new X25519 key: the private and the public half."""
        ...

    def exchange(self, private: bytes, public: bytes, context: bytes) -> bytes:
        """The key of 32 bytes that two share, for ``context``."""
        ...


class Greeting:
    """One end's `Hello`, and what becomes of the other's. Plain data."""

    def __init__(self, crypto: LinkCrypto) -> None:
        self._private, public = crypto.make_exchange_key()
        self.hello = Hello(version=VERSION, key=public, nonce=crypto.random_bytes(16))

    def key(self, crypto: LinkCrypto, theirs: Hello, *, source: bool) -> bytes:
        """The key of this link, 32 bytes. `RemoteProtocolError` for a Hello that can't be used."""
        if theirs.version != VERSION:
            raise RemoteProtocolError(
                f"the other server speaks version {theirs.version} of the link, this one {VERSION}",
                message="peer Hello",
            )
        first, second = (self.hello, theirs) if source else (theirs, self.hello)
        context = _LABEL + first.key + first.nonce + second.key + second.nonce
        return crypto.exchange(self._private, theirs.key, context)
