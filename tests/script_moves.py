"""What scripts of migrations share: a pair of servers, and what must hold in the end."""

from __future__ import annotations

from typing import Any

from tests.script import Play, Server

from aiospice.channels.vmc import PortChannel
from aiospice.migration.client import MigrationAbandoned, MigrationFinished
from aiospice.wire import common, main, vmc

__all__ = ["NAMES", "abandoned", "pair", "ping", "port", "start_over", "works"]

NAMES = ("display:0", "inputs:0", "cursor:0", "port:0")


def pair(play: Play, *names: str, tls: bool = False, **config: Any) -> tuple[Server, Server]:
    source = play.server("source", 5900, 5910 if tls else 0)
    target = play.server("target", 5901, 5911 if tls else 0)
    play.config.update(config)
    play.connect(source, *(names or NAMES))
    source.display.skip()
    return source, target


def port(play: Play) -> PortChannel:
    found = play.core.channels[10, 0]
    assert isinstance(found, PortChannel)
    return found


def ping(number: int = 1) -> common.Ping:
    return common.Ping(id=number, timestamp=1, data=b"")


def works(play: Play, server: Server, *names: str) -> None:
    """Every channel talks with ``server``, and nothing else is open."""
    play.check(
        all(peer.server is server for peer in play.peers.values()),
        f"something is open that isn't on {server.name}",
    )
    play.check(set(play.core.at) == set(play.core.channels), "a channel is nowhere")
    play.check(set(play.core.channels) == {peer.key for peer in play.peers.values()}, "leftovers")
    for name in (*(names or NAMES), "main:0"):
        server[name].skip()
        server[name].sends(ping(77))
        server[name].gets(common.Pong, id=77)


def start_over(play: Play, target: Server, *names: str) -> None:
    request = target.main.link.request
    play.check(request is not None and request.connection_id == 0, "not a new session")
    target.main.skip()
    target.main.sends(target.init())
    target.main.gets(main.AttachChannels)
    target.lists(*(names or NAMES))
    for name in names or NAMES:
        if name.startswith("port"):
            target[name].sends(vmc.PortInit(name=b"name of port:0", opened=1))
    play.sees(MigrationFinished, mode="switch-host")
    works(play, target, *(names or NAMES))


def abandoned(play: Play, source: Server, text: str) -> None:
    """The source has been told, and the session is where it was."""
    source.main.gets(main.MigrateConnectError)
    assert text in play.sees(MigrationAbandoned).reason
    works(play, source)
    assert play.core.next_wake() is None
