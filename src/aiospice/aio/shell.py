"""The shell around a client's session core: sockets, the timer, and who is told what.

All of SPICE is in `aiospice.client.session.ClientSession`; this carries out its effects on
asyncio and passes its events on.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from aiospice.aio.transport import LENT_MOST, Transport, open_transport
from aiospice.client.connections import modules_for
from aiospice.client.session import ClientSession
from aiospice.effects import Close, Compute, Effect, Open, Pause, Resume
from aiospice.errors import AiospiceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

    from aiospice.aio.capture import CaptureFile
    from aiospice.aio.transport import Dial
    from aiospice.aio.video import Decoders
    from aiospice.channels.base import ClientChannel
    from aiospice.channels.events import Event
    from aiospice.client.config import ClientConfig
    from aiospice.codecs.video import VideoEnd, VideoFrame
    from aiospice.link.client import ClientCrypto

__all__ = ["Shell"]


def _with_codecs(config: ClientConfig) -> ClientConfig:
    """The configuration, with the video codecs that can be decoded here."""
    if config.channels is not None and "display" not in config.channels:
        return config
    from aiospice.aio.videocodecs import available

    return config._replace(decodable=available())


class _Wire:
    """What a transport tells, with the connection's number."""

    __slots__ = ("number", "shell", "transport")

    def __init__(self, shell: Shell, number: int) -> None:
        self.shell = shell
        self.number = number
        self.transport: Transport | None = None

    def received(self, data: bytes) -> None:
        """Bytes from the peer."""
        self.shell._received(self.number, data)

    def lent(self, view: memoryview) -> int:
        """Bytes from the peer, in memory that is used again; returns how many weren't taken."""
        return self.shell._received_lent(self.number, view)

    def writable(self) -> None:
        """The kernel has taken everything."""
        self.shell._writable(self.number)

    def closed(self, error: AiospiceError | None) -> None:
        """The connection is gone."""
        self.shell._closed(self.number, error)


class Shell:
    """Runs one `ClientSession` on the running event loop."""

    def __init__(
        self,
        config: ClientConfig,
        crypto: ClientCrypto,
        on_event: Callable[[Event], None],
        *,
        dial: Dial | None = None,
        capture: CaptureFile | None = None,
    ) -> None:
        self.core = ClientSession(_with_codecs(config), crypto)
        self._on_event = on_event
        self._dial = dial
        self._capture = capture
        self._loop = asyncio.get_running_loop()
        self._epoch = time.time() - self._loop.time()
        self._wires: dict[int, _Wire] = {}
        self._openings: dict[int, asyncio.Task[None]] = {}
        self._closing: set[_Wire] = set()
        self._pool: ThreadPoolExecutor | None = None
        self._decoders: Decoders | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._running = False
        self._again = False
        self._reading = False
        self._modules: list[str] | None = None
        #: Called whenever something may have left: those who wait for room look again.
        self.on_progress: Callable[[], None] = lambda: None

    def now(self) -> float:
        """The session's clock, in seconds."""
        return self._loop.time()

    def start(self) -> None:
        """Begin to connect."""
        self.core.start(self.now())
        self.turn()

    # -- the core's turn -------------------------------------------------------------------------

    def turn(self) -> None:
        """Carry out what the core wants, after anything was done to it."""
        if self._running:  # an effect or an event led back here
            self._again = True
            return
        self._running = True
        try:
            while True:
                self._again = False
                for effect in self.core.effects():
                    self._do(effect)
                for number in self.core.senders():
                    wire = self._wires.get(number)
                    if wire is not None and self.core.wants_to_send(number):
                        self._pump(wire)
                for event in self.core.events():
                    event.stamp(self._epoch + self.now())
                    self._on_event(event)
                if not self._again and not self.core._effects and not self.core._events:
                    break
        finally:
            self._running = False
        if self._reading:  # there is more, and then this is done
            return
        if self.core.switching:
            self._read_all()
        self._arm()
        self.on_progress()

    def _read_all(self) -> None:
        """What has come on any connection is part of the move: others of the loop wait for that."""
        self._reading = True
        try:
            for wire in list(self._wires.values()):
                if wire.transport is not None:
                    wire.transport.read_now()
        finally:
            self._reading = False

    def _drew(self, wire: _Wire, channel: ClientChannel, now: float) -> None:
        """What a turn has to do when nothing has happened but drawing, which is most of them.

        No other connection has anything new to send then, and no timer is another one.
        """
        core = self.core
        if channel.wants_to_send:
            self._pump(wire)
        if core._events:
            self._running, self._again = True, False
            try:
                for event in core.events():
                    event.stamp(self._epoch + now)
                    self._on_event(event)
            finally:
                self._running = False
            if self._again or core._effects or core._events:
                self.turn()
                return
        self.on_progress()

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, Open):
            task = self._loop.create_task(self._open(effect))
            self._openings[effect.connection] = task
        elif isinstance(effect, Close):
            self._drop(effect.connection)
        elif isinstance(effect, (Pause, Resume)):
            wire = self._wires.get(effect.connection)
            if wire is not None and wire.transport is not None:
                if isinstance(effect, Pause):
                    wire.transport.pause()
                else:
                    wire.transport.resume()
        elif isinstance(effect, Compute):
            self._compute(effect)

    def _compute(self, effect: Compute) -> None:
        """Do the job in a thread: kernels and libraries let go of the interpreter's lock."""
        if getattr(effect.job, "stateful", False):
            self._decode(effect.id, effect.job)
            return
        done = self._loop.run_in_executor(self._threads(), effect.job.run)
        done.add_done_callback(lambda future: self._computed(effect.id, future))

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            workers = min(4, os.cpu_count() or 1)
            self._pool = ThreadPoolExecutor(workers, thread_name_prefix="aiospice")
        return self._pool

    def _decode(self, number: int, job: VideoFrame | VideoEnd) -> None:
        """Have a frame decoded by what remembers the frames before it."""
        if self._decoders is None:
            from aiospice.aio.video import Decoders

            tell = self._loop.call_soon_threadsafe
            self._decoders = Decoders(
                self._threads().submit, lambda frame, result: tell(self._decoded, frame, result)
            )
        self._decoders.take(number, job)

    def _decoded(self, number: int, result: Any) -> None:
        if self._pool is not None:
            self.core.computed(number, result, self.now())
            self.turn()

    def _computed(self, number: int, future: asyncio.Future[Any]) -> None:
        if not future.cancelled():
            self.core.computed(number, future.result(), self.now())
            self.turn()

    def _drop(self, number: int) -> None:
        opening = self._openings.pop(number, None)
        if opening is not None:
            opening.cancel()
        wire = self._wires.pop(number, None)
        if wire is not None and wire.transport is not None:
            self._closing.add(wire)
            wire.transport.close()
            if self._capture is not None:
                self._capture.closed(number, self.now())

    async def _open(self, effect: Open) -> None:
        wire = _Wire(self, effect.connection)
        try:
            transport = await open_transport(
                effect.endpoint, wire, timeout=effect.timeout, dial=self._dial
            )
        except AiospiceError as error:
            self._openings.pop(effect.connection, None)
            self.core.closed(effect.connection, error, self.now())
            self.turn()
            return
        wire.transport = transport
        self._openings.pop(effect.connection, None)
        self._wires[effect.connection] = wire
        if self._capture is not None:
            self._capture.opened(
                effect.connection, "client", transport.peername, effect.endpoint.port, self.now()
            )
        self.core.connected(effect.connection, self.now())
        self.turn()
        self._prepare_to_import()

    def _prepare_to_import(self) -> None:
        """While the server thinks about the first link, import what the others will need."""
        if self._modules is None:
            self._modules = [
                name for name in modules_for(self.core.config.channels) if name not in sys.modules
            ]
            self._loop.call_soon(self._import_one)

    def _import_one(self) -> None:
        # One at a time: what the server sends meanwhile is not to wait for all of them.
        if self._modules:
            import_module(self._modules.pop(0))
            self._loop.call_soon(self._import_one)
        elif any(codec != 1 for codec in self.core.config.preferred_codecs()):
            from aiospice.aio.video import prepare

            self._threads().submit(prepare)

    def _pump(self, wire: _Wire) -> None:
        """Give the socket one message at a time, as long as the kernel takes it whole."""
        transport = wire.transport
        while transport is not None and transport.writable:
            secret_from = -1 if self._capture is None else self.core.secret_from(wire.number)
            data = self.core.take(wire.number)
            if not data:
                break
            transport.write(data)
            if self._capture is not None:
                self._record_sent(wire.number, data, secret_from)
            if not self.core.wants_to_send(wire.number):
                break

    def _record_sent(self, number: int, data: bytes, secret_from: int) -> None:
        assert self._capture is not None
        now = self.now()
        seen = len(data) if secret_from < 0 else secret_from
        self._capture.sent(number, data[:seen], now)
        if seen < len(data):
            self._capture.sent(number, data[seen:], now, secret=True)

    def _arm(self) -> None:
        at = self.core.next_wake()
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

    # -- what transports tell ----------------------------------------------------------------------

    def _received(self, number: int, data: bytes) -> None:
        if self._capture is not None:
            self._capture.received(number, data, self.now())
        self.core.received(number, data, self.now())
        self.turn()

    def _received_lent(self, number: int, view: memoryview) -> int:
        if self._capture is not None:
            self._received(number, bytes(view))
            return 0
        core = self.core
        now = self._loop.time()
        left = core.received_lent(number, view, LENT_MOST, now)
        if core.drew is None or core._effects:
            self.turn()
        else:
            self._drew(self._wires[number], core.drew, now)
        return left

    def _writable(self, number: int) -> None:
        self.turn()

    def _closed(self, number: int, error: AiospiceError | None) -> None:
        wire = self._wires.pop(number, None)
        if wire is None:  # closed from here
            self._closing = {other for other in self._closing if other.number != number}
            self.on_progress()
            return
        if self._capture is not None:
            self._capture.closed(number, self.now())
        self.core.closed(number, error, self.now())
        self.turn()

    # -- for the session's API ---------------------------------------------------------------------

    def unsent(self, number: int | None) -> int:
        """Bytes of a connection that the kernel has not taken yet."""
        wire = None if number is None else self._wires.get(number)
        return 0 if wire is None or wire.transport is None else wire.transport.unsent

    @property
    def closing(self) -> int:
        """Connections that are closed from here and not gone yet."""
        return len(self._closing)

    def abandon(self) -> None:
        """Let go of everything at once."""
        for task in self._openings.values():
            task.cancel()
        for wire in [*self._wires.values(), *self._closing]:
            if wire.transport is not None:
                wire.transport.abort()
        self._wires.clear()
        if self._decoders is not None:
            self._decoders.close()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
