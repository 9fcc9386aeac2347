"""Clients that keep copies of what they send, and send again what the guest hasn't taken."""

from __future__ import annotations

from typing import Any

import pytest
from tests.test_handover_direct import PORT, TRIP, came, machine, told
from tests.two_servers import TwoServers, WorldClient

from aiospice.channels.keeping import CopiesGivenUp
from aiospice.client.connections import CHANNEL_CAPS
from aiospice.client.moving import ChannelGone
from aiospice.client.picture import Picture
from aiospice.migration.client import MigrationFinished
from aiospice.migration.peer import Late, LateEnd, Record
from aiospice.migration.source import MoveFinished, Policy
from aiospice.server.config import ServerConfig
from aiospice.server.events import ClientDisconnected, ServerChannelClosed
from aiospice.server.replaying import CopiesRefused, NotReplayed
from aiospice.wire.caps import MainCap
from aiospice.wire.keep import Keeping, Replay, Resume

KEEPS = pytest.mark.parametrize("keep", ["tokens", "acks"])


def world_that_keeps(keep: str = "tokens", **options: Any) -> tuple[TwoServers, WorldClient]:
    """Servers that have their clients keep copies, and a client."""
    world = TwoServers(machine, ServerConfig(keep=keep), **options)  # type: ignore[arg-type]
    world.policy = Policy.REPLAY if keep == "tokens" else Policy.ACK
    anna = world.client()
    world.wait(1)
    return world, anna


@KEEPS
@pytest.mark.parametrize("cut", [0, 1])
def test_what_the_guest_has_not_read_is_sent_again_to_the_byte(keep: str, cut: int) -> None:
    world, anna = world_that_keeps(keep, cut=cut)
    source, target = world["source"], world["target"]
    port = source.host.port(PORT)
    sent = read = b""
    for number in range(40):
        piece = b"%02d-message;" % number
        anna.channel(10).write(piece)
        sent += piece
        world.run()
        if number < 20:
            read += port.read(10)
    assert len(read) == 200
    assert source.host.port(PORT).write(b"before") == 6
    world.move("source", "target")
    assert not source.seen(NotReplayed)
    state = source.core.frozen
    assert state is not None
    assert not state.devices[10, 0].to_guest
    assert target.host.port(PORT).write(b", after") == 7
    anna.channel(10).write(b"the end")
    world.run()
    assert read + target.host.port(PORT).read() == sent + b"the end"
    assert came(anna) == b"before, after"
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]
    assert {message.channel for message in told(world, Record)} == {(3, 0)}
    assert {message.channel for message in told(world, LateEnd)} == {(3, 0)}
    assert [event.late for event in source.seen(MoveFinished)] == [0]


@KEEPS
def test_copies_are_no_more_than_the_window_and_go_as_the_guest_reads(keep: str) -> None:
    world, anna = world_that_keeps(keep)
    port, channel = world["source"].host.port(PORT), anna.channel(10)
    for number in range(200):
        channel.write(b"%04d" % number)
        world.run()
    assert len(channel.copies.bodies) == 64
    assert port.read(4 * 10) == b"".join(b"%04d" % number for number in range(10))
    world.run()
    assert len(channel.copies.bodies) == (64 if keep == "tokens" else 54)


def test_without_being_asked_a_client_keeps_nothing() -> None:
    world, anna = world_that_keeps()
    assert anna.channel(10).copies is not None
    world = TwoServers(machine)
    bert = world.client()
    world.wait(1)
    assert bert.channel(10).copies is None


@KEEPS
def test_many_moves_back_and_forth_under_traffic_lose_and_repeat_nothing(keep: str) -> None:
    world, anna = world_that_keeps(keep, delay=TRIP, freezes=False)
    names = ["source", "target"]
    sent = read = back = b""
    for turn in range(6):
        here, there = names[turn % 2], names[1 - turn % 2]
        for number in range(30):
            piece = b"%d.%d;" % (turn, number)
            sent += piece
            anna.channel(10).write(piece)
            world.wait(TRIP / 5)
            if number % 3 == 0:
                read += world[here].host.port(PORT).read(7)
            back += piece[: world[here].host.port(PORT).write(piece)]
            anna.channel(10).consumed(10)
        world.prepare(here, there)
        world.wait(1)
        world.carry(here, there)
        world[here].core.complete_migration(world.now)
        for number in range(20):
            piece = b"%d.%d?" % (turn, number)
            sent += piece
            anna.channel(10).write(piece)
            world.wait(TRIP / 5)
            read += world[there].host.port(PORT).read(5)
        world.wait(1)
        assert not world[here].seen(NotReplayed)
        assert read == sent[: len(read)]
        assert came(anna) == back
    while piece := world[names[0]].host.port(PORT).read(100):
        read += piece
        world.wait(1)
    assert read == sent
    assert {event.mode for event in anna.seen(MigrationFinished)} == {"seamless"}


def test_the_target_is_told_what_a_client_shows_by_itself() -> None:
    world, anna = world_that_keeps(delay=TRIP)
    source, target = world["source"], world["target"]
    source.host.display(0).fill(0, 0, 64, 48, 0x00112233)
    world.prepare("source", "target")
    world.wait(1)
    world.carry("source", "target")
    target.host.display(0).fill(3, 3, 5, 5, 0x00336699)
    source.core.complete_migration(world.now)
    draws = anna.core.screens[0].draws
    world.wait(1)
    shown = target.host.display(0).pixels
    assert anna.core.screens[0].snapshot() == Picture(64, 48, shown.tobytes())
    assert anna.core.screens[0].draws - draws == 1


def test_a_client_without_copies_moves_as_with_direct_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caps = tuple(cap for cap in CHANNEL_CAPS[1] if cap != MainCap.KEEP)
    monkeypatch.setitem(CHANNEL_CAPS, 1, caps)
    world, anna = world_that_keeps()
    anna.channel(10).write(b"carried")
    world.run()
    world.move("source", "target")
    (event,) = world["source"].seen(NotReplayed)
    assert "can't keep copies" in event.reason
    assert world["target"].host.port(PORT).read() == b"carried"
    assert (10, 0) in {message.channel for message in told(world, Record)}


@KEEPS
def test_a_move_that_is_called_off_changes_nothing(keep: str) -> None:
    world, anna = world_that_keeps(keep)
    source = world["source"]
    anna.channel(10).write(b"one two ")
    world.run()
    assert source.host.port(PORT).read(4) == b"one "
    for _ in range(2):
        world.prepare("source", "target")
        source.core.freeze_machine(world.now)
        anna.channel(10).write(b"more ")
        world.run()
        source.core.cancel_migration(world.now)
        world.run()
    world.move("source", "target")
    assert not told(world, Late)
    assert world["target"].host.port(PORT).read() == b"two more more "


def test_the_servers_may_move_a_client_by_another_policy_and_then_by_this() -> None:
    world, anna = world_that_keeps()
    anna.channel(10).write(b"one ")
    world.run()
    world.policy = Policy.DIRECT
    world.move("source", "target")
    anna.channel(10).write(b"two ")
    world.run()
    world.policy = Policy.REPLAY
    world.move("target", "source")
    assert not world["target"].seen(NotReplayed)
    assert world["source"].host.port(PORT).read() == b"one two "


# -- what can't be so ------------------------------------------------------------------------------


@KEEPS
def test_a_client_that_would_keep_too_much_keeps_none_and_loses_nothing(keep: str) -> None:
    world, anna = world_that_keeps(keep)
    source, channel = world["source"], anna.channel(10)
    channel.copies.limit = 30
    sent = b""
    for number in range(20):
        piece = b"number %02d;" % number
        channel.write(piece)
        sent += piece
        world.run()
    assert [event.channel for event in source.seen(CopiesRefused)] == ["port:0"]
    assert [event.channel for event in anna.seen(CopiesGivenUp)] == ["port:0"]
    assert channel.copies is None
    world.move("source", "target")
    (event,) = source.seen(NotReplayed)
    assert "port:0" in event.reason
    assert world["target"].host.port(PORT).read() == sent


@pytest.mark.parametrize(
    ("messages", "partial"), [(9, 0), (0, 8), (2, 1), (1 << 60, 0)], ids=lambda value: str(value)
)
def test_a_report_that_cannot_be_so_ends_the_channel(messages: int, partial: int) -> None:
    world, anna = world_that_keeps()
    for piece in (b"8 bytes.", b"and more"):
        anna.channel(10).write(piece)
        world.run()
        anna.channel(10).copies.over = True  # the next one is a message of its own
    world.prepare("source", "target")
    channel = world["source"].core.sessions[anna.core.session_id].channels[10, 0]
    channel.send(Replay(messages=messages, partial=partial))
    world.run()
    assert [event.channel for event in anna.seen(ChannelGone)] == ["port:0"]


def test_what_nobody_asked_for_ends_its_channel_alone() -> None:
    for message in (
        Keeping(on=1),
        Resume(tokens=64, granted=64, message_size=16384, started=1),
    ):
        world = TwoServers(machine)
        anna = world.client()
        world.wait(1)
        anna.channel(10).send(message)
        world.run()
        closed = [event.channel for event in world["source"].seen(ServerChannelClosed)]
        assert closed == ["port:0"]
        assert set(world["source"].core.sessions) == {anna.core.session_id}


def test_a_client_with_more_tokens_than_there_are_is_ended_at_the_target() -> None:
    world, anna = world_that_keeps()
    anna.channel(10).flow.tokens += 1
    anna.channel(10).copies.window += 1
    world.move("source", "target")
    assert "at most 64" in world["target"].seen(ClientDisconnected)[0].reason


def test_a_client_that_comes_a_second_time_by_itself_is_ended() -> None:
    world, anna = world_that_keeps()
    world.move("source", "target")
    anna.channel(10).send(Resume(tokens=0, granted=0, message_size=16384, started=1))
    world.run()
    closed = [event.channel for event in world["target"].seen(ServerChannelClosed)]
    assert closed == ["port:0"]
