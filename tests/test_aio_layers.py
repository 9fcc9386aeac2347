"""The layers below SPICE, in pairs with real other ends, whole and one byte at a time."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from aiospice.aio import tls
from aiospice.aio.layers import Layer, Stack, stack_for
from aiospice.aio.proxy import MAX_REPLY_BYTES, Proxy, ProxyLayer
from aiospice.aio.tls import (
    MAX_HANDSHAKE_BYTES,
    TlsLayer,
    certificate_subject,
    host_matches,
    parse_subject,
    subject_matches,
)
from aiospice.aio.websocket import MAX_MESSAGE_BYTES, MAX_UPGRADE_BYTES, WebSocketLayer
from aiospice.effects import Endpoint
from aiospice.errors import (
    AddressError,
    CertificateError,
    ConnectError,
    RemoteProtocolError,
    StateError,
)
from aiospice.proof.certificates import make_certificates

Key = ec.EllipticCurvePrivateKey
Names = list[tuple[x509.ObjectIdentifier, str]]
SUBJECT: Names = [
    (NameOID.COUNTRY_NAME, "XX"),
    (NameOID.ORGANIZATION_NAME, "Mine, Yours"),
    (NameOID.COMMON_NAME, "server.example"),
]
SUBJECT_TEXT = r"C=XX,O=Mine\, Yours,CN=server.example"


def make_name(fields: Names) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in fields])


def make_certificate(
    subject: Names, issuer: Names, key: Key, signer: Key, *alternatives: x509.GeneralName, ca: bool
) -> x509.Certificate:
    """Without key identifiers, as the recipes for SPICE's certificates make them."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(make_name(subject))
        .issuer_name(make_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(signer, hashes.SHA256())


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


CA_KEY = ec.generate_private_key(ec.SECP256R1())
CA_NAME: Names = [(NameOID.COMMON_NAME, "Test CA")]
CA = pem(make_certificate(CA_NAME, CA_NAME, CA_KEY, CA_KEY, ca=True))
OTHER_CA = pem(
    make_certificate(CA_NAME, CA_NAME, k := ec.generate_private_key(ec.SECP256R1()), k, ca=True)
)


@pytest.fixture(scope="module")
def make_context(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., ssl.SSLContext]:
    """Make a server's context with a certificate of the CA, or signed by itself."""

    def make(
        *alternatives: x509.GeneralName, subject: Names = SUBJECT, self_signed: bool = False
    ) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer, signer = (subject, key) if self_signed else (CA_NAME, CA_KEY)
        certificate = make_certificate(subject, issuer, key, signer, *alternatives, ca=False)
        file = tmp_path_factory.mktemp("tls") / "server.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file.write_bytes(private + pem(certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    return make


class TlsEnd:
    """A server's end of TLS that answers with what it got."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.ready = False

    def answer(self, data: bytes) -> bytes:
        self.incoming.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            if not self.ready:
                self.tls.do_handshake()
                self.ready = True
            while plain := self.tls.read(65536):
                self.tls.write(plain)
        return self.outgoing.read()


class WebSocketEnd:
    """A server's end of WebSocket that answers with what it got, in frames of 10 bytes."""

    def __init__(self) -> None:
        self.protocol = ServerProtocol(subprotocols=["binary"])  # type: ignore[list-item]

    def answer(self, data: bytes) -> bytes:
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Request):
                self.protocol.send_response(self.protocol.accept(event))
            elif isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                self.echo(bytes(event.data))
        return b"".join(self.protocol.data_to_send())

    def echo(self, data: bytes) -> None:
        self.protocol.send_ping(b"are you there")
        self.protocol.send_binary(data[:10], fin=len(data) <= 10)
        for start in range(10, len(data), 10):
            self.protocol.send_continuation(data[start : start + 10], fin=start + 10 >= len(data))


class ProxyEnd:
    """A proxy's end of CONNECT, in front of another end."""

    def __init__(self, inner: Callable[[bytes], bytes]) -> None:
        self.inner = inner
        self.request = b""
        self.open = False

    def answer(self, data: bytes) -> bytes:
        if self.open:
            return self.inner(data)
        self.request += data
        if not self.request.endswith(b"\r\n\r\n"):
            return b""
        self.open = True
        return b"HTTP/1.0 200 Connection established\r\nVia: test\r\n\r\n"


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    size = size or len(data) or 1
    for start in range(0, len(data), size):
        yield data[start : start + size]


def pump(layer: Layer, answer: Callable[[bytes], bytes], size: int) -> bytes:
    """Carry bytes both ways, ``size`` at a time (0: whole), until none are left."""
    plain = b""
    while data := layer.data_to_send():
        for piece in pieces(data, size):
            for back in pieces(answer(piece), size):
                plain += layer.receive(back)
    return plain


ENDPOINT = Endpoint("server.example", 5900)
WS_ENDPOINT = ENDPOINT._replace(websocket_path="/x?y")
WHOLE_AND_BY_BYTE = pytest.mark.parametrize("size", [0, 1])


@WHOLE_AND_BY_BYTE
@pytest.mark.parametrize("use_proxy", [False, True])
@pytest.mark.parametrize("use_tls", [False, True])
@pytest.mark.parametrize("use_websocket", [False, True])
def test_every_stack_carries_bytes_both_ways(
    make_context: Callable[..., ssl.SSLContext],
    use_proxy: bool,
    use_tls: bool,
    use_websocket: bool,
    size: int,
) -> None:
    endpoint = ENDPOINT._replace(
        proxy="http://me:pw@proxy:1" if use_proxy else "",
        tls=use_tls,
        ca=CA,
        websocket_path="/" if use_websocket else "",
    )
    stack = stack_for(endpoint)
    if stack is None:
        assert (use_proxy, use_tls, use_websocket) == (False, False, False)
        return
    answer: Callable[[bytes], bytes] = lambda data: data  # noqa: E731
    if use_websocket:
        answer = WebSocketEnd().answer
    if use_tls:
        answer = tls_over(TlsEnd(make_context()), answer)
    if use_proxy:
        answer = ProxyEnd(answer).answer
    assert not stack.ready
    with pytest.raises(StateError, match="handshake"):
        stack.send(b"too early")
    stack.start()
    assert pump(stack, answer, size) == b""
    assert stack.ready
    message = bytes(range(256)) * 3
    for _ in range(2):
        stack.send(message)
        assert pump(stack, answer, size) == message
    assert not stack.ended
    stack.close()
    assert bool(stack.data_to_send()) == (use_tls or use_websocket)


def tls_over(end: TlsEnd, inner: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    def answer(data: bytes) -> bytes:
        end.incoming.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            if not end.ready:
                end.tls.do_handshake()
                end.ready = True
            while plain := end.tls.read(65536):
                back = inner(plain)
                if back:
                    end.tls.write(back)
        return end.outgoing.read()

    return answer


# TLS


def connect_tls(context: ssl.SSLContext, host: str = "server.example", **options: Any) -> TlsLayer:
    layer = TlsLayer(f"spice+tls://{host}:1", host, **{"ca": CA, **options})
    layer.start()
    pump(layer, TlsEnd(context).answer, 0)
    return layer


DNS, IP = x509.DNSName, x509.IPAddress
LOOPBACK = IP(ipaddress.ip_address("127.0.0.1"))
LOOPBACK6 = IP(ipaddress.ip_address("::1"))


@pytest.mark.parametrize(
    ("host", "alternatives", "common_name", "good"),
    [
        ("server.example", (), "server.example", True),
        ("SERVER.example", (), "server.EXAMPLE", True),
        ("server.example", (), "other.example", False),
        ("server.example", (DNS("server.example"),), "other", True),
        ("server.example", (DNS("other.example"),), "server.example", False),
        ("server.example", (LOOPBACK,), "server.example", False),
        ("server.example", (x509.RFC822Name("a@b.c"),), "server.example", True),
        ("server.example", (DNS("*.example"),), "x", False),
        ("a.server.example", (DNS("*.server.example"),), "x", True),
        ("a.b.server.example", (DNS("*.server.example"),), "x", False),
        ("server.example", (DNS("s*.example"),), "x", False),
        ("127.0.0.1", (LOOPBACK,), "x", True),
        ("127.0.0.1", (DNS("127.0.0.1"),), "x", False),
        ("127.0.0.1", (), "127.0.0.1", True),
        ("127.0.0.1", (), "*.0.0.1", False),
        ("127.0.0.2", (LOOPBACK,), "127.0.0.2", False),
        ("::1", (LOOPBACK6,), "x", True),
        ("0:0::1", (LOOPBACK, LOOPBACK6), "x", True),
    ],
)
def test_the_host_must_be_in_the_certificate(
    make_context: Callable[..., ssl.SSLContext],
    host: str,
    alternatives: tuple[x509.GeneralName, ...],
    common_name: str,
    good: bool,
) -> None:
    context = make_context(*alternatives, subject=[(NameOID.COMMON_NAME, common_name)])
    if good:
        assert connect_tls(context, host).ready
        return
    with pytest.raises(CertificateError, match="another host: expected") as caught:
        connect_tls(context, host)
    assert f"CN={common_name}" in str(caught.value)
    assert "--host-subject" in str(caught.value)


@pytest.mark.parametrize(
    ("expected", "good"),
    [
        (SUBJECT_TEXT, True),
        (r"c=XX,O=Mine\, Yours,CN=server.example", False),
        (r"C=xx, O=mine\,  yours , CN=SERVER.example,", True),
        (r"countryName=XX,2.5.4.10=Mine\, Yours,commonName=server.example", True),
        (r"C=XX,CN=server.example,O=Mine\, Yours", False),
        (r"C=XX,O=Mine\, Yours", False),
        (r"C=XX,O=Mine\, Yours,CN=server.example,CN=server.example", False),
        (r"C=XX,O=Mine\, Yours,CN=other.example", False),
    ],
)
def test_the_host_subject_must_be_the_subject_field_by_field(
    make_context: Callable[..., ssl.SSLContext], expected: str, good: bool
) -> None:
    context = make_context()
    if good:
        assert connect_tls(context, "10.0.0.9", host_subject=expected).ready
        return
    with pytest.raises(CertificateError, match="another subject") as caught:
        connect_tls(context, "server.example", host_subject=expected)
    assert f"seen {SUBJECT_TEXT};" in str(caught.value)


@pytest.mark.parametrize("text", ["", "nonsense", "=x", "CN=", "CN=a,,O=b", "CN=a\\", "C\\N=a"])
def test_subjects_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(AddressError, match="subject"):
        parse_subject(text)


@given(st.text() | st.text(st.sampled_from("C=N,\\ a")))
def test_arbitrary_subjects_raise_only_address_error(text: str) -> None:
    with contextlib.suppress(AddressError):
        subject = parse_subject(text)
        assert subject_matches(subject, tuple(((name, value),) for name, value in subject))


def test_a_field_with_two_values_never_matches() -> None:
    seen = ((("commonName", "a"), ("organizationName", "b")),)
    assert not subject_matches((("commonName", "a"),), seen)
    assert not subject_matches((("commonName", "a"), ("organizationName", "b")), seen)


@given(st.text(), st.text())
def test_matching_hosts_never_raises(host: str, name: str) -> None:
    host_matches(host, {"subjectAltName": (("DNS", name), ("IP Address", name))})
    host_matches(host, {"subject": ((("commonName", name),),)})


def test_only_the_given_authority_is_trusted(
    make_context: Callable[..., ssl.SSLContext],
) -> None:
    with pytest.raises(CertificateError, match="--ca-file"):
        connect_tls(make_context(), ca=OTHER_CA)
    with pytest.raises(CertificateError, match="--ca-file"):
        connect_tls(make_context(), ca=b"")
    with pytest.raises(CertificateError, match=r"signed by itself.*--ca-file"):
        connect_tls(make_context(self_signed=True), ca=b"")
    assert connect_tls(make_context(self_signed=True), "x", verify=False).ready


def test_a_ca_or_cipher_list_that_cannot_be_read_is_our_fault() -> None:
    for ca in (b"nonsense", b"\xff", CA.replace(b"MII", b"III")):
        with pytest.raises(AddressError, match="PEM"):
            TlsLayer("x", "h", ca=ca)
    with pytest.raises(AddressError, match="cipher"):
        TlsLayer("x", "h", ciphers="NONSENSE")


def test_a_failed_check_sends_nothing_of_ours_but_an_alert(
    make_context: Callable[..., ssl.SSLContext],
) -> None:
    layer = TlsLayer("x", "server.example", ca=OTHER_CA)
    layer.start()
    with pytest.raises(CertificateError):
        pump(layer, TlsEnd(make_context()).answer, 0)
    assert layer.data_to_send()[0] in (0x14, 0x15)  # (a compatibility message and) an alert
    assert not layer.ready


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"REDQ\2\0\0\0", "plain SPICE"),
        (b"HTTP/1.1 400", "isn't TLS"),
        (b"\x15\3\1\0\2\2\x28", "handshake failed"),
        (b"\x16\3\3\xff\xff", "handshake failed"),
    ],
)
def test_an_answer_that_is_not_tls_is_told(answer: bytes, problem: str) -> None:
    layer = TlsLayer("spice+tls://h:1", "h")
    layer.start()
    with pytest.raises(ConnectError, match=problem):
        layer.receive(answer)
    layer = TlsLayer("spice+tls://h:1", "h")
    layer.start()
    with pytest.raises(ConnectError, match="is this its TLS port"):
        layer.receive_eof()


def test_the_tls_handshake_is_bounded() -> None:
    layer = TlsLayer("x", "h")
    layer.start()
    # OpenSSL's own limits come first here; ours is behind them.
    with pytest.raises(ConnectError):  # noqa: PT012
        for _ in range(MAX_HANDSHAKE_BYTES):
            layer.receive(b"\x16\3\3\0\1\2")


def test_our_own_bound_holds_for_what_openssl_lets_pass(
    make_context: Callable[..., ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "MAX_HANDSHAKE_BYTES", 300)
    layer = TlsLayer("x", "server.example", ca=CA)
    layer.start()
    with pytest.raises(ConnectError, match="longer than 300 bytes"):
        pump(layer, TlsEnd(make_context()).answer, 1)


def test_goodbye_ends_tls_and_garbage_breaks_it(
    make_context: Callable[..., ssl.SSLContext],
) -> None:
    layer = TlsLayer("x", "server.example", ca=CA)
    end = TlsEnd(make_context())
    layer.start()
    pump(layer, end.answer, 0)
    end.tls.write(b"last words")
    with contextlib.suppress(ssl.SSLWantReadError):
        end.tls.unwrap()
    assert layer.receive(end.outgoing.read()) == b"last words"
    assert layer.ended

    layer = connect_tls(make_context())
    with pytest.raises(RemoteProtocolError, match="TLS was broken"):
        layer.receive(b"\x17\3\3\0\x20" + bytes(32))


# WebSocket


def test_the_upgrade_asks_for_the_binary_subprotocol() -> None:
    layer = WebSocketLayer(WS_ENDPOINT)
    layer.start()
    request = layer.data_to_send()
    assert request.startswith(b"GET /x?y HTTP/1.1\r\n")
    assert b"\r\nHost: server.example:5900\r\n" in request
    assert b"\r\nSec-WebSocket-Protocol: binary\r\n" in request
    assert b"Sec-WebSocket-Extensions" not in request


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP 404: is the path right"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP 200: is this a WebSocket"),
        (b"HTTP/1.1 404 Not Found\r\n\r\nuntil the end", "HTTP 404"),
        (b"REDQ\n", "isn't HTTP"),
        (b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "upgrade failed"),
        (b"", "instead of upgrading"),
        (b"HTTP/1.1 101", "instead of upgrading"),
    ],
)
@WHOLE_AND_BY_BYTE
def test_a_refused_upgrade_is_told(answer: bytes, problem: str, size: int) -> None:
    layer = WebSocketLayer(WS_ENDPOINT)
    layer.start()
    with pytest.raises(ConnectError, match=problem):  # noqa: PT012
        for piece in pieces(answer, size):
            layer.receive(piece)
        layer.receive_eof()


def test_the_upgrade_is_bounded() -> None:
    layer = WebSocketLayer(WS_ENDPOINT)
    layer.start()
    header = b"X-Padding: " + b"x" * 4000 + b"\r\n"
    with pytest.raises(ConnectError, match="longer than"):  # noqa: PT012
        layer.receive(b"HTTP/1.1 101 Switching Protocols\r\n")
        for _ in range(2 * MAX_UPGRADE_BYTES // len(header)):
            layer.receive(header)


def connect_websocket() -> tuple[WebSocketLayer, WebSocketEnd]:
    layer, end = WebSocketLayer(WS_ENDPOINT), WebSocketEnd()
    layer.start()
    pump(layer, end.answer, 0)
    assert layer.ready
    return layer, end


def test_messages_of_text_and_giant_ones_are_refused() -> None:
    layer, end = connect_websocket()
    end.protocol.send_text(b"hello")
    with pytest.raises(RemoteProtocolError, match="text"):
        layer.receive(b"".join(end.protocol.data_to_send()))
    layer, _ = connect_websocket()
    with pytest.raises(RemoteProtocolError, match="WebSocket was broken"):
        layer.receive(b"\x82\x7f" + (MAX_MESSAGE_BYTES + 1).to_bytes(8, "big"))


def test_a_close_frame_ends_it_and_is_answered() -> None:
    layer, end = connect_websocket()
    end.protocol.send_binary(b"last words")
    end.protocol.send_close(1001)
    assert layer.receive(b"".join(end.protocol.data_to_send())) == b"last words"
    assert layer.ended
    assert layer.data_to_send()
    layer.send(b"dropped")
    assert layer.data_to_send() == b""


@pytest.mark.parametrize("endpoint", [{"host": "a\r\nb"}, {"websocket_path": "/a b"}])
def test_addresses_that_would_break_the_request_are_refused(endpoint: dict[str, str]) -> None:
    with pytest.raises(AddressError):
        WebSocketLayer(WS_ENDPOINT._replace(**endpoint))  # type: ignore[arg-type]


# HTTP proxy

PROXY = Proxy("http", "proxy", 3128, "me", "hunter2")


def test_the_proxy_is_asked_with_login() -> None:
    layer = ProxyLayer(PROXY, "server", 5900)
    layer.start()
    assert layer.data_to_send() == (
        b"CONNECT server:5900 HTTP/1.1\r\nHost: server:5900\r\n"
        b"Proxy-Authorization: Basic bWU6aHVudGVyMg==\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("::1", b"[::1]:5900"),
        ("pvespiceproxy:6:100:pve::f9", b"pvespiceproxy:6:100:pve::f9:5900"),
        ("bücher.example", b"xn--bcher-kva.example:5900"),
    ],
)
def test_the_target_is_written_as_proxies_want_it(host: str, target: bytes) -> None:
    layer = ProxyLayer(PROXY._replace(user="", password=""), host, 5900)
    layer.start()
    assert layer.data_to_send() == b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, target)


@pytest.mark.parametrize(
    ("user", "answer", "problem"),
    [
        ("", b"407 Proxy Authentication Required", "wants a login: .*http://user:password"),
        ("me", b"407 Proxy Authentication Required", "refuses this user or password"),
        ("", b"403 Forbidden", "answered 403 Forbidden: the proxy doesn't allow"),
        ("", b"502 Bad\x1b[31m Gateway", r"502 Bad\[31m Gateway: the proxy can't reach"),
        ("", b"418", "answered 418: it refuses"),
        ("", b"2x0", "isn't HTTP"),
    ],
)
def test_a_refusal_names_the_proxy_and_what_to_try(user: str, answer: bytes, problem: str) -> None:
    layer = ProxyLayer(PROXY._replace(user=user), "server", 5900)
    layer.start()
    with pytest.raises(ConnectError, match=problem) as caught:
        layer.receive(b"HTTP/1.1 " + answer + b"\r\n\r\n")
    assert "proxy http://proxy:3128, asked for server:5900" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@WHOLE_AND_BY_BYTE
def test_the_proxys_reply_is_bounded_and_must_be_http(size: int) -> None:
    for answer, problem in (
        (b"HTTP/1.1 200 OK\r\n" + b"x" * MAX_REPLY_BYTES, "longer than"),
        (b"REDQ", "isn't HTTP"),
        (b"HTTP/1.1 200", "without an answer"),
    ):
        layer = ProxyLayer(PROXY, "server", 5900)
        layer.start()
        with pytest.raises(ConnectError, match=problem):  # noqa: PT012
            for piece in pieces(answer, size):
                layer.receive(piece)
            layer.receive_eof()


@WHOLE_AND_BY_BYTE
def test_bytes_right_behind_the_proxys_reply_are_not_lost(size: int) -> None:
    stack = Stack([ProxyLayer(PROXY, "server", 5900)])
    stack.start()
    answer = b"HTTP/1.0 200 OK\r\n\r\nREDQ"
    assert b"".join(stack.receive(piece) for piece in pieces(answer, size)) == b"REDQ"


@pytest.mark.parametrize("host", ["", "a b", "a\r\nX: y", "\0"])
def test_hosts_that_would_break_the_request_are_refused(host: str) -> None:
    with pytest.raises(AddressError):
        ProxyLayer(PROXY, host, 5900)


# Anything at all

OPENINGS = st.sampled_from(
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n",
        b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03",
        b"\x15\x03\x03\x00\x02",
    ]
)
CHUNKS = st.lists(st.binary(max_size=40), max_size=5)


@settings(deadline=None)
@given(
    st.sampled_from(["proxy", "tls", "websocket", "all"]),
    OPENINGS,
    CHUNKS,
)
@example("websocket", b"HTTP/1.1 101 x\r\nUpgrade: \xff\r\n\r\n", [])
@example("websocket", b"HTTP/1.1 200 x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", [])
@example("websocket", b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", [])
def test_arbitrary_bytes_raise_only_documented_errors(
    kind: str, opening: bytes, chunks: list[bytes]
) -> None:
    stack = stack_for(
        ENDPOINT._replace(
            proxy="http://proxy:1" if kind in ("proxy", "all") else "",
            tls=kind in ("tls", "all"),
            websocket_path="/" if kind in ("websocket", "all") else "",
            verify=False,
        )
    )
    assert stack is not None
    stack.start()
    with contextlib.suppress(ConnectError, RemoteProtocolError):
        stack.receive(opening)
        for chunk in chunks:
            stack.receive(chunk)
        stack.receive_eof()
    stack.data_to_send()


@settings(deadline=None)
@given(CHUNKS)
def test_arbitrary_frames_raise_only_documented_errors(chunks: list[bytes]) -> None:
    layer, _ = connect_websocket()
    with contextlib.suppress(RemoteProtocolError):
        for chunk in chunks:
            layer.receive(chunk)
    layer.data_to_send()


def test_a_certificates_subject_is_what_clients_are_to_expect(tmp_path: Path) -> None:
    made = make_certificates(tmp_path, subject=r"C=XX,O=A\, B,CN=host")
    text = certificate_subject(str(made.certificate_file))
    assert text == r"C=XX,O=A\, B,CN=host"
    assert certificate_subject(str(tmp_path / "nothing")) == ""
    assert certificate_subject(str(made.key_file)) == ""
