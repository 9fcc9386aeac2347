"""The smallest scenario that still fails the same way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from aiospice.sim.scenario import Fault, Scenario
from aiospice.sim.world import run

__all__ = ["alike", "shrink"]

#: What a scenario loses, one after the other.
_PLAIN: tuple[dict[str, Any], ...] = (
    {"crumbs": False},
    {"file": 0},
    {"jitter": 0.0},
    {"bandwidth": 0.0},
    {"slow_client": 0.0},
    {"slow_guest": 0.0},
    {"to_guest": 0},
    {"to_client": 0},
    {"draws": False},
    {"keys": False},
    {"link": False},
    {"roles": False},
    {"tokens": True},
    {"mini": True},
    {"after": 0.0},
)


def alike(one: str, other: str) -> bool:
    """Whether two failures are of one kind: the same words, whatever the numbers."""
    return bool(one) and _words(one) == _words(other)


def _words(text: str) -> str:
    return re.sub(r"client\d+|[\d., ]+|left|right", " ", text.split(":")[0])[:60]


def shrink(
    scenario: Scenario,
    most: int = 150,
    failure: Callable[[Scenario], str] = lambda scenario: run(scenario).wrong,
) -> Scenario:
    """Leave out what the failure doesn't need; ``most``: runs that may be spent on it."""
    wanted = failure(scenario)
    runs, again = 1, bool(wanted)
    while again:
        again = False
        for smaller in _smaller(scenario):
            if runs >= most:
                return scenario
            runs += 1
            if alike(failure(smaller), wanted):
                scenario, again = smaller, True
                break
    return scenario


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    faults = scenario.faults
    for place in range(len(faults)):
        yield replace(scenario, faults=faults[:place] + faults[place + 1 :])
    yield from _fewer_moves(scenario)
    if scenario.clients > 1:
        gone = scenario.client_names[-1]
        yield replace(
            scenario,
            clients=scenario.clients - 1,
            faults=tuple(fault for fault in faults if gone not in fault.who),
        )
    for change in _PLAIN:
        if any(getattr(scenario, name) != value for name, value in change.items()):
            yield replace(scenario, **change)
    for place, fault in enumerate(faults):
        for simpler in _simpler(fault):
            yield replace(scenario, faults=(*faults[:place], simpler, *faults[place + 1 :]))


def _fewer_moves(scenario: Scenario) -> Iterator[Scenario]:
    moves, faults = scenario.moves, scenario.faults
    if len(moves) < 2:
        return
    last = len(moves) - 1
    yield replace(
        scenario, moves=moves[:last], faults=tuple(each for each in faults if each.move < last)
    )
    yield replace(
        scenario,
        moves=moves[1:],
        faults=tuple(replace(each, move=each.move - 1) for each in faults if each.move),
    )


def _simpler(fault: Fault) -> Iterator[Fault]:
    if fault.delay:
        yield replace(fault, delay=0.0)
        rounded = round(fault.delay, 2)
        if rounded not in (0.0, fault.delay):
            yield replace(fault, delay=rounded)
    if fault.amount > 0.1:
        yield replace(fault, amount=round(fault.amount / 2, 2))
