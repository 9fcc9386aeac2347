"""The records of a hand-over: bytes of real servers, worked examples, and all that is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.errors import DecodeError, LocalError
from aiospice.wire.handover import (
    NO_FLOW_CONTROL,
    RECORDS,
    CharDevice,
    DisplayRecord,
    HandoverRecord,
    HeldSurface,
    InputsRecord,
    LossySurface,
    MainRecord,
    SmartcardRecord,
    VmcRecord,
    parse_record,
    queued_bytes,
)
from aiospice.wire.main import MigrateBeginSeamless
from aiospice.wire.reader import Reader

CAPTURED = json.loads((Path(__file__).parent / "data" / "handover.json").read_text())
CHANNELS = {"main": 1, "display": 2, "inputs": 3, "usbredir": 9, "port": 10, "webdav": 11}
U8, U16 = st.integers(0, 0xFF), st.integers(0, 0xFFFF)
U32, U64 = st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFFFFFFFFFF)
I32 = st.integers(-0x80000000, 0x7FFFFFFF)
FLAG = st.integers(0, 1)

USBREDIR = "53564D44 01000000 01000000 01 FFFFFFFF FFFFFFFF 03000000 00000000 21000000 616263"
AGENT_BASE = "01000000 01 07000000 FBFFFFFF 60000000 02000000 41000000"


def connected(data: bytes, tokens: int, price: int) -> CharDevice:
    return CharDevice(
        connected=1,
        num_client_tokens=tokens,
        num_send_tokens=NO_FLOW_CONTROL,
        write_num_client_tokens=price if data else 0,
        write_data=data,
    )


DEVICES = st.just(CharDevice.empty()) | st.builds(connected, st.binary(max_size=80), U32, U32)


@st.composite
def mains(draw: Any) -> MainRecord:
    device = draw(DEVICES)
    if not device.connected:
        return MainRecord.empty()
    size = draw(st.integers(0, 8))
    done = draw(FLAG)
    return MainRecord(
        device=device,
        client_agent_started=draw(FLAG),
        chunk_header_size=size,
        chunk_port=draw(st.integers(1, 2)),
        chunk_size=draw(U32),
        from_agent_header_done=done,
        from_agent_header=draw(st.binary(max_size=19)) if size == 8 and not done else b"",
        from_agent_remaining=draw(U32),
        from_agent_filter=draw(st.integers(0, 3)),
        to_agent_remaining=draw(U32),
        to_agent_filter=draw(st.integers(0, 3)),
    )


@st.composite
def cards(draw: Any) -> SmartcardRecord:
    device = draw(DEVICES)
    read = st.binary(max_size=11) | st.binary(max_size=20).map(
        lambda data: bytes(11) + bytes([len(data)]) + data
    )
    return SmartcardRecord(
        device=device,
        reader_added=draw(FLAG) if device.connected else 0,
        read_data=draw(read) if device.connected else b"",
    )


SURFACES = st.lists(st.builds(HeldSurface, id=U32), max_size=5) | st.lists(
    st.builds(LossySurface, id=U32, left=I32, top=I32, right=I32, bottom=I32), max_size=5
)
DISPLAYS = st.builds(
    DisplayRecord,
    message_serial=U64,
    low_bandwidth=FLAG,
    pixmap_cache_id=U8,
    pixmap_cache_size=st.integers(-(1 << 63), (1 << 63) - 1),
    pixmap_cache_freezer=FLAG,
    pixmap_cache_clients=st.tuples(U64, U64, U64, U64),
    glz_dict_id=U8,
    glz_window_size=U32,
    glz_max_encoders=U32,
    glz_last_image_id=U64,
    surfaces=SURFACES.map(tuple),
)
ANY_RECORD: st.SearchStrategy[HandoverRecord] = st.one_of(
    mains(),
    cards(),
    DISPLAYS,
    st.builds(InputsRecord, motion_count=U16),
    st.builds(VmcRecord, device=DEVICES),
)


def broken(data: bytes, offset: int, *values: int) -> bytes:
    return data[:offset] + bytes(values) + data[offset + len(values) :]


@pytest.mark.parametrize("name", sorted(CAPTURED["migrate_data"]))
def test_records_of_real_servers_are_written_as_they_were_read(name: str) -> None:
    data = bytes.fromhex(CAPTURED["migrate_data"][name])
    channel = CHANNELS[name.split("-")[1].rstrip("0")]
    record = parse_record(channel, data)
    assert record.encode() == data
    assert pickle.loads(pickle.dumps(record)) == record


def test_what_real_records_say() -> None:
    records = {
        name: parse_record(CHANNELS[name.split("-")[1].rstrip("0")], bytes.fromhex(data))
        for name, data in CAPTURED["migrate_data"].items()
    }
    assert records["text-main0"] == MainRecord.empty()
    assert records["full-inputs0"] == InputsRecord(motion_count=0)
    assert records["full-usbredir0"] == VmcRecord.queued(b"")
    display = records["full-display0"]
    assert isinstance(display, DisplayRecord)
    assert display.surfaces == (HeldSurface(id=0),)
    assert (display.message_serial, display.glz_max_encoders) == (0x5915, 4)
    display.check(lossy=False, surface_size=lambda number: (1024, 768))
    port = records["full-port0"]
    assert isinstance(port, VmcRecord)
    assert len(port.device.write_data) == 2047


def test_the_captured_begin_of_a_seamless_move_reads_back() -> None:
    data = bytes.fromhex(CAPTURED["other"]["text-source-main0-migrate-begin-seamless"])
    message = MigrateBeginSeamless.parse(data)
    assert message.destination.host == b"10.77.0.1"
    assert message.destination.secure_port == 65535
    assert message.body() == data


@pytest.mark.parametrize(
    ("data", "record"),
    [
        ("49434D44 01000000 0300", InputsRecord(motion_count=3)),
        (USBREDIR, VmcRecord.queued(b"abc")),
        ("4D4E4D44 01000000 01000000" + "00" * 53, MainRecord.empty()),
    ],
)
def test_worked_examples(data: str, record: HandoverRecord) -> None:
    assert type(record).parse(bytes.fromhex(data)) == record
    assert record.encode() == bytes.fromhex(data)


def test_the_worked_agent_device() -> None:
    queued = b"".join(bytes([1, 0, 0, 0, 40, 0, 0, 0]) + bytes(40) for _ in range(2))
    record = MainRecord.empty().replace(
        device=CharDevice(
            connected=1,
            num_client_tokens=7,
            num_send_tokens=(1 << 32) - 5,
            write_num_client_tokens=2,
            write_data=queued,
        )
    )
    data = record.encode()
    assert data[8:33] == bytes.fromhex(AGENT_BASE)
    assert data[65:] == queued
    assert MainRecord.parse(data) == record
    record.check(max_chunk=2048, max_from_agent=1 << 20, max_to_agent=1 << 20)
    with pytest.raises(DecodeError, match="window of 8"):
        record.check(window=8, max_chunk=2048, max_from_agent=1, max_to_agent=1)


@given(ANY_RECORD)
def test_records_round_trip(record: HandoverRecord) -> None:
    data = record.encode()
    assert type(record).parse(data) == record
    for channel in record.channels:
        assert parse_record(channel, memoryview(data)) == record


@given(st.sampled_from(sorted(RECORDS)), st.binary(max_size=200))
def test_any_bytes_are_a_record_or_a_decode_error(channel: int, data: bytes) -> None:
    try:
        record = parse_record(channel, data)
    except DecodeError as error:
        where = error.message
    else:
        where = type(record).__name__
        assert record.encode() == data
    assert where == RECORDS[channel].__name__


@given(ANY_RECORD, st.data())
def test_a_damaged_record_is_refused_or_says_something_else(
    record: HandoverRecord, data: st.DataObject
) -> None:
    good = record.encode()
    place = data.draw(st.integers(0, len(good) - 1))
    bad = broken(good, place, data.draw(st.integers(0, 255).filter(lambda v: v != good[place])))
    try:
        other = type(record).parse(bad)
    except DecodeError:
        assert queued_bytes(bad) in (None, *range(256))
    else:
        assert other != record
        assert other.encode() == bad


@given(ANY_RECORD)
def test_no_byte_less_and_no_byte_more(record: HandoverRecord) -> None:
    data = record.encode()
    for wrong in (data[:-1], data + b"\0", data[: record.fixed - 1], b""):
        with pytest.raises(DecodeError):
            type(record).parse(wrong)


QUEUED = VmcRecord.queued(b"abc").encode()
PARTIAL = (
    MainRecord.empty()
    .replace(
        device=connected(b"queued", 7, 1),
        chunk_header_size=8,
        chunk_port=1,
        chunk_size=20,
        from_agent_header=b"part",
    )
    .encode()
)
CARD = SmartcardRecord(
    device=connected(b"xy", 0, 2), reader_added=1, read_data=bytes([0] * 11) + b"\5abc"
).encode()
NO_CARD = SmartcardRecord(device=CharDevice.empty(), reader_added=0, read_data=b"").encode()
DISPLAY = bytes.fromhex(CAPTURED["migrate_data"]["full-display0"])


@pytest.mark.parametrize(
    ("channel", "data", "field", "offset"),
    [
        (10, broken(QUEUED, 0, 0x54), "_magic", 0),
        (10, broken(QUEUED, 4, 0), "_version", 4),
        (10, broken(QUEUED, 4, 2), "_version", 4),
        (10, broken(QUEUED, 8, 0), "device._version", 8),
        (10, broken(QUEUED, 12, 2), "device.connected", 12),
        (10, broken(QUEUED, 12, 0), "device.connected", 12),
        (10, broken(QUEUED, 21, 4), "device.write_data", 29),
        (10, broken(QUEUED, 21, 2), "", 35),
        (10, broken(QUEUED, 21, 0, 0, 0, 0), "device.write_data", 29),
        (10, broken(QUEUED, 21, 255, 255, 255, 255), "device.write_data", 29),
        (10, broken(QUEUED, 29, 32), "device.write_data", 29),
        (10, broken(QUEUED, 29, 0), "device.write_data", 29),
        (10, broken(VmcRecord.queued(b"").encode(), 29, 33), "device.write_data", 29),
        (
            10,
            broken(VmcRecord.queued(b"").encode(), 25, 1),
            "device.write_num_client_tokens",
            25,
        ),
        (1, broken(PARTIAL, 33, 2), "client_agent_started", 33),
        (1, broken(PARTIAL, 34, 9), "chunk_header_size", 34),
        (1, broken(PARTIAL, 34, 7), "from_agent_header_size", 47),
        (1, broken(PARTIAL, 38, 3), "chunk_port", 38),
        (1, broken(PARTIAL, 46, 1), "from_agent_header_size", 47),
        (1, broken(PARTIAL, 46, 2), "from_agent_header_done", 46),
        (1, broken(PARTIAL, 47, 20), "from_agent_header_size", 47),
        (1, broken(PARTIAL, 47, 5), "from_agent_header", 51),
        (1, broken(PARTIAL, 51, 65), "from_agent_header", 51),
        (1, broken(PARTIAL, 59, 4), "from_agent_filter", 59),
        (1, broken(PARTIAL, 64, 4), "to_agent_filter", 64),
        (1, broken(MainRecord.empty().encode(), 33, 1), "device.connected", 12),
        (1, bytes(26_625), "", -1),
        (3, bytes(2049), "", -1),
        (8, broken(CARD, 33, 2), "reader_added", 33),
        (8, broken(NO_CARD, 33, 1), "reader_added", 33),
        (8, broken(CARD, 34, 255, 255, 255), "read_size", 34),
        (8, broken(CARD, 38, 42), "read_data", 38),
        (8, broken(CARD, 44 + 8, 255), "read_data", 44),
        (8, broken(CARD, 44 + 11, 2), "read_data", 44),
        (2, broken(DISPLAY, 16, 2), "low_bandwidth", 16),
        (2, broken(DISPLAY, 26, 2), "pixmap_cache_freezer", 26),
        (2, broken(DISPLAY, 76, 84), "surfaces", 76),
        (2, broken(DISPLAY, 80, 2), "surfaces", 76),
        (2, broken(DISPLAY, 80, 255, 255, 255, 255), "surfaces", 76),
        (2, DISPLAY[:83], "surfaces", 76),
    ],
    ids=lambda value: value.hex()[:8] if isinstance(value, bytes) else None,
)
def test_a_wrong_field_is_named_with_its_offset(
    channel: int, data: bytes, field: str, offset: int
) -> None:
    with pytest.raises(DecodeError) as caught:
        parse_record(channel, data)
    assert (caught.value.field, caught.value.offset) == (field, offset)


def test_the_form_of_the_surfaces_follows_from_their_length() -> None:
    display = DisplayRecord.parse(DISPLAY)
    lossy = display.replace(surfaces=(LossySurface(id=1, left=0, top=2, right=4, bottom=6),))
    assert DisplayRecord.parse(lossy.encode()) == lossy
    assert (display.lossy, lossy.lossy, display.replace(surfaces=()).lossy) == (False, True, None)
    with pytest.raises(LocalError):
        display.replace(surfaces=(*display.surfaces, *lossy.surfaces)).encode()


def size_of(number: int) -> tuple[int, int] | None:
    return (640, 480) if number < 10 else None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"message_serial": 0}, "message_serial"),
        ({"message_serial": (1 << 64) - 1}, "message_serial"),
        ({"pixmap_cache_size": -1}, "pixmap_cache_size"),
        ({"pixmap_cache_size": 1 << 40}, "pixmap_cache_size"),
        ({"glz_window_size": (1 << 25) + 1}, "glz_window_size"),
        ({"glz_max_encoders": 5}, "glz_max_encoders"),
        ({"surfaces": (HeldSurface(id=0),)}, "surfaces"),
        ({"surfaces": (LossySurface(id=10, left=0, top=0, right=1, bottom=1),)}, "surfaces"),
        ({"surfaces": (LossySurface(id=0, left=0, top=0, right=1, bottom=1),) * 2}, "surfaces"),
        ({"surfaces": (LossySurface(id=0, left=2, top=0, right=1, bottom=1),)}, "surfaces"),
        ({"surfaces": (LossySurface(id=0, left=0, top=0, right=641, bottom=1),)}, "surfaces"),
        ({"surfaces": (LossySurface(id=0, left=0, top=-1, right=1, bottom=1),)}, "surfaces"),
    ],
)
def test_a_display_record_is_checked_against_the_receiver(
    changes: dict[str, Any], field: str
) -> None:
    surface = LossySurface(id=0, left=0, top=0, right=640, bottom=480)
    record = DisplayRecord.parse(DISPLAY).replace(surfaces=(surface,))
    record.check(lossy=True, surface_size=size_of)
    with pytest.raises(DecodeError) as caught:
        record.replace(**changes).check(lossy=True, surface_size=size_of)
    assert (caught.value.field, caught.value.message) == (field, "DisplayRecord")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"chunk_size": 2049}, "chunk_size"),
        (
            {"from_agent_header": b"", "from_agent_header_done": 1, "from_agent_remaining": 101},
            "from_agent_remaining",
        ),
        ({"to_agent_remaining": 51}, "to_agent_remaining"),
        ({"device": connected(b"x", NO_FLOW_CONTROL, 11)}, "device.num_client_tokens"),
    ],
)
def test_a_main_record_is_checked_against_the_receiver(changes: dict[str, Any], field: str) -> None:
    record = MainRecord.parse(PARTIAL)
    record.check(max_chunk=2048, max_from_agent=100, max_to_agent=50)
    with pytest.raises(DecodeError) as caught:
        record.replace(**changes).check(max_chunk=2048, max_from_agent=100, max_to_agent=50)
    assert caught.value.field == field


def test_an_honest_client_counts_few_motions() -> None:
    InputsRecord(motion_count=16).check()
    with pytest.raises(DecodeError, match="motion_count"):
        InputsRecord(motion_count=17).check()


def test_channels_without_a_record_are_told_apart() -> None:
    with pytest.raises(DecodeError, match="cursor channels have no record"):
        parse_record(4, b"")


def test_values_that_do_not_fit_are_not_written() -> None:
    with pytest.raises(LocalError):
        DisplayRecord.parse(DISPLAY).replace(pixmap_cache_clients=(1, 2, 3)).encode()
    with pytest.raises(LocalError, match="read by parse"):
        VmcRecord.read(Reader(QUEUED))


@given(st.binary(max_size=60) | ANY_RECORD.map(HandoverRecord.encode))
def test_peeking_never_raises_and_agrees_with_reading(data: bytes) -> None:
    try:
        expected: int | None = len(VmcRecord.parse(data).device.write_data)
    except DecodeError:
        assert queued_bytes(data) in (None, 0)
    else:
        assert queued_bytes(bytearray(data)) == expected


def test_peeking_tells_what_the_guest_has_not_read() -> None:
    for name, count in (("text-port0", 1940), ("full-port0", 2047), ("full-webdav0", 0)):
        data = bytes.fromhex(CAPTURED["migrate_data"][name])
        assert queued_bytes(data) == count
        assert queued_bytes(data[:-1]) is None
    assert queued_bytes(bytes.fromhex(CAPTURED["migrate_data"]["text-main0"])) is None
