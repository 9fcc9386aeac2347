"""Cryptography and chance, behind one stateless object that is handed to the cores.

The cores hold keys as bytes (DER) and never a handle, so that a session stays plain data.
``cryptography`` is imported by the call that needs it. A session without a password never pays
for it (10 ms, 8 MiB): what it sends as its ticket is no secret, so the arithmetic needs no care.
"""

from __future__ import annotations

import os
from operator import xor
from typing import TYPE_CHECKING, Any

from aiospice.errors import LocalError, RemoteProtocolError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.padding import OAEP
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

__all__ = ["MAX_PASSWORD_BYTES", "TICKET_KEY_BITS", "TICKET_PUBKEY_BYTES", "Crypto"]

#: ``SPICE_MAX_PASSWORD_LENGTH`` (protocol.h): bytes of a password, without the final NUL.
MAX_PASSWORD_BYTES = 60
#: ``SPICE_TICKET_KEY_PAIR_LENGTH`` (protocol.h).
TICKET_KEY_BITS = 1024
#: ``SPICE_TICKET_PUBKEY_BYTES`` (protocol.h): the public key as SubjectPublicKeyInfo in DER.
TICKET_PUBKEY_BYTES = 162

# Everything before the modulus in the DER of a 1024 bit key with a three byte exponent, which is
# what every server sends. Reading it here saves loading the parsers of all other kinds of keys
# (10 ms); whatever looks different goes to `cryptography`'s general parser.
_PREFIX = bytes.fromhex("30819f300d06092a864886f70d010101050003818d0030818902818100")
_MODULUS_END = len(_PREFIX) + TICKET_KEY_BITS // 8
_SHA1_SIZE = 20
_SHA1_OF_NOTHING = "da39a3ee5e6b4b0d3255bfef95601890afd80709"


class Crypto:
    """What the cores need of cryptography and randomness. Without state; pickles to nothing."""

    __slots__ = ()

    def random_bytes(self, count: int) -> bytes:
        """Return ``count`` unpredictable bytes."""
        return os.urandom(count)

    def encrypt_ticket(self, public_key_der: bytes, password: str) -> bytes:
        """Encrypt ``password`` for the server: RSA-OAEP with SHA-1, 128 bytes.

        ``public_key_der`` is the ``pub_key`` of the server's link reply (162 bytes). Raises
        `RemoteProtocolError` if that isn't an RSA key of 1024 bits, `LocalError` if the password
        is longer than 60 bytes of UTF-8 or contains a NUL.
        """
        ticket = _ticket_bytes(password)
        try:
            if not password and (numbers := _usual_numbers(public_key_der)):
                return _encrypt_open(ticket, *numbers)
            key = _public_key(public_key_der)
            return key.encrypt(ticket, _oaep())
        except ValueError as error:
            raise RemoteProtocolError(
                f"the server's ticket key can't be used ({_brief(error)}); expected an RSA key "
                f"of {TICKET_KEY_BITS} bits as {TICKET_PUBKEY_BYTES} bytes of DER",
                message="LinkReply",
            ) from None

    def make_ticket_key(self) -> bytes:
        """Make a new private key of 1024 bits (PKCS #8 DER); one for each link."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=TICKET_KEY_BITS)
        return key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def public_key(self, private: bytes) -> bytes:
        """Return the public half of ``private`` (from `make_ticket_key`): 162 bytes of DER."""
        from cryptography.hazmat.primitives import serialization

        public = _private_key(private).public_key()
        return public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def decrypt_ticket(self, private: bytes, encrypted: bytes) -> bytes:
        """Return the password bytes of a ticket, without the final NUL and what follows it.

        Raises `RemoteProtocolError` if ``encrypted`` isn't a ticket for this key.
        """
        try:
            ticket = _private_key(private).decrypt(encrypted, _oaep())
        except ValueError:
            raise RemoteProtocolError(
                "the ticket isn't encrypted with this link's key", message="LinkTicket"
            ) from None
        return ticket.partition(b"\0")[0]

    def seal(self, key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        """Seal ``data`` with ChaCha20-Poly1305 (RFC 8439): 16 bytes longer.

        key: 32 bytes; nonce: 12 bytes, never the same twice with one key; associated: what has to
        be the same for `unseal`, and isn't sent.
        """
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        return ChaCha20Poly1305(key).encrypt(nonce, data, associated)

    def unseal(self, key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        """What `seal` was given; None if that isn't what it gave."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        try:
            return ChaCha20Poly1305(key).decrypt(nonce, data, associated)
        except InvalidTag:
            return None

    def make_exchange_key(self) -> tuple[bytes, bytes]:
        """Make a new X25519 key (RFC 7748): the private and the public half, 32 bytes each."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        private = X25519PrivateKey.generate()
        return private.private_bytes_raw(), private.public_key().public_bytes_raw()

    def exchange(self, private: bytes, public: bytes, context: bytes) -> bytes:
        """The key of 32 bytes that two share by X25519: HKDF with SHA-256 (RFC 5869).

        private, public: from `make_exchange_key`, the own and the other's; context: what the key
        is for. Raises `RemoteProtocolError` for a public key that can't be one.
        """
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric.x25519 import (
            X25519PrivateKey,
            X25519PublicKey,
        )
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        try:
            own = X25519PrivateKey.from_private_bytes(private)
            shared = own.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise RemoteProtocolError("its key is no X25519 key", message="peer Hello") from None
        return HKDF(hashes.SHA256(), 32, salt=None, info=context).derive(shared)


def _private_key(private: bytes) -> RSAPrivateKey:
    """Read a key that `Crypto.make_ticket_key` made: no need to prove again that it is one."""
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    key: Any = load_der_private_key(private, None, unsafe_skip_rsa_key_validation=True)
    found: RSAPrivateKey = key
    return found


def _ticket_bytes(password: str) -> bytes:
    try:
        encoded = password.encode()
    except UnicodeEncodeError:
        raise LocalError("the password contains characters that UTF-8 can't express") from None
    if len(encoded) > MAX_PASSWORD_BYTES:
        raise LocalError(
            f"the password is {len(encoded)} bytes long; SPICE allows {MAX_PASSWORD_BYTES}"
        )
    if b"\0" in encoded:  # the server would compare what is before it only
        raise LocalError("the password contains a NUL character, which SPICE can't carry")
    return encoded + b"\0"


def _usual_numbers(der: bytes) -> tuple[int, int] | None:
    """Modulus and exponent of a key in the usual form, None for another form.

    ValueError if they can't be those of an RSA key of 1024 bits.
    """
    tail = der[_MODULUS_END:]
    if len(der) != TICKET_PUBKEY_BYTES or not der.startswith(_PREFIX) or tail[:2] != b"\x02\x03":
        return None
    modulus = int.from_bytes(der[len(_PREFIX) : _MODULUS_END], "big")
    exponent = int.from_bytes(tail[2:], "big")
    if modulus.bit_length() != TICKET_KEY_BITS or modulus % 2 == 0:
        raise ValueError("its modulus isn't one of 1024 bits")
    if exponent < 3 or exponent % 2 == 0:
        raise ValueError("its exponent can't be one")
    return modulus, exponent


def _encrypt_open(ticket: bytes, modulus: int, exponent: int) -> bytes:
    """RSA-OAEP with SHA-1 (RFC 8017, 7.1.1) of what is no secret: it takes no constant time."""
    size = TICKET_KEY_BITS // 8
    seed = os.urandom(_SHA1_SIZE)
    block = bytes.fromhex(_SHA1_OF_NOTHING)
    block += bytes(size - 2 * _SHA1_SIZE - 2 - len(ticket)) + b"\x01" + ticket
    block = _mask(block, seed)
    padded = _mask(seed, block) + block
    return pow(int.from_bytes(padded, "big"), exponent, modulus).to_bytes(size, "big")


def _mask(data: bytes, seed: bytes) -> bytes:
    """``data`` xor MGF1 of ``seed`` with SHA-1 (RFC 8017, B.2.1)."""
    from hashlib import sha1

    count = -(-len(data) // _SHA1_SIZE)
    mask = b""
    for number in range(count):
        mask += sha1(seed + number.to_bytes(4, "big"), usedforsecurity=False).digest()
    return bytes(map(xor, data, mask))


def _public_key(der: bytes) -> RSAPublicKey:
    """Read the key; ValueError if it isn't RSA of 1024 bits."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    numbers = _usual_numbers(der)
    if numbers is None:
        return _any_public_key(der)
    return rsa.RSAPublicNumbers(numbers[1], numbers[0]).public_key()


def _any_public_key(der: bytes) -> RSAPublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(der)
    except UnsupportedAlgorithm:
        raise ValueError("a kind of key that isn't known") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("not an RSA key")
    if key.key_size != TICKET_KEY_BITS:
        raise ValueError(f"an RSA key of {key.key_size} bits")
    return key


def _oaep() -> OAEP:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    # SHA-1 is what the protocol says; OAEP does not rest on its collision resistance.
    sha1 = hashes.SHA1()
    return padding.OAEP(mgf=padding.MGF1(algorithm=sha1), algorithm=sha1, label=None)


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100]
