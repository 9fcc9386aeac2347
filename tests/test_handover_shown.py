"""What is seen and heard across a hand-over: caches, dictionaries, cursors, sound, cards."""

from __future__ import annotations

import numpy as np
import pytest
from tests.random_guest import photo
from tests.two_servers import Node, TwoServers, WorldClient

from aiospice.channels.playback import SoundPacket
from aiospice.channels.server.record import SoundRecorded
from aiospice.channels.smartcard import CardMessageReceived
from aiospice.channels.sound import SoundStarted
from aiospice.client.cursor import CursorMissing
from aiospice.client.picture import Picture
from aiospice.client.screen import NotDrawn
from aiospice.migration.source import Policy
from aiospice.server.config import ServerConfig
from aiospice.server.guest import Host
from aiospice.wire.smartcard import DEVICE_HEADER, CardMessage

SIZE = (160, 120)
POLICIES = pytest.mark.parametrize("policy", Policy, ids=[each.value for each in Policy])


def two_screens(host: Host) -> None:
    for number in range(2):
        host.display(number).resize(*SIZE)


def show(node: Node, which: int, place: int) -> None:
    """Show one of a few pictures somewhere on each display: clients have seen it before."""
    for number in range(2):
        display = node.host.display(number)
        picture = photo(40, 40, 10.0 * (which % 3) + number)
        display.pixels[place : place + 40, place : place + 40] = picture
        text = np.zeros((12, 60, 4), np.uint8)
        text[:: 2 + which % 3, 1::3] = 255
        display.pixels[100:112, place : place + 60] = text
        display.update()


def check(world: TwoServers, node: Node, client: WorldClient) -> None:
    """The client shows what the guest does, on each display."""
    world.wait(0.05)
    world.run()
    assert not client.seen(NotDrawn)
    for number in range(2):
        shown = node.host.display(number).pixels
        assert client.core.screens[number].snapshot() == Picture(*SIZE, shown.tobytes())


@POLICIES
@pytest.mark.parametrize("compression", ["auto", "glz", "auto_glz", "lz", "off"])
def test_pictures_of_before_and_after_a_move_fit_together(compression: str, policy: Policy) -> None:
    world = TwoServers(two_screens, ServerConfig(compression=compression, lossy="never"))
    world.policy = policy
    here, there = "source", "target"
    anna = world.client()
    for turn in range(4):
        for step in range(8):
            show(world[here], turn + step, 7 * step)
            world.wait(0.05)
        check(world, world[here], anna)
        world.move(here, there)
        here, there = there, here
        check(world, world[here], anna)
        for step in range(8):
            show(world[here], step, 7 * step)
            world.wait(0.05)
        check(world, world[here], anna)
    session = world[here].core.sessions[anna.core.session_id]
    assert not session.caches.awaits_clearing
    if compression in ("glz", "auto_glz"):
        assert session.caches.next_glz > 8
    assert any(len(held.images) for held in session.helds.values())


@POLICIES
def test_a_rough_picture_becomes_exact_after_the_move(policy: Policy) -> None:
    world = TwoServers(two_screens, ServerConfig(lossy="always"))
    world.policy = policy
    anna = world.client()
    show(world["source"], 1, 30)
    world.run()
    world.move("source", "target")
    world.wait(3)
    check(world, world["target"], anna)


def test_sound_goes_on_both_ways() -> None:
    world = TwoServers(lambda host: host.sound(playback=True, record=True))
    here, there = "source", "target"
    anna = world.client()
    world[here].host.playback_start(44100, 2)
    world[here].host.record_start(44100, 2)
    world.run()
    for turn in range(3):
        world[here].host.playback(bytes([turn]) * 1764)
        anna.channel(6).write(bytes([100 + turn]) * 1764, turn)
        world.run()
        assert world[here].seen(SoundRecorded)[-1].data == bytes([100 + turn]) * 1764
        world.move(here, there)
        here, there = there, here
    world[here].host.playback(b"ab" * 882)
    world.run()
    heard = b"".join(event.data for event in anna.seen(SoundPacket))
    assert heard == b"".join(bytes([turn]) * 1764 for turn in range(3)) + b"ab" * 882
    assert len([e for e in anna.seen(SoundStarted) if e.channel == "playback:0"]) == 4


def test_cursors_are_not_mixed_up() -> None:
    world = TwoServers(two_screens)
    here, there = "source", "target"
    anna = world.client()
    for turn in range(4):
        pixels = np.full((8, 8, 4), 50 * turn + 1, np.uint8)
        world[here].host.set_cursor(pixels, 1, 2)
        world.run()
        world.move(here, there)
        here, there = there, here
        for shade in (200, 50 * turn + 1, 201):
            world[here].host.set_cursor(np.full((8, 8, 4), shade, np.uint8), 1, 2)
            world.run()
            shape = anna.core.cursors[0].shape
            assert shape is not None
            assert bytes(shape.data)[:4] == bytes([shade]) * 4
    assert not anna.seen(CursorMissing)


def reader(host: Host) -> None:
    host.smartcard()


@POLICIES
def test_card_messages_come_once_and_in_order(policy: Policy) -> None:
    world = TwoServers(reader)
    world.policy = policy
    here, there = "source", "target"
    anna = world.client()
    anna.channel(8).send_card(CardMessage.READER_ADD, 0xFFFFFFFF, b"reader\0")
    read = answered = b""
    for turn in range(6):
        body = bytes([turn]) * 70
        anna.channel(8).send_card(CardMessage.APDU, 0, body)
        world.run()
        device = world[here].host.smartcard()
        read += device.read(50)
        said = DEVICE_HEADER.pack(CardMessage.APDU, 0, 70) + body
        device.write(said[:30])

        def meanwhile(turn: int = turn) -> None:
            anna.channel(8).send_card(CardMessage.ATR, 0, bytes([turn]))
            world.run()

        world.move(here, there, meanwhile)
        here, there = there, here
        device = world[here].host.smartcard()
        device.write(said[30:])
        world.run()
        read += device.read(5)
        answered = b"".join(event.data for event in anna.seen(CardMessageReceived))
        assert answered == b"".join(bytes([each]) * 70 for each in range(turn + 1))
        anna.channel(8).consumed(1)
    read += world[here].host.smartcard().read()
    expected = DEVICE_HEADER.pack(CardMessage.READER_ADD, 0, 0)
    for turn in range(6):
        expected += DEVICE_HEADER.pack(CardMessage.APDU, 0, 70) + bytes([turn]) * 70
        expected += DEVICE_HEADER.pack(CardMessage.ATR, 0, 1) + bytes([turn])
    assert read == expected


# -- images that clients keep ----------------------------------------------------------------------


def sent(node: Node, client: WorldClient) -> int:
    """Bytes that the display channels of a client were sent."""
    session = node.core.sessions[client.core.session_id]
    return sum(session.connections[2, number].sent_bytes for number in session.helds)


@pytest.mark.parametrize(
    ("policy", "linked"), [(Policy.CARRY, False), (Policy.CARRY, True), (Policy.DIRECT, True)]
)
def test_images_that_a_client_keeps_are_not_sent_again_where_the_servers_have_a_link(
    policy: Policy, linked: bool
) -> None:
    world = TwoServers(two_screens, ServerConfig(compression="lz", lossy="never"), linked=linked)
    world.policy = policy
    anna = world.client()
    here, there = world["source"], world["target"]

    def cycle(node: Node, times: int) -> None:
        for step in range(3 * times):
            for number in range(2):
                display = node.host.display(number)
                display.pixels[20:60, 30:70] = photo(40, 40, 10.0 * (step % 3) + number)
                display.update(30, 20, 40, 40)
            world.wait(0.05)

    cycle(here, 4)
    check(world, here, anna)
    helds = here.core.sessions[anna.core.session_id].helds.values()
    kept = {id for held in helds for id, _ in held.images.kept()}
    assert len(kept) == 6
    world.move("source", "target")
    check(world, there, anna)
    before = sent(there, anna)
    cycle(there, 1)
    check(world, there, anna)
    cost = sent(there, anna) - before
    session = there.core.sessions[anna.core.session_id]
    found = {id for held in session.helds.values() for id, _ in held.images.kept()}
    assert (found >= kept) is linked
    # Three pictures on each display: the client has them, or is sent them again.
    assert cost < 6 * 120 if linked else cost > 6 * 2_000
    assert session.caches.pixels == sum(held.images.pixels for held in session.helds.values())
