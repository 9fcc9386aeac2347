"""spice-server as a peer that draws what it is told: every draw there is, without a guest.

``native/qxlserver.c`` is a SPICE server on libspice-server. Its graphics device is a file, into
which a test lays draws (`aiospice.proof.qxl_memory`); the server sends them to its clients, and
draws them into the file itself: that is what clients must show::

    async with QxlServer() as server, aiospice.connect(server.address) as session:
        server.draw(DrawFill(...))
        truth = await server.screen()

The program is compiled once, into the user's cache folder, with gcc and pkg-config.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from aiospice.client.picture import Picture
from aiospice.errors import ConnectError, SessionLost, SpiceTimeout
from aiospice.proof.gtkpeer import build
from aiospice.proof.qemu import free_port
from aiospice.proof.qxl_memory import QxlMemory

if TYPE_CHECKING:
    from aiospice.wire.message import Message

__all__ = ["QxlOptions", "QxlServer"]

_SOURCE = Path(__file__).with_name("native") / "qxlserver.c"
_LIBRARIES = {"spice-server": "libspice-server-dev", "glib-2.0": "libglib2.0-dev"}


@dataclass(slots=True, frozen=True)
class QxlOptions:
    """What server to start."""

    width: int = 640  #: of the screen, in pixels
    height: int = 480
    #: ``off``, ``auto_glz``, ``auto_lz``, ``quic``, ``glz``, ``lz`` or ``lz4``
    compression: str = "off"
    jpeg: str = "never"  #: JPEG for slow networks: ``auto``, ``never``, ``always``
    zlib: str = "never"  #: deflated GLZ for slow networks: ``auto``, ``never``, ``always``
    memory: int = 256 << 20  #: bytes of the device
    several_clients: bool = False  #: a second client doesn't throw the first one out


class QxlServer:
    """One server; use it with ``async with``."""

    memory: QxlMemory

    def __init__(self, options: QxlOptions | None = None) -> None:
        self.options = options or QxlOptions()
        self.port = 0
        self._folder = tempfile.TemporaryDirectory(prefix="aiospice-qxl-")
        self.folder = Path(self._folder.name)
        self._process: asyncio.subprocess.Process | None = None
        self._map: mmap.mmap | None = None

    @property
    def address(self) -> str:
        """Address of the server in this package's notation."""
        return f"spice://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        try:
            return await self._start()
        except BaseException:
            await self.kill()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def _start(self) -> Self:
        """Raises `MissingProgram` where the program can't be built, and `ConnectError`."""
        options = self.options
        program = await asyncio.to_thread(build, _SOURCE, _LIBRARIES)
        path = self.folder / "memory"
        with path.open("w+b") as file:
            file.truncate(options.memory)
            self._map = mmap.mmap(file.fileno(), options.memory)
        self.memory = QxlMemory(memoryview(self._map), 4 * options.width * options.height)
        self.memory.surfaces[0] = 0, options.width, options.height
        self.port = free_port()
        environment = dict(os.environ)
        if options.several_clients:
            environment["SPICE_DEBUG_ALLOW_MC"] = "1"
        with (self.folder / "output").open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                str(program),
                f"--port={self.port}",
                f"--memory={path}",
                f"--width={options.width}",
                f"--height={options.height}",
                f"--compression={options.compression}",
                f"--jpeg={options.jpeg}",
                f"--zlib={options.zlib}",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                env=environment,
            )
        try:
            await self._answer(b"ready")
        except SessionLost as error:
            raise ConnectError(f"qxlserver doesn't start: {self.output()}") from error
        return self

    async def kill(self) -> None:
        """End the server and remove its files."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._map is not None:
            with contextlib.suppress(AttributeError):
                self.memory.view.release()
            self._map.close()
        self._folder.cleanup()

    def output(self) -> str:
        """The last lines that the library printed."""
        with contextlib.suppress(OSError):
            return (self.folder / "output").read_text(errors="replace")[-2000:].strip()
        return ""

    # -- orders ----------------------------------------------------------------------------

    def draw(self, message: Message, *, opaque: bool = False) -> None:
        """Give a draw to the server: a ``Draw...`` of `aiospice.wire.draw`, or ``CopyBits``.

        Its images are bitmaps and surfaces. ``opaque`` promises that it overwrites the whole box.
        """
        self._order(f"draw {self.memory.draw(message, opaque=opaque)}")

    def create_surface(self, surface_id: int, width: int, height: int, format: int = 32) -> None:
        """Make an off-screen surface of 4 bytes a pixel (format 32, or 96 with alpha)."""
        self._order(f"surface {self.memory.surface(surface_id, width, height, format)}")

    def destroy_surface(self, surface_id: int) -> None:
        """Take an off-screen surface away."""
        self._order(f"surface {self.memory.no_surface(surface_id)}")

    async def screen(self, surface_id: int = 0) -> Picture:
        """What the server makes of all draws so far, on the screen or another surface."""
        address, width, height = self.memory.surfaces[surface_id]
        self._order(f"update {surface_id} {width} {height}")
        await self._answer(b"updated")
        pixels = bytes(self.memory.view[address : address + 4 * width * height])
        return Picture(width, height, pixels)

    def _order(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    async def _answer(self, wanted: bytes, timeout: float = 60) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise SpiceTimeout(f"qxlserver is silent for {timeout:g} s: {self.output()}") from None
        if line.strip() != wanted:
            raise SessionLost(f"qxlserver ended: {self.output()}")
