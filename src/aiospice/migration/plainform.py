"""Plain values as bytes: what a guest remembers, on its way to another server.

None, bool, int, float, str, bytes (bytearray becomes bytes), list, tuple, dict and NumPy arrays,
nested up to `DEPTH`. MessagePack, with extensions for what it doesn't have: 1 a tuple, 2 an array
(type, shape, bytes), 3 a dict (keys and values in turn), 4 an integer of more than 64 bits.
Whatever bytes come, reading gives such values or a `RemoteProtocolError`, and makes nothing that is
larger than what has come.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from aiospice.errors import LocalError, RemoteProtocolError

__all__ = ["DEPTH", "decode_plain", "encode_plain"]

#: Values inside values.
DEPTH = 32
_TUPLE, _ARRAY, _DICT, _NUMBER = 1, 2, 3, 4
#: Types of arrays: truth values, integers, floats, complex numbers; no Python objects.
_TYPE = re.compile(r"[<>|][biufc](1|2|4|8|16)")
_DIMENSIONS = 32
_SIDE = 1 << 40
_NUMBER_BYTES = 1 << 16

_pack = msgspec.msgpack.encode


def encode_plain(value: Any, what: str = "the value") -> bytes:
    """The bytes of a plain value. Raises `LocalError` that names what isn't plain, and where."""
    try:
        return _pack(_lower(value, what, DEPTH))
    except UnicodeEncodeError:
        raise LocalError(f"{what} has a text that UTF-8 can't express") from None


def _lower(value: Any, where: str, depth: int) -> Any:
    """The value in types that MessagePack has, or extensions of ours."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, int):
        return _number(int(value))
    if not depth:
        raise LocalError(f"{where}: values are nested deeper than {DEPTH}")
    if isinstance(value, list):
        return [_lower(one, f"{where}[{n}]", depth - 1) for n, one in enumerate(value)]
    if isinstance(value, tuple):
        parts = [_lower(one, f"{where}[{n}]", depth - 1) for n, one in enumerate(value)]
        return msgspec.msgpack.Ext(_TUPLE, _pack(parts))
    if isinstance(value, dict):
        return _table(value, where, depth)
    return _array(value, where)


def _number(value: int) -> Any:
    if -(1 << 63) <= value < 1 << 64:
        return value
    size = value.bit_length() // 8 + 1
    if size > _NUMBER_BYTES:
        raise LocalError(f"an integer of {size} bytes")
    return msgspec.msgpack.Ext(_NUMBER, value.to_bytes(size, "little", signed=True))


def _table(value: dict[Any, Any], where: str, depth: int) -> Any:
    flat: list[Any] = []
    for key, one in value.items():
        flat.append(_lower(key, f"a key of {where}", depth - 1))
        flat.append(_lower(one, f"{where}[{key!r:.40}]", depth - 1))
    return msgspec.msgpack.Ext(_DICT, _pack(flat))


def _array(value: Any, where: str) -> Any:
    kind = getattr(value, "dtype", None)
    if kind is None or not hasattr(value, "tobytes"):
        raise LocalError(
            f"{where} is a {type(value).__name__}: only None, numbers, texts, bytes, lists, "
            "tuples, dicts and NumPy arrays can move to another server"
        )
    if not _TYPE.fullmatch(kind.str):
        raise LocalError(f"{where} is an array of {kind}, which can't move to another server")
    content = [kind.str, list(value.shape), value.tobytes()]
    return msgspec.msgpack.Ext(_ARRAY, _pack(content))


def decode_plain(data: bytes | memoryview) -> Any:
    """The value of `encode_plain`'s bytes. Raises `RemoteProtocolError`."""
    try:
        found = _Decoder(DEPTH + 1).decode(data)
        _check(found)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(str(error), message="peer state") from None
    except (RecursionError, TypeError, ValueError, OverflowError, MemoryError) as error:
        text = f"no plain value: {type(error).__name__}: {error}"
        raise RemoteProtocolError(text, message="peer state") from None
    return found


def _check(value: Any) -> None:
    """MessagePack has an extension of its own that becomes another type: a date."""
    if isinstance(value, (list, tuple)):
        for one in value:
            _check(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            _check(key)
            _check(one)
    elif type(value).__module__ == "datetime":
        raise RemoteProtocolError("a date", message="peer state")


class _Decoder:
    """Reads one level, and makes decoders for the levels in its extensions."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(ext_hook=self._extend)

    def decode(self, data: bytes | memoryview) -> Any:
        if not self.depth:
            raise RemoteProtocolError(f"nested deeper than {DEPTH}", message="peer state")
        return self._decoder.decode(data)

    def _inner(self, data: memoryview) -> list[Any]:
        found = _Decoder(self.depth - 1).decode(data)
        if not isinstance(found, list):
            raise RemoteProtocolError("an extension that holds no list", message="peer state")
        return found

    def _extend(self, code: int, data: memoryview) -> Any:
        if code == _TUPLE:
            return tuple(self._inner(data))
        if code == _DICT:
            flat = self._inner(data)
            if len(flat) % 2:
                raise RemoteProtocolError("a key without a value", message="peer state")
            return dict(zip(flat[::2], flat[1::2], strict=True))
        if code == _ARRAY:
            return _lift_array(self._inner(data))
        if code == _NUMBER and len(data) <= _NUMBER_BYTES:
            return int.from_bytes(data, "little", signed=True)
        raise RemoteProtocolError(f"an extension {code}", message="peer state")


def _lift_array(content: list[Any]) -> Any:
    import numpy as np

    if len(content) != 3:
        raise RemoteProtocolError("an array of other than 3 parts", message="peer state")
    kind, shape, data = content
    usable = isinstance(kind, str) and _TYPE.fullmatch(kind) and isinstance(data, bytes)
    if not usable or not isinstance(shape, list) or len(shape) > _DIMENSIONS:
        raise RemoteProtocolError("an array that can't be one", message="peer state")
    size = np.dtype(kind).itemsize
    for side in shape:
        if type(side) is not int or not 0 <= side <= _SIDE:
            raise RemoteProtocolError(f"an array of the side {side!r:.40}", message="peer state")
        size *= side
    if size != len(data):
        raise RemoteProtocolError(f"an array of {len(data)} bytes for {size}", message="peer state")
    return np.frombuffer(data, kind).reshape(shape).copy()
