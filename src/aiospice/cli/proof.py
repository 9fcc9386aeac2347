"""``aiospice demo`` and ``aiospice bench``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Awaitable

__all__ = ["arguments", "run"]

POLICIES = ("carry", "carry-early", "direct", "hold", "replay", "ack")


def arguments(verb: str, parser: ArgumentParser) -> None:
    """Add the options of one of the verbs."""
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("-v", dest="verbose", action="count", default=0, help="tell more")
    if verb == "bench":
        parser.add_argument("part", metavar="PART", nargs="?", help="only this part")
        parser.add_argument("--runs", metavar="N", type=int, help="how often each thing is done")
        parser.add_argument("--only", metavar="WORD", help="only what has this word in its name")
        parser.add_argument("--keep", metavar="DIR", help="keep recordings here, play them again")
        parser.add_argument("--paced", action="store_true", help="play them at their own pace")
        return
    parser.add_argument(
        "--guest", choices=("demo", "qemu"), default="demo", help="what moves (demo)"
    )
    parser.add_argument(
        "--policy", choices=POLICIES, help="how the session gets there; demo only (all in turn)"
    )
    parser.add_argument("--migrations", metavar="N", type=int, help="how often (10; qemu: 5)")


def run(verb: str, args: Namespace) -> int | Awaitable[int]:
    """Hand over to `aiospice.proof`."""
    module: Any = import_module(f"aiospice.proof.{verb}")
    if verb == "bench":
        options = {name: getattr(args, name) for name in ("runs", "only", "keep", "paced")}
        given = {name: value for name, value in options.items() if value is not None}
        status: int | Awaitable[int] = module.run(part=args.part, json=args.json, **given)
    else:
        options = {"guest": args.guest, "policy": args.policy, "migrations": args.migrations}
        status = module.run(json=args.json, **options)
    return status
