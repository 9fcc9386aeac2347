"""What holds for every declared message: it round-trips, refuses bad bytes, and can be shown."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from struct import pack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.strategies import damaged, messages

from aiospice.errors import DecodeError
from aiospice.wire.main import DstInfo, MigrateBeginSeamless
from aiospice.wire.message import Message
from aiospice.wire.reader import RECORDS
from aiospice.wire.registry import find, load_all, message_name

KINDS = sorted(set(load_all().values()), key=lambda kind: (kind.__module__, kind.__qualname__))
#: There are many kinds: each gets a share of the examples that the profile allows.
SHARE = settings(
    max_examples=min(max(settings().max_examples // 5, 10), 1000),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


#: Parsing may take this many bytes, and so many for each byte of the body. The worst kind is the
#: list of channels: an object of about 250 bytes for 2 bytes on the wire, 4096 times at most.
#: Everything else stays below 50 for each byte.
MEMORY = 64 << 10
MEMORY_PER_BYTE = 128

every_kind = pytest.mark.parametrize(
    "kind", KINDS, ids=[f"{kind.__module__.rpartition('.')[2]}-{kind.__name__}" for kind in KINDS]
)


@every_kind
@SHARE
@given(data=st.data())
def test_a_message_survives_bytes_pickle_and_copy(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(messages(kind))
    body = message.body()
    assert kind.parse(body) == message
    assert kind.parse(memoryview(bytearray(body))) == message
    again = pickle.loads(pickle.dumps(message))
    assert again == message
    assert hash(again) == hash(message) == hash(copy.deepcopy(message))
    assert again.body() == body


@every_kind
@SHARE
@given(data=st.data())
def test_what_a_message_shows_is_one_line_of_printable_text(
    kind: type[Message], data: st.DataObject
) -> None:
    text = repr(data.draw(messages(kind)))
    assert text.startswith(kind.__name__)
    assert text.isprintable()


def parses_or_is_refused(kind: type[Message], body: bytes) -> None:
    """Parse a body that may be broken; what comes out must be able to be shown and written."""
    refused: DecodeError | None = None
    try:
        message = kind.parse(body)
    except DecodeError as error:
        refused = error
    if refused is not None:
        assert refused.message == kind.__name__
        assert str(refused).isprintable()
        assert pickle.loads(pickle.dumps(refused)).offset == refused.offset
        return
    assert repr(message).isprintable()
    assert kind.parse(message.body()) == message


@every_kind
@SHARE
@given(body=st.binary(max_size=400))
def test_arbitrary_bytes_are_read_or_refused(kind: type[Message], body: bytes) -> None:
    parses_or_is_refused(kind, body)


@every_kind
@SHARE
@given(data=st.data())
def test_damaged_bodies_are_read_or_refused(kind: type[Message], data: st.DataObject) -> None:
    parses_or_is_refused(kind, data.draw(damaged(kind)))


@every_kind
@settings(SHARE, max_examples=5)
@given(data=st.data())
def test_a_body_cut_anywhere_is_refused_or_read(kind: type[Message], data: st.DataObject) -> None:
    body = data.draw(messages(kind)).body()
    for cut in range(min(len(body), 200)):
        parses_or_is_refused(kind, body[:cut])


def peak(kind: type[Message], body: bytes) -> int:
    """The most bytes that parsing holds at once."""
    tracemalloc.start()
    try:
        parses_or_is_refused(kind, b"")
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        try:
            kind.parse(body)
        except DecodeError:
            pass
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@every_kind
@settings(SHARE, max_examples=5)
@given(data=st.data())
def test_memory_is_bounded_by_the_body_with_full_arrays(
    kind: type[Message], data: st.DataObject
) -> None:
    body = data.draw(messages(kind, repeat=400)).body()
    assert peak(kind, body) <= MEMORY + MEMORY_PER_BYTE * len(body)


@every_kind
@settings(SHARE, max_examples=5)
@given(data=st.data())
def test_memory_is_bounded_by_the_body_with_lying_numbers(
    kind: type[Message], data: st.DataObject
) -> None:
    body = data.draw(damaged(kind))
    for filler in (b"\x01\0\0\0", b"\xff", b"\0", b"\x7f\0", b"\x04"):
        lying = body + filler * (8192 // len(filler))
        assert peak(kind, lying) <= MEMORY + MEMORY_PER_BYTE * len(lying)
        assert peak(kind, filler * (8192 // len(filler))) <= MEMORY + MEMORY_PER_BYTE * 8192


def test_a_body_holds_a_limited_number_of_structures() -> None:
    from aiospice.wire.draw import DrawStroke

    path = pack("<I", 5) + (pack("<BI", 0, 1 << 16) + bytes(8 << 16)) * 5
    head = pack("<I4iB", 0, 0, 0, 1, 1, 0)
    body = head + pack("<IBBHH", len(head) + 10, 0, 0, 8, 8) + path
    with pytest.raises(DecodeError, match=f"more than {RECORDS} structures") as caught:
        DrawStroke.parse(body)
    assert caught.value.field == "path.segments.points"


def test_pointers_to_the_same_bytes_cannot_multiply_a_body() -> None:
    from aiospice.wire.draw import DrawRop3

    blob = 100_000
    head = pack("<I4iB", 0, 0, 0, 1, 1, 0)
    image = pack("<QBBIII", 1, 1, 0, 1, 1, blob) + bytes(blob)
    size = len(head) + 4 + 16 + 1 + 12 + 2 + 1 + 8 + 4
    where = pack("<I", size)
    body = head + where + bytes(16) + b"\x02" + where + bytes(8) + bytes(2)
    body += bytes(1 + 8) + where + image
    with pytest.raises(DecodeError, match="again and again"):
        DrawRop3.parse(body)


def test_no_two_messages_of_a_channel_and_sender_share_a_name() -> None:
    seen: dict[tuple[int, str, str], int] = {}
    for (channel, sender, number), kind in load_all().items():
        assert seen.setdefault((channel, sender, kind.__name__), number) == number


def test_a_kind_knows_its_own_number_sender_and_channels() -> None:
    for (channel, sender, number), kind in load_all().items():
        assert channel in kind.channels
        assert (kind.sender, kind.number) == (sender, number)
        assert find(channel, sender, number) is kind
        assert kind.__doc__


def test_base_messages_are_found_on_every_channel_and_unknown_ones_have_a_name() -> None:
    assert find(2, "server", 4) is find(77, "server", 4)
    assert message_name(2, "server", 4) == "Ping"
    assert message_name(2, "server", 304) == "DrawCopy"
    assert message_name(2, "server", 999) == "message 999"
    assert message_name(77, "client", 101) == "message 101"
    assert find(2, "client", 304) is None


def test_migrate_begin_seamless_as_a_server_writes_it() -> None:
    body = bytes.fromhex(
        "0c17 0000 03000000 18000000 00000000 00000000 01000000 643100".replace(" ", "")
    )
    message = MigrateBeginSeamless(
        destination=DstInfo(port=5900, secure_port=0, host=b"d1", cert_subject=b""),
        src_mig_version=1,
    )
    assert MigrateBeginSeamless.parse(body) == message
    assert message.body() == body
