"""Pictures to pack, for the tests of the codecs: with runs, repetitions and noise."""

from __future__ import annotations

import random

from hypothesis import strategies as st

__all__ = ["pictures", "shades", "some_bytes"]


def some_bytes(size: int, seed: int) -> bytes:
    """Bytes of one of several natures, by the seed."""
    chance = random.Random(seed)
    nature = seed % 5
    if nature == 0:
        return chance.randbytes(size)
    if nature == 1:
        return bytes((seed >> 8 & 255,)) * size
    pool = [chance.randbytes(chance.choice((1, 4, 8, 44))) for _ in range(4)]
    made = bytearray()
    while len(made) < size:
        made += chance.choice(pool) * chance.choice((1, 1, 2, 7, 80))
        if nature == 2:
            made += chance.randbytes(chance.choice((0, 0, 4, 12)))
    return bytes(made[:size])


def shades(width: int, height: int, depth: int, seed: int) -> bytes:
    """Rows of pixels of ``depth`` bytes that change slowly, with more or less noise by the seed."""
    chance = random.Random(seed)
    right, down, noise = (seed % n for n in (3, 4, 5))
    mask = (1 << noise) - 1
    made = bytearray(chance.randbytes(width * height * depth))
    at = 0
    for y in range(height):
        for x in range(width):
            for channel in range(depth):
                made[at] = (made[at] & mask) + x * right + (y * down >> 1) + 50 * channel & 255
                at += 1
    return bytes(made)


def pictures(longest: int) -> st.SearchStrategy[tuple[int, int, int]]:
    """Width, height (1 to ``longest``), and a seed for `some_bytes`."""
    side = st.integers(1, longest)
    return st.tuples(side, side, st.integers(0, 1 << 16))
