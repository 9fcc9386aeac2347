"""A server's options: read, checked, and refused where they aren't safe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.aio.crypto import MAX_PASSWORD_BYTES
from aiospice.aio.listen import Listen, parse_listen
from aiospice.errors import LocalError
from aiospice.server.config import COMPRESSIONS, KEEPS, ServerConfig

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from aiospice.server.guest import Guest

__all__ = ["DEFAULT_PORT", "check_password", "listens_of", "safe_or_raise", "settings_of"]

#: Where a server listens that is told nothing.
DEFAULT_PORT = 5900

#: Options with a few words to choose from.
_CHOICES = {
    "on_second_client": ("takeover", "refuse", "share"),
    "compression": COMPRESSIONS,
    "lossy": ("auto", "never", "always"),
    "video": ("auto", "never"),
    "keep": KEEPS,
}


def listens_of(
    host: str,
    ports: Mapping[str, int | None],
    unix_path: str | os.PathLike[str] | None,
    more: Iterable[str | Listen],
) -> list[Listen]:
    """All that is to be listened on; 127.0.0.1:5900 if nothing is named. Raises `AddressError`."""
    found = [Listen(scheme, host, port) for scheme, port in ports.items() if port is not None]
    if unix_path is not None:
        found.append(parse_listen(f"spice+unix://{unix_path}"))
    found += [parse_listen(one) if isinstance(one, str) else one for one in more]
    return found or [Listen("spice", host, DEFAULT_PORT)]


def settings_of(
    config: ServerConfig | None, *, password: str | None, users: Any, **settings: Any
) -> ServerConfig:
    """The configuration with the given options. Raises `LocalError`."""
    found = config or ServerConfig()
    unknown = set(settings) - set(ServerConfig._fields)
    if unknown:
        raise TypeError(f"serve() has no option {', '.join(sorted(unknown))}")
    for name, choices in _CHOICES.items():
        if name in settings and settings[name] not in choices:
            raise LocalError(f"{name} can't be {settings[name]!r}, only {', '.join(choices)}")
    if "secure_channels" in settings:
        settings["secure_channels"] = _channels(settings["secure_channels"])
    if password is not None:
        settings["password"] = password
    if users is not None:
        settings["users"] = dict(users)
    found = found._replace(**settings)
    if found.password is not None and found.users is not None:
        raise LocalError("a server asks for a password (ticket) or for users (SASL), not both")
    check_password(found.password)
    if len(found.uuid) != 16:
        raise LocalError(f"a UUID has 16 bytes, not {len(found.uuid)}")
    return found


def _channels(names: str | Iterable[str]) -> frozenset[str]:
    from aiospice.wire.channels import ChannelType

    found = frozenset(names.split(",") if isinstance(names, str) else names) - {""}
    known = {kind.name.lower() for kind in ChannelType} | {"all"}
    for name in found - known:
        raise LocalError(f"no channel is called {name!r}, only {', '.join(sorted(known))}")
    return found


def check_password(password: str | None) -> None:
    """Raise `LocalError` for a password that SPICE can't carry."""
    if password is None:
        return
    try:
        encoded = password.encode()
    except UnicodeEncodeError:
        raise LocalError("the password contains characters that UTF-8 can't express") from None
    if len(encoded) > MAX_PASSWORD_BYTES:
        raise LocalError(
            f"the password is {len(encoded)} bytes long; SPICE allows {MAX_PASSWORD_BYTES}"
        )
    if b"\0" in encoded:
        raise LocalError("the password contains a NUL character, which SPICE can't carry")


def safe_or_raise(config: ServerConfig, guest: Guest, exposed: Iterable[str]) -> None:
    """Raise `LocalError` if somebody could get in who shouldn't.

    ``exposed`` are the addresses that other machines reach.
    """
    if config.password is not None or config.users is not None:
        return
    what = "a password (--password-file, password=) or users (--users-file, users=)"
    for address in exposed:
        raise LocalError(
            f"{address} can be reached from other machines, and everybody could come in: give "
            f"{what}, or listen on 127.0.0.1 or a UNIX socket"
        )
    if getattr(guest, "needs_password", False):
        raise LocalError(
            f"the guest {guest.name} lets whoever comes run programs, so it always needs {what}"
        )
