"""Where a hand-over may lead: what a hostile source can't talk its user into.

A server that the session is with may name any host as its target. Three rules hold whatever it
says: a channel that is on TLS never goes to a plain port; the authorities that are trusted stay
the same; and the hosts may be limited by patterns. A certificate's subject that the user has
pinned may be replaced by the source's only for hosts that the user listed.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from aiospice.errors import MigrationFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiospice.channels.base import Key
    from aiospice.effects import Endpoint
    from aiospice.wire.main import DstInfo

__all__ = ["destination_text", "target_endpoints"]

#: Ports are kept as signed numbers by upstream's server: "no port" may come as -1.
_NO_PORT = (0, 0xFFFF)


def destination_text(destination: DstInfo) -> str:
    """The target as text for people (it comes from the peer: escape it)."""
    host = destination.host.decode("utf-8", "replace")
    ports = []
    if destination.port not in _NO_PORT:
        ports.append(str(destination.port))
    if destination.secure_port not in _NO_PORT:
        ports.append(f"{destination.secure_port} (TLS)")
    return f"{host}, port {' and '.join(ports) or 'missing'}"


def target_endpoints(
    current: Mapping[Key, Endpoint],
    destination: DstInfo,
    *,
    migrate_to: tuple[str, ...],
    pinned_subject: str,
) -> dict[Key, Endpoint]:
    """The endpoint on the target for each channel's present one.

    ``migrate_to`` are shell patterns of allowed hosts (empty: any), ``pinned_subject`` the
    certificate subject that the user asked for. `MigrationFailed` when the rules forbid the
    target; nothing has been sent to it then.
    """
    try:
        host = destination.host.decode("ascii")
    except UnicodeDecodeError:
        host = ""
    if not host or any(not "!" <= char <= "~" for char in host):
        raise MigrationFailed(f"the source names no usable host ({destination.host!r})")
    listed = any(fnmatchcase(host.lower(), pattern.lower()) for pattern in migrate_to)
    if migrate_to and not listed:
        raise MigrationFailed(
            f"the source wants to send the session to {host}, which --migrate-to "
            f"{' '.join(migrate_to)} does not allow"
        )
    subject = destination.cert_subject.decode("utf-8", "replace")
    if _plain(subject) == _plain(pinned_subject):
        subject = pinned_subject
    if pinned_subject and subject and subject != pinned_subject and not listed:
        raise MigrationFailed(
            f"the source names another certificate subject for {host} than the one asked for; "
            f"allow the host with --migrate-to {host} if that is right"
        )
    return {
        key: _target(endpoint, destination, host, subject or pinned_subject)
        for key, endpoint in current.items()
    }


def _plain(subject: str) -> list[str]:
    """A subject without what makes no difference: capitals, and spaces before a field."""
    return [field.strip(" ").casefold() for field in subject.split(",")]


def _target(endpoint: Endpoint, destination: DstInfo, host: str, subject: str) -> Endpoint:
    plain = 0 if destination.port in _NO_PORT else destination.port
    secure = 0 if destination.secure_port in _NO_PORT else destination.secure_port
    if endpoint.tls and not secure:
        raise MigrationFailed(
            f"the source names no TLS port for {host}, and a session on TLS stays on TLS"
        )
    if not plain and not secure:
        raise MigrationFailed(f"the source names no port for {host}")
    tls = endpoint.tls or not plain
    return endpoint._replace(
        host=host,
        port=secure if tls else plain,
        unix_path="",
        tls=tls,
        host_subject=subject,
    )
