"""A guest's agent behind a server's core, and what the server itself tells it."""

from __future__ import annotations

import pytest
from tests.server_pair import PairClient, ServerPair

from aiospice.agent.guest import GuestAgent
from aiospice.agent.guest_events import GraphicsDevices, PointerMoved
from aiospice.channels.events import Event
from aiospice.channels.main import AgentConnected, AgentDisconnected, MouseModeChanged
from aiospice.channels.server.inputs import PointerPlaced
from aiospice.server.events import MonitorsRequested
from aiospice.wire.agent import MonConfig, MonitorsConfig
from aiospice.wire.agent_stream import Chunker

CUTS = pytest.mark.parametrize("cut", [0, 1], ids=["whole", "byte-by-byte"])


class AgentInGuest:
    """Moves bytes between a `GuestAgent` and its device, as a guest does."""

    def __init__(self, pair: ServerPair) -> None:
        self.pair = pair
        self.device = pair.host.agent()
        self.core = GuestAgent()
        self.events: list[Event] = []

    def run(self) -> None:
        """Until nothing moves."""
        busy = True
        while busy:
            self.pair.run()
            data = self.device.read(self.core.room)
            self.core.receive(data)
            self.events += self.core.events()
            said = self.core.take(4096)
            done = self.device.write(said)
            self.core.put_back(said[done:])
            busy = bool(data or done)


def agent_in(pair: ServerPair) -> AgentInGuest:
    """An agent starts in the guest."""
    agent = AgentInGuest(pair)
    agent.device.opened = True
    agent.run()
    return agent


def modes(client: PairClient) -> tuple[int, int]:
    """The mouse modes that a client knows of: those there are, and the current one."""
    last = client.seen(MouseModeChanged)[-1]
    return last.supported, last.current


@CUTS
def test_positions_go_through_the_agent_where_the_guest_takes_none(cut: int) -> None:
    pair = ServerPair(cut=cut)
    pair.host.mouse_modes(absolute=False)
    anna = pair.client()
    assert modes(anna) == (1, 1)
    agent = agent_in(pair)
    assert modes(anna) == (3, 2)
    mouse = anna.channel(3)
    mouse.position(10, 20)
    agent.run()
    mouse.press(1)
    agent.run()
    mouse.release(1)
    agent.run()
    moved = [event for event in agent.events if isinstance(event, PointerMoved)]
    assert [(event.x, event.y) for event in moved] == [(10, 20)] * 3
    assert not pair.seen(PointerPlaced)
    agent.device.opened = False
    pair.run()
    assert modes(anna) == (1, 1)


@CUTS
def test_clients_learn_of_an_agent_that_comes_and_goes(cut: int) -> None:
    pair = ServerPair(cut=cut)
    anna = pair.client()
    agent = agent_in(pair)
    assert len(anna.seen(AgentConnected)) == 1
    agent.device.opened = False
    pair.run()
    assert len(anna.seen(AgentDisconnected)) == 1
    agent = agent_in(pair)
    assert len(anna.seen(AgentConnected)) == 2
    assert pair.client().seen(AgentConnected)


def test_an_agent_that_speaks_rubbish_is_removed() -> None:
    pair = ServerPair()
    anna = pair.client()
    device = pair.host.agent()
    device.opened = True
    pair.run()
    device.write(b"\7\0\0\0\5\0\0\0hello")
    pair.run()
    assert not device.opened
    assert anna.seen(AgentDisconnected)
    assert anna.core.error is None


@CUTS
def test_the_agent_is_told_the_graphics_devices_each_time_it_comes(cut: int) -> None:
    pair = ServerPair(cut=cut)
    pair.host.graphics_devices([(0, 0, 0, "pci/0000/02.0")])
    for _ in range(2):
        agent = agent_in(pair)
        (told,) = [event for event in agent.events if isinstance(event, GraphicsDevices)]
        assert "pci/0000/02.0" in str(told)
        agent.device.opened = False
    agent = agent_in(pair)
    pair.host.graphics_devices([(1, 0, 0, "pci/0000/03.0")])
    agent.run()
    assert "pci/0000/03.0" in str(agent.events[-1])


def monitors(*sizes: tuple[int, int]) -> list[bytes]:
    """A client's wish for monitors side by side, as AGENT_DATA bodies."""
    x, found = 0, []
    for width, height in sizes:
        found.append(MonConfig(height=height, width=width, depth=32, x=x, y=0))
        x += width
    chunks = Chunker()
    chunks.push_message(MonitorsConfig(flags=1, monitors=tuple(found), physical_sizes=()))
    return list(iter(chunks.pop, None))


def test_the_guest_is_told_the_monitors_that_a_client_wants() -> None:
    pair = ServerPair()
    pair.host.takes_monitors()
    anna = pair.client()
    agent = agent_in(pair)
    for piece in monitors((800, 600), (1024, 768)):
        anna.channel(1).agent_send(piece)
    agent.run()
    (wanted,) = pair.seen(MonitorsRequested)
    assert wanted.monitors == ((0, 0, 800, 600), (800, 0, 1024, 768))
