"""The display channel but for its draws (spice-common ``spice.proto``, ``DisplayChannel``)."""

from __future__ import annotations

from enum import IntEnum

from aiospice.wire import draw as draw  # its messages belong to this channel
from aiospice.wire.caps import DisplayCap as DisplayCap
from aiospice.wire.common import WaitForChannel
from aiospice.wire.images import ImageCompression
from aiospice.wire.keep import Replay, Shows
from aiospice.wire.message import CLIENT, SERVER, Message
from aiospice.wire.record import (
    Record,
    block,
    counter,
    i32,
    i64,
    nested,
    number_array,
    record_array,
    rest,
    u8,
    u16,
    u32,
    u64,
)
from aiospice.wire.shapes import Clip, DisplayBase, Point, Rect

__all__ = [
    "MAX_HEADS",
    "CopyBits",
    "DisplayCap",
    "GlDraw",
    "GlDrawDone",
    "GlScanoutFlags",
    "GlScanoutUnix",
    "Head",
    "Init",
    "InvalAllPalettes",
    "InvalAllPixmaps",
    "InvalList",
    "InvalPalette",
    "Mark",
    "Mode",
    "MonitorsConfig",
    "PreferredCompression",
    "PreferredVideoCodecType",
    "QualityIndicator",
    "Replay",
    "Reset",
    "ResourceId",
    "ResourceType",
    "Shows",
    "StreamActivateReport",
    "StreamClip",
    "StreamCreate",
    "StreamData",
    "StreamDataSized",
    "StreamDestroy",
    "StreamDestroyAll",
    "StreamFlags",
    "StreamReport",
    "SurfaceCreate",
    "SurfaceDestroy",
    "SurfaceFlags",
    "SurfaceFormat",
    "VideoCodecType",
]

_DISPLAY = (2,)
#: The most monitors of one configuration (a QXL device tells its guest of 64 at most).
MAX_HEADS = 256


class VideoCodecType(IntEnum):
    """``SPICE_VIDEO_CODEC_TYPE_*``."""

    MJPEG = 1
    VP8 = 2
    H264 = 3
    VP9 = 4
    H265 = 5


class StreamFlags(IntEnum):
    """``SPICE_STREAM_FLAGS_*``."""

    TOP_DOWN = 1


class ResourceType(IntEnum):
    """``SPICE_RES_TYPE_*``."""

    INVALID = 0
    PIXMAP = 1


class SurfaceFormat(IntEnum):
    """``SPICE_SURFACE_FMT_*``, what a pixel of a surface is."""

    INVALID = 0
    A1 = 1
    A8 = 8
    RGB16_555 = 16
    XRGB32 = 32
    RGB16_565 = 80
    ARGB32 = 96


class SurfaceFlags(IntEnum):
    """``SPICE_SURFACE_FLAGS_*``."""

    PRIMARY = 1
    STREAMING_MODE = 2


class GlScanoutFlags(IntEnum):
    """``SPICE_GL_SCANOUT_FLAGS_*``."""

    Y0TOP = 1


class ResourceId(Record):
    """A thing in one of the client's caches."""

    type: int = u8(names=ResourceType)
    id: int = u64()


class Head(Record):
    """A monitor: which part of which surface it shows, in pixels."""

    monitor_id: int = u32()
    surface_id: int = u32()
    width: int = u32()
    height: int = u32()
    x: int = u32()
    y: int = u32()
    flags: int = u32()


class Mode(Message, channels=_DISPLAY, sender=SERVER, number=101):
    """The size of the screen in pixels and its bits a pixel (old servers; see `SurfaceCreate`)."""

    x_res: int = u32()
    y_res: int = u32()
    bits: int = u32()


class Mark(Message, channels=_DISPLAY, sender=SERVER, number=102):
    """The screen is complete: show it."""


class Reset(Message, channels=_DISPLAY, sender=SERVER, number=103):
    """Clear the surfaces and the caches."""


class CopyBits(Message, channels=_DISPLAY, sender=SERVER, number=104):
    """Copy pixels within a surface, from ``src_pos`` to the box; the two may overlap."""

    base: DisplayBase = nested(DisplayBase)
    src_pos: Point = nested(Point)


class InvalList(Message, channels=_DISPLAY, sender=SERVER, number=105):
    """Drop things from the image cache; up to 65535."""

    count: int = counter("resources", "H")
    resources: tuple[ResourceId, ...] = record_array(ResourceId, "count")


class InvalAllPixmaps(Message, channels=_DISPLAY, sender=SERVER, number=106):
    """Drop all images, once the other display channels have come to the given points."""

    num_waits: int = counter("waits", "B")
    waits: tuple[WaitForChannel, ...] = record_array(WaitForChannel, "num_waits")


class InvalPalette(Message, channels=_DISPLAY, sender=SERVER, number=107):
    """Drop one palette."""

    id: int = u64()


class InvalAllPalettes(Message, channels=_DISPLAY, sender=SERVER, number=108):
    """Drop all palettes."""


class StreamCreate(Message, channels=_DISPLAY, sender=SERVER, number=122):
    """A video begins.

    ``stamp`` is set aside by both ends; ``stream_*`` is the size of a frame, ``src_*`` of the part
    of the guest's screen that it shows, both in pixels.
    """

    surface_id: int = u32()
    id: int = u32()
    flags: int = u8(flags=StreamFlags)
    codec_type: int = u8(names=VideoCodecType)
    stamp: int = u64()
    stream_width: int = u32()
    stream_height: int = u32()
    src_width: int = u32()
    src_height: int = u32()
    dest: Rect = nested(Rect)
    clip: Clip = nested(Clip)


class StreamData(Message, channels=_DISPLAY, sender=SERVER, number=123):
    """A frame, to be shown at ``multi_media_time`` (ms on the server's clock)."""

    id: int = u32()
    multi_media_time: int = u32()
    data_size: int = counter("data", "I")
    data: bytes = block("data_size")


class StreamClip(Message, channels=_DISPLAY, sender=SERVER, number=124):
    """The visible part of a video has changed."""

    id: int = u32()
    clip: Clip = nested(Clip)


class StreamDestroy(Message, channels=_DISPLAY, sender=SERVER, number=125):
    """A video has ended."""

    id: int = u32()


class StreamDestroyAll(Message, channels=_DISPLAY, sender=SERVER, number=126):
    """All videos have ended."""


class SurfaceCreate(Message, channels=_DISPLAY, sender=SERVER, number=314):
    """A new surface; 0 is the screen. The size is in pixels and not checked here."""

    surface_id: int = u32()
    width: int = u32()
    height: int = u32()
    format: int = u32(names=SurfaceFormat)
    flags: int = u32(flags=SurfaceFlags)


class SurfaceDestroy(Message, channels=_DISPLAY, sender=SERVER, number=315):
    """A surface is gone."""

    surface_id: int = u32()


class StreamDataSized(Message, channels=_DISPLAY, sender=SERVER, number=316):
    """A frame of another size or place than the video has otherwise."""

    id: int = u32()
    multi_media_time: int = u32()
    width: int = u32()
    height: int = u32()
    dest: Rect = nested(Rect)
    data_size: int = counter("data", "I")
    data: bytes = block("data_size")


class MonitorsConfig(Message, channels=_DISPLAY, sender=SERVER, number=317):
    """The monitors of this channel; ``max_allowed`` is how many there can be."""

    count: int = counter("heads", "H", maximum=MAX_HEADS)
    max_allowed: int = u16()
    heads: tuple[Head, ...] = record_array(Head, "count")


class StreamActivateReport(Message, channels=_DISPLAY, sender=SERVER, number=319):
    """Asks for a `StreamReport` every ``max_window_size`` frames or ``timeout_ms``."""

    stream_id: int = u32()
    unique_id: int = u32()
    max_window_size: int = u32()
    timeout_ms: int = u32()


class GlScanoutUnix(Message, channels=_DISPLAY, sender=SERVER, number=320):
    """The screen is a DMA buffer from now on.

    Its file descriptor has no place in the body: it comes with the ancillary data of one more byte
    that follows the body on a UNIX socket, outside of every message (spice-server
    ``server/red-stream.cpp``). ``stride`` is in bytes.
    """

    width: int = u32()
    height: int = u32()
    stride: int = u32()
    drm_fourcc_format: int = u32()
    flags: int = u32(flags=GlScanoutFlags)


class GlDraw(Message, channels=_DISPLAY, sender=SERVER, number=321):
    """A part of the DMA buffer has changed; to be answered by `GlDrawDone`."""

    x: int = u32()
    y: int = u32()
    w: int = u32()
    h: int = u32()


class QualityIndicator(Message, channels=_DISPLAY, sender=SERVER, number=322):
    """Declared, with a body that nobody defines."""

    data: bytes = rest()


class Init(Message, channels=_DISPLAY, sender=CLIENT, number=101):
    """The first message of a new channel: the client's caches, their sizes in pixels."""

    pixmap_cache_id: int = u8()
    pixmap_cache_size: int = i64()
    glz_dictionary_id: int = u8()
    glz_dictionary_window_size: int = i32()


class StreamReport(Message, channels=_DISPLAY, sender=CLIENT, number=102):
    """How a video comes out, since the last report.

    ``num_frames`` 0 with ``num_drops`` 2**32 - 1: the client can't play it. ``last_frame_delay``
    and ``audio_delay`` are in ms; the latter is 2**32 - 1 when there is no sound.
    """

    stream_id: int = u32()
    unique_id: int = u32()
    start_frame_mm_time: int = u32()
    end_frame_mm_time: int = u32()
    num_frames: int = u32()
    num_drops: int = u32()
    last_frame_delay: int = i32()
    audio_delay: int = u32()


class PreferredCompression(Message, channels=_DISPLAY, sender=CLIENT, number=103):
    """Asks for a compression of images."""

    image_compression: int = u8(names=ImageCompression)


class GlDrawDone(Message, channels=_DISPLAY, sender=CLIENT, number=104):
    """The answer to `GlDraw`."""


class PreferredVideoCodecType(Message, channels=_DISPLAY, sender=CLIENT, number=105):
    """Asks for video codecs (`VideoCodecType`), the best first."""

    num_of_codecs: int = counter("codecs", "B")
    codecs: tuple[int, ...] = number_array("B", "num_of_codecs")
