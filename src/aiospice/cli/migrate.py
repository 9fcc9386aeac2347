"""``aiospice migrate SOURCE_CONTROL TARGET_CONTROL``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aiospice.cli.options import limit
from aiospice.errors import MigrationFailed, SessionLost, StateError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from aiospice.aio.control import ControlClient

    Take = Callable[[dict[str, Any]], None]

__all__ = ["arguments", "run"]

POLICIES = ("carry", "carry-early", "direct", "hold")


def arguments(verb: str, parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("source", metavar="SOURCE_CONTROL", help="path of the server's socket")
    parser.add_argument(
        "target", metavar="TARGET_CONTROL", help="of the one it moves to, or tls://HOST:PORT"
    )
    parser.add_argument(
        "--policy", choices=POLICIES, default="direct", help="how sessions get there (direct)"
    )
    parser.add_argument(
        "--ready-timeout",
        metavar="SECONDS",
        type=limit,
        default=10.0,
        help="clients may take to connect to the target (10)",
    )
    parser.add_argument(
        "--hold-timeout",
        metavar="SECONDS",
        type=limit,
        default=0.5,
        help="hold: clients may take to stop sending (0.5)",
    )
    parser.add_argument("--trace", metavar="FILE", help="write a Chrome trace (for Perfetto)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("-v", dest="verbose", action="count", default=0, help="tell more")


async def run(verb: str, args: Namespace) -> int:
    """Order the move, and tell how it goes on until it is over."""
    target = args.target if args.target.startswith("tls://") else os.path.abspath(args.target)
    if not args.trace:
        return await _move(target, args, lambda event: None)
    from aiospice.cli.tracing import traced

    async with traced(args.trace, args.source, target) as take:
        return await _move(target, args, take)


async def _move(target: str, args: Namespace, take: Take) -> int:
    import asyncio

    from aiospice.aio.control import ControlClient
    from aiospice.errors import AiospiceError

    async with ControlClient(args.source) as control:
        await control.ask("subscribe")
        migration = await control.ask(
            "migrate",
            target=target,
            policy=args.policy,
            ready_timeout=args.ready_timeout,
            hold_timeout=args.hold_timeout,
        )
        try:
            return await _follow(control, migration, args, take)
        except asyncio.CancelledError:
            try:
                await control.ask("cancel-migration")
            except AiospiceError:
                pass  # too late for that: it goes on without being watched
            raise


async def _follow(control: ControlClient, migration: str, args: Namespace, take: Take) -> int:
    began: float | None = None
    async for event in control.events():
        kind = event["event"]
        if event.get("migration", migration) != migration:
            continue
        take(event)
        if began is None and kind == "handover-began":
            began = event["time"]
        if began is not None:
            await _show(event, began, args)
        if kind in _ENDS and event.get("migration") == migration:
            return _end(event)
    raise SessionLost("the source has ended: what has become of the guest, its target knows")


_ENDS = ("handover-finished", "handover-failed", "handover-uncertain")


def _end(event: dict[str, Any]) -> int:
    """The exit status: 0 only if nothing was lost."""
    if event["event"] == "handover-failed":
        raise StateError(f"the guest stays where it was: {event['reason']}")
    if event["event"] == "handover-uncertain":
        raise MigrationFailed(
            f"the guest stands still at its source, which doesn't know whether the target runs it "
            f"({event['reason']}): look there, then tell the source's control socket resume or "
            "discard"
        )
    lost = event["anew"] + event["away"] + event["missed"]
    return 1 if lost else 0


async def _show(event: dict[str, Any], began: float, args: Namespace) -> None:
    from aiospice.cli.stdio import write_line

    milliseconds = 1000 * (event["time"] - began)
    if args.json:
        from json import dumps

        await write_line(dumps({**event, "ms": round(milliseconds, 3)}))
        return
    from aiospice.cli.escape import escape

    say = _LINES.get(event["event"])
    if say is not None:
        await write_line(escape(f"{milliseconds:9.1f} ms  {say.format_map(_Words(event))}"))


class _Words(dict[str, Any]):
    """An event's values, as they are shown: seconds as milliseconds, bytes with their unit."""

    def __missing__(self, name: str) -> str:
        if name == "still":
            return f"{1000 * self['seconds']:.1f} ms"
        if name.endswith("_kib"):
            return f"{self[name[:-4]] / 1024:.1f} KiB"
        if name == "how":
            return "whole" if self["whole"] else "begins anew"
        return "?"


_LINES = {
    "handover-began": "{target} is asked to take the guest and {clients} clients ({policy})",
    "handover-agreed": "agreed: clients are to go to {host}, port {port}, TLS port {tls_port}",
    "move-prepared": "prepared: {clients} clients connect to {target}",
    "move-ready": "clients ready: {whole} go whole, {anew} begin anew, {away} reconnect",
    "handover-ready": "ready: the guest is stopped",
    "handover-stopped": "stopped: {early_kib} were told before, {late_kib} since",
    "handover-running": "running on the target; the guest stood still for {still}",
    "record-left": "first record: {channel} of client {client}",
    "client-followed": "arrived: client {client}, {how}",
    "client-missed": "missed: client {client}: {reason}",
    "handover-finished": (
        "finished: {whole} whole, {anew} anew, {away} reconnected, {missed} missed"
    ),
    "handover-failed": "failed: {reason}",
    "handover-uncertain": "uncertain: {reason}",
}
