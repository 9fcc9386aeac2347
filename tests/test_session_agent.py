"""The guest's agent in a session: tokens, clipboard and files while the session lives and moves."""

from __future__ import annotations

from typing import TypeVar

import pytest
from tests.script import Peer, Play, Server, destination
from tests.script_moves import pair, start_over

from aiospice.agent.client import AgentFailed, AgentPhase, AgentReady
from aiospice.agent.events import ClipboardData, ClipboardGrabbed
from aiospice.agent.guest import GuestAgent
from aiospice.agent.guest_events import FileCame, FileOffered, FilePart
from aiospice.agent.transfers import Transfer, TransferEnded
from aiospice.channels.main import AgentConnected
from aiospice.errors import SpiceTimeout, TransferFailed
from aiospice.events import Event
from aiospice.migration.client import MigrationFinished
from aiospice.wire import main
from aiospice.wire.agent_stream import (
    CLIENT_PORT,
    MAX_AGENT_DATA,
    ChunkReader,
    Reassembler,
    pack_chunk,
)

EventT = TypeVar("EventT", bound=Event)


@pytest.fixture(params=[0, 1], ids=["whole", "bytewise"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(cut=request.param)


class Behind:
    """A guest's agent behind the main channels of scripted servers."""

    def __init__(self, *servers: Server, returns: int = 1) -> None:
        self.guest = GuestAgent()
        self.reader = ChunkReader()
        #: Tokens that are returned for each piece.
        self.returns = returns
        self.pieces = 0
        self.told: list[Event] = []
        for server in servers:
            server.reactions[main.ClientAgentData] = self._piece

    def _piece(self, peer: Peer) -> None:
        message = peer.log[-1]
        assert isinstance(message, main.ClientAgentData)
        assert len(message.data) <= MAX_AGENT_DATA
        self.pieces += 1
        self.guest.receive(pack_chunk(CLIENT_PORT, message.data))
        if self.returns:
            token = main.AgentToken(num_tokens=self.returns)
            peer.post(token.number, token.body())
        self.answer(peer)

    def answer(self, peer: Peer) -> None:
        """What the guest has to say is put on its way."""
        for event in self.guest.events():
            self.told.append(event)
            if isinstance(event, FileOffered):
                self.guest.accept_file(event.number)
            elif isinstance(event, FileCame):
                self.guest.finish_file(event.number)
        while data := self.guest.take():
            for port, piece in self.reader.receive(data):
                if port == CLIENT_PORT:
                    message = main.AgentData(data=piece)
                    peer.post(message.number, message.body())

    def saw(self, kind: type[EventT]) -> list[EventT]:
        return [event for event in self.told if isinstance(event, kind)]

    def content(self) -> bytes:
        return b"".join(part.data for part in self.saw(FilePart))


def transfer(play: Play) -> Transfer:
    (found,) = play.core.agent.transfers.active.values()
    return found


def feed(play: Play, data: bytes, most: int = 1 << 30) -> None:
    """Hand in what is wanted of a file of these bytes."""
    transfers = play.core.agent.transfers
    while transfers.active and most > 0:
        under_way = transfer(play)
        wanted = min(transfers.wanted(under_way), most)
        if not wanted:
            break
        transfers.feed(under_way, data[under_way.fed : under_way.fed + wanted], play.now)
        most -= wanted
        play.run()
        transfers = play.core.agent.transfers


def up(play: Play) -> tuple[Server, Behind]:
    source = play.server("source")
    behind = Behind(source)
    play.connect(source, agent_connected=1, agent_tokens=10)
    play.sees(AgentReady)
    return source, behind


def test_the_agent_is_taken_up_with_and_the_clipboard_goes_both_ways(play: Play) -> None:
    source, behind = up(play)
    source.main.gets(main.AgentStart)
    behind.guest.clipboards.grab({"text": b"from the guest"})
    behind.answer(source.main)
    play.run()
    play.sees(ClipboardGrabbed, forms=("text",))
    play.core.agent.request()
    play.run()
    play.sees(ClipboardData, data=b"from the guest")
    play.core.agent.clipboards.grab({"text": b"from the client"})
    play.run()
    behind.guest.request()
    behind.answer(source.main)
    play.run()
    assert behind.saw(ClipboardData)[0].data == b"from the client"


def test_a_file_waits_for_tokens_and_no_more_of_it_is_made(play: Play) -> None:
    source, behind = up(play)
    data = bytes(range(256)) * 40
    play.core.agent.send_file("f", len(data), play.now)
    play.run()
    behind.returns = 0
    main_channel = play.core.main_channel()
    assert main_channel is not None
    tokens, before = main_channel.agent_tokens, behind.pieces
    feed(play, data)
    assert tokens
    assert behind.pieces - before == min(tokens, -(-(len(data) + 32) // MAX_AGENT_DATA))
    behind.returns = 1
    source.main.sends(main.AgentToken(num_tokens=10))
    feed(play, data)
    assert behind.content() == data
    assert play.sees(TransferEnded).error is None


def test_main_queues_little_of_what_waits_for_the_socket() -> None:
    play = Play()
    source, _ = up(play)
    source.main.sends(main.AgentToken(num_tokens=0xFFFFFFF0))
    play.core.agent.send_file("f", 1 << 20, play.now)
    play.run()
    transfers = play.core.agent.transfers
    transfers.feed(transfer(play), bytes(64 << 10), play.now)
    main_channel = play.core.main_channel()
    assert main_channel is not None
    play.core._feed_agent(main_channel, play.now)
    assert main_channel.queued_bytes < (16 << 10) + 2 * MAX_AGENT_DATA
    assert main_channel.agent_queued == 0


def test_files_and_clipboard_go_on_through_a_seamless_migration(play: Play) -> None:
    source, target = pair(play)
    behind = Behind(source, target)
    source.main.sends(main.AgentConnectedTokens(num_tokens=5))
    play.sees(AgentReady)
    data = bytes(range(256)) * 60
    play.core.agent.send_file("f", len(data), play.now)
    play.core.agent.clipboards.grab({"text": b"kept"})
    play.run()
    feed(play, data, most=5000)
    source.main.skip()
    play.prepare(source, target)
    behind.returns = 0  # the source gives no more tokens: pieces wait in the middle of a message
    feed(play, data)
    assert play.core.agent.pending
    play.hand_over(source, target, "display:0", "inputs:0", "cursor:0", "port:0", "main:0")
    play.sees(MigrationFinished, mode="seamless")
    behind.returns = 1
    target.main.sends(main.AgentToken(num_tokens=10))
    feed(play, data)
    assert play.sees(TransferEnded).error is None
    assert behind.content() == data
    behind.guest.request()
    behind.answer(target.main)
    play.run()
    assert behind.saw(ClipboardData)[0].data == b"kept"
    assert len(play.happened(AgentConnected)) == 1


def test_files_end_and_the_clipboard_is_offered_anew_when_the_session_starts_over(
    play: Play,
) -> None:
    source, target = pair(play)
    behind = Behind(source, returns=0)
    source.main.sends(main.AgentConnectedTokens(num_tokens=10))
    play.sees(AgentReady)
    play.core.agent.send_file("f", 50_000, play.now)
    play.core.agent.clipboards.grab({"text": b"kept"})
    play.run()
    feed(play, bytes(50_000), most=20_000)
    assert play.core.agent.pending
    source.main.sends(main.MigrateSwitchHost(destination=destination(target)))
    error = play.sees(TransferEnded).error
    assert isinstance(error, TransferFailed)
    assert "start over on another server" in str(error)
    start_over(play, target)
    behind = Behind(target)
    target.main.sends(main.AgentConnectedTokens(num_tokens=10))
    play.sees(AgentReady)
    assert behind.guest.error is None
    assert behind.guest.clipboards.offered() == ("text",)


def test_a_message_that_has_begun_is_completed_when_the_agent_comes_back(play: Play) -> None:
    """spice-server counts its bytes, and takes what comes instead for a part of it."""
    source, behind = up(play)
    play.core.agent.send_file("f", 50_000, play.now)
    play.run()
    behind.returns = 0
    feed(play, bytes(50_000), most=50_000)
    before = behind.pieces
    source.main.sends(main.AgentDisconnected(error_code=0))
    assert "agent is gone" in str(play.sees(TransferEnded).error)
    source.main.sends(main.AgentConnectedTokens(num_tokens=100))
    assert play.core.agent.phase is AgentPhase.READY
    stream = Reassembler(strict=True)
    log = [m.data for m in source.main.log if isinstance(m, main.ClientAgentData)]
    assert len(log) > before
    for piece in log:
        stream.receive(piece)
    assert not stream.inside


def test_an_agent_that_breaks_its_protocol_ends_nothing_else(play: Play) -> None:
    source, _ = up(play)
    source.main.sends(main.AgentData(data=b"\2" + bytes(30)))
    assert "protocol" in str(play.sees(AgentFailed).error)
    assert "guest's agent" in str(play.happened(AgentFailed)[0].error)
    source.main.sends(main.Name(name=b"still here\0"))
    assert play.core.name == "still here"


def test_a_file_that_the_guest_does_nothing_about_is_given_up_in_time(play: Play) -> None:
    _, behind = up(play)
    behind.returns = 0
    play.core.agent.send_file("f", 50_000, play.now, limit=7.0)
    play.run()
    feed(play, bytes(50_000))
    assert play.core.next_wake() == play.now + 7.0
    play.wait(7.1)
    assert isinstance(play.sees(TransferEnded).error, SpiceTimeout)


def test_a_session_that_was_opened_without_the_agent_leaves_it_alone(play: Play) -> None:
    play.config["agent"] = False
    source = play.server("source")
    play.connect(source, agent_connected=1, agent_tokens=10)
    source.main.gets(main.AgentStart)  # upstream's server can't hand over without
    source.main.gets_nothing()
    play.core.close()
