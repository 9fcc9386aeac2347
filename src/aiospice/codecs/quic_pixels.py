# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True, annotation_typing=False
"""Rows of the QUIC codec, from and to pixels in their formats.

What a row is says `quic_kernel`, whose functions call these once a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array

    from aiospice import _cython as cython

    Bytes = array[int] | memoryview | bytearray
    Array = array[int]
    Cells = array[int] | memoryview
else:
    try:
        import cython
    except ImportError:
        from aiospice import _cython as cython

__all__ = ["read_row", "write_row"]


@cython.locals(i=cython.Py_ssize_t, pixel=cython.ulonglong, cell=cython.uint)
def write_row(
    out: Bytes, cells: Cells, at: int, row: Array, alpha: Array, width: int, kind: int
) -> None:
    """Write a decoded row in its format, from pixel ``at`` on."""
    if kind == 1:
        for i in range(width):
            out[at + i] = alpha[33 + i] & 255
    elif kind == 2:
        for i in range(width):
            pixel = row[33 + i]
            cell = pixel >> 22 & 0x7C00 | pixel >> 11 & 0x3E0 | pixel & 0x1F
            out[2 * (at + i)] = cell & 255
            out[2 * (at + i) + 1] = cell >> 8
    else:
        for i in range(width):
            pixel = row[33 + i]
            cells[at + i] = pixel & 255 | pixel >> 8 & 0xFF00 | pixel >> 16 & 0xFF0000
        if kind == 5:
            for i in range(width):
                cells[at + i] |= (alpha[33 + i] & 255) << 24


@cython.locals(i=cython.Py_ssize_t, pixel=cython.ulonglong)
def read_row(pixels: Bytes, at: int, line: Array, line1: Array, width: int, kind: int) -> None:
    """Read a row to encode, from byte ``at`` on."""
    if kind == 1:
        for i in range(width):
            line1[i] = pixels[at + i]
    elif kind == 2:
        for i in range(width):
            pixel = pixels[at + 2 * i] | pixels[at + 2 * i + 1] << 8
            line[i] = (pixel & 0x7C00) << 22 | (pixel & 0x3E0) << 11 | pixel & 0x1F
    else:
        for i in range(width):
            pixel = pixels[at + 4 * i + 2]
            line[i] = pixel << 32 | pixels[at + 4 * i] | pixels[at + 4 * i + 1] << 16
        if kind == 5:
            for i in range(width):
                line1[i] = pixels[at + 4 * i + 3]
