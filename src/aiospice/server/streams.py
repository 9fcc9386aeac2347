"""The videos of a display as one client is sent them: when a frame is due, and how good it is.

A frame of MJPEG is a JPEG image of its own, made once for all clients that want the same quality.
A frame of VP8 refers to the one before, so each client has an encoder of its own (in the shell); it
is used where the client likes it better and the server has it.
A client that can't take a frame misses it; the next one it gets is the newest. How many and how
good they are follows from what fits through the line, and from the client's reports. Facts:
spice-server ``server/video-stream.cpp``, ``server/mjpeg-encoder.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.server.encode import JPEG, RAW, VP8, Encoded, Method, Picture, VideoJob
from aiospice.server.operations import Copy, Created, Destroyed
from aiospice.server.region import Box, intersect
from aiospice.wire import display as messages
from aiospice.wire.caps import DisplayCap
from aiospice.wire.display import StreamFlags, VideoCodecType
from aiospice.wire.shapes import NO_CLIP, Rect

if TYPE_CHECKING:
    from aiospice.errors import AiospiceError
    from aiospice.server.held import Held
    from aiospice.server.videos import Video

__all__ = ["MAX_RATE", "QUALITIES", "Stream", "Streams", "media_time"]

#: Frames a second that a client is sent at most (``MAX_FPS``).
MAX_RATE = 30.0
#: JPEG qualities; which one is used moves up and down.
QUALITIES = (25, 40, 55, 70, 80)
#: Bits a pixel of a VP8 frame at those qualities.
_BITS = (0.03, 0.05, 0.08, 0.12, 0.2)
#: What a client that plays a codec announces.
_CAPS: dict[int, DisplayCap] = {
    VideoCodecType.MJPEG: DisplayCap.CODEC_MJPEG,
    VideoCodecType.VP8: DisplayCap.CODEC_VP8,
}
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

    def __init__(self, video: Video, quality: int, codec: int) -> None:
        self.serial = video.serial
        self.slot = video.slot
        self.box = video.box
        #: The newest version that was sent; -1: none.
        self.version = -1
        self.codec = codec
        #: The frame that is being packed, its version and how (MJPEG).
        self.frame: tuple[Picture, int, Method] | None = None
        #: VP8: the number of the frame's job, and the frame once it is there.
        self.job = 0
        self.packed: Encoded | None = None
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
        #: Codecs that the client turned out not to play, or that aren't there after all.
        self.refused: set[int] = set()

    @property
    def wanted(self) -> bool:
        """Whether this client may be sent videos."""
        return self._codec() is not None

    def _codec(self) -> int | None:
        """The codec for this client: the first one it likes, or the server does, that both have."""
        channel, config = self.held.channel, self.held.config
        if config.video == "never":
            return None
        for codec in channel.video_codecs or config.video_codecs:
            ours = codec in config.video_codecs and codec not in self.refused
            if ours and codec in _CAPS and self._plays(codec):
                return codec
        return None

    def _plays(self, codec: int) -> bool:
        can = self.held.channel.can
        if not can(DisplayCap.MULTI_CODEC):
            return codec == VideoCodecType.MJPEG
        return can(_CAPS[codec])

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
                codec = self._codec()
                if codec is not None and not self._in_the_way(video.box):
                    self._begin(video, codec)
                    return True
            elif self._send(self.playing[slot], video, now):
                return True
        return False

    def _begin(self, video: Video, codec: int) -> None:
        held, (left, top, right, bottom) = self.held, video.box
        quality = 1 if held.thin else 3
        self.playing[video.slot] = stream = Stream(video, quality, codec)
        held.planes[0].forget(video.box)
        width, height = right - left, bottom - top
        held.channel.send(
            messages.StreamCreate(
                surface_id=0,
                id=video.slot,
                flags=StreamFlags.TOP_DOWN,
                codec_type=codec,
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
        if stream.codec == VideoCodecType.MJPEG:
            form = self.held.packed(picture, method)
        else:
            form = self._encoded(stream, picture, now)
        if form is None or self._in_the_way(stream.box):
            return False
        stream.frame = stream.packed = None
        if form.type not in (JPEG, VP8):  # the library is missing
            self.refused.add(stream.codec)
            self._end(stream)
            return True
        stream.version = version
        stream.due = now + self._pause(stream, len(form.data))
        message = messages.StreamData(
            id=stream.slot, multi_media_time=media_time(now), data=bytes(form.data)
        )
        self.held.channel.send(message)
        return True

    def _encoded(self, stream: Stream, picture: Picture, now: float) -> Encoded | None:
        """The frame as VP8; None: it is being encoded."""
        if stream.packed is None and not stream.job:
            key = (self.held.display.id, self.held.number, stream.serial)
            bits = int(picture.size * MAX_RATE * _BITS[stream.quality])
            job = VideoJob(
                key, picture.width, picture.height, bits, media_time(now), picture.pixels
            )
            stream.job = self.held.work(job)
        return stream.packed

    def computed(self, job: int, result: Encoded | AiospiceError) -> bool:
        """A frame is encoded; False: it isn't one of these."""
        for stream in self.playing.values():
            if stream.job == job:
                stream.job = 0
                stream.packed = result if isinstance(result, Encoded) else Encoded(RAW, b"")
                return True
        return False

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
            self.refused.add(VideoCodecType.MJPEG if stream is None else stream.codec)
            for known in self.playing.values():
                if not known.over and known.codec in self.refused:
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
