"""Videos on a display: which frame is decoded and where it is drawn, and what the server is told.

A server that sees a part of the screen change all the time sends it as a video (a stream) instead
of as images. `Streams` is told of every message about them in the order in which they come, with
the clocks of both ends, and hands out the work that is to be done. What it makes of a frame, a
`Frame`, holds everything that drawing it needs, so that frames are drawn in message order
whenever they are decoded.

Late frames. A frame tells when it is to be seen, on the server's multi-media clock, which runs
400 ms and more behind the frames of a server in reach; sound is heard by the same clock. What is
drawn here is drawn at once: nobody waits for sound, and a screen is to show what the machine
shows. A frame that comes after its time is late, is counted as that and drawn all the same, for
what is there is older still. Frames are dropped when decoding doesn't keep up: of MJPEG frames
that wait for their turn, those that a newer one hides; frames of other codecs have to be decoded,
but need not be made pixels.

Reports. A server that asks for it (STREAM_ACTIVATE_REPORT) is told how the frames come out; it
sends fewer or smaller ones when they are late. Facts: spice-gtk ``src/channel-display.c``,
``channel-display-mjpeg.c``, ``channel-display-gst.c``; spice-server ``video-stream.cpp``,
``dcc.cpp``, ``dcc-send.cpp``, ``mjpeg-encoder.c``.
"""

from __future__ import annotations

from array import array
from enum import Enum
from typing import TYPE_CHECKING, Any

from aiospice.canvas import raster
from aiospice.canvas.pixels import BYTES, Pixels
from aiospice.canvas.region import Box, Region, bounds, region_of
from aiospice.canvas.scale import scaled
from aiospice.client.draws import box_of
from aiospice.client.images import CannotDraw, NotYet
from aiospice.codecs.image import Decoded
from aiospice.codecs.mjpeg import MjpegFrame
from aiospice.codecs.video import CODECS, MJPEG, VideoEnd, VideoFrame
from aiospice.errors import AiospiceError, MissingProgram, RemoteProtocolError, StateError
from aiospice.wire import display
from aiospice.wire.shapes import Clip, ClipType

if TYPE_CHECKING:
    from aiospice.wire.message import Message

__all__ = [
    "MAX_FAILED",
    "MAX_STREAMS",
    "MAX_STREAM_PIXELS",
    "Frame",
    "FrameState",
    "Outcome",
    "Report",
    "Stream",
    "Streams",
    "draw_frame",
    "packed_clip",
]

#: Videos at once; spice-server has 50 (``NUM_STREAMS``, ``server/video-stream.h``).
MAX_STREAMS = 64
#: Pixels of a frame, and of a frame of each video together: two screens of 16 megapixels.
MAX_STREAM_PIXELS = 1 << 25
#: MJPEG frames of one video that are decoded at the same time.
MAX_BEGUN = 2
#: Pixels of an MJPEG frame from which on it is decoded in a thread: about a ms of work.
HEAVY = 1 << 16
#: Frames in a row that could not be decoded, after which a video is given up.
MAX_FAILED = 5
#: Late frames in a row that are reported at once (``STREAM_REPORT_DROP_SEQ_LEN_LIMIT``).
LATE_IN_A_ROW = 3
#: ``audio_delay`` without sound, and ``num_drops`` of the report that a video can't be played.
NONE = 0xFFFFFFFF
#: The number of a frame's work has this bit, those of images haven't.
_VIDEO_BIT = 1 << 47
#: Numbers of videos that were reported as unknown: a server is told once.
_MAX_UNKNOWN = 64

_GIVEN_UP = "the video can't be played"


def packed_clip(clip: Clip) -> array[int] | None:
    """The rectangles of a clip, four numbers each; None when nothing is clipped."""
    if clip.type == ClipType.NONE:
        return None
    return array("i", [side for rect in clip.rects for side in box_of(rect)])


class FrameState(Enum):
    """Where a frame is on its way to the screen."""

    #: It isn't being decoded yet.
    HELD = "held"
    #: Its work has been handed out.
    BEGUN = "begun"
    #: There is a picture, or a reason why there is none.
    DONE = "done"
    #: Nothing of it is to be drawn: a newer one was there before its turn.
    SKIPPED = "skipped"


class Frame:
    """A frame of a video: what is to be decoded, and where the picture goes. Plain data."""

    __slots__ = (
        "clip", "dest", "detail", "generation", "job", "picture", "problem", "state", "stream_id",
        "surface_id",
    )  # fmt: skip

    def __init__(self, stream: Stream, dest: Box, job: MjpegFrame | VideoFrame) -> None:
        self.stream_id = stream.id
        self.generation = stream.generation
        self.surface_id = stream.surface_id
        #: The box that the frame fills, as it was when the frame came.
        self.dest = dest
        #: Rectangles (four numbers each) outside of which nothing is drawn, or None.
        self.clip = stream.clip
        self.job = job
        self.state = FrameState.HELD
        self.picture: Decoded | None = None
        #: Why there is no picture, and what the decoder says of it.
        self.problem = self.detail = ""

    @property
    def pixels(self) -> int:
        """How many there are."""
        return self.job.width * self.job.height

    @property
    def is_light(self) -> bool:
        """Decoding it takes less than the way to a thread and back."""
        return isinstance(self.job, MjpegFrame) and self.pixels < HEAVY

    def hides(self, other: Frame) -> bool:
        """Whether nothing of an earlier frame of the same video is seen behind this one."""
        mine, its = self.dest, other.dest
        inside = mine[0] <= its[0] and mine[1] <= its[1] and its[2] <= mine[2] and its[3] <= mine[3]
        return inside and (self.clip is None or self.clip == other.clip)


class Stream:
    """A video that the server sends for a part of a surface."""

    def __init__(self, message: display.StreamCreate, generation: int) -> None:
        self.id = message.id
        #: Which video of that number it is.
        self.generation = generation
        self.surface_id = message.surface_id
        self.codec = message.codec_type
        self.flags = message.flags
        #: Size of a frame, and of the part of the guest's screen that it shows.
        self.size = (message.stream_width, message.stream_height)
        self.source_size = (message.src_width, message.src_height)
        #: Pixels of its largest frame so far.
        self.pixels = message.stream_width * message.stream_height
        self.dest = box_of(message.dest)
        self.clip = packed_clip(message.clip)
        #: Why it isn't played, empty when it is.
        self.problem = ""
        #: Frames that came, those of them that were late, and those that were dropped here.
        self.frames = 0
        self.late = 0
        self.dropped = 0
        #: Frames that were handed out for decoding.
        self.handed_out = 0
        #: Frames in a row that could not be decoded.
        self.failed = 0
        self.report: Report | None = None
        #: Frames that aren't decoded yet, in order.
        self.waiting: list[Frame] = []

    @property
    def top_down(self) -> bool:
        """Whether frames have their top row first."""
        return bool(self.flags & display.StreamFlags.TOP_DOWN)


class Report:
    """What the next report of a video will say."""

    def __init__(self, message: display.StreamActivateReport) -> None:
        self.unique_id = message.unique_id
        self.window = message.max_window_size
        #: Seconds.
        self.timeout = message.timeout_ms / 1000
        self.frames = 0
        self.drops = 0
        self.late_in_a_row = 0
        self.first_time = 0
        self.last_time = 0
        #: How long before its time the last frame came, in ms; negative when it was late.
        self.margin = 0
        self.deadline: float | None = None

    def count(self, time: int, margin: int, now: float) -> bool:
        """Take a frame into account; tell whether the report is due."""
        if not self.frames:
            self.first_time = time
            self.deadline = now + self.timeout
        self.frames += 1
        self.last_time = time
        self.margin = margin
        if margin < 0:
            self.drops += 1
            self.late_in_a_row += 1
        else:
            self.late_in_a_row = 0
        assert self.deadline is not None
        return (
            self.frames >= self.window
            or now >= self.deadline
            or self.late_in_a_row >= LATE_IN_A_ROW
        )

    def dropped(self) -> None:
        """A frame that was in time is dropped here."""
        self.drops = min(self.drops + 1, self.frames)

    def taken(self, stream_id: int, audio_delay: int) -> display.StreamReport:
        """The report; the next one begins."""
        report = display.StreamReport(
            stream_id=stream_id,
            unique_id=self.unique_id,
            start_frame_mm_time=self.first_time,
            end_frame_mm_time=self.last_time,
            num_frames=self.frames,
            num_drops=self.drops,
            last_frame_delay=self.margin,
            audio_delay=audio_delay,
        )
        self.frames = self.drops = self.late_in_a_row = 0
        self.deadline = None
        return report


def _why_not(error: AiospiceError) -> str:
    """Why a frame can't be drawn: one of few, so that they can be counted."""
    if isinstance(error, MissingProgram):
        return "the video needs a library that is missing"
    if isinstance(error, StateError):
        return "the video waits for a key frame"
    return "the frame is damaged"


def _cannot_play(stream_id: int) -> display.StreamReport:
    """The report upon which a server sends images instead of the video."""
    return display.StreamReport(
        stream_id=stream_id,
        unique_id=0,
        start_frame_mm_time=0,
        end_frame_mm_time=0,
        num_frames=0,
        num_drops=NONE,
        last_frame_delay=0,
        audio_delay=0,
    )


#: What `Streams.tell` makes of a message.
Outcome = Stream | Frame | list[Stream] | CannotDraw | RemoteProtocolError | None
Job = MjpegFrame | VideoFrame | VideoEnd


class Streams:
    """The videos of one display channel. Plain data."""

    def __init__(self, channel_id: int, codecs: tuple[int, ...] = (MJPEG,)) -> None:
        #: Number of the display channel.
        self.id = channel_id
        #: What can be decoded (keys of `CODECS`).
        self.codecs = codecs
        #: The videos that there are, by number.
        self.playing: dict[int, Stream] = {}
        #: Delay of sound in ms, for reports; None: there is no sound.
        self.audio_delay: int | None = None
        self._generation = 0
        self._unknown: set[int] = set()
        #: Pixels of frames that were told of and have not been drawn.
        self.ahead = 0
        self._work: list[tuple[int, Job]] = []
        self._computing: dict[int, Frame] = {}
        self._last_work = 0
        self._reports: list[display.StreamReport] = []

    def tell(self, message: Message, now: float, clock: int) -> Outcome:
        """Take a message into account, in the order in which they come, each once.

        ``now`` is our clock (seconds), ``clock`` the server's (ms). What it comes to is for the
        moment when the message is carried out: the video that begins, the frame, the videos that
        end, or what is wrong.
        """
        try:
            if isinstance(message, (display.StreamData, display.StreamDataSized)):
                return self.frame(message, now, clock)
            if isinstance(message, display.StreamCreate):
                return self.create(message)
            if isinstance(message, display.StreamDestroy):
                ended = self.destroy(message.id)
                return [] if ended is None else [ended]
            if isinstance(message, display.StreamDestroyAll):
                return self.destroy_all()
            if isinstance(message, display.StreamClip):
                self.clip(message)
            elif isinstance(message, display.StreamActivateReport):
                self.activate(message)
        except (CannotDraw, RemoteProtocolError) as error:
            return error
        return None

    # What is to be done

    def take_work(self) -> list[tuple[int, Job]]:
        """What is to be computed now, in this order for each video; a number for `computed`."""
        work, self._work = self._work, []
        return work

    def computed(self, number: int, result: Any) -> None:
        """Work is done; what nobody waits for any more is passed over."""
        frame = self._computing.pop(number, None)
        if frame is not None:
            self._finished(frame, result)

    @staticmethod
    def mine(number: int) -> bool:
        """Whether work of that number is that of a video."""
        return bool(number & _VIDEO_BIT)

    def _hand_out(self, job: Job, frame: Frame | None) -> None:
        self._last_work += 1
        number = self._last_work | _VIDEO_BIT
        self._work.append((number, job))
        if frame is not None:
            frame.state = FrameState.BEGUN
            self._computing[number] = frame

    def picture(self, frame: Frame) -> Decoded | None:
        """What is to be drawn of a frame, once for each; None: nothing.

        Raises `NotYet` while it is being decoded, and `CannotDraw` when that isn't possible.
        """
        if frame.is_light and frame.state is FrameState.HELD:
            assert isinstance(frame.job, MjpegFrame)
            self._finished(frame, frame.job.run())
        if frame.state in (FrameState.HELD, FrameState.BEGUN):
            raise NotYet()
        self.ahead -= frame.pixels
        if frame.problem:
            raise CannotDraw(frame.problem, frame.detail)
        return frame.picture

    def reset(self) -> None:
        """Another server: there are no videos any more, and nobody waits for frames."""
        self.destroy_all()
        self._computing.clear()
        self._unknown.clear()
        self._reports.clear()
        self._work = [work for work in self._work if isinstance(work[1], VideoEnd)]
        self.ahead = 0

    def take_reports(self) -> list[display.StreamReport]:
        """What is to be sent, if the server announces `STREAM_REPORT`; each once."""
        reports, self._reports = self._reports, []
        return reports

    def next_wake(self) -> float | None:
        """When `wake` wants to be called: a report is due then, frames or not."""
        times = [
            stream.report.deadline
            for stream in self.playing.values()
            if stream.report is not None and stream.report.deadline is not None
        ]
        return min(times, default=None)

    def wake(self, now: float) -> None:
        """Make the reports whose time has come."""
        for stream in self.playing.values():
            report = stream.report
            if report is not None and report.deadline is not None and report.deadline <= now:
                self._tell(stream, report)

    # Messages

    def create(self, message: display.StreamCreate) -> Stream:
        """STREAM_CREATE; ``problem`` of the result says why it isn't played, if it isn't.

        One of the same number is replaced. Raises `RemoteProtocolError` beyond `MAX_STREAMS`.
        """
        self.destroy(message.id)
        if len(self.playing) >= MAX_STREAMS:
            raise RemoteProtocolError(f"more than {MAX_STREAMS} videos at once")
        self._generation += 1
        stream = Stream(message, self._generation)
        self._unknown.discard(stream.id)
        pixels = stream.pixels + self._pixels()
        self.playing[stream.id] = stream
        if stream.codec not in self.codecs:
            name = CODECS.get(stream.codec)
            if name is None:
                self._give_up(stream, "the codec of the video isn't known")
            else:
                self._give_up(stream, f"{name} wasn't offered; all but mjpeg need aiospice[video]")
        elif not stream.size[0] or not stream.size[1]:
            self._give_up(stream, "the frames of the video are empty")
        elif pixels > MAX_STREAM_PIXELS:
            self._give_up(stream, f"the frames of all videos have over {MAX_STREAM_PIXELS} pixels")
        return stream

    def _pixels(self) -> int:
        """Pixels of a frame of each video that is played."""
        return sum(stream.pixels for stream in self.playing.values() if not stream.problem)

    def clip(self, message: display.StreamClip) -> None:
        """STREAM_CLIP, for the frames behind it; passed over for a video that isn't there."""
        stream = self.playing.get(message.id)
        if stream is not None:
            stream.clip = packed_clip(message.clip)

    def destroy(self, stream_id: int) -> Stream | None:
        """STREAM_DESTROY; None for a video that isn't there, as upstream passes over it.

        Frames that came before are still decoded and drawn.
        """
        stream = self.playing.pop(stream_id, None)
        if stream is not None:
            self._begin(stream)
            if stream.codec != MJPEG and stream.handed_out:
                self._hand_out(VideoEnd(self._key(stream)), None)
        return stream

    def destroy_all(self) -> list[Stream]:
        """STREAM_DESTROY_ALL, or another server: what was there."""
        return [stream for number in list(self.playing) if (stream := self.destroy(number))]

    def activate(self, message: display.StreamActivateReport) -> None:
        """STREAM_ACTIVATE_REPORT; spice-server asks even for a video that it has no codec for."""
        stream = self.playing.get(message.stream_id)
        if stream is not None and not stream.problem:
            stream.report = Report(message)

    def frame(
        self, message: display.StreamData | display.StreamDataSized, now: float, clock: int
    ) -> Frame:
        """STREAM_DATA or STREAM_DATA_SIZED, which came at ``now``, by the server's clock ``clock``.

        Raises `CannotDraw` for a frame that nothing is drawn of.
        """
        stream = self._found(message.id)
        if stream.problem:
            raise CannotDraw(stream.problem)
        self._note(stream, message.multi_media_time, now, clock)
        stream.frames += 1
        size, dest = stream.size, stream.dest
        if isinstance(message, display.StreamDataSized):
            size, dest = (message.width, message.height), box_of(message.dest)
        if not message.data or not size[0] or not size[1]:
            raise CannotDraw("the frame is empty")
        pixels = max(size[0] * size[1], stream.pixels)
        if pixels - stream.pixels + self._pixels() > MAX_STREAM_PIXELS:
            raise CannotDraw(f"the frames of all videos have over {MAX_STREAM_PIXELS} pixels")
        stream.pixels = pixels
        frame = Frame(stream, dest, self._job(stream, message.data, size))
        stream.handed_out += 1
        self.ahead += frame.pixels
        self._queue(stream, frame)
        return frame

    def _job(self, stream: Stream, data: bytes, size: tuple[int, int]) -> MjpegFrame | VideoFrame:
        width, height = size
        if stream.codec == MJPEG:
            return MjpegFrame(data, width, height, stream.top_down)
        number = stream.handed_out
        return VideoFrame(
            self._key(stream), stream.codec, data, width, height, stream.top_down, number
        )

    def _key(self, stream: Stream) -> tuple[int, int, int]:
        return (self.id, stream.id, stream.generation)

    def _found(self, stream_id: int) -> Stream:
        stream = self.playing.get(stream_id)
        if stream is None:
            if stream_id not in self._unknown and len(self._unknown) < _MAX_UNKNOWN:
                self._unknown.add(stream_id)
                self._reports.append(_cannot_play(stream_id))
            raise CannotDraw("there is no such video")
        return stream

    # Lateness

    def _note(self, stream: Stream, time: int, now: float, clock: int) -> None:
        """Count a frame by its time; without one (0) it counts as 100 ms early, as upstream's."""
        margin = (time - clock + 0x80000000 & 0xFFFFFFFF) - 0x80000000 if time else 100
        if margin < 0:
            stream.late += 1
        report = stream.report
        if report is not None and report.count(time or clock + 100 & 0xFFFFFFFF, margin, now):
            self._tell(stream, report)

    def _tell(self, stream: Stream, report: Report) -> None:
        delay = NONE if self.audio_delay is None else self.audio_delay
        self._reports.append(report.taken(stream.id, delay))

    def _give_up(self, stream: Stream, why: str) -> None:
        """The server is to send images instead."""
        stream.problem = why
        stream.report = None
        self._reports.append(_cannot_play(stream.id))

    # Decoding

    def _queue(self, stream: Stream, frame: Frame) -> None:
        last = stream.waiting[-1] if stream.waiting else None
        hides = last is not None and frame.hides(last)
        if isinstance(frame.job, VideoFrame):
            frame.job = frame.job._replace(covers=hides)
        elif last is not None and hides and last.state is FrameState.HELD:
            last.state = FrameState.SKIPPED
            stream.waiting.pop()
            self._dropped(stream)
        stream.waiting.append(frame)
        self._begin(stream)

    def _dropped(self, stream: Stream) -> None:
        stream.dropped += 1
        if stream.report is not None:
            stream.report.dropped()

    def _begin(self, stream: Stream) -> None:
        """Hand out work: two MJPEG frames at a time, all of what must be decoded anyway."""
        begun = sum(frame.state is FrameState.BEGUN for frame in stream.waiting)
        ended = self.playing.get(stream.id) is not stream
        for frame in stream.waiting:
            if frame.state is FrameState.HELD and not frame.is_light:
                if isinstance(frame.job, MjpegFrame) and begun >= MAX_BEGUN and not ended:
                    break
                begun += 1
                self._hand_out(frame.job, frame)

    def _finished(self, frame: Frame, result: Decoded | AiospiceError | None) -> None:
        """None: the decoder has nothing to show, or skipped a frame that a newer one hides."""
        frame.state = FrameState.SKIPPED if result is None else FrameState.DONE
        if isinstance(result, Decoded):
            frame.picture = result
        elif result is not None:
            frame.problem, frame.detail = _why_not(result), str(result)
        stream = self.playing.get(frame.stream_id)
        if stream is not None and stream.generation == frame.generation:
            stream.waiting = [other for other in stream.waiting if other is not frame]
            self._judge(stream, result)
            self._begin(stream)

    def _judge(self, stream: Stream, result: Decoded | AiospiceError | None) -> None:
        if result is None:
            self._dropped(stream)
        elif isinstance(result, Decoded):
            stream.failed = 0
        else:
            stream.failed += 1
            if stream.problem:
                return
            if isinstance(result, MissingProgram):
                self._give_up(stream, _why_not(result))
            elif stream.failed >= MAX_FAILED:
                self._give_up(stream, _GIVEN_UP)


def draw_frame(surface: Pixels, frame: Frame, picture: Decoded) -> tuple[Region, int]:
    """Draw a frame on its surface, scaled to its box; gives where, and how many pixels.

    Scaling takes the nearest pixel (``canvas_put_image`` in spice-common ``sw_canvas.c``). A box
    without any width or height has nothing drawn.
    """
    box = frame.dest
    clip = frame.clip
    rects: list[Box] = [(0, 0, surface.width, surface.height)]
    visible = region_of(box, rects) if box[0] < box[2] and box[1] < box[3] else []
    if visible and clip is not None:
        sides = iter(clip)
        visible = region_of(visible[0], zip(sides, sides, sides, sides, strict=True))
    seen = bounds(visible)
    if seen is None:
        return [], 0
    width, height = picture.width, picture.height
    image = Pixels(width, height, picture.format, picture.data, picture.offset, picture.stride)
    x, y = box[0], box[1]
    if (box[2] - box[0], box[3] - box[1]) != (width, height):
        image = scaled(image, (0, 0, width, height), box, seen, smooth=False)
        x, y = seen[0], seen[1]
    if BYTES[surface.format] != BYTES[image.format]:
        image = image.converted(surface.format)
    return visible, raster.blit(surface, visible, image, x, y)
