"""What a declared field can be; `aiospice.wire.record` has the words to declare with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any

from aiospice.errors import DecodeError, LocalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from enum import IntEnum

    from aiospice.wire.reader import Reader, Writer
    from aiospice.wire.record import Record

__all__ = [
    "Block",
    "Choice",
    "ChoiceArray",
    "Counter",
    "Field",
    "FixedBytes",
    "Nested",
    "Number",
    "NumberArray",
    "Pointer",
    "PointerBytes",
    "PointerNumbers",
    "RecordArray",
    "Rest",
    "When",
]

_RANGES = {
    "B": (0, 0xFF),
    "H": (0, 0xFFFF),
    "I": (0, 0xFFFFFFFF),
    "Q": (0, 0xFFFFFFFFFFFFFFFF),
    "b": (-0x80, 0x7F),
    "h": (-0x8000, 0x7FFF),
    "i": (-0x80000000, 0x7FFFFFFF),
    "q": (-0x8000000000000000, 0x7FFFFFFFFFFFFFFF),
}


class Field(ABC):
    """One declared field. Subclasses know how to read and to write it."""

    __slots__ = ("default", "hidden", "name")
    #: Struct character when the field is one plain number, else empty.
    fmt = ""

    def __init__(self, default: object = ...) -> None:
        self.name = ""
        self.default = default
        #: Derived when written (counts and sizes), so not an attribute of the record.
        self.hidden = False

    @abstractmethod
    def read(self, reader: Reader, values: dict[str, Any]) -> Any:
        """Read the value; ``values`` holds the fields before this one."""

    @abstractmethod
    def write(self, writer: Writer, value: Any, record: Record) -> None:
        """Append the value; `LocalError` when it can't be written."""

    def show(self, value: Any) -> str:
        """The value as text for people."""
        return _show(value)


def _show(value: Any) -> str:
    if isinstance(value, bytes):
        if len(value) <= 24:
            return value.hex() or "empty"
        return f"{value[:16].hex()}..({len(value)} bytes)"
    if isinstance(value, (list, tuple)):
        shown = ", ".join(_show(item) for item in value[:8])
        return f"[{shown}{f', ..({len(value)})' if len(value) > 8 else ''}]"
    return repr(value)


class Number(Field):
    """A number, optionally with names for its values or bits and a range of its own."""

    __slots__ = ("fmt", "high", "low", "names", "names_are_bits", "struct")

    def __init__(
        self,
        fmt: str,
        names: type[IntEnum] | None,
        flags: type[IntEnum] | None,
        maximum: int | None,
        default: object,
    ) -> None:
        super().__init__(default)
        self.fmt = fmt
        self.struct = Struct("<" + fmt)
        self.names = names or flags
        self.names_are_bits = flags is not None
        self.low, high = _RANGES[fmt]
        self.high = high if maximum is None else maximum

    def read(self, reader: Reader, values: dict[str, Any]) -> int:
        value = reader.number(self.struct)
        self.check(value, reader.pos - self.struct.size)
        return value

    def check(self, value: int, offset: int) -> None:
        """Refuse what the declaration doesn't allow."""
        if value > self.high:
            raise DecodeError(
                f"{value} is above the limit of {self.high}", field=self.name, offset=offset
            )

    def write(self, writer: Writer, value: int, record: Record) -> None:
        if not self.low <= value <= self.high:
            raise LocalError(
                f"{type(record).__name__}.{self.name}: {value} is not in {self.low}..{self.high}"
            )
        writer.buffer += self.struct.pack(value)

    def show(self, value: int) -> str:
        if self.names is None:
            return str(value)
        if not self.names_are_bits:
            for member in self.names:
                if member.value == value:
                    return member.name
            return f"{value} (unknown)"
        parts = [member.name for member in self.names if value & member.value]
        known = 0
        for member in self.names:
            known |= member.value
        if value & ~known:
            parts.append(hex(value & ~known))
        return "|".join(parts) or "0"


class Counter(Number):
    """How many elements or bytes another field has; never an attribute, written from the other."""

    __slots__ = ("extra", "of")

    def __init__(self, of: str, fmt: str, maximum: int | None, extra: int) -> None:
        super().__init__(fmt, None, None, maximum, ...)
        self.of = of
        self.extra = extra
        self.hidden = True

    def write(self, writer: Writer, value: Any, record: Record) -> None:
        counted = getattr(record, self.of)
        count = len(counted) + self.extra if counted else 0
        if count > self.high:
            raise LocalError(f"{type(record).__name__}.{self.of}: {count} is more than {self.high}")
        writer.buffer += self.struct.pack(count)


class Nested(Field):
    """A structure in place."""

    __slots__ = ("record",)

    def __init__(self, record: type[Record]) -> None:
        super().__init__()
        self.record = record

    def read(self, reader: Reader, values: dict[str, Any]) -> Record:
        return self.record.read(reader)

    def write(self, writer: Writer, value: Record, record: Record) -> None:
        value.write(writer)


class FixedBytes(Field):
    """A fixed number of bytes."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def read(self, reader: Reader, values: dict[str, Any]) -> bytes:
        return reader.take(self.size)

    def write(self, writer: Writer, value: bytes, record: Record) -> None:
        if len(value) != self.size:
            raise LocalError(
                f"{type(record).__name__}.{self.name} takes {self.size} bytes, got {len(value)}"
            )
        writer.buffer += value


class Rest(Field):
    """All bytes to the end of the body."""

    __slots__ = ()

    def read(self, reader: Reader, values: dict[str, Any]) -> bytes:
        return reader.take(reader.end - reader.pos)

    def write(self, writer: Writer, value: bytes, record: Record) -> None:
        writer.buffer += value


class Block(Field):
    """Bytes in place whose number an earlier field, or a function of earlier fields, gives."""

    __slots__ = ("size",)

    def __init__(self, size: str | Callable[[dict[str, Any]], int]) -> None:
        super().__init__()
        self.size = size

    def read(self, reader: Reader, values: dict[str, Any]) -> bytes:
        size = values[self.size] if isinstance(self.size, str) else self.size(values)
        return reader.take(size)

    def write(self, writer: Writer, value: bytes, record: Record) -> None:
        if not isinstance(self.size, str):
            size = self.size(record.__dict__)
            if len(value) != size:
                raise LocalError(
                    f"{type(record).__name__}.{self.name} takes {size} bytes, got {len(value)}"
                )
        writer.buffer += value


class NumberArray(Field):
    """Numbers in place, as many as an earlier field says; a tuple."""

    __slots__ = ("count", "item")

    def __init__(self, fmt: str, count: str) -> None:
        super().__init__()
        self.item = fmt
        self.count = count

    def read(self, reader: Reader, values: dict[str, Any]) -> tuple[int, ...]:
        return _read_numbers(reader, self.item, values[self.count])

    def write(self, writer: Writer, value: tuple[int, ...], record: Record) -> None:
        _write_numbers(writer, self.item, value, record, self.name)


def _read_numbers(reader: Reader, item: str, count: int) -> tuple[int, ...]:
    width = Struct("<" + item).size
    start = reader.skip(count * width)
    return Struct(f"<{count}{item}").unpack_from(reader.data, start)


def _write_numbers(
    writer: Writer, item: str, value: tuple[int, ...], record: Record, name: str
) -> None:
    try:
        writer.buffer += Struct(f"<{len(value)}{item}").pack(*value)
    except StructError as error:
        raise LocalError(f"{type(record).__name__}.{name}: {error}") from None


class RecordArray(Field):
    """Structures in place, one behind the other, as many as an earlier field says; a tuple."""

    __slots__ = ("count", "record")

    def __init__(self, record: type[Record], count: str) -> None:
        super().__init__()
        self.record = record
        self.count = count

    def read(self, reader: Reader, values: dict[str, Any]) -> tuple[Record, ...]:
        return _read_records(reader, self.record, values[self.count])

    def write(self, writer: Writer, value: tuple[Record, ...], record: Record) -> None:
        _write_records(writer, self.record, value, record, self.name)


def _read_records(reader: Reader, kind: type[Record], count: int) -> tuple[Record, ...]:
    reader.claim(count, kind.least_size())
    return tuple([kind.read(reader) for _ in range(count)])


def _write_records(
    writer: Writer, kind: type[Record], value: tuple[Record, ...], record: Record, name: str
) -> None:
    for item in value:
        if not isinstance(item, kind):
            raise LocalError(f"{type(record).__name__}.{name} takes {kind.__name__} here")
        item.write(writer)


class Pointer(Field):
    """A pointer to one structure; None when it is 0."""

    __slots__ = ("record", "required")

    def __init__(self, record: type[Record], required: bool) -> None:
        super().__init__()
        self.record = record
        self.required = required

    def read(self, reader: Reader, values: dict[str, Any]) -> Record | None:
        back = reader.jump()
        if back is None:
            if self.required:
                raise DecodeError("must not be 0", offset=reader.pos - 4)
            return None
        value = self.record.read(reader)
        reader.pos = back
        return value

    def write(self, writer: Writer, value: Record | None, record: Record) -> None:
        if value is None and self.required:
            raise LocalError(f"{type(record).__name__}.{self.name} is needed")
        writer.defer(None if value is None else value.write)


class PointerBytes(Field):
    """A pointer to bytes whose number an earlier field gives.

    ``terminated``: on the wire a NUL ends them, counted by the size and not part of the value.
    Nothing at all is written as pointer 0.
    """

    __slots__ = ("size", "terminated")

    def __init__(self, size: str, terminated: bool) -> None:
        super().__init__()
        self.size = size
        self.terminated = terminated

    def read(self, reader: Reader, values: dict[str, Any]) -> bytes:
        size = values[self.size]
        start = reader.pos
        back = reader.jump()
        if back is None:
            if size:
                raise DecodeError(f"{size} bytes, but no pointer to them", offset=start)
            return b""
        value = reader.take(size)
        reader.pos = back
        return value.split(b"\0", 1)[0] if self.terminated else value

    def write(self, writer: Writer, value: bytes, record: Record) -> None:
        if self.terminated and b"\0" in value:
            raise LocalError(f"{type(record).__name__}.{self.name} can't hold a NUL")
        writer.defer(self._later(value) if value else None)

    def _later(self, value: bytes) -> Callable[[Writer], None]:
        def write(writer: Writer) -> None:
            writer.buffer += value + b"\0" if self.terminated else value

        return write


class PointerNumbers(Field):
    """A pointer to numbers, as many as an earlier field says; a tuple."""

    __slots__ = ("count", "item")

    def __init__(self, fmt: str, count: str) -> None:
        super().__init__()
        self.item = fmt
        self.count = count

    def read(self, reader: Reader, values: dict[str, Any]) -> tuple[int, ...]:
        count = values[self.count]
        start = reader.pos
        back = reader.jump()
        if back is None:
            if count:
                raise DecodeError(f"{count} elements, but no pointer to them", offset=start)
            return ()
        value = _read_numbers(reader, self.item, count)
        reader.pos = back
        return value

    def write(self, writer: Writer, value: tuple[int, ...], record: Record) -> None:
        def write(later: Writer) -> None:
            _write_numbers(later, self.item, value, record, self.name)

        writer.defer(write if value else None)


class When(Field):
    """A field that is there only if earlier ones say so; else its value is ``absent``."""

    __slots__ = ("absent", "condition", "inner")

    def __init__(
        self, condition: Callable[[dict[str, Any]], bool], inner: Field, absent: object
    ) -> None:
        super().__init__(...)
        self.condition = condition
        self.inner = inner
        self.absent = absent
        self.hidden = inner.hidden

    def read(self, reader: Reader, values: dict[str, Any]) -> Any:
        if not self.condition(values):
            return self.absent
        self.inner.name = self.name
        return self.inner.read(reader, values)

    def write(self, writer: Writer, value: Any, record: Record) -> None:
        if self.condition(record.__dict__):
            self.inner.name = self.name
            self.inner.write(writer, value, record)
        elif not self.hidden and value != self.absent:
            raise LocalError(
                f"{type(record).__name__}.{self.name}: the other fields leave no room for it"
            )

    def show(self, value: Any) -> str:
        return _show(value) if value == self.absent else self.inner.show(value)


class Choice(Field):
    """One of several structures, chosen by an earlier field; None when none belongs to it.

    A kind that maps to None is known to have no structure.
    """

    __slots__ = ("records", "select", "unknown")

    def __init__(
        self,
        select: Callable[[dict[str, Any]], int],
        records: Mapping[int, type[Record] | None],
        unknown: str,
    ) -> None:
        super().__init__()
        self.select = select
        self.records = records
        self.unknown = unknown

    def read(self, reader: Reader, values: dict[str, Any]) -> Record | None:
        key = self.select(values)
        record = self.records.get(key)
        if record is not None:
            return record.read(reader)
        if self.unknown == "error" and key not in self.records:
            raise DecodeError(f"{key} is not a known kind", offset=reader.pos)
        return None

    def write(self, writer: Writer, value: Record | None, record: Record) -> None:
        key = self.select(record.__dict__)
        if self.unknown == "error" and key not in self.records:
            raise LocalError(f"{type(record).__name__}.{self.name}: {key} is not a known kind")
        wanted = self.records.get(key)
        if (wanted is None) != (value is None) or (
            wanted is not None and not isinstance(value, wanted)
        ):
            expected = wanted.__name__ if wanted else "nothing"
            raise LocalError(f"{type(record).__name__}.{self.name} takes {expected} here")
        if value is not None:
            value.write(writer)


class ChoiceArray(Field):
    """Structures in place of one of several kinds, chosen by an earlier field; a tuple.

    No kind belongs to some choices: then there are no structures, whatever the counter says.
    """

    __slots__ = ("count", "records", "select")

    def __init__(
        self,
        select: Callable[[dict[str, Any]], int],
        records: Mapping[int, type[Record]],
        count: str,
    ) -> None:
        super().__init__()
        self.select = select
        self.records = records
        self.count = count

    def read(self, reader: Reader, values: dict[str, Any]) -> tuple[Record, ...]:
        kind = self.records.get(self.select(values))
        return () if kind is None else _read_records(reader, kind, values[self.count])

    def write(self, writer: Writer, value: tuple[Record, ...], record: Record) -> None:
        kind = self.records.get(self.select(record.__dict__))
        if kind is not None:
            _write_records(writer, kind, value, record, self.name)
        elif value:
            raise LocalError(f"{type(record).__name__}.{self.name} takes nothing here")
