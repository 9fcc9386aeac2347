"""What is set at a socket and asked of one, whoever it belongs to."""

from __future__ import annotations

import asyncio
import socket

__all__ = ["peer_text", "tune", "until_writable"]

_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


async def until_writable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Wait until a socket can be written to, or is connected."""
    ready = asyncio.Event()
    loop.add_writer(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(sock)


def tune(sock: socket.socket) -> None:
    """Send without delay; a peer that is gone is noticed within 90 s where nothing is under way."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        number = getattr(socket, option, None)
        if number is not None:
            sock.setsockopt(socket.IPPROTO_TCP, number, value)


def peer_text(peername: object) -> str:
    """An address as text, empty if it is none of TCP or UNIX sockets."""
    if isinstance(peername, tuple) and len(peername) >= 2:
        host = str(peername[0])
        return f"[{host}]:{peername[1]}" if ":" in host else f"{host}:{peername[1]}"
    return peername if isinstance(peername, str) else ""
