"""Traces of real hand-overs, as ``watch`` and ``migrate`` write them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.test_lab import checked_trace
from tests.test_serve_cli import run, served

from aiospice.client.moving import ChannelGone
from aiospice.client.screen import ScreenChanged
from aiospice.client.session import ChannelOpened, SessionEnded
from aiospice.events import Event
from aiospice.migration.client import ChannelMoved, MigrationFinished, MigrationStarted
from aiospice.proof.timeline import Timeline
from aiospice.proof.timeline_events import ClientTimeline, ServersTimeline

CHANNELS = {"main:0", "display:0", "inputs:0", "cursor:0", "port:0"}


def lanes(events: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """What is in each lane of a trace, by its party and name."""
    parties = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    found: dict[tuple[int, int], tuple[str, str]] = {}
    for event in events:
        if event["name"] == "thread_name":
            found[event["pid"], event["tid"]] = (parties[event["pid"]], event["args"]["name"])
    lanes: dict[tuple[str, str], list[dict[str, Any]]] = {name: [] for name in found.values()}
    for event in events:
        if event["ph"] != "M":
            lanes[found[event["pid"], event["tid"]]].append(event)
    return lanes


def states(events: list[dict[str, Any]]) -> list[str]:
    """The names of the spans of a lane."""
    return [event["name"] for event in events if event["ph"] == "X"]


def told(line: Timeline) -> list[tuple[str, str, float, float]]:
    """Lane, name and time of all spans."""
    return sorted((each.lane.name, each.name, each.begin, each.end) for each in line.spans)


def at(seconds: float, event: Event) -> Event:
    """The event, as a shell has seen it."""
    event.stamp(seconds)
    return event


def test_a_client_tells_where_each_channel_was() -> None:
    client = ClientTimeline(100.0)
    opened = ChannelOpened(key=(10, 0), channel="port:0", address="one:5900")
    client.take(at(100.5, opened))
    client.take(at(101.0, MigrationStarted(number=1, target="two:5900", seamless_offered=True)))
    changed = {"display": 0, "x": 0, "y": 0, "width": 1, "height": 1}
    for moment in (101.1, 101.12):
        client.take(at(moment, ScreenChanged(**changed)))
    client.take(at(102.0, ChannelMoved(number=1, channel="port:0", seconds=0.25)))
    finished = MigrationFinished(
        number=1, mode="seamless", seconds=1.0, pause=0.25, bytes_at_risk=0
    )
    client.take(at(102.0, finished))
    client.take(at(102.3, ScreenChanged(**changed)))
    client.take(at(102.5, ChannelGone(key=(10, 0), channel="port:0", error=None)))
    client.take(at(103.0, SessionEnded(error=None)))
    assert told(client.finish(103.0)) == [
        ("migration", "changes over (seamless)", 101.75, 102.0),
        ("migration", "connects to two:5900", 101.0, 101.75),
        ("port:0", "at one:5900", 100.5, 101.75),
        ("port:0", "at two:5900", 102.0, 102.5),
        ("port:0", "changes over", 101.75, 102.0),
        ("screen", "changes", 101.1, 101.12),
        ("screen", "changes", 102.3, 102.3),
    ]


def test_times_of_two_servers_are_brought_to_one_clock() -> None:
    servers = ServersTimeline()
    servers.status({"clients": [{"client": 7, "channels": [{"channel": "main:0"}]}]})
    servers.take("source", {"event": "handover-began", "time": 1000.0}, 5.5)
    servers.take("source", {"event": "handover-running", "time": 1001.0, "seconds": 0.1}, 6.001)
    opened = {"event": "server-channel-opened", "client": 7, "channel": "main:0"}
    servers.take("target", {**opened, "time": 77.5}, 5.502)
    servers.take("target", {"event": "no time"}, 5.6)
    servers.take("source", {"event": "handover-finished", "time": 1002.0}, 7.2)
    line = servers.finish()
    assert line.start == pytest.approx(5.001)
    found = {(span.lane.party, span.lane.name): (span.begin, span.end) for span in line.spans}
    assert found["source", "main:0 of client 7"] == pytest.approx((5.001, 7.001))
    assert found["target", "main:0 of client 7"] == pytest.approx((5.502, 7.001))
    assert found["target", "guest"] == pytest.approx((6.001, 7.001))
    assert not ServersTimeline().finish().spans


async def test_a_real_move_is_traced_from_both_ends(tmp_path: Path) -> None:
    words = ["--guest", "demo", "--listen", "127.0.0.1:0", "--control"]
    one, two = str(tmp_path / "a"), str(tmp_path / "b")
    watched, moved = tmp_path / "watch.json", tmp_path / "move.json"
    async with (
        served(*words, one) as first,
        served(*words, two, "--incoming"),
        asyncio.timeout(50),
    ):
        watch = await run(
            *("watch", first.addresses[0], "--until-migrated", "1", "--trace", str(watched))
        )
        assert watch.stdout is not None
        while b"session-ready" not in await watch.stdout.readline():
            pass
        move = await run("migrate", one, two, "--policy", "direct", "--trace", str(moved))
        assert (await move.communicate())[1] == b""
        assert move.returncode == 0
        await watch.communicate()
        assert watch.returncode == 0
    own = lanes(checked_trace(watched))
    assert {"client"} == {party for party, _ in own}
    for channel in CHANNELS:
        there = states(own["client", channel])
        assert there[0] == f"at {first.addresses[0]}"
        assert there[-1].startswith("at 127.0.0.1, port")
    assert states(own["client", "migration"])[-1] == "changes over (seamless)"
    assert states(own["client", "screen"])
    both = lanes(checked_trace(moved))
    assert states(both["source", "guest"]) == ["runs", "stands still"]
    assert states(both["target", "guest"]) == ["runs"]
    for party in ("source", "target"):
        lanes_there = {name for where, name in both if where == party and states(both[where, name])}
        assert {name.partition(" of client ")[0] for name in lanes_there} >= CHANNELS
