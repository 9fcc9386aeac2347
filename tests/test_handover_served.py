"""A guest and its client move between two servers of ours on real sockets."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.serve_rig import eventually, port_of, serving

import aiospice
from aiospice.channels.inputs import InputsChannel
from aiospice.errors import LocalError
from aiospice.guests.echo import Echo
from aiospice.migration.client import MigrationFinished
from aiospice.server.guest import Guest, Host, HostDevice

NAME = "org.example.echo"


class Moving(Guest):
    """An echo, a screen, and keys."""

    def __init__(self) -> None:
        self.keys: list[tuple[int, bool]] = []

    def attach(self, host: Host) -> None:
        self.echo = Echo(host.port(NAME))
        self.screen = host.display(0)
        self.screen.resize(320, 200)
        self.echo.device.opened = True

    def device_readable(self, device: HostDevice) -> None:
        self.echo.pump()

    device_writable = device_readable

    def key(self, code: int, pressed: bool) -> None:
        self.keys.append((code, pressed))

    def freeze(self) -> Any:
        return (self.keys, bytes(self.echo.held))

    def thaw(self, state: Any) -> None:
        self.keys, held = state
        self.echo.held[:] = held


async def test_a_guest_moves_back_and_forth_and_its_client_notices_nothing() -> None:
    async with serving(Moving()) as first, serving(Moving(), incoming=True) as second:
        here, there = first, second
        async with aiospice.connect(f"spice://127.0.0.1:{port_of(first)}") as session:
            port = await session.port(NAME)
            noise = np.random.default_rng(1)
            sent = b""
            for turn in range(4):
                guest = here.guest
                assert isinstance(guest, Moving)
                guest.screen.pixels[:] = noise.integers(0, 256, (200, 320, 4), np.uint8)
                guest.screen.update()
                inputs = session._shell.core.channels[3, 0]
                assert isinstance(inputs, InputsChannel)
                inputs.key_down(0x10 + turn)
                session._shell.turn()
                data = noise.bytes(100_000)
                sent += data
                await port.write(data)
                await there.expect_migration(session._shell.core.session_id)
                move = await here.prepare_migration("127.0.0.1", port_of(there))
                await move.clients_ready()
                state = pickle.loads(pickle.dumps(await move.freeze()))
                there.thaw(state)
                there.take_late_inputs(await move.complete())
                assert await port.readexactly(len(data)) == data
                here, there = there, here
                shown = here.guest.screen.pixels  # type: ignore[attr-defined]
                expected = np.ascontiguousarray(shown[:, :, 2::-1])
                await eventually(partial(_shows, session, expected))
            keys = here.guest.keys  # type: ignore[attr-defined]
            await eventually(lambda: len(keys) == 4)
            assert keys == [(0x10 + turn, True) for turn in range(4)]
            early: Any = session._early
            found = [each for each in early.queue if isinstance(each, MigrationFinished)]
            assert [each.mode for each in found] == ["seamless"] * 4


def _shows(session: Any, expected: np.ndarray[Any, np.dtype[np.uint8]]) -> bool:
    return bool((session._shell.core.screens[0].snapshot().array() == expected).all())


async def test_a_move_that_is_called_off_leaves_the_guest_where_it_is() -> None:
    async with (
        serving(Moving()) as here,
        serving(Moving(), incoming=True) as there,
        aiospice.connect(f"spice://127.0.0.1:{port_of(here)}") as session,
    ):
        port = await session.port(NAME)
        await there.expect_migration(session._shell.core.session_id)
        with pytest.raises(LocalError, match="policy"):
            await here.prepare_migration("127.0.0.1", port_of(there), policy="magic")
        move = await here.prepare_migration("127.0.0.1", port_of(there))
        await move.clients_ready()
        await move.freeze()
        await port.write(b"still here")
        move.cancel()
        assert await port.readexactly(10) == b"still here"
