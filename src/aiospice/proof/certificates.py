"""Certificates and SASL users for tests: a CA, a server's certificate, a user database.

The file names are those that QEMU looks for in ``x509-dir`` (QEMU ``qemu-options.hx``).
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aiospice.errors import AddressError, ConnectError, MissingProgram

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["Certificates", "make_certificates", "make_sasl"]

_NAMES = ("localhost", "127.0.0.1", "::1")


class Certificates(NamedTuple):
    """Where the files are, for servers (``folder``) and clients (``ca_file``)."""

    folder: Path  #: with ``ca-cert.pem``, ``server-cert.pem``, ``server-key.pem``
    subject: str  #: as a client is to expect it: ``O=aiospice,CN=localhost``

    @property
    def ca_file(self) -> Path:
        """The certificate that clients trust."""
        return self.folder / "ca-cert.pem"

    @property
    def certificate_file(self) -> Path:
        """The server's certificate."""
        return self.folder / "server-cert.pem"

    @property
    def key_file(self) -> Path:
        """The server's private key."""
        return self.folder / "server-key.pem"


def make_certificates(
    folder: str | Path,
    *,
    subject: str = "O=aiospice,CN=localhost",
    names: tuple[str, ...] = _NAMES,
    days: int = 30,
    issuer: Certificates | None = None,
) -> Certificates:
    """Make a CA and a server certificate signed by it, in ``folder``.

    ``subject``: of the server, ``KEY=value`` joined by commas (a comma in a value as ``\\,``).
    ``names``: host names and addresses it is valid for; may be empty. ``days``: how long it is
    valid from now on; negative: how long ago it expired. ``issuer``: sign with that CA instead
    of a new one. The folder is made if need be.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificates(folder, subject)
    if issuer is None:
        ca_key = ec.generate_private_key(ec.SECP256R1())
        authority = _build("O=aiospice,CN=aiospice test CA", ca_key, None, ca_key, (), 3650)
        _write_key(folder / "ca-key.pem", ca_key)
        _write_certificate(made.ca_file, authority)
    else:
        ca_key, authority = _load_authority(issuer)
        if issuer.folder != folder:
            shutil.copy(issuer.ca_file, made.ca_file)
            shutil.copy(issuer.folder / "ca-key.pem", folder / "ca-key.pem")
    key = ec.generate_private_key(ec.SECP256R1())
    _write_key(made.key_file, key)
    certificate = _build(subject, key, authority, ca_key, names, days)
    _write_certificate(made.certificate_file, certificate)
    return made


def _build(
    subject: str,
    key: EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: EllipticCurvePrivateKey,
    names: tuple[str, ...],
    days: int,
) -> x509.Certificate:
    """Make a certificate; without ``issuer`` a CA that signs itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    name = _parse_subject(subject)
    day = datetime.timedelta(days=1)
    end = datetime.datetime.now(datetime.UTC) + days * day
    begin = min(end, end - days * day) - day
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(_key_usage(authority=issuer is None), critical=True)
        .add_extension(key_id, critical=False)
        .add_extension(authority_key, critical=False)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _parse_subject(subject: str) -> x509.Name:
    """Turn ``O=a,CN=b`` into a name in that order. Raises `AddressError`."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    kinds = {
        "C": NameOID.COUNTRY_NAME,
        "ST": NameOID.STATE_OR_PROVINCE_NAME,
        "L": NameOID.LOCALITY_NAME,
        "O": NameOID.ORGANIZATION_NAME,
        "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
        "CN": NameOID.COMMON_NAME,
    }
    parts = []
    for part in subject.replace("\\,", "\0").split(","):
        key, equals, value = part.strip().replace("\0", ",").partition("=")
        if not equals or key not in kinds:
            raise AddressError(f"subject {subject!r}: {part!r} isn't one of {', '.join(kinds)}=...")
        parts.append(x509.NameAttribute(kinds[key], value))
    return x509.Name(parts)


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    path.write_bytes(certificate.public_bytes(Encoding.PEM))


def _write_key(path: Path, key: EllipticCurvePrivateKey) -> None:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    path.touch(0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _load_authority(issuer: Certificates) -> tuple[EllipticCurvePrivateKey, x509.Certificate]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key((issuer.folder / "ca-key.pem").read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    return key, x509.load_pem_x509_certificate(issuer.ca_file.read_bytes())


def make_sasl(
    folder: str | Path,
    user: str,
    password: str,
    *,
    mechanisms: tuple[str, ...] = ("scram-sha-256", "plain"),
) -> dict[str, str]:
    """Set up Cyrus SASL with one user; returns the environment to start QEMU with.

    QEMU names itself ``qemu`` to SASL, so ``qemu.conf`` counts; other users of spice-server
    read ``spice.conf``, which is made as well. On a plain TCP socket spice-server wants a
    security layer, which these mechanisms don't have: use them over TLS (spice
    ``server/red-stream.cpp``). Raises `MissingProgram` and `ConnectError`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    program = shutil.which("saslpasswd2") or shutil.which("saslpasswd2", path="/usr/sbin")
    if program is None:
        raise MissingProgram("saslpasswd2 isn't installed: install sasl2-bin (Debian)")
    database = folder / "sasldb2"
    settings = "pwcheck_method: auxprop\nauxprop_plugin: sasldb\n"
    settings += f"sasldb_path: {database}\nmech_list: {' '.join(mechanisms)}\n"
    for name in ("qemu.conf", "spice.conf"):
        (folder / name).write_text(settings)
    environment = {"SASL_CONF_PATH": str(folder)}
    done = subprocess.run(
        [program, "-p", "-c", "-f", str(database), "-a", "qemu", user],
        input=password,
        text=True,
        capture_output=True,
        timeout=20,
        env={**os.environ, **environment},
        check=False,
    )
    if done.returncode or not database.exists():
        raise ConnectError(f"saslpasswd2 ended with {done.returncode}: {done.stderr.strip()}")
    return environment
