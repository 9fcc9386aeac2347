"""What a capture on the client's side tells of a hand-over.

A message of the target counts from the moment that the client can handle it: when it is there, and
the channel has changed over (its MIGRATE is there, or the record, if the flags announce one). Times
are seconds since 1970. Numbers of messages: spice-protocol ``spice/enums.h``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from aiospice.errors import LocalError

if TYPE_CHECKING:
    from aiospice.proof.pcap import Connection, Message

__all__ = [
    "Handed",
    "first_drawing",
    "records_size",
    "seen_at",
    "silence",
    "told_by",
    "trips_to_draw",
    "until_heard",
]

_MIGRATE, _MIGRATE_DATA, _FLUSH_MARK = 1, 2, 4
_NEED_DATA = 2
_PORT_DATA = 101
#: COPY_BITS, STREAM_DATA, STREAM_DATA_SIZED, and the DRAW messages.
_DRAWS = frozenset((104, 123, 316, *range(302, 316), 318))
_DISPLAY, _PORT = 2, 10


class Handed(NamedTuple):
    """A message of a channel, when the client could handle it, and whether the target sent it."""

    at: float
    message: Message
    target: bool


def _changed_over(source: Connection) -> tuple[float, float]:
    """When MIGRATE was there, and when the channel could be read at the target."""
    told = source.find("server", _MIGRATE)
    if told is None:
        raise LocalError(f"channel {source.channel_type} was never told to migrate")
    flags = int.from_bytes(told.body[:4], "little")
    if not flags & _NEED_DATA:
        return told.last, told.last
    record = source.find("server", _MIGRATE_DATA)
    if record is None:
        raise LocalError(f"channel {source.channel_type} never got its record")
    return told.last, record.last


def _both(connections: list[Connection], kind: int, number: int) -> tuple[Connection, Connection]:
    found = [each for each in connections if (each.channel_type, each.channel_id) == (kind, number)]
    if len(found) != 2:
        raise LocalError(f"channel {kind}:{number} has {len(found)} connections instead of 2")
    source, target = sorted(found, key=lambda each: each.tcp.opened)
    return source, target


def seen_at(connections: list[Connection], kind: int, number: int) -> list[Handed]:
    """What the servers sent on a channel, in the order in which the client handles it."""
    source, target = _both(connections, kind, number)
    told, changed = _changed_over(source)
    found = [Handed(m.last, m, False) for m in source.sent_by("server") if m.last <= told]
    return found + [Handed(max(m.last, changed), m, True) for m in target.sent_by("server")]


def told_by(connections: list[Connection]) -> float:
    """When the first MIGRATE of any channel was at the client."""
    times = [
        found.last for each in connections if (found := each.find("server", _MIGRATE)) is not None
    ]
    if not times:
        raise LocalError("no channel was told to migrate")
    return min(times)


def first_drawing(connections: list[Connection], number: int = 0) -> float:
    """When the client had the first drawing of the target on a display."""
    for handed in seen_at(connections, _DISPLAY, number):
        if handed.target and handed.message.type in _DRAWS:
            return handed.at
    raise LocalError(f"the target has drawn nothing on display {number}")


def trips_to_draw(connections: list[Connection], number: int = 0) -> int:
    """How many one-way trips follow one another until the target can draw on a display.

    MIGRATE alone is one; a record that the client carries makes two more (there, and the drawing
    back), and the mark that its source waited for another two.
    """
    source, _ = _both(connections, _DISPLAY, number)
    told, changed = _changed_over(source)
    if source.find("server", _MIGRATE_DATA) is None:
        return 1
    mark = source.find("client", _FLUSH_MARK, after=told)
    return 5 if mark is not None and mark.first <= changed else 3


def silence(connections: list[Connection], number: int, stopped: float) -> tuple[float, bytes]:
    """The longest silence of a port around the move, in seconds, and all that it brought."""
    data = [each for each in seen_at(connections, _PORT, number) if each.message.type == _PORT_DATA]
    first = next((each.at for each in data if each.target), None)
    if first is None:
        raise LocalError(f"port {number} brought nothing from the target")
    around = [(a.at, b.at) for a, b in pairwise(data) if b.at > stopped and a.at < first + 0.2]
    return max(b - a for a, b in around), b"".join(each.message.body for each in data)


def until_heard(connections: list[Connection], number: int, stopped: float) -> float:
    """Seconds from the guest's standstill until a port brings something from the target.

    Unlike `silence` it doesn't depend on where the stop fell between two words of the guest.
    """
    for handed in seen_at(connections, _PORT, number):
        if handed.target and handed.message.type == _PORT_DATA:
            return handed.at - stopped
    raise LocalError(f"port {number} brought nothing from the target")


def records_size(connections: list[Connection]) -> int:
    """Bytes of all records that the client carried."""
    return sum(
        len(message.body)
        for each in connections
        for message in each.sent_by("server")
        if message.type == _MIGRATE_DATA
    )
