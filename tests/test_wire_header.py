"""The data header and the lists of sub-messages."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.errors import DecodeError
from aiospice.wire.header import FULL, MINI, pack_header, read_sub_messages


def sub_list(*messages: tuple[int, bytes], before: bytes = b"") -> tuple[bytes, int]:
    """A body with sub-messages, the way a server lays it out, and where its list is."""
    body = bytearray(before)
    places = []
    for number, content in messages:
        places.append(len(body))
        body += pack("<HI", number, len(content)) + content
    offset = len(body)
    body += pack("<H", len(places)) + pack(f"<{len(places)}I", *places)
    return bytes(body), offset


def test_the_full_header_has_18_bytes_and_the_mini_header_6() -> None:
    assert (FULL.size, MINI.size) == (18, 6)
    assert pack_header(True, 7, 304, 0x1234) == bytes.fromhex("300134120000")
    full = pack_header(False, 7, 304, 0x1234)
    assert full == bytes.fromhex("070000000000000030013412000000000000")


def test_sub_messages_come_in_the_order_of_the_list() -> None:
    body, offset = sub_list((103, b"abc"), (105, b""), (3, b"12345678"), before=b"main")
    found = read_sub_messages(body, offset)
    assert [(number, bytes(content)) for number, content in found] == [
        (103, b"abc"),
        (105, b""),
        (3, b"12345678"),
    ]


def test_an_empty_list_is_no_messages() -> None:
    assert read_sub_messages(b"xx\0\0", 2) == []


@pytest.mark.parametrize(
    ("body", "offset", "said"),
    [
        (b"", 0, "list lies outside"),
        (b"\0", 0, "list lies outside"),
        (b"\0\0", 0xFFFFFFFF, "list lies outside"),
        (b"\x01\0", 0, "1 entries don't fit"),
        (b"\xff\xff" + bytes(40), 0, "65535 entries don't fit"),
        (pack("<HI", 1, 1), 0, "a message lies outside"),
        (pack("<HI", 1, 0xFFFFFFFF), 0, "a message lies outside"),
        (pack("<HIHI", 1, 6, 9, 1), 0, "1 bytes doesn't fit"),
        (pack("<HIHI", 1, 6, 9, 0xFFFFFFFF), 0, "4294967295 bytes doesn't fit"),
    ],
)
def test_a_list_that_is_not_inside_the_body_is_refused(body: bytes, offset: int, said: str) -> None:
    with pytest.raises(DecodeError, match=said) as caught:
        read_sub_messages(body, offset)
    assert caught.value.field == "sub_list"


def test_overlapping_sub_messages_cannot_multiply_a_body() -> None:
    content = bytes(1000)
    body = pack("<HI", 5, len(content)) + content
    body += pack("<H", 3) + pack("<3I", 0, 0, 0)
    with pytest.raises(DecodeError, match="doesn't fit"):
        read_sub_messages(body, len(content) + 6)


@given(body=st.binary(max_size=120), offset=st.integers(0, 130))
def test_arbitrary_lists_are_read_or_refused(body: bytes, offset: int) -> None:
    try:
        found = read_sub_messages(body, offset)
    except DecodeError:
        return
    assert sum(len(content) for _, content in found) <= len(body)


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=20)), max_size=6))
def test_what_was_put_into_a_list_comes_out(messages: list[tuple[int, bytes]]) -> None:
    body, offset = sub_list(*messages)
    assert [(n, bytes(content)) for n, content in read_sub_messages(body, offset)] == messages
