"""Who came to a target for a machine that then doesn't come: left to go by itself.

Its source tells the client that the hand-over is off. Until it has heard that, it may still be
connecting, and what is closed or refused meanwhile is an error to it: a spice-gtk (0.42) ends when
it has several. So it is let in and waits as before; what would begin its session here ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.channels.server.base import RecordArrived
from aiospice.channels.server.main import StartRequested
from aiospice.server.leftover import Leftover

if TYPE_CHECKING:
    from aiospice.channels.events import Event
    from aiospice.channels.server.base import ServerChannel
    from aiospice.link.server import LinkRequested
    from aiospice.server.carried import MachineState
    from aiospice.server.session import ServerSession

__all__ = ["CalledOff"]


class CalledOff(Leftover):
    """See the module's text."""

    def call_off_arrivals(self, reason: str, now: float) -> None:
        """The machine of who arrives here doesn't come.

        Who has begun to move is sent away, who hasn't goes by itself, after some seconds at most.
        """
        self._now = now
        for client in list(self.target.arrivals):
            if not self.target.call_off(client, reason, now):
                self.disconnect(client, reason, now)
        self._tell_target()

    def thaw_machine(self, state: MachineState, now: float) -> None:
        """As `Leftover.thaw_machine`; nobody is here any more who had come before, in vain."""
        self._now = now
        for client in [each for each in self.target.arrivals if self.target.is_off(each)]:
            self.disconnect(client, self.target.arrivals[client].called_off, now)
        super().thaw_machine(state, now)

    def _arrival_judged(self, asked: LinkRequested) -> bool:
        expected = self.target.expects(asked.connection_id, self._now) is not None
        if expected and self.target.is_off(asked.connection_id):
            self.disconnect(asked.connection_id, "it comes again", self._now)
        return super()._arrival_judged(asked)

    def _handle(self, session: ServerSession, channel: ServerChannel, event: Event) -> None:
        begins = isinstance(event, (StartRequested, RecordArrived))
        if begins and self.target.is_off(session.id):
            self.disconnect(session.id, self.target.arrivals[session.id].called_off, self._now)
        else:
            super()._handle(session, channel, event)
