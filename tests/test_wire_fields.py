"""What every kind of field reads, writes and refuses."""

from __future__ import annotations

from enum import IntEnum
from struct import pack
from typing import Any

import pytest

from aiospice.errors import DecodeError, LocalError
from aiospice.wire.message import SERVER, Message
from aiospice.wire.reader import Reader, Writer
from aiospice.wire.record import (
    Record,
    block,
    choice,
    choice_array,
    counter,
    fixed_bytes,
    i16,
    i32,
    i64,
    nested,
    number_array,
    pointer,
    pointer_bytes,
    pointer_numbers,
    record_array,
    rest,
    u8,
    u16,
    u32,
    u64,
    when,
    when_counter,
)


class Colour(IntEnum):
    """Names of values."""

    RED = 1
    BLUE = 2


class Bits(IntEnum):
    """Names of bits."""

    LOW = 1
    HIGH = 8


class Numbers(Message):
    """One of each width."""

    a: int = u8(names=Colour)
    b: int = u16(flags=Bits)
    c: int = u32(maximum=1000)
    d: int = u64()
    e: int = i16()
    f: int = i32()
    g: int = i64(default=-7)


class Pair(Record):
    """A small structure."""

    x: int = u8()
    y: int = u16()


class Nesting(Message):
    """A structure in place, behind some bytes."""

    mark: bytes = fixed_bytes(1)
    pair: Pair = nested(Pair)


class Arrays(Message):
    """Everything that is counted and in place."""

    num_pairs: int = counter("pairs", "B", maximum=3)
    num_words: int = counter("words", "H")
    size: int = counter("data", "I", maximum=10)
    pairs: tuple[Pair, ...] = record_array(Pair, "num_pairs")
    words: tuple[int, ...] = number_array("H", "num_words")
    data: bytes = block("size")
    mark: bytes = fixed_bytes(2)
    tail: bytes = rest()


class Pointers(Message):
    """Everything that stands behind the fixed part."""

    one: Pair | None = pointer(Pair)
    needed: Pair = pointer(Pair, required=True)
    size: int = counter("name", "I", maximum=20, extra=1)
    name: bytes = pointer_bytes("size", terminated=True)
    count: int = counter("words", "H")
    words: tuple[int, ...] = pointer_numbers("I", "count")


def _first(values: dict[str, Any]) -> bool:
    return bool(values["flags"] & 1)


class Conditional(Message):
    """What is there only if a flag says so."""

    flags: int = u8()
    pair: Pair | None = when(_first, nested(Pair))
    digit: int = when(lambda values: not _first(values), u8(maximum=9), absent=0)
    count: int = when_counter(_first, counter("words", "B"), init=False)
    words: tuple[int, ...] = when(_first, number_array("B", "count"), absent=())


class Other(Record):
    """Another small structure."""

    z: int = u8()


class Chosen(Message):
    """Structures chosen by a number."""

    kind: int = u8()
    item: Pair | None = choice(lambda values: int(values["kind"]), {0: None, 1: Pair})
    loose: Other | None = choice(lambda values: int(values["kind"]), {1: Other}, unknown="nothing")
    count: int = counter("many", "B")
    many: tuple[Pair | Other, ...] = choice_array(
        lambda values: int(values["kind"]), {1: Other}, "count"
    )


NUMBERS = Numbers(a=1, b=9, c=1000, d=2**64 - 1, e=-(2**15), f=-1, g=-(2**63))
P1, P2 = Pair(x=1, y=2), Pair(x=3, y=4)


def test_numbers_are_little_endian_and_packed() -> None:
    body = pack("<BHIQhiq", 1, 9, 1000, 2**64 - 1, -(2**15), -1, -(2**63))
    assert NUMBERS.body() == body
    assert Numbers.parse(body) == NUMBERS
    assert Numbers.least_size() == len(body) == 29


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a", 256),
        ("a", -1),
        ("b", 1 << 16),
        ("c", 1001),
        ("d", 1 << 64),
        ("e", 32768),
        ("f", 1 << 31),
    ],
)
def test_a_number_that_does_not_fit_is_not_written(name: str, value: int) -> None:
    with pytest.raises(LocalError, match=rf"Numbers\.{name}: {value} is not in"):
        NUMBERS.replace(**{name: value}).body()


def test_a_number_above_its_limit_is_refused_with_field_and_offset() -> None:
    with pytest.raises(DecodeError, match="1001 is above the limit of 1000") as caught:
        Numbers.parse(pack("<BHI", 1, 9, 1001) + bytes(22))
    assert (caught.value.message, caught.value.field, caught.value.offset) == ("Numbers", "c", 3)
    assert str(caught.value) == "Numbers, field c, offset 3: 1001 is above the limit of 1000"


def test_a_short_body_names_the_field_that_is_missing() -> None:
    with pytest.raises(DecodeError, match="needs 4 bytes, 2 are left") as caught:
        Numbers.parse(bytes(5))
    assert (caught.value.field, caught.value.offset) == ("c", 3)


def test_values_and_bits_are_shown_by_name_and_unknown_ones_too() -> None:
    assert repr(NUMBERS).startswith("Numbers(a=RED, b=LOW|HIGH, c=1000, ")
    assert repr(NUMBERS.replace(a=77, b=0)).startswith("Numbers(a=77 (unknown), b=0, ")
    assert "b=LOW|0x40" in repr(NUMBERS.replace(b=0x41))


def test_a_record_is_a_value() -> None:
    with pytest.raises(AttributeError, match=r"use replace\(x=\.\.\.\)"):
        P1.x = 5  # type: ignore[misc]
    assert P1 == Pair(x=1, y=2) != P2
    assert P1 != (1, 2)
    assert hash(P1) == hash(Pair(x=1, y=2))
    assert P1.replace(x=9) == Pair(x=9, y=2)
    assert P1.x == 1


def test_a_record_takes_its_fields_and_no_others() -> None:
    with pytest.raises(TypeError, match="Pair needs y"):
        Pair(x=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Pair has no z"):
        Pair(x=1, y=2, z=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Arrays has no size"):
        Arrays(pairs=(), words=(), data=b"", mark=b"ab", tail=b"", size=3)  # type: ignore[call-arg]
    assert Numbers(a=1, b=1, c=1, d=1, e=1, f=1).g == -7


def test_counted_fields_are_written_with_their_counts() -> None:
    message = Arrays(pairs=(P1, P2), words=(5,), data=b"abc", mark=b"!!", tail=b"the rest")
    body = pack("<BHI", 2, 1, 3) + pack("<BHBH", 1, 2, 3, 4) + pack("<H", 5) + b"abc!!the rest"
    assert message.body() == body
    assert Arrays.parse(body) == message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pairs": (P1,) * 4}, r"Arrays\.pairs: 4 is more than 3"),
        ({"data": b"12345678901"}, r"Arrays\.data: 11 is more than 10"),
        ({"mark": b"!"}, r"Arrays\.mark takes 2 bytes, got 1"),
        ({"words": (1 << 16,)}, r"Arrays\.words: "),
        ({"pairs": (Other(z=1),)}, r"Arrays\.pairs takes Pair"),
    ],
)
def test_what_does_not_fit_is_not_written(changes: dict[str, Any], said: str) -> None:
    message = Arrays(pairs=(), words=(), data=b"", mark=b"!!", tail=b"")
    with pytest.raises(LocalError, match=said):
        message.replace(**changes).body()


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        (pack("<BHI", 4, 0, 0), "num_pairs", "above the limit of 3"),
        (pack("<BHI", 0, 0, 11), "size", "above the limit of 10"),
        (pack("<BHI", 3, 0, 0) + bytes(8), "pairs", "3 elements of 3 bytes don't fit"),
        (pack("<BHI", 0, 65535, 0) + bytes(8), "words", "needs 131070 bytes, 8 are left"),
        (pack("<BHI", 0, 0, 9) + bytes(8), "data", "needs 9 bytes, 8 are left"),
        (pack("<BHI", 0, 0, 0) + bytes(1), "mark", "needs 2 bytes, 1 are left"),
    ],
)
def test_counts_that_the_body_cannot_hold_are_refused(body: bytes, field: str, said: str) -> None:
    with pytest.raises(DecodeError, match=said) as caught:
        Arrays.parse(body)
    assert caught.value.field == field


def test_pointers_are_offsets_into_the_body_and_0_is_nothing() -> None:
    message = Pointers(one=None, needed=P1, name=b"host", words=(7, 8))
    body = pack("<IIIIHI", 0, 22, 5, 25, 2, 30) + pack("<BH", 1, 2) + b"host\0" + pack("<II", 7, 8)
    assert message.body() == body
    assert Pointers.parse(body) == message
    empty = Pointers(one=P2, needed=P1, name=b"", words=())
    assert Pointers.parse(empty.body()) == empty
    assert empty.body()[8:22] == bytes(14)


@pytest.mark.parametrize(
    ("body", "field", "offset", "said"),
    [
        (pack("<IIIIHI", 0, 0, 0, 0, 0, 0), "needed", 4, "must not be 0"),
        (pack("<IIIIHI", 23, 1, 0, 0, 0, 0), "one", 0, "points to 23, outside the 22 bytes"),
        (pack("<IIIIHI", 22, 1, 0, 0, 0, 0), "one.x", 22, "needs 1 bytes, 0 are left"),
        (pack("<IIIIHI", 0, 1, 1, 0, 0, 0), "name", 12, "1 bytes, but no pointer"),
        (pack("<IIIIHI", 0, 1, 20, 10, 0, 0), "name", 10, "needs 20 bytes, 12 are left"),
        (pack("<IIIIHI", 0, 1, 0, 0, 1, 0), "words", 18, "1 elements, but no pointer"),
        (pack("<IIIIHI", 0, 1, 0, 0, 65535, 2), "words", 2, "needs 262140 bytes"),
    ],
)
def test_bad_pointers_are_refused(body: bytes, field: str, offset: int, said: str) -> None:
    with pytest.raises(DecodeError, match=said) as caught:
        Pointers.parse(body)
    assert (caught.value.field, caught.value.offset) == (field, offset)


def test_a_terminated_text_ends_at_its_first_nul_and_holds_none() -> None:
    body = pack("<IIIIHI", 0, 1, 6, 22, 0, 0) + b"ab\0cd\0"
    assert Pointers.parse(body).name == b"ab"
    with pytest.raises(LocalError, match="can't hold a NUL"):
        Pointers(one=None, needed=P1, name=b"a\0b", words=()).body()
    with pytest.raises(LocalError, match="is needed"):
        Pointers(one=None, needed=None, name=b"", words=()).body()  # type: ignore[arg-type]


def test_conditional_fields_are_there_only_if_the_condition_holds() -> None:
    there = Conditional(flags=1, pair=P1, digit=0, words=(5, 6))
    gone = Conditional(flags=2, pair=None, digit=9, words=())
    assert there.body() == b"\x01" + pack("<BH", 1, 2) + b"\x02\x05\x06"
    assert gone.body() == b"\x02\x09"
    assert Conditional.parse(there.body()) == there
    assert Conditional.parse(gone.body()) == gone
    with pytest.raises(LocalError, match=r"Conditional\.pair: the other fields leave no room"):
        gone.replace(pair=P1).body()
    with pytest.raises(LocalError, match=r"Conditional\.words: the other fields leave no room"):
        gone.replace(words=(1,)).body()
    with pytest.raises(DecodeError, match="10 is above the limit of 9") as caught:
        Conditional.parse(b"\x02\x0a")
    assert (caught.value.field, caught.value.offset) == ("digit", 1)


def test_a_choice_takes_what_belongs_to_its_number() -> None:
    full = Chosen(kind=1, item=P1, loose=Other(z=9), many=(Other(z=7),))
    bare = Chosen(kind=0, item=None, loose=None, many=())
    assert full.body() == b"\x01" + pack("<BH", 1, 2) + b"\x09\x01\x07"
    assert Chosen.parse(full.body()) == full
    assert Chosen.parse(bare.body()) == bare
    with pytest.raises(DecodeError, match="2 is not a known kind") as caught:
        Chosen.parse(b"\x02\0\0\0")
    assert (caught.value.field, caught.value.offset) == ("item", 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": 2}, "2 is not a known kind"),
        ({"kind": 0}, "item takes nothing here"),
        ({"item": None}, "item takes Pair here"),
        ({"loose": P1}, "loose takes Other here"),
        ({"many": (P1,)}, "many takes Other here"),
        ({"kind": 0, "item": None, "loose": None}, "many takes nothing here"),
    ],
)
def test_a_choice_does_not_write_another_structure(changes: dict[str, Any], said: str) -> None:
    full = Chosen(kind=1, item=P1, loose=Other(z=9), many=(Other(z=7),))
    with pytest.raises(LocalError, match=said):
        full.replace(**changes).body()


def test_long_values_are_shown_in_part() -> None:
    message = Arrays(pairs=(), words=tuple(range(20)), data=b"", mark=b"!!", tail=bytes(100))
    text = repr(message)
    assert "words=[0, 1, 2, 3, 4, 5, 6, 7, ..(20)]" in text
    assert "data=empty" in text
    assert f"tail={'00' * 16}..(100 bytes)" in text


def test_limits_and_exactness_belong_to_the_message() -> None:
    class Small(Message, channels=(), sender=SERVER, number=1, limit=4, exact=True):
        """At most 4 bytes, and none behind the last field."""

        x: int = u16()

    assert Small.parse(b"\x05\x00") == Small(x=5)
    with pytest.raises(DecodeError, match="5 bytes, the limit is 4"):
        Small.parse(bytes(5))
    with pytest.raises(DecodeError, match="2 bytes behind the end") as caught:
        Small.parse(bytes(4))
    assert caught.value.offset == 2
    assert Numbers.parse(NUMBERS.body() + b"more") == NUMBERS


@pytest.mark.parametrize("name", ["body", "replace", "number", "fields"])
def test_a_field_cannot_hide_a_method_or_the_place_of_its_message(name: str) -> None:
    with pytest.raises(TypeError, match=f"Hiding can't have a field {name}"):
        type("Hiding", (Message,), {name: u8()})


def test_fields_are_listed_in_wire_order_with_counters() -> None:
    assert [field.name for field in Arrays.fields()] == [
        "num_pairs",
        "num_words",
        "size",
        "pairs",
        "words",
        "data",
        "mark",
        "tail",
    ]
    assert [field.name for field in Arrays.fields() if field.hidden] == [
        "num_pairs",
        "num_words",
        "size",
    ]


def test_the_least_size_counts_what_is_always_there() -> None:
    assert Arrays.least_size() == 1 + 2 + 4 + 2
    assert Pointers.least_size() == 4 + 4 + 4 + 4 + 2 + 4
    assert Conditional.least_size() == 1
    assert Nesting.least_size() == 4


def test_a_structure_in_place_is_read_and_shown_in_its_place() -> None:
    message = Nesting(mark=b"!", pair=P1)
    assert message.body() == b"!" + pack("<BH", 1, 2)
    assert Nesting.parse(message.body()) == message
    assert repr(message) == "Nesting(mark=21, pair=Pair(x=1, y=2))"
    with pytest.raises(DecodeError) as caught:
        Nesting.parse(b"!\x01")
    assert (caught.value.field, caught.value.offset) == ("pair.y", 2)


def test_a_reader_gives_no_more_than_there_is() -> None:
    reader = Reader(b"abcd")
    assert reader.take(3) == b"abc"
    with pytest.raises(DecodeError, match="needs 2 bytes, 1 are left") as caught:
        reader.take(2)
    assert caught.value.offset == 3
    assert reader.take(1) == b"d"
    assert reader.take(0) == b""


def test_a_writer_appends_what_pointers_refer_to_first_come_first_served() -> None:
    def outer(writer: Writer) -> None:
        writer.buffer += b"outer"
        writer.defer(inner)

    def inner(writer: Writer) -> None:
        writer.buffer += b"inner"

    writer = Writer()
    writer.defer(outer)
    writer.defer(None)
    writer.defer(inner)
    body = pack("<III", 12, 0, 21) + b"outer" + pack("<I", 26) + b"inner" + b"inner"
    assert writer.finish() == body
