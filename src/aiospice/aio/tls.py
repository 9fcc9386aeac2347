"""TLS as a layer, and the rules by which a server's certificate is the right one.

The rules are those of spice-gtk (ssl_verify.c), or stricter:

- The chain must lead to one of the given authorities; without any, to one of the system's.
- With a ``host_subject`` the certificate's subject must be that one, field by field and in order;
  the host name plays no part then.
- Otherwise the host must be among the names and addresses in the certificate's subjectAltName.
  Only if that has neither names nor addresses, the common name counts. Stricter than spice-gtk:
  a ``*`` stands for exactly one whole label, the leftmost one.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import Any

from aiospice.aio.tlspipe import MAX_HANDSHAKE_BYTES, TlsPipe, reason_of
from aiospice.errors import AddressError, CertificateError

__all__ = [
    "MAX_HANDSHAKE_BYTES",
    "TlsLayer",
    "certificate_subject",
    "host_matches",
    "parse_subject",
    "subject_matches",
]

_SHORT_NAMES = {
    "C": "countryName",
    "ST": "stateOrProvinceName",
    "L": "localityName",
    "O": "organizationName",
    "OU": "organizationalUnitName",
    "CN": "commonName",
    "DC": "domainComponent",
    "UID": "userId",
    "SN": "surname",
    "GN": "givenName",
    "street": "streetAddress",
    "2.5.4.3": "commonName",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "countryName",
    "2.5.4.7": "localityName",
    "2.5.4.8": "stateOrProvinceName",
    "2.5.4.10": "organizationName",
    "2.5.4.11": "organizationalUnitName",
    "1.2.840.113549.1.9.1": "emailAddress",
}
_LONG_NAMES = {long: short for short, long in _SHORT_NAMES.items() if short[0].isalpha()}
_VERIFY_HINTS = {
    7: "another CA of that name has signed it: give the right one with --ca-file",
    9: "it isn't valid yet: is this machine's clock right?",
    10: "it has expired: the server needs a new one",
    18: "it is signed by itself: give that certificate with --ca-file if you trust it",
    19: "give the CA that signed it with --ca-file if you trust it",
    20: "give the CA that signed it with --ca-file",
    21: "give the CA that signed it with --ca-file",
}

Subject = tuple[tuple[str, str], ...]


@lru_cache(maxsize=8)  # every channel of a session needs the same one
def _context(ca: bytes, verify: bool, ciphers: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # names are checked here, see the module
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    # Newer Pythons can ask for strict RFC 5280 checks. CAs made with the recipes of QEMU, libvirt
    # and Proxmox often lack the key identifiers that these want, and spice-gtk does without.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if ciphers:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError:
            raise AddressError(f"the TLS cipher list {ciphers!r} names no known cipher") from None
    if ca:
        try:
            context.load_verify_locations(cadata=ca.decode("ascii"))
        except (ValueError, ssl.SSLError) as error:
            raise AddressError(
                f"the CA can't be read ({reason_of(error)}); expected certificates in PEM, "
                "beginning with -----BEGIN CERTIFICATE-----"
            ) from None
    elif verify:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


class TlsLayer(TlsPipe):
    """The client's end of TLS; ``where`` names the connection in errors."""

    def __init__(
        self,
        where: str,
        host: str,
        *,
        ca: bytes = b"",
        host_subject: str = "",
        verify: bool = True,
        ciphers: str = "",
    ) -> None:
        super().__init__(where, "server")
        self._host = host
        self._verify = verify
        self._host_subject = host_subject
        self._expected = parse_subject(host_subject) if host_subject else None
        self._tls = _context(ca, verify, ciphers).wrap_bio(
            self._incoming, self._outgoing, server_hostname=_server_name(host)
        )

    def start(self) -> None:
        self._handshake()

    def receive(self, data: bytes) -> bytes:
        if not self.ready:
            if not self._received and data:
                self._check_first(data)
            self._received += len(data)
        self._incoming.write(data)
        if not self.ready:
            self._handshake()
            if not self.ready:
                if self._received > MAX_HANDSHAKE_BYTES:
                    raise self._error(f"the handshake is longer than {MAX_HANDSHAKE_BYTES} bytes")
                return b""
        return self._read()

    def _check_first(self, data: bytes) -> None:
        if data[0] in (0x15, 0x16):  # an alert or the handshake, as every answer begins
            return
        if b"REDQ".startswith(data[:4]):
            raise self._error(
                "the server answered in plain SPICE, without TLS: use spice:// for this port, or "
                "the server's TLS port"
            )
        raise self._error("the server's answer isn't TLS: is this its TLS port?")

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLCertVerificationError as error:
            raise self._untrusted(error) from None
        except ssl.SSLError as error:
            raise self._error(f"the TLS handshake failed: {reason_of(error)}") from None
        if self._verify:
            self._check_certificate()
        self.ready = True

    def _untrusted(self, error: ssl.SSLCertVerificationError) -> CertificateError:
        hint = _VERIFY_HINTS.get(error.verify_code, "look at the server's certificate")
        return CertificateError(
            f"{self._where}: the server's certificate isn't trusted ({error.verify_message}): "
            f"{hint}"
        )

    def _check_certificate(self) -> None:
        try:
            certificate: dict[str, Any] = self._tls.getpeercert() or {}
        except (ValueError, ssl.SSLError):
            raise CertificateError(
                f"{self._where}: the names in the server's certificate can't be read"
            ) from None
        seen = certificate.get("subject", ())
        if self._expected is not None:
            if not subject_matches(self._expected, seen):
                raise CertificateError(
                    f"{self._where}: the server's certificate has another subject: expected "
                    f"{_tame(self._host_subject)}, seen {_subject_text(seen)}; if that is the "
                    "server you mean, give it with --host-subject"
                )
        elif not host_matches(self._host, certificate):
            names = ", ".join(value for _, value in certificate.get("subjectAltName", ()))
            raise CertificateError(
                f"{self._where}: the server's certificate is for another host: expected "
                f"{_tame(self._host)}, seen {_tame(names) or 'no names'} with the subject "
                f"{_subject_text(seen)}; if that is the server you mean, give its subject with "
                "--host-subject"
            )

    def receive_eof(self) -> None:
        if not self.ready:
            raise self._error(
                "the server closed the connection during the TLS handshake: is this its TLS port?"
            )


def _server_name(host: str) -> str | None:
    """Return ``host`` if it can go into the hello: a DNS name, not an address or a token."""
    try:
        name = host.encode("ascii" if host.isascii() else "idna").decode()
    except UnicodeError:
        return None
    labels = name.split(".")
    good = all(
        0 < len(label) < 64 and all(c.isalnum() or c in "-_" for c in label) for label in labels
    )
    return name if good and not labels[-1].isdigit() else None


def parse_subject(text: str) -> Subject:
    r"""Read ``C=XX,O=An\, example,CN=host`` into pairs of long field name and value.

    In names and values ``\,`` stands for a comma and ``\\`` for a backslash, nothing else may
    follow a backslash; spaces before a name don't count (ssl_verify.c). Raises `AddressError`.
    """
    fields = []
    for part in _split_subject(text):
        key, equals, value = part.lstrip(" ").partition("=")
        if not equals or not key or not value:
            raise AddressError(
                f"the subject {_tame(text)} must be made of NAME=VALUE, for example "
                "C=XX,O=Me,CN=host"
            )
        fields.append((_SHORT_NAMES.get(key, key), value))
    if not fields:
        raise AddressError("the subject is empty, expected for example C=XX,O=Me,CN=host")
    return tuple(fields)


def _split_subject(text: str) -> list[str]:
    parts = [""]
    escaped = False
    for char in text:
        if escaped and char not in "\\,":
            break
        if char == "\\" and not escaped:
            escaped = True
            continue
        if char == "," and not escaped:
            parts.append("")
        else:
            parts[-1] += char
        escaped = False
    if escaped:
        raise AddressError(f"the subject {_tame(text)} has a \\ that isn't \\, or \\\\")
    if not parts[-1].strip(" "):  # a comma at the end is allowed
        parts.pop()
    return parts


def certificate_subject(file: str) -> str:
    """The subject of the first certificate of a PEM file, as a host subject; "" if it can't be one.

    A field with several values can't be written so, nor can one with another name than OpenSSL's.
    """
    from cryptography.x509 import load_pem_x509_certificates

    try:
        with open(file, "rb") as stream:
            subject = load_pem_x509_certificates(stream.read())[0].subject
        groups = [[(each.oid.dotted_string, str(each.value)) for each in g] for g in subject.rdns]
        seen = tuple(tuple((_SHORT_NAMES[oid], value) for oid, value in g) for g in groups)
    except (OSError, ValueError, KeyError):
        return ""
    text = _subject_text(seen) if seen else ""
    try:
        return text if subject_matches(parse_subject(text), seen) else ""
    except AddressError:
        return ""


def subject_matches(expected: Subject, seen: tuple[tuple[tuple[str, str], ...], ...]) -> bool:
    """Compare with the ``subject`` of ``getpeercert()`` as OpenSSL compares names.

    Case (of ASCII) and the amount of white space don't count; order and number of fields do. A
    field with several values at once never matches.
    """
    if len(expected) != len(seen):
        return False
    for (name, value), group in zip(expected, seen, strict=True):
        if len(group) != 1 or group[0][0] != name or _canonical(group[0][1]) != _canonical(value):
            return False
    return True


def _canonical(value: str) -> bytes:
    return b" ".join(value.encode("utf-8", "surrogatepass").lower().split())


def host_matches(host: str, certificate: dict[str, Any]) -> bool:
    """Tell if ``certificate`` (as of ``getpeercert()``) is for ``host``."""
    if not host:
        return False
    alternatives = certificate.get("subjectAltName", ())
    names = [value for kind, value in alternatives if kind == "DNS"]
    addresses = [value for kind, value in alternatives if kind == "IP Address"]
    packed = _packed(host)
    if names or addresses:
        if packed is not None:
            return any(_packed(address.strip()) == packed for address in addresses)
        return any(_name_matches(name, host) for name in names)
    common = [v for group in certificate.get("subject", ()) for k, v in group if k == "commonName"]
    if packed is not None:
        return any(_packed(name) == packed for name in common)
    return any(_name_matches(name, host) for name in common)


def _packed(host: str) -> bytes | None:
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, host.partition("%")[0])
        except (OSError, ValueError):
            pass
    return None


def _name_matches(pattern: str, host: str) -> bool:
    try:
        name = host.encode("ascii" if host.isascii() else "idna").decode().lower().rstrip(".")
    except UnicodeError:
        return False
    pattern = pattern.lower().rstrip(".")
    if pattern.startswith("*."):
        label, _, name = name.partition(".")
        # At least two labels behind the star: nobody owns all of .org.
        return bool(label) and name == pattern[2:] and "." in name
    return bool(name) and name == pattern


def _subject_text(seen: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """Write a subject so that it can be given as host subject."""
    fields = []
    for group in seen:
        for name, value in group:
            escaped = value.replace("\\", "\\\\").replace(",", "\\,")
            fields.append(f"{_LONG_NAMES.get(name, name)}={escaped}")
    return _tame(",".join(fields)) or "(empty)"


def _tame(text: str) -> str:
    """Make the peer's text fit for one line of an error."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= 300 else text[:300] + "..."
