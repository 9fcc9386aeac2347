"""Many clients at once, and some that misbehave: counted, not timed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from aiospice.errors import LocalError
from aiospice.proof import bench, bench_load
from aiospice.proof.bench_load import BadClient, LoadServer
from aiospice.proof.load import Crowd, read_stamp, stamp

IDLE, ACTIVE = 50, 5
#: Seconds until a client that doesn't answer pings is dropped.
SILENCE = 10
#: Bytes of memory, more than which an idle client must not take, nor one that misbehaves.
A_CLIENT, A_BAD_ONE = 1 << 20, 32 << 20


@pytest.fixture(scope="module")
def loaded() -> Iterator[tuple[LoadServer, Crowd]]:
    with LoadServer("--rate=50", f"--silence={SILENCE}") as server:
        crowd = Crowd(server.port)
        try:
            crowd.join(1, active=True)
            yield server, crowd
        finally:
            crowd.close()


def settled(server: LoadServer, crowd: Crowd) -> int:
    """Show frames for a moment, and stop; the number of the last one, which everybody shows."""
    server.order("start")
    crowd.run(1.0)
    server.order("stop")
    crowd.run(0.2)
    last: int = server.status()["frames"]
    assert crowd.until(lambda: all(client.last == last for client in crowd.active)), (
        last,
        [client.last for client in crowd.active],
    )
    return last


def test_stamps_are_read_as_written() -> None:
    pixels = bytearray(b"".join(word.to_bytes(4, "little") for word in stamp(77, 12345.678901)))
    number, at = read_stamp(memoryview(pixels).cast("I"))
    assert number == 77
    assert abs(at - 12345.678901) <= 1e-6


def test_idle_clients_take_little_memory(loaded: tuple[LoadServer, Crowd]) -> None:
    server, crowd = loaded
    before = server.status()
    crowd.join(IDLE, active=False)
    crowd.run(0.5)
    after = server.status()
    assert after["clients"] - before["clients"] == IDLE
    assert after["queued"] == 0
    assert after["rss"] - before["rss"] < IDLE * A_CLIENT


def test_every_active_client_shows_every_frame_that_stays(
    loaded: tuple[LoadServer, Crowd],
) -> None:
    server, crowd = loaded
    crowd.join(ACTIVE - len(crowd.active), active=True)
    assert settled(server, crowd) < settled(server, crowd)
    assert not crowd.lost


def test_who_reads_nothing_is_dropped_and_nobody_else(loaded: tuple[LoadServer, Crowd]) -> None:
    server, crowd = loaded
    before = server.status()
    with BadClient("deaf", crowd):
        assert server.status()["clients"] == before["clients"] + 1
        server.order("start")
        assert crowd.until(lambda: server.status()["clients"] == before["clients"], 60)
    settled(server, crowd)
    assert not crowd.lost
    assert server.status()["rss"] - before["rss"] < A_BAD_ONE


@pytest.mark.parametrize("kind", ["slow", "flood", "links"])
def test_who_misbehaves_costs_others_no_frame(loaded: tuple[LoadServer, Crowd], kind: str) -> None:
    server, crowd = loaded
    before = server.status()
    with BadClient(kind, crowd) as bad:
        last = settled(server, crowd)
        assert settled(server, crowd) > last
        bad.stop()
    assert crowd.until(lambda: server.status()["clients"] == before["clients"])
    after = server.status()
    assert not crowd.lost
    assert after["rss"] - before["rss"] < A_BAD_ONE
    if kind == "links":
        assert sum(after["links"]["refused"].values()) > sum(before["links"]["refused"].values())


async def test_the_load_is_measured(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(bench_load, "SECONDS", 0.5)
    options = {"runs": 1, "idle": 2, "active": 2, "only": "deaf"}
    assert await bench.run(part="load", json=True, **options) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["clients"] for row in rows] == [
        *("2 idle", "2 active", "and one: deaf", "at the end")
    ]
    assert rows[0]["KiB_each"] >= 0
    assert rows[1]["p50_ms"] > 0
    assert rows[2]["p99_to_without"] > 0
    assert rows[3]["sessions_lost"] == 0
    with pytest.raises(LocalError, match="'horses'"):
        await asyncio.wait_for(bench.run(part="load", only="horses"), 60)
