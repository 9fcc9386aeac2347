"""Messages of a display channel: each input is a run of them, with mini headers."""

from __future__ import annotations

from collections.abc import Iterator

from images import FIRST, SIDE
from images import seeds as image_seeds

from aiospice.channels.display import DisplayBatch, DisplayChannel
from aiospice.channels.framing import Framing
from aiospice.client.caches import Caches
from aiospice.client.screen import Screen
from aiospice.errors import RemoteProtocolError
from aiospice.wire import display, draw
from aiospice.wire.header import pack_header
from aiospice.wire.images import (
    BinaryData,
    Brush,
    Image,
    ImageDescriptor,
    Pattern,
    QMask,
    SolidColor,
    SurfaceImage,
)
from aiospice.wire.message import Message
from aiospice.wire.shapes import Clip, DisplayBase, Point, Rect

#: Bytes that all surfaces may take: an input can't make the harness itself run out of memory.
BYTES = 1 << 22


def framed(message: Message) -> bytes:
    """A message as it comes."""
    body = message.body()
    return pack_header(True, 0, message.number, len(body)) + body


def _base(surface: int = 0) -> DisplayBase:
    box = Rect(left=1, top=1, right=1 + SIDE, bottom=1 + SIDE)
    return DisplayBase(surface_id=surface, box=box, clip=Clip(type=0, rects=()))


def _image(kind: int, data: bytes, flags: int = 0) -> Image:
    head = ImageDescriptor(id=5, type=kind, flags=flags, width=SIDE, height=SIDE)
    return Image(descriptor=head, body=BinaryData(data=data))


def _copy(image: Image) -> Message:
    return draw.DrawCopy(
        base=_base(),
        src_bitmap=image,
        src_area=Rect(left=0, top=0, right=SIDE, bottom=SIDE),
        rop_descriptor=8,
        scale_mode=0,
        mask=QMask(flags=0, pos=Point(x=0, y=0), bitmap=None),
    )


def _surface(number: int, flags: int) -> bytes:
    return framed(
        display.SurfaceCreate(surface_id=number, width=24, height=24, format=32, flags=flags)
    )


def seeds() -> Iterator[bytes]:
    """A screen, and a few draws."""
    whole = list(image_seeds())
    first = _surface(0, 1)
    kinds = {0: 1, 1: 101, 3: 102, 5: 109, 6: 105}
    for seed in whole:
        if seed[0] in kinds:
            yield first + framed(_copy(_image(kinds[seed[0]], seed[1:], flags=1)))
    yield first + framed(_copy(_image(102, FIRST))) + framed(display.InvalAllPixmaps(waits=()))
    head = ImageDescriptor(id=1, type=104, flags=0, width=24, height=24)
    other = Image(descriptor=head, body=SurfaceImage(surface_id=1))
    yield first + _surface(1, 0) + framed(_copy(other))
    brushes = (
        Brush(type=1, body=SolidColor(color=77)),
        Brush(type=2, body=Pattern(pat=_image(1, whole[2][1:]), pos=Point(x=2, y=2))),
    )
    for brush in brushes:
        mask = QMask(flags=0, pos=Point(x=0, y=0), bitmap=None)
        yield first + framed(draw.DrawFill(base=_base(), brush=brush, rop_descriptor=8, mask=mask))
    yield first + framed(display.CopyBits(base=_base(), src_pos=Point(x=3, y=3)))


def one(data: bytes) -> None:
    """Carry out the messages: the channel ends with the documented error, or goes on."""
    channel = DisplayChannel((2, 0), Framing(2, True))
    screen = Screen(0, Caches(1 << 16, 1 << 12), surface_bytes=BYTES)
    try:
        for event in channel.receive(data, 0.0):
            if isinstance(event, DisplayBatch):
                screen.apply_batch(event.data, event.begin, event.end, event.count)
            for number, job in screen.take_jobs():
                screen.computed(number, job.run())
    except RemoteProtocolError:
        return
    assert not screen.backlog
