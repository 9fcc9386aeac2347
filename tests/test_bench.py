"""The measurements run and have the form that is documented; their figures are nobody's test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from aiospice.errors import LocalError, MissingProgram
from aiospice.proof import (
    bench,
    bench_codecs,
    bench_draw,
    bench_frames,
    bench_screenshot,
    film,
    players,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

#: What `aiospice screenshot` has no use for, and what would cost its user tens of milliseconds.
NOT_LOADED = {
    *("numpy", "rich", "PIL", "websockets", "scramp", "lz4", "cryptography", "av"),
    *("http", "email", "urllib.request", "dataclasses", "unittest", "importlib.metadata"),
    *("aiospice.proof", "aiospice.aio.vv", "aiospice.aio.tls", "aiospice.aio.websocket"),
    *("aiospice.aio.proxy", "aiospice.aio.video", "aiospice.codecs.video", "importlib.util"),
    *("aiospice.channels.inputs", "aiospice.channels.vmc", "aiospice.channels.cursor"),
    *("aiospice.client.keyboard", "aiospice.client.cursor", "aiospice.wire.handover"),
}


async def results(capsys: pytest.CaptureFixture[str], part: str, **options: Any) -> list[Any]:
    assert await bench.run(part=part, json=True, **options) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


async def test_a_part_that_is_not_there_is_named() -> None:
    with pytest.raises(LocalError, match="codecs, draw, frames, load, screenshot, migration"):
        await bench.run(part="horses")


@pytest.mark.parametrize("part", ["codecs", "draw", "frames", "handover"])
async def test_a_word_that_chooses_nothing_is_refused(part: str) -> None:
    with pytest.raises(LocalError, match="'horses'"):
        await bench.run(part=part, only="horses")


def test_medians_and_ratios() -> None:
    assert bench.median([3, 1, 2]) == 2
    assert bench.ratio([2, 6, 30], [1, 2, 3]) == 3
    assert bench.ratio([1], [0]) != bench.ratio([1], [0])  # nan: nothing to compare with


@pytest.mark.peers
async def test_the_screenshot_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    found = await results(capsys, "screenshot", runs=1)
    assert [line["screen"] for line in found] == 4 * ["720x400"] + 4 * ["1024x768"]
    for ours, theirs, ratio, inside in (found[:4], found[4:]):
        assert (ours["program"], theirs["program"]) == ("aiospice screenshot", "spicy-screenshot")
        for line in (ours, theirs):
            assert {"bench", "screen", "program", "wall_ms", "cpu_ms", "memory_MiB"} == set(line)
        assert {"wall", "cpu", "memory"} < set(ratio)
        assert inside["wall_ms"] > 0


@pytest.mark.peers
@pytest.mark.net
async def test_the_migration_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs, ratio = await results(capsys, "migration", runs=1, delays=(5,))
    assert (ours["client"], theirs["client"], ratio["client"]) == (
        "aiospice",
        "spice-gtk",
        "ratio",
    )
    for found in (ours, theirs):
        assert found["first_data_trips"] > 0
        assert found["connecting_round_trips"] > 0
        assert found["connecting_round_trips_counted"] >= 4
    assert {"pause", "first_data", "connecting"} < set(ratio)


@pytest.mark.peers
@pytest.mark.net
async def test_the_hand_over_is_measured_beside_qemu(capsys: pytest.CaptureFixture[str]) -> None:
    options = {"runs": 1, "delays": (20,), "only": "trips"}
    *ours, qemu = await results(capsys, "handover", **options)
    assert qemu["servers"] == "qemu"
    trips = {line["policy"]: line["trips_counted"] for line in ours}
    # spice-gtk keeps no copies, so there is nothing to see of the policies that need them.
    assert trips == {"carry": 5, "carry-early": 3, "direct": 1, "hold": 1}
    for line in (*ours, qemu):
        assert line["delay_ms"] == 20
        assert line["first_drawing_trips"] >= line["trips_counted"]
        assert line["port_silence_ms"] > 0
        assert line["echo_silence_ms"] > 0
    for line in ours:
        assert line["wrong_bytes"] == 0


@pytest.mark.peers
async def test_a_window_of_glz_is_measured_beside_what_it_saves(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = await results(capsys, "handover", only="window")
    assert len(rows) == 4
    for row in rows:
        assert row["measured"] == "window"
        assert 0 < row["told"] < row["window"] <= 4 << 20
        assert 0 <= row["glz_more"] < row["told"]


async def test_a_screenshot_loads_nothing_that_it_does_not_use(
    qemu_factory: Callable[..., Any], tmp_path: Any
) -> None:
    qemu = await qemu_factory(guest="quiet")
    program = (
        "import sys; from aiospice.cli.main import main\n"
        f"status = main(['screenshot', {qemu.address!r}, '-o', {str(tmp_path / 'x.png')!r}])\n"
        "print(status, *sorted(sys.modules))"
    )
    # Coverage of child processes would load modules of its own.
    environment = {name: value for name, value in os.environ.items() if "COV" not in name}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environment,
    )
    status, *loaded = done.stdout.split()
    assert status == "0"
    assert NOT_LOADED & set(loaded) == set()


@pytest.mark.peers
async def test_drawing_is_measured_beside_the_c_client(
    capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    options = {"runs": 1, "seconds": 0.5, "only": "text lz", "keep": tmp_path}
    found = await results(capsys, "draw", **options)
    assert {line["codec"] for line in found} == {"lz", "lz4"}
    for codec in ("lz", "lz4"):
        rows = {line["client"]: line for line in found if line["codec"] == codec}
        ours, theirs, ratio = rows["aiospice"], rows["spice-gtk"], rows["ratio"]
        for line in (ours, theirs):
            assert line["stream"] == "text"
            assert line["messages"] > 100
            assert line["us_a_message"] > 0
        assert ratio["to_spice-gtk"] > 0
        assert ratio["screen"] == "same"
        assert "not_drawn" not in ours
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["text-lz.recording", "text-lz4.recording"]
    again = await results(capsys, "draw", **{**options, "only": "text lz4"})
    assert again[0]["bytes"] == found[-2]["bytes"]


@pytest.mark.peers
async def test_frames_are_measured_beside_spice_server(capsys: pytest.CaptureFixture[str]) -> None:
    options = {"runs": 1, "frames": 4, "only": "text auto_lz"}
    ours, theirs, ratio = await results(capsys, "frames", **options)
    assert [line["server"] for line in (ours, theirs, ratio)] == [*bench_frames.SERVERS, "ratio"]
    for line in (ours, theirs):
        assert (line["scene"], line["packing"]) == ("text", "auto_lz")
        assert line["bytes_a_frame"] > 0
        assert line["cpu_ms_a_frame"] > 0
        assert line["shown_after_ms"] > 0
    # Bytes don't depend on the machine: scrolling costs us no more.
    assert 0 < ratio["bytes"] <= 1


async def test_frames_that_nobody_films_are_refused(tmp_path: Any) -> None:
    with pytest.raises(LocalError, match="'horses'"):
        film.save(tmp_path / "film", "horses", 1)


@pytest.mark.parametrize("scene", sorted(film.SCENES))
def test_a_film_is_read_as_it_was_made(scene: str, tmp_path: Any) -> None:
    path = tmp_path / "film"
    film.save(path, scene, 2)
    found = film.Film(path)
    assert (found.width, found.height, found.frames) == (film.WIDTH, film.HEIGHT, 3)
    ((box, pixels),) = found.frame(0)
    assert box == (0, 0, film.WIDTH, film.HEIGHT)
    assert pixels[:, :, :3].any()
    for number in (1, 2):
        boxes = [box for box, _ in found.frame(number)]
        assert boxes
        assert found.pixels(number) == sum(width * height for _, _, width, height in boxes)
        for x, y, width, height in boxes:
            assert 0 <= x < x + width <= film.WIDTH
            assert 0 <= y < y + height <= film.HEIGHT


async def test_clients_that_are_not_installed_are_told_of_and_left_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.test_proof_replay import recorded

    def ours_only(client: str, port: int) -> list[str]:
        if client != "aiospice":
            raise MissingProgram(f"{client} isn't installed: install it")
        return command(client, port)

    command = players.command
    monkeypatch.setattr(bench_draw, "command", ours_only)
    recorded().save(tmp_path / "text-off.recording")
    options = {"runs": 1, "only": "text off", "keep": tmp_path, "paced": True}
    assert await bench.run(part="draw", json=True, **options) == 0
    printed = capsys.readouterr()
    assert [json.loads(line)["client"] for line in printed.out.splitlines()] == [
        "aiospice",
        "ratio",
    ]
    assert "spice-gtk is left out: spice-gtk isn't installed" in printed.err


@pytest.mark.peers
async def test_without_the_c_program_the_screenshot_is_measured_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_screenshot, "_PROGRAM", "no-such-program")
    assert await bench.run(part="screenshot", json=True, runs=1) == 0
    printed = capsys.readouterr()
    programs = [json.loads(line)["program"] for line in printed.out.splitlines()]
    assert programs == 2 * ["aiospice screenshot", "in a running process"]
    assert "no-such-program isn't installed" in printed.err


async def test_a_part_that_cannot_be_measured_does_not_keep_others_from_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(**_: Any) -> AsyncIterator[dict[str, Any]]:
        raise MissingProgram("horses aren't installed")
        yield {}

    async def something(**_: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"figure": 1}

    monkeypatch.setattr(bench, "PARTS", ("codecs", "draw"))
    monkeypatch.setattr(bench_codecs, "measure", nothing)
    monkeypatch.setattr(bench_draw, "measure", something)
    with pytest.raises(MissingProgram, match="horses"):
        await bench.run(json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"bench": "draw", "figure": 1}
    assert "codecs: not measured: horses" in printed.err
