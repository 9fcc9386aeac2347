"""The two ends of the link between servers, in memory: order, limits, and who has the guest."""

from __future__ import annotations

import pytest
from tests.link_pair import LinkPair

from aiospice.channels.events import Event
from aiospice.errors import StateError
from aiospice.migration import peer
from aiospice.migration.link_source import (
    ASK_SECONDS,
    ClientFollowed,
    ClientMissed,
    HandoverFailed,
    HandoverFinished,
    HandoverRunning,
    HandoverUncertain,
    SourceLinkPhase,
)
from aiospice.migration.link_target import GuestArrived, GuestDropped, TargetLinkPhase

S = SourceLinkPhase
EARLY = (S.GREETING, S.PROPOSED, S.MOVING, S.STOPPED)


def kinds(pair: LinkPair) -> list[type[Event]]:
    return [type(event) for event in pair.events]


def phase_of(pair: LinkPair) -> S:
    return pair.source.phase


def seen(pair: LinkPair, kind: type[Event]) -> bool:
    return kind in kinds(pair)


@pytest.mark.parametrize("cut", [0, 1])
def test_a_guest_is_handed_over_and_its_clients_follow(cut: int) -> None:
    pair = LinkPair(cut=cut)
    pair.run()
    assert phase_of(pair) is S.RUNNING
    assert (pair.runs_at_source, pair.runs_at_target) == (False, True)
    assert pair.source.key == pair.target.key
    assert pair.source.key is not None
    pair.source.left(pair.now)
    pair.target.tell(peer.Arrived(7, True))
    pair.target.tell(peer.Arrived(7, True))
    pair.run()
    (finished,) = [event for event in pair.events if isinstance(event, HandoverFinished)]
    assert (finished.whole, finished.anew, finished.missed) == (1, 0, 0)
    assert kinds(pair).count(ClientFollowed) == 1
    assert pair.target.over
    assert not pair.memory.active


def test_each_step_is_pickled() -> None:
    pair = LinkPair()
    pair.step_until(S.RUNNING)
    assert pair.runs_at_target


@pytest.mark.parametrize("phase", EARLY)
def test_the_guest_stays_if_the_line_is_cut_before_it_is_handed_over(phase: S) -> None:
    pair = LinkPair()
    pair.auto = phase is not S.MOVING
    pair.step_until(phase)
    pair.break_line()
    pair.run()
    pair.wait(1000)
    assert (pair.runs_at_source, pair.runs_at_target) == (True, False)
    assert seen(pair, HandoverFailed)
    assert not pair.memory.active


@pytest.mark.parametrize("phase", EARLY)
def test_the_guest_stays_if_the_target_dies_before_it_is_handed_over(phase: S) -> None:
    pair = LinkPair()
    pair.auto = phase is not S.MOVING
    pair.step_until(phase)
    pair.target_dead = True
    if phase is S.MOVING:  # nothing is asked of the target: the shell sees the line end
        pair.source.lost("reset", pair.now)
    pair.run()
    pair.wait(1000)
    assert pair.runs_at_source
    assert seen(pair, HandoverFailed)


@pytest.mark.parametrize("phase", [*EARLY, S.GONE])
def test_a_target_whose_source_is_silent_drops_everything(phase: S) -> None:
    pair = LinkPair()
    pair.auto = phase is not S.MOVING
    pair.step_until(phase)
    pair.source_dead = True
    pair.mute = {"Go"}
    pair.source.outbox.clear()
    pair.wait(1000)
    assert not pair.runs_at_target
    assert pair.target.over
    known = phase not in (S.GREETING, S.PROPOSED) or pair.target.migration
    assert seen(pair, GuestDropped) is bool(known)


@pytest.mark.parametrize("step", ["expect", "take", "run"])
def test_a_refusal_leaves_the_guest_with_its_source(step: str) -> None:
    pair = LinkPair()
    pair.refuses = step
    pair.run()
    assert (pair.runs_at_source, pair.runs_at_target) == (True, False)
    (failed,) = [event for event in pair.events if isinstance(event, HandoverFailed)]
    assert "the target refuses: it can't be" in failed.reason
    assert pair.source.over
    assert pair.target.over


@pytest.mark.parametrize("phase", EARLY)
def test_it_is_called_off_until_the_guest_is_handed_over(phase: S) -> None:
    pair = LinkPair()
    pair.auto = phase is not S.MOVING
    pair.step_until(phase)
    pair.source.cancel("enough")
    pair.run()
    pair.wait(1000)
    assert (pair.runs_at_source, pair.runs_at_target) == (True, False)
    assert pair.target.over
    with pytest.raises(StateError):
        pair.source.cancel("again")


def test_after_it_was_handed_over_there_is_no_way_back() -> None:
    pair = LinkPair()
    pair.run()
    with pytest.raises(StateError, match="runs on the target"):
        pair.source.cancel("too late")
    with pytest.raises(StateError, match="nothing to decide"):
        pair.source.resume()


@pytest.mark.parametrize("silent", ["Agree", "Ready", "Hello"])
def test_a_target_that_says_nothing_is_given_up(silent: str) -> None:
    pair = LinkPair()
    pair.mute = {silent}
    pair.run()
    pair.wait(1000)
    assert (pair.runs_at_source, pair.runs_at_target) == (True, False)
    assert seen(pair, HandoverFailed)


@pytest.mark.parametrize("arrived", [False, True])
def test_a_source_asks_what_has_become_of_the_guest(arrived: bool) -> None:
    pair = LinkPair()
    pair.mute = {"Running"} if arrived else {"Go"}
    pair.run()
    assert phase_of(pair) is S.GONE
    pair.mute = set()
    pair.break_line()
    pair.run()
    if arrived:
        assert phase_of(pair) is S.RUNNING
        assert pair.runs_at_target
        assert pair.target.phase is TargetLinkPhase.RUNNING
        assert pair.target.key == pair.source.key
    else:
        assert pair.source.over
        assert pair.runs_at_source
        assert seen(pair, GuestDropped)


@pytest.mark.parametrize("arrived", [False, True])
def test_silence_after_the_guest_was_handed_over_makes_the_source_ask(arrived: bool) -> None:
    pair = LinkPair()
    pair.mute = {"Running"} if arrived else {"Go"}
    pair.run()
    pair.mute = set()
    pair.wait(30)
    assert pair.runs_at_target is arrived
    assert pair.runs_at_source is not arrived


def uncertain() -> LinkPair:
    """Nobody knows who has the guest."""
    pair = LinkPair()
    pair.mute = {"Running"}
    pair.run()
    pair.mute = set()
    pair.reachable = False
    pair.break_line()
    pair.run()
    assert phase_of(pair) is S.ASKING
    pair.wait(ASK_SECONDS + 1)
    assert phase_of(pair) is S.UNCERTAIN
    assert kinds(pair).count(HandoverUncertain) == 1
    assert not pair.runs_at_source
    return pair


def test_an_operator_decides_where_nobody_knows() -> None:
    pair = uncertain()
    pair.wait(1000)
    assert not pair.runs_at_source
    pair.runs_at_target = False  # the machine that it ran on is gone
    pair.source.resume()
    pair.run()
    assert pair.runs_at_source
    pair = uncertain()
    pair.source.discard(pair.now)
    pair.run()
    assert phase_of(pair) is S.RUNNING
    assert seen(pair, HandoverRunning)
    pair.source.left(pair.now)
    pair.run()
    assert [e.client for e in pair.events if isinstance(e, ClientMissed)] == [7]


def test_a_source_that_is_uncertain_learns_it_when_the_target_is_back() -> None:
    pair = uncertain()
    pair.reachable = True
    pair.wait(30)
    assert phase_of(pair) is S.RUNNING


def test_a_target_that_began_anew_says_that_it_never_had_the_guest() -> None:
    pair = uncertain()
    pair.reachable = True
    pair.runs_at_target = False
    pair.memory = type(pair.memory)()
    pair.wait(30)
    assert pair.source.over
    assert pair.runs_at_source


def test_a_lost_line_is_no_reason_to_stop_what_runs() -> None:
    pair = LinkPair()
    pair.run()
    pair.break_line()
    pair.run()
    assert pair.runs_at_target
    assert phase_of(pair) is S.RUNNING
    pair.source.left(pair.now)
    assert pair.source.over
    assert seen(pair, GuestArrived)


def test_two_hand_overs_to_one_server_are_one_too_many() -> None:
    pair = LinkPair()
    pair.auto = False
    pair.run()
    other = LinkPair()
    other.memory = pair.memory
    other.targets = []
    other.connect()
    other.run()
    (failed,) = [event for event in other.events if isinstance(event, HandoverFailed)]
    assert "another hand-over" in failed.reason
    assert pair.target.phase is TargetLinkPhase.AGREED


@pytest.mark.parametrize(
    "message",
    [
        peer.Ready(),
        peer.Running("m1"),
        peer.Go(),
        peer.Agree("x", 1, 0, ""),
        peer.Arrived(7, True),
        peer.Hello(1, b"k" * 32, b"n" * 16),
    ],
)
def test_what_comes_out_of_turn_cuts_the_link_and_the_guest_stays(
    message: peer.PeerMessage,
) -> None:
    pair = LinkPair()
    pair.auto = False
    pair.run()
    assert phase_of(pair) is S.MOVING
    pair.target.outbox.append(message)
    pair.run()
    assert pair.source.over
    assert pair.runs_at_source
    assert not pair.runs_at_target


def test_another_version_is_not_talked_to() -> None:
    pair = LinkPair()
    pair.source.outbox[0] = peer.Hello(peer.VERSION + 1, b"k" * 32, b"n" * 16)
    pair.run()
    assert pair.source.over
    assert pair.runs_at_source


def test_clients_that_take_too_long_are_not_waited_for() -> None:
    pair = LinkPair()
    pair.auto = False
    pair.run()
    pair.source.copied(pair.now)
    pair.wait(9)
    assert phase_of(pair) is S.MOVING
    pair.wait(2)
    assert phase_of(pair) is S.RUNNING
