"""X servers of our own, to run programs in and to look at what they show.

`XServer` is what they have in common, `Xvfb` one that has no screen but memory::

    async with Xvfb(1600, 1200) as x:
        await x.run("xlogo")
        picture = await x.root()

Facts: X11's ``XWDFile.h``; the layout of an authority file: ``Xauth.h``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import struct
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Self

from aiospice.client.picture import Picture
from aiospice.errors import ConnectError, LocalError, MissingProgram, SessionLost, SpiceTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["XProgram", "XServer", "Xvfb", "find_program", "parse_xwd", "write_private"]

#: Debian's packages for what is run here; everything else is looked for in ``x11-apps``.
_PACKAGES = {
    "Xorg": "xserver-xspice",
    "Xspice": "xserver-xspice",
    "Xvfb": "xvfb",
    "chromium": "chromium",
    "remote-viewer": "virt-viewer",
    "spice-vdagent": "spice-vdagent",
    "spicy": "spice-client-gtk",
    "xclip": "xclip",
    "xdotool": "xdotool",
    "xrandr": "x11-xserver-utils",
    "xrefresh": "x11-xserver-utils",
    "xset": "x11-xserver-utils",
    "xsetroot": "x11-xserver-utils",
    "xterm": "xterm",
    "xprop": "x11-utils",
    "xwininfo": "x11-utils",
    "xfd": "x11-utils",
    "xcompmgr": "xcompmgr",
}


def parse_xwd(data: bytes) -> Picture:
    """Make a picture of what ``xwd`` writes for a screen of 24 bits.

    The pixels have 32 bits, or 24 when it shows windows of several visuals. Raises `LocalError`
    for anything else.
    """
    if len(data) < 100:
        raise LocalError(f"{len(data)} bytes are no window dump")
    head = struct.unpack_from(">25I", data)
    size, version, kind, _, width, height, _, low_first = head[:8]
    bits, stride, colours = head[11], head[12], head[19]
    wanted = (7, 2, 0, (0xFF0000, 0xFF00, 0xFF))
    if (version, kind, low_first, head[14:17]) != wanted or bits not in (24, 32):
        raise LocalError(
            f"a window dump of version {version}, format {kind}, byte order {low_first}, {bits} "
            "bits a pixel isn't read here: dump a screen of 24 bits"
        )
    start, row = size + 12 * colours, bits // 8 * width
    if stride < row or len(data) < start + stride * height:
        raise LocalError(f"the window dump of {width}x{height} pixels is cut short")
    rows = (data[start + stride * y : start + stride * y + row] for y in range(height))
    pixels = b"".join(rows)
    if bits == 32:
        return Picture(width, height, pixels)
    wide = bytearray(4 * width * height)
    for colour in range(3):
        wide[colour::4] = pixels[colour::3]
    return Picture(width, height, bytes(wide))


class XProgram:
    """An X program that runs on an `Xspice`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self.process.returncode is None

    def stop(self) -> None:
        """Let it do nothing until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    async def end(self, timeout: float = 5) -> None:
        """End it, by force after ``timeout`` seconds."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), timeout)
        self._signal(signal.SIGKILL)
        await self.process.wait()

    def _signal(self, number: int) -> None:
        if self.running:  # not waited for yet, so the number can't be another process's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


class XServer(ABC):
    """One X server; use it with ``async with`` or call `start` and `stop`.

    Only programs started by `run` and `do` may connect to its display (and root). A subclass says
    what the server is called and how it is started.
    """

    name = "X"

    def __init__(self, life: float = 300) -> None:
        #: Seconds after which the server is ended whatever happens.
        self.life = life
        self.display = ""  #: what X programs call it, such as ``:1``
        self.programs: list[XProgram] = []
        self._folder = tempfile.TemporaryDirectory(prefix=f"aiospice-{self.name.lower()}-")
        self.folder = Path(self._folder.name)
        self._process: asyncio.subprocess.Process | None = None
        self._killer: asyncio.TimerHandle | None = None
        self._socket: Path | None = None
        self._socket_identity = (0, 0)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # -- life ------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Process number of the X server. Raises `SessionLost` when it was never started."""
        if self._process is None:
            raise SessionLost(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """True while the X server lives."""
        return self._process is not None and self._process.returncode is None

    @property
    def environment(self) -> dict[str, str]:
        """The environment that a program needs to draw here; its home folder is an empty one."""
        return {
            **os.environ,
            "DISPLAY": self.display,
            "XAUTHORITY": str(self.folder / "authority"),
            "HOME": str(self.folder / "home"),
            "LC_ALL": "C.UTF-8",
        }

    async def start(self, timeout: float = 30) -> Self:
        """Start the X server; returns once programs can connect.

        Raises `MissingProgram`, `ConnectError` when it doesn't start (the text has the end of what
        it printed), `SpiceTimeout`.
        """
        self._look_for_programs()
        try:
            for attempt in range(3):
                try:
                    await self._spawn(timeout)
                    break
                except ConnectError:
                    # Another program may have taken the port between its choice and its use.
                    if attempt == 2 or "in use" not in self.output():
                        raise
        except BaseException:
            await self.stop()
            raise
        return self

    async def stop(self, timeout: float = 5) -> None:
        """End the programs and the X server, by force after ``timeout`` seconds; leave no files."""
        if self._killer is not None:
            self._killer.cancel()
        await asyncio.gather(*(program.end(timeout) for program in self.programs))
        if self._process is not None and self.running:
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), timeout)
            if self.running:
                self._process.kill()
                await self._process.wait()
        self._remove_socket()
        self._folder.cleanup()

    def output(self) -> str:
        """The last lines that the server printed, and its log's complaints."""
        parts = []
        with contextlib.suppress(OSError):
            parts.append((self.folder / "output").read_text(errors="replace")[-2000:])
        with contextlib.suppress(OSError):
            log = (self.folder / "log").read_text(errors="replace").splitlines()
            parts += [line for line in log if "(EE)" in line][-10:]
        return "\n".join(parts).strip()

    @abstractmethod
    def _look_for_programs(self) -> None:
        """Raise `MissingProgram` for what isn't installed."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The command line, without what is the same for all X servers."""

    def _server_environment(self) -> dict[str, str]:
        return dict(os.environ)

    async def _spawn(self, timeout: float) -> None:
        (self.folder / "home").mkdir(exist_ok=True)
        write_private(self.folder / "authority", _authority(secrets.token_bytes(16)))
        reader, writer = os.pipe()
        command = [*self._command(), "-noreset", "-auth", str(self.folder / "authority")]
        command += ["-nolisten", "tcp", "-displayfd", str(writer)]
        try:
            with (self.folder / "output").open("wb") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *_with_us(command, "TERM"),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(writer,),
                    env=self._server_environment(),
                )
            os.close(writer)
            writer = -1
            if self._killer is not None:
                self._killer.cancel()
            self._killer = asyncio.get_running_loop().call_later(self.life, self._expire)
            number = await self._read_display(reader, timeout)
        finally:
            os.close(reader)
            if writer >= 0:
                os.close(writer)
        self.display = f":{number}"
        self._socket = Path(f"/tmp/.X11-unix/X{number}")
        with contextlib.suppress(OSError):
            self._socket_identity = _identity(self._socket)

    async def _read_display(self, pipe: int, timeout: float) -> int:
        """The number that the server writes once it is up."""
        os.set_blocking(pipe, False)
        said = b""
        end = time.monotonic() + timeout
        while not said.endswith(b"\n"):
            if not self.running:
                raise ConnectError(f"{self.name} ended at its start: {self.output()}")
            if time.monotonic() > end:
                raise SpiceTimeout(f"{self.name} isn't up after {timeout:g} s: {self.output()}")
            await asyncio.sleep(0.01)
            with contextlib.suppress(BlockingIOError):
                said += os.read(pipe, 64)
        return int(said)

    def _expire(self) -> None:
        if self.running and self._process is not None:
            self._process.terminate()

    def _remove_socket(self) -> None:
        """What a server that was killed leaves behind, if it is this one's."""
        with contextlib.suppress(OSError):
            if self._socket and _identity(self._socket) == self._socket_identity:
                self._socket.unlink()

    # -- programs --------------------------------------------------------------------------

    async def run(self, *command: str, window: str | None = None, limit: float = 20) -> XProgram:
        """Start a program that draws; returns once it has a visible window.

        ``window`` is the window's class as `windows` takes it, the program's name with a capital
        unless given; an empty one isn't waited for.
        """
        process = await asyncio.create_subprocess_exec(
            *_with_us([find_program(command[0]), *command[1:]], "KILL"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=self.environment,
            start_new_session=True,
        )
        program = XProgram(command[0], process)
        self.programs.append(program)
        if window == "":
            return program
        name = window or command[0]
        end = time.monotonic() + limit
        while not await self.windows(name):
            if not program.running:
                raise SessionLost(f"{command[0]} ended with status {process.returncode}")
            if time.monotonic() > end:
                raise SpiceTimeout(f"{command[0]} shows no window {name!r} after {limit:g} s")
            await asyncio.sleep(0.02)
        return program

    async def do(self, *command: str, limit: float = 30) -> bytes:
        """Run a program to its end and return what it prints.

        Raises `LocalError` when it fails, `SpiceTimeout`.
        """
        process = await asyncio.create_subprocess_exec(
            *_with_us([find_program(command[0]), *command[1:]], "KILL"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
        )
        try:
            async with asyncio.timeout(limit):
                printed, complaint = await process.communicate()
        except TimeoutError:
            raise SpiceTimeout(f"{' '.join(command)} takes longer than {limit:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            text = complaint.decode(errors="replace")[-1000:]
            raise LocalError(f"{' '.join(command)}: status {process.returncode}: {text}")
        return printed

    async def windows(self, name: str) -> list[int]:
        """Visible windows whose class or program name this is (any case), oldest first."""
        return await self._search("--any", "--class", "--classname", "--name", f"^{name}$")

    async def titled(self, pattern: str) -> list[int]:
        """Visible windows whose title has what a regular expression says, oldest first."""
        return await self._search("--name", pattern)

    async def _search(self, *what: str) -> list[int]:
        try:
            found = await self.do("xdotool", "search", "--onlyvisible", *what)
        except LocalError:  # xdotool's way to say that there is none
            return []
        return [int(line) for line in found.split()]

    async def xdotool(self, *arguments: object) -> None:
        """Carry out an order of xdotool: ``windowmove``, ``windowraise``, ``key``, ..."""
        await self.do("xdotool", *map(str, arguments))

    # -- the truth -------------------------------------------------------------------------

    async def root(self) -> Picture:
        """What the X server shows at this moment, without the pointer."""
        return parse_xwd(await self.do("xwd", "-root", "-silent"))

    @contextlib.asynccontextmanager
    async def still(self, quiet: float = 0.2, limit: float = 20) -> AsyncIterator[Picture]:
        """Stop all programs, and give the screen once it has been the same for ``quiet`` seconds.

        They go on afterwards. Raises `SpiceTimeout` when the screen doesn't come to rest.
        """
        running = [program for program in self.programs if program.running]
        for program in running:
            program.stop()
        try:
            yield await self._rest(quiet, limit)
        finally:
            for program in running:
                program.resume()

    async def _rest(self, quiet: float, limit: float) -> Picture:
        end = time.monotonic() + limit
        picture, since = await self.root(), time.monotonic()
        while time.monotonic() - since < quiet:
            if time.monotonic() > end:
                raise SpiceTimeout(f"the screen changes for longer than {limit:g} s")
            await asyncio.sleep(quiet / 2)
            found, now = await self.root(), time.monotonic()
            if found.bgrx != picture.bgrx:
                picture, since = found, now
        return picture


class Xvfb(XServer):
    """An X server whose screen is memory: 24 bits a pixel, one size for all its life."""

    name = "Xvfb"

    def __init__(self, width: int = 1280, height: int = 1024, life: float = 300) -> None:
        super().__init__(life)
        self.width, self.height = width, height

    def _look_for_programs(self) -> None:
        find_program("Xvfb")

    def _command(self) -> list[str]:
        return [find_program("Xvfb"), "-screen", "0", f"{self.width}x{self.height}x24"]


def find_program(name: str) -> str:
    """Path of a program; `MissingProgram` names the package that has it."""
    if Path(name).is_absolute():
        return name
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/bin:/usr/lib/xorg")
    if path is None:
        package = _PACKAGES.get(name, "x11-apps")
        raise MissingProgram(f"{name} isn't installed: install {package} (Debian)")
    return path


def _with_us(command: list[str], ending: str) -> list[str]:
    """The command, so that it gets the signal when this process ends, however that ends."""
    if shutil.which("setpriv"):
        return ["setpriv", "--pdeathsig", ending, "--", *command]
    return command


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def write_private(path: Path, data: bytes) -> None:
    """Write a file that nobody else may read."""
    path.touch(0o600)
    path.write_bytes(data)


def _authority(cookie: bytes) -> bytes:
    """An X authority file that has one cookie for every display."""
    name = b"MIT-MAGIC-COOKIE-1"
    parts = (b"", b"", name, cookie)  # address, display, name, data; family 65535 is any
    return b"\xff\xff" + b"".join(len(part).to_bytes(2, "big") + part for part in parts)
