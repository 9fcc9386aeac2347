"""What kernels use of Cython, for where they run uncompiled: it declares, and does nothing.

Cython knows ``cython`` by its name when it compiles and needs no such module then. Where a kernel
runs uncompiled this stands in, so that nobody needs Cython to run it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

__all__ = [
    "Py_ssize_t",
    "bint",
    "cfunc",
    "compiled",
    "exceptval",
    "inline",
    "int",
    "locals",
    "nogil",
    "returns",
    "short",
    "uchar",
    "uint",
    "ulonglong",
    "ushort",
    "void",
]

F = TypeVar("F", bound=Callable[..., Any])

#: Cython sees a true value here.
compiled: Final = False


class _Type:
    """A C type; with ``[::1]`` a contiguous view of such items."""

    def __getitem__(self, key: object) -> _Type:
        return self


class _Nogil:
    """``with nogil:`` releases the lock of the interpreter; as a decorator, runs without it."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, *args: object) -> None:
        """End."""

    def __call__(self, function: F) -> F:
        return function


bint = int = short = uchar = uint = ulonglong = ushort = void = Py_ssize_t = _Type()
nogil = _Nogil()


def cfunc(function: F) -> F:
    """Mark a function that only C calls."""
    return function


inline = cfunc


def locals(**types: object) -> Callable[[F], F]:
    """Declare the types of arguments and variables."""
    return cfunc


def returns(type: object) -> Callable[[F], F]:
    """Declare the type of the result."""
    return cfunc


def exceptval(*, check: bool) -> Callable[[F], F]:
    """Declare how a C function tells of an exception: with ``check=False`` it has none."""
    return cfunc
