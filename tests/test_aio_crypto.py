from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from aiospice.aio.crypto import TICKET_PUBKEY_BYTES, Crypto
from aiospice.errors import LocalError, RemoteProtocolError

CRYPTO = Crypto()
PRIVATE = CRYPTO.make_ticket_key()
PUBLIC = CRYPTO.public_key(PRIVATE)


def spki(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=15))
def test_a_ticket_comes_back_as_the_password(password: str) -> None:
    encrypted = CRYPTO.encrypt_ticket(PUBLIC, password)
    assert len(encrypted) == 128
    assert CRYPTO.decrypt_ticket(PRIVATE, encrypted) == password.encode()


def test_a_ticket_without_a_password_is_a_good_one_each_time_another() -> None:
    tickets = {CRYPTO.encrypt_ticket(PUBLIC, "") for _ in range(20)}
    assert len(tickets) == 20
    oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
    key = serialization.load_der_private_key(PRIVATE, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert {key.decrypt(ticket, oaep) for ticket in tickets} == {b"\0"}


def test_the_public_key_has_the_size_of_the_protocol() -> None:
    assert len(PUBLIC) == TICKET_PUBKEY_BYTES == 162


def test_the_ticket_is_oaep_sha1_with_a_final_nul() -> None:
    key = serialization.load_der_private_key(PRIVATE, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    plain = key.decrypt(
        CRYPTO.encrypt_ticket(PUBLIC, "secret"),
        padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),
    )
    assert plain == b"secret\0"


def test_sixty_bytes_are_the_most_a_password_may_have() -> None:
    assert CRYPTO.decrypt_ticket(PRIVATE, CRYPTO.encrypt_ticket(PUBLIC, "x" * 60)) == b"x" * 60
    with pytest.raises(LocalError, match="61 bytes") as caught:
        CRYPTO.encrypt_ticket(PUBLIC, "x" * 61)
    assert "xx" not in str(caught.value)
    with pytest.raises(LocalError, match="62 bytes"):
        CRYPTO.encrypt_ticket(PUBLIC, "ü" * 31)


@pytest.mark.parametrize("password", ["good\0bad", "\udc80"])
def test_a_password_that_cannot_be_carried_is_refused(password: str) -> None:
    with pytest.raises(LocalError) as caught:
        CRYPTO.encrypt_ticket(PUBLIC, password)
    assert "good" not in str(caught.value)


def test_a_key_with_another_exponent_is_accepted() -> None:
    key = rsa.generate_private_key(public_exponent=3, key_size=1024)
    encrypted = CRYPTO.encrypt_ticket(spki(key.public_key()), "secret")
    oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
    assert key.decrypt(encrypted, oaep) == b"secret\0"


def test_keys_of_other_kinds_are_the_peers_fault() -> None:
    long = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    short = PUBLIC[:29] + bytes([PUBLIC[29] & 0x7F]) + PUBLIC[30:]  # a modulus of 1023 bits
    even = PUBLIC[:156] + bytes([PUBLIC[156] & 0xFE]) + PUBLIC[157:]
    for der in (spki(long), spki(curve), b"", bytes(162), PUBLIC[:-1], PUBLIC + b"\0", short, even):
        for password in ("secret", ""):
            with pytest.raises(RemoteProtocolError, match="ticket key"):
                CRYPTO.encrypt_ticket(der, password)


@given(
    st.binary(max_size=200) | st.binary(min_size=133, max_size=133).map(lambda b: PUBLIC[:29] + b)
)
def test_arbitrary_keys_raise_only_remote_protocol_error(der: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert len(CRYPTO.encrypt_ticket(der, "secret")) == 128
    with contextlib.suppress(RemoteProtocolError):
        assert len(CRYPTO.encrypt_ticket(der, "")) == 128


@given(st.binary(max_size=200))
def test_arbitrary_tickets_raise_only_remote_protocol_error(encrypted: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        CRYPTO.decrypt_ticket(PRIVATE, encrypted)


def test_it_pickles_and_randomness_has_the_length_asked_for() -> None:
    crypto = pickle.loads(pickle.dumps(CRYPTO))
    assert len(crypto.random_bytes(16)) == 16
    assert crypto.random_bytes(16) != crypto.random_bytes(16)


def test_importing_it_does_not_load_cryptography() -> None:
    code = "import sys, aiospice.aio.crypto; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
