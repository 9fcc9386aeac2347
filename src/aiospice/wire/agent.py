"""The guest agent's messages (spice-protocol ``spice/vd_agent.h``).

How they are cut up and put together: `aiospice.wire.agent_stream`.

The clipboard messages begin differently depending on what both sides can do. Their ``layout`` says
so: it is the set of common capabilities (`common`), of which only two bits count.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct, calcsize
from typing import TYPE_CHECKING, Any, ClassVar, Self

from aiospice.errors import DecodeError, LocalError
from aiospice.wire.fields import Field
from aiospice.wire.reader import Reader, Writer
from aiospice.wire.record import (
    Record,
    block,
    counter,
    i32,
    number_array,
    record_array,
    rest,
    u8,
    u16,
    u32,
    u64,
    when,
    when_counter,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "AGENT_MESSAGES",
    "AgentCapability",
    "AgentMessage",
    "AgentType",
    "AnnounceCapabilities",
    "AudioVolumeSync",
    "ClientDisconnected",
    "Clipboard",
    "ClipboardGrab",
    "ClipboardRelease",
    "ClipboardRequest",
    "ClipboardType",
    "DeviceDisplayInfo",
    "DisplayConfig",
    "DisplayConfigFlags",
    "FileXferData",
    "FileXferStart",
    "FileXferStatus",
    "GlibError",
    "GraphicsDeviceInfo",
    "MaxClipboard",
    "MonConfig",
    "MonitorMM",
    "MonitorsConfig",
    "MonitorsConfigFlags",
    "MouseButtons",
    "MouseState",
    "NotEnoughSpace",
    "Reply",
    "ReplyError",
    "Selection",
    "XferResult",
    "common",
    "mask",
]


class AgentType(IntEnum):
    """``VD_AGENT_*``: what a message is."""

    MOUSE_STATE = 1
    MONITORS_CONFIG = 2
    REPLY = 3
    CLIPBOARD = 4
    DISPLAY_CONFIG = 5
    ANNOUNCE_CAPABILITIES = 6
    CLIPBOARD_GRAB = 7
    CLIPBOARD_REQUEST = 8
    CLIPBOARD_RELEASE = 9
    FILE_XFER_START = 10
    FILE_XFER_STATUS = 11
    FILE_XFER_DATA = 12
    CLIENT_DISCONNECTED = 13
    MAX_CLIPBOARD = 14
    AUDIO_VOLUME_SYNC = 15
    GRAPHICS_DEVICE_INFO = 16


class AgentCapability(IntEnum):
    """``VD_AGENT_CAP_*``: bit numbers."""

    MOUSE_STATE = 0
    MONITORS_CONFIG = 1
    REPLY = 2
    CLIPBOARD = 3
    DISPLAY_CONFIG = 4
    CLIPBOARD_BY_DEMAND = 5
    CLIPBOARD_SELECTION = 6
    SPARSE_MONITORS_CONFIG = 7
    GUEST_LINEEND_LF = 8
    GUEST_LINEEND_CRLF = 9
    MAX_CLIPBOARD = 10
    AUDIO_VOLUME_SYNC = 11
    MONITORS_CONFIG_POSITION = 12
    FILE_XFER_DISABLED = 13
    FILE_XFER_DETAILED_ERRORS = 14
    GRAPHICS_DEVICE_INFO = 15
    CLIPBOARD_NO_RELEASE_ON_REGRAB = 16
    CLIPBOARD_GRAB_SERIAL = 17


class MonitorsConfigFlags(IntEnum):
    """``VD_AGENT_CONFIG_MONITORS_FLAG_*``."""

    USE_POS = 1
    PHYSICAL_SIZE = 2


class DisplayConfigFlags(IntEnum):
    """``VD_AGENT_DISPLAY_CONFIG_FLAG_*``."""

    DISABLE_WALLPAPER = 1
    DISABLE_FONT_SMOOTH = 2
    DISABLE_ANIMATION = 4
    SET_COLOR_DEPTH = 8


class MouseButtons(IntEnum):
    """``VD_AGENT_*BUTTON_MASK``: one bit above those of the inputs channel."""

    LEFT = 2
    MIDDLE = 4
    RIGHT = 8
    UP = 16
    DOWN = 32
    SIDE = 64
    EXTRA = 128


class ReplyError(IntEnum):
    """``VD_AGENT_SUCCESS``, ``VD_AGENT_ERROR``."""

    SUCCESS = 1
    ERROR = 2


class ClipboardType(IntEnum):
    """``VD_AGENT_CLIPBOARD_*``: what the clipboard holds."""

    NONE = 0
    UTF8_TEXT = 1
    IMAGE_PNG = 2
    IMAGE_BMP = 3
    IMAGE_TIFF = 4
    IMAGE_JPG = 5
    FILE_LIST = 6


class Selection(IntEnum):
    """``VD_AGENT_CLIPBOARD_SELECTION_*``: which of the guest's clipboards."""

    CLIPBOARD = 0
    PRIMARY = 1
    SECONDARY = 2


class XferResult(IntEnum):
    """``VD_AGENT_FILE_XFER_STATUS_*``."""

    CAN_SEND_DATA = 0
    CANCELLED = 1
    ERROR = 2
    SUCCESS = 3
    NOT_ENOUGH_SPACE = 4
    SESSION_LOCKED = 5
    VDAGENT_NOT_CONNECTED = 6
    DISABLED = 7


_SELECTION = 1 << AgentCapability.CLIPBOARD_SELECTION
_SERIAL = 1 << AgentCapability.CLIPBOARD_GRAB_SERIAL


def mask(words: Iterable[int]) -> int:
    """Capability words of the wire as one number with a bit for each capability."""
    return sum(word << 32 * index for index, word in enumerate(words))


def common(ours: Iterable[int], theirs: Iterable[int]) -> int:
    """What both sides can do, from capability words: a ``layout``."""
    return mask(ours) & mask(theirs)


class _LayoutReader(Reader):
    """Carries what both sides can do to the fields that depend on it."""

    __slots__ = ("layout",)

    def __init__(self, data: bytes | bytearray | memoryview, layout: int) -> None:
        super().__init__(data)
        self.layout = layout


class _Layout(Field):
    """No bytes: the capabilities that decide on the fields behind it."""

    __slots__ = ()

    def read(self, reader: Reader, values: dict[str, Any]) -> int:
        return reader.layout if isinstance(reader, _LayoutReader) else 0

    def write(self, writer: Writer, value: int, record: Record) -> None:
        pass


class _Padding(Field):
    """Bytes without meaning; not an attribute, written as 0."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.hidden = True

    def read(self, reader: Reader, values: dict[str, Any]) -> None:
        reader.skip(self.size)

    def write(self, writer: Writer, value: Any, record: Record) -> None:
        writer.buffer += bytes(self.size)


class _RestNumbers(Field):
    """Numbers to the end of the body; a tuple."""

    __slots__ = ("item",)

    def __init__(self, item: str) -> None:
        super().__init__()
        self.item = item

    def read(self, reader: Reader, values: dict[str, Any]) -> tuple[int, ...]:
        count, more = divmod(reader.end - reader.pos, calcsize("<" + self.item))
        if more:
            raise DecodeError(f"{more} bytes behind the last number", offset=reader.end - more)
        start = reader.skip(reader.end - reader.pos)
        return Struct(f"<{count}{self.item}").unpack_from(reader.data, start)

    def write(self, writer: Writer, value: tuple[int, ...], record: Record) -> None:
        high = (1 << 8 * calcsize("<" + self.item)) - 1
        if not all(0 <= item <= high for item in value):
            raise LocalError(f"{type(record).__name__}.{self.name}: numbers are 0 to {high}")
        writer.buffer += Struct(f"<{len(value)}{self.item}").pack(*value)


def _layout() -> Any:
    field = _Layout()
    field.default = _SELECTION
    return field


def _by_selection(values: dict[str, Any]) -> bool:
    return bool(values["layout"] & _SELECTION)


def _by_serial(values: dict[str, Any]) -> bool:
    return bool(values["layout"] & _SERIAL)


def _selection() -> Any:
    field = when(_by_selection, u8(names=Selection), absent=0)
    field.default = 0
    return field


def _selection_padding() -> Any:
    return when_counter(_by_selection, _Padding(3))


def _serial() -> Any:
    field = when(_by_serial, u32(), absent=0)
    field.default = 0
    return field


def _rest_numbers(item: str) -> Any:
    return _RestNumbers(item)


#: The declared messages by type.
AGENT_MESSAGES: dict[int, type[AgentMessage]] = {}


class AgentMessage(Record):
    """Base of all messages of the agent; a subclass names its ``type``."""

    number: ClassVar[int] = 0

    def __init_subclass__(cls, *, type: AgentType | None = None) -> None:
        super().__init_subclass__()
        if type is not None:
            cls.number = int(type)
            AGENT_MESSAGES[cls.number] = cls

    @classmethod
    def parse(cls, body: bytes | bytearray | memoryview, layout: int = 0) -> Self:
        """Read a body (without header); `DecodeError` names message, field and offset.

        ``layout``: the capabilities that both sides have announced (`common`). Bytes behind the
        last field are left alone, as newer peers may send more.
        """
        try:
            return cls.read(_LayoutReader(body, layout))
        except DecodeError as error:
            error.message = f"agent {cls.__name__}"
            raise

    def body(self) -> bytes:
        """The message as bytes, without header; `LocalError` when a value doesn't fit."""
        writer = Writer()
        self.write(writer)
        return writer.finish()


class MouseState(AgentMessage, type=AgentType.MOUSE_STATE):
    """Server to agent: the pointer of the client mouse mode."""

    x: int = u32()
    y: int = u32()
    buttons: int = u32(flags=MouseButtons)
    display_id: int = u8()


class MonConfig(Record):
    """One monitor; width and height 0: off."""

    height: int = u32()
    width: int = u32()
    depth: int = u32()
    x: int = i32()
    y: int = i32()


class MonitorMM(Record):
    """The physical size of one monitor in mm; 0 if it isn't known."""

    height: int = u16()
    width: int = u16()


class MonitorsConfig(AgentMessage, type=AgentType.MONITORS_CONFIG):
    """Client to agent: the monitors wanted; physical sizes only with PHYSICAL_SIZE."""

    num_of_monitors: int = counter("monitors", "I", maximum=256)
    flags: int = u32(flags=MonitorsConfigFlags)
    monitors: tuple[MonConfig, ...] = record_array(MonConfig, "num_of_monitors")
    physical_sizes: tuple[MonitorMM, ...] = when(
        lambda values: bool(values["flags"] & MonitorsConfigFlags.PHYSICAL_SIZE),
        record_array(MonitorMM, "num_of_monitors"),
        absent=(),
    )

    def write(self, writer: Writer) -> None:
        """Append the structure; `LocalError` when a value doesn't fit its field."""
        physical = self.flags & MonitorsConfigFlags.PHYSICAL_SIZE
        if physical and len(self.physical_sizes) != len(self.monitors):
            raise LocalError("MonitorsConfig.physical_sizes: one for each monitor")
        super().write(writer)


class Reply(AgentMessage, type=AgentType.REPLY):
    """Agent to client: what came of a message of ``type``."""

    type: int = u32(names=AgentType)
    error: int = u32(names=ReplyError)


class Clipboard(AgentMessage, type=AgentType.CLIPBOARD):
    """Both ways: the answer to `ClipboardRequest`. Type NONE: there is nothing."""

    layout: int = _layout()
    selection: int = _selection()
    selection_padding = _selection_padding()
    type: int = u32(names=ClipboardType)
    data: bytes = rest()


class DisplayConfig(AgentMessage, type=AgentType.DISPLAY_CONFIG):
    """Client to agent: how the desktop should look; ``depth`` with SET_COLOR_DEPTH."""

    flags: int = u32(flags=DisplayConfigFlags)
    depth: int = u32()


class AnnounceCapabilities(AgentMessage, type=AgentType.ANNOUNCE_CAPABILITIES):
    """Both ways: what the sender can do (`mask`); ``request`` 1 asks for the same."""

    request: int = u32()
    caps: tuple[int, ...] = _rest_numbers("I")


class ClipboardGrab(AgentMessage, type=AgentType.CLIPBOARD_GRAB):
    """Both ways: the sender's clipboard has something new, of these types."""

    layout: int = _layout()
    selection: int = _selection()
    selection_padding = _selection_padding()
    serial: int = _serial()
    types: tuple[int, ...] = _rest_numbers("I")


class ClipboardRequest(AgentMessage, type=AgentType.CLIPBOARD_REQUEST):
    """Both ways: asks for what has been grabbed, in one of its types."""

    layout: int = _layout()
    selection: int = _selection()
    selection_padding = _selection_padding()
    type: int = u32(names=ClipboardType)


class ClipboardRelease(AgentMessage, type=AgentType.CLIPBOARD_RELEASE):
    """Both ways: what has been grabbed is gone."""

    layout: int = _layout()
    selection: int = _selection()
    selection_padding = _selection_padding()


class FileXferStart(AgentMessage, type=AgentType.FILE_XFER_START):
    """Client to agent: a file is coming; ``data`` is a key file that names it, ended by NUL."""

    id: int = u32()
    data: bytes = rest()


class FileXferStatus(AgentMessage, type=AgentType.FILE_XFER_STATUS):
    """Both ways: how it goes; ``data`` may hold a `NotEnoughSpace` or `GlibError`."""

    id: int = u32()
    result: int = u32(names=XferResult)
    data: bytes = rest()


class NotEnoughSpace(AgentMessage):
    """The data of a `FileXferStatus` NOT_ENOUGH_SPACE; in bytes."""

    disk_free_space: int = u64()


class GlibError(AgentMessage):
    """The data of a `FileXferStatus` ERROR: ``error_code`` is a ``G_IO_ERROR_*`` if type is 0."""

    error_type: int = u8()
    error_code: int = u32()


class FileXferData(AgentMessage, type=AgentType.FILE_XFER_DATA):
    """Client to agent: the next bytes of a file."""

    id: int = u32()
    size: int = counter("data", "Q")
    data: bytes = block("size")


class ClientDisconnected(AgentMessage, type=AgentType.CLIENT_DISCONNECTED):
    """Server to agent: the client is gone."""


class MaxClipboard(AgentMessage, type=AgentType.MAX_CLIPBOARD):
    """Client to agent: send no larger clipboard, in bytes; -1: no limit."""

    max: int = i32()


class AudioVolumeSync(AgentMessage, type=AgentType.AUDIO_VOLUME_SYNC):
    """Client to agent: the volume of each channel, 0 to 65535."""

    is_playback: int = u8()
    mute: int = u8()
    nchannels: int = counter("volume", "B")
    volume: tuple[int, ...] = number_array("H", "nchannels")


class DeviceDisplayInfo(Record):
    """Which display of which device a monitor is; the address is text, ended by NUL."""

    channel_id: int = u32()
    monitor_id: int = u32()
    device_display_id: int = u32()
    device_address_len: int = counter("device_address", "I", maximum=4096)
    device_address: bytes = block("device_address_len")


class GraphicsDeviceInfo(AgentMessage, type=AgentType.GRAPHICS_DEVICE_INFO):
    """Server to agent: all monitors and what they belong to."""

    count: int = counter("display_info", "I", maximum=4096)
    display_info: tuple[DeviceDisplayInfo, ...] = record_array(DeviceDisplayInfo, "count")
