"""The agent's protocol, both ends: the first byte of an input chooses the end and how it is read.

An input is messages, each a byte of type, a byte of size and so many of body; or a stream as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiospice.agent.client import ClientAgent
from aiospice.agent.files import pack_announcement
from aiospice.agent.guest import GuestAgent
from aiospice.errors import StateError
from aiospice.wire.agent import (
    AgentMessage,
    AnnounceCapabilities,
    Clipboard,
    ClipboardGrab,
    ClipboardRequest,
    FileXferData,
    FileXferStart,
    FileXferStatus,
    mask,
)
from aiospice.wire.agent_stream import pack_chunk, pack_message

#: What the other end can do, so that clipboards have every field.
ALL = AnnounceCapabilities(request=1, caps=(0x3FFFF & ~(1 << 13),))
LAYOUT = mask(ALL.caps)


def seeds() -> Iterator[bytes]:
    """The messages that matter, to both ends."""
    messages: tuple[AgentMessage, ...] = (
        ClipboardGrab(layout=LAYOUT, serial=0, types=(1, 2)),
        ClipboardRequest(layout=LAYOUT, type=1),
        Clipboard(layout=LAYOUT, type=1, data=b"text"),
        FileXferStart(id=1, data=pack_announcement("name", 4)),
        FileXferData(id=1, data=b"data"),
        FileXferStatus(id=1, result=0, data=b""),
    )
    joined = b"".join(bytes((m.number, len(m.body()))) + m.body() for m in messages)
    stream = b"".join(pack_message(m.number, m.body()) for m in messages)
    for end in (0, 1):
        yield bytes((end,)) + joined
        yield bytes((end | 2,)) + stream


def _stream(data: bytes) -> bytes:
    if data[0] & 2:
        return data[1:]
    parts, at = [], 1
    while at + 2 <= len(data):
        number, size = data[at : at + 2]
        parts.append(pack_message(number, data[at + 2 : at + 2 + size]))
        at += 2 + size
    return b"".join(parts)


def _client(stream: bytes) -> None:
    agent = ClientAgent()
    agent.clipboards.grab({"text": b"mine", "png": None})
    agent.connected()
    agent.receive(pack_message(ALL.number, ALL.body()), 0.0)
    transfer = agent.send_file("name", 4, 0.0)
    try:
        agent.request()
    except StateError:
        pass
    for start in range(0, len(stream), 100):
        agent.receive(stream[start : start + 100], 0.0)
        agent.events()
        if agent.transfers.wanted(transfer):
            agent.transfers.feed(transfer, b"data", 0.0)
        for _ in range(3):
            agent.pop(0.0)
    agent.wake(100.0)


def _guest(stream: bytes) -> None:
    agent = GuestAgent()
    agent.receive(pack_chunk(1, pack_message(ALL.number, ALL.body())))
    agent.clipboards.grab({"text": b"mine", "png": None})
    for start in range(0, len(stream), 100):
        agent.receive(pack_chunk(1 + (start // 100) % 7 // 6, stream[start : start + 100]))
        for event in agent.events():
            if event.kind == "file-offered":
                agent.accept_file(event.as_dict()["number"])
            elif event.kind == "file-came":
                agent.finish_file(event.as_dict()["number"])
        agent.take(50)


def one(data: bytes) -> None:
    """Feed it: nothing may come out but events."""
    if data:
        (_guest if data[0] & 1 else _client)(_stream(data))
