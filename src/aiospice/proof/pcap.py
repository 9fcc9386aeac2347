"""Reads captures: packets, TCP streams, SPICE connections and their messages with their times.

For proofs about the order on the wire. It stands apart from `aiospice.wire` on purpose, so that
both don't share a mistake: numbers are plain, and only the link and the two headers are known
(spice-protocol ``spice/protocol.h``)::

    for connection in read_connections("run.pcap"):
        migrate = connection.find("server", 1)
"""

from __future__ import annotations

import bisect
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aiospice.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Connection", "Message", "TcpConnection", "read_connections", "read_packets", "read_tcp"]

_ORDERS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6),
    b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9),
    b"\xa1\xb2\x3c\x4d": (">", 1e-9),
}
#: The first block of a pcapng file (draft-ietf-opsawg-pcapng).
_NEXT_GENERATION = b"\x0a\x0d\x0d\x0a"
#: Bytes in front of the IP header, by the capture's link type.
_LINK_HEADERS = {0: 4, 1: 14, 12: 0, 101: 0, 113: 16, 228: 0, 229: 0, 276: 20}
_TCP = 6
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_LINK_HEADER, _TICKET, _RESULT = 16, 128, 4
_PUBLIC_KEY = 162
_CAP_SELECTION, _CAP_SASL, _CAP_MINI = 1, 4, 8
_AUTH_SASL = 2


class Message(NamedTuple):
    """One message as it stood on the wire."""

    first: float  #: when its first byte was seen, seconds since 1970
    last: float  #: when its last byte was seen; of what there is, if not ``complete``
    sender: str  #: ``client`` or ``server``
    type: int  #: number on the wire
    size: int  #: of the body, as the header says
    offset: int  #: of the header in its direction's stream
    body: bytes
    complete: bool  #: False when the capture or the connection ends within it


def read_packets(path: str | Path) -> Iterator[tuple[float, bytes]]:
    """Yield time (seconds since 1970) and IP packet of each record of a pcap or pcapng file.

    Raises `LocalError` for another kind of file; a last record cut short is left out.
    """
    data = Path(path).read_bytes()
    if data[:4] == _NEXT_GENERATION:
        yield from _blocks(data, path)
        return
    known = _ORDERS.get(data[:4])
    if known is None or len(data) < 24:
        raise LocalError(f"{path} is neither a pcap nor a pcapng file")
    order, unit = known
    link = struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF
    if link not in _LINK_HEADERS:
        raise LocalError(f"{path} has link type {link}, which isn't known here")
    skip = _LINK_HEADERS[link]
    record = struct.Struct(order + "IIII")
    at = 24
    while at + 16 <= len(data):
        seconds, rest, size, _ = record.unpack_from(data, at)
        at += 16 + size
        if at > len(data):
            return
        yield seconds + rest * unit, data[at - size + skip : at]


def _blocks(data: bytes, path: str | Path) -> Iterator[tuple[float, bytes]]:
    """Yield time and IP packet of each enhanced packet block of a pcapng file of one section."""
    order = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}.get(data[8:12])
    if order is None:
        raise LocalError(f"{path} has no byte order that pcapng knows")
    interfaces: list[tuple[int, float]] = []  # bytes in front of the IP header, unit of time
    at = 0
    while at + 12 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        if size < 12 or at + size > len(data):
            return
        if kind == 1 and size >= 20:
            link = struct.unpack_from(order + "H", data, at + 8)[0]
            if link not in _LINK_HEADERS:
                raise LocalError(f"{path} has link type {link}, which isn't known here")
            unit = _unit(data[at + 16 : at + size - 4], order)
            interfaces.append((_LINK_HEADERS[link], unit))
        elif kind == 6 and size >= 32:
            number, high, low, held = struct.unpack_from(order + "IIII", data, at + 8)
            if number < len(interfaces) and held <= size - 32:
                skip, unit = interfaces[number]
                yield (high << 32 | low) * unit, data[at + 28 + skip : at + 28 + held]
        at += size


def _unit(options: bytes, order: str) -> float:
    """Seconds of one tick of an interface, from its option ``if_tsresol`` (9)."""
    at = 0
    while at + 4 <= len(options):
        code, size = struct.unpack_from(order + "HH", options, at)
        if code == 9 and size == 1 and at + 4 < len(options):
            value = options[at + 4]
            return float((2.0 if value & 0x80 else 10.0) ** -(value & 0x7F))
        at += 4 + (size + 3) // 4 * 4
    return 1e-6


class _Segment(NamedTuple):
    source: tuple[bytes, int]
    target: tuple[bytes, int]
    sequence: int
    flags: int
    payload: bytes


def _segment(packet: bytes) -> _Segment | None:
    """Take a TCP segment out of an IP packet; None for anything else and for fragments."""
    if len(packet) < 40:
        return None
    if packet[0] >> 4 == 4:
        start = (packet[0] & 15) * 4
        end = int.from_bytes(packet[2:4], "big") or len(packet)  # 0: left to the network card
        fragment = int.from_bytes(packet[6:8], "big") & 0x3FFF
        if packet[9] != _TCP or fragment:
            return None
        source, target = packet[12:16], packet[16:20]
    elif packet[0] >> 4 == 6 and packet[6] == _TCP:
        start, end = 40, 40 + int.from_bytes(packet[4:6], "big")
        source, target = packet[8:24], packet[24:40]
    else:
        return None
    if len(packet) < start + 20:
        return None
    source_port, target_port, sequence = struct.unpack_from(">HHI", packet, start)
    payload = packet[start + (packet[start + 12] >> 4) * 4 : end]
    flags = packet[start + 13]
    return _Segment((source, source_port), (target, target_port), sequence, flags, payload)


class Stream:
    """One direction of a TCP connection: ``data``, and when each part of it was first seen."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.closed: float | None = None  #: when its end (or a reset) was seen
        self.initial = -1
        self._starts: list[int] = []
        self._times: list[float] = []
        self._early: dict[int, tuple[float, bytes]] = {}

    def add(self, when: float, segment: _Segment) -> None:
        """Put a segment in its place; what was seen before changes nothing."""
        if segment.flags & _SYN:
            self.initial = segment.sequence
            return
        if self.initial < 0:
            return
        if segment.flags & (_FIN | _RST) and self.closed is None:
            self.closed = when
        offset = (segment.sequence - self.initial - 1) & 0xFFFFFFFF
        offset += len(self.data) & ~0xFFFFFFFF  # streams longer than 4 GiB
        if offset - len(self.data) > 1 << 31:
            offset -= 1 << 32
        self._place(when, offset, segment.payload)
        while ready := [start for start in self._early if start <= len(self.data)]:
            for start in sorted(ready):
                self._place(self._early[start][0], start, self._early.pop(start)[1])

    def time(self, offset: int) -> float:
        """When the byte at ``offset`` was seen; 0.0 for an empty stream."""
        if not self._times:
            return 0.0
        return self._times[max(bisect.bisect_right(self._starts, offset) - 1, 0)]

    def _place(self, when: float, offset: int, payload: bytes) -> None:
        if offset > len(self.data):
            if len(payload) > len(self._early.get(offset, (0.0, b""))[1]):
                self._early[offset] = (when, payload)
            return
        fresh = payload[len(self.data) - offset :]
        if fresh:
            self._starts.append(len(self.data))
            self._times.append(max(when, self._times[-1] if self._times else when))
            self.data += fresh


class TcpConnection:
    """Both directions of a connection whose beginning is in the capture."""

    def __init__(self, opened: float, segment: _Segment) -> None:
        self.opened = opened
        self.client_address = _endpoint(segment.source)
        self.server_address = _endpoint(segment.target)
        self.client = Stream()
        self.server = Stream()


def read_tcp(path: str | Path) -> list[TcpConnection]:
    """Put together every TCP connection that begins in the capture, in order of their SYN."""
    found: list[TcpConnection] = []
    current: dict[tuple[tuple[bytes, int], tuple[bytes, int]], TcpConnection] = {}
    for when, packet in read_packets(path):
        segment = _segment(packet)
        if segment is None:
            continue
        way, back = (segment.source, segment.target), (segment.target, segment.source)
        if segment.flags & _SYN and not segment.flags & _ACK:
            known = current.get(way)
            if known is None or known.client.initial != segment.sequence:
                current[way] = TcpConnection(when, segment)
                found.append(current[way])
        if way in current:
            current[way].client.add(when, segment)
        elif back in current:
            current[back].server.add(when, segment)
    return found


def _endpoint(end: tuple[bytes, int]) -> tuple[str, int]:
    import socket

    family = socket.AF_INET if len(end[0]) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, end[0]), end[1]


@dataclass(slots=True)
class Connection:
    """One SPICE connection; numbers are -1 as long as the link doesn't tell them."""

    tcp: TcpConnection
    channel_type: int = -1
    channel_id: int = -1
    connection_id: int = -1  #: 0 for a new session; a target of a migration gets the session's
    link_error: int = -1  #: of the link reply, 0 for none
    auth_result: int = -1
    mini: bool = False  #: 6-byte headers
    linked: float = 0.0  #: when the result of the authentication was seen
    client_caps: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())  #: common, channel: words
    server_caps: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    messages: list[Message] = field(default_factory=list)  #: by time of the first byte

    def sent_by(self, sender: str) -> list[Message]:
        """The messages of ``client`` or ``server``, in order."""
        return [message for message in self.messages if message.sender == sender]

    def find(self, sender: str, type: int, *, after: float = 0.0) -> Message | None:
        """The first message of that sender and number that begins at ``after`` or later."""
        for message in self.messages:
            if (message.sender, message.type) == (sender, type) and message.first >= after:
                return message
        return None

    def bytes_between(self, sender: str, begin: float, end: float) -> int:
        """Bytes of messages, headers too, that ``sender`` began in ``begin <= time < end``."""
        header = 6 if self.mini else 18
        times = ((m, m.first) for m in self.messages if m.sender == sender)
        return sum(header + len(m.body) for m, first in times if begin <= first < end)


def read_connections(path: str | Path) -> list[Connection]:
    """Read every plain SPICE connection of a capture, in order of their beginning.

    Connections that aren't SPICE, or are TLS, are left out. After SASL, and after a refused
    link, there are no messages.
    """
    found = []
    for tcp in read_tcp(path):
        if tcp.client.data[:4] == b"REDQ":
            connection = Connection(tcp)
            _read_link(connection)
            found.append(connection)
    return found


def _read_link(connection: Connection) -> None:
    client, server = connection.tcp.client, connection.tcp.server
    if len(client.data) < _LINK_HEADER + 18:
        return
    client_size = int.from_bytes(client.data[12:16], "little")
    head = struct.unpack_from("<IBBIII", client.data, _LINK_HEADER)
    connection.connection_id, connection.channel_type, connection.channel_id = head[:3]
    connection.client_caps = _caps(client.data, *head[3:])
    if server.data[:4] != b"REDQ" or len(server.data) < _LINK_HEADER + 4 + _PUBLIC_KEY + 12:
        return
    server_size = int.from_bytes(server.data[12:16], "little")
    connection.link_error = int.from_bytes(server.data[16:20], "little")
    numbers = struct.unpack_from("<III", server.data, _LINK_HEADER + 4 + _PUBLIC_KEY)
    connection.server_caps = _caps(server.data, *numbers)
    common = _word(connection.client_caps) & _word(connection.server_caps)
    connection.mini = bool(common & _CAP_MINI)
    sent = _LINK_HEADER + client_size
    if common & _CAP_SELECTION:
        if int.from_bytes(client.data[sent : sent + 4], "little") == _AUTH_SASL:
            return
        sent += 4
    result = _LINK_HEADER + server_size
    if connection.link_error or len(server.data) < result + _RESULT:
        return
    connection.auth_result = int.from_bytes(server.data[result : result + _RESULT], "little")
    connection.linked = server.time(result + _RESULT - 1)
    messages = list(_cut("client", client, sent + _TICKET, connection.mini))
    messages += _cut("server", server, result + _RESULT, connection.mini)
    connection.messages = sorted(messages, key=lambda message: message.first)


def _caps(
    data: bytearray, common: int, channel: int, offset: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    start, count = _LINK_HEADER + offset, common + channel
    if count > 64 or start + count * 4 > len(data):
        return (), ()
    words = struct.unpack_from(f"<{count}I", data, start)
    return words[:common], words[common:]


def _word(caps: tuple[tuple[int, ...], tuple[int, ...]]) -> int:
    return caps[0][0] if caps[0] else 0


def _cut(sender: str, stream: Stream, at: int, mini: bool) -> Iterator[Message]:
    header = struct.Struct("<HI" if mini else "<8xHI4x")
    while at + header.size <= len(stream.data):
        number, size = header.unpack_from(stream.data, at)
        start = at + header.size
        end = min(start + size, len(stream.data))
        body = bytes(stream.data[start:end])
        whole = len(body) == size
        first, last = stream.time(at), stream.time(end - 1)
        yield Message(first, last, sender, number, size, at, body, whole)
        at = start + size
