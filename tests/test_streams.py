"""Videos on a display: what is decoded, where it is drawn, what is dropped, what is reported."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.test_screen import rect, surface

from aiospice.canvas.pixels import ARGB, RGB555, XRGB
from aiospice.channels.events import Event
from aiospice.client.caches import Caches
from aiospice.client.screen import NotDrawn, Screen, ScreenChanged, StreamEnded, StreamStarted
from aiospice.client.streams import (
    HEAVY,
    LATE_IN_A_ROW,
    MAX_FAILED,
    MAX_STREAM_PIXELS,
    MAX_STREAMS,
    Streams,
)
from aiospice.codecs import jpeg
from aiospice.codecs.image import XRGB as PLAIN
from aiospice.codecs.image import Decoded
from aiospice.codecs.video import H264, MJPEG, VP8, VideoEnd, VideoFrame
from aiospice.errors import DecodeError, MissingProgram, RemoteProtocolError, StateError
from aiospice.wire import display
from aiospice.wire.message import Message
from aiospice.wire.shapes import NO_CLIP, Clip, Rect

NONE = 0xFFFFFFFF
RED, GREEN, BLUE = (0, 0, 200), (0, 180, 0), (220, 0, 0)


def flat(colour: tuple[int, int, int], width: int = 16, height: int = 16) -> bytes:
    """A frame of one colour (blue, green, red)."""
    return jpeg.encode(bytes((*colour, 255)) * (width * height), width, height, 100)


def halves(width: int = 16, height: int = 16) -> bytes:
    """A frame whose upper half is red and whose lower half is blue."""
    half = width * height // 2
    rows = bytes((*RED, 255)) * half + bytes((*BLUE, 255)) * half
    return jpeg.encode(rows, width, height, 100)


def create(
    number: int = 1,
    *,
    codec: int = MJPEG,
    size: tuple[int, int] = (16, 16),
    dest: Rect | None = None,
    clip: list[Rect] | None = None,
    top_down: bool = True,
    surface_id: int = 0,
) -> display.StreamCreate:
    return display.StreamCreate(
        surface_id=surface_id,
        id=number,
        flags=int(top_down),
        codec_type=codec,
        stamp=0,
        stream_width=size[0],
        stream_height=size[1],
        src_width=size[0],
        src_height=size[1],
        dest=dest or rect(4, 4, 4 + size[0], 4 + size[1]),
        clip=NO_CLIP if clip is None else Clip(type=1, rects=tuple(clip)),
    )


def data(frame: bytes, number: int = 1, time: int = 1) -> display.StreamData:
    return display.StreamData(id=number, multi_media_time=time, data=frame)


def sized(
    frame: bytes, size: tuple[int, int], dest: Rect, number: int = 1, time: int = 1
) -> display.StreamDataSized:
    return display.StreamDataSized(
        id=number, multi_media_time=time, width=size[0], height=size[1], dest=dest, data=frame
    )


def activate(number: int = 1, window: int = 5, timeout: int = 1000) -> display.StreamActivateReport:
    return display.StreamActivateReport(
        stream_id=number, unique_id=77, max_window_size=window, timeout_ms=timeout
    )


class Table:
    """A screen that messages are put on; it is pickled before each of them."""

    def __init__(
        self,
        codecs: tuple[int, ...] = (MJPEG, VP8, H264),
        size: tuple[int, int] = (40, 40),
        format: int = XRGB,
    ) -> None:
        self.screen = Screen(0, Caches())
        self.screen.video_codecs = codecs
        self.now, self.clock = 10.0, 1000
        self.jobs: list[tuple[int, Any]] = []
        self.put(surface(*size, format=format))

    def _step(self) -> None:
        self.screen = pickle.loads(pickle.dumps(self.screen))
        self.screen.tick(self.now, self.clock)

    def put(self, *messages: Message) -> list[Event]:
        """Apply messages as they come from the wire."""
        events: list[Event] = []
        for message in messages:
            self._step()
            events += self.screen.apply(type(message).parse(message.body()))
            self.jobs += self.screen.take_jobs()
        return events

    def answer(self, result: Any = None, place: int = 0) -> list[Event]:
        """One of the jobs is done; MJPEG's are really done."""
        number, job = self.jobs.pop(place)
        self._step()
        if result is None and not isinstance(job, (VideoFrame, VideoEnd)):
            result = job.run()
        events = self.screen.computed(number, result)
        self.jobs += self.screen.take_jobs()
        return events

    def reports(self) -> list[display.StreamReport]:
        self._step()
        return self.screen.take_reports()

    def colour(self, x: int, y: int) -> str:
        """Which colour a pixel has, roughly."""
        picture = self.screen.snapshot()
        at = 4 * (y * picture.width + x)
        parts = picture.bgrx[at : at + 3]
        if max(parts) < 100:
            return "black"
        return ("blue", "green", "red")[parts.index(max(parts))]


def reasons(events: list[Event]) -> list[str]:
    return [event.reason for event in events if isinstance(event, NotDrawn)]


def painted(job: VideoFrame, colour: tuple[int, int, int]) -> Decoded:
    """What a decoder makes of a frame."""
    rows = bytes((*colour, 255)) * (job.width * job.height)
    return Decoded(job.width, job.height, PLAIN, rows, 0, 4 * job.width)


# Where a frame is drawn


def test_a_frame_fills_its_box_and_nothing_else() -> None:
    table = Table()
    (started,) = table.put(create())
    assert started == StreamStarted(display=0, stream_id=1, codec=1, width=16, height=16)
    assert table.put(data(flat(RED))) == [ScreenChanged(display=0, x=4, y=4, width=16, height=16)]
    assert [table.colour(x, 10) for x in (3, 4, 19, 20)] == ["black", "red", "red", "black"]
    assert [table.colour(10, y) for y in (3, 4, 19, 20)] == ["black", "red", "red", "black"]
    assert (table.screen.draws, table.screen.pixels) == (1, 256)
    ended = table.put(display.StreamDestroy(id=1))
    assert ended == [StreamEnded(display=0, stream_id=1, frames=1)]
    assert table.put(display.StreamDestroy(id=1)) == []


@pytest.mark.parametrize(("top_down", "upper"), [(True, "red"), (False, "blue")])
def test_rows_may_come_from_the_bottom(top_down: bool, upper: str) -> None:
    table = Table()
    table.put(create(top_down=top_down), data(halves()))
    assert table.colour(10, 5) == upper
    assert table.colour(10, 18) != upper


@pytest.mark.parametrize("format", [XRGB, ARGB, RGB555])
def test_a_frame_is_drawn_on_surfaces_of_each_format(format: int) -> None:
    table = Table(format=format)
    table.put(create(), data(flat(GREEN)))
    assert table.colour(10, 10) == "green"
    if format == ARGB:
        assert table.screen.surfaces[0].data[4 * (10 * 40 + 10) + 3] == 255


def test_only_what_the_clip_lets_through_is_drawn() -> None:
    table = Table()
    table.put(create(clip=[rect(4, 4, 8, 20), rect(12, 4, 16, 20)]), data(flat(RED)))
    assert [table.colour(x, 10) for x in (4, 9, 13, 17)] == ["red", "black", "red", "black"]
    table.put(display.StreamClip(id=1, clip=NO_CLIP), data(flat(GREEN)))
    assert [table.colour(x, 10) for x in (4, 9, 13, 17)] == ["green"] * 4
    assert table.put(display.StreamClip(id=1, clip=Clip(type=1, rects=()))) == []
    assert table.put(data(flat(BLUE))) == []  # a video that ends is hidden like that
    assert table.colour(10, 10) == "green"


def test_a_frame_is_scaled_to_its_box_by_the_nearest_pixel() -> None:
    table = Table()
    table.put(create(dest=rect(0, 0, 32, 8)), data(halves()))
    assert [table.colour(31, y) for y in (0, 3, 4, 7, 8)] == ["red", "red", "blue", "blue", "black"]


def test_a_frame_with_a_size_of_its_own_goes_where_it_says() -> None:
    table = Table()
    table.put(create(), sized(flat(RED, 8, 24), (8, 24), rect(30, 0, 38, 24)))
    assert [table.colour(x, 20) for x in (10, 29, 30, 37, 38)] == [
        "black", "black", "red", "red", "black",
    ]  # fmt: skip
    table.put(data(flat(GREEN)))
    assert table.colour(10, 10) == "green"


@pytest.mark.parametrize(
    "dest",
    [rect(5, 5, 5, 9), rect(9, 9, 5, 5), rect(100, 100, 116, 116), rect(-50, 0, -34, 16)],
)
def test_a_box_that_is_empty_turned_or_elsewhere_has_nothing_drawn(dest: Rect) -> None:
    table = Table()
    before = table.screen.snapshot()
    assert table.put(create(dest=dest), data(flat(RED)))[1:] == []
    assert table.screen.snapshot() == before


def test_a_box_far_larger_than_the_screen_is_drawn_as_far_as_that_goes() -> None:
    table = Table()
    huge = rect(-(1 << 30), -(1 << 30), 1 << 30, 1 << 30)
    table.put(create(dest=huge), data(halves()))
    assert table.screen.pixels == 1600


def test_a_video_of_a_surface_that_is_not_there_is_not_drawn() -> None:
    table = Table()
    assert reasons(table.put(create(surface_id=9), data(flat(RED)))) == ["there is no such surface"]


# Order


def test_a_large_frame_is_decoded_elsewhere_and_what_follows_waits() -> None:
    table = Table(size=(300, 300))
    big = (256, 256)
    table.put(create(size=big), data(flat(RED, *big)))
    table.put(display.StreamDestroy(id=1), create(size=big), data(flat(GREEN, *big)))
    assert table.colour(100, 100) == "black"
    assert len(table.jobs) == 2
    events = table.answer(place=1)  # the later one first
    assert events == []
    kinds = [type(event) for event in table.answer()]
    assert kinds == [ScreenChanged, StreamEnded, StreamStarted, ScreenChanged]
    assert table.colour(100, 100) == "green"
    assert not table.screen.backlog


def test_the_clip_of_a_frame_is_the_one_before_it_in_the_conversation() -> None:
    table = Table(size=(300, 300))
    big = (256, 256)
    table.put(
        create(size=big, clip=[rect(0, 0, 100, 300)]),
        data(flat(RED, *big)),
        display.StreamClip(id=1, clip=Clip(type=1, rects=(rect(100, 0, 200, 300),))),
        data(flat(GREEN, *big)),
    )
    table.answer()
    table.answer()
    assert [table.colour(x, 100) for x in (50, 150, 250)] == ["red", "green", "black"]


def test_frames_that_a_newer_one_hides_are_dropped_while_they_wait_for_their_turn() -> None:
    table = Table(size=(300, 300))
    big = (256, 256)
    table.put(create(size=big), activate(window=50))
    for colour in (RED, GREEN, BLUE, RED, GREEN, BLUE):
        table.put(data(flat(colour, *big)))
    assert len(table.jobs) == 2  # two at a time
    while table.jobs:
        table.answer()
    assert table.colour(100, 100) == "blue"
    assert not table.screen.backlog
    stream = table.screen.streams[1]
    assert (stream.frames, stream.dropped, stream.late) == (6, 3, 6)
    assert table.screen.draws == 3


def test_a_frame_that_would_still_be_seen_is_not_dropped() -> None:
    table = Table(size=(300, 300))
    big = (256, 256)
    table.put(create(size=big))
    for _ in range(3):
        table.put(data(flat(RED, *big)))
    table.put(sized(flat(GREEN, *big), big, rect(30, 30, 286, 286)))
    table.put(display.StreamClip(id=1, clip=Clip(type=1, rects=(rect(0, 0, 50, 50),))))
    table.put(data(flat(BLUE, *big)))
    while table.jobs:
        table.answer()
    assert table.screen.streams[1].dropped == 0
    assert table.screen.draws == 5
    assert [table.colour(at, at) for at in (20, 40, 100, 280)] == ["blue", "blue", "green", "green"]


def test_frames_that_need_those_before_them_all_go_to_their_decoder() -> None:
    table = Table()
    table.put(create(7, codec=VP8))
    for number in range(5):
        table.put(data(b"frame %d" % number, 7))
    jobs = [job for _, job in table.jobs]
    assert [job.number for job in jobs] == [0, 1, 2, 3, 4]
    assert {job.key for job in jobs} == {(0, 7, 1)}
    assert [job.covers for job in jobs] == [False, True, True, True, True]
    assert table.answer(painted(jobs[0], RED)) != []
    assert table.answer(None) == []  # skipped
    assert table.answer(painted(jobs[2], GREEN)) != []
    assert table.colour(10, 10) == "green"
    assert table.screen.streams[7].dropped == 1
    table.put(display.StreamDestroy(id=7))
    assert [job for _, job in table.jobs][-1] == VideoEnd((0, 7, 1))
    table.put(create(7, codec=VP8), data(b"frame", 7))
    assert table.jobs[-1][1].key == (0, 7, 2)


def test_a_backlog_of_videos_is_decoded_ahead_up_to_a_limit() -> None:
    table = Table(size=(300, 300))
    side = 2048
    table.put(create(codec=VP8, size=(side, side)))
    for number in range(8):
        table.put(data(b"%d" % number))
    assert 4 <= len(table.jobs) <= 6  # of 16 million pixels together
    for _ in range(8):
        table.answer(DecodeError("so it is"))
    assert not table.jobs
    assert not table.screen.backlog
    assert table.screen.videos.ahead == 0


# What can't be played


def test_a_codec_that_was_not_offered_is_reported_so_that_images_come() -> None:
    table = Table(codecs=(MJPEG,))
    started, left_out = table.put(create(3, codec=H264))
    assert isinstance(started, StreamStarted)
    assert isinstance(left_out, NotDrawn)
    assert "aiospice[video]" in left_out.reason
    table.put(activate(3))
    assert reasons(table.put(data(b"x", 3))) == [left_out.reason]
    (report,) = table.reports()
    assert (report.stream_id, report.num_frames, report.num_drops) == (3, 0, NONE)
    assert reasons(table.put(create(4, codec=99))) == ["the codec of the video isn't known"]


def test_a_video_of_damaged_frames_is_given_up() -> None:
    table = Table()
    table.put(create(), activate(window=100))
    for _ in range(MAX_FAILED - 1):
        assert reasons(table.put(data(b"junk", time=2000))) == ["the frame is damaged"]
    assert reasons(table.put(data(flat(RED), time=2000))) == []
    for _ in range(MAX_FAILED):
        assert table.reports() == []
        assert reasons(table.put(data(flat(RED, 8, 8), time=2000))) == ["the frame is damaged"]
    (report,) = table.reports()
    assert report == display.StreamReport(
        stream_id=1, unique_id=0, start_frame_mm_time=0, end_frame_mm_time=0, num_frames=0,
        num_drops=NONE, last_frame_delay=0, audio_delay=0,
    )  # fmt: skip
    assert reasons(table.put(data(flat(RED)))) == ["the video can't be played"]
    assert table.reports() == []
    table.put(display.StreamDestroy(id=1), create())
    assert reasons(table.put(data(flat(GREEN)))) == []


def test_a_decoder_that_has_lost_its_frames_is_given_some_to_find_a_key_frame() -> None:
    table = Table()
    table.put(create(codec=VP8))
    for number in range(MAX_FAILED):
        table.put(data(b"%d" % number))
        lost = table.answer(StateError("a key frame is awaited"))
        assert reasons(lost) == ["the video waits for a key frame"]
    (report,) = table.reports()
    assert report.num_drops == NONE


def test_a_missing_library_gives_a_video_up_at_once() -> None:
    table = Table()
    table.put(create(codec=VP8), data(b"x"))
    (event,) = table.answer(MissingProgram("pip install 'aiospice[video]'"))
    assert isinstance(event, NotDrawn)
    assert event.reason == "the video needs a library that is missing"
    assert "aiospice[video]" in event.detail
    (report,) = table.reports()
    assert report.num_drops == NONE


def test_a_video_that_is_not_there_is_reported_once() -> None:
    table = Table()
    for _ in range(3):
        assert reasons(table.put(data(b"x", 8))) == ["there is no such video"]
    (report,) = table.reports()
    assert (report.stream_id, report.num_drops) == (8, NONE)
    assert table.put(display.StreamClip(id=8, clip=NO_CLIP), activate(8)) == []
    assert table.reports() == []
    for number in range(100, 100_000, 50):
        table.put(data(b"x", number))
    assert len(table.reports()) < 100


@pytest.mark.parametrize("frame", [data(b""), sized(b"x", (0, 9), rect(0, 0, 9, 9))])
def test_an_empty_frame_is_not_drawn(frame: Message) -> None:
    table = Table()
    table.put(create())
    assert reasons(table.put(frame)) == ["the frame is empty"]


def test_frames_have_a_limit_that_all_videos_share() -> None:
    table = Table()
    half = (1 << 12, MAX_STREAM_PIXELS >> 13)
    assert reasons(table.put(create(1, size=half), create(2, size=half))) == []
    (over,) = reasons(table.put(create(3, size=(1, 1))))
    assert "pixels" in over
    assert reasons(table.put(create(4, size=(0, 5)))) == ["the frames of the video are empty"]
    table.put(display.StreamDestroy(id=2), create(5))
    box = rect(0, 0, 9, 9)
    (over,) = reasons(table.put(sized(b"x", (half[0] + 1, half[1]), box, 5)))
    assert "pixels" in over
    (over,) = reasons(table.put(sized(b"x", (1 << 31, 1 << 31), box, 5)))
    assert "pixels" in over
    assert reasons(table.put(data(flat(RED), 5))) == []


def test_more_videos_than_any_server_has_end_the_channel() -> None:
    table = Table()
    for number in range(MAX_STREAMS):
        table.put(create(number))
    with pytest.raises(RemoteProtocolError, match=f"more than {MAX_STREAMS} videos"):
        table.put(create(MAX_STREAMS))
    assert reasons(table.put(create(3))) == []  # one in the place of another
    assert len(table.put(display.StreamDestroyAll())) == MAX_STREAMS
    assert table.screen.streams == {}


def test_another_server_begins_without_videos() -> None:
    table = Table()
    table.put(create(codec=VP8), activate(), data(b"a"), data(b"b"))
    table.screen.reset()
    assert table.screen.streams == {}
    assert table.screen.next_wake() is None
    table.jobs += table.screen.take_jobs()
    assert isinstance(table.jobs[-1][1], VideoEnd)
    table.put(surface(40, 40), create(codec=VP8), data(b"c"))
    stale = table.jobs[0][1]
    assert table.answer(painted(stale, RED)) == []
    assert table.colour(10, 10) == "black"
    new = table.jobs.pop()
    table.screen.computed(new[0], painted(new[1], GREEN))
    assert table.colour(10, 10) == "green"


# Reports


def test_a_report_comes_after_as_many_frames_as_were_asked_for() -> None:
    table = Table()
    table.put(create(), activate(window=3))
    for time in (1100, 1140, 1180):
        assert table.reports() == []
        table.put(data(flat(RED), time=time))
    assert table.reports() == [
        display.StreamReport(
            stream_id=1, unique_id=77, start_frame_mm_time=1100, end_frame_mm_time=1180,
            num_frames=3, num_drops=0, last_frame_delay=180, audio_delay=NONE,
        )
    ]  # fmt: skip
    assert table.screen.next_wake() is None
    table.put(data(flat(RED), time=1220))
    assert table.screen.next_wake() == 11.0


def test_a_report_comes_when_its_time_is_over() -> None:
    table = Table()
    table.screen.videos.audio_delay = 120
    table.put(create(), activate(timeout=500), data(flat(RED), time=990))
    assert table.screen.next_wake() == 10.5
    table.screen.wake(10.4)
    assert table.reports() == []
    table.screen.wake(10.5)
    (report,) = table.reports()
    assert (report.num_frames, report.num_drops, report.last_frame_delay) == (1, 1, -10)
    assert report.audio_delay == 120
    assert table.screen.next_wake() is None
    table.put(data(flat(RED)))
    table.now = 12.0
    table.put(data(flat(RED)))
    (report,) = table.reports()
    assert report.num_frames == 2


def test_late_frames_in_a_row_are_reported_at_once() -> None:
    table = Table()
    table.put(create(), activate(window=100))
    table.put(data(flat(RED), time=1000), data(flat(RED), time=999), data(flat(RED), time=1001))
    for _ in range(LATE_IN_A_ROW):
        assert table.reports() == []
        table.put(data(flat(GREEN), time=900))
    (report,) = table.reports()
    assert (report.num_frames, report.num_drops, report.last_frame_delay) == (6, 4, -100)
    assert table.colour(10, 10) == "green"  # late, and drawn all the same
    assert table.screen.streams[1].late == 4


def test_times_wrap_around_and_a_frame_without_one_is_in_time() -> None:
    table = Table()
    table.clock = 0xFFFFFFF0
    table.put(create(), activate(window=2), data(flat(RED), time=20), data(flat(RED), time=0))
    (report,) = table.reports()
    assert (report.num_drops, report.last_frame_delay, report.end_frame_mm_time) == (0, 100, 84)


def test_frames_that_are_dropped_here_are_reported_as_that() -> None:
    table = Table(size=(300, 300))
    big = (256, 256)
    assert big[0] * big[1] >= HEAVY
    table.put(create(size=big), activate(window=6))
    for time in range(2000, 2005):
        table.put(data(flat(RED, *big), time=time))
    table.put(data(flat(RED, *big), time=2005))
    (report,) = table.reports()
    assert (report.num_frames, report.num_drops) == (6, 2)


def test_a_report_window_of_nothing_is_one_of_each_frame() -> None:
    table = Table()
    table.put(create(), activate(window=0, timeout=0))
    for _ in range(3):
        table.put(data(flat(RED), time=2000))
        assert len(table.reports()) == 1
        assert table.screen.next_wake() is None


# Whatever comes

numbers = st.integers(0, 3)
rects = st.builds(rect, *[st.integers(-20, 60)] * 4)
clips = st.one_of(
    st.just(NO_CLIP), st.lists(rects, max_size=3).map(lambda r: Clip(type=1, rects=tuple(r)))
)
frames = st.sampled_from([flat(RED), flat(GREEN), flat(RED, 8, 8), b"", b"junk", halves()[:99]])
times = st.integers(0, NONE)
FLIP: st.SearchStrategy[Any] = st.booleans()
messages = st.one_of(
    st.builds(
        create,
        numbers,
        codec=st.sampled_from([MJPEG, MJPEG, VP8, 0, 9]),
        size=st.sampled_from([(16, 16), (8, 8), (0, 1), (NONE, NONE)]),
        dest=rects,
        top_down=st.booleans(),
        surface_id=st.sampled_from([0, 0, 1]),
    ),
    st.builds(data, frames, numbers, times),
    st.builds(sized, frames, st.sampled_from([(16, 16), (9, 9)]), rects, numbers, times),
    st.builds(display.StreamClip, id=numbers, clip=clips),
    st.builds(display.StreamDestroy, id=numbers),
    st.just(display.StreamDestroyAll()),
    st.builds(activate, numbers, st.integers(0, 3), st.integers(0, 9)),
)


@given(st.lists(messages, max_size=12), st.data())
@settings(deadline=None, max_examples=60)
def test_whatever_comes_in_whatever_order_ends_well(
    talk: list[Message], choice: st.DataObject
) -> None:
    table = Table()
    for message in talk:
        table.put(message)
        table.now += 0.001
        while table.jobs and choice.draw(FLIP):
            answer_somehow(table, choice)
    while table.jobs:
        answer_somehow(table, choice)
    assert not table.screen.backlog
    assert table.screen.videos.ahead == 0
    for report in table.reports():
        assert report.num_frames or report.num_drops == NONE


def answer_somehow(table: Table, choice: st.DataObject) -> None:
    place = choice.draw(st.integers(0, len(table.jobs) - 1))
    job = table.jobs[place][1]
    results: list[Any] = [None, StateError("x"), DecodeError("x")]
    if isinstance(job, VideoFrame):
        results.append(painted(job, BLUE))
        table.answer(choice.draw(st.sampled_from(results)), place)
    else:
        table.answer(None, place)


def test_the_state_of_videos_is_plain_data() -> None:
    videos = Streams(0, (MJPEG, VP8))
    videos.tell(create(), 0.0, 0)
    videos.tell(data(flat(RED)), 0.0, 0)
    copy = pickle.loads(pickle.dumps(videos))
    assert copy.playing[1].waiting[0].job == videos.playing[1].waiting[0].job


def test_a_decoder_that_a_library_breaks_in_answers_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from aiospice.aio.video import Decoder, Decoders

    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("so it is")

    monkeypatch.setattr(Decoder, "decode", breaks)
    told: list[tuple[int, Any]] = []
    decoders = Decoders(lambda run: run(), lambda number, result: told.append((number, result)))
    decoders.decode(4, VideoFrame((0, 1, 1), VP8, b"x", 16, 16))
    ((number, result),) = told
    assert number == 4
    assert isinstance(result, DecodeError)
