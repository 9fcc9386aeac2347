"""The videos of a display as one client is sent them: when a frame is due, and how good it is.

A frame is a JPEG image of its own (MJPEG), made once for all clients that want the same quality.
A client that can't take a frame misses it; the next one it gets is the newest. How many and how
good they are follows from what fits through the line, and from the client's reports. Facts:
spice-server ``server/video-stream.cpp``, ``server/mjpeg-encoder.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.server.encode import JPEG, Method, Picture
from aiospice.server.operations import Copy, Created, Destroyed
from aiospice.server.region import Box, intersect
from aiospice.wire import display as messages
from aiospice.wire.caps import DisplayCap
from aiospice.wire.display import StreamFlags, VideoCodecType
from aiospice.wire.shapes import NO_CLIP, Rect

if TYPE_CHECKING:
    from aiospice.server.held import Held
    from aiospice.server.videos import Video

__all__ = ["MAX_RATE", "QUALITIES", "Stream", "Streams", "media_time"]

#: Frames a second that a client is sent at most (``MAX_FPS``).
MAX_RATE = 30.0
#: JPEG qualities; which one is used moves up and down.
QUALITIES = (25, 40, 55, 70, 80)
#: The share of the line that videos may take (``RED_STREAM_CHANNEL_CAPACITY`` is 0.8).
_SHARE = 0.7
#: How often a client is to report: frames, and ms (``RED_STREAM_CLIENT_REPORT_WINDOW``,
#: ``..._TIMEOUT``).
_REPORT_FRAMES, _REPORT_MS = 5, 1000
#: Reports without a late frame before it is tried to send better ones.
_GOOD = 4
#: ``num_drops`` of a report that says that the client can't play the video.
_CANNOT = 0xFFFFFFFF


def media_time(now: float) -> int:
    """The multi-media clock in ms: of the frames here, and of sound."""
    return int(now * 1000) & 0xFFFFFFFF


class Stream:
    """A video as one client is sent it."""

    def __init__(self, video: Video, quality: int) -> None:
        self.serial = video.serial
        self.slot = video.slot
        self.box = video.box
        #: The newest version that was sent; -1: none.
        self.version = -1
        #: The frame that is being packed, its version and how.
        self.frame: tuple[Picture, int, Method] | None = None
        #: When the next frame may be sent.
        self.due = 0.0
        #: Place in `QUALITIES`.
        self.quality = quality
        #: Seconds between frames at least.
        self.interval = 1 / MAX_RATE
        self.over = False
        self.good = 0


class Streams:
    """All videos of one client. Plain data."""

    def __init__(self, held: Held) -> None:
        self.held = held
        #: By the video's number for clients.
        self.playing: dict[int, Stream] = {}
        #: The client can't play videos.
        self.refused = False

    @property
    def wanted(self) -> bool:
        """Whether this client may be sent videos."""
        if self.refused or self.held.config.video == "never":
            return False
        if VideoCodecType.MJPEG not in self.held.config.video_codecs:
            return False
        can = self.held.channel.can
        return not can(DisplayCap.MULTI_CODEC) or can(DisplayCap.CODEC_MJPEG)

    def boxes(self) -> list[Box]:
        """Where videos are shown: the pixels there are as the last frame had them."""
        return [stream.box for stream in self.playing.values()]

    def follow(self) -> None:
        """What has happened to the display's videos: what no frame brings becomes dirty."""
        held = self.held
        videos = held.display.videos
        now_playing = {} if videos is None else videos.playing
        for slot, stream in self.playing.items():
            video = now_playing.get(slot)
            if not stream.over and (video is None or video.serial != stream.serial):
                self._end(stream)
        for slot, video in now_playing.items():
            known = self.playing.get(slot)
            if known is None or known.over:
                for box in video.changes:
                    held.planes[0].spoil(box)

    def _end(self, stream: Stream) -> None:
        """A video is over: what it showed was rough, or is old."""
        stream.over = True
        self.held.planes[0].spoil(stream.box)

    def close(self) -> None:
        """The screen is to be made anew: videos end."""
        for stream in self.playing.values():
            stream.over = True

    def step(self, now: float) -> bool:
        """Do one thing that is due; False when there is nothing."""
        for slot, stream in list(self.playing.items()):
            if stream.over:
                del self.playing[slot]
                self.held.channel.send(messages.StreamDestroy(id=slot))
                return True
        videos = self.held.display.videos
        if videos is None or 0 not in self.held.planes or self.held.curtain.drawn:
            return False
        for slot, video in videos.playing.items():
            if slot not in self.playing:
                if self.wanted and not self._in_the_way(video.box):
                    self._begin(video)
                    return True
            elif self._send(self.playing[slot], video, now):
                return True
        return False

    def _begin(self, video: Video) -> None:
        held, (left, top, right, bottom) = self.held, video.box
        quality = 1 if held.thin else 3
        self.playing[video.slot] = stream = Stream(video, quality)
        held.planes[0].forget(video.box)
        width, height = right - left, bottom - top
        held.channel.send(
            messages.StreamCreate(
                surface_id=0,
                id=video.slot,
                flags=StreamFlags.TOP_DOWN,
                codec_type=VideoCodecType.MJPEG,
                stamp=0,
                stream_width=width,
                stream_height=height,
                src_width=width,
                src_height=height,
                dest=Rect(top=top, left=left, bottom=bottom, right=right),
                clip=NO_CLIP,
            )
        )
        if held.channel.can(DisplayCap.STREAM_REPORT):
            held.channel.send(
                messages.StreamActivateReport(
                    stream_id=video.slot,
                    unique_id=stream.serial,
                    max_window_size=_REPORT_FRAMES,
                    timeout_ms=_REPORT_MS,
                )
            )

    def _send(self, stream: Stream, video: Video, now: float) -> bool:
        """Send a frame if one is due and packed."""
        if stream.frame is None:
            if stream.version == video.version or now < stream.due:
                return False
            picture = video.frame(self.held.display.published[0])
            stream.frame = (picture, video.version, Method(JPEG, QUALITIES[stream.quality]))
        picture, version, method = stream.frame
        form = self.held.packed(picture, method)
        if form is None or self._in_the_way(stream.box):
            return False
        stream.frame = None
        if form.type != JPEG:  # the library is missing
            self.refused = True
            self._end(stream)
            return True
        stream.version = version
        stream.due = now + self._pause(stream, len(form.data))
        message = messages.StreamData(
            id=stream.slot, multi_media_time=media_time(now), data=bytes(form.data)
        )
        self.held.channel.send(message)
        return True

    def _in_the_way(self, box: Box) -> bool:
        """Whether something is still to be sent that was drawn in a box, or copied from it."""
        for item in self.held.queue:
            operation = item.operation
            if isinstance(operation, (Created, Destroyed)) or operation.surface != 0:
                continue
            if intersect(operation.box, box) is not None:
                return True
            if isinstance(operation, Copy) and intersect(operation.source, box) is not None:
                return True
        return False

    def _pause(self, stream: Stream, size: int) -> float:
        """Seconds until the next frame, so that the line isn't filled by videos."""
        rate = self.held.line.rate
        if rate is None or self.held.local:
            return stream.interval
        need = size / (_SHARE * rate / len(self.playing))
        if need > 2 * stream.interval and stream.quality:
            stream.quality -= 1
        return max(stream.interval, min(need, 1.0))

    def next_wake(self) -> float | None:
        """When the next frame is due."""
        videos = self.held.display.videos
        if videos is None:
            return None
        times = [
            stream.due
            for slot, stream in self.playing.items()
            if stream.frame is None
            and slot in videos.playing
            and videos.playing[slot].version != stream.version
        ]
        return min(times, default=None)

    def report(self, report: messages.StreamReport) -> None:
        """The client tells how a video comes out."""
        stream = self.playing.get(report.stream_id)
        if report.num_drops == _CANNOT and not report.num_frames:
            self.refused = True
            for known in self.playing.values():
                if not known.over:
                    self._end(known)
            return
        if stream is None or report.unique_id != stream.serial:
            return
        if report.num_drops * 4 > report.num_frames or report.last_frame_delay < 0:
            stream.good = 0
            if stream.quality:
                stream.quality -= 1
            else:
                stream.interval = min(1.0, stream.interval * 1.5)
            return
        stream.good += 1
        if stream.good >= _GOOD:
            stream.good = 0
            if stream.interval > 1 / MAX_RATE:
                stream.interval = max(1 / MAX_RATE, stream.interval / 1.5)
            elif stream.quality + 1 < len(QUALITIES):
                stream.quality += 1
