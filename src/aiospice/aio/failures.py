"""What the system says of connections, in words that tell what to try."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from aiospice.errors import ConnectError

if TYPE_CHECKING:
    from aiospice.effects import Endpoint

__all__ = ["HINTS_LOST", "explained", "way"]

#: What a broken connection most likely means, by `errno`.
HINTS_LOST = {
    errno.ECONNRESET: " (the server went away, or refused what it was sent)",
    errno.EPIPE: " (the server went away)",
    errno.ETIMEDOUT: " (the server no longer answers)",
}
_HINTS = {
    errno.ECONNREFUSED: "nothing listens there; is the server running, and is the port right?",
    errno.EHOSTUNREACH: "there is no way to this host; is it up, is the network?",
    errno.ENETUNREACH: "there is no route to this network; is this machine's network up?",
    errno.ETIMEDOUT: "the host doesn't answer; is it up, is a firewall in between?",
    errno.ECONNRESET: "the other side dropped the connection; is this a SPICE port?",
    errno.ENOENT: "there is no such socket; is the server running?",
    errno.EACCES: "this user may not connect there",
    errno.EPERM: "this user may not connect there",
    errno.EMFILE: "this process has too many files open; see ulimit -n",
}


def way(endpoint: Endpoint) -> str:
    """The address, and the proxy that the way there leads by."""
    if not endpoint.proxy:
        return str(endpoint)
    from aiospice.aio.proxy import parse_proxy

    return f"{endpoint}, by proxy {parse_proxy(endpoint.proxy)}"


def explained(error: OSError, endpoint: Endpoint) -> ConnectError:
    """Why a connection could not be opened."""
    where = way(endpoint)
    host = endpoint.host
    if endpoint.proxy:
        from aiospice.aio.proxy import parse_proxy

        host = parse_proxy(endpoint.proxy).host
    if isinstance(error, socket.gaierror):
        return ConnectError(
            f"{where}: the name {host!r} isn't known ({error.strerror}); is it spelled right?"
        )
    hint = _HINTS.get(error.errno or 0, "")
    # asyncio puts the address, which is in `where`, in the place of the system's words.
    text = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    return ConnectError(f"{where}: {text}{': ' if hint else ''}{hint}")
