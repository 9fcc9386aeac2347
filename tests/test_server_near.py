"""What is done otherwise for clients on this machine."""

from __future__ import annotations

import numpy as np
import pytest
from tests.display_rig import DisplayRig

from aiospice.server.surface import NEAR_PIXELS, STRIP_PIXELS


@pytest.mark.parametrize(("local", "images"), [((True,), 1), ((False,), 6), ((True, False), 6)])
def test_a_photo_is_cut_for_clients_that_are_far(local: tuple[bool, ...], images: int) -> None:
    rig = DisplayRig(1024, 768)
    clients = [rig.client(local=near, pipe=1 << 22) for near in local]
    rig.settle()
    for client in clients:
        client.names()
    photo = np.random.default_rng(3).integers(0, 256, (576, 682, 4), np.uint8)
    rig.display.array[100:676, 100:782] = photo
    rig.display.damage(100, 100, 682, 576)
    rig.publish()
    rig.settle()
    rig.check()
    for client in clients:
        assert client.names() == ["DrawCopy"] * images
    assert rig.display.surfaces[0].piece == (NEAR_PIXELS if all(local) else STRIP_PIXELS)
    rig.leave(clients[-1])
    assert rig.display.surfaces[0].piece == (NEAR_PIXELS if all(local[:-1]) else STRIP_PIXELS)
