"""``aiospice lab``: hand-overs played through on virtual time, by the seed.

Each seed is one scenario: lines, work, moves and faults (`aiospice.sim.scenario`). What doesn't
hold is reported with its seed and the smallest scenario that still shows it. Then the policies are
measured against each other on calm lines.
"""

from __future__ import annotations

import json as json_module
import os
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from aiospice.errors import LocalError
from aiospice.migration.source import Policy
from aiospice.proof.lab_plots import PLOTTED, check_plot, plot_costs, plot_run, trace_run
from aiospice.proof.lab_soak import append, blocks, summary
from aiospice.proof.lab_tables import check_tables, show_table, write_rows
from aiospice.proof.timeline_sim import watch
from aiospice.sim.measure import Cost, measure
from aiospice.sim.scenario import Scenario, calm, draw
from aiospice.sim.shrink import shrink
from aiospice.sim.world import outcome_of
from aiospice.sim.world import run as play

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "LATENCIES",
    "POLICIES",
    "Asked",
    "Failure",
    "Tally",
    "end_with_parent",
    "run",
    "seeds",
]

POLICIES = tuple(each.value for each in Policy)
#: One-way trips at which the policies are measured, in ms.
LATENCIES = (25.0, 50.0, 100.0)
#: Seeds that a process plays before it tells.
_CHUNK = 20


@dataclass(frozen=True)
class Failure:
    """A seed under which something doesn't hold."""

    seed: int
    policy: str
    wrong: str
    scenario: dict[str, Any]


@dataclass
class Tally:
    """What came of many seeds."""

    seeds: int = 0
    events: int = 0
    #: Virtual seconds in all.
    seconds: float = 0.0
    #: Seeds by policy, faults by kind, sessions' moves by how they went.
    policies: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    moves: Counter[str] = field(default_factory=Counter)
    #: Faults that struck somebody, by kind; how moves went, by policy, for the operator and for
    #: sessions.
    struck: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count what another has counted."""
        self.seeds += other.seeds
        self.events += other.events
        self.seconds += other.seconds
        self.policies += other.policies
        self.faults += other.faults
        self.moves += other.moves
        self.struck += other.struck
        self.ends += other.ends
        self.failures += other.failures

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**vars(self), "failures": [asdict(failure) for failure in self.failures]}


def _chunk(numbers: list[int], policy: str) -> Tally:
    tally = Tally()
    for seed in numbers:
        outcome = play(draw(seed, policy))
        scenario = outcome.scenario
        tally.seeds += 1
        tally.events += outcome.events
        tally.seconds += outcome.seconds
        tally.policies[scenario.policy] += 1
        tally.faults.update(fault.kind for fault in scenario.faults)
        tally.struck.update(outcome.struck)
        tally.ends.update(f"{scenario.policy}, operator: {end}" for end in outcome.ends)
        for modes in outcome.modes:
            tally.moves.update(modes)
            tally.ends.update(f"{scenario.policy}, session: {mode}" for mode in modes)
        if outcome.wrong:
            tally.failures.append(Failure(seed, scenario.policy, outcome.wrong, scenario.as_dict()))
    return tally


def seeds(numbers: Iterable[int], policy: str = "", jobs: int = 0) -> Iterator[Tally]:
    """Play seeds in several processes (0: one for each core); a tally for some of them each."""
    numbers = list(numbers)
    chunks = [numbers[at : at + _CHUNK] for at in range(0, len(numbers), _CHUNK)]
    jobs = min(jobs or len(os.sched_getaffinity(0)), len(chunks))
    if jobs <= 1:
        for chunk in chunks:
            yield _chunk(chunk, policy)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=end_with_parent
    ) as pool:
        yield from pool.map(_chunk, chunks, [policy] * len(chunks))


def end_with_parent() -> None:
    """A worker whose parent was ended has nobody to tell."""
    import threading
    from multiprocessing import parent_process

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@dataclass
class Asked:
    """What ``aiospice lab`` is to do."""

    #: Seeds to play, None: 200, or none if something else is asked for; and the first of them.
    count: int | None = None
    first: int = 0
    policy: str = ""
    #: One run: of a seed, of a scenario in a file, or the calm one that costs are measured on.
    seed: int | None = None
    scenario: str = ""
    calm: bool = False
    #: One-way trips at which policies are measured, in ms; none: `LATENCIES`.
    latencies: tuple[float, ...] = ()
    #: Show every event of one run; or write it as a Chrome trace.
    trace: bool = False
    trace_file: str = ""
    plot: str = ""
    tables: tuple[str, ...] = ()
    smallest: bool = True
    costs: bool = True
    jobs: int = 0
    json: bool = False
    #: Play for hours: note each thousand seeds in a file, and go on behind those that it has. Or
    #: only make tables of such a file.
    log: str = ""
    summary: str = ""

    @property
    def policies(self) -> tuple[str, ...]:
        """The policies that are measured."""
        return (self.policy,) if self.policy else POLICIES


def run(asked: Asked) -> int:
    """Play seeds, or one run; measure, draw, and print what came.

    Returns the exit status: 1 if something doesn't hold. `LocalError` for what can't be asked for.
    """
    if asked.policy and asked.policy not in POLICIES:
        raise LocalError(f"policy {asked.policy!r} isn't known: {', '.join(POLICIES)}")
    if asked.plot:
        check_plot(asked.plot)
    if asked.summary:
        _say(summary(asked.summary))
        return 0
    tables = check_tables(asked.tables)
    if asked.seed is not None or asked.scenario or asked.calm:
        return _one(_asked_scenario(asked), asked)
    if asked.trace or asked.trace_file:
        raise LocalError("a trace is of one run: --seed, --scenario or --calm")
    more = bool(asked.plot or tables)
    status = _seeds(asked, (0 if more else 200) if asked.count is None else asked.count)
    if asked.plot:
        _tell_costs(plot_costs(asked.plot, asked.policies, asked.latencies or PLOTTED), asked.json)
    elif asked.costs and not tables:
        latencies = asked.latencies or LATENCIES
        found = [measure(each, ms / 1000) for each in asked.policies for ms in latencies]
        _tell_costs(found, asked.json)
    fine = [show_table(name, asked.policies, json=asked.json) for name in tables]
    return status if all(fine) else 1


def _seeds(asked: Asked, count: int) -> int:
    if asked.log:
        return _soak(asked, count)
    tally = _play(range(asked.first, asked.first + count), asked)
    if count:
        _tell_tally(tally, asked.json)
    for failure in tally.failures:
        _tell_failure(failure, asked.smallest, asked.json)
    return 1 if tally.failures else 0


def _play(numbers: range, asked: Asked) -> Tally:
    tally = Tally()
    for part in seeds(numbers, asked.policy, asked.jobs):
        tally.add(part)
        if not asked.json and sys.stderr.isatty():
            sys.stderr.write(f"\r{tally.seeds} seeds, {len(tally.failures)} failures ")
    return tally


def _soak(asked: Asked, count: int) -> int:
    failures = 0
    for block in blocks(asked.log, asked.first, count, asked.policy):
        begun = monotonic()
        tally = _play(block, asked)
        append(asked.log, block, asked.policy, tally.as_dict(), monotonic() - begun)
        _tell_tally(tally, asked.json)
        for failure in tally.failures:
            _tell_failure(failure, asked.smallest, asked.json)
        failures += len(tally.failures)
    return 1 if failures else 0


def _asked_scenario(asked: Asked) -> Scenario:
    if asked.scenario:
        return _read(asked.scenario)
    if asked.calm:
        latency = (asked.latencies or (50.0,))[0] / 1000
        return calm(asked.policy or POLICIES[0], latency, asked.seed or 0)
    return draw(asked.seed or 0, asked.policy)


def _read(path: str) -> Scenario:
    try:
        return Scenario.of(json_module.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise LocalError(f"{path}: {error}") from None


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _one(scenario: Scenario, asked: Asked) -> int:
    if asked.plot or asked.trace_file:
        world = watch(scenario)
        if asked.plot:
            plot_run(asked.plot, world)
        if asked.trace_file:
            trace_run(asked.trace_file, world.timeline)
        outcome = outcome_of(world)
    else:
        outcome = play(scenario, keep=asked.trace)
    if asked.json:
        found = {
            "scenario": scenario.as_dict(),
            "wrong": outcome.wrong,
            "trace": outcome.trace if asked.trace else None,
            "digest": outcome.digest,
            "modes": outcome.modes,
        }
        _say(json_module.dumps(found))
    else:
        whole = len(outcome.trace)
        _say(outcome.story(whole) if asked.trace else f"{scenario}\n!! {outcome.wrong}")
        _say(f"{outcome.events} events in {outcome.seconds:.3f} s, hash {outcome.digest}")
    return 1 if outcome.wrong else 0


def _tell_tally(tally: Tally, json: bool) -> None:
    if json:
        found = {**vars(tally), "failures": len(tally.failures)}
        _say(json_module.dumps({"lab": "seeds", **found}))
        return
    _say(
        f"{tally.seeds} seeds, {tally.events} events in {tally.seconds:.0f} virtual seconds: "
        f"{len(tally.failures)} failures"
    )
    for name, counted in (("seeds", tally.policies), ("faults", tally.faults)):
        _say(f"{name}: " + ", ".join(f"{key} {counted[key]}" for key in sorted(counted)))
    _say("moves: " + ", ".join(f"{key} {tally.moves[key]}" for key in sorted(tally.moves)))


def _tell_failure(failure: Failure, smallest: bool, json: bool) -> None:
    found = Scenario.of(failure.scenario)
    small = shrink(found) if smallest else found
    if json:
        told = {**asdict(failure), "smallest": small.as_dict()}
        _say(json_module.dumps({"lab": "failure", **told}))
        return
    _say(f"\nseed {failure.seed}, {failure.policy}: {failure.wrong}")
    _say(f"aiospice lab --seed {failure.seed} --policy {failure.policy} --trace")
    _say(f"{found}\nsmallest:\n{small}\n{json_module.dumps(small.as_dict())}")


def _tell_costs(costs: list[Cost], json: bool) -> None:
    if json:
        for cost in costs:
            _say(json_module.dumps({"lab": "cost", **asdict(cost)}))
        return
    head = (
        *("policy", "one way", "first drawing", "silence", "guest's downtime"),
        *("guest's state", "records carried", "told by link"),
        *("held for the move", "copies", "waiting"),
    )
    rows = [head] + [
        (
            cost.policy,
            f"{cost.latency * 1000:g} ms",
            f"{cost.first * 1000:.0f} ms = {cost.first_trips:.1f} trips",
            f"{cost.silence * 1000:.0f} ms = {cost.silence_trips:.1f} trips",
            f"{cost.downtime * 1000:.1f} ms",
            *(f"{size} B" for size in _sizes(cost)),
        )
        for cost in costs
    ]
    _say("")
    write_rows(rows)


def _sizes(cost: Cost) -> tuple[int, ...]:
    return (cost.state, cost.carried, cost.told, cost.held, cost.copies, cost.waiting)
