"""Records SPICE sessions as pcapng files, which Wireshark and tshark dissect.

What is recorded is the SPICE inside: TLS, WebSocket and proxies are taken off, and the bytes of
every connection are put into TCP segments made up for them (so the times are those of this
process, and lengths say nothing about the network). The ticket never gets in; everything else
does, keystrokes and screen included, which is why only the user can read the file.

File format: draft-ietf-opsawg-pcapng; link type Ethernet.
"""

from __future__ import annotations

import os
import stat
import time
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from aiospice.errors import LocalError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["CaptureFile"]

WARNING = (
    "SPICE session, decrypted: it shows what was typed (passwords too) and what was on the "
    "screen. Addresses, ports and TCP are made up; the ticket is replaced by zeros."
)
#: Bytes of SPICE in one segment. More than any network takes, as captures with segmentation
#: offload have it, so that large images need few packets.
_SEGMENT = 16384
#: Bytes kept before they are written.
_BUFFER = 1 << 18
_SECTION, _INTERFACE, _NAMES, _PACKET = 0x0A0D0D0A, 1, 4, 6
_FIN, _SYN, _PSH, _ACK = 1, 2, 8, 16
_FIRST_PORT, _PORTS = 0xC000, 0x4000
_LINK_HEADER, _LINK_LIMIT = 16, 65536
#: Bytes of what follows the link message: choice and ticket, result.
_CLIENT_STEPS, _SERVER_STEPS = (4, 128), (4,)
_NANOSECONDS = 1_000_000_000


class _Side:
    """One end of a connection: its address as packed bytes, its port, what it has sent."""

    __slots__ = ("_link", "_steps", "address", "port", "sequence")

    def __init__(self, address: bytes, port: int, sequence: int, steps: tuple[int, ...]) -> None:
        self.address = address
        self.port = port
        self.sequence = sequence
        self._steps = steps
        self._link = bytearray()

    def cut(self, data: bytes) -> list[bytes]:
        """Cut where the steps of the link end: tshark 4.0 loses its way when one segment holds
        the end of a step and the beginning of the next.
        """
        if not self._steps:
            return [data]
        before = len(self._link)
        self._link += data
        if len(self._link) < _LINK_HEADER:
            return [data]
        end = _LINK_HEADER + int.from_bytes(self._link[12:16], "little")
        cuts = {0, len(data)}
        for size in (0, *self._steps):
            end += size
            cuts.add(min(max(end - before, 0), len(data)))
        if len(self._link) >= end or end > _LINK_LIMIT:
            self._steps, self._link = (), bytearray()
        places = sorted(cuts)
        return [data[a:b] for a, b in pairwise(places)]


class _Pair(NamedTuple):
    client: _Side
    server: _Side
    names: str


class CaptureFile:
    """A pcapng file in the making; ``with CaptureFile("run.pcapng") as capture: ...``.

    ``title`` goes into the comment of the file (an address without its password). A file that
    exists is refused unless ``overwrite``; a symbolic link and anything but a plain file always.
    The times given to the methods are those of ``time.monotonic()`` (asyncio's clock), unless
    ``clock_offset`` says how many seconds to add to get to the time since 1970.

    A write that fails ends the recording, not the session: `close` tells.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        title: str = "",
        overwrite: bool = False,
        clock_offset: float | None = None,
    ) -> None:
        self.path = os.fspath(path)
        if clock_offset is None:
            clock_offset = time.time() - time.monotonic()
        self._offset = clock_offset
        self._connections: dict[int, _Pair] = {}
        self._pending: dict[int, _Pair] = {}
        self._hosts: dict[tuple[str, int], bytes] = {}
        self._count = 0
        self._error = ""
        self._buffer = bytearray()
        self._file = _create(self.path, overwrite)
        self._begin(title)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._finish()

    def opened(
        self, connection: int, client: str, server: str, server_port: int, now: float | None = None
    ) -> None:
        """Begin a connection, under a number of the caller's that no open one has.

        ``client`` and ``server`` are IP addresses, or names of any kind: then addresses are made
        up, and the names stand in the file beside them. Without ``now`` the handshake takes the
        time of what comes next.
        """
        if connection in self._pending or connection in self._connections:
            self.closed(connection, 0.0 if now is None else now)
        self._pending[connection] = self._make(client, server, server_port)
        if now is not None:
            self._connection(connection, now)

    def sent(self, connection: int, data: bytes, now: float, *, secret: bool = False) -> None:
        """Record what the client sent; of what is ``secret`` only the length."""
        pair = self._connection(connection, now)
        if pair:
            self._data(pair.client, pair.server, bytes(len(data)) if secret else data, now)

    def received(self, connection: int, data: bytes, now: float, *, secret: bool = False) -> None:
        """Record what the client received; of what is ``secret`` only the length."""
        pair = self._connection(connection, now)
        if pair:
            self._data(pair.server, pair.client, bytes(len(data)) if secret else data, now)

    def closed(self, connection: int, now: float) -> None:
        """End a connection; one that isn't there is nobody's fault."""
        pair = self._connection(connection, now)
        self._connections.pop(connection, None)
        if pair:
            client, server, _ = pair
            self._packet(client, server, _FIN | _ACK, b"", now)
            self._packet(server, client, _FIN | _ACK, b"", now)
            self._packet(client, server, _ACK, b"", now)

    def flush(self) -> None:
        """Write what is buffered."""
        data, self._buffer = self._buffer, bytearray()
        view = memoryview(data)
        try:
            while view and not self._error:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            self._error = f"the capture {self.path} is incomplete: {error.strerror}"

    def close(self) -> None:
        """Write everything and close the file; may be called again.

        Raises `LocalError` when not everything could be written.
        """
        if self._file >= 0:
            self._finish()
            if self._error:
                raise LocalError(self._error)

    def _finish(self) -> None:
        if self._file >= 0:
            self.flush()
            os.close(self._file)
            self._file = -1

    def _make(self, client: str, server: str, port: int) -> _Pair:
        number = self._count
        self._count += 1
        own, other = _packed(client), _packed(server)
        if own and other and len(own) != len(other):
            own = other = None
        size = len(own or other or bytes(4))
        names = [name for known, name in ((own, client), (other, server)) if not known and name]
        port = port if 0 < port < 1 << 16 else 5900
        client_port = _FIRST_PORT + number % _PORTS
        return _Pair(
            _Side(own or self._host(client, size), client_port, 1 << 28, _CLIENT_STEPS),
            _Side(other or self._host(server, size), port, 1 << 29, _SERVER_STEPS),
            ", ".join(names),
        )

    def _host(self, name: str, size: int) -> bytes:
        """Make up an address of a range that is for tests (RFC 2544, 5180), and note its name."""
        address = self._hosts.get((name, size))
        if address is None:
            low = (len(self._hosts) % 0xFFFF + 1).to_bytes(2, "big")
            prefix = b"\xc6\x12" if size == 4 else bytes.fromhex("2001000200000000000000000000")
            address = self._hosts[name, size] = prefix + low
            kind, text = (1 if size == 4 else 2), _text(name, 250).replace(b"\0", b"")
            if text:
                self._block(_NAMES, _option(kind, address + text + b"\0"), _u32(0), _u32(0))
        return address

    def _connection(self, connection: int, now: float) -> _Pair | None:
        """Return the two sides; before its first packet, its handshake is written."""
        pair = self._pending.pop(connection, None)
        if pair is None:
            return self._connections.get(connection)
        self._connections[connection] = pair
        client, server, names = pair
        comment = f"connection {connection}" + (f": {names}" if names else "")
        self._packet(client, server, _SYN, b"", now, comment)
        self._packet(server, client, _SYN | _ACK, b"", now)
        self._packet(client, server, _ACK, b"", now)
        return pair

    def _data(self, source: _Side, target: _Side, data: bytes, now: float) -> None:
        for part in source.cut(data) if data else ():
            for at in range(0, len(part), _SEGMENT):
                self._packet(source, target, _PSH | _ACK, part[at : at + _SEGMENT], now)

    def _packet(
        self,
        source: _Side,
        target: _Side,
        flags: int,
        data: bytes,
        now: float,
        comment: str = "",
    ) -> None:
        if self._error or self._file < 0:
            return
        frame = _frame(source, target, flags, data)
        stamp = max(0, int((now + self._offset) * _NANOSECONDS))
        head = _u32(0, stamp >> 32, stamp & 0xFFFFFFFF, len(frame), len(frame))
        options = _option(1, _text(comment, 2000)) + _u32(0) if comment else b""
        self._block(_PACKET, head, _padded(frame), options)
        source.sequence += len(data) + (1 if flags & (_SYN | _FIN) else 0)
        if len(self._buffer) > _BUFFER:
            self.flush()

    def _begin(self, title: str) -> None:
        comment = f"{title}\n{WARNING}" if title else WARNING
        options = _option(1, _text(comment, 2000)) + _option(4, b"aiospice")
        unknown_length = b"\xff" * 8
        self._block(_SECTION, _u32(0x1A2B3C4D, 0x00000001) + unknown_length, options, _u32(0))
        resolution = _option(9, b"\x09")
        self._block(_INTERFACE, _u32(1, 0), _option(2, b"spice"), resolution, _u32(0))

    def _block(self, kind: int, *parts: bytes) -> None:
        size = 12 + sum(map(len, parts))
        self._buffer += b"".join((_u32(kind, size), *parts, _u32(size)))


def _create(path: str, overwrite: bool) -> int:
    """Open a plain file of ours for writing, which nobody else can read."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        file = os.open(path, flags | (0 if overwrite else os.O_EXCL), 0o600)
    except FileExistsError:
        raise LocalError(f"the capture {path} exists already; remove it or give another") from None
    except OSError as error:
        raise LocalError(f"the capture {path} can't be created: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise LocalError(f"the capture {path} can't be created: it isn't a plain file")
        os.fchmod(file, 0o600)
        os.ftruncate(file, 0)
    except OSError as error:
        os.close(file)
        raise LocalError(f"the capture {path} can't be created: {error.strerror}") from None
    except LocalError:
        os.close(file)
        raise
    return file


def _packed(address: str) -> bytes | None:
    """Return an IP address as bytes, None for a name."""
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, address.partition("%")[0])
        except (OSError, ValueError):  # ValueError: NUL or surrogates in it
            continue
    return None


def _frame(source: _Side, target: _Side, flags: int, data: bytes) -> bytes:
    """Put bytes into TCP, IP and Ethernet, with checksums."""
    options = _WINDOW_SCALE if flags & _SYN else b""
    acknowledged = target.sequence & 0xFFFFFFFF if flags & _ACK else 0
    head = b"".join(
        (
            source.port.to_bytes(2, "big"),
            target.port.to_bytes(2, "big"),
            (source.sequence & 0xFFFFFFFF).to_bytes(4, "big"),
            acknowledged.to_bytes(4, "big"),
            bytes(((20 + len(options)) << 2, flags)),
            b"\xff\xff\0\0\0\0",
            options,
        )
    )
    length = len(head) + len(data)
    ends = source.address + target.address
    check = _checksum(b"".join((ends, length.to_bytes(4, "big"), b"\0\0\0\6", head, data)))
    head = head[:16] + check + head[18:]
    if len(source.address) == 16:
        network = b"\x60\0\0\0" + length.to_bytes(2, "big") + b"\x06\x40" + ends
        return b"".join((_ETHERNET, b"\x86\xdd", network, head, data))
    network = b"\x45\0" + (20 + length).to_bytes(2, "big") + b"\0\0\x40\0\x40\x06\0\0" + ends
    network = network[:10] + _checksum(network) + network[12:]
    return b"".join((_ETHERNET, b"\x08\0", network, head, data))


#: So that no receive window seems full.
_WINDOW_SCALE = b"\1\3\3\x0e"
#: Locally administered addresses.
_ETHERNET = bytes.fromhex("020000000002020000000001")


def _checksum(data: bytes) -> bytes:
    """Return the checksum of the internet (RFC 1071): a sum modulo 0xffff of 16-bit words."""
    if len(data) & 1:
        data += b"\0"
    total = int.from_bytes(data, "big") % 0xFFFF
    return (0xFFFF - (total or 0xFFFF)).to_bytes(2, "big")


def _text(text: str, limit: int) -> bytes:
    return text[:limit].encode("utf-8", "replace")[:limit]


def _u32(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


def _option(code: int, value: bytes) -> bytes:
    head = code.to_bytes(2, "little") + len(value).to_bytes(2, "little")
    return head + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
