"""An X client that draws what the stock programs don't, scene by scene, for tests against Xspice.

Core protocol: fills with all raster operations, stipples, tiles, dashed and wide lines, arcs,
polygons, plane masks, images, copies between windows and pixmaps. Render: every operator, solid
and gradient sources, transforms, filters, repeats, masks with component alpha, glyphs, trapezoids.
"""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING, Any

import pytest
import xcffib
import xcffib.render as xr
import xcffib.xproto as xp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiospice.proof.xspice import Xspice

__all__ = ["SCENES", "Painter", "connect"]

WIDTH, HEIGHT = 480, 360
#: The operators of Render that drivers do (Clear to Saturate).
OPERATORS = range(14)
GC, CW, CP = xp.GC, xp.CW, xr.CP


def _fixed(value: float) -> int:
    return round(value * 65536)


def _list(form: str, items: Iterable[tuple[int, ...]]) -> list[bytes]:
    """Structures, as xcffib takes them."""
    return [struct.pack(form, *item) for item in items]


def _rows(form: str, items: Iterable[tuple[int, ...]]) -> bytes:
    return b"".join(_list(form, items))


def connect(xspice: Xspice) -> xcffib.Connection:
    """A connection to the X server."""
    with pytest.MonkeyPatch.context() as patch:  # xcffib 1.13 frees a given cookie before its use
        patch.setenv("XAUTHORITY", xspice.environment["XAUTHORITY"])
        return xcffib.connect(xspice.display)


class Painter:
    """A window at ``x``, ``y`` of the root, 480x360 pixels; the same calls paint the same."""

    def __init__(self, xspice: Xspice, x: int = 0, y: int = 0) -> None:
        self.connection = connect(xspice)
        self.core = self.connection.core
        self.render = self.connection(xr.key)
        self.render.QueryVersion(0, 11).reply()
        self.screen = self.connection.get_setup().roots[0]
        self.formats = self._formats()
        self.window = self.window_at(x, y, WIDTH, HEIGHT)
        self.gc = self.new_gc(self.window)
        self.picture = self.new_picture(self.window, "x8r8g8b8")
        self.random = random.Random(5)
        self.others: list[int] = []

    def close(self) -> None:
        """Take the window away."""
        self.connection.disconnect()

    def sync(self) -> None:
        """Wait until the server has carried out everything."""
        self.core.GetInputFocus().reply()

    def paint(self, scene: str) -> None:
        """Paint a scene of `SCENES` over the last one."""
        self.random.seed(scene)
        SCENES[scene](self)
        self.sync()

    # -- resources -------------------------------------------------------------------------

    def _formats(self) -> dict[str, int]:
        found = {}
        for item in self.render.QueryPictFormats().reply().formats:
            direct = item.direct
            masks = (direct.alpha_mask, direct.red_mask, direct.red_shift)
            names = {
                (32, 255, 255, 16): "a8r8g8b8",
                (24, 0, 255, 16): "x8r8g8b8",
                (8, 255, 0, 0): "a8",
                (1, 1, 0, 0): "a1",
            }
            name = names.get((item.depth, *masks))
            if name:
                found[name] = item.id
        return found

    def _id(self) -> int:
        number: int = self.connection.generate_id()
        return number

    def window_at(self, x: int, y: int, width: int, height: int, colour: int = 0xFFFFFF) -> int:
        """Map a window without a frame."""
        window = self._id()
        self.core.CreateWindow(
            0,
            window,
            self.screen.root,
            x,
            y,
            width,
            height,
            0,
            xp.WindowClass.InputOutput,
            0,
            CW.BackPixel | CW.OverrideRedirect,
            [colour, 1],
        )
        self.core.MapWindow(window)
        self.sync()
        return window

    def new_gc(self, drawable: int, **values: int) -> int:
        """A graphics context; ``values`` by the names of `xp.GC`, with colours of default."""
        gc = self._id()
        values = {"Foreground": 0, "Background": 0xFFFFFF, "GraphicsExposures": 0, **values}
        self.core.CreateGC(gc, drawable, *self._values(values))
        return gc

    def change(self, **values: int) -> None:
        """Change the context of the window."""
        self.core.ChangeGC(self.gc, *self._values(values))

    def _values(self, values: dict[str, int]) -> tuple[int, list[int]]:
        pairs = sorted((int(getattr(GC, name)), value) for name, value in values.items())
        return sum(bit for bit, _ in pairs), [value for _, value in pairs]

    def fresh(self) -> None:
        """White the window, take others away, and forget what the context was told."""
        for number in self.others:
            self.core.DestroyWindow(number)
        self.others.clear()
        self.core.FreeGC(self.gc)
        self.gc = self.new_gc(self.window)
        self.change(Foreground=0xFFFFFF)
        self.rectangles((0, 0, WIDTH, HEIGHT))
        self.change(Foreground=0)

    def pixmap(self, depth: int, width: int, height: int, data: bytes | None = None) -> int:
        """A pixmap, with rows of ``data`` padded to 32 bits."""
        pixmap = self._id()
        self.core.CreatePixmap(depth, pixmap, self.window, width, height)
        if data is not None:
            gc = self.new_gc(pixmap)
            self.image(pixmap, gc, depth, width, height, data)
            self.core.FreeGC(gc)
        return pixmap

    def image(self, target: int, gc: int, depth: int, width: int, height: int, data: bytes) -> None:
        """Put an image into the corner of a drawable."""
        self.core.PutImage(
            xp.ImageFormat.ZPixmap,
            target,
            gc,
            width,
            height,
            0,
            0,
            0,
            depth,
            len(data),
            data,
        )

    def new_picture(self, drawable: int, format: str, **values: int) -> int:
        """A picture of Render on a drawable; ``values`` by the names of `xr.CP`."""
        picture = self._id()
        pairs = sorted((int(getattr(CP, name)), value) for name, value in values.items())
        mask = sum(bit for bit, _ in pairs)
        given = [value for _, value in pairs]
        self.render.CreatePicture(picture, drawable, self.formats[format], mask, given)
        return picture

    # -- drawing ---------------------------------------------------------------------------

    def rectangles(self, *boxes: tuple[int, int, int, int], target: int = 0, gc: int = 0) -> None:
        """Fill boxes of x, y, width, height."""
        data = _list("<hhHH", boxes)
        self.core.PolyFillRectangle(target or self.window, gc or self.gc, len(boxes), data)

    def lines(self, *points: tuple[int, int]) -> None:
        """Join points."""
        self.core.PolyLine(0, self.window, self.gc, len(points), _list("<hh", points))

    def arcs(self, *arcs: tuple[int, int, int, int, int, int], fill: bool = False) -> None:
        """Arcs of x, y, width, height and two angles in 64ths of a degree."""
        draw = self.core.PolyFillArc if fill else self.core.PolyArc
        draw(self.window, self.gc, len(arcs), _list("<hhHHhh", arcs))

    def polygon(self, *points: tuple[int, int]) -> None:
        """Fill a polygon of any shape."""
        self.core.FillPoly(self.window, self.gc, 0, 0, len(points), _list("<hh", points))

    def colour(self) -> int:
        """Some colour."""
        return self.random.randrange(1 << 24)

    def photo(self, width: int, height: int, alpha: bool = False) -> bytes:
        """Smooth shades with noise, 4 bytes a pixel; premultiplied with ``alpha``."""
        out = bytearray()
        for y in range(height):
            for x in range(width):
                a = (x * 255 // width) if alpha else 255
                noise = self.random.randrange(24)
                shades = (x * 200 // width, y * 200 // height, (x + y) % 200)
                out += bytes((shade + noise) * a // 255 for shade in shades)
                out.append(a)
        return bytes(out)

    def composite(
        self,
        operator: int,
        source: int,
        x: int,
        y: int,
        size: tuple[int, int],
        mask: int = 0,
        origin: tuple[int, int] = (0, 0),
        target: int = 0,
    ) -> None:
        """Lay a picture over the window."""
        self.render.Composite(
            operator, source, mask, target or self.picture, *origin, 0, 0, x, y, *size
        )

    def solid(self, red: int, green: int, blue: int, alpha: int) -> int:
        """A picture of one colour, each of 16 bits, premultiplied."""
        picture = self._id()
        self.render.CreateSolidFill(picture, xr.COLOR.synthetic(red, green, blue, alpha))
        return picture

    def argb(self, width: int, height: int, **values: int) -> int:
        """A picture of 32 bits with all shades of alpha, on a pixmap of its own."""
        data = self.photo(width, height, alpha=True)
        return self.new_picture(self.pixmap(32, width, height, data), "a8r8g8b8", **values)


def fills(p: Painter) -> None:
    """Solid boxes, overlapping, large and small."""
    p.fresh()
    for _ in range(60):
        p.change(Foreground=p.colour())
        x, y = p.random.randrange(WIDTH), p.random.randrange(HEIGHT)
        p.rectangles((x, y, 1 + p.random.randrange(90), 1 + p.random.randrange(70)))


def functions(p: Painter) -> None:
    """The 16 raster operations of the core protocol, over stripes."""
    p.fresh()
    for i in range(16):
        p.change(Function=xp.GX.copy, Foreground=p.colour())
        p.rectangles((0, i * 22, WIDTH, 11))
    for i in range(16):
        p.change(Function=i, Foreground=0x3C96F0, Background=0x108020)
        p.rectangles((i * 30, 0, 24, HEIGHT))


def planes(p: Painter) -> None:
    """Plane masks, and a rubber band by XOR that is drawn twice and once."""
    p.fresh()
    for i, planes in enumerate((0xFF0000, 0x00FF00, 0x0000FF, 0x010101, 0x7F7F7F, 0xF0F00F)):
        p.change(PlaneMask=planes, Foreground=0x2040C0)
        p.rectangles((10 + i * 70, 10, 60, 120))
    p.change(PlaneMask=0xFFFFFFFF, Function=xp.GX.xor, Foreground=0xFFFFFF)
    for box in ((5, 5), (50, 40), (50, 40), (90, 60)):
        x, y = box
        p.lines((x, y), (x + 300, y), (x + 300, y + 200), (x, y + 200), (x, y))


def stipples(p: Painter) -> None:
    """Stipples, opaque and not, tiles, with origins that aren't the corner."""
    p.fresh()
    bits = p.pixmap(1, 9, 7, _rows("<I", [(0x155 << (i & 1) & 0x1FF,) for i in range(7)]))
    tile = p.pixmap(24, 13, 11, p.photo(13, 11))
    p.change(Stipple=bits, Tile=tile, Foreground=0xC00020, Background=0x80FFC0)
    p.change(TileStippleOriginX=3, TileStippleOriginY=5)
    for i, style in enumerate(
        (xp.FillStyle.Stippled, xp.FillStyle.OpaqueStippled, xp.FillStyle.Tiled)
    ):
        p.change(FillStyle=style)
        p.rectangles((10 + i * 150, 10, 130, 140))
        p.arcs((10 + i * 150, 170, 130, 150, 0, 360 * 64), fill=True)


def strokes(p: Painter) -> None:
    """Thin, wide and dashed lines with every cap and join; arcs."""
    p.fresh()
    for i in range(24):
        p.change(
            LineWidth=(0, 1, 2, 5, 9)[i % 5],
            LineStyle=i % 3,
            CapStyle=1 + i % 3,
            JoinStyle=i // 3 % 3,
            Foreground=p.colour(),
            Background=p.colour(),
        )
        p.core.SetDashes(p.gc, i, 3, bytes((3 + i, 5, 2)))
        corners = [(p.random.randrange(WIDTH), p.random.randrange(HEIGHT)) for _ in range(4)]
        p.lines(*corners)
        x, y = corners[0]
        p.arcs((x, y, 90 - i, 20 + 3 * i, i * 900, 4000 + i * 500))


def polygons(p: Painter) -> None:
    """Filled shapes that cross themselves, under both rules, clipped by rectangles."""
    p.fresh()
    clip = [(x, y, 17, 13) for y in range(0, HEIGHT, 20) for x in range(0, WIDTH, 24)]
    p.core.SetClipRectangles(0, p.gc, 0, 0, len(clip), _list("<hhHH", clip))
    for i in range(8):
        p.change(FillRule=i & 1, Foreground=p.colour())
        p.polygon(*((p.random.randrange(WIDTH), p.random.randrange(HEIGHT)) for _ in range(7)))


def text(p: Painter) -> None:
    """Core fonts, with and without a background, in many places."""
    p.fresh()
    for i, name in enumerate(("fixed", "10x20", "9x15bold", "6x10")):
        font = p._id()
        p.core.OpenFont(font, len(name), name)
        for j in range(4):
            p.change(Font=font, Foreground=p.colour(), Background=p.colour())
            words = f"Row {j} of {name}: 0123456789 {{}}[]".encode()
            y = 25 + i * 84 + j * 20
            p.core.ImageText8(len(words), p.window, p.gc, 5 + 3 * j, y, words.decode())
            item = bytes((len(words), 2)) + words
            p.core.PolyText8(p.window, p.gc, 240 + j, y + 3, len(item), item)


def images(p: Painter) -> None:
    """A photo, noise and a flat picture, put again and again so that caches serve."""
    p.fresh()
    photo, flat = p.photo(150, 110), bytes((40, 160, 90, 0)) * 100 * 80
    for i in range(6):
        x, y = 20 * i, 36 * i
        for offset, width, height, data in ((0, 150, 110, photo), (200, 100, 80, flat)):
            p.core.PutImage(2, p.window, p.gc, width, height, x + offset, y, 0, 24, len(data), data)


def copies(p: Painter) -> None:
    """From pixmaps to the window, within the window both ways, and one plane of it."""
    p.fresh()
    pixmap = p.pixmap(24, 160, 120, p.photo(160, 120))
    gc = p.new_gc(pixmap, Foreground=0xFF00FF)
    p.rectangles((10, 10, 30, 30), (100, 60, 50, 40), target=pixmap, gc=gc)
    p.core.CopyArea(pixmap, p.window, p.gc, 0, 0, 10, 10, 160, 120)
    p.core.CopyArea(pixmap, p.window, p.gc, 20, 15, 200, 10, 100, 90)
    other = p.pixmap(24, 160, 120)
    p.core.CopyArea(pixmap, other, p.gc, 0, 0, 0, 0, 160, 120)
    p.core.CopyArea(pixmap, other, p.gc, 0, 0, 40, 30, 100, 70)
    p.core.CopyArea(other, p.window, p.gc, 0, 0, 310, 10, 160, 120)
    for step in (7, -5, 3):  # overlapping, down and up
        p.core.CopyArea(p.window, p.window, p.gc, 5, 5, 5 + step, 5 + step, 300, 140)
    p.core.CopyArea(p.window, p.window, p.gc, 0, 0, 0, 170, WIDTH, 150)
    p.change(Foreground=0x802000, Background=0xE0E0FF)
    p.core.CopyPlane(p.window, p.window, p.gc, 10, 10, 240, 200, 120, 100, 1 << 12)
    for number in (pixmap, other):
        p.core.FreePixmap(number)


def windows(p: Painter) -> None:
    """Windows that are drawn on, moved, raised and taken away again over the picture."""
    fills(p)
    made = [p.window_at(60 * i + 15, 40 * i + 10, 120, 90, p.colour()) for i in range(5)]
    photo = p.photo(50, 40)
    for number in made:
        p.core.PutImage(2, number, p.gc, 50, 40, 20, 20, 0, 24, len(photo), photo)
    p.core.ConfigureWindow(made[0], xp.ConfigWindow.StackMode, [xp.StackMode.Above])
    x_and_y = xp.ConfigWindow.X | xp.ConfigWindow.Y
    for i, number in enumerate(made):
        p.core.ConfigureWindow(number, x_and_y, [30 + 61 * i, 200 - 33 * i])
    for number in made[1::2]:
        p.core.DestroyWindow(number)
    p.others = made[::2]


def operators(p: Painter) -> None:
    """Every operator of Render with a source of 32 bits, with and without a mask."""
    images(p)
    source = p.argb(60, 60)
    shades = bytes((x * 4 + y) & 255 for y in range(60) for x in range(60))
    mask = p.new_picture(p.pixmap(8, 60, 60, shades), "a8")
    for i in OPERATORS:
        x, y = 8 + i % 7 * 67, i // 7 * 150
        p.composite(i, source, x, 5 + y, (60, 60))
        p.composite(i, source, x, 75 + y, (60, 60), mask=mask)


def offscreen(p: Painter) -> None:
    """Operators on a pixmap with alpha, which is then laid over the window."""
    fills(p)
    pixmap = p.pixmap(32, 400, 120, p.photo(400, 120, alpha=True))
    target, source = p.new_picture(pixmap, "a8r8g8b8"), p.argb(50, 100)
    for i in OPERATORS:
        p.composite(i, source, 28 * i, 10, (40, 100), target=target)
    p.composite(xr.PictOp.Over, target, 40, 20, (400, 120))
    p.composite(xr.PictOp.Src, target, 40, 150, (400, 120))
    p.composite(xr.PictOp.Over, target, 40, 280, (400, 70), origin=(10, 20))
    p.render.FreePicture(target)
    p.core.FreePixmap(pixmap)


def transforms(p: Painter) -> None:
    """Sources that are scaled, turned and repeated, with both filters."""
    p.fresh()
    for i, (name, matrix) in enumerate(
        (name, matrix)
        for matrix in ((0.5, 0, 0, 0.5), (1.7, 0, 0, 2.3), (0.8, 0.6, -0.6, 0.8), (0, 1, -1, 0))
        for name in ("nearest", "bilinear")
    ):
        source = p.argb(64, 48, Repeat=i % 4)
        a, b, c, d = map(_fixed, matrix)
        table = (a, b, _fixed(1.5 * i), c, d, 0, 0, 0, 65536)
        p.render.SetPictureTransform(source, xr.TRANSFORM.synthetic(*table))
        p.render.SetPictureFilter(source, len(name), name, 0, [])
        p.composite(xr.PictOp.Over, source, 5 + i % 4 * 118, 5 + i // 4 * 175, (110, 165))
        p.render.FreePicture(source)


def sources(p: Painter) -> None:
    """Solid, linear, radial and conical sources; filled rectangles; masks of one bit."""
    images(p)
    colours = [xr.COLOR.synthetic(*c) for c in ((65535, 0, 0, 65535), (0, 9000, 30000, 30000))]
    stops, point = (0, 65536), xr.POINTFIX.synthetic
    corner, far = point(0, 0), point(_fixed(100), _fixed(80))
    linear, radial, conical = p._id(), p._id(), p._id()
    p.render.CreateLinearGradient(linear, corner, far, 2, stops, colours)
    p.render.CreateRadialGradient(radial, far, far, _fixed(5), _fixed(70), 2, stops, colours)
    p.render.CreateConicalGradient(conical, far, 0, 2, stops, colours)
    rows = [(p.random.getrandbits(32),) * 4 for _ in range(100)]
    bits = p.new_picture(p.pixmap(1, 128, 100, _rows("<4I", rows)), "a1")
    solid = p.solid(0, 30000, 0, 40000)
    for i, source in enumerate((linear, radial, conical, solid)):
        p.composite(xr.PictOp.Over, source, 5 + i * 118, 10, (110, 150))
        p.composite(xr.PictOp.Over, source, 5 + i * 118, 180, (110, 100), mask=bits)
    box = _list("<hhHH", [(20, 290, 200, 50), (260, 300, 190, 40)])
    colour = xr.COLOR.synthetic(20000, 0, 20000, 30000)
    p.render.FillRectangles(xr.PictOp.Over, p.picture, colour, 2, box)


def shapes(p: Painter) -> None:
    """Trapezoids and triangles with soft edges."""
    p.fresh()
    solid = p.solid(0, 0, 50000, 52000)
    form = p.formats["a8"]
    edge = tuple(_fixed(v) for v in (10.3, 150.6, 40, 10, 5.5, 151, 200, 10, 260.2, 151))
    p.render.Trapezoids(3, solid, p.picture, form, 0, 0, 1, [struct.pack("<10i", *edge)])
    triangles = _list(
        "<6i", (tuple(_fixed(p.random.uniform(0, 340)) for _ in range(6)) for _ in "12345")
    )
    p.render.Triangles(3, solid, p.picture, form, 0, 0, 5, triangles)


def glyphs(p: Painter) -> None:
    """Text of Render: glyphs of 8 bits of alpha, and of 32 (one alpha a colour)."""
    p.fresh()
    solid = p.solid(0, 0, 0, 65535)
    for row, (format, size) in enumerate((("a8", 1), ("a8r8g8b8", 4))):
        glyphset = p._id()
        p.render.CreateGlyphSet(glyphset, p.formats[format])
        for number in range(20):
            width, height = 12, 4 + number
            data = bytes(
                (37 * (x + number) + 11 * y) & 255
                for y in range(height)
                for x in range(width * size)
            )
            info = struct.pack("<HHhhhh", width, height, 0, height, width + 1, 0)
            p.render.AddGlyphs(glyphset, 1, [number], [info], len(data), data)
        for line in range(6):
            command = struct.pack("<Bxxxhh", 20, 5 + line, 30 + 26 * line + 160 * row)
            command += bytes((7 * line + i) % 20 for i in range(20))
            p.render.CompositeGlyphs8(3, solid, p.picture, 0, glyphset, 0, 0, len(command), command)


SCENES: dict[str, Any] = {
    function.__name__: function
    for function in (
        fills,
        functions,
        planes,
        stipples,
        strokes,
        polygons,
        text,
        images,
        copies,
        windows,
        operators,
        offscreen,
        transforms,
        sources,
        shapes,
        glyphs,
    )
}
