"""TLS and SASL material, judged by Python's ssl and by a real QEMU."""

from __future__ import annotations

import asyncio
import ssl
import struct
from typing import TYPE_CHECKING

import pytest

from aiospice.errors import AddressError
from aiospice.proof.certificates import Certificates, make_certificates, make_sasl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import QemuFactory

SPICE, SASL, SELECTION, MINI = 1 << 1, 1 << 2, 1 << 0, 1 << 3


def shake_hands(server: Certificates, trusted: Certificates, host: str) -> None:
    """Run a TLS handshake in memory; raises what the client would."""
    accept = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accept.load_cert_chain(server.certificate_file, server.key_file)
    trust = ssl.create_default_context(cafile=str(trusted.ca_file))
    trust.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        trust.wrap_bio(down, up, server_hostname=host),
        accept.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_the_certificate_is_for_its_names_and_subject(tmp_path: Path) -> None:
    made = make_certificates(
        tmp_path, subject="C=DE,O=A\\, B,CN=host", names=("h.test", "10.0.0.1")
    )
    shake_hands(made, made, "h.test")
    shake_hands(made, made, "10.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(made, made, "other.test")
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(made.certificate_file.read_bytes())
    assert [str(part.value) for part in certificate.subject] == ["DE", "A, B", "host"]
    assert made.key_file.stat().st_mode & 0o077 == 0


def test_an_expired_and_a_foreign_certificate_are_refused(tmp_path: Path) -> None:
    old = make_certificates(tmp_path / "old", days=-2)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(old, old, "localhost")
    new = make_certificates(tmp_path / "new")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(new, old, "localhost")


def test_two_servers_may_share_an_authority(tmp_path: Path) -> None:
    one = make_certificates(tmp_path / "one")
    two = make_certificates(tmp_path / "two", subject="CN=two", issuer=one)
    shake_hands(two, one, "localhost")
    shake_hands(one, two, "localhost")


def test_a_subject_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AddressError, match="XX=1"):
        make_certificates(tmp_path, subject="CN=a,XX=1")


async def open_main(
    port: int, made: Certificates
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Link a main channel by hand, over TLS, as far as the choice of the authentication."""
    trust = ssl.create_default_context(cafile=str(made.ca_file))
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
    caps = SPICE | SASL | SELECTION | MINI
    body = struct.pack("<IBBIIII", 0, 1, 0, 1, 0, 18, caps)
    writer.write(b"REDQ" + struct.pack("<III", 2, 2, len(body)) + body)
    head = await reader.readexactly(16)
    reply = await reader.readexactly(struct.unpack("<4sIII", head)[3])
    assert int.from_bytes(reply[:4], "little") == 0
    start = struct.unpack_from("<I", reply, 174)[0]
    offered = struct.unpack_from("<I", reply, start)[0]
    assert bool(offered & SASL) == (not offered & SPICE)
    return reader, writer


@pytest.mark.peers
async def test_qemu_takes_the_certificates(qemu_factory: QemuFactory, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    qemu = await qemu_factory(tls_dir=made.folder, plain=False)
    assert qemu.address == f"spice+tls://127.0.0.1:{qemu.tls_port}"
    writer = (await open_main(qemu.tls_port, made))[1]
    writer.close()


@pytest.mark.peers
@pytest.mark.parametrize(("password", "accepted"), [("geheim", True), ("falsch", False)])
async def test_qemu_offers_the_mechanisms_and_knows_the_user(
    qemu_factory: QemuFactory, tmp_path: Path, password: str, accepted: bool
) -> None:
    made = make_certificates(tmp_path)
    environment = make_sasl(tmp_path / "sasl", "hans", "geheim")
    qemu = await qemu_factory(tls_dir=made.folder, plain=False, sasl=environment)
    reader, writer = await open_main(qemu.tls_port, made)
    writer.write(struct.pack("<I", 2))
    size = struct.unpack("<I", await reader.readexactly(4))[0]
    offered = (await reader.readexactly(size)).strip(b",").split(b",")
    assert sorted(offered) == [b"PLAIN", b"SCRAM-SHA-256"]
    first = b"\0hans\0" + password.encode() + b"\0"  # spice's own end, not part of PLAIN
    writer.write(struct.pack("<I", 5) + b"PLAIN" + struct.pack("<I", len(first)) + first)
    if accepted:
        size = struct.unpack("<I", await reader.readexactly(4))[0]
        await reader.readexactly(size)
        complete, result = struct.unpack("<BI", await reader.readexactly(5))
        assert (complete, result) == (1, 0)
    else:
        assert await reader.read() == b""  # spice-server closes without a word
    writer.close()
