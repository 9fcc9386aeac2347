"""A host for guests that keeps what they do, and what a client would then see."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


class Surface:
    """An off-screen surface; ``known`` is what the guest has told of."""

    def __init__(self, width: int, height: int) -> None:
        self.pixels: Pixels = np.zeros((height, width, 4), np.uint8)
        self.known = self.pixels.copy()

    def update(self, x: int, y: int, width: int, height: int) -> None:
        part = np.s_[y : y + height, x : x + width]
        self.known[part] = self.pixels[part]

    def close(self) -> None:
        pass


class Display:
    """A display; ``seen`` is what a client that is told of each change has on its screen."""

    def __init__(self) -> None:
        self.operations: list[tuple[Any, ...]] = []
        self.resize(640, 480)

    def resize(self, width: int, height: int) -> None:
        self.pixels: Pixels = np.zeros((height, width, 4), np.uint8)
        self.seen = self.pixels.copy()
        self.operations.append(("resize", width, height))

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    def surface(self, width: int, height: int, *, alpha: bool = False) -> Surface:
        return Surface(width, height)

    def update(self, x: int, y: int, width: int, height: int) -> None:
        self._inside(x, y, width, height)
        part = np.s_[y : y + height, x : x + width]
        self.seen[part] = self.pixels[part]
        self.operations.append(("update", x, y, width, height))

    def fill(self, x: int, y: int, width: int, height: int, colour: int) -> None:
        self._inside(x, y, width, height)
        pixel = (colour & 255, colour >> 8 & 255, colour >> 16, 0)
        for pixels in (self.pixels, self.seen):
            pixels[y : y + height, x : x + width] = pixel
        self.operations.append(("fill", x, y, width, height))

    def copy(self, src_x: int, src_y: int, width: int, height: int, x: int, y: int) -> None:
        self._inside(src_x, src_y, width, height)
        self._inside(x, y, width, height)
        for pixels in (self.pixels, self.seen):
            source = pixels[src_y : src_y + height, src_x : src_x + width].copy()
            pixels[y : y + height, x : x + width] = source
        self.operations.append(("copy", src_x, src_y, width, height, x, y))

    def draw(self, surface: Surface, x: int, y: int, src: tuple[int, int, int, int]) -> None:
        left, top, width, height = src
        self._inside(x, y, width, height)
        part = np.s_[top : top + height, left : left + width]
        assert surface.pixels[part].shape == (height, width, 4)
        self.pixels[y : y + height, x : x + width] = surface.pixels[part]
        self.seen[y : y + height, x : x + width] = surface.known[part]
        self.operations.append(("draw", x, y, width, height))

    def heads(self, heads: list[tuple[int, int, int, int, int]]) -> None:
        self.operations.append(("heads", heads))

    def _inside(self, x: int, y: int, width: int, height: int) -> None:
        rows, columns = self.pixels.shape[:2]
        assert x >= 0 <= y
        assert width > 0 < height
        assert x + width <= columns
        assert y + height <= rows

    def done(self, *kinds: str) -> list[tuple[Any, ...]]:
        """Take the operations since the last call, of some kinds or all."""
        found = [op for op in self.operations if not kinds or op[0] in kinds]
        self.operations = []
        return found

    def check(self) -> None:
        """Nothing has changed that wasn't told."""
        assert np.array_equal(self.seen[..., :3], self.pixels[..., :3])


class Device:
    """A device whose other end is the test: it puts into ``inbox`` and takes from ``outbox``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened = False
        self.inbox, self.outbox = bytearray(), bytearray()
        self.room = 1 << 20

    def read(self, limit: int) -> bytes:
        data = bytes(self.inbox[:limit])
        del self.inbox[:limit]
        return data

    def write(self, data: bytes) -> int:
        taken = data[: self.room - len(self.outbox)]
        self.outbox += taken
        return len(taken)


class RecordingHost:
    """What a guest is attached to in tests."""

    def __init__(self) -> None:
        self.displays: dict[int, Display] = {}
        self.devices: dict[str, Device] = {}
        self.clients: tuple[Any, ...] = ("somebody",)
        self.calls: list[tuple[Any, ...]] = []
        self.played = bytearray()

    def display(self, id: int = 0) -> Display:
        return self.displays.setdefault(id, Display())

    def port(self, name: str) -> Device:
        return self.devices.setdefault(name, Device(name))

    def agent(self) -> Device:
        return self.devices.setdefault("agent", Device("agent"))

    def playback(self, samples: bytes) -> None:
        self.played += samples

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments, **options: self.calls.append((name, *arguments))

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of all calls of a name."""
        return [call[1:] for call in self.calls if call[0] == name]

    def check(self) -> None:
        """All that has changed on any display was told."""
        for display in self.displays.values():
            display.check()
