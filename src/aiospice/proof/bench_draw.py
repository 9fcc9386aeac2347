"""What drawing costs a client: aiospice, spice-gtk and ryll with the same recorded streams.

Each stream is recorded from a real server in the same run (`proof.recording`) and played to each
client in turn as fast as it takes it (`proof.replay`, `proof.players`), a process for each time.
The streams are a busy text screen, windows that are dragged, a photo-like picture in columns (as
QEMU's VGA cuts it) and in whole frames (QXL), and X programs on Xspice; each with the codecs.

``screen`` tells whether the last picture of aiospice is that of spice-gtk, bit by bit.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiospice.errors import (
    AiospiceError,
    ConnectError,
    LinkError,
    LocalError,
    MissingProgram,
    SessionLost,
    SpiceTimeout,
)
from aiospice.proof.bench import complain, median, ratio
from aiospice.proof.players import CLIENTS, Played, command, play
from aiospice.proof.recording import Recording, record
from aiospice.wire.images import ImageCompression

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["CODECS", "STREAMS", "measure"]

CODECS = ("off", "lz", "glz", "quic", "lz4")


class _Scene(NamedTuple):
    vga: str
    #: Commands of the painting guest (``guest/paint.c``): once, and over and over.
    setup: tuple[str, ...]
    going_on: str


_SCENES = {
    "text": _Scene("std", (), "every 4 scroll 1"),
    "windows": _Scene("std", ("desktop 1",), "every 2 drag 1"),
    "photo-columns": _Scene("std", (), "every 4 photo 0 0 1024 768 1"),
    "photo-frames": _Scene("qxl", ("qxl 0 1024 768 32",), "every 4 photo 0 0 1024 768 1"),
}
#: Seconds that a client has for a recording of a few.
_LIMIT = 60.0
#: Seconds that X programs have to show themselves.
_START_SECONDS = 2.0
#: What can be measured, by name.
STREAMS = (*_SCENES, "xspice")


async def measure(
    *,
    runs: int = 5,
    seconds: float = 4.0,
    only: str = "",
    keep: str | Path | None = None,
    paced: bool = False,
    **_: Any,
) -> AsyncIterator[dict[str, Any]]:
    """Yield for each stream and codec a row a client, and the ratios.

    ``seconds`` is the length of a recording; ``only`` chooses streams by a word in
    "text off", "text lz" and so on. ``keep`` is a folder for the recordings: those that
    are there are played, others are made and left there. ``paced`` plays them at the pace of the
    server instead of the client's. What can't be measured is told on standard error and left
    out: a client that isn't installed or gives up, a server that isn't there or lets nobody in.

    Raises `LocalError` when ``only`` leaves nothing.
    """
    chosen = [pair for pair in product(STREAMS, CODECS) if only in " ".join(pair)]
    if not chosen:
        raise LocalError(f"no stream has {only!r} in its name: {STREAMS} with {CODECS}")
    clients = _installed()
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for stream, codec in chosen:
            try:
                recording = await _recording(stream, codec, seconds, Path(keep) if keep else None)
            except (MissingProgram, ConnectError, LinkError, SessionLost, SpiceTimeout) as error:
                complain("draw", f"{stream} {codec} is left out: {error}")
                continue
            played = await _rounds(recording, clients, runs, scratch, paced)
            for row in _rows(recording, played):
                yield {"stream": stream, "codec": codec, **row}


def _installed() -> list[str]:
    found = []
    for client in CLIENTS:
        try:
            command(client, 0)
            found.append(client)
        except MissingProgram as error:
            complain("draw", f"{client} is left out: {error}")
    return found


# -- recordings --------------------------------------------------------------------------


async def _recording(stream: str, codec: str, seconds: float, keep: Path | None) -> Recording:
    path = None if keep is None else keep / f"{stream}-{codec}.recording"
    if path is not None and path.exists():
        return Recording.load(path)
    if stream in _SCENES:
        recording = await _from_qemu(_SCENES[stream], codec, seconds)
    else:
        try:
            recording = await _from_xspice(codec, seconds)
        except SpiceTimeout:  # now and then it lets nobody in
            recording = await _from_xspice(codec, seconds)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        recording.save(path)
    return recording


def _asked(codec: str) -> ImageCompression | None:
    """LZ4 can't be set at these servers, but be asked for."""
    return ImageCompression.LZ4 if codec == "lz4" else None


async def _from_qemu(scene: _Scene, codec: str, seconds: float) -> Recording:
    from aiospice.proof.painter import Painter, painting_options
    from aiospice.proof.qemu import Qemu

    compression = "off" if codec == "lz4" else codec
    spice = (f"image-compression={compression}", "streaming-video=off")
    async with Qemu(painting_options(vga=scene.vga, spice=spice)) as qemu, Painter(qemu) as painter:
        for line in scene.setup:
            await painter.do(line)
        await painter.do(scene.going_on)
        return await record(qemu.port, seconds=seconds, compression=_asked(codec))


async def _from_xspice(codec: str, seconds: float) -> Recording:
    from aiospice.proof.xspice import Xspice, XspiceOptions

    options = XspiceOptions(compression="off" if codec == "lz4" else codec)
    listing = "while :; do ls -lR /usr/lib | head -3000; done"
    async with Xspice(options) as xspice:
        # First the client: a server that draws may not let one in.
        begun = asyncio.Event()
        length = seconds + _START_SECONDS
        recording = asyncio.create_task(
            record(xspice.port, seconds=length, compression=_asked(codec), begun=begun)
        )
        drawing = asyncio.create_task(_draw_windows(xspice, listing, begun))
        try:
            return await recording
        finally:
            drawing.cancel()
            with contextlib.suppress(asyncio.CancelledError, AiospiceError):
                await drawing


async def _draw_windows(xspice: Any, listing: str, begun: asyncio.Event) -> None:
    """Once the recording has begun, start the programs and drag one about, until cancelled."""
    await begun.wait()
    await xspice.run("xeyes", "-geometry", "200x150+700+400")
    await xspice.run("ico", "-geometry", "300x300+650+30", "-sleep", "0.02", window="Ico.*")
    await xspice.run("xterm", "-geometry", "100x40+20+20", "-e", "sh", "-c", listing)
    (window, *_) = await xspice.windows("xeyes")
    for step in range(100_000):
        across, down = step * 13 % 700, step * 7 % 500
        await xspice.xdotool("windowmove", window, across, down)


# -- clients -----------------------------------------------------------------------------


async def _rounds(
    recording: Recording, clients: list[str], runs: int, scratch: Path, paced: bool
) -> dict[str, list[Played]]:
    """Play to each client ``runs`` times, each beginning in turn; ours has been warmed up."""
    played: dict[str, list[Played]] = {client: [] for client in clients}
    if not (scratch / "bytecode").exists():
        await play("aiospice", recording, bytecode=scratch / "bytecode")
    for index in range(runs):
        shift = index % len(clients)
        for client in clients[shift:] + clients[:shift]:
            if client not in played:
                continue
            try:
                run = await play(
                    client,
                    recording,
                    paced=paced,
                    bytecode=scratch / "bytecode",
                    timeout=_LIMIT,
                )
                played[client].append(run)
            except (SessionLost, SpiceTimeout) as error:
                if client == "aiospice":
                    raise
                complain("draw", f"{client} doesn't come to the end: {error}")
                del played[client]
    return played


def _rows(recording: Recording, played: dict[str, list[Played]]) -> Iterator[dict[str, Any]]:
    messages = len(recording.starts) - 1
    for client, runs in played.items():
        cpu = median([run.cpu for run in runs])
        yield {
            "client": client,
            "messages": messages,
            "bytes": len(recording.display),
            "cpu_s": cpu,
            "us_a_message": cpu / messages * 1e6,
            "memory_MiB": median([run.memory for run in runs]),
            **_told(runs[-1]),
        }
    ours = played["aiospice"]
    row: dict[str, Any] = {"client": "ratio"}
    for client in ("spice-gtk", "ryll"):
        if client in played:
            others = [run.cpu for run in played[client]]
            row[f"to_{client}"] = ratio([run.cpu for run in ours], others)
    if "spice-gtk" in played:
        screens = {run.report.get("screen") for run in ours + played["spice-gtk"]}
        row["screen"] = "same" if len(screens) == 1 else "DIFFERENT"
    yield row


def _told(run: Played) -> dict[str, Any]:
    missing = sum(run.report.get("not_drawn", {}).values())
    return {"not_drawn": missing} if missing else {}
