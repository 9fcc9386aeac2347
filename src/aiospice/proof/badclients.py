"""``python -m aiospice.proof.badclients KIND PORT``: clients that a server has to bear.

``deaf`` opens a session with a display that changes, and reads none of it; ``slow`` has a link and
a session on which it sends a byte a second; ``flood`` presses a key as often as is taken;
``links`` opens 10,000 connections that don't get further than half a link, some of them with a
whole link message. Each prints ``ready`` once it does what it is there for, and goes on until it
gets a line, or the end, on standard input; then it says what it has done: a line of JSON.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import TYPE_CHECKING

from aiospice.aio.crypto import Crypto
from aiospice.link.client import LinkClient, LinkPhase
from aiospice.wire.display import Init
from aiospice.wire.header import pack_header
from aiospice.wire.inputs import KeyDown, KeyUp

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiospice.wire.message import Message

__all__ = ["KINDS", "open_channel", "open_session"]

LINKS = 10_000
#: Half links that are kept open at a time.
_AT_ONCE = 200
_INIT = 103
_DISPLAY = Init(
    pixmap_cache_id=1,
    pixmap_cache_size=1 << 20,
    glz_dictionary_id=1,
    glz_dictionary_window_size=1 << 20,
)


def _socket(source: str) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.settimeout(30)
    sock.bind((source, 0))
    return sock


def _link(key: tuple[int, int], session: int) -> LinkClient:
    link = LinkClient(
        connection_id=session, channel_type=key[0], channel_id=key[1], crypto=Crypto()
    )
    link.start()
    return link


def open_channel(
    port: int, key: tuple[int, int], session: int = 0, source: str = "127.0.0.2"
) -> tuple[socket.socket, bytes]:
    """A blocking socket on which a channel is open, and what came behind the link.

    `ConnectionError` when the server doesn't want it.
    """
    sock = _socket(source)
    sock.connect(("127.0.0.1", port))
    link = _link(key, session)
    while not link.finished:
        sock.sendall(link.take())
        if not link.finished:
            data = sock.recv(4096)
            if not data:
                raise ConnectionError(f"the server closed {key}")
            link.receive(data)
    if link.phase is not LinkPhase.DONE:
        raise ConnectionError(str(link.error))
    return sock, link.trailing


def open_session(port: int, source: str = "127.0.0.2") -> tuple[socket.socket, int]:
    """A main channel and the session's number; what the server says then is left unread."""
    sock, data = open_channel(port, (1, 0), source=source)
    while True:
        at = 0
        while len(data) >= at + 6:
            number = int.from_bytes(data[at : at + 2], "little")
            size = int.from_bytes(data[at + 2 : at + 6], "little")
            if number == _INIT and len(data) >= at + 10:
                return sock, int.from_bytes(data[at + 6 : at + 10], "little")
            at += 6 + size
        data += sock.recv(4096)


def _told() -> bool:
    """Whether somebody wants to hear what was done."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def _deaf(port: int, ready: Callable[[], None]) -> dict[str, int]:
    kept = []
    sock, session = open_session(port)
    kept.append(sock)
    for key in ((2, 0), (2, 1), (4, 1), (5, 0)):
        kept.append(open_channel(port, key, session)[0])
        if key[0] == 2:
            kept[-1].sendall(_message(_DISPLAY))
    ready()
    while not _told():
        time.sleep(0.05)
    return {"channels": len(kept)}


def _slow(port: int, ready: Callable[[], None]) -> dict[str, int]:
    half = _socket("127.0.0.3")
    half.connect(("127.0.0.1", port))
    hello = _link((1, 0), 0).take()
    _main, session = open_session(port, "127.0.0.3")
    inputs, _ = open_channel(port, (3, 0), session, "127.0.0.3")
    message = _input() * 100
    ready()
    sent = cut = 0
    while not _told():
        for sock, data in ((half, hello[sent : sent + 1]), (inputs, message[sent : sent + 1])):
            try:
                sock.sendall(data)
            except OSError:
                cut += 1
        sent += 1
        time.sleep(1)
    return {"bytes": sent, "refused": cut}


def _input() -> bytes:
    """The key A, pressed and let go."""
    return _message(KeyDown(code=0x1E)) + _message(KeyUp(code=0x9E))


def _message(message: Message) -> bytes:
    body = message.body()
    return pack_header(True, 0, message.number, len(body)) + body


def _flood(port: int, ready: Callable[[], None]) -> dict[str, int]:
    _main, session = open_session(port, "127.0.0.4")
    sock, _ = open_channel(port, (3, 0), session, "127.0.0.4")
    sock.setblocking(False)
    data, sent, cut = _input() * 2000, 0, 0
    ready()
    while not _told():
        can_read, can_write, _ = select.select([sock], [sock], [], 0.05)
        try:
            if can_read and not sock.recv(65536):
                cut, sock = 1, _socket("127.0.0.4")
            if can_write:
                sent += sock.send(data[sent % len(data) :])
        except OSError:
            cut = 1
            time.sleep(0.05)
    return {"bytes": sent, "refused": cut}


def _links(port: int, ready: Callable[[], None]) -> dict[str, int]:
    """10,000 connections from one address; a tenth of them say what channel they want."""
    hello = _link((1, 0), 0).take()
    kept: list[socket.socket] = []
    made = refused = 0
    ready()
    while not _told():
        if made >= LINKS:
            time.sleep(0.05)
            continue
        sock = _socket("127.0.0.5")
        try:
            sock.connect(("127.0.0.1", port))
            sock.sendall(hello if made % 10 == 0 else hello[:20])
        except OSError:
            refused += 1
        made += 1
        kept.append(sock)
        if len(kept) > _AT_ONCE:
            kept.pop(0).close()
        time.sleep(0.0005)
    return {"links": made, "refused": refused}


KINDS = {"deaf": _deaf, "slow": _slow, "flood": _flood, "links": _links}


def main(kind: str, port: int) -> None:
    """Do it until a line, or the end, comes on standard input."""
    done = KINDS[kind](port, lambda: print("ready", flush=True))
    print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
