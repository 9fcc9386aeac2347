"""The connection between the two servers of a hand-over: a UNIX socket, or TLS on both sides.

On a UNIX socket it is the target's control socket, upgraded by the command ``link``: the kernel
tells each side who the other is. Elsewhere both sides show certificates, and each takes only one
that its own authority (`LinkTls.ca`) has signed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple

from aiospice.aio.listen import bind, parse_listen, peer_user
from aiospice.aio.sockets import tune
from aiospice.errors import AddressError, CertificateError, ConnectError, LocalError
from aiospice.migration.peer_codec import PeerReader, encode_peer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiospice.migration.peer import PeerMessage

__all__ = ["LinkTls", "PeerListener", "PeerStream", "connect_peer"]

#: How long a connection may take to be made, and what is sent to be taken, in seconds.
CONNECT_SECONDS = 5.0
STALL_SECONDS = 30.0
#: After so long without an answer of the other kernel the link is lost.
DEAD_SECONDS = 90.0
#: Bytes that are read at once, and that wait to be taken before a sender waits.
READ_BYTES = 256 << 10
_SCHEME = "tls://"
_LINE = 64 << 10


def _no_passphrase() -> bytes:
    raise LocalError("its key has a passphrase, which can't be asked for here")


class LinkTls(NamedTuple):
    """What this server shows of itself on links by TLS, and whom it believes; PEM files."""

    certificate: str
    key: str | None
    ca: str

    def context(self, *, server: bool) -> ssl.SSLContext:
        """TLS 1.3 with certificates on both sides. Raises `LocalError` for files that can't be."""
        purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
        try:
            context = ssl.create_default_context(purpose, cafile=self.ca)
            context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
        except (OSError, ssl.SSLError) as error:
            text = error.strerror or str(error)
            raise LocalError(f"certificates of the link ({self.certificate}): {text}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        return context


class PeerStream:
    """Messages over a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        if sock is not None:
            _notice_ends(sock)
        self._reader = reader
        self._writer = writer
        self._messages = PeerReader()
        #: Bytes that were sent.
        self.sent = 0

    async def receive(self) -> list[PeerMessage] | None:
        """The next messages, maybe none yet; None at the end.

        Raises `RemoteProtocolError`, and `OSError` where the connection breaks.
        """
        data = await self._reader.read(READ_BYTES)
        return self._messages.receive(data) if data else None

    def write(self, *messages: PeerMessage) -> None:
        """Send messages, and don't wait. Raises `LocalError`."""
        for message in messages:
            data = encode_peer(message)
            self.sent += len(data)
            self._writer.write(data)

    async def send(self, *messages: PeerMessage) -> None:
        """Send messages, and wait until most of it is taken. Raises `OSError`, `LocalError`."""
        self.write(*messages)
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await self._writer.drain()
        except TimeoutError:
            raise OSError(f"it takes nothing for {STALL_SECONDS:g} s") from None

    def close(self) -> None:
        """Close it, once what was sent is taken."""
        self._writer.close()


def _notice_ends(sock: Any) -> None:
    """A line that is dead ends the link, whether anything is under way on it or not."""
    tune(sock)
    number = getattr(socket, "TCP_USER_TIMEOUT", None)
    if number is not None and sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, number, int(DEAD_SECONDS * 1000))


class PeerListener:
    """Takes links by TLS at ``tls://HOST:PORT``, from servers that show a certificate."""

    def __init__(
        self, address: str, tls: LinkTls, serve: Callable[[PeerStream], Awaitable[None]]
    ) -> None:
        if not address.startswith(_SCHEME):
            raise AddressError(f"{address!r}: links by network need TLS: tls://HOST:PORT")
        self._listen = parse_listen(address.removeprefix(_SCHEME), "spice+tls")
        self._context = tls.context(server=True)
        self._serve = serve
        self._servers: list[asyncio.Server] = []
        #: Where it listens, with the port that it has become.
        self.address = address

    async def start(self) -> None:
        """Begin to listen. Raises `AddressError` and `ConnectError`."""
        for sock in await bind(self._listen):
            server = await asyncio.start_server(
                self._connected,
                sock=sock,
                ssl=self._context,
                ssl_handshake_timeout=CONNECT_SECONDS,
                limit=READ_BYTES,
            )
            self._servers.append(server)
            host, port = sock.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            self.address = f"{_SCHEME}{shown}:{port}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._serve(PeerStream(reader, writer))

    def close(self) -> None:
        """Take no more."""
        for server in self._servers:
            server.close()


async def connect_peer(target: str, tls: LinkTls | None) -> PeerStream:
    """Connect to another server: the path of its control socket, or ``tls://HOST:PORT``.

    Raises `ConnectError`, `CertificateError`, `AddressError`, `LocalError`.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            if target.startswith(_SCHEME):
                return await _connect_tls(target, tls)
            return await _connect_unix(target)
    except TimeoutError:
        raise ConnectError(f"{target}: no connection within {CONNECT_SECONDS:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(f"{target}: {error.verify_message}") from None
    except OSError as error:
        raise ConnectError(f"{target}: {error.strerror or error}") from None


async def _connect_tls(target: str, tls: LinkTls | None) -> PeerStream:
    if tls is None:
        raise LocalError(
            f"{target}: this server has no certificate for links: start it with --migrate-cert, "
            "--migrate-key and --migrate-ca"
        )
    host, colon, port = target.removeprefix(_SCHEME).rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise AddressError(f"{target!r} is no address, expected tls://HOST:PORT")
    context = tls.context(server=False)
    reader, writer = await asyncio.open_connection(
        host, int(port), ssl=context, limit=READ_BYTES, server_hostname=host
    )
    return PeerStream(reader, writer)


async def _connect_unix(path: str) -> PeerStream:
    """Over the control socket; only a server of this user, or of root, is believed to be one."""
    reader, writer = await asyncio.open_unix_connection(path, limit=READ_BYTES)
    try:
        sock: socket.socket = writer.get_extra_info("socket")
        user = peer_user(sock)
        if user not in (-1, 0, os.geteuid()):
            raise ConnectError(f"{path}: the server there runs as another user ({user})")
        greeting = _said(await reader.readline())
        writer.write(b'{"do": "link"}\n')
        answer = _said(await reader.readline())
        if "control" not in greeting or not answer.get("ok"):
            text = str(answer.get("text") or "it closed the connection")[:200]
            raise ConnectError(f"{path}: no link to the server there: {text}")
    except BaseException as error:
        writer.close()
        if isinstance(error, ValueError):
            raise ConnectError(f"{path}: what answers there is no control socket") from None
        raise
    return PeerStream(reader, writer)


def _said(line: bytes) -> dict[str, object]:
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(line[:_LINE])
        if isinstance(found, dict):
            return found
    return {}
