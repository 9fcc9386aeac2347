"""``aiospice lab``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.cli.options import limit

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Awaitable

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
    _beside(parser)
    parser.add_argument(
        *("--jobs", "--workers"), metavar="N", type=int, default=0, help="processes (one a core)"
    )
    parser.add_argument(
        *("--log", "--soak"),
        metavar="FILE",
        default="",
        help="note each thousand seeds there, and go on behind those that it has",
    )
    parser.add_argument(
        "--summary", metavar="FILE", default="", help="only tables (Markdown) of what was noted"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("-v", dest="verbose", action="count", default=0, help="tell more")


def _beside(parser: ArgumentParser) -> None:
    """The options of what is looked at beside the simulator."""
    parser.add_argument(
        "--real",
        action="store_true",
        help="play a script of faults with real processes, too, beside the simulator",
    )
    parser.add_argument("--only", metavar="WORDS", default="", help="--real: only such faults")
    parser.add_argument("--runs", metavar="N", type=int, default=2, help="--real: how often (2)")
    parser.add_argument("--write", metavar="FILE", default="", help="--real: the table goes there")
    parser.add_argument(
        "--restoring",
        metavar="FILE",
        nargs="*",
        help="count what a client holds and is used behind a move, in recordings of X sessions",
    )
    parser.add_argument("--keep", metavar="DIR", default="", help="--restoring: keep recordings")


def run(verb: str, args: Namespace) -> int | Awaitable[int]:
    """Hand over to `aiospice.proof.lab`, or to what plays for real."""
    if args.real:
        from aiospice.proof import faults

        policies = (args.policy,) if args.policy else faults.POLICIES
        options = {"runs": args.runs, "jobs": args.jobs, "json": args.json}
        return faults.run(policies=policies, only=args.only, write=args.write, **options)
    if args.restoring is not None:
        from aiospice.proof import restoring

        return restoring.run(args.restoring, keep=args.keep, json=args.json)
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
            log=args.log,
            summary=args.summary,
            json=args.json,
        )
    )
