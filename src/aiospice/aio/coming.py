"""A guest comes: the target's end of a link, joined with its server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.aio.calm import CALM
from aiospice.aio.handover import Driver
from aiospice.migration.link_target import TargetDo, TargetLink
from aiospice.server.taking import Address, Taking

if TYPE_CHECKING:
    from aiospice.aio.peerlink import PeerStream
    from aiospice.aio.serve import Server
    from aiospice.migration.link_target import TargetMemory, TargetOrder

__all__ = ["Come"]


class Come(Taking, Driver):
    """One hand-over to here."""

    link: TargetLink

    def __init__(self, server: Server, memory: TargetMemory, stream: PeerStream) -> None:
        Driver.__init__(self, server)
        Taking.__init__(self, server.handovers.book)
        self.link = TargetLink(memory, server._crypto, self.now())
        self.plug(stream)

    @property
    def holder(self) -> Server:
        """The server."""
        return self.server

    @property
    def plugged(self) -> bool:
        """There is a connection."""
        return self.stream is not None

    def address(self) -> Address:
        """Where clients are to go. Raises `LocalError` if they can't come."""
        host, port, tls_port = self.server._migration_address()
        return Address(host, port, tls_port, self.server.handovers.subject if tls_port else "")

    async def drive(self) -> None:
        """Until it is over."""
        try:
            await super().drive()
        finally:
            if self._link_up:  # it was closed here, and not by the source
                self.unlink()
            CALM.end(self)
            self.shell.keys.rest(self, False)

    async def do(self, order: TargetOrder) -> None:
        """Carry out an order."""
        if order.do is TargetDo.LINKED:
            self.join()
            if self._link_up:
                self.warm_up()
        elif order.do is TargetDo.EXPECT:
            self.expect()
            self.shell.keys.rest(self, True)
        elif order.do is TargetDo.TAKE:
            CALM.begin(self)
            self.take(order.data)
        elif order.do is TargetDo.RUN:
            assert self.machine is not None
            machine, self.machine = self.machine, None
            self.server._guest_came(machine)
            self.link.running()
            CALM.begin(self)  # clients are on their way
            self.shell.keys.rest(self, False)
        elif order.do is TargetDo.DROP:
            self.drop(order.text)
        elif order.do is TargetDo.CLOSE:
            await self.flush()
            self.unplug()
            self.poke()

    def status(self) -> dict[str, Any]:
        """JSON-able."""
        link = self.link
        return {
            "migration": link.migration,
            "phase": link.phase.name.lower(),
            "early_bytes": link.early_bytes,
            "late_bytes": link.late_bytes,
        }
