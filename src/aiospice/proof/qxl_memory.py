"""Draws as a QXL device takes them: messages of the display channel laid into a device's memory.

What a driver writes for spice-server and what spice-server sends to its clients are the same
draws in other clothes, so the one is made from the other here. Layout: spice-protocol
``spice/qxl_dev.h``; an address is an offset in the memory.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from aiospice.errors import LocalError
from aiospice.wire.images import BitmapData, BitmapFlags, BrushType, ImageFlags, SurfaceImage
from aiospice.wire.shapes import ClipType, Rect

if TYPE_CHECKING:
    from aiospice.wire.draw import Path, String
    from aiospice.wire.images import Brush, Image, QMask
    from aiospice.wire.message import Message
    from aiospice.wire.shapes import Clip, Palette, Transform

__all__ = ["QxlMemory"]

#: ``QXL_DRAW_*`` and ``QXL_COPY_BITS`` by the names of messages.
_TYPES = {
    "DrawFill": 1,
    "DrawOpaque": 2,
    "DrawCopy": 3,
    "CopyBits": 4,
    "DrawBlend": 5,
    "DrawBlackness": 6,
    "DrawWhiteness": 7,
    "DrawInvers": 8,
    "DrawRop3": 9,
    "DrawStroke": 10,
    "DrawText": 11,
    "DrawTransparent": 12,
    "DrawAlphaBlend": 13,
    "DrawComposite": 14,
}
_ANY_RECT = struct.pack("<4i", 0, 0, 1 << 14, 1 << 14)
_NO_RECT = struct.pack("<4i", 0, 0, 0, 0)


def _rect(rect: Rect) -> bytes:
    return struct.pack("<4i", rect.top, rect.left, rect.bottom, rect.right)


class QxlMemory:
    """Lays structures into ``view``, one behind the other from ``start`` on; nothing is freed."""

    def __init__(self, view: memoryview, start: int) -> None:
        self.view = view
        self.end = start
        #: Where surfaces have their pixels, and their sizes: id -> address, width, height.
        self.surfaces: dict[int, tuple[int, int, int]] = {}
        self._sources: list[int] = []

    def put(self, *parts: bytes) -> int:
        """Lay bytes down and return their address. `LocalError` when the memory is full."""
        data = b"".join(parts)
        address = (self.end + 7) & ~7
        if address + len(data) > len(self.view):
            raise LocalError(f"the device's memory of {len(self.view)} bytes is full")
        self.view[address : address + len(data)] = data
        self.end = address + len(data)
        return address

    def surface(self, surface_id: int, width: int, height: int, format: int) -> int:
        """Address of an order to create a surface, 4 bytes a pixel, whose memory is zeroed."""
        data = self.put(bytes(4 * width * height))
        self.surfaces[surface_id] = data, width, height
        head = struct.pack("<QIBI", 0, surface_id, 0, 0)
        return self.put(head, struct.pack("<IIIiQ", format, width, height, 4 * width, data))

    def no_surface(self, surface_id: int) -> int:
        """Address of an order to destroy a surface."""
        return self.put(struct.pack("<QIBI24x", 0, surface_id, 1, 0))

    def draw(self, message: Message, *, opaque: bool = False) -> int:
        """Address of the order for a draw.

        ``opaque`` promises that it overwrites the whole box, whatever was there.
        """
        self._sources.clear()
        name = type(message).__name__
        base: Any = message.base  # type: ignore[attr-defined]
        body = getattr(self, f"_{name}")(message)
        head = struct.pack("<QIBBB", 0, base.surface_id, int(opaque), _TYPES[name], 0)
        sources = [*self._sources, -1, -1, -1][:3]
        boxes = b"".join(_ANY_RECT if s >= 0 else _NO_RECT for s in sources)
        parts = (head, _NO_RECT, _rect(base.box), self._clip(base.clip), bytes(4))
        return self.put(*parts, struct.pack("<3i", *sources), boxes, body, bytes(64))

    # -- what draws are made of ------------------------------------------------------------

    def _chunk(self, data: bytes) -> bytes:
        return struct.pack("<IQQ", len(data), 0, 0) + data

    def _clip(self, clip: Clip) -> bytes:
        if clip.type == ClipType.NONE:
            return struct.pack("<IQ", 0, 0)
        rects = self._chunk(b"".join(map(_rect, clip.rects)))
        return struct.pack("<IQ", 1, self.put(struct.pack("<I", len(clip.rects)), rects))

    def _palette(self, palette: Palette | None) -> int:
        if palette is None:
            return 0
        entries = struct.pack(f"<{len(palette.ents)}I", *palette.ents)
        return self.put(struct.pack("<QH", palette.unique, len(palette.ents)), entries)

    def _image(self, image: Image | None) -> int:
        if image is None:
            return 0
        head, body = image.descriptor, image.body
        flags = head.flags & (ImageFlags.CACHE_ME | ImageFlags.HIGH_BITS_SET)
        first = struct.pack("<QBBII", head.id, head.type, flags, head.width, head.height)
        if isinstance(body, SurfaceImage):
            self._sources.append(body.surface_id)
            return self.put(first, struct.pack("<I32x", body.surface_id))
        if not isinstance(body, BitmapData):
            raise LocalError("only bitmaps and surfaces are put into a device's memory")
        palette = self._palette(body.palette)
        data = self.put(self._chunk(body.data))
        top_down = body.flags & BitmapFlags.TOP_DOWN
        fields = (body.format, top_down, body.x, body.y, body.stride, palette, data)
        return self.put(first, struct.pack("<BBIIIQQ", *fields))

    def _brush(self, brush: Brush) -> bytes:
        body: Any = brush.body
        if brush.type == BrushType.SOLID:
            return struct.pack("<II12x", 1, body.color)
        if brush.type == BrushType.PATTERN:
            return struct.pack("<IQii", 2, self._image(body.pat), body.pos.x, body.pos.y)
        return struct.pack("<I16x", 0)

    def _mask(self, mask: QMask) -> bytes:
        at = mask.pos
        return struct.pack("<BiiQ", mask.flags, at.x, at.y, self._image(mask.bitmap))

    def _path(self, path: Path) -> int:
        data = b""
        for part in path.segments:
            data += struct.pack("<II", part.flags, len(part.points))
            data += b"".join(struct.pack("<ii", point.x, point.y) for point in part.points)
        return self.put(struct.pack("<I", len(data)), self._chunk(data))

    def _string(self, string: String) -> int:
        data = b""
        for glyph in string.glyphs:
            at, origin = glyph.render_pos, glyph.glyph_origin
            data += struct.pack("<4i", at.x, at.y, origin.x, origin.y)
            data += struct.pack("<HH", glyph.width, glyph.height) + glyph.data
        head = struct.pack("<IHH", len(data), len(string.glyphs), string.flags)
        return self.put(head, self._chunk(data))

    def _transform(self, matrix: Transform | None) -> int:
        if matrix is None:
            return 0
        first, second = (matrix.t00, matrix.t01, matrix.t02), (matrix.t10, matrix.t11, matrix.t12)
        return self.put(struct.pack("<6I", *first, *second))

    # -- draws -----------------------------------------------------------------------------

    def _DrawFill(self, m: Any) -> bytes:
        brush = self._brush(m.brush)
        return brush + struct.pack("<H", m.rop_descriptor) + self._mask(m.mask)

    def _source(self, m: Any) -> bytes:
        return struct.pack("<Q", self._image(m.src_bitmap)) + _rect(m.src_area)

    def _DrawOpaque(self, m: Any) -> bytes:
        modes = struct.pack("<HB", m.rop_descriptor, m.scale_mode)
        return self._source(m) + self._brush(m.brush) + modes + self._mask(m.mask)

    def _DrawCopy(self, m: Any) -> bytes:
        modes = struct.pack("<HB", m.rop_descriptor, m.scale_mode)
        return self._source(m) + modes + self._mask(m.mask)

    _DrawBlend = _DrawCopy

    def _CopyBits(self, m: Any) -> bytes:
        return struct.pack("<ii", m.src_pos.x, m.src_pos.y)

    def _DrawBlackness(self, m: Any) -> bytes:
        return self._mask(m.mask)

    _DrawWhiteness = _DrawInvers = _DrawBlackness

    def _DrawRop3(self, m: Any) -> bytes:
        modes = struct.pack("<BB", m.rop3, m.scale_mode)
        return self._source(m) + self._brush(m.brush) + modes + self._mask(m.mask)

    def _DrawStroke(self, m: Any) -> bytes:
        style = self.put(struct.pack(f"<{len(m.attr.style)}i", *m.attr.style))
        line = struct.pack("<BBBBiiQ", m.attr.flags, 0, 0, len(m.attr.style), 16, 0, style)
        path = struct.pack("<Q", self._path(m.path))
        return path + line + self._brush(m.brush) + struct.pack("<HH", m.fore_mode, m.back_mode)

    def _DrawText(self, m: Any) -> bytes:
        string = struct.pack("<Q", self._string(m.string)) + _rect(m.back_area)
        brushes = self._brush(m.fore_brush) + self._brush(m.back_brush)
        return string + brushes + struct.pack("<HH", m.fore_mode, m.back_mode)

    def _DrawTransparent(self, m: Any) -> bytes:
        return self._source(m) + struct.pack("<II", m.src_color, m.true_color)

    def _DrawAlphaBlend(self, m: Any) -> bytes:
        return struct.pack("<HB", m.alpha_flags, m.alpha) + self._source(m)

    def _DrawComposite(self, m: Any) -> bytes:
        images = (self._image(m.src_bitmap), self._transform(m.src_transform))
        masks = (self._image(m.mask_bitmap), self._transform(m.mask_transform))
        at = (m.src_origin.x, m.src_origin.y, m.mask_origin.x, m.mask_origin.y)
        return struct.pack("<I4Q4h", m.flags, *images, *masks, *at)
