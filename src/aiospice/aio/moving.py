"""A machine that moves from one of our servers to another, as the source's owner sees it.

::

    move = await source.prepare_migration("target", 5901)
    await move.clients_ready()
    state = await move.freeze()           # the guest stands still
    target.thaw(state)                    # wherever the target is: the state pickles
    late = await move.complete()
    target.take_late_inputs(late)
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiospice.errors import LocalError, SpiceTimeout, StateError
from aiospice.migration.source import ANSWER_SECONDS, LEAVE_SECONDS, Policy, SourcePhase

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiospice.aio.serve import Server
    from aiospice.server.carried import LateInputs, MachineState

__all__ = ["GuestState", "Move"]

#: How often a phase is looked at, in seconds.
_LOOK = 0.005


@dataclass(slots=True)
class GuestState:
    """What moves of a guest: its own memory (`Guest.freeze`), and the machine's."""

    guest: Any
    machine: MachineState


class Move:
    """One move of a machine and its clients; made by `Server.prepare_migration`."""

    def __init__(
        self,
        server: Server,
        host: str,
        port: int,
        tls_port: int,
        cert_subject: str,
        policy: str,
        *,
        upstream: bool = False,
    ) -> None:
        known = [each.value for each in Policy]
        if policy not in known:
            raise LocalError(f"policy {policy!r} isn't known: {', '.join(known)}")
        if not server.guest.can_move:
            raise LocalError(f"the guest {server.guest.name} can't move to another server")
        self._server = server
        self._upstream = upstream
        self._shell = server._shell
        self._core.prepare_migration(
            host, port, tls_port, cert_subject, Policy(policy), now=self._shell.now()
        )
        self._shell.turn()

    @property
    def _core(self) -> Any:
        return self._shell.core

    async def _until(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not done():
                    await asyncio.sleep(_LOOK)
        except TimeoutError:
            raise SpiceTimeout(f"{what} after {seconds:g} s") from None

    async def clients_ready(self, timeout: float = ANSWER_SECONDS + 1) -> None:
        """Wait until moving loses nothing: each client has answered, or had its time (10 s).

        Raises `SpiceTimeout` if that takes longer than ``timeout`` seconds.
        """
        await self._until(lambda: bool(self._core.clients_ready), timeout, "clients weren't ready")

    async def freeze(self) -> GuestState:
        """Stop the guest; gives all of it, as plain data that pickles.

        For a target that isn't ours, what the guest hasn't read goes with its clients instead.
        """
        await self._server._end_life()
        self._shell.settle()
        machine = self._core.freeze_machine(self._shell.now(), plain=self._upstream)
        guest = self._server.guest.freeze()
        self._shell.turn()
        return GuestState(guest, machine)

    async def complete(self) -> dict[int, LateInputs]:
        """The guest is on the target: have the clients follow, and wait until all have left.

        Gives what they typed meanwhile, for `Server.take_late_inputs` of the target. Clients that
        don't go in time are disconnected.
        """
        self._server._guest_left()
        self._core.complete_migration(self._shell.now())
        self._shell.turn()
        limit = ANSWER_SECONDS + LEAVE_SECONDS + 1
        await self._until(self._left, limit, "clients haven't left")
        found: dict[int, LateInputs] = self._core.late_inputs()
        return found

    def _left(self) -> bool:
        return bool(self._core.source.phase is SourcePhase.IDLE)

    def cancel(self) -> None:
        """The guest stays, and lives on. Raises `StateError` once clients have been sent off."""
        if self._core.source.phase is SourcePhase.IDLE:
            raise StateError("no migration is under way")
        self._core.cancel_migration(self._shell.now())
        if self._server._life is None:
            self._server._begin_life()
        self._shell.turn()
