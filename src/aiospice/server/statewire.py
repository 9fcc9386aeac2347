"""The machine's state as bytes, for the link between two servers (`aiospice.server.carried`).

The other end is a server of ours that has proven who it is, but no number of it is believed: sizes
fit what they are sizes of, and everything is within what this server could have made itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from aiospice.canvas.pixels import MAX_SIDE
from aiospice.channels.server.inputs import KEYS_DOWN_LIMIT, HeldDown
from aiospice.devices.chardev import Origin
from aiospice.errors import LocalError, RemoteProtocolError
from aiospice.server.carried import PLAIN, MachineState
from aiospice.server.devices import MAX_DEVICES
from aiospice.server.frames import MAX_SURFACES
from aiospice.server.surface import check_surface
from aiospice.wire.smartcard import DEVICE_HEADER, MAX_CARD_DATA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiospice.devices.carry import DeviceState
    from aiospice.devices.carry_agent import AgentState, Judged
    from aiospice.server.frames import DisplayState
    from aiospice.server.machine import CursorState, Sound

__all__ = ["decode_machine", "encode_machine"]

#: The largest cursor, in pixels a side; displays, monitors of one, and clients of a server.
_CURSOR, _DISPLAYS, _HEADS, _CLIENTS = 512, 16, 256, 4096
#: Bytes of one message for a device.
_MESSAGE = DEVICE_HEADER.size + MAX_CARD_DATA
_U8, _U16, _U32, _U64 = 0xFF, 0xFFFF, 0xFFFFFFFF, (1 << 64) - 1
_FREQUENCY, _SOUND_CHANNELS = 384_000, 8

_PLAIN_TYPES: dict[str, Any] = {
    "locks": int,
    "absolute": bool,
    "agent_mouse": bool,
    "mouse_mode": int,
    "pointer": tuple[int, int, int],
    "graphics": tuple[tuple[int, int, int, str], ...],
    "has_sound": bool,
}

_pack = msgspec.msgpack.encode
_machine: msgspec.msgpack.Decoder[MachineState] = msgspec.msgpack.Decoder(MachineState, strict=True)


def encode_machine(state: MachineState) -> bytes:
    """The bytes of a machine's state."""
    return _pack(state)


def decode_machine(data: bytes) -> MachineState:
    """The state of `encode_machine`'s bytes. Raises `RemoteProtocolError`."""
    try:
        state = _machine.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, TypeError) as error:
        _bad(str(error))
    _check_displays(state.displays)
    _check_cursors(state.cursors)
    for sound in (state.playback, state.record):
        _check_sound(sound)
    state.plain = _plain(state.plain)
    if len(state.devices) > MAX_DEVICES:
        _bad(f"{len(state.devices)} devices")
    for key, device in state.devices.items():
        _within(f"channel {key}", key, _U8)
        _check_device(device)
    _check_agent(state.agent)
    _few("clients with keys down", state.held, _CLIENTS)
    for client, held in state.held.items():
        _within("a client", (client,), _U32)
        _check_held(held)
    _few("clients that go on by themselves", state.replays, _CLIENTS)
    _within("a client", state.replays, _U32)
    _few("clients with wishes", state.wishes, _CLIENTS)
    for client, wishes in state.wishes.items():
        _within("a client", (client, *wishes), _U32)
        for compression, codecs in wishes.values():
            _few("codecs", codecs, _U8)
            _within("a display's wishes", (compression, *codecs), _U8)
    return state


def _bad(text: str) -> NoReturn:
    raise RemoteProtocolError(text, message="peer state")


def _within(what: str, values: Iterable[int], most: int, least: int = 0) -> None:
    for value in values:
        if not least <= value <= most:
            _bad(f"{what}: {value}, expected {least} to {most}")


def _few(what: str, values: Any, most: int) -> None:
    if len(values) > most:
        _bad(f"{len(values)} {what}, at most {most}")


def _check_displays(displays: dict[int, DisplayState]) -> None:
    _within("a display", displays, _DISPLAYS - 1)
    for number, display in displays.items():
        if display.copies is not None:
            _bad("copies of pixels")
        _few(f"surfaces of display {number}", display.surfaces, MAX_SURFACES + 1)
        _within("a surface", display.surfaces, MAX_SURFACES + 1)
        for id, (width, height, _, pixels) in display.surfaces.items():
            try:
                check_surface(width, height)
            except LocalError as error:
                _bad(str(error))
            if len(pixels) not in (0, 4 * width * height):
                _bad(f"surface {id} of display {number}: {len(pixels)} bytes of pixels")
        _few("monitors", display.heads, _HEADS)
        for head in display.heads:
            _within("a monitor", head, _U16 * _U8)


def _check_cursors(cursors: dict[int, CursorState]) -> None:
    _within("a display", cursors, _DISPLAYS - 1)
    for cursor in cursors.values():
        _within("a cursor's place", cursor.position, 2 * MAX_SIDE, -2 * MAX_SIDE)
        shape = cursor.shape
        if shape is None:
            continue
        _within("a cursor's size", (shape.width, shape.height), _CURSOR, 1)
        _within("a cursor's hot spot", (shape.hot_x, shape.hot_y), _CURSOR)
        _within("a cursor's number", (shape.unique,), _U64)
        if len(shape.data) != 4 * shape.width * shape.height:
            _bad(f"a cursor of {shape.width}x{shape.height} in {len(shape.data)} bytes")


def _check_sound(sound: Sound) -> None:
    if sound.format is not None:
        _within("a frequency", sound.format[:1], _FREQUENCY, 1)
        _within("channels of sound", sound.format[1:], _SOUND_CHANNELS, 1)
    _few("volumes", sound.volume, _SOUND_CHANNELS)
    _within("a volume", sound.volume, _U16)


def _plain(given: dict[str, object]) -> dict[str, object]:
    """What is said of the machine itself: each of `PLAIN`, of its type."""
    if set(given) != set(PLAIN):
        _bad(f"the machine's values are {', '.join(sorted(given))[:200]}")
    try:
        found = {name: msgspec.convert(given[name], _PLAIN_TYPES[name]) for name in PLAIN}
    except msgspec.ValidationError as error:
        _bad(str(error))
    _within("locks", (found["locks"],), 7)
    if found["mouse_mode"] not in (1, 2):
        _bad(f"the mouse mode {found['mouse_mode']}")
    _within("a pointer", found["pointer"], 4 * MAX_SIDE, -4 * MAX_SIDE)
    _few("graphics devices", found["graphics"], _HEADS)
    for *numbers, address in found["graphics"]:
        _within("a graphics device", numbers, _U32)
        _few("characters of a device's address", address, _U8)
    return found


def _check_device(device: DeviceState) -> None:
    _few("characters of a device's name", device.name, 4096)
    origins = {each.value for each in Origin}
    for _, origin, client, price in device.to_guest:
        _within("a buffer's client and price", (client, price), _U32)
        if origin not in origins:
            _bad(f"a buffer of {origin[:20]!r}")
    _within("a device's client", (*device.queues, *device.waited), _U32)
    _within("ms that messages wait", device.waited.values(), _U32)
    _few("bytes of a card message", device.part, _MESSAGE)
    _within("answers", (device.answered,), _U8)
    if device.begun is not None:
        client, taken, size, head = device.begun
        _within("a client", (client,), _U32)
        _within("a message's size", (size,), _MESSAGE, 1)
        _within("what is read of a message", (taken,), size - 1, 1)
        _few("bytes of a message's head", head, min(size, 64))


def _check_agent(agent: AgentState) -> None:
    _check_device(agent.device)
    header, port, left, piece = agent.reading
    _few("bytes of a chunk's header", header, 8)
    _within("the agent's port and chunk", (port, left), _U32)
    _few("bytes of a piece", piece, _U16)
    _check_judged(agent.from_agent)
    _few("agent capabilities", agent.agent_caps, 64)
    _within("agent capabilities", agent.agent_caps, _U32)
    for judged in agent.to_agent.values():
        _check_judged(judged)
    for parts in agent.monitors.values():
        _few("bytes of monitors", parts, _U16)
    clients = (*agent.to_agent, *agent.monitors, *agent.held, agent.writer or 0)
    _within("an agent's client", clients, _U32)


def _check_judged(judged: Judged) -> None:
    kind, left, verdict, _ = judged
    _within("an agent message", (kind, left), _U32)
    _within("a verdict", (verdict,), 3)


def _check_held(held: HeldDown) -> None:
    _few("keys that are down", held.keys, KEYS_DOWN_LIMIT)
    for code in held.keys:
        _check_key(code)
    _within("buttons", (held.buttons,), _U16)
    if held.prefix not in (0, 0xE0, 0xE1, 0xE11D):
        _bad(f"the key prefix {held.prefix:#x}")


def _check_key(code: int) -> None:
    if not (code & 0x7F and (code < 0x80 or 0xE001 <= code <= 0xE07F or code == 0xE11D45)):
        _bad(f"the key {code:#x}")
