"""``aiospice bench``: how fast the parts are, beside the peers found on the machine.

What counts are ratios between two programs in one run, counts of round trips and of bytes: times
differ from machine to machine and from minute to minute.
"""

from __future__ import annotations

import json as json_module
import statistics
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from aiospice.errors import LocalError, MissingProgram

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

__all__ = ["PARTS", "complain", "median", "ratio", "run"]

#: Each part has a module ``bench_<part>`` with ``measure(...)``, an async generator of results.
PARTS = ("codecs", "draw", "frames", "load", "screenshot", "migration", "handover", "sim")


async def run(*, part: str | None = None, json: bool = False, **options: Any) -> int:
    """Measure one part or all; prints a result a line as it comes. Returns the exit status.

    ``options`` are handed to the parts (``runs``: how often each thing is measured). A peer that is
    missing is told of on standard error and left out. `MissingProgram` if the part can't do
    without; where all are measured, the others are before it is raised.
    """
    if part is not None and part not in PARTS:
        raise LocalError(f"there is no part {part!r} to measure; there are {', '.join(PARTS)}")
    missing: MissingProgram | None = None
    for name in PARTS if part is None else (part,):
        module = import_module(f"aiospice.proof.bench_{name}")
        measure: Callable[..., AsyncIterator[dict[str, Any]]] = module.measure
        try:
            async for result in measure(**options):
                line = json_module.dumps({"bench": name, **result}) if json else _text(name, result)
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
        except MissingProgram as error:
            missing = error
            complain(name, f"not measured: {error}")
    if missing is not None:
        raise missing
    return 0


def complain(part: str, text: str) -> None:
    """Say on standard error what is left out of a part."""
    sys.stderr.write(f"{part}: {text}\n")


def _text(name: str, result: dict[str, Any]) -> str:
    shown = "  ".join(f"{key.replace('_', ' ')} {_number(value)}" for key, value in result.items())
    return f"{name}: {shown}"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def median(values: Sequence[float]) -> float:
    """The middle value; nan for none."""
    return statistics.median(values) if values else float("nan")


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of values that were measured right after one another."""
    return median([a / b for a, b in zip(ours, theirs, strict=True) if b])
