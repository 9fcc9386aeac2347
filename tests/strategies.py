"""Messages of any declared kind, derived from the declaration alone.

`messages` makes valid ones: counters, conditions, choices and computed sizes are respected.
`damaged` makes bodies that were valid before somebody cut, overwrote or prolonged them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import assume, reject
from hypothesis import strategies as st

from aiospice.wire.fields import (
    Block,
    Choice,
    ChoiceArray,
    Counter,
    Field,
    FixedBytes,
    Nested,
    Number,
    NumberArray,
    Pointer,
    PointerBytes,
    PointerNumbers,
    RecordArray,
    Rest,
    When,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiospice.wire.message import Message
    from aiospice.wire.record import Record

    MessageT = TypeVar("MessageT", bound=Message)

__all__ = ["damaged", "kinds_within", "messages", "records"]

Draw = Any
#: Numbers that a size is computed from: more would make bodies too large to be drawn.
_SMALL = 12
#: How often the earlier fields are drawn anew when no structure belongs to their choice.
_TRIES = 20
_RANGES = {
    "B": (0, 0xFF),
    "H": (0, 0xFFFF),
    "I": (0, 0xFFFFFFFF),
    "Q": (0, 0xFFFFFFFFFFFFFFFF),
    "i": (-0x80000000, 0x7FFFFFFF),
}


class _Again(Exception):
    """The fields so far leave no valid way to go on."""


def _inner(field: Field) -> Field:
    return field.inner if isinstance(field, When) else field


def kinds_within(kind: type[Record]) -> set[type[Record]]:
    """``kind`` and every structure that can be inside of it."""
    found = {kind}
    for field in map(_inner, kind.fields()):
        inside: list[type[Record] | None] = []
        if isinstance(field, (Nested, Pointer, RecordArray)):
            inside = [field.record]
        elif isinstance(field, (Choice, ChoiceArray)):
            inside = list(field.records.values())
        for record in inside:
            if record is not None:
                found |= kinds_within(record)
    return found


class _Maker:
    """Draws the fields of one structure, in wire order."""

    def __init__(self, draw: Draw, kind: type[Record], known: bool, repeat: int) -> None:
        self.draw = draw
        self.kind = kind
        fields = [_inner(field) for field in kind.fields()]
        #: Only values that have a name, so that a choice has something to choose.
        self.known = known or any(isinstance(f, Choice) and f.unknown == "error" for f in fields)
        self.small = any(isinstance(f, Block) and not isinstance(f.size, str) for f in fields)
        self.repeat = repeat
        self.values: dict[str, Any] = {}
        self.most: dict[str, int] = {}

    def make(self) -> Record:
        for field in self.kind.fields():
            inner = _inner(field)
            if isinstance(inner, Counter):
                self.most[inner.of] = inner.high - inner.extra
                self.values[field.name] = 0
            elif isinstance(field, When) and not field.condition(self.values):
                self.values[field.name] = field.absent
            else:
                self.values[field.name] = self.value(field.name, inner)
        visible = {f.name: self.values[f.name] for f in self.kind.fields() if not f.hidden}
        return self.kind(**visible)

    def value(self, name: str, field: Field) -> Any:
        if isinstance(field, Number):
            return self.draw(self.number(field))
        if isinstance(field, Nested):
            return self.record(field.record)
        if isinstance(field, Pointer):
            if not field.required and self.draw(st.booleans()):
                return None
            return self.record(field.record)
        if isinstance(field, (RecordArray, ChoiceArray)):
            return self.array(name, field)
        if isinstance(field, Choice):
            return self.choice(field)
        if isinstance(field, (NumberArray, PointerNumbers)):
            item = st.integers(*_RANGES[field.item])
            return self.many(name, lambda: self.draw(item))
        return self.blob(name, field)

    def number(self, field: Number) -> st.SearchStrategy[int]:
        anything = st.integers(field.low, field.high)
        if field.names is None:
            if self.small and field.high > _SMALL:
                return st.integers(max(field.low, 0), _SMALL)
            return anything
        members = [m for m in field.names if m <= field.high]
        if not field.names_are_bits:
            named = st.sampled_from([int(m) for m in members])
        else:
            named = st.sets(st.sampled_from(members)).map(lambda bits: sum(map(int, bits)))
        return named if self.known else named | anything

    def record(self, kind: type[Record], repeat: int | None = None) -> Record:
        repeat = self.repeat if repeat is None else repeat
        made: Record = self.draw(records(kind, known=self.known, repeat=repeat))
        return made

    def array(self, name: str, field: RecordArray | ChoiceArray) -> tuple[Record, ...]:
        if isinstance(field, ChoiceArray):
            kind = field.records.get(field.select(self.values))
        else:
            kind = field.record
        return () if kind is None else self.many(name, lambda: self.record(kind, self.repeat // 40))

    def many(self, name: str, one: Callable[[], Any]) -> tuple[Any, ...]:
        """A few different elements, or one element many times (which is cheap to draw)."""
        most = self.most[name]
        if self.repeat:
            return (one(),) * min(self.repeat, most)
        return tuple(one() for _ in range(self.draw(st.integers(0, min(4, most)))))

    def choice(self, field: Choice) -> Record | None:
        key = field.select(self.values)
        if key not in field.records and field.unknown == "error":
            raise _Again
        kind = field.records.get(key)
        return None if kind is None else self.record(kind)

    def blob(self, name: str, field: Field) -> Any:
        if isinstance(field, FixedBytes):
            return self.draw(st.binary(min_size=field.size, max_size=field.size))
        if isinstance(field, Block) and not isinstance(field.size, str):
            size = field.size(self.values)
            return (self.draw(st.binary(min_size=1, max_size=4)) * size)[:size]
        if isinstance(field, (Block, PointerBytes)):
            blob = st.binary(max_size=min(40, self.most[name]))
            if isinstance(field, PointerBytes) and field.terminated:
                blob = blob.filter(lambda value: b"\0" not in value)
            return self.draw(blob)
        if isinstance(field, Rest):
            return self.draw(st.binary(max_size=60))
        # A field of a module's own: only its default is known to be valid.
        assert field.default is not ..., f"no strategy for {type(field).__name__}"
        return field.default


@st.composite
def records(draw: Draw, kind: type[Record], *, known: bool = False, repeat: int = 0) -> Record:
    """Valid structures of a kind.

    ``known``: only numbers that have a name, where there are names. ``repeat``: so many elements
    in every array, or as many as it may have; fewer in arrays within arrays.
    """
    for _ in range(_TRIES):
        try:
            return _Maker(draw, kind, known, repeat).make()
        except _Again:
            continue
    reject()


@st.composite
def messages(draw: Draw, kind: type[MessageT], *, repeat: int = 0) -> MessageT:
    """Valid messages of a kind."""
    message: MessageT = draw(records(kind, repeat=repeat))
    assume(kind.limit is None or len(message.body()) <= kind.limit)
    return message


@st.composite
def damaged(draw: Draw, kind: type[Message]) -> bytes:
    """Bodies of a kind after something went wrong with them."""
    body = bytearray(draw(messages(kind)).body())
    for _ in range(draw(st.integers(0, 4))):
        if body:
            place = draw(st.integers(0, len(body) - 1))
            body[place] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    cut: int = draw(st.integers(0, len(body)))
    more: bytes = draw(st.binary(max_size=20))
    how = draw(st.sampled_from(["whole", "short", "long", "doubled"]))
    if how == "short":
        return bytes(body[:cut])
    if how == "long":
        return bytes(body) + more
    return bytes(body + body if how == "doubled" else body)
