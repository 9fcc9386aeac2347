"""A smartcard reader: card messages in any pieces, readers that come and go, limits."""

from __future__ import annotations

import pickle

import pytest

from aiospice.devices.chardev import ClientDropped, GuestFailed
from aiospice.devices.rules import SMARTCARD
from aiospice.devices.smartcard import SmartcardDevice
from aiospice.wire.smartcard import DEVICE_HEADER, MAX_CARD_DATA, CardError, CardMessage

ME, OTHER = 7, 8


def reader(number: int = 2) -> SmartcardDevice:
    device = SmartcardDevice(reader_id=number)
    device.attach()
    device.start()
    return device


def card(kind: int, data: bytes = b"", number: int = 0) -> bytes:
    return DEVICE_HEADER.pack(kind, number, len(data)) + data


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_card_messages_of_the_guest_are_put_together_and_get_the_readers_number(step: int) -> None:
    device = reader()
    device.add_client(ME, 0.0)
    stream = card(CardMessage.INIT, b"ignored") + card(CardMessage.APDU, bytes(range(99)))
    stream += card(CardMessage.FLUSH) + card(CardMessage.ERROR, bytes(4))
    for at in range(0, len(stream), step):
        assert device.guest_writes(stream[at : at + step], 0.0) == len(stream[at : at + step])
        device = pickle.loads(pickle.dumps(device))
    assert [device.take(ME, 0.0) for _ in range(4)] == [
        card(CardMessage.APDU, bytes(range(99)), 2),
        card(CardMessage.FLUSH, b"", 2),
        card(CardMessage.ERROR, bytes(4), 2),
        None,
    ]


def test_a_card_message_that_is_too_long_removes_the_guest_before_it_is_kept() -> None:
    device = reader()
    device.add_client(ME, 0.0)
    device.guest_writes(DEVICE_HEADER.pack(CardMessage.APDU, 0, MAX_CARD_DATA + 1) + b"x", 0.0)
    (event,) = device.events()
    assert isinstance(event, GuestFailed)
    assert event.error.field == "length"
    assert not device.guest_may_write
    assert not device.part


def test_a_reader_is_added_used_and_removed() -> None:
    device = reader()
    device.add_client(ME, 0.0, flow_control=True, send_tokens=1)
    device.card_message(ME, CardMessage.READER_ADD, 0xFFFFFFFF, b"name\0", 0.0)
    device.card_message(ME, CardMessage.INIT, 0, b"", 0.0)
    device.card_message(ME, CardMessage.ATR, 2, b"answer", 0.0)
    device.card_message(ME, CardMessage.READER_REMOVE, 2, b"", 0.0)
    assert device.guest_reads(1000, 0.0) == (
        card(CardMessage.READER_ADD, b"", 2)
        + card(CardMessage.ATR, b"answer", 2)
        + card(CardMessage.READER_REMOVE, b"", 2)
    )
    assert not device.reader_added
    device.card_message(ME, CardMessage.READER_REMOVE, 2, b"", 0.0)
    code = CardError.GENERAL_ERROR.to_bytes(4, "little")
    assert device.take(ME, 0.0) == card(CardMessage.ERROR, code, 2)
    assert device.guest_reads(1000, 0.0) == b""
    client = device.clients[ME]
    assert client.tokens + client.free == SMARTCARD.window


def test_a_client_that_leaves_takes_its_reader_along() -> None:
    device = reader()
    for _ in range(100):  # the guest reads nothing, and nothing piles up
        device.add_client(ME, 0.0)
        if device.credit(ME) > 0:  # else its connection isn't read
            device.card_message(ME, CardMessage.READER_ADD, 0, b"", 0.0)
        device.remove_client(ME)
    assert len(device.guest_reads(10_000, 0.0)) == SMARTCARD.self_tokens * 2 * DEVICE_HEADER.size
    device.add_client(ME, 0.0, flow_control=True)
    device.card_message(ME, CardMessage.READER_ADD, 0, b"", 0.0)
    assert device.guest_reads(1000, 0.0) == card(CardMessage.READER_ADD, b"", 2)
    device.remove_client(ME)
    assert device.guest_reads(1000, 0.0) == card(CardMessage.READER_REMOVE, b"", 2)
    device.add_client(ME, 0.0, flow_control=True)
    device.card_message(ME, CardMessage.READER_ADD, 0, b"", 0.0)
    device.remove_client(ME)
    assert device.guest_reads(1000, 0.0) == b""


def test_a_message_for_a_reader_that_is_not_there_ends_the_client() -> None:
    device = reader()
    device.add_client(ME, 0.0)
    device.card_message(ME, CardMessage.APDU, 3, b"", 0.0)
    (event,) = device.events()
    assert isinstance(event, ClientDropped)
    assert "a message for reader 3, which isn't there" in str(event.error)


def test_a_client_that_asks_and_gives_no_tokens_is_dropped() -> None:
    device = reader()
    device.add_client(ME, 0.0, flow_control=True)
    for _ in range(SMARTCARD.send_queue + 1):
        device.card_message(ME, CardMessage.READER_REMOVE, 0, b"", 0.0)
    (event,) = [event for event in device.events() if isinstance(event, ClientDropped)]
    assert "it doesn't read" in str(event.error)


def test_both_ends_stop_after_a_window() -> None:
    device = reader()
    device.add_client(ME, 0.0, flow_control=True, send_tokens=3)
    stream = card(CardMessage.APDU, b"four") * 10
    assert device.guest_writes(stream, 0.0) == 3 * 16
    for _ in range(SMARTCARD.window):
        device.card_message(ME, CardMessage.APDU, 2, b"four", 0.0)
    assert device.clients[ME].tokens == 0
    assert device.events() == []
    device.card_message(ME, CardMessage.APDU, 2, b"four", 0.0)
    (event,) = device.events()
    assert isinstance(event, ClientDropped)
    assert "without a token" in str(event.error)
