"""The agent's messages against the C structures, and their way in pieces."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.errors import DecodeError, LocalError
from aiospice.wire import agent_stream
from aiospice.wire.agent import (
    AGENT_MESSAGES,
    AgentCapability,
    AgentMessage,
    AgentType,
    AnnounceCapabilities,
    AudioVolumeSync,
    ClientDisconnected,
    Clipboard,
    ClipboardGrab,
    ClipboardRelease,
    ClipboardRequest,
    ClipboardType,
    DeviceDisplayInfo,
    DisplayConfig,
    DisplayConfigFlags,
    FileXferData,
    FileXferStart,
    FileXferStatus,
    GlibError,
    GraphicsDeviceInfo,
    MaxClipboard,
    MonConfig,
    MonitorMM,
    MonitorsConfig,
    MonitorsConfigFlags,
    MouseButtons,
    MouseState,
    NotEnoughSpace,
    Reply,
    ReplyError,
    Selection,
    XferResult,
    common,
    mask,
)
from aiospice.wire.agent_stream import (
    CHUNK_HEADER,
    HEADER,
    MAX_AGENT_DATA,
    MAX_MESSAGE,
    Assembled,
    Chunker,
    ChunkReader,
    Reassembler,
    pack_chunk,
    pack_message,
)

BODIES = json.loads((Path(__file__).parent / "data" / "agent.json").read_text())["bodies"]
SELECTION = 1 << AgentCapability.CLIPBOARD_SELECTION
SERIAL = 1 << AgentCapability.CLIPBOARD_GRAB_SERIAL
U8, U16, U32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
I32 = st.integers(-0x80000000, 0x7FFFFFFF)
BYTES = st.binary(max_size=60)

FROM_C: list[tuple[str, AgentMessage]] = [
    (
        "mouse_state",
        MouseState(x=1, y=2, buttons=MouseButtons.LEFT | MouseButtons.EXTRA, display_id=3),
    ),
    (
        "monitors_config",
        MonitorsConfig(
            flags=MonitorsConfigFlags.USE_POS | MonitorsConfigFlags.PHYSICAL_SIZE,
            monitors=(
                MonConfig(height=768, width=1024, depth=32, x=0, y=0),
                MonConfig(height=600, width=800, depth=32, x=-800, y=5),
            ),
            physical_sizes=(MonitorMM(height=200, width=300), MonitorMM(height=150, width=250)),
        ),
    ),
    ("reply", Reply(type=AgentType.MONITORS_CONFIG, error=ReplyError.SUCCESS)),
    ("display_config", DisplayConfig(flags=DisplayConfigFlags.DISABLE_ANIMATION, depth=32)),
    ("announce_capabilities", AnnounceCapabilities(request=1, caps=(1 | SELECTION | SERIAL,))),
    ("clipboard_plain", Clipboard(layout=0, type=ClipboardType.UTF8_TEXT, data=b"hi")),
    (
        "file_xfer_status",
        FileXferStatus(
            id=7,
            result=XferResult.NOT_ENOUGH_SPACE,
            data=NotEnoughSpace(disk_free_space=123456789012).body(),
        ),
    ),
    ("glib_error", GlibError(error_type=0, error_code=14)),
    ("file_xfer_data", FileXferData(id=7, data=b"abc")),
    ("max_clipboard", MaxClipboard(max=-1)),
    ("audio_volume_sync", AudioVolumeSync(is_playback=1, mute=0, volume=(65535, 256))),
    (
        "graphics_device_info",
        GraphicsDeviceInfo(
            display_info=(
                DeviceDisplayInfo(
                    channel_id=0, monitor_id=1, device_display_id=2, device_address=b"pci/0000\0"
                ),
            )
        ),
    ),
]


@pytest.mark.parametrize(("name", "message"), FROM_C, ids=[name for name, _ in FROM_C])
def test_bodies_are_those_of_the_c_structures(name: str, message: AgentMessage) -> None:
    body = bytes.fromhex(BODIES[name])
    assert message.body() == body
    assert type(message).parse(body) == message


def test_headers_are_those_of_the_c_structures() -> None:
    packed = pack_message(AgentType.CLIPBOARD, b"12345", 0x1122334455667788)
    assert packed[: HEADER.size].hex() == BODIES["header"]
    assert pack_chunk(1, bytes(2048))[: CHUNK_HEADER.size].hex() == BODIES["chunk_header"]


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (Clipboard(selection=Selection.PRIMARY, type=1, data=b"x"), "01000000 01000000 78"),
        (ClipboardRequest(selection=Selection.SECONDARY, type=2), "02000000 02000000"),
        (ClipboardRequest(layout=0, type=2), "02000000"),
        (ClipboardRelease(selection=Selection.PRIMARY), "01000000"),
        (ClipboardRelease(layout=0), ""),
        (ClipboardGrab(types=(1, 2)), "00000000 01000000 02000000"),
        (ClipboardGrab(layout=0, types=(1,)), "01000000"),
        (ClipboardGrab(layout=SERIAL, serial=9, types=(1,)), "09000000 01000000"),
        (
            ClipboardGrab(layout=SELECTION | SERIAL, selection=1, serial=9, types=()),
            "01000000 09000000",
        ),
    ],
)
def test_the_clipboard_begins_as_both_sides_can(message: AgentMessage, body: str) -> None:
    assert message.body() == bytes.fromhex(body)
    layout: int = message.__dict__["layout"]
    assert type(message).parse(bytes.fromhex(body), layout) == message


def test_a_selection_needs_the_layout_for_it() -> None:
    with pytest.raises(LocalError, match="selection"):
        ClipboardRelease(layout=0, selection=1).body()


def test_capabilities_are_one_number_however_many_words() -> None:
    assert mask((1, 1)) == 1 | 1 << 32
    assert mask(()) == 0
    assert common((0xFFFFFFFF,), (SELECTION, 7)) == SELECTION


CLIPBOARDS: st.SearchStrategy[AgentMessage] = st.sampled_from(
    (0, SELECTION, SERIAL, SELECTION | SERIAL)
).flatmap(
    lambda layout: st.one_of(
        st.builds(
            Clipboard,
            layout=st.just(layout),
            selection=U8 if layout & SELECTION else st.just(0),
            type=U32,
            data=BYTES,
        ),
        st.builds(
            ClipboardGrab,
            layout=st.just(layout),
            selection=U8 if layout & SELECTION else st.just(0),
            serial=U32 if layout & SERIAL else st.just(0),
            types=st.lists(U32, max_size=5).map(tuple),
        ),
    )
)
MONITOR = st.builds(MonConfig, height=U32, width=U32, depth=U32, x=I32, y=I32)
ANY_MESSAGE: st.SearchStrategy[AgentMessage] = st.one_of(
    CLIPBOARDS,
    st.builds(
        MonitorsConfig,
        flags=st.just(1),
        monitors=st.lists(MONITOR, max_size=4).map(tuple),
        physical_sizes=st.just(()),
    ),
    st.builds(AnnounceCapabilities, request=U32, caps=st.lists(U32, max_size=4).map(tuple)),
    st.builds(FileXferStart, id=U32, data=BYTES),
    st.builds(FileXferData, id=U32, data=BYTES),
    st.builds(ClientDisconnected),
    st.builds(
        AudioVolumeSync, is_playback=U8, mute=U8, volume=st.lists(U16, max_size=4).map(tuple)
    ),
)


@given(ANY_MESSAGE)
def test_messages_round_trip(message: AgentMessage) -> None:
    layout = message.__dict__.get("layout", 0)
    assert type(message).parse(message.body(), layout) == message
    assert pickle.loads(pickle.dumps(message)) == message
    assert type(message).__name__ in repr(message)


@given(st.sampled_from(sorted(AGENT_MESSAGES)), BYTES, st.integers(0, 1 << 20))
def test_any_bytes_are_a_message_or_a_decode_error(number: int, body: bytes, layout: int) -> None:
    try:
        message = AGENT_MESSAGES[number].parse(body, layout)
    except DecodeError as error:
        where = error.message
    else:
        where = f"agent {type(message).__name__}"
        assert len(message.body()) <= len(body)
    assert where == f"agent {AGENT_MESSAGES[number].__name__}"


def test_every_type_is_declared() -> None:
    assert {int(number) for number in AgentType} == set(AGENT_MESSAGES)


def test_lists_that_do_not_fit_together_are_refused() -> None:
    one = MonConfig(height=1, width=1, depth=32, x=0, y=0)
    with pytest.raises(LocalError, match="physical_sizes"):
        MonitorsConfig(flags=2, monitors=(one,), physical_sizes=()).body()
    with pytest.raises(LocalError, match="caps"):
        AnnounceCapabilities(request=0, caps=(1 << 32,)).body()
    with pytest.raises(DecodeError, match="behind the last number"):
        AnnounceCapabilities.parse(bytes(6))
    with pytest.raises(DecodeError) as caught:
        FileXferData.parse(bytes(4) + b"\xff" * 8 + b"abc")
    assert caught.value.field == "data"


# The way in pieces.

STREAM = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, (1 << 64) - 1), st.binary(max_size=5000)),
    max_size=4,
)
Messages = list[tuple[int, int, bytes]]


def cut(messages: Messages, frozen: bool = False) -> list[bytes]:
    chunker = Chunker()
    for number, opaque, body in messages:
        chunker.push(number, body, opaque)
    pieces = []
    while (piece := chunker.pop()) is not None:
        pieces.append(piece)
        if frozen:
            chunker = pickle.loads(pickle.dumps(chunker))
    assert (chunker.pending, chunker.inside) == (0, False)
    return pieces


def join(pieces: list[bytes], reassembler: Reassembler, frozen: bool = False) -> list[Assembled]:
    found: list[Assembled] = []
    for piece in pieces:
        found += reassembler.receive(piece)
        if frozen:
            reassembler = pickle.loads(pickle.dumps(reassembler))
    assert not reassembler.inside
    assert reassembler.held == 0
    return found


@given(STREAM, st.booleans())
def test_what_is_cut_comes_together_again(messages: Messages, frozen: bool) -> None:
    pieces = cut(messages, frozen)
    assert all(0 < len(piece) <= MAX_AGENT_DATA for piece in pieces)
    assert len(pieces) == sum(-(-(20 + len(body)) // MAX_AGENT_DATA) for *_, body in messages)
    expected = [Assembled(number, opaque, len(body), body) for number, opaque, body in messages]
    assert join(pieces, Reassembler(strict=True), frozen) == expected
    assert join([b"".join(pieces)], Reassembler()) == expected


@given(st.lists(st.tuples(U8, U8, st.binary(max_size=70)), max_size=4))
def test_a_stream_byte_by_byte_frozen_at_each_step_is_the_same(messages: Messages) -> None:
    stream = b"".join(cut(messages))
    single = [stream[i : i + 1] for i in range(len(stream))]
    assert join(single, Reassembler(), frozen=True) == join([stream], Reassembler())


@given(st.lists(st.binary(max_size=300), max_size=10), st.booleans())
def test_any_stream_gives_messages_or_a_decode_error(pieces: list[bytes], strict: bool) -> None:
    reassembler = Reassembler(strict=strict)
    arrived = 0
    try:
        for piece in pieces:
            reassembler.receive(piece)
            arrived += len(piece)
            assert reassembler.held <= arrived
    except DecodeError as error:
        text = str(error)
    else:
        text = "agent message"
    assert "agent message" in text


def test_a_message_above_its_limit_is_read_past() -> None:
    reassembler = Reassembler({AgentType.CLIPBOARD: 10})
    stream = pack_message(4, bytes(11)) + pack_message(4, bytes(10)) + pack_message(99, b"")
    assert reassembler.receive(stream) == [
        Assembled(4, 0, 11, None),
        Assembled(4, 0, 10, bytes(10)),
        Assembled(99, 0, 0, b""),
    ]


def test_a_huge_message_costs_no_memory_before_it_arrives() -> None:
    reassembler = Reassembler()
    assert reassembler.receive(HEADER.pack(1, 4, 0, 50 << 20)) == []
    assert reassembler.inside
    assert reassembler.held == 0
    reassembler.reset()
    assert reassembler.receive(pack_message(3, bytes(8))) == [Assembled(3, 0, 8, bytes(8))]


@pytest.mark.parametrize(
    ("pieces", "field"),
    [
        ([HEADER.pack(2, 4, 0, 0)], "protocol"),
        ([HEADER.pack(1, 4, 0, MAX_MESSAGE + 1)], "size"),
        ([pack_message(4, bytes(2029))], "data"),
        ([pack_message(4, b"")[:19]], "data"),
        ([pack_message(4, b"") * 2], "size"),
        ([pack_message(4, bytes(2100))[:2048], bytes(73)], "data"),
    ],
)
def test_the_strict_side_refuses_what_a_server_refuses(pieces: list[bytes], field: str) -> None:
    reassembler = Reassembler(strict=True)
    for piece in pieces[:-1]:
        reassembler.receive(piece)
    with pytest.raises(DecodeError) as caught:
        reassembler.receive(pieces[-1])
    assert caught.value.field == field


def test_only_a_message_that_was_begun_is_finished() -> None:
    chunker = Chunker()
    chunker.push_message(FileXferData(id=1, data=bytes(3000)))
    chunker.push_message(ClientDisconnected())
    assert len(chunker.pop() or b"") == MAX_AGENT_DATA
    assert chunker.inside
    chunker.drop_unsent()
    assert chunker.pending == 20 + 12 + 3000 - MAX_AGENT_DATA
    assert len(chunker.pop() or b"") == 20 + 12 + 3000 - MAX_AGENT_DATA
    assert chunker.pop() is None
    chunker.push_message(ClientDisconnected())
    chunker.drop_unsent()
    assert chunker.pending == 0
    chunker.push_message(ClientDisconnected())
    chunker.clear()
    assert (chunker.pop(), chunker.pending) == (None, 0)


# The guest's side.


def chunks(reader: ChunkReader, data: bytes, step: int) -> list[tuple[int, bytes]]:
    joined: list[tuple[int, bytes]] = []
    for start in range(0, len(data), step):
        for port, piece in reader.receive(data[start : start + step]):
            if joined and joined[-1][0] == port:
                piece = joined.pop()[1] + piece
            joined.append((port, piece))
        reader = pickle.loads(pickle.dumps(reader))
    return joined


@given(st.lists(st.tuples(st.integers(1, 2), st.binary(max_size=40)), max_size=6))
def test_the_guests_chunks_come_apart_whole_and_byte_by_byte(pieces: list[Any]) -> None:
    stream = b"".join(pack_chunk(port, data) for port, data in pieces)
    whole = chunks(ChunkReader(), stream, max(len(stream), 1))
    assert chunks(ChunkReader(), stream, 1) == whole
    for port in (1, 2):
        sent = b"".join(data for to, data in pieces if to == port)
        assert b"".join(data for to, data in whole if to == port) == sent


def test_what_a_chunk_reader_holds_is_what_a_record_carries() -> None:
    reader = ChunkReader()
    reader.receive(pack_chunk(1, b"abcdef")[:5])
    assert (reader.header, reader.left) == (b"\1\0\0\0\6", 0)
    assert reader.receive(b"\0\0\0ab") == [(1, b"ab")]
    assert (reader.header, reader.port, reader.left) == (b"", 1, 4)


@pytest.mark.parametrize(
    ("port", "size", "field"), [(0, 1, "port"), (3, 1, "port"), (1, 9, "size")]
)
def test_wrong_chunks_are_refused(port: int, size: int, field: str) -> None:
    with pytest.raises(DecodeError) as caught:
        ChunkReader(max_chunk=8).receive(CHUNK_HEADER.pack(port, size))
    assert caught.value.field == field


def test_nothing_is_made_that_the_other_side_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LocalError):
        pack_chunk(1, bytes(MAX_AGENT_DATA + 1))
    monkeypatch.setattr(agent_stream, "MAX_MESSAGE", 10)
    with pytest.raises(LocalError):
        Chunker().push(AgentType.CLIPBOARD, bytes(11))
