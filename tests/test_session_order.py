"""A seamless hand-over under every timing: no byte of a port is lost, repeated or misplaced."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.script import Peer, Play, Server, destination, record_of

from aiospice.channels.vmc import DeviceData, PortChannel
from aiospice.migration.client import MigrationFinished
from aiospice.wire import common, main, vmc
from aiospice.wire.message import Message

NAMES = ("display:0", "port:0", "cursor:0")
PORT = (10, 0)


class HandOver:
    """Two servers that do their part by themselves, and a guest with an open port."""

    def __init__(self, draw: st.DataObject, flags: dict[tuple[int, int], int]) -> None:
        self.draw = draw
        self.flags = flags
        self.play = Play(frozen=False)
        self.source = self.play.server("source")
        self.target = self.play.server("target", 5901)
        self.to_guest = bytearray()
        self.from_guest = bytearray()
        self.written = bytearray()
        #: Channels that have left the source, and those whose record has reached the target.
        self.left: set[tuple[int, int]] = set()
        self.arrived: set[tuple[int, int]] = set()
        for server in (self.source, self.target):
            server.reactions = {
                vmc.ClientData: self.guest_reads,
                common.MigrateFlushMark: self.on_mark,
                common.ClientMigrateData: self.on_record,
                main.MigrateDstDoSeamless: lambda peer: self.say(
                    peer, main.MigrateDstSeamlessAck()
                ),
                main.MigrateConnectedSeamless: lambda peer: self.leave(),
            }
        self.play.connect(self.source, *NAMES)
        self.play.manual = True

    @staticmethod
    def say(peer: Peer, message: Message) -> None:
        peer.post(message.number, message.body())

    def agree(self, peer: Peer) -> None:
        self.say(peer, main.MigrateDstSeamlessAck())

    def guest_reads(self, peer: Peer) -> None:
        message = peer.log[-1]
        assert isinstance(message, vmc.ClientData)
        if peer.server is self.target:
            assert PORT in self.arrived or not self.flags[PORT] & 2, "data came before the record"
        self.to_guest += message.data

    def leave(self) -> None:
        """All is ready: MIGRATE on every channel, behind what was sent."""
        for key, peer in self.source.peers.items():
            self.say(peer, common.Migrate(flags=self.flags[key]))
            self.left.add(key)
            if self.flags[key] == 2:
                self.record(peer)

    def record(self, peer: Peer) -> None:
        self.say(peer, common.MigrateData(data=record_of(peer.link.name)))

    def on_mark(self, peer: Peer) -> None:
        if peer.key is not None and self.flags[peer.key] & 2:
            self.record(peer)

    def on_record(self, peer: Peer) -> None:
        assert peer.server is self.target
        assert peer.key is not None
        assert peer.key not in self.arrived
        self.arrived.add(peer.key)

    def guest_writes(self, data: bytes) -> None:
        """On whichever server the guest is; the target's may already run before the switch."""
        server: Server = self.target if PORT in self.left else self.source
        self.from_guest += data
        self.say(server.port, vmc.Data(data=data))

    def user_writes(self, data: bytes) -> None:
        channel = self.play.core.channels[PORT]
        assert isinstance(channel, PortChannel)
        channel.write(data)
        self.written += data

    def shuffle(self) -> None:
        """One thing happens, whichever is drawn."""
        play = self.play
        what = self.draw.draw(st.integers(0, 7))
        if what == 0:
            self.user_writes(b"<%d>" % len(self.written))
        elif what == 1:
            self.guest_writes(b"(%d)" % len(self.from_guest))
        elif what == 2:
            play.frozen = True
            play.freeze()
            play.frozen = False
        elif play.peers:
            number = self.draw.draw(st.sampled_from(sorted(play.peers)))
            count = self.draw.draw(st.sampled_from([1, 7, 30, 200, 1 << 16]))
            carry = play.carry_in if what % 2 else play.carry_out
            carry(play.peers[number], count)
        play.settle()

    def finish(self) -> None:
        self.play.manual = False
        self.play.run()


def received(play: Play) -> bytes:
    return b"".join(event.data for event in play.happened(DeviceData))


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=150)
@given(draw=st.data(), flags=st.lists(st.sampled_from([0, 1, 3]), min_size=4, max_size=4))
def test_each_byte_of_a_port_arrives_once_and_in_order(
    draw: st.DataObject, flags: list[int]
) -> None:
    keys = [(1, 0), (2, 0), (4, 0), PORT]
    # Without a mark the source can't know which bytes are still on their way.
    wanted = dict(zip(keys, flags, strict=True)) | {PORT: 3 if flags[3] else 1}
    hand = HandOver(draw, wanted)
    hand.user_writes(b"before ")
    where = destination(hand.target)
    hand.say(hand.source.main, main.MigrateBeginSeamless(destination=where, src_mig_version=1))
    for _ in range(draw.draw(st.integers(10, 120))):
        hand.shuffle()
    hand.finish()
    hand.user_writes(b" after")
    hand.guest_writes(b" after")
    hand.play.run()
    play = hand.play
    play.check(bytes(hand.to_guest) == bytes(hand.written), "to the guest")
    play.check(received(play) == bytes(hand.from_guest), "from the guest")
    assert play.sees(MigrationFinished).mode == "seamless"
    assert all(peer.server is hand.target for peer in play.peers.values())
