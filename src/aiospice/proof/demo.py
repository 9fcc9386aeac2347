"""``aiospice demo``: a session follows a machine from server to server, and nothing is lost.

The guest is the demo desktop, which moves between two servers of ours (`aiospice.proof.demo_own`),
or, as here, a QEMU. That boots a guest that echoes its serial port; the client streams through that
port without a break while the machine moves to a new process and on, as often as asked for.
"""

from __future__ import annotations

import asyncio
import json as json_module
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from aiospice.errors import MigrationFailed, MissingProgram
from aiospice.proof.relay import DelayRelay
from aiospice.proof.stream import EchoReport, EchoStream, EventLog

if TYPE_CHECKING:
    from aiospice.channels.events import Event
    from aiospice.proof.qemu import QemuPair

__all__ = ["run"]

#: One way, in seconds. Without any, upstream's target may itself lose a byte (see `_ABOUT`).
DELAY = 0.001
WINDOW = 2048
#: Bytes that come back between two migrations, at least.
BETWEEN = 4096
#: QEMU doesn't tell when it has read that the client is ready, and starting a migration before
#: that would make it fall back. So many seconds are enough.
SETTLE = 0.1
_ABOUT = (
    f"The connections lead through a relay that holds every byte for {DELAY * 1000:g} ms each "
    "way:\nwithout any delay QEMU's own SPICE server may lose a byte that was handed to it "
    "before\nits serial port was restored."
)


async def run(
    *,
    guest: str = "demo",
    migrations: int | None = None,
    policy: str | None = None,
    json: bool = False,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Show it; returns 0, or 1 if anything was lost, repeated, out of order or wrong.

    ``migrations``: how often (10, or 5 times with QEMU), for each policy; ``policy``: only that one
    (``demo`` only). ``out`` gets the report, or with ``json`` one object a line; ``err`` gets
    progress for people. Raises `MissingProgram` without QEMU (or for a ``guest`` that isn't known),
    and what ends the session.
    """
    out, err = out or sys.stdout, err or sys.stderr
    if guest == "demo":
        from aiospice.proof import demo_own

        policies = demo_own.POLICIES if policy is None else (policy,)
        return await demo_own.tell(policies, migrations or 10, json, out, err)
    if guest != "qemu":
        raise MissingProgram(f"there is no guest {guest!r} to show; there are demo and qemu")
    story = _Story(migrations or 5, json, out, err)
    return await story.tell()


class _Story:
    def __init__(self, migrations: int, json: bool, out: TextIO, err: TextIO) -> None:
        self._migrations = migrations
        self._json = json
        self._out = out
        self._err = err
        self._modes: list[str] = []
        self._pauses: list[float] = []
        self._began = time.monotonic()

    async def tell(self) -> int:
        """Run all of it."""
        import aiospice
        from aiospice.proof.qemu import QemuOptions, QemuPair

        self._say("Starting QEMU with a guest that echoes its serial port ...")
        async with DelayRelay(DELAY) as relay, QemuPair(QemuOptions()) as pair:
            port = await relay.to("127.0.0.1", pair.source.port)
            async with aiospice.connect(f"spice://127.0.0.1:{port}") as session:
                echo = await session.port()
                self._emit("connected", channels=list(session.channels), delay=DELAY)
                self._say(f"Connected: {len(session.channels)} channels. Streaming.")
                async with EventLog(session) as log, EchoStream(echo, window=WINDOW) as stream:
                    for number in range(1, self._migrations + 1):
                        await stream.flowing(BETWEEN)
                        await self._move(number, pair, relay, log)
                    await stream.flowing(BETWEEN)
                    report = await stream.stop()
        return self._judge(report)

    async def _move(self, number: int, pair: QemuPair, relay: DelayRelay, log: EventLog) -> None:
        from aiospice.proof.qemu import Move

        target = await pair.prepare()
        since = len(log.events)
        way = await relay.to("127.0.0.1", target.port)
        await pair.source.client_migrate_info(target, port=way)
        ready = await log.wait("migration-ready", "migration-abandoned", since=since)
        if ready.kind == "migration-abandoned":
            raise MigrationFailed(f"the client can't follow: {ready.as_dict()['reason']}")
        await asyncio.sleep(SETTLE)
        move = Move()
        pair.moves.append(move)
        await pair.move(move)
        if move.status != "completed":
            raise MigrationFailed(f"QEMU's migration {number} is {move.status}")
        self._moved(number, await log.wait("migration-finished", since=since))

    def _moved(self, number: int, event: Event) -> None:
        facts = event.as_dict()
        self._modes.append(facts["mode"])
        self._pauses.append(facts["pause"])
        self._emit("migration", number=number, mode=facts["mode"], pause=facts["pause"])
        pause = f"{facts['pause'] * 1000:.1f} ms"
        self._say(f"  {number} of {self._migrations}: {facts['mode']}, paused for {pause}")

    def _judge(self, report: EchoReport) -> int:
        seconds = time.monotonic() - self._began
        facts = report._asdict()
        self._emit("report", **facts, modes=self._modes, pauses=self._pauses, seconds=seconds)
        if not self._json:
            self._out.write(self._text(report, seconds))
        self._out.flush()
        return 0 if report.exact else 1

    def _text(self, report: EchoReport, seconds: float) -> str:
        lines = [
            f"{self._migrations} migrations in {seconds:.1f} s, with a stream that never stopped",
            "",
            f"  bytes sent      {report.sent:>9}",
            f"  bytes received  {report.received:>9}",
            f"  lost            {report.lost:>9}",
            f"  repeated        {report.repeated:>9}",
            f"  out of order    {report.out_of_order:>9}",
            f"  longest silence {report.silence * 1000:>9.0f} ms (the machine itself stands still "
            "in it)",
            "",
        ]
        for number, (mode, pause) in enumerate(zip(self._modes, self._pauses, strict=True), 1):
            lines.append(f"  migration {number}: {mode}, session paused for {pause * 1000:.1f} ms")
        lines += ["", _ABOUT, ""]
        verdict = "Not a byte was lost." if report.exact else "The stream is damaged."
        return "\n".join([*lines, verdict, ""])

    def _emit(self, event: str, **facts: Any) -> None:
        if self._json:
            print(json_module.dumps({"event": event, **facts}), file=self._out, flush=True)

    def _say(self, line: str) -> None:
        print(line, file=self._err, flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(run()))
