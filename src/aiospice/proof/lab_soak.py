"""Long runs of ``aiospice lab``: a note for each thousand seeds, and tables of the notes."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiospice.errors import LocalError
from aiospice.sim.scenario import FAULTS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BLOCK", "append", "blocks", "read", "summary"]

#: Seeds that are played between two notes.
BLOCK = 1000


def read(path: str) -> list[dict[str, Any]]:
    """The notes of a file, [] if there is none; `LocalError` if it has something else in it."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise LocalError(f"{path}: {error}") from None
    try:
        found: list[dict[str, Any]] = [json.loads(line) for line in lines]
        for note in found:
            note["first"] + note["tally"]["seeds"]
    except (ValueError, KeyError, TypeError) as error:
        raise LocalError(f"{path} isn't a file of notes (--log): {error}") from None
    return found


def blocks(path: str, first: int, count: int, policy: str) -> Iterator[range]:
    """Seeds to play next, a block each, behind those of the same policies that are noted."""
    played = [
        each["first"] + each["tally"]["seeds"] for each in read(path) if each["policy"] == policy
    ]
    at = max([first, *played])
    end = at + count
    while at < end:
        yield range(at, min(at + BLOCK, end))
        at += BLOCK


def append(path: str, block: range, policy: str, tally: dict[str, Any], seconds: float) -> None:
    """Note what came of a block; it took so many seconds."""
    note = {
        "commit": _commit(),
        "first": block.start,
        "last": block.stop - 1,
        "policy": policy,
        "took": round(seconds, 1),
        "tally": tally,
    }
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(note) + "\n")
    except OSError as error:
        raise LocalError(f"{path}: {error}") from None


def _commit() -> str:
    """What was played, "" outside of a clone."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def summary(path: str) -> str:
    """Tables of all that is noted in a file, as Markdown."""
    notes = read(path)
    if not notes:
        raise LocalError(f"{path}: nothing is noted there (--log)")
    sums: dict[str, Counter[str]] = {
        name: sum((Counter(note["tally"][name]) for note in notes), Counter())
        for name in ("policies", "struck", "ends")
    }
    total = {
        name: sum(note["tally"][name] for note in notes) for name in ("seeds", "events", "seconds")
    }
    failures = sum(len(note["tally"]["failures"]) for note in notes)
    commits = list(dict.fromkeys(note["commit"] for note in notes))
    hours = sum(note["took"] for note in notes) / 3600
    parts = [
        f"{total['seeds']} seeds ({notes[0]['first']} to {notes[-1]['last']}), "
        f"{total['events']} events in {total['seconds'] / 3600:.0f} virtual hours, played in "
        f"{hours:.1f} hours at {len(commits)} states of the cores: {failures} seeds failed.",
        _policies(sums["policies"], sums["ends"]),
        _table(("fault", "struck"), [(kind, str(sums["struck"][kind])) for kind in FAULTS]),
    ]
    return "\n\n".join(parts)


def _policies(seeds: Counter[str], ends: Counter[str]) -> str:
    kinds: dict[str, Counter[str]] = {}
    for key, count in ends.items():
        policy, _, kind = key.partition(", ")
        kinds.setdefault(kind, Counter())[policy] += count
    order = sorted(kinds, key=lambda kind: (kind.partition(":")[0], -kinds[kind].total()))
    rows = [("seeds", *(str(seeds[policy]) for policy in seeds), str(seeds.total()))]
    for kind in order:
        counted = kinds[kind]
        rows.append((kind, *(str(counted[policy]) for policy in seeds), str(counted.total())))
    return _table(("", *(f"`{policy}`" for policy in seeds), "all"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
