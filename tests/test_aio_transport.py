"""The transport on real sockets, against real TLS, WebSocket and proxy servers."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import pathlib
import shutil
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.http11 import Request
from websockets.server import ServerProtocol

from aiospice.aio import transport as transport_module
from aiospice.aio.crypto import Crypto
from aiospice.aio.transport import Transport, open_transport
from aiospice.effects import Endpoint
from aiospice.errors import (
    AddressError,
    AiospiceError,
    CertificateError,
    ConnectError,
    MissingProgram,
    RemoteProtocolError,
    SpiceTimeout,
    StateError,
)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
BIG = bytes(range(256)) * 4096 * 16  # 16 MiB, more than loopback sockets take


class Recorder:
    """A handler that keeps what it is told, and fails on a call after the end."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.writable_calls = 0
        self.end: asyncio.Future[AiospiceError | None] = asyncio.Future()
        self.changed = asyncio.Event()

    def received(self, data: bytes) -> None:
        assert data
        assert not self.end.done()
        self.data += data
        self.changed.set()

    def writable(self) -> None:
        assert not self.end.done()
        self.writable_calls += 1
        self.changed.set()

    def closed(self, error: AiospiceError | None) -> None:
        self.end.set_result(error)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def finished(self) -> AiospiceError | None:
        async with asyncio.timeout(20):
            return await self.end


class Servers:
    """Servers that end with the test."""

    def __init__(self) -> None:
        self.stack = contextlib.AsyncExitStack()
        self.writers: list[asyncio.StreamWriter] = []

    async def start(
        self, serve: Serve, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> Endpoint:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.writers.append(writer)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await serve(reader, writer)

        server = await asyncio.start_server(run, host, 0, ssl=context)
        self.stack.callback(server.close)
        return Endpoint(host, server.sockets[0].getsockname()[1], tls=context is not None)

    async def websocket(self, context: ssl.SSLContext | None = None) -> Endpoint:
        async def run(connection: ServerConnection) -> None:
            async for message in connection:
                await connection.send(message)

        options: dict[str, Any] = {"ssl": context, "subprotocols": ["binary"], "max_size": None}
        made = serve_websocket(run, "127.0.0.1", 0, **options)
        server = await self.stack.enter_async_context(made)
        port = next(iter(server.sockets)).getsockname()[1]
        return Endpoint("127.0.0.1", port, tls=context is not None, websocket_path="/")

    async def proxy(self, login: bytes = b"") -> str:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await reader.readuntil(b"\r\n\r\n")
            if login and b"Proxy-Authorization: Basic " + login not in request:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                writer.close()
                return
            host, _, port = request.split()[1].decode().rpartition(":")
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(relay(reader, far_writer), relay(far_reader, writer))

        endpoint = await self.start(run)
        return f"{endpoint.host}:{endpoint.port}"


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await relay(reader, writer)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    made = Servers()
    async with made.stack:
        yield made
        for writer in made.writers:
            writer.transport.abort()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, bytes, bytes]:
    """A server's context, its certificate (for 127.0.0.1, its own CA), and both with the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(Encoding.PEM)
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(pem + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, pem, pem + private


async def opened(endpoint: Endpoint, timeout: float = 10) -> tuple[Transport, Recorder]:
    recorder = Recorder()
    return await open_transport(endpoint, recorder, timeout=timeout), recorder


@pytest.mark.parametrize("use_proxy", [False, True])
@pytest.mark.parametrize("use_websocket", [False, True])
@pytest.mark.parametrize("use_tls", [False, True])
async def test_bytes_go_both_ways_through_every_stack(
    servers: Servers,
    certificate: tuple[ssl.SSLContext, bytes, bytes],
    use_tls: bool,
    use_websocket: bool,
    use_proxy: bool,
) -> None:
    context = certificate[0] if use_tls else None
    if use_websocket:
        endpoint = await servers.websocket(context)
    else:
        endpoint = await servers.start(echo, context)
    if use_proxy:
        place = await servers.proxy(b"bWU6cHc=")
        endpoint = endpoint._replace(proxy=f"http://me:pw@{place}")
    transport, recorder = await opened(endpoint._replace(ca=certificate[1]))
    assert transport.writable
    assert transport.unsent == 0
    transport.write(b"hello")
    await recorder.until(lambda: recorder.data == b"hello")
    transport.write(BIG)
    assert not transport.writable
    assert transport.unsent > 0
    await recorder.until(lambda: len(recorder.data) >= 5 + len(BIG))
    assert recorder.data[5:] == BIG
    assert recorder.writable_calls >= 1
    assert transport.writable
    assert transport.unsent == 0
    transport.close()
    assert not transport.writable
    assert await recorder.finished() is None
    with pytest.raises(StateError):
        transport.write(b"late")


@pytest.mark.parametrize("use_tls", [False, True])
async def test_it_is_not_writable_until_the_kernel_took_the_last_byte(
    servers: Servers, certificate: tuple[ssl.SSLContext, bytes, bytes], use_tls: bool
) -> None:
    go = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        while await reader.read(65536):
            pass

    endpoint = await servers.start(slow, certificate[0] if use_tls else None)
    transport, recorder = await opened(endpoint._replace(ca=certificate[1]))
    while transport.writable:
        transport.write(bytes(5000))
    waiting = transport.unsent
    assert 0 < waiting <= 5000
    transport.write(b"second")
    assert transport.unsent == waiting + 6
    assert (transport.local_unacked() or 0) > 0
    assert recorder.writable_calls == 0
    go.set()
    await recorder.until(lambda: recorder.writable_calls == 1)
    assert transport.unsent == 0
    async with asyncio.timeout(20):
        while transport.local_unacked():
            await asyncio.sleep(0.01)
    transport.abort()
    assert await recorder.finished() is None
    assert transport.local_unacked() is None


async def test_close_flushes_what_was_written(servers: Servers) -> None:
    got: asyncio.Future[int] = asyncio.Future()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"unread" * 1000)
        await asyncio.sleep(0.05)
        total = 0
        while data := await reader.read(65536):
            total += len(data)
        got.set_result(total)
        writer.close()

    transport, recorder = await opened(await servers.start(count))
    transport.write(BIG)
    transport.close()
    transport.close()
    assert await recorder.finished() is None
    assert await got == len(BIG)


async def test_close_hears_the_peers_end_although_paused(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "CLOSE_SECONDS", 3600)
    transport, recorder = await opened(await servers.start(echo))
    transport.pause()
    transport.write(b"never read by us")
    transport.close()
    assert await recorder.finished() is None
    assert not recorder.data


async def test_close_does_not_wait_for_ever(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "CLOSE_SECONDS", 0.2)
    transport, recorder = await opened(await servers.start(silent))
    transport.write(BIG)
    transport.close()
    error = await recorder.finished()
    assert isinstance(error, SpiceTimeout)
    assert 0 < transport.unsent <= len(BIG)


async def test_abort_drops_and_tells_how_much(servers: Servers) -> None:
    transport, recorder = await opened(await servers.start(silent))
    transport.write(BIG)
    waiting = transport.unsent
    transport.abort()
    assert transport.unsent == waiting > 0
    assert await recorder.finished() is None
    assert transport.unsent == waiting


async def test_an_orderly_end_and_a_reset_are_told_apart(servers: Servers) -> None:
    async def bye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.close()

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    _, recorder = await opened(await servers.start(bye))
    assert await recorder.finished() is None
    assert recorder.data == b"bye"

    endpoint = await servers.start(reset)
    transport, recorder = await opened(endpoint)
    transport.write(b"x" * 100_000)
    error = await recorder.finished()
    assert isinstance(error, ConnectError)
    assert str(endpoint) in str(error)
    transport.write(b"dropped silently")
    assert transport.unsent >= 16


async def test_the_last_words_are_heard_although_writing_fails(servers: Servers) -> None:
    gone = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"the reason")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        gone.set()

    transport, recorder = await opened(await servers.start(speak))
    transport.pause()
    await gone.wait()
    transport.write(b"a")  # answered with a reset
    await asyncio.sleep(0.1)
    transport.resume()
    transport.write(b"b")  # fails
    await recorder.finished()
    assert recorder.data == b"the reason"


@pytest.mark.parametrize("use_websocket", [False, True])
async def test_pause_stops_reading_until_resume(servers: Servers, use_websocket: bool) -> None:
    endpoint = await (servers.websocket() if use_websocket else servers.start(echo))
    transport, recorder = await opened(endpoint)
    transport.pause()
    transport.write(b"hello")
    await asyncio.sleep(0.1)
    assert not recorder.data
    transport.resume()
    await recorder.until(lambda: recorder.data == b"hello")
    transport.abort()
    await recorder.finished()


async def test_what_comes_with_the_handshake_waits_for_the_caller(servers: Servers) -> None:
    async def eager(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nearly")
        writer.close()

    place = await servers.start(eager)
    recorder = Recorder()
    endpoint = Endpoint("server", 1, proxy=f"http://127.0.0.1:{place.port}")
    transport = await open_transport(endpoint, recorder, timeout=10)
    assert not recorder.data
    assert not recorder.end.done()
    transport.pause()
    await asyncio.sleep(0.05)
    assert not recorder.data
    transport.resume()
    assert await recorder.finished() is None
    assert recorder.data == b"early"


async def test_unix_sockets_work(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "spice.sock")
    async with await asyncio.start_unix_server(echo, path) as server:
        transport, recorder = await opened(Endpoint(unix_path=path))
        transport.write(b"hello")
        await recorder.until(lambda: recorder.data == b"hello")
        assert transport.peername == path
        assert transport.local_unacked() is None
        transport.close()
        await recorder.finished()
        server.close()
    with pytest.raises(ConnectError, match="no such socket"):
        await opened(Endpoint(unix_path=path + "x"))
    with pytest.raises(ConnectError, match="nothing listens"):
        await opened(Endpoint(unix_path=path))


async def test_a_full_unix_backlog_is_waited_for(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "spice.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        first = await opened(Endpoint(unix_path=path))
        waiting = asyncio.create_task(opened(Endpoint(unix_path=path)))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        with listener.accept()[0]:
            second = await waiting
        for transport, recorder in (first, second):
            transport.abort()
            await recorder.finished()


async def test_nodelay_and_keepalive_are_on(servers: Servers) -> None:
    made: list[socket.socket] = []

    def dial(host: str, port: int) -> socket.socket:
        made.append(connecting(host, port))
        return made[0]

    endpoint = await servers.start(echo)
    recorder = Recorder()
    transport = await open_transport(endpoint, recorder, timeout=10, dial=dial)
    assert made[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert made[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert transport.peername == f"127.0.0.1:{endpoint.port}"
    transport.write(b"hello")
    await recorder.until(lambda: recorder.data == b"hello")
    transport.abort()
    await recorder.finished()


async def test_a_dialled_socket_may_be_awaited_and_may_fail(servers: Servers) -> None:
    endpoint = await servers.start(echo)

    async def dial(host: str, port: int) -> socket.socket:
        return socket.create_connection((host, port))

    recorder = Recorder()
    transport = await open_transport(endpoint, recorder, timeout=10, dial=dial)
    transport.abort()
    await recorder.finished()

    def refused(host: str, port: int) -> socket.socket:
        return connecting(host, unused_port())

    with pytest.raises(ConnectError, match="nothing listens"):
        await open_transport(endpoint, Recorder(), timeout=10, dial=refused)


def connecting(host: str, port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex((host, port))
    return sock


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_errors_of_connecting_name_the_endpoint_and_a_way_out(servers: Servers) -> None:
    port = unused_port()
    with pytest.raises(ConnectError, match=rf"spice://127.0.0.1:{port}: .*nothing listens"):
        await opened(Endpoint("127.0.0.1", port))
    with pytest.raises(ConnectError, match="nothing listens"):
        await opened(Endpoint("localhost", port))
    with pytest.raises(ConnectError, match=r"'no-such-host\.invalid' isn't known"):
        await opened(Endpoint("no-such-host.invalid", 1))
    with pytest.raises(AddressError):
        await opened(Endpoint("127.0.0.1", 70000))
    for host in ("a\0b", "a" * 70 + "ü", "a..b"):
        with pytest.raises((AddressError, ConnectError)):
            await opened(Endpoint(host, 1))


@pytest.mark.parametrize("mute", [False, True])
async def test_all_addresses_of_a_name_are_tried(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, mute: bool
) -> None:
    """The first refuses, or doesn't answer at all: its backlog is full."""
    endpoint = await servers.start(echo)
    first = socket.socket()
    first.bind(("127.0.0.2", endpoint.port))
    if mute:
        first.listen(0)
    clients = [connecting("127.0.0.2", endpoint.port) for _ in range(3 * mute)]

    async def two(host: str, port: int, **options: object) -> list[object]:
        assert host == "two.example"
        found = [(address, port) for address in ("127.0.0.2", "127.0.0.2", "127.0.0.1")]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", two)
    transport, recorder = await opened(endpoint._replace(host="two.example"))
    assert transport.peername == f"127.0.0.1:{endpoint.port}"
    transport.abort()
    await recorder.finished()
    for sock in (first, *clients):
        sock.close()


async def test_tls_to_a_plain_port_and_the_other_way_round(
    servers: Servers, certificate: tuple[ssl.SSLContext, bytes, bytes]
) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(16)
        writer.write(b"REDQ" + bytes(20))
        await writer.drain()

    endpoint = (await servers.start(plain))._replace(tls=True)
    with pytest.raises(ConnectError, match=r"plain SPICE, without TLS"):
        await opened(endpoint)
    with pytest.raises(ConnectError, match="isn't HTTP"):
        await opened(endpoint._replace(tls=False, websocket_path="/"))
    with pytest.raises(CertificateError, match="--ca-file"):
        await opened(await servers.start(echo, certificate[0]))


async def test_a_wrong_proxy_login_is_told_without_it(servers: Servers) -> None:
    place = await servers.proxy(b"bWU6cHc=")
    endpoint = (await servers.start(echo))._replace(proxy=f"http://me:hunter2@{place}")
    with pytest.raises(ConnectError, match="refuses this user or password") as caught:
        await opened(endpoint)
    assert place in str(caught.value)
    assert "hunter2" not in str(caught.value)
    dead = f"http://me:hunter2@127.0.0.1:{unused_port()}"
    with pytest.raises(ConnectError, match=r"by proxy http://127\.0\.0\.1:") as caught:
        await opened(endpoint._replace(proxy=dead))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({"tls": True}, "the TLS handshake"),
        ({"websocket_path": "/"}, "the WebSocket handshake"),
        ({"proxy": "http://{}"}, "the HTTP proxy handshake"),
    ],
)
async def test_the_limit_covers_every_step_and_names_it(
    servers: Servers, changes: dict[str, str | bool], stage: str
) -> None:
    endpoint = await servers.start(silent)
    place = f"{endpoint.host}:{endpoint.port}"
    filled = {k: v.format(place) if isinstance(v, str) else v for k, v in changes.items()}
    with pytest.raises(SpiceTimeout, match=stage):
        await opened(endpoint._replace(**filled), timeout=1.0)  # type: ignore[arg-type]


async def test_cancelling_leaves_nothing_open(servers: Servers) -> None:
    ended = asyncio.Event()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(100):
                pass
        ended.set()

    endpoint = (await servers.start(watch))._replace(tls=True)
    task = asyncio.create_task(opened(endpoint))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(10):
        await ended.wait()


async def test_a_server_that_pings_and_never_reads_is_cut_off(servers: Servers) -> None:
    async def pinger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        request = protocol.events_received()[0]
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
        writer.write(b"".join(protocol.data_to_send()))
        while True:
            writer.write((b"\x89\x7d" + bytes(125)) * 1000)
            await writer.drain()

    endpoint = (await servers.start(pinger))._replace(websocket_path="/")
    _, recorder = await opened(endpoint)
    assert isinstance(await recorder.finished(), RemoteProtocolError)


class Broken(Recorder):
    def received(self, data: bytes) -> None:
        raise ZeroDivisionError


async def test_a_handler_that_raises_ends_the_connection(servers: Servers) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    recorder = Broken()
    transport = await open_transport(await servers.start(echo), recorder, timeout=10)
    transport.write(b"hello")
    error = await recorder.finished()
    assert "ZeroDivisionError" in str(error)


def test_importing_it_loads_no_layer() -> None:
    code = (
        "import sys, aiospice.aio.transport as t\n"
        "heavy = ('websockets', 'cryptography', 'aiospice.aio.tls', 'aiospice.aio.proxy')\n"
        "sys.exit(any(name in sys.modules for name in heavy))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# A real server

LINK = b"REDQ" + struct.pack("<IIIIBBIII", 2, 2, 18, 0, 1, 0, 0, 0, 18)
LINK_REPLY_BYTES = 16 + 4 + 162


@pytest.fixture
async def qemu(
    tmp_path: pathlib.Path, certificate: tuple[ssl.SSLContext, bytes, bytes]
) -> AsyncIterator[Endpoint]:
    """QEMU's plain port; its TLS port is the next one. The ticket is ``secret``."""
    if shutil.which("qemu-system-x86_64") is None:
        raise MissingProgram("qemu-system-x86_64 is missing; package qemu-system-x86 has it")
    for name in ("ca-cert.pem", "server-cert.pem", "server-key.pem"):
        (tmp_path / name).write_bytes(certificate[2])
    port = unused_port()
    spice = f"addr=127.0.0.1,port={port},tls-port={port + 1},x509-dir={tmp_path}"
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "qemu-system-x86_64",
            *("-accel", "tcg", "-nodefaults", "-display", "none", "-S", "-vga", "std"),
            *("-object", "secret,id=ticket,data=secret"),
            *("-spice", f"{spice},password-secret=ticket"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        endpoint = Endpoint("127.0.0.1", port)
        async with asyncio.timeout(30):
            while not await accepts(endpoint):
                assert process.returncode is None, (tmp_path / "log").read_text()
                await asyncio.sleep(0.05)
        yield endpoint
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def accepts(endpoint: Endpoint) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((endpoint.host, endpoint.port)):
        return True
    return False


@pytest.mark.peers
@pytest.mark.parametrize("use_websocket", [False, True])
@pytest.mark.parametrize("use_tls", [False, True])
async def test_qemu_takes_our_ticket_through_every_stack(
    qemu: Endpoint,
    certificate: tuple[ssl.SSLContext, bytes, bytes],
    use_tls: bool,
    use_websocket: bool,
) -> None:
    endpoint = qemu._replace(
        port=qemu.port + use_tls,
        tls=use_tls,
        ca=certificate[1],
        websocket_path="/" if use_websocket else "",
    )
    for password, result in (("secret", 0), ("wrong", 7)):
        transport, recorder = await opened(endpoint)
        transport.write(LINK)
        await recorder.until(lambda r=recorder: len(r.data) >= LINK_REPLY_BYTES)  # type: ignore[misc]
        size = 16 + int.from_bytes(recorder.data[12:16], "little")
        public = bytes(recorder.data[20 : 20 + 162])
        transport.write(Crypto().encrypt_ticket(public, password))
        await recorder.until(lambda r=recorder, n=size + 4: len(r.data) >= n)  # type: ignore[misc]
        assert int.from_bytes(recorder.data[size : size + 4], "little") == result
        transport.close()
        assert await recorder.finished() is None


@pytest.mark.peers
async def test_tls_to_qemus_plain_port_is_told(qemu: Endpoint) -> None:
    with pytest.raises(ConnectError, match=r"is this its TLS port|plain SPICE"):
        await opened(qemu._replace(tls=True))
