"""The demo desktop moves between two server processes under load; many servers move at once."""

from __future__ import annotations

import io
import json

import pytest

from aiospice.proof import demo, demo_own
from aiospice.proof.demo_own import Outcome
from aiospice.proof.handover_crowd import Crowd
from aiospice.proof.stream import EchoReport

MOVES = 5


@pytest.mark.parametrize("policy", demo_own.POLICIES)
async def test_nothing_is_lost_and_every_frame_is_right(policy: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    status = await demo.run(migrations=MOVES, policy=policy, json=True, out=out, err=err)
    assert status == 0, out.getvalue()
    *moves, report = (json.loads(line) for line in out.getvalue().splitlines())
    assert [(each["number"], each["mode"]) for each in moves] == [
        (number, "seamless") for number in range(1, MOVES + 1)
    ]
    assert report["sent"] == report["received"] > MOVES * demo_own.BETWEEN
    assert report["lost"] == report["repeated"] == report["out_of_order"] == 0
    assert (report["frames"], report["frames_wrong"]) == (MOVES, 0)
    assert report["files"] >= MOVES
    assert report["files_wrong"] == report["keys_wrong"] == report["reopened"] == 0
    assert f"{MOVES} of {MOVES}: seamless" in err.getvalue()


async def test_people_get_a_report() -> None:
    out, err = io.StringIO(), io.StringIO()
    assert await demo.run(migrations=1, policy="carry", out=out, err=err) == 0
    for words in ("bytes sent", "lost", "frames wrong", "session paused for", "Nothing was lost"):
        assert words in out.getvalue()


@pytest.mark.parametrize(
    "wrong", ["frames_wrong", "files_wrong", "keys_wrong", "reopened", "modes", "stream"]
)
def test_whatever_goes_wrong_is_told(wrong: str) -> None:
    stream = EchoReport(8, 8, 0, 0, 0, 0.0)
    right = Outcome("carry", stream, 1, 0, 1, 0, 0, 0, ["seamless"], [0.0], [0.0])
    assert right.exact
    bad = {"modes": ["switch-host"], "stream": stream._replace(lost=1)}
    assert not right._replace(**{wrong: bad.get(wrong, 1)}).exact  # type: ignore[arg-type]


async def test_twenty_sessions_move_at_once_and_each_is_exact() -> None:
    async with Crowd(20) as crowd:
        everyone = range(20)
        await crowd.move(everyone, "direct", back=False, at_once=2)
        await crowd.settled(1, everyone)
        assert await crowd.stop() == 0
        assert {mode for client in crowd.clients for mode in client.modes} == {"seamless"}
        assert all(client.received >= 8 for client in crowd.clients)
