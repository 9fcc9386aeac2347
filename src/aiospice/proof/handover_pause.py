"""How long a guest stands still when it moves, with clients of every kind: it should be the same.

Two server processes; the guest paints a large noisy picture all the time. Clients: none, one on
loopback, one behind a relay of 100 ms each way, and one that has connected to the target and then
reads nothing any more. Each move is a pair of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

import aiospice
from aiospice.aio.control import ControlClient
from aiospice.errors import SpiceTimeout
from aiospice.proof.bench import median
from aiospice.proof.pair import ServerPair
from aiospice.proof.relay import DelayRelay
from aiospice.server.guest import Guest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiospice.server.guest import Host

__all__ = ["CLIENTS", "NoisyGuest", "measure"]

CLIENTS = ("none", "fast", "100 ms away", "reads no more")
_SLOW = 0.1  # seconds, one way
_SIZE, _BEAT = (640, 480), 0.02
_LOADED = 0.7  # seconds of pictures before the move


class NoisyGuest(Guest):
    """Paints noise, which no codec makes small."""

    name = "noisy"

    def attach(self, host: Host) -> None:
        """Make a screen."""
        self.screen = host.display(0)
        self.screen.resize(*_SIZE)
        self._noise = np.random.default_rng(1).integers(0, 256, (_SIZE[1], _SIZE[0], 4), np.uint8)
        self.turn = 0

    async def run(self) -> None:
        """Paint, until the guest moves."""
        while True:
            self.turn += 1
            self.screen.pixels[:] = np.roll(self._noise, 31 * self.turn, 1)
            self.screen.update()
            await asyncio.sleep(_BEAT)

    def freeze(self) -> Any:
        """How often it has painted."""
        return self.turn

    def thaw(self, state: Any) -> None:
        """Go on with that."""
        self.turn = state


async def measure(
    *, policies: tuple[str, ...], runs: int = 5, **_: Any
) -> AsyncIterator[dict[str, Any]]:
    """Yield a row for each policy: milliseconds with each kind of client, medians, and the most."""
    for policy in policies:
        found: dict[str, list[float]] = {kind: [] for kind in CLIENTS}
        for _run in range(runs):
            for kind in CLIENTS:
                found[kind].append(1e3 * await still(policy, kind))
        row: dict[str, Any] = {"policy": policy}
        for kind, values in found.items():
            row[f"{kind}_ms"] = median(values)
        yield {**row, "most_ms": max(map(max, found.values()))}


async def still(policy: str, kind: str) -> float:
    """Seconds that the guest stands still in a move, with one of `CLIENTS`."""
    guest = f"{__name__}:{NoisyGuest.__name__}"
    async with (
        ServerPair(guest, words=("--keep", "acks")) as pair,
        contextlib.AsyncExitStack() as stack,
    ):
        relay = await stack.enter_async_context(DelayRelay(_SLOW if kind == CLIENTS[2] else 0))
        if kind != CLIENTS[0]:
            way = await relay.to("127.0.0.1", pair.source.port)
            session = aiospice.connect(f"spice://127.0.0.1:{way}")
            connected = await stack.enter_async_context(session)
            await connected.screen()
        await asyncio.sleep(_LOADED)
        if kind != CLIENTS[3]:
            return (await pair.move(policy)).still
        return await _stalled(pair, relay, policy)


async def _stalled(pair: ServerPair, relay: DelayRelay, policy: str) -> float:
    """Move while the client, which is ready, reads nothing any more."""
    async with ControlClient(pair.source.control) as control:
        await control.ask("subscribe")
        await control.ask("migrate", target=pair.target.control, policy=policy)
        async for event in control.events():
            if event["event"] == "move-ready":
                relay.stall()
            if event["event"] == "handover-running":
                return float(event["seconds"])
    raise SpiceTimeout("the guest never ran at the target")
