"""Keys for tickets, made ahead in a thread.

Each link gets a key of its own: with the same key for two of them, who has seen one could send
its ticket again. Making one takes some 10 ms of computing, which the loop never waits for. All
servers of a loop share what is made ahead (`shared_pool`), and all of a process make it in one
thread, one by one, and not while a guest stands still (`aiospice.aio.calm`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from aiospice.aio.calm import CALM

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["KeyPool", "kept_ready", "shared_pool"]

#: Keys that are kept ready: a client opens a dozen channels at once. Where many servers share
#: them, all their clients may come at once: so many more for each server, and at most.
READY_KEYS, MORE_KEYS, MOST_KEYS = 16, 8, 2048
#: How long a key that is made ahead waits for guests that stand still, and looks, in seconds.
_MOST_CALM, _LOOK = 1.0, 0.002
#: Where `READY_KEYS` are there, others wait until no guest has moved for a while, and looks.
_QUIET, _MOST_QUIET, _LOOK_QUIET = 0.5, 30.0, 0.05

_ahead: ThreadPoolExecutor | None = None
_pools: dict[asyncio.AbstractEventLoop, KeyPool] = {}


def _ahead_thread() -> ThreadPoolExecutor:
    """The thread that all pools share for keys that nobody waits for."""
    from concurrent.futures import ThreadPoolExecutor

    global _ahead
    if _ahead is None:
        _ahead = ThreadPoolExecutor(1, thread_name_prefix="aiospice-keys-ahead")
    return _ahead


def kept_ready(servers: int) -> int:
    """How many keys are kept ready for so many servers."""
    return min(READY_KEYS + MORE_KEYS * (servers - 1), MOST_KEYS)


def shared_pool(make: Callable[[], bytes]) -> KeyPool:
    """The pool of this loop, which everybody who has it closes when done with it."""
    for loop in [loop for loop in _pools if loop.is_closed()]:
        del _pools[loop]
    loop = asyncio.get_running_loop()
    pool = _pools.get(loop)
    if pool is None or pool.closed:
        pool = _pools[loop] = KeyPool(make)
    else:
        pool.share()
    return pool


class KeyPool:
    """Keeps keys ready. All calls are for the loop's thread; ``make`` runs in another."""

    def __init__(self, make: Callable[[], bytes], *, ready: int = READY_KEYS) -> None:
        self._make = make
        self._ready = ready
        self._loop = asyncio.get_running_loop()
        self._keys: deque[bytes] = deque()
        self._waiting: deque[Callable[[bytes], bool]] = deque()
        self._thread: ThreadPoolExecutor | None = None
        self._busy = False
        self._making: Future[bytes] | None = None
        #: Nothing is given any more.
        self.closed = False
        self._users = 1
        self._resting: set[object] = set()
        #: Keys made so far.
        self.made = 0

    def share(self) -> None:
        """One more uses it, and closes it, too."""
        self._users += 1
        self._ready = max(self._ready, kept_ready(self._users))

    def __len__(self) -> int:
        """Keys that are ready."""
        return len(self._keys)

    @property
    def full(self) -> bool:
        """All keys that are kept ready are there, and none is being made."""
        return not self._busy and self._making is None and len(self._keys) >= self._ready

    def start(self) -> None:
        """Begin to make keys."""
        if self._busy or self.closed or len(self._keys) >= self._ready + len(self._waiting):
            return
        if self._waiting:
            self._busy = True
            self._own_thread().submit(self._make).add_done_callback(self._tell)
        elif not self._resting and self._making is None:
            self._making = _ahead_thread().submit(self._make_ahead)
            self._making.add_done_callback(self._tell)

    def _own_thread(self) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor

        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="aiospice-keys")
        return self._thread

    def _make_ahead(self) -> bytes:
        """In the thread: wait for a while until no guest stands still."""
        until = time.monotonic() + _MOST_CALM
        while CALM and time.monotonic() < until:
            time.sleep(_LOOK)
        until += _MOST_QUIET
        while len(self._keys) >= READY_KEYS and not self.closed and time.monotonic() < until:
            if CALM.since() >= _QUIET:
                break
            time.sleep(_LOOK_QUIET)
        return self._make()

    def rest(self, who: object, resting: bool) -> None:
        """Make none ahead while anybody wants that: what waits for a key gets one, and that is all.

        Who has asked for it says when that is over.
        """
        if resting:
            self._resting.add(who)
        else:
            self._resting.discard(who)
        self.start()

    def take(self, give: Callable[[bytes], bool]) -> None:
        """Call ``give`` with a key, now or once one is made; False gives it back unused."""
        if self._keys:
            self._hand_out(self._keys.popleft(), give)
        else:
            self._waiting.append(give)
        self.start()

    def _hand_out(self, key: bytes, give: Callable[[bytes], bool]) -> None:
        if not give(key):
            self._keys.append(key)

    def _tell(self, future: Future[bytes]) -> None:
        """In the thread: pass the key on."""
        if not future.cancelled():
            try:
                self._loop.call_soon_threadsafe(self._arrived, future)
            except RuntimeError:  # the loop has ended meanwhile
                pass

    def _arrived(self, future: Future[bytes]) -> None:
        if future is self._making:
            self._making = None
        else:
            self._busy = False
        if self.closed:
            return
        self.made += 1
        self._keys.append(future.result())
        while self._waiting and self._keys:
            self._hand_out(self._keys.popleft(), self._waiting.popleft())
        self.start()

    def close(self) -> None:
        """Forget the keys and those who wait, and make no more, once all who share it are done."""
        self._users -= 1
        if self._users > 0:
            return
        self.closed = True
        self._keys.clear()
        self._waiting.clear()
        if self._making is not None:
            self._making.cancel()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None
