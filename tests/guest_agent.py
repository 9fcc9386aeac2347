"""A client's end of the agent, joined to the device of a guest on a recording host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from aiospice.agent.client import ClientAgent
from aiospice.wire.agent_stream import (
    CLIENT_PORT,
    SERVER_PORT,
    ChunkReader,
    pack_chunk,
    pack_message,
)

if TYPE_CHECKING:
    from tests.guest_host import RecordingHost

    from aiospice.agent.transfers import Transfer
    from aiospice.events import Event
    from aiospice.server.guest import Guest
    from aiospice.wire.agent import AgentMessage

    EventT = TypeVar("EventT", bound=Event)


class AgentPeer:
    """The client; `run` lets bytes go to and fro until nothing moves."""

    def __init__(self, host: RecordingHost, guest: Guest) -> None:
        self.device = host.devices["agent"]
        self.guest = guest
        self.client = ClientAgent()
        self.reader = ChunkReader()
        self.events: list[Event] = []
        self.client.connected()
        self.run()

    def run(self) -> None:
        while True:
            piece = self.client.pop(0.0)
            if piece:
                self.put(pack_chunk(CLIENT_PORT, piece))
            out = bytes(self.device.outbox)
            self.device.outbox.clear()
            for port, data in self.reader.receive(out):
                assert port == CLIENT_PORT
                self.client.receive(data, 0.0)
            self.events += self.client.events()
            if out:
                self.guest.device_writable(cast(Any, self.device))
            elif not piece:
                return

    def put(self, data: bytes) -> None:
        """Bytes for the guest, in two parts."""
        for part in (data[:5], data[5:]):
            self.device.inbox += part
            self.guest.device_readable(cast(Any, self.device))

    def from_server(self, message: AgentMessage) -> None:
        self.put(pack_chunk(SERVER_PORT, pack_message(message.number, message.body())))
        self.run()

    def send(self, name: str, data: bytes) -> Transfer:
        transfer = self.client.send_file(name, len(data), 0.0)
        self.run()
        while wanted := self.client.transfers.wanted(transfer):
            self.client.transfers.feed(transfer, data[transfer.fed :][:wanted], 0.0)
            self.run()
        return transfer

    def last(self, kind: type[EventT]) -> EventT:
        return [event for event in self.events if isinstance(event, kind)][-1]
