"""Which pages may come to a WebSocket listener through somebody's browser.

A browser connects a page to any address, with no more than the ``Origin`` header to tell whose
page it is. Without a check every page that is looked at on this machine could reach a server that
listens on loopback.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OriginRule"]


@dataclass(frozen=True, slots=True)
class OriginRule:
    """Called with the origin of a page and the ``Host`` it was told to go to.

    Allowed are the listed origins (``https://host:port``, or ``*`` for all), and pages of the
    same host as the server, on any port and scheme. To a listener on loopback only those come by
    that rule whose host is ``localhost`` or an address: any other name could be made to mean
    127.0.0.1 by whoever owns it, and then a stranger's page has the same host.
    """

    allowed: tuple[str, ...] = ()
    #: The listener is on loopback.
    local: bool = False

    def __call__(self, origin: str, host: str, /) -> bool:
        wanted = origin.lower().rstrip("/")
        if any(known == "*" or known.lower().rstrip("/") == wanted for known in self.allowed):
            return True
        scheme, marked, rest = wanted.partition("://")
        if not marked or scheme not in ("http", "https"):
            return False
        theirs, ours = _name(rest), _name(host.lower())
        return bool(theirs) and theirs == ours and not (self.local and _can_be_moved(ours))


def _name(host: str) -> str:
    """``host:port`` without the port; empty if it is neither."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return name if bracket and (not rest or rest.startswith(":")) else ""
    name, _, port = host.partition(":")
    return name if not port or port.isdecimal() else ""


def _can_be_moved(name: str) -> bool:
    """Whether somebody else's name server decides what a name means."""
    from ipaddress import ip_address

    if name == "localhost" or name.endswith(".localhost"):
        return False
    try:
        ip_address(name)
    except ValueError:
        return True
    return False
