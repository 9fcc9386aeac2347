"""The simulator's guest and client, for real: in ``aiospice serve``, and in a client program.

The guest (``--guest aiospice.proof.lively:LivelyGuest``) is `aiospice.sim.guest.SimGuest` with a
clock: it writes a stream of bytes, of which each tells its place, to one port, reads such a stream,
and draws, every 10 ms. Another port is its witness: a client writes ``rest`` or ``go``, a line, and
reads a line of JSON: how far both streams are at the guest, and what was wrong.

The client is a program, to be run where the network is what is wanted::

    python -m aiospice.proof.lively HOST PORT       # AIOSPICE_PASSWORD

It reads and writes the stream, tells ``{"ready": true}``, and answers lines on its standard input
with a line of JSON each: ``report`` (everything since the last report), ``rest SECONDS`` (it stops
writing and says what has come of the streams in the end; so long the guest may say nothing),
``ask`` (the witness alone, without a stream).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from aiospice.errors import AiospiceError, LocalError, SpiceTimeout
from aiospice.sim.chance import Chance
from aiospice.sim.guest import PORT, SimGuest
from aiospice.sim.scenario import calm
from aiospice.sim.streams import LONGEST, Follower, stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiospice.aio.port import Port
    from aiospice.aio.session import Session
    from aiospice.server.guest import Host, HostDevice

__all__ = ["GUEST", "SLOW", "WITNESS", "LivelyClient", "LivelyGuest", "SlowlyMoved"]

_HERE = "aiospice.proof.lively"
GUEST = f"{_HERE}:LivelyGuest"
#: Seconds that `SlowlyMoved` takes.
SLOW = 0.1
WITNESS = "org.example.witness"
_SCENARIO = calm("carry", 0.0)
#: How long streams may stand still until they are said to have come to their end, in seconds.
_QUIET = 3.0
_LINE = 64
#: A kernel finds out about each connection of a dead line by itself, within so many seconds.
_FOUND = 90.0
#: What isn't told in a report.
_MANY = ("screen-changed", "cursor-moved")


class LivelyGuest(SimGuest):
    """See the module's text."""

    name = "lively"

    def __init__(self) -> None:
        super().__init__(_SCENARIO, Chance(1))
        self._asked = b""

    def attach(self, host: Host) -> None:
        """One port more."""
        super().attach(host)
        self.witness = host.port(WITNESS)
        self.witness.opened = True
        self.begin()

    async def run(self) -> None:
        """Live, until the guest moves."""
        while True:
            await asyncio.sleep(_SCENARIO.tick)
            self.live(time.monotonic())

    def device_readable(self, device: HostDevice) -> None:
        """A question to the witness; the other port is read when it is time."""
        if device is not self.witness:
            return
        self._asked += device.read()
        *lines, rest = self._asked.split(b"\n")
        self._asked = rest[-_LINE:]
        for line in lines:
            self.works = line == b"go"
            heard, memory = self.memory.heard, self.memory
            told = {"said": memory.said, "at": heard.at, "missed": heard.missed}
            device.write(json.dumps({**told, "wrong": memory.wrong}).encode() + b"\n")

    def freeze(self) -> bytes:
        """What it remembers, and whether it works."""
        return bytes([self.works]) + super().freeze()

    def thaw(self, state: bytes) -> None:
        """Go on with that."""
        self.works = bool(state[0])
        super().thaw(state[1:])


class SlowlyMoved(LivelyGuest):
    """The same, but that it takes a tenth of a second to be taken up."""

    PATH = f"{_HERE}:SlowlyMoved"

    def thaw(self, state: bytes) -> None:
        """Take one's time."""
        time.sleep(SLOW)
        super().thaw(state)


class LivelyClient:
    """A client program, and how it is commanded; use it with ``async with``.

    ``prefix``: words before its command line, such as those that put it into a network namespace.
    ``streams``: it reads and writes the port; otherwise it only asks the witness.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        password: str = "",
        prefix: Sequence[str] = (),
        streams: bool = True,
    ) -> None:
        self._words = [*prefix, sys.executable, "-m", "aiospice.proof.lively", host, str(port)]
        self._words += [] if streams else ["ask"]
        self._password = password
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        path = os.pathsep.join(each for each in sys.path if each)
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._words,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            limit=1 << 24,
            env={**os.environ, "PYTHONPATH": path, "AIOSPICE_PASSWORD": self._password},
        )
        try:
            await self._answer(40.0)
        except BaseException:
            await self.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    async def kill(self) -> None:
        """End it at once."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def ask(self, what: str, limit: float = 60.0) -> dict[str, Any]:
        """One answer. `LocalError` if the program is gone, `SpiceTimeout`."""
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(what.encode() + b"\n")
        return await self._answer(limit)

    async def _answer(self, limit: float) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), limit)
        except TimeoutError:
            raise SpiceTimeout(f"the client program says nothing for {limit:g} s") from None
        if not line:
            text = (await process.stderr.read()).decode(errors="replace")[-600:]
            raise LocalError(f"the client program has ended: {text}")
        found: dict[str, Any] = json.loads(line)
        return found


# -- the program -----------------------------------------------------------------------------------


class _Life:
    """What the program's session does; times are seconds since 1970."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.heard = Follower()
        self.heard_at: list[float] = []
        self.drew_at: list[float] = []
        self.events: list[dict[str, Any]] = []
        self.wrong = self.error = ""
        self.said = 0
        self.writes = True
        self.told = b""

    async def read(self, port: Port) -> None:
        """Follow the stream."""
        while data := await port.read():
            self.heard_at.append(time.time())
            self.wrong = self.wrong or self.heard.take(data)

    async def write(self, port: Port) -> None:
        """Say as much as the simulator's client does, as often."""
        tick, most = _SCENARIO.tick, int(_SCENARIO.to_guest * 3.4 * _SCENARIO.tick)
        while self.writes and self.said < LONGEST - most:
            size = random.randint(1, most)
            await port.write(stream(self.said, size))
            self.said += size
            await asyncio.sleep(random.uniform(0.7 * tick, 2.7 * tick))

    async def watch(self) -> None:
        """Keep what happens."""
        async for event in self.session.events():
            if event.kind == "screen-changed":
                self.drew_at.append(event.at or time.time())
            elif event.kind not in _MANY:
                self.events.append({"event": event.kind, **event.as_dict(), "at": event.at})

    async def guarded(self, what: Any) -> None:
        """What ends the session is told, not raised."""
        try:
            await what
        except AiospiceError as error:
            self.error = self.error or str(error)

    def report(self) -> dict[str, Any]:
        """All since the last report."""
        found = {
            "heard_at": self.heard_at,
            "drew_at": self.drew_at,
            "events": self.events,
            **self.streams(),
        }
        self.heard_at, self.drew_at, self.events = [], [], []
        return found

    def streams(self) -> dict[str, Any]:
        """How far they are."""
        return {
            "said": self.said,
            "at": self.heard.at,
            "missed": self.heard.missed,
            "wrong": self.wrong,
            "closed": self.session.closed,
            "error": self.error,
        }

    async def witness(self, what: str) -> dict[str, Any]:
        """What the guest says."""
        port = await self.session.port(WITNESS)
        await port.write(what.encode() + b"\n")
        while b"\n" not in self.told:
            self.told += await port.read()
        *_, line, self.told = self.told.split(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    async def rest(self, patience: float) -> dict[str, Any]:
        """Write no more, and wait until what is under way has come, or doesn't come.

        ``patience``: seconds that the witness may say nothing.
        """
        self.writes = False
        guest: dict[str, Any] = {}
        began = since = time.monotonic()
        so_far = (0, 0)
        while not self.session.closed and time.monotonic() - began < patience:
            try:
                async with asyncio.timeout(_QUIET):
                    guest = await self.witness("rest")
            except TimeoutError:
                continue
            except AiospiceError as error:
                self.error = self.error or str(error)
                await self._ended(patience)
                break
            if self.heard.at >= guest["said"] and guest["at"] >= self.said:
                break
            if so_far != (self.heard.at, guest["at"]):
                since, so_far = time.monotonic(), (self.heard.at, guest["at"])
            elif time.monotonic() - since > _QUIET:
                break
            await asyncio.sleep(0.05)
        return {**self.report(), "guest": guest}

    async def _ended(self, patience: float) -> None:
        """A channel is gone: others may be found to be so."""
        with contextlib.suppress(AiospiceError, TimeoutError):
            async with asyncio.timeout(min(patience, _FOUND)):
                await self.session.wait_closed()


async def _main(host: str, port: int, streams: bool) -> int:
    import aiospice

    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    password = os.environ.get("AIOSPICE_PASSWORD") or None
    async with aiospice.connect(f"spice://{host}:{port}", password=password) as session:
        life = _Life(session)
        work = [life.watch()]
        if streams:
            stream_port = await session.port(PORT)
            work += [life.read(stream_port), life.write(stream_port)]
        tasks = [asyncio.create_task(life.guarded(each)) for each in work]
        _say({"ready": True})
        while line := (await lines.readline()).strip():
            _say(await _obey(life, line.decode()))
        for task in tasks:
            task.cancel()
    return 0


async def _obey(life: _Life, line: str) -> dict[str, Any]:
    if line.startswith("rest"):
        return await life.rest(float(line[4:] or _QUIET))
    if line == "ask":
        return await life.witness("rest")
    return life.report()


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3:] != ["ask"])))
