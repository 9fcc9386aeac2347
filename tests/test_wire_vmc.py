"""Character device channels: a captured port, compression and its limit, numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.errors import DecodeError, LocalError
from aiospice.wire import vmc
from aiospice.wire.message import CLIENT, SERVER, Message
from aiospice.wire.registry import find

CAPTURED = json.loads((Path(__file__).parent / "data" / "handover.json").read_text())["other"]
COMPRESSED = [vmc.CompressedData, vmc.ClientCompressedData]


@pytest.mark.parametrize("name", ["text-source-port0-port-init", "text-target-port0-port-init"])
def test_the_name_of_a_real_port(name: str) -> None:
    body = bytes.fromhex(CAPTURED[name])
    message = vmc.PortInit.parse(body)
    assert message == vmc.PortInit(name=b"org.example.echo", opened=1)
    assert message.body() == body


@given(st.binary(min_size=1, max_size=80).filter(lambda name: b"\0" not in name), st.booleans())
def test_port_names_round_trip(name: bytes, opened: bool) -> None:
    message = vmc.PortInit(name=name, opened=int(opened))
    assert vmc.PortInit.parse(message.body()) == message


@given(st.binary(max_size=80))
def test_any_bytes_are_a_port_or_a_decode_error(body: bytes) -> None:
    try:
        where = type(vmc.PortInit.parse(body)).__name__
    except DecodeError as error:
        where = error.message
    assert where == "PortInit"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("ffffffff 09000000 01", "name_size"),
        ("05000000 09000000 01 6100", "name"),
        ("02000000 00000000 01 6100", "name"),
        ("02000000 ffffff00 01 6100", "name"),
    ],
)
def test_port_names_stay_inside_their_message(body: str, field: str) -> None:
    with pytest.raises(DecodeError) as caught:
        vmc.PortInit.parse(bytes.fromhex(body))
    assert caught.value.field == field


@pytest.mark.parametrize("kind", COMPRESSED)
def test_compressed_data_has_a_size_only_if_it_is_compressed(
    kind: type[vmc.CompressedData],
) -> None:
    lz4 = kind(type=vmc.Compression.LZ4, uncompressed_size=300, data=b"xyz")
    assert lz4.body().hex() == "01" + "2c010000" + "78797a"
    plain = kind(type=vmc.Compression.NONE, uncompressed_size=0, data=b"xyz")
    assert plain.body().hex() == "00" + "78797a"
    for message in (lz4, plain):
        assert kind.parse(message.body()) == message
    with pytest.raises(LocalError):
        kind(type=vmc.Compression.NONE, uncompressed_size=3, data=b"xyz").body()


@pytest.mark.parametrize("kind", COMPRESSED)
def test_data_may_not_become_larger_than_a_message(kind: type[vmc.CompressedData]) -> None:
    size = vmc.MAX_UNCOMPRESSED
    assert kind.parse(b"\1" + size.to_bytes(4, "little")).uncompressed_size == size
    for wrong in (size + 1, 0xFFFFFFFF):
        with pytest.raises(DecodeError) as caught:
            kind.parse(b"\1" + wrong.to_bytes(4, "little") + bytes(10))
        assert (caught.value.field, caught.value.offset) == ("uncompressed_size", 1)


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (vmc.Data(data=b"ab"), "6162"),
        (vmc.ClientData(data=b""), ""),
        (vmc.PortEvent(event=vmc.PortEvents.CLOSED), "01"),
        (vmc.ClientPortEvent(event=vmc.PortEvents.BREAK), "02"),
    ],
)
def test_bodies(message: Message, body: str) -> None:
    assert message.body() == bytes.fromhex(body)
    assert type(message).parse(bytes.fromhex(body)) == message


def test_every_device_has_data_and_only_ports_have_names() -> None:
    for channel in (9, 10, 11):
        assert find(channel, SERVER, 101) is vmc.Data
        assert find(channel, SERVER, 102) is vmc.CompressedData
        assert find(channel, CLIENT, 101) is vmc.ClientData
        assert find(channel, CLIENT, 102) is vmc.ClientCompressedData
    for channel in (10, 11):
        assert find(channel, SERVER, 201) is vmc.PortInit
        assert find(channel, SERVER, 202) is vmc.PortEvent
        assert find(channel, CLIENT, 201) is vmc.ClientPortEvent
    assert find(9, SERVER, 201) is None
