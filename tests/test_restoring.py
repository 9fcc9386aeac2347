"""What of a client's surfaces and images is used behind a move, counted in recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aiospice.errors import LocalError
from aiospice.proof.recording import Recording
from aiospice.proof.restoring import judge, recorded, run
from aiospice.wire import display, draw
from aiospice.wire.header import MINI
from aiospice.wire.images import (
    BitmapData,
    BitmapFormat,
    Image,
    ImageDescriptor,
    ImageFlags,
    ImageType,
    QMask,
    SurfaceImage,
)
from aiospice.wire.shapes import Clip, DisplayBase, Point, Rect

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 16
BOX = Rect(top=0, left=0, bottom=SIZE, right=SIZE)


def made(surface_id: int, *, primary: bool = False) -> Any:
    return display.SurfaceCreate(
        surface_id=surface_id, width=SIZE, height=SIZE, format=32, flags=int(primary)
    )


def copied(onto: int, image: Image) -> Any:
    return draw.DrawCopy(
        base=DisplayBase(surface_id=onto, box=BOX, clip=Clip(type=0, rects=())),
        src_bitmap=image,
        src_area=BOX,
        rop_descriptor=8,
        scale_mode=0,
        mask=QMask(flags=0, pos=Point(x=0, y=0), bitmap=None),
    )


def image(id: int, *, kept: bool) -> Image:
    flags = ImageFlags.CACHE_ME if kept else 0
    kind = ImageType.BITMAP if kept else ImageType.FROM_CACHE
    told = ImageDescriptor(id=id, type=kind, flags=flags, width=SIZE, height=SIZE)
    if not kept:
        return Image(descriptor=told, body=None)
    body = BitmapData(
        format=BitmapFormat.BIT32,
        flags=4,
        x=SIZE,
        y=SIZE,
        stride=4 * SIZE,
        palette_id=None,
        palette=None,
        data=bytes(4 * SIZE * SIZE),
    )
    return Image(descriptor=told, body=body)


def surface(id: int) -> Image:
    told = ImageDescriptor(id=id, type=ImageType.SURFACE, flags=0, width=SIZE, height=SIZE)
    return Image(descriptor=told, body=SurfaceImage(surface_id=id))


def recording(*messages: tuple[float, Any]) -> Recording:
    data, times = b"", []
    for at, message in messages:
        body = message.body()
        data += MINI.pack(message.number, len(body)) + body
        times.append((at, len(data)))
    return Recording(data, b"", tuple(times), (), 0, {})


#: A surface that is copied from at 9 s, one that isn't, one that is gone at once; two kept images,
#: of which one comes again at 8 s.
STREAM = recording(
    (0.0, made(0, primary=True)),
    (0.1, made(1)),
    (0.2, made(2)),
    (0.3, copied(1, image(7, kept=True))),
    (0.4, copied(2, image(8, kept=True))),
    (0.5, made(3)),
    (0.6, display.SurfaceDestroy(surface_id=3)),
    (8.0, copied(0, image(7, kept=False))),
    (9.0, copied(0, surface(1))),
    (13.0, display.SurfaceDestroy(surface_id=2)),
    (13.5, display.SurfaceDestroy(surface_id=1)),
    (14.5, display.Mark()),
)


def test_what_is_used_is_told_from_what_is_only_held() -> None:
    found = judge("stream", STREAM)
    assert (found.surfaces, found.surfaces_used, found.surfaces_gone) == (2, 1, 2)
    assert (found.images, found.images_used) == (2, 1)
    assert found.surfaces_made == 3
    assert found.again_images == 4 * SIZE * SIZE
    assert 0 < found.again_surfaces <= 4 * SIZE * SIZE
    assert found.record == 8 + 80 + 4 + 2 * 4 + 2 * 12
    again, told = found.delay(1e6)
    assert again == pytest.approx(8 * (found.again_images + found.again_surfaces) / 1e6)
    assert told == pytest.approx(2 * 8 * found.record / 1e6)


async def test_files_that_were_kept_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.recording"
    STREAM.save(path)
    assert await run([str(path)]) == 0
    assert "surfaces: 2 held, 1 used within 10 s" in capsys.readouterr().out
    assert await run([str(path)], json=True) == 0
    assert '"lab": "restoring"' in capsys.readouterr().out
    short = recording((0.0, made(0, primary=True)), (1.0, made(1)))
    with pytest.raises(LocalError, match="too short"):
        judge("short", short)


@pytest.mark.peers
async def test_a_real_server_makes_surfaces_and_has_images_kept() -> None:
    found = judge("windows", await recorded("windows", "lz", 14.0))
    assert found.surfaces_made > 3
    assert found.images > 0
    assert found.record > 80
