"""Hand-overs on virtual time: what holds, that a seed is one run, and that failures get small."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from tests.mutants import MUTANTS, PACKAGE, found_after

from aiospice.errors import LocalError
from aiospice.migration.source import Policy
from aiospice.proof import lab
from aiospice.server.core import ServerCore
from aiospice.server.serving import Serving
from aiospice.sim.chance import Chance
from aiospice.sim.checks import Checks
from aiospice.sim.clock import Clock, Trace
from aiospice.sim.crypto import SimCrypto
from aiospice.sim.lines import DEAD_SECONDS, End, LineShape, Network
from aiospice.sim.measure import measure
from aiospice.sim.scenario import FAULTS, Fault, Move, Scenario, draw
from aiospice.sim.shrink import shrink
from aiospice.sim.streams import Follower, stream
from aiospice.sim.world import World, run

POLICIES = tuple(each.value for each in Policy)
#: Scenarios that have found something, by what it was; the smallest story of each is in
#: ``tests/test_sim_found.py``.
FOUND = {
    "a source was woken again and again for what its guest had drawn": Scenario(
        seed=13,
        policy="carry-early",
        latency=0.005,
        to_client=4_000,
        moves=(Move(carries=0.5), Move(), Move()),
        faults=(Fault("stop", "client0", anchor="ready", amount=40.0),),
    ),
    "what was typed behind the order to leave was lost": Scenario(
        seed=10,
        policy="carry",
        latency=0.1,
        jitter=0.3,
        clients=3,
        bandwidth=200_000.0,
        to_guest=200_000,
        moves=(Move(patience=0.3, order=0.2), Move(carries=0.5), Move(carries=0.5)),
    ),
    "tokens of what waited for a socket were lost with a move that was called off": Scenario(
        seed=236972,
        policy="ack",
        latency=0.1,
        to_guest=200_000,
        to_client=200_000,
        slow_guest=0.15,
        roles=True,
        tick=0.03,
        lulls=True,
        after=0.16822411864729753,
        moves=(Move(gap=0.02665034552964276, patience=10.5, carries=0.0, order=0.2),),
        faults=(
            Fault("deaf", "client0", anchor="prepare", amount=15.0),
            Fault("crash", "right", anchor="arrived", delay=0.0734931107457, amount=40.0),
            Fault("stop", "left", anchor="freeze", delay=0.07215481935240074, amount=15.0),
        ),
    ),
    "what a client held down that was still arriving stayed down": Scenario(
        seed=121,
        policy="carry",
        latency=0.05,
        clients=3,
        moves=(Move(order=0.2), Move(patience=0.3, order=0.2)),
        faults=(Fault("stall", "client2-right", anchor="complete", amount=40.0),),
    ),
    "what went up while the link between the servers was lost stayed down": Scenario(
        seed=5157,
        policy="carry",
        latency=0.005,
        to_guest=0,
        to_client=0,
        draws=False,
        link=True,
        after=0.0,
        moves=(Move(gap=0.18779102577148724, patience=10.5, carries=0.0, order=0.2),),
        faults=(Fault("reset", "left-right", anchor="complete", amount=0.1),),
    ),
    "a session that had ended while it was held was woken again and again": Scenario(
        seed=321,
        policy="hold",
        latency=0.2,
        jitter=0.2,
        tick=0.12,
        moves=(Move(gap=0.10206407160242643, carries=0.002),),
        faults=(
            Fault("reset-one", "client0-right", anchor="complete", amount=0.06),
            Fault("dead", "client0-right", anchor="freeze", delay=2.1318433016492357),
        ),
    ),
    "who took over while a guest had gone stayed without one": Scenario(
        seed=107521,
        policy="carry",
        latency=0.05,
        to_guest=4000,
        to_client=0,
        draws=False,
        tick=0.03,
        lulls=True,
        after=0.0,
        moves=(
            Move(gap=0.1330136786941042, patience=0.3, carries=0.0, order=0.0005),
            Move(gap=0.0973208227994121, patience=0.0, carries=0.002, order=0.0),
            Move(gap=0.036843321965100484, patience=10.5, carries=0.03, order=0.02),
        ),
        faults=(Fault("forge", "client0", anchor="complete", amount=0.19),),
    ),
    "what came late got behind what the new session had said": Scenario(
        seed=117717,
        policy="carry-early",
        latency=0.0005,
        to_client=0,
        draws=False,
        keys=False,
        link=True,
        lulls=True,
        after=0.0,
        moves=(Move(gap=0.09118536290995453, patience=10.5, carries=0.0, order=0.02),),
        faults=(Fault("stop", "left", amount=20.0),),
    ),
    "tokens of what had gone with the guest were given twice": Scenario(
        seed=100290,
        policy="carry-early",
        latency=0.2,
        jitter=0.2,
        to_guest=200000,
        to_client=0,
        draws=False,
        keys=False,
        tick=0.12,
        lulls=True,
        after=0.0,
        moves=(
            Move(gap=0.09406534678744928, patience=0.3, carries=0.5, order=0.0005),
            Move(gap=0.041151910346828566, patience=0.3, carries=0.03, order=0.02),
        ),
    ),
    "what was held stayed down where the last channel that was waited for went": Scenario(
        seed=111563,
        policy="hold",
        clients=2,
        latency=0.005,
        jitter=0.015,
        to_guest=0,
        to_client=0,
        draws=False,
        lulls=True,
        after=0.0,
        moves=(
            Move(gap=0.0769215556960307, patience=10.5, carries=0.002, order=0.0005),
            Move(gap=0.11026541762572316, patience=0.3, carries=0.5, order=0.02),
        ),
        faults=(Fault("reset-one", "client1-right", move=1, anchor="thaw", amount=0.05),),
    ),
    "what was held stayed down where the record of inputs couldn't be so": Scenario(
        seed=111375,
        policy="carry",
        latency=0.1,
        jitter=0.010000000000000002,
        to_guest=4000,
        to_client=4000,
        file=1,
        slow_client=0.15,
        slow_guest=0.15,
        tick=0.033,
        lulls=True,
        after=0.0,
        moves=(Move(gap=0.17842792568223242, patience=10.5, carries=0.002, order=0.02),),
        faults=(
            Fault("forge", "client0", anchor="complete", delay=0.18, amount=0.12),
            Fault("deaf", "client0", anchor="freeze", amount=0.05),
        ),
    ),
    "who was still arriving wasn't asked to follow the next move": Scenario(
        seed=112752,
        policy="carry-early",
        latency=0.1,
        jitter=0.1,
        to_guest=200000,
        to_client=0,
        keys=False,
        tokens=False,
        tick=0.06,
        lulls=True,
        after=0.0,
        moves=(
            Move(gap=0.06774478893471571, patience=10.5, carries=0.03, order=0.0005),
            Move(gap=0.025459177348977784, patience=10.5, carries=0.03, order=0.02),
        ),
    ),
    "what was held back for too long went to a server that had gone": Scenario(
        seed=217631,
        policy="hold",
        to_client=0,
        roles=True,
        moves=(
            Move(gap=0.13577249794183924, patience=10.5, carries=0.002, order=0.2),
            Move(gap=0.04133232010965759, patience=10.5, carries=0.002),
        ),
        faults=(
            Fault("deaf", "client0", 1, anchor="thaw", delay=0.05906304093064987, amount=40.0),
            Fault("stall", "left-right", 1, anchor="thaw", delay=0.04989643276775528, amount=15.0),
        ),
    ),
    "who came for a guest that had gone on was let in where no guest came": Scenario(
        seed=218048,
        policy="carry",
        latency=0.005,
        slow_client=0.15,
        roles=True,
        tokens=False,
        mini=False,
        moves=(
            Move(gap=0.15262105643733492, patience=0.3, carries=0.0, order=0.2),
            Move(gap=0.14900797339572008, patience=0.3, carries=0.5),
            Move(gap=0.046476646210684966, patience=10.5, carries=0.5, order=0.0),
        ),
        faults=(
            Fault("deaf", "client0", 0, anchor="arrived", amount=6.0),
            Fault("swallow", "client0", 0, anchor="complete", delay=0.0015748275010028184),
            Fault("cancel", "operator", 2, anchor="propose", delay=0.25352541430866116),
        ),
    ),
    "the guest ran at both where a source asked while it began to run": Scenario(
        seed=364,
        policy="hold",
        to_client=0,
        roles=True,
        moves=(Move(carries=0.5, order=0.02),),
        faults=(Fault("stop", "right", anchor="taken", amount=6.0),),
    ),
    "a target was never done with a link that was lost as the guest began to run": Scenario(
        seed=458,
        policy="direct",
        to_client=0,
        roles=True,
        moves=(Move(carries=0.5, order=0.02),),
        faults=(Fault("crash", "left", anchor="taken", delay=0.05),),
    ),
    "a guest that was refused took a hand-over's key from it": Scenario(
        seed=1791,
        policy="carry",
        roles=True,
        moves=(Move(carries=0.5, order=0.02),),
        faults=tuple(
            Fault("intruder", "left", anchor="taken", delay=0.05 * turn) for turn in range(5)
        ),
    ),
    "the guest of a hand-over that was called off was taken behind the next": Scenario(
        seed=219817,
        policy="carry-early",
        latency=0.02,
        to_guest=0,
        file=1,
        slow_client=0.03,
        slow_guest=0.03,
        roles=True,
        tokens=False,
        moves=(
            Move(gap=0.15610899710524748, patience=10.5, carries=0.5),
            Move(gap=0.14535504371452462, patience=0.0, carries=0.002, order=0.02),
        ),
        faults=(Fault("cancel", "operator", 0, anchor="freeze"),),
    ),
    "what came late got behind what a session had said that was gone again": Scenario(
        seed=40898,
        policy="ack",
        latency=0.0005,
        jitter=5e-05,
        bandwidth=1_000_000.0,
        to_guest=200_000,
        draws=False,
        slow_client=0.15,
        roles=True,
        lulls=True,
        after=0.0,
        moves=(
            Move(gap=0.05650902014042253, carries=0.0, order=0.02),
            Move(gap=0.07635691440772624, patience=0.0, carries=0.0, order=0.0),
        ),
        faults=(
            Fault(
                "reset-one",
                "client0-left",
                move=1,
                anchor="left",
                delay=0.0020542939586185565,
                amount=0.75,
            ),
        ),
    ),
    "a client that lied as it went back ended its session in the middle of that": Scenario(
        seed=51017,
        policy="carry",
        latency=0.005,
        jitter=0.0005,
        bandwidth=1_000_000.0,
        to_client=0,
        slow_client=0.15,
        slow_guest=0.15,
        roles=True,
        mini=False,
        lulls=True,
        after=0.08,
        moves=(Move(gap=0.14147245899914623, patience=0.0, carries=0.5, order=0.2),),
        faults=(Fault("repeat", "client0", anchor="ready"),),
    ),
    "what was typed and read together with the mark behind it was lost": Scenario(
        seed=61339,
        policy="carry-early",
        bandwidth=200_000.0,
        to_guest=200_000,
        to_client=0,
        draws=False,
        roles=True,
        lulls=True,
        after=0.0,
        moves=(
            Move(gap=0.15159385668028483, patience=10.5, carries=0.002, order=0.0005),
            Move(gap=0.1232701561762667, patience=10.5, carries=0.03, order=0.2),
            Move(gap=0.1144012057134459, patience=10.5, carries=0.0, order=0.02),
        ),
        faults=(Fault("stop", "left", move=2, anchor="taken", delay=0.03, amount=3.0),),
    ),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_goes_wrong(policy: str) -> None:
    for seed in range(1000, 1015):
        outcome = run(draw(seed, policy))
        assert not outcome.wrong, outcome.story()


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_stays_mended(what: str) -> None:
    outcome = run(FOUND[what])
    assert not outcome.wrong, outcome.story()


@pytest.mark.parametrize("seed", range(7000, 7030))
def test_a_core_that_doesnt_move_asks_only_itself_when_to_wake(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    asked = {True: 0, False: 0}
    plain = ServerCore.next_wake

    def next_wake(core: ServerCore) -> float | None:
        asked[core._moves()] += 1
        if not core._moves():
            assert core._serving_wake() == Serving._serving_wake(core)
        return plain(core)

    monkeypatch.setattr(ServerCore, "next_wake", next_wake)
    assert not run(draw(seed)).wrong
    assert asked[True]
    assert asked[False]


def test_a_seed_is_one_run_bit_for_bit() -> None:
    for seed in (3, 9, 21):
        one, other = run(draw(seed), keep=True), run(draw(seed), keep=True)
        assert one.digest == other.digest
        assert one.trace == other.trace
        assert one.events == len(one.trace)


def test_it_is_the_same_in_a_process_with_other_hashes() -> None:
    text = (
        "from aiospice.sim.scenario import draw\nfrom aiospice.sim.world import run\n"
        "print([run(draw(seed)).digest for seed in (5, 17, 30)])"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", text],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert found[0] == found[1]


def test_a_trace_costs_nothing_of_the_run() -> None:
    assert run(draw(7)).digest == run(draw(7), keep=True).digest


# -- what is drawn and shrunk ------------------------------------------------------------------


def test_a_scenario_is_plain_data_and_tells_itself() -> None:
    for seed in range(200):
        scenario = draw(seed)
        assert Scenario.of(scenario.as_dict()) == scenario
        assert f"seed={seed}" in str(scenario)
        assert all(f"{fault.kind} {fault.who}" in str(scenario) for fault in scenario.faults)
    with pytest.raises(LocalError, match="no scenario"):
        Scenario.of({"seed": 1})


def test_every_fault_and_policy_is_drawn() -> None:
    drawn = [draw(seed) for seed in range(600)]
    assert {fault.kind for scenario in drawn for fault in scenario.faults} == set(FAULTS)
    assert {scenario.policy for scenario in drawn} == set(POLICIES)
    assert any(scenario.gentle for scenario in drawn)


def test_a_failure_shrinks_to_what_it_needs() -> None:
    needed = Fault("crash", "left", move=1, anchor="freeze", delay=0.03, amount=6.0)

    def failure(scenario: Scenario) -> str:
        fails = any((f.kind, f.anchor) == ("crash", "freeze") for f in scenario.faults)
        return f"{len(scenario.faults)} bytes are lost" if fails and scenario.to_guest else ""

    large = replace(
        draw(11),
        clients=3,
        to_guest=40_000,
        draws=True,
        crumbs=True,
        moves=(Move(), Move(), Move()),
        faults=(Fault("stall", "client2-left"), needed, Fault("deaf", "client1", move=2)),
    )
    small = shrink(large, failure=failure)
    assert [(f.kind, f.who, f.delay) for f in small.faults] == [("crash", "left", 0.0)]
    assert (small.clients, len(small.moves), small.crumbs, small.draws) == (1, 1, False, False)
    assert small.to_guest


def test_a_mistake_in_a_core_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ServerCore.late_inputs

    def forgetful(core: ServerCore) -> object:
        honest(core)
        return {}

    monkeypatch.setattr(ServerCore, "late_inputs", forgetful)
    wrong = (found for found in map(draw, range(300)) if run(found).wrong)
    small = shrink(next(wrong), most=12)
    assert run(small).wrong
    assert len(small.faults) <= 1


# -- the parts ---------------------------------------------------------------------------------


class Party:
    """A process that notes what it reads."""

    def __init__(self, net: Network, name: str) -> None:
        self.net, self.name, self.stopped = net, name, False
        self.got = b""
        self.over: list[object] = []

    def readable(self, end: End) -> None:
        """Read all."""
        while data := self.net.read(end):
            self.got += data
        if self.net.is_over(end):
            end.gone = True
            self.over.append(end.error)

    def writable(self, end: End) -> None:
        """Nothing waits."""


def joined(shape: LineShape) -> tuple[Clock, Network, Party, Party, End, End]:
    """Two parties and a connection."""
    clock = Clock()
    net = Network(clock, Trace())
    one, other = Party(net, "one"), Party(net, "other")
    line = net.join("one", "other", shape, Chance(1))
    here, there = net.connect(line, one, 1, other)
    return clock, net, one, other, here, there


def passes(clock: Clock, seconds: float) -> None:
    """Let time pass."""
    end = clock.now + seconds
    while clock.step(end):
        pass


def test_a_line_takes_its_time_and_keeps_the_order() -> None:
    clock, net, one, other, here, _ = joined(LineShape(0.1, 0.3, 1000.0))
    for number in range(50):
        net.write(here, bytes([number]) * 10)
    net.finish(here)
    passes(clock, 0.09)
    assert not other.got
    passes(clock, 2.0)
    assert other.got == b"".join(bytes([number]) * 10 for number in range(50))
    assert other.over == [None]
    assert not one.over


def test_a_line_that_stands_still_brings_everything_later() -> None:
    clock, net, _, other, here, _ = joined(LineShape(0.01))
    net.stall(net.between("one", "other"), 5.0)
    net.write(here, b"late")
    passes(clock, 4.9)
    assert len(other.got) == 0
    passes(clock, 0.2)
    assert other.got == b"late"


def test_a_dead_line_is_noticed_by_the_kernels_only() -> None:
    clock, net, one, other, here, _ = joined(LineShape(0.01))
    net.kill(net.between("one", "other"))
    net.write(here, b"lost")
    passes(clock, DEAD_SECONDS - 1)
    assert not one.over
    assert not other.over
    passes(clock, 2.0)
    assert not other.got
    assert "timed out" in str(one.over[0])
    assert "timed out" in str(other.over[0])


def test_what_nobody_reads_stops_the_writer() -> None:
    clock, net, _, other, here, there = joined(LineShape(0.01))
    there.paused = True
    written = 0
    while net.can_write(here):
        net.write(here, bytes(10_000))
        written += 10_000
        passes(clock, 0.1)
    assert written < 300_000
    there.paused = False
    other.readable(there)
    passes(clock, 1.0)
    assert net.can_write(here)
    assert len(other.got) == written


def test_a_reader_of_the_stream_tells_gaps_from_nonsense() -> None:
    follower = Follower()
    assert not follower.take(stream(0, 1000))
    assert not follower.take(stream(1500, 100))
    assert follower.missed == 500
    assert "again" in follower.take(stream(1500, 100))
    assert "aren't of the stream" in follower.take(b"x" * 50)


def test_what_is_sealed_is_opened_only_as_it_was() -> None:
    crypto = SimCrypto(Chance(3))
    key, nonce = bytes(32), bytes(12)
    sealed = crypto.seal(key, nonce, b"a record", b"where")
    assert crypto.unseal(key, nonce, sealed, b"where") == b"a record"
    assert crypto.unseal(key, nonce, sealed, b"there") is None
    assert crypto.unseal(key, nonce, sealed[:-1] + b"?", b"where") is None
    private = crypto.make_ticket_key()
    ticket = crypto.encrypt_ticket(crypto.public_key(private), "the password")
    assert crypto.decrypt_ticket(private, ticket) == b"the password"


def test_the_checks_see_what_is_wrong() -> None:
    """A few of them by hand; the rest by mistakes put into the cores."""
    world = World(draw(1))
    checks = Checks(world)
    for server in world.servers.values():
        server.owns = True
    with pytest.raises(Exception, match="runs at left and right"):
        checks.process(world.servers["left"])


# -- figures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_still_has_its_place(name: str) -> None:
    mutant = MUTANTS[name]
    path = PACKAGE.joinpath(*mutant.module.split(".")).with_suffix(".py")
    assert path.read_text(encoding="utf-8").count(mutant.old) == 1


@pytest.mark.parametrize(
    "name",
    [
        "a-mark-behind-the-queue",
        "a-record-put-in-twice",
        "what-is-held-down-forgotten",
        "a-guest-that-was-let-go-goes-on-when-the-link-is-lost",
    ],
)
def test_mistakes_in_the_cores_are_found(name: str) -> None:
    """Some of them; all by ``make mutants``."""
    number, what = found_after(name, 60)
    assert number, what


@pytest.mark.soak
def test_every_mistake_in_the_cores_is_found() -> None:
    missed = [name for name in MUTANTS if not found_after(name)[0]]
    assert not missed


@pytest.mark.soak
def test_nothing_goes_wrong_in_many_seeds() -> None:
    failures = [each for tally in lab.seeds(range(5000)) for each in tally.failures]
    assert not failures


@pytest.mark.parametrize(
    ("policy", "trips"),
    [("carry", 5), ("carry-early", 3), ("direct", 1), ("hold", 1), ("replay", 3), ("ack", 3)],
)
def test_trips_until_the_target_draws(policy: str, trips: int) -> None:
    cost = measure(policy, 0.1)
    assert cost.whole
    frame = 1 / 60 + 0.012  # frames, and turns of the guest
    assert trips * 0.1 <= cost.first <= trips * 0.1 + frame


def test_the_lab_tells_failures_and_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.run(lab.Asked(count=3, policy="carry", jobs=1, json=True)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(lab.LATENCIES)
    assert lab.run(lab.Asked(seed=3, trace=True)) == 0
    assert "prepares" in capsys.readouterr().out
    with pytest.raises(LocalError, match="isn't known"):
        lab.run(lab.Asked(policy="hope"))
