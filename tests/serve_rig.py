"""A small guest, and raw links, for tests of servers on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import aiospice
from aiospice.aio.serve import Server
from aiospice.channels.events import Event
from aiospice.link.client import LinkClient
from aiospice.server.events import ClientRefused
from aiospice.server.guest import Guest, Host
from aiospice.wire.link import HEADER_SIZE, LinkHeader, LinkMessage, LinkReply, frame

__all__ = ["KeysGuest", "ask", "eventually", "link_message", "rules", "serving"]

EventT = TypeVar("EventT", bound=Event)


class KeysGuest(Guest):
    """Remembers what is typed; has no display."""

    name = "keys"

    def __init__(self) -> None:
        self.keys: list[int] = []
        self.host: Host | None = None

    def attach(self, host: Host) -> None:
        self.host = host

    def key(self, code: int, pressed: bool) -> None:
        if pressed:
            self.keys.append(code)


@contextlib.asynccontextmanager
async def serving(guest: Guest | None = None, **options: Any) -> AsyncIterator[Server]:
    """A server on a free port of 127.0.0.1 (unless it is told where), that ends with the block."""
    if not {"listen", "unix_path", "tls_port", "ws_port", "wss_port"} & set(options):
        options["port"] = 0
    async with asyncio.timeout(60), aiospice.serve(guest or KeysGuest(), **options) as server:
        server.seen = []  # type: ignore[attr-defined]
        reader = asyncio.create_task(_note(server))
        try:
            yield server
        finally:
            reader.cancel()


async def _note(server: Server) -> None:
    async for event in server.events():
        server.seen.append(event)  # type: ignore[attr-defined]


def seen(server: Server, kind: type[EventT]) -> list[EventT]:
    """What the server told so far, of that kind."""
    found: list[Event] = server.seen  # type: ignore[attr-defined]
    return [event for event in found if isinstance(event, kind)]


def rules(server: Server) -> list[str]:
    """The rules that connections were refused by so far."""
    return [event.rule for event in seen(server, ClientRefused)]


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for a condition; a limit against hanging only."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def port_of(server: Server) -> int:
    """The port of the first listener."""
    return int(server.addresses[0].rpartition(":")[2])


Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial(server: Server) -> Link:
    """A bare connection to the first listener."""
    return await asyncio.open_connection("127.0.0.1", port_of(server))


def link_message(channel: tuple[int, int] = (1, 0), session: int = 0) -> bytes:
    """A link message as clients send it."""
    link = LinkClient(
        connection_id=session,
        channel_type=channel[0],
        channel_id=channel[1],
        crypto=aiospice.aio.crypto.Crypto(),
    )
    link.start()
    return link.take()


async def ask(server: Server, data: bytes) -> LinkReply | None:
    """Send bytes to the first listener, and read the link reply; None if there is none."""
    reader, writer = await dial(server)
    try:
        writer.write(data)
        async with asyncio.timeout(20):
            header = LinkHeader.parse(await reader.readexactly(HEADER_SIZE))
            return LinkReply.parse(await reader.readexactly(header.size))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    finally:
        writer.close()


def odd_message(**values: Any) -> bytes:
    """A link message with other values than clients give."""
    return frame(LinkMessage(**{"connection_id": 0, "channel_type": 1, "channel_id": 0, **values}))
