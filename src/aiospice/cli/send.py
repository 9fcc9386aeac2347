"""``aiospice send ADDRESS FILE...``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from aiospice.cli import complain
from aiospice.cli.escape import escape
from aiospice.cli.options import add_common, connected, limit

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from aiospice.errors import AiospiceError

__all__ = ["arguments", "run"]


def arguments(verb: str, parser: ArgumentParser) -> None:
    """Add the options."""
    add_common(parser)
    parser.add_argument("files", metavar="FILE", nargs="+", help="what to send into the guest")
    parser.add_argument(
        "--stall",
        metavar="SECONDS",
        type=limit,
        default=60.0,
        help="how long the guest may do nothing about a file (60)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a file")


async def run(verb: str, args: Namespace) -> int:
    """Send the files; the status is that of the first that did not arrive."""
    async with connected(args, "main", agent=True) as session:
        shown = not args.json and sys.stderr is not None and os.isatty(2)
        results = await _with_bars(args, session) if shown else await _plainly(args, session)
    for path, error in zip(args.files, results, strict=True):
        _report(path, error, json=args.json)
    return next((error.exit_status for error in results if error is not None), 0)


async def _plainly(args: Namespace, session: Any) -> list[AiospiceError | None]:
    found: list[AiospiceError | None] = await session.send_files(args.files, timeout=args.stall)
    return found


async def _with_bars(args: Namespace, session: Any) -> list[AiospiceError | None]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        numbers: dict[str, Any] = {}

        def tell(path: str, sent: int, size: int) -> None:
            if path not in numbers:
                numbers[path] = bars.add_task(escape(os.path.basename(path)), total=size)
            bars.update(numbers[path], completed=sent)

        found: list[AiospiceError | None] = await session.send_files(
            args.files, progress=tell, timeout=args.stall
        )
    return found


def _report(path: str, error: AiospiceError | None, *, json: bool) -> None:
    if json:
        from json import dumps

        from aiospice.cli import say

        size = os.path.getsize(path) if error is None and os.path.exists(path) else None
        text = None if error is None else str(error)
        say(dumps({"file": path, "size": size, "error": text}) + "\n")
    elif error is not None:
        complain(f"aiospice: {escape(str(error))}\n")
