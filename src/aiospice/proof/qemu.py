"""QEMU as a peer: a machine with a SPICE server that boots a small guest of ours.

`Qemu` is one process. `QemuPair` moves the machine from process to process by live migration.
Nothing needs an image or an operating system; a guest is up after about a tenth of a second.

A trap of the real thing: QEMU 7.2 dies of a segmentation fault when a client leaves while the
guest writes to the echo port. Let the echo come back before a client disconnects.

Facts about the command line and the QMP commands: QEMU's ``qemu-options.hx`` and ``qapi/*.json``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from aiospice.errors import ConnectError, MissingProgram, SessionLost, SpiceTimeout
from aiospice.proof.qmp import Qmp, QmpError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["ECHO_PORT", "Move", "Qemu", "QemuOptions", "QemuPair", "free_port", "guest_image"]

PROGRAM = "qemu-system-x86_64"
_NO_SPICE = "QEMU has no SPICE server: install qemu-system-common and qemu-system-x86 (Debian)"
#: Name of the SPICE port that the guest echoes.
ECHO_PORT = "org.example.echo"
#: Where the guest says that it echoes, and what it writes there (``guest/echo.S``).
_READY_ADDRESS, _READY_WORD = 0x500, "6b6f"
_TEXT_MEMORY, _COLUMNS, _ROWS = 0xB8000, 80, 25


def guest_image(name: str = "echo") -> Path:
    """Path of a guest carried with the package.

    ``echo``, ``quiet`` (whose screen settles), or ``paint`` (see `aiospice.proof.painter`).
    """
    return Path(__file__).with_name("guest") / f"{name}.img"


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True, frozen=True)
class QemuOptions:
    """What machine to start. The defaults: plain port, no password, QXL, echo port."""

    guest: str | Path = "echo"  #: a name for `guest_image`, or a disk image
    address: str = "127.0.0.1"  #: where the SPICE server listens
    plain: bool = True  #: offer a port without TLS
    unix: bool = False  #: listen on a unix socket instead of TCP ports
    tls_dir: Path | None = None  #: offer a TLS port with the files of `certificates.make`
    subject: str | None = None  #: ``cert-subject`` told to clients that are sent here
    password: str | None = None  #: ticket; None means that none is asked for
    sasl: Mapping[str, str] | None = None  #: SASL on, with the environment of `make_sasl`
    seamless: bool = True  #: ``seamless-migration=on``
    spice: tuple[str, ...] = ()  #: more for ``-spice``, such as ``image-compression=off``
    vga: str = "qxl"  #: ``qxl``, ``std``, ...
    memory: int = 64  #: MiB
    echo_port: str | None = ECHO_PORT  #: name of the SPICE port on COM1
    commands: bool = False  #: COM2 on a unix socket, for `aiospice.proof.painter`
    agent: bool = False  #: a virtio port for the guest agent
    webdav: bool = False  #: a virtio port for the folder sharing of the guest
    usb_redir: int = 0  #: USB redirection channels
    smartcard: bool = False  #: a card reader
    audio: bool = False  #: playback and record channels
    tablet: bool = False  #: a USB tablet, so that the server offers the client mouse mode
    extra: tuple[str, ...] = ()  #: more command line
    life: float = 300  #: seconds after which the process is killed whatever happens


class Qemu:
    """One QEMU process; use it with ``async with`` or call `start` and `kill`.

    ``incoming=True`` makes it wait for a machine to arrive by migration.
    """

    qmp: Qmp

    def __init__(self, options: QemuOptions | None = None, *, incoming: bool = False) -> None:
        self.options = options or QemuOptions()
        self.incoming = incoming
        self.port = 0  #: plain TCP port, 0 for none
        self.tls_port = 0  #: TLS port, 0 for none
        self._folder = tempfile.TemporaryDirectory(prefix="aiospice-qemu-")
        self.folder = Path(self._folder.name)
        self._process: asyncio.subprocess.Process | None = None
        self._killer: asyncio.TimerHandle | None = None
        self._qmp_open = False

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    # -- life ------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Process number. Raises `SessionLost` when it was never started."""
        if self._process is None:
            raise SessionLost("QEMU was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.returncode is None

    @property
    def unix_path(self) -> str:
        """Path of the SPICE server's unix socket (``options.unix``)."""
        return str(self.folder / "spice")

    @property
    def commands_path(self) -> str:
        """Path of the unix socket that is the guest's COM2 (``options.commands``)."""
        return str(self.folder / "commands")

    @property
    def uri(self) -> str:
        """Where a machine is to be sent to (``incoming``)."""
        return f"unix:{self.folder / 'incoming'}"

    @property
    def address(self) -> str:
        """Address of the server in this package's notation, the TLS port if there is one."""
        if self.options.unix:
            return f"spice+unix://{self.unix_path}"
        if self.tls_port:
            return f"spice+tls://{self.options.address}:{self.tls_port}"
        return f"spice://{self.options.address}:{self.port}"

    async def start(self) -> Self:
        """Start the process; returns once its guest echoes (at once when ``incoming``).

        Raises `MissingProgram` without QEMU, `ConnectError` when it doesn't start; the text
        has the end of what it printed.
        """
        if shutil.which(PROGRAM) is None:
            raise MissingProgram(f"{PROGRAM} isn't installed: install qemu-system-x86 (Debian)")
        try:
            for attempt in range(3):
                await self._spawn()
                try:
                    self.qmp = await self._connect_qmp()
                    self._qmp_open = True
                    break
                except ConnectError:
                    if "option group 'spice'" in self.output():
                        raise MissingProgram(_NO_SPICE) from None
                    # Another program may have taken a port between its choice and its use.
                    if attempt == 2 or "in use" not in self.output():
                        raise
            if not self.incoming:
                await self.wait_guest()
        except BaseException:
            await self.kill()
            raise
        return self

    async def kill(self) -> None:
        """End the process as a power failure would, and remove its files."""
        if self._killer is not None:
            self._killer.cancel()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._qmp_open:
            self._qmp_open = False
            await self.qmp.close()
        self._folder.cleanup()

    async def quit(self, timeout: float = 5) -> None:
        """End the process in order, by force after ``timeout`` seconds."""
        if self.running and self._process is not None:
            with contextlib.suppress(ConnectError, QmpError, SpiceTimeout):
                await self.qmp.command("quit", timeout=timeout)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), timeout)
        await self.kill()

    def output(self) -> str:
        """The last lines QEMU printed."""
        with contextlib.suppress(OSError):
            return (self.folder / "output").read_text(errors="replace")[-2000:].strip()
        return ""

    async def _spawn(self) -> None:
        options = self.options
        if not options.unix:
            self.port = free_port(options.address) if options.plain else 0
            self.tls_port = free_port(options.address) if options.tls_dir else 0
        command = [PROGRAM, *self._arguments()]
        if shutil.which("setpriv"):  # QEMU ends with this process, however that ends
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        with (self.folder / "output").open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(options.sasl or {})},
            )
        if self._killer is not None:
            self._killer.cancel()
        self._killer = asyncio.get_running_loop().call_later(options.life, self._end_of_life)

    def _end_of_life(self) -> None:
        if self.running and self._process is not None:
            self._process.kill()

    async def _connect_qmp(self) -> Qmp:
        assert self._process is not None
        ended = asyncio.create_task(self._process.wait())
        ready = asyncio.create_task(Qmp.connect(str(self.folder / "qmp")))
        await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if self.running:
            return await ready
        ready.cancel()
        await asyncio.gather(ready, return_exceptions=True)
        raise ConnectError(f"QEMU ended with status {self._process.returncode}: {self.output()}")

    # -- command line ----------------------------------------------------------------------

    def _arguments(self) -> list[str]:
        options = self.options
        guest = guest_image(options.guest) if isinstance(options.guest, str) else options.guest
        arguments = ["-accel", "tcg", "-m", str(options.memory), "-nodefaults", "-display", "none"]
        arguments += ["-vga", options.vga]
        arguments += ["-drive", f"file={_escape(guest)},format=raw,snapshot=on"]
        arguments += ["-qmp", f"unix:{self.folder / 'qmp'},server=on,wait=off"]
        if options.password is not None:
            secret = self.folder / "secret"
            secret.touch(0o600)
            secret.write_text(options.password)
            arguments += ["-object", f"secret,id=ticket,file={secret}"]
        arguments += ["-spice", ",".join(self._spice())]
        arguments += _device_arguments(options)
        if options.commands:
            where = f"path={_escape(self.commands_path)},server=on,wait=off"
            arguments += ["-chardev", f"socket,id=com2,{where}"]
            arguments += ["-device", "isa-serial,chardev=com2,index=1"]
        if self.incoming:
            arguments += ["-incoming", self.uri]
        return [*arguments, *options.extra]

    def _spice(self) -> list[str]:
        options = self.options
        if options.unix:
            parts = ["unix=on", f"addr={_escape(self.unix_path)}"]
        else:
            parts = [f"addr={options.address}"]
        if self.port:
            parts.append(f"port={self.port}")
        if self.tls_port:
            parts += [f"tls-port={self.tls_port}", f"x509-dir={_escape(options.tls_dir)}"]
        if options.sasl is not None:
            parts.append("sasl=on")
        if options.password is not None:
            parts.append("password-secret=ticket")
        elif options.sasl is None:
            parts.append("disable-ticketing=on")
        parts.append(f"seamless-migration={'on' if options.seamless else 'off'}")
        return [*parts, *options.spice]

    # -- what a test asks of it ------------------------------------------------------------

    async def wait_guest(self, timeout: float = 20) -> None:
        """Wait until the guest echoes. Returns at once for guests that aren't ours."""
        if not isinstance(self.options.guest, str):
            return
        end = time.monotonic() + timeout
        while _READY_WORD not in await self.monitor(f"xp /1hx {_READY_ADDRESS:#x}"):
            if time.monotonic() > end:
                raise SpiceTimeout(f"the guest isn't up after {timeout:g} s: {self.output()}")
            await asyncio.sleep(0.01)

    async def monitor(self, line: str) -> str:
        """Run a command of QEMU's human monitor and return what it prints."""
        return str(await self.qmp.command("human-monitor-command", command_line=line))

    async def screendump(self, device: str | None = None) -> bytes:
        """The guest's true screen as a binary PPM file (``P6``, 8 bits a colour).

        ``device`` is the id of a graphics device, None: the first.
        """
        path = self.folder / "screen.ppm"
        which: dict[str, Any] = {} if device is None else {"device": device}
        await self.qmp.command("screendump", filename=str(path), **which)
        return path.read_bytes()

    async def text(self) -> list[str]:
        """The guest's text screen: 25 lines without trailing blanks (code page 437).

        With our guest, line 22 has the bytes of the mouse and line 23 the scancodes received.
        """
        path = self.folder / "text"
        size = _COLUMNS * _ROWS * 2
        await self.qmp.command("pmemsave", val=_TEXT_MEMORY, size=size, filename=str(path))
        cells = path.read_bytes()[::2].replace(b"\0", b" ").decode("cp437")
        return [cells[i : i + _COLUMNS].rstrip() for i in range(0, len(cells), _COLUMNS)]

    async def send_key(self, *names: str) -> None:
        """Press the keys together and release them (QEMU's key names, such as ``ctrl``)."""
        keys = [{"type": "qcode", "data": name} for name in names]
        await self.qmp.command("send-key", keys=keys)

    async def query_spice(self) -> dict[str, Any]:
        """QEMU's view of its SPICE server: ``channels``, ``migrated``, ``mouse-mode``, ..."""
        answer: dict[str, Any] = await self.qmp.command("query-spice")
        return answer

    async def channels(self) -> list[tuple[int, int]]:
        """Type and id of every channel that a client has open, in order."""
        found = (await self.query_spice()).get("channels", [])
        return sorted((item["channel-type"], item["channel-id"]) for item in found)

    async def set_password(self, password: str, *, expires_in: int | None = None) -> None:
        """Set the ticket, valid for ``expires_in`` seconds (None: for ever)."""
        await self.qmp.command("set_password", protocol="spice", password=password)
        until = "never" if expires_in is None else f"+{expires_in}"
        await self.qmp.command("expire_password", protocol="spice", time=until)

    async def drop_clients(self) -> None:
        """Throw the client out by setting a ticket with the order to disconnect."""
        await self.qmp.command(
            "set_password", protocol="spice", password="none", connected="disconnect"
        )

    # -- migration -------------------------------------------------------------------------

    async def client_migrate_info(self, target: Qemu, *, port: int | None = None) -> None:
        """Tell this server's client where the machine will go.

        ``port`` overrides the target's plain and TLS port (to send a client astray).
        """
        options = target.options
        where: dict[str, Any] = {"protocol": "spice", "hostname": options.address}
        if target.port:
            where["port"] = target.port if port is None else port
        if target.tls_port:
            where["tls_port"] = target.tls_port if port is None else port
        if options.subject is not None:
            where["cert_subject"] = options.subject
        await self.qmp.command("client_migrate_info", **where)

    async def migrate(self, target: Qemu) -> None:
        """Start moving the machine; returns at once."""
        await self.qmp.command("migrate", uri=target.uri)

    async def set_bandwidth(self, rate: int) -> None:
        """Limit the migration to ``rate`` bytes a second (to catch it in the act)."""
        await self.qmp.command("migrate-set-parameters", max_bandwidth=rate)

    async def migration_status(self) -> str:
        """``none``, ``active``, ``completed``, ``failed``, ``cancelled``, ..."""
        return str((await self.qmp.command("query-migrate")).get("status", "none"))

    async def wait_migration(self, *wanted: str, timeout: float = 60) -> str:
        """Wait until the migration's status is one of ``wanted`` (default: that it is over)."""
        goals = wanted or ("completed", "failed", "cancelled")
        end = time.monotonic() + timeout
        while (status := await self.migration_status()) not in goals:
            if time.monotonic() > end:
                raise SpiceTimeout(f"migration is {status} after {timeout:g} s: {self.output()}")
            await asyncio.sleep(0.01)
        return status


def _escape(text: object) -> str:
    return str(text).replace(",", ",,")


def _device_arguments(options: QemuOptions) -> list[str]:
    parts: list[str] = []
    if options.echo_port is not None:
        parts += ["-chardev", f"spiceport,id=echo,name={options.echo_port}"]
        parts += ["-device", "isa-serial,chardev=echo"]
    if options.agent or options.webdav:
        parts += ["-device", "virtio-serial-pci"]
    if options.agent:
        parts += ["-chardev", "spicevmc,id=agent,name=vdagent"]
        parts += ["-device", "virtserialport,chardev=agent,name=com.redhat.spice.0"]
    if options.webdav:
        name = "org.spice-space.webdav.0"
        parts += ["-chardev", f"spiceport,id=webdav,name={name}"]
        parts += ["-device", f"virtserialport,chardev=webdav,name={name}"]
    if options.usb_redir or options.tablet or options.smartcard:
        parts += ["-device", "qemu-xhci"]
    for number in range(options.usb_redir):
        parts += ["-chardev", f"spicevmc,id=usbredir{number},name=usbredir"]
        parts += ["-device", f"usb-redir,chardev=usbredir{number}"]
    if options.tablet:
        parts += ["-device", "usb-tablet"]
    if options.smartcard:
        parts += ["-device", "usb-ccid", "-chardev", "spicevmc,id=card,name=smartcard"]
        parts += ["-device", "ccid-card-passthru,chardev=card"]
    if options.audio:
        parts += ["-audiodev", "spice,id=sound", "-device", "intel-hda"]
        parts += ["-device", "hda-duplex,audiodev=sound"]
    return parts


@dataclass(slots=True)
class Move:
    """What happened when in one migration, in seconds since 1970 (0: didn't happen)."""

    announced: float = 0.0  #: client_migrate_info was answered
    client_ready: float = 0.0  #: the caller said that the client is connected to the target
    started: float = 0.0  #: migrate was answered
    stopped: float = 0.0  #: the guest stopped on the source
    resumed: float = 0.0  #: the guest ran on the target
    completed: float = 0.0  #: the source's server was done with its clients
    status: str = ""  #: QEMU's word for the end of the migration


class QemuPair:
    """A machine that moves: ``source`` is where it is, each `migrate` starts a new process.

    (A process that was a source can't be a target, and spice-server keeps state of earlier
    moves.) Use it with ``async with``.
    """

    def __init__(self, options: QemuOptions | None = None) -> None:
        self.options = options or QemuOptions()
        self.source = Qemu(self.options)
        self.target: Qemu | None = None  #: where it is going, between `prepare` and the end
        self.moves: list[Move] = []

    async def __aenter__(self) -> Self:
        await self.source.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.target is not None:
            await self.target.kill()
        await self.source.kill()

    async def prepare(self, **changes: Any) -> Qemu:
        """Start the process that the machine will go to, with ``changes`` to the options."""
        if self.target is not None:
            await self.target.kill()
        self.target = Qemu(replace(self.options, **changes), incoming=True)
        return await self.target.start()

    async def migrate(
        self,
        client_ready: Callable[[], Awaitable[object]] | None = None,
        *,
        ready_limit: float = 15,
        race: bool = False,
        refuse: bool = False,
        limit: float = 60,
        **changes: Any,
    ) -> Move:
        """Move the machine to a new process and end the old one.

        ``client_ready`` is awaited for up to ``ready_limit`` seconds between
        client_migrate_info and migrate; without it, QEMU itself is asked until the target has
        all channels of the source. ``race`` doesn't wait at all. ``refuse`` sends the client
        to a port where nobody listens. Raises `SpiceTimeout`.
        """
        target = await self.prepare(**changes)
        move = Move()
        self.moves.append(move)
        dead_end = free_port(target.options.address) if refuse else None
        await self.source.client_migrate_info(target, port=dead_end)
        move.announced = time.time()
        if not race and not refuse:
            await self._wait_ready(client_ready or self.client_arrived, ready_limit)
            move.client_ready = time.time()
        elif client_ready is not None and refuse:
            await self._wait_ready(client_ready, ready_limit)
        await self.move(move, limit=limit)
        return move

    async def move(self, move: Move, *, limit: float = 60) -> None:
        """Start the migration to the prepared target and see it through."""
        target = self.target
        assert target is not None, "prepare() comes first"
        await self.source.migrate(target)
        move.started = time.time()
        move.status = await self.source.wait_migration(timeout=limit)
        if move.status != "completed":
            return
        stop = await self.source.qmp.wait_event("STOP", limit)
        resume = await target.qmp.wait_event("RESUME", limit)
        done = await self.source.qmp.wait_event("SPICE_MIGRATE_COMPLETED", limit)
        move.stopped, move.resumed, move.completed = stop.time, resume.time, done.time
        await self.source.quit()
        self.source, self.target = target, None

    async def client_arrived(self, settle: float = 0.2) -> None:
        """Wait until the target has every channel that the source has, and ``settle`` seconds.

        QEMU doesn't tell when the client has reported back to the source, hence ``settle``: it
        must be longer than a round trip.
        """
        assert self.target is not None, "prepare() comes first"
        wanted = await self.source.channels()
        while await self.target.channels() != wanted:
            await asyncio.sleep(0.01)
        await asyncio.sleep(settle)

    async def kill_source(self, after: float = 0.05, rate: int = 1 << 20) -> None:
        """Start a migration slowed to ``rate`` bytes a second and kill the source in it.

        The target (from `prepare`) is left to find out.
        """
        await self._start_slowly(rate)
        await asyncio.sleep(after)
        await self.source.kill()

    async def cancel(self, after: float = 0.05, rate: int = 1 << 20) -> str:
        """Start a migration slowed to ``rate`` and cancel it; returns the source's status."""
        await self._start_slowly(rate)
        await asyncio.sleep(after)
        await self.source.qmp.command("migrate_cancel")
        return await self.source.wait_migration()

    async def _start_slowly(self, rate: int) -> None:
        assert self.target is not None, "prepare() comes first"
        await self.source.set_bandwidth(rate)
        await self.source.migrate(self.target)
        await self.source.wait_migration("active", "failed", "completed")

    async def _wait_ready(self, ready: Callable[[], Awaitable[object]], limit: float) -> None:
        try:
            async with asyncio.timeout(limit):
                await ready()
        except TimeoutError:
            raise SpiceTimeout(f"the client isn't at the target after {limit:g} s") from None
