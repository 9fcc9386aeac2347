"""The server's layers below SPICE, in pairs with clients' ends, whole and one byte at a time."""

from __future__ import annotations

import contextlib
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from aiospice.aio.layers import Layer, Stack
from aiospice.aio.origins import OriginRule
from aiospice.aio.serverlayers import server_context, stack_for_client
from aiospice.aio.tls import MAX_HANDSHAKE_BYTES, TlsLayer
from aiospice.aio.websocket import WebSocketLayer
from aiospice.aio.websocket_server import MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES
from aiospice.effects import Endpoint
from aiospice.errors import AddressError, AiospiceError, ConnectError, RemoteProtocolError
from aiospice.proof.certificates import Certificates, make_certificates

PEER = "127.0.0.1:4242"
GET = (
    b"GET /spice HTTP/1.1\r\nHost: localhost:5959\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def context(certificates: Certificates) -> ssl.SSLContext:
    return server_context(certificates.certificate_file, certificates.key_file)


def server_stack(context: ssl.SSLContext | None = None, origin: OriginRule | None = None) -> Stack:
    stack = stack_for_client(PEER, context=context, origin=origin)
    assert stack is not None
    stack.start()
    return stack


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)] if size else [data]


def talk(client: Stack, server: Stack, size: int) -> None:
    """Carry bytes both ways until both are ready and quiet."""
    got = bytearray()
    while True:
        up, down = client.data_to_send(), server.data_to_send()
        if not up and not down:
            break
        for piece in pieces(up, size):
            got += server.receive(piece)
        for piece in pieces(down, size):
            assert not client.receive(piece)
    assert not got


def drip(stack: Stack, data: bytes, times: int) -> None:
    for _ in range(times):
        stack.receive(data)


def exchange(sender: Stack, receiver: Stack, data: bytes, size: int) -> bytes:
    sender.send(data)
    sent = sender.data_to_send()
    return b"".join(receiver.receive(piece) for piece in pieces(sent, size))


@pytest.mark.parametrize("size", [0, 1], ids=["whole", "bytewise"])
@pytest.mark.parametrize("layers", ["tls", "ws", "wss"])
def test_our_client_and_our_server_understand_each_other(
    layers: str, size: int, certificates: Certificates, context: ssl.SSLContext
) -> None:
    ca = certificates.ca_file.read_bytes()
    ends: list[Layer] = [
        *([TlsLayer("server", "localhost", ca=ca)] if layers != "ws" else []),
        *([WebSocketLayer(Endpoint("localhost", 80, websocket_path="/"))] if "w" in layers else []),
    ]
    client = Stack(ends)
    server = server_stack(
        context if layers != "ws" else None, OriginRule() if "w" in layers else None
    )
    client.start()
    talk(client, server, size)
    assert client.ready
    assert server.ready
    assert exchange(client, server, b"REDQ" * 500, size) == b"REDQ" * 500
    big = bytes(range(256)) * (4 if size else 4000)
    assert exchange(server, client, big, size) == big
    client.close()
    for piece in pieces(client.data_to_send(), size):
        assert not server.receive(piece)
    assert server.ended


# TLS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_of_the_ssl_module_gets_in(
    version: ssl.TLSVersion, certificates: Certificates, context: ssl.SSLContext
) -> None:
    client = ssl.create_default_context(cafile=certificates.ca_file)
    client.maximum_version = version
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    server = server_stack(context)
    for _ in range(4):
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        assert not server.receive(outgoing.read())
        incoming.write(server.data_to_send())
    assert server.ready
    tls.write(b"hello")
    assert server.receive(outgoing.read()) == b"hello"


def test_tls_below_1_2_is_refused(context: ssl.SSLContext) -> None:
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings(action="ignore"):
        client.minimum_version = ssl.TLSVersion.TLSv1
        client.maximum_version = ssl.TLSVersion.TLSv1_1
    client.set_ciphers("ALL:@SECLEVEL=0")
    outgoing = ssl.MemoryBIO()
    tls = client.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    server = server_stack(context)
    with pytest.raises(ConnectError, match=f"{PEER}: the TLS handshake failed: .*(version|proto)"):
        server.receive(outgoing.read())
    assert server.data_to_send()[0] == 0x15  # an alert says why


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"R", "plain SPICE to a TLS port"),
        (b"REDQ\2\0\0\0", "plain SPICE to a TLS port"),
        (b"GET / HTTP/1.1\r\n", "doesn't speak TLS"),
        (b"\x16\x03\x01\x00\x05hello", "the TLS handshake failed"),
        (b"\x16" + b"\xff" * 300, "the TLS handshake failed"),
    ],
)
def test_what_is_no_tls_is_refused(context: ssl.SSLContext, data: bytes, text: str) -> None:
    with pytest.raises(ConnectError, match=text):
        server_stack(context).receive(data)


def test_a_handshake_that_never_ends_is_cut_off(context: ssl.SSLContext) -> None:
    server = server_stack(context)
    record = b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff" + bytes(0x4000 - 4)
    with pytest.raises(ConnectError):
        drip(server, record, MAX_HANDSHAKE_BYTES // len(record) + 2)


def test_a_client_that_leaves_during_the_handshake_is_told_of(context: ssl.SSLContext) -> None:
    server = server_stack(context)
    server.receive(b"\x16")
    with pytest.raises(ConnectError, match="closed the connection during the TLS handshake"):
        server.receive_eof()


def test_broken_tls_after_the_handshake_is_the_clients_fault(
    certificates: Certificates, context: ssl.SSLContext
) -> None:
    ca = certificates.ca_file.read_bytes()
    client, server = Stack([TlsLayer("server", "localhost", ca=ca)]), server_stack(context)
    client.start()
    talk(client, server, 0)
    with pytest.raises(RemoteProtocolError, match="TLS was broken by the client"):
        server.receive(b"\x17\x03\x03\x00\x20" + bytes(32))


def test_files_that_are_no_certificate_are_named(
    tmp_path: Path, certificates: Certificates
) -> None:
    with pytest.raises(AddressError, match=r"nowhere\.pem can't be read: No such file"):
        server_context(tmp_path / "nowhere.pem")
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(AddressError, match=r"empty\.pem: no certificate with its private key"):
        server_context(tmp_path / "empty.pem")
    with pytest.raises(AddressError, match="no certificate with its private key"):
        server_context(certificates.certificate_file, certificates.folder / "ca-key.pem")
    with pytest.raises(AddressError, match="no certificate"):
        server_context(certificates.certificate_file, certificates.key_file, ciphers="none")


# WebSocket


def ask(request: bytes, origin: Callable[[str, str], bool] | None = None) -> tuple[Stack, str]:
    """A layer that was asked so, and what it answered."""
    stack = stack_for_client(PEER, origin=origin or OriginRule())
    assert stack is not None
    stack.start()
    stack.receive(request)
    return stack, stack.data_to_send().decode()


def refusal(request: bytes, origin: OriginRule | None = None) -> tuple[str, str]:
    """The error of a request that isn't granted, and the answer."""
    stack = stack_for_client(PEER, origin=origin or OriginRule())
    assert stack is not None
    stack.start()
    with pytest.raises(ConnectError) as caught:
        stack.receive(request)
    return str(caught.value), stack.data_to_send().decode()


@pytest.mark.parametrize("size", [0, 1, 7])
def test_a_client_of_the_library_gets_in(size: int) -> None:
    client = ClientProtocol(
        parse_uri("ws://localhost/"),
        subprotocols=["binary"],  # type: ignore[list-item]
    )
    client.send_request(client.connect())
    server = server_stack(origin=OriginRule())
    for piece in pieces(b"".join(client.data_to_send()), size):
        assert not server.receive(piece)
    client.receive_data(server.data_to_send())
    assert isinstance(client.events_received()[0], Response)
    assert client.handshake_exc is None
    assert client.subprotocol == "binary"
    client.send_binary(b"REDQ", fin=False)
    client.send_ping(b"there?")
    client.send_continuation(b" and more", fin=True)
    sent = b"".join(client.data_to_send())
    assert b"".join(server.receive(piece) for piece in pieces(sent, size)) == b"REDQ and more"
    server.send(b"back")
    client.receive_data(server.data_to_send())
    frames = [event for event in client.events_received() if isinstance(event, Frame)]
    assert [(frame.opcode, bytes(frame.data)) for frame in frames] == [
        (Opcode.PONG, b"there?"),
        (Opcode.BINARY, b"back"),
    ]


def test_the_subprotocol_is_binary_or_none() -> None:
    _, plain = ask(GET + b"\r\n")
    assert plain.startswith("HTTP/1.1 101 ")
    assert "Sec-WebSocket-Protocol" not in plain
    _, chosen = ask(GET + b"Sec-WebSocket-Protocol: base64, binary\r\n\r\n")
    assert "Sec-WebSocket-Protocol: binary\r\n" in chosen
    error, answer = refusal(GET + b"Sec-WebSocket-Protocol: chat\r\n\r\n")
    assert "subprotocol must be binary" in error
    assert answer.startswith("HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 426),
        (b"GET /favicon.ico HTTP/1.0\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (GET.replace(b"13", b"12") + b"\r\n", 400),
        (GET.replace(b"dGhl", b"????") + b"\r\n", 400),
    ],
)
def test_what_is_no_upgrade_is_answered_in_http(request_: bytes, status: int) -> None:
    error, answer = refusal(request_)
    assert error.startswith(f"{PEER}: ")
    assert answer.startswith(f"HTTP/1.1 {status} ")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"R", "plain SPICE to a WebSocket port"),
        (b"REDQ\2\0\0\0", "plain SPICE to a WebSocket port"),
        (b"\x16\x03\x01", "doesn't speak HTTP"),
        (b"GETX", "doesn't speak HTTP"),
        (b"get / HTTP/1.1", "doesn't speak HTTP"),
        (b"GET nothing\r\n\r\n", "can't be read"),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", "can't be read"),
    ],
)
def test_what_is_no_http_is_refused_at_once(data: bytes, text: str) -> None:
    assert text in refusal(data)[0]


def test_a_request_that_never_ends_is_cut_off() -> None:
    error, answer = refusal(GET + b"X: y\r\n" * (MAX_REQUEST_BYTES // 6))
    assert "longer than" in error
    assert answer.startswith("HTTP/1.1 431 ")
    stack = server_stack(origin=OriginRule())
    stack.receive(b"GET /")
    with pytest.raises(ConnectError):
        drip(stack, b"x", MAX_REQUEST_BYTES)


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (b"\x82\x05hello", "broken by the client"),  # not masked
        (b"\x81\x80\0\0\0\0", "text message"),
        (b"\x82\xff" + (MAX_MESSAGE_BYTES + 1).to_bytes(8, "big") + bytes(4), "broken"),
        (b"\x83\x80\0\0\0\0", "broken"),
    ],
)
def test_frames_that_must_not_come_are_the_clients_fault(frame: bytes, text: str) -> None:
    stack, _ = ask(GET + b"\r\n")
    with pytest.raises(RemoteProtocolError, match=text):
        stack.receive(frame)
    stack.data_to_send()


def test_a_client_that_leaves_before_the_upgrade_is_told_of() -> None:
    stack = server_stack(origin=OriginRule())
    stack.receive(GET)
    with pytest.raises(ConnectError, match="closed the connection before it was upgraded"):
        stack.receive_eof()


# Whatever comes


@settings(deadline=None)
@given(
    layers=st.sampled_from(["tls", "ws", "wss"]),
    begins=st.sampled_from([b"", GET, GET + b"\r\n", b"\x16\x03\x01\x00\x30\x01\x00\x00\x2c"]),
    pieces=st.lists(st.binary(max_size=60), max_size=8),
)
def test_only_errors_of_the_project_come_out(
    layers: str, begins: bytes, pieces: list[bytes], context: ssl.SSLContext
) -> None:
    rule = OriginRule(local=True)
    stack = server_stack(context if layers != "ws" else None, rule if "w" in layers else None)
    told = PEER
    try:
        for piece in (begins, *pieces):
            stack.receive(piece)
            stack.data_to_send()
        stack.receive_eof()
    except AiospiceError as error:
        told = str(error)
    assert told.startswith(PEER)
    stack.data_to_send()


# Origins


@pytest.mark.parametrize(
    ("origin", "host", "local", "may"),
    [
        ("http://localhost:8000", "localhost:5959", True, True),
        ("https://localhost", "localhost:5959", True, True),
        ("http://127.0.0.1:8000", "127.0.0.1:5959", True, True),
        ("http://[::1]:8000", "[::1]:5959", True, True),
        ("http://spice.localhost", "spice.localhost:5959", True, True),
        ("http://evil.example", "localhost:5959", True, False),
        ("http://localhost.evil.example", "localhost:5959", True, False),
        ("http://127.0.0.1", "localhost:5959", True, False),
        ("null", "localhost:5959", True, False),
        ("null", "null", False, False),
        ("file://", "", False, False),
        ("http://", "", False, False),
        ("chrome-extension://localhost", "localhost", True, False),
        # The owner of the name has made it mean 127.0.0.1.
        ("http://evil.example:5959", "evil.example:5959", True, False),
        ("http://server.example", "server.example:5959", False, True),
        ("http://SERVER.example", "server.Example:5959", False, True),
        ("http://server.example:80", "server.example:x", False, False),
        ("http://[::1", "[::1", True, False),
        ("https://pages.example", "localhost:5959", True, True),
        ("https://pages.example/", "localhost:5959", True, True),
        ("https://pages.example:444", "localhost:5959", True, False),
        ("http://pages.example", "localhost:5959", True, False),
    ],
)
def test_pages_of_strangers_may_not_come(origin: str, host: str, local: bool, may: bool) -> None:
    assert OriginRule(("https://pages.example",), local)(origin, host) is may
    assert OriginRule(("*",), local)(origin, host)


def test_an_origin_is_asked_for_where_there_is_one() -> None:
    rule = OriginRule(local=True)
    assert ask(GET + b"\r\n", rule)[0].ready
    assert ask(GET + b"Origin: http://localhost\r\n\r\n", rule)[0].ready
    error, answer = refusal(GET + b"Origin: http://evil.example\r\n\r\n", rule)
    assert "a page of the origin http://evil.example may not come here" in error
    assert answer.startswith("HTTP/1.1 403 ")
    twice = b"Origin: http://localhost\r\nOrigin: http://evil.example\r\n\r\n"
    assert refusal(GET + twice, rule)[1].startswith("HTTP/1.1 403 ")
    hosts = b"Host: evil.example\r\nOrigin: http://evil.example\r\n\r\n"
    assert refusal(GET + hosts, OriginRule())[1].startswith("HTTP/1.1 403 ")
