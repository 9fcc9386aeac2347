"""spice-html5 in a browser on our WebSocket listener."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.serve_stage import SCENES, port_of, stage

from aiospice.proof.browser import Browser

pytestmark = pytest.mark.peers

PLAYING = "(window.spice_connection?.display?.streams ?? []).some(stream => stream)"
A, SEVEN = 0x1E, 0x08


async def test_the_browser_shows_the_guest_and_it_is_reached() -> None:
    async with stage(port=None, ws_port=0, password="secret") as server, Browser() as browser:
        guest = server.guest
        guest.scene_photo()
        port = port_of(server, "ws")
        page = await browser.spice("127.0.0.1", port, "secret", password="wrong")
        await page.shows(guest.truth)
        assert "asked: Password" in page.console
        for scene in SCENES:
            if scene == "alpha":  # a canvas keeps colours multiplied by alpha: they aren't exact
                continue
            getattr(guest, f"scene_{scene}")()
            await page.shows(guest.truth)
        await page.click(101, 57)
        wanted = [(1, True), (1, False)]
        await guest.until(lambda: guest.buttons == wanted, f"the click, only {guest.buttons}")
        assert (101, 57, 0) in guest.places
        for key in ("a", "7"):
            await page.key(key)
        wanted = [(code, down) for code in (A, SEVEN) for down in (True, False)]
        await guest.until(lambda: guest.keys == wanted, f"{wanted}, only {guest.keys}")
        # Whatever it can't do it says there.
        assert [line for line in page.console if "FIXME" in line or "exception" in line] == []


async def test_the_browser_shows_jpeg_and_is_exact_when_all_is_quiet() -> None:
    options: dict[str, Any] = {"lossy": "always", "video": "never"}
    async with stage(port=None, ws_port=0, **options) as server, Browser() as browser:
        server.guest.scene_photo()
        page = await browser.spice("127.0.0.1", port_of(server, "ws"))
        await page.shows(server.guest.truth, tolerance=60)
        await page.shows(server.guest.truth)


async def test_the_browser_plays_a_video_and_is_exact_when_it_stops() -> None:
    async with stage(port=None, ws_port=0) as server, Browser() as browser:
        guest = server.guest
        guest.scene_page()
        page = await browser.spice("127.0.0.1", port_of(server, "ws"))
        await page.shows(guest.truth)
        for number in range(500):
            guest.video_frame(number)
            await asyncio.sleep(1 / 25)
            if number % 10 == 0 and await page.evaluate(PLAYING):
                break
        else:
            pytest.fail("what moves is sent as images")
        for number in range(20):
            guest.video_frame(number)
            await asyncio.sleep(1 / 25)
        await page.shows(guest.truth)
        assert [line for line in page.console if "FIXME" in line or "exception" in line] == []
