"""The screens that the package carries, and how our encoders do on them beside upstream's."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiospice.codecs import glz, lz, quic
from aiospice.proof import bench_codecs
from aiospice.proof.content import FOLDER, WINDOW_PIXELS, Content, Screen, captured, made_up

CONTENTS = {content.name: content for content in captured()}
WHOLE = sorted(name for name, content in CONTENTS.items() if "quic" in content.images)
ROWS = sorted(name for name, content in CONTENTS.items() if "glz" in content.images)


def colours(rows: bytes) -> tuple[bytes, bytes, bytes]:
    return rows[0::4], rows[1::4], rows[2::4]


def test_the_package_carries_screens_of_both_servers() -> None:
    assert {"qemu", "xspice"} == {name.split("-")[0] for name in CONTENTS}
    assert len(WHOLE) >= 5
    assert len(ROWS) >= 2
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 600_000
    assert all(f"`{name}`" in (FOLDER / "README.md").read_text() for name in CONTENTS)


@pytest.mark.parametrize("name", WHOLE)
def test_upstreams_lz_and_quic_are_the_same_picture(name: str) -> None:
    content = CONTENTS[name]
    (screen,) = content.screens()
    unpacked = lz.decode(content.images["lz"][0])
    assert (unpacked.width, unpacked.height) == (screen.width, screen.height)
    assert colours(unpacked.rows()) == colours(screen.pixels)


@pytest.mark.parametrize("name", WHOLE)
def test_quic_is_upstreams_byte_for_byte(name: str) -> None:
    content = CONTENTS[name]
    (screen,) = content.screens()
    ours = quic.encode(screen.pixels, screen.width, screen.height, 4 * screen.width, quic.RGB32)
    assert ours == content.images["quic"][0]


@pytest.mark.parametrize("name", WHOLE)
def test_lz_is_as_small_as_upstreams(name: str) -> None:
    """Within a hundredth on each, and smaller on all together."""
    content = CONTENTS[name]
    (screen,) = content.screens()
    ours = lz.encode(screen.pixels, screen.width, screen.height)
    assert len(ours) <= 1.01 * len(content.images["lz"][0])


def test_lz_is_smaller_than_upstreams_on_the_whole() -> None:
    ours = theirs = 0
    for name in WHOLE:
        (screen,) = CONTENTS[name].screens()
        ours += len(lz.encode(screen.pixels, screen.width, screen.height))
        theirs += len(CONTENTS[name].images["lz"][0])
    assert ours < theirs


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_glz_images_are_smaller_than_upstreams(name: str) -> None:
    content = CONTENTS[name]
    dictionary = glz.GlzDictionary(WINDOW_PIXELS)
    screens = content.screens()
    ours = [dictionary.encode(screen.pixels, screen.width, screen.height) for screen in screens]
    assert sum(map(len, ours)) < sum(map(len, content.images["glz"]))
    again = Content(name, "", {"glz": tuple(ours)}, {}).screens()
    assert [colours(screen.pixels) for screen in again] == [
        colours(screen.pixels) for screen in screens
    ]


@pytest.mark.parametrize("codec", bench_codecs.CODECS)
def test_each_codec_is_timed(codec: str) -> None:
    screens = bench_codecs.crop(list(made_up(96, 80)))
    assert [(screen.width, screen.height) for screen in screens] == [(64, 64), (64, 64)]
    found = bench_codecs.timed(codec, screens, runs=1)
    assert 0 < found.bytes < 2 * 4 * 64 * 64
    assert found.packing > 0
    assert found.unpacking > 0


def test_a_crop_is_the_middle() -> None:
    pixels = bytes(value for y in range(70) for x in range(66) for value in (x, y, 0, 0))
    (cropped,) = bench_codecs.crop([Screen("x", 66, 70, pixels)])
    assert cropped.pixels[:4] == bytes((1, 3, 0, 0))
    assert cropped.pixels[-4:] == bytes((64, 66, 0, 0))


async def test_a_picture_is_measured_with_and_without_a_compiler() -> None:
    found = [row async for row in bench_codecs.measure(runs=1, only="qemu-console lz")]
    assert [(row["picture"], row["codec"]) for row in found] == [
        ("qemu-console", "lz"),
        ("qemu-console", "lz4"),
        ("all", "lz"),
        ("all", "lz4"),
    ]
    ours, library = found[:2]
    for row in (ours, library):
        assert row["encode_MB_s"] > 0
        assert row["decode_MB_s"] > 0
        assert 0.9 < row["to_upstream"] < 1.1
    assert found[2]["to_upstream"] == ours["to_upstream"]
    assert ours["uncompiled_encode_MB_s"] > 0
    assert ours["uncompiled_decode_MB_s"] > 0
    assert "uncompiled_encode_MB_s" not in library


def test_content_is_read_as_it_was_written(tmp_path: Path) -> None:
    content = Content("x", "made", {"glz": (b"abc", b"", b"de")}, {"lz4": 7})
    assert Content.load(content.save(tmp_path)) == content


def test_the_made_up_pictures_are_always_the_same() -> None:
    assert list(made_up(64, 48)) == list(made_up(64, 48))
