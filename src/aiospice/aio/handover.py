"""A server's part in hand-overs over a link to the other server, as source and as target.

`Handovers` is what a server has of it; `Leave` and `Come` hold one link each, as source and as
target: they carry out what `aiospice.migration.link_source` and `link_target` order, and join the
link with the server's core.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from aiospice.errors import AiospiceError, LocalError, StateError
from aiospice.migration.link_target import TargetMemory
from aiospice.migration.peer import Expected, Propose
from aiospice.migration.source import ANSWER_SECONDS, Policy
from aiospice.server.holding import HOLD_SECONDS
from aiospice.server.linkhost import LinkBook, LinkHost

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from aiospice.aio.coming import Come
    from aiospice.aio.going import Leave
    from aiospice.aio.peerlink import LinkTls, PeerListener, PeerStream
    from aiospice.aio.serve import Server
    from aiospice.migration.link_source import SourceLink
    from aiospice.migration.link_target import TargetLink

__all__ = ["Driver", "Handovers", "LinkOptions"]

#: Links from other servers at a time.
LINKS = 8

_LOG = logging.getLogger("aiospice.server")


class LinkOptions(NamedTuple):
    """How a server may be reached by others that hand guests over; PEM files."""

    #: ``tls://HOST:PORT``, besides the control socket.
    listen: str | None = None
    certificate: str | None = None
    key: str | None = None
    #: The authority that has signed the other servers' certificates.
    ca: str | None = None
    #: The name by which clients reach this server; "": its first listener's address.
    host: str = ""


class Driver(LinkHost):
    """One link: reads it, keeps its time, sends what it wants to say."""

    link: SourceLink | TargetLink

    def __init__(self, server: Server) -> None:
        self.server = server
        self.shell = server._shell
        self.stream: PeerStream | None = None
        self._wake = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def core(self) -> Any:
        """The server's core."""
        return self.shell.core

    def warm_up(self) -> None:
        """Import what is needed in a hurry later on, and have it run once."""
        from cryptography.hazmat.primitives.ciphers import aead  # noqa: F401

        import aiospice.server.held
        import aiospice.server.videos  # noqa: F401
        from aiospice.aio.rehearsal import rehearse

        self.task(rehearse())

    def poke(self) -> None:
        """Something may have changed."""
        self._wake.set()

    def now(self) -> float:
        """The core's clock."""
        return self.shell.now()

    def turn(self, *, at_once: bool = False) -> None:
        """Have carried out what the core wants, all channels' at once if it is urgent."""
        if at_once:
            self.shell.turn_at_once()
        else:
            self.shell.turn()

    async def drive(self) -> None:
        """Until the link is over; never raises but when it is cancelled."""
        try:
            while True:
                self._wake.clear()
                self.look()
                await self._settle()
                if self.link.over and not self._work():
                    return
                await self._sleep()
        finally:
            for task in self._tasks:
                task.cancel()
            self.unplug()

    def _work(self) -> bool:
        return bool(self.link.orders or self.link.events)

    async def _settle(self) -> None:
        """Carry out all orders, and send what there is."""
        while True:
            self.tell()
            if self.link.orders:
                order = self.link.orders.pop(0)
                try:
                    await self.do(order)
                except AiospiceError as error:
                    self.failed(error)
                except Exception as error:
                    _LOG.exception("hand-over: %s failed", order.do.value)
                    self.failed(error)
            elif self.link.outbox and self.stream is not None:
                await self.flush()
            else:
                return

    async def flush(self) -> None:
        """Send what the link wants to say."""
        messages, self.link.outbox = self.link.outbox, []
        if self.stream is None:
            return
        try:
            await self.stream.send(*messages)
        except (OSError, AiospiceError) as error:
            self.cut(str(error))

    async def _sleep(self) -> None:
        at = self.link.next_wake()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if at is None else max(0.0, at - self.now())):
                await self._wake.wait()
        self.link.wake(self.now())

    def tell(self) -> None:
        """Pass events on."""
        events, self.link.events = self.link.events, []
        for event in events:
            self.shell._tell(event)

    # -- the connection --------------------------------------------------------------------------

    def plug(self, stream: PeerStream) -> None:
        """A connection is there."""
        self.stream = stream
        self._reader = self.task(self._read(stream))

    def unplug(self) -> None:
        """The connection isn't needed any more."""
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.close()
        reader, self._reader = self._reader, None
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()

    def task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something beside, until the link is over."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _read(self, stream: PeerStream) -> None:
        try:
            while (messages := await stream.receive()) is not None:
                for message in messages:
                    self.link.receive(message, self.now())
                if messages:
                    self.took()
                    self._answer()
                    self.poke()
            text = "the other server closed it"
        except (OSError, AiospiceError) as error:
            text = str(error)
        if self.stream is stream:
            self.cut(text)

    def _answer(self) -> None:
        """Say at once what is to be said: the guest may stand still."""
        if self.stream is not None and not self.link.orders:
            messages, self.link.outbox = self.link.outbox, []
            try:
                self.stream.write(*messages)
            except AiospiceError as error:
                self.cut(str(error))

    def cut(self, text: str) -> None:
        """The connection is no good any more."""
        self.unplug()
        self.lost(text)
        self.poke()

    # -- of the two roles ------------------------------------------------------------------------

    def look(self) -> None:
        """Look what has happened in the core."""
        return

    def took(self) -> None:
        """Messages have come."""
        return

    @abstractmethod
    async def do(self, order: Any) -> None:
        """Carry out an order."""

    @abstractmethod
    def failed(self, error: Exception) -> None:
        """An order could not be carried out."""

    @abstractmethod
    def lost(self, text: str) -> None:
        """Tell the link that its connection is gone."""


class Handovers:
    """All hand-overs of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.memory = TargetMemory()
        #: What is shown on links by TLS.
        self.tls: LinkTls | None = None
        #: The name or address by which clients reach this server, "" to guess it.
        self.host = ""
        #: Of this server's certificate, for clients that come with a guest.
        self.subject = ""
        self._listener: PeerListener | None = None
        self.leaving: Leave | None = None
        self.coming: list[Come] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.book = LinkBook()
        #: What the last one came to, for `status`.
        self.last = ""

    async def listen(self, links: LinkOptions) -> None:
        """Take links as the options say. Raises `LocalError`, `ConnectError`."""
        self.host = links.host
        if links.certificate is None or links.ca is None:
            if links.listen is not None or links.certificate or links.key or links.ca:
                raise LocalError(
                    "links by network need a certificate and the authority of the other side's: "
                    "--migrate-cert, --migrate-key and --migrate-ca"
                )
            return
        from aiospice.aio.peerlink import LinkTls, PeerListener

        self.tls = LinkTls(links.certificate, links.key, links.ca)
        self.tls.context(server=False)
        if links.listen is not None:
            self._listener = PeerListener(links.listen, self.tls, self.serve_link)
            await self._listener.start()

    # -- as the source ---------------------------------------------------------------------------

    def migrate(
        self,
        target: str,
        policy: str = "direct",
        ready_seconds: float = ANSWER_SECONDS,
        hold_seconds: float = HOLD_SECONDS,
    ) -> str:
        """Move the guest and its clients to another server; gives the migration's name.

        target: path of its control socket, or ``tls://HOST:PORT``. How it goes on, events tell.
        Raises `LocalError`, and `StateError` where the guest isn't here or moves already.
        """
        from aiospice.aio.going import Leave

        server = self._server
        core = server._shell.core
        known = [each.value for each in Policy]
        if policy not in known:
            raise LocalError(f"policy {policy!r} isn't known: {', '.join(known)}")
        if not 0 < ready_seconds <= 3600:
            raise LocalError(f"clients can be given up to 3600 seconds, not {ready_seconds}")
        if not 0 <= hold_seconds <= 10:
            raise LocalError(f"clients can be held for up to 10 seconds, not {hold_seconds}")
        if self.leaving is not None:
            raise StateError("a hand-over is under way already")
        if not server.has_guest:
            raise StateError("the guest isn't here: it can't be moved from here")
        if not server.guest.can_move:
            raise LocalError(f"the guest {server.guest.name} can't move to another server")
        if core.target.arrivals:
            raise StateError(f"{len(core.target.arrivals)} sessions are still arriving here")
        migration = server._crypto.random_bytes(8).hex()
        proposal = Propose(
            migration=migration,
            policy=policy,
            guest=server.guest.name,
            clients=tuple(
                Expected(session.id, session.ticket) for session in core.sessions.values()
            ),
            devices=tuple((*device.key, device.name) for device in core.devices.values()),
            displays=tuple(sorted(core.machine.displays)),
        )
        self.leaving = Leave(server, proposal, target, ready_seconds, hold_seconds)
        self._run(self._leave(self.leaving))
        return migration

    async def _leave(self, leave: Leave) -> None:
        try:
            await leave.begin()
            await leave.drive()
        finally:
            self.last = leave.outcome
            self.leaving = None

    def _current(self) -> Leave:
        if self.leaving is None:
            raise StateError("no hand-over from here is under way")
        return self.leaving

    def cancel(self) -> None:
        """The guest is to stay. `StateError` once it has been handed over."""
        leave = self._current()
        leave.link.cancel("it was called off")
        leave.poke()

    def resume(self) -> None:
        """The target doesn't have the guest, says an operator: it goes on here."""
        leave = self._current()
        leave.link.resume()
        leave.poke()

    def discard(self) -> None:
        """The target has the guest, says an operator: its clients follow it."""
        leave = self._current()
        leave.link.discard(leave.now())
        leave.poke()

    # -- as the target ---------------------------------------------------------------------------

    async def serve_link(self, stream: PeerStream) -> None:
        """A server has connected: its link, until that is over."""
        from aiospice.aio.coming import Come

        if len(self.coming) >= LINKS:
            stream.close()
            return
        come = Come(self._server, self.memory, stream)
        self.coming.append(come)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await come.drive()
        finally:
            self._tasks.discard(task)
            self.coming.remove(come)
            self.poke()

    # -- both ------------------------------------------------------------------------------------

    def poke(self) -> None:
        """The core has had its turn."""
        if self.leaving is not None:
            self.leaving.poke()
        for come in self.coming:
            come.poke()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """The server ends."""
        if self._listener is not None:
            self._listener.close()
        own = asyncio.current_task()
        tasks = {task for task in self._tasks if task is not own}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    def status(self) -> dict[str, Any]:
        """JSON-able: whether the guest is here, and what is under way."""
        found: dict[str, Any] = {"guest_here": self._server.has_guest}
        if self._listener is not None:
            found["listens"] = self._listener.address
        if self.leaving is not None:
            found["to"] = self.leaving.status()
        coming = [come.status() for come in self.coming if come.link.migration]
        if coming:
            found["from"] = coming
        if self.last:
            found["last"] = self.last
        return found
