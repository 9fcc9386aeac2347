"""One script of faults, played by the simulator and by real processes, side by side.

``aiospice lab --real``. Each line of the script is a fault of the simulator
(`aiospice.sim.scenario`) at a moment of one move: a line stands still, breaks or is dead, a process
is stopped or killed.
"""

from __future__ import annotations

import asyncio
import json as json_module
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aiospice.errors import AiospiceError, LocalError
from aiospice.proof import faults_real
from aiospice.proof.lab import end_with_parent
from aiospice.proof.lively import SLOW
from aiospice.proof.outcome import Outcome, simulated
from aiospice.sim.scenario import ANCHORS, Fault, Move, calm

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable
    from concurrent.futures import ProcessPoolExecutor

__all__ = ["POLICIES", "SCRIPT", "Compared", "compare", "predicted", "run", "table"]

#: What happens to whom, and for how many seconds. The last is the line between the servers.
SCRIPT = (
    ("stall", "client0-left", 0.5),
    ("stall", "client0-right", 0.5),
    ("reset", "client0-left", 0.0),
    ("reset", "client0-right", 0.0),
    ("dead", "client0-left", 0.0),
    ("dead", "client0-right", 0.0),
    ("stop", "left", 1.0),
    ("stop", "right", 1.0),
    ("stop", "client0", 1.0),
    ("crash", "left", 0.0),
    ("crash", "right", 0.0),
    ("crash", "client0", 0.0),
    ("dead", "left-right", 0.0),
)
POLICIES = ("carry", "direct")
#: One way, seconds; and how long after its moment a fault strikes, in the simulator: a real one is
#: somewhere in between.
LATENCY = 0.05
DELAYS = (0.0005, 0.003, 0.01)
_JOBS = 4
_WAITING = 6  # of those that take minutes, and no time of the processor
_NAMES = {
    "client0-left": "the line to the source",
    "client0-right": "the line to the target",
    "left-right": "the line between the servers",
    "left": "the source",
    "right": "the target",
    "client0": "the client",
}
_VERBS = {
    "stall": "stands still for {:g} s",
    "reset": "breaks",
    "dead": "is dead",
    "stop": "is stopped for {:g} s",
    "crash": "is killed",
}
_HEAD = {
    "prepare": "clients are asked",
    "ready": "they are ready",
    "freeze": "the guest stands still",
    "thaw": "it runs at the target",
    "complete": "clients are to follow",
    "arrived": "the client has arrived",
    "left": "all have left",
}


class Compared(NamedTuple):
    """One fault under one policy: what came of it, how often; and what went wrong."""

    policy: str
    fault: Fault
    predicted: Counter[str]
    seen: Counter[str]
    wrong: tuple[str, ...] = ()

    @property
    def agree(self) -> bool:
        """Everything that was seen had been predicted."""
        return not self.wrong and set(self.seen) <= set(self.predicted)

    @property
    def cell(self) -> str:
        """For a table."""
        seen = " or ".join(sorted(self.seen)) or "WRONG"
        if self.agree:
            return seen
        return f"**{seen}**; simulator: {' or '.join(sorted(self.predicted))}"


def script(words: str = "") -> list[Fault]:
    """All faults at all moments; ``words``: only those that have each of them in their text."""
    found = []
    for kind, who, amount in SCRIPT:
        for anchor in ANCHORS:
            fault = Fault(kind, who, anchor=anchor, amount=amount)
            if all(word in f"{kind} {who} {anchor}".split() for word in words.split()):
                found.append(fault)
    if not found:
        raise LocalError(f"no fault has {words!r} in its text")
    return found


def predicted(fault: Fault, policy: str) -> Counter[str]:
    """What the simulator says."""
    found: Counter[str] = Counter()
    for seed, delay in enumerate(DELAYS):
        scenario = replace(
            calm(policy, LATENCY, seed),
            moves=(Move(gap=0.3, patience=10.5, carries=SLOW, order=0.0005),),
            faults=(replace(fault, delay=delay),),
            link=True,
        )
        try:
            found[str(simulated(scenario))] += 1
        except LocalError as error:
            found[f"BROKEN: {error}"] += 1
    return found


def _processes() -> ProcessPoolExecutor:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    return ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=end_with_parent)


def _elsewhere(pool: ProcessPoolExecutor, case: tuple[Fault, str]) -> Awaitable[Counter[str]]:
    return asyncio.get_running_loop().run_in_executor(pool, predicted, *case)


async def compare(fault: Fault, policy: str, runs: int, told: Awaitable[Counter[str]]) -> Compared:
    """Play one for real; ``told``: what was predicted."""
    seen: Counter[str] = Counter()
    wrong = []
    for _ in range(runs):
        try:
            outcome: Outcome = await faults_real.play(fault, policy, LATENCY * 1e3)
            seen[str(outcome)] += 1
        except (AiospiceError, TimeoutError) as error:
            wrong.append(f"{type(error).__name__}: {error}")
    return Compared(policy, fault, await told, seen, tuple(wrong))


async def run(
    *,
    policies: Iterable[str] = POLICIES,
    only: str = "",
    runs: int = 2,
    jobs: int = 0,
    json: bool = False,
    write: str = "",
) -> int:
    """Play the script; a line a fault. ``write``: the table goes into this page, too.

    ``only``: words that a fault must have, such as ``reset freeze``. Returns 0 if everything that
    was seen had been predicted, and nothing was wrong. Raises `MissingProgram` without namespaces.
    """
    cases = [(fault, policy) for fault in script(only) for policy in policies]
    busy, waiting = asyncio.Semaphore(jobs or _JOBS), asyncio.Semaphore(_WAITING)

    async def one(case: tuple[Fault, str]) -> Compared:
        told = _elsewhere(pool, case)
        async with waiting if case[0].kind == "dead" else busy:
            found = await compare(*case, runs, told)
            sys.stdout.write(_line(found, json) + "\n")
            sys.stdout.flush()
            return found

    with _processes() as pool, faults_real.punctual():
        found = await asyncio.gather(*(one(case) for case in cases))
    if write:
        put(Path(write), table(found))
    return 0 if all(each.agree for each in found) else 1


def _line(found: Compared, json: bool) -> str:
    fault = found.fault
    if json:
        told = {
            "lab": "real",
            "policy": found.policy,
            "kind": fault.kind,
            "who": fault.who,
            "anchor": fault.anchor,
            "predicted": found.predicted,
            "seen": found.seen,
            "wrong": found.wrong,
            "agree": found.agree,
        }
        return json_module.dumps(told)
    text = f"{found.policy:<12} {fault.kind} {fault.who} at {fault.anchor}: "
    text += ", ".join(sorted(found.seen))
    if not found.agree:
        text += f" -- the simulator says {', '.join(sorted(found.predicted))}"
    return "\n".join([text, *(f"  WRONG: {each}" for each in found.wrong)])


def table(found: Iterable[Compared]) -> list[str]:
    """Lines of Markdown: a row for each fault under each policy, a column for each moment."""
    rows: dict[tuple[str, str, str], dict[str, Compared]] = {}
    for each in found:
        fault = each.fault
        what = _VERBS[fault.kind].format(fault.amount)
        key = (_NAMES[fault.who], what, each.policy)
        rows.setdefault(key, {})[fault.anchor] = each
    head = ["fault", "policy", *_HEAD.values()]
    lines = [_cells(head), _cells(["---"] * len(head))]
    for (who, what, policy), cells in rows.items():
        texts = [cells[anchor].cell if anchor in cells else "" for anchor in _HEAD]
        lines.append(_cells([f"{who} {what}", f"`{policy}`", *texts]))
    return lines


def _cells(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"


def put(page: Path, lines: list[str]) -> None:
    """Put lines between the marks of a page."""
    begin, end = "<!-- real faults: from aiospice lab --real -->", "<!-- end of real faults -->"
    text = page.read_text(encoding="utf-8")
    if begin not in text:
        raise LocalError(f"{page} has no place for it: {begin}")
    inside = "\n".join([begin, *lines, end])
    page.write_text(
        re.sub(f"{begin}.*{end}", lambda _: inside, text, flags=re.DOTALL), encoding="utf-8"
    )
