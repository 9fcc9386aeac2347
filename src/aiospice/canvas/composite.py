"""DRAW_COMPOSITE: an image, a mask and a surface put together by one of pixman's operators.

Pixels are arrays ``(rows, columns, 4)`` of blue, green, red and alpha: bytes, as uint32, for the
operators that pixman computes so, float32 from 0 to 1 for those that divide. Facts: pixman
``pixman-combine32.c``, ``pixman-combine-float.c``, ``pixman-bits-image.c``, ``pixman-utils.c``;
``canvas_draw_composite`` in spice-common ``common/canvas_base.c``. The order of the arithmetic is
pixman's, as rounding shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.canvas import raster
from aiospice.canvas.pixels import A8, ARGB, BYTES, RGB555, RGB565, XRGB, Pixels
from aiospice.canvas.straight import copied, straight
from aiospice.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiospice.canvas.region import Box

__all__ = ["OPERATORS", "Source", "composite"]

#: An affine matrix of 16.16 fixed point, two rows of three.
Matrix = tuple[tuple[int, int, int], tuple[int, int, int]]
_IDENTITY: Matrix = ((1 << 16, 0, 0), (0, 1 << 16, 0))

# ``PIXMAN_FILTER_*`` and ``PIXMAN_REPEAT_*``.
_FAST, _GOOD, _BEST, _NEAREST, _BILINEAR = range(5)
_NONE, _NORMAL, _PAD, _REFLECT = range(4)
_HALF = 1 << 15
#: Pixels that are computed at a time; each takes about 300 bytes meanwhile.
_STRIP = 1 << 15

#: Operators that exist: the plain ones, disjoint, conjoint, and those of PDF.
OPERATORS = frozenset((*range(14), *range(0x10, 0x1C), *range(0x20, 0x2C), *range(0x30, 0x3F)))
_SATURATE = 13
# Disjoint and conjoint operators that are the plain ones, whatever the alphas.
_SAME = frozenset((0x10, 0x11, 0x12, 0x20, 0x21, 0x22))
# What pixman takes for a source that is opaque (those whose rounding or fourth bytes differ).
_ON_OPAQUE = {3: 1, _SATURATE: 4}
# Operators that change the fourth bytes of a surface without alpha as if they were alpha; the
# others make them 0 (``op_flags`` in ``pixman-general.c``, ``pixman-noop.c``).
_IN_PLACE = frozenset((0, 1, 2, 3, 6, 8, 12))
_OPAQUE = frozenset((XRGB, RGB555, RGB565))
_DODGE, _BURN, _SOFT, _HSL = 0x35, 0x36, 0x38, (0x3B, 0x3C, 0x3D, 0x3E)
_DIVIDING = frozenset((_SATURATE, *range(0x10, 0x2C), _DODGE, _BURN, _SOFT, *_HSL))


def _with_alpha(surface: Pixels) -> Pixels:
    """The same pixels, their fourth bytes taken for alpha."""
    data, offset, stride = surface.data, surface.offset, surface.stride
    return Pixels(surface.width, surface.height, ARGB, data, offset, stride)


def _bare(source: Source, *, inside: bool) -> Source:
    """The source with its fourth bytes, if pixman copies them when it turns or scales it."""
    (xx, xy, _), (yx, yy, _) = source.matrix
    scaled = xy == yx == 0 and xx > 0 and source.matrix != _IDENTITY
    turned = xx == yy == 0 and abs(xy) == abs(yx) == 1 << 16 and xy == -yx
    if not (inside and turned) and not (scaled and (inside or source.repeat != _REFLECT)):
        return source
    image = _with_alpha(source.image)
    filter = _GOOD if source.smooth else _NEAREST
    return Source(image, source.origin, filter=filter, repeat=source.repeat, matrix=source.matrix)


class Source:
    """An image to be sampled: how it lies, what is between its pixels and beyond its edges.

    ``filter`` and ``repeat`` are numbers of pixman's; ``origin`` is what lies at the corner of the
    box that is drawn, before ``matrix`` is applied. Raises `RemoteProtocolError` for a filter
    that needs parameters, which no message has.
    """

    def __init__(
        self,
        image: Pixels,
        origin: tuple[int, int],
        *,
        filter: int = _NEAREST,
        repeat: int = _NONE,
        matrix: Matrix | None = None,
    ) -> None:
        if filter > _BILINEAR:
            raise RemoteProtocolError(f"{filter} is not a filter of a composite draw")
        self.image = image
        self.origin = origin
        self.repeat = repeat
        self.matrix = matrix or _IDENTITY
        self.smooth = filter in (_GOOD, _BEST, _BILINEAR)


def composite(
    surface: Pixels,
    box: Box,
    corner: tuple[int, int],
    operator: int,
    source: Source,
    mask: Source | None = None,
    *,
    component_alpha: bool = False,
    whole: Box | None = None,
) -> None:
    """Put a source, through a mask, together with a box of a surface, which lies inside of it.

    ``corner`` is where on the surface the origins of source and mask are; ``whole`` the box of all
    that one draw puts there (None: this box), which begins there. Without ``component_alpha`` only
    the mask's alpha counts. On a surface without alpha the fourth bytes change as pixman changes
    them: later draws may take them for alpha. Raises `RemoteProtocolError` for an operator
    that doesn't exist. Source and mask must not be the surface's own data.
    """
    if operator not in OPERATORS:
        raise RemoteProtocolError(f"{operator} is not an operator of a composite draw")
    left, top, right, bottom = whole or box
    drawn = (left - corner[0], top - corner[1], right - corner[0], bottom - corner[1])
    tiles = mask is None and source.repeat == _NORMAL
    if mask is not None and mask.image.format in _OPAQUE and mask.repeat and not component_alpha:
        mask = None  # opaque wherever it is asked
    component_alpha = component_alpha and mask is not None
    operator = _plainer(operator, source, mask, drawn, component_alpha)
    left, top, right, bottom = box
    if operator == 1 and mask is None and source.image.format == surface.format == XRGB:
        inside = _inside(source, drawn)
        if (inside or tiles) and copied(surface, box, corner, source):
            return
        source = _bare(source, inside=inside)
    if surface.format == XRGB and operator in _IN_PLACE:
        surface = _with_alpha(surface)
    if straight(surface, box, corner, operator, source, mask, each=component_alpha):
        return
    wide = operator in _DIVIDING
    combine = _combined_floats if wide else _combined_bytes
    begin = top
    if operator in _HSL and mask is not None and _skips(source):
        begin = max(0, (whole or box)[1])
    for y, one, other in _inputs(source, mask, (left, begin, right, bottom), corner, wide):
        over = max(0, top - y)  # rows that others below them need, but that aren't drawn
        if over >= len(one):
            continue
        strip = (left, y + over, right, y + len(one))
        part = surface.view(strip)
        through = None if other is None else other[over:]
        new = combine(operator, one[over:], through, _colours(part, wide), component_alpha)
        raster.blit(surface, [strip], _stored(new, part, wide), left, strip[1])


def _inputs(
    source: Source, mask: Source | None, box: Box, corner: tuple[int, int], wide: bool
) -> Iterator[tuple[int, Any, Any]]:
    """Source and mask of some rows at a time, and where these begin on the surface.

    As pixman leaves a source of floats that it turns, scales or reflects: where there is nothing of
    the mask it doesn't fetch it, and the row above still stands (which only HSL operators show).
    """
    import numpy as np

    left, top, right, bottom = box
    width = right - left
    rows = max(1, _STRIP // width)
    above = np.zeros((1, width, 4), np.float32)
    for y in range(top, bottom, rows):
        place = (left - corner[0], y - corner[1], width, min(rows, bottom - y))
        one = _fetched(source, place, wide)
        other = None if mask is None else _fetched(mask, place, wide)
        if wide and other is not None and _skips(source):
            from_row = np.arange(1, len(one) + 1)[:, None] * other.any(-1)
            from_row = np.maximum.accumulate(from_row, axis=0)
            one = np.concatenate([above, one])[from_row, np.arange(width)]
            above = one[-1:]
        yield y, one, other


def _skips(source: Source) -> bool:
    """Tell whether pixman fetches the source in a way that passes over what the mask hides."""
    plain = source.matrix == _IDENTITY and source.repeat in (_NONE, _NORMAL)
    solid = source.image.width == source.image.height == 1 and source.repeat != _NONE
    return not (plain or solid)


def _plainer(
    operator: int, source: Source, mask: Source | None, drawn: Box, component_alpha: bool
) -> int:
    """The operator that pixman takes instead (``pixman.c``), whose rounding may be another.

    ``drawn`` is counted from the origins of source and mask.
    """
    if operator in _SAME:
        return operator & 15
    opaque = _ON_OPAQUE.get(operator)
    if opaque is not None and not component_alpha:
        inputs = [source] if mask is None else [source, mask]
        if all(
            one.image.format in _OPAQUE and (one.repeat or _inside(one, drawn)) for one in inputs
        ):
            return opaque
    return operator


def _inside(source: Source, drawn: Box) -> bool:
    """Tell whether pixman sees that nothing beyond the edges of the image is needed for the box."""
    left, top, right, bottom = drawn
    (xx, xy, x0), (yx, yy, y0) = source.matrix
    whole = {xx, xy, yx, yy} <= {-1 << 16, 0, 1 << 16} and not (x0 | y0) & 0xFFFF
    reach = _HALF if source.smooth and not whole else 0
    for across in (left, right - 1):
        for down in (top, bottom - 1):
            begin = (source.origin[0] + across) * 65536 + _HALF
            other = (source.origin[1] + down) * 65536 + _HALF
            x, y = _row(xx, xy, x0, begin, other), _row(yx, yy, y0, begin, other)
            if not (reach < x and x + reach < source.image.width << 16):
                return False
            if not (reach < y and y + reach < source.image.height << 16):
                return False
    return True


# Pixels to arrays and back


def _colours(image: Pixels, wide: bool) -> Any:
    """All pixels: what isn't there of colours is 0, of alpha full."""
    import numpy as np

    format = image.format
    full = image.converted(XRGB)
    data = np.frombuffer(full.tight(), np.uint8).reshape(image.height, image.width, 4)
    pixels = data.astype(np.uint32)
    if format in (XRGB, RGB555, RGB565):
        pixels[..., 3] = 255
    return _floats(pixels, format) if wide else pixels


def _floats(pixels: Any, format: int) -> Any:
    """Bytes as parts of one: of what they were before they were widened to bytes."""
    import numpy as np

    one = np.float32(1)
    if format not in (RGB555, RGB565):
        return pixels.astype(np.float32) * (one / np.float32(255))
    floats = np.ones(pixels.shape, np.float32)
    for place, bits in enumerate((5, 6 if format == RGB565 else 5, 5)):
        part = (pixels[..., place] >> (8 - bits)).astype(np.float32)
        floats[..., place] = part * (one / np.float32((1 << bits) - 1))
    return floats


def _stored(pixels: Any, part: Pixels, wide: bool) -> Pixels:
    import numpy as np

    if wide:
        whole = (np.clip(pixels, 0, 1) * np.float32(256)).astype(np.uint32)
        pixels = whole - (whole >> 8)
    if part.format == XRGB:
        pixels[..., 3] = 0
    data = pixels.astype(np.uint8).tobytes()
    format = ARGB if part.format in (ARGB, A8) else XRGB
    return Pixels(part.width, part.height, format, data).converted(part.format)


def _fetched(source: Source, place: tuple[int, int, int, int], wide: bool) -> Any:
    """The source's pixels for a box: its left, top, width and height, counted from the origin."""
    import numpy as np

    left, top, width, height = place
    (xx, xy, x0), (yx, yy, y0) = source.matrix
    # Centres of the first pixels of all rows, rounded as each row's beginning is; then steps.
    begin = (source.origin[0] + left) * 65536 + _HALF
    downs = [(source.origin[1] + top + row) * 65536 + _HALF for row in range(height)]
    starts_x = np.array([_row(xx, xy, x0, begin, down) for down in downs], np.int64)
    starts_y = np.array([_row(yx, yy, y0, begin, down) for down in downs], np.int64)
    steps = np.arange(width, dtype=np.int64)
    at_x = starts_x[:, None] + steps * xx
    at_y = starts_y[:, None] + steps * yx
    if not source.smooth:
        return _picked(source, (at_x - 1) >> 16, (at_y - 1) >> 16, wide)
    at_x -= _HALF
    at_y -= _HALF
    return _mixed(source, at_x, at_y, wide)


def _row(one: int, other: int, shift: int, x: int, y: int) -> int:
    return (one * x + other * y + shift * 65536 + _HALF) >> 16


def _picked(source: Source, x: Any, y: Any, wide: bool) -> Any:
    """Pixels by place, an array of as many; beyond the edges what the source's ``repeat`` says."""
    import numpy as np

    image, repeat = source.image, source.repeat
    width, height, size = image.width, image.height, BYTES[image.format]
    raw = np.ndarray(
        (height, width, size), np.uint8, image.data, image.offset, (image.stride, size, 1)
    )
    if repeat == _NONE:
        data = raw[y.clip(0, height - 1), x.clip(0, width - 1)]
    else:
        data = raw[_repeated(y, height, repeat), _repeated(x, width, repeat)]
    found = _colours(Pixels(x.shape[1], x.shape[0], image.format, data.tobytes()), wide)
    if repeat == _NONE:
        found[(x < 0) | (y < 0) | (x >= width) | (y >= height)] = 0
    return found


def _repeated(place: Any, size: int, repeat: int) -> Any:
    import numpy as np

    if repeat == _PAD:
        return place.clip(0, size - 1)
    if repeat == _NORMAL:
        return place % size
    place = place % (2 * size)
    return np.where(place >= size, 2 * size - 1 - place, place)


def _mixed(source: Source, x: Any, y: Any, wide: bool) -> Any:
    """What lies between four pixels, by how near each is."""
    import numpy as np

    one_x, one_y = x >> 16, y >> 16
    corners = [
        _picked(source, one_x + over, one_y + down, wide) for down in (0, 1) for over in (0, 1)
    ]
    if wide:
        part_x = ((x & 0xFFFF).astype(np.float32) * np.float32(1 / 65536))[..., None]
        part_y = ((y & 0xFFFF).astype(np.float32) * np.float32(1 / 65536))[..., None]
        one = np.float32(1)
        weights = [(one - part_x) * (one - part_y), part_x * (one - part_y)]
        weights += [(one - part_x) * part_y, part_x * part_y]
        total = corners[0] * weights[0] + corners[1] * weights[1]
        return total + corners[2] * weights[2] + corners[3] * weights[3]
    part_x = ((x >> 9 & 127) << 1).astype(np.uint32)[..., None]
    part_y = ((y >> 9 & 127) << 1).astype(np.uint32)[..., None]
    both = part_x * part_y
    total = corners[0] * (65536 - (part_x << 8) - (part_y << 8) + both)
    total += corners[1] * ((part_x << 8) - both)
    total += corners[2] * ((part_y << 8) - both)
    total += corners[3] * both
    return total >> 16


# Operators on bytes


def _times(one: Any, other: Any) -> Any:
    product = one * other + 128
    return (product + (product >> 8)) >> 8


def _plus(one: Any, other: Any) -> Any:
    import numpy as np

    return np.minimum(one + other, 255)


def _masked(source: Any, mask: Any | None, component_alpha: bool, times: Any) -> tuple[Any, Any]:
    """The source through its mask, and the alpha of each of its channels."""
    alpha = source[..., 3:]
    if mask is None:
        return source, alpha
    if component_alpha:
        return times(source, mask), times(mask, alpha)
    source = times(source, mask[..., 3:])
    return source, source[..., 3:]


def _combined_bytes(operator: int, source: Any, mask: Any, old: Any, component_alpha: bool) -> Any:
    source, alpha = _masked(source, mask, component_alpha, _times)
    below = old[..., 3:]
    if operator >= 0x30:
        return _pdf_bytes(operator, source, alpha, old)
    # What is taken of the source, and of what is there.
    shares: dict[int, tuple[Any, Any]] = {
        0: (None, None),
        1: (255, None),
        2: (None, 255),
        3: (255, 255 - alpha),
        4: (255 - below, 255),
        5: (below, None),
        6: (None, alpha),
        7: (255 - below, None),
        8: (None, 255 - alpha),
        9: (below, 255 - alpha),
        10: (255 - below, alpha),
        11: (255 - below, 255 - alpha),
        12: (255, 255),
    }
    one, other = shares[operator]
    return _plus(_share(source, one), _share(old, other))


def _share(pixels: Any, part: Any) -> Any:
    if part is None:
        return pixels * 0
    return pixels if isinstance(part, int) else _times(pixels, part)


def _pdf_bytes(operator: int, source: Any, alpha: Any, old: Any) -> Any:
    import numpy as np

    below = old[..., 3:]
    if operator == 0x30:
        around = _plus(_times(source, 255 - below), _times(old, 255 - alpha))
        return _plus(around, _times(old, source))
    s, sa, d, da = (one.astype(np.int64) for one in (source, alpha, old, below))
    total = (255 - sa) * d + (255 - da) * s + _pdf_mix(operator, s, sa, d, da)
    full = s[..., 3:]
    total[..., 3:] = da * 255 + full * 255 - full * da
    total = total.clip(0, 255 * 255) + 128
    return ((total + (total >> 8)) >> 8).astype(np.uint32)


def _pdf_mix(operator: int, s: Any, sa: Any, d: Any, da: Any) -> Any:
    """What two colours make of each other where both are, times both alphas."""
    import numpy as np

    if operator == 0x31:  # screen
        return s * da + d * sa - s * d
    if operator in (0x32, 0x37):  # overlay, hard light
        dark = 2 * d < da if operator == 0x32 else 2 * s < sa
        return np.where(dark, 2 * s * d, sa * da - 2 * (da - d) * (sa - s))
    if operator == 0x33:
        return np.minimum(s * da, d * sa)
    if operator == 0x34:
        return np.maximum(s * da, d * sa)
    if operator == 0x39:
        return np.abs(s * da - d * sa)
    return s * da + d * sa - 2 * d * s  # exclusion


# Operators on floats


def _zero(value: Any) -> Any:
    import numpy as np

    return np.abs(value) < np.finfo(np.float32).tiny


def _combined_floats(operator: int, source: Any, mask: Any, old: Any, component_alpha: bool) -> Any:
    import numpy as np

    if operator in _HSL and mask is not None:
        mask = _hsl_mask(mask)
    source, alpha = _masked(source, mask, component_alpha or operator in _HSL, np.multiply)
    with np.errstate(all="ignore"):
        if operator in _HSL:
            return old if component_alpha else _hsl(operator, source, old)
        if operator >= 0x30:
            return _pdf_floats(operator, source, alpha, old)
        one, other = _shares(operator)
        below = old[..., 3:]
        # The alpha channel's own alpha is the source's.
        alphas = np.broadcast_to(alpha, source.shape).copy()
        alphas[..., 3] = source[..., 3]
        part = _factor(one, alphas, below)
        rest = _factor(other, alphas, below)
        return np.minimum(np.float32(1), source * part + old * rest)


_ZERO, _ONE = "0", "1"
_DISJOINT = (
    (_ZERO, _ZERO),
    (_ONE, _ZERO),
    (_ZERO, _ONE),
    (_ONE, "(1-s)/d"),
    ("(1-d)/s", _ONE),
    ("1-(1-d)/s", _ZERO),
    (_ZERO, "1-(1-s)/d"),
    ("(1-d)/s", _ZERO),
    (_ZERO, "(1-s)/d"),
    ("1-(1-d)/s", "(1-s)/d"),
    ("(1-d)/s", "1-(1-s)/d"),
    ("(1-d)/s", "(1-s)/d"),
)
_CONJOINT = (
    (_ZERO, _ZERO),
    (_ONE, _ZERO),
    (_ZERO, _ONE),
    (_ONE, "1-s/d"),
    ("1-d/s", _ONE),
    ("d/s", _ZERO),
    (_ZERO, "s/d"),
    ("1-d/s", _ZERO),
    (_ZERO, "1-s/d"),
    ("d/s", "1-s/d"),
    ("1-d/s", "s/d"),
    ("1-d/s", "1-s/d"),
)


def _shares(operator: int) -> tuple[str, str]:
    if operator == _SATURATE:
        return "(1-d)/s", _ONE
    return _DISJOINT[operator - 0x10] if operator < 0x20 else _CONJOINT[operator - 0x20]


def _factor(name: str, s: Any, d: Any) -> Any:
    """A share from the alphas of source and surface."""
    import numpy as np

    one = np.float32(1)
    if name in (_ZERO, _ONE):
        return np.float32(name)
    under, above = (s, d) if name.endswith("s") else (d, s)
    if "(1-" in name:
        above = one - above
    value = above / under
    empty = one if not name.startswith("1-") else np.float32(0)
    if name.startswith("1-"):
        value = one - value
    return np.where(_zero(under), empty, np.clip(value, 0, 1))


def _pdf_floats(operator: int, source: Any, alpha: Any, old: Any) -> Any:
    import numpy as np

    one = np.float32(1)
    s, d = source[..., :3], old[..., :3]
    sa = np.broadcast_to(alpha, source.shape)[..., :3]
    da = old[..., 3:]
    mix = {_DODGE: _dodge, _BURN: _burn, _SOFT: _soft}[operator]
    new = np.empty_like(old)
    new[..., :3] = (one - sa) * d + (one - da) * s + mix(sa, s, da, d)
    full, below = source[..., 3], old[..., 3]
    new[..., 3] = full + below - full * below
    return new


def _dodge(sa: Any, s: Any, da: Any, d: Any) -> Any:
    import numpy as np

    both = sa * da
    bright = (d * sa >= both - s * da) | _zero(sa - s)
    return np.where(_zero(d), np.float32(0), np.where(bright, both, sa * sa * d / (sa - s)))


def _burn(sa: Any, s: Any, da: Any, d: Any) -> Any:
    import numpy as np

    dark = (sa * (da - d) >= s * da) | _zero(s)
    mixed = np.where(dark, np.float32(0), sa * (da - sa * (da - d) / s))
    return np.where(d >= da, sa * da, mixed)


def _soft(sa: Any, s: Any, da: Any, d: Any) -> Any:
    import numpy as np

    two, twelve = np.float32(2), np.float32(12)
    none = _zero(da)
    dark = np.where(none, d * sa, d * sa - d * (da - d) * (sa - two * s) / da)
    low = d * sa + (two * s - sa) * d * (
        (np.float32(16) * d / da - twelve) * d / da + np.float32(3)
    )
    high = d * sa + (np.sqrt(d * da) - d) * (two * s - sa)
    light = np.where(none, d * sa, np.where(np.float32(4) * d <= da, low, high))
    return np.where(two * s <= sa, dark, light)


def _light(colour: Any) -> Any:
    """How bright a colour is (blue, green, red)."""
    import numpy as np

    red, green, blue = np.float32(0.3), np.float32(0.59), np.float32(0.11)
    return (colour[..., 2] * red + colour[..., 1] * green + colour[..., 0] * blue)[..., None]


def _with_light(colour: Any, alpha: Any, light: Any) -> Any:
    """The colour made that bright, and less strong where it doesn't fit into its alpha."""
    import numpy as np

    moved = colour + (light - _light(colour))
    middle = _light(moved)
    low, high = moved.min(-1, keepdims=True), moved.max(-1, keepdims=True)
    span = middle - low
    lifted = np.where(_zero(span), np.float32(0), middle + (moved - middle) * middle / span)
    moved = np.where(low < 0, lifted, moved)
    span = high - middle
    capped = middle + (moved - middle) * (alpha - middle) / span
    return np.where(high > alpha, np.where(_zero(span), alpha, capped), moved)


def _strength(colour: Any) -> Any:
    return colour.max(-1, keepdims=True) - colour.min(-1, keepdims=True)


def _with_strength(colour: Any, strength: Any) -> Any:
    import numpy as np

    low, high = colour.min(-1, keepdims=True), colour.max(-1, keepdims=True)
    span = high - low
    made = (colour - low) * strength / span
    made = np.where(colour == high, strength, made)
    made = np.where(colour == low, np.float32(0), made)
    return np.where(_zero(span), np.float32(0), made)


def _hsl_mask(mask: Any) -> Any:
    """The mask's alpha; pixman takes it twice for green and not at all for blue."""
    import numpy as np

    part = mask[..., 3:]
    return np.concatenate([np.ones_like(part), part * part, part, part], axis=-1)


def _hsl(operator: int, source: Any, old: Any) -> Any:
    import numpy as np

    one = np.float32(1)
    s, d, sa, da = source[..., :3], old[..., :3], source[..., 3:], old[..., 3:]
    if operator == _HSL[0]:
        colour = _with_strength(s * da, _strength(d) * sa)
    elif operator == _HSL[1]:
        colour = _with_strength(d * sa, _strength(s) * da)
    else:
        colour = s * da if operator == _HSL[2] else d * sa
    light = _light(s) * da if operator == _HSL[3] else _light(d) * sa
    colour = _with_light(colour, sa * da, light)
    new = np.empty_like(old)
    new[..., :3] = (one - sa) * d + (one - da) * s + colour
    new[..., 3:] = sa + da - sa * da
    return new
