"""A guest that draws at random, by a seed: fills, moves, noise, photos, surfaces, movies."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.display_rig import DisplayRig

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RandomGuest", "photo", "run"]

#: `ImageCompression`: no wish most of the time, or one of them.
KINDS = (0, 0, 0, 1, 2, 3, 4, 5, 6, 7)
MOVIE = (20, 10, 150, 120)


def photo(width: int, height: int, time: float) -> NDArray[np.uint8]:
    """Smooth colours that change with the time."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    rows = np.zeros((height, width, 4), np.uint8)
    for channel in range(3):
        waves = 60 * np.sin(x / 31 + time * 0.3 + channel), 50 * np.cos(y / 23 + time * 0.2)
        rows[:, :, channel] = 128 + waves[0] + waves[1]
    return rows


class RandomGuest:
    """Draws on the display of a rig."""

    def __init__(self, rig: DisplayRig, seed: int) -> None:
        self.rig = rig
        self.chance = random.Random(seed)
        self.noise = np.random.default_rng(seed)
        self.surfaces: list[int] = []
        self.time = 0

    def draw(self) -> None:
        """Draw something."""
        kinds = (
            *(self._fill, self._copy, self._noise, self._dots, self._scroll, self._photo),
            *(self._create, self._from_surface, self._from_surface, self._destroy),
            *(self._draw_on_surface, self._resize, self._heads, self._letter, self._letter),
        )
        self.chance.choice(kinds)()

    def _place(self) -> tuple[int, int, int, int]:
        """x, y, width, height, which may reach beyond the screen."""
        display, chance = self.rig.display, self.chance
        if chance.random() < 0.2:
            return 0, 0, display.width, display.height
        x, y = chance.randint(-5, display.width), chance.randint(-5, display.height)
        return x, y, chance.randint(1, display.width), chance.randint(1, display.height)

    def _part(self) -> NDArray[np.uint8]:
        """Pixels of the screen, to be written to, that are told as damage."""
        x, y, width, height = self._place()
        x, y = max(x, 0), max(y, 0)
        self.rig.display.damage(x, y, width, height)
        return self.rig.display.array[y : y + height, x : x + width]

    def _fill(self) -> None:
        self.rig.display.fill(*self._place(), self.chance.randint(0, 0xFFFFFF))

    def _copy(self) -> None:
        x, y, width, height = self._place()
        to = self._place()
        self.rig.display.copy(x, y, width, height, to[0], to[1])

    def _noise(self) -> None:
        part = self._part()
        part[:] = self.noise.integers(0, 256, part.shape, np.uint8)

    def _dots(self) -> None:
        part = self._part()
        part[self.noise.random(part.shape[:2]) < 0.2] = self.chance.randint(0, 255)

    def _scroll(self) -> None:
        rows = self.chance.randint(1, 20)
        pixels = self.rig.display.array
        pixels[:-rows] = pixels[rows:].copy()
        self.rig.display.damage(0, 0, self.rig.display.width, self.rig.display.height)

    def _photo(self) -> None:
        part = self._part()
        part[:] = photo(part.shape[1], part.shape[0], self.chance.random())

    def _letter(self) -> None:
        x, y, _, _ = self._place()
        self.rig.display.array[max(y, 0) : y + 9, max(x, 0) : x + 6] = self.chance.randint(0, 255)
        self.rig.display.damage(x, y, 8, 9)

    def _heads(self) -> None:
        display = self.rig.display
        half = display.width // 2
        display.set_heads([(0, 0, 0, half, display.height), (1, half, 0, half, display.height)])

    def _resize(self) -> None:
        if self.chance.random() < 0.3:
            self.rig.display.resize(self.chance.randint(1, 300), self.chance.randint(1, 200))

    def _create(self) -> None:
        if len(self.surfaces) < 5:
            size = self.chance.randint(1, 80), self.chance.randint(1, 80)
            id = self.rig.display.create_surface(*size, self.chance.random() < 0.5)
            self.surfaces.append(id)
            pixels = self.rig.display.surface_array(id)
            pixels[:] = self.noise.integers(0, 256, pixels.shape, np.uint8)
            self.rig.display.surface_damage(id, 0, 0, 100, 100)

    def _from_surface(self) -> None:
        if self.surfaces:
            id = self.chance.choice(self.surfaces)
            x, y, _, _ = self._place()
            area = tuple(self.chance.randint(1, 60) for _ in range(4))
            self.rig.display.draw_surface(id, area, x, y)  # type: ignore[arg-type]

    def _destroy(self) -> None:
        if self.surfaces:
            id = self.surfaces.pop(self.chance.randrange(len(self.surfaces)))
            self.rig.display.destroy_surface(id)

    def _draw_on_surface(self) -> None:
        if self.surfaces:
            id = self.chance.choice(self.surfaces)
            self.rig.display.surface_array(id)[:10, :10] = self.chance.randint(0, 255)
            self.rig.display.surface_damage(id, 0, 0, 10, 10)

    def frame(self) -> bool:
        """The next frame of a movie; False when the screen is too small for it."""
        x, y, width, height = MOVIE
        display = self.rig.display
        if display.width < x + width or display.height < y + height:
            return False
        self.time += 1
        self.rig.now += 0.04
        display.array[y : y + height, x : x + width] = photo(width, height, self.time)
        display.damage(*MOVIE)
        return True


def run(seed: int, *, movie: bool = False, **config: Any) -> DisplayRig:
    """A script: clients come, go, and stop to read, while the guest draws. Gives the settled rig.

    Jobs end in any order, everything is pickled now and then. Every client's screen and surfaces
    were compared with the guest's.
    """
    chance = random.Random(seed)
    sizes = ((400, 300),) if movie else ((64, 48), (200, 150), (33, 17))
    rig = DisplayRig(*chance.choice(sizes), seed, **config)
    rig.freezes = chance.random() < 0.4
    guest = RandomGuest(rig, seed)
    for _ in range(chance.randint(1, 3)):
        rig.client(compression=chance.choice(KINDS), pipe=chance.choice((1 << 10, 1 << 18)))
    for _ in range(chance.randint(3, 15)):
        _turn(rig, guest, chance, chance.randint(5, 40) if movie else 0)
    rig.publish()
    rig.settle(4)
    rig.check()
    for client in rig.clients:
        _check_surfaces(rig, client)
    return rig


def _turn(rig: DisplayRig, guest: RandomGuest, chance: random.Random, frames: int) -> None:
    for _ in range(chance.choice((1, 1, 1, 4))):
        guest.draw()
    if chance.random() < 0.8:
        rig.publish()
    rig.now += chance.random() * 0.1
    for client in rig.clients:
        client.deaf ^= chance.random() < 0.3
    rig.work(chance.choice((0, 0, 1, 3)))
    while frames and guest.frame():
        frames -= 1
        if chance.random() < 0.2:
            guest.draw()
        rig.publish()
        rig.work(chance.randint(0, 4))
    if chance.random() < 0.1 and len(rig.clients) > 1:
        rig.leave(chance.choice(rig.clients))
    if chance.random() < 0.1 and len(rig.clients) < 4:
        rig.client(compression=chance.choice(KINDS))
    for client in rig.clients:
        rig.step(client)


def _check_surfaces(rig: DisplayRig, client: Any) -> None:
    held = client.held
    assert held.behind == 0
    assert not any(plane.lossy or plane.fading for plane in held.planes.values())
    assert set(client.screen.surfaces) == set(rig.display.surfaces)
    for id, surface in rig.display.surfaces.items():
        shown = np.frombuffer(bytes(client.screen.surfaces[id].tight()), np.uint8)
        count = 4 if surface.alpha else 3
        want = surface.array[:, :, :count]
        got = shown.reshape(surface.height, surface.width, 4)[:, :, :count]
        assert np.array_equal(got, want), f"surface {id}"
