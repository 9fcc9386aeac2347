"""The images that a client keeps, told to the next server together with a display's record.

A record as upstream has it says nothing of them, so the target has the client forget them all.
Between two servers of ours that have a link, 12 bytes an image save what sending it again costs.
The record is put behind a head, and the list behind the record::

    "AIOX"  u32 size of the record  record  (u64 number, u32 pixels)...

with the image that was used last at the end. Only what has come over the link, or sealed, is read.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from aiospice.errors import DecodeError
from aiospice.server.kept import MAX_IMAGES

if TYPE_CHECKING:
    from aiospice.server.kept import ImageCache

__all__ = ["LISTED", "LIST_MORE", "list_kept", "split_kept"]

_HEAD = Struct("<4sI")
_IMAGE = Struct("<QI")
_MAGIC = b"AIOX"
#: Images that are listed in a record that a client carries; over the link all are.
LISTED = 512
#: Bytes that such a record has more than upstream's.
LIST_MORE = _HEAD.size + LISTED * _IMAGE.size


def list_kept(record: bytes, images: ImageCache, most: int = MAX_IMAGES) -> bytes:
    """A display's record and the ``most`` images that its client has used last."""
    kept = images.kept()[-most:]
    return b"".join(
        (_HEAD.pack(_MAGIC, len(record)), record, *(_IMAGE.pack(*each) for each in kept))
    )


def split_kept(data: bytes) -> tuple[bytes, tuple[tuple[int, int], ...] | None]:
    """The record, and the images (number, pixels); None without a list. `DecodeError`."""
    if data[:4] != _MAGIC:
        return data, None
    if len(data) < _HEAD.size:
        raise DecodeError("ends in the head of a list of images", offset=len(data))
    size = _HEAD.unpack_from(data)[1]
    rest = len(data) - _HEAD.size - size
    if rest < 0 or rest % _IMAGE.size or rest > MAX_IMAGES * _IMAGE.size:
        text = f"a record of {size} bytes and its images in {len(data)}"
        raise DecodeError(text, field="size", offset=4)
    start = _HEAD.size + size
    images = tuple(_IMAGE.iter_unpack(data[start:]))
    if len({id for id, _ in images}) < len(images):
        raise DecodeError("an image is listed twice", field="number", offset=start)
    return data[_HEAD.size : start], images
