"""``aiospice.serve``: a guest, shown to SPICE clients."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from socket import gethostname
from typing import TYPE_CHECKING, Any, Self

from aiospice.aio.crypto import Crypto
from aiospice.aio.eventqueue import EVENT_LIMIT, EventQueue
from aiospice.aio.handover import Handovers, LinkOptions
from aiospice.aio.listen import Listen, Listener, bind, is_local
from aiospice.aio.origins import OriginRule
from aiospice.aio.servershell import ServerShell
from aiospice.aio.settings import listens_of, safe_or_raise, settings_of
from aiospice.channels.server.inputs import (
    ButtonChanged,
    KeyChanged,
    LocksRequested,
    MouseMoved,
    PointerPlaced,
)
from aiospice.channels.server.record import SoundRecorded
from aiospice.channels.server.vmc import PortSignalled
from aiospice.codecs.video import VP8
from aiospice.errors import LocalError, MissingProgram, StateError
from aiospice.migration.source import ANSWER_SECONDS
from aiospice.migration.target import EXPECT_SECONDS, SessionMissed
from aiospice.server.events import (
    ClientConnected,
    ClientDisconnected,
    DeviceReadable,
    DeviceWritable,
)
from aiospice.server.guest import Guest, Host, dispatch
from aiospice.server.holding import HOLD_SECONDS

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import AsyncIterator, Generator, Iterable, Mapping, Sequence
    from types import TracebackType

    from aiospice.aio.control import Control
    from aiospice.aio.moving import GuestState, Move
    from aiospice.channels.events import Event
    from aiospice.link.sasl import SaslUser
    from aiospice.server.carried import LateInputs, MachineState
    from aiospice.server.config import ServerConfig

__all__ = ["FOR_THE_GUEST", "Server", "serve"]

#: How long `Server.close` waits for clients to take what they were sent, in seconds.
CLOSE_SECONDS = 2.0
#: How long it waits for the guest to end.
GUEST_SECONDS = 5.0
#: Events kept until there is a reader.
EARLY_LIMIT = 1000

#: What clients type, say and point at is nobody else's business.
FOR_THE_GUEST = (
    KeyChanged,
    ButtonChanged,
    PointerPlaced,
    MouseMoved,
    LocksRequested,
    SoundRecorded,
    DeviceReadable,
    DeviceWritable,
    PortSignalled,
)

_LOG = logging.getLogger("aiospice.server")


class Server:
    """A server that runs, made by `aiospice.serve`."""

    def __init__(self, guest: Guest, config: ServerConfig, *, incoming: bool = False) -> None:
        #: The guest lives here; else it is on its way, or has gone.
        self.has_guest = not incoming
        #: Clients that the guest knows from the server that it came from, and that aren't here yet.
        self._coming: set[int] = set()
        #: What is shown.
        self.guest = guest
        self._crypto = Crypto()
        self._shell = ServerShell(config, self._crypto, self._on_event)
        #: Hand-overs by a link to another server.
        self.handovers = Handovers(self)
        self._shell.after_turn = self.handovers.poke
        #: The machine as the guest sees it.
        self.host = Host(self._shell.core, self._shell.turn)
        self._listeners: list[Listener] = []
        self._control: Control | None = None
        self._life: asyncio.Task[None] | None = None
        self._end: asyncio.Task[None] | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers: list[EventQueue] = []
        self._early: EventQueue | None = EventQueue(EARLY_LIMIT)

    # -- beginning and end -------------------------------------------------------------------------

    async def _start(
        self,
        listens: Sequence[Listen],
        context: ssl.SSLContext | None,
        origins: tuple[str, ...],
        control: str | None,
        opus: bool | None,
        links: LinkOptions,
    ) -> None:
        """Listen everywhere or nowhere, then start the guest."""
        try:
            for listen in listens:
                for sock in await bind(listen):
                    self._listeners.append(
                        Listener(
                            listen,
                            sock,
                            context=context if listen.tls else None,
                            origin=OriginRule(origins) if listen.websocket else None,
                            accepted=self._shell.accepted,
                        )
                    )
            core = self._shell.core
            exposed = [one for one in self._listeners if not is_local(one.listen, one.sock)]
            safe_or_raise(core.config, self.guest, [one.address for one in exposed])
            if control is not None:
                from aiospice.aio.control import Control

                self._control = Control(self, control)
                await self._control.start()
            await self.handovers.listen(links)
            self.guest.attach(self.host)
            self._choose_sound(opus)
            self._choose_videos()
            if type(self.guest).monitors is not Guest.monitors:
                self.host.takes_monitors()
        except BaseException:
            await self._let_go()
            raise
        self._shell.keys.start()
        for listener in self._listeners:
            listener.start()
            _LOG.info("listening on %s", listener.address)
        if self.has_guest:
            self._begin_life()
        self._shell.turn()

    def _begin_life(self) -> None:
        self._life = asyncio.get_running_loop().create_task(self._live())

    async def _end_life(self) -> None:
        life, self._life = self._life, None
        if life is not None and life is not asyncio.current_task():
            life.cancel()
            await asyncio.wait({life}, timeout=GUEST_SECONDS)

    def _choose_sound(self, opus: bool | None) -> None:
        """Pack sound as Opus where that can be done, if the guest has sound and may (``opus``)."""
        core = self._shell.core
        if opus is False or not (core.machine.has_sound or core.machine.has_record):
            return
        from aiospice.aio.opus import OpusCodecs, opus_works

        if opus_works():
            core.config = core.config._replace(opus=True)
            self.host._codecs = OpusCodecs()
        elif opus:
            raise MissingProgram("Opus needs PyAV: pip install 'aiospice[video]'")

    def _choose_videos(self) -> None:
        """Offer VP8, for clients that like it better than MJPEG, where it can be encoded."""
        from aiospice.aio.videoencode import vp8_works

        core = self._shell.core
        if vp8_works() and VP8 not in core.config.video_codecs:
            core.config = core.config._replace(video_codecs=(*core.config.video_codecs, VP8))

    async def _live(self) -> None:
        """Let the guest live; if it fails the server ends, and `wait_closed` says why."""
        try:
            await self.guest.run()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            _LOG.error("the guest %s has failed: %r", self.guest.name, error)
            self.end(error)

    def end(self, error: Exception | None = None) -> None:
        """Begin to close, without waiting for it; ``error`` is what `wait_closed` raises."""
        if self._end is None:
            self._end = asyncio.get_running_loop().create_task(self._finish(error))

    async def close(self) -> None:
        """Stop listening, say goodbye to the clients, end the guest."""
        self.end()
        assert self._end is not None
        await asyncio.shield(self._end)

    async def _finish(self, error: Exception | None) -> None:
        for listener in self._listeners:
            listener.close()
        await self._end_life()
        self.guest.close()
        await self.handovers.close()
        core, now = self._shell.core, self._shell.now()
        for client in list(core.sessions):
            core.disconnect(client, "the server ends", now)
        self._shell.turn()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._shell.busy:
                    await asyncio.sleep(0.01)
        await self._let_go()
        if not self._closed.done():
            if error is None:
                self._closed.set_result(None)
            else:
                self._closed.set_exception(error)
                self._closed.exception()  # seen, whoever asks
        for reader in self._readers:
            reader.wake()

    async def _let_go(self) -> None:
        for listener in self._listeners:
            listener.close()
        if self._control is not None:
            await self._control.close()
        self._shell.stop()

    async def wait_closed(self) -> None:
        """Wait until the server has ended; raises what ended it, if it wasn't asked to."""
        await asyncio.shield(self._closed)

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
        """Whether the server has ended."""
        return self._closed.done()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, as clients write it: ``spice://127.0.0.1:5900``."""
        return tuple(listener.address for listener in self._listeners)

    def status(self) -> dict[str, Any]:
        """What goes on, JSON-able: clients and their channels, the machine, refused links."""
        found = self._shell.status()
        return {
            "guest": self.guest.name,
            "addresses": list(self.addresses),
            **found,
            "handover": self.handovers.status(),
        }

    # -- what can be done --------------------------------------------------------------------------

    def set_password(
        self, password: str | None, *, expires_in: float | None = None, once: bool = False
    ) -> None:
        """Ask for another password from now on; sessions that are up go on.

        ``expires_in``: seconds until it is good no longer. ``once``: it lets one session in. None
        lets everybody in, which only a server that nobody else reaches can be told. Raises
        `LocalError`.
        """
        from aiospice.aio.settings import check_password

        core = self._shell.core
        if core.config.users is not None:
            raise LocalError("this server asks for users (SASL), it has no password")
        check_password(password)
        exposed = [one.address for one in self._listeners if not one.local]
        safe_or_raise(core.config._replace(password=password), self.guest, exposed)
        now = self._shell.now()
        core.set_password(
            password, expires_at=None if expires_in is None else now + expires_in, once=once
        )

    def disconnect(self, client: int, reason: str = "disconnected by the server") -> None:
        """End a client's session; raises `StateError` if there is none of that number."""
        if not self._shell.core.disconnect(client, reason, self._shell.now()):
            raise StateError(f"there is no client {client}")
        self._shell.turn()

    # -- moving ------------------------------------------------------------------------------------

    def migrate(
        self,
        target: str,
        policy: str = "direct",
        ready_timeout: float = ANSWER_SECONDS,
        hold_timeout: float = HOLD_SECONDS,
    ) -> str:
        """Move the guest and all clients to another server, over a link between the two.

        target: the path of its control socket, or ``tls://HOST:PORT`` (``migrate_listen``); it has
        to be ``incoming``, with a guest of the same kind and the same devices. policy: as for
        `prepare_migration`, and ``direct`` and ``hold``. ready_timeout: seconds that clients may
        take to connect there; hold_timeout: that ``hold`` may keep the guest standing still until
        they have stopped sending. Gives the migration's name; how it goes on, events tell
        (``handover-...``). Raises `LocalError`, `StateError`.
        """
        return self.handovers.migrate(target, policy, ready_timeout, hold_timeout)

    async def prepare_migration(
        self,
        host: str,
        port: int = 0,
        *,
        tls_port: int = 0,
        cert_subject: str = "",
        policy: str = "carry",
        upstream: bool = False,
    ) -> Move:
        """Have all clients connect to the target, which has to expect them; see `Move`.

        policy: how their sessions get there; ``carry``: each client carries its own;
        ``carry-early``: displays without waiting for what their clients still send. upstream: the
        target is another program's server (QEMU's), so clients carry all that the guest hasn't
        read. Raises `LocalError` for a target that can't be one, `StateError` once the machine
        has left.
        """
        from aiospice.aio.moving import Move

        return Move(self, host, port, tls_port, cert_subject, policy, upstream=upstream)

    async def expect_migration(
        self,
        connection_id: int | None = None,
        ticket: str | None = None,
        timeout: float = EXPECT_SECONDS,
    ) -> None:
        """Let one client of another server come here with its session, within ``timeout`` s.

        connection_id: the session's number there, None for the first that has the ticket.
        ticket: the password that it came by there, None for this server's own. A guest that lives
        here stays as it is: such a session comes from a server that isn't ours. Raises `StateError`
        while this server's own clients leave, and for a guest where one lives.
        """
        self._expect(connection_id, ticket, timeout)

    def _expect(self, connection_id: int | None, ticket: str | None, timeout: float) -> None:
        core, lives = self._shell.core, self.has_guest
        if lives and connection_id is not None and not core.sessions:
            raise StateError("a guest lives here already, and no session is on its way to it")
        core.expect_migration(connection_id, ticket, timeout, lives=lives, now=self._shell.now())
        self._shell.turn()

    def thaw(self, state: GuestState) -> None:
        """The guest is here: what `Move.freeze` gave on the source. It lives from now on.

        Raises `LocalError` if this machine has other devices, `StateError` if a guest is here.
        """
        if self.has_guest:
            raise StateError("a guest lives here already")
        self.guest.thaw(state.guest)
        self._guest_came(state.machine)

    def _guest_came(self, machine: MachineState) -> None:
        """The guest was thawed, and is this server's from now on."""
        self._shell.settle()
        self._shell.core.thaw_machine(machine, self._shell.now())
        core = self._shell.core
        self.host._sound_came()
        self.has_guest = True
        self._coming = set(machine.wishes) - set(core.sessions)
        for session in core.sessions.values():
            if session.id not in machine.wishes:  # who waited here for a guest to come
                self._tell_guest(
                    ClientConnected(client=session.id, peer=session.peer, user=session.user)
                )
        if self._life is None:
            self._begin_life()
        self._shell.turn()

    def _guest_left(self) -> None:
        """The guest is another server's from now on."""
        self.has_guest = False
        self.guest.left()

    def _migration_address(self) -> tuple[str, int, int]:
        """Where clients are to go that come with a guest: name, port and TLS port (0: none)."""
        ports = {"spice": 0, "spice+tls": 0}
        host = self.handovers.host
        for one in self._listeners:
            if one.listen.scheme in ports and not ports[one.listen.scheme]:
                address, ports[one.listen.scheme] = one.sock.getsockname()[:2]
                if not host and address not in ("0.0.0.0", "::"):
                    host = address
        if not any(ports.values()):
            raise LocalError("clients can't come here: nothing listens on TCP (--listen)")
        return host or gethostname(), ports["spice"], ports["spice+tls"]

    def take_late_inputs(self, late: dict[int, LateInputs]) -> None:
        """What clients typed while neither server had the guest: what `Move.complete` gave."""
        self._shell.core.take_late_inputs(late, self._shell.now())
        self._shell.turn()

    # -- events ------------------------------------------------------------------------------------

    async def events(self) -> AsyncIterator[Event]:
        """Everything that happens, as `Event` values, until the server ends.

        The first reader also gets what has happened since it started. What clients type and where
        they point is for the guest only. Raises what ended the server.
        """
        queue, self._early = self._early or EventQueue(), None
        queue.limit = EVENT_LIMIT
        self._readers.append(queue)
        try:
            async for event in queue.read(lambda: self.closed):
                yield event
        finally:
            self._readers.remove(queue)
        await self.wait_closed()

    def _tell_guest(self, event: Event) -> None:
        """Tell the guest, if it doesn't know: clients that moved with it are its own already."""
        if isinstance(event, ClientConnected) and event.client in self._coming:
            self._coming.discard(event.client)
            return
        if isinstance(event, SessionMissed) and event.client in self._coming:
            self._coming.discard(event.client)
            event = ClientDisconnected(client=event.client, peer="", reason=event.reason)
        try:
            dispatch(self.guest, self.host, event)
        except Exception:
            _LOG.exception("the guest %s failed at %s", self.guest.name, event.kind)

    def _on_event(self, event: Event) -> None:
        if self.has_guest:
            self._tell_guest(event)
        if isinstance(event, FOR_THE_GUEST):
            return
        if self._early is not None:
            self._early.put(event)
        for reader in self._readers:
            reader.put(event)


class serve:
    """Serve a guest: ``async with serve(guest, ...) as server``, or ``await serve(...)``.

    Without a port, a path or ``listen`` it listens on 127.0.0.1:5900. Options:

    host, port: where plain SPICE is spoken; port 0: one that is free. host ``*``: all addresses.
    tls_port, ws_port, wss_port: of the same host, for TLS, WebSocket, and WebSocket over TLS.
    unix_path: of a UNIX socket for this user only.
    listen: more addresses: ``spice://``, ``spice+tls://``, ``ws://``, ``wss://HOST:PORT``,
        ``spice+unix:///PATH``.
    certificate, key: PEM files, for TLS; ``tls_ciphers``: OpenSSL's list for TLS 1.2.
    origins: of web pages that may come by WebSocket (``https://host:port``, ``*``: all), besides
        those of this host.
    password: the ticket; None: none is asked for, which needs loopback or a UNIX socket.
    password_expires: seconds until the password is good no longer; ``password_once``: it lets one
        session in.
    users: SASL instead: passwords (or `ScramKeys`) by user name. ``mechanisms``: which.
    secure_channels: names of channels (``inputs``) that are opened over TLS only, or ``all``.
    on_second_client: ``takeover``, ``refuse`` or ``share``.
    copy_paste, file_transfer: whether clients may use the clipboard, and send files.
    compression: ``auto``, ``off``, ``lz``, ``quic``, ``glz``, ``auto_lz``, ``auto_glz`` or ``lz4``.
    keep: whether clients of ours keep copies of what the guest hasn't taken, so that they can send
        it again at another server: ``none``, ``tokens`` or ``acks``.
    lossy, video: ``auto`` or ``never`` (``lossy`` also ``always``).
    opus: sound leaves as Opus where the client takes it; None: if PyAV is there.
    name: of the machine, as clients show it, None: the guest's; ``uuid``: its 16 bytes.
    control: path of a control socket (docs/control.md).
    incoming: the guest lives elsewhere and moves here (`Server.migrate` there, or
        `Server.expect_migration` and `thaw`).
    migrate_listen: ``tls://HOST:PORT``: other servers may hand over guests here, besides by the
        control socket. ``migrate_cert``, ``migrate_key``: what this server shows on such links;
        ``migrate_ca``: who has signed the other servers' certificates.
    migrate_host: the name by which clients reach this server, "": its first listener's address.
    config: a `ServerConfig` that the options above change.

    Raises `LocalError` for options that don't go together or aren't safe, `AddressError`,
    `ConnectError` where an address is taken.
    """

    def __init__(
        self,
        guest: Guest,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        tls_port: int | None = None,
        ws_port: int | None = None,
        wss_port: int | None = None,
        unix_path: str | os.PathLike[str] | None = None,
        listen: Iterable[str | Listen] = (),
        certificate: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        tls_ciphers: str = "",
        origins: Iterable[str] = (),
        password: str | None = None,
        password_expires: float | None = None,
        password_once: bool = False,
        users: Mapping[str, SaslUser] | None = None,
        control: str | os.PathLike[str] | None = None,
        opus: bool | None = None,
        migrate_listen: str | None = None,
        migrate_cert: str | os.PathLike[str] | None = None,
        migrate_key: str | os.PathLike[str] | None = None,
        migrate_ca: str | os.PathLike[str] | None = None,
        migrate_host: str = "",
        config: ServerConfig | None = None,
        incoming: bool = False,
        **settings: Any,
    ) -> None:
        ports = {"spice": port, "spice+tls": tls_port, "ws": ws_port, "wss": wss_port}
        self._listens = listens_of(host, ports, unix_path, listen)
        if config is None:
            settings.setdefault("name", guest.name)
        self._config = settings_of(config, password=password, users=users, **settings)
        self._context = _context(self._listens, certificate, key, tls_ciphers)
        self._certificate = None if certificate is None else str(certificate)
        self._origins = tuple(origins)
        self._control = None if control is None else str(control)
        self._opus = opus
        cert, secret, ca = (
            None if file is None else str(file) for file in (migrate_cert, migrate_key, migrate_ca)
        )
        self._links = LinkOptions(migrate_listen, cert, secret, ca, migrate_host)
        self._incoming = incoming
        self._ticket = (password_expires, password_once)
        self._guest = guest
        self._server: Server | None = None

    async def _make(self) -> Server:
        server = Server(self._guest, self._config, incoming=self._incoming)
        if self._certificate is not None:
            from aiospice.aio.tls import certificate_subject

            server.handovers.subject = certificate_subject(self._certificate)
        expires, once = self._ticket
        if expires is not None or once:
            at = None if expires is None else server._shell.now() + expires
            server._shell.core.set_password(self._config.password, expires_at=at, once=once)
        await server._start(
            self._listens, self._context, self._origins, self._control, self._opus, self._links
        )
        return server

    def __await__(self) -> Generator[Any, None, Server]:
        return self._make().__await__()

    async def __aenter__(self) -> Server:
        self._server = await self._make()
        return self._server

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            await self._server.close()


def _context(
    listens: Sequence[Listen],
    certificate: str | os.PathLike[str] | None,
    key: str | os.PathLike[str] | None,
    ciphers: str,
) -> ssl.SSLContext | None:
    wanting = next((listen for listen in listens if listen.tls), None)
    if certificate is None:
        if wanting is not None:
            raise LocalError(f"{wanting} needs a certificate: give certificate and key (PEM files)")
        return None
    if wanting is None:
        raise LocalError("there is a certificate, but nothing listens with TLS: give tls_port")
    from aiospice.aio.serverlayers import server_context

    return server_context(certificate, key, ciphers=ciphers)
