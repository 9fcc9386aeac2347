"""How fast images are packed and unpacked, and how small they get, on the pictures of `content`.

A row is a picture and a codec: MB of pixels (four bytes each) in a CPU second, of one thread, for
packing and unpacking; the same uncompiled, on a part of the picture (in a process of its own);
bytes; and, where the picture came from a real server in the same codec, the bytes that it took.
The last rows are each codec's sums. JPEG loses, the others give the same pixels.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from aiospice.codecs import glz, jpeg, lz, lz4, quic
from aiospice.codecs import zlib as zlib_glz
from aiospice.codecs.glz import GlzDictionary, GlzWindow
from aiospice.errors import LocalError, MissingProgram
from aiospice.proof.bench import complain, median
from aiospice.proof.content import WINDOW_PIXELS, Content, Screen, captured, made_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

__all__ = ["CODECS", "crop", "measure", "pictures", "timed"]

#: Each thing is done for at least so many CPU seconds.
_LEAST_SECONDS = 0.1
#: Side of what is left of a picture where nothing is compiled, and images of a row.
_CROP, _CROP_ROW = 64, 4
#: Codecs with kernels of our own; the others are libraries, and the same without a compiler.
_OURS = ("quic", "lz", "glz", "zlib-glz")


def _quic() -> Any:
    return (
        lambda s: quic.encode(s.pixels, s.width, s.height, 4 * s.width, quic.RGB32),
        lambda data, s: quic.decode(data),
    )


def _lz() -> Any:
    return lambda s: lz.encode(s.pixels, s.width, s.height), lambda data, s: lz.decode(data)


def _glz() -> Any:
    dictionary, window = GlzDictionary(WINDOW_PIXELS), GlzWindow(WINDOW_PIXELS)
    return (
        lambda s: dictionary.encode(s.pixels, s.width, s.height),
        lambda data, s: glz.decode(data, window),
    )


def _zlib_glz() -> Any:
    pack, unpack = _glz()
    sizes: list[int] = []

    def packed(screen: Screen) -> bytes:
        stream: bytes = pack(screen)
        sizes.append(len(stream))
        return zlib_glz.deflate(stream)

    def unpacked(data: bytes, screen: Screen) -> object:
        return unpack(zlib_glz.inflate(data, sizes.pop(0)), screen)

    return packed, unpacked


def _lz4() -> Any:
    return (
        lambda s: lz4.encode(s.pixels, s.width, s.height),
        lambda data, s: lz4.decode(data, s.width, s.height),
    )


def _jpeg() -> Any:
    return (
        lambda s: jpeg.encode(s.pixels, s.width, s.height),
        lambda data, s: jpeg.decode(data, s.width, s.height),
    )


#: What makes a pair of functions with no history: pack a screen, unpack it.
CODECS: dict[str, Callable[[], Any]] = {
    "quic": _quic,
    "lz": _lz,
    "glz": _glz,
    "zlib-glz": _zlib_glz,
    "lz4": _lz4,
    "jpeg": _jpeg,
}


class Timed(NamedTuple):
    """What one codec did with one picture."""

    bytes: int
    #: CPU seconds.
    packing: float
    unpacking: float


def timed(codec: str, screens: list[Screen], runs: int = 3) -> Timed:
    """Pack and unpack a picture, or a row of them in order, again and again; medians."""
    packing: list[float] = []
    unpacking: list[float] = []
    spent, size = 0.0, 0
    while len(packing) < runs or spent < 2 * _LEAST_SECONDS:
        pack, unpack = CODECS[codec]()
        start = time.thread_time()
        packed = [pack(screen) for screen in screens]
        middle = time.thread_time()
        for data, screen in zip(packed, screens, strict=True):
            unpack(data, screen)
        end = time.thread_time()
        packing.append(middle - start)
        unpacking.append(end - middle)
        spent += end - start
        size = sum(map(len, packed))
    return Timed(size, median(packing), median(unpacking))


def pictures(only: str = "") -> Iterator[tuple[str, list[str], list[Screen], Content | None]]:
    """Name, codecs, screens, and where they come from; the made-up ones come last.

    ``only`` is a word in "PICTURE CODEC".
    """

    def wanted(name: str) -> list[str]:
        return [codec for codec in CODECS if only in f"{name} {codec}"]

    for content in captured():
        if wanted(content.name):
            yield content.name, wanted(content.name), content.screens(), content
    for screen in made_up():
        if wanted(screen.name):
            yield screen.name, wanted(screen.name), [screen], None


def crop(screens: list[Screen]) -> list[Screen]:
    """Parts from the middle, of at most 64x64 pixels, of the first few."""
    return [_cropped(screen) for screen in screens[:_CROP_ROW]]


def _cropped(screen: Screen) -> Screen:
    width, height = min(_CROP, screen.width), min(_CROP, screen.height)
    left, top = (screen.width - width) // 2, (screen.height - height) // 2
    starts = (4 * ((top + y) * screen.width + left) for y in range(height))
    rows = (screen.pixels[start : start + 4 * width] for start in starts)
    return Screen(screen.name, width, height, b"".join(rows))


def _megabytes(screens: list[Screen]) -> float:
    return sum(len(screen.pixels) for screen in screens) / 1e6


async def measure(*, runs: int = 3, only: str = "", **_: Any) -> AsyncIterator[dict[str, Any]]:
    """Yield the rows; ``only`` chooses them by a word in "PICTURE CODEC".

    Raises `LocalError` when that leaves nothing.
    """
    found_all = list(pictures(only))
    if not found_all:
        raise LocalError(f"no picture and codec have {only!r} in their names")
    slow = await _uncompiled(found_all)
    sums: dict[str, list[float]] = {}
    for name, codecs, screens, content in found_all:
        for codec in codecs:
            try:
                found = timed(codec, screens, runs)
            except MissingProgram as error:
                complain("codecs", f"{codec} is left out: {error}")
                continue
            pixels = _megabytes(screens)
            beside = _upstream(codec, content, found.bytes)
            _add(sums, codec, pixels, found, beside)
            yield {
                "picture": name,
                "codec": codec,
                **_speeds(pixels, found.packing, found.unpacking),
                **slow.get(f"{name} {codec}", {}),
                "bytes": found.bytes,
                "pixels_to_bytes": pixels * 1e6 / found.bytes,
                **beside,
            }
    for codec, (pixels, packing, unpacking, size, ours, theirs) in sums.items():
        speeds = _speeds(pixels, packing, unpacking)
        total = {"pixels_to_bytes": pixels * 1e6 / size}
        beside = {"to_upstream": ours / theirs} if theirs else {}
        yield {"picture": "all", "codec": codec, **speeds, **total, **beside}


def _add(
    sums: dict[str, list[float]], codec: str, pixels: float, found: Timed, beside: dict[str, Any]
) -> None:
    """Add a picture to its codec's sums; the last two are bytes of what upstream packed too."""
    theirs = beside.get("upstream_bytes", 0)
    parts = (pixels, *found[1:], found.bytes, found.bytes if theirs else 0, theirs)
    sums[codec] = [a + b for a, b in zip(sums.get(codec, [0.0] * 6), parts, strict=True)]


def _speeds(pixels: float, packing: float, unpacking: float, of: str = "") -> dict[str, float]:
    return {f"{of}encode_MB_s": pixels / packing, f"{of}decode_MB_s": pixels / unpacking}


def _upstream(codec: str, content: Content | None, size: int) -> dict[str, Any]:
    """What the server took for the same pixels, and our bytes to its."""
    if content is None:
        return {}
    theirs = sum(map(len, content.images.get(codec, ()))) or content.sizes.get(codec, 0)
    return {"upstream_bytes": theirs, "to_upstream": size / theirs} if theirs else {}


# -- uncompiled --------------------------------------------------------------------------


async def _uncompiled(
    found: list[tuple[str, list[str], list[Screen], Content | None]],
) -> dict[str, dict[str, float]]:
    """The same without compiled modules, by "PICTURE CODEC"."""
    jobs = [
        (f"{name} {codec}", codec, crop(screens))
        for name, codecs, screens, _ in found
        for codec in codecs
        if codec in _OURS
    ]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiospice.proof.uncompiled", "aiospice.proof.bench_codecs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate(pickle.dumps(jobs))
    speeds: dict[str, dict[str, float]] = json.loads(printed)
    return speeds


def main() -> None:
    """Time the jobs that `_uncompiled` hands over, and print their speeds."""
    speeds = {}
    for name, codec, screens in pickle.load(sys.stdin.buffer):
        took = timed(codec, screens, 1)
        of = "uncompiled_"
        speeds[name] = _speeds(_megabytes(screens), took.packing, took.unpacking, of)
    print(json.dumps(speeds))
