# cython: language_level=3, annotation_typing=False
# mypy: ignore-errors
"""From pixels that differ to operations: the way that every frame goes, compiled where possible.

`changes` makes the cheapest operations of what the guest has drawn on a surface, and publishes it.
What is a move is found by `aiospice.server.moves`, what is one colour becomes a fill, and the rest
an image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.server import compare, shots
from aiospice.server.encode import Picture
from aiospice.server.moves import LEAST_PIXELS, changed, find_move, moves_on
from aiospice.server.operations import Change, Copy, Fill
from aiospice.server.region import size
from aiospice.server.surface import copy_rows, strips

if TYPE_CHECKING:
    from aiospice.server.operations import Operation
    from aiospice.server.region import Box
    from aiospice.server.surface import Surface

    Words = tuple[memoryview, memoryview]

__all__ = ["changes", "image", "paint", "settle"]

#: Searches in a part of a surface that found nothing moved, after which there are fewer.
_PATIENCE = 4
_RARELY = 8
#: Parts of a surface of which that is remembered.
_PARTS = 64
#: Boxes of more pixels are first tried to be moved as far as one before.
_SLIDES = 1 << 16


def changes(
    surface: Surface, damage: list[Box], operations: list[Operation], wanted: bool, turn: int
) -> None:
    """Make operations of what differs within some boxes. ``turn`` counts what was published.

    ``wanted``: somebody takes images now; otherwise they are told of as `Change`.
    """
    words = surface.words()
    mask = surface.mask
    if surface.slide is not None:
        damage = _slide(surface, damage, operations, words)
    for box in changed(words[0], words[1], surface.width, damage, mask, surface.whole):
        settle(surface, box, operations, wanted, turn, words)


def _slide(
    surface: Surface, damage: list[Box], operations: list[Operation], words: Words
) -> list[Box]:
    """Look whether what moved before moves on; where something may still differ after that."""
    left: list[Box] = []
    for box in damage:
        move = None
        if surface.slide is not None and size(box) > _SLIDES:
            move = moves_on(*words, surface.width, box, surface.mask, surface.slide)
            if move is None:
                surface.slide = None
        if move is None:
            left.append(box)
        else:
            operations.append(Copy(surface.id, move.box, move.dx, move.dy))
            left += move.rest
    return left


def settle(
    surface: Surface,
    box: Box,
    operations: list[Operation],
    wanted: bool,
    turn: int,
    words: Words,
    moves: int = 2,
) -> None:
    """Make operations of what differs in a box, which is as small as can be.

    ``moves``: how often in a row something that has moved is looked for.
    """
    left, top, right, bottom = box
    large = moves and (right - left) * (bottom - top) >= LEAST_PIXELS
    misses = surface.misses.get(_part(box), 0) if large else 0
    if large and (misses < _PATIENCE or turn % _RARELY == 0):
        old, new = words
        move = find_move(
            old, new, surface.width, box, surface.mask, carry=True, briefly=misses >= _PATIENCE
        )
        _searched(surface, box, move is not None)
        if move is not None:
            to, dx, dy, rest, done = move
            surface.slide = (dx, dy) if done else None
            if not done:
                pixels, width = surface.shadow, surface.width
                copy_rows(pixels, width, to, pixels, width, to[0] - dx, to[1] - dy)
            operations.append(Copy(surface.id, to, dx, dy))
            for part in changed(old, new, surface.width, rest, surface.mask, box):
                settle(surface, part, operations, wanted, turn, words, moves - 1)
            return
    paint(surface, box, operations, wanted, words)


def _searched(surface: Surface, box: Box, found: bool) -> None:
    """Note what came of it: a picture that changes moves nowhere, a page beside it may."""
    misses = surface.misses
    if found:
        if misses:
            misses.pop(_part(box), None)
        return
    part = _part(box)
    if len(misses) >= _PARTS and part not in misses:
        misses.clear()
    misses[part] = misses.get(part, 0) + 1


def _part(box: Box) -> Box:
    """The part of a surface that a box is in, roughly."""
    return (box[0] >> 5, box[1] >> 5, box[2] >> 5, box[3] >> 5)


def paint(
    surface: Surface, box: Box, operations: list[Operation], wanted: bool, words: Words
) -> None:
    """Publish the pixels of a box."""
    if not wanted:
        surface.accept(box)
        operations.append(Change(surface.id, box))
        return
    left, top, right, bottom = box
    if (right - left) * (bottom - top) <= surface.piece:
        operations.append(image(surface, box, words))
        return
    colour = compare.solid(words[1], surface.width, left, top, right, bottom, surface.mask)
    if colour >= 0:
        surface.accept(box)
        operations.append(Fill(surface.id, box, colour))
    else:
        operations += [image(surface, strip, words) for strip in strips(box, surface.piece)]


def image(surface: Surface, box: Box, words: Words | None) -> Fill | Picture:
    """The pixels of a box as an operation: published by this, or already without ``words``."""
    left, top, right, bottom = box
    if words is not None:
        old, new = words
    else:
        old, (new, _) = None, surface.words()
    pixels, id, colour = shots.grab(new, old, surface.width, left, top, right, bottom, surface.mask)
    if colour >= 0:
        return Fill(surface.id, box, colour)
    return Picture(surface.id, box, pixels, surface.alpha, id ^ surface.alpha)
