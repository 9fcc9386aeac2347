"""A server's end of the link between two servers, with the real roles and the real bytes.

What `aiospice.aio.handover` is in the real world: it carries out what the roles of
`aiospice.migration` order (`sim.linksource`, `sim.linktarget`), over a line of the simulated
network. A piece of work that waits (there a coroutine) is a generator here: it gives the seconds
that it waits, or None: until something may have changed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from aiospice.errors import AiospiceError, RemoteProtocolError
from aiospice.migration.peer_codec import PeerReader, encode_peer
from aiospice.server.linkhost import LinkHost
from aiospice.sim.lines import READ

if TYPE_CHECKING:
    from aiospice.migration.link_source import SourceLink
    from aiospice.migration.link_target import TargetLink
    from aiospice.migration.peer import PeerMessage
    from aiospice.sim.lines import End
    from aiospice.sim.process import ServerProcess

__all__ = ["AGAIN", "LINKS", "LinkEnd", "Task", "Work"]

Work = Generator[float | None, None, None]

#: How long what is sent may take to be taken, as in `aiospice.aio.peerlink`.
STALL_SECONDS = 30.0
#: Links from other servers at a time, as in `aiospice.aio.handover`.
LINKS = 8
#: How long work waits in a process that stands still until it is looked at again, in seconds.
AGAIN = 0.05
#: Seconds until a full line is looked at again.
FULL = 0.01


class Task:
    """A piece of work."""

    def __init__(self, work: Work) -> None:
        self.work = work
        #: Only the latest call counts.
        self.turn = 0
        self.waits = self.over = False

    def cancel(self) -> None:
        """It isn't gone on with."""
        if not self.over:
            self.over = True
            self.work.close()


class LinkEnd(LinkHost):
    """One link of one server: reads it, keeps its time, sends what it wants to say."""

    link: SourceLink | TargetLink

    def __init__(self, server: ServerProcess, reached: Callable[[str], None]) -> None:
        self.server, self.world = server, server.world
        self.net, self.clock = server.net, server.clock
        self.name, self.stopped = server.name, False
        self.reached = reached
        self.end: End | None = None
        #: It has come to its end.
        self.done = False
        server.links_made += 1
        self.chance = server.chance.fork(f"link {server.links_made}")
        self._reader = PeerReader()
        self._tasks: list[Task] = []
        self._poked = False
        server.links.append(self)

    @property
    def core(self) -> Any:
        """The server's core."""
        return self.server.core

    def now(self) -> float:
        """The time."""
        return self.clock.now

    def turn(self, *, at_once: bool = False) -> None:
        """Have carried out what the core wants; here that is always at once."""
        self.server.turn()

    # -- work --------------------------------------------------------------------------------------

    def task(self, work: Work) -> Task:
        """Do something, until the link is over."""
        task = Task(work)
        self._tasks.append(task)
        self.clock.after(0.0, self._step, task, task.turn)
        return task

    def _step(self, task: Task, turn: int) -> None:
        if turn != task.turn or task.over or self.server.dead:
            return
        if self.server.stopped:
            self.clock.after(AGAIN, self._step, task, turn)
            return
        task.turn += 1
        task.waits = False
        try:
            seconds = next(task.work)
        except StopIteration:
            task.over = True
            self._tasks = [each for each in self._tasks if not each.over]
            return
        if task.over:
            return
        if seconds is not None:
            self.clock.after(seconds, self._step, task, task.turn)
            return
        task.waits = True
        at = self.link.next_wake()
        if self._poked:
            self.clock.after(0.0, self._step, task, task.turn)
        elif at is not None:
            self.clock.at(at, self._step, task, task.turn)

    def poke(self) -> None:
        """Something may have changed."""
        self._poked = True
        for task in self._tasks:
            if task.waits:
                task.waits = False
                task.turn += 1
                self.clock.after(0.0, self._step, task, task.turn)

    def _until_poked(self) -> Work:
        self._poked = False
        yield None

    def drive(self) -> Work:
        """Until the link is over."""
        while True:
            self._poked = False
            self.look()
            yield from self._settle()
            if self.link.over and not (self.link.orders or self.link.events):
                break
            yield None
            self.link.wake(self.now())
        self.finish()

    def finish(self) -> None:
        """It is over."""
        self.done = True
        self.unplug()
        self.server.links.remove(self)
        for task in self._tasks[1:]:  # the first is the one that drives
            task.cancel()

    def _settle(self) -> Work:
        """Carry out all orders, and send what there is."""
        while True:
            self.tell()
            if self.link.orders:
                order = self.link.orders.pop(0)
                try:
                    yield from self.do(order)
                except AiospiceError as error:
                    self.server.note(f"can't ({order.do.value}): {error}")
                    self.failed(error)
            elif self.link.outbox and self.end is not None:
                yield from self.flush()
            else:
                return

    def tell(self) -> None:
        """Pass events on."""
        events, self.link.events = self.link.events, []
        for event in events:
            self.server.note(str(event)[:160])
            self.world.server_event(self.server, event)

    # -- the connection ----------------------------------------------------------------------------

    def plug(self, end: End) -> None:
        """A connection is there."""
        self.end = end
        self._reader = PeerReader()
        self.readable(end)

    def unplug(self) -> None:
        """The connection isn't needed any more."""
        end, self.end = self.end, None
        if end is not None:
            self.net.finish(end)

    def dies(self, *, clean: bool) -> None:
        """The server is dead: its kernel closes the connection."""
        self.done = True
        if self.end is not None:
            if clean:
                self.net.finish(self.end)
            else:
                self.net.abort(self.end)
        self.end = None

    def cut(self, text: str) -> None:
        """The connection is no good any more."""
        self.unplug()
        self.server.note(f"the link is lost: {text[:100]}")
        self.lost(text)
        self.poke()

    def readable(self, end: End) -> None:
        """Bytes, or the end of them, are there."""
        while self.end is end and not self.server.away:
            most = 1 + self.chance.below(3000) if self.world.scenario.crumbs else READ
            data = self.net.read(end, most)
            if data:
                self._received(data)
            elif self.net.is_over(end):
                end.gone = True
                self.cut("the other server closed it" if end.error is None else str(end.error))
            else:
                return

    def _received(self, data: bytes) -> None:
        try:
            for message in self._reader.receive(data):
                who = getattr(message, "client", "")
                self.server.note(f"<- peer {type(message).__name__} {who}")
                self.link.receive(message, self.now())
        except RemoteProtocolError as error:
            self.cut(str(error))
            return
        self.took()
        if self.end is not None and not self.link.orders:  # at once: the guest may stand still
            messages, self.link.outbox = self.link.outbox, []
            self._write(messages)
        self.poke()

    def writable(self, end: End) -> None:
        """The kernel has taken all: who waits for that looks by itself."""
        return

    def _write(self, messages: list[PeerMessage]) -> None:
        for message in messages:
            if self.end is not None:
                self.net.write(self.end, encode_peer(message))

    def flush(self) -> Work:
        """Send what the link wants to say."""
        messages, self.link.outbox = self.link.outbox, []
        yield from self.send(messages)

    def send(self, messages: list[PeerMessage]) -> Work:
        """Send messages, and wait until most of it is taken."""
        end = self.end
        self._write(messages)
        until = self.now() + STALL_SECONDS
        while end is not None and end is self.end and not self.net.can_write(end):
            if self.now() >= until:
                self.cut(f"it takes nothing for {STALL_SECONDS:g} s")
                return
            yield FULL

    # -- of the two roles --------------------------------------------------------------------------

    @abstractmethod
    def look(self) -> None:
        """Look what has happened in the core."""

    def took(self) -> None:
        """Messages have come."""
        return

    @abstractmethod
    def do(self, order: Any) -> Work:
        """Carry out an order."""

    @abstractmethod
    def failed(self, error: AiospiceError) -> None:
        """An order could not be carried out."""

    @abstractmethod
    def lost(self, text: str) -> None:
        """Tell the link that its connection is gone."""
