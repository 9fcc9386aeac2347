"""What becomes of a session when something goes wrong in its hand-over, step by step.

The table in ``docs/migration.md`` is what these tests expect. After a change of it on purpose:
``python tests/test_handover_faults.py --write``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if __name__ == "__main__":  # as a program it has no other way to the package of the tests
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.handover_faults import (
    CHANNELS,
    HOWS,
    POLICIES,
    STEPS,
    WHOS,
    Fault,
    FaultyWorld,
    Outcome,
    Way,
    faults,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "migration.md"
BEGIN, END = "<!-- faults: from tests/test_handover_faults.py -->", "<!-- end of faults -->"
WORDS = {outcome.name.lower(): outcome for outcome in Outcome}
KINDS = {name: kind for kind, name in CHANNELS.items()}
TEXTS = {step.text: name for name, step in STEPS.items()}
#: What a channel is called under a policy.
SUFFIX = {way: f" ({way.value})" if way is not POLICIES[0] else "" for way in POLICIES}
#: What stands where nothing can go wrong, since it isn't there.
NOTHING = "-"


def all_faults() -> Iterator[tuple[Way, Fault]]:
    """Every fault under every policy in which it is another one."""
    for policy in POLICIES:
        for fault in faults(policy):
            yield policy, fault


def outcome(policy: Way, fault: Fault) -> Outcome:
    """What becomes of it."""
    world = FaultyWorld(fault, policy)
    world.operate()
    return world.outcome()


# -- the table -------------------------------------------------------------------------------------


def table(found: dict[tuple[Way, Fault], Outcome]) -> str:
    """The outcomes as Markdown; channels with which the same happens share a row."""
    lines = [
        "| on its way | channel | " + " | ".join(WHOS.values()) + " |",
        "| --- " * (len(WHOS) + 2) + "|",
    ]
    for step, about in STEPS.items():
        rows: dict[str, list[str]] = {}
        for policy in POLICIES:
            for kind in about.kinds:
                cells = []
                for who in WHOS:
                    each = [Fault(step, (kind, 0), who, how) for how in HOWS]
                    words = [
                        found[policy, one].name.lower() for one in each if (policy, one) in found
                    ]
                    cells.append(", ".join(words) or NOTHING)
                if any(cell != NOTHING for cell in cells):
                    name = CHANNELS[kind] + SUFFIX[policy]
                    rows.setdefault(" | ".join(cells), []).append(name)
        lines += [
            f"| {about.text} | {', '.join(names)} | {cells} |" for cells, names in rows.items()
        ]
    return "\n".join(lines)


def expected() -> dict[tuple[Way, Fault], Outcome]:
    """What the page says."""
    text = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    found: dict[tuple[Way, Fault], Outcome] = {}
    for line in text.strip().splitlines()[2:]:
        step, names, *cells = [part.strip() for part in line.strip("|").split("|")]
        for name in names.split(", "):
            policy = next((one for one in POLICIES[1:] if name.endswith(SUFFIX[one])), POLICIES[0])
            key = (KINDS[name.removesuffix(SUFFIX[policy])], 0)
            for who, cell in zip(WHOS, cells, strict=True):
                if cell == NOTHING:
                    continue
                for how, word in zip(HOWS, cell.split(", "), strict=True):
                    found[policy, Fault(TEXTS[step], key, who, how)] = WORDS[word]
    return found


def page_with(text: str, found: dict[tuple[Way, Fault], Outcome]) -> str:
    """The text of the page with these outcomes in its table."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{table(found)}\n{END}{after}"


# -- the tests -------------------------------------------------------------------------------------

CASES = list(all_faults())
EXPECTED = expected() if __name__ != "__main__" else {}


def name_of(case: tuple[Way, Fault]) -> str:
    policy, fault = case
    return f"{policy.value}-{fault.step}-{CHANNELS[fault.channel[0]]}-{fault.who}-{fault.how}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_fault_ends_as_the_page_says(case: tuple[Way, Fault]) -> None:
    policy, fault = case
    assert outcome(policy, fault) is EXPECTED[case]


def test_without_a_fault_it_goes_well() -> None:
    for policy in POLICIES:
        world = FaultyWorld(None, policy)
        world.operate()
        assert world.outcome() is Outcome.WHOLE
        assert not world.complaints


def test_the_page_has_every_fault_and_no_other() -> None:
    assert set(EXPECTED) == set(CASES)
    text = PAGE.read_text(encoding="utf-8")
    assert text == page_with(text, EXPECTED), "run: python tests/test_handover_faults.py --write"


def test_what_can_be_saved_is_saved() -> None:
    """Rules that hold for all of the table."""
    for (policy, fault), found in EXPECTED.items():
        left = fault.step in ("migrate", "mark", "data", "record", "close")
        # A client of others leaves channels while the guest is still at the source.
        held = not policy.ours and fault.channel[0] in (3, 10)
        if fault.who == "servers" or held:
            continue
        gone = fault.how == "death" and fault.who in ("target", "client-target")
        # With `DIRECT` the source still has bytes of the client: they can go with it.
        carried = not policy.policy.needs_link
        if carried and fault.who in ("source", "client-source") and left and fault.channel[0] != 1:
            assert found is not Outcome.ENDED  # the guest is at the target, and so is the way there
        if fault.who == "target" and not left and fault.how != "error":
            assert found in (Outcome.STAYS, Outcome.LOSES)
        if fault.who == "client" and fault.how == "death":
            assert found is Outcome.ENDED
        if gone and left:
            assert found is Outcome.ENDED


if __name__ == "__main__":
    results = {case: outcome(*case) for case in CASES}
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    else:
        sys.stdout.write(table(results) + "\n")
