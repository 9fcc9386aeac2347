"""The display pipeline of the server: what is sent of what the guest draws, to our own client."""

from __future__ import annotations

import numpy as np
import pytest
from tests.display_rig import DisplayRig

from aiospice.proof.content import made_up


def page(rig: DisplayRig, which: int) -> None:
    """Show a photo (0) or a page of text (1)."""
    width, height = rig.display.width, rig.display.height
    picture = list(made_up(width, height))[which]
    rig.display.array[:] = np.frombuffer(picture.pixels, np.uint8).reshape(height, width, 4)
    rig.display.damage(0, 0, width, height)


def test_a_client_begins_with_the_screen_and_its_monitors() -> None:
    rig = DisplayRig(320, 200)
    rig.display.fill(0, 0, 320, 200, 0x123456)
    client = rig.client()
    rig.settle()
    rig.check()
    assert client.names() == [
        "InvalAllPalettes",
        "SurfaceCreate",
        "MonitorsConfig",
        "DrawFill",
        "Mark",
    ]
    assert client.screen.ready
    assert [head.as_tuple() for head in client.screen.monitors] == [(0, 0, 0, 0, 320, 200)]


def test_a_fill_is_sent_as_a_fill() -> None:
    rig = DisplayRig(320, 200)
    client = rig.client()
    rig.settle()
    client.names()
    rig.display.fill(10, 20, 30, 40, 0xFF0000)
    rig.publish()
    assert client.names() == ["DrawFill"]
    rig.display.fill(10, 20, 30, 40, 0xFF0000)  # nothing changes
    rig.publish()
    assert client.names() == []
    rig.display.array[100:150, 50:90] = 7  # not told as a fill, but one colour
    rig.display.damage(0, 0, 320, 200)
    rig.publish()
    assert client.names() == ["DrawFill"]
    rig.settle()
    rig.check()


@pytest.mark.parametrize("told", [True, False])
def test_a_scrolled_page_is_copied_and_only_the_new_line_is_sent(told: bool) -> None:
    rig = DisplayRig(640, 480)
    client = rig.client()
    page(rig, 1)
    rig.publish()
    rig.settle()
    client.names()
    whole, client.bytes = client.bytes, 0
    pixels = rig.display.array
    if told:
        rig.display.copy(0, 16, 640, 464, 0, 0)
    else:
        pixels[:-16] = pixels[16:].copy()
    pixels[-16:] = 255
    pixels[-12:-4, 8:200] = pixels[20:28, 8:200]
    rig.display.damage(0, 464 if told else 0, 640, 480)
    rig.publish()
    rig.settle()
    rig.check()
    assert client.names() == ["CopyBits", "DrawCopy"]
    assert client.bytes * 10 < whole
