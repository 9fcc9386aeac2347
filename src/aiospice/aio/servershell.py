"""The shell around a server's core: accepted sockets, threads, the timer, and the guest.

All of SPICE is in `aiospice.server.core.ServerCore`; this carries out its effects on asyncio and
passes its events on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from aiospice.aio.guestevents import EVENT_LIMIT, GuestEvents
from aiospice.aio.keypool import shared_pool
from aiospice.aio.serverlog import ServerLog
from aiospice.effects import Close, Compute, MakeKey, Pause, Resume, ServerEffect
from aiospice.errors import AiospiceError, ConnectError
from aiospice.server.core import ServerCore
from aiospice.server.encode import VideoJob

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from concurrent.futures import Future, ThreadPoolExecutor

    from aiospice.aio.listen import Listener, ServerTransport
    from aiospice.aio.videoencode import Encoders
    from aiospice.channels.events import Event
    from aiospice.link.server import ServerCrypto
    from aiospice.server.config import Peer, ServerConfig

__all__ = ["CLOSING_LIMIT", "ServerShell"]

#: Connections that are closed from here and not gone yet; of more, the oldest are cut off.
CLOSING_LIMIT = 64

#: Events of one read, from which on its client is read in smaller pieces.
_MANY_EVENTS = 32
#: How often what the guest does about events may lead to others, while it is about to move.
_SETTLE_ROUNDS = 10_000

_LOG = logging.getLogger("aiospice.server")


class _Wire:
    """One connection: what its transport tells, with its number."""

    __slots__ = ("held", "number", "paused", "shell", "task", "transport")

    def __init__(self, shell: ServerShell, number: int) -> None:
        self.shell = shell
        self.number = number
        #: None until the layers are ready.
        self.transport: ServerTransport | None = None
        self.task: asyncio.Task[None] | None = None
        #: It isn't read: the core has said so; the guest has yet to take what it brought.
        self.paused = False
        self.held = False

    def pause(self, paused: bool) -> None:
        """Read on or not, as the core says."""
        self.paused = paused
        self._read_or_not()

    def hold(self, held: bool) -> None:
        """Read on or not, as the shell says."""
        self.held = held
        self._read_or_not()

    def _read_or_not(self) -> None:
        if self.transport is None:
            return
        if self.paused or self.held:
            self.transport.pause()
        else:
            self.transport.resume()

    def received(self, data: bytes) -> None:
        """Bytes from the client."""
        self.shell._received(self, data)

    def writable(self) -> None:
        """The kernel has taken everything."""
        self.shell._writable(self)

    def closed(self, error: AiospiceError | None) -> None:
        """The connection is gone."""
        self.shell._closed(self, error)


class ServerShell:
    """Runs one `ServerCore` on the running event loop."""

    def __init__(
        self,
        config: ServerConfig,
        crypto: ServerCrypto,
        on_event: Callable[[Event], None],
    ) -> None:
        self.core = ServerCore(config, crypto)
        self.keys = shared_pool(crypto.make_ticket_key)
        self._on_event = on_event
        self._log = ServerLog(_LOG)
        self._loop = asyncio.get_running_loop()
        self._epoch = time.time() - self._loop.time()
        self._events = GuestEvents(self._tell, self._loop.time)
        self._held: list[_Wire] = []
        self._wires: dict[int, _Wire] = {}
        self._closing: dict[_Wire, None] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._encoders: Encoders | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._number = 0
        self._due: asyncio.Handle | None = None
        self._stopped = False
        self._reading = False
        #: Called after each turn of the core.
        self.after_turn: Callable[[], None] = lambda: None

    def now(self) -> float:
        """The core's clock, in seconds."""
        return self._loop.time()

    # -- the core's turn -------------------------------------------------------------------------

    def turn(self) -> None:
        """Have what was done to the core carried out, once for all that the loop does now."""
        if self._due is None and not self._stopped:
            self._due = self._loop.call_soon(self._turn)

    def turn_at_once(self) -> None:
        """As `turn`, but now, with what is due then: what others of the loop do comes behind it."""
        if self._stopped:
            return
        if self._due is not None:
            self._due.cancel()
        self._turn()
        at, now = self.core.next_wake(), self.now()
        if at is not None and at <= now:
            self.core.wake(now)
            if self._due is not None:
                self._due.cancel()
            self._turn()

    def _turn(self) -> None:
        self._due = None
        core = self.core
        core.publish(self._loop.time())
        if core._effects:
            for effect in core.effects():
                self._do(effect)
        for number in core.wanting():
            wire = self._wires.get(number)
            if wire is not None:
                self._pump(wire)
        if core._events or self._events:
            self._events.put(core.events())
            self._events.deliver()
        if self._held and self._events.few:
            for wire in self._held:
                wire.hold(False)
            self._held.clear()
        self.after_turn()
        if core._effects or core._events or core._wanting or self._events:
            self.turn()
        else:
            self._arm()

    def settle(self) -> None:
        """Deliver all that has happened, and what follows from that: the guest is about to move."""
        for _ in range(_SETTLE_ROUNDS):
            self._events.put(self.core.events())
            if not self._events:
                return
            self._events.deliver()
        _LOG.warning("the guest moves, and its devices don't come to rest")

    def _do(self, effect: ServerEffect) -> None:
        if isinstance(effect, Close):
            self._drop(effect.connection, discard=effect.discard)
        elif isinstance(effect, (Pause, Resume)):
            wire = self._wires.get(effect.connection)
            if wire is not None:
                wire.pause(isinstance(effect, Pause))
        elif isinstance(effect, Compute):
            run = effect.job.run
            if isinstance(effect.job, VideoJob):
                run = partial(self._video_encoders().run, effect.job)
            # Not `run_in_executor`, whose second future takes as long as packing a small image.
            done = self._threads().submit(run)
            done.add_done_callback(partial(self._done, effect.id))
        elif isinstance(effect, MakeKey):
            self.keys.take(lambda key: self._key_made(effect.connection, key))

    def _video_encoders(self) -> Encoders:
        if self._encoders is None:
            from aiospice.aio.videoencode import Encoders

            self._encoders = Encoders()
        return self._encoders

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            workers = min(4, os.cpu_count() or 1)
            self._pool = ThreadPoolExecutor(workers, thread_name_prefix="aiospice-encode")
        return self._pool

    def _done(self, number: int, future: Future[Any]) -> None:
        """In a thread: a computation is over."""
        if not future.cancelled():
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._computed, number, future)

    def _computed(self, number: int, future: Future[Any]) -> None:
        if self._stopped:
            return
        error = future.exception()
        if error is not None:  # a mistake of ours: the client goes on without it
            _LOG.error("a computation failed", exc_info=error)
            result: Any = AiospiceError(f"a computation failed: {error!r}")
        else:
            result = future.result()
        self.core.computed(number, result, self.now())
        self.turn()

    def _key_made(self, number: int, key: bytes) -> bool:
        if number not in self._wires:
            return False
        self.core.ticket_key(number, key, self.now())
        self.turn()
        return True

    def _pump(self, wire: _Wire) -> None:
        """Give the socket one message at a time, as long as the kernel takes it whole.

        Whatever goes wrong ends this connection, and the others get their turn.
        """
        transport = wire.transport
        try:
            while transport is not None and transport.writable:
                data = self.core.take(wire.number)
                if not data:
                    break
                transport.write(data)
                if self.core.took_all:
                    break
        except Exception as error:
            if not isinstance(error, AiospiceError):
                _LOG.exception("connection %d: what it is to be sent can't be made", wire.number)
                error = AiospiceError(f"what it is to be sent can't be made: {error!r}")
            assert transport is not None
            transport.abort()
            self._closed(wire, error)

    def _drop(self, number: int, *, discard: bool) -> None:
        """Close a connection, after what is left to be sent on it unless that is discarded."""
        wire = self._wires.pop(number, None)
        transport = None if wire is None else wire.transport
        unwritten = 0 if transport is None else transport.unsent
        if discard:
            self.core.dropped(number, unwritten, self.now())
        else:
            while data := self.core.take(number):
                if transport is not None:
                    transport.write(data)
        if wire is None:
            return
        if transport is None:
            if wire.task is not None:
                wire.task.cancel()
            return
        self._closing[wire] = None
        if discard and unwritten:
            transport.abort()
        else:
            transport.close()
        if len(self._closing) > CLOSING_LIMIT:
            oldest = next(iter(self._closing))
            if oldest.transport is not None:
                oldest.transport.abort()

    def _arm(self) -> None:
        at = None if self._stopped else self.core.next_wake()
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = None if at is None else self._loop.call_at(at, self._wake)

    def _wake(self) -> None:
        self._timer = self._timer_at = None
        self.core.wake(self.now())
        self.turn()

    # -- connections ------------------------------------------------------------------------------

    def accepted(self, listener: Listener, sock: socket.socket, peer: Peer) -> None:
        """A peer has connected: the core says whether it may stay."""
        self._number += 1
        wire = _Wire(self, self._number)
        self._wires[wire.number] = wire
        self.core.accepted(wire.number, peer, self.now())
        for effect in self.core.effects():
            self._do(effect)
        if wire.number in self._wires:
            transport = listener.transport(wire, peer)
            wire.task = self._loop.create_task(self._open(wire, transport, sock, peer))
            wire.task.add_done_callback(lambda task: transport.let_go(sock))
        else:  # refused
            sock.close()
        self.turn()

    async def _open(
        self, wire: _Wire, transport: ServerTransport, sock: socket.socket, peer: Peer
    ) -> None:
        try:
            await transport.attach(sock)
        except AiospiceError as error:
            self._closed(wire, error)
        except OSError as error:
            self._closed(wire, ConnectError(f"{peer.address}: {error}"))
        else:
            wire.transport, wire.task = transport, None
            self._pump(wire)

    def _received(self, wire: _Wire, data: bytes) -> None:
        core = self.core
        before = len(core._events)
        core.received(wire.number, data, self.now())
        if core.urgent:
            core.urgent = False
            self._pump(wire)
            if core.target.arrivals and core._events:  # what the guest could not write, it can now
                self._events.put(core.events())
                self._events.deliver()
                self._pump(wire)
            self._read_others(wire)
        brought = max(0, len(core._events) - before)
        if brought > _MANY_EVENTS and wire.transport is not None:
            wire.transport.read_little()
        if brought and len(core._events) + len(self._events) > EVENT_LIMIT and not wire.held:
            wire.hold(True)
            self._held.append(wire)
        self._turn_if_needed()

    def _read_others(self, wire: _Wire) -> None:
        """What the client has sent on its other connections is part of the same move."""
        if self._reading:
            return
        self._reading = True
        try:
            for number in self.core.companions(wire.number):
                other = self._wires.get(number)
                if other is not None and other.transport is not None:
                    other.transport.read_now()
        finally:
            self._reading = False

    def _turn_if_needed(self) -> None:
        """Most of what clients send are acknowledgements, of which nothing follows."""
        core = self.core
        if (
            core._effects
            or core._events
            or core._wanting
            or core._stale
            or self._events
            or core.peer_out
        ):
            self.turn()
        elif self._due is None:
            self._arm()

    def _tell(self, event: Event) -> None:
        event.stamp(self._epoch + self.now())
        self._log.tell(event, self.now())
        self._on_event(event)

    def _writable(self, wire: _Wire) -> None:
        self._pump(wire)
        self._turn_if_needed()

    def _closed(self, wire: _Wire, error: AiospiceError | None) -> None:
        self._closing.pop(wire, None)
        if self._wires.pop(wire.number, None) is not None:
            unwritten = 0 if wire.transport is None else wire.transport.unsent
            self.core.closed(wire.number, error, self.now(), unwritten)
            self.turn()

    # -- the end -----------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a connection is open or being closed, or an event isn't delivered."""
        return bool(self._wires or self._closing or self._events)

    def status(self) -> dict[str, Any]:
        """JSON-able: what the core says, and what is the shell's."""
        found = self.core.status(self.now())
        found["sockets"] = {"open": len(self._wires), "closing": len(self._closing)}
        found["keys_ready"] = len(self.keys)
        return found

    def stop(self) -> None:
        """Let go of everything at once."""
        if not self._stopped:
            self.keys.close()
        self._stopped = True
        if self._due is not None:
            self._due.cancel()
        for wire in [*self._wires.values(), *self._closing]:
            if wire.task is not None:
                wire.task.cancel()
            if wire.transport is not None:
                wire.transport.abort()
        self._wires.clear()
        self._log.close(self.now())
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        self._arm()
