"""Sends files into the guest, piece by piece as it takes them."""

from __future__ import annotations

import asyncio
import os
import stat
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from aiospice.agent.transfers import TransferPhase
from aiospice.aio.clipboard import agent_ready
from aiospice.errors import AiospiceError, LocalError, TransferFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from aiospice.agent.client import ClientAgent
    from aiospice.agent.transfers import Transfer
    from aiospice.aio.shell import Shell

    Until = Callable[[Callable[[], bool]], Awaitable[None]]

__all__ = ["send_file", "send_files"]

#: Files that are sent side by side.
SIDE_BY_SIDE = 4


async def send_file(
    shell: Shell,
    until: Until,
    path: str | os.PathLike[str],
    *,
    name: str | None,
    progress: Callable[[int, int], None] | None,
    timeout: float,
) -> None:
    """Send one file; see ``Session.send_file``."""
    agent = await agent_ready(shell, until, min(timeout, 10.0))
    file, size = await asyncio.to_thread(_open, path)
    try:
        called = os.path.basename(os.fspath(path)) if name is None else name
        shown = os.fsencode(called).decode("utf-8", "replace")
        transfer = agent.send_file(shown, size, shell.now(), limit=timeout)
        shell.turn()
        try:
            await _carry(shell, until, agent, transfer, file, progress)
        except BaseException:
            agent.transfers.cancel(transfer)
            shell.turn()
            raise
    finally:
        file.close()
    if transfer.error is not None:
        raise transfer.error


async def _carry(
    shell: Shell,
    until: Until,
    agent: ClientAgent,
    transfer: Transfer,
    file: BinaryIO,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Hand in what is wanted, until the guest has it all or it has failed."""
    told = -1
    while True:
        if progress is not None and transfer.sent != told:
            told = transfer.sent
            progress(told, transfer.size)
        if transfer.phase is TransferPhase.ENDED:
            return
        wanted = agent.transfers.wanted(transfer)
        if wanted:
            await _hand_in(shell, agent, transfer, file, wanted)
        else:
            await until(partial(_changed, agent, transfer, transfer.sent))


def _changed(agent: ClientAgent, transfer: Transfer, seen: int) -> bool:
    ended = transfer.phase is TransferPhase.ENDED
    return ended or transfer.sent != seen or bool(agent.transfers.wanted(transfer))


async def _hand_in(
    shell: Shell, agent: ClientAgent, transfer: Transfer, file: BinaryIO, wanted: int
) -> None:
    try:
        data = await asyncio.to_thread(file.read, wanted)
    except OSError as error:
        agent.transfers.cancel(
            transfer, LocalError(f"{transfer.name}: can't be read: {error.strerror}")
        )
    else:
        if len(data) == wanted:
            agent.transfers.feed(transfer, data, shell.now())
        else:
            agent.transfers.cancel(
                transfer,
                TransferFailed(
                    f"{transfer.name}: it became shorter while it was sent, "
                    f"{transfer.fed + len(data)} instead of {transfer.size} bytes"
                ),
            )
    shell.turn()


def _open(path: str | os.PathLike[str]) -> tuple[BinaryIO, int]:
    """Open a file that can be sent; its size in bytes."""
    try:
        file = open(path, "rb", buffering=0, opener=_without_waiting)  # noqa: SIM115
    except OSError as error:
        raise LocalError(f"{os.fspath(path)}: can't be read: {error.strerror}") from None
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        file.close()
        raise LocalError(f"{os.fspath(path)}: only regular files can be sent")
    return file, found.st_size


def _without_waiting(path: str, flags: int) -> int:
    """A pipe that nobody writes to must not hold us up."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


async def send_files(
    send: Callable[[str | os.PathLike[str]], Awaitable[None]],
    paths: Iterable[str | os.PathLike[str]],
) -> list[AiospiceError | None]:
    """Send several, a few side by side; what came of each."""
    turns = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(path: str | os.PathLike[str]) -> AiospiceError | None:
        async with turns:
            try:
                await send(path)
            except AiospiceError as error:
                return error
        return None

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(path)) for path in paths]
    return [task.result() for task in tasks]
