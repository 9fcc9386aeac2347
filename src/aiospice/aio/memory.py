"""The C library's memory, for programs that pack pictures all the time."""

from __future__ import annotations

import contextlib

__all__ = ["keep_memory"]

#: ``M_TRIM_THRESHOLD`` and ``M_MMAP_THRESHOLD`` of glibc's ``mallopt``, and what they are set to.
_TRIM, _TRIM_BYTES = -1, 64 << 20
_MMAP, _MMAP_BYTES = -3, 32 << 20


def keep_memory() -> bool:
    """Have glibc keep up to 64 MiB that was freed, for this process; False without glibc.

    A picture of 256 KiB would get fresh pages each time, which the kernel has to clear. For
    programs of one's own: a library doesn't decide that for the process that it is in.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_TRIM, _TRIM_BYTES)) and bool(mallopt(_MMAP, _MMAP_BYTES))
    return False
