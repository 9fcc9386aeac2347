"""Text as pixels: the font of the guests, 9 by 15 pixels a character, regular and bold.

The glyphs are those of 9x15 and 9x15B of the X Window System's misc-fixed family, which say of
themselves "Public domain font. Share and enjoy." (`aiospice.proof.fontmaker` wrote the file.) They
cover Latin, Greek and Cyrillic letters, signs, box drawing and Braille; any other character is
shown as an empty box.
"""

from __future__ import annotations

import zlib
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

__all__ = [
    "CELL_HEIGHT",
    "CELL_WIDTH",
    "Pixels",
    "bgrx",
    "draw_text",
    "glyph",
    "masks",
    "text_mask",
]

#: Pixels of a framebuffer: uint8, (height, width, 4), in the order blue, green, red, nothing.
Pixels = npt.NDArray[np.uint8]
#: Size of a character in pixels.
CELL_WIDTH, CELL_HEIGHT = 9, 15

_MISSING = 0


@cache
def _font() -> tuple[dict[int, int], npt.NDArray[np.bool_]]:
    data = zlib.decompress((files("aiospice.guests") / "data" / "9x15.font").read_bytes())
    count = int.from_bytes(data[:4], "little")
    chars = np.frombuffer(data, "<u4", count, 4)
    rows = np.frombuffer(data, "<u2", offset=4 + 4 * count).reshape(2, count, CELL_HEIGHT)
    bits = np.arange(CELL_WIDTH - 1, -1, -1, dtype=np.uint16)
    found = (rows[..., None] >> bits & 1).astype(np.bool_)
    box = np.zeros((CELL_HEIGHT, CELL_WIDTH), np.bool_)
    box[2:13, 1:8] = True
    box[3:12, 2:7] = False
    boxes = np.broadcast_to(box, (2, 1, CELL_HEIGHT, CELL_WIDTH))
    both = np.concatenate([boxes, found], axis=1)
    index = {int(char): i + 1 for i, char in enumerate(chars)}
    return index, np.concatenate([both[0], both[1]])


def glyph(char: str, bold: bool = False) -> int:
    """Return the index of a character's glyph in `masks`; several code points: of the first."""
    index, both = _font()
    found = index.get(ord(char[0]), _MISSING) if char else index[0x20]
    return found + len(both) // 2 if bold else found


def masks() -> npt.NDArray[np.bool_]:
    """Return all glyphs: bool, (glyphs, 15, 9), True where there is ink."""
    return _font()[1]


def text_mask(text: str, bold: bool = False) -> npt.NDArray[np.bool_]:
    """Return one line of text: bool, (15, 9 * characters), True where there is ink."""
    if not text:
        return np.zeros((CELL_HEIGHT, 0), np.bool_)
    chosen = masks()[[glyph(char, bold) for char in text]]
    return chosen.transpose(1, 0, 2).reshape(CELL_HEIGHT, -1)


@cache
def bgrx(colour: int) -> npt.NDArray[np.uint8]:
    """Return a colour 0xRRGGBB as a pixel of four bytes; not to be written to."""
    return np.array([colour & 255, colour >> 8 & 255, colour >> 16 & 255, 0], np.uint8)


def draw_text(
    pixels: Pixels, x: int, y: int, text: str, colour: int, *, bold: bool = False
) -> None:
    """Write a line of text with its top left corner at (x, y); what is outside is cut off."""
    height, width = pixels.shape[:2]
    mask = text_mask(text, bold)
    left, top = max(0, -x), max(0, -y)
    part = mask[top : max(top, height - y), left : max(left, width - x)]
    if part.size:
        y, x = y + top, x + left
        pixels[y : y + part.shape[0], x : x + part.shape[1]][part] = bgrx(colour)
