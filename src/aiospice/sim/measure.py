"""What a move costs where nothing goes wrong: trips, silences, bytes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from aiospice.sim.checks import Checks
from aiospice.sim.clock import EPOCH
from aiospice.sim.process import ClientProcess
from aiospice.sim.scenario import calm
from aiospice.sim.world import World

if TYPE_CHECKING:
    from aiospice.sim.process import Process
    from aiospice.sim.scenario import Scenario

__all__ = ["Cost", "Counting", "cost_of", "measure"]


@dataclass(frozen=True)
class Cost:
    """One move under one policy; times in seconds, sizes in bytes."""

    policy: str
    #: One way, between the client and either server.
    latency: float
    #: From the order that clients follow until the first change of the screen from the target.
    first: float
    #: The longest time that a reader of a port on which the guest writes without pause hears
    #: nothing, and that the guest doesn't run.
    silence: float
    downtime: float
    #: What goes from server to server with the guest, what the client carries, what the servers
    #: tell each other about sessions.
    state: int
    carried: int
    told: int
    #: The most that the client held because of the move: records and what the target had sent
    #: already; copies of what it had sent; and what it couldn't send yet.
    held: int
    copies: int
    waiting: int
    #: It went whole, and nothing was wrong.
    whole: bool

    @property
    def first_trips(self) -> float:
        """`first` in one-way trips."""
        return self.first / self.latency if self.latency else 0.0

    @property
    def silence_trips(self) -> float:
        """`silence` in one-way trips."""
        return self.silence / self.latency if self.latency else 0.0


class Counting(Checks):
    """Counts what a client holds, besides."""

    copies = waiting = 0

    def process(self, process: Process) -> None:
        """A process has had its turn."""
        super().process(process)
        if not isinstance(process, ClientProcess):
            return
        copies = waiting = 0
        for channel in process.core.channels.values():
            kept = getattr(channel, "copies", None)
            copies += 0 if kept is None else kept.size
            waiting += channel.queued_bytes
        self.copies = max(self.copies, copies)
        self.waiting = max(self.waiting, waiting)


def measure(policy: str, latency: float) -> Cost:
    """Play one calm move."""
    return cost_of(calm(policy, latency))


def cost_of(scenario: Scenario) -> Cost:
    """Play a scenario of one move."""
    policy, latency = scenario.policy, scenario.latency
    world = World(scenario)
    checks = world.checks = Counting(world)
    told: list[int] = []
    world.on_link_over = lambda line: told.append(line.bytes)
    world.play()
    client, operator = world.clients[0], world.operator
    ordered = operator.completed_at[0] if operator.completed_at else EPOCH
    left = [at for at in client.drew_at if at > ordered and at >= client.moved_at]
    heard = [(one, other) for one, other in pairwise(client.heard_at) if other > ordered - 0.1]
    return Cost(
        policy=policy,
        latency=latency,
        first=min(left, default=ordered) - ordered,
        silence=max((other - one for one, other in heard), default=0.0),
        downtime=max(operator.downtimes, default=0.0),
        state=max(operator.sizes, default=0),
        carried=client.carried,
        told=sum(told),
        held=checks.client_peak,
        copies=checks.copies,
        waiting=checks.waiting,
        whole=not world.failure and client.modes == ["seamless"],
    )
