"""Standard input and output that never hold up the session.

Every read and write is made by a short-lived thread that the end of the program doesn't wait for.
(Making the descriptors non-blocking instead would make those of the whole terminal so.)
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import TYPE_CHECKING, TypeVar

from aiospice.cli import OutputClosed
from aiospice.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_thread", "read_input", "write_line", "write_output"]

T = TypeVar("T")

_CHUNK = 1 << 16


async def in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Run a function in a thread; cancelled, it goes on, but nobody waits for it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, failure = None, None
        try:
            result = function(*arguments)
        except BaseException as error:
            failure = error
        try:
            loop.call_soon_threadsafe(deliver, result, failure)
        except RuntimeError:  # the loop has ended meanwhile
            pass

    threading.Thread(target=work, daemon=True).start()
    return await future


async def read_input() -> bytes:
    """Return what stands in standard input, at most 64 KiB; nothing at its end."""
    if sys.stdin is None:
        return b""
    return await in_thread(_read, 0)


async def write_output(data: bytes) -> None:
    """Write to standard output; raises `OutputClosed` when nobody reads it any more."""
    if sys.stdout is None:
        raise LocalError("standard output is closed")
    await in_thread(_write, 1, data)


async def write_line(text: str) -> None:
    """Write a line; what the terminal's encoding doesn't have is escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    await write_output(f"{text}\n".encode(encoding, "backslashreplace"))


def _read(file: int) -> bytes:
    while True:
        try:
            return os.read(file, _CHUNK)
        except BlockingIOError:
            _wait(file, writing=False)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(file, view) :]
        except BlockingIOError:
            _wait(file, writing=True)
        except BrokenPipeError:
            raise OutputClosed from None


def _wait(file: int, *, writing: bool) -> None:
    """Wait for a descriptor that somebody else has made non-blocking."""
    import select

    poller = select.poll()
    poller.register(file, select.POLLOUT if writing else select.POLLIN)
    poller.poll()
