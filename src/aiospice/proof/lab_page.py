"""The figures in ``docs/policies.md``: measured, and written where the page has room for them.

``python -m aiospice.proof.lab_page docs/policies.md`` measures all of them anew (some minutes).
Each stands between two comments, ``<!-- lab: NAME -->`` and ``<!-- end of lab -->``; pictures are
written beside the page.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiospice.migration.source import Policy
from aiospice.proof.lab_plots import PLOTTED, plot_costs, plot_run
from aiospice.proof.lab_tables import TABLES
from aiospice.proof.timeline_sim import watch
from aiospice.sim.measure import measure
from aiospice.sim.scenario import calm

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PARTS", "main", "part", "with_part"]

_POLICIES = tuple(each.value for each in Policy)
Rows = list[tuple[str, ...]]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _bytes(count: int) -> str:
    return f"{count} B" if count else ""


def _costs() -> Rows:
    head = ("policy", "one way", "first drawing", "silence", "guest stands still")
    rows: Rows = [(*head, "carried", "by the link", "held", "copies")]
    for policy in _POLICIES:
        for ms in (25, 50, 100):
            cost = measure(policy, ms / 1000)
            first = f"{_ms(cost.first)}, {cost.first_trips:.1f} trips"
            sizes = (cost.carried, cost.told, cost.held, cost.copies)
            times = (first, _ms(cost.silence), _ms(cost.downtime))
            rows.append((f"`{policy}`", f"{ms} ms", *times, *map(_bytes, sizes)))
    return rows


def _measured(name: str) -> list[Any]:
    return list(TABLES[name].rows(_POLICIES))


def _pivot(
    rows: list[Any],
    first: str,
    down: Callable[[Any], str],
    across: Callable[[Any], str],
    cell: Callable[[Any], str],
) -> Rows:
    """A table of ``down`` by ``across``; what wasn't measured is empty."""
    columns = list(dict.fromkeys(across(row) for row in rows))
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        lines.setdefault(down(row), {})[across(row)] = cell(row)
    found: Rows = [(first, *columns)]
    found += [(name, *(cells.get(each, "") for each in columns)) for name, cells in lines.items()]
    return found


def _policy(row: Any) -> str:
    name, _, more = row.policy.partition(", ")
    return f"`{name}`" + (f", {more}" if more else "")


def _death() -> Rows:
    moments = {"ready": "ready", "freeze": "guest stands still", "complete": "order"}

    def when(row: Any) -> str:
        return moments[row.anchor] + (f" + {row.trips:g}" if row.trips else "")

    return _pivot(_measured("death"), "policy", _policy, when, lambda row: f"{row.lost} B")


def _lies() -> Rows:
    def cell(row: Any) -> str:
        where = str(row.refused).partition(":")[0]
        return f"{row.liar} ({where})" if where else str(row.liar)

    return _pivot(_measured("lies"), "lie", lambda row: row.lie, _policy, cell)


def _fast() -> Rows:
    head = ("policy", "first drawing", "silence", "guest stands still")
    rows: Rows = [(*head, "most at a server", "most at the client")]
    for row in _measured("fast"):
        times = (_ms(row.first), _ms(row.silence), _ms(row.downtime))
        rows.append((f"`{row.policy}`", *times, f"{row.server_backlog} B", f"{row.client_held} B"))
    return rows


def _stall() -> Rows:
    def what(row: Any) -> str:
        since = "ready" if row.anchor == "ready" else "the order"
        return f"client - {row.line}, {row.seconds:g} s from {since} on"

    def cell(row: Any) -> str:
        return f"{row.first:.2f}, {row.silence:.2f}, {row.downtime:.2f}"

    return _pivot(_measured("stall"), "line", what, _policy, cell)


def _normal() -> Rows:
    rows: Rows = [
        ("policies", "message", "to the server", "back", "CPU there", "CPU back", "copies")
    ]
    for row in _measured("normal"):
        names = ", ".join(f"`{name}`" for name in row.policy.split(", "))
        over = (f"{row.to_server:.1f} B", f"{row.to_client:.1f} B")
        times = (f"{row.micros:.0f} µs", f"{row.micros_back:.0f} µs")
        rows.append((names, f"{row.size} B", *over, *times, _bytes(row.copies)))
    return rows


#: By the names in the comments.
PARTS: dict[str, Callable[[], Rows]] = {
    "costs": _costs,
    "normal": _normal,
    "death": _death,
    "lies": _lies,
    "fast": _fast,
    "stall": _stall,
}


def part(name: str) -> str:
    """One of `PARTS` as a table of Markdown."""
    head, *rows = PARTS[name]()
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def with_part(page: str, name: str, table: str) -> str:
    """The page with another table at its place."""
    begin, end = f"<!-- lab: {name} -->", "<!-- end of lab -->"
    found = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    return found.sub(lambda match: f"{begin}\n{table}\n{end}", page)


def main(path: Path) -> None:
    """Measure everything that the page has."""
    for name in PARTS:
        sys.stderr.write(f"{name}\n")
        page = path.read_text(encoding="utf-8")
        path.write_text(with_part(page, name, part(name)), encoding="utf-8")
    plot_costs(str(path.with_name("pauses.svg")), _POLICIES, PLOTTED)
    for policy in ("carry", "direct"):
        plot_run(str(path.with_name(f"move-{policy}.svg")), watch(calm(policy, 0.05)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
