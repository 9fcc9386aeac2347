"""Pictures and traces of ``aiospice lab``: the policies over latency, and single runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aiospice.errors import LocalError
from aiospice.proof.chrome import TraceFile
from aiospice.proof.svg import Panel, chart
from aiospice.proof.timeline_svg import draw_timeline
from aiospice.sim.clock import EPOCH
from aiospice.sim.measure import measure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiospice.proof.svg import Series
    from aiospice.proof.timeline import Timeline
    from aiospice.proof.timeline_sim import Watched
    from aiospice.sim.measure import Cost

__all__ = ["PLOTTED", "check_plot", "plot_costs", "plot_run", "trace_run"]

#: One-way trips of a plot over latency, in ms.
PLOTTED = (1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 150.0, 200.0)


#: Attributes of a `Cost` that are drawn, and how the panels are called.
_DRAWN = (
    ("first", "until the target has drawn"),
    ("silence", "silence of a port"),
    ("downtime", "the guest stands still"),
)


def _series(costs: list[Cost], name: str) -> list[Series]:
    found: dict[str, list[tuple[float, float]]] = {}
    for cost in costs:
        point = (1000 * cost.latency, 1000 * float(getattr(cost, name)))
        found.setdefault(cost.policy, []).append(point)
    return list(found.items())


def check_plot(path: str) -> None:
    """`LocalError` for a file that can't be drawn, before anything is played for it."""
    if not path.lower().endswith(".svg"):
        raise LocalError(
            f"the plot {path} would be SVG: name it so (for PNG: rsvg-convert, or any browser)"
        )


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise LocalError(f"the plot {path} can't be written: {error.strerror}") from None


def plot_costs(path: str, policies: Iterable[str], latencies: Iterable[float]) -> list[Cost]:
    """Measure policies, draw pauses over latency (ms), and give what was measured."""
    costs = [measure(policy, ms / 1000) for policy in policies for ms in latencies]
    across = "one-way trip, ms"
    panels = [Panel(title, across, "ms", _series(costs, name)) for name, title in _DRAWN]
    _write(path, chart("A move under each policy", panels))
    return costs


def plot_run(path: str, world: Watched) -> None:
    """Draw a run: from its first move to what came of the last."""
    scenario = world.scenario
    begin, end = _window(world)
    title = f"policy {scenario.policy}, one way {1000 * scenario.latency:g} ms"
    if scenario.faults:
        title += "; " + "; ".join(str(fault) for fault in scenario.faults)
    if world.failure:
        title += f"; wrong: {world.failure}"
    _write(path, draw_timeline(world.timeline, title, begin, end))


def _window(world: Watched) -> tuple[float, float]:
    """From when the first move is prepared until the last one's clients see the target draw."""
    moves = [mark.at for mark in world.timeline.marks if mark.lane.party == "operator"]
    trip = world.scenario.latency
    begin = min(moves, default=EPOCH) - trip
    last = max(moves, default=EPOCH)
    drew = [at for client in world.clients for at in client.drew_at if at > last]
    end = max(min(drew, default=last), last) + 4 * trip + 0.05
    return begin, min(end, world.clock.now)


def trace_run(path: str, timeline: Timeline) -> None:
    """Write a run as a Chrome trace."""
    with TraceFile(path) as trace:
        trace.write(timeline)
