"""Agent, inputs, ports and the other channels that carry something: client end."""

from __future__ import annotations

from typing import Any

import pytest
from lz4.block import compress
from tests.script import Play, Server, surface

from aiospice.channels.base import ClientChannel
from aiospice.channels.events import MessageIgnored
from aiospice.channels.inputs import InputsChannel, LocksChanged
from aiospice.channels.main import (
    AGENT_RETURN,
    AGENT_WINDOW,
    AgentConnected,
    AgentDataReceived,
    AgentDisconnected,
    GuestIdentified,
    MainChannel,
    MouseModeChanged,
)
from aiospice.channels.playback import PlaybackChannel, SoundPacket
from aiospice.channels.record import RecordChannel
from aiospice.channels.smartcard import CardMessageReceived, SmartcardChannel
from aiospice.channels.sound import SoundStarted, SoundStopped, VolumeChanged
from aiospice.channels.vmc import (
    CHUNK_BYTES,
    KERNEL_BYTES,
    SERVER_MESSAGES,
    DeviceData,
    PortChannel,
    PortOpened,
    PortStateChanged,
    VmcChannel,
)
from aiospice.client.cursor import CursorHidden
from aiospice.client.moving import ChannelGone
from aiospice.client.screen import ScreenMarked, SurfaceCreated
from aiospice.errors import DecodeError, RemoteProtocolError, StateError
from aiospice.wire import common, cursor, display, inputs, main, playback, recording, smartcard, vmc


@pytest.fixture(params=[0, 1], ids=["whole", "bytewise"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(cut=request.param)


def up(play: Play, *names: str, **init: Any) -> Server:
    play.config["agent"] = False  # pieces are looked at one by one here
    source = play.server("source")
    play.connect(source, *names, **init)
    return source


def channel(play: Play, kind: type[Any], key: tuple[int, int]) -> Any:
    found: ClientChannel = play.core.channels[key]
    assert isinstance(found, kind)
    return found


# -- main ------------------------------------------------------------------------------------------


def test_client_mouse_mode_is_asked_for_when_it_is_there(play: Play) -> None:
    source = up(play, current_mouse_mode=1)
    source.main.gets(main.MouseModeRequest, mode=2)
    play.sees(MouseModeChanged, supported=3, current=1)
    source.main.sends(main.MouseMode(supported_modes=3, current_mode=2))
    source.main.sends(main.MouseMode(supported_modes=1, current_mode=1))
    source.main.gets_nothing()
    source.main.sends(main.MouseMode(supported_modes=3, current_mode=1))
    source.main.gets(main.MouseModeRequest, mode=2)


def test_name_uuid_and_clock(play: Play) -> None:
    source = up(play)
    source.main.sends(main.Name(name=b"vm\xff\0"), main.Uuid(uuid=bytes(range(16))))
    play.sees(GuestIdentified, name="vm\ufffd", uuid="")
    play.sees(GuestIdentified, uuid="00010203-0405-0607-0809-0a0b0c0d0e0f")
    assert play.core.name == "vm\ufffd"
    source.main.sends(main.MultiMediaTime(time=4711))
    assert channel(play, MainChannel, (1, 0)).multi_media_time == (4711, play.now)


def test_an_answer_that_nobody_asked_for_is_ignored(play: Play) -> None:
    source = up(play)
    source.main.sends(main.MigrateDstSeamlessAck())
    play.sees(MessageIgnored, message="MigrateDstSeamlessAck")


# -- agent -----------------------------------------------------------------------------------------


def test_an_agent_that_is_there_from_the_start_is_taken_up_with(play: Play) -> None:
    source = up(play, agent_connected=1, agent_tokens=10)
    source.main.gets(main.AgentStart, num_tokens=AGENT_WINDOW)
    play.sees(AgentConnected)
    assert channel(play, MainChannel, (1, 0)).agent_tokens == 10


def test_agent_data_waits_for_tokens_and_spends_them(play: Play) -> None:
    source = up(play)
    source.main.sends(main.AgentConnectedTokens(num_tokens=2))
    source.main.gets(main.AgentStart)
    for piece in (b"a", b"b", b"c", b"d"):
        channel(play, MainChannel, (1, 0)).agent_send(piece)
    play.run()
    source.main.gets(main.ClientAgentData, data=b"a")
    source.main.gets(main.ClientAgentData, data=b"b")
    source.main.gets_nothing()
    assert channel(play, MainChannel, (1, 0)).agent_queued == 2
    source.main.sends(main.AgentToken(num_tokens=1))
    source.main.gets(main.ClientAgentData, data=b"c")
    source.main.gets_nothing()
    source.main.sends(main.AgentToken(num_tokens=5))
    source.main.gets(main.ClientAgentData, data=b"d")
    assert channel(play, MainChannel, (1, 0)).agent_tokens == 4


def test_agent_data_is_held_until_there_is_an_agent(play: Play) -> None:
    source = up(play)
    channel(play, MainChannel, (1, 0)).agent_send(b"early")
    play.run()
    source.main.gets_nothing()
    source.main.sends(main.AgentConnectedTokens(num_tokens=10))
    source.main.gets(main.AgentStart)
    source.main.gets(main.ClientAgentData, data=b"early")


def test_tokens_are_returned_for_what_the_agent_sends(play: Play) -> None:
    source = up(play, agent_connected=1)
    source.main.skip()
    for number in range(2 * AGENT_RETURN):
        source.main.sends(main.AgentData(data=b"%d" % number))
    assert [event.data for event in play.happened(AgentDataReceived)] == [
        b"%d" % number for number in range(2 * AGENT_RETURN)
    ]
    source.main.gets(main.ClientAgentToken, num_tokens=AGENT_RETURN)
    source.main.gets(main.ClientAgentToken, num_tokens=AGENT_RETURN)
    source.main.gets_nothing()


def test_an_agent_that_goes_takes_its_queue_with_it(play: Play) -> None:
    source = up(play, agent_connected=1, agent_tokens=0)
    source.main.skip()
    channel(play, MainChannel, (1, 0)).agent_send(b"too late")
    source.main.sends(main.AgentDisconnected(error_code=0))
    play.sees(AgentDisconnected)
    source.main.sends(main.AgentConnectedTokens(num_tokens=10))
    source.main.gets(main.AgentStart)
    source.main.gets_nothing()
    play.sees(AgentConnected)


def test_tokens_do_not_overflow(play: Play) -> None:
    source = up(play, agent_connected=1)
    for _ in range(3):
        source.main.sends(main.AgentToken(num_tokens=0xFFFFFFFF))
    assert channel(play, MainChannel, (1, 0)).agent_tokens == 0xFFFFFFFF


# -- inputs ----------------------------------------------------------------------------------------


def test_what_is_pressed_is_known_and_can_be_released(play: Play) -> None:
    source = up(play, "inputs:0")
    board = channel(play, InputsChannel, (3, 0))
    board.key_down(30)
    board.key_down(0x1DE0)
    board.key_down(31)
    board.key_up(30)
    board.press(1)
    board.press(3)
    board.release(1)
    assert list(board.keys_down) == [0x1DE0, 31]
    assert board.buttons == 4
    board.release_all()
    play.run()
    assert not channel(play, InputsChannel, (3, 0)).keys_down
    got = [
        (type(message).__name__, getattr(message, "code", getattr(message, "button", None)))
        for message in source.inputs.skip()
    ]
    assert got == [
        ("KeyDown", 30),
        ("KeyDown", 0x1DE0),
        ("KeyDown", 31),
        ("KeyUp", 30 | 0x80),
        ("MousePress", 1),
        ("MousePress", 3),
        ("MouseRelease", 1),
        ("KeyUp", 0x9DE0),
        ("KeyUp", 31 | 0x80),
        ("MouseRelease", 3),
    ]


def test_a_key_can_be_released_by_its_break_code(play: Play) -> None:
    up(play, "inputs:0")
    board = channel(play, InputsChannel, (3, 0))
    board.key_down(30)
    board.key_up(158)
    assert not board.keys_down


def test_at_most_eight_motions_are_unacknowledged_and_the_rest_adds_up(play: Play) -> None:
    source = up(play, "inputs:0", current_mouse_mode=1)
    board = channel(play, InputsChannel, (3, 0))
    for _ in range(12):
        board.motion(1, -2)
    play.run()
    assert len(source.inputs.skip()) == 8
    assert channel(play, InputsChannel, (3, 0)).pointer_waits
    source.inputs.sends(inputs.MouseMotionAck())
    source.inputs.gets(inputs.MouseMotion, dx=4, dy=-8)
    source.inputs.gets_nothing()


def test_of_positions_only_the_last_one_counts(play: Play) -> None:
    source = up(play, "inputs:0")
    board = channel(play, InputsChannel, (3, 0))
    for number in range(12):
        board.position(number, 2 * number)
    play.run()
    assert len(source.inputs.skip()) == 8
    source.inputs.sends(inputs.MouseMotionAck())
    source.inputs.gets(inputs.MousePosition, x=11, y=22)
    source.inputs.gets_nothing()


def test_a_button_goes_behind_the_motion_before_it(play: Play) -> None:
    source = up(play, "inputs:0")
    board = channel(play, InputsChannel, (3, 0))
    for number in range(10):
        board.position(number, 0)
    board.press(1)
    play.run()
    got = source.inputs.skip()
    assert isinstance(got[-1], inputs.MousePress)
    assert isinstance(got[-2], inputs.MousePosition)
    assert got[-2].x == 9


def test_too_many_motion_acks_do_no_harm(play: Play) -> None:
    source = up(play, "inputs:0")
    source.inputs.sends(*[inputs.MouseMotionAck()] * 5)
    board = channel(play, InputsChannel, (3, 0))
    for number in range(10):
        board.position(number, 0)
    play.run()
    assert len(source.inputs.skip()) == 8


def test_keyboard_lights(play: Play) -> None:
    source = up(play, "inputs:0")
    source.inputs.sends(inputs.Init(keyboard_modifiers=2), inputs.KeyModifiers(modifiers=6))
    play.sees(LocksChanged, locks=2)
    play.sees(LocksChanged, locks=6)
    channel(play, InputsChannel, (3, 0)).set_locks(1)
    play.run()
    source.inputs.gets(inputs.ClientKeyModifiers, modifiers=1)


# -- ports -----------------------------------------------------------------------------------------


def port_up(play: Play) -> Server:
    source = play.server("source")
    play.start(source)
    source.main.sends(source.init())
    source.lists("port:0", "webdav:0", "usbredir:0")
    return source


def test_a_port_holds_its_data_until_the_guest_has_opened_it(play: Play) -> None:
    source = port_up(play)
    channel(play, PortChannel, (10, 0)).write(b"early")
    play.run()
    source.port.gets_nothing()
    source.port.sends(vmc.PortInit(name=b"echo", opened=0))
    play.sees(PortOpened, name="echo", opened=False)
    source.port.gets_nothing()
    source.port.sends(vmc.PortEvent(event=vmc.PortEvents.OPENED))
    play.sees(PortStateChanged, state="opened")
    source.port.gets(vmc.ClientData, data=b"early")
    source.port.sends(vmc.PortEvent(event=vmc.PortEvents.CLOSED))
    channel(play, PortChannel, (10, 0)).write(b"later")
    play.run()
    source.port.gets_nothing()
    with pytest.raises(StateError):
        channel(play, PortChannel, (10, 0)).send_break()
    source.port.sends(vmc.PortEvent(event=vmc.PortEvents.OPENED))
    source.port.gets(vmc.ClientData, data=b"later")
    channel(play, PortChannel, (10, 0)).send_break()
    play.run()
    source.port.gets(vmc.ClientPortEvent, event=vmc.PortEvents.BREAK)


def test_a_closed_port_still_answers_pings(play: Play) -> None:
    source = port_up(play)
    source.port.sends(common.Ping(id=3, timestamp=1, data=b""))
    source.port.gets(common.Pong, id=3)


def test_data_goes_out_in_pieces_and_comes_in_as_it_is(play: Play) -> None:
    source = port_up(play)
    data = bytes(range(256)) * 200
    channel(play, VmcChannel, (9, 0)).write(memoryview(data))
    channel(play, VmcChannel, (9, 0)).write(b"")
    play.run()
    pieces = [message.data for message in source.usbredir.skip()]  # type: ignore[attr-defined]
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) == CHUNK_BYTES
    source.usbredir.sends(vmc.Data(data=b"one"), vmc.Data(data=b""), vmc.Data(data=b"two"))
    assert b"".join(event.data for event in play.happened(DeviceData)) == b"onetwo"
    assert channel(play, VmcChannel, (9, 0)).received_bytes == 6


def test_a_port_that_changes_its_name_is_an_error(play: Play) -> None:
    source = port_up(play)
    source.port.sends(vmc.PortInit(name=b"a", opened=1), vmc.PortInit(name=b"b", opened=1))
    assert "different order" in str(play.sees(ChannelGone).error)


def test_a_repeated_name_is_told_once(play: Play) -> None:
    source = port_up(play)
    source.webdav.sends(*[vmc.PortInit(name=b"a", opened=1)] * 3)
    assert len(play.happened(PortOpened)) == 1
    source.webdav.sends(vmc.PortInit(name=b"a", opened=0))
    assert len(play.happened(PortOpened)) == 2


def test_breaks_and_unknown_events(play: Play) -> None:
    source = port_up(play)
    source.port.sends(vmc.PortEvent(event=2), vmc.PortEvent(event=77))
    play.sees(PortStateChanged, state="break")
    play.sees(MessageIgnored, message="PortEvent")


def squeezed(data: bytes, size: int | None = None) -> vmc.CompressedData:
    return vmc.CompressedData(
        type=vmc.Compression.LZ4,
        uncompressed_size=len(data) if size is None else size,
        data=compress(data, store_size=False),
    )


def test_compressed_data_is_data(play: Play) -> None:
    source = port_up(play)
    data = b"again and " * 500
    source.port.sends(squeezed(data), vmc.CompressedData(type=0, uncompressed_size=0, data=b"raw"))
    assert [event.data for event in play.happened(DeviceData)] == [data, b"raw"]


@pytest.mark.parametrize(
    "message",
    [
        squeezed(b"x" * 100, 99),
        squeezed(b"x" * 100, 101),
        squeezed(b"x" * 100, 0),
        vmc.CompressedData(type=1, uncompressed_size=100, data=b""),
        vmc.CompressedData(type=1, uncompressed_size=100, data=b"\xff" * 50),
        vmc.CompressedData(type=9, uncompressed_size=4, data=b"what"),
    ],
    ids=["less", "more", "zero", "empty", "garbage", "unknown"],
)
def test_bad_compressed_data_ends_the_channel(play: Play, message: vmc.CompressedData) -> None:
    source = port_up(play)
    source.port.sends(message)
    error = play.sees(ChannelGone).error
    assert isinstance(error, RemoteProtocolError)
    assert "port:0" in str(error)
    assert "CompressedData" in str(error)


def test_a_small_message_cannot_grow_beyond_the_limit(play: Play) -> None:
    source = port_up(play)
    body = b"\1" + (0xFFFFFFFF).to_bytes(4, "little") + b"bomb"
    source.port.sends_raw(vmc.CompressedData.number, body)
    assert isinstance(play.sees(ChannelGone).error, DecodeError)


def test_bytes_at_risk_are_those_not_proved_and_no_more_than_fit_on_the_way() -> None:
    play = Play()
    source = port_up(play)
    source.port.sends(vmc.PortInit(name=b"a", opened=1))
    port = channel(play, PortChannel, (10, 0))
    port.write(b"x" * 1000)
    assert port.bytes_at_risk == 0  # queued here: not lost by a hand-over
    play.run()
    port = channel(play, PortChannel, (10, 0))
    assert port.bytes_at_risk == 1000 == port.sent_bytes
    for _ in range(12):
        port = channel(play, PortChannel, (10, 0))
        port.write(bytes(1 << 20))
        play.run()
    port = channel(play, PortChannel, (10, 0))
    assert port.sent_bytes == 1000 + (12 << 20)
    assert port.bytes_at_risk == KERNEL_BYTES + SERVER_MESSAGES * CHUNK_BYTES


# -- the others ------------------------------------------------------------------------------------


def test_drawing_reaches_the_screen(play: Play) -> None:
    source = up(play, "display:0", "display:1")
    source.display.sends(surface(8, 6), display.Mark())
    assert play.sees(SurfaceCreated).display == 0
    play.sees(ScreenMarked)
    picture = play.core.screens[0].snapshot()
    assert (picture.width, picture.height) == (8, 6)


def test_a_screen_that_is_shared_by_descriptor_says_what_to_do(play: Play) -> None:
    source = up(play, "display:0")
    source.display.sends_raw(display.GlDraw.number, bytes(20))
    assert "gl=on" in str(play.sees(ChannelGone).error)


def test_forgetting_all_images_waits_for_the_other_display(play: Play) -> None:
    source = up(play, "display:0", "display:1")
    waits = (common.WaitForChannel(channel_type=2, channel_id=1, message_serial=1),)
    source.display.sends(display.InvalAllPixmaps(waits=waits), surface())
    play.sees_no(SurfaceCreated)
    source["display:1"].sends(common.Ping(id=1, timestamp=1, data=b""))
    play.sees(SurfaceCreated)


def test_the_pointer_reaches_its_tracker(play: Play) -> None:
    source = up(play, "cursor:0")
    source.cursor.sends(cursor.Hide())
    play.sees(CursorHidden)


def test_sound_from_the_guest(play: Play) -> None:
    source = up(play, "playback:0")
    source.playback.sends(
        playback.Mode(time=1, mode=1, data=b""),
        playback.Start(channel_count=2, format=1, frequency=48000, time=10),
        playback.Data(time=11, data=b"samples"),
        playback.Volume(volume=(1, 2)),
        playback.Mute(mute=1),
        playback.Latency(latency_ms=40),
        playback.Stop(),
    )
    play.sees(SoundStarted, channels=2, frequency=48000)
    play.sees(SoundPacket, time=11, data=b"samples", mode=1)
    play.sees(VolumeChanged, volume=(1, 2), muted=False)
    play.sees(VolumeChanged, volume=(1, 2), muted=True)
    play.sees(SoundStopped)
    assert channel(play, PlaybackChannel, (5, 0)).latency == 40


def test_sound_to_the_guest_only_while_it_listens(play: Play) -> None:
    source = up(play, "record:0")
    with pytest.raises(StateError):
        channel(play, RecordChannel, (6, 0)).write(b"?", 0)
    source.record.sends(recording.Start(channel_count=1, format=1, frequency=44100))
    play.sees(SoundStarted, channel="record:0", frequency=44100)
    channel(play, RecordChannel, (6, 0)).write(b"one", 5)
    channel(play, RecordChannel, (6, 0)).write(b"two", 6)
    play.run()
    source.record.gets(recording.Mode, time=5)
    source.record.gets(recording.StartMark, time=5)
    source.record.gets(recording.Data, time=5, data=b"one")
    source.record.gets(recording.Data, time=6, data=b"two")
    source.record.sends(recording.Volume(volume=(9,)), recording.Mute(mute=0), recording.Stop())
    play.sees(VolumeChanged, volume=(9,))
    play.sees(SoundStopped)
    with pytest.raises(StateError):
        channel(play, RecordChannel, (6, 0)).write(b"?", 0)


def test_card_messages_both_ways(play: Play) -> None:
    source = up(play, "smartcard:0")
    source.smartcard.sends(smartcard.Data(type=7, reader_id=1, data=b"apdu"))
    play.sees(CardMessageReceived, type=7, reader_id=1, data=b"apdu")
    channel(play, SmartcardChannel, (8, 0)).send_card(1, 0, b"reader")
    play.run()
    source.smartcard.gets(smartcard.ClientData, type=1, reader_id=0, data=b"reader")
