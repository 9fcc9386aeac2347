"""The simulator tells the truth about pauses: a small sample of what real processes do."""

from __future__ import annotations

import json

import pytest

from aiospice.errors import LocalError
from aiospice.proof import bench
from aiospice.proof.bench_sim import Model, Pause, predicted
from aiospice.sim.lines import LineShape
from aiospice.sim.measure import cost_of
from aiospice.sim.scenario import calm


def test_a_prediction_knows_its_constants() -> None:
    plain = predicted("carry", 20, Model(), 1)
    assert isinstance(plain, Pause)
    slower = predicted("carry", 20, Model(reaction=0.002, state=0.03), 1)
    assert 0.005 < slower.first - plain.first < 0.02  # five trips
    assert slower.downtime == pytest.approx(0.03)


def test_a_new_connection_sends_ten_packets_and_waits() -> None:
    """A stream that needs more of them within a round trip falls silent (RFC 6928)."""
    assert LineShape(0.1).window == 0
    far = calm("direct", 0.1)
    assert far.window == 10
    assert cost_of(far).silence > 0.06


async def test_a_word_that_chooses_no_policy_is_refused() -> None:
    with pytest.raises(LocalError, match="'horses'"):
        await bench.run(part="sim", only="horses")


@pytest.mark.net
async def test_real_processes_do_what_the_simulator_predicts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert await bench.run(part="sim", json=True, runs=3, delays=(40,), only="direct") == 0
    constants, row = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert constants["constants_from_ms"] == 40
    for name in ("first", "silence", "downtime"):
        told, real = row[f"{name}_predicted_ms"], row[f"{name}_ms"]
        assert abs(told - real) < 0.5 * real + 100, row  # busy machines are slow
