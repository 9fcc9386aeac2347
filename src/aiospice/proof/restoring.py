"""Is it worth telling the next server what a client holds? Counted on what a real server sent.

``aiospice lab --restoring``. The streams are recorded (`aiospice.proof.recording`) from Xspice. Its
driver makes off-screen surfaces of pixmaps and has clients keep images, while X programs are used;
or they are files that ``aiospice bench draw --keep`` has left. A move is thought of at several
moments of a stream: which surfaces and kept images that the client has then are used by what comes
in the next 10 s? Those would have to be sent again if the next server didn't know of them. What
telling costs is the size of the record as our servers make it: 4 bytes a surface, 12 an image.

A surface is used if something is drawn from it; one that is only drawn on has to be there, but its
pixels needn't. The screen itself isn't counted: it is always used. To send a surface again is taken
to cost what our server's packing (LZ) makes of its pixels, an image what it took in the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import json as json_module
import sys
from bisect import bisect_left
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from aiospice.canvas.pixels import ARGB, XRGB
from aiospice.client.caches import Caches
from aiospice.client.draws import images_of
from aiospice.client.screen import Screen
from aiospice.errors import AiospiceError, LocalError, SpiceTimeout
from aiospice.proof.recording import Recording, record
from aiospice.server.encode import LZ, EncodeJob, Method
from aiospice.server.keptlist import list_kept
from aiospice.wire import display, registry
from aiospice.wire.handover import DisplayRecord, HeldSurface
from aiospice.wire.header import MINI
from aiospice.wire.images import ImageFlags, ImageType, SurfaceImage
from aiospice.wire.message import SERVER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiospice.canvas.pixels import Pixels
    from aiospice.proof.xspice import Xspice

__all__ = ["RATES", "SCENES", "WITHIN", "Found", "judge", "run"]

#: Seconds behind a move that count; bits a second of lines for which delays are told.
WITHIN = 10.0
RATES = (1e6, 10e6, 100e6)
#: Moments of a stream at which a move is thought of, and where the first one is, in seconds.
_MOMENTS, _FIRST = 5, 4.0
_SECONDS = 26.0
_KEEP = ImageFlags.CACHE_ME | ImageFlags.CACHE_REPLACE_ME
_CACHED = (ImageType.FROM_CACHE, ImageType.FROM_CACHE_LOSSLESS)
_DISPLAY = 2


@dataclass
class _Life:
    """A surface or a kept image, from when to when it was there (seconds), and its uses."""

    id: int
    born: float
    died: float = float("inf")
    reads: list[float] = field(default_factory=list)
    draws: list[float] = field(default_factory=list)
    #: Bytes that it took in the stream; of a surface, what packing its pixels gives, if asked for.
    size: int = 0

    def there(self, at: float) -> bool:
        """Whether the client holds it."""
        return self.born <= at < self.died

    def used(self, at: float) -> bool:
        """Whether something is drawn from it soon."""
        return any(at < each <= at + WITHIN for each in self.reads)

    def drawn_on(self, at: float) -> bool:
        """Whether it is drawn on soon."""
        return any(at < each <= at + WITHIN for each in self.draws)


@dataclass(frozen=True)
class Found:
    """What came of one stream: medians over its moments; times in seconds, sizes in bytes."""

    stream: str
    seconds: float
    moments: int
    #: Held off-screen surfaces: how many; used, only drawn on, and gone within 10 s.
    surfaces: float
    surfaces_used: float
    surfaces_drawn_on: float
    surfaces_gone: float
    #: Made in the whole stream, and how long half of those that went had lived.
    surfaces_made: int
    surface_life: float
    images: float
    images_used: float
    #: What sending those that are used again takes, and what telling of all takes.
    again_surfaces: float
    again_images: float
    record: float

    def delay(self, rate: float) -> tuple[float, float]:
        """Seconds on a line of so many bits a second: of what is sent again, and of the record.

        The client carries the record: it comes down the line and goes up again.
        """
        again = self.again_surfaces + self.again_images
        return 8 * again / rate, 2 * 8 * self.record / rate


# -- reading a stream ------------------------------------------------------------------------------


class _Stream:
    """The lives of everything in a recording."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.surfaces: list[_Life] = []
        self.images: list[_Life] = []
        self._surface: dict[int, _Life] = {}
        self._image: dict[int, _Life] = {}
        self._ends = [size for _, size in recording.times]
        self.seconds = recording.times[-1][0] if recording.times else 0.0
        self.messages: list[tuple[float, Any]] = []
        data = recording.display
        starts = recording.starts
        for start, end in pairwise(starts):
            place = min(bisect_left(self._ends, end), len(self._ends) - 1)
            number, _ = MINI.unpack_from(data, start)
            known = registry.find(_DISPLAY, SERVER, number)
            if known is not None:
                message = known.parse(data[start + MINI.size : end])
                self.messages.append((recording.times[place][0], message))
                self._note(recording.times[place][0], message)

    def _note(self, at: float, message: Any) -> None:
        if isinstance(message, display.SurfaceCreate):
            # The primary surface is the screen.
            if not message.flags & 1:
                self._end(self._surface, message.surface_id, at)
                life = self._surface[message.surface_id] = _Life(message.surface_id, at)
                self.surfaces.append(life)
        elif isinstance(message, display.SurfaceDestroy):
            self._end(self._surface, message.surface_id, at)
        elif isinstance(message, display.InvalList):
            for resource in message.resources:
                self._end(self._image, resource.id, at)
        elif isinstance(message, display.InvalAllPixmaps):
            for id in list(self._image):
                self._end(self._image, id, at)
        elif hasattr(message, "base"):
            self._draw(at, message)

    def _end(self, lives: dict[int, _Life], id: int, at: float) -> None:
        life = lives.pop(id, None)
        if life is not None:
            life.died = at

    def _draw(self, at: float, message: Any) -> None:
        onto = self._surface.get(message.base.surface_id)
        if onto is not None:
            lives = onto.reads if isinstance(message, display.CopyBits) else onto.draws
            lives.append(at)
        mask = getattr(message, "mask", None)
        masks = [mask.bitmap] if mask is not None and mask.bitmap is not None else []
        for image in (*images_of(message), *masks):
            told = image.descriptor
            if isinstance(image.body, SurfaceImage):
                source = self._surface.get(image.body.surface_id)
                if source is not None:
                    source.reads.append(at)
            elif told.type in _CACHED:
                if told.id in self._image:
                    self._image[told.id].reads.append(at)
            elif told.flags & _KEEP and told.id not in self._image:
                life = self._image[told.id] = _Life(told.id, at, size=len(image.body.data))
                self.images.append(life)

    def pixels_at(self, moments: Sequence[float]) -> list[dict[int, Pixels]]:
        """Copies of the surfaces at each of some moments, in order."""
        screen, found = Screen(0, Caches()), []
        waiting = list(moments)
        for at, message in self.messages:
            while waiting and at > waiting[0]:
                waiting.pop(0)
                found.append({id: each.copy() for id, each in screen.surfaces.items()})
            screen.apply(message)
            while jobs := screen.take_jobs():
                for number, job in jobs:
                    screen.computed(number, job.run())
        while len(found) < len(moments):
            found.append({id: each.copy() for id, each in screen.surfaces.items()})
        return found


def _packed(pixels: Pixels) -> int:
    """Bytes that our server sends for a surface."""
    alpha = pixels.format == ARGB
    told = pixels if alpha else pixels.converted(XRGB)
    job = EncodeJob(Method(LZ), pixels.width, pixels.height, alpha, bytes(told.tight()))
    encoded = job.run()
    if isinstance(encoded, AiospiceError):
        raise encoded
    return len(encoded.data)


class _Listed:
    """Images as `list_kept` wants them."""

    def __init__(self, lives: list[_Life]) -> None:
        self._lives = lives

    def kept(self) -> list[tuple[int, int]]:
        """Number and pixels; how many doesn't change the size."""
        return [(life.id, 1) for life in self._lives]


def _record(surfaces: list[_Life], images: list[_Life]) -> int:
    """Bytes of a display's record with these, as our servers make it."""
    held = tuple(HeldSurface(id=life.id) for life in surfaces)
    record = DisplayRecord(
        message_serial=1,
        low_bandwidth=0,
        pixmap_cache_id=1,
        pixmap_cache_size=1,
        pixmap_cache_freezer=1,
        pixmap_cache_clients=(0, 0, 0, 0),
        glz_dict_id=1,
        glz_window_size=1,
        glz_max_encoders=4,
        glz_last_image_id=0,
        surfaces=held,
    )
    listed: Any = _Listed(images)
    return len(list_kept(record.encode(), listed))


def judge(name: str, recording: Recording) -> Found:
    """Look at a recording; `LocalError` if it is too short."""
    stream = _Stream(recording)
    last = stream.seconds - WITHIN
    if last <= _FIRST / 2:
        raise LocalError(
            f"{name}: {stream.seconds:.1f} s are too short for {WITHIN:g} s behind a move"
        )
    first = min(_FIRST, last)
    moments = [first + (last - first) * each / (_MOMENTS - 1) for each in range(_MOMENTS)]
    rows: list[dict[str, float]] = []
    for at, pixels in zip(moments, stream.pixels_at(moments), strict=True):
        held = [life for life in stream.surfaces if life.there(at)]
        kept = [life for life in stream.images if life.there(at)]
        used = [life for life in held if life.used(at)]
        rows.append(
            {
                "surfaces": len(held),
                "surfaces_used": len(used),
                "surfaces_drawn_on": sum(life.drawn_on(at) and not life.used(at) for life in held),
                "surfaces_gone": sum(life.died <= at + WITHIN for life in held),
                "images": len(kept),
                "images_used": sum(life.used(at) for life in kept),
                "again_surfaces": sum(
                    _packed(pixels[life.id]) for life in used if life.id in pixels
                ),
                "again_images": sum(life.size for life in kept if life.used(at)),
                "record": _record(held, kept),
            }
        )
    lives = [life.died - life.born for life in stream.surfaces if life.died < float("inf")]
    return Found(
        stream=name,
        seconds=stream.seconds,
        moments=len(moments),
        surfaces_made=len(stream.surfaces),
        surface_life=median(lives) if lives else 0.0,
        **{key: float(median([row[key] for row in rows])) for key in rows[0]},
    )


# -- making recordings -----------------------------------------------------------------------------


async def _listing(xspice: Xspice) -> None:
    """A terminal in which a long listing runs, eyes that move about, a turning body."""
    await xspice.run("xeyes", "-geometry", "200x150+700+400")
    await xspice.run("ico", "-geometry", "300x300+650+30", "-sleep", "0.02", window="Ico.*")
    command = "while :; do ls -lR /usr/lib | head -3000; done"
    await xspice.run("xterm", "-geometry", "100x40+20+20", "-e", "sh", "-c", command)
    (window, *_) = await xspice.windows("xeyes")
    for step in range(100_000):
        await xspice.xdotool("windowmove", window, step * 13 % 700, step * 7 % 500)


async def _windows(xspice: Xspice) -> None:
    """Programs that are started, used and ended again, one after the other."""
    await xspice.run("xclock", "-update", "1", "-geometry", "160x160+820+20")
    await xspice.run("xterm", "-geometry", "80x24+20+20", "-e", "top", "-d", "1")
    for step in range(100_000):
        program = await xspice.run(
            "xcalc", "-geometry", f"+{100 + step * 53 % 500}+{step * 31 % 300}"
        )
        for key in "12+34=":
            await xspice.xdotool("key", {"+": "plus", "=": "equal"}.get(key, key))
            await asyncio.sleep(0.1)
        editor = await xspice.run("xedit", "-geometry", f"500x300+{step * 37 % 400}+350")
        await xspice.xdotool("type", "the quick brown fox jumps over it ")
        await asyncio.sleep(0.5)
        await program.end()
        await editor.end()


async def _toolkit(xspice: Xspice) -> None:
    """GTK: a dialog that is typed into, moved about and closed, and opened again."""
    for step in range(100_000):
        program = await xspice.run("spicy", window="spicy.*|Spicy.*")
        for title in await xspice.titled("spice|spicy"):
            await xspice.xdotool("windowmove", title, 40 + step * 61 % 300, 40 + step * 37 % 200)
        for _ in range(4):
            await xspice.xdotool("type", "host.example")
            await xspice.xdotool("key", "Tab")
            await asyncio.sleep(0.3)
        await program.end()


#: What is recorded where no files are given.
SCENES: dict[str, Callable[[Xspice], Awaitable[None]]] = {
    "listing": _listing,
    "windows": _windows,
    "toolkit": _toolkit,
}


async def recorded(scene: str, codec: str, seconds: float) -> Recording:
    """Record one of `SCENES`; `MissingProgram` without Xspice, `SpiceTimeout`."""
    from aiospice.proof.xspice import Xspice, XspiceOptions

    async with Xspice(XspiceOptions(compression=codec)) as xspice:
        begun = asyncio.Event()
        recording = asyncio.create_task(record(xspice.port, seconds=seconds, begun=begun))

        async def use() -> None:
            await begun.wait()
            await SCENES[scene](xspice)

        using = asyncio.create_task(use())
        try:
            return await recording
        finally:
            using.cancel()
            with contextlib.suppress(asyncio.CancelledError, AiospiceError):
                await using


# -- the command -----------------------------------------------------------------------------------


async def run(
    files: Sequence[str],
    *,
    json: bool = False,
    seconds: float = _SECONDS,
    codec: str = "lz",
    keep: str = "",
) -> int:
    """Print what came of files, or of recordings that are made, and kept in a folder if asked for.

    Raises `LocalError` for files that aren't recordings or are too short, `MissingProgram`.
    """
    found = []
    if files:
        found = [judge(Path(each).stem, Recording.load(Path(each))) for each in files]
    for scene in () if files else SCENES:
        try:
            recording = await recorded(scene, codec, seconds)
        except SpiceTimeout:  # now and then it lets nobody in
            recording = await recorded(scene, codec, seconds)
        if keep:
            Path(keep).mkdir(parents=True, exist_ok=True)
            recording.save(Path(keep) / f"xspice-{scene}-{codec}.recording")
        found.append(judge(scene, recording))
    for each in found:
        sys.stdout.write((_json(each) if json else _text(each)) + "\n")
    return 0


def _json(found: Found) -> str:
    delays = {
        f"at_{rate / 1e6:g}_Mbit": dict(
            zip(("again_s", "record_s"), found.delay(rate), strict=True)
        )
        for rate in RATES
    }
    return json_module.dumps({"lab": "restoring", **asdict(found), **delays})


def _text(found: Found) -> str:
    again = found.again_surfaces + found.again_images
    life = found.surface_life * 1e3
    lines = [
        f"{found.stream}: {found.seconds:.0f} s, {found.moments} moments",
        f"  surfaces: {found.surfaces:g} held, {found.surfaces_used:g} used within {WITHIN:g} s, "
        f"{found.surfaces_drawn_on:g} only drawn on, {found.surfaces_gone:g} gone by then",
        f"  {found.surfaces_made} were made; half of those gone lived less than {life:.0f} ms",
        f"  images: {found.images:g} kept, {found.images_used:g} used within {WITHIN:g} s",
        f"  to send what is used again: {again:.0f} bytes ({found.again_surfaces:.0f} of surfaces);"
        f" to tell of all: {found.record:.0f} bytes",
    ]
    for rate in RATES:
        again_ms, told_ms = (1e3 * each for each in found.delay(rate))
        lines.append(f"  at {rate / 1e6:g} Mbit/s: again {again_ms:.1f} ms, told {told_ms:.2f} ms")
    return "\n".join(lines)
