# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Numbers in the bytes of a message, for kernels that have proven that they are there."""

from __future__ import annotations

try:
    import cython
except ImportError:
    from aiospice import _cython as cython

__all__ = ["big", "i32", "u32"]


@cython.locals(view="const unsigned char[::1]", at=cython.Py_ssize_t)
@cython.returns("long long")
def u32(view, at):
    """An unsigned number of 32 bits."""
    low = view[at] | view[at + 1] << 8 | view[at + 2] << 16
    if cython.compiled:
        return cython.cast("long long", low) | cython.cast("long long", view[at + 3]) << 24
    return low | view[at + 3] << 24


@cython.locals(view="const unsigned char[::1]", at=cython.Py_ssize_t, value="long long")
@cython.returns("long long")
def i32(view, at):
    """A signed number of 32 bits."""
    value = u32(view, at)
    if cython.compiled:  # a constant of more than 32 bits would be an object of Python
        return cython.cast(cython.int, cython.cast(cython.uint, value))
    return value - 0x100000000 if value >= 0x80000000 else value


@cython.locals(view="const unsigned char[::1]", at=cython.Py_ssize_t)
@cython.returns("long long")
def big(view, at):
    """An unsigned number of 32 bits, the highest byte first."""
    high = view[at + 1] << 16 | view[at + 2] << 8 | view[at + 3]
    if cython.compiled:
        return cython.cast("long long", high) | cython.cast("long long", view[at]) << 24
    return high | view[at] << 24
