"""For tests with a real QEMU that moves: a session, its events and a stream through the guest."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiospice
from aiospice.proof.stream import EchoReport, EchoStream, EventLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from aiospice.aio.port import Port
    from aiospice.aio.session import Session
    from aiospice.proof.delay import DelayedNetwork
    from aiospice.proof.pcap import Connection
    from aiospice.proof.qemu import Move, QemuPair

PORT = 10  #: the type of port channels
DATA = 101  #: the number of their data, both ways
MIGRATE, MIGRATE_DATA = 1, 2  #: from the source
FLUSH_MARK, CLIENT_MIGRATE_DATA = 4, 5  #: from the client


class Moving:
    """A session with a machine that moves, with a stream through its echo port."""

    #: Seconds from the client's being ready until QEMU knows for sure.
    settle = 0.1

    def __init__(self, pair: QemuPair, session: Session, port: Port, log: EventLog) -> None:
        self.pair = pair
        self.session = session
        self.port = port
        self.log = log
        self.stream: EchoStream = EchoStream(port)

    async def migrate(self, *, between: int = 2048, **options: Any) -> tuple[Move, dict[str, Any]]:
        """Move the machine, and the session seamlessly; what QEMU and what the client say.

        ``between``: bytes of the stream that must come back before.
        """
        if between:
            await self.stream.flowing(between)
        since = len(self.log.events)
        move = await self.pair.migrate(self.ready(since), **options)
        assert move.status == "completed"
        finished = await self.log.wait("migration-finished", since=since)
        return move, finished.as_dict()

    def ready(self, since: int) -> Callable[[], Any]:
        """What `QemuPair.migrate` awaits: the client has told the source that it is connected."""

        async def wait() -> None:
            event = await self.log.wait("migration-ready", "migration-abandoned", since=since)
            assert event.kind == "migration-ready", event
            # The message that says so is on its way, and QEMU's main loop must have read it
            # before the migration keeps it busy; QEMU doesn't tell.
            await asyncio.sleep(self.settle)

        return wait

    async def seamless(self, times: int = 1, **options: Any) -> None:
        """Migrate so often, each time seamlessly."""
        for _ in range(times):
            since = len(self.log.events)
            move, facts = await self.migrate(**options)
            story = [str(event) for event in self.log.events[since:]]
            assert facts["mode"] == "seamless", (story, move)
            assert facts["bytes_at_risk"] == 0

    async def exact(self, more: int = 2048) -> EchoReport:
        """End the stream, which must not have lost, repeated or reordered a byte."""
        if more:
            await self.stream.flowing(more)
        report = await self.stream.stop()
        assert report.exact, report
        assert report.received == report.sent
        return report


@asynccontextmanager
async def moving(
    pair: QemuPair,
    *,
    net: DelayedNetwork | None = None,
    address: str | None = None,
    window: int = 2048,
    chunk: int = 256,
    stream: bool = True,
    **options: Any,
) -> AsyncIterator[Moving]:
    """Connect to the machine, through the network if there is one, and stream if asked."""
    if net is not None:
        options["dial"] = net.connect
    async with aiospice.connect(address or pair.source.address, **options) as session:
        port = await session.port()
        async with EventLog(session) as log:
            rig = Moving(pair, session, port, log)
            rig.stream = EchoStream(port, window=window, chunk=chunk)
            if stream:
                async with rig.stream:
                    yield rig
            else:
                yield rig


def classic(path: Path) -> Path:
    """Convert a capture of ours to the old format, which `aiospice.proof.pcap` reads."""
    import shutil
    import subprocess

    from aiospice.errors import MissingProgram

    program = shutil.which("editcap")
    if program is None:
        raise MissingProgram("editcap isn't installed: install tshark (Debian)")
    target = path.with_suffix(".pcap")
    command = [program, "-F", "nsecpcap", str(path), str(target)]
    subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)
    return target


def of_channel(connections: list[Connection], key: tuple[int, int]) -> list[Connection]:
    """The connections of one channel, in order."""
    return [c for c in connections if (c.channel_type, c.channel_id) == key]


def data_of(connections: list[Connection], sender: str, number: int = DATA) -> bytes:
    """The bodies of all messages of that sender and number, joined."""
    return b"".join(
        message.body
        for connection in connections
        for message in connection.sent_by(sender)
        if message.type == number
    )
