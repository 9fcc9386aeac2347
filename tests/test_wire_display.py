"""The display channel, by bytes made by hand, laid out as spice-server's marshaller does."""

from __future__ import annotations

from struct import pack

import pytest

from aiospice.errors import DecodeError, LocalError
from aiospice.wire import display, draw, images
from aiospice.wire.registry import find
from aiospice.wire.shapes import (
    NO_CLIP,
    Clip,
    ClipType,
    DisplayBase,
    Palette,
    Point,
    Point16,
    PointFix,
    Rect,
    Transform,
)

BOX = Rect(top=10, left=20, bottom=12, right=24)
BASE = DisplayBase(surface_id=3, box=BOX, clip=NO_CLIP)
BASE_BYTES = pack("<I4iB", 3, 10, 20, 12, 24, 0)
NO_MASK = images.QMask(flags=0, pos=Point(x=0, y=0), bitmap=None)
NO_MASK_BYTES = bytes(13)
#: The fixed part of a copy without rectangles to clip: base, pointer, area, rop, scale, mask.
COPY = len(BASE_BYTES) + 4 + 16 + 2 + 1 + 13


def copy_bytes(image: bytes, after: bytes = b"", base: bytes = BASE_BYTES) -> bytes:
    """A draw_copy of one image, whose bytes follow the fixed part."""
    where = COPY - len(BASE_BYTES) + len(base)
    fixed = base + pack("<I4iHB", where, 0, 0, 2, 4, 8, 0) + NO_MASK_BYTES
    assert len(fixed) == where
    return fixed + image + after


def copy_of(image: images.Image | None, base: DisplayBase = BASE) -> draw.DrawCopy:
    """The message that `copy_bytes` stands for."""
    return draw.DrawCopy(
        base=base,
        src_bitmap=image,
        src_area=Rect(top=0, left=0, bottom=2, right=4),
        rop_descriptor=draw.Ropd.OP_PUT,
        scale_mode=draw.ScaleMode.INTERPOLATE,
        mask=NO_MASK,
    )


def image_of(kind: int, body: object, flags: int = 0) -> images.Image:
    """An image of 4 by 2 pixels."""
    descriptor = images.ImageDescriptor(id=77, type=kind, flags=flags, width=4, height=2)
    return images.Image(descriptor=descriptor, body=body)  # type: ignore[arg-type]


def head(kind: int, flags: int = 0) -> bytes:
    """The descriptor of `image_of`."""
    return pack("<QBBII", 77, kind, flags, 4, 2)


def both_ways(message: draw.DrawCopy, body: bytes) -> None:
    """The bytes are what the message is written as, and are read as the message."""
    assert message.body() == body
    assert draw.DrawCopy.parse(body) == message


def test_a_copy_of_raw_pixels() -> None:
    pixels = bytes(range(32))
    body = copy_bytes(head(0, 1) + pack("<BBIIII", 8, 4, 4, 2, 16, 0) + pixels)
    bitmap = images.BitmapData(
        format=images.BitmapFormat.BIT32,
        flags=images.BitmapFlags.TOP_DOWN,
        x=4,
        y=2,
        stride=16,
        palette_id=None,
        palette=None,
        data=pixels,
    )
    both_ways(copy_of(image_of(0, bitmap, flags=images.ImageFlags.CACHE_ME)), body)


def test_a_copy_with_a_palette_behind_its_pixels() -> None:
    fixed = head(0) + pack("<BBIII", 5, 4, 4, 2, 4)
    where = COPY + len(fixed) + 4 + 8
    body = copy_bytes(fixed + pack("<I", where) + b"abcdefgh", pack("<QH2I", 9, 2, 0, 0xFFFFFF))
    bitmap = images.BitmapData(
        format=images.BitmapFormat.BIT8,
        flags=4,
        x=4,
        y=2,
        stride=4,
        palette_id=None,
        palette=Palette(unique=9, ents=(0, 0xFFFFFF)),
        data=b"abcdefgh",
    )
    both_ways(copy_of(image_of(0, bitmap)), body)


def test_a_copy_with_a_palette_from_the_cache() -> None:
    body = copy_bytes(head(0) + pack("<BBIIIQ", 1, 2, 4, 2, 1, 9) + b"ab")
    bitmap = images.BitmapData(
        format=images.BitmapFormat.BIT1_LE,
        flags=images.BitmapFlags.PAL_FROM_CACHE,
        x=4,
        y=2,
        stride=1,
        palette_id=9,
        palette=None,
        data=b"ab",
    )
    both_ways(copy_of(image_of(0, bitmap)), body)


@pytest.mark.parametrize("kind", [1, 101, 102, 105, 109])
def test_a_copy_of_a_compressed_image(kind: int) -> None:
    body = copy_bytes(head(kind) + pack("<I", 5) + b"bytes")
    both_ways(copy_of(image_of(kind, images.BinaryData(data=b"bytes"))), body)


def test_a_copy_of_an_lz_image_with_a_palette() -> None:
    fixed = head(100) + pack("<BI", 0, 3)
    where = COPY + len(fixed) + 4 + 3
    body = copy_bytes(fixed + pack("<I", where) + b"lzp", pack("<QH1I", 5, 1, 6))
    lz = images.LzPltData(
        flags=0, palette_id=None, palette=Palette(unique=5, ents=(6,)), data=b"lzp"
    )
    both_ways(copy_of(image_of(100, lz)), body)


def test_an_lz_image_without_its_palette_is_refused() -> None:
    with pytest.raises(DecodeError, match="must not be 0") as caught:
        draw.DrawCopy.parse(copy_bytes(head(100) + pack("<BII", 0, 3, 0) + b"lzp"))
    assert caught.value.field == "src_bitmap.body.palette"


def test_copies_of_deflated_and_alpha_images() -> None:
    zlib = images.ZlibGlzData(glz_data_size=1000, data=b"zz")
    both_ways(copy_of(image_of(107, zlib)), copy_bytes(head(107) + pack("<II", 1000, 2) + b"zz"))
    jpeg = images.JpegAlphaData(flags=1, jpeg_size=2, data=b"jjaa")
    both_ways(copy_of(image_of(108, jpeg)), copy_bytes(head(108) + pack("<BII", 1, 2, 4) + b"jjaa"))


@pytest.mark.parametrize("kind", [103, 106])
def test_a_copy_from_the_cache_has_a_descriptor_only(kind: int) -> None:
    both_ways(copy_of(image_of(kind, None)), copy_bytes(head(kind)))


def test_a_copy_of_a_surface() -> None:
    surface = images.SurfaceImage(surface_id=12)
    both_ways(copy_of(image_of(104, surface)), copy_bytes(head(104) + pack("<I", 12)))


def test_a_copy_clipped_by_rectangles() -> None:
    rects = (Rect(top=1, left=2, bottom=3, right=4), Rect(top=-5, left=-6, bottom=7, right=8))
    base = DisplayBase(surface_id=3, box=BOX, clip=Clip(type=ClipType.RECTS, rects=rects))
    start = BASE_BYTES[:-1] + pack("<BI8i", 1, 2, 1, 2, 3, 4, -5, -6, 7, 8)
    body = copy_bytes(head(103), base=start)
    both_ways(copy_of(image_of(103, None), base=base), body)


@pytest.mark.parametrize("kind", [2, 3, 99, 110, 255])
def test_an_image_type_that_nobody_knows_is_refused(kind: int) -> None:
    with pytest.raises(DecodeError, match=f"{kind} is not a known kind") as caught:
        draw.DrawCopy.parse(copy_bytes(head(kind)))
    assert caught.value.field == "src_bitmap.body"
    with pytest.raises(LocalError, match="not a known kind"):
        copy_of(image_of(kind, None)).body()


@pytest.mark.parametrize(("stride", "rows"), [(16, 3), (0xFFFFFFFF, 0xFFFFFFFF), (33, 1)])
def test_pixels_that_are_not_there_are_refused(stride: int, rows: int) -> None:
    body = copy_bytes(head(0) + pack("<BBIIII", 8, 4, 4, rows, stride, 0) + bytes(32))
    with pytest.raises(DecodeError, match=f"needs {stride * rows} bytes, 32 are left") as caught:
        draw.DrawCopy.parse(body)
    assert caught.value.field == "src_bitmap.body.data"


def test_pixels_that_do_not_match_stride_and_rows_are_not_written() -> None:
    bitmap = images.BitmapData(
        format=8, flags=0, x=4, y=2, stride=16, palette_id=None, palette=None, data=b"few"
    )
    with pytest.raises(LocalError, match="takes 32 bytes, got 3"):
        copy_of(image_of(0, bitmap)).body()


def test_a_pointer_outside_the_body_is_refused() -> None:
    body = bytearray(copy_bytes(head(103)))
    body[len(BASE_BYTES) : len(BASE_BYTES) + 4] = pack("<I", len(body) + 1)
    with pytest.raises(DecodeError, match="outside") as caught:
        draw.DrawCopy.parse(body)
    assert (caught.value.field, caught.value.offset) == ("src_bitmap", len(BASE_BYTES))


@pytest.mark.parametrize("count", [65537, 0xFFFFFFFF])
def test_a_clip_of_too_many_rectangles_is_refused(count: int) -> None:
    body = pack("<IBI", 0, 1, count)
    with pytest.raises(DecodeError, match="above the limit of 65536") as caught:
        display.StreamClip.parse(body)
    assert caught.value.field == "clip.num_rects"


def test_a_palette_of_more_than_256_colours_is_refused() -> None:
    fixed = head(0) + pack("<BBIII", 5, 4, 4, 2, 4)
    where = COPY + len(fixed) + 4 + 8
    body = copy_bytes(fixed + pack("<I", where) + bytes(8), pack("<QH", 9, 257) + bytes(4 * 257))
    with pytest.raises(DecodeError, match="257 is above the limit of 256"):
        draw.DrawCopy.parse(body)


def test_a_fill_with_one_colour_and_a_mask() -> None:
    mask_at = len(BASE_BYTES) + 5 + 2 + 13
    body = BASE_BYTES + pack("<BIHBiiI", 1, 0xFF8000, 8, 1, -2, 7, mask_at)
    body += pack("<QBBII", 77, 104, 0, 4, 2) + pack("<I", 12)
    message = draw.DrawFill(
        base=BASE,
        brush=images.Brush(type=1, body=images.SolidColor(color=0xFF8000)),
        rop_descriptor=8,
        mask=images.QMask(
            flags=1,
            pos=Point(x=-2, y=7),
            bitmap=image_of(104, images.SurfaceImage(surface_id=12)),
        ),
    )
    assert message.body() == body
    assert draw.DrawFill.parse(body) == message


def test_a_fill_with_a_pattern_and_with_no_brush() -> None:
    pattern_at = len(BASE_BYTES) + 1 + 12 + 2 + 13
    body = BASE_BYTES + pack("<BIiiH", 2, pattern_at, 1, 2, 8) + NO_MASK_BYTES + head(103)
    message = draw.DrawFill(
        base=BASE,
        brush=images.Brush(
            type=2, body=images.Pattern(pat=image_of(103, None), pos=Point(x=1, y=2))
        ),
        rop_descriptor=8,
        mask=NO_MASK,
    )
    assert message.body() == body
    assert draw.DrawFill.parse(body) == message
    nothing = draw.DrawFill.parse(BASE_BYTES + pack("<BH", 0, 128) + NO_MASK_BYTES)
    assert nothing.brush == images.Brush(type=0, body=None)
    with pytest.raises(DecodeError, match="3 is not a known kind"):
        draw.DrawFill.parse(BASE_BYTES + pack("<BH", 3, 128) + NO_MASK_BYTES)


def test_a_stroke_has_its_path_before_its_dashes() -> None:
    fixed = len(BASE_BYTES) + 4 + 1 + 1 + 4 + 5 + 4
    path = pack("<I", 2) + pack("<BI4i", 1, 2, 16, 32, -16, -32) + pack("<BI", 2, 0)
    body = BASE_BYTES + pack("<IBBI", fixed, 8, 2, fixed + len(path)) + pack("<BIHH", 1, 9, 8, 8)
    body += path + pack("<2i", 48, -1)
    points = (PointFix(x=16, y=32), PointFix(x=-16, y=-32))
    message = draw.DrawStroke(
        base=BASE,
        path=draw.Path(
            segments=(
                draw.PathSegment(flags=draw.PathFlags.BEGIN, points=points),
                draw.PathSegment(flags=draw.PathFlags.END, points=()),
            )
        ),
        attr=draw.LineAttr(flags=draw.LineFlags.STYLED, style=(48, -1)),
        brush=images.Brush(type=1, body=images.SolidColor(color=9)),
        fore_mode=8,
        back_mode=8,
    )
    assert message.body() == body
    assert draw.DrawStroke.parse(body) == message


@pytest.mark.parametrize(
    ("flag", "kind", "size"), [(1, draw.GlyphA1, 4), (2, draw.GlyphA4, 10), (4, draw.GlyphA8, 18)]
)
def test_text_has_glyphs_whose_rows_are_whole_bytes(
    flag: int, kind: type[draw.GlyphA1], size: int
) -> None:
    fixed = len(BASE_BYTES) + 4 + 16 + 5 + 1 + 4
    body = BASE_BYTES + pack("<I4iBIBHH", fixed, 0, 0, 0, 0, 1, 9, 0, 8, 8)
    glyph = pack("<4iHH", 1, 2, 3, 4, 9, 2) + bytes(range(size))
    body += pack("<HB", 2, flag | 8) + glyph + glyph
    text = draw.DrawText.parse(body)
    expected = kind(
        render_pos=Point(x=1, y=2),
        glyph_origin=Point(x=3, y=4),
        width=9,
        height=2,
        data=bytes(range(size)),
    )
    assert text.string == draw.String(flags=flag | 8, glyphs=(expected, expected))
    assert text.body() == body


def test_glyphs_of_another_kind_than_the_flags_say_are_not_written() -> None:
    glyph = draw.GlyphA8(
        render_pos=Point(x=0, y=0), glyph_origin=Point(x=0, y=0), width=0, height=0, data=b""
    )
    brush = images.Brush(type=0, body=None)
    for flags, said in ((1, "takes GlyphA1"), (8, "takes nothing")):
        text = draw.DrawText(
            base=BASE,
            string=draw.String(flags=flags, glyphs=(glyph,)),
            back_area=BOX,
            fore_brush=brush,
            back_brush=brush,
            fore_mode=0,
            back_mode=0,
        )
        with pytest.raises(LocalError, match=said):
            text.body()


def test_a_composite_has_what_its_flags_say() -> None:
    flags = draw.CompositeFlags.HAS_SRC_TRANSFORM | 3
    fixed = len(BASE_BYTES) + 4 + 4 + 24 + 8
    body = BASE_BYTES + pack("<II6I4h", flags, fixed, 1, 2, 3, 4, 5, 6, -1, 2, 3, -4) + head(103)
    message = draw.DrawComposite(
        base=BASE,
        flags=flags,
        src_bitmap=image_of(103, None),
        mask_bitmap=None,
        src_transform=Transform(t00=1, t01=2, t02=3, t10=4, t11=5, t12=6),
        mask_transform=None,
        src_origin=Point16(x=-1, y=2),
        mask_origin=Point16(x=3, y=-4),
    )
    assert message.body() == body
    assert draw.DrawComposite.parse(body) == message
    assert "flags=OP0|OP1|HAS_SRC_TRANSFORM" in repr(message)


def test_a_stream_is_created_by_51_bytes() -> None:
    body = pack("<IIBBQIIII4iB", 0, 5, 1, 1, 0, 640, 480, 640, 480, 0, 0, 480, 640, 0)
    stream = display.StreamCreate.parse(body)
    assert len(body) == 51
    assert stream.codec_type == display.VideoCodecType.MJPEG
    assert (stream.dest.width, stream.dest.height) == (640, 480)
    assert stream.body() == body


def test_a_sized_frame_has_a_place() -> None:
    body = pack("<IIII4iI", 5, 1000, 64, 48, 0, 0, 48, 64, 4) + b"jpeg"
    frame = display.StreamDataSized.parse(body)
    assert (frame.width, frame.height, frame.data) == (64, 48, b"jpeg")
    assert frame.body() == body


def test_the_scanout_has_no_place_for_its_file_descriptor() -> None:
    message = display.GlScanoutUnix.parse(pack("<5I", 640, 480, 2560, 0x34325258, 1))
    assert (message.width, message.stride, message.flags) == (640, 2560, 1)
    assert len(message.body()) == 20


def test_the_client_announces_its_caches_in_14_bytes() -> None:
    message = display.Init(
        pixmap_cache_id=1,
        pixmap_cache_size=20 << 20,
        glz_dictionary_id=2,
        glz_dictionary_window_size=-1,
    )
    assert message.body() == pack("<BqBi", 1, 20 << 20, 2, -1)


def test_monitors_and_codecs_are_lists() -> None:
    body = pack("<HH", 1, 4) + pack("<7I", 0, 0, 800, 600, 0, 0, 0)
    config = display.MonitorsConfig.parse(body)
    assert (config.max_allowed, config.heads[0].width) == (4, 800)
    assert config.body() == body
    codecs = display.PreferredVideoCodecType(codecs=(display.VideoCodecType.VP8, 1))
    assert codecs.body() == b"\x02\x02\x01"


def test_every_number_of_the_channel_has_its_name() -> None:
    expected = {
        302: "DrawFill",
        303: "DrawOpaque",
        304: "DrawCopy",
        305: "DrawBlend",
        306: "DrawBlackness",
        307: "DrawWhiteness",
        308: "DrawInvers",
        309: "DrawRop3",
        310: "DrawStroke",
        311: "DrawText",
        312: "DrawTransparent",
        313: "DrawAlphaBlend",
        314: "SurfaceCreate",
        315: "SurfaceDestroy",
        316: "StreamDataSized",
        317: "MonitorsConfig",
        318: "DrawComposite",
        319: "StreamActivateReport",
        320: "GlScanoutUnix",
        321: "GlDraw",
        322: "QualityIndicator",
    }
    found = {number: find(2, "server", number) for number in range(127, 400)}
    assert {number: kind.__name__ for number, kind in found.items() if kind} == expected
