"""Memory that an X server writes pictures into: a System V segment, as MIT-SHM wants it."""

from __future__ import annotations

import ctypes
import os
from typing import Any

from aiospice.errors import LocalError

__all__ = ["SharedMemory"]

_PRIVATE, _CREATE, _REMOVE = 0, 0o1000, 0  # IPC_PRIVATE, IPC_CREAT, IPC_RMID


class SharedMemory:
    """A segment of this process and whoever attaches it by its number."""

    def __init__(self, size: int) -> None:
        """Make one. Raises `LocalError` if the system gives none."""
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._libc.shmat.restype = ctypes.c_void_p
        self._libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
        self._libc.shmdt.argtypes = [ctypes.c_void_p]
        self.size = size
        #: What the other side attaches it by.
        self.number: int = self._libc.shmget(_PRIVATE, ctypes.c_size_t(size), _CREATE | 0o600)
        if self.number < 0:
            raise LocalError(f"no shared memory of {size} bytes: {_why()}")
        self._address: int | None = self._libc.shmat(self.number, None, 0)
        if self._address in (None, ctypes.c_void_p(-1).value):
            self._address = None
            self.forget()
            raise LocalError(f"shared memory can't be attached: {_why()}")
        #: The memory, as a buffer of bytes.
        self.data = memoryview((ctypes.c_ubyte * size).from_address(self._address or 0)).cast("B")

    def forget(self) -> None:
        """Have it freed once nobody is attached: call it when the other side is."""
        self._libc.shmctl(self.number, _REMOVE, None)

    def close(self) -> None:
        """Detach; `data` must not be used any more."""
        if self._address is not None:
            self._libc.shmdt(self._address)
            self._address = None


def _why() -> str:
    return os.strerror(ctypes.get_errno())
