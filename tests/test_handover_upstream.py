"""What differs where one of the two servers isn't ours: found with QEMU, held here without it.

Then the guest's part doesn't come with the guest: all that a device has is in the record that its
client carries, and nothing tells where the guest has stopped to read but that.
"""

from __future__ import annotations

from struct import pack

import pytest
from tests.test_handover_checks import at, change_record, reason, with_data, world_with_agent
from tests.test_handover_servers import CUTS, PORT, machine, modes, stream
from tests.two_servers import TwoServers

from aiospice.migration.source import Policy
from aiospice.wire.agent import AgentType
from aiospice.wire.agent_stream import pack_chunk, pack_message
from aiospice.wire.handover import DisplayRecord


def cross(world: TwoServers) -> None:
    """The client goes to the target, the guest does not."""
    world.prepare("source", "target", (None,))
    world["source"].core.freeze_machine(world.now, plain=True)
    world["source"].core.complete_migration(world.now)
    world.run()


@CUTS
@pytest.mark.parametrize("policy", Policy, ids=[each.value for each in Policy])
def test_the_client_carries_all_that_the_guest_has_not_read(policy: Policy, cut: int) -> None:
    world = TwoServers(machine, cut=cut)
    world.policy = policy
    here = world["source"].host.port(PORT)
    here.opened = True
    anna = world.client()
    anna.channel(10).write(stream(0, 30_000))
    world.run()
    assert here.read(7_001) == stream(0, 7_001)
    assert here.write(b"to the client") == 13
    world.prepare("source", "target", (None,))
    there = world["target"].host.port(PORT)
    there.opened = True
    world["source"].core.freeze_machine(world.now, plain=True)
    anna.channel(10).write(stream(30_000, 5_000))
    world["source"].core.complete_migration(world.now)
    world.run()
    anna.channel(10).write(stream(35_000, 5_000))
    world.run()
    found = b""
    while data := there.read():
        found += data
        world.run()
    assert found == stream(7_001, 32_999)
    assert modes(anna) == ["seamless"]


def test_a_guest_that_stays_reads_on_where_it_was() -> None:
    world = TwoServers(machine)
    device = world["source"].host.port(PORT)
    device.opened = True
    anna = world.client()
    anna.channel(10).write(stream(0, 3_000))
    world.run()
    assert device.read(1_001) == stream(0, 1_001)
    world.prepare("source", "target", (None,))
    world["source"].core.freeze_machine(world.now, plain=True)
    assert device.read() == b""
    anna.channel(10).write(stream(3_000, 1_000))
    world.run()
    world["source"].core.cancel_migration(world.now)
    world.run()
    assert device.read() == stream(1_001, 2_999)


def test_surfaces_have_the_form_that_the_bandwidth_says() -> None:
    for thin in (False, True):
        world = TwoServers(machine)
        anna = world.client()
        held = world["source"].core.sessions[anna.core.session_id].helds[0]
        held.local, held.line._thin = False, thin
        forms: list[tuple[int, bool]] = []

        def look(body: bytes, forms: list[tuple[int, bool]] = forms) -> bytes:
            record = DisplayRecord.parse(body)
            forms.append((record.low_bandwidth, bool(record.lossy)))
            return body

        change_record(world, 2, look)
        cross(world)
        assert forms == [(int(thin), thin)]
        assert modes(anna) == ["seamless"]


ANNOUNCE = pack_message(AgentType.ANNOUNCE_CAPABILITIES, pack("<II", 0, 0))
GRAB = pack_message(AgentType.CLIPBOARD_GRAB, pack("<I", 1))


@pytest.mark.parametrize("read", [1, 5, 8, 9, 20, len(ANNOUNCE) + 7])
def test_a_chunk_that_the_guest_has_begun_to_read_goes_on(read: int) -> None:
    world, anna = world_with_agent()
    whole = pack_chunk(1, ANNOUNCE) + pack_chunk(1, GRAB)
    rest = with_data(65, 21, whole[read:])

    def change(body: bytes) -> bytes:
        return at(13, "I", 8)(at(25, "I", 2)(rest(body)))

    change_record(world, 1, change)
    device = world["target"].host.agent()
    world.prepare("source", "target", (None,))
    device.opened = True
    world["source"].core.freeze_machine(world.now, plain=True)
    world["source"].core.complete_migration(world.now)
    world.run()
    assert device.read() == whole[read:]
    world.run()
    assert set(world["target"].core.sessions) == {anna.core.session_id}
    client = world["target"].core.agent.core.clients[anna.core.session_id]
    assert client.tokens + client.free == client.window


@pytest.mark.parametrize("settings", [{"copy_paste": False}, {"file_transfer": False}])
def test_the_rest_of_a_chunk_is_not_believed_where_something_is_forbidden(
    settings: dict[str, bool],
) -> None:
    world, _ = world_with_agent(**settings)
    rest = with_data(65, 21, pack_chunk(1, ANNOUNCE)[3:])
    change_record(world, 1, lambda body: at(13, "I", 9)(at(25, "I", 1)(rest(body))))
    world.prepare("source", "target", (None,))
    world["target"].host.agent().opened = True
    world["source"].core.freeze_machine(world.now, plain=True)
    world["source"].core.complete_migration(world.now)
    world.run()
    assert "chunk" in reason(world)


def test_a_guest_that_is_here_already_keeps_its_devices_open() -> None:
    world = TwoServers(machine)
    world["source"].host.port(PORT).opened = True
    there = world["target"].host.port(PORT)
    there.opened = True
    anna = world.client()
    world["target"].core.expect_migration(None, lives=True, now=world.now)
    world["source"].core.prepare_migration("target", 5900, now=world.now)
    world.run()
    world["source"].core.freeze_machine(world.now, plain=True)
    world["source"].core.complete_migration(world.now)
    world.run()
    assert there.opened
    anna.channel(10).write(b"hello")
    world.run()
    assert there.read() == b"hello"
