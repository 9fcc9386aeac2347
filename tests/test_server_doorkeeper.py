"""Who may begin a link: caps on half links, failures that cost turns, bounded state."""

from __future__ import annotations

import pickle

from hypothesis import given, settings
from hypothesis import strategies as st

from aiospice.server.doorkeeper import RULES, Doorkeeper, DoorLimits, network_of

LIMITS = DoorLimits(
    half_links_per_host=3, half_links=5, failures=4, failure_seconds=40.0, networks=8
)


def guess(door: Doorkeeper, host: str, now: float) -> str | None:
    """A link that fails by a wrong password; the rule if it wasn't admitted."""
    rule = door.admit(host, now)
    if rule is None:
        door.link_failed(host, now, guess=True)
    return rule


def test_half_links_of_an_address_are_capped_and_others_still_come() -> None:
    door = Doorkeeper(LIMITS)
    assert [door.admit("a", 0.0) for _ in range(4)] == [None] * 3 + ["half-links-per-address"]
    assert door.admit("b", 0.0) is None
    door.link_done("a", 0.0)
    assert door.admit("a", 0.0) is None


def test_half_links_of_all_together_are_capped() -> None:
    door = Doorkeeper(LIMITS)
    assert [door.admit(f"h{n}", 0.0) for n in range(6)] == [None] * 5 + ["half-links"]
    door.link_dropped("h0", 0.0)
    assert door.admit("h9", 0.0) is None
    assert door.half == 5


def test_wrong_passwords_use_up_the_turns_and_time_gives_them_back() -> None:
    door = Doorkeeper(LIMITS)
    assert [guess(door, "a", 0.0) for _ in range(6)] == [None] * 4 + ["failures"] * 2
    assert guess(door, "b", 0.0) is None
    assert guess(door, "a", 9.9) == "failures"
    assert guess(door, "a", 10.0) is None  # one turn every 40 / 4 seconds
    assert guess(door, "a", 10.0) == "failures"
    assert [guess(door, "a", 100.0) for _ in range(5)] == [None] * 4 + ["failures"]


def test_guesses_made_at_once_are_paid_for_afterwards() -> None:
    door = Doorkeeper(LIMITS)
    for _ in range(3):
        guess(door, "a", 0.0)
    for _ in range(3):
        assert door.admit("a", 0.0) is None
    for _ in range(3):
        door.link_failed("a", 0.0, guess=True)
    assert door.admit("a", 29.0) == "failures"
    assert door.admit("a", 30.0) is None


def test_other_failures_weigh_a_tenth() -> None:
    door = Doorkeeper(LIMITS)
    for _ in range(30):
        assert door.admit("a", 0.0) is None
        door.link_failed("a", 0.0)
    assert door.admit("a", 0.0) is None
    door.link_failed("a", 0.0)
    assert door.admit("a", 0.0) == "failures"


def test_addresses_of_one_ipv6_network_count_as_one() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:2")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("fe80::1%eth0") == network_of("fe80::2")
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("::1") != network_of("::ffff:127.0.0.1")
    assert network_of("unix:0") == "unix:0"


def test_the_status_tells_the_counts() -> None:
    door = Doorkeeper(LIMITS)
    for _ in range(5):
        guess(door, "a", 0.0)
    door.admit("b", 0.0)
    assert door.status() == {
        "half_links": 1,
        "failed": 4,
        "wrong_passwords": 4,
        "refused": {"half-links-per-address": 0, "half-links": 0, "failures": 1},
        "networks_with_failures": 1,
    }


Steps = st.lists(
    st.tuples(
        st.sampled_from(("admit", "done", "dropped", "failed", "guess")),
        st.integers(0, 30),
        st.floats(0, 30),
    ),
    max_size=120,
)


@settings(deadline=None)
@given(Steps)
def test_the_caps_hold_and_the_state_is_bounded_whatever_comes(
    steps: list[tuple[str, int, float]],
) -> None:
    door, now, under_way = Doorkeeper(LIMITS), 0.0, dict[str, int]()
    for what, number, pause in steps:
        door = pickle.loads(pickle.dumps(door))
        host, now = f"10.0.0.{number}", now + pause
        if what == "admit":
            rule = door.admit(host, now)
            assert rule is None or rule in RULES
            under_way[host] = under_way.get(host, 0) + (rule is None)
        elif under_way.get(host):
            under_way[host] -= 1
            if what == "done":
                door.link_done(host, now)
            elif what == "dropped":
                door.link_dropped(host, now)
            else:
                door.link_failed(host, now, guess=what == "guess")
        assert door.half == sum(under_way.values()) <= LIMITS.half_links
        assert max(under_way.values(), default=0) <= LIMITS.half_links_per_host
        assert len(door._debts) <= LIMITS.networks
        assert len(door._half) <= LIMITS.half_links
