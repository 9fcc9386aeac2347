"""Compressed data of usbredir, port and webdav channels, as both ends read it."""

from __future__ import annotations

from aiospice.errors import RemoteProtocolError
from aiospice.wire import vmc

__all__ = ["uncompress"]


def uncompress(message: vmc.CompressedData | vmc.ClientCompressedData) -> bytes:
    """The data of a message; `RemoteProtocolError` if it isn't what the message says.

    No more is allocated than the declaration lets through (`vmc.MAX_UNCOMPRESSED`).
    """
    name = type(message).__name__
    if message.type == vmc.Compression.NONE:
        return message.data
    if message.type != vmc.Compression.LZ4:
        raise RemoteProtocolError(f"compression {message.type} isn't known", message=name)
    from lz4.block import LZ4BlockError, decompress

    try:
        data: bytes = decompress(message.data, uncompressed_size=message.uncompressed_size)
    except (LZ4BlockError, ValueError, OverflowError) as error:
        raise RemoteProtocolError(f"bad LZ4 data: {error}", message=name) from None
    if len(data) != message.uncompressed_size:
        raise RemoteProtocolError(
            f"{len(data)} bytes, announced were {message.uncompressed_size}", message=name
        )
    return data
