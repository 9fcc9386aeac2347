"""Records that a client carries are sealed where the two servers have a link of their own.

A client may read none of them, and hand over none but its own, each in its place and once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.script import OneKey
from tests.test_handover_checks import Change, change_record, on_the_way, packed, reason
from tests.two_servers import Line, TwoServers, WorldClient

from aiospice.errors import DecodeError
from aiospice.migration.client import MigrationFinished
from aiospice.migration.source import Policy
from aiospice.server.config import ServerConfig
from aiospice.server.events import ClientDisconnected
from aiospice.server.guest import Host
from aiospice.server.sealed import (
    MAGIC,
    SEALED_MORE,
    Place,
    is_sealed,
    open_record,
    seal_record,
)

KEY = bytes(range(32))
PLACE = Place("a move", 1234, (10, 0))


def two_ports(host: Host) -> None:
    host.display(0).resize(64, 48)
    host.port("org.example.one").opened = True
    host.port("org.example.two").opened = True


def world_of(clients: int = 1, **options: Any) -> tuple[TwoServers, list[WorldClient]]:
    """Servers with a link, and clients on the source."""
    shared = ServerConfig(on_second_client="share")
    setup = two_ports if clients == 1 else lambda host: host.display(0).resize(64, 48)
    world = TwoServers(setup, shared, freezes=False, **{"linked": True, **options})
    return world, [world.client() for _ in range(clients)]


def carried(world: TwoServers) -> dict[tuple[int, int, int], bytes]:
    """Every record that is carried to the target from now on: by client and channel."""
    found: dict[tuple[int, int, int], bytes] = {}

    def noted(line: Line, data: bytes) -> bytes:
        connection = world["target"].core.connections.get(line.number)
        channel = connection.channel if connection is not None else None
        if line.node.name == "target" and channel is not None and data[:2] == b"\5\0":
            assert connection is not None
            found[connection.client, *channel.key] = data[6:]
        return data

    world.forge = noted
    return found


@pytest.mark.parametrize("policy", [Policy.CARRY, Policy.CARRY_EARLY])
def test_what_a_client_carries_is_sealed_and_the_session_arrives(policy: Policy) -> None:
    world, (anna,) = world_of()
    world.policy = policy
    seen = carried(world)
    anna.channel(10).write(b"a secret that the guest hasn't read")
    world.run()
    world.move("source", "target")
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]
    assert {key[1] for key in seen} == {1, 2, 3, 10}
    assert all(is_sealed(data) and b"secret" not in data for data in seen.values())
    assert world["target"].host.port("org.example.one").read().startswith(b"a secret")


def flip(offset: int) -> Change:
    """Change one bit."""

    def change(body: bytes) -> bytes:
        found = bytearray(body)
        found[offset] ^= 1
        return bytes(found)

    return change


@pytest.mark.parametrize("kind", [1, 2, 3, 10])
@pytest.mark.parametrize("offset", [0, 4, 5, 6, 18, -1])
def test_a_record_that_was_changed_ends_its_client(kind: int, offset: int) -> None:
    world, _ = world_of()
    (client,) = world["source"].core.sessions
    change_record(world, kind, flip(offset))
    world.move("source", "target")
    reason(world)
    assert client not in world["target"].core.sessions


def test_a_record_that_was_cut_or_grew_ends_its_client() -> None:
    changes: list[Change] = [lambda body: body[:-1], lambda body: body + b"x", lambda body: b"AIOS"]
    for change in changes:
        world, _ = world_of()
        change_record(world, 10, change)
        world.move("source", "target")
        reason(world)


def test_records_of_two_channels_of_one_kind_are_not_swapped() -> None:
    world, _ = world_of()
    seen: list[bytes] = []

    def swapped(body: bytes) -> bytes:
        seen.append(body)
        return packed(5, seen[0])

    on_the_way(world, "target", 10, 5, swapped)
    world.move("source", "target")
    assert len(seen) == 2
    assert "sealed for this channel" in reason(world)


def test_a_record_of_another_client_is_not_taken() -> None:
    world, (anna, bert) = world_of(2)
    records: dict[int, bytes] = {}

    def forge(line: Line, data: bytes) -> bytes:
        connection = world["target"].core.connections.get(line.number)
        channel = connection.channel if connection is not None else None
        if line.node.name != "target" or channel is None or channel.key[0] != 3:
            return data
        assert connection is not None
        if data[:2] != b"\5\0":
            return data
        records[connection.client] = data
        return records.get(anna.core.session_id, data)

    world.forge = forge
    world.move("source", "target")
    ended = {event.client: event.reason for event in world["target"].seen(ClientDisconnected)}
    assert set(ended) <= {anna.core.session_id, bert.core.session_id}
    assert any("sealed for this channel" in each for each in ended.values())
    assert len(world["target"].core.sessions) == 2 - len(ended)


def test_a_record_of_an_earlier_move_is_not_taken_again() -> None:
    world, (anna,) = world_of()
    seen = carried(world)
    world.move("source", "target")
    old = dict(seen)
    world.forge = lambda line, data: data
    world.move("target", "source")
    world["target"].events.clear()
    client = anna.core.session_id
    change_record(world, 10, lambda body: old[client, 10, 0])
    world.move("source", "target")
    assert "sealed for this channel" in reason(world)


def test_an_open_record_is_not_taken_where_a_sealed_one_is_due() -> None:
    world, (anna,) = world_of()
    key = (1).to_bytes(32, "big")

    def opened(body: bytes) -> bytes:
        place = Place("move 1", anna.core.session_id, (3, 0))
        return open_record(body, key, place, OneKey())

    change_record(world, 3, opened)
    world.move("source", "target")
    assert "isn't sealed" in reason(world)


def test_a_sealed_record_is_not_taken_where_an_open_one_is_due() -> None:
    world, (anna,) = world_of(linked=False)
    place = Place("", anna.core.session_id, (3, 0))
    change_record(world, 3, lambda body: seal_record(body, KEY, place, OneKey()))
    world.move("source", "target")
    assert "InputsRecord" in reason(world)


def test_a_session_whose_link_is_lost_still_moves_with_sealed_records() -> None:
    world, (anna,) = world_of()
    world.policy = Policy.DIRECT
    world.prepare("source", "target")
    world.carry("source", "target")
    anna.channel(3).key_down(0x1E)
    world.run()
    world.unlink()
    seen = carried(world)
    world["source"].core.complete_migration(world.now)
    world.run()
    world.wait(2)
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["seamless"]
    assert seen
    assert all(data[:4] == MAGIC for data in seen.values())
    assert set(world["target"].core.sessions) == {anna.core.session_id}


# -- the form itself -------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(data=st.binary(max_size=300))
def test_what_is_sealed_opens_in_its_place_and_in_no_other(data: bytes) -> None:
    crypto = OneKey()
    found = seal_record(data, KEY, PLACE, crypto)
    assert len(found) == len(data) + SEALED_MORE
    assert open_record(found, KEY, PLACE, crypto) == data
    others = [
        replace(PLACE, migration="another"),
        replace(PLACE, client=1235),
        replace(PLACE, channel=(10, 1)),
        replace(PLACE, channel=(9, 0)),
        replace(PLACE, position=1),
    ]
    for place in others:
        with pytest.raises(DecodeError):
            open_record(found, KEY, place, crypto)
    with pytest.raises(DecodeError):
        open_record(found, bytes(32), PLACE, crypto)


@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=80))
def test_bytes_that_nobody_has_sealed_do_not_open(data: bytes) -> None:
    for found in (data, MAGIC + data, MAGIC + b"\1\0" + data):
        with pytest.raises(DecodeError):
            open_record(found, KEY, PLACE, OneKey())
