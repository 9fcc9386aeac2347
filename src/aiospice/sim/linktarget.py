"""A guest comes: the target's end of a link, joined with its server (`aiospice.aio.coming`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiospice.migration.link_target import TargetDo, TargetLink
from aiospice.server.taking import Address, Taking
from aiospice.sim.linkend import LinkEnd, Work

if TYPE_CHECKING:
    from aiospice.migration.link_target import TargetOrder
    from aiospice.sim.linksource import SourceEnd
    from aiospice.sim.process import ServerProcess

__all__ = ["TargetEnd"]


class TargetEnd(Taking, LinkEnd):
    """A guest comes (`aiospice.aio.coming`)."""

    link: TargetLink

    def __init__(
        self, server: ServerProcess, reached: Callable[[str], None], source: SourceEnd | None
    ) -> None:
        LinkEnd.__init__(self, server, reached)
        Taking.__init__(self, server.book)
        self.source = source
        self.link = TargetLink(server.memory, server.crypto, self.now())
        self.task(self.drive())

    @property
    def holder(self) -> ServerProcess:
        """The server."""
        return self.server

    @property
    def plugged(self) -> bool:
        """There is a connection."""
        return self.end is not None

    def address(self) -> Address:
        """Where clients are to go."""
        return Address(self.server.name, 5900)

    def finish(self) -> None:
        """It is over."""
        super().finish()
        if self._link_up:
            self.unlink()

    def do(self, order: TargetOrder) -> Work:
        """Carry out an order."""
        self.server.note(f"link: {order.do.value} {order.text}"[:120])
        if order.do is TargetDo.LINKED:
            self.join()
        elif order.do is TargetDo.EXPECT:
            self.expect()
        elif order.do is TargetDo.TAKE:
            yield self._carries / 2
            self.take(order.data)
            self.reached("taken")
        elif order.do is TargetDo.RUN:
            yield self._carries / 2
            self._run()
        elif order.do is TargetDo.DROP:
            self.drop(order.text)
        elif order.do is TargetDo.CLOSE:
            yield from self.flush()
            self.unplug()
            self.poke()

    @property
    def _carries(self) -> float:
        """Seconds that it takes to take the guest up."""
        move = max(self.world.operator.place, 0)
        return self.world.scenario.moves[move].carries

    def _run(self) -> None:
        assert self.machine is not None
        machine, self.machine = self.machine, None
        server = self.server
        server.turn()
        server.core.thaw_machine(machine, self.now())
        shown = server.host.display(0).pixels.tobytes()
        if self.source is not None and shown != self.source.shown:
            self.world.wrong("the guest's screen is another at the target")
        server.has_guest = True
        server.take_guest()
        server.turn()
        self.link.running()
        self.reached("thaw")
