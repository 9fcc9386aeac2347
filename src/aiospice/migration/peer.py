"""What the two servers of a hand-over tell each other: the messages of the link between them.

Plain data, declared once; how they are put into bytes is the link's business. ``client`` is the
connection id of a session, ``channel`` is (type, id) as the source numbers it.

::

    S: Hello        D: Hello          each other's version and key
    S: Propose      D: Agree/Refuse   who comes, with which devices, how
    S: Piece...                       the guest's state while it still runs
    S: Stopped      D: Ready/Refuse   the rest of it
    S: Go           D: Running        from here the guest is the target's
    S: Record, Late, LateEnd        D: Arrived, Missed

An order of `Cancel` undoes everything before `Go`. `Ask` is for a link that broke between `Go`
and `Running`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "VERSION",
    "Agree",
    "Arrived",
    "Ask",
    "Cancel",
    "Expected",
    "Go",
    "Hello",
    "Late",
    "LateEnd",
    "Missed",
    "PeerMessage",
    "Piece",
    "Propose",
    "Ready",
    "Record",
    "Refuse",
    "Running",
    "Stopped",
]

#: Of the link; a change that an older server wouldn't understand makes it one more.
VERSION = 2

Channel = tuple[int, int]


@dataclass(frozen=True, slots=True)
class PeerMessage:
    """The base of all of them."""


@dataclass(frozen=True, slots=True)
class Hello(PeerMessage):
    """The first message of each side. ``key``: an X25519 public key, 32 bytes; ``nonce``: 16."""

    version: int
    key: bytes
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Expected:
    """A session that comes: its connection id, and the ticket it will show, None for none."""

    client: int
    ticket: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Propose(PeerMessage):
    """What the source wants to move. ``devices``: (type, id, name) of each device channel."""

    migration: str
    policy: str
    guest: str
    clients: tuple[Expected, ...]
    devices: tuple[tuple[int, int, str], ...]
    displays: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Agree(PeerMessage):
    """Where clients are to go, port 0 for none; ``channels``: source's channel, target's."""

    host: str
    port: int
    tls_port: int
    cert_subject: str
    channels: tuple[tuple[Channel, Channel], ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse(PeerMessage):
    """It can't be: why, for people. Ends the migration, if the guest isn't the target's yet."""

    text: str


@dataclass(frozen=True, slots=True)
class Piece(PeerMessage):
    """Part of the guest's state, sent while it runs; a later one of that name replaces it.

    ``size``: 0 for data as it is, else its bytes before they were packed, by LZ4 as one block.
    """

    name: str
    data: bytes
    size: int = 0


@dataclass(frozen=True, slots=True)
class Stopped(PeerMessage):
    """The guest stands still; the rest of its state."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ready(PeerMessage):
    """The target has all of it, and waits for `Go`."""


@dataclass(frozen=True, slots=True)
class Go(PeerMessage):
    """The guest is the target's from here on."""


@dataclass(frozen=True, slots=True)
class Running(PeerMessage):
    """It runs there."""

    migration: str


@dataclass(frozen=True, slots=True)
class Cancel(PeerMessage):
    """The guest stays."""

    text: str


@dataclass(frozen=True, slots=True)
class Ask(PeerMessage):
    """Instead of `Propose`: what has become of a migration; `Running` or `Refuse` is the answer."""

    migration: str


@dataclass(frozen=True, slots=True)
class Record(PeerMessage):
    """The state of a channel of a session, as MIGRATE_DATA would carry it."""

    client: int
    channel: Channel
    data: bytes


@dataclass(frozen=True, slots=True)
class Late(PeerMessage):
    """A message that the client sent to the source after the record was made."""

    client: int
    channel: Channel
    number: int
    body: bytes


@dataclass(frozen=True, slots=True)
class LateEnd(PeerMessage):
    """Nothing more comes late on that channel; ``whole``: its client has said so itself."""

    client: int
    channel: Channel
    whole: bool


@dataclass(frozen=True, slots=True)
class Arrived(PeerMessage):
    """A session is at the target; ``whole``: nothing of it had to begin anew."""

    client: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Missed(PeerMessage):
    """A session hasn't come, or was ended: why, for people."""

    client: int
    text: str
