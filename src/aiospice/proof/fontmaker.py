"""Writes the font of the guests from the X fonts that it is.

``python -m aiospice.proof.fontmaker``. The fonts are 9x15 and 9x15B of the X Window System's
misc-fixed family (Debian: xfonts-base), whose own copyright property says "Public domain font.
Share and enjoy." The file format read here is that of the X server's ``pcfread.c``, as its comments
and the FreeType documentation describe it.
"""

from __future__ import annotations

import gzip
import struct
import sys
import zlib
from pathlib import Path

from aiospice.errors import LocalError

__all__ = ["RANGES", "glyphs", "pack"]

FOLDER = Path("/usr/share/fonts/X11/misc")
TARGET = Path(__file__).resolve().parent.parent / "guests" / "data" / "9x15.font"
WIDTH, HEIGHT, ASCENT = 9, 15, 12

#: The characters that are kept: Latin, Greek, Cyrillic, punctuation, currencies, arrows,
#: mathematics, technical signs, box drawing, blocks, shapes, symbols, Braille, replacement.
RANGES = (
    (0x20, 0x7F),
    (0xA0, 0x180),
    (0x370, 0x460),
    (0x1E00, 0x1F00),
    (0x2010, 0x2060),
    (0x2070, 0x20B0),
    (0x20A0, 0x20D0),
    (0x2100, 0x2460),
    (0x2500, 0x2700),
    (0x2800, 0x2900),
    (0xFFFD, 0xFFFE),
)
_METRICS, _BITMAPS, _ENCODINGS = 1 << 2, 1 << 3, 1 << 5


def _tables(data: bytes) -> dict[int, bytes]:
    magic, count = struct.unpack_from("<4sI", data)
    if magic != b"\1fcp":
        raise LocalError("not a PCF font")
    found = {}
    for i in range(count):
        kind, _, size, offset = struct.unpack_from("<4I", data, 8 + 16 * i)
        found[kind] = data[offset : offset + size]
    return found


def _metrics(table: bytes) -> list[tuple[int, int, int, int]]:
    """Left bearing, right bearing, ascent, descent of each glyph."""
    form = struct.unpack_from("<I", table)[0]
    order = ">" if form & 4 else "<"
    if form & 0x100:  # compressed: five bytes each, 128 is zero
        count = struct.unpack_from(order + "H", table, 4)[0]
        rows = [table[6 + 5 * i : 11 + 5 * i] for i in range(count)]
        return [(r[0] - 128, r[1] - 128, r[3] - 128, r[4] - 128) for r in rows]
    count = struct.unpack_from(order + "I", table, 4)[0]
    wide = [struct.unpack_from(order + "6h", table, 8 + 12 * i) for i in range(count)]
    return [(r[0], r[1], r[3], r[4]) for r in wide]


def _encodings(table: bytes) -> dict[int, int]:
    """The glyph of each character."""
    order = ">" if struct.unpack_from("<I", table)[0] & 4 else "<"
    low, high, first, last, _ = struct.unpack_from(order + "5H", table, 4)
    columns = high - low + 1
    found = {}
    for i in range(columns * (last - first + 1)):
        glyph = struct.unpack_from(order + "H", table, 14 + 2 * i)[0]
        if glyph != 0xFFFF:
            found[(first + i // columns) << 8 | (low + i % columns)] = glyph
    return found


def _rows(data: bytes, offset: int, metric: tuple[int, int, int, int], form: int) -> list[int]:
    """A glyph as `HEIGHT` numbers, its leftmost pixel being the bit ``1 << WIDTH - 1``."""
    left, right, ascent, descent = metric
    pad = 1 << (form & 3)
    stride = ((right - left + 7) // 8 + pad - 1) // pad * pad
    rows = [0] * HEIGHT
    for y in range(ascent + descent):
        line = data[offset + y * stride : offset + (y + 1) * stride]
        bits = int.from_bytes(line, "big") >> (8 * stride - (right - left))
        shift = WIDTH - right
        place = ASCENT - ascent + y
        if 0 <= place < HEIGHT:
            rows[place] = (bits << shift if shift >= 0 else bits >> -shift) & ((1 << WIDTH) - 1)
    return rows


def glyphs(path: Path) -> dict[int, list[int]]:
    """Return the rows of every glyph of a PCF font that `RANGES` names, by character."""
    tables = _tables(gzip.decompress(path.read_bytes()))
    metrics, bitmaps = _metrics(tables[_METRICS]), tables[_BITMAPS]
    form = struct.unpack_from("<I", bitmaps)[0]
    if form & 8 == 0:
        raise LocalError(f"{path.name}: bits from the right aren't read here")
    order = ">" if form & 4 else "<"
    count = struct.unpack_from(order + "I", bitmaps, 4)[0]
    offsets = struct.unpack_from(f"{order}{count}I", bitmaps, 8)
    start = 8 + 4 * count + 16
    found = {}
    for char, glyph in sorted(_encodings(tables[_ENCODINGS]).items()):
        if any(first <= char < end for first, end in RANGES):
            found[char] = _rows(bitmaps[start:], offsets[glyph], metrics[glyph], form)
    return found


def pack(regular: dict[int, list[int]], bold: dict[int, list[int]]) -> bytes:
    """Pack two fonts as ``aiospice.guests.font`` reads them.

    Deflated: u32 number of characters, u32 each character, u16 each row of the regular glyphs,
    then of the bold ones (the regular glyph where there is no bold one); little-endian.
    """
    chars = sorted(regular)
    rows = [row for char in chars for row in regular[char]]
    rows += [row for char in chars for row in bold.get(char, regular[char])]
    form = f"<I{len(chars)}I{len(rows)}H"
    return zlib.compress(struct.pack(form, len(chars), *chars, *rows), 9)


if __name__ == "__main__":
    regular, bold = (glyphs(FOLDER / f"{name}.pcf.gz") for name in ("9x15", "9x15B"))
    TARGET.write_bytes(pack(regular, bold))
    sys.stderr.write(f"{len(regular)} characters, {TARGET.stat().st_size} bytes\n")
