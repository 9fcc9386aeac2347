"""``aiospice lab``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.cli.options import limit

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["arguments", "run"]


def arguments(verb: str, parser: ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--seeds", metavar="N", type=int, help="how many (200)")
    parser.add_argument("--first", metavar="S", type=int, default=0, help="from this one on (0)")
    parser.add_argument("--policy", metavar="P", default="", help="only this policy")
    parser.add_argument("--seed", metavar="S", type=int, help="only this one")
    parser.add_argument("--scenario", metavar="FILE", default="", help="a scenario, as JSON")
    parser.add_argument(
        "--calm", action="store_true", help="only the move that costs are measured on"
    )
    parser.add_argument(
        "--latency",
        metavar="MS",
        type=limit,
        action="append",
        help="one way, of what is measured (25, 50 and 100); may be repeated",
    )
    parser.add_argument(
        "--trace",
        metavar="FILE",
        nargs="?",
        const="",
        help="of one run: a Chrome trace; without FILE every event, a line each",
    )
    parser.add_argument(
        "--plot", metavar="FILE", default="", help="SVG: pauses over latency, or one run"
    )
    parser.add_argument(
        "--table",
        metavar="NAME",
        action="append",
        help="normal, death, lies, fast, stall or all; may be repeated",
    )
    parser.add_argument("--no-shrink", action="store_true", help="failures as they are")
    parser.add_argument("--no-costs", action="store_true", help="don't measure the policies")
    parser.add_argument("--jobs", metavar="N", type=int, default=0, help="processes (one a core)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("-v", dest="verbose", action="count", default=0, help="tell more")


def run(verb: str, args: Namespace) -> int:
    """Hand over to `aiospice.proof.lab`."""
    from aiospice.proof import lab

    return lab.run(
        lab.Asked(
            count=args.seeds,
            first=args.first,
            policy=args.policy,
            seed=args.seed,
            scenario=args.scenario,
            calm=args.calm,
            latencies=tuple(args.latency or ()),
            trace=args.trace == "",
            trace_file=args.trace or "",
            plot=args.plot,
            tables=tuple(args.table or ()),
            smallest=not args.no_shrink,
            costs=not args.no_costs,
            jobs=args.jobs,
            json=args.json,
        )
    )
