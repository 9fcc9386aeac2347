"""A character device: tokens both ways, buffers, limits, and what a client leaves behind."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiospice.channels.main import AGENT_WINDOW
from aiospice.channels.smartcard import SmartcardChannel
from aiospice.channels.vmc import VmcChannel
from aiospice.devices.chardev import CharDevice, ClientDropped, OfferAgain, TokensReturned
from aiospice.devices.rules import (
    AGENT,
    RETRY_SECONDS,
    SMARTCARD,
    TOKEN_SECONDS,
    VMC,
    VMC_MESSAGE,
    Rules,
)
from aiospice.errors import StateError

SHARED = VMC._replace(clients=0, send_queue=3, keeps=False, joins=False, drops_alone=True)
ME, OTHER = 7, 8


def running(rules: Rules = VMC, **options: Any) -> CharDevice:
    device = CharDevice("port:0", rules, **options)
    device.attach()
    device.start()
    return device


def dropped(device: CharDevice) -> str:
    (event,) = [event for event in device.events() if isinstance(event, ClientDropped)]
    return str(event.error)


# -- the client stops where the guest doesn't read ---------------------------------------------


def test_a_client_has_one_window_until_the_guest_reads() -> None:
    device = running()
    client = device.add_client(ME, 0.0, flow_control=True)
    for number in range(VMC.window):
        device.client_writes(ME, b"%02d" % number)
    assert client.tokens == 0
    assert device.events() == []
    device.client_writes(ME, b"one more")
    assert dropped(device) == (
        f"ClientData: port:0: a message without a token: "
        f"all {VMC.window} of the window are on their way"
    )
    device.client_writes(ME, b"ignored")
    assert device.guest_reads(1 << 20, 0.0) == b"".join(b"%02d" % n for n in range(VMC.window))


def test_tokens_come_back_together_as_the_guest_reads_whole_messages() -> None:
    device = running()
    client = device.add_client(ME, 0.0, flow_control=True)
    for _ in range(VMC.window):
        device.client_writes(ME, b"four")
    assert device.guest_reads(4 * VMC.interval - 1, 0.0)
    assert device.events() == []
    assert (client.tokens, client.free) == (0, VMC.interval - 1)
    assert device.guest_reads(1, 0.0) == b"r"
    assert device.events() == [TokensReturned(ME, VMC.interval)]
    assert (client.tokens, client.free) == (VMC.interval, 0)


def test_a_message_beyond_the_limit_ends_the_client() -> None:
    device = running()
    device.add_client(ME, 0.0, flow_control=True)
    device.client_writes(ME, bytes(VMC.client_limit))
    assert device.events() == []
    device.client_writes(ME, bytes(VMC.client_limit + 1))
    assert f"a message of {VMC.client_limit + 1} bytes, the limit is" in dropped(device)


def test_a_client_without_tokens_is_not_read_while_its_messages_wait() -> None:
    device = running()
    device.add_client(ME, 0.0)
    assert device.credit(ME) == VMC.self_tokens
    for left in range(VMC.self_tokens - 1, -1, -1):
        device.client_writes(ME, b"x")
        assert device.credit(ME) == left
    device.guest_reads(3, 0.0)
    assert device.credit(ME) == 3
    device.client_writes(ME, bytes(VMC.unread))
    assert device.credit(ME) == 0
    device.draining = True
    assert device.credit(ME) > 0


def test_a_message_without_bytes_costs_nothing_for_long() -> None:
    device = running()
    client = device.add_client(ME, 0.0, flow_control=True)
    for _ in range(3 * VMC.window):
        device.client_writes(ME, b"")
    assert client.tokens + client.free == VMC.window
    assert device.guest_may_read == 0


# -- the guest stops where the client doesn't read ---------------------------------------------


def test_the_guest_has_one_window_until_the_client_gives_tokens() -> None:
    device = running()
    device.add_client(ME, 0.0, flow_control=True)
    assert device.guest_writes(b"too early", 0.0) == 0
    device.add_tokens(ME, 4, 0.0, limit=1000)
    assert device.guest_writes(bytes(10_000), 0.0) == 4000
    assert not device.guest_may_write
    taken = [device.take(ME, 0.0) for _ in range(5)]
    assert [None if message is None else len(message) for message in taken] == [1000] * 4 + [None]
    assert device.guest_writes(b"x", 0.0) == 0
    device.add_tokens(ME, 1, 0.0)
    assert device.guest_may_write
    assert device.guest_writes(bytes(10_000), 0.0) == 1000


def test_the_guest_is_not_read_while_a_client_without_tokens_takes_nothing() -> None:
    device = running()
    device.add_client(ME, 0.0)
    size = device.guest_writes(bytes(8 << 20), 0.0)
    assert VMC.outgoing_bytes <= size < VMC.outgoing_bytes + VMC_MESSAGE
    assert device.guest_writes(b"x", 0.0) == 0
    message = device.take(ME, 0.0)
    assert message is not None
    assert len(message) == VMC_MESSAGE
    assert device.guest_writes(b"x", 0.0) == 1


def test_what_waits_for_the_socket_grows_instead_of_costing_a_token_each() -> None:
    device = running()
    client = device.add_client(ME, 0.0, flow_control=True, send_tokens=9)
    for _ in range(5000):
        assert device.guest_writes(b"x", 0.0) == 1
    assert client.send_tokens == 7
    assert device.take(ME, 0.0) == b"x" * 4096
    assert device.take(ME, 0.0) == b"x" * 904


def test_a_guest_without_clients_keeps_its_bytes_or_loses_them_as_the_rules_say() -> None:
    assert running().guest_writes(b"abc", 0.0) == 0
    assert running(SHARED).guest_writes(b"abc", 0.0) == 3


# -- several clients -----------------------------------------------------------------------------


def test_a_client_without_tokens_does_not_hold_up_the_others_and_is_dropped() -> None:
    device = running(SHARED)
    device.add_client(ME, 0.0, flow_control=True, send_tokens=100)
    device.add_client(OTHER, 0.0, flow_control=True, send_tokens=1)
    for number in range(4):
        assert device.guest_writes(b"%d" % number, 0.0) == 1
    assert device.events() == []
    assert device.take(OTHER, 0.0) == b"0"
    assert device.guest_writes(b"4", 0.0) == 1
    assert "it doesn't read: 3 messages wait" in dropped(device)
    assert [device.take(ME, 0.0) for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


def test_messages_that_wait_for_tokens_go_first_when_some_come() -> None:
    device = running(SHARED)
    device.add_client(ME, 0.0, flow_control=True, send_tokens=100)
    other = device.add_client(OTHER, 0.0, flow_control=True)
    for number in range(3):
        device.guest_writes(b"%d" % number, 0.0)
    device.add_tokens(OTHER, 2, 1.0)
    assert [device.take(OTHER, 1.0) for _ in range(3)] == [b"0", b"1", None]
    assert other.send_tokens == 0
    device.add_tokens(OTHER, 2, 1.0)
    device.guest_writes(b"3", 1.0)
    assert [device.take(OTHER, 1.0) for _ in range(3)] == [b"2", b"3", None]


def test_tokens_that_do_not_come_for_30_seconds_end_the_client() -> None:
    device = running(SHARED)
    device.add_client(ME, 0.0, flow_control=True, send_tokens=100)
    device.add_client(OTHER, 0.0, flow_control=True)
    device.guest_writes(b"0", 5.0)
    device.guest_writes(b"1", 6.0)
    assert device.next_wake() == 5.0 + TOKEN_SECONDS
    device.add_tokens(OTHER, 1, 20.0)
    assert device.next_wake() == 20.0 + TOKEN_SECONDS
    device.wake(20.0 + TOKEN_SECONDS)
    assert "a message has waited 30 s" in dropped(device)
    assert device.next_wake() is None


def test_a_stream_of_bytes_has_one_client_at_a_time() -> None:
    device = running()
    device.add_client(ME, 0.0)
    with pytest.raises(StateError, match="has a client already"):
        device.add_client(OTHER, 0.0)


# -- what a client leaves behind -----------------------------------------------------------------


@pytest.mark.parametrize("flow_control", [True, False])
def test_what_a_client_was_not_handed_reaches_the_next_in_order(flow_control: bool) -> None:
    device = running()
    device.add_client(ME, 0.0, flow_control=flow_control, send_tokens=50, limit=1024)
    sent = bytes(range(256)) * 40
    assert device.guest_writes(sent, 0.0) == len(sent)
    first, second = device.take(ME, 0.0), device.take(ME, 0.0)
    assert first is not None
    assert second is not None
    device.remove_client(ME, [second])
    device.guest_writes(b"not before somebody is there", 0.0)
    got = bytearray(first)
    device.add_client(OTHER, 0.0, flow_control=True, send_tokens=1, limit=700)
    assert device.guest_writes(b"not before the rest is gone", 0.0) == 0
    while (message := device.take(OTHER, 0.0)) is not None:
        assert len(message) <= 700
        got += message
        device.add_tokens(OTHER, 1, 0.0)
    assert bytes(got) == sent
    assert device.guest_writes(b"now", 0.0) == 3


def test_what_a_client_has_sent_stays_for_the_guest_and_is_charged_to_the_next() -> None:
    device = running()
    device.add_client(ME, 0.0, flow_control=True)
    for _ in range(VMC.window):
        device.client_writes(ME, b"abcd")
    device.guest_reads(4 * 3 + 2, 0.0)
    device.events()
    device.remove_client(ME)
    client = device.add_client(OTHER, 0.0, flow_control=True)
    assert client.tokens == 3
    assert client.tokens + client.free + device.unread_price(OTHER) == VMC.window
    device.remove_client(OTHER)
    device.add_client(ME, 0.0)
    assert device.credit(ME) == VMC.self_tokens - (VMC.window - 3)
    assert device.guest_reads(1 << 20, 0.0) == b"cd" + b"abcd" * (VMC.window - 4)
    assert device.credit(ME) == VMC.self_tokens


def test_what_a_client_has_sent_to_a_device_of_messages_goes_with_it() -> None:
    device = running(SHARED)
    device.add_client(ME, 0.0, flow_control=True)
    device.add_client(OTHER, 0.0, flow_control=True)
    device.client_writes(ME, b"begun")
    device.client_writes(ME, b"gone")
    device.client_writes(OTHER, b"stays")
    assert device.guest_reads(2, 0.0) == b"be"
    device.remove_client(ME)
    assert device.guest_reads(1 << 20, 0.0) == b"gunstays"
    assert device.events() == []


# -- stopping, waiting, time ---------------------------------------------------------------------


def test_nothing_moves_while_the_machine_stands_still() -> None:
    device = running()
    device.add_client(ME, 0.0, flow_control=True, send_tokens=5)
    device.client_writes(ME, b"abc")
    device.stop()
    assert device.guest_reads(10, 0.0) == b""
    assert device.guest_writes(b"x", 0.0) == 0
    device.client_writes(ME, b"def")
    device.start()
    assert device.guest_reads(10, 0.0) == b"abcdef"
    assert device.guest_writes(b"x", 0.0) == 1


def test_a_client_that_waits_for_its_record_stops_the_device() -> None:
    device = running()
    device.add_client(ME, 0.0, flow_control=True, send_tokens=5, waiting=True)
    device.server_writes(b"x")
    assert device.guest_reads(10, 0.0) == b""
    assert device.guest_writes(b"x", 0.0) == 0
    device.remove_client(ME)
    assert device.guest_reads(10, 0.0) == b"x"
    with pytest.raises(StateError, match="has been in use"):
        device.add_client(ME, 0.0, waiting=True)


def test_a_guest_that_can_not_signal_is_offered_the_rest_again() -> None:
    device = running(signals=False)
    device.add_client(ME, 0.0)
    device.client_writes(ME, b"abcdef")
    assert device.guest_peek(4) == b"abcd"
    device.guest_took(0, 10.0)
    assert device.next_wake() == 10.0 + RETRY_SECONDS
    device.wake(10.0 + RETRY_SECONDS)
    assert device.events() == [OfferAgain()]
    assert device.next_wake() is None
    device.guest_took(2, 11.0)
    assert device.next_wake() == 11.0 + RETRY_SECONDS
    device.guest_took(4, 11.0)
    assert device.next_wake() is None
    with pytest.raises(StateError):
        device.guest_took(1, 11.0)


def test_a_reset_gives_every_client_its_window_and_says_nothing() -> None:
    device = running(SHARED)
    client = device.add_client(ME, 0.0, flow_control=True)
    device.client_writes(ME, b"abc")
    device.server_writes(b"def")
    device.reset()
    assert client.tokens == SHARED.window
    assert device.self_tokens == SHARED.self_tokens
    assert device.guest_may_read == 0
    assert device.events() == []


def test_the_servers_own_messages_need_self_tokens() -> None:
    device = running(VMC._replace(self_tokens=1))
    assert device.server_writes(b"a")
    assert not device.server_writes(b"b")
    assert device.server_writes(b"c", token=False)
    assert device.guest_reads(10, 0.0) == b"ac"
    assert device.server_writes(b"d")


def test_the_page_on_devices_says_what_the_rules_say() -> None:
    page = (Path(__file__).parent.parent / "docs" / "devices.md").read_text(encoding="utf-8")
    rows = {
        name: cells
        for name, *cells in re.findall(
            r"^\| (agent|port, usbredir, webdav|smartcard) \|" + r" ([^|]+) \|" * 5,
            page,
            re.MULTILINE,
        )
    }
    for name, rules, client in (
        ("agent", AGENT, AGENT_WINDOW),
        ("port, usbredir, webdav", VMC, VmcChannel.window),
        ("smartcard", SMARTCARD, SmartcardChannel.window),
    ):
        numbers = [rules.window, rules.interval, rules.client_limit, client]
        assert rows[name][:4] == [str(number) for number in numbers]
        if name != "agent":
            assert rows[name][4] == f"{rules.self_tokens} messages or {rules.unread} bytes"


class Traffic(RuleBasedStateMachine):
    """Whatever happens, tokens are neither made nor lost, bytes keep their order."""

    def __init__(self) -> None:
        super().__init__()
        self.device = running(
            VMC._replace(window=6, interval=3, client_limit=8, message_limit=16, outgoing=5)
        )
        self.now = 0.0
        self.next_id = 1
        self.written = bytearray()
        self.read = bytearray()
        self.given = bytearray()
        self.got = bytearray()
        self.granted = 0
        self.in_hand: list[bytes] = []
        #: What the client knows: tokens told, minus messages sent.
        self.known = 0

    @property
    def client(self) -> int | None:
        return next(iter(self.device.clients), None)

    @precondition(lambda self: self.client is None)
    @rule(flow=st.booleans(), tokens=st.integers(0, 5), limit=st.integers(1, 20))
    def comes(self, flow: bool, tokens: int, limit: int) -> None:
        self.next_id += 1
        added = self.device.add_client(
            self.next_id, self.now, flow_control=flow, send_tokens=tokens, limit=limit
        )
        self.known = added.tokens

    @precondition(lambda self: self.client is not None)
    @rule(handed=st.booleans())
    def leaves(self, handed: bool) -> None:
        if handed:
            self.got += b"".join(self.in_hand)
        assert self.client is not None
        self.device.remove_client(self.client, [] if handed else self.in_hand)
        self.in_hand = []

    @precondition(lambda self: self.client is not None)
    @rule(data=st.binary(max_size=8))
    def sends(self, data: bytes) -> None:
        assert self.client is not None
        client = self.device.clients[self.client]
        if (self.known if client.flow_control else self.device.credit(client.id)) <= 0:
            return
        self.known -= 1
        self.written += data
        self.device.client_writes(client.id, data)

    @rule(count=st.integers(0, 30))
    def guest_reads(self, count: int) -> None:
        self.read += self.device.guest_reads(count, self.now)

    @rule(data=st.binary(max_size=60))
    def guest_writes(self, data: bytes) -> None:
        self.given += data[: self.device.guest_writes(data, self.now)]

    @precondition(lambda self: self.client is not None)
    @rule(count=st.integers(0, 3))
    def tokens(self, count: int) -> None:
        assert self.client is not None
        self.device.add_tokens(self.client, count, self.now)

    @precondition(lambda self: self.client is not None)
    @rule(kept=st.booleans())
    def takes(self, kept: bool) -> None:
        assert self.client is not None
        message = self.device.take(self.client, self.now)
        if message is not None:
            self.in_hand.append(message)
        if not kept:
            self.got += b"".join(self.in_hand)
            self.in_hand = []

    @rule()
    def stops_and_starts(self) -> None:
        self.device.stop()
        assert not self.device.guest_may_write
        self.device.start()

    @invariant()
    def tokens_are_conserved(self) -> None:
        device = self.device = pickle.loads(pickle.dumps(self.device))
        for event in device.events():
            if isinstance(event, TokensReturned) and event.client == self.client:
                self.known += event.count
            assert not isinstance(event, ClientDropped)
        for client in device.clients.values():
            if client.flow_control:
                unread = device.unread_price(client.id)
                assert client.tokens + client.free + unread == client.window
                assert client.tokens == self.known
                assert client.send_tokens >= 0
                assert client.free < device.rules.interval
        assert device.unread_bytes == len(device.waiting_bytes()) <= 128 * 8 + 6 * 8

    @invariant()
    def bytes_keep_their_order(self) -> None:
        device = self.device
        assert bytes(self.read) + device.waiting_bytes() == bytes(self.written)
        outgoing = [client.outgoing for client in device.clients.values()]
        waiting = [*self.in_hand, *(part for parts in outgoing for part in parts), *device.backlog]
        assert bytes(self.got) + b"".join(waiting) == bytes(self.given)


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40)
