"""Nonsense from a client on every channel: its own channel ends, and nothing else happens."""

from __future__ import annotations

import pickle
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.server_pair import ServerPair
from tests.strategies import damaged, messages

from aiospice.errors import AiospiceError
from aiospice.server.config import ServerConfig
from aiospice.server.events import ServerChannelClosed
from aiospice.wire.header import pack_header
from aiospice.wire.message import CLIENT, Message
from aiospice.wire.registry import load_all

SLOW = settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
CHANNELS = (1, 2, 3, 4, 5, 6, 8, 9, 10, 11)
KINDS = {
    channel: [
        kind
        for (number, sender, _), kind in sorted(load_all().items(), key=str)
        if sender == CLIENT and number in (0, channel)
    ]
    for channel in CHANNELS
}


def frames(channel: int) -> st.SearchStrategy[bytes]:
    """One frame of a channel: valid, damaged, or of any number and body."""

    def framed(number: int, body: bytes) -> bytes:
        return pack_header(True, 0, number, len(body)) + body

    known: st.SearchStrategy[type[Message]] = st.sampled_from(KINDS[channel])
    valid = known.flatmap(messages).map(lambda message: framed(message.number, message.body()))
    broken = known.flatmap(lambda kind: damaged(kind).map(lambda body: framed(kind.number, body)))
    number = st.one_of(st.integers(0, 330), st.integers(0, 0xFFFF))
    wild = st.builds(framed, number, st.binary(max_size=200))
    return st.one_of(valid, broken, wild, st.binary(max_size=60))


def machine() -> ServerPair:
    """A machine that has one of everything, and an agent."""
    pair = ServerPair(ServerConfig(on_second_client="share"), freezes=False)
    pair.host.display(0).resize(64, 48)
    pair.host.sound(playback=True, record=True)
    for device in (pair.host.port("p"), pair.host.webdav(), pair.host.usbredir()):
        device.opened = True
    pair.host.smartcard().opened = True
    pair.host.agent().opened = True
    return pair


@pytest.mark.parametrize("channel", CHANNELS)
@SLOW
@given(st.data())
def test_nonsense_on_a_channel_ends_it_at_most(channel: int, data: st.DataObject) -> None:
    pair = machine()
    pair.client()
    other = pair.client()
    found = data.draw(st.lists(frames(channel), max_size=12))
    pipe = pair.pipe((channel, 0))
    number = next(number for number, each in pair.pipes.items() if each is pipe)
    before = len(pair.seen(ServerChannelClosed))
    for piece in found:
        pair.core.received(number, piece, pair.now)
        pair.run()
        pickle.dumps(pair.core)
    pair.wait(2)
    closed = pair.seen(ServerChannelClosed)[before:]
    errors = [event.error for event in closed if event.error is not None]
    assert all(isinstance(error, AiospiceError) for error in errors)
    assert len(errors) <= 1
    # Whoever else is there notices nothing.
    assert other.core.error is None
    assert other.core.session_id in pair.core.sessions
    assert other.core.channels.keys() == other.served.channels.keys()


@pytest.mark.parametrize("channel", CHANNELS)
def test_sizes_that_lie_cost_no_memory(channel: int) -> None:
    pair = machine()
    pair.client()
    pipe = pair.pipe((channel, 0))
    number = next(number for number, each in pair.pipes.items() if each is pipe)
    tracemalloc.start()
    try:
        for announced in (0xFFFFFFFF, 0x7FFFFFFF, 1 << 24):
            pair.core.received(number, pack_header(True, 0, 101, announced), pair.now)
            pair.run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20
    assert [event for event in pair.seen(ServerChannelClosed) if event.error is not None]
