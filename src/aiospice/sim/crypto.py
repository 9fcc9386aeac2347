"""What the cores need of cryptography, from a seed: a stand-in that costs nothing.

A ticket is sealed so that only who holds the key can read it, and a changed one isn't taken: that
much the handshake relies on. It protects nobody outside of the simulator.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from aiospice.errors import RemoteProtocolError

if TYPE_CHECKING:
    from aiospice.sim.chance import Chance

__all__ = ["SimCrypto"]

_PUBLIC, _TICKET = 162, 128
_HALF = bytes(range(32))


def _xor(left: bytes, right: bytes) -> bytes:
    number = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return number.to_bytes(len(left), "big")


class SimCrypto:
    """Stands in for `aiospice.aio.crypto.Crypto`. Plain data."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance

    def random_bytes(self, count: int) -> bytes:
        """As many bytes as asked for, from the seed."""
        return self._chance.bytes(count)

    def make_exchange_key(self) -> tuple[bytes, bytes]:
        """Two halves of 32 bytes, of which either gives the other."""
        private = self._chance.bytes(32)
        return private, _xor(private, _HALF)

    def exchange(self, private: bytes, public: bytes, context: bytes) -> bytes:
        """32 bytes, the same for both."""
        return blake2b(_xor(_xor(private, _HALF), public) + context, digest_size=32).digest()

    def make_ticket_key(self) -> bytes:
        """A key of 32 bytes."""
        return self._chance.bytes(32)

    def public_key(self, private: bytes) -> bytes:
        """162 bytes: the key itself in front, as nobody here looks."""
        return private + bytes(_PUBLIC - len(private))

    def encrypt_ticket(self, public_key_der: bytes, password: str) -> bytes:
        """128 bytes: a check value and the password."""
        key = public_key_der[:32]
        text = password.encode().ljust(_TICKET - 16, b"\0")
        sealed = _xor(text, _long(key, len(text)))
        return blake2b(sealed, key=key, digest_size=16).digest() + sealed

    def decrypt_ticket(self, private: bytes, encrypted: bytes) -> bytes:
        """The password's bytes; `RemoteProtocolError` if it isn't for this key."""
        check, sealed = encrypted[:16], encrypted[16:]
        if blake2b(sealed, key=private[:32], digest_size=16).digest() != check:
            raise RemoteProtocolError(
                "the ticket isn't encrypted with this link's key", message="LinkTicket"
            )
        return _xor(sealed, _long(private[:32], len(sealed))).partition(b"\0")[0]

    def seal(self, key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        """16 bytes longer; a change of anything is seen."""
        sealed = _xor(data, _long(key + nonce, len(data)))
        return sealed + _tag(key, nonce, sealed, associated)

    def unseal(self, key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        """What `seal` was given; None if that isn't what it gave."""
        sealed, tag = data[:-16], data[-16:]
        if len(tag) != 16 or _tag(key, nonce, sealed, associated) != tag:
            return None
        return _xor(sealed, _long(key + nonce, len(sealed)))


def _tag(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    text = len(associated).to_bytes(4, "big") + associated + nonce + sealed
    return blake2b(text, key=key[:64], digest_size=16).digest()


def _long(key: bytes, count: int) -> bytes:
    parts = (blake2b(at.to_bytes(4, "big"), key=key[:64]).digest() for at in range(count // 64 + 1))
    return b"".join(parts)[:count]
