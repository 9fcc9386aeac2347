"""Sessions that move between two servers of ours: nothing is lost, and nobody notices."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from tests.test_handover_checks import on_the_way, packed
from tests.two_servers import Node, TwoServers, WorldClient

from aiospice.agent.guest import GuestAgent
from aiospice.agent.guest_events import FileCame, FileOffered, FilePart
from aiospice.agent.transfers import TransferPhase
from aiospice.channels.server.inputs import InputsServer, KeyChanged
from aiospice.channels.vmc import DeviceData
from aiospice.client.connections import CHANNEL_CAPS
from aiospice.client.picture import Picture
from aiospice.migration.client import (
    MigrationAbandoned,
    MigrationCancelled,
    MigrationFinished,
)
from aiospice.migration.source import (
    ANSWER_SECONDS,
    LEAVE_SECONDS,
    MoveFinished,
    MoveReady,
    Policy,
    SourcePhase,
)
from aiospice.migration.target import ARRIVE_SECONDS, RECORD_SECONDS, SessionArrived
from aiospice.server.config import ServerConfig
from aiospice.server.events import ClientDisconnected, ClientRefused
from aiospice.server.guest import Host, HostSurface
from aiospice.server.leaving import DRAIN_SECONDS
from aiospice.server.session import _CAPS

CUTS = pytest.mark.parametrize("cut", [0, 1], ids=["whole", "byte-by-byte"])
PORT = "org.example.stream"


def machine(host: Host) -> None:
    """Everything that a machine can have."""
    host.display(0).resize(64, 48)
    host.sound(playback=True, record=True)
    host.port(PORT)
    host.webdav()
    host.usbredir()
    host.smartcard()


def modes(client: WorldClient) -> list[str]:
    """How the client's migrations went."""
    assert not client.seen(MigrationAbandoned)
    return [event.mode for event in client.seen(MigrationFinished)]


@CUTS
def test_a_session_with_all_channels_moves_whole(cut: int) -> None:
    world = TwoServers(machine, cut=cut)
    source, target = world["source"], world["target"]
    source.host.port(PORT).opened = True
    source.host.display(0).fill(3, 4, 20, 10, 0x123456)
    anna = world.client()
    number = anna.core.session_id
    channels = set(anna.core.channels)
    assert len(channels) == 10
    world.move("source", "target")
    assert modes(anna) == ["seamless"]
    assert set(anna.core.channels) == channels
    assert set(target.core.sessions) == {number}
    assert set(target.core.sessions[number].channels) == channels
    assert not source.core.sessions
    assert [event.whole for event in target.seen(SessionArrived)] == [True]
    assert [event.late for event in source.seen(MoveFinished)] == [0]
    assert [(e.whole, e.anew, e.away) for e in source.seen(MoveReady)] == [(1, 0, 0)]
    assert target.core.sessions[number].channels[10, 0].received


class Life:
    """What runs in the guest: it moves with it. Streams through a port, an agent, a screen."""

    def __init__(self) -> None:
        self.agent = GuestAgent()
        self.left = b""
        self.said = self.heard = 0
        self.file = b""
        self.keys: list[tuple[int, bool]] = []
        self.seen = 0
        self.chance = random.Random(5)

    def live(self, node: Node, size: int) -> bool:
        """Do a little; tells whether anything could be done."""
        port, device = node.host.port(PORT), node.host.agent()
        taken = port.write(stream(self.said, size))
        self.said += taken
        data = port.read(size)
        assert data == stream(self.heard, len(data))
        self.heard += len(data)
        got = device.read(min(size, self.agent.room))
        self.agent.receive(got)
        for event in self.agent.events():
            if isinstance(event, FileOffered):
                self.agent.accept_file(event.number)
            elif isinstance(event, FilePart):
                self.file += event.data
            elif isinstance(event, FileCame):
                self.agent.finish_file(event.number)
        said = self.left or self.agent.take(4096)
        done = device.write(said[: self.chance.randrange(1, 60)])
        self.left = said[done:]
        for event in node.events[self.seen :]:
            if isinstance(event, KeyChanged):
                self.keys.append((event.code, event.pressed))
        self.seen = len(node.events)
        return bool(taken or data or got or done)

    def draw(self, node: Node) -> None:
        """Change something on the screen."""
        display, chance = node.host.display(0), self.chance
        display.fill(chance.randrange(60), chance.randrange(40), 9, 7, chance.randrange(1 << 24))
        x, y = chance.randrange(50), chance.randrange(40)
        display.pixels[y : y + 5, x : x + 9] = chance.randrange(256)
        display.update(x, y, 9, 5)


def stream(begin: int, size: int) -> bytes:
    """A part of an endless stream that tells where each byte belongs."""
    first = begin // 8
    words = b"".join(number.to_bytes(8, "big") for number in range(first, first + size // 8 + 2))
    return words[begin - 8 * first :][:size]


def check_screen(world: TwoServers, node: Node, client: WorldClient) -> None:
    """The client shows what the guest does."""
    world.wait(0.05)
    world.run()
    shown = node.host.display(0).pixels
    assert client.core.screens[0].snapshot() == Picture(64, 48, shown.tobytes())


#: Policies, and whether the servers have a link: with one, records that clients carry are sealed.
WAYS = pytest.mark.parametrize(
    ("policy", "linked"),
    [
        *((policy, policy.needs_link) for policy in Policy),
        (Policy.CARRY, True),
        (Policy.CARRY_EARLY, True),
    ],
    ids=[*(policy.value for policy in Policy), "carry-sealed", "carry-early-sealed"],
)


@CUTS
@WAYS
def test_nothing_is_lost_in_ten_moves_back_and_forth(
    policy: Policy, linked: bool, cut: int
) -> None:
    ten_moves(policy, cut, linked)


@WAYS
def test_nothing_is_lost_of_a_client_without_tokens_and_with_large_headers(
    policy: Policy, linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (8, 9, 10, 11):
        monkeypatch.setitem(CHANNEL_CAPS, kind, ())
        monkeypatch.setitem(_CAPS, kind, ())
    ten_moves(policy, linked=linked, mini_header=False)


def ten_moves(policy: Policy, cut: int = 0, linked: bool = False, **options: Any) -> None:
    """Back and forth while streams run both ways, a file is sent, keys are held, and it draws."""
    keep = {Policy.REPLAY: "tokens", Policy.ACK: "acks"}.get(policy, "none")
    world = TwoServers(machine, ServerConfig(keep=keep), cut=cut, linked=linked)  # type: ignore[arg-type]
    world.policy = policy
    size = 1_000 if cut else 50_000
    life, here, there = Life(), "source", "target"
    world[here].host.port(PORT).opened = True
    world[here].host.agent().opened = True
    anna = world.client(**options)
    content = bytes(random.Random(1).randbytes(4_000 if cut else 120_000))
    written = read = 0

    def work(turns: int) -> None:
        nonlocal written, read
        for _ in range(turns):
            life.live(world[here], size)
            life.draw(world[here])
            channel = anna.channel(10)
            if channel.queued_bytes < 4 * size:
                channel.write(stream(written, size))
                written += size
            feed(anna, content, world.now)
            world.run()
            read = came(anna, read)

    for _ in range(20):
        life.live(world[here], size)
        world.run()
    transfer = anna.core.agent.send_file("moved", len(content), world.now)
    turns = 3 if cut else 10
    for turn in range(turns):
        work(3)
        anna.channel(3).key_down(0x10 + turn)
        for step in range(turn):
            anna.channel(3).motion(step, 1)
        world.run()
        life.live(world[here], size)
        life.draw(world[here])

        def meanwhile() -> None:
            anna.channel(3).key_up(0x10 + turn)  # noqa: B023
            anna.channel(3).key_down(0x30 + turn)  # noqa: B023
            anna.channel(10).write(b"")
            world.run()

        life.seen = len(world[there].events)
        world.move(here, there, meanwhile)
        here, there = there, here
        assert modes(anna) == ["seamless"] * (turn + 1)
        check_screen(world, world[here], anna)
        life.live(world[here], size)
        anna.channel(3).key_up(0x30 + turn)
        work(3)
        check_screen(world, world[here], anna)
    while transfer.phase not in (TransferPhase.ENDED, TransferPhase.SENT):
        work(1)
    while anna.channel(10).queued_bytes or life.heard < written:
        life.live(world[here], size)
        world.run()
    while life.left or life.agent.pending:
        life.live(world[here], size)
        world.run()
    read = came(anna, read)
    assert life.file == content
    assert life.heard == written
    assert read == life.said
    down = [code for code, pressed in life.keys if pressed]
    assert sorted(down) == sorted([*range(0x10, 0x10 + turns), *range(0x30, 0x30 + turns)])
    assert all((code, False) in life.keys for code in down)
    inputs = world[here].core.sessions[anna.core.session_id].channels[3, 0]
    assert isinstance(inputs, InputsServer)
    assert not inputs.keys_down


def feed(client: WorldClient, content: bytes, now: float) -> None:
    """Hand in what the transfer wants."""
    transfers = client.core.agent.transfers
    for transfer in list(transfers.active.values()):
        wanted = transfers.wanted(transfer)
        if wanted:
            transfers.feed(transfer, content[transfer.fed :][:wanted], now)


def came(client: WorldClient, read: int) -> int:
    """Check what came out of the port at the client's end; tells how much it was by now."""
    for event in client.events:
        if isinstance(event, DeviceData) and event.key == (10, 0):
            assert event.data == stream(read, len(event.data))
            read += len(event.data)
            client.channel(10).consumed(len(event.data))
    client.events = [event for event in client.events if not isinstance(event, DeviceData)]
    return read


# -- other ways to go, and ways back ---------------------------------------------------------------


def test_a_migration_that_is_cancelled_leaves_everything_as_it_was() -> None:
    world = TwoServers(machine)
    source = world["source"]
    port = source.host.port(PORT)
    port.opened = True
    anna = world.client()
    anna.channel(10).write(b"before")
    world.run()
    for _ in range(3):
        world.prepare("source", "target")
        assert source.core.clients_ready
        source.core.freeze_machine(world.now)
        assert port.read() == b""
        anna.channel(10).write(b" meanwhile")
        anna.channel(3).key_down(0x1E)
        anna.channel(3).key_up(0x1E)
        world.run()
        assert not source.seen(KeyChanged)
        source.core.cancel_migration(world.now)
        world.run()
        assert [event.code for event in source.seen(KeyChanged)] == [0x1E, 0x1E]
        source.events.clear()
    assert port.read() == b"before" + 3 * b" meanwhile"
    assert port.write(b"after") == 5
    world.run()
    assert b"".join(event.data for event in anna.seen(DeviceData)) == b"after"
    assert len(anna.seen(MigrationCancelled)) == 3
    world.move("source", "target")
    assert modes(anna) == ["seamless"]


def test_a_client_that_could_not_connect_goes_there_as_a_new_one() -> None:
    world = TwoServers(machine)
    anna = world.client()
    world["source"].core.prepare_migration("target", 5900, now=world.now)  # which expects nobody
    world.run()
    assert [(e.whole, e.anew, e.away) for e in world["source"].seen(MoveReady)] == [(0, 0, 1)]
    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    world.run()
    assert [event.mode for event in anna.seen(MigrationFinished)] == ["switch-host"]
    assert set(world["target"].core.sessions) == {anna.core.session_id}
    assert not world["source"].core.sessions
    check_screen(world, world["target"], anna)


def test_a_target_that_is_older_begins_the_session_anew() -> None:
    world = TwoServers(machine)
    anna = world.client()
    number = anna.core.session_id
    on_the_way(world, "target", 1, 110, lambda body: packed(110, b"\2\0\0\0"))
    world["source"].host.display(0).fill(0, 0, 30, 30, 0xABCDEF)
    world.move("source", "target")
    assert modes(anna) == ["semi-seamless"]
    assert [event.whole for event in world["target"].seen(SessionArrived)] == [False]
    assert set(world["target"].core.sessions) == {number}
    assert not world["source"].core.sessions
    check_screen(world, world["target"], anna)


def test_who_asks_to_move_before_clients_are_ready_waits_for_them() -> None:
    world = TwoServers(machine)
    anna = world.client()
    world["target"].core.expect_migration(anna.core.session_id, now=world.now)
    world["source"].core.prepare_migration("target", 5900, now=world.now)
    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    assert not world["source"].core.clients_ready
    world.run()
    assert modes(anna) == ["seamless"]


def test_a_client_that_does_not_answer_is_not_waited_for_longer_than_its_time() -> None:
    world = TwoServers(machine)
    anna = world.client()
    source = world["source"].core
    anna.deaf.add(0)
    source.prepare_migration("target", 5900, now=world.now)
    source.complete_migration(world.now)
    world.wait(ANSWER_SECONDS - 1)
    phases = [source.source.phase]
    world.wait(2)
    phases.append(source.source.phase)
    world.wait(LEAVE_SECONDS + 1)
    phases.append(source.source.phase)
    assert phases == [SourcePhase.CONNECTING, SourcePhase.LEAVING, SourcePhase.IDLE]
    assert [event.late for event in world["source"].seen(MoveFinished)] == [1]
    assert not source.sessions


def test_a_target_does_not_wait_for_ever() -> None:
    world = TwoServers(machine)
    world.client()
    world.prepare("source", "target")
    assert world["target"].core.sessions
    world.wait(ARRIVE_SECONDS + 1)
    assert not world["target"].core.sessions
    assert "didn't come" in world["target"].seen(ClientDisconnected)[0].reason
    assert set(world["source"].core.sessions) == {world.clients[0].core.session_id}


def test_records_that_do_not_come_end_the_session() -> None:
    world = TwoServers(machine)
    world.client()
    on_the_way(world, "target", 10, 5, lambda body: b"")
    world.move("source", "target")
    assert world["target"].core.sessions
    world.wait(RECORD_SECONDS + 1)
    assert not world["target"].core.sessions


def test_a_client_that_dies_at_any_moment_leaves_nothing_behind() -> None:
    world = TwoServers(machine, freezes=False)
    world.client()
    world.prepare("source", "target")
    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    for line in list(world.lines):
        world.cut_off(line)
    world.clients.clear()
    world.run()
    for node in world.nodes.values():
        assert not node.core.sessions
        assert not node.core.target.arrivals
        assert not node.core.agent.core.waiting
        assert not any(device.core.clients for device in node.core.devices.values())
    assert world["source"].seen(MoveFinished)


def test_a_display_that_leaves_early_is_not_asked_for_a_mark() -> None:
    for policy, marks in ((Policy.CARRY, 1), (Policy.CARRY_EARLY, 0)):
        world = TwoServers(machine, freezes=False)
        world.policy = policy
        anna = world.client()
        seen: list[bytes] = []

        def noted(body: bytes, seen: list[bytes] = seen) -> bytes:
            seen.append(body)
            return packed(4, body)

        on_the_way(world, "source", 2, 4, noted)
        world["source"].host.display(0).fill(1, 2, 30, 9, 0x336699)
        world.wait(0.1)
        world.move("source", "target")
        assert len(seen) == marks
        assert modes(anna) == ["seamless"]
        check_screen(world, world["target"], anna)


@WAYS
def test_several_clients_move_at_once(policy: Policy, linked: bool) -> None:
    def shared(host: Host) -> None:
        host.display(0).resize(64, 48)
        host.sound(playback=True)

    world = TwoServers(shared, ServerConfig(on_second_client="share"), linked=linked)
    world.policy = policy
    clients = [world.client() for _ in range(5)]
    numbers = {client.core.session_id for client in clients}
    clients[0].channel(3).key_down(0x1E)
    world.run()
    for here, there in (("source", "target"), ("target", "source")):
        world.move(here, there)
        assert set(world[there].core.sessions) == numbers
        for client in clients:
            assert set(modes(client)) == {"seamless"}
            world[there].host.display(0).fill(1, 2, 30, 30, len(here) * 77)
            check_screen(world, world[there], client)
    inputs = world["source"].core.sessions[clients[0].core.session_id].channels[3, 0]
    assert isinstance(inputs, InputsServer)
    assert list(inputs.keys_down) == [0x1E]


def test_the_machine_that_has_moved_takes_no_new_clients() -> None:
    world = TwoServers(machine)
    world.client()
    world.move("source", "target")
    world.client()
    assert [event.rule for event in world["source"].seen(ClientRefused)] == ["machine-moved"]


def test_surfaces_that_a_client_has_are_not_sent_again() -> None:
    def draws(host: Host) -> None:
        host.display(0).resize(200, 150)

    world = TwoServers(draws)
    display = world["source"].host.display(0)
    noise = random.Random(3)
    surfaces = [display.surface(40, 30) for _ in range(5)]
    for surface in surfaces:
        surface.pixels[:] = np.frombuffer(noise.randbytes(4800), np.uint8).reshape(30, 40, 4)
        surface.update()
    anna = world.client()
    world.wait(0.5)
    world.move("source", "target")
    target = world["target"]
    connection = target.core.sessions[anna.core.session_id].connections[2, 0]
    world.wait(0.5)
    before = connection.sent_bytes
    assert before < 400
    there = target.host.display(0)
    copies = [HostSurface(there, surface.id, 40, 30) for surface in surfaces]
    for place, copy in enumerate(copies):
        there.draw(copy, 10 + 30 * place, 50)
    world.wait(0.2)
    shown = anna.core.screens[0].snapshot()
    assert shown == Picture(200, 150, there.pixels.tobytes())
    assert target.core.sessions[anna.core.session_id].connections[2, 0].sent_bytes - before < 1500


def test_a_client_that_reads_slowly_forgets_what_it_was_not_sent() -> None:
    world = TwoServers(lambda host: host.display(0).resize(640, 480))
    anna = world.client()
    world.prepare("source", "target")
    anna.deaf.add(2)
    display = world["source"].host.display(0)
    noise = random.Random(3)
    size = 640 * 480 * 4
    display.pixels[:] = np.frombuffer(noise.randbytes(size), np.uint8).reshape(480, 640, 4)
    display.update()
    world.carry("source", "target")
    world["source"].core.complete_migration(world.now)
    world.run()
    world.wait(DRAIN_SECONDS + 1)
    anna.deaf.clear()
    world.run()
    world["target"].core.take_late_inputs({}, world.now)
    world.run()
    assert modes(anna) == ["seamless"]
    world.wait(1)
    shown = world["target"].host.display(0).pixels
    assert anna.core.screens[0].snapshot() == Picture(640, 480, shown.tobytes())
