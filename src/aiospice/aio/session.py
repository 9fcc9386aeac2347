"""A session as its user sees it: screen, keyboard, mouse, ports and events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from aiospice.aio.crypto import Crypto
from aiospice.aio.eventqueue import EVENT_LIMIT, EventQueue, EventsMissed
from aiospice.aio.shell import Shell
from aiospice.channels.events import Event
from aiospice.client.session import SessionPhase
from aiospice.errors import AiospiceError, SessionLost, SpiceTimeout, StateError

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterable
    from types import TracebackType
    from typing import Any

    import numpy as np

    from aiospice.aio.capture import CaptureFile
    from aiospice.aio.cards import Cards
    from aiospice.aio.clipboard import Clipboard
    from aiospice.aio.input import Keyboard, Mouse
    from aiospice.aio.port import Port
    from aiospice.aio.transport import Dial
    from aiospice.client.config import ClientConfig
    from aiospice.client.picture import Picture
    from aiospice.client.screen import Screen

__all__ = ["EVENT_LIMIT", "EventsMissed", "Session"]

#: Events kept until there is a reader.
EARLY_LIMIT = 1000
#: How long `Session.close` waits for what was written to leave, in seconds.
CLOSE_SECONDS = 2.0
#: How long it waits for the server to complete a screen that was opened just before.
MARK_SECONDS = 0.25
#: And how long after that.
SETTLE_SECONDS = 0.02
_DEVICES = (9, 10, 11)


class _Listener(EventQueue):
    """One reader of events."""

    #: A merged event that nobody else has, so that it may grow while it is in the queue.
    own: Event | None = None

    def put(self, event: Event) -> None:
        last: Any = self.queue[-1] if self.queue else None
        grows = type(last) is type(event) and type(event).__name__ == "ScreenChanged"
        if not grows or last.display != event.display:  # type: ignore[attr-defined]
            super().put(event)
            return
        if last is not self.own:
            self.own = self.queue[-1] = last = last.replace()
        _widen(last.__dict__, event)


def _warn_if_slow() -> None:
    from aiospice.client.batch import COMPILED

    if not COMPILED:
        import logging

        logging.getLogger("aiospice").warning(
            "the kernels of aiospice are not compiled here, so screens are slow (LZ4 or raw images "
            "are asked for); install a C compiler, then aiospice again"
        )


def _is_display(event: Any) -> bool:
    return bool(event.key[0] == 2)


def _widen(first: dict[str, Any], second: Any) -> None:
    """Make a change of a screen that of the common box with a later one."""
    x, y, right, bottom = first["x"], first["y"], second.x + second.width, second.y + second.height
    far, low = x + first["width"], y + first["height"]
    first["x"] = left = x if x < second.x else second.x
    first["y"] = top = y if y < second.y else second.y
    first["width"] = (right if right > far else far) - left
    first["height"] = (bottom if bottom > low else low) - top
    first["at"] = second.at


class Session:
    """A session with a server, made by `aiospice.connect`.

    It outlives its connections: a migration changes where it is connected and nothing else.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        dial: Dial | None = None,
        capture: CaptureFile | None = None,
    ) -> None:
        self._capture = capture
        self._shell = Shell(config, Crypto(), self._on_event, dial=dial, capture=capture)
        self._shell.on_progress = self._progress
        self._listeners: list[_Listener] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._ports: dict[tuple[int, int], Port] = {}
        self._cards: dict[tuple[int, int], Cards] = {}
        self._keyboard: Keyboard | None = None
        self._mouse: Mouse | None = None
        self._clipboard: Clipboard | None = None
        self._claimed: set[tuple[int, int]] = set()
        self._discard_unclaimed = False
        #: What has happened until somebody reads the events.
        self._early: _Listener | None = _Listener(EARLY_LIMIT)
        self._marked: set[int] = set()
        self._changed_at = 0.0
        #: When a display was opened or completed last.
        self._screen_at = 0.0
        self._ended = False
        self._typed = False
        self._was_at = config.unix_path or f"{config.host}:{config.port or config.tls_port}"

    # -- beginning and end -------------------------------------------------------------------------

    async def _connect(self) -> Self:
        """Open the session; returns when its channels are open. Raises what went wrong."""
        self._shell.start()
        try:
            await self._until(lambda: self._shell.core.ready)
        except BaseException:
            try:
                await self._settle()
            finally:
                self._shell.core.close()
                self._shell.turn()
                self._shell.abandon()
                self._end_capture()
            raise
        if self._shell.core.screens:
            _warn_if_slow()
        return self

    async def _settle(self) -> None:
        """Let the server finish with the screens that it has begun to set up.

        spice-server 0.15.1 does that in a thread of its own, and dies of a connection that is
        closed meanwhile (``DisplayChannel::on_connect`` in ``server/display-channel.cpp``,
        ``RedClient::destroy`` in ``server/red-client.cpp``). Nothing tells when it is done: MARK
        is the last message of it, a screen without a driver has none, and a little is done after.
        """
        core = self._shell.core
        core.stop_opening()
        self._shell.turn()
        await self._within(CLOSE_SECONDS, lambda: not core.being_set_up)
        await self._within(MARK_SECONDS, self._all_marked)
        left = self._screen_at + SETTLE_SECONDS - self._shell.now()
        if left > 0 and core.phase is not SessionPhase.CLOSED:
            await asyncio.sleep(left)

    def _all_marked(self) -> bool:
        core = self._shell.core
        return all(core.screens[key[1]].marked for key in core.at if key[0] == 2)

    async def _within(self, seconds: float, condition: Callable[[], bool]) -> None:
        """Wait for a condition, the end of the session, or so long."""
        from contextlib import suppress

        with suppress(TimeoutError, AiospiceError):
            async with asyncio.timeout(seconds):
                await self._until(condition)

    async def close(self) -> None:
        """Release what is pressed, let what was written leave, and end the session."""
        from contextlib import suppress

        core = self._shell.core
        if core.phase is not SessionPhase.CLOSED:
            inputs = core.channels.get((3, 0))
            if inputs is not None and inputs.sent:
                from aiospice.channels.inputs import InputsChannel

                if isinstance(inputs, InputsChannel):
                    inputs.release_all()
                    self._typed = True
            self._shell.turn()
            with suppress(TimeoutError, AiospiceError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._until(self._nothing_unsent)
                    await self._leave_devices()
            await self._settle()
            core.close()
            self._shell.turn()
        # A server that is still reading gets the rest; the wait has a limit of its own.
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS if self._typed else 0.05):
                while self._shell.closing:
                    await self._wait()
        self._shell.abandon()
        self._end_capture()

    async def _leave_devices(self) -> None:
        """Close inputs and devices before main, whose end makes servers drop all the others."""
        core = self._shell.core
        sent = [key for key in core.at if key[0] in (3, *_DEVICES) and core.channels[key].sent]
        if not sent:
            return
        self._typed = True
        for key in sent:
            core.leave(key)
            if key in self._ports:
                self._ports[key].end(None)
        self._shell.turn()
        while self._shell.closing:
            await self._wait()

    def _nothing_unsent(self) -> bool:
        core = self._shell.core
        return not any(
            core.channels[key].wants_to_send or self._shell.unsent(number)
            for key, number in core.at.items()
        )

    def _end_capture(self) -> None:
        if self._capture is not None:
            self._capture.close()
            self._capture = None

    async def wait_closed(self) -> None:
        """Wait until the session has ended; raises what ended it, if it wasn't `close`."""
        while self._shell.core.phase is not SessionPhase.CLOSED:
            await self._wait()
        if self._shell.core.error is not None:
            raise self._shell.core.error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # -- what is known -----------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return self._shell.core.phase is SessionPhase.CLOSED

    @property
    def name(self) -> str:
        """The machine's name, empty if the server told none. It comes from the peer."""
        return self._shell.core.name

    @property
    def uuid(self) -> str:
        """The machine's UUID, empty if the server told none."""
        return self._shell.core.uuid

    @property
    def address(self) -> str:
        """Where the session is now, or was last."""
        link = self._shell.core.link_of((1, 0))
        if link is not None:
            self._was_at = str(link.endpoint)
        return self._was_at

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the open channels, such as ``display:0``."""
        core = self._shell.core
        return tuple(core.channels[key].name for key in sorted(core.at))

    def messages_unknown(self) -> dict[str, dict[int, int]]:
        """How often messages of unknown numbers came: channel -> number -> count."""
        found = {channel.name: channel.unknown for channel in self._shell.core.channels.values()}
        return {name: dict(counts) for name, counts in found.items() if counts}

    # -- screen ------------------------------------------------------------------------------------

    async def screen(
        self, display: int = 0, *, settle: float = 0.0, timeout: float = 10.0
    ) -> Picture:
        """The picture of a display, once the server says that it is complete.

        ``settle``: then wait until nothing has changed for so many seconds. `SpiceTimeout` when
        the picture isn't there within ``timeout`` seconds; a screen that never settles is taken
        as it is then.
        """
        limit = self._shell.now() + timeout
        try:
            async with asyncio.timeout(timeout):
                await self._until(lambda: self._complete(display))
        except TimeoutError:
            screen = self._shell.core.screens.get(display)
            if screen is None or not screen.ready:
                raise SpiceTimeout(
                    f"{self.address}: no picture of display {display} within {timeout:g} s"
                ) from None
        since = self._shell.now()
        while settle > 0:
            quiet = max(since, self._changed_at) + settle
            now = self._shell.now()
            if now >= min(quiet, limit):
                break
            await asyncio.sleep(min(quiet, limit) - now)
        return self._screen(display).snapshot()

    async def screenshot(
        self, display: int = 0, *, settle: float = 0.0, timeout: float = 10.0
    ) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Like `screen`, as an array: uint8, height x width x 3, red green blue."""
        return (await self.screen(display, settle=settle, timeout=timeout)).array()

    def _screen(self, display: int) -> Screen:
        screen = self._shell.core.screens.get(display)
        if screen is None:
            raise self._absent((2, display), f"there is no display {display}")
        return screen

    def _absent(self, key: tuple[int, int], text: str) -> AiospiceError:
        """Why a channel isn't there: the server refused it, or doesn't offer it."""
        return self._shell.core.refused.get(key) or StateError(f"{self.address}: {text}")

    def _complete(self, display: int) -> bool:
        screen = self._shell.core.screens.get(display)
        if screen is None:
            if self._shell.core.ready:
                raise self._absent((2, display), f"there is no display {display}")
            return False
        return screen.marked and screen.ready and not screen.backlog

    # -- input and devices -------------------------------------------------------------------------

    @property
    def keyboard(self) -> Keyboard:
        """The guest's keyboard."""
        if self._keyboard is None:
            from aiospice.aio.input import Keyboard

            self._keyboard = Keyboard(self._shell)
        return self._keyboard

    @property
    def mouse(self) -> Mouse:
        """The guest's pointer."""
        if self._mouse is None:
            from aiospice.aio.input import Mouse

            self._mouse = Mouse(self._shell)
        return self._mouse

    @property
    def clipboard(self) -> Clipboard:
        """What is copied and pasted between this program and the guest."""
        if self._clipboard is None:
            from aiospice.aio.clipboard import Clipboard

            self._clipboard = Clipboard(self._shell, self._until)
        return self._clipboard

    async def send_file(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        timeout: float = 60.0,
    ) -> None:
        """Send a file into the guest, where its agent puts it (most: into Downloads).

        name: what it is called there; None: as here.
        progress: called with the bytes that have left, and the size.
        timeout: seconds that the guest may take for each step.

        Returns once the guest has all of it. Cancelled, it tells the guest. Raises `TransferFailed`
        when the guest doesn't take it or its agent goes away, `StateError` without an agent,
        `LocalError` for what can't be read, `SpiceTimeout`.
        """
        from aiospice.aio.files import send_file

        await send_file(
            self._shell, self._until, path, name=name, progress=progress, timeout=timeout
        )

    async def send_files(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        progress: Callable[[str | os.PathLike[str], int, int], None] | None = None,
        timeout: float = 60.0,
    ) -> list[AiospiceError | None]:
        """Send several files, a few side by side; what came of each, None: the guest has it.

        ``progress`` is called with the path, the bytes that have left, and the size.
        """
        from aiospice.aio.files import send_files

        async def send(path: str | os.PathLike[str]) -> None:
            tell = None if progress is None else (lambda sent, size: progress(path, sent, size))
            await self.send_file(path, progress=tell, timeout=timeout)

        return await send_files(send, paths)

    async def set_monitors(
        self, monitors: Iterable[tuple[int, int, int, int]], *, timeout: float = 10.0
    ) -> None:
        """Ask the guest for monitors: (width, height, x, y) in pixels of each; 0 x 0: off.

        The event `agent-replied` tells what came of it. `StateError` without an agent.
        """
        from aiospice.aio.clipboard import agent_ready

        agent = await agent_ready(self._shell, self._until, timeout)
        agent.set_monitors(monitors)
        self._shell.turn()

    async def set_guest_volume(
        self,
        volume: Iterable[int],
        *,
        mute: bool = False,
        playback: bool = True,
        timeout: float = 10.0,
    ) -> None:
        """Set the volume inside the guest, 0 to 65535 a channel: of playback, or of recording."""
        from aiospice.aio.clipboard import agent_ready

        agent = await agent_ready(self._shell, self._until, timeout)
        agent.set_volume(volume, mute=mute, playback=playback)
        self._shell.turn()

    async def ports(self, *, timeout: float = 10.0) -> list[str]:
        """Names of the port channels, webdav's included."""
        try:
            async with asyncio.timeout(timeout):
                await self._until(self._ports_named)
        except TimeoutError:
            raise SpiceTimeout(
                f"{self.address}: a port did not tell its name within {timeout:g} s"
            ) from None
        return [self._device(key).name for key in self._port_keys()]

    async def port(self, name: str | None = None, *, timeout: float = 10.0) -> Port:
        """The port of that name, or the only one there is; a stream that survives migrations."""
        names = await self.ports(timeout=timeout)
        keys = self._port_keys()
        if name is None:
            keys = [key for key in keys if key[0] == 10]
            if len(keys) != 1:
                raise StateError(
                    f"{self.address} has {len(keys)} ports ({', '.join(names) or 'none'}): "
                    "name one of them"
                )
            return self._device(keys[0])
        for key, known in zip(keys, names, strict=True):
            if known == name:
                return self._device(key)
        raise StateError(f"{self.address} has no port {name!r}, only {', '.join(names) or 'none'}")

    def device(self, kind: str, number: int = 0) -> Port:
        """The bytes of a ``usbredir``, ``webdav`` or ``port`` channel, by number."""
        from aiospice.wire.channels import ChannelType

        key = (int(ChannelType[kind.upper()]), number)
        if key[0] not in _DEVICES or key not in self._shell.core.channels:
            raise StateError(f"{self.address} has no channel {kind}:{number}")
        return self._device(key)

    def cards(self, number: int = 0) -> Cards:
        """Card messages of a ``smartcard`` channel, by number; from now on they are read there."""
        from aiospice.aio.cards import Cards

        key = (8, number)
        if key not in self._shell.core.channels:
            raise StateError(f"{self.address} has no channel smartcard:{number}")
        if key not in self._cards:
            self._cards[key] = Cards(self._shell, key)
        return self._cards[key]

    def _device(self, key: tuple[int, int]) -> Port:
        port = self._ports.get(key)
        if port is None:
            from aiospice.aio.port import Port

            port = self._ports[key] = Port(self._shell, key)
        port.discard = False
        self._claimed.add(key)
        return port

    def discard_unclaimed(self) -> None:
        """Drop what comes on devices that `port` and `device` were not asked for.

        Otherwise it is kept for whoever asks later, and once 256 KiB have come the connection
        isn't read any more, which stops a guest that goes on writing.
        """
        self._discard_unclaimed = True
        for key, port in self._ports.items():
            if key not in self._claimed:
                port.drop()

    def _port_keys(self) -> list[tuple[int, int]]:
        return sorted(key for key in self._shell.core.channels if key[0] in (10, 11))

    def _ports_named(self) -> bool:
        from aiospice.channels.vmc import PortChannel

        if self._shell.core.starting_over or not self._shell.core.ready:
            return False  # what the server has is still to come
        channels = [self._shell.core.channels[key] for key in self._port_keys()]
        return all(
            isinstance(channel, PortChannel) and channel.port_name is not None
            for channel in channels
        )

    # -- events ------------------------------------------------------------------------------------

    async def events(self) -> AsyncIterator[Event]:
        """Everything that happens, as `Event` values, until the session ends.

        The first reader also gets what has happened since the session was begun. Raises what
        ended the session. Bytes of devices are not among the events: see `port`.
        """
        listener, self._early = self._early or _Listener(), None
        listener.limit = EVENT_LIMIT
        self._listeners.append(listener)
        try:
            async for event in listener.read(lambda: self.closed):
                yield event
        finally:
            self._listeners.remove(listener)
        if self._shell.core.error is not None:
            raise self._shell.core.error

    def _on_event(self, event: Event) -> None:
        name = type(event).__name__
        if name == "DeviceData":
            self._on_device_data(event)
            return
        if name == "ClipboardData":
            self.clipboard.answered(event)  # type: ignore[arg-type]
            return
        if name == "ClipboardRequested":
            self.clipboard.asked(event)  # type: ignore[arg-type]
        elif name == "CardMessageReceived":
            self._on_card(event)
        elif name == "ScreenChanged":
            self._changed_at = self._shell.now()
        elif name == "ScreenMarked" or (name == "ChannelOpened" and _is_display(event)):
            self._screen_at = self._shell.now()
        elif name == "SessionEnded":
            self._on_end(getattr(event, "error", None))
        elif name == "ChannelGone":
            gone = event.key  # type: ignore[attr-defined]
            for reader in (self._ports.get(gone), self._cards.get(gone)):
                if reader is not None:
                    reader.end(event.error)  # type: ignore[attr-defined]
        if self._early is not None:
            self._early.put(event)
        for listener in self._listeners:
            listener.put(event)

    def _device_readers(self) -> list[Port | Cards]:
        return [*self._ports.values(), *self._cards.values()]

    def _on_card(self, event: Any) -> None:
        cards = self._cards.get(event.key)
        channel = self._shell.core.channels.get(event.key)
        if cards is not None:
            cards.feed(event)
        elif channel is not None:  # nobody but the listeners, which drop what is too much
            channel.consumed(1)  # type: ignore[attr-defined]

    def _on_device_data(self, event: Any) -> None:
        port = self._ports.get(event.key)
        if port is None:
            from aiospice.aio.port import Port

            port = self._ports[event.key] = Port(self._shell, event.key)
            port.discard = self._discard_unclaimed
        port.feed(event.data)

    def _on_end(self, error: AiospiceError | None) -> None:
        for reader in self._device_readers():
            reader.end(error)
        for listener in self._listeners:
            listener.wake()

    # -- waiting -----------------------------------------------------------------------------------

    def _progress(self) -> None:
        if self._ports or self._cards:
            for reader in self._device_readers():
                reader.look()
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition of the core; raises what ended the session before."""
        while True:
            if self.closed:
                raise self._shell.core.error or SessionLost("the session was closed")
            if condition():
                return
            await self._wait()
