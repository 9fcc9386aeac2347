"""A network peer that has no business here, and tries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.link.client import LinkClient
from aiospice.sim.crypto import SimCrypto

if TYPE_CHECKING:
    from aiospice.sim.chance import Chance
    from aiospice.sim.lines import End
    from aiospice.sim.process import ServerProcess
    from aiospice.sim.world import World

__all__ = ["Stranger"]

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
