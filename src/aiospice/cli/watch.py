"""``aiospice watch ADDRESS``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.cli.options import add_common, connected
from aiospice.cli.stdio import write_line
from aiospice.errors import SessionLost

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["arguments", "run"]

_MIGRATED = "migration-finished"


def arguments(verb: str, parser: ArgumentParser) -> None:
    """Add the options."""
    add_common(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--until-migrated", metavar="N", type=int, default=0, help="end after N migrations"
    )


async def run(verb: str, args: Namespace) -> int:
    """Show events until the session or the wait for migrations ends."""
    migrated = 0
    async with connected(args) as session:
        async for event in session.events():
            await write_line(_json(event.as_dict()) if args.json else _text(str(event)))
            migrated += event.kind == _MIGRATED
            if 0 < args.until_migrated <= migrated:
                return 0
    if args.until_migrated:
        raise SessionLost(f"the session ended after {migrated} of {args.until_migrated} migrations")
    return 0


def _json(value: object) -> str:
    from json import dumps

    return dumps(value)


def _text(text: str) -> str:
    from aiospice.cli.escape import escape

    return escape(text)
