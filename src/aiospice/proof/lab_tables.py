"""The tables of ``aiospice lab``: policies against each other, where something goes wrong."""

from __future__ import annotations

import json as json_module
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from aiospice.errors import LocalError
from aiospice.migration.source import Policy
from aiospice.proof.lab_faults import DEATHS, LIES, STALLS, death, fast, lie, stall
from aiospice.proof.lab_normal import SIZES, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiospice.proof.lab_faults import Death, Fast, Lie, Stall
    from aiospice.proof.lab_normal import Running

__all__ = ["TABLES", "check_tables", "show_table", "write_rows"]

Cells = tuple[str, ...]


class Table(NamedTuple):
    """What is measured, for a policy or all of them, and how it is shown."""

    #: Above it.
    title: str
    head: Cells
    #: Results (data classes) of the policies that are asked for.
    rows: Callable[[tuple[str, ...]], Iterator[Any]]
    cells: Callable[[Any], Cells]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _normal(policies: tuple[str, ...]) -> Iterator[Running]:
    for size in SIZES:
        yield from running(policies, size)


def _normal_cells(row: Running) -> Cells:
    return (
        *(row.policy, f"{row.size} B", f"{row.to_server:.1f} B", f"{row.to_client:.1f} B"),
        *(f"{row.micros:.0f} us", f"{row.micros_back:.0f} us", f"{row.copies} B"),
    )


def _deaths(policies: tuple[str, ...]) -> Iterator[Death]:
    for policy in policies:
        for anchor, trips in DEATHS:
            yield death(policy, anchor, trips)


def _death_cells(row: Death) -> Cells:
    when = row.anchor + (f" + {row.trips:g} trips" if row.trips else "")
    runs = "runs" if row.runs else "is gone"
    return (row.policy, when, f"{row.lost} B", _ms(row.downtime), row.wrong or runs)


def _lies(policies: tuple[str, ...]) -> Iterator[Lie]:
    for what in LIES:
        for policy in policies:
            for link in (False, True) if not Policy(policy).needs_link else (False,):
                found = lie(policy, what, link=link)
                if found.told:
                    yield found


def _lie_cells(row: Lie) -> Cells:
    others = "whole" if row.others_whole else f"NOT whole {row.wrong}"
    return (row.lie, row.policy, row.liar, others, row.refused or "-")


def _fasts(policies: tuple[str, ...]) -> Iterator[Fast]:
    for policy in policies:
        yield fast(policy)


def _fast_cells(row: Fast) -> Cells:
    how = "whole" if row.whole and not row.wrong else f"not whole {row.wrong}"
    held = (f"{row.server_backlog} B", f"{row.client_held} B")
    return (row.policy, _ms(row.first), _ms(row.silence), _ms(row.downtime), *held, how)


def _stalls(policies: tuple[str, ...]) -> Iterator[Stall]:
    for each in STALLS:
        for policy in policies:
            yield stall(policy, *each)


def _stall_cells(row: Stall) -> Cells:
    what = (f"client - {row.line}", row.anchor, f"{row.seconds:g} s")
    times = (_ms(row.first), _ms(row.silence), _ms(row.downtime))
    return (*what, row.policy, *times, row.wrong or row.mode)


#: By their names.
TABLES = {
    "normal": Table(
        "A message of a port in normal running: bytes beyond its data, CPU of both ends",
        ("policy", "message", "to server", "to client", "there", "back", "copies"),
        _normal,
        _normal_cells,
    ),
    "death": Table(
        "The client dies: what had left it and never reaches the guest",
        ("policy", "dies at", "lost", "guest's downtime", "guest"),
        _deaths,
        _death_cells,
    ),
    "lies": Table(
        "The client lies, another beside it doesn't",
        ("lie", "policy", "liar", "other", "refused by"),
        _lies,
        _lie_cells,
    ),
    "fast": Table(
        "The guest writes 400 kB/s, the line carries 100 kB/s",
        (
            *("policy", "first drawing", "silence", "guest's downtime"),
            *("most at a server", "most at client", "moves"),
        ),
        _fasts,
        _fast_cells,
    ),
    "stall": Table(
        "A line stands still",
        (
            *("line", "from", "for", "policy"),
            *("first drawing", "silence", "guest's downtime", "moves"),
        ),
        _stalls,
        _stall_cells,
    ),
}


def check_tables(names: tuple[str, ...]) -> tuple[str, ...]:
    """The tables of these names, ``all`` for all. `LocalError` for one that isn't known."""
    for name in names:
        if name not in TABLES and name != "all":
            raise LocalError(f"table {name!r} isn't known: {', '.join(TABLES)}, all")
    return tuple(TABLES) if "all" in names else names


def show_table(name: str, policies: tuple[str, ...], *, json: bool) -> bool:
    """Measure and print a table; whether nothing was wrong in it."""
    table = TABLES[name]
    rows = list(table.rows(policies))
    if json:
        for row in rows:
            sys.stdout.write(json_module.dumps({"lab": name, **asdict(row)}) + "\n")
    else:
        sys.stdout.write(f"\n{table.title}\n")
        write_rows([table.head, *(table.cells(row) for row in rows)])
    return not any(getattr(row, "wrong", "") for row in rows)


def write_rows(rows: list[Cells]) -> None:
    """Print rows, the first is the head, in columns."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
