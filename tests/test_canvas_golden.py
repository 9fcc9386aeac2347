"""Draws of every kind, pixel for pixel as spice-gtk's own canvas draws them.

`tests/data/canvas.json` was made by compiling that canvas (`sw_canvas.c`, with the library's own
reader of messages) and giving it the bytes of the messages that `canvas_cases` makes. Left out are
cases in which it dies or reads what it has never written: operations of ROP3 without a brush or a
source in them, strokes with a surface as pattern, surfaces of 8 bit that are said to be opaque,
curves that are their own halves.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tests.canvas_cases import KINDS, case
from tests.twins import uncompiled

from aiospice.canvas import blend, mask, raster, scale, straight
from aiospice.canvas.pixels import RGB555
from aiospice.client.caches import Caches
from aiospice.client.screen import NotDrawn, Screen
from aiospice.wire import display

GOLDEN: dict[str, dict[str, str]] = json.loads(
    (Path(__file__).parent / "data" / "canvas.json").read_text()
)["results"]


def drawn(kind: str, number: int) -> tuple[int, bytes]:
    """The format of surface 0 and its pixels when the case has been drawn."""
    surfaces, message = case(kind, number)
    screen = Screen(0, Caches())
    for id, width, height, format, data in surfaces:
        screen.apply(
            display.SurfaceCreate(
                surface_id=id, width=width, height=height, format=format, flags=int(id == 0)
            )
        )
        memoryview(screen.surfaces[id].data)[:] = data
    events = screen.apply(type(message).parse(message.body()))
    assert not [event for event in events if isinstance(event, NotDrawn)]
    return surfaces[0][3], bytes(screen.surfaces[0].data)


def digest(format: int, pixels: bytes) -> str:
    """What the file has of pixels: of 16_555 the highest bits, which nothing reads, are 0.

    The fourth bytes of 32_xRGB count: blends and copies may take them for alpha later.
    """
    data = bytearray(pixels)
    if format == RGB555:
        data[1::2] = bytes(value & 0x7F for value in data[1::2])
    return hashlib.sha256(data).hexdigest()[:8]


def differing(kind: str, step: int = 1) -> list[int]:
    """The cases whose pixels aren't those of the file."""
    numbers = [int(number) for number in GOLDEN[kind]][::step]
    return [
        number for number in numbers if digest(*drawn(kind, number)) != GOLDEN[kind][str(number)]
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_draws_are_those_of_spice_gtk(kind: str) -> None:
    assert len(GOLDEN[kind]) >= 80
    assert differing(kind) == []


@pytest.mark.parametrize("kind", KINDS)
def test_draws_are_the_same_uncompiled(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kernel", "layers", "rows"):
        twin = uncompiled(f"aiospice.canvas.{name}")
        for module in (blend, mask, raster, scale, straight):
            monkeypatch.setattr(module, name, twin, raising=False)
    assert differing(kind, 5) == []
