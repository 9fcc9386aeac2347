"""What came of a move that something happened to: the same words for a simulated and a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aiospice.channels.vmc import DeviceData
from aiospice.client.moving import ChannelGone
from aiospice.errors import LocalError
from aiospice.sim.world import World

if TYPE_CHECKING:
    from aiospice.channels.events import Event
    from aiospice.sim.process import ClientProcess
    from aiospice.sim.scenario import Scenario

__all__ = ["SESSIONS", "Outcome", "judged", "lost_channels", "simulated"]

#: What can become of the session; ``gone``: its client is.
SESSIONS = ("stays", "whole", "less", "anew", "ended", "gone")


class Outcome(NamedTuple):
    """What became of the session (`SESSIONS`), and where the guest runs: a host, or nowhere."""

    session: str
    guest: str

    def __str__(self) -> str:
        where = {"left": "source", "right": "target", "": "nowhere"}[self.guest]
        usual = {"stays": "source", "whole": "target", "less": "target", "anew": "target"}
        return (
            self.session if usual.get(self.session) == where else f"{self.session}, guest {where}"
        )


class _Watched(World):
    """Counts channels that are gone."""

    lost = 0

    def client_event(self, client: ClientProcess, event: Event) -> None:
        """See above."""
        assert not isinstance(event, DeviceData)
        self.lost += isinstance(event, ChannelGone)


def simulated(scenario: Scenario) -> Outcome:
    """Play it; `LocalError` if something doesn't hold."""
    world = _Watched(scenario)
    world.play()
    if world.failure:
        raise LocalError(f"{world.failure}:\n{scenario}")
    client, owner = world.clients[0], world.owner
    if client.dead:
        session = "gone"
    elif client.ended:
        session = "ended"
    else:
        session = _moved(client.modes, world.lost)
    return Outcome(session, "" if owner is None or owner.dead else owner.name)


def _moved(modes: list[str], lost: int) -> str:
    if not modes:
        return "stays"
    return "anew" if modes[-1] != "seamless" else "less" if lost else "whole"


def lost_channels(report: dict[str, Any]) -> int:
    """How many channels are gone, as a `LivelyClient` tells."""
    return sum(event["event"] == "channel-gone" for event in report["events"])


def judged(report: dict[str, Any] | None, guest: dict[str, Any], owners: list[str]) -> Outcome:
    """Of what a `LivelyClient` and the witness tell; `LocalError` for what must not be."""
    where = owners[0] if owners else ""
    if guest.get("wrong"):
        raise LocalError(f"the guest reads {guest['wrong']}")
    if report is None:
        return Outcome("gone", where)
    if report["wrong"]:
        raise LocalError(f"the client reads {report['wrong']}")
    if report["closed"]:
        if not report["error"]:
            raise LocalError("the session has ended without a reason")
        return Outcome("ended", where)
    events = report["events"]
    modes = [event["mode"] for event in events if event["event"] == "migration-finished"]
    session = _moved(modes, lost_channels(report))
    if not guest and session != "less":
        raise LocalError(
            f"the session is {session}, and the guest doesn't answer: {report['error']}"
        )
    if session != "less":
        _exact(report, guest, events)
    return Outcome(session, where)


def _exact(report: dict[str, Any], guest: dict[str, Any], events: list[dict[str, Any]]) -> None:
    """No byte is missing of which the user hasn't been told that it may be."""
    risks = [event for event in events if event["event"] == "bytes-at-risk"]
    told = sum(event["to_guest"] for event in risks), sum(event["from_guest"] for event in risks)
    missed = (
        guest["missed"] + report["said"] - guest["at"],
        report["missed"] + guest["said"] - report["at"],
    )
    if missed[0] > told[0] or missed[1] > told[1]:
        raise LocalError(f"{missed} bytes are missing, the user was told of {told}")
