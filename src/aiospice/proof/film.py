"""What a guest shows, as a film: the same pixels and damage for any server that is to be measured.

A film is a file that servers map: four numbers of 32 bits (width, height, frames, 0), where each
frame begins (64 bits each), and the frames: how many rectangles have changed, and for each its
x, y, width, height and rows of B G R and a zero. Frame 0 is the whole screen, to begin with.

`SCENES` make films from formulas and from the screens of `aiospice.proof.content`.
"""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from aiospice.errors import LocalError
from aiospice.proof.content import captured, made_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

__all__ = ["HEIGHT", "SCENES", "WIDTH", "Film", "save"]

WIDTH, HEIGHT = 1024, 768
#: x, y, width, height.
Box = tuple[int, int, int, int]
_HEAD = struct.Struct("<4I")
_BOX = struct.Struct("<4I")


class Film:
    """A film that was saved; `frame` gives a frame's rectangles, whose pixels are views."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.width, self.height, self.frames, _ = _HEAD.unpack_from(self._map)
        self._starts = struct.unpack_from(f"<{self.frames}Q", self._map, _HEAD.size)

    def frame(self, number: int) -> list[tuple[Box, Pixels]]:
        """The rectangles of a frame, each with its pixels (height, width, 4)."""
        at = self._starts[number]
        (count,) = struct.unpack_from("<I", self._map, at)
        at += 4
        found = []
        for _ in range(count):
            box = _BOX.unpack_from(self._map, at)
            size = 4 * box[2] * box[3]
            pixels = np.frombuffer(self._map, np.uint8, size, at + _BOX.size)
            found.append((box, pixels.reshape(box[3], box[2], 4)))
            at += _BOX.size + size
        return found

    def pixels(self, number: int) -> int:
        """How many pixels a frame has changed, at most."""
        return sum(box[2] * box[3] for box, _ in self.frame(number))


def save(path: Path, scene: str, frames: int) -> None:
    """Write the film of a scene: its first screen and ``frames`` more. `LocalError`: no such."""
    if scene not in SCENES:
        raise LocalError(f"there is no scene {scene!r}; there are {', '.join(SCENES)}")
    screen = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    starts = []
    with path.open("wb") as file:
        file.write(_HEAD.pack(WIDTH, HEIGHT, frames + 1, 0) + bytes(8 * (frames + 1)))
        steps = SCENES[scene](screen)
        for _ in range(frames + 1):
            starts.append(file.tell())
            boxes = next(steps)
            file.write(struct.pack("<I", len(boxes)))
            for x, y, width, height in boxes:
                file.write(_BOX.pack(x, y, width, height))
                file.write(screen[y : y + height, x : x + width].tobytes())
        file.seek(_HEAD.size)
        file.write(struct.pack(f"<{len(starts)}Q", *starts))


# -- parts of scenes -------------------------------------------------------------------------


def _union(one: Box, other: Box) -> Box:
    left, top = min(one[0], other[0]), min(one[1], other[1])
    right = max(one[0] + one[2], other[0] + other[2])
    return left, top, right - left, max(one[1] + one[3], other[1] + other[3]) - top


def _desktop() -> Pixels:
    """An X desktop as captured: terminal, clock, calculator on a tiled root window."""
    shown = next(content for content in captured() if content.name == "xspice-desktop").screens()[0]
    pixels = np.frombuffer(shown.pixels, np.uint8).reshape(shown.height, shown.width, 4).copy()
    pixels[:, :, 3] = 0
    return pixels


def _photo() -> Pixels:
    shown = next(made_up(1280, 960))
    return np.frombuffer(shown.pixels, np.uint8).reshape(shown.height, shown.width, 4)


def _letters(chance: np.random.Generator) -> Pixels:
    """Letters of 7x10 grey pixels that look like some alphabet's: strokes, with soft edges."""
    made = np.zeros((60, 10, 7), np.float32)
    for letter in made:
        for _ in range(chance.integers(2, 5)):
            kind, at = chance.integers(0, 3), chance.integers(0, 3)
            if kind == 0:
                letter[chance.integers(0, 4) :, 3 * at] = 1
            elif kind == 1:
                letter[(0, 5, 9)[at], chance.integers(0, 2) :] = 1
            else:
                for step in range(7):
                    letter[(step + at) % 10, step if at else 6 - step] = 1
    soft = np.maximum(made, 0.35 * np.roll(made, 1, 2))
    letters: Pixels = (255 * soft).astype(np.uint8)
    return letters


class _Terminal:
    """A terminal of cells of 8x16 pixels, white on black with words in colour."""

    def __init__(self, screen: Pixels, columns: int, lines: int, left: int, top: int) -> None:
        self.chance = np.random.default_rng(3)
        self.letters = _letters(self.chance)
        self.left, self.top, self.columns, self.lines = left, top, columns, lines
        self.box: Box = (left, top, 8 * columns, 16 * lines)
        self.view = screen[top : top + 16 * lines, left : left + 8 * columns, :3]
        self.view[:] = 0
        self.column = 0
        for line in range(lines):
            self._write(line)

    def _write(self, line: int) -> None:
        """A line of words."""
        at = 0
        while at < self.columns * self.chance.uniform(0.2, 1.0):
            colour = ((1, 1, 1), (0.2, 0.9, 0.2), (1, 0.5, 0.3))[self.chance.integers(0, 12) // 5]
            for _ in range(self.chance.integers(1, 10)):
                if at < self.columns:
                    self._cell(line, at, colour)
                at += 1
            at += 1

    def _cell(self, line: int, column: int, colour: tuple[float, ...] = (1, 1, 1)) -> None:
        letter = self.letters[self.chance.integers(0, len(self.letters))]
        cell = self.view[16 * line + 3 : 16 * line + 13, 8 * column : 8 * column + 7]
        cell[:] = letter[:, :, None] * np.array(colour)

    def scroll(self, lines: int = 1) -> Box:
        """New lines below, the others move up."""
        self.view[: -16 * lines] = self.view[16 * lines :].copy()
        self.view[-16 * lines :] = 0
        for line in range(self.lines - lines, self.lines):
            self._write(line)
        self.column = 0
        return self.box

    def type(self) -> Box:
        """One more letter in the last line, and the cursor behind it."""
        line, column = self.lines - 1, self.column % (self.columns - 2)
        if column == 0:
            self.view[16 * line :] = 0
        self.view[16 * line :, 8 * column : 8 * column + 8] = 0
        self._cell(line, column)
        self.view[16 * line + 2 : 16 * line + 15, 8 * column + 8 : 8 * column + 16] = 200
        self.column += 1
        return self.left + 8 * column, self.top + 16 * line, 16, 16


class _Window:
    """A window that is moved over a desktop."""

    def __init__(self, screen: Pixels, below: Pixels, width: int = 400, height: int = 300) -> None:
        self.screen, self.below = screen, below
        self.pixels = np.full((height, width, 4), 236, np.uint8)
        self.pixels[:, :, 3] = 0
        self.pixels[:22, :, :3] = (140, 90, 40)
        self.pixels[0], self.pixels[-1], self.pixels[:, 0], self.pixels[:, -1] = 4 * (0,)
        text = next(screen for screen in made_up() if screen.name == "text")
        page = np.frombuffer(text.pixels, np.uint8).reshape(text.height, text.width, 4)
        inner = self.pixels[30 : height - 40, 8 : width - 8]
        inner[:, :, :3] = page[: inner.shape[0], : inner.shape[1], :3]
        self.box: Box = (80, 60, width, height)
        self._button(False)
        self._paste()

    def _button(self, down: bool) -> Box:
        height, width = self.pixels.shape[:2]
        top, left = height - 34, width - 96
        button = self.pixels[top : top + 26, left : left + 84, :3]
        button[:] = 120 if down else 214
        button[0], button[:, 0] = (60, 60) if down else (255, 255)
        return self.box[0] + left, self.box[1] + top, 84, 26

    def _paste(self) -> None:
        x, y, width, height = self.box
        self.screen[y : y + height, x : x + width] = self.pixels

    def move(self, x: int, y: int) -> Box:
        """Put it elsewhere; the desktop comes back where it was."""
        left, top, width, height = before = self.box
        part = slice(top, top + height), slice(left, left + width)
        self.screen[part] = self.below[part]
        self.box = (x, y, width, height)
        self._paste()
        return _union(before, self.box)

    def press(self, down: bool) -> Box:
        """Press the button or let it go."""
        box = self._button(down)
        self._paste()
        return box


class _Movie:
    """A moving picture: a view that travels over a photo, with the noise of a camera."""

    def __init__(self, screen: Pixels, box: Box) -> None:
        x, y, width, height = self.box = box
        self.view = screen[y : y + height, x : x + width, :3]
        self.photo = _photo()
        self.chance = np.random.default_rng(4)
        self.step = 0

    def next(self) -> Box:
        """The next picture."""
        _, _, width, height = self.box
        left, top = 3 * self.step % (1280 - width), 2 * self.step % (960 - height)
        seen = self.photo[top : top + height, left : left + width, :3]
        noise = self.chance.integers(-2, 3, seen.shape, dtype=np.int16)
        self.view[:] = np.clip(seen + noise, 0, 255)
        self.step += 1
        return self.box


# -- scenes: each yields the boxes that have changed on the screen it was given -----------------

_ALL: Box = (0, 0, WIDTH, HEIGHT)


def _text(screen: Pixels) -> Iterator[list[Box]]:
    """A terminal: letters are typed, lines scroll, a page of output comes."""
    screen[:, :, :3] = (96, 64, 32)
    terminal = _Terminal(screen, 110, 42, 60, 48)
    yield [_ALL]
    while True:
        for _ in range(6):
            yield [terminal.type()]
        for _ in range(5):
            yield [terminal.scroll()]
        yield [terminal.scroll(11)]


def _interface(screen: Pixels) -> Iterator[list[Box]]:
    """A desktop: a window is moved, its button pressed, a menu opened and closed."""
    below = _desktop()
    screen[:] = below
    window = _Window(screen, below)
    yield [_ALL]
    menu = np.full((220, 140, 3), 245, np.uint8)
    menu[::20], menu[10::40, 10:90] = 190, 40
    step = 0
    while True:
        for _ in range(8):
            step += 1
            yield [window.move(80 + 11 * step % 500, 60 + 7 * step % 380)]
        for down in (True, False):
            yield [window.press(down)]
        before = screen[40:260, 600:740].copy()
        screen[40:260, 600:740, :3] = menu
        yield [(600, 40, 140, 220)]
        screen[40:260, 600:740] = before
        yield [(600, 40, 140, 220)]


def _stills(screen: Pixels) -> Iterator[list[Box]]:
    """Photos, one after another, as large as half of the screen."""
    screen[:, :, :3] = 48
    yield [_ALL]
    photo, step = _photo().astype(np.int16), 0
    chance = np.random.default_rng(5)
    while True:
        step += 1
        turned = np.roll(photo, (97 * step, 131 * step, step), (0, 1, 2))[:576, :768, :3]
        screen[96:672, 128:896, :3] = np.clip(turned + chance.integers(-20, 21, 3), 0, 255)
        yield [(128, 96, 768, 576)]


def _moving(screen: Pixels) -> Iterator[list[Box]]:
    """A moving picture of 320x240 on a desktop."""
    screen[:] = _desktop()
    movie = _Movie(screen, (352, 264, 320, 240))
    movie.next()
    yield [_ALL]
    while True:
        yield [movie.next()]


def _mixed(screen: Pixels) -> Iterator[list[Box]]:
    """A terminal, a window that is moved, and a small moving picture, all at once."""
    below = _desktop()
    screen[:] = below
    window = _Window(screen, below, 280, 200)
    terminal = _Terminal(screen, 60, 20, 520, 420)
    movie = _Movie(screen, (660, 60, 256, 192))
    yield [_ALL]
    step = 0
    while True:
        step += 1
        boxes = [movie.next()]
        boxes.append(terminal.scroll() if step % 4 == 0 else terminal.type())
        if step % 2:
            boxes.append(window.move(60 + 5 * step % 300, 60 + 3 * step % 160))
        yield boxes


#: By name: what fills the screen that it is given, and yields what has changed, again and again.
SCENES: dict[str, Callable[[Any], Iterator[list[Box]]]] = {
    "text": _text,
    "interface": _interface,
    "stills": _stills,
    "moving": _moving,
    "mixed": _mixed,
}
