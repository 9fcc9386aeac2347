"""SPICE for Python: a client that follows its machine, and a server.

The names here are loaded on demand, so that ``import aiospice`` costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing for it would cost 8 ms
if TYPE_CHECKING:
    from typing import Any

    from aiospice.aio.address import parse_address
    from aiospice.aio.connect import connect
    from aiospice.aio.port import Port
    from aiospice.aio.serve import Server, serve
    from aiospice.aio.session import Session
    from aiospice.channels.events import Event
    from aiospice.client.config import ClientConfig
    from aiospice.client.picture import Picture
    from aiospice.errors import AiospiceError
    from aiospice.server.config import ServerConfig
    from aiospice.server.guest import Guest

__all__ = [
    "AiospiceError",
    "ClientConfig",
    "Event",
    "Guest",
    "Picture",
    "Port",
    "Server",
    "ServerConfig",
    "Session",
    "connect",
    "parse_address",
    "serve",
]

__version__ = "0.1.0.dev0"

_HOMES = {
    "AiospiceError": "errors",
    "ClientConfig": "client.config",
    "Event": "channels.events",
    "Guest": "server.guest",
    "Picture": "client.picture",
    "Port": "aio.port",
    "Server": "aio.serve",
    "ServerConfig": "server.config",
    "Session": "aio.session",
    "connect": "aio.connect",
    "parse_address": "aio.address",
    "serve": "aio.serve",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'aiospice' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"aiospice.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
