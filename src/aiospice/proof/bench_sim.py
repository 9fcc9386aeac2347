"""What the simulator of hand-overs predicts, beside what real processes do.

The same guest and client (`aiospice.proof.lively`) play the same move in the simulator, and as two
``aiospice serve`` and a client program with a delayed network (`aiospice.proof.delay`) between.
Three constants of the model are set from what is measured at the first delay: how long a process
takes to react to what arrives, how long the guest's state takes to the target, and how long a beat
of the guest is. With these the other delays are predicted, and compared. Medians of all runs, in
both.

* ``first``: from the order that clients follow until the screen changes by what the target drew;
* ``silence``: the longest time that a reader of a port hears nothing;
* ``downtime``: how long the guest stands still.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from aiospice.errors import LocalError
from aiospice.migration.source import Policy
from aiospice.proof.bench import median
from aiospice.proof.bench_handover import undisturbed
from aiospice.proof.delay import DelayedNetwork
from aiospice.proof.lively import GUEST, LivelyClient
from aiospice.proof.pair import ServerPair
from aiospice.sim.measure import cost_of
from aiospice.sim.scenario import calm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiospice.proof.pair import HandedOver

__all__ = ["AGREE", "Model", "Pause", "measure", "predicted"]

POLICIES = tuple(each.value for each in Policy)
#: What prediction and measurement may differ by: a share of what was measured, and seconds.
AGREE = (0.1, 0.01)
#: One-way trips that follow one another until the first drawing; of other policies, one.
_TRIPS = {"carry": 5, "carry-early": 3, "replay": 3, "ack": 3}
#: What servers have clients keep copies of.
_KEEPS = {"replay": "tokens", "ack": "acks"}
_BEFORE, _AFTER = 0.5, 0.4  # seconds that are watched around a move, at least


class Model(NamedTuple):
    """The constants, in seconds: a process's reaction, the guest's way, its beat."""

    reaction: float = 0.0
    state: float = 0.005
    beat: float = 0.01


class Pause(NamedTuple):
    """See the module's text; seconds. ``beat``: between two things that were heard."""

    first: float
    silence: float
    downtime: float
    beat: float


async def measure(
    *,
    runs: int = 20,
    delays: tuple[float, ...] = (50, 25, 100),
    only: str = "",
    policies: tuple[str, ...] = POLICIES,
    **_: Any,
) -> AsyncIterator[dict[str, Any]]:
    """Yield the constants, and a row for each delay and policy.

    ``delays``: one way, in ms; the constants are set from the first. ``only`` chooses policies.
    Raises `LocalError` for a word that chooses none, `MissingProgram` without network namespaces.
    """
    chosen = [policy for policy in policies if only in policy]
    if not chosen:
        raise LocalError(f"no policy has {only!r} in its name: {', '.join(policies)}")
    model: Model | None = None
    for delay in delays:
        with undisturbed():
            found = {policy: await _measured(policy, delay, runs) for policy in chosen}
        if model is None:
            model = _fitted(found, delay, runs)
            yield {"constants_from_ms": delay, **{f"{k}_ms": 1e3 * v for k, v in _named(model)}}
        for policy, real in found.items():
            yield _row(policy, delay, predicted(policy, delay, model, runs), real)


def _named(model: Model) -> list[tuple[str, float]]:
    return list(zip(model._fields, model, strict=True))


def _row(policy: str, delay: float, told: Pause, real: Pause) -> dict[str, Any]:
    row: dict[str, Any] = {"policy": policy, "delay_ms": delay}
    agree = True
    for name in ("first", "silence", "downtime"):
        one, other = getattr(told, name), getattr(real, name)
        row[f"{name}_predicted_ms"], row[f"{name}_ms"] = 1e3 * one, 1e3 * other
        agree = agree and abs(one - other) <= AGREE[0] * other + AGREE[1]
    return {**row, "agree": agree}


# -- the model -------------------------------------------------------------------------------------


def predicted(policy: str, delay: float, model: Model, runs: int) -> Pause:
    """What the simulator says, of so many seeds; ``delay`` one way, in ms."""
    costs = []
    for seed in range(runs):
        scenario = calm(policy, delay / 1e3 + model.reaction, seed)
        gap = _BEFORE + model.beat * seed / runs  # at any moment of a beat
        move = replace(scenario.moves[0], carries=model.state, gap=gap)
        costs.append(cost_of(replace(scenario, tick=model.beat, moves=(move,))))
    if not all(cost.whole for cost in costs):
        raise LocalError(f"a simulated move didn't go whole: {policy}, {delay:g} ms")
    return Pause(
        median([cost.first for cost in costs]),
        median([cost.silence for cost in costs]),
        median([cost.downtime for cost in costs]),
        model.beat,
    )


def _fitted(found: dict[str, Pause], delay: float, runs: int) -> Model:
    """The constants that go with what was measured."""
    state = median([real.downtime for policy, real in found.items() if policy != "hold"] or [0.005])
    model = Model(0.0, state, median([real.beat for real in found.values()]))
    late = trips = 0.0
    for policy, real in found.items():
        late += real.first - predicted(policy, delay, model, runs).first
        trips += _TRIPS.get(policy, 1)
    return model._replace(reaction=max(late / trips, -delay / 1e3))


# -- reality ---------------------------------------------------------------------------------------


async def _measured(policy: str, delay: float, runs: int) -> Pause:
    """Move so often, there and back."""
    password = secrets.token_hex(8)
    words = ("--keep", _KEEPS.get(policy, "none"))
    found: list[Pause] = []
    async with (
        DelayedNetwork(delay) as net,
        ServerPair(GUEST, host=net.server_address, password=password, words=words) as pair,
        LivelyClient(
            net.server_address, pair.source.port, password=password, prefix=net.command()
        ) as client,
    ):
        for _run in range(runs):
            await asyncio.sleep(_BEFORE + random.random() / 20 + 2 * delay / 1e3)
            told = await pair.move(policy)
            await asyncio.sleep(_AFTER + 8 * delay / 1e3)
            found.append(_judged(told, await client.ask("report")))
        _exact(await client.ask("rest"))
    return Pause(*(median(values) for values in zip(*found, strict=True)))


def _judged(told: HandedOver, report: dict[str, Any]) -> Pause:
    """One move, as the client has seen it."""
    moved = [
        event["at"]
        for event in report["events"]
        if event["event"] == "channel-moved" and event["channel"].startswith("display")
    ]
    if told.whole != 1 or not moved:
        raise LocalError(f"a client didn't move whole: {told}")
    drew = [at for at in report["drew_at"] if at > told.ended and at >= moved[-1]]
    gaps = list(pairwise(report["heard_at"]))
    around = [b - a for a, b in gaps if b > told.ended - 0.1]
    calm_gaps = [b - a for a, b in gaps if b < told.stopped]
    if not drew or not around:
        raise LocalError("a client has seen or heard nothing after its move")
    return Pause(min(drew) - told.ended, max(around), told.still, median(calm_gaps))


def _exact(report: dict[str, Any]) -> None:
    guest = report["guest"]
    same = (report["at"], guest["at"]) == (guest["said"], report["said"])
    if not same or report["wrong"] or guest["wrong"] or report["missed"] or guest["missed"]:
        told = {key: value for key, value in report.items() if not isinstance(value, list)}
        raise LocalError(f"bytes of a stream are wrong: {told}")
