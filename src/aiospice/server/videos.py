"""Parts of the screen that keep changing: found by how often their tiles change, sent as videos.

A `Videos` belongs to a display and to all of its clients. Each tile has a warmth that rises with
every change and fades within a second or so. Where tiles have been warm for a second, in a part
that is large enough and a picture rather than a drawing, a `Video` begins; its changes become
frames instead of images from then on. It ends a second after its last change. Facts: spice-server
``server/video-stream.cpp`` and ``video-stream.h``.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING

from aiospice.server import compare
from aiospice.server.boxes import rectangles
from aiospice.server.compare import TILE
from aiospice.server.encode import Picture, is_picture
from aiospice.server.region import Box, bounds, cut, intersect, size

if TYPE_CHECKING:
    from aiospice.server.surface import Surface

__all__ = ["MAX_VIDEOS", "Video", "Videos"]

#: Videos of one display at a time.
MAX_VIDEOS = 8
#: The smallest video in pixels (``RED_STREAM_MIN_SIZE``).
_LEAST_PIXELS = 96 * 96
#: What a change adds to the warmth of a tile; a tenth of a second takes an eighth of it, so that
#: ten changes a second come to about 120.
_WARMTH = 16
_TICK = 0.1
_HOT = 80
#: Changes within `_SINCE` seconds that make a video, and the seconds that they must span.
_CHANGES = 10
_SINCE = 1.5
_SPAN = 0.8
#: Seconds after its last change a video ends, and how often warm tiles are looked for.
_OVER = 1.0
_EVERY = 0.125


class Video:
    """A part of the screen that is sent as frames."""

    def __init__(self, serial: int, slot: int, box: Box, now: float) -> None:
        #: Different for every video of a display.
        self.serial = serial
        #: Its number for clients, 0 to `MAX_VIDEOS` - 1.
        self.slot = slot
        self.box = box
        #: Counts its changes.
        self.version = 0
        self.changed_at = now
        #: What of it has changed since the last publication.
        self.changes: list[Box] = []
        self._times: deque[float] = deque(maxlen=16)
        self._frame: tuple[int, Picture] | None = None

    @property
    def rate(self) -> float:
        """Changes a second, of late."""
        if len(self._times) < 2:
            return 1.0
        return (len(self._times) - 1) / max(self._times[-1] - self._times[0], 0.01)

    def changed(self, box: Box, now: float) -> None:
        """Something of it has changed."""
        if not self.changes:
            self.version += 1
            self._times.append(now)
        self.changes.append(box)
        self.changed_at = now

    def slow(self, now: float) -> bool:
        """It doesn't change often enough any more to be a video."""
        times = self._times
        return now - self.changed_at >= _OVER or (len(times) >= 4 and now - times[-4] > 2 * _OVER)

    def frame(self, surface: Surface) -> Picture:
        """Its published pixels, shared by all clients."""
        if self._frame is None or self._frame[0] != self.version:
            pixels = surface.tight(self.box)
            self._frame = (self.version, Picture(0, self.box, pixels, False, 0, True))
        return self._frame[1]


class Videos:
    """The videos of a display, and where there may soon be one. Plain data."""

    def __init__(self, surface: Surface, now: float) -> None:
        self.playing: dict[int, Video] = {}
        self._columns = -(-surface.width // TILE)
        self._warmth = array("H", bytes(2 * self._columns * -(-surface.height // TILE)))
        self._aged_at = now
        self._looked_at = now
        self._recent: deque[tuple[float, Box]] = deque(maxlen=512)
        self._serial = 0

    def seen(self, grid: bytearray, now: float) -> None:
        """Tiles have changed."""
        ticks = int((now - self._aged_at) / _TICK)
        warmth = memoryview(self._warmth)
        if ticks > 0:
            compare.age(warmth, min(ticks, 64))
            self._aged_at += ticks * _TICK
        compare.warm(warmth, grid, _WARMTH)

    def outside(self, box: Box, now: float) -> tuple[list[Box], list[Box]]:
        """A box has changed: what of it isn't in a video, and what is (which is noted)."""
        self._recent.append((now, box))
        outer, inner = [box], []
        for video in self.playing.values():
            part = intersect(box, video.box)
            if part is not None:
                video.changed(part, now)
                inner.append(part)
                outer = cut(outer, video.box)
        return outer, inner

    def touched(self, box: Box, now: float) -> None:
        """A box was drawn on by something else than changed pixels."""
        for video in self.playing.values():
            part = intersect(box, video.box)
            if part is not None:
                video.changed(part, now)

    def next_wake(self) -> float | None:
        """When a video may be over."""
        times = [video.changed_at for video in self.playing.values()]
        return min(times) + _OVER if times else None

    def update(self, surface: Surface, now: float) -> None:
        """End videos that are over, and begin new ones."""
        for slot, video in list(self.playing.items()):
            if video.slow(now):
                del self.playing[slot]
        if now - self._looked_at >= _EVERY:
            self._looked_at = now
            self._look(surface, now)

    def _look(self, surface: Surface, now: float) -> None:
        while self._recent and now - self._recent[0][0] > _SINCE:
            self._recent.popleft()
        if len(self._recent) < _CHANGES or max(self._warmth) < _HOT:
            return
        hot = bytes(warmth >= _HOT for warmth in self._warmth)
        for left, top, right, bottom in rectangles(hot, self._columns):
            around = (TILE * left, TILE * top, TILE * right, TILE * bottom)
            box = self._found(surface, around, now)
            if box is not None and len(self.playing) < MAX_VIDEOS:
                slot = next(n for n in range(MAX_VIDEOS) if n not in self.playing)
                self._serial += 1
                self.playing[slot] = Video(self._serial, slot, box, now)

    def _found(self, surface: Surface, around: Box, now: float) -> Box | None:
        """The box of a video around warm tiles, if there is one."""
        times: set[float] = set()
        inside: list[Box] = []
        for time, box in self._recent:
            shared = intersect(box, around)
            if shared is not None:
                times.add(time)
                inside.append(shared)
        if not inside:
            return None
        box = bounds(inside) or around
        if size(box) < _LEAST_PIXELS:
            return None
        if len(times) < _CHANGES or max(times) - min(times) < _SPAN:
            return None
        if any(intersect(box, video.box) is not None for video in self.playing.values()):
            return None
        old, _ = surface.words()
        return box if is_picture(old, surface.width, box) else None
