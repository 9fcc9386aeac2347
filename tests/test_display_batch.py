"""Runs of display messages: cut, counted and drawn as one by one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codec_images import some_bytes
from tests.twins import uncompiled

import aiospice.channels.scan as scan_module
import aiospice.client.batch as batch_module
from aiospice.canvas.pixels import Pixels
from aiospice.channels.display import DisplayBatch, DisplayChannel
from aiospice.channels.framing import Framing
from aiospice.client.caches import Caches
from aiospice.client.screen import NotDrawn, Screen
from aiospice.codecs import jpeg, lz, lz4, quic, zlib
from aiospice.codecs.glz import GlzDictionary
from aiospice.errors import RemoteProtocolError
from aiospice.wire import common, display, draw
from aiospice.wire.header import pack_header
from aiospice.wire.images import (
    BinaryData,
    BitmapData,
    Image,
    ImageDescriptor,
    LzPltData,
    QMask,
    SurfaceImage,
    ZlibGlzData,
)
from aiospice.wire.message import SERVER, Message
from aiospice.wire.registry import find
from aiospice.wire.shapes import Clip, DisplayBase, Palette, Point, Rect

SCANS = [scan_module, uncompiled("aiospice.channels.scan")]
BATCHES = [batch_module, uncompiled("aiospice.client.batch")]
WIDTH, HEIGHT = 40, 30


def framed(message: Message) -> bytes:
    body = message.body()
    return pack_header(True, 0, message.number, len(body)) + body


def screen(format: int = display.SurfaceFormat.XRGB32) -> Screen:
    shown = Screen(0, Caches())
    shown.apply(
        display.SurfaceCreate(surface_id=0, width=WIDTH, height=HEIGHT, format=format, flags=1)
    )
    return shown


def carried_out(module: Any, data: bytes, shown: Screen, slow: Any) -> Any:
    """What a run has done; around it there are other bytes."""
    around = b"\x30\x01" * 3
    end = len(around) + len(data)
    surfaces = shown.surfaces
    changes = module.run(
        around + data + around, len(around), end, surfaces, shown.primary, shown._reader, slow
    )
    assert changes.at <= end
    return changes


@st.composite
def copies(pick: st.DrawFn) -> Message:
    """DRAW_COPYs: mostly common ones, each thing unusual now and then."""

    def rarely(usual: Any, unusual: st.SearchStrategy[Any]) -> Any:
        return usual if pick(st.integers(0, 7)) else pick(unusual)

    small = st.integers(-12, 50)
    columns, rows = pick(st.integers(1, 12)), pick(st.integers(1, 12))
    left, top = pick(small), pick(small)
    x, y = rarely(0, st.integers(-1, 4)), rarely(0, st.integers(-1, 4))
    width = max(1, columns - max(x, 0))
    height = max(1, rows - max(y, 0))
    box = Rect(top=top, left=left, bottom=top + height, right=left + width)
    area = Rect(top=y, left=x, bottom=y + height, right=x + width)
    area = rarely(area, st.just(area.replace(right=area.right + 1)))
    clips = st.lists(
        st.builds(Rect, top=small, left=small, bottom=small, right=small), min_size=1, max_size=3
    )
    clip = Clip(type=0, rects=())
    if pick(st.booleans()):
        clip = Clip(type=1, rects=tuple(pick(clips)))
    stride = columns * 4 + rarely(0, st.sampled_from([4, 8]))
    bitmap = BitmapData(
        format=pick(st.sampled_from([8, 9])),
        flags=pick(st.sampled_from([0, 4])),
        x=columns,
        y=rows,
        stride=stride,
        palette_id=None,
        palette=None,
        data=pick(st.binary(min_size=stride * rows, max_size=stride * rows)),
    )
    head = ImageDescriptor(
        id=7, type=0, flags=rarely(0, st.sampled_from([1, 2])), width=columns, height=rows
    )
    return draw.DrawCopy(
        base=DisplayBase(surface_id=rarely(0, st.just(5)), box=box, clip=clip),
        src_bitmap=Image(descriptor=head, body=bitmap),
        src_area=area,
        rop_descriptor=rarely(8, st.sampled_from([16, 64])),
        scale_mode=rarely(0, st.just(1)),
        mask=QMask(flags=0, pos=Point(x=0, y=0), bitmap=None),
    )


def moves() -> st.SearchStrategy[Message]:
    """COPY_BITS of any overlap, from within the surface and from beyond it."""
    place = st.integers(-12, 45)

    def make(left: int, top: int, width: int, height: int, x: int, y: int) -> Message:
        box = Rect(top=top, left=left, bottom=top + height, right=left + width)
        base = DisplayBase(surface_id=0, box=box, clip=Clip(type=0, rects=()))
        return display.CopyBits(base=base, src_pos=Point(x=x, y=y))

    size = st.integers(0, 30)
    return st.builds(make, place, place, size, size, place, place)


def layers() -> st.SearchStrategy[Message]:
    """DRAW_COPYs from another surface, or from the one that is drawn on."""
    place = st.integers(-12, 45)

    def make(number: int, left: int, top: int, x: int, y: int) -> Message:
        head = ImageDescriptor(id=0, type=104, flags=0, width=WIDTH, height=HEIGHT)
        return draw.DrawCopy(
            base=DisplayBase(
                surface_id=0,
                box=Rect(left=left, top=top, right=left + 9, bottom=top + 7),
                clip=Clip(type=0, rects=()),
            ),
            src_bitmap=Image(descriptor=head, body=SurfaceImage(surface_id=number)),
            src_area=Rect(left=x, top=y, right=x + 9, bottom=y + 7),
            rop_descriptor=8,
            scale_mode=0,
            mask=QMask(flags=0, pos=Point(x=0, y=0), bitmap=None),
        )

    return st.builds(make, st.sampled_from([0, 1, 1, 2, 5]), place, place, place, place)


def fills() -> st.SearchStrategy[Message]:
    from aiospice.wire.images import Brush, SolidColor

    def make(left: int, top: int, color: int) -> Message:
        box = Rect(top=top, left=left, bottom=top + 5, right=left + 5)
        clip = Clip(type=0, rects=())
        if color & 1:
            clip = Clip(type=1, rects=(box.replace(right=left + 2), box.replace(left=left + 3)))
        return draw.DrawFill(
            base=DisplayBase(surface_id=0, box=box, clip=clip),
            brush=Brush(type=1, body=SolidColor(color=color)),
            rop_descriptor=8,
            mask=QMask(flags=0, pos=Point(x=0, y=0), bitmap=None),
        )

    return st.builds(make, st.integers(0, 30), st.integers(0, 25), st.integers(0, 0xFFFFFF))


@pytest.mark.parametrize("module", BATCHES, ids=["imported", "uncompiled"])
@pytest.mark.parametrize("format", [32, 96, 16])
@settings(max_examples=150)
@given(messages=st.lists(st.one_of(copies(), fills(), moves(), layers()), max_size=6))
def test_a_run_draws_what_its_messages_draw(
    module: Any, format: int, messages: list[Message]
) -> None:
    slowly, at_once = screen(format), screen(format)
    for shown in (slowly, at_once):
        for number, other in ((1, format), (2, 80)):
            shown.apply(
                display.SurfaceCreate(
                    surface_id=number, width=WIDTH, height=HEIGHT, format=other, flags=0
                )
            )
            pixels: Any = shown.surfaces[number].data
            pixels[:] = bytes(place * 7 & 255 for place in range(len(pixels)))
    for message in messages:
        slowly.apply(message)

    def slow(number: int, body: bytes) -> int | None:
        kind = find(2, SERVER, number)
        assert kind is not None
        at_once.apply(kind.parse(body))
        return at_once.primary

    data = b"".join(framed(message) for message in messages)
    changes = carried_out(module, data, at_once, slow)
    assert bytes(at_once.surfaces[0].data) == bytes(slowly.surfaces[0].data)
    assert at_once.draws + changes.draws == slowly.draws
    assert at_once.pixels + changes.pixels == slowly.pixels


@pytest.mark.parametrize("module", BATCHES, ids=["imported", "uncompiled"])
@settings(max_examples=150)
@given(message=copies(), at=st.integers(0, 200), value=st.integers(0, 255))
def test_a_damaged_message_is_read_like_one_by_one(
    module: Any, message: Message, at: int, value: int
) -> None:
    body = bytearray(message.body())
    if at < len(body):
        body[at] = value
    else:
        del body[200 - at :]
    slowly, at_once = screen(), screen()

    def slow(number: int, body: bytes) -> int | None:
        at_once.apply(draw.DrawCopy.parse(body))
        return at_once.primary

    def outcome(act: Any) -> str:
        try:
            act()
        except RemoteProtocolError as error:
            return type(error).__name__
        return ""

    data = pack_header(True, 0, 304, len(body)) + bytes(body)
    ends = outcome(lambda: slowly.apply(draw.DrawCopy.parse(bytes(body))))
    assert outcome(lambda: carried_out(module, data, at_once, slow)) == ends
    assert bytes(at_once.surfaces[0].data) == bytes(slowly.surfaces[0].data)


#: A packed image: type, size, seed of its pixels, number in the cache, what is done with it.
Spec = tuple[int, int, int, int, int, int]
SPECS = st.tuples(
    st.sampled_from([0, 1, 100, 101, 102, 103, 105, 107, 109]),
    st.integers(1, 24),
    st.integers(1, 20),
    st.integers(0, 1 << 16),
    st.integers(1, 4),
    st.sampled_from([0, 0, 0, 1, 2]),
)


def packed(spec: Spec, dictionary: GlzDictionary) -> Image:
    """An image of that kind."""
    type, width, height, seed, number, flags = spec
    pixels = bytearray(some_bytes(4 * width * height, seed))
    alpha = seed % 3 == 0
    if not alpha:
        pixels[3::4] = bytes(width * height)
    body: Any
    if type == 0:
        body = raw(width, height, bytes(pixels), alpha)
    elif type == 1:
        kind = quic.RGBA if alpha else quic.RGB32
        body = BinaryData(data=quic.encode(pixels, width, height, 4 * width, kind))
    elif type == 100:
        stream = lz.encode(bytes(pixels[: width * height]), width, height, lz.PLT8)
        colours = Palette(unique=0, ents=tuple(range(0, 1 << 24, 65793)))
        body = LzPltData(flags=0, palette_id=None, palette=colours, data=stream)
    elif type == 101:
        kind, top_down = (lz.RGBA if alpha else lz.RGB32), bool(seed & 4)
        body = BinaryData(data=lz.encode(pixels, width, height, kind, top_down=top_down))
    elif type in (102, 107):
        kind, top_down = (lz.RGBA if alpha else lz.RGB32), bool(seed & 4)
        stream = dictionary.encode(pixels, width, height, kind, top_down=top_down)
        body = BinaryData(data=stream)
        if type == 107:
            body = ZlibGlzData(glz_data_size=len(stream), data=zlib.deflate(stream))
    elif type == 103:
        body = None
    elif type == 105:
        body = BinaryData(data=jpeg.encode(pixels, width, height))
    else:
        kind, top_down = (lz4.FORMAT_RGBA if alpha else lz4.FORMAT_32), bool(seed & 4)
        body = BinaryData(data=lz4.encode(pixels, width, height, kind, top_down=top_down))
    head = ImageDescriptor(id=number, type=type, flags=flags, width=width, height=height)
    return Image(descriptor=head, body=body)


def raw(width: int, height: int, pixels: bytes, alpha: bool) -> BitmapData:
    return BitmapData(
        format=9 if alpha else 8,
        flags=4,
        x=width,
        y=height,
        stride=4 * width,
        palette_id=None,
        palette=None,
        data=pixels,
    )


def drawn(image: Image, x: int, y: int, cut: int) -> draw.DrawCopy:
    """A draw of an image but for ``cut`` columns at its left and rows at its top."""
    head = image.descriptor
    cut = min(cut, head.width - 1, head.height - 1)
    area = Rect(left=cut, top=cut, right=head.width, bottom=head.height)
    box = Rect(left=x, top=y, right=x + head.width - cut, bottom=y + head.height - cut)
    return draw.DrawCopy(
        base=DisplayBase(surface_id=0, box=box, clip=Clip(type=0, rects=())),
        src_bitmap=image,
        src_area=area,
        rop_descriptor=8,
        scale_mode=0,
        mask=QMask(flags=0, pos=Point(x=0, y=0), bitmap=None),
    )


PLACES = st.tuples(st.integers(-9, 30), st.integers(-9, 30), st.integers(0, 3))


@pytest.mark.parametrize("module", BATCHES, ids=["imported", "uncompiled"])
@settings(max_examples=120)
@given(specs=st.lists(st.tuples(SPECS, PLACES), max_size=8), damage=st.integers(0, 40))
def test_packed_images_are_drawn_as_one_by_one(
    module: Any, specs: list[tuple[Spec, tuple[int, int, int]]], damage: int
) -> None:
    dictionary = GlzDictionary(4096)
    messages = [drawn(packed(spec, dictionary), *place) for spec, place in specs]
    bodies = [bytearray(message.body()) for message in messages]
    for message, body in zip(messages, bodies, strict=True):
        image = message.src_bitmap
        assert image is not None
        if image.body is not None and damage < min(20, len(image.body.data)):  # type: ignore[union-attr]
            body[-1 - damage] ^= 0x55
    slowly, at_once = screen(), screen()
    events = [slowly.apply(draw.DrawCopy.parse(bytes(body))) for body in bodies]
    told: list[Any] = []

    def slow(number: int, body: bytes) -> int:
        told.extend(at_once.apply(draw.DrawCopy.parse(body)))
        return 0

    data = b"".join(pack_header(True, 0, 304, len(body)) + bytes(body) for body in bodies)
    changes = carried_out(module, data, at_once, slow)
    assert bytes(at_once.surfaces[0].data) == bytes(slowly.surfaces[0].data)
    assert at_once.not_drawn == slowly.not_drawn
    assert at_once.images == slowly.images
    assert (changes.at, changes.count) == (len(data) + 6, len(bodies))
    missing = [event for found in events for event in found if isinstance(event, NotDrawn)]
    assert [event for event in told if isinstance(event, NotDrawn)] == missing
    for number in range(1, 5):
        kept, other = at_once.caches.images.get(number), slowly.caches.images.get(number)
        assert (kept is None) == (other is None)
        if kept is not None and other is not None:
            assert bytes(kept.tight()) == bytes(other.tight())
            assert kept.format == other.format
    assert len(at_once.caches.glz) == len(slowly.caches.glz)


def test_large_images_share_the_room_of_those_that_were_drawn() -> None:
    width, height = 260, 256
    pictures = [some_bytes(4 * width * height, seed) for seed in range(4)]
    shown = Screen(0, Caches())
    shown.apply(display.SurfaceCreate(surface_id=0, width=width, height=height, format=32, flags=1))

    def shows(picture: int, type: int, flags: int) -> None:
        stream = quic.encode(pictures[picture], width, height, 4 * width, quic.RGBA)
        body = None if type == 103 else BinaryData(data=stream)
        head = ImageDescriptor(id=7, type=type, flags=flags, width=width, height=height)
        memory = bytearray(framed(drawn(Image(descriptor=head, body=body), 0, 0, 0)))
        shown.apply_batch(memoryview(memory), 0, len(memory), 1)
        memory[:] = b"\xee" * len(memory)  # it was only lent
        for number, job in shown.take_jobs():
            rooms.append(getattr(job, "room", None))
            shown.computed(number, job.run())
        assert bytes(shown.surfaces[0].data) == pictures[picture]

    rooms: list[bytearray | None] = []
    for step in ((0, 1, 1), (1, 1, 0), (0, 103, 0), (2, 1, 0), (0, 103, 0), (3, 1, 0)):
        shows(*step)
    assert [room is not None for room in rooms] == [False, True, True, True]


def test_common_images_need_no_message_object() -> None:
    dictionary = GlzDictionary(4096)
    for type in (0, 1, 101, 102, 103, 105, 107, 109):
        at_once = screen()
        at_once.caches.images.put(7, Pixels(9, 9, 32))
        message = drawn(packed((type, 9, 9, 5, 7, 0), dictionary), 3, 3, 0)

        def slow(number: int, body: bytes) -> int:
            raise AssertionError("the slow way was taken")

        data = framed(message)
        changes = carried_out(batch_module, data, at_once, slow)
        assert changes.pixels == 81
        dictionary.clear()
        dictionary.next_id = 0


@pytest.mark.parametrize("module", SCANS, ids=["imported", "uncompiled"])
def test_a_run_ends_where_something_else_begins(module: Any) -> None:
    passes = bytes(number == 304 for number in range(320))
    one = pack_header(True, 0, 304, 3) + b"abc"
    other = pack_header(True, 0, 4, 0)
    beyond = pack_header(True, 0, 4000, 0)
    huge = pack_header(True, 0, 304, 0xFFFFFFFF)
    for end in (other, beyond, huge, b"", one[:-1], one[:5]):
        assert module.scan(bytearray(b"xx" + one * 3 + end), 2, passes, 100) == (29, 3)
    assert module.scan(bytearray(one), 0, passes, 2) == (0, 0)
    assert module.scan(b"", 0, passes, 2) == (0, 0)


@pytest.mark.parametrize("module", SCANS, ids=["imported", "uncompiled"])
@given(parts=st.lists(st.binary(max_size=40), max_size=8), ahead=st.binary(max_size=5))
def test_the_bodies_of_a_run_are_joined(module: Any, parts: list[bytes], ahead: bytes) -> None:
    data = ahead + b"".join(pack_header(True, 0, 101, len(part)) + part for part in parts)
    passes = bytes(number == 101 for number in range(102))
    end, count = module.scan(bytearray(data), len(ahead), passes, 100)
    assert (end, count) == (len(data), len(parts))
    assert module.bodies(bytearray(data), len(ahead), end, count) == b"".join(parts)


def test_acknowledgements_are_the_same_for_runs_and_single_messages() -> None:
    mark = framed(display.Mark())
    ack = framed(common.SetAck(generation=1, window=3))
    ping = framed(common.Ping(id=1, timestamp=2, data=b""))
    stream = ack + mark * 7 + ping + mark * 2
    at_once = DisplayChannel((2, 0), Framing(2, True))
    slowly = copy.deepcopy(at_once)
    events = at_once.receive(stream, 0.0)
    assert [event.count for event in events if isinstance(event, DisplayBatch)] == [7, 2]
    for byte in stream:
        slowly.receive(bytes([byte]), 0.0)
    assert slowly.serial == at_once.serial == 11
    sent: list[list[bytes]] = []
    for channel in (at_once, slowly):
        sent.append([])
        while data := channel.take():
            sent[-1].append(data)
    assert sent[0] == sent[1]
    answers = Framing(2, True, b"".join(sent[0]))
    numbers = [frame[0] for frame in iter(answers.next, None)]
    assert numbers.count(common.Ack.number) == 3
