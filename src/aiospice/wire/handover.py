"""The records of a hand-over, MIGRATE_DATA, byte for byte (spice-server
``server/migration-protocol.h``).

A record is four letters, a u32 version (1), a fixed part, and blocks that pointers of the fixed
part refer to: behind it, in the order of the pointers, without gaps; an empty block has pointer 0.
Pointers count from the first letter. spice-server believes nearly all of a record; here reading
refuses whatever could not have been written: other letters or versions, wrong lengths, blocks
elsewhere than where they belong, bytes behind the end, numbers that contradict each other. What
depends on the receiver (windows, surfaces, limits) is for the ``check`` methods.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Any, ClassVar, Self

from aiospice.errors import DecodeError, LocalError
from aiospice.wire.channels import CHANNEL_LIMITS, channel_name
from aiospice.wire.fields import Field, PointerBytes
from aiospice.wire.reader import Reader, Writer
from aiospice.wire.record import Record, counter, i32, i64, nested, u8, u16, u32, u64
from aiospice.wire.smartcard import DEVICE_HEADER, MAX_CARD_DATA

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "AGENT_WINDOW",
    "MAX_SURFACES",
    "NO_FLOW_CONTROL",
    "RECORDS",
    "CharDevice",
    "DisplayRecord",
    "FilterResult",
    "HandoverRecord",
    "HeldSurface",
    "InputsRecord",
    "LossySurface",
    "MainRecord",
    "SmartcardRecord",
    "VmcRecord",
    "parse_record",
    "queued_bytes",
]

#: Messages that a client may have on their way to the agent (spice-server ``server/reds.cpp``).
AGENT_WINDOW = 10
#: Surface numbers are below this (spice-server ``server/display-limits.h``).
MAX_SURFACES = 1024
#: Both token fields of a device without flow control.
NO_FLOW_CONTROL = 0xFFFFFFFF
_VERSION = 1
_U32 = Struct("<I")
_VMC_FIXED = Struct("<4sIIBIIIII")


class FilterResult(IntEnum):
    """``AGENT_MSG_FILTER_*``: the verdict on the agent message that is under way."""

    OK = 0
    DISCARD = 1
    PROTOCOL_ERROR = 2
    MONITORS_CONFIG = 3


class _TailReader(Reader):
    """Knows where the next block behind the fixed part has to begin."""

    __slots__ = ("tail",)

    def __init__(self, data: bytes | bytearray | memoryview, fixed: int) -> None:
        super().__init__(data)
        self.tail = fixed


def _go_to_block(reader: Reader, size: int) -> int:
    """Read a pointer, which has to be that of the next block; returns where to go on."""
    if not isinstance(reader, _TailReader):
        raise LocalError("records of a hand-over are read by parse()")
    start = reader.pos
    target = reader.number(_U32)
    expected = reader.tail if size else 0
    if target != expected:
        raise DecodeError(f"points to {target}, the block belongs at {expected}", offset=start)
    if size > reader.end - reader.tail:
        raise DecodeError(
            f"a block of {size} bytes, {reader.end - reader.tail} are left", offset=start
        )
    back = reader.pos
    reader.pos = reader.tail
    reader.tail += size
    return back


class _Constant(Field):
    """Bytes that are always the same; not an attribute."""

    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        super().__init__()
        self.value = value
        self.hidden = True

    def read(self, reader: Reader, values: dict[str, Any]) -> bytes:
        found = reader.take(len(self.value))
        if found != self.value:
            raise DecodeError(
                f"is {found.hex()}, not {self.value.hex()}", offset=reader.pos - len(found)
            )
        return found

    def write(self, writer: Writer, value: Any, record: Record) -> None:
        writer.buffer += self.value


class _Block(PointerBytes):
    """The pointer to a block of bytes whose size an earlier field gives."""

    __slots__ = ()

    def read(self, reader: Reader, values: dict[str, Any]) -> bytes:
        size = values[self.size]
        back = _go_to_block(reader, size)
        value = reader.take(size) if size else b""
        reader.pos = back
        return value


class _FourSerials(Field):
    """Four u64 in place; a tuple."""

    __slots__ = ()
    _struct = Struct("<4Q")

    def read(self, reader: Reader, values: dict[str, Any]) -> tuple[int, ...]:
        return self._struct.unpack_from(reader.data, reader.skip(self._struct.size))

    def write(self, writer: Writer, value: tuple[int, ...], record: Record) -> None:
        if len(value) != 4 or not all(0 <= item < 1 << 64 for item in value):
            raise LocalError(f"{type(record).__name__}.{self.name} takes four u64")
        writer.buffer += self._struct.pack(*value)


class HeldSurface(Record):
    """A surface that the client has, without loss."""

    id: int = u32()


class LossySurface(Record):
    """A surface that the client has; what is lossy of it lies in the rectangle (may be empty)."""

    id: int = u32()
    left: int = i32()
    top: int = i32()
    right: int = i32()
    bottom: int = i32()


class _Surfaces(Field):
    """A pointer to a u32 count and that many surfaces, all of one form.

    The bytes don't say which form. Its length tells, as the block ends the record.
    """

    __slots__ = ()

    def read(
        self, reader: Reader, values: dict[str, Any]
    ) -> tuple[HeldSurface | LossySurface, ...]:
        size = reader.end - reader.tail if isinstance(reader, _TailReader) else 0
        start = reader.pos
        back = _go_to_block(reader, max(size, 4))
        count = reader.number(_U32)
        form: type[HeldSurface | LossySurface]
        if count * 4 == size - 4:
            form = HeldSurface
        elif count * 20 == size - 4:
            form = LossySurface
        else:
            raise DecodeError(f"{count} surfaces in a block of {size} bytes", offset=start)
        surfaces = tuple([form.read(reader) for _ in range(count)])
        reader.pos = back
        return surfaces

    def write(
        self, writer: Writer, value: tuple[HeldSurface | LossySurface, ...], record: Record
    ) -> None:
        if len({type(item) for item in value}) > 1:
            raise LocalError(f"{type(record).__name__}.{self.name}: two forms in one record")

        def write(later: Writer) -> None:
            later.buffer += _U32.pack(len(value))
            for item in value:
                item.write(later)

        writer.defer(write)


def _constant(value: bytes) -> Any:
    return _Constant(value)


def _block(size: str) -> Any:
    return _Block(size, terminated=False)


def _refuse(text: str, field: str, offset: int) -> DecodeError:
    return DecodeError(text, field=field, offset=offset)


class CharDevice(Record):
    """A character device's part of a record, from offset 8 on.

    ``write_data`` are the bytes that the guest has not taken yet, oldest first, made of
    ``write_num_client_tokens`` messages of the client. ``num_client_tokens``: messages that the
    client may still send, ``num_send_tokens``: that the server may still send to it.
    """

    _version = _constant(_U32.pack(_VERSION))
    connected: int = u8(maximum=1)
    num_client_tokens: int = u32()
    num_send_tokens: int = u32()
    write_size: int = counter("write_data", "I")
    write_num_client_tokens: int = u32()
    write_data: bytes = _block("write_size")

    @classmethod
    def empty(cls) -> Self:
        """A device that no client is connected to."""
        return cls(
            connected=0,
            num_client_tokens=0,
            num_send_tokens=0,
            write_num_client_tokens=0,
            write_data=b"",
        )

    def verify(self) -> None:
        """Refuse numbers that contradict each other."""
        if not self.connected and self != self.empty():
            raise _refuse(
                "no client is connected, but other fields are set", "device.connected", 12
            )
        if self.write_num_client_tokens and not self.write_data:
            raise _refuse(
                "client messages, but no bytes of them", "device.write_num_client_tokens", 25
            )

    def check(self, window: int) -> None:
        """Refuse more tokens than a window of ``window`` messages can have given.

        The sum is one of Python's numbers, so it can't wrap.
        """
        if self.num_client_tokens + self.write_num_client_tokens > window:
            raise _refuse(f"more than the window of {window}", "device.num_client_tokens", 13)


class HandoverRecord(Record):
    """Base of all records. ``fixed`` is the size of the fixed part, ``limit`` of the whole."""

    channels: ClassVar[tuple[int, ...]] = ()
    fixed: ClassVar[int]
    limit: ClassVar[int]

    def __init_subclass__(
        cls, *, channels: tuple[int, ...] = (), fixed: int = 0, limit: int = 0
    ) -> None:
        super().__init_subclass__()
        cls.channels = channels
        cls.fixed = fixed
        cls.limit = limit

    @classmethod
    def parse(cls, data: bytes | bytearray | memoryview) -> Self:
        """Read a record; `DecodeError` (record, field, offset) if it isn't exactly one."""
        try:
            if not cls.fixed <= len(data) <= cls.limit:
                raise DecodeError(f"{len(data)} bytes, allowed are {cls.fixed} to {cls.limit}")
            reader = _TailReader(data, cls.fixed)
            record = cls.read(reader)
            if reader.tail != reader.end:
                raise DecodeError(
                    f"{reader.end - reader.tail} bytes behind the end", offset=reader.tail
                )
            record.verify()
        except DecodeError as error:
            error.message = cls.__name__
            raise
        return record

    def verify(self) -> None:
        """Refuse numbers that contradict each other; `parse` does it."""

    def encode(self) -> bytes:
        """The record as bytes; `LocalError` when a value doesn't fit its field."""
        writer = Writer()
        self.write(writer)
        return writer.finish()


class VmcRecord(HandoverRecord, channels=(9, 10, 11), fixed=33, limit=CHANNEL_LIMITS[10]):
    """A usbredir, port or webdav channel."""

    _magic = _constant(b"SVMD")
    _version = _constant(_U32.pack(_VERSION))
    device: CharDevice = nested(CharDevice)

    @classmethod
    def queued(cls, data: bytes) -> Self:
        """The record of a connected device that has ``data`` still to take."""
        return cls(
            device=CharDevice(
                connected=1,
                num_client_tokens=NO_FLOW_CONTROL,
                num_send_tokens=NO_FLOW_CONTROL,
                write_num_client_tokens=0,
                write_data=data,
            )
        )

    def verify(self) -> None:
        """Refuse numbers that contradict each other."""
        self.device.verify()


class SmartcardRecord(HandoverRecord, channels=(8,), fixed=42, limit=CHANNEL_LIMITS[8]):
    """The smartcard channel; ``read_data`` is the part of a card message read from the device."""

    _magic = _constant(b"SCMD")
    _version = _constant(_U32.pack(_VERSION))
    device: CharDevice = nested(CharDevice)
    reader_added: int = u8(maximum=1)
    read_size: int = counter("read_data", "I", maximum=DEVICE_HEADER.size + MAX_CARD_DATA)
    read_data: bytes = _block("read_size")

    def verify(self) -> None:
        """Refuse numbers that contradict each other."""
        self.device.verify()
        if not self.device.connected and (self.reader_added or self.read_data):
            raise _refuse("no client is connected, but other fields are set", "reader_added", 33)
        if len(self.read_data) >= DEVICE_HEADER.size:
            length = DEVICE_HEADER.unpack_from(self.read_data)[2]
            offset = self.fixed + len(self.device.write_data)
            if length > MAX_CARD_DATA:
                raise _refuse(f"a card message of {length} bytes", "read_data", offset)
            if len(self.read_data) > DEVICE_HEADER.size + length:
                raise _refuse("more than one card message", "read_data", offset)


class MainRecord(HandoverRecord, channels=(1,), fixed=65, limit=26_624):
    """The main channel: its agent device and the two streams through it.

    ``chunk_*`` and ``from_agent_*`` are about what comes from the agent: how many bytes of a chunk
    header have been read (8: all, and ``chunk_size`` is what is still to be read of the chunk),
    the part of a message header that has been read, or, if ``from_agent_header_done``, what is
    still to come of the message. ``to_agent_*``: the same for the message that the client is
    sending.
    """

    _magic = _constant(b"MNMD")
    _version = _constant(_U32.pack(_VERSION))
    device: CharDevice = nested(CharDevice)
    client_agent_started: int = u8(maximum=1)
    chunk_header_size: int = u32(maximum=8)
    chunk_port: int = u32()
    chunk_size: int = u32()
    from_agent_header_done: int = u8(maximum=1)
    from_agent_header_size: int = counter("from_agent_header", "I", maximum=19)
    from_agent_header: bytes = _block("from_agent_header_size")
    from_agent_remaining: int = u32()
    from_agent_filter: int = u8(names=FilterResult, maximum=3)
    to_agent_remaining: int = u32()
    to_agent_filter: int = u8(names=FilterResult, maximum=3)

    @classmethod
    def empty(cls) -> Self:
        """The record of a session without agent."""
        return cls(
            device=CharDevice.empty(),
            client_agent_started=0,
            chunk_header_size=0,
            chunk_port=0,
            chunk_size=0,
            from_agent_header_done=0,
            from_agent_header=b"",
            from_agent_remaining=0,
            from_agent_filter=0,
            to_agent_remaining=0,
            to_agent_filter=0,
        )

    def verify(self) -> None:
        """Refuse numbers that contradict each other."""
        self.device.verify()
        if not self.device.connected and self != self.empty():
            raise _refuse("no agent, but other fields are set", "device.connected", 12)
        if self.from_agent_header and (self.chunk_header_size < 8 or self.from_agent_header_done):
            raise _refuse("no message header is being read", "from_agent_header_size", 47)
        if self.chunk_header_size == 8 and self.chunk_port not in (1, 2):
            raise _refuse(f"{self.chunk_port} is not a port", "chunk_port", 38)

    def check(
        self, *, window: int = AGENT_WINDOW, max_chunk: int, max_from_agent: int, max_to_agent: int
    ) -> None:
        """Refuse what is beyond the receiver's limits, in messages and bytes."""
        try:
            self.device.check(window)
            if self.chunk_header_size == 8 and self.chunk_size > max_chunk:
                raise _refuse(f"a chunk of {self.chunk_size} bytes", "chunk_size", 42)
            if self.from_agent_header_done and self.from_agent_remaining > max_from_agent:
                raise _refuse(f"{self.from_agent_remaining} bytes", "from_agent_remaining", 55)
            if self.to_agent_remaining > max_to_agent:
                raise _refuse(f"{self.to_agent_remaining} bytes", "to_agent_remaining", 60)
        except DecodeError as error:
            error.message = type(self).__name__
            raise


class InputsRecord(HandoverRecord, channels=(3,), fixed=10, limit=2048):
    """The inputs channel: motion messages since the last acknowledgement."""

    _magic = _constant(b"ICMD")
    _version = _constant(_U32.pack(_VERSION))
    motion_count: int = u16()

    def check(self, *, max_motion: int = 16) -> None:
        """Refuse more than a client with so many unacknowledged messages can have sent."""
        if self.motion_count > max_motion:
            error = _refuse(f"{self.motion_count}, at most {max_motion}", "motion_count", 8)
            error.message = type(self).__name__
            raise error


class DisplayRecord(HandoverRecord, channels=(2,), fixed=80, limit=84 + 20 * MAX_SURFACES):
    """A display channel: serials, caches, the GLZ dictionary and the surfaces of the client.

    Sizes are in pixels. ``pixmap_cache_clients`` has the last serial of the display channels 0
    to 3 that touched the cache. ``surfaces`` are all lossless or all with a lossy rectangle: both
    servers have to be set alike, as the bytes don't say.
    """

    _magic = _constant(b"DCMD")
    _version = _constant(_U32.pack(_VERSION))
    message_serial: int = u64()
    low_bandwidth: int = u8(maximum=1)
    pixmap_cache_id: int = u8()
    pixmap_cache_size: int = i64()
    pixmap_cache_freezer: int = u8(maximum=1)
    pixmap_cache_clients: tuple[int, ...] = _FourSerials()  # type: ignore[assignment]
    glz_dict_id: int = u8()
    glz_window_size: int = u32()
    glz_max_encoders: int = u32()
    glz_last_image_id: int = u64()
    surfaces: tuple[HeldSurface | LossySurface, ...] = _Surfaces()  # type: ignore[assignment]

    @property
    def lossy(self) -> bool | None:
        """Which form the surfaces have; None without surfaces, when both look the same."""
        return isinstance(self.surfaces[0], LossySurface) if self.surfaces else None

    def check(
        self,
        *,
        lossy: bool,
        surface_size: Callable[[int], tuple[int, int] | None],
        max_window: int = 1 << 25,
        max_cache: int = 1 << 30,
    ) -> None:
        """Refuse what this receiver can't have.

        ``lossy``: the form that it is set to. ``surface_size``: (width, height) of a surface that
        it knows, None for others; a surface must not come twice, and rectangles lie inside.
        """
        try:
            self._check_caches(max_window, max_cache)
            if self.lossy is not None and self.lossy != lossy:
                raise _refuse("the other form (JPEG is set differently here)", "surfaces", 76)
            seen: set[int] = set()
            for surface in self.surfaces:
                size = surface_size(surface.id) if surface.id < MAX_SURFACES else None
                if size is None or surface.id in seen:
                    raise _refuse(f"surface {surface.id} is unknown or twice", "surfaces", 76)
                seen.add(surface.id)
                if isinstance(surface, LossySurface) and not _inside(surface, *size):
                    raise _refuse(f"{surface} is outside of {size}", "surfaces", 76)
        except DecodeError as error:
            error.message = type(self).__name__
            raise

    def _check_caches(self, max_window: int, max_cache: int) -> None:
        if not 0 < self.message_serial < 1 << 63:
            raise _refuse(f"{self.message_serial} is no serial", "message_serial", 8)
        # A cache that was never set up has size -1, and no freezer's record to set it.
        least = 1 if self.pixmap_cache_freezer else -1
        if not least <= self.pixmap_cache_size <= max_cache:
            raise _refuse(f"{self.pixmap_cache_size} pixels", "pixmap_cache_size", 18)
        if self.glz_window_size > max_window:
            raise _refuse(f"{self.glz_window_size} pixels", "glz_window_size", 60)
        if self.glz_max_encoders != 4:
            raise _refuse(f"{self.glz_max_encoders}, must be 4", "glz_max_encoders", 64)


def _inside(surface: LossySurface, width: int, height: int) -> bool:
    return 0 <= surface.left <= surface.right <= width and (
        0 <= surface.top <= surface.bottom <= height
    )


#: The record of each channel type that has one.
RECORDS: dict[int, type[HandoverRecord]] = {
    channel: record
    for record in (MainRecord, DisplayRecord, InputsRecord, SmartcardRecord, VmcRecord)
    for channel in record.channels
}


def parse_record(channel_type: int, data: bytes | bytearray | memoryview) -> HandoverRecord:
    """Read the record of a channel of that type; `DecodeError` if it isn't one."""
    record = RECORDS.get(channel_type)
    if record is None:
        raise DecodeError(
            f"{channel_name(channel_type)} channels have no record", message="MigrateData"
        )
    return record.parse(data)


def queued_bytes(data: bytes | bytearray | memoryview) -> int | None:
    """How many bytes of the client the guest had not taken, by a `VmcRecord`; never raises.

    None if it isn't such a record. Nothing is copied.
    """
    if len(data) < _VMC_FIXED.size:
        return None
    magic, version, device_version, connected, _, _, size, _, pointer = _VMC_FIXED.unpack_from(data)
    known = (magic, version, device_version) == (b"SVMD", _VERSION, _VERSION)
    if not known or connected > 1 or len(data) != _VMC_FIXED.size + size:
        return None
    if pointer != (_VMC_FIXED.size if size else 0):
        return None
    return int(size) if connected else 0
