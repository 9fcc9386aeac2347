"""A guest for tests of the server with real clients: what it shows, hears and is told is known.

`StageGuest` paints scenes (each `SCENES` one) into its display; `StageGuest.truth` is what every
client must show. It writes down keys and mouse, echoes a port, plays samples, and has an agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

import aiospice
from aiospice.agent.guest import GuestAgent
from aiospice.agent.guest_events import FileCame, FileEnded, FileOffered, FilePart
from aiospice.client.picture import Picture
from aiospice.errors import SpiceTimeout
from aiospice.server.guest import Guest, Host, HostDevice, HostSurface

T = TypeVar("T")
Pixels = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 640, 480
ECHO = "org.aiospice.echo"
#: Size of a letter of `letters`.
CELL_WIDTH, CELL_HEIGHT = 8, 16


def photo(width: int, height: int, seed: int) -> Pixels:
    """Smooth colours with a little noise: uint8, height x width x 4."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    pixels = np.zeros((height, width, 4), np.uint8)
    for colour in range(3):
        across, down, turn = chance.uniform(0.005, 0.04, 3)
        wave = 110 + 55 * np.sin(across * x + turn * 50) + 55 * np.cos(down * y + across * x)
        pixels[..., colour] = wave + chance.integers(0, 6, (height, width))
    return pixels


def letters(columns: int, rows: int, seed: int) -> Pixels:
    """Lines of what looks like text: few shapes, repeated, dark on light."""
    chance = np.random.default_rng(seed)
    shapes = np.random.default_rng(1).random((40, CELL_HEIGHT, CELL_WIDTH)) < 0.3
    shapes[:, :3], shapes[:, -3:], shapes[:, :, -2:], shapes[0] = False, False, False, False
    picked = shapes[
        chance.integers(0, 40, (rows, columns)) * (chance.random((rows, columns)) < 0.8)
    ]
    bits = picked.transpose(0, 2, 1, 3).reshape(rows * CELL_HEIGHT, columns * CELL_WIDTH)
    pixels = np.zeros((*bits.shape, 4), np.uint8)
    pixels[..., :3] = np.where(bits[..., None], (40, 30, 20), (250, 252, 253))
    return pixels


class StageGuest(Guest):
    """See the module's text."""

    name = "stage"

    def __init__(self, width: int = WIDTH, height: int = HEIGHT, *, record: bool = False) -> None:
        self.size = width, height
        self.record = record
        self.keys: list[tuple[int, bool]] = []
        self.places: list[tuple[int, int, int]] = []
        self.moves: list[tuple[int, int]] = []
        self.buttons: list[tuple[int, bool]] = []
        self.light = 0
        self.wanted_monitors: tuple[tuple[int, int, int, int], ...] = ()
        self.heard = b""
        self.port_heard = b""
        #: Write back what the port brings.
        self.echo = True
        self.agent = GuestAgent()
        self.agent_events: list[Any] = []
        #: What files brought, by name.
        self.files: dict[str, bytes] = {}
        self._coming: dict[int, tuple[str, bytearray]] = {}
        self.glasses: list[HostSurface] = []
        self._to_port = b""
        self._news = asyncio.Event()

    def attach(self, host: Host) -> None:
        """Make everything that clients may use."""
        self.host = host
        self.screen = host.display()
        self.screen.resize(*self.size)
        self.port = host.port(ECHO)
        self.port.opened = True
        host.sound(playback=True, record=self.record)
        self.device = host.agent()
        self.device.opened = True
        self._pump_agent()

    # -- what the test asks --------------------------------

    def truth(self) -> Picture:
        """What the display shows."""
        height, width = self.screen.pixels.shape[:2]
        return Picture(width, height, self.screen.pixels.tobytes())

    async def until(self, found: Callable[[], T], what: str = "that", limit: float = 40) -> T:
        """Wait until ``found``, asked when the guest is told something, gives something true."""
        try:
            async with asyncio.timeout(limit):
                while not (value := found()):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise SpiceTimeout(f"the guest hasn't got {what} after {limit:g} s") from None
        return value

    # -- what the guest is told --------------------------------

    def key(self, code: int, pressed: bool) -> None:
        self.keys.append((code, pressed))
        self._news.set()

    def mouse_move(self, x: int, y: int, display: int, buttons: int) -> None:
        self.places.append((x, y, buttons))
        self._news.set()

    def mouse_motion(self, dx: int, dy: int, buttons: int) -> None:
        self.moves.append((dx, dy))
        self._news.set()

    def mouse_button(self, button: int, pressed: bool, buttons: int) -> None:
        self.buttons.append((button, pressed))
        self._news.set()

    def locks(self, locks: int) -> None:
        self.light = locks
        self.host.set_locks(locks)
        self._news.set()

    def monitors(self, monitors: tuple[tuple[int, int, int, int], ...]) -> None:
        self.wanted_monitors = monitors
        self._news.set()

    def recorded(self, samples: bytes) -> None:
        self.heard += samples
        self._news.set()

    def device_readable(self, device: HostDevice) -> None:
        if device is self.port:
            self._pump_port()
        else:
            self._pump_agent()
        self._news.set()

    device_writable = device_readable

    def client_connected(self, client: int) -> None:
        self._news.set()

    client_disconnected = client_connected

    def write_port(self, data: bytes) -> None:
        """Have bytes sent on the port, as fast as it takes them."""
        self._to_port += data
        self._pump_port()

    def _pump_port(self) -> None:
        moved = True
        while moved:
            data = self.port.read(4096) if len(self._to_port) < 65536 else b""
            self.port_heard += data
            if self.echo:
                self._to_port += data
            taken = self.port.write(self._to_port) if self._to_port else 0
            self._to_port = self._to_port[taken:]
            moved = bool(data or taken)

    def _pump_agent(self) -> None:
        moved = True
        while moved:
            data = self.device.read(self.agent.room) if self.agent.room else b""
            if data:
                self.agent.receive(data)
                for event in self.agent.events():
                    self._on_agent(event)
            answer = self.agent.take()
            taken = self.device.write(answer) if answer else 0
            self.agent.put_back(answer[taken:])
            moved = bool(data or taken)

    def tell_agent(self, call: Callable[[GuestAgent], None]) -> None:
        """Have the agent do something, and send what comes of it."""
        call(self.agent)
        self._pump_agent()

    def _on_agent(self, event: Any) -> None:
        self.agent_events.append(event)
        if isinstance(event, FileOffered):
            self._coming[event.number] = (event.name, bytearray())
            self.agent.accept_file(event.number)
        elif isinstance(event, FilePart):
            self._coming[event.number][1].extend(event.data)
        elif isinstance(event, FileCame):
            name, data = self._coming.pop(event.number)
            self.files[name] = bytes(data)
            self.agent.finish_file(event.number)
        elif isinstance(event, FileEnded):
            self._coming.pop(event.number, None)

    # -- what it shows --------------------------------

    def put(self, x: int, y: int, pixels: Pixels) -> None:
        """Paint a picture, cut where the screen ends."""
        part = self.screen.pixels[y : y + pixels.shape[0], x : x + pixels.shape[1]]
        part[:] = pixels[: part.shape[0], : part.shape[1]]
        self.screen.update(x, y, part.shape[1], part.shape[0])

    def scene_photo(self) -> None:
        """The screen full of a photo."""
        self.put(0, 0, photo(*self.size, 1))

    def scene_page(self) -> None:
        """The screen full of text."""
        self.put(0, 0, letters(self.size[0] // CELL_WIDTH, self.size[1] // CELL_HEIGHT, 2))

    def scene_boxes(self) -> None:
        """Many boxes of one colour, some through the hint, some found."""
        chance = np.random.default_rng(3)
        for number in range(60):
            x, y = (int(chance.integers(0, side - 20)) for side in self.size)
            width, height = (int(size) for size in chance.integers(5, 120, 2))
            colour = int(chance.integers(0, 1 << 24))
            width, height = min(width, self.size[0] - x), min(height, self.size[1] - y)
            if number % 2:
                self.screen.fill(x, y, width, height, colour)
                continue
            bgrx = tuple(colour.to_bytes(3, "little")) + (0,)
            self.put(x, y, np.full((height, width, 4), bgrx, np.uint8))

    def scene_noise(self) -> None:
        """A part that no coder makes smaller."""
        self.put(17, 33, np.random.default_rng(4).integers(0, 256, (90, 121, 4), np.uint8))

    def scene_scrolled(self) -> None:
        """Up by three lines, by the hint; then by one, to be found."""
        width, height = self.size
        lines = height // CELL_HEIGHT
        self.screen.copy(0, 3 * CELL_HEIGHT, width, height - 3 * CELL_HEIGHT, 0, 0)
        self.put(0, (lines - 3) * CELL_HEIGHT, letters(width // CELL_WIDTH, 3, 5))
        pixels = self.screen.pixels
        pixels[:-CELL_HEIGHT] = pixels[CELL_HEIGHT:].copy()
        pixels[-CELL_HEIGHT:] = letters(width // CELL_WIDTH, 1, 6)
        self.screen.update()

    def scene_surfaces(self) -> None:
        """A picture off the screen, drawn here and there."""
        icon = self.icon = self.screen.surface(48, 40)
        icon.pixels[:] = photo(48, 40, 7)
        icon.update()
        for x in range(3, self.size[0] - 60, 71):
            self.screen.draw(icon, x, 11 + x // 3)
        self.screen.draw(icon, self.size[0] - 20, self.size[1] - 10)  # cut where the screen ends

    def scene_changed(self) -> None:
        """A part of that picture is another; it is drawn again, whole and in part."""
        icon = self.icon
        icon.pixels[10:30, 10:30] = (0, 0, 200, 0)
        icon.update(10, 10, 20, 20)
        self.screen.draw(icon, 200, 300)
        self.screen.draw(icon, 300, 200, (5, 5, 40, 30))

    def scene_alpha(self) -> None:
        """A picture off the screen with alpha, which drawing it on the screen leaves out."""
        for x, picture in ((70, photo(120, 90, 13)), (300, letters(15, 6, 14))):
            glass = self.screen.surface(picture.shape[1], picture.shape[0], alpha=True)
            glass.pixels[:] = picture
            glass.pixels[..., 3] = np.arange(picture.shape[1])
            glass.update()
            self.glasses.append(glass)
            self.screen.draw(glass, x, 333)

    def scene_again(self) -> None:
        """What was there before: an image that clients may have kept."""
        for surface in (self.icon, *self.glasses):
            surface.close()
        self.put(40, 50, photo(64, 64, 8))
        self.put(240, 50, photo(64, 64, 8))
        self.put(140, 250, photo(64, 64, 8))

    def scene_odd(self) -> None:
        """Changes with odd places and sizes: single pixels, rows, columns, corners."""
        width, height = self.size
        for x, y, w, h in (
            (0, 0, 1, 1),
            (width - 1, height - 1, 1, 1),
            (3, 5, 1, 77),
            (9, 7, 301, 1),
            (width - 13, 21, 13, 17),
            (31, height - 11, 7, 11),
        ):
            self.put(x, y, photo(w, h, x + y))

    def video_frame(self, number: int) -> Pixels:
        """Paint the next picture of a moving one; returns it."""
        frame = np.roll(photo(320, 240, 12), -5 * number, axis=1)
        self.put(*VIDEO_PLACE, frame)
        return frame

    def scene_smaller(self) -> None:
        """Another size of the screen."""
        self.size = self.size[0] - 101, self.size[1] - 60
        self.screen.resize(*self.size)
        self.put(10, 10, photo(200, 100, 9))
        self.put(0, 200, letters(40, 8, 10))


#: Where `StageGuest.video_frame` paints.
VIDEO_PLACE = 64, 80
#: What every client is shown, one after the other.
SCENES = (
    *("photo", "page", "boxes", "noise", "scrolled"),
    *("surfaces", "changed", "alpha", "again", "odd", "smaller"),
)


@asynccontextmanager
async def stage(guest: StageGuest | None = None, **options: Any) -> AsyncIterator[Any]:
    """Serve a guest on a free port of 127.0.0.1; gives the server, whose guest is `StageGuest`.

    Options are those of `aiospice.serve`.
    """
    options.setdefault("port", 0)
    async with aiospice.serve(guest or StageGuest(), **options) as server:
        yield server


def port_of(server: Any, scheme: str = "spice") -> int:
    """The port that a server listens on for a scheme (``spice``, ``spice+tls``, ``ws``)."""
    for address in server.addresses:
        if address.startswith(f"{scheme}://"):
            return int(address.rpartition(":")[2])
    raise LookupError(f"no {scheme} among {server.addresses}")
