"""``aiospice migrate`` with several guests: so many at a time; one that fails stops no other."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from aiospice.cli import complain
from aiospice.cli.migrate import Move
from aiospice.errors import AiospiceError

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["move_all"]


async def move_all(pairs: list[tuple[str, str]], args: Namespace) -> int:
    """Move the guests of all sources to their targets; 0 only if nothing was lost of any."""
    gate = asyncio.Semaphore(args.at_once)
    moves = [Move(source, target, args, named=True) for source, target in pairs]
    began = time.monotonic()

    async def one(move: Move) -> int:
        async with gate:
            try:
                return await move.run()
            except AiospiceError as error:
                complain(f"aiospice: {move.source}: {error}\n")
                return 1

    async with asyncio.TaskGroup() as group:  # Ctrl-C calls all of them off
        tasks = [group.create_task(one(move)) for move in moves]
    statuses = [task.result() for task in tasks]
    await _sum_up(moves, statuses, time.monotonic() - began, args)
    return max(statuses)


async def _sum_up(moves: list[Move], statuses: list[int], seconds: float, args: Namespace) -> None:
    from aiospice.cli.stdio import write_line

    stills = sorted(move.still for move in moves if move.still is not None)
    middle, most = (stills[len(stills) // 2], stills[-1]) if stills else (None, None)
    whole = statuses.count(0)
    if args.json:
        from json import dumps

        found = {"moves": len(moves), "whole": whole, "seconds": round(seconds, 3)}
        still = {"still_median": middle, "still_most": most}
        await write_line(dumps({"event": "moves-finished", **found, **still}))
        return
    stood = ""
    if middle is not None and most is not None:
        stood = f"; guests stood still for {1e3 * middle:.1f} ms (median), {1e3 * most:.1f} at most"
    await write_line(f"{whole} of {len(moves)} moved whole in {seconds:.1f} s{stood}")
