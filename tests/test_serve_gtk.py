"""spice-gtk's library as a client of our server: pixels, input, devices, agent, sound."""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serve_stage import (
    ECHO,
    HEIGHT,
    SCENES,
    VIDEO_PLACE,
    WIDTH,
    Pixels,
    StageGuest,
    photo,
    port_of,
    stage,
)
from tests.xspice_stage import seen_in

from aiospice.agent.events import ClipboardData, ClipboardGrabbed, ClipboardReleased
from aiospice.agent.guest_events import ClientAnnounced, PointerMoved
from aiospice.client.picture import Picture
from aiospice.proof.certificates import make_certificates
from aiospice.proof.delay import DelayedNetwork
from aiospice.proof.gtkclient import GtkClient
from aiospice.proof.pcap import read_connections
from aiospice.proof.relay import CaptureRelay
from aiospice.server.config import COMPRESSIONS
from aiospice.server.guest import Host, HostDevice
from aiospice.wire.display import StreamCreate, VideoCodecType

pytestmark = pytest.mark.peers

TEXT, PNG = 1, 2
RATE = 48000


@asynccontextmanager
async def served(
    guest: StageGuest | None = None, *, client: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[StageGuest, GtkClient]]:
    """A server and a client of it that has all its channels open."""
    async with stage(guest, **options) as server:
        port = port_of(server)
        async with GtkClient("127.0.0.1", port=port, **(client or {})) as gtk:
            await gtk.opened("main:0", "display:0", "inputs:0", "cursor:0")
            yield server.guest, gtk


def still(compression: str = "auto", **more: Any) -> dict[str, Any]:
    """Options for images that are as they were, and no videos."""
    return {"compression": compression, "lossy": "never", "video": "never", **more}


# -- pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_every_scene_is_shown_as_it_is(compression: str) -> None:
    async with served(**still(compression)) as (guest, gtk):
        await gtk.shows(guest.truth)
        for scene in SCENES:
            getattr(guest, f"scene_{scene}")()
            await gtk.shows(guest.truth)
        assert gtk.complaints() == []


async def test_who_comes_late_sees_what_is_there() -> None:
    async with stage(**still()) as server:
        for scene in SCENES[:-1]:
            getattr(server.guest, f"scene_{scene}")()
        for _ in range(2):
            async with GtkClient("127.0.0.1", port=port_of(server)) as gtk:
                await gtk.shows(server.guest.truth)
                assert gtk.complaints() == []


@asynccontextmanager
async def watched(
    path: Path, **options: Any
) -> AsyncIterator[tuple[StageGuest, GtkClient, CaptureRelay]]:
    """The same, with all that was said to the client written down."""
    async with (
        stage(**options) as server,
        CaptureRelay(path) as relay,
        GtkClient("127.0.0.1", port=await relay.to(port_of(server))) as gtk,
    ):
        await gtk.opened("main:0", "display:0", "inputs:0", "cursor:0")
        yield server.guest, gtk, relay


async def test_jpeg_is_near_at_once_and_exact_when_all_is_quiet(tmp_path: Path) -> None:
    path = tmp_path / "jpeg.pcapng"
    async with watched(path, lossy="always", video="never") as (guest, gtk, _):
        guest.scene_photo()
        await gtk.shows(guest.truth, tolerance=60)
        await gtk.shows(guest.truth)
        assert gtk.complaints() == []
    seen = seen_in(path)
    assert seen.images["JPEG"], seen


@pytest.mark.net
async def test_a_thin_line_gets_small_images_and_exact_ones_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "thin.pcap"
    async with DelayedNetwork(5, rate=900_000, pcap=path) as net:
        options: dict[str, Any] = {
            "host": net.server_address,
            "password": "secret",
            "video": "never",
        }
        async with stage(**options) as server:
            guest = server.guest
            client: dict[str, Any] = {"password": "secret", "prefix": net.command()}
            async with GtkClient(net.server_address, port=port_of(server), **client) as gtk:
                await gtk.shows(guest.truth)
                (session,) = server._shell.core.sessions.values()
                for turn, scene in enumerate(("noise", "photo", "page", "alpha", "odd")):
                    for seed in range(20):  # it is known how thin it is, or again
                        if session.helds[0].thin:
                            break
                        guest.put(0, 0, photo(WIDTH, HEIGHT, 20 * turn + seed))
                        await gtk.shows(guest.truth)
                    getattr(guest, f"scene_{scene}")()
                    await gtk.shows(guest.truth)
                assert gtk.complaints() == []
    seen = seen_in(path)
    assert {"JPEG", "ZLIB_GLZ_RGB"} <= set(seen.images), seen


@pytest.mark.parametrize("codec", ["MJPEG", "VP8"])
async def test_what_moves_is_a_video_and_exact_when_it_stops(codec: str, tmp_path: Path) -> None:
    path = tmp_path / "video.pcapng"
    async with watched(path) as (guest, gtk, relay):
        await gtk.do("prefer", codecs=[VideoCodecType[codec]])
        guest.scene_page()
        await gtk.shows(guest.truth)
        frames: list[Pixels] = []
        near = began = 0
        async with asyncio.timeout(60):
            while near < 5:
                frames.append(guest.video_frame(len(frames)))
                await asyncio.sleep(1 / 25)
                relay.flush()
                if len(frames) % 10:
                    continue
                began = began or seen_in(path).messages["StreamData"]
                if began:
                    near += shows_one_of(await gtk.pixels(), frames[-50:])
        await gtk.shows(guest.truth)
        assert gtk.complaints() == []
    assert seen_in(path).messages["StreamDestroy"]
    assert codecs_in(path) == {VideoCodecType[codec]}


def codecs_in(path: Path) -> set[int]:
    """The codecs of the videos in a capture."""
    displays = (one for one in read_connections(path) if one.channel_type == 2)
    messages = (message for one in displays for message in one.sent_by("server"))
    created = (m for m in messages if m.type == StreamCreate.number)
    return {StreamCreate.parse(message.body).codec_type for message in created}


def shows_one_of(shown: Picture | None, frames: list[Pixels]) -> bool:
    """Whether where the video is played is roughly one of these pictures."""
    assert shown is not None
    x, y = VIDEO_PLACE
    height, width = frames[0].shape[:2]
    part = shown.array()[y : y + height, x : x + width].astype(np.int16)
    apart = [abs(part - frame[..., 2::-1]).mean() for frame in frames]
    assert min(apart) < 6, min(apart)
    return True


async def test_several_displays_and_monitors() -> None:
    class Two(StageGuest):
        def attach(self, host: Host) -> None:
            super().attach(host)
            self.second = host.display(1)
            self.second.resize(320, 200)
            self.second.pixels[:] = photo(320, 200, 11)
            self.second.update()
            self.screen.heads([(0, 0, 0, 400, 480), (1, 400, 0, 240, 480)])

        def second_truth(self) -> Picture:
            return Picture(320, 200, self.second.pixels.tobytes())

    guest = Two()
    async with served(guest, **still()) as (_, gtk):
        guest.scene_page()
        await gtk.shows(guest.truth)
        await gtk.shows(guest.second_truth, display=1)
        sizes = [(m["id"], m["x"], m["width"]) for m in await gtk.do("monitors")]
        assert sizes == [(0, 0, 400), (1, 400, 240)]


# -- keyboard, mouse, cursor ---------------------------------------------------------------------


async def test_keys_buttons_and_places_reach_the_guest() -> None:
    async with served() as (guest, gtk):
        for code in (0x1E, 0x148, 0x11D):  # a, cursor up, right control: 0x100 is spice-gtk's E0
            await gtk.do("key", code=code)
        wanted = [(code, down) for code in (0x1E, 0xE048, 0xE01D) for down in (True, False)]
        await guest.until(lambda: guest.keys == wanted, f"{wanted}, only {guest.keys}")
        await gtk.wait("main", mouse_mode=2)
        await gtk.do("position", x=123, y=45)
        await guest.until(lambda: (123, 45, 0) in guest.places, "the place")
        await gtk.do("button", button=1, pressed=True, buttons=1)
        await gtk.do("button", button=1, pressed=False, buttons=0)
        await gtk.do("button", button=3, pressed=True, buttons=4)
        await gtk.do("button", button=3, pressed=False, buttons=0)
        wanted = [(number, down) for number in (1, 3) for down in (True, False)]
        await guest.until(lambda: guest.buttons == wanted, f"{wanted}, only {guest.buttons}")
        await gtk.do("locks", locks=4)
        await guest.until(lambda: guest.light == 4, "caps lock")
        await gtk.wait("locks", locks=4)


async def test_motion_reaches_the_guest_in_server_mode() -> None:
    async with served() as (guest, gtk):
        guest.host.mouse_modes(absolute=False)
        await with_agent(guest, gtk)  # which takes positions then
        await gtk.do("position", x=50, y=60)
        await guest.until(lambda: some(guest, PointerMoved), "the place")
        moved = some(guest, PointerMoved)[-1]
        assert (moved.x, moved.y) == (50, 60)
        guest.device.opened = False
        await gtk.wait("main", mouse_mode=1, agent=False)
        await gtk.do("motion", dx=7, dy=-3)
        await guest.until(lambda: (7, -3) in guest.moves, "the motion")


async def test_the_cursor_is_as_it_is() -> None:
    shape = np.zeros((20, 30, 4), np.uint8)
    shape[..., 3] = np.arange(30) * 8
    shape[..., :3] = shape[..., 3:] // np.array((2, 3, 4), np.uint8)  # alpha is multiplied in
    async with served() as (guest, gtk):
        guest.host.set_cursor(shape, 3, 4)
        await gtk.wait("cursor")
        found = await gtk.do("cursor")
        assert (found["width"], found["height"]) == (30, 20)
        assert (found["hot_x"], found["hot_y"]) == (3, 4)
        rgba = np.frombuffer(bytes.fromhex(found["rgba"]), np.uint8).reshape(20, 30, 4)
        assert (rgba == shape[..., [2, 1, 0, 3]]).all()
        guest.host.hide_cursor()
        await gtk.wait("cursor-hide")


# -- devices -------------------------------------------------------------------------------------


async def test_a_port_carries_bytes_both_ways_as_they_are() -> None:
    data = np.random.default_rng(5).bytes(1 << 20)
    async with served() as (guest, gtk):
        await gtk.wait("port", name=ECHO, opened=True)
        for start in range(0, len(data), 1 << 16):
            await gtk.do("port_write", name=ECHO, data=data[start : start + (1 << 16)])
        assert await gtk.data("port-data", len(data), name=ECHO) == data
        assert guest.port_heard == data
        more = np.random.default_rng(6).bytes(1 << 20)
        guest.write_port(more)
        assert await gtk.data("port-data", 2 << 20, name=ECHO) == data + more
        guest.port.opened = False
        await gtk.wait("port", name=ECHO, opened=False)


async def test_the_guest_reads_a_folder_that_the_client_shares(tmp_path: Path) -> None:
    data = np.random.default_rng(9).bytes(100_000)
    (tmp_path / "shared.bin").write_bytes(data)

    class Reader(StageGuest):
        answer = b""

        def attach(self, host: Host) -> None:
            super().attach(host)
            self.webdav = host.webdav()
            self.webdav.opened = True

        def device_readable(self, device: HostDevice) -> None:
            if device is self.webdav:
                while data := device.read():
                    self.answer += data
            super().device_readable(device)

        def body(self) -> bytes:
            """What the client's server has answered, out of its frames."""
            found, rest = b"", self.answer
            while len(rest) > 10:
                size = int.from_bytes(rest[8:10], "little")
                found, rest = found + rest[10 : 10 + size], rest[10 + size :]
            return found

    guest = Reader()
    client = {"shared_dir": tmp_path, "share_dir_ro": True}
    async with served(guest, client=client) as (_, gtk):
        await gtk.opened("webdav:0")
        await guest.until(lambda: guest.webdav.clients, "a client at the webdav channel")
        asked = b"GET /shared.bin HTTP/1.1\r\nHost: localhost\r\n\r\n"
        guest.webdav.write((7).to_bytes(8, "little") + len(asked).to_bytes(2, "little") + asked)
        await guest.until(lambda: guest.body().endswith(data[-100:]), "the file")
        head, _, body = guest.body().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert body == data


# -- agent ---------------------------------------------------------------------------------------


async def with_agent(guest: StageGuest, gtk: GtkClient) -> None:
    """Wait until the client and the agent know each other."""
    await gtk.wait("main", agent=True)
    await guest.until(lambda: some(guest, ClientAnnounced), "the client's capabilities")


def some(guest: StageGuest, kind: type[Any]) -> list[Any]:
    """What the agent was told of a kind."""
    return [event for event in guest.agent_events if isinstance(event, kind)]


@pytest.mark.parametrize(("kind", "form"), [(TEXT, "text"), (PNG, "png")])
async def test_the_clipboard_goes_both_ways_as_it_is(kind: int, form: str) -> None:
    chance = np.random.default_rng(7)
    ours, theirs = (chance.bytes(300_000 + 17 * i) for i in range(2))
    if kind == TEXT:
        ours, theirs = ("äöü €\n".encode() * 9000, b"from the client " * 11_111)
    async with served() as (guest, gtk):
        await with_agent(guest, gtk)
        guest.tell_agent(lambda agent: agent.clipboards.grab({form: ours}))
        await gtk.wait("clipboard-grab", kinds=[kind], selection=0)
        await gtk.do("clipboard_request", kind=kind)
        got = await gtk.wait("clipboard", kind=kind, selection=0)
        assert got["data"] == ours
        await gtk.do("clipboard_grab", kinds=[kind])
        await guest.until(lambda: some(guest, ClipboardGrabbed), "the grab")
        guest.tell_agent(lambda agent: agent.request(form))
        await gtk.wait("clipboard-request", kind=kind, selection=0)
        await gtk.do("clipboard_send", kind=kind, data=theirs)
        answers = await guest.until(lambda: some(guest, ClipboardData), "the clipboard")
        assert answers[0].data == theirs
        await gtk.do("clipboard_release")
        await guest.until(lambda: some(guest, ClipboardReleased), "the release")


async def test_files_arrive_as_they_are(tmp_path: Path) -> None:
    chance = np.random.default_rng(8)
    files = {"empty": b"", "small.txt": b"hello", "large ä.bin": chance.bytes(3_000_000)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    async with served() as (guest, gtk):
        await with_agent(guest, gtk)
        await gtk.do("send_files", paths=[str(tmp_path / name) for name in files])
        said = await gtk.wait("files-sent")
        assert said["error"] is None
        assert guest.files == files


async def test_the_guest_is_asked_for_monitors() -> None:
    async with served() as (guest, gtk):
        await with_agent(guest, gtk)
        await gtk.do("resize", monitors=[[0, 0, 800, 500]])
        await guest.until(lambda: (0, 0, 800, 500) in guest.wanted_monitors, "the monitors")
        guest.screen.resize(800, 500)
        guest.put(100, 100, photo(600, 300, 4))
        shown = await gtk.shows(guest.truth)
        assert (shown.width, shown.height) == (800, 500)


# -- sound ---------------------------------------------------------------------------------------


def tone(seconds: float) -> bytes:
    """Two channels of a sine: another height left than right."""
    count = int(RATE * seconds)
    samples = array("h", bytes(4 * count))
    for i in range(count):
        samples[2 * i] = int(9000 * math.sin(2 * math.pi * 440 * i / RATE))
        samples[2 * i + 1] = int(5000 * math.sin(2 * math.pi * 660 * i / RATE))
    return samples.tobytes()


async def play(guest: StageGuest, samples: bytes) -> None:
    """Have the guest play, 10 ms a packet, as fast as it sounds: what is late is left out."""
    guest.host.playback_start(RATE, 2)
    for start in range(0, len(samples), RATE // 100 * 4):
        guest.host.playback(samples[start : start + RATE // 100 * 4])
        await asyncio.sleep(0.01)


async def test_raw_sound_arrives_sample_by_sample() -> None:
    samples = tone(0.5)
    async with served(client={"raw_sound": True}) as (guest, gtk):
        await gtk.opened("playback:0")
        await play(guest, samples)
        await gtk.wait("playback-start", channels=2, rate=RATE)
        assert await gtk.data("playback-data", len(samples)) == samples
        guest.host.playback_stop()
        await gtk.wait("playback-stop")
        guest.host.set_volume((30_000, 20_000), muted=True)
        await gtk.wait("volume", volume=[30_000, 20_000], mute=True)


async def test_opus_arrives_as_long_and_as_loud() -> None:
    samples = tone(0.6)
    async with served() as (guest, gtk):
        await gtk.opened("playback:0")
        await play(guest, samples)
        await gtk.wait("playback-start", channels=2, rate=RATE)
        got = await gtk.data("playback-data", len(samples) * 9 // 10)
        heard, played = (np.frombuffer(s, np.int16).reshape(-1, 2) for s in (got, samples))
        assert abs(len(heard) - len(played)) < RATE // 20
        middle = slice(RATE // 10, RATE // 2)
        for side, height in ((0, 440), (1, 660)):
            loud, true = (np.std(s[middle, side].astype(float)) for s in (heard, played))
            assert abs(loud / true - 1) < 0.1
            spectrum = abs(np.fft.rfft(heard[middle, side]))
            strongest = spectrum.argmax() * RATE / len(heard[middle])
            assert abs(strongest - height) < 5
        assert not played[: len(heard)].tobytes().startswith(heard.tobytes())


async def test_the_guest_hears_the_microphone() -> None:
    samples = tone(0.3)
    async with served(StageGuest(record=True), client={"raw_sound": True}) as (guest, gtk):
        await gtk.opened("record:0")
        guest.host.record_start(RATE, 2)
        await gtk.wait("record-start", channels=2, rate=RATE)
        step = RATE // 100 * 4
        for start in range(0, len(samples), step):
            time = 10 * start // step
            await gtk.do("record", data=samples[start : start + step], time=time)
        # The library packs what it sends in frames of its own size, so the last may stay there.
        await guest.until(lambda: len(guest.heard) > len(samples) - 2 * step, "the sound")
        assert samples.startswith(guest.heard)


# -- ways in -------------------------------------------------------------------------------------


async def test_a_unix_socket_and_a_ticket(tmp_path: Path) -> None:
    path = tmp_path / "spice.sock"
    options = still(port=None, unix_path=path, password="secret")
    async with stage(**options) as server:
        server.guest.scene_photo()
        async with GtkClient(unix_path=path, password="secret") as gtk:
            await gtk.shows(server.guest.truth)
        async with GtkClient(unix_path=path, password="wrong") as gtk:
            said = await gtk.wait("channel-event", channel="main:0", what="error-auth")
            assert said["error"]


async def test_tls_for_all_channels(tmp_path: Path) -> None:
    pki = make_certificates(tmp_path)
    options = still(
        port=None,
        tls_port=0,
        certificate=pki.certificate_file,
        key=pki.key_file,
        secure_channels="all",
    )
    async with stage(**options) as server:
        server.guest.scene_photo()
        port = port_of(server, "spice+tls")
        client = GtkClient("127.0.0.1", tls_port=port, ca_file=pki.ca_file)
        async with client as gtk:
            await gtk.shows(server.guest.truth)
