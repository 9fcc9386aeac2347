"""Guests and their clients move between two servers of ours, beside two QEMUs.

``trips``: with spice-gtk as client, under network delay. Everything is read from captures on the
client's side of a network that holds each packet for a fixed time (`aiospice.proof.delay`), the
same way for ours and for QEMU, in one run:

* first drawing: from the moment that the source is told that the machine has moved (QEMU's
  ``migrate_end``: the first MIGRATE that leaves) until the client can handle the first drawing of
  the target, also in one-way trips;
* silence of a port that the guest writes to without pause, every 10 ms, and how long it is from
  the guest's standstill until the port is heard again;
* silence of a stream that the guest echoes.

``pause``, ``state``, ``crowd`` and ``window`` are `aiospice.proof.handover_pause`,
``handover_state``, ``handover_crowd`` and ``handover_window``.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiospice.errors import LocalError, MissingProgram
from aiospice.migration.source import Policy
from aiospice.proof import (
    gtkpeer,
    handover_crowd,
    handover_pause,
    handover_state,
    handover_window,
)
from aiospice.proof.bench import complain, median
from aiospice.proof.delay import DelayedNetwork
from aiospice.proof.handover import our_move, qemu_move
from aiospice.proof.handover_capture import (
    first_drawing,
    records_size,
    silence,
    told_by,
    trips_to_draw,
    until_heard,
)
from aiospice.proof.pcap import read_connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from aiospice.proof.handover import Moved
    from aiospice.proof.pcap import Connection

__all__ = ["measure", "undisturbed"]

#: Trips and silences; the guest's standstill; bytes of a full desktop; many clients at once; what a
#: GLZ window is worth.
KINDS = ("trips", "pause", "state", "crowd", "window")
POLICIES = tuple(each.value for each in Policy)
_ECHO, _TALK = 0, 1
_PRIORITY = 5  # below the delay program's


class _Run(NamedTuple):
    """Seconds, but for what says otherwise; None: it wasn't measured in this run."""

    first: float
    trips: int  #: one-way trips until the first drawing, by what waited for what
    talk: float | None
    heard: float | None  #: from the guest's standstill until the port is heard again
    echo: float | None
    wrong: int  #: bytes
    records: int  #: bytes


async def measure(
    *,
    runs: int = 3,
    delays: tuple[float, ...] = (25, 50, 100),
    only: str = "",
    policies: tuple[str, ...] = POLICIES,
    **_: Any,
) -> AsyncIterator[dict[str, Any]]:
    """Yield rows; ``measured`` tells of what: `KINDS`, of which ``only`` chooses.

    ``delays``: one way, in ms. Raises `LocalError` for a word that chooses nothing,
    `MissingProgram` without spice-gtk.
    """
    chosen = [kind for kind in KINDS if only in kind]
    if not chosen:
        raise LocalError(f"nothing of a hand-over has {only!r} in its name: {', '.join(KINDS)}")
    kinds: dict[str, Callable[[], AsyncIterator[dict[str, Any]]]] = {
        "trips": lambda: _trips(runs, delays, policies),
        "pause": lambda: handover_pause.measure(policies=policies, runs=runs),
        "state": lambda: handover_state.measure(policies=("carry", "direct")),
        "crowd": lambda: handover_crowd.measure(policies=policies, runs=runs),
        "window": handover_window.measure,
    }
    for kind in chosen:
        with undisturbed():
            async for row in kinds[kind]():
                yield {"measured": kind, **row}


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Real-time priority for all that is measured, ours and QEMU: other programs don't count."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, policy, parameters)


async def _trips(
    runs: int, delays: tuple[float, ...], policies: tuple[str, ...]
) -> AsyncIterator[dict[str, Any]]:
    """Yield a row for each delay and each policy, and the pair of QEMUs."""
    gtkpeer.build()
    for delay in delays:
        for policy in policies:
            if Policy(policy).replays:  # the client is spice-gtk, which keeps no copies
                continue
            found = [await _ours(delay, policy) for _ in range(runs)]
            yield {"servers": "aiospice", "policy": policy, **_figures(found, delay)}
        try:
            found = [each for _ in range(runs) for each in await _qemu(delay)]
        except MissingProgram as error:
            complain("handover", f"QEMU is left out: {error}")
            continue
        yield {"servers": "qemu", "policy": "carry", **_figures(found, delay)}


def _figures(runs: list[_Run], delay: float) -> dict[str, Any]:
    found: dict[str, Any] = {"delay_ms": delay}
    times = {
        "first_drawing": [run.first for run in runs],
        "port_silence": [run.talk for run in runs if run.talk is not None],
        "port_from_stop": [run.heard for run in runs if run.heard is not None],
        "echo_silence": [run.echo for run in runs if run.echo is not None],
    }
    for name, values in times.items():
        found[f"{name}_ms"] = median(values) * 1e3
        if delay:
            found[f"{name}_trips"] = median(values) * 1e3 / delay
    found["trips_counted"] = max(run.trips for run in runs)
    found["wrong_bytes"] = sum(run.wrong for run in runs)
    found["record_bytes"] = max(run.records for run in runs)
    return found


async def _ours(delay: float, policy: str) -> _Run:
    """One move between two of ours."""
    with tempfile.TemporaryDirectory() as folder:
        capture = Path(folder) / "run.pcap"
        async with DelayedNetwork(delay, pcap=capture) as net:
            moved = await our_move(net, policy)
        found = read_connections(capture)
    talk, numbers = silence(found, _TALK, moved.stopped)
    echo, _ = silence(found, _ECHO, moved.stopped)
    heard = until_heard(found, _TALK, moved.stopped)
    wrong = moved.wrong + wrong_numbers(numbers) + moved.reopened
    first, trips = first_drawing(found) - moved.ended, trips_to_draw(found)
    return _Run(first, trips, talk, heard, echo, wrong, records_size(found))


async def _qemu(delay: float) -> list[_Run]:
    """Two moves of a QEMU: one whose port is echoed, one whose port is written to."""
    return [await _qemu_run(delay, talk) for talk in (False, True)]


async def _qemu_run(delay: float, talk: bool) -> _Run:
    with tempfile.TemporaryDirectory() as folder:
        capture = Path(folder) / "run.pcap"
        async with DelayedNetwork(delay, pcap=capture) as net:
            moved = await qemu_move(net, talk=talk)
        found = read_connections(capture)
    return _judge_qemu(found, moved, delay / 1e3, talk)


def _judge_qemu(found: list[Connection], moved: Moved, delay: float, talk: bool) -> _Run:
    ended = told_by(found) - delay
    longest, numbers = silence(found, 0, moved.stopped)
    wrong = moved.wrong + (wrong_numbers(numbers) if talk else 0)
    first, trips, size = first_drawing(found) - ended, trips_to_draw(found), records_size(found)
    if not talk:
        return _Run(first, trips, None, None, longest, wrong, size)
    return _Run(first, trips, longest, until_heard(found, 0, moved.stopped), None, wrong, size)


def wrong_numbers(data: bytes) -> int:
    """How many bytes aren't numbers (8 bytes, high byte first) that go on from the first one."""
    first = int.from_bytes(data[:8], "big")
    expected = b"".join((first + each).to_bytes(8, "big") for each in range(len(data) // 8 + 1))
    return sum(a != b for a, b in zip(data, expected, strict=False))
