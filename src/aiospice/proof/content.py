"""Pictures to measure codecs with: real screens as real servers packed them, and made-up ones.

The folder ``content`` beside this file holds what QEMU and Xspice sent of screens at rest: one
image of the whole screen, in QUIC and in LZ, and the sizes that other codecs gave; and rows of GLZ
images, each of which refers to those before it. `captured` reads them; ``python -m
aiospice.proof.content FOLDER`` captures all of them anew (QEMU, Xspice and X programs needed).
`made_up` makes a photo and a page of text from formulas.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aiospice.codecs import glz, quic
from aiospice.codecs.glz import GlzWindow
from aiospice.codecs.image import Decoded
from aiospice.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FOLDER", "WINDOW_PIXELS", "Content", "Screen", "captured", "made_up"]

FOLDER = Path(__file__).with_name("content")
#: The window of the dictionary that the rows of GLZ images were made with.
WINDOW_PIXELS = 3 << 20
_SUFFIX = ".content"


class Screen(NamedTuple):
    """Pixels: B G R and an unused byte, rows from the top with nothing between them."""

    name: str
    width: int
    height: int
    pixels: bytes


class Content(NamedTuple):
    """What a server sent of one screen."""

    name: str
    #: How it was captured, for people.
    source: str
    #: Whole images of the same pixels by codec (``quic``, ``lz``), or ``glz`` in order.
    images: dict[str, tuple[bytes, ...]]
    #: Bytes that the same pixels took in other codecs (``lz4``).
    sizes: dict[str, int]

    def screens(self) -> list[Screen]:
        """The pixels, as our decoders have them: one picture, or those of a row of images."""
        if "quic" in self.images:
            (data,) = self.images["quic"]
            return [_screen(self.name, quic.decode(data))]
        window, found = GlzWindow(WINDOW_PIXELS), []
        for index, data in enumerate(self.images["glz"]):
            image = glz.decode(data, window)
            if not isinstance(image, Decoded):
                raise LocalError(f"{self.name}: image {index} refers to one that isn't there")
            found.append(_screen(f"{self.name} {index}", image))
        return found

    def save(self, folder: Path) -> Path:
        """Write it as a file of that folder."""
        head = {
            "name": self.name,
            "source": self.source,
            "images": [[codec, [len(data) for data in row]] for codec, row in self.images.items()],
            "sizes": self.sizes,
        }
        body = b"".join(data for row in self.images.values() for data in row)
        path = folder / (self.name + _SUFFIX)
        path.write_bytes(json.dumps(head).encode() + b"\n" + zlib.compress(body, 9))
        return path

    @classmethod
    def load(cls, path: Path) -> Content:
        """Read a file of `save`."""
        line, _, packed = path.read_bytes().partition(b"\n")
        head, body, at = json.loads(line), zlib.decompress(packed), 0
        images: dict[str, tuple[bytes, ...]] = {}
        for codec, sizes in head["images"]:
            row = []
            for size in sizes:
                row.append(body[at : at + size])
                at += size
            images[codec] = tuple(row)
        return cls(head["name"], head["source"], images, head["sizes"])


def _screen(name: str, image: Decoded) -> Screen:
    return Screen(name, image.width, image.height, image.rows())


def captured(folder: Path = FOLDER) -> list[Content]:
    """What the package carries, by name."""
    return [Content.load(path) for path in sorted(folder.glob("*" + _SUFFIX))]


# -- made up -----------------------------------------------------------------------------


def made_up(width: int = 1024, height: int = 768) -> Iterator[Screen]:
    """A photo-like picture (smooth colours and a little noise) and a page of text-like glyphs."""
    yield Screen("photo", width, height, _photo(width, height))
    yield Screen("text", width, height, _text(width, height))


def _photo(width: int, height: int) -> bytes:
    import numpy as np

    x, y = np.meshgrid(np.arange(width), np.arange(height))
    chance = np.random.default_rng(1)
    rows = np.zeros((height, width, 4), np.uint8)
    waves = ((x / 61, y / 83), (x / 97 + 1, y / 47), ((x + y) / 131, (x - y) / 71))
    for channel, (one, other) in enumerate(waves):
        smooth = 128 + 60 * np.sin(one) + 50 * np.cos(other)
        rows[:, :, channel] = np.clip(smooth + chance.normal(0, 2, x.shape), 0, 255)
    return rows.tobytes()


def _text(width: int, height: int) -> bytes:
    import numpy as np

    chance = np.random.default_rng(2)
    letters = chance.random((60, 10, 7)) < 0.4  # 60 letters of 7x10 pixels
    rows = np.full((height, width, 4), 255, np.uint8)
    for top in range(4, height - 16, 16):
        for left in range(8, int(width * chance.uniform(0.1, 0.95)), 8):
            if (letter := chance.integers(0, 72)) < 60:  # else a blank
                cell = rows[top + 3 : top + 13, left : left + 7, :3]
                cell[letters[letter]] = 32 if top % 112 else (176, 79, 10)
    return rows.tobytes()


if __name__ == "__main__":
    from aiospice.proof.content_capture import main

    main()
