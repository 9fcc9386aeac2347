"""A link between servers whose line is dead comes to its end at both, in time."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from aiospice.aio.peerlink import DEAD_SECONDS, LinkTls, PeerListener, PeerStream, connect_peer
from aiospice.proof.certificates import make_certificates

if TYPE_CHECKING:
    from pathlib import Path


async def test_both_ends_look_whether_the_other_is_there(tmp_path: Path) -> None:
    """Found by cutting the line between two real servers: the target waited for ever, and let no
    other guest come."""
    made = make_certificates(tmp_path, names=("127.0.0.1",))
    tls = LinkTls(str(made.certificate_file), str(made.key_file), str(made.ca_file))
    came: asyncio.Queue[PeerStream] = asyncio.Queue()

    async def serve(stream: PeerStream) -> None:
        came.put_nowait(stream)

    listener = PeerListener("tls://127.0.0.1:0", tls, serve)
    await listener.start()
    here = await connect_peer(listener.address, tls)
    there = await asyncio.wait_for(came.get(), 10)
    for stream in (here, there):
        sock = stream._writer.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        limit = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert limit == DEAD_SECONDS * 1000
        stream.close()
    listener.close()
