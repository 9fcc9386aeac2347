"""A screen that is new to a client is shown when all of it is there."""

from __future__ import annotations

import numpy as np
from tests.display_rig import DisplayRig, RigClient

from aiospice.server.curtain import PATIENCE


def paint(rig: DisplayRig) -> None:
    """Something that is sent in several pieces."""
    chance = np.random.default_rng(3)
    rig.display.array[:] = chance.integers(0, 256, rig.display.array.shape, np.uint8)
    rig.display.array[100:400] = 9
    rig.display.damage(0, 0, rig.display.width, rig.display.height)


def came_to_the_screen(client: RigClient) -> list[str]:
    """What came for the screen that is shown: from its making to the mark."""
    names = client.names("DrawFill")
    return names[len(names) - 1 - names[::-1].index("SurfaceCreate") :]


def test_a_client_is_shown_the_screen_with_one_draw() -> None:
    rig = DisplayRig(800, 600)
    paint(rig)
    rig.publish()
    client = rig.client()
    rig.settle()
    rig.check()
    names = ["SurfaceCreate", "MonitorsConfig", "DrawCopy", "SurfaceDestroy", "Mark"]
    assert came_to_the_screen(client) == names


def test_the_old_screen_is_shown_until_the_new_one_is_there() -> None:
    rig = DisplayRig(800, 600)
    rig.freezes = True
    client = rig.client()
    rig.settle()
    client.names()
    rig.display.resize(1024, 768)
    paint(rig)
    rig.publish()
    while "SurfaceDestroy" not in client.sent:
        assert client.screen.snapshot().width == 800
        if not rig.work(1):
            rig.step(client)
    rig.settle()
    rig.check()
    names = ["SurfaceCreate", "MonitorsConfig", "DrawCopy", "SurfaceDestroy", "Mark"]
    assert came_to_the_screen(client) == names


def test_another_size_before_the_first_was_shown() -> None:
    rig = DisplayRig(800, 600)
    paint(rig)
    rig.publish()
    client = rig.client()
    rig.display.resize(640, 480)
    paint(rig)
    rig.publish()
    rig.settle()
    rig.check()
    assert client.screen.snapshot().width == 640


def test_who_waits_for_long_sees_what_is_there() -> None:
    rig = DisplayRig(800, 600, compression="quic")
    paint(rig)
    rig.publish()
    client = rig.client()  # whose images are still being packed
    rig.now += PATIENCE / 2
    rig.step(client)
    assert not client.screen.ready
    rig.now += PATIENCE
    rig.step(client)
    assert client.screen.ready
    rig.settle()
    rig.check()
    names = came_to_the_screen(client)
    assert names[:4] == ["SurfaceCreate", "MonitorsConfig", "DrawCopy", "SurfaceDestroy"]
    assert "DrawCopy" in names[4:]
    assert names[-1] == "Mark"


def test_a_screen_in_one_piece_needs_no_surface_beside_it() -> None:
    rig = DisplayRig(320, 200)
    client = rig.client()
    rig.settle()
    rig.check()
    wanted = ["InvalAllPalettes", "SurfaceCreate", "MonitorsConfig", "Mark"]
    assert client.names("DrawFill") == wanted


def test_jpeg_is_shown_as_it_comes() -> None:
    rig = DisplayRig(800, 600, lossy="always")
    height, width = rig.display.array.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    rig.display.array[..., :3] = (128 + 60 * np.sin(x / 50) + 60 * np.cos(y / 40))[..., None]
    rig.display.damage(0, 0, width, height)
    rig.publish()
    client = rig.client()
    rig.settle()
    names = came_to_the_screen(client)
    wanted = ["SurfaceCreate", "MonitorsConfig", "DrawCopy", "SurfaceDestroy", "DrawCopy", "Mark"]
    assert names == wanted
