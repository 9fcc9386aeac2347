"""Who may begin a link: half-open links are capped, and failures cost an address its turn.

Pure counting. A half link is a connection that has been accepted and is not an open channel yet;
the core ends it after a limit of its own, so what is counted here always goes away again. All
state is bounded: half links by their cap, failures by a table of `DoorLimits.networks` entries.

An IPv4 address stands for itself. Of an IPv6 address the first 64 bits count, since whoever has
one usually has all of them.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address
from typing import Any, NamedTuple

__all__ = ["RULES", "DoorLimits", "Doorkeeper"]

#: What failures weigh: a wrong password, and all others (cut off, timed out, garbage).
_GUESS, _OTHER = 10, 1


class DoorLimits(NamedTuple):
    """What one address, and all together, may have under way."""

    #: Half links of one address. Clients open all channels of a session at once, a dozen or more.
    half_links_per_host: int = 32
    #: Half links of all addresses.
    half_links: int = 128
    #: Wrong passwords of one address before it has to wait.
    failures: int = 10
    #: Seconds in which that many failures are forgiven, evenly: after the first ``failures`` one
    #: more may be tried every ``failure_seconds / failures`` seconds.
    failure_seconds: float = 60.0
    #: Addresses whose failures are remembered; the one whose last failure is oldest goes first.
    networks: int = 4096


#: The rules by which a link isn't admitted, and what a log says of them.
RULES = {
    "half-links-per-address": "too many half-open links from this address",
    "half-links": "too many half-open links",
    "failures": "too many failed links from this address, it has to wait",
}


def network_of(host: str) -> str:
    """What is counted for ``host``: itself, or the first 64 bits of an IPv6 address."""
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.packed[:8].hex()


class Doorkeeper:
    """Counts half links and failures. Plain data; ``now`` is the core's clock in seconds.

    Each `admit` that returns None is followed by exactly one `link_done`, `link_failed` or
    `link_dropped` of the same host.
    """

    def __init__(self, limits: DoorLimits | None = None) -> None:
        self.limits = limits or DoorLimits()
        #: Half links now.
        self.half = 0
        #: Connections that weren't admitted: rule -> how many.
        self.refused = dict.fromkeys(RULES, 0)
        #: Links that failed, and how many of them by a wrong password.
        self.failed = 0
        self.guesses = 0
        self._half: dict[str, int] = {}
        #: network -> (weight of the failures that aren't forgiven, when that was so)
        self._debts: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, host: str, now: float) -> str | None:
        """Count a half link of ``host`` in and return None, or return the rule against it."""
        network = network_of(host)
        rule = self._rule(network, now)
        if rule is not None:
            self.refused[rule] += 1
            return rule
        self.half += 1
        self._half[network] = self._half.get(network, 0) + 1
        return None

    def _rule(self, network: str, now: float) -> str | None:
        limits = self.limits
        if self._half.get(network, 0) >= limits.half_links_per_host:
            return "half-links-per-address"
        if self.half >= limits.half_links:
            return "half-links"
        if network in self._debts and self._debt(network, now) > (limits.failures - 1) * _GUESS:
            return "failures"
        return None

    def link_done(self, host: str, now: float) -> None:
        """A half link of ``host`` has become an open channel."""
        self._out(network_of(host))

    def link_dropped(self, host: str, now: float) -> None:
        """A half link of ``host`` has ended, and it isn't to blame."""
        self._out(network_of(host))

    def link_failed(self, host: str, now: float, *, guess: bool = False) -> None:
        """A half link of ``host`` has failed, with ``guess`` by a wrong password."""
        network = network_of(host)
        self._out(network)
        self.failed += 1
        self.guesses += guess
        # More than the links that were under way when the last one was used up can't come.
        most = (self.limits.failures + self.limits.half_links_per_host) * _GUESS
        debt = self._debt(network, now) + (_GUESS if guess else _OTHER)
        self._debts[network] = (min(debt, most), now)
        self._debts.move_to_end(network)
        if len(self._debts) > self.limits.networks:
            self._debts.popitem(last=False)

    def _out(self, network: str) -> None:
        count = self._half.get(network, 0)
        if not count:
            return
        self.half -= 1
        if count > 1:
            self._half[network] = count - 1
        else:
            del self._half[network]

    def _debt(self, network: str, now: float) -> float:
        """The weight of failures that aren't forgiven yet; what is paid is forgotten."""
        debt, at = self._debts.get(network, (0.0, now))
        per_second = self.limits.failures * _GUESS / self.limits.failure_seconds
        debt -= max(now - at, 0.0) * per_second
        if debt > 0:
            return debt
        self._debts.pop(network, None)
        return 0.0

    def status(self) -> dict[str, Any]:
        """JSON-able counts: half links, failures, refusals by rule."""
        return {
            "half_links": self.half,
            "failed": self.failed,
            "wrong_passwords": self.guesses,
            "refused": dict(self.refused),
            "networks_with_failures": len(self._debts),
        }
