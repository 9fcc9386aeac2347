"""What two servers tell each other, as bytes: messages, the machine's state, a guest's values."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.channels.server.cursor import Shape
from aiospice.channels.server.inputs import HeldDown
from aiospice.devices.carry import DeviceState
from aiospice.devices.carry_agent import AgentState
from aiospice.errors import LocalError, RemoteProtocolError
from aiospice.migration import peer, peer_codec
from aiospice.migration.peer import Piece
from aiospice.migration.peer_codec import LIMITS, PeerReader, encode_peer
from aiospice.migration.plainform import DEPTH, decode_plain, encode_plain
from aiospice.server.carried import MachineState
from aiospice.server.early import (
    Collected,
    EarlyPixels,
    guest_pieces,
    pack_piece,
    rest_pieces,
    unpack_piece,
)
from aiospice.server.frames import Display, DisplayState, Head
from aiospice.server.machine import CursorState, Machine, Sound
from aiospice.server.statewire import decode_machine, encode_machine

u32 = st.integers(0, 0xFFFFFFFF)
channels = st.tuples(st.integers(0, 255), st.integers(0, 255))
data = st.binary(max_size=40)
text = st.text(max_size=20)
clients = st.lists(
    st.builds(peer.Expected, u32, st.none() | text), max_size=3, unique_by=lambda one: one.client
)
MESSAGES = st.one_of(
    st.builds(
        peer.Hello, u32, st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16)
    ),
    st.builds(
        peer.Propose,
        text,
        text,
        text,
        clients.map(tuple),
        st.lists(st.tuples(u32, u32, text), max_size=3).map(tuple),
        st.lists(u32, max_size=3).map(tuple),
    ),
    st.builds(
        peer.Agree,
        text,
        u32,
        u32,
        text,
        st.lists(st.tuples(channels, channels), max_size=3).map(tuple),
    ),
    st.builds(peer.Refuse, text),
    st.builds(peer.Piece, text, data),
    st.builds(peer.Stopped, data),
    st.builds(peer.Ready),
    st.builds(peer.Go),
    st.builds(peer.Running, text),
    st.builds(peer.Cancel, text),
    st.builds(peer.Ask, text),
    st.builds(peer.Record, u32, channels, data),
    st.builds(peer.Late, u32, channels, u32, data),
    st.builds(peer.LateEnd, u32, channels, st.booleans()),
    st.builds(peer.Arrived, u32, st.booleans()),
    st.builds(peer.Missed, u32, text),
)


def test_every_message_has_its_number() -> None:
    kinds = {kind.__name__ for kind in peer.PeerMessage.__subclasses__()}
    assert kinds == {kind.__name__ for kind in peer_codec._KINDS}


@given(st.lists(MESSAGES, max_size=5), st.integers(1, 50))
def test_messages_arrive_as_they_were_however_they_are_cut(
    messages: list[peer.PeerMessage], step: int
) -> None:
    stream = b"".join(map(encode_peer, messages))
    reader = PeerReader()
    found: list[peer.PeerMessage] = []
    for at in range(0, len(stream), step):
        found += reader.receive(stream[at : at + step])
    assert found == messages


@given(MESSAGES, st.data())
def test_damaged_bytes_are_a_fault_of_the_peer_or_another_message(
    message: peer.PeerMessage, draw: st.DataObject
) -> None:
    stream = bytearray(encode_peer(message))
    for _ in range(draw.draw(st.integers(1, 4))):
        stream[draw.draw(st.integers(0, len(stream) - 1))] = draw.draw(st.integers(0, 255))
    reader = PeerReader()
    try:
        reader.receive(bytes(stream))
    except RemoteProtocolError:
        assert reader.receive(b"more") == []
    assert len(reader._waiting) <= len(stream)


@pytest.mark.parametrize("kind", peer_codec._KINDS, ids=lambda kind: kind.__name__)
def test_a_length_above_the_limit_is_refused_before_it_is_waited_for(
    kind: type[peer.PeerMessage],
) -> None:
    number = peer_codec._KINDS.index(kind) + 1
    limit = LIMITS.get(kind, peer_codec._LIMIT)
    with pytest.raises(RemoteProtocolError, match=kind.__name__):
        PeerReader().receive((limit + 2).to_bytes(4, "little") + bytes((number,)))
    assert PeerReader().receive((limit + 1).to_bytes(4, "little") + bytes((number,))) == []


@pytest.mark.parametrize(
    "stream",
    [
        b"\x01\x00\x00\x00\x00",
        b"\x01\x00\x00\x00\xff",
        b"\x00\x00\x00\x00\x01",
        b"\x05\x00\x00\x00\x04\xdd\xff\xff\xff",
        b"\x06\x00\x00\x00\x04\xdd\xff\xff\xff\xff",
        b"\xff\xff\x00\x00\x04" + b"\x91" * 65534,
    ],
)
def test_what_is_no_message_is_told(stream: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        PeerReader().receive(stream)


def test_a_message_above_its_limit_is_not_sent() -> None:
    with pytest.raises(LocalError, match="more than the link takes"):
        encode_peer(peer.Refuse("x" * 100_000))


def test_a_ticket_is_not_shown() -> None:
    assert "secret" not in repr(peer.Expected(1, "secret"))


# -- a guest's values --------------------------------------------------------------------------

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 80), 1 << 80)
    | st.floats(allow_nan=False)
    | st.text(max_size=10)
    | st.binary(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(
            st.text(max_size=5) | st.integers() | st.tuples(st.integers(0, 9), st.text(max_size=3)),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(plain)
def test_plain_values_arrive_as_they_were(value: Any) -> None:
    found = decode_plain(encode_plain(value))
    assert found == value
    assert type(found) is type(value)


@given(plain, st.data())
def test_damaged_values_are_a_fault_of_the_peer_or_other_values(
    value: Any, draw: st.DataObject
) -> None:
    stream = bytearray(encode_plain({"a": value, "b": np.arange(3)}))
    for _ in range(draw.draw(st.integers(1, 4))):
        stream[draw.draw(st.integers(0, len(stream) - 1))] = draw.draw(st.integers(0, 255))
    try:
        decode_plain(bytes(stream))
    except RemoteProtocolError:
        pass


@given(st.binary(max_size=60))
def test_any_bytes_are_values_or_a_fault_of_the_peer(stream: bytes) -> None:
    try:
        decode_plain(stream)
    except RemoteProtocolError:
        pass


@pytest.mark.parametrize("kind", ["<u1", "<i8", "<f4", "|b1", ">u2", "<c8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 5)])
def test_arrays_keep_type_and_shape(kind: str, shape: tuple[int, ...]) -> None:
    value = np.ones(shape, kind)
    found = decode_plain(encode_plain([value]))[0]
    assert found.dtype == value.dtype
    assert found.shape == shape
    assert (found == value).all()
    found[...] = 0


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (object(), "is a object"),
        ({"a": [1, {2}]}, r"\['a'\]\[1\] is a set"),
        (np.array([object()]), "array of object"),
        ({1: (print,)}, r"\[1\]\[0\] is a builtin"),
        ("\ud800", "UTF-8"),
        (1 << 600_000, "an integer of"),
    ],
    ids=["object", "set", "array", "function", "text", "number"],
)
def test_what_is_not_plain_is_named(value: Any, told: str) -> None:
    with pytest.raises(LocalError, match=told):
        encode_plain(value, "Guest.freeze")


def test_depth_has_a_limit_both_ways() -> None:
    value: Any = 1
    for _ in range(DEPTH):
        value = (value,)
    assert decode_plain(encode_plain(value)) == value
    with pytest.raises(LocalError, match="deeper"):
        encode_plain((value,))
    stream = msgspec.msgpack.encode(1)
    for _ in range(DEPTH + 2):
        stream = msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"\x91" + stream))
    with pytest.raises(RemoteProtocolError):
        decode_plain(stream)
    with pytest.raises(RemoteProtocolError):
        decode_plain(b"\x91" * 100_000)


# -- the machine ---------------------------------------------------------------------------------


def full() -> MachineState:
    """A state with something of everything."""
    device = DeviceState("echo", True, [(b"in", "client", 7, 1)], [b"out"], {7: [b"queued"]})
    device.waited, device.full = {7: 12_000}, True
    agent = AgentState(device, (b"\x01", 1, 5, b"part"), (1, 2, 0, False), (1, 2))
    agent.to_agent, agent.monitors = {7: (4, 9, 1, True)}, {7: b"mon"}
    agent.writer, agent.held = 7, {8: [(b"chunk", False)]}
    return MachineState(
        displays={
            0: DisplayState(
                {0: (3, 2, False, bytes(range(24))), 5: (1, 1, True, b"abcd")},
                (Head(0, 0, 0, 3, 2),),
            )
        },
        cursors={
            0: CursorState(Shape((1 << 64) - 1, 2, 1, 1, 0, b"p" * 8), (-3, 9), False),
            1: CursorState(),
        },
        playback=Sound((48000, 2), (100, 200), True),
        record=Sound(),
        plain={
            "locks": 2,
            "absolute": True,
            "agent_mouse": True,
            "mouse_mode": 2,
            "pointer": (1, 2, 0),
            "graphics": ((0, 0, 1, "pci/0000/02.0"),),
            "has_sound": True,
        },
        devices={(10, 0): device},
        agent=agent,
        held={7: HeldDown((0x1C, 0xE048), 3, 0xE0)},
        wishes={7: {0: (4, (1, 2))}},
        replays={7: True},
    )


def test_a_machine_arrives_as_it_was() -> None:
    state = full()
    named = {field.name for field in dataclasses.fields(MachineState)}
    empty = MachineState()
    assert {n for n in named if getattr(state, n) != getattr(empty, n)} >= named - {"record"}
    assert decode_machine(encode_machine(state)) == state
    assert decode_machine(encode_machine(MachineState(plain=state.plain))).displays == {}


@given(st.data())
def test_a_damaged_machine_is_a_fault_of_the_peer_or_another_machine(draw: st.DataObject) -> None:
    stream = bytearray(encode_machine(full()))
    for _ in range(draw.draw(st.integers(1, 4))):
        stream[draw.draw(st.integers(0, len(stream) - 1))] = draw.draw(st.integers(0, 255))
    try:
        decode_machine(bytes(stream))
    except RemoteProtocolError:
        pass


def damaged(name: str) -> MachineState:
    """A state with one thing that can't be so."""
    state = full()
    shown = state.displays[0]
    shape = state.cursors[0].shape
    assert shape is not None
    if name == "display":
        state.displays[16] = shown
    elif name == "surface":
        shown.surfaces[5] = (2, 1, True, b"abcd")
    elif name == "size":
        shown.surfaces[5] = (1 << 20, 1 << 20, True, b"")
    elif name == "cursor":
        state.cursors[0].shape = shape._replace(width=9)
    elif name == "sound":
        state.playback = Sound((0, 2))
    elif name == "volume":
        state.playback.volume = (70000,)
    elif name == "plain":
        state.plain["secret"] = 1
    elif name == "locks":
        state.plain["locks"] = 99
    elif name == "mode":
        state.plain["mouse_mode"] = 3
    elif name == "pointer":
        state.plain["pointer"] = (1, 2)
    elif name == "key":
        state.held[7] = HeldDown((0,))
    elif name == "client":
        state.held[-1] = HeldDown()
    elif name == "origin":
        state.devices[10, 0].to_guest.append((b"x", "nobody", 7, 1))
    elif name == "price":
        state.devices[10, 0].to_guest.append((b"x", "client", 7, -1))
    elif name == "devices":
        state.devices = {(10, n): DeviceState() for n in range(65)}
    elif name == "chunk":
        state.agent.reading = (b"123456789", 1, 0, b"")
    elif name == "verdict":
        state.agent.from_agent = (1, 2, 9, False)
    elif name == "wish":
        state.wishes[7] = {0: (999, ())}
    return state


@pytest.mark.parametrize(
    "name",
    [
        *("display", "surface", "size", "cursor", "sound", "volume", "plain", "locks", "mode"),
        *("pointer", "key", "client", "origin", "price", "devices", "chunk", "verdict", "wish"),
    ],
)
def test_a_machine_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(RemoteProtocolError, match="peer state"):
        decode_machine(encode_machine(damaged(name)))


# -- pieces --------------------------------------------------------------------------------------


def machine(*sizes: tuple[int, int]) -> Machine:
    """With a display and off-screen surfaces of these sizes, and something on them."""
    found = Machine()
    display = found.displays[0] = Display(0, 300, 200)
    for width, height in sizes:
        display.create_surface(width, height)
    for surface in display.surfaces.values():
        surface.pixels[:] = np.random.default_rng(surface.id).bytes(len(surface.pixels))
    return found


def told(source: Machine, collected: Collected, early: EarlyPixels) -> int:
    """Tell what has changed; how many bytes."""
    size = 0
    for piece in early.pieces():
        collected.keep(piece)
        size += len(piece.data)
    return size


def taken(source: Machine) -> MachineState:
    state = full()
    state.displays = {number: each.freeze() for number, each in source.displays.items()}
    return state


def test_surfaces_go_early_and_only_what_changes_goes_again() -> None:
    source = machine((700, 900), (64, 64))
    display = source.displays[0]
    early, collected = EarlyPixels(source), Collected()
    whole = sum(len(surface.pixels) for surface in display.surfaces.values())
    assert early.waiting == whole
    assert told(source, collected, early) == whole
    assert told(source, collected, early) == 0
    display.surface_array(1)[500, 3] = 77
    display.surface_damage(1, 3, 500, 1, 1)
    display.fill(0, 0, 10, 10, 0x123456)
    added = display.create_surface(10, 10)
    display.destroy_surface(2)
    display.surfaces[added].pixels[:] = b"n" * 400
    again = told(source, collected, early)
    assert again <= 2 * (256 << 10) + 400
    late = display.create_surface(20, 20, alpha=True)
    state = taken(source)
    pieces, last = rest_pieces(b"guest", state)
    for piece in pieces:
        collected.keep(piece)
    guest, found = collected.rest(last)
    assert guest == b"guest"
    target = Display(0)
    target.thaw(found.displays[0])
    assert set(target.surfaces) == {0, 1, added, late}
    for id, surface in display.surfaces.items():
        assert target.surfaces[id].pixels == surface.pixels
        assert target.surfaces[id].alpha == surface.alpha
    early.end()
    assert {surface.dirty for surface in map(_of, display.surfaces.values())} == {None}


def _of(surface: Any) -> Any:
    return surface


@pytest.mark.parametrize("side", [32, 512])
def test_what_goes_when_the_guest_stands_still_doesnt_grow_with_its_surfaces(side: int) -> None:
    source = machine(*((side, side) for _ in range(200)))
    early, collected = EarlyPixels(source), Collected()
    assert told(source, collected, early) > 200 * side * side * 4
    source.displays[0].fill(0, 0, 300, 200, 0xFF)
    late = told(source, collected, early)
    pieces, last = rest_pieces(b"", taken(source))
    assert not pieces
    assert late == 300 * 200 * 4
    assert len(last) < 8000
    collected.rest(last)


def test_a_large_state_goes_in_parts() -> None:
    state = full()
    noise = np.random.default_rng(3).bytes(9 << 20)
    pieces, last = rest_pieces(noise, state)
    assert len(pieces) == 2
    collected = Collected()
    for piece in (*guest_pieces("part/of it", noise), *pieces):
        collected.keep(piece)
    assert collected.guest_parts() == {"part/of it": noise}
    assert collected.rest(last) == (noise, state)


@pytest.mark.parametrize("data", [b"", b"short", bytes(256 << 10), bytes(range(256)) * 9])
def test_a_piece_is_packed_where_it_pays(data: bytes) -> None:
    packed = pack_piece(Piece("pixels/0", data))
    assert (len(packed.data) < len(data)) == (len(data) > 1024)
    assert unpack_piece(packed) == data


def test_noise_is_told_as_it_is() -> None:
    piece = Piece("pixels/0", np.random.default_rng(4).bytes(100_000))
    assert pack_piece(piece) is piece
    # Its beginning packs well, and that is all of it that does.
    mixed = Piece("pixels/0", bytes(8 << 10) + piece.data)
    assert pack_piece(mixed) is mixed


@pytest.mark.parametrize(
    ("data", "size"),
    [(b"x", 256), (b"nonsense", 9), (b"\x10a", -1), (b"\x10a", 5 << 20), (b"\x10a", 2)],
)
def test_a_piece_that_does_not_unpack_is_refused(data: bytes, size: int) -> None:
    with pytest.raises(RemoteProtocolError, match="peer Piece"):
        Collected().keep(Piece("guest/0/1/a", data, size))


@pytest.mark.parametrize(
    "piece",
    [
        Piece("other/1", b""),
        Piece("pixels/0/0/x/1/0", b""),
        Piece("pixels/0/0/4/4/0", b"short"),
        Piece("pixels/0/0/4/4/-1", bytes(64)),
        Piece("pixels/0/0/4/4/1", bytes(64)),
        Piece("pixels/0/0/99999/99999/0", bytes(64)),
        Piece("guest/1/2/a", b""),
        Piece("guest/0/0/a", b""),
        Piece("guest/0/99999999/a", b""),
        Piece("state/0/1", b""),
    ],
    ids=lambda piece: piece.name,
)
def test_a_piece_that_cannot_be_is_refused(piece: Piece) -> None:
    with pytest.raises(RemoteProtocolError, match="peer Piece"):
        Collected().keep(piece)


def test_a_state_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiospice.server.early.STATE_LIMIT", 1 << 20)
    collected = Collected()
    for number in range(10):
        collected.keep(Piece(f"guest/0/1/{number}", bytes(100_000)))
    collected.keep(Piece("guest/0/1/9", bytes(100_000)))
    with pytest.raises(RemoteProtocolError, match="more than"):
        collected.keep(Piece("guest/0/1/10", bytes(100_000)))
    with pytest.raises(RemoteProtocolError, match="more than"):
        Collected().keep(Piece("pixels/0/0/1000/1000/0", bytes(4 * 65 * 1000)))


def test_a_surface_that_has_not_come_whole_is_refused() -> None:
    source = machine((600, 600))
    early, collected = EarlyPixels(source), Collected()
    *most, _ = early.pieces()
    for piece in most:
        collected.keep(piece)
    _, last = rest_pieces(b"", taken(source))
    with pytest.raises(RemoteProtocolError, match="surface 1 of display 0 hasn't come whole"):
        collected.rest(last)
    for junk in (b"", b"\xff" * 8, b"\x01" + bytes(7)):
        with pytest.raises(RemoteProtocolError):
            Collected().rest(junk)
