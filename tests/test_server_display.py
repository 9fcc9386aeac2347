"""The display pipeline of the server: what is sent of what the guest draws, to our own client."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.display_rig import DisplayRig
from tests.random_guest import photo, run

from aiospice.channels.framing import Framing
from aiospice.channels.server.display import DisplayServer
from aiospice.errors import LocalError, RemoteProtocolError
from aiospice.proof.content import made_up
from aiospice.server import encode
from aiospice.server.config import COMPRESSIONS, ServerConfig
from aiospice.server.encode import RAW, Encoded
from aiospice.server.held import ACK_WINDOW, LINE_PIXELS, QUEUE_BYTES
from aiospice.server.kept import ClientCaches
from aiospice.server.line import Line
from aiospice.server.region import MAX_BOXES
from aiospice.server.streams import MAX_RATE, QUALITIES
from aiospice.wire import display


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


# -- random guests, clients, orders ----------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(0, 1 << 30), st.sampled_from(("auto", "always", "never")))
def test_whatever_is_drawn_and_however_slow_clients_are_they_end_with_the_right_pixels(
    seed: int, lossy: str
) -> None:
    run(seed, video="never", lossy=lossy)


@settings(max_examples=8)
@given(st.integers(0, 1 << 30), st.sampled_from(("auto", "always", "never")))
def test_with_videos_too(seed: int, lossy: str) -> None:
    run(seed, movie=True, lossy=lossy)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("asked", [False, True])
def test_every_compression_shows_the_same(compression: str, asked: bool) -> None:
    rig = DisplayRig(200, 150, compression="auto" if asked else compression)
    wish = {"auto": 0, "off": 1, "auto_glz": 2, "auto_lz": 3, "quic": 4, "glz": 5, "lz": 6}
    client = rig.client(compression=wish.get(compression, 7) if asked else 0)
    for which in (0, 1, 0, 1):
        page(rig, which)
        rig.publish()
        rig.settle()
        rig.check()
        rig.display.array[:20, :100] = 60 * which
        rig.display.array[5:9, 5:80] = rig.display.array[50:54, 50:125]
        rig.display.damage(0, 0, 100, 20)
        rig.publish()
        rig.settle()
        rig.check()
    kinds = set(client.screen.images) - {"FROM_CACHE"}
    wanted = {
        "off": {"BITMAP"},
        "lz": {"LZ_RGB"},
        "quic": {"QUIC"},
        "glz": {"GLZ_RGB"},
        "lz4": {"LZ4"},
        "auto_glz": {"QUIC", "GLZ_RGB"},
    }
    assert kinds == wanted.get(compression, {"QUIC", "LZ_RGB"})


def test_a_client_without_lz4_isnt_sent_any() -> None:
    rig = DisplayRig(200, 150, compression="lz4")
    client = rig.client(client_caps=())
    page(rig, 1)
    rig.publish()
    rig.settle()
    rig.check()
    assert set(client.screen.images) == {"LZ_RGB"}
    assert not client.screen.monitors


# -- what is cheapest ------------------------------------------------------------------------


def test_a_typed_letter_is_one_small_image() -> None:
    rig = DisplayRig(640, 480)
    client = rig.client()
    page(rig, 1)
    rig.publish()
    rig.settle()
    client.names()
    client.bytes = 0
    rig.display.array[200:210, 300:307] = rig.display.array[7:17, 16:23][::-1]
    rig.display.damage(0, 0, 640, 480)
    rig.publish()
    assert client.names() == ["DrawCopy"]
    assert client.bytes < 300
    rig.check()


def test_far_apart_changes_are_sent_apart() -> None:
    rig = DisplayRig(640, 480)
    client = rig.client()
    rig.settle()
    client.names()
    for x, y in ((5, 5), (600, 5), (300, 400)):
        rig.display.array[y : y + 2, x : x + 2] = ((1, 2, 3, 4), (5, 6, 7, 8))
    rig.display.damage(0, 0, 640, 480)
    client.bytes = 0
    rig.publish()
    assert client.names() == ["DrawCopy"] * 3
    assert client.bytes < 3 * 120
    rig.check()


def test_a_page_scrolls_beside_a_picture_that_keeps_changing() -> None:
    rig = DisplayRig(640, 480)
    client = rig.client()
    page(rig, 1)
    rig.publish()
    for turn in range(10):
        rig.settle()
        client.names()
        rig.display.array[300:460, 400:600] = photo(200, 160, turn)
        rig.display.damage(400, 300, 200, 160)
        pixels = rig.display.array[:256, :320]
        pixels[:-16] = pixels[16:].copy()
        rig.display.damage(0, 0, 320, 256)
        rig.publish()
        assert "CopyBits" in client.names(), turn
    rig.settle()
    rig.check()


@pytest.mark.parametrize("pitch", [8, 12, 16, 20])
def test_lines_of_text_are_found_whatever_lies_between_them(pitch: int) -> None:
    rig = DisplayRig(640, 480)
    window = np.full((200, 280, 4), 236, np.uint8)
    letters = np.random.default_rng(1).integers(0, 255, (200, 280, 4), np.uint8)
    for top in range(pitch // 2, 196, pitch):
        window[top : top + 4] = letters[top : top + 4]
    client = rig.client()
    for turn in range(8):
        rig.display.array[:] = 90
        rig.display.array[40 + 6 * turn : 240 + 6 * turn, 60 + 10 * turn : 340 + 10 * turn] = window
        rig.display.damage(0, 0, 640, 480)
        rig.publish()
        rig.settle()
        assert ("CopyBits" in client.names()) == (turn > 0), turn
    rig.check()


def test_a_dragged_window_is_moved() -> None:
    rig = DisplayRig(640, 480)
    page(rig, 1)
    client = rig.client()
    rig.settle()
    below = rig.display.array.copy()
    window = photo(200, 150, 1)
    rig.display.array[100:250, 100:300] = window
    rig.display.damage(100, 100, 200, 150)
    rig.publish()
    rig.settle()
    client.names()
    whole, client.bytes = client.bytes, 0
    rig.display.array[:] = below
    rig.display.array[107:257, 113:313] = window
    rig.display.damage(100, 100, 213, 157)
    rig.publish()
    rig.settle()
    rig.check()
    names = client.names()
    assert names.count("CopyBits") == 1
    assert client.bytes * 5 < whole


def test_an_image_that_comes_again_is_named() -> None:
    rig = DisplayRig(320, 200)
    client = rig.client()
    rig.settle()
    cursor = photo(50, 40, 3)
    sizes = []
    for _ in range(4):
        client.bytes = 0
        rig.display.array[50:90, 50:100] = cursor
        rig.display.damage(50, 50, 50, 40)
        rig.publish()
        rig.settle()
        rig.check()
        sizes.append(client.bytes)
        rig.display.fill(50, 50, 50, 40, 0)
        rig.publish()
    assert client.screen.images["FROM_CACHE"] == 2
    assert sizes[3] < 250 < sizes[0]


def test_what_a_client_keeps_stays_within_what_it_announced() -> None:
    rig = DisplayRig(64, 64)
    client = rig.client()
    client.held.caches.limit = 8192
    chance = np.random.default_rng(0)
    pictures = [chance.integers(0, 2, (32, 32, 4), np.uint8) * 200 for _ in range(12)]
    for turn in range(60):
        rig.display.array[:32, :32] = pictures[turn * 7 % 12]
        rig.display.damage(0, 0, 32, 32)
        rig.publish()
        rig.settle()
        rig.check()
        kept = client.screen.caches.images
        assert kept.pixels == client.held.images.pixels <= 8192
    assert "InvalList" in client.names()
    rig.leave(client)
    assert client.held.caches.pixels == 0


def test_surfaces_are_drawn_from_without_their_pixels() -> None:
    rig = DisplayRig(320, 200)
    client = rig.client()
    id = rig.display.create_surface(60, 50)
    rig.display.surface_array(id)[:] = photo(60, 50, 1)
    rig.display.surface_damage(id, 0, 0, 60, 50)
    rig.publish()
    rig.settle()
    client.names()
    client.bytes = 0
    for x in range(5):
        rig.display.draw_surface(id, (10, 10, 40, 40), 50 * x, x)
    rig.publish()
    assert client.names() == ["DrawCopy"] * 5
    assert client.bytes < 5 * 100
    rig.check()
    late = rig.client()
    rig.settle()
    rig.check()
    assert "SurfaceDestroy" not in late.names()
    rig.display.destroy_surface(id)
    rig.publish()
    assert late.names() == client.names() == ["SurfaceDestroy"]
    with pytest.raises(LocalError, match="no surface"):
        rig.display.draw_surface(id, (0, 0, 1, 1), 0, 0)


def test_a_guest_that_tells_wrong_is_corrected() -> None:
    rig = DisplayRig(320, 200)
    rig.client()
    page(rig, 1)
    rig.publish()
    rig.settle()
    rig.display.copy(0, 50, 320, 150, 0, 0)
    rig.display.fill(10, 10, 100, 100, 0x55)
    rig.display.array[:] = 1  # not what it said
    rig.display.array[20:30] = 7
    rig.publish()
    rig.settle()
    want = rig.display.array[:, :, 0].copy()
    assert set(want[0]) == {1}
    rig.display.damage(0, 0, 320, 200)
    rig.publish()
    rig.settle()
    rig.check()


# -- slow clients ----------------------------------------------------------------------------


def test_a_client_that_never_reads_costs_a_bounded_queue_and_one_region() -> None:
    rig = DisplayRig(320, 240, video="never")
    client, other = rig.client(pipe=1 << 14), rig.client()
    rig.settle()
    client.deaf = True
    chance = np.random.default_rng(0)
    sizes = []
    for turn in range(1000):
        rig.now += 0.05
        x, y = turn * 37 % 300, turn * 53 % 220
        rig.display.array[y : y + 20, x : x + 20] = chance.integers(0, 255, (20, 20, 4), np.uint8)
        rig.display.damage(x, y, 20, 20)
        rig.publish()
        rig.work()
        if turn % 100 == 99:
            sizes.append(len(pickle.dumps(client.held.queue)))
            assert client.channel.queued_bytes <= QUEUE_BYTES + (1 << 18)
            assert all(len(plane.dirty) <= MAX_BOXES for plane in client.held.planes.values())
    assert max(sizes) < 4 * LINE_PIXELS
    assert other.held.behind == 0
    assert client.held.behind <= 2 * 320 * 240
    client.bytes = 0
    rig.settle()
    rig.check()
    # 1000 frames of 1200 bytes were replaced by one screen.
    assert client.bytes < 400_000


def test_a_client_that_acknowledges_nothing_is_left_alone() -> None:
    rig = DisplayRig(320, 240)
    client = rig.client()
    rig.settle()
    client.end._ack_window = 0  # our client forgets that it was asked
    for turn in range(300):
        rig.display.fill(turn % 300, 10, 5, 5, turn)
        rig.publish()
    assert client.channel.blocked
    assert client.channel.unacked <= 2 * ACK_WINDOW + 2
    assert client.held.behind <= 320 * 240


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image is packed in a thread, however little it takes."""
    monkeypatch.setattr(encode, "LIGHT", -1)


@pytest.mark.usefixtures("threads")
def test_a_clients_queue_is_dropped_with_it_and_others_go_on() -> None:
    rig = DisplayRig(320, 240)
    first, second = rig.client(), rig.client()
    rig.settle()
    page(rig, 0)
    rig.publish()
    assert first.jobs
    assert not second.jobs  # it waits for what the first one's jobs bring
    rig.leave(first)
    assert rig.display.woken == [second.held]
    rig.settle()
    rig.check()


@pytest.mark.usefixtures("threads")
def test_images_are_packed_once_for_all_clients() -> None:
    rig = DisplayRig(320, 240)
    clients = [rig.client() for _ in range(5)]
    rig.settle()
    page(rig, 0)
    rig.publish()
    assert sum(len(client.jobs) for client in clients) == 2  # 320 x 240 pixels are two strips
    rig.settle()
    rig.check()


def test_nothing_is_kept_while_nobody_looks() -> None:
    rig = DisplayRig(320, 240)
    client = rig.client()
    rig.settle()
    rig.leave(client)
    screen = rig.display.surfaces[0]
    assert screen.shadow is None
    for turn in range(300):
        rig.display.fill(turn, 0, 1, 1, turn)
        rig.display.damage(0, 0, 320, 240)
    rig.publish()
    assert not screen.damage
    assert not rig.display._hints
    rig.client()
    rig.settle()
    rig.check()


def test_an_idle_client_takes_little() -> None:
    rig = DisplayRig(1024, 768, lossy="never")
    page(rig, 1)
    sizes = []
    for _ in range(2):
        clients = [rig.client() for _ in range(10)]
        rig.settle()
        sizes.append(len(pickle.dumps([client.held for client in clients])))
    assert (sizes[1] - sizes[0]) / 10 < 64 << 10


# -- losses ----------------------------------------------------------------------------------


def test_a_lossy_picture_becomes_exact_when_it_is_quiet() -> None:
    rig = DisplayRig(320, 200, lossy="always")
    client = rig.client()
    rig.settle()
    page(rig, 0)
    rig.publish()
    rig.work()
    assert client.screen.images.get("JPEG")
    with pytest.raises(AssertionError):
        rig.check()
    rig.settle(2)
    rig.check()
    assert client.held.next_wake() is None


class SlowLine:
    """Answers to pings come as from a line of so many bytes a second."""

    def __init__(self, rate: float, *, local: bool = False) -> None:
        self.line = Line(local=local)
        self.rate = rate
        self.now = 0.0

    def send(self, size: int) -> None:
        """So many bytes leave, and arrive in time; then their ping is answered."""
        channel = DisplayServer((2, 0), Framing(2, True), ())
        channel.handed_out = self.line.left
        if self.line.round_trip is None:
            self.line.began(channel, self.now)
            self.line.answered(channel._ping_id, self.now + 0.01)
        channel.handed_out += size
        self.line.sent(channel, self.now)
        self.now += 0.01 + size / self.rate
        self.line.answered(channel._ping_id, self.now)


def test_a_thin_line_is_told_from_a_wide_one() -> None:
    thin, wide = SlowLine(100_000), SlowLine(20_000_000)
    for _ in range(5):
        thin.send(100_000)
        wide.send(100_000)
    assert thin.line.thin
    assert not wide.line.thin
    assert 80_000 < (thin.line.rate or 0) < 120_000
    assert thin.line.budget < 100_000 < wide.line.budget
    thin.rate = 50_000_000
    for _ in range(20):
        thin.send(100_000)
    assert not thin.line.thin


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("rate", [50_000, 700_000, 1_500_000, 50_000_000])
def test_a_line_that_is_full_has_a_ping_under_way(rate: float, local: bool) -> None:
    slow = SlowLine(rate, local=local)
    for _ in range(5):
        slow.send(600_000)
    channel = DisplayServer((2, 0), Framing(2, True), ())
    channel.handed_out = slow.line.left
    while not slow.line.full:
        channel.handed_out += 30_000
        slow.line.sent(channel, slow.now)
    assert channel.pinged_at is not None  # or nothing would be sent any more


def test_on_a_thin_line_drawings_are_deflated_and_pictures_lossy() -> None:
    rig = DisplayRig(320, 200)
    client = rig.client()
    rig.settle()
    client.held.line._thin = True
    page(rig, 1)
    rig.publish()
    rig.settle()
    rig.check()
    assert client.screen.images.get("ZLIB_GLZ_RGB")
    page(rig, 0)
    rig.publish()
    rig.work()
    assert client.screen.images.get("JPEG")
    rig.settle(2)
    rig.check()
    assert rig.client(local=True).held.thin is False


# -- videos ----------------------------------------------------------------------------------


def play(rig: DisplayRig, frames: int, first: int = 0) -> None:
    """A movie of 25 frames a second."""
    for time in range(first, first + frames):
        rig.now += 0.04
        rig.display.array[50:200, 40:240] = photo(200, 150, time)
        rig.display.damage(40, 50, 200, 150)
        rig.publish()
        rig.work()


def test_what_keeps_changing_becomes_a_video_and_ends_exact() -> None:
    rig = DisplayRig(320, 240)
    client, images = rig.client(), rig.client(config=ServerConfig(video="never"))
    rig.settle()
    play(rig, 60)
    stream = client.screen.streams[0]
    assert (stream.dest, stream.codec) == ((40, 50, 240, 200), 1)
    assert not images.screen.streams
    names = client.names()
    assert names.count("StreamCreate") == 1
    assert names.count("StreamData") > 25
    client.bytes = images.bytes = 0
    play(rig, 20, 60)
    assert client.bytes * 4 < images.bytes
    assert client.held.next_wake() is not None
    rig.pass_time(2.5)
    rig.settle()
    assert not client.screen.streams
    assert client.names()[-1] == "DrawCopy"
    rig.check()
    assert client.held.next_wake() is None


def test_a_client_that_likes_vp8_better_gets_it_where_it_is_there() -> None:
    rig = DisplayRig(320, 240, video_codecs=(1, 2))
    client, other, third = rig.client(video_codecs=(2, 1)), rig.client(), rig.client(client_caps=())
    rig.settle()
    play(rig, 60)
    codecs = [one.screen.streams[0].codec for one in (client, other, third)]
    assert codecs == [2, 1, 1]
    assert client.screen.streams[0].frames > 20
    shown = np.frombuffer(client.screen.snapshot().bgrx, np.uint8).reshape(240, 320, 4)
    difference = np.abs(shown[:, :, :3].astype(int) - rig.display.array[:, :, :3])
    assert difference[50:200, 40:240].mean() < 8
    assert difference.max() < 100
    rig.pass_time(2.5)
    rig.settle()
    rig.check()


def test_a_video_whose_encoder_is_missing_after_all_goes_on_in_another_way() -> None:
    rig = DisplayRig(320, 240, video_codecs=(1, 2))
    client = rig.client(video_codecs=(2, 1))
    rig.encoders.run = lambda job: Encoded(RAW, b"")  # type: ignore[method-assign]
    rig.settle()
    play(rig, 60)
    assert client.screen.streams[0].codec == 1
    rig.pass_time(2.5)
    rig.settle()
    rig.check()


def test_scrolling_text_is_no_video() -> None:
    rig = DisplayRig(320, 240)
    client = rig.client()
    page(rig, 1)
    rig.publish()
    for _ in range(60):
        rig.now += 0.04
        rig.display.array[:] = np.roll(rig.display.array, -16, axis=0)
        rig.display.damage(0, 0, 320, 240)
        rig.publish()
        rig.work()
    assert not client.screen.streams
    rig.settle()
    rig.check()


def test_a_client_that_cant_play_a_video_gets_images() -> None:
    rig = DisplayRig(320, 240)
    client = rig.client()
    rig.settle()
    play(rig, 40)
    assert client.screen.streams
    client.end.send(
        display.StreamReport(
            stream_id=0, unique_id=0, start_frame_mm_time=0, end_frame_mm_time=0, num_frames=0,
            num_drops=0xFFFFFFFF, last_frame_delay=0, audio_delay=0xFFFFFFFF,
        )
    )  # fmt: skip
    rig.step(client)
    play(rig, 10, 40)
    assert not client.screen.streams
    rig.check()


def test_frames_that_come_late_are_made_smaller_and_then_fewer() -> None:
    rig = DisplayRig(320, 240)
    client = rig.client()
    rig.settle()
    play(rig, 40)
    stream = client.held.streams.playing[0]

    def report(drops: int, delay: int) -> display.StreamReport:
        return display.StreamReport(
            stream_id=0, unique_id=stream.serial, start_frame_mm_time=0, end_frame_mm_time=0,
            num_frames=5, num_drops=drops, last_frame_delay=delay, audio_delay=0xFFFFFFFF,
        )  # fmt: skip

    for _ in range(8):
        client.held.streams.report(report(3, -50))
    assert stream.quality == 0
    assert stream.interval > 1 / MAX_RATE
    for _ in range(100):
        client.held.streams.report(report(0, 300))
    assert stream.interval == 1 / MAX_RATE
    assert stream.quality == len(QUALITIES) - 1


# -- what clients may not send ---------------------------------------------------------------


def test_a_second_init_and_a_gl_answer_end_the_channel() -> None:
    for message in (
        display.Init(
            pixmap_cache_id=1,
            pixmap_cache_size=1,
            glz_dictionary_id=1,
            glz_dictionary_window_size=1,
        ),
        display.GlDrawDone(),
    ):
        rig = DisplayRig(32, 32)
        client = rig.client()
        client.end.send(message)
        with pytest.raises(RemoteProtocolError, match="display:0"):
            rig.step(client)
        rig.display.fill(0, 0, 5, 5, 1)
        rig.display.publish(rig.now)  # nothing is sent, nothing breaks


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-(1 << 31), (1 << 31) - 1))
@settings(max_examples=20)
def test_any_announced_cache_is_taken(pixels: int, window: int) -> None:
    caches = ClientCaches()
    caches.announced(pixels, window)
    assert 0 <= caches.limit <= 1 << 30
    assert caches.glz(0, 1) == (window > 0)


def test_sizes_that_clients_could_not_take_are_refused() -> None:
    rig = DisplayRig(32, 32)
    for width, height in ((0, 1), (1, 0), (20000, 1), (16384, 16384)):
        with pytest.raises(LocalError):
            rig.display.resize(width, height)
        with pytest.raises(LocalError):
            rig.display.create_surface(width, height)
    with pytest.raises(LocalError, match="resize"):
        rig.display.destroy_surface(0)
    with pytest.raises(LocalError, match="no size"):
        DisplayRig(0, 0).display.fill(0, 0, 1, 1, 1)
