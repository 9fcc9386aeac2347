# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Finds the run of messages at the head of a receive buffer that may be passed on together.

Compiled where possible, the same file where not. Every read is preceded by a check that the header
lies inside the buffer, so the loop runs without further checks.
"""

from __future__ import annotations

try:
    import cython
except ImportError:
    from aiospice import _cython as cython

if cython.compiled:
    from cython.cimports.libc.string import memcpy

__all__ = ["bodies", "scan"]


@cython.locals(
    view="const unsigned char[::1]",
    at=cython.Py_ssize_t,
    end=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    limit=cython.Py_ssize_t,
    count=cython.Py_ssize_t,
    number=cython.int,
    numbers=cython.int,
    passes="const unsigned char[::1]",
)
def scan(buffer, start, passes_on, limit):
    """How far whole messages reach that ``passes_on`` has a 1 for: (end, number of messages).

    ``buffer`` is what has come, ``start`` where the first header begins, ``passes_on`` a byte for
    each message number; headers are mini ones. The run ends before a message that isn't complete,
    is larger than ``limit``, or has another number.
    """
    view = buffer
    passes = passes_on
    numbers = len(passes)
    end = len(view)
    at = start
    count = 0
    while at + 6 <= end:
        number = view[at] | view[at + 1] << 8
        size = view[at + 2] | view[at + 3] << 8 | view[at + 4] << 16 | (view[at + 5] & 0x7F) << 24
        if number >= numbers or not passes[number]:
            break
        if view[at + 5] & 0x80 or size > limit or size > end - at - 6:
            break
        at += 6 + size
        count += 1
    return at, count


@cython.locals(
    view="const unsigned char[::1]",
    into="unsigned char[::1]",
    at=cython.Py_ssize_t,
    end=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    to=cython.Py_ssize_t,
)
def bodies(buffer, start, end, count):
    """The bodies of a run of ``count`` messages that `scan` found, joined."""
    view = buffer
    joined = bytearray(end - start - 6 * count)
    into = joined
    at = start
    to = 0
    while at < end:
        size = view[at + 2] | view[at + 3] << 8 | view[at + 4] << 16 | view[at + 5] << 24
        if size:
            if cython.compiled:
                memcpy(cython.address(into[to]), cython.address(view[at + 6]), size)
            else:
                into[to : to + size] = view[at + 6 : at + 6 + size]
        to += size
        at += 6 + size
    return bytes(joined)
