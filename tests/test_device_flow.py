"""Tokens on every device, our client against our server: who doesn't read stops the other.

Everything is counted, both ways: the cores of a client's session and of the server are joined in
memory, whole and one byte at a time, and pickled as they go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.server_pair import PIPE, PairClient, ServerPair

from aiospice.channels import tokens
from aiospice.channels import vmc as vmc_channel
from aiospice.channels.main import (
    AGENT_RETURN,
    AGENT_WINDOW,
    AgentConnected,
    AgentDataReceived,
    AgentDisconnected,
)
from aiospice.channels.server.vmc import PortSignalled
from aiospice.channels.smartcard import CardMessageReceived
from aiospice.channels.vmc import CHUNK_BYTES, DeviceData, VmcChannel
from aiospice.channels.vmc import PortStateChanged as PortState
from aiospice.client.connections import CHANNEL_CAPS
from aiospice.devices.rules import AGENT, SMARTCARD, VMC
from aiospice.server.config import ServerConfig
from aiospice.server.events import (
    ClientDisconnected,
    DeviceFailed,
    DeviceWritable,
    ServerChannelClosed,
)
from aiospice.server.guest import Guest, HostDevice, dispatch
from aiospice.wire import main, smartcard, vmc
from aiospice.wire.agent_stream import CHUNK_HEADER, HEADER, MAX_AGENT_DATA, pack_message
from aiospice.wire.caps import VmcCap
from aiospice.wire.smartcard import DEVICE_HEADER, CardMessage
from aiospice.wire.tokens import LEAST_MESSAGE

DEVICES: dict[str, Callable[[Any], HostDevice]] = {
    "port": lambda host: host.port("org.example.port"),
    "usbredir": lambda host: host.usbredir(),
    "webdav": lambda host: host.webdav(),
}
STREAMS = pytest.mark.parametrize("kind", list(DEVICES))


#: Messages byte by byte are small ones.
SMALL = 64


@pytest.fixture(params=[0, 1], ids=["whole", "bytewise"])
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    if request.param:
        monkeypatch.setattr(vmc_channel, "CHUNK_BYTES", SMALL)
        monkeypatch.setattr(vmc_channel, "GROWS_TO", SMALL)
    return int(request.param)


def size_of(cut: int) -> int:
    return SMALL if cut else CHUNK_BYTES


def stage(kind: str, cut: int = 0, **config: Any) -> tuple[ServerPair, HostDevice, PairClient]:
    pair = ServerPair(ServerConfig(**config), cut=cut)
    device = DEVICES[kind](pair.host)
    device.opened = True
    if cut:
        pair.core.devices[device.key].core.rules = VMC._replace(message_limit=SMALL)
    return pair, device, pair.client()


def data_of(client: PairClient) -> bytes:
    return b"".join(event.data for event in client.seen(DeviceData))


def numbers(count: int, size: int = CHUNK_BYTES) -> bytes:
    """Bytes that are different everywhere."""
    return b"".join(number.to_bytes(8, "big") for number in range(count * size // 8))


# -- streams of bytes ------------------------------------------------------------------------------


@STREAMS
def test_a_guest_that_does_not_read_stops_the_client_after_one_window(kind: str, cut: int) -> None:
    pair, device, client = stage(kind, cut)
    channel: VmcChannel = client.channel(*device.key)
    size = size_of(cut)
    sent = numbers(VMC.window + 20, size)
    channel.write(sent)
    pair.run()
    assert device.readable == VMC.window * size
    assert channel.sent_bytes == VMC.window * size
    assert channel.queued_bytes == 20 * size
    assert channel.bytes_at_risk == VMC.window * size
    assert channel.flow is not None
    assert channel.flow.tokens == 0
    # Less than what is given back together changes nothing; the last byte of it does.
    got = device.read(VMC.interval * size - 1)
    pair.run()
    assert channel.sent_bytes == VMC.window * size
    got += device.read(1)
    pair.run()
    assert channel.sent_bytes == (VMC.window + VMC.interval) * size
    while data := device.read():
        got += data
        pair.run()
    assert got == sent
    assert channel.bytes_at_risk < VMC.interval * size


@STREAMS
def test_a_client_that_does_not_read_stops_the_guest_after_one_window(kind: str, cut: int) -> None:
    pair, device, client = stage(kind, cut)
    channel: VmcChannel = client.channel(*device.key)
    size = size_of(cut)
    sent = numbers(channel.window + 20, size)
    done = 0
    while taken := device.write(sent[done:]):
        done += taken
        pair.run()
    assert done == channel.window * size
    assert len(data_of(client)) == done
    assert not device.writable
    channel.consumed(channel.interval * size - 1)
    pair.run()
    assert not device.writable
    assert not pair.seen(DeviceWritable)
    channel.consumed(1)
    pair.run()
    assert pair.seen(DeviceWritable)
    assert device.write(sent[done:]) == channel.interval * size


@STREAMS
def test_bytes_pass_both_ways_while_both_read(kind: str) -> None:
    pair, device, client = stage(kind)
    channel: VmcChannel = client.channel(*device.key)
    there, back = numbers(300), numbers(250)[::-1]
    channel.write(there)
    read = bytearray()
    written = consumed = 0
    while len(read) < len(there) or len(data_of(client)) < len(back):
        read += device.read(70_001)
        written += device.write(back[written : written + 60_001])
        pair.run()
        channel.consumed(len(data_of(client)) - consumed)
        consumed = len(data_of(client))
        pair.run()
    assert bytes(read) == there
    assert data_of(client) == back
    flow = channel.flow
    assert flow is not None
    assert flow.granted + flow.due + flow.used == flow.window


def test_many_small_writes_take_few_tokens() -> None:
    pair, device, client = stage("port")
    channel: VmcChannel = client.channel(*device.key)
    channel.write(bytes(VMC.window * CHUNK_BYTES))
    pair.run()
    for _ in range(5000):
        channel.write(b"ab")
    device.read(VMC.interval * CHUNK_BYTES)
    pair.run()
    assert not channel.queued_bytes
    assert channel.flow is not None
    assert channel.flow.tokens == VMC.interval - 3


def test_what_is_stopped_does_not_stop_what_needs_no_token() -> None:
    pair, device, client = stage("port")
    channel = client.channel(*device.key)
    channel.write(bytes(2 * VMC.window * CHUNK_BYTES))
    while device.write(bytes(100_000)):
        pair.run()
    device.opened = False
    pair.run()
    assert not channel.gate_open
    device.opened = True
    pair.run()
    assert channel.gate_open


# -- clients without tokens, as upstream's -------------------------------------------------------


@pytest.fixture
def without_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHANNEL_CAPS, 10, (VmcCap.DATA_COMPRESS_LZ4,))
    monkeypatch.setattr(tokens, "TOKENS", 40)


@pytest.mark.usefixtures("without_tokens")
@pytest.mark.parametrize(
    ("size", "messages"), [(1000, VMC.self_tokens), (CHUNK_BYTES, VMC.unread // CHUNK_BYTES)]
)
def test_the_socket_of_a_client_without_tokens_is_paused_after_so_many_messages(
    size: int, messages: int
) -> None:
    pair, device, client = stage("port")
    channel: VmcChannel = client.channel(*device.key)
    assert channel.flow is None
    sent = numbers(messages + 300, size)
    for at in range(0, len(sent), size):
        channel.write(sent[at : at + size])
    pair.run()
    assert device.readable == messages * size
    assert pair.pipe(device.key).server_paused
    got = device.read(10 * size)
    pair.run()
    assert device.readable == messages * size
    while data := device.read():
        got += data
        pair.run()
    assert got == sent
    assert not pair.pipe(device.key).server_paused


@pytest.mark.usefixtures("without_tokens")
def test_a_client_without_tokens_that_does_not_read_its_socket_stops_the_guest() -> None:
    pair, device, client = stage("port")
    client.deaf = {10}
    sent = numbers(400)
    done = 0
    while taken := device.write(sent[done:]):
        done += taken
        pair.run()
    assert done < VMC.outgoing_bytes + PIPE + (512 << 10)
    client.deaf = set()
    pair.run()
    while done < len(sent):
        done += device.write(sent[done:])
        pair.run()
    assert data_of(client) == sent


def test_a_break_goes_both_ways_behind_what_was_written() -> None:
    pair, device, client = stage("port")
    device.write(b"before")
    device.send_break()
    client.channel(*device.key).send_break()
    pair.run()
    kinds = [type(event) for event in client.events if isinstance(event, (DeviceData, PortState))]
    assert kinds == [DeviceData, PortState]
    (event,) = pair.seen(PortSignalled)
    heard: list[str] = []

    class Listens(Guest):
        def device_break(self, device: HostDevice) -> None:
            heard.append(device.name)

    dispatch(Listens(), pair.host, event)
    assert heard == [device.name]


# -- smartcard ---------------------------------------------------------------------------------


def test_smartcards_stop_both_ends_after_one_window(cut: int) -> None:
    pair = ServerPair(cut=cut)
    device = pair.host.smartcard()
    client = pair.client()
    channel = client.channel(8)
    for number in range(SMARTCARD.window + 5):
        channel.send_card(CardMessage.APDU, 0, bytes([number]))
    pair.run()
    assert device.readable == SMARTCARD.window * (DEVICE_HEADER.size + 1)
    assert channel.queued_bytes == 5 * (DEVICE_HEADER.size + 1)
    assert device.read(13 * SMARTCARD.interval)
    pair.run()
    assert device.readable == SMARTCARD.window * (DEVICE_HEADER.size + 1)
    assert channel.queued_bytes == (5 - SMARTCARD.interval) * (DEVICE_HEADER.size + 1)
    card = DEVICE_HEADER.pack(CardMessage.APDU, 0, 4) + b"data"
    assert device.write(card * (channel.window + 5)) == channel.window * len(card)
    pair.run()
    assert len(client.seen(CardMessageReceived)) == channel.window
    channel.consumed(channel.interval)
    pair.run()
    assert device.write(card * 20) == channel.interval * len(card)


def test_a_guest_that_breaks_the_smartcards_protocol_is_told_of_and_may_open_again() -> None:
    pair = ServerPair()
    device = pair.host.smartcard()
    device.opened = True
    client = pair.client()
    device.write(DEVICE_HEADER.pack(CardMessage.APDU, 0, 1 << 30))
    pair.run()
    (event,) = pair.seen(DeviceFailed)
    assert "1073741824 bytes, the limit is" in str(event.error)
    assert not device.writable
    device.opened = False
    device.opened = True
    device.write(DEVICE_HEADER.pack(CardMessage.APDU, 0, 1) + b"x")
    pair.run()
    (got,) = client.seen(CardMessageReceived)
    assert got.data == b"x"


# -- the agent ---------------------------------------------------------------------------------


def agent_pair(cut: int = 0) -> tuple[ServerPair, HostDevice, PairClient]:
    pair = ServerPair(cut=cut)
    device = pair.host.agent()
    device.opened = True
    return pair, device, pair.client(agent=False)


def test_an_agent_that_does_not_read_stops_the_client_after_10_messages(cut: int) -> None:
    pair, device, client = agent_pair(cut)
    channel = client.channel(1)
    message = pack_message(77, bytes(20 * MAX_AGENT_DATA - HEADER.size))
    for at in range(0, len(message), MAX_AGENT_DATA):
        channel.agent_send(message[at : at + MAX_AGENT_DATA])
    pair.run()
    chunk = CHUNK_HEADER.size + MAX_AGENT_DATA
    assert device.readable == AGENT.window * chunk
    assert channel.agent_queued == 10
    device.read(AGENT.interval * chunk - 1)
    pair.run()
    assert channel.agent_queued == 10
    device.read(1)
    pair.run()
    assert channel.agent_queued == 5
    assert device.readable == AGENT.window * chunk


def test_a_client_that_does_not_deal_with_the_agents_data_stops_the_agent(
    cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, device, client = agent_pair(cut)
    channel = client.channel(1)
    consumed = channel.agent_consumed
    monkeypatch.setattr(channel, "agent_consumed", lambda count=1: None)
    message = pack_message(77, bytes(100 * MAX_AGENT_DATA - HEADER.size))
    stream = CHUNK_HEADER.pack(1, len(message)) + message
    done = 0
    while taken := device.write(stream[done:]):
        done += taken
        pair.run()
    assert done == CHUNK_HEADER.size + AGENT_WINDOW * MAX_AGENT_DATA
    assert len(client.seen(AgentDataReceived)) == AGENT_WINDOW
    consumed(AGENT_RETURN)
    pair.run()
    while taken := device.write(stream[done:]):
        done += taken
        pair.run()
    assert done == CHUNK_HEADER.size + (AGENT_WINDOW + AGENT_RETURN) * MAX_AGENT_DATA


# -- rules ---------------------------------------------------------------------------------------


def closing(pair: ServerPair) -> str:
    (event,) = [event for event in pair.seen(ServerChannelClosed) if event.error is not None]
    return str(event.error)


def test_a_message_without_a_token_closes_the_channel_and_names_the_rule() -> None:
    pair, device, client = stage("port")
    channel: VmcChannel = client.channel(*device.key)
    assert channel.flow is not None
    channel.flow.tokens += 1
    channel.write(bytes((VMC.window + 1) * CHUNK_BYTES))
    pair.run()
    text = closing(pair)
    assert "port:0 of 10.0.0.1:" in text
    assert "a message without a token: all 64 of the window are on their way" in text
    assert not pair.seen(ClientDisconnected)


def test_a_message_beyond_the_limit_closes_the_channel_and_names_the_rule() -> None:
    pair, device, client = stage("port")
    client.channel(*device.key).send(vmc.ClientData(data=bytes(VMC.client_limit + 1)))
    pair.run()
    assert "a message of 16385 bytes, the limit is 16384" in closing(pair)


def test_a_message_far_beyond_the_limit_is_refused_by_its_header() -> None:
    pair, device, client = stage("port")
    client.channel(*device.key).send(vmc.ClientData(data=bytes(4 * LEAST_MESSAGE + 1)))
    pair.run()
    assert "message 101 has 65537 bytes, the limit of this channel is 65536" in closing(pair)


def test_agent_data_without_tokens_ends_the_session_and_names_the_rule() -> None:
    pair, _, client = agent_pair()
    channel = client.channel(1)
    channel.agent_tokens += 1
    message = pack_message(77, bytes(11 * MAX_AGENT_DATA - HEADER.size))
    for at in range(0, len(message), MAX_AGENT_DATA):
        channel.agent_send(message[at : at + MAX_AGENT_DATA])
    pair.run()
    (event,) = pair.seen(ClientDisconnected)
    assert "main:0 of 10.0.0.1:" in event.reason
    assert "agent: a message without a token: all 10 of the window" in event.reason


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (vmc.ClientTokens(count=1, message_size=LEAST_MESSAGE - 1), "16384 is the least"),
        (
            vmc.ClientCompressedData(type=1, uncompressed_size=5, data=b"\xff\xff"),
            "bad LZ4 data",
        ),
        (vmc.ClientCompressedData(type=7, uncompressed_size=5, data=b""), "compression 7"),
    ],
)
def test_what_a_device_channel_can_not_be_told(message: Any, rule: str) -> None:
    pair, device, client = stage("port")
    client.channel(*device.key).send(message)
    pair.run()
    assert rule in closing(pair)


def test_tokens_without_the_capability_close_the_channel() -> None:
    pair, device, client = stage("port")
    pair.core.sessions[client.core.session_id].channels[device.key].flow_control = False  # type: ignore[attr-defined]
    client.channel(*device.key).send(vmc.ClientTokens(count=1, message_size=LEAST_MESSAGE))
    pair.run()
    assert "ClientTokens" in closing(pair)
    assert "without the capability" in closing(pair)


def test_card_messages_for_a_reader_that_is_not_there_close_the_channel() -> None:
    pair = ServerPair()
    pair.host.smartcard()
    client = pair.client()
    client.channel(8).send(smartcard.ClientData(type=7, reader_id=3, data=b""))
    pair.run()
    assert "reader 3, which isn't there" in closing(pair)


def test_more_agent_tokens_than_fit_are_no_trouble() -> None:
    pair, device, client = agent_pair()
    for _ in range(3):
        client.channel(1).send(main.ClientAgentToken(num_tokens=0xFFFFFFFF))
    pair.run()
    assert device._device.core.clients[client.core.session_id].send_tokens == 0xFFFFFFFF


def test_an_agent_that_breaks_the_protocol_is_gone_for_the_client_and_may_come_again() -> None:
    pair, device, client = agent_pair()
    device.write(CHUNK_HEADER.pack(9, 5) + b"bytes")
    pair.run()
    (event,) = pair.seen(DeviceFailed)
    assert event.name == "agent"
    assert "field port" in str(event.error)
    assert not device.opened
    assert len(client.seen(AgentDisconnected)) == 1
    device.opened = True
    pair.run()
    assert len(client.seen(AgentConnected)) == 2
    message = pack_message(77, b"again")
    device.write(CHUNK_HEADER.pack(1, len(message)) + message)
    pair.run()
    assert [event.data for event in client.seen(AgentDataReceived)] == [message]
