"""Keys, pointer, cursor, sound and the mouse mode, between a guest and its clients."""

from __future__ import annotations

import numpy as np
import pytest
from tests.server_pair import ServerPair

from aiospice.aio.opus import OpusCodecs, OpusEncoder
from aiospice.channels.inputs import LocksChanged
from aiospice.channels.main import MouseModeChanged
from aiospice.channels.playback import SoundPacket
from aiospice.channels.server.cursor import CACHE_SHAPES
from aiospice.channels.server.inputs import (
    ButtonChanged,
    KeyChanged,
    LocksRequested,
    MouseMoved,
    PointerPlaced,
)
from aiospice.channels.server.record import SoundRecorded
from aiospice.channels.sound import SoundStarted, SoundStopped, VolumeChanged
from aiospice.client.cursor import CursorChanged, CursorHidden, CursorMissing, CursorMoved
from aiospice.server.config import ServerConfig
from aiospice.server.guest import Host
from aiospice.wire import cursor, inputs
from aiospice.wire.playback import DataMode
from aiospice.wire.shapes import Point16

CUTS = pytest.mark.parametrize("cut", [0, 1], ids=["whole", "byte-by-byte"])


@CUTS
def test_keys_reach_the_guest_in_order(cut: int) -> None:
    pair = ServerPair(cut=cut)
    keys = pair.client().channel(3)
    for code in (0x1E, 0x48E0, 0x1C):
        keys.key_down(code)
        keys.key_up(code)
    pair.run()
    assert [(event.code, event.pressed) for event in pair.seen(KeyChanged)] == [
        (0x1E, True),
        (0x1E, False),
        (0xE048, True),
        (0xE048, False),
        (0x1C, True),
        (0x1C, False),
    ]


@CUTS
def test_raw_scancodes_are_put_together_to_keys(cut: int) -> None:
    pair = ServerPair(cut=cut)
    keys = pair.client().channel(3)
    pause = b"\xe1\x1d\x45\xe1\x9d\xc5"
    for part in (b"\x1e\x9e", b"\xe0", b"\x5b\xe0\xdb", pause[:2], pause[2:], b"\x00"):
        keys.send(inputs.KeyScancode(codes=part))
    pair.run()
    assert [(event.code, event.pressed) for event in pair.seen(KeyChanged)] == [
        (0x1E, True),
        (0x1E, False),
        (0xE05B, True),
        (0xE05B, False),
        (0xE11D45, True),
        (0xE11D45, False),
    ]


def test_what_a_client_holds_is_released_when_it_leaves() -> None:
    pair = ServerPair()
    anna = pair.client()
    anna.channel(3).key_down(0x2A)
    anna.channel(3).key_down(0x1E)
    anna.channel(3).press(1)
    anna.channel(3).press(3)
    pair.run()
    pair.events.clear()
    anna.leave()
    assert [(event.code, event.pressed) for event in pair.seen(KeyChanged)] == [
        (0x2A, False),
        (0x1E, False),
    ]
    assert [(event.button, event.buttons) for event in pair.seen(ButtonChanged)] == [(1, 4), (3, 0)]


@CUTS
def test_the_pointer_and_its_buttons_reach_the_guest(cut: int) -> None:
    pair = ServerPair(cut=cut)
    mouse = pair.client().channel(3)
    mouse.position(10, 20)
    mouse.press(1)
    mouse.position(11, 21, 0)
    mouse.release(1)
    mouse.motion(-3, 4)
    pair.run()
    assert [(event.x, event.y, event.buttons) for event in pair.seen(PointerPlaced)] == [
        (10, 20, 0),
        (11, 21, 1),
    ]
    assert [(event.dx, event.dy) for event in pair.seen(MouseMoved)] == [(-3, 4)]
    assert [(event.button, event.pressed) for event in pair.seen(ButtonChanged)] == [
        (1, True),
        (1, False),
    ]


def test_motion_is_acknowledged_so_that_it_never_stops() -> None:
    pair = ServerPair()
    mouse = pair.client().channel(3)
    for x in range(100):
        mouse.position(x, 0)
        pair.run()
    assert [event.x for event in pair.seen(PointerPlaced)] == list(range(100))


def test_locks_go_both_ways() -> None:
    pair = ServerPair()
    anna = pair.client()
    anna.channel(3).set_locks(inputs.Locks.CAPS_LOCK)
    pair.run()
    assert [event.locks for event in pair.seen(LocksRequested)] == [4]
    pair.host.set_locks(4)
    pair.run()
    assert [event.locks for event in anna.seen(LocksChanged)] == [0, 4]
    assert [event.locks for event in pair.client().seen(LocksChanged)] == [4]


def test_a_client_that_does_not_read_is_told_the_newest_locks_only() -> None:
    pair = ServerPair()
    anna = pair.client()
    channel = anna.served.channels[3, 0]
    for locks in (1, 2, 3, 4, 5):
        pair.host.set_locks(locks)
    assert channel.queued <= 2
    pair.run()
    assert [event.locks for event in anna.seen(LocksChanged)][-1] == 5


def test_a_guest_without_absolute_pointer_has_the_server_mouse_mode() -> None:
    pair = ServerPair()
    anna = pair.client()
    pair.host.mouse_modes(absolute=False)
    pair.run()
    assert [(event.supported, event.current) for event in anna.seen(MouseModeChanged)][-1] == (1, 1)
    pair.host.mouse_modes(absolute=True)
    pair.run()
    # It may have the client mode again, and asks for it.
    assert [(event.supported, event.current) for event in anna.seen(MouseModeChanged)][-1] == (3, 2)


@CUTS
def test_sound_is_heard_as_it_was_played(cut: int) -> None:
    pair = ServerPair(cut=cut)
    pair.host.sound()
    pair.host.set_volume((1000, 2000), muted=False)
    anna = pair.client()
    pair.host.playback_start(44100, 2)
    pair.run()
    for number in range(5):
        pair.host.playback(bytes([number]) * 1764)
        pair.run()
    pair.host.playback_stop()
    pair.run()
    (started,) = anna.seen(SoundStarted)
    assert (started.frequency, started.channels) == (44100, 2)
    assert anna.seen(SoundStopped)
    assert anna.seen(VolumeChanged)[-1].volume == (1000, 2000)
    assert b"".join(event.data for event in anna.seen(SoundPacket)) == b"".join(
        bytes([number]) * 1764 for number in range(5)
    )


def test_a_client_that_comes_while_sound_plays_hears_the_rest() -> None:
    pair = ServerPair(ServerConfig(on_second_client="share"))
    pair.host.sound()
    pair.host.playback_start()
    anna = pair.client()
    assert anna.seen(SoundStarted)


def test_sound_goes_as_opus_where_both_can() -> None:
    pair = ServerPair(ServerConfig(opus=True))
    pair.host = Host(pair.core, lambda: None, OpusCodecs())
    pair.host.sound()
    anna = pair.client()
    pair.host.playback_start()
    for _ in range(10):
        pair.host.playback(bytes(3840))
        pair.run()
    packets = anna.seen(SoundPacket)
    takes = anna.served.channels[5, 0].takes_opus
    assert {packet.mode for packet in packets} == {DataMode.OPUS if takes else DataMode.RAW}


def test_a_guest_hears_the_client() -> None:
    pair = ServerPair()
    pair.host.sound(record=True)
    anna = pair.client()
    pair.host.record_start()
    pair.run()
    anna.channel(6).write(b"\1\2" * 960, 5)
    pair.run()
    (event,) = pair.seen(SoundRecorded)
    assert pair.host.heard(event) == b"\1\2" * 960
    packets = OpusEncoder(2).encode(bytes(1920))
    packed = event.replace(mode=DataMode.OPUS, data=packets[0])
    pair.host = Host(pair.core, lambda: None, OpusCodecs())
    assert len(pair.host.heard(packed)) <= 1920
    assert pair.host.heard(packed.replace(data=b"")) == b""


def test_sound_for_a_client_that_does_not_read_is_left_out_oldest_first() -> None:
    pair = ServerPair(freezes=False)
    pair.host.sound()
    anna = pair.client()
    pair.host.playback_start(48000, 2)
    channel = anna.served.channels[5, 0]
    for _ in range(1000):
        pair.host.playback(bytes(3840))
    assert channel.queued_bytes <= 48000 * 2 * 2 // 2 + 100


def shapes(pair: ServerPair, count: int) -> None:
    """Show so many cursors, one after the other."""
    for number in range(count):
        pixels = np.full((16, 16, 4), number % 256, np.uint8)
        pair.host.set_cursor(pixels, 1, 2)
        pair.run()


def test_cursors_are_cached_and_the_oldest_leave() -> None:
    pair = ServerPair(freezes=False)
    pair.host.display(0)
    anna = pair.client(channels=("cursor",))
    channel = anna.served.channels[4, 0]
    shapes(pair, 2 * CACHE_SHAPES)
    assert len(channel.cached) == CACHE_SHAPES
    assert len(anna.seen(CursorChanged)) == 2 * CACHE_SHAPES
    assert not anna.seen(CursorMissing)


def test_a_cursor_moves_without_being_sent_again() -> None:
    pair = ServerPair(freezes=False)
    pair.host.display(0)
    anna = pair.client(channels=("cursor",))
    shapes(pair, 1)
    before = pair.pipe((4, 0)).received
    pair.host.move_cursor(30, 40)
    pair.run()
    assert pair.pipe((4, 0)).received - before == 6 + len(
        cursor.Move(position=Point16(x=30, y=40)).body()
    )
    assert [(event.x, event.y) for event in anna.seen(CursorMoved)][-1] == (30, 40)
    pair.host.hide_cursor()
    pair.run()
    assert anna.seen(CursorHidden)
