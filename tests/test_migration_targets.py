"""Where a source may send a session, and where it can't, whatever it says."""

from __future__ import annotations

import pytest
from tests.script import Play, destination
from tests.script_moves import NAMES, abandoned, pair, start_over

from aiospice.client.session import SessionEnded
from aiospice.errors import MigrationFailed
from aiospice.migration.client import (
    MigrationFinished,
)
from aiospice.wire import main


@pytest.fixture(params=[0, 1], ids=["whole", "bytewise"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(cut=request.param)


@pytest.mark.parametrize(
    "host",
    [b"", b" ", b"a b", b"a\n", b"\x1b[2J", b"m\xc3\xbcnchen", b"\xff", b"a\x7f"],
    ids=repr,
)
def test_hostile_host_names_are_never_connected_to(play: Play, host: bytes) -> None:
    source, target = pair(play)
    opened = len(play.opened)
    play.begin(source, target, host=host)
    abandoned(play, source, "no usable host")
    assert len(play.opened) == opened


@pytest.mark.parametrize("ports", [(0, 0), (65535, 0), (65535, 65535), (0, 65535)])
def test_minus_one_and_zero_are_no_ports(play: Play, ports: tuple[int, int]) -> None:
    source, target = pair(play)
    play.begin(source, target, port=ports[0], secure_port=ports[1])
    abandoned(play, source, "no port")


@pytest.mark.parametrize("none", [0, 65535])
def test_only_a_tls_port_leads_to_tls(play: Play, none: int) -> None:
    source, target = pair(play, tls=True)
    play.prepare(source, target, port=none)
    assert all(peer.endpoint.tls for peer in target.all)
    play.hand_over(source, target, *NAMES, "main:0")
    play.sees(MigrationFinished)


@pytest.mark.parametrize("none", [0, 65535])
def test_a_session_on_tls_never_goes_to_a_plain_port(play: Play, none: int) -> None:
    source, target = pair(play, tls=True, secure_channels=("all",))
    opened = len(play.opened)
    play.begin(source, target, secure_port=none)
    abandoned(play, source, "TLS")
    source.main.sends(main.MigrateSwitchHost(destination=destination(target, secure_port=none)))
    assert isinstance(play.sees(SessionEnded).error, MigrationFailed)
    assert len(play.opened) == opened


def test_channels_that_were_encrypted_stay_so_even_after_two_moves(play: Play) -> None:
    source, target = pair(play, tls=True, secure_channels=("inputs", "main"))
    third = play.server("third", 5902, 5912)
    for a, b in ((source, target), (target, third)):
        play.prepare(a, b)
        play.hand_over(a, b, *NAMES, "main:0")
        play.sees(MigrationFinished)
        assert {peer.key for peer in b.all if peer.endpoint.tls} == {(1, 0), (3, 0)}
        b.display.skip()


def test_hosts_may_be_limited_by_patterns(play: Play) -> None:
    source, target = pair(play, migrate_to=("*.example.org", "T?RGET"))
    other = play.server("elsewhere", 5902)
    play.begin(source, other)
    abandoned(play, source, "--migrate-to")
    source.main.sends(main.MigrateSwitchHost(destination=destination(target)))
    start_over(play, target)
    target.main.sends(main.MigrateSwitchHost(destination=destination(other)))
    error = play.sees(SessionEnded).error
    assert isinstance(error, MigrationFailed)
    assert "elsewhere" in str(error)
    assert not other.all


def test_a_pinned_subject_is_not_replaced_by_the_sources_word(play: Play) -> None:
    source, target = pair(play, tls=True, secure_channels=("all",), host_subject="CN=mine")
    play.begin(source, target, cert_subject=b"CN=theirs")
    abandoned(play, source, "subject")
    play.prepare(source, target, cert_subject=b"CN=mine")
    assert {peer.endpoint.host_subject for peer in target.all} == {"CN=mine"}


def test_a_subject_is_the_same_in_capitals_and_with_spaces(play: Play) -> None:
    source, target = pair(play, tls=True, secure_channels=("all",), host_subject="O=Me, CN=mine")
    play.prepare(source, target, cert_subject=b"O=me,CN=Mine")
    assert {peer.endpoint.host_subject for peer in target.all} == {"O=Me, CN=mine"}


def test_a_listed_host_may_have_its_own_subject(play: Play) -> None:
    source, target = pair(
        play, tls=True, secure_channels=("all",), host_subject="CN=mine", migrate_to=("target",)
    )
    play.prepare(source, target, cert_subject=b"CN=theirs")
    assert {peer.endpoint.host_subject for peer in target.all} == {"CN=theirs"}


def test_a_subject_named_by_a_source_is_no_pin_for_the_next_move(play: Play) -> None:
    source, target = pair(play, tls=True, secure_channels=("all",))
    third = play.server("third", 5902, 5912)
    play.prepare(source, target, cert_subject=b"CN=second")
    play.hand_over(source, target, *NAMES, "main:0")
    play.sees(MigrationFinished, number=1)
    target.display.skip()
    play.prepare(target, third, cert_subject=b"CN=third")
    assert {peer.endpoint.host_subject for peer in third.all} == {"CN=third"}
    play.hand_over(target, third, *NAMES, "main:0")
    play.sees(MigrationFinished, number=2)
    fourth = play.server("fourth", 5903, 5913)
    third.display.skip()
    play.prepare(third, fourth)
    assert {peer.endpoint.host_subject for peer in fourth.all} == {""}
