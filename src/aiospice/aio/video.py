"""Decoders of VP8, VP9, H.264 and H.265: PyAV's, one for each video, off the event loop.

A decoder remembers the frames before, so it is no plain data and stands outside of the session's
core. Frames of one video are decoded in order, one at a time, those of several side by side. A
decoder that isn't there when a frame comes (the session was picked up by another shell) or that
has met a damaged frame begins again at the next key frame.

PyAV is the extra ``aiospice[video]`` and is imported in a thread when the first frame comes.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from aiospice.codecs.image import XRGB, Decoded, check_size
from aiospice.codecs.video import CODECS, VP8, VideoEnd, VideoFrame, is_key_frame
from aiospice.errors import AiospiceError, DecodeError, MissingProgram, StateError

if TYPE_CHECKING:
    from collections.abc import Callable

    Key = tuple[int, int, int]
    Result = Decoded | AiospiceError | None

__all__ = ["MAX_QUEUED", "Decoder", "Decoders"]

#: Frames of one video that may wait for its decoder.
MAX_QUEUED = 128
#: Most pixels that a frame's sides are padded with inside of a decoder (blocks of 64).
_PADDING = 64

_NAMES = {2: "vp8", 3: "h264", 4: "vp9", 5: "hevc"}


def _library() -> Any:
    try:
        import av
        import av.video.reformatter
    except ImportError:
        raise MissingProgram(
            "videos but MJPEG need PyAV: pip install 'aiospice[video]' (or av)"
        ) from None
    return av


def colours_of(codec: int, told: int, height: int) -> int:
    """The matrix between YUV and RGB, as FFmpeg numbers it: 601 is 5, 709 is 1, 2020 is 9.

    ``told`` is what the frame says of itself. VP8 can't tell, and what doesn't is taken for what
    GStreamer makes of pictures of that height: it is what spice-server encodes with, and what
    spice-gtk decodes with (``video-info.c`` in gst-plugins-base).
    """
    if codec != VP8 and told in (1, 4, 5, 6, 7, 9):
        return told
    if height <= 576:
        return 5
    return 1 if height < 2160 else 9


def _way(width: int) -> int:
    """How libswscale is to convert rows of that width (flags of ``Interpolation``).

    Its fast way takes 8 pixels at a time and leaves out the last ones where the row, rounded up to
    16 bytes as PyAV has it, hasn't room for 8 (``libswscale/x86/yuv2rgb_template.c``).
    """
    bilinear, accurate = 2, 0x40000
    return bilinear | accurate if width % 8 in (1, 2, 3, 4) else bilinear


class Decoder:
    """Decodes the frames of one video, in order. Not for two threads at once."""

    def __init__(self, codec: int) -> None:
        self.codec = codec
        self._context: Any = None
        self._converter: Any = None
        self._size = (0, 0)
        self._next = 0

    def reset(self) -> None:
        """Forget all frames: the next one must be a key frame."""
        self._context = None

    def decode(self, frame: VideoFrame, *, late: bool = False) -> Decoded | None:
        """The frame's pixels: `XRGB`, the fourth byte 255; None when there is nothing to show.

        ``late``: it will not be seen, so it is only decoded, for the frames that refer to it.
        Raises `StateError` while a key frame is awaited, `DecodeError` for what can't be decoded,
        and `MissingProgram` without PyAV.
        """
        av = _library()
        check_size(frame.width, frame.height, 0)
        size = (frame.width, frame.height)
        if frame.number != self._next:  # what it refers to isn't here
            self.reset()
        self._next = frame.number + 1
        if self._context is None or self._size != size:
            if is_key_frame(self.codec, frame.data):
                self._begin(av, size)
            elif self._context is None:
                raise StateError("the video waits for a key frame")
        try:
            pictures = self._context.decode(av.Packet(frame.data))
        except (av.error.FFmpegError, ValueError, MemoryError) as error:
            self.reset()
            raise DecodeError(f"a damaged {CODECS[self.codec]} frame: {error}", offset=0) from None
        if not pictures:
            return None
        picture = pictures[-1]
        if (picture.width, picture.height) != size:
            self.reset()
            raise DecodeError(
                f"a frame of {picture.width}x{picture.height} pixels, not {size[0]}x{size[1]}",
                offset=0,
            )
        return None if late else self._pixels(picture, frame.top_down)

    def _begin(self, av: Any, size: tuple[int, int]) -> None:
        try:
            context = av.CodecContext.create(_NAMES[self.codec], "r")
        except ValueError:
            name = CODECS.get(self.codec, str(self.codec))
            raise MissingProgram(
                f"this build of PyAV doesn't decode {name}: try that of PyPI"
            ) from None
        width, height = (side + _PADDING for side in size)
        context.options = {"max_pixels": str(width * height)}
        context.thread_count = 1
        context.flags |= int(av.codec.context.Flags.low_delay)
        self._context = context
        self._size = size
        if self._converter is None:
            self._converter = av.video.reformatter.VideoReformatter()

    def _pixels(self, picture: Any, top_down: bool) -> Decoded:
        matrix = colours_of(self.codec, int(picture.colorspace), picture.height)
        shown = self._converter.reformat(
            picture,
            format="bgra",
            src_colorspace=matrix,
            src_color_range=int(picture.color_range) or 1,
            dst_color_range=2,
            interpolation=_way(picture.width),
            threads=1,
        )
        plane = shown.planes[0]
        data, stride = bytes(plane), plane.line_size
        if top_down:
            return Decoded(shown.width, shown.height, XRGB, data, 0, stride)
        last = stride * (shown.height - 1)
        return Decoded(shown.width, shown.height, XRGB, data, last, -stride)


class _Line:
    """The frames of one video that wait, and its decoder."""

    __slots__ = ("decoder", "ended", "frames", "running")

    def __init__(self, codec: int) -> None:
        self.decoder = Decoder(codec)
        self.frames: deque[tuple[int, VideoFrame]] = deque()
        self.running = False
        self.ended = False


def prepare() -> None:
    """Import PyAV if it is there: it takes some tenths of a second, which no frame should wait."""
    with contextlib.suppress(MissingProgram):
        _library()


class Decoders:
    """The decoders of a session.

    ``submit`` has a function called in some thread; ``done`` is told the number of a frame and its
    result, in that thread: `Decoded`, None (nothing to show) or an error.
    """

    def __init__(
        self,
        submit: Callable[[Callable[[], None]], object],
        done: Callable[[int, Result], object],
    ) -> None:
        self._submit = submit
        self._done = done
        self._lock = threading.Lock()
        self._lines: dict[Key, _Line] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def take(self, number: int, job: VideoFrame | VideoEnd) -> None:
        """Do what a core asks for."""
        if isinstance(job, VideoEnd):
            self.end(job.key)
        else:
            self.decode(number, job)

    def decode(self, number: int, frame: VideoFrame) -> None:
        """Decode a frame after the others of its video; ``number`` is what `done` is told."""
        with self._lock:
            line = self._lines.get(frame.key)
            if line is None:
                line = self._lines[frame.key] = _Line(frame.codec)
            full = len(line.frames) >= MAX_QUEUED
            if not full:
                line.frames.append((number, frame))
            start = not full and not line.running
            line.running = line.running or start
        if full:  # the decoder will miss it and wait for a key frame
            self._done(number, StateError(f"{MAX_QUEUED} frames of the video wait already"))
        elif start:
            self._submit(lambda: self._run(frame.key, line))

    def end(self, key: Key) -> None:
        """The video is over: its decoder goes once the frames that wait are decoded."""
        with self._lock:
            line = self._lines.get(key)
            if line is not None and line.running:
                line.ended = True
            else:
                self._lines.pop(key, None)

    def close(self) -> None:
        """Drop everything; frames that wait get no result."""
        with self._lock:
            for line in self._lines.values():
                line.frames.clear()
            self._lines.clear()

    def _run(self, key: Key, line: _Line) -> None:
        """Decode one frame, in a thread; then others have their turn."""
        with self._lock:
            if not line.frames:
                line.running = False
                return
            number, frame = line.frames.popleft()
            late = bool(line.frames) and line.frames[0][1].covers
        result: Result
        try:
            result = line.decoder.decode(frame, late=late)
        except AiospiceError as error:
            result = error
        except Exception as error:  # whatever a library raises, the frame is answered
            line.decoder.reset()
            result = DecodeError(f"a frame that PyAV fails at: {error!r}", offset=0)
        self._done(number, result)
        with self._lock:
            line.running = again = bool(line.frames)
            if not again and line.ended:
                self._lines.pop(key, None)
        if again:
            self._submit(lambda: self._run(key, line))
