"""Reading captures: TCP put together in any order, SPICE cut into messages."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.errors import LocalError
from aiospice.proof.pcap import read_connections, read_packets, read_tcp

if TYPE_CHECKING:
    from pathlib import Path

CLIENT, SERVER = (b"\x0a\x00\x00\x02", 40000), (b"\x0a\x00\x00\x01", 5900)
FIN, SYN, ACK = 1, 2, 16
Packets = list[tuple[float, bytes]]


def segment(
    source: tuple[bytes, int],
    target: tuple[bytes, int],
    sequence: int,
    flags: int,
    data: bytes = b"",
) -> bytes:
    tcp = struct.pack(">HHIIBBHHH", source[1], target[1], sequence, 0, 0x50, flags, 9, 0, 0)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(data), 0, 0, 64, 6, 0)
    return head + source[0] + target[0] + tcp + data


def pcap(packets: Packets, order: str = "<", magic: int = 0xA1B23C4D, link: int = 101) -> bytes:
    unit = 1e9 if magic == 0xA1B23C4D else 1e6
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for when, packet in packets:
        whole = int(when)
        rest = round((when - whole) * unit)
        out += struct.pack(order + "IIII", whole, rest, len(packet), len(packet)) + packet
    return out


def opening(client: int = 100, server: int = 4_294_967_290) -> Packets:
    return [
        (1.0, segment(CLIENT, SERVER, client, SYN)),
        (1.5, segment(SERVER, CLIENT, server, SYN | ACK)),
    ]


def link(mini: bool) -> tuple[bytes, bytes]:
    caps = struct.pack("<II", 0b1001 if mini else 0b0001, 5)
    head = struct.pack("<IBBIII", 77, 10, 3, 1, 1, 18) + caps
    client = b"REDQ" + struct.pack("<III", 2, 2, len(head)) + head
    reply = struct.pack("<I", 0) + bytes(162) + struct.pack("<III", 1, 1, 178) + caps
    server = b"REDQ" + struct.pack("<III", 2, 2, len(reply)) + reply
    return client + struct.pack("<I", 1) + bytes(128), server + bytes(4)


def message(mini: bool, number: int, body: bytes) -> bytes:
    if mini:
        return struct.pack("<HI", number, len(body)) + body
    return struct.pack("<QHII", 1, number, len(body), 0) + body


@pytest.mark.parametrize("mini", [True, False])
def test_messages_come_with_their_times(tmp_path: Path, mini: bool) -> None:
    to_server, to_client = link(mini)
    migrate, mark = message(mini, 1, b"\3\0\0\0"), message(mini, 4, b"")
    data, ack = message(mini, 2, b"x" * 50), message(mini, 2, b"")
    packets = opening()
    packets.append((2.0, segment(CLIENT, SERVER, 101, ACK, to_server)))
    base = 4_294_967_291
    packets.append((3.0, segment(SERVER, CLIENT, base, ACK, to_client)))
    base = (base + len(to_client)) & 0xFFFFFFFF
    packets.append((4.0, segment(SERVER, CLIENT, base, ACK, migrate + data[:20])))
    base = (base + len(migrate) + 20) & 0xFFFFFFFF
    packets.append((5.0, segment(CLIENT, SERVER, 101 + len(to_server), ACK, ack + mark)))
    packets.append((6.0, segment(SERVER, CLIENT, base, ACK, data[20:-1])))
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap(packets))
    [one] = read_connections(path)
    assert (one.channel_type, one.channel_id, one.connection_id) == (10, 3, 77)
    assert (one.link_error, one.auth_result, one.linked, one.mini) == (0, 0, 3.0, mini)
    assert one.client_caps == ((9 if mini else 1,), (5,))
    assert [(m.sender, m.type, m.first, m.last, m.size, m.complete) for m in one.messages] == [
        ("server", 1, 4.0, 4.0, 4, True),
        ("server", 2, 4.0, 6.0, 50, False),
        ("client", 2, 5.0, 5.0, 0, True),
        ("client", 4, 5.0, 5.0, 0, True),
    ]
    assert one.find("client", 4, after=5.5) is None
    assert one.bytes_between("client", 4.0, 5.5) == 2 * (6 if mini else 18)
    assert [m.body for m in one.sent_by("server")] == [b"\3\0\0\0", b"x" * 49]


@given(seed=st.integers(0, 2**32), start=st.integers(0, 2**32 - 1))
def test_a_stream_is_whole_whatever_order_its_segments_have(
    tmp_path_factory: pytest.TempPathFactory, seed: int, start: int
) -> None:
    chance = random.Random(seed)
    sent = chance.randbytes(chance.randint(0, 300))
    pieces = []
    for _ in range(30):
        at = chance.randint(0, len(sent))
        pieces.append((at, sent[at : at + chance.randint(0, 40)]))
    pieces += [(at, sent[at : at + 25]) for at in range(0, len(sent), 25)]
    chance.shuffle(pieces)
    packets = opening(client=start)
    for count, (at, data) in enumerate(pieces):
        sequence = (start + 1 + at) & 0xFFFFFFFF
        packets.append((2.0 + count, segment(CLIENT, SERVER, sequence, ACK, data)))
    path = tmp_path_factory.getbasetemp() / "order.pcap"
    path.write_bytes(pcap(packets))
    [tcp] = read_tcp(path)
    assert bytes(tcp.client.data) == sent
    times = [tcp.client.time(at) for at in range(len(sent))]
    assert times == sorted(times)


def test_a_port_used_again_is_another_connection(tmp_path: Path) -> None:
    packets = opening()
    packets.append((2.0, segment(CLIENT, SERVER, 101, ACK | FIN, b"one")))
    packets += opening(client=9000)
    packets.append((3.0, segment(CLIENT, SERVER, 9001, ACK, b"two")))
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap(packets))
    assert [bytes(tcp.client.data) for tcp in read_tcp(path)] == [b"one", b"two"]
    assert [tcp.client.closed for tcp in read_tcp(path)] == [2.0, None]
    assert read_connections(path) == []


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
@pytest.mark.parametrize(("kind", "header"), [(101, 0), (1, 14), (113, 16), (276, 20)])
def test_every_classic_form_is_read(
    tmp_path: Path, order: str, magic: int, kind: int, header: int
) -> None:
    packet = segment(CLIENT, SERVER, 1, SYN)
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap([(1.25, bytes(header) + packet)], order, magic, kind) + b"\0" * 9)
    assert list(read_packets(path)) == [(1.25, packet)]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("resolution", "tick"), [(None, 1e-6), (9, 1e-9), (0x8A, 2**-10)])
def test_captures_in_blocks_are_read(
    tmp_path: Path, order: str, resolution: int | None, tick: float
) -> None:
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        size = struct.pack(order + "I", len(body) + 12)
        return struct.pack(order + "I", kind) + size + body + size

    packet = segment(CLIENT, SERVER, 1, SYN)
    section = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    options = b"" if resolution is None else struct.pack(order + "HHB3x", 9, 1, resolution)
    interface = block(1, struct.pack(order + "HHI", 1, 0, 0) + options)
    when, frame = 5 << 32 | 7, bytes(14) + packet
    head = struct.pack(order + "5I", 0, when >> 32, when & 0xFFFFFFFF, len(frame), len(frame))
    path = tmp_path / "a.pcapng"
    data = section + interface + block(99, b"unknown") + block(6, head + frame)
    path.write_bytes(data)
    ((seen, whole),) = read_packets(path)
    assert whole == packet
    assert seen == pytest.approx(when * tick)
    for end in range(len(section), len(data)):
        path.write_bytes(data[:end])
        assert list(read_packets(path)) == []


def test_what_is_no_capture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(b"\x0a\x0d\x0d\x0a" + bytes(40))
    with pytest.raises(LocalError, match="pcapng"):
        list(read_packets(path))
    path.write_bytes(pcap([], link=999))
    with pytest.raises(LocalError, match="999"):
        list(read_packets(path))


@given(st.binary(max_size=400))
def test_any_stream_of_a_client_is_read_without_an_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    to_client = link(True)[1]
    packets = opening()
    for sender, target, first, data in (
        (CLIENT, SERVER, 101, b"REDQ" + noise),
        (SERVER, CLIENT, 4_294_967_291, to_client[: len(noise) * 2] + noise),
    ):
        packets.append((2.0, segment(sender, target, first, ACK, data)))
    packets.append((3.0, noise))
    path = tmp_path_factory.getbasetemp() / "noise.pcap"
    path.write_bytes(pcap(packets))
    read_connections(path)
