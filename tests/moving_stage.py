"""`StageGuest`, on two servers of ours, moving from one to the other with all that it is.

::

    async with two_stages() as two, GtkClient("127.0.0.1", port=two.port) as gtk:
        await two.move("carry")
        await gtk.shows(two.guest.truth)
"""

from __future__ import annotations

import asyncio
import pickle
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.serve_stage import StageGuest, port_of, stage

from aiospice.channels.events import Event
from aiospice.errors import SpiceTimeout
from aiospice.migration.link_source import (
    HandoverFailed,
    HandoverFinished,
    HandoverUncertain,
)
from aiospice.migration.source import ANSWER_SECONDS, MoveFinished, MoveReady, Policy
from aiospice.migration.target import SessionArrived
from aiospice.server.events import ServerChannelOpened
from aiospice.server.guest import HostSurface

EventT = TypeVar("EventT", bound=Event)
T = TypeVar("T")

#: How sessions move in these tests: each is a test of its own.
POLICIES = tuple(policy.value for policy in Policy)

_ENDS = (HandoverFailed, HandoverFinished, HandoverUncertain)
_REMEMBERED = (
    *("size", "keys", "places", "moves", "buttons", "light", "wanted_monitors", "heard"),
    *("port_heard", "echo", "agent", "agent_events", "files", "_coming", "_to_port"),
)


class MovingStage(StageGuest):
    """A guest that goes on elsewhere: what it was told and what it has yet to write go with it."""

    name = "moving"

    async def run(self) -> None:
        """Take up what was left over; all else happens when something is told."""
        self._pump_port()
        self._pump_agent()

    #: Called when it has stopped.
    stopped: Callable[[], Any] = staticmethod(lambda: None)

    def freeze(self) -> Any:
        self.stopped()
        surfaces = [getattr(self, "icon", None), *self.glasses]
        shapes = [each and (each.id, each.width, each.height) for each in surfaces]
        # The test's own objects, for itself: a link takes plain data only, and bytes are that.
        return pickle.dumps(({name: getattr(self, name) for name in _REMEMBERED}, shapes))

    def thaw(self, state: Any) -> None:
        remembered, shapes = pickle.loads(state)
        for name, value in remembered.items():
            setattr(self, name, value)
        icon, *glasses = (each and HostSurface(self.screen, *each) for each in shapes)
        if icon is not None:
            self.icon = icon
        self.glasses = [glass for glass in glasses if glass is not None]
        self._news.set()


class TwoStages:
    """Two servers; ``here`` is where the guest is."""

    def __init__(self, here: Any, there: Any, folder: Path) -> None:
        self.here, self.there, self.folder = here, there, folder
        self.servers = (here, there)
        self.seen: dict[Any, list[Event]] = {here: [], there: []}
        self.moves = 0

    @property
    def guest(self) -> MovingStage:
        """The guest, where it is now."""
        found: MovingStage = self.here.guest
        return found

    @property
    def port(self) -> int:
        """Where clients find it."""
        return port_of(self.here)

    @property
    def tls_port(self) -> int:
        """Where they do over TLS."""
        return port_of(self.here, "spice+tls")

    def events(self, kind: type[EventT]) -> list[EventT]:
        """What both servers have told, of a kind."""
        return [each for told in self.seen.values() for each in told if isinstance(each, kind)]

    def links(self) -> list[str]:
        """Every channel that was ever opened at one of the servers, by name."""
        return [event.channel for event in self.events(ServerChannelOpened)]

    async def move(
        self,
        policy: str = "carry",
        *,
        meanwhile: Callable[[], Any] = lambda: None,
        ready: float = ANSWER_SECONDS,
    ) -> HandoverFinished:
        """Move the guest and all its clients; ``meanwhile`` is called when it has stopped.

        ``ready``: seconds that clients may take to connect to the other server.
        """
        here, there = self.here, self.there
        told, since = self.seen[here], len(self.seen[here])
        here.guest.stopped = meanwhile
        here.migrate(str(self.folder / f"{self.servers.index(there)}.sock"), policy, ready)
        async with asyncio.timeout(40):
            while not (ends := [each for each in told[since:] if isinstance(each, _ENDS)]):
                await asyncio.sleep(0.001)
        assert isinstance(ends[0], HandoverFinished), ends
        self.here, self.there = there, here
        self.moves += 1
        return ends[0]

    async def until(self, found: Callable[[MovingStage], T], what: str, limit: float = 40) -> T:
        """Wait until something is so at the guest, wherever that is by then."""
        try:
            async with asyncio.timeout(limit):
                while not (value := found(self.guest)):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise SpiceTimeout(f"the guest hasn't got {what} after {limit:g} s") from None
        return value

    def all_went_whole(self, clients: int = 1) -> None:
        """Nothing of any session began anew, and nobody was late."""
        ready = [(each.whole, each.anew, each.away) for each in self.events(MoveReady)]
        assert ready == [(clients, 0, 0)] * self.moves
        assert [each.late for each in self.events(MoveFinished)] == [0] * self.moves
        arrived = [each.whole for each in self.events(SessionArrived)]
        assert arrived == [True] * clients * self.moves


async def _note(server: Any, seen: list[Event]) -> None:
    tell = seen.append
    async for event in server.events():
        tell(event)


@asynccontextmanager
async def two_stages(
    make: Callable[[], MovingStage] = MovingStage, **options: Any
) -> AsyncIterator[TwoStages]:
    """Two servers on free ports, the guest on the first. Options are those of `aiospice.serve`."""
    with tempfile.TemporaryDirectory(prefix="aiospice-two-") as name:
        folder = Path(name)
        async with (
            stage(make(), control=folder / "0.sock", **options) as here,
            stage(make(), control=folder / "1.sock", incoming=True, **options) as there,
            _noted(TwoStages(here, there, folder)) as two,
        ):
            yield two


@asynccontextmanager
async def _noted(two: TwoStages) -> AsyncIterator[TwoStages]:
    """What both servers tell is written down."""
    readers = [asyncio.create_task(_note(each, two.seen[each])) for each in two.servers]
    try:
        yield two
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
