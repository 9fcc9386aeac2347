"""The bytes of the link between two servers: frames, each with one of the messages of `peer`.

A frame is a length of 32 bits (little endian, of what follows it), a byte that says which message,
and the message as MessagePack, a map of its fields. Reading is strict: a field of another type, one
that is missing, or a length above the message's limit is a `RemoteProtocolError`, and no more is
kept than the frame that is being read.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aiospice.errors import LocalError, RemoteProtocolError
from aiospice.migration import peer
from aiospice.migration.peer import PeerMessage

__all__ = ["LIMITS", "PIECE_BYTES", "PeerReader", "encode_peer"]

#: Bytes of a `Piece`, and of what `Stopped` may carry: larger states go in several pieces.
PIECE_BYTES = 4 << 20
_SMALL, _LARGE = 1 << 20, 64 << 20

#: Every message by its number on the wire.
_KINDS: tuple[type[PeerMessage], ...] = (
    peer.Hello,
    peer.Propose,
    peer.Agree,
    peer.Refuse,
    peer.Piece,
    peer.Stopped,
    peer.Ready,
    peer.Go,
    peer.Running,
    peer.Cancel,
    peer.Ask,
    peer.Record,
    peer.Late,
    peer.LateEnd,
    peer.Arrived,
    peer.Missed,
)
_NUMBERS = {kind: number for number, kind in enumerate(_KINDS, 1)}
#: The most bytes of a frame's content, where it isn't 64 KiB.
LIMITS: dict[type[PeerMessage], int] = {
    peer.Propose: _SMALL,
    peer.Agree: _SMALL,
    peer.Piece: PIECE_BYTES + 4096,
    peer.Stopped: PIECE_BYTES + 4096,
    peer.Record: _LARGE,
    peer.Late: _LARGE,
}
_LIMIT = 64 << 10
_HEADER = 5
#: Of fields that have a fixed size.
_SIZES = {"key": 32, "nonce": 16}

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type[PeerMessage], msgspec.msgpack.Decoder[Any]] = {}


def encode_peer(message: PeerMessage) -> bytes:
    """The frame of a message. Raises `LocalError` for one above its limit."""
    kind = type(message)
    body = _encoder.encode(message)
    if len(body) > LIMITS.get(kind, _LIMIT):
        raise LocalError(f"{kind.__name__} of {len(body)} bytes is more than the link takes")
    return (len(body) + 1).to_bytes(4, "little") + bytes((_NUMBERS[kind],)) + body


def _decode(kind: type[PeerMessage], body: bytes) -> PeerMessage:
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind, strict=True)
    try:
        message: PeerMessage = decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(str(error), message=f"peer {kind.__name__}") from None
    for name, size in _SIZES.items():
        value = getattr(message, name, None)
        if value is not None and len(value) != size:
            raise RemoteProtocolError(
                f"{name} of {len(value)} bytes, expected {size}", message=f"peer {kind.__name__}"
            )
    return message


class PeerReader:
    """Cuts bytes into messages. Plain data."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._wanted = _HEADER
        self.broken = False

    def receive(self, data: bytes) -> list[PeerMessage]:
        """Messages that are whole by now. `RemoteProtocolError` for what can't be one."""
        if self.broken:
            return []
        found: list[PeerMessage] = []
        self._waiting += data
        try:
            while len(self._waiting) >= self._wanted:
                message = self._next()
                if message is not None:
                    found.append(message)
        except RemoteProtocolError:
            self.broken = True
            self._waiting.clear()
            raise
        return found

    def _next(self) -> PeerMessage | None:
        size = int.from_bytes(self._waiting[:4], "little")
        number = self._waiting[4]
        if not 1 <= number <= len(_KINDS):
            raise RemoteProtocolError(f"a message of the kind {number}", message="peer")
        kind = _KINDS[number - 1]
        if not 1 <= size <= LIMITS.get(kind, _LIMIT) + 1:
            raise RemoteProtocolError(f"{size} bytes", message=f"peer {kind.__name__}")
        end = 4 + size
        if len(self._waiting) < end:
            self._wanted = end
            return None
        body = bytes(self._waiting[_HEADER:end])
        del self._waiting[:end]
        self._wanted = _HEADER
        return _decode(kind, body)
