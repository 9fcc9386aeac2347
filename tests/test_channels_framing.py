"""The receive buffer of a connection: whatever a read brings, the same messages come out."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.channels.framing import Framing
from aiospice.channels.scan import scan
from aiospice.errors import DecodeError
from aiospice.wire.header import pack_header

Message = tuple[int, bytes]
MESSAGES = st.lists(
    st.tuples(st.sampled_from([1, 4, 104, 304]), st.binary(max_size=60)), max_size=12
)
#: Which messages may be taken as a run.
PASSES = bytes(number in (104, 304) for number in range(305))


def stream(messages: list[Message], mini: bool) -> bytes:
    return b"".join(
        pack_header(mini, place + 1, number, len(body)) + body
        for place, (number, body) in enumerate(messages)
    )


def cuts(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[one:two] for one, two in pairwise(edges)]


def run_of(framing: Framing) -> list[Message]:
    """Take a run as a display does: the bytes stay with whoever takes them."""
    end, count = scan(framing.buffer, framing.start, PASSES, framing.limit)
    data = bytes(framing.buffer[framing.start : end])
    if count:
        framing.taken(end)
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at + 2 : at + 6], "little")
        found.append((data[at] | data[at + 1] << 8, data[at + 6 : at + 6 + size]))
        at += 6 + size
    assert len(found) == count
    return found


@pytest.mark.parametrize("mini", [True, False])
@given(MESSAGES, st.lists(st.integers(0, 2000), max_size=8), st.booleans(), st.booleans())
def test_messages_don_t_depend_on_how_they_come(
    mini: bool, messages: list[Message], places: list[int], runs: bool, hold: bool
) -> None:
    framing = Framing(2, mini)
    found: list[Message] = []
    data = stream(messages, mini)
    fed = 0
    for place, part in enumerate(cuts(data, places)):
        framing.feed(part if place % 2 else bytearray(part))
        fed += len(part)
        if hold and place % 3:
            continue  # nobody takes anything for a while
        while True:
            taken = run_of(framing) if runs and mini else []
            if taken:
                found += taken
                continue
            frame = framing.next()
            if frame is None:
                break
            found.append((frame[0], frame[3]))
        framing = pickle.loads(pickle.dumps(framing))
        done = len(stream(found, mini))
        assert framing.buffered == fed - done
    while (frame := framing.next()) is not None:
        found.append((frame[0], frame[3]))
    assert found == messages
    assert framing.buffered == 0


@pytest.mark.parametrize("mini", [True, False])
@given(MESSAGES, st.lists(st.integers(0, 2000), max_size=5))
def test_a_message_can_be_taken_out_of_turn(
    mini: bool, messages: list[Message], places: list[int]
) -> None:
    framing = Framing(2, mini)
    for part in cuts(stream(messages, mini), places):
        framing.feed(part)
    wanted = [message for message in messages if message[0] == 4]
    rest = [message for message in messages if message[0] != 4]
    for number, body in wanted:
        frame = framing.extract((4,))
        assert frame is not None
        assert (frame[0], frame[3]) == (number, body)
    assert framing.extract((4,)) is None
    assert [(frame[0], frame[3]) for frame in iter(framing.next, None)] == rest


def test_a_message_that_is_too_large_is_refused_before_it_comes() -> None:
    framing = Framing(2, True)
    framing.feed(pack_header(True, 1, 304, framing.limit + 1) + b"begins")
    with pytest.raises(DecodeError, match="limit"):
        framing.next()
    framing.feed(b"goes on")
    with pytest.raises(DecodeError, match="limit"):
        framing.next()


@given(MESSAGES, st.lists(st.integers(0, 1 << 12), max_size=12), st.sampled_from([0, 20, 1 << 12]))
def test_what_is_lent_is_taken_or_comes_again(
    messages: list[Message], places: list[int], most: int
) -> None:
    framing, found, left = Framing(2, True), list[Message](), b""
    for piece in cuts(stream(messages, True), places):
        memory = bytearray(left + piece)
        if framing.drained:
            framing.lend(memoryview(memory))
        else:
            framing.feed(memoryview(memory))
        found += run_of(framing)
        while (frame := framing.next()) is not None:
            found.append((frame[0], frame[3]))
            found += run_of(framing)
        count = framing.give_back(most)
        assert count == 0 or count < most
        left = bytes(memory[len(memory) - count :])
        memory[:] = b"\xee" * len(memory)
        framing = pickle.loads(pickle.dumps(framing))
    assert found == messages
    assert framing.buffered == 0
    assert not left
