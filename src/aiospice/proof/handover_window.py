"""What a GLZ window that begins anew costs after a move, beside what carrying it would.

A target's first images can't copy from those that the source has sent, since it doesn't have them.
The images are those of `aiospice.proof.content` that a server sent in a row of its own, packed
again by our dictionary. A move comes between two of them: all behind it are packed once as if the
window had come along, and once without. The rest of the row is far longer than it takes until the
new window makes up for the old one. Carrying it means to tell the target the pixels that it holds,
which are counted as they are and as the link packs them (LZ4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.codecs import lz, zlib
from aiospice.codecs.glz import GlzDictionary
from aiospice.migration.peer import Piece
from aiospice.proof.bench import median
from aiospice.proof.content import captured
from aiospice.server.early import pack_piece
from aiospice.server.kept import MAX_GLZ_PIXELS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiospice.proof.content import Screen

__all__ = ["measure"]

#: Moves between the images of a row, in eighths of it.
_PLACES = (2, 3, 4, 5, 6)
#: How often a row is shown that comes again, as windows do that are raised again.
_AGAIN = 3


async def measure(**_: Any) -> AsyncIterator[dict[str, Any]]:
    """Yield a row for each row of images; figures are medians over moves, in bytes."""
    for content in captured():
        if "glz" not in content.images:
            continue
        images = content.screens()
        for name, row in ((content.name, images), (f"{content.name}, again", again(images))):
            found = [cost(row, len(row) * place // 8) for place in _PLACES]
            yield {
                "images": name,
                "count": len(row),
                **{key: median([each[key] for each in found]) for key in found[0]},
            }


def again(images: list[Screen]) -> list[Screen]:
    """The same row three times: all that is shown was shown before."""
    return images * _AGAIN


def cost(images: list[Screen], place: int) -> dict[str, int]:
    """Bytes of the images behind a move at a place, and of the window there."""
    kept, fresh = GlzDictionary(MAX_GLZ_PIXELS), GlzDictionary(MAX_GLZ_PIXELS)
    for image in images[:place]:
        _encode(kept, image)
    window = b"".join(bytes(_pixels(kept, number)) for number in range(len(kept._held)))
    found = {"window": len(window), "told": _told(window)}
    sizes = {"glz": (0, 0), "zlib_glz": (0, 0)}
    for image in images[place:]:
        both = [_encode(dictionary, image) for dictionary in (kept, fresh)]
        packed = [min(len(data), len(zlib.deflate(data))) for data in both]
        for name, pair in (("glz", [len(data) for data in both]), ("zlib_glz", packed)):
            sizes[name] = (sizes[name][0] + pair[0], sizes[name][1] + pair[1])
    for name, (with_window, without) in sizes.items():
        found[name], found[f"{name}_more"] = with_window, without - with_window
    return found


def _encode(dictionary: GlzDictionary, image: Screen) -> bytes:
    return dictionary.encode(image.pixels, image.width, image.height, lz.RGB32)


def _pixels(dictionary: GlzDictionary, number: int) -> memoryview:
    """The pixels of an image that a dictionary holds."""
    id, _, _ = dictionary._held[number]
    slot = id % (len(dictionary._rows) // 3)
    _, first, end = dictionary._rows[3 * slot : 3 * slot + 3]
    return memoryview(dictionary._pixels)[4 * first : 4 * end]


def _told(window: bytes) -> int:
    """Bytes of a window on the link."""
    step = 1 << 20
    pieces = [window[at : at + step] for at in range(0, len(window), step)]
    return sum(len(pack_piece(Piece("window", data)).data) for data in pieces)
