"""Videos from a real QEMU: every codec that spice-server encodes, how it looks, reports."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pytest_asyncio

import aiospice
from aiospice.client.config import VIDEO_CODECS
from aiospice.client.screen import NotDrawn, StreamEnded, StreamStarted
from aiospice.proof.painter import Painter
from aiospice.proof.truth import picture_of, shows_the_truth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.conftest import PairFactory, QemuFactory

    from aiospice.aio.session import Session
    from aiospice.channels.events import Event
    from aiospice.client.screen import Screen
    from aiospice.proof.qemu import Qemu

    Starter = Callable[..., Awaitable["Stage"]]

pytestmark = [pytest.mark.peers, pytest.mark.timeout(240)]

SIZE = (640, 480)
#: Codecs that Debian's spice-server encodes, by itself or through GStreamer.
SERVED = ("mjpeg", "vp8", "h264", "vp9")
#: What the mean error of a colour may be: the encoders' here, a wrong matrix makes it 4 and more.
BOUND = 3.5


class Stage:
    """A painting guest, a session that watches it, and the server's log."""

    def __init__(self, qemu: Qemu, painter: Painter, session: Session) -> None:
        self.qemu = qemu
        self.painter = painter
        self.session = session
        self.events: list[Event] = []

    @property
    def screen(self) -> Screen:
        return self.session._shell.core.screens[0]

    async def follow(self) -> None:
        async for event in self.session.events():
            self.events.append(event)

    def happened(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]

    def log(self, pattern: str) -> list[re.Match[str]]:
        """Lines of the server's log."""
        text = (self.qemu.folder / "output").read_text(errors="replace")
        return list(re.finditer(pattern, text))

    async def until(self, what: Callable[[], object], limit: float = 60) -> None:
        end = time.monotonic() + limit
        while not what():
            assert time.monotonic() < end, (self.screen.streams, self.events[-5:])
            await asyncio.sleep(0.02)

    def frames(self) -> int:
        """Frames of the videos that there are."""
        return sum(stream.frames for stream in self.screen.streams.values())

    async def error(self, box: tuple[int, int, int, int]) -> tuple[float, float]:
        """How far the colours inside of a box are off on average, and how much those outside."""
        true = picture_of(await self.qemu.screendump()).array().astype(int)
        off = np.abs((await self.session.screen(0)).array() - true)
        left, top, right, bottom = box
        inside = off[top:bottom, left:right]
        return float(inside.mean(axis=(0, 1)).max()), float(off.sum() - inside.sum())

    def _ended(self, before: int) -> bool:
        return len(self.happened(StreamEnded)) > before

    async def rests(self, box: tuple[int, int, int, int], command: str) -> float:
        """Let the guest move and stop it; the error of the video's last picture.

        The server replaces that a second later, which may have been by the time it is looked at.
        """
        error = 0.0
        for _ in range(5):
            await self.painter.do(command)
            before = len(self.happened(StreamEnded))
            await self.until(lambda: self.frames() > 12)
            await self.painter.stop()
            for _ in range(8):  # the last frames may be on their way, or being decoded
                await asyncio.sleep(0.1)
                error, outside = await self.error(box)
                if error < BOUND:
                    break
            assert outside == 0
            assert error < BOUND
            if error:
                break
            await self.until(partial(self._ended, before))
        return error


@pytest_asyncio.fixture
async def start(
    qemu_factory: QemuFactory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Starter]:
    monkeypatch.setenv("G_MESSAGES_DEBUG", "all")  # the server tells about reports
    async with contextlib.AsyncExitStack() as stack:

        async def begin(vga: str, *codecs: str, **options: Any) -> Stage:
            spice = ("streaming-video=all",)
            qemu = await qemu_factory(guest="paint", commands=True, vga=vga, spice=spice)
            painter = await stack.enter_async_context(Painter(qemu))
            session = await stack.enter_async_context(
                aiospice.connect(
                    qemu.address, channels=("display",), video_codecs=codecs, **options
                )
            )
            stage = Stage(qemu, painter, session)
            task = asyncio.create_task(stage.follow())
            stack.callback(task.cancel)
            await painter.do(f"qxl 0 {SIZE[0]} {SIZE[1]} 32" if vga == "qxl" else "mode 640 720 32")
            await painter.do("photo 0 0 640 720 1")
            return stage

        yield begin


@pytest.mark.parametrize("codec", SERVED)
async def test_a_video_of_each_codec_looks_like_the_guest_and_becomes_exact(
    start: Starter, codec: str
) -> None:
    stage = await start("qxl", codec)
    box = (64, 64, 384, 304)
    error = await stage.rests(box, "every 6 photo 64 64 320 240 0")
    await shows_the_truth(stage.qemu, stage.session, limit=60)
    assert error > 0, "the video was never seen"
    started = stage.happened(StreamStarted)
    assert {event.codec for event in started} == {VIDEO_CODECS[codec]}
    assert (320, 240) in {(event.width, event.height) for event in started}
    assert stage.happened(NotDrawn) == []
    assert len(stage.log(r"client report: ")) >= 2


@pytest.mark.parametrize("codec", SERVED)
async def test_colours_of_tall_videos_are_those_of_the_server(start: Starter, codec: str) -> None:
    stage = await start("std", codec)  # 32 columns each, as QEMU cuts them
    error = await stage.rests((64, 10, 128, 710), "every 6 photo 64 10 64 700 0")
    await shows_the_truth(stage.qemu, stage.session, limit=60)
    assert error > 0
    assert {event.height for event in stage.happened(StreamStarted)} == {700}
    assert stage.happened(NotDrawn) == []


async def test_a_frame_that_is_larger_than_its_video_is_drawn_where_it_belongs(
    start: Starter,
) -> None:
    stage = await start("qxl", "mjpeg")
    await stage.painter.do("every 6 photo 64 64 320 240 0")
    await stage.until(lambda: stage.frames() > 6)
    for number in range(50):
        await stage.painter.do(f"photo 40 50 400 300 {number}")
        if stage.log("sized frame"):
            break
        await asyncio.sleep(0.1)
    await stage.painter.stop()
    assert stage.log("sized frame")
    await shows_the_truth(stage.qemu, stage.session, limit=60)
    assert stage.happened(NotDrawn) == []


async def test_a_server_adapts_to_frames_that_come_too_late(start: Starter) -> None:
    stage = await start("qxl", "mjpeg")
    main = stage.session._shell.core.main_channel()
    assert main is not None
    await stage.painter.do("every 6 photo 64 64 320 240 0")
    await stage.until(lambda: stage.frames() > 12)
    assert stage.log(r"client report: #frames 5, #drops 0")
    assert not stage.log(r"client report: #frames \d+, #drops [1-9]")
    time, then = main.multi_media_time
    main.multi_media_time = (time + 1500, then)  # as if the way were longer
    await stage.until(lambda: stage.log(r"client report: #frames \d+, #drops [1-9]"))
    await stage.until(lambda: stage.log("decrease bit rate|resetting client latency"))
    await stage.painter.stop()
    await shows_the_truth(stage.qemu, stage.session, limit=60)


async def test_without_any_codec_the_server_sends_images(start: Starter) -> None:
    stage = await start("qxl")
    drawn = stage.screen.draws
    await stage.painter.do("every 6 photo 64 64 320 240 0")
    await stage.until(lambda: stage.screen.draws > drawn + 40)
    await stage.painter.stop()
    await shows_the_truth(stage.qemu, stage.session, limit=60)
    assert stage.happened(StreamStarted) == stage.happened(NotDrawn) == []


async def test_a_video_that_can_not_be_played_is_sent_as_images(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = await start("qxl", "vp8")
    monkeypatch.setattr("aiospice.aio.video._NAMES", {2: "nonsuch"})
    await stage.painter.do("every 6 photo 64 64 320 240 0")
    await stage.until(lambda: stage.log("the client does not support stream"))
    drawn = stage.screen.draws
    await stage.until(lambda: stage.screen.draws > drawn + 10)
    await stage.painter.stop()
    await shows_the_truth(stage.qemu, stage.session, limit=60)
    assert {event.reason for event in stage.happened(NotDrawn)} <= {
        "the video needs a library that is missing",
    }


async def test_a_video_goes_on_in_its_codec_when_the_machine_moves(qemu_pair: PairFactory) -> None:
    pair = await qemu_pair(guest="paint", commands=True, vga="std", spice=("streaming-video=all",))
    address = pair.source.address
    async with (
        Painter(pair.source) as painter,
        aiospice.connect(address, channels=("display",), video_codecs=("vp8", "mjpeg")) as session,
    ):
        stage = Stage(pair.source, painter, session)
        task = asyncio.create_task(stage.follow())
        await painter.do("every 6 photo 64 64 160 120 0")
        await stage.until(lambda: stage.frames() > 12)
        await pair.migrate()
        await stage.until(lambda: stage.happened(StreamEnded))  # the target begins without any
        await stage.until(lambda: stage.frames() > 12)
        async with Painter(pair.source) as there:
            await there.stop()
        await shows_the_truth(pair.source, session, limit=60)
        assert {event.codec for event in stage.happened(StreamStarted)} == {VIDEO_CODECS["vp8"]}
        assert stage.happened(NotDrawn) == []
        task.cancel()
