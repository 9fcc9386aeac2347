"""``aiospice demo``: the demo desktop moves between two server processes, and nothing is lost.

While it moves back and forth the client streams through the echo port, sends files through the
agent, and holds a key; after each move it compares the settled screen with what the guest shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json as json_module
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TextIO

from aiospice.errors import AiospiceError, SpiceTimeout
from aiospice.migration.source import Policy
from aiospice.proof.keeper import digest
from aiospice.proof.pair import ServerPair
from aiospice.proof.stream import EchoReport, EchoStream, EventLog

if TYPE_CHECKING:
    from aiospice.aio.port import Port
    from aiospice.aio.session import Session
    from aiospice.proof.pair import HandedOver

__all__ = ["POLICIES", "Outcome", "Rig", "tell"]

POLICIES = tuple(each.value for each in Policy)
GUEST = "aiospice.proof.demo_guest:WitnessGuest"
ECHO_PORT, WITNESS_PORT = "org.aiospice.echo", "org.aiospice.witness"
WINDOW, CHUNK = 16384, 512
#: Bytes that come back between two moves, at least.
BETWEEN = 16384
FILE_BYTES = 256 << 10
#: The key that is held: the right shift, which types nothing.
KEY = 0x36
_LIMIT = 30.0


class Outcome(NamedTuple):
    """What became of everything under one policy."""

    policy: str
    stream: EchoReport
    frames: int  #: settled screens that were compared
    frames_wrong: int
    files: int  #: that were sent
    files_wrong: int  #: that didn't arrive, or not as they were
    keys_wrong: int  #: moves after which the key wasn't as it was held
    reopened: int  #: channels that had to be opened anew
    modes: list[str]
    pauses: list[float]  #: of the session, seconds
    stills: list[float]  #: of the guest, seconds

    @property
    def exact(self) -> bool:
        """Whether nothing at all went wrong."""
        wrong = self.frames_wrong + self.files_wrong + self.keys_wrong + self.reopened
        return self.stream.exact and not wrong and set(self.modes) <= {"seamless"}


class Rig:
    """The client's side: streams, sends files, holds a key, and compares. Use ``async with``."""

    def __init__(self, pair: ServerPair, session: Session, policy: str) -> None:
        self._pair, self._session, self._policy = pair, session, policy
        self._stack = contextlib.AsyncExitStack()
        self._frames = self._frames_wrong = self._files = self._files_wrong = self._keys_wrong = 0
        self._begun = 0
        self._sending = False
        self._sent: dict[str, str] = {}
        self._pauses: list[float] = []
        self._stills: list[float] = []
        self._modes: list[str] = []

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        try:
            self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            self._witness: Port = await self._session.port(WITNESS_PORT)
            self._log = await enter(EventLog(self._session))
            echo = await self._session.port(ECHO_PORT)
            self._stream = await enter(EchoStream(echo, window=WINDOW, chunk=CHUNK))
            await self._stream.flowing(BETWEEN)
            self._begun = len(self._log.events)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def move(self) -> tuple[str, float, HandedOver]:
        """One move with everything under way; gives its mode, the session's pause, and the rest."""
        session, since = self._session, len(self._log.events)
        session.keyboard.down(KEY)
        self._sending = True
        sending = asyncio.create_task(self._send_files())
        try:
            told = await self._pair.move(self._policy)
            done = await self._log.wait("migration-finished", since=since)
            self._sending = False
            await sending
        finally:
            sending.cancel()
        facts = done.as_dict()
        self._modes.append(facts["mode"])
        self._pauses.append(facts["pause"])
        self._stills.append(told.still)
        await self._compare(held=True)
        session.keyboard.up(KEY)
        await self._stream.flowing(BETWEEN)
        return facts["mode"], facts["pause"], told

    async def _send_files(self) -> None:
        """Send one file after the other, so that one is on its way whenever the guest stops."""
        while self._sending:
            await self._send_file()

    async def _send_file(self) -> None:
        data = os.urandom(FILE_BYTES)
        self._files += 1
        name = f"noise-{self._files}"
        path = self._folder / name
        path.write_bytes(data)
        self._sent[name] = hashlib.sha256(data).hexdigest()
        try:
            await self._session.send_file(path, timeout=_LIMIT)
        except AiospiceError:
            self._files_wrong += 1
        path.unlink()

    async def _ask(self, word: str) -> dict[str, Any]:
        await self._witness.write(word.encode() + b"\n")
        line = bytearray()
        async with asyncio.timeout(_LIMIT):
            while not line.endswith(b"\n"):
                data = await self._witness.read()
                if not data:
                    raise SpiceTimeout("the guest's witness is gone")
                line += data
        found: dict[str, Any] = json_module.loads(line)
        return found

    async def _compare(self, *, held: bool) -> None:
        """Compare the settled screen, the files and the key with what the guest says."""
        told = await self._ask("stand")
        self._keys_wrong += (KEY in told["keys"]) is not held
        for name, sum in told["files"].items():
            self._files_wrong += self._sent.get(name) != sum
            self._sent.pop(name, None)
        self._files_wrong += len(self._sent)
        self._sent.clear()
        self._frames += 1
        self._frames_wrong += not await self._shows(told["screen"])
        await self._ask("go")

    async def _shows(self, true: str) -> bool:
        """Whether the screen becomes what the guest shows, in a few seconds."""
        end = time.monotonic() + _LIMIT / 3
        while digest(await self._session.screen(0, settle=0)) != true:
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.02)
        return True

    async def finish(self) -> Outcome:
        """Stop the stream, and tell what became of everything."""
        end = time.monotonic() + _LIMIT / 3
        while KEY in (await self._ask("stand"))["keys"]:  # it goes up on another connection
            await self._ask("go")
            if time.monotonic() > end:
                self._keys_wrong += 1
                break
            await asyncio.sleep(0.02)
        await self._ask("go")
        stream = await self._stream.stop()
        anew = self._log.find("channel-opened", "channel-gone", since=self._begun)
        return Outcome(
            self._policy,
            stream,
            self._frames,
            self._frames_wrong,
            self._files,
            self._files_wrong,
            self._keys_wrong,
            len(anew),
            self._modes,
            self._pauses,
            self._stills,
        )


async def tell(
    policies: tuple[str, ...], migrations: int, json: bool, out: TextIO, err: TextIO
) -> int:
    """Run all of it; returns the exit status."""
    began = time.monotonic()
    print("Starting two servers, one of them with a guest ...", file=err, flush=True)
    async with ServerPair(GUEST, words=("--keep", "acks")) as pair:
        outcomes = [await _one(pair, each, migrations, json, out, err) for each in policies]
    seconds = time.monotonic() - began
    for outcome in outcomes:
        if json:
            facts = {**outcome._asdict(), **outcome.stream._asdict(), "exact": outcome.exact}
            del facts["stream"]
            _emit(out, "report", facts)
    exact = all(outcome.exact for outcome in outcomes)
    if not json:
        out.write(_text(outcomes, migrations, seconds))
    out.flush()
    return 0 if exact else 1


async def _one(
    pair: ServerPair, policy: str, migrations: int, json: bool, out: TextIO, err: TextIO
) -> Outcome:
    import aiospice

    async with (
        aiospice.connect(pair.source.address) as session,
        Rig(pair, session, policy) as rig,
    ):
        print(f"{policy}: {len(session.channels)} channels, streaming.", file=err, flush=True)
        for number in range(1, migrations + 1):
            mode, pause, told = await rig.move()
            if json:
                facts = {"policy": policy, "number": number, "mode": mode, "pause": pause}
                _emit(out, "migration", {**facts, "still": told.still})
            text = f"  {number} of {migrations}: {mode}, session paused for {_ms(pause)}"
            print(f"{text}, guest for {_ms(told.still)}", file=err, flush=True)
        return await rig.finish()


def _emit(out: TextIO, event: str, facts: dict[str, Any]) -> None:
    print(json_module.dumps({"event": event, **facts}), file=out, flush=True)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _text(outcomes: list[Outcome], migrations: int, seconds: float) -> str:
    lines = [
        f"{migrations * len(outcomes)} migrations back and forth between two processes in "
        f"{seconds:.1f} s, with a stream that never stopped",
    ]
    for found in outcomes:
        stream = found.stream
        rows: list[tuple[str, object]] = [
            ("bytes sent", stream.sent),
            ("bytes received", stream.received),
            ("lost", stream.lost),
            ("repeated", stream.repeated),
            ("reordered", stream.out_of_order),
            ("frames compared", found.frames),
            ("frames wrong", found.frames_wrong),
            ("files sent", found.files),
            ("files wrong", found.files_wrong),
            ("keys wrong", found.keys_wrong),
            ("channels reopened", found.reopened),
        ]
        lines += ["", f"{found.policy}"]
        lines += [f"  {name:<18}{value:>10}" for name, value in rows]
        lines += [
            f"  session paused for {', '.join(f'{each * 1000:.1f}' for each in found.pauses)} ms",
            f"  guest stood still for {_ms(min(found.stills))} to {_ms(max(found.stills))}",
        ]
    exact = all(found.exact for found in outcomes)
    verdict = "Nothing was lost, and every frame was right." if exact else "Something went wrong."
    return "\n".join([*lines, "", verdict, ""])
