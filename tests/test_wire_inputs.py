"""Inputs, sound and smartcard messages: their bytes, numbers and limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.errors import DecodeError, LocalError
from aiospice.wire import inputs, playback, recording, smartcard
from aiospice.wire.message import CLIENT, SERVER, Message, Sender
from aiospice.wire.registry import find, message_name


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (inputs.Init(keyboard_modifiers=inputs.Locks.NUM_LOCK), "0200"),
        (inputs.KeyModifiers(modifiers=inputs.Locks.CAPS_LOCK), "0400"),
        (inputs.MouseMotionAck(), ""),
        (inputs.KeyDown(code=0x1E), "1e000000"),
        (inputs.KeyUp(code=0xC8E0), "e0c80000"),
        (inputs.ClientKeyModifiers(modifiers=7), "0700"),
        (inputs.KeyScancode(codes=b"\x1e\x9e"), "1e9e"),
        (inputs.MouseMotion(dx=-1, dy=2, buttons_state=1), "ffffffff 02000000 0100"),
        (
            inputs.MousePosition(x=640, y=480, buttons_state=inputs.Buttons.EXTRA, display_id=1),
            "80020000 e0010000 4000 01",
        ),
        (inputs.MousePress(button=inputs.Button.LEFT, buttons_state=1), "01 0100"),
        (inputs.MouseRelease(button=inputs.Button.EXTRA, buttons_state=0), "07 0000"),
        (playback.Data(time=1, data=b"ab"), "01000000 6162"),
        (playback.Mode(time=1, mode=playback.DataMode.OPUS, data=b""), "01000000 0300"),
        (
            playback.Start(channel_count=2, format=playback.Format.S16, frequency=48000, time=255),
            "02000000 0100 80bb0000 ff000000",
        ),
        (playback.Stop(), ""),
        (playback.Volume(volume=(65535, 256)), "02 ffff 0001"),
        (playback.Mute(mute=1), "01"),
        (playback.Latency(latency_ms=200), "c8000000"),
        (
            recording.Start(channel_count=2, format=playback.Format.S16, frequency=44100),
            "02000000 0100 44ac0000",
        ),
        (recording.Stop(), ""),
        (recording.Volume(volume=()), "00"),
        (recording.Mute(mute=0), "00"),
        (recording.Data(time=1, data=b"ab"), "01000000 6162"),
        (recording.Mode(time=1, mode=playback.DataMode.RAW, data=b""), "01000000 0100"),
        (recording.StartMark(time=7), "07000000"),
        (
            smartcard.Data(type=smartcard.CardMessage.APDU, reader_id=1, data=b"\0\xa4"),
            "07000000 01000000 02000000 00a4",
        ),
        (
            smartcard.ClientData(
                type=smartcard.CardMessage.READER_ADD,
                reader_id=smartcard.UNDEFINED_READER,
                data=b"r\0",
            ),
            "03000000 ffffffff 02000000 7200",
        ),
    ],
)
def test_bodies(message: Message, body: str) -> None:
    assert message.body() == bytes.fromhex(body)
    assert type(message).parse(bytes.fromhex(body)) == message


@pytest.mark.parametrize(
    ("channel", "sender", "names"),
    [
        (3, SERVER, {101: "Init", 102: "KeyModifiers", 111: "MouseMotionAck"}),
        (
            3,
            CLIENT,
            {
                101: "KeyDown",
                102: "KeyUp",
                103: "ClientKeyModifiers",
                104: "KeyScancode",
                111: "MouseMotion",
                112: "MousePosition",
                113: "MousePress",
                114: "MouseRelease",
            },
        ),
        (
            5,
            SERVER,
            {
                101: "Data",
                102: "Mode",
                103: "Start",
                104: "Stop",
                105: "Volume",
                106: "Mute",
                107: "Latency",
            },
        ),
        (6, SERVER, {101: "Start", 102: "Stop", 103: "Volume", 104: "Mute"}),
        (6, CLIENT, {101: "Data", 102: "Mode", 103: "StartMark"}),
        (8, SERVER, {101: "Data"}),
        (8, CLIENT, {101: "ClientData"}),
    ],
)
def test_numbers(channel: int, sender: Sender, names: dict[int, str]) -> None:
    declared = {
        number: message_name(channel, sender, number)
        for number in range(101, 250)
        if find(channel, sender, number)
    }
    assert declared == names


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        (playback.Start, "21000000 0100 80bb0000 00000000", "channel_count"),
        (playback.Start, "02000000 0100 ffffffff 00000000", "frequency"),
        (recording.Start, "02000000 0100 ffffffff", "frequency"),
        (playback.Volume, "03 ffff ffff", "volume"),
        (smartcard.Data, "07000000 00000000 01000200", "length"),
        (smartcard.Data, "07000000 00000000 02000000 00", "data"),
        (inputs.MousePress, "01 01", "buttons_state"),
    ],
)
def test_what_is_too_much_is_named(kind: type[Message], body: str, field: str) -> None:
    with pytest.raises(DecodeError) as caught:
        kind.parse(bytes.fromhex(body))
    assert (caught.value.message, caught.value.field) == (kind.__name__, field)


def test_scancodes_come_in_a_bounded_number() -> None:
    assert len(inputs.KeyScancode.parse(bytes(4096)).codes) == 4096
    with pytest.raises(DecodeError, match="4096"):
        inputs.KeyScancode.parse(bytes(4097))


def test_values_that_do_not_fit_are_not_written() -> None:
    with pytest.raises(LocalError, match="dx"):
        inputs.MouseMotion(dx=1 << 31, dy=0, buttons_state=0).body()
    with pytest.raises(LocalError):
        smartcard.Data(type=7, reader_id=0, data=bytes(smartcard.MAX_CARD_DATA + 1)).body()


def test_a_card_message_is_big_endian_on_the_device() -> None:
    message = smartcard.ClientData(type=7, reader_id=0, data=b"ab")
    header = smartcard.DEVICE_HEADER.pack(message.type, message.reader_id, len(message.data))
    assert header.hex() == "000000070000000000000002"


def test_buttons_and_their_bits_belong_together() -> None:
    for button in inputs.Button:
        if button:
            assert inputs.Buttons[button.name] == 1 << (button - 1)


@given(st.lists(st.integers(0, 0xFFFF), max_size=255))
def test_a_volume_has_up_to_255_channels(volume: list[int]) -> None:
    message = playback.Volume(volume=tuple(volume))
    assert playback.Volume.parse(message.body()) == message
