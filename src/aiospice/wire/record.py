"""Structures and messages declared once: see `Record`.

A wire structure is a class whose annotated attributes are field declarations, in wire order::

    class ChannelId(Record):
        type: int = u8(names=ChannelType)
        id: int = u8()

All numbers are little endian and packed. A *pointer* on the wire is a u32 that counts bytes from
the first byte of the message body (spice-common ``python_modules``); 0 stands for nothing. What
is pointed to follows the fixed part. Reading checks every size and pointer against the bytes at
hand before anything is allocated, and never reads more than twice the body in total, so a few
pointers to the same place can't multiply a message.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, dataclass_transform

from aiospice.errors import DecodeError
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
    from collections.abc import Callable, Mapping
    from enum import IntEnum

    from aiospice.wire.reader import Reader, Writer

__all__ = [
    "Record",
    "block",
    "choice",
    "choice_array",
    "counter",
    "fixed_bytes",
    "i16",
    "i32",
    "i64",
    "nested",
    "number_array",
    "pointer",
    "pointer_bytes",
    "pointer_numbers",
    "record_array",
    "rest",
    "u8",
    "u16",
    "u32",
    "u64",
    "when",
    "when_counter",
]

# What a declaration is written with. Each returns a field; the annotation beside it is the type of
# the attribute, hence Any.


def u8(
    *,
    names: type[IntEnum] | None = None,
    flags: type[IntEnum] | None = None,
    maximum: int | None = None,
    default: int = ...,  # type: ignore[assignment]
) -> Any:
    """An unsigned number of 8 bits; ``names`` for its values or ``flags`` for its bits."""
    return Number("B", names, flags, maximum, default)


def u16(
    *,
    names: type[IntEnum] | None = None,
    flags: type[IntEnum] | None = None,
    maximum: int | None = None,
    default: int = ...,  # type: ignore[assignment]
) -> Any:
    """An unsigned number of 16 bits."""
    return Number("H", names, flags, maximum, default)


def u32(
    *,
    names: type[IntEnum] | None = None,
    flags: type[IntEnum] | None = None,
    maximum: int | None = None,
    default: int = ...,  # type: ignore[assignment]
) -> Any:
    """An unsigned number of 32 bits."""
    return Number("I", names, flags, maximum, default)


def u64(*, maximum: int | None = None, default: int = ...) -> Any:  # type: ignore[assignment]
    """An unsigned number of 64 bits."""
    return Number("Q", None, None, maximum, default)


def i16(*, default: int = ...) -> Any:  # type: ignore[assignment]
    """A signed number of 16 bits."""
    return Number("h", None, None, None, default)


def i32(*, default: int = ...) -> Any:  # type: ignore[assignment]
    """A signed number of 32 bits."""
    return Number("i", None, None, None, default)


def i64(*, default: int = ...) -> Any:  # type: ignore[assignment]
    """A signed number of 64 bits."""
    return Number("q", None, None, None, default)


def counter(
    of: str,
    fmt: str,
    *,
    maximum: int | None = None,
    extra: int = 0,
    init: Literal[False] = False,
) -> Any:
    """The number of elements (or bytes) of the later field ``of``, plus ``extra`` if it isn't None.

    ``fmt`` is a struct character (``B H I``). It is read and checked, written from the other
    field, and not an attribute of the record.
    """
    return Counter(of, fmt, maximum, extra)


def nested(record: type[Record]) -> Any:
    """A structure in place."""
    return Nested(record)


def fixed_bytes(size: int) -> Any:
    """``size`` bytes."""
    return FixedBytes(size)


def rest() -> Any:
    """All bytes to the end of the body."""
    return Rest()


def block(size: str | Callable[[dict[str, Any]], int]) -> Any:
    """Bytes in place; ``size`` names the counter, or computes the number from earlier fields."""
    return Block(size)


def number_array(fmt: str, count: str) -> Any:
    """A tuple of numbers in place; ``count`` names the counter."""
    return NumberArray(fmt, count)


def record_array(record: type[Record], count: str) -> Any:
    """A tuple of structures in place; ``count`` names the counter."""
    return RecordArray(record, count)


def pointer(record: type[Record], *, required: bool = False) -> Any:
    """A pointer to a structure, None when it is 0 (an error if ``required``)."""
    return Pointer(record, required)


def pointer_bytes(size: str, *, terminated: bool = False) -> Any:
    """A pointer to bytes; ``size`` names the counter (``extra=1`` there if ``terminated``)."""
    return PointerBytes(size, terminated)


def pointer_numbers(fmt: str, count: str) -> Any:
    """A pointer to numbers; ``count`` names the counter."""
    return PointerNumbers(fmt, count)


def when(condition: Callable[[dict[str, Any]], bool], inner: Any, *, absent: Any = None) -> Any:
    """A field that is on the wire only if ``condition`` holds for the fields before it."""
    return When(condition, inner, absent)


def when_counter(
    condition: Callable[[dict[str, Any]], bool], inner: Any, *, init: Literal[False] = False
) -> Any:
    """A counter that is on the wire only if ``condition`` holds; counts 0 otherwise."""
    return When(condition, inner, 0)


def choice(
    select: Callable[[dict[str, Any]], int],
    records: Mapping[int, type[Record] | None],
    *,
    unknown: Literal["error", "nothing"] = "error",
) -> Any:
    """One of ``records``, by the number that ``select`` makes of the earlier fields.

    A number that maps to None is known to have no structure; the value is None then.
    """
    return Choice(select, records, unknown)


def choice_array(
    select: Callable[[dict[str, Any]], int], records: Mapping[int, type[Record]], count: str
) -> Any:
    """A tuple of structures of the kind that ``select`` chooses; ``count`` names the counter."""
    return ChoiceArray(select, records, count)


class _Plan:
    """What a declaration comes to: runs of plain numbers read at once, other fields one by one."""

    __slots__ = ("fields", "hidden", "steps", "visible")

    def __init__(self, fields: list[Field]) -> None:
        self.fields = fields
        self.visible = [field for field in fields if not field.hidden]
        self.hidden = [field.name for field in fields if field.hidden]
        self.steps: list[tuple[Struct, tuple[Number, ...]] | Field] = []
        run: list[Number] = []
        for field in fields:
            if isinstance(field, Number):
                run.append(field)
            else:
                self._close(run)
                self.steps.append(field)
        self._close(run)

    def _close(self, run: list[Number]) -> None:
        if run:
            struct = Struct("<" + "".join(field.fmt for field in run))
            self.steps.append((struct, tuple(run)))
            run.clear()


@dataclass_transform(
    kw_only_default=True,
    frozen_default=True,
    field_specifiers=(
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
    ),
)
class Record:
    """A wire structure; see the module's text for how one is declared.

    Instances are values: keyword arguments only, compared by content, not changed afterwards.
    """

    _own: ClassVar[list[Field]] = []
    _plan_made: ClassVar[_Plan | None] = None

    def __init_subclass__(cls) -> None:
        own = list(cls._own)
        for name in list(cls.__dict__):
            field = cls.__dict__.get(name)
            if isinstance(field, Field):
                if any(name in base.__dict__ for base in cls.__mro__[1:]):
                    raise TypeError(f"{cls.__name__} can't have a field {name}: it has a meaning")
                field.name = name
                own.append(field)
                delattr(cls, name)
        cls._own = own
        cls._plan_made = None

    def __init__(self, **values: Any) -> None:
        mine = self.__dict__
        for field in self._plan().visible:
            name = field.name
            if name in values:
                mine[name] = values.pop(name)
            elif field.default is not ...:
                mine[name] = field.default
            else:
                raise TypeError(f"{type(self).__name__} needs {name}")
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(values)}")

    @classmethod
    def _plan(cls) -> _Plan:
        plan = cls._plan_made
        if plan is None:
            plan = cls._plan_made = _Plan(cls._own)
        return plan

    @classmethod
    def fields(cls) -> list[Field]:
        """The declared fields, in wire order, counters included."""
        return cls._plan().fields

    @classmethod
    def least_size(cls) -> int:
        """The fewest bytes that the structure takes on the wire."""
        least = 0
        for step in cls._plan().steps:
            if isinstance(step, tuple):
                least += step[0].size
            elif isinstance(step, Nested):
                least += step.record.least_size()
            elif isinstance(step, FixedBytes):
                least += step.size
            elif isinstance(step, (Pointer, PointerBytes, PointerNumbers)):
                least += 4
        return max(least, 1)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one structure at the reader's position; `DecodeError` names field and offset."""
        values: dict[str, Any] = {}
        plan = cls._plan()
        current = ""
        try:
            for step in plan.steps:
                if isinstance(step, tuple):
                    struct, run = step
                    if struct.size > reader.end - reader.pos:
                        # One by one, so that the error names the field that doesn't fit.
                        for field in run:
                            current = field.name
                            reader.skip(field.struct.size)
                    current = run[0].name
                    start = reader.skip(struct.size)
                    for field, value in zip(
                        run, struct.unpack_from(reader.data, start), strict=True
                    ):
                        if value > field.high:
                            current = field.name
                            before = run[: run.index(field)]
                            field.check(value, start + sum(part.struct.size for part in before))
                        values[field.name] = value
                else:
                    current = step.name
                    values[current] = step.read(reader, values)
        except DecodeError as error:
            error.field = (
                f"{current}.{error.field}" if error.field not in ("", current) else current
            )
            raise
        for name in plan.hidden:
            del values[name]
        self = cls.__new__(cls)
        object.__setattr__(self, "__dict__", values)
        return self

    def write(self, writer: Writer) -> None:
        """Append the structure; `LocalError` when a value doesn't fit its field."""
        mine = self.__dict__
        for field in self._plan().fields:
            field.write(writer, mine.get(field.name), self)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return type(self)(**{**self.__dict__, **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is a value: use replace({name}=...)")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), tuple(self.__dict__.items())))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{field.name}={field.show(self.__dict__[field.name])}"
            for field in self._plan().visible
        )
        return f"{type(self).__name__}({shown})"
