"""The agent's device: chunks both ways, verdicts, several clients, what the server says itself."""

from __future__ import annotations

import pickle
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.devices.agentdev import MAX_MONITORS, AgentDevice, MonitorsAsked
from aiospice.devices.agentfilter import AgentFilter
from aiospice.devices.chardev import ClientDropped, GuestFailed, TokensReturned
from aiospice.devices.rules import AGENT
from aiospice.errors import DecodeError
from aiospice.wire.agent import AgentCapability, AgentType
from aiospice.wire.agent_stream import (
    CHUNK_HEADER,
    CLIENT_PORT,
    HEADER,
    MAX_AGENT_DATA,
    MAX_MESSAGE,
    SERVER_PORT,
    Chunker,
    ChunkReader,
    Reassembler,
    pack_chunk,
    pack_message,
)
from aiospice.wire.handover import FilterResult

ME, OTHER = 7, 8
DISCONNECTED = pack_chunk(SERVER_PORT, pack_message(AgentType.CLIENT_DISCONNECTED, b""))
ANY = 77  # a type that no policy is about


def agent(
    *, copy_paste: bool = True, file_transfer: bool = True, monitors: bool = False
) -> AgentDevice:
    device = AgentDevice(copy_paste=copy_paste, file_transfer=file_transfer, monitors=monitors)
    device.attach()
    device.start()
    return device


def pieces(number: int, body: bytes) -> list[bytes]:
    cutter = Chunker()
    cutter.push(number, body)
    return list(iter(cutter.pop, None))


def one_chunk(message: bytes, port: int = CLIENT_PORT) -> bytes:
    """As agents do it: a whole message in a chunk, however large."""
    return CHUNK_HEADER.pack(port, len(message)) + message


def say(device: AgentDevice, data: bytes, step: int = 0) -> AgentDevice:
    """The guest writes, all at once or in steps with a pickle behind each."""
    for at in range(0, len(data), step or len(data)):
        part = data[at : at + (step or len(data))]
        assert device.guest_writes(part, 0.0) == len(part)
        if step:
            device = pickle.loads(pickle.dumps(device))
    return device


def taken(device: AgentDevice, client: int = ME) -> list[bytes]:
    found = []
    while (message := device.take(client, 0.0)) is not None:
        found.append(message)
        device.add_tokens(client, 1, 0.0)
    return found


def read(device: AgentDevice) -> list[tuple[int, bytes]]:
    return ChunkReader().receive(device.guest_reads(1 << 20, 0.0))


def rule_of(device: AgentDevice) -> str:
    (event,) = [event for event in device.events() if isinstance(event, ClientDropped)]
    return str(event.error)


# -- client to agent -------------------------------------------------------------------------------


def test_what_a_client_sends_comes_in_chunks_for_the_clients_port() -> None:
    device = agent()
    device.start_client(ME, 10, 0.0)
    sent = pieces(ANY, bytes(range(256)) * 20)
    for piece in sent:
        device.client_writes(ME, piece)
    assert read(device) == [(CLIENT_PORT, piece) for piece in sent]


def test_a_client_has_a_window_of_10_and_gets_5_back_together() -> None:
    device = agent()
    device.start_client(ME, 10, 0.0)
    for piece in pieces(ANY, bytes(10 * MAX_AGENT_DATA - HEADER.size)):
        device.client_writes(ME, piece)
    assert device.events() == []
    for _ in range(4):
        device.guest_reads(MAX_AGENT_DATA + CHUNK_HEADER.size, 0.0)
    assert device.events() == []
    device.guest_reads(MAX_AGENT_DATA + CHUNK_HEADER.size, 0.0)
    assert device.events() == [TokensReturned(ME, 5)]


def test_the_eleventh_message_without_a_token_ends_the_client_and_names_the_rule() -> None:
    device = agent()
    device.start_client(ME, 10, 0.0)
    for piece in pieces(ANY, bytes(11 * MAX_AGENT_DATA - HEADER.size)):
        device.client_writes(ME, piece)
    assert rule_of(device) == (
        "ClientAgentData: agent: a message without a token: all 10 of the window are on their way"
    )


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (bytes(2049), "a message of 2049 bytes, the limit is 2048"),
        (bytes(19), "a message's header is in a piece of 19 bytes"),
        (HEADER.pack(2, ANY, 0, 0), "field protocol: 2, must be 1"),
        (HEADER.pack(1, ANY, 0, 3) + b"four", "4 bytes behind a header that says 3"),
        (HEADER.pack(1, ANY, 0, MAX_MESSAGE + 1), f"the limit is {MAX_MESSAGE}"),
    ],
)
def test_what_breaks_the_agents_protocol_ends_the_client(data: bytes, rule: str) -> None:
    device = agent()
    device.start_client(ME, 10, 0.0)
    device.client_writes(ME, data)
    assert rule in rule_of(device)
    assert device.guest_reads(100, 0.0) == b""


def test_a_piece_longer_than_the_rest_of_its_message_ends_the_client() -> None:
    device = agent()
    device.start_client(ME, 10, 0.0)
    device.client_writes(ME, HEADER.pack(1, ANY, 0, 10) + b"123456")
    device.client_writes(ME, b"78901")
    assert "a piece of 5 bytes, 4 are left of its message" in rule_of(device)


def test_data_of_a_client_that_has_not_taken_up_with_the_agent_is_dropped() -> None:
    device = agent()
    device.client_writes(ME, pieces(ANY, b"for the agent before")[0])
    device.start_client(ME, 10, 0.0)
    device.detach()
    device.attach()
    device.client_writes(ME, pieces(ANY, b"for the agent before")[0])
    assert device.ignored == 2
    assert device.events() == []
    assert device.guest_reads(100, 0.0) == b""


# -- policy ----------------------------------------------------------------------------------------

CLIPBOARD = (
    AgentType.CLIPBOARD,
    AgentType.CLIPBOARD_GRAB,
    AgentType.CLIPBOARD_REQUEST,
    AgentType.CLIPBOARD_RELEASE,
)
FILES = (AgentType.FILE_XFER_START, AgentType.FILE_XFER_STATUS, AgentType.FILE_XFER_DATA)


@pytest.mark.parametrize("copy_paste", [True, False])
@pytest.mark.parametrize("file_transfer", [True, False])
def test_what_passes_to_the_agent_is_decided_message_by_message(
    copy_paste: bool, file_transfer: bool
) -> None:
    device = agent(copy_paste=copy_paste, file_transfer=file_transfer)
    device.start_client(ME, 10, 0.0)
    expected = []
    for kind in AgentType:
        # The body looks like headers of messages that pass, and of others that don't.
        for number in (AgentType.CLIPBOARD, AgentType.FILE_XFER_DATA, AgentType.MOUSE_STATE):
            for piece in pieces(kind, HEADER.pack(1, number, 0, 0) * 250):
                device.client_writes(ME, piece)
                passes = (copy_paste or kind not in CLIPBOARD) and (
                    file_transfer or kind not in FILES
                )
                expected += [(CLIENT_PORT, piece)] if passes else []
            assert read(device) == expected
            expected.clear()
    assert not [event for event in device.events() if isinstance(event, ClientDropped)]


@given(st.data())
def test_what_passes_to_the_client_does_not_depend_on_how_the_guest_cuts_it(
    data: st.DataObject,
) -> None:
    device = agent(copy_paste=False)
    device.start_client(ME, 1000, 0.0)
    bodies = data.draw(
        st.lists(st.tuples(st.sampled_from([4, 7, 10, ANY]), st.integers(0, 5000)), max_size=6)
    )
    stream = bytearray()
    expected = []
    for number, (kind, size) in enumerate(bodies):
        message = pack_message(kind, bytes([number]) * size)
        stream += one_chunk(message)
        stream += one_chunk(b"for the server" * number, SERVER_PORT)
        if kind not in CLIPBOARD:
            expected.append((kind, bytes([number]) * size))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    got = []
    for begin, end in pairwise([0, *cuts, len(stream)]):
        at = begin
        while at < end:
            done = device.guest_writes(bytes(stream[at:end]), 0.0)
            at += done
            got += taken(device)
            assert done or got
        device = pickle.loads(pickle.dumps(device))
    got += taken(device)
    reader = Reassembler(strict=True)
    found = [message for piece in got for message in reader.receive(piece)]
    assert [(message.type, message.body) for message in found] == expected
    assert not reader.inside


@pytest.mark.parametrize("step", [0, 1])
def test_a_guests_message_in_any_number_of_chunks_reaches_the_client(step: int) -> None:
    device = agent()
    device.start_client(ME, 100, 0.0)
    message = pack_message(ANY, bytes(range(256)) * 15)
    chunks = [message[:20], message[20:2100], message[2100:2101], message[2101:]]
    got = []
    for chunk in chunks:
        device = say(device, one_chunk(chunk), step)
        got += taken(device)
    assert b"".join(got) == message
    assert max(map(len, got)) <= MAX_AGENT_DATA
    assert taken(say(device, one_chunk(pack_message(ANY, b"next")))) == [pack_message(ANY, b"next")]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (CHUNK_HEADER.pack(3, 5), "port"),
        (CHUNK_HEADER.pack(1, MAX_MESSAGE + 21), "size"),
        (one_chunk(HEADER.pack(1, ANY, 0, 4)[:12]), "data"),
        (one_chunk(HEADER.pack(7, ANY, 0, 4)), "protocol"),
        (one_chunk(HEADER.pack(1, ANY, 0, 0) + b"more"), "size"),
    ],
)
def test_an_agent_that_breaks_the_protocol_is_removed_and_may_come_again(
    data: bytes, field: str
) -> None:
    device = agent()
    device.start_client(ME, 10, 0.0)
    device.guest_writes(data + b"whatever follows", 0.0)
    (event,) = device.events()
    assert isinstance(event, GuestFailed)
    assert event.error.field == field
    assert not device.attached
    assert device.guest_writes(b"more", 0.0) == 0
    device.attach()
    device.start_client(ME, 10, 0.0)
    device.guest_writes(one_chunk(pack_message(ANY, b"new")), 0.0)
    assert taken(device) == [pack_message(ANY, b"new")]


def test_a_policy_change_holds_from_the_next_message_on() -> None:
    device = agent()
    device.start_client(ME, 10, 0.0)
    first, second = pieces(AgentType.CLIPBOARD, bytes(3000))
    device.client_writes(ME, first)
    device.set_policy(copy_paste=False, file_transfer=True)
    device.client_writes(ME, second)
    assert len(read(device)) == 2
    device.client_writes(ME, first)
    device.client_writes(ME, second)
    assert read(device) == []


@pytest.mark.parametrize("step", [0, 1])
def test_capabilities_that_the_policy_forbids_are_taken_out(step: int) -> None:
    for copy_paste, file_transfer in ((True, True), (True, False), (False, True)):
        device = agent(copy_paste=copy_paste, file_transfer=file_transfer)
        device.start_client(ME, 10, 0.0)
        words = (0x3_DFFF, 5)
        body = b"".join(word.to_bytes(4, "little") for word in (1, *words))
        device = say(device, one_chunk(pack_message(AgentType.ANNOUNCE_CAPABILITIES, body)), step)
        assert device.agent_caps == words
        (message,) = taken(device)
        assert message[:24] == pack_message(6, body)[:24]
        assert message[28:] == body[8:]
        caps = int.from_bytes(message[24:28], "little")
        for bit in (3, 5, 6):
            assert caps >> bit & 1 == copy_paste
        assert caps >> AgentCapability.FILE_XFER_DISABLED & 1 == (not file_transfer)
        changed = caps ^ words[0]
        assert changed & ~(1 << 13 | 0b1101000) == 0


def test_bytes_that_look_like_capabilities_inside_a_message_are_left_alone() -> None:
    device = agent(copy_paste=False)
    device.start_client(ME, 10, 0.0)
    body = bytes(MAX_AGENT_DATA - HEADER.size) + pack_message(6, b"\xff" * 12)
    device.guest_writes(one_chunk(pack_message(ANY, body)), 0.0)
    assert b"".join(taken(device)) == pack_message(ANY, body)
    assert device.agent_caps == ()


def test_monitors_come_to_the_server_when_the_display_takes_them() -> None:
    device = agent(monitors=True)
    device.start_client(ME, 10, 0.0)
    body = bytes(range(200)) * 15
    for piece in pieces(AgentType.MONITORS_CONFIG, body):
        device.client_writes(ME, piece)
    assert device.events() == [MonitorsAsked(ME, body)]
    assert device.guest_reads(100, 0.0) == b""
    for piece in pieces(AgentType.MONITORS_CONFIG, bytes(MAX_MONITORS)):
        device.client_writes(ME, piece)
    assert f"monitors of more than {MAX_MONITORS} bytes" in rule_of(device)


@given(st.binary(max_size=2100), st.binary(max_size=2100))
def test_a_filter_judges_any_bytes_or_refuses_them(first: bytes, second: bytes) -> None:
    judge = AgentFilter()
    for piece in (first, HEADER.pack(1, 4, 0, 9), second):
        with suppress(DecodeError):
            assert judge.judge(piece) in FilterResult
        assert 0 <= judge.left <= MAX_MESSAGE


# -- agent to client ---------------------------------------------------------------------------


def test_a_client_that_gives_no_tokens_stops_the_agent_after_its_window() -> None:
    device = agent()
    device.start_client(ME, 4, 0.0)
    stream = one_chunk(pack_message(ANY, bytes(40_000)))
    done = 0
    got = []
    for _ in range(50):
        done += device.guest_writes(stream[done:], 0.0)
        while (message := device.take(ME, 0.0)) is not None:
            got.append(message)
    assert [len(message) for message in got] == [MAX_AGENT_DATA] * 4
    assert done == CHUNK_HEADER.size + 4 * MAX_AGENT_DATA
    device.add_tokens(ME, 2, 0.0)
    assert device.guest_writes(stream[done:], 0.0) == 2 * MAX_AGENT_DATA


def test_a_client_with_any_number_of_tokens_has_5_messages_waiting_at_most() -> None:
    device = agent()
    device.start_client(ME, 0xFFFFFFFF, 0.0)
    stream = one_chunk(pack_message(ANY, bytes(40_000)))
    assert device.guest_writes(stream, 0.0) == CHUNK_HEADER.size + AGENT.outgoing * MAX_AGENT_DATA


def test_a_client_that_comes_in_the_middle_of_a_message_begins_with_the_next() -> None:
    device = agent()
    device.start_client(ME, 100, 0.0)
    message = pack_message(ANY, bytes(5000))
    stream = one_chunk(message) + one_chunk(pack_message(ANY, b"next"))
    done = device.guest_writes(stream[:3000], 0.0)
    device.start_client(OTHER, 100, 0.0)
    device.guest_writes(stream[done:], 0.0)
    assert b"".join(taken(device)) == message + pack_message(ANY, b"next")
    assert taken(device, OTHER) == [pack_message(ANY, b"next")]


def test_what_the_agent_says_while_nobody_is_there_is_dropped_to_the_end_of_the_message() -> None:
    device = agent()
    stream = one_chunk(pack_message(ANY, bytes(5000))) + one_chunk(pack_message(ANY, b"next"))
    assert device.guest_writes(stream[:3000], 0.0) == 3000
    device.start_client(ME, 100, 0.0)
    device.guest_writes(stream[3000:], 0.0)
    assert taken(device) == [pack_message(ANY, b"next")]


# -- coming and going ----------------------------------------------------------------------------


def test_the_agent_is_told_once_when_the_last_client_leaves() -> None:
    device = agent()
    for _ in range(100):
        device.start_client(ME, 10, 0.0)
        device.start_client(OTHER, 10, 0.0)
        device.remove_client(ME)
        device.remove_client(OTHER)
    assert device.guest_reads(1000, 0.0) == DISCONNECTED


def test_a_client_that_leaves_inside_a_message_tears_it_and_the_agent_is_told() -> None:
    device = agent()
    device.start_client(ME, 10, 0.0)
    device.start_client(OTHER, 10, 0.0)
    first, _ = pieces(ANY, bytes(3000))
    device.client_writes(ME, first)
    (other,) = pieces(ANY, b"held back")
    device.client_writes(OTHER, other)
    assert device.guest_reads(100, 0.0) == pack_chunk(CLIENT_PORT, first)[:100]
    device.remove_client(ME)
    rest = device.guest_reads(1 << 20, 0.0)
    expected = pack_chunk(CLIENT_PORT, first)[100:] + DISCONNECTED + pack_chunk(CLIENT_PORT, other)
    assert rest == expected


def test_messages_of_several_clients_do_not_mix() -> None:
    device = agent()
    for client in (ME, OTHER, 9):
        device.start_client(client, 10, 0.0)
    mine, theirs = pieces(ANY, b"m" * 5000), pieces(ANY, b"t" * 5000)
    third = pieces(ANY, b"third")
    for piece, other in zip(mine, theirs, strict=True):
        device.client_writes(ME, piece)
        device.client_writes(OTHER, other)
        if piece is mine[0]:
            device.client_writes(9, third[0])
        for known in device.clients.values():
            unread = device.unread_price(known.id)
            assert known.tokens + known.free + unread == known.window
    assert [piece for _, piece in read(device)] == [*mine, *theirs, *third]


def test_an_agent_that_goes_takes_all_with_it_and_clients_begin_again() -> None:
    device = agent()
    device.start_client(ME, 3, 0.0)
    device.guest_writes(one_chunk(pack_message(ANY, bytes(3000)))[:2500], 0.0)
    for piece in pieces(ANY, bytes(6 * MAX_AGENT_DATA)):
        device.client_writes(ME, piece)
    device.guest_reads(5 * (MAX_AGENT_DATA + CHUNK_HEADER.size), 0.0)
    device.say_latest(AgentType.MOUSE_STATE, bytes(13))
    device.say_latest(AgentType.MOUSE_STATE, bytes(13))
    device.detach()
    assert device.events() == []
    assert device.clients == {}
    device.attach()
    assert device.attachments == 2
    assert device.guest_reads(1000, 0.0) == b""
    device.start_client(ME, 3, 0.0)
    assert device.clients[ME].tokens == AGENT.window
    device.guest_writes(one_chunk(pack_message(ANY, b"new")), 0.0)
    assert taken(device) == [pack_message(ANY, b"new")]


def test_a_message_begun_for_an_agent_that_went_is_completed_and_dropped() -> None:
    """As spice-gtk does it: what it has queued goes out, before and after AGENT_START."""
    device = agent()
    device.start_client(ME, 10, 0.0)
    first, *rest = pieces(ANY, bytes(4 * MAX_AGENT_DATA))
    device.client_writes(ME, first)
    device.detach()
    device.client_writes(ME, rest[0])
    device.attach()
    device.client_writes(ME, rest[1])
    device.start_client(ME, 10, 0.0)
    for piece in rest[2:]:
        device.client_writes(ME, piece)
    assert device.guest_reads(1000, 0.0) == b""
    (new,) = pieces(ANY, b"for the new one")
    device.client_writes(ME, new)
    assert [piece for _, piece in read(device)] == [new]
    client = device.clients[ME]
    assert client.tokens + client.free == client.window
    assert device.ignored == 2
    device.detach()
    device.remove_client(ME)
    assert device.to_agent == {}


def test_the_latest_state_is_said_when_the_self_token_is_free() -> None:
    device = agent()
    for number in range(5):
        device.say_latest(AgentType.MOUSE_STATE, bytes([number] * 13))
    device.say_latest(AgentType.GRAPHICS_DEVICE_INFO, bytes(4000))
    said = []
    while chunks := read(device):
        assert {port for port, _ in chunks} == {SERVER_PORT}
        assert max(len(piece) for _, piece in chunks) <= MAX_AGENT_DATA
        said.append(b"".join(piece for _, piece in chunks))
    # Each freed token is used at once, so what is read together may be several messages.
    reader = Reassembler(maximum=1 << 20)
    found = [message for part in said for message in reader.receive(part)]
    assert [message.type for message in found] == [1, 1, 16]
    assert [message.body for message in found][:2] == [bytes([0] * 13), bytes([4] * 13)]


def test_nothing_is_said_to_an_agent_that_is_not_there() -> None:
    device = AgentDevice()
    device.start()
    assert not device.say(AgentType.MOUSE_STATE, bytes(13))
    device.say_latest(AgentType.MOUSE_STATE, bytes(13))
    device.start_client(ME, 10, 0.0)
    device.attach()
    assert device.guest_reads(100, 0.0) == b""
    assert device.clients == {}
