"""What the demo desktop shows and plays, calculated: a landscape, pointers, icons, a tone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aiospice.guests.font import CELL_WIDTH, Pixels, bgrx, draw_text

__all__ = ["RATE", "Landscape", "arrow", "beam", "hand", "icon", "tone"]

#: Sound: frames a second, two channels.
RATE = 48000

_Floats = npt.NDArray[np.float32]


def _noise(rng: np.random.Generator, width: int, height: int, cell: int) -> _Floats:
    """Soft noise from 0 to 1 that goes on at the left where it ends at the right."""
    columns, rows = max(1, width // cell), max(1, height // cell)
    grid = rng.random((rows + 2, columns), np.float32)
    x = np.arange(width, dtype=np.float32) * columns / width
    y = np.arange(height, dtype=np.float32) * rows / height
    x0, y0 = x.astype(int), y.astype(int)
    fx, fy = x - x0, (y - y0)[:, None]
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    left, right = grid[:, x0 % columns], grid[:, (x0 + 1) % columns]
    line = left + (right - left) * fx
    mixed: _Floats = line[y0] + (line[y0 + 1] - line[y0]) * fy
    return mixed


def _rough(rng: np.random.Generator, width: int, height: int, cell: int) -> _Floats:
    """Noise of several sizes, as clouds and rock have it."""
    total, weight = np.zeros((height, width), np.float32), 0.5
    while cell >= 2:
        total += weight * _noise(rng, width, height, cell)
        cell, weight = cell // 2, weight / 2
    return total


class Landscape:
    """A picture like a photograph that pans: clouds far away, hills before them, at two speeds.

    The same seed gives the same picture everywhere that NumPy's generator does.
    """

    def __init__(self, width: int, height: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.width, self.height = width, height
        span = 3 * width
        self._far = self._sky(rng, span)
        self._near, ridge = self._hills(rng, span)
        rows = np.arange(height)[:, None]
        self._mask = (rows >= ridge[None, :])[..., None]

    def _sky(self, rng: np.random.Generator, span: int) -> Pixels:
        clouds = np.clip(_rough(rng, span, self.height, 64) * 2.2 - 0.8, 0, 1)[..., None]
        depth = np.linspace(0, 1, self.height, dtype=np.float32)[:, None, None]
        blue = np.array([235, 160, 70], np.float32) * (1 - depth) + depth * 225
        sky = blue + (np.array([250, 248, 246], np.float32) - blue) * clouds
        return self._pixels(sky + rng.normal(0, 2, sky.shape))

    def _hills(self, rng: np.random.Generator, span: int) -> tuple[Pixels, npt.NDArray[np.int_]]:
        line = _rough(rng, span, 2, 96)[0]
        ridge = (self.height * (0.95 - 0.6 * line)).astype(int)
        rock = _rough(rng, span, self.height, 16)[..., None]
        depth = (np.arange(self.height)[:, None] - ridge[None, :])[..., None] / self.height
        shade = np.clip(0.35 + rock * 0.9 - depth * 0.5, 0.05, 1.2)
        hills = np.array([60, 130, 95], np.float32) * shade
        return self._pixels(hills + rng.normal(0, 4, hills.shape)), ridge

    def _pixels(self, colours: npt.NDArray[np.floating]) -> Pixels:
        pixels = np.zeros((*colours.shape[:2], 4), np.uint8)
        pixels[..., :3] = np.clip(colours, 0, 255)
        return pixels

    def frame(self, number: int) -> Pixels:
        """Return one frame: uint8, (height, width, 4), blue, green, red, nothing."""
        far = self._window(self._far, number)
        near, mask = self._window(self._near, 3 * number), self._window(self._mask, 3 * number)
        return np.where(mask, near, far)

    def _window(self, wide: npt.NDArray[np.generic], start: int) -> npt.NDArray[np.generic]:
        start %= wide.shape[1]
        part = wide[:, start : start + self.width]
        missing = self.width - part.shape[1]
        return part if not missing else np.concatenate([part, wide[:, :missing]], axis=1)


def tone(start: int, count: int, pitch: int = 440) -> bytes:
    """Return a part of a sine at a quarter of full loudness: s16le, two channels alike.

    ``start``: number of frames since it began; ``count``: frames wanted.
    """
    time = (np.arange(count, dtype=np.int64) + start) * pitch % RATE
    wave = np.rint(np.sin(time * (2 * np.pi / RATE)) * 8192).astype("<i2")
    return np.repeat(wave, 2).tobytes()


def _shape(rows: tuple[str, ...]) -> Pixels:
    """Return a pointer: ``#`` is black, ``.`` white, ``+`` a shadow, a space nothing."""
    kinds = {"#": (0, 0, 0, 255), ".": (255, 255, 255, 255), "+": (0, 0, 0, 80), " ": (0, 0, 0, 0)}
    width = max(map(len, rows))
    return np.array([[kinds[char] for char in row.ljust(width)] for row in rows], np.uint8)


def arrow() -> Pixels:
    """Return the pointer with its tip at (0, 0): uint8, (height, width, 4), BGR and alpha."""
    rows = ["#"]
    rows += ["#" + "." * n + "#+" for n in range(11)]
    rows += [
        "#......#####+",
        "#...#..#+++++",
        "#..##..#+",
        "#.#+ #..#+",
        "##+  #..#+",
        " +    ##++",
    ]
    return _shape(tuple(rows))


def beam() -> Pixels:
    """Return the pointer for text, with its middle at (3, 8)."""
    rows = [".......", ".##.##.", "..###.."] + ["  .#.  "] * 10
    return _shape(tuple(rows + rows[2::-1]))


def hand() -> Pixels:
    """Return the pointer that moves windows, with its middle at (8, 8)."""
    rows = [list(" " * 17) for _ in range(17)]
    for i in range(17):
        for a, b in ((i, 8), (8, i)):
            rows[a][b] = "."
    for i in range(1, 4):
        for side in range(-i, i + 1):
            for a, b in ((i, 8 + side), (16 - i, 8 + side), (8 + side, i), (8 + side, 16 - i)):
                rows[a][b] = "."
    filled = {(y, x) for y in range(17) for x in range(17) if rows[y][x] == "."}
    for y, x in filled:
        for b, a in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= a < 17 and 0 <= b < 17 and (b, a) not in filled:
                rows[b][a] = "#"
    return _shape(tuple("".join(row) for row in rows))


def icon(pixels: Pixels, kind: str, label: str, background: int) -> None:
    """Draw an icon of 64 x 48 pixels (``folder``, ``speaker``) with its label below it."""
    pixels[:] = bgrx(background)
    x = (pixels.shape[1] - 48) // 2
    if kind == "folder":
        pixels[4:12, x : x + 20] = bgrx(0xC99A2E)
        pixels[10:40, x : x + 48] = bgrx(0xE5B84B)
        pixels[10:13, x : x + 48] = bgrx(0xF2D488)
    else:
        for i in range(18):
            pixels[22 - i : 24 + i, x + 12 + i] = bgrx(0xD8DEE9)
        pixels[15:31, x + 4 : x + 14] = bgrx(0xD8DEE9)
        for radius in (26, 32, 38):
            rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
            square = (rows - 23) ** 2 + (columns - x - 10) ** 2
            ring = (square >= radius**2) & (square < (radius + 3) ** 2)
            pixels[ring & (abs(rows - 23) < (columns - x - 10) * 0.6)] = bgrx(0xD8DEE9)
    draw_text(pixels, (pixels.shape[1] - CELL_WIDTH * len(label)) // 2, 44, label, 0xFFFFFF)
