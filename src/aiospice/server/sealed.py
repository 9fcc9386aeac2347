"""Records that a client carries and can't read, change, swap or keep for later.

Where the two servers of a hand-over have a link of their own, they share a key that is made for
this one migration. The source seals each record with it (an AEAD), bound to the migration, to the
session, to the channel and to its place among the channel's records; the target takes no other.

======  =====  ==========================================
offset  size   what
======  =====  ==========================================
0       4      the letters ``AIOS``
4       1      version, 1
5       1      place: 0 for a channel's first record
6       12     nonce
18      n      the record, sealed, and 16 bytes of its tag
======  =====  ==========================================
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING

from aiospice.errors import DecodeError

if TYPE_CHECKING:
    from aiospice.link.server import ServerCrypto

__all__ = ["MAGIC", "SEALED_MORE", "Place", "is_sealed", "open_record", "seal_record"]

MAGIC = b"AIOS"
_VERSION = 1
_HEAD = Struct("<4sBB12s")
_NONCE = 12
_TAG = 16
#: Bytes that a sealed record has more than an open one.
SEALED_MORE = _HEAD.size + _TAG


@dataclass(frozen=True, slots=True)
class Place:
    """Where one record belongs: nothing else of it is believed."""

    migration: str
    client: int
    channel: tuple[int, int]
    position: int = 0

    def associated(self) -> bytes:
        """The bytes that are sealed with the record, and not sent."""
        numbers = (self.client, *self.channel, self.position, len(self.migration))
        words = b"".join(number.to_bytes(8, "little") for number in numbers)
        return b"aiospice record" + words + self.migration.encode()


def is_sealed(data: bytes) -> bool:
    """Whether that is (or claims to be) a sealed record."""
    return data[:4] == MAGIC


def seal_record(data: bytes, key: bytes, place: Place, crypto: ServerCrypto) -> bytes:
    """Seal a record for its place. ``key``: 32 bytes, of this migration alone."""
    nonce = crypto.random_bytes(_NONCE)
    head = _HEAD.pack(MAGIC, _VERSION, place.position, nonce)
    return head + crypto.seal(key, nonce, data, head[:6] + place.associated())


def open_record(data: bytes, key: bytes, place: Place, crypto: ServerCrypto) -> bytes:
    """The record of that place; `DecodeError` for anything that the source hasn't sealed for it."""
    if not is_sealed(data):
        raise DecodeError("the record isn't sealed, and a sealed one is due", offset=0)
    if len(data) < SEALED_MORE:
        raise DecodeError(f"a sealed record of {len(data)} bytes", offset=0)
    _, version, position, nonce = _HEAD.unpack_from(data)
    if version != _VERSION:
        raise DecodeError(f"version {version}, {_VERSION} is known", field="version", offset=4)
    if position != place.position:
        text = f"record {position} of its channel, {place.position} is due"
        raise DecodeError(text, field="position", offset=5)
    found = crypto.unseal(key, nonce, data[_HEAD.size :], data[:6] + place.associated())
    if found is None:
        raise DecodeError(
            "not what the source has sealed for this channel of this session and migration",
            offset=_HEAD.size,
        )
    return found
