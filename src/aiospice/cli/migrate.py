"""``aiospice migrate SOURCE_CONTROL TARGET_CONTROL``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aiospice.cli.options import limit
from aiospice.errors import AiospiceError, LocalError, MigrationFailed, SessionLost, StateError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from aiospice.aio.control import ControlClient

__all__ = ["Move", "arguments", "run"]

POLICIES = ("carry", "carry-early", "direct", "hold", "replay", "ack")


def arguments(verb: str, parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("source", metavar="SOURCE_CONTROL", help="path of the server's socket")
    parser.add_argument(
        "target", metavar="TARGET_CONTROL", help="of the one it moves to, or tls://HOST:PORT"
    )
    parser.add_argument(
        "more", metavar="SOURCE_CONTROL TARGET_CONTROL", nargs="*", help="and others, in pairs"
    )
    parser.add_argument(
        "--at-once",
        metavar="N",
        type=count,
        default=1,
        help="so many guests move at a time, of several (1)",
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
    parser.add_argument("--trace", metavar="FILE", help="write a Chrome trace (Trace Event JSON)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("-v", dest="verbose", action="count", default=0, help="tell more")


def count(text: str) -> int:
    """An option's value: a number, 1 or more."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


async def run(verb: str, args: Namespace) -> int:
    """Order the moves, and tell how they go on until all are over."""
    names = [args.source, args.target, *args.more]
    if len(names) % 2:
        raise LocalError(f"{names[-1]} has no target: sources and targets are named in pairs")
    pairs = list(zip(names[::2], names[1::2], strict=True))
    if len(pairs) > 1:
        from aiospice.cli.migrate_many import move_all

        if args.trace:
            raise LocalError("--trace draws the move of one guest: name one pair")
        return await move_all(pairs, args)
    move = Move(*pairs[0], args)
    if not args.trace:
        return await move.run()
    from aiospice.cli.tracing import traced

    async with traced(args.trace, move.source, move.target) as take:
        move.take = take
        return await move.run()


class Move:
    """One guest that moves. ``named``: lines say which."""

    def __init__(self, source: str, target: str, args: Namespace, *, named: bool = False) -> None:
        self.source = source
        self.target = target if target.startswith("tls://") else os.path.abspath(target)
        self.args = args
        self.named = named
        #: Seconds that the guest stood still, once it runs at the target.
        self.still: float | None = None
        #: Is given each event of the source.
        self.take: Callable[[dict[str, Any]], None] = _pass

    async def run(self) -> int:
        """Order it; gives the exit status."""
        import asyncio

        from aiospice.aio.control import ControlClient

        args = self.args
        async with ControlClient(self.source) as control:
            await control.ask("subscribe")
            migration = await control.ask(
                "migrate",
                target=self.target,
                policy=args.policy,
                ready_timeout=args.ready_timeout,
                hold_timeout=args.hold_timeout,
            )
            try:
                return await self._follow(control, migration)
            except asyncio.CancelledError:
                try:
                    await control.ask("cancel-migration")
                except AiospiceError:
                    pass  # too late for that: it goes on without being watched
                raise

    async def _follow(self, control: ControlClient, migration: str) -> int:
        began: float | None = None
        async for event in control.events():
            kind = event["event"]
            if event.get("migration", migration) != migration:
                continue
            self.take(event)
            if began is None and kind == "handover-began":
                began = event["time"]
            if kind == "handover-running":
                self.still = event["seconds"]
            if began is not None:
                await _show(event, began, self)
            if kind in _ENDS and event.get("migration") == migration:
                return _end(event)
        raise SessionLost("the source has ended: what has become of the guest, its target knows")


def _pass(event: dict[str, Any]) -> None:
    """Nobody else wants the events."""


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


async def _show(event: dict[str, Any], began: float, move: Move) -> None:
    from aiospice.cli.stdio import write_line

    milliseconds = 1000 * (event["time"] - began)
    if move.args.json:
        from json import dumps

        which = {"source": move.source} if move.named else {}
        await write_line(dumps({**event, "ms": round(milliseconds, 3), **which}))
        return
    from aiospice.cli.escape import escape

    say = _LINES.get(event["event"])
    if say is not None:
        name = f"{move.source}: " if move.named else ""
        text = f"{milliseconds:9.1f} ms  {name}{say.format_map(_Words(event))}"
        await write_line(escape(text))


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
