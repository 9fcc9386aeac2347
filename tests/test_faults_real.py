"""The simulator tells the truth about faults: a sample of its script is played for real."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aiospice.errors import LocalError
from aiospice.proof import faults
from aiospice.proof.faults import Compared, predicted, put, script, table
from aiospice.proof.faults_real import EVENTS
from aiospice.proof.outcome import Outcome, judged
from aiospice.sim.scenario import ANCHORS, FAULTS, Fault


def test_the_script_is_made_of_the_simulators_faults_and_moments() -> None:
    assert {fault.kind for fault in script()} <= set(FAULTS)
    assert {fault.anchor for fault in script()} == set(ANCHORS) == set(EVENTS)
    (only,) = script("reset client0-left freeze")
    assert only == Fault("reset", "client0-left", anchor="freeze")
    with pytest.raises(LocalError, match="horses"):
        script("horses")


def test_the_simulator_predicts_in_the_words_of_an_outcome() -> None:
    assert set(predicted(Fault("stop", "client0", anchor="thaw", amount=0.3), "carry")) == {"whole"}
    killed = Fault("crash", "client0", anchor="left")
    assert set(predicted(killed, "direct")) == {"gone, guest target"}


def report(**more: Any) -> dict[str, Any]:
    found = {"said": 8, "at": 16, "missed": 0, "wrong": "", "closed": False, "error": ""}
    return {**found, "events": [], **more}


def test_what_must_not_be_is_no_outcome() -> None:
    guest = {"said": 16, "at": 8, "missed": 0, "wrong": ""}
    finished = {"event": "migration-finished", "mode": "seamless"}
    assert judged(report(), guest, ["left"]) == Outcome("stays", "left")
    whole = judged(report(events=[finished]), guest, ["right"])
    assert str(whole) == "whole"
    assert str(judged(report(closed=True, error="x: lost"), {}, [])) == "ended, guest nowhere"
    risk = {"event": "bytes-at-risk", "to_guest": 4, "from_guest": 0}
    anew = [{**finished, "mode": "switch-host"}, risk]
    missing = {**guest, "at": 4}
    assert str(judged(report(events=anew), missing, ["right"])) == "anew"
    for bad, said in (
        ((report(closed=True), {}, []), "without a reason"),
        ((report(wrong="bytes again"), guest, ["left"]), "bytes again"),
        ((report(), {**guest, "wrong": "bytes again"}, ["left"]), "bytes again"),
        ((report(), missing, ["left"]), "are missing"),
        ((report(), {}, ["left"]), "doesn't answer"),
    ):
        with pytest.raises(LocalError, match=said):
            judged(*bad)


def test_a_table_shows_where_they_differ(tmp_path: Path) -> None:
    fault = Fault("crash", "right", anchor="thaw")
    alike = Compared("carry", fault, Counter(whole=3, anew=1), Counter(whole=2))
    differ = Compared("direct", fault, Counter(whole=4), Counter(stays=2))
    wrong = Compared("hold", fault, Counter(whole=4), Counter(), ("bytes are missing",))
    assert (alike.agree, differ.agree, wrong.agree) == (True, False, False)
    lines = table([alike, differ, wrong])
    assert "| whole |" in lines[2]
    assert "**stays**; simulator: whole" in lines[3]
    assert "WRONG" in lines[4]
    page = tmp_path / "page.md"
    page.write_text(
        "a\n<!-- real faults: from aiospice lab --real -->\nformer\n<!-- end of real faults -->\nb"
    )
    put(page, lines)
    put(page, lines)
    assert page.read_text().splitlines()[2:7] == lines
    assert "former" not in page.read_text()
    page.write_text("nothing")
    with pytest.raises(LocalError, match="no place"):
        put(page, lines)


@pytest.mark.net
@pytest.mark.parametrize(
    ("policy", "what"),
    [
        ("carry", "reset client0-right freeze"),
        ("direct", "crash right prepare"),
    ],
)
async def test_real_processes_fare_as_the_simulator_says(
    policy: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await faults.run(policies=(policy,), only=what, runs=1, json=True) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["agree"]
    assert sum(found["seen"].values()) == 1
