"""Three hosts on one machine, with lines that can be slow, stand still, break or be dead.

``client0``, ``left`` and ``right`` are network namespaces; between any two is a line, which is a
delay program (`aiospice.proof.delay`). They are named as in the simulator::

    async with FaultNetwork(delay_ms=20) as net:
        command = net.command("left", "aiospice", "serve", ...)
        await net.lines["client0-left"].die()

Needs root and ``/dev/net/tun``. Nothing of the machine's own network is changed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import Self

from aiospice.proof.delay import MTU, QUEUE_LENGTH, DelayedNetwork, ip

__all__ = ["CLIENT", "SERVERS", "FaultNetwork"]

CLIENT, SERVERS = "client0", ("left", "right")
_PREFIX = "aiofault-"
#: How often a kernel sends again what nobody acknowledges: the connection is given up after about
#: 76 s, about as one that is idle is by its keep-alive, instead of 15 min.
_RETRIES = 7


class _Line(DelayedNetwork):
    """The line between two namespaces; their addresses on it end in 1 and 2."""

    def __init__(self, delay_ms: float, place: int, client: str, server: str) -> None:
        super().__init__(delay_ms)
        self._place, self._ends = place, (client, server)

    async def _configure(self, number: int) -> None:
        self.client_namespace = ""  # it isn't this one's to delete
        devices = (f"aio{number}s", f"aio{number}c")
        for last, (device, space) in enumerate(zip(devices, self._ends, strict=True), 1):
            name = f"line{self._place}"
            await ip("link", "set", device, "netns", space, "name", name)
            inside = ("-n", space)
            await ip(*inside, "addr", "add", f"10.77.{self._place}.{last}/24", "dev", name)
            size = ("mtu", str(MTU), "txqueuelen", str(QUEUE_LENGTH), "up")
            await ip(*inside, "link", "set", name, *size)


class FaultNetwork:
    """See the module's text. ``delay_ms``: one way, of the client's lines."""

    def __init__(self, delay_ms: float = 20) -> None:
        self._name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(3)}-"
        self._stack = contextlib.AsyncExitStack()
        self._delay = delay_ms
        self.lines: dict[str, DelayedNetwork] = {}
        #: Where the servers listen for clients, and for each other.
        self.addresses = {name: f"10.77.{place}.2" for place, name in enumerate(SERVERS)}
        self.link_addresses = {name: f"10.77.2.{last}" for last, name in enumerate(SERVERS, 1)}

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        for stale in _stale():
            await ip("netns", "delete", stale, check=False)
        for host in (CLIENT, *SERVERS):
            space = self._name + host
            await ip("netns", "add", space)
            self._stack.push_async_callback(ip, "netns", "delete", space, check=False)
            await ip("-n", space, "link", "set", "lo", "up")
            words = ("sh", "-c", f"echo {_RETRIES} > /proc/sys/net/ipv4/tcp_retries2")
            await ip("netns", "exec", space, *words)
        for place, server in enumerate(SERVERS):
            line = _Line(self._delay, place, self._name + CLIENT, self._name + server)
            self.lines[f"{CLIENT}-{server}"] = await self._stack.enter_async_context(line)
        left, right = (self._name + server for server in SERVERS)
        line = _Line(0, len(SERVERS), left, right)
        self.lines["-".join(SERVERS)] = await self._stack.enter_async_context(line)

    def command(self, host: str, *words: str) -> list[str]:
        """The command line that runs ``words`` on a host."""
        return ["ip", "netns", "exec", self._name + host, *words]


def _stale() -> list[str]:
    """Namespaces of programs that were killed."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir("/run/netns"):
            owner = name.removeprefix(_PREFIX).split("-")[0]
            if name.startswith(_PREFIX) and not os.path.exists(f"/proc/{owner}"):
                found.append(name)
    return found
