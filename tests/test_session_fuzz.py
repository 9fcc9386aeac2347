"""Nonsense from a server at every phase: documented errors, bounded steps, bounded memory."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.script import Peer, Play, destination
from tests.strategies import damaged, messages

from aiospice.channels.base import ChannelPhase, ClientChannel
from aiospice.channels.framing import Framing
from aiospice.client.connections import _CHANNELS, Connections
from aiospice.client.session import SessionEnded, SessionPhase
from aiospice.errors import AiospiceError
from aiospice.migration.links import PARKED_LIMIT
from aiospice.wire import common, main
from aiospice.wire.channels import CHANNEL_LIMITS
from aiospice.wire.header import pack_header
from aiospice.wire.message import SERVER, Message
from aiospice.wire.registry import load_all

SLOW = settings(deadline=None, suppress_health_check=list(HealthCheck))
KINDS = {
    channel: [
        kind
        for (number, sender, _), kind in sorted(load_all().items(), key=str)
        if sender == SERVER and number in (0, channel)
    ]
    for channel in _CHANNELS
}
NAMES = ("display:0", "inputs:0", "cursor:0", "port:0")


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


def make(channel: int) -> ClientChannel:
    class Link:
        key = (channel, 0)
        framing = Framing(channel, True)

        class link:
            server_channel_caps = (0xFFFFFFFF,)

    found: ClientChannel = Connections._make_channel(None, Link)  # type: ignore[arg-type]
    return found


def put_into(channel: ClientChannel, phase: str) -> None:
    """Bring a new channel into a phase."""
    channel.start()
    channel.may_migrate = phase != "plain"
    if phase in ("awaiting", "frozen"):
        flags = 3 if phase == "awaiting" else 1
        channel.receive(pack_header(True, 0, 1, 4) + struct.pack("<I", flags), 1.0)
    if phase == "switched":
        channel.receive(pack_header(True, 0, 1, 4) + struct.pack("<I", 0), 1.0)
        channel.switch(Framing(channel.key[0], True), (0xFFFFFFFF,))
    if phase == "restarted":
        channel.restart(Framing(channel.key[0], True), ())


@pytest.mark.parametrize("phase", ["plain", "may", "awaiting", "frozen", "switched", "restarted"])
@SLOW
@given(data=st.data(), channel=st.sampled_from(sorted(_CHANNELS)))
def test_no_bytes_make_a_channel_raise(phase: str, data: st.DataObject, channel: int) -> None:
    core = make(channel)
    put_into(core, phase)
    stream = b"".join(data.draw(st.lists(frames(channel), max_size=6)))
    cut = data.draw(st.integers(1, 80))
    for at in range(0, len(stream), cut):
        core.receive(stream[at : at + cut], 2.0)
        let_go: bool = data.draw(st.booleans())
        if core.waits and let_go:
            core.released(3.0)
        while core.take():
            pass
    if core.error is not None:
        assert isinstance(core.error, AiospiceError)
        assert core.phase is ChannelPhase.CLOSED
        assert core.name in str(core.error)
    assert len(core.framing.buffer) <= len(stream) <= CHANNEL_LIMITS[channel]


PHASES = (
    "linking",
    "linked",
    "up",
    "connecting",
    "ready",
    "switching",
    "main moved",
    "semi",
    "over",
    "over linked",
)


def reach(phase: str) -> Play:
    """A session in a phase, with a source and a target."""
    play = Play(frozen=False)
    source, target = play.server("source"), play.server("target", 5901)
    if phase == "linking":
        source.silent.add((1, 0))
        play.start(source)
        return play
    if phase == "linked":
        play.start(source)
        return play
    play.connect(source, *NAMES)
    if phase == "connecting":
        target.silent.add((4, 0))
        play.begin(source, target)
    elif phase in ("ready", "switching", "main moved"):
        play.prepare(source, target)
        if phase == "switching":
            play.hand_over(source, target, "cursor:0")
            source.port.sends(common.Migrate(flags=3))
        elif phase == "main moved":
            play.hand_over(source, target, "main:0", "port:0")
    elif phase == "semi":
        source.main.sends(main.MigrateBegin(destination=destination(target)), main.MigrateEnd())
    elif phase.startswith("over"):
        source.main.sends(main.MigrateSwitchHost(destination=destination(target)))
        if phase == "over linked":
            target.main.sends(target.init())
            target.silent.add((2, 0))
            target.lists(*NAMES)
    return play


def settles(play: Play) -> None:
    """Time passes and nothing hangs, and every channel is somewhere or the session is over."""
    play.wait(120)
    core = play.core
    if core.phase is SessionPhase.CLOSED:
        assert not play.peers, play.story("connections are left")
        assert core.next_wake() is None
        assert core.error is None or isinstance(core.error, AiospiceError)
        assert len(play.happened(SessionEnded)) == 1
    else:
        assert set(core.at) == set(core.channels), play.story("a channel is nowhere")
        assert (1, 0) in core.at


def speaks(data: st.DataObject, play: Play) -> None:
    """One of the servers says something."""
    peers = [peer for _, peer in sorted(play.peers.items())]
    if not peers:
        return
    peer: Peer = data.draw(st.sampled_from(peers), label="peer")
    if data.draw(st.integers(0, 9), label="closes") == 0:
        peer.closes()
        return
    kind = peer.key[0] if peer.key is not None else 1
    peer.sends_bytes(data.draw(frames(kind), label=peer.name))


@pytest.mark.parametrize("phase", PHASES)
@SLOW
@given(data=st.data())
def test_nothing_that_servers_say_makes_a_session_raise_or_hang(
    phase: str, data: st.DataObject
) -> None:
    play = reach(phase)
    for _ in range(data.draw(st.integers(1, 6))):
        speaks(data, play)
        if data.draw(st.integers(0, 4)) == 0:
            play.wait(data.draw(st.sampled_from([0.1, 3.0, 11.0, 31.0])))
    settles(play)


STEPS: tuple[Any, ...] = (
    main.MigrateCancel(),
    main.MigrateEnd(),
    main.MigrateDstSeamlessAck(),
    main.MigrateDstSeamlessNack(),
    common.Migrate(flags=0),
    common.Migrate(flags=1),
    common.Migrate(flags=2),
    common.Migrate(flags=3),
    common.MigrateData(data=b"record"),
    "begin",
    "begin seamless",
    "switch",
    "init",
    "list",
    "close",
    "wait",
)


def step(play: Play, peer: Peer, what: Any) -> None:
    """A step of a migration, at the wrong moment as likely as not."""
    where = destination(play.servers[1 - play.servers.index(peer.server)])
    said: dict[str, Message] = {
        "begin": main.MigrateBegin(destination=where),
        "begin seamless": main.MigrateBeginSeamless(destination=where, src_mig_version=1),
        "switch": main.MigrateSwitchHost(destination=where),
        "init": peer.server.init(),
    }
    if what == "close":
        peer.closes()
    elif what == "wait":
        play.wait(5)
    elif peer.framing is None or peer.connection not in play.peers:
        pass
    elif what == "list" and peer.key == (1, 0):
        listed = ((2, 0), (3, 0), (4, 0), (10, 0), (5, 0))
        available = tuple(main.ChannelId(type=kind, id=number) for kind, number in listed)
        peer.sends(main.ChannelsList(available=available))
    elif isinstance(what, Message):
        peer.sends(what)
    elif what in said:
        peer.sends(said[what])


@SLOW
@given(
    phase=st.sampled_from(PHASES),
    steps=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(STEPS)), min_size=1, max_size=12),
)
def test_steps_of_migrations_in_any_order_lead_somewhere(
    phase: str, steps: list[tuple[int, Any]]
) -> None:
    play = reach(phase)
    for number, what in steps:
        peers = [peer for _, peer in sorted(play.peers.items())]
        mains = [peer for peer in peers if peer.key == (1, 0)]
        if not isinstance(what, (common.Migrate, common.MigrateData)) and what != "close":
            peers = mains
        if peers:
            step(play, peers[number % len(peers)], what)
    settles(play)


def test_a_target_that_sends_the_session_on_while_its_channels_fail() -> None:
    play = reach("over linked")
    source, target = play.servers
    source.display.sends(common.MigrateData(data=b""))  # which nobody has asked for
    nowhere = main.DstInfo(port=0, secure_port=1, host=b"!", cert_subject=b"")
    target.main.sends(main.MigrateSwitchHost(destination=nowhere))
    target.inputs.sends(common.Migrate(flags=0))  # there is nowhere to go
    target.cursor.sends(common.Migrate(flags=0))
    target.port.sends(common.MigrateData(data=b""))
    settles(play)


@pytest.mark.parametrize("phase", ["up", "ready", "switching", "semi", "over linked"])
def test_a_flood_on_every_connection_takes_bounded_memory(phase: str) -> None:
    play = reach(phase)
    flood = pack_header(True, 0, 99, 1 << 15) + bytes(1 << 15)
    tracemalloc.start()
    try:
        for _ in range(40):
            for peer in list(play.peers.values()):
                if peer.framing is not None and len(peer.to_client) < 1 << 16:
                    peer.sends_bytes(flood * 2)
            play.events.clear()
            play.talk.clear()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * (PARKED_LIMIT + (1 << 20))


@pytest.mark.parametrize("phase", PHASES)
def test_a_hostile_length_on_any_connection_takes_no_memory(phase: str) -> None:
    play = reach(phase)
    for peer in list(play.peers.values()):
        tracemalloc.start()
        try:
            peer.sends_bytes(pack_header(True, 0, 101, 0xFFFFFFFF))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8 << 20
    settles(play)
