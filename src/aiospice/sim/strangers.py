"""A network peer that has no business here, and tries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.errors import RemoteProtocolError
from aiospice.link.client import LinkClient
from aiospice.migration import peer
from aiospice.migration.link import Greeting
from aiospice.migration.peer_codec import PeerReader, encode_peer
from aiospice.sim.crypto import SimCrypto
from aiospice.sim.linkend import LINKS
from aiospice.sim.linktarget import TargetEnd

if TYPE_CHECKING:
    from aiospice.migration.peer import PeerMessage
    from aiospice.sim.chance import Chance
    from aiospice.sim.lines import End
    from aiospice.sim.process import ServerProcess
    from aiospice.sim.world import World

__all__ = ["LinkStranger", "Stranger"]

#: Seconds until it lets go.
PATIENCE = 3.0


class Stranger:
    """Opens a few connections: nonsense, wrong tickets, sessions of others, records unasked."""

    def __init__(self, world: World, server: ServerProcess, chance: Chance) -> None:
        self.world, self.server, self.chance = world, server, chance
        self.name = "stranger"
        self.stopped = False
        self.links: dict[int, tuple[End, LinkClient]] = {}

    def start(self) -> None:
        """Come in force."""
        for _ in range(1 + self.chance.below(3)):
            end = self.world.met(self, self.server)
            if self.chance.yes(0.3):
                self.world.net.write(end, self.chance.bytes(1 + self.chance.below(300)))
            else:
                self._link(end)
            self.world.clock.after(PATIENCE, self.world.net.abort, end)

    def _link(self, end: End) -> None:
        sessions = [0, self.chance.below(1 << 32)]
        for server in self.world.servers.values():
            sessions += server.core.sessions
        link = LinkClient(
            connection_id=self.chance.pick(sessions),
            channel_type=self.chance.pick((1, 1, 2, 3, 10)),
            channel_id=0,
            crypto=SimCrypto(self.chance.fork("crypto")),
            password=self.chance.pick(("", "a guess", "the passwor")),
        )
        link.start()
        self.links[id(end)] = (end, link)
        self._go_on(end, link)

    def _go_on(self, end: End, link: LinkClient) -> None:
        data = link.take()
        if data:
            self.world.net.write(end, data)
        if self.chance.yes(0.3):  # a record that nobody has asked for
            self.world.net.write(end, b"\5\0\x20\0\0\0" + self.chance.bytes(32))

    def readable(self, end: End) -> None:
        """An answer."""
        data = self.world.net.read(end)
        found = self.links.get(id(end))
        if not data or found is None:
            return
        link = found[1]
        link.receive(data)
        if link.error is None:
            self._go_on(end, link)

    def writable(self, end: End) -> None:
        """It has nothing more to say."""


class LinkStranger:
    """A server that has gone astray: it may link, and what it says there makes no sense."""

    def __init__(self, world: World, server: ServerProcess, chance: Chance) -> None:
        self.world, self.server, self.chance = world, server, chance
        self.name = "stranger"
        self.stopped = False
        self._reader = PeerReader()
        self._greeting = Greeting(SimCrypto(chance.fork("crypto")))
        self._answered = 0

    def start(self) -> None:
        """Connect, and greet."""
        world, server = self.world, self.server
        if len(server.links) >= LINKS:
            return
        line = world.net.between("stranger", server.name)
        come = TargetEnd(server, lambda anchor: None, None)
        here, there = world.net.connect(line, self, 0, come)
        come.plug(there)
        if self.chance.yes(0.2):
            world.net.write(here, self.chance.bytes(1 + self.chance.below(300)))
        else:
            self._say(here, self._greeting.hello)
            if self.chance.yes(0.8):
                self._say(here, self._opening())
        world.clock.after(PATIENCE, world.net.abort, here)

    def _say(self, end: End, message: PeerMessage) -> None:
        self.world.net.write(end, encode_peer(message))

    def _opening(self) -> PeerMessage:
        chance = self.chance
        clients: list[int] = [1, chance.below(1 << 32)]
        for server in self.world.servers.values():
            clients += server.core.sessions
        guest = self.server.guest.name
        what = chance.below(5)
        if what == 0:
            return peer.Ask(migration="nobody's")
        if what == 1:
            return self._nonsense()
        return peer.Propose(
            migration=f"astray {chance.below(1000)}",
            policy=chance.pick(("carry", "direct", "hold", "hope")),
            guest=chance.pick((guest, guest, guest, "another")),
            clients=tuple(peer.Expected(chance.pick(clients), None) for _ in range(what)),
            devices=chance.pick(((), ((10, 0, "org.example.stream"),), ((10, 0, "else"),))),
            displays=(0,),
        )

    def _nonsense(self) -> PeerMessage:
        chance = self.chance
        data = chance.bytes(1 + chance.below(200))
        return chance.pick(
            (
                peer.Piece("pixels/0/0/64/48/0", data),
                peer.Piece(f"pixels/0/{chance.below(9)}/4/2/0", bytes(32)),
                peer.Piece("state/0/1/", data),
                peer.Piece("state/0/1/", data, 3000),
                peer.Stopped(data),
                peer.Stopped(bytes(8) + data),
                peer.Go(),
                peer.Record(chance.below(3), (3, 0), data),
                peer.Late(chance.below(3), (3, 0), 101, data),
                peer.Agree("elsewhere", 1, 0, ""),
                peer.Running("astray"),
                peer.Cancel("no"),
            )
        )

    def readable(self, end: End) -> None:
        """An answer: say something more."""
        try:
            found = self._reader.receive(self.world.net.read(end))
        except RemoteProtocolError as error:
            self.world.wrong(f"{self.server.name} says to a server that has linked: {error}")
            return
        for message in found:
            if isinstance(message, peer.Running):
                self.world.wrong(f"{self.server.name} runs the guest of a stranger")
            if not isinstance(message, peer.Hello) and self._answered < 4:
                self._answered += 1
                self._say(end, self._nonsense())

    def writable(self, end: End) -> None:
        """It has nothing more to say."""
