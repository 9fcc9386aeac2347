"""What the lab draws, traces and measures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from aiospice.errors import LocalError
from aiospice.proof import lab
from aiospice.proof.chrome import TraceFile
from aiospice.proof.lab_faults import death, fast, lie, stall
from aiospice.proof.lab_normal import running
from aiospice.proof.lab_page import PARTS, part, with_part
from aiospice.proof.lab_tables import TABLES, check_tables
from aiospice.proof.svg import ticks
from aiospice.proof.timeline import Timeline
from aiospice.proof.timeline_sim import watch
from aiospice.sim.scenario import calm, draw
from aiospice.sim.world import run


def checked_trace(path: Path) -> list[dict[str, Any]]:
    """The events of a Chrome trace, each looked at by the rules of its format."""
    events: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    processes: set[int] = set()
    threads: set[tuple[int, int]] = set()
    flows: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        assert event["ph"] in ("M", "X", "i", "s", "f"), event
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["ts"], (int, float))
        assert event["ts"] >= 0
        assert event["name"]
        if event["ph"] == "M":
            key = {"process_name": "name", "thread_name": "name"}.get(event["name"], "sort_index")
            assert set(event["args"]) == {key}
            if event["name"] == "process_name":
                processes.add(event["pid"])
            elif event["name"] == "thread_name":
                threads.add((event["pid"], event["tid"]))
            continue
        assert event["pid"] in processes, "a process without a name"
        assert (event["pid"], event["tid"]) in threads, "a thread without a name"
        if event["ph"] == "X":
            assert event["dur"] >= 0
        elif event["ph"] == "i":
            assert event["s"] in ("t", "p", "g")
        else:
            flows.setdefault(event["id"], []).append(event)
    for begin, end in flows.values():
        assert (begin["ph"], end["ph"], end["bp"]) == ("s", "f", "e")
        assert (begin["name"], begin["cat"]) == (end["name"], end["cat"])
        assert begin["ts"] <= end["ts"]
    _nested([event for event in events if event["ph"] == "X"])
    return events


def _nested(spans: list[dict[str, Any]]) -> None:
    """Slices of a thread lie beside or inside each other."""
    lanes: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for span in spans:
        lane = lanes.setdefault((span["pid"], span["tid"]), [])
        lane.append((span["ts"], span["ts"] + span["dur"]))
    for lane in lanes.values():
        open_until: list[float] = []
        for begin, end in sorted(lane, key=lambda each: (each[0], -each[1])):
            while open_until and open_until[-1] <= begin + 1e-3:
                open_until.pop()
            assert not open_until or end <= open_until[-1] + 1e-3
            open_until.append(end)


# -- timelines -----------------------------------------------------------------------------------


def test_a_lane_is_in_one_state_at_a_time() -> None:
    line = Timeline()
    line.state("client", "main:0", "here", 1.0)
    line.state("client", "main:0", "here", 2.0)
    line.state("client", "main:0", "there", 3.0)
    line.state("client", "main:0", "", 4.0)
    line.finish(5.0)
    assert [(each.name, each.begin, each.end) for each in line.spans] == [
        ("here", 1.0, 3.0),
        ("there", 3.0, 4.0),
    ]


def test_what_comes_close_together_is_one_burst() -> None:
    line = Timeline(gap=0.1)
    for at in (1.0, 1.05, 1.1, 2.0):
        line.burst("client", "screen", "changes", at)
    line.finish(3.0)
    told = [(each.begin, each.end, each.args) for each in line.spans]
    assert told == [(1.0, 1.1, {"count": 3}), (2.0, 2.0, {"count": 1})]


def test_round_numbers_stand_at_an_axis() -> None:
    assert ticks(0, 100, 5) == [0, 20, 40, 60, 80, 100]
    assert ticks(-0.3, 0.25, 5) == pytest.approx([-0.2, 0, 0.2])
    assert ticks(3, 3) == [3]


def test_a_trace_is_written_as_it_comes_and_holds_nothing_secret(tmp_path: Path) -> None:
    line = Timeline(start=10.0)
    path = tmp_path / "trace.json"
    with TraceFile(str(path)) as trace:
        line.mark("client", "clipboard", "data", 10.5, {"data": b"secret", "size": 6, "at": [1]})
        trace.write(line)
        assert json.loads(path.read_text() + "]")[-1]["args"] == {"size": 6}
        line.state("client", "main:0", "open", 10.0)
        line.arrow("mark", ("client", "main:0"), 10.1, ("server", "main:0"), 10.2)
        line.finish(11.0)
        trace.write(line)
        assert not line.spans
    events = checked_trace(path)
    assert [event["ts"] for event in events if event["ph"] in "Xi"] == [500_000, 0]
    assert len([event for event in events if event["name"] == "process_name"]) == 2


def test_an_empty_trace_is_one(tmp_path: Path) -> None:
    with TraceFile(str(tmp_path / "trace.json")):
        pass
    assert checked_trace(tmp_path / "trace.json") == []
    with pytest.raises(LocalError, match="can't be written"):
        TraceFile(str(tmp_path / "no" / "trace.json"))


# -- simulated runs ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [121, 3])
def test_watching_changes_nothing(seed: int) -> None:
    scenario = draw(seed)
    world = watch(scenario)
    assert (world.failure, world.trace.digest()) == ("", run(scenario).digest)


@pytest.mark.parametrize("policy", lab.POLICIES)
def test_a_timeline_shows_every_channel_change_over(policy: str, tmp_path: Path) -> None:
    path, plot = tmp_path / "trace.json", tmp_path / "plot.svg"
    asked = lab.Asked(policy=policy, calm=True, trace_file=str(path), plot=str(plot), json=True)
    assert lab.run(asked) == 0
    names: dict[tuple[int, int], str] = {}
    seen: dict[str, list[str]] = {}
    for event in checked_trace(path):
        where = (event["pid"], event["tid"])
        if event["name"] == "thread_name":
            names[where] = f"{event['pid']} {event['args']['name']}"
        elif event["ph"] == "X":
            seen.setdefault(names[where], []).append(event["name"])
    for channel in ("main:0", "display:0", "inputs:0", "cursor:0", "port:0"):
        (states,) = [seen[name] for name in names.values() if name == f"3 {channel}"]
        assert (states[0], states[-1]) == ("at left", "at right")
    drawn = ElementTree.parse(plot).getroot()
    assert drawn.tag.endswith("svg")
    assert {"MIGRATE", "client0", "guest"} <= {each.text for each in drawn.iter()}


def test_policies_are_drawn_over_latency(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "plot.svg"
    asked = lab.Asked(plot=str(plot), latencies=(5.0, 10.0), policy="direct", json=True)
    assert lab.run(asked) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    drawn = ElementTree.parse(plot).getroot()
    lines = [each for each in drawn.iter() if each.tag.endswith("polyline")]
    assert lines
    with pytest.raises(LocalError, match="SVG"):
        lab.run(lab.Asked(plot="plot.png"))
    with pytest.raises(LocalError, match="can't be written"):
        lab.run(lab.Asked(calm=True, plot=str(tmp_path / "no" / "plot.svg")))
    with pytest.raises(LocalError, match="one run"):
        lab.run(lab.Asked(trace_file="trace.json"))
    assert calm("carry", 0.05).policy == "carry"


# -- tables --------------------------------------------------------------------------------------


def test_what_waits_at_the_source_dies_with_a_client_that_carries_it() -> None:
    assert death("carry", "complete", 1.5).lost > 0
    told = death("direct", "complete", 1.5)
    assert (told.lost, told.runs, told.wrong) == (0, True, "")


def test_a_lie_costs_who_tells_it() -> None:
    flipped = lie("carry", "a record is changed in one byte", link=True)
    assert flipped.told
    assert flipped.others_whole
    assert flipped.liar == "ended"
    assert "sealed" in flipped.refused
    assert not lie("direct", "a record is changed in one byte").told


def test_a_guest_that_is_too_fast_is_held_up_and_nothing_piles_up() -> None:
    found = fast("direct")
    assert (found.whole, found.wrong) == (True, "")
    assert found.server_backlog < 1 << 20


def test_a_line_that_stands_still_is_waited_for() -> None:
    found = stall("hold", "source", "ready", 1.0)
    assert (found.mode, found.wrong) == ("seamless", "")
    assert 0.5 < found.downtime < 0.52  # no longer than clients may be waited for


def test_policies_that_keep_nothing_cost_nothing_until_a_move() -> None:
    rows = running(lab.POLICIES, 1000)
    first = rows[0]
    assert first.policy.startswith("carry, carry-early, direct, hold")
    assert first.to_server == 6.0  # a header
    assert 0 < first.to_client < 2  # tokens come back many at a time
    assert first.copies == 0
    assert first.micros > 0
    assert first.micros_back > 0


def test_tables_are_printed_for_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.run(lab.Asked(policy="hold", tables=("fast",), json=True)) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["lab"] == "fast"
    assert lab.run(lab.Asked(policy="direct", tables=("fast",))) == 0
    assert "direct" in capsys.readouterr().out.splitlines()[-1]
    with pytest.raises(LocalError, match="isn't known"):
        lab.run(lab.Asked(tables=("hope",)))
    assert check_tables(("all",)) == tuple(TABLES)


# -- the page ------------------------------------------------------------------------------------

PAGE = Path(__file__).resolve().parent.parent / "docs" / "policies.md"


def test_the_page_has_a_place_for_every_part() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in PARTS:
        assert page.count(f"<!-- lab: {name} -->") == 1
    table = part("fast")
    assert table.startswith("| policy |")
    changed = with_part(page, "fast", "another")
    assert changed != page
    assert with_part(changed, "fast", table).count("<!-- end of lab -->") == len(PARTS)


def test_times_on_the_page_are_what_the_lab_measures() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for line in part("costs").splitlines():
        times = "|".join(line.split("|")[:6])
        assert times in page, "run: make policies"
