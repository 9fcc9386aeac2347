"""The stock client to measure against: compiles and drives ``native/gtkpeer.c``.

That program is a client without a display on libspice-client-glib. It is compiled once, into the
user's cache folder, with gcc and pkg-config::

    async with GtkPeer(qemu.options.address, port=qemu.port) as peer:
        await peer.wait("port-open")
        await peer.start_stream()
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from aiospice.client.picture import Picture
from aiospice.errors import LocalError, MissingProgram, SessionLost, SpiceTimeout
from aiospice.proof.eventprogram import EventProgram

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["GtkPeer", "build", "parse_ppm"]

_SOURCE = Path(__file__).with_name("native") / "gtkpeer.c"
_LIBRARIES = {"spice-client-glib-2.0": "libspice-client-glib-2.0-dev"}


def build(source: Path = _SOURCE, libraries: Mapping[str, str] = _LIBRARIES) -> Path:
    """Return the path of the compiled program, compiling it first if need be.

    ``libraries``: what pkg-config calls them, and Debian's package of each. Raises
    `MissingProgram`, which names the package, when a tool or a library is missing.
    """
    for program in ("gcc", "pkg-config"):
        if shutil.which(program) is None:
            raise MissingProgram(f"{program} isn't installed: install {program} (Debian)")
    flags = ""
    for library, package in libraries.items():
        asked = ["pkg-config", "--cflags", "--libs", library]
        found = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=20)
        if found.returncode:
            raise MissingProgram(f"{library} isn't installed: install {package} (Debian)")
        flags += found.stdout
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aiospice"
    cache.mkdir(parents=True, exist_ok=True)
    shared = b"".join(path.read_bytes() for path in sorted(source.parent.glob("*.h")))
    version = hashlib.sha256(source.read_bytes() + shared + flags.encode()).hexdigest()[:16]
    path = cache / f"{source.stem}-{version}"
    if not path.exists():
        _compile(source, path, flags.split())
    return path


def _compile(source: Path, path: Path, flags: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / source.stem
        done = subprocess.run(
            ["gcc", "-O2", "-Wall", "-o", str(made), str(source), *flags],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            raise MissingProgram(f"{source.name} doesn't compile here:\n{done.stderr[-2000:]}")
        made.rename(path)


def parse_ppm(data: bytes) -> Picture:
    """Make a picture of a binary PPM file (``P6``, 8 bits a colour). Raises `LocalError`."""
    parts = data.split(maxsplit=4)
    if len(parts) < 4 or parts[0] != b"P6" or parts[3] != b"255":
        raise LocalError("this is no binary PPM file of 8 bits a colour")
    width, height = int(parts[1]), int(parts[2])
    rgb = data[len(data) - 3 * width * height :]
    bgrx = bytearray(4 * width * height)
    bgrx[0::4], bgrx[1::4], bgrx[2::4] = rgb[2::3], rgb[1::3], rgb[0::3]
    return Picture(width, height, bytes(bgrx))


class GtkPeer(EventProgram):
    """One run of the program; ``events`` holds all it has told, oldest first.

    An event is a dict with ``t`` (seconds since 1970) and ``event``: ``connect``,
    ``channel-new``, ``channel-event`` (``what``), ``channel-destroy``, ``surface``,
    ``port-open``, ``port-closed``, ``first-byte``, ``migration-state`` (``what``),
    ``write-error``, ``disconnected``, ``report``, ``saved``, ``not-saved``. ``prefix`` goes in
    front of the command line (`DelayedNetwork.command`).
    """

    name = "gtkpeer"

    def __init__(
        self,
        host: str,
        *,
        port: int = 0,
        tls_port: int = 0,
        ca_file: Path | None = None,
        subject: str | None = None,
        password: str | None = None,
        port_name: str | None = None,
        dump: Path | None = None,
        display: bool = True,
        prefix: Sequence[str] = (),
    ) -> None:
        super().__init__()
        options: dict[str, object] = {
            "host": host,
            "port": port,
            "tls-port": tls_port,
            "ca-file": ca_file,
            "subject": subject,
            "port-name": port_name,
            "dump": dump,
        }
        self._arguments = [f"--{name}={value}" for name, value in options.items() if value]
        if not display:
            self._arguments.append("--no-display")
        self._prefix = list(prefix)
        self._password = password

    async def __aenter__(self) -> Self:
        program = await asyncio.to_thread(build)
        environment = dict(os.environ)
        if self._password is not None:
            environment["GTKPEER_PASSWORD"] = self._password
        await self._run([*self._prefix, str(program), *self._arguments], environment)
        return self

    async def start_stream(self, window: int = 2048, chunk: int = 128, every: int = 0) -> None:
        """Stream counters: at most ``window`` bytes in flight, ``chunk`` bytes a write.

        ``every``: milliseconds between two writes, 0: as soon as the window allows.
        """
        await self._order(f"start {window} {chunk} {every}".encode())

    async def stop_stream(self) -> None:
        """Send no more; what is in flight comes back."""
        await self._order(b"stop")

    async def report(self, order: str = "report") -> dict[str, Any]:
        """Ask for the numbers so far.

        ``sent``, ``received``, ``wrong`` (bytes that aren't what was sent at their position),
        ``first_wrong`` (position or -1), ``dropped`` (in flight when a channel was lost),
        ``messages``, ``silence_us`` (longest time without a byte while some were awaited, from
        ``silence_at_us`` on), ``draws``, ``pixels``, ``bytes_read``, ``cpu_us``, ``rss_kib``,
        and ``screen`` (MD5 of the pixels as `aiospice.proof.keeper.digest` has it).
        """
        seen = len(self.events)
        await self._order(order.encode())
        return await self.wait("report", since=seen)

    async def screen(self) -> Picture:
        """What display 0 shows at this moment. Raises `SessionLost` when it shows nothing."""
        seen = len(self.events)
        with tempfile.TemporaryDirectory(prefix="aiospice-gtkpeer-") as folder:
            path = Path(folder) / "screen.ppm"
            await self._order(f"save {path}".encode())
            while (said := self.find("not-saved", since=seen)) is None:
                with contextlib.suppress(SpiceTimeout):
                    await self.wait("saved", since=seen, timeout=0.5)
                    return parse_ppm(path.read_bytes())
            raise SessionLost(f"gtkpeer: {said['text']}")

    async def drain(self, timeout: float = 20) -> dict[str, Any]:
        """Stop the stream and wait until all that was sent has come back."""
        await self.stop_stream()
        try:
            async with asyncio.timeout(timeout):
                while True:
                    report = await self.report()
                    if report["received"] + report["dropped"] >= report["sent"]:
                        return report
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise SpiceTimeout(f"the stream isn't back after {timeout:g} s") from None

    async def quit(self) -> dict[str, Any]:
        """End the program in order; returns its last report."""
        report = await self.report("quit")
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 5)
        return report
