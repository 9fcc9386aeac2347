"""What ``aiospice migrate --trace`` adds: the events of both servers as a Chrome trace."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from aiospice.aio.control import ControlClient
from aiospice.errors import AiospiceError
from aiospice.proof.chrome import TraceFile
from aiospice.proof.timeline_events import ServersTimeline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["traced"]

#: What the target tells at last may come so much behind the source's last word, in seconds.
_LATE = 0.2
#: How long a server is asked that may be away.
_ASKED = 2.0


@asynccontextmanager
async def traced(
    path: str, source: str, target: str
) -> AsyncIterator[Callable[[dict[str, Any]], None]]:
    """Gives what is to be called with each event of the source; the file is written at the end.

    The target's events are heard by its control socket, if ``target`` is the path of one.
    """
    servers = ServersTimeline()
    with TraceFile(path) as trace:
        with suppress(AiospiceError):  # who isn't there is told of by the move
            async with ControlClient(source, timeout=_ASKED) as control:
                servers.status(await control.ask("status"))
        ready = asyncio.Event()
        listener = None
        if not target.startswith("tls://"):
            listener = asyncio.create_task(_listen(target, servers, ready))
            await ready.wait()
        try:
            yield lambda event: servers.take("source", event, time.monotonic())
        finally:
            if listener is not None:
                await asyncio.wait({listener}, timeout=_LATE)
                listener.cancel()
            trace.write(servers.finish())


async def _listen(target: str, servers: ServersTimeline, ready: asyncio.Event) -> None:
    try:
        async with ControlClient(target, timeout=_ASKED) as control:
            await control.ask("subscribe")
            ready.set()
            async for event in control.events():
                servers.take("target", event, time.monotonic())
    except AiospiceError:
        pass  # the move itself tells that nobody is there
    finally:
        ready.set()
