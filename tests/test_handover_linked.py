"""A guest and its clients move between servers that are joined by a link."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serve_rig import eventually, seen, serving
from tests.test_handover_served import NAME, Moving

import aiospice
from aiospice.aio.serve import Server
from aiospice.channels.inputs import InputsChannel
from aiospice.migration.link_source import HandoverFinished


@contextlib.asynccontextmanager
async def two(tmp_path: Path, **options: Any) -> AsyncIterator[tuple[Server, Server]]:
    """A server with a guest and one without, with their control sockets."""
    async with (
        serving(Moving(), control=tmp_path / "a", **options) as first,
        serving(Moving(), incoming=True, control=tmp_path / "b", **options) as second,
    ):
        yield first, second


async def moved(source: Server, target: Path | str, **options: Any) -> HandoverFinished:
    """Move the guest; gives how it went."""
    before = len(seen(source, HandoverFinished))
    source.handovers.migrate(str(target), **options)
    await eventually(lambda: source.handovers.leaving is None)
    await eventually(lambda: len(seen(source, HandoverFinished)) > before)
    return seen(source, HandoverFinished)[-1]


@pytest.mark.parametrize("policy", ["carry", "carry-early", "direct"])
async def test_a_guest_moves_back_and_forth_over_the_control_sockets(
    policy: str, tmp_path: Path
) -> None:
    async with (
        two(tmp_path, password="secret") as (first, second),
        aiospice.connect(first.addresses[0], password="secret") as session,
    ):
        port = await session.port(NAME)
        noise = np.random.default_rng(1)
        here, there = (first, "a"), (second, "b")
        for turn in range(4):
            guest: Any = here[0].guest
            guest.screen.pixels[:] = noise.integers(0, 256, (200, 320, 4), np.uint8)
            guest.screen.update()
            inputs = session._shell.core.channels[3, 0]
            assert isinstance(inputs, InputsChannel)
            inputs.key_down(0x10 + turn)
            session._shell.turn()
            data = noise.bytes(100_000)
            await port.write(data)
            found = await moved(here[0], tmp_path / there[1], policy=policy)
            assert (found.whole, found.anew, found.away, found.missed) == (1, 0, 0, 0)
            assert await port.readexactly(len(data)) == data
            assert there[0].has_guest
            assert not here[0].has_guest
            here, there = there, here
            shown: Any = here[0].guest
            expected = np.ascontiguousarray(shown.screen.pixels[:, :, 2::-1])
            await eventually(partial(_shows, session, expected))
        keys: Any = here[0].guest
        await eventually(lambda: len(keys.keys) == 4)
        assert keys.keys == [(0x10 + turn, True) for turn in range(4)]


def _shows(session: Any, expected: np.ndarray[Any, np.dtype[np.uint8]]) -> bool:
    return bool((session._shell.core.screens[0].snapshot().array() == expected).all())
