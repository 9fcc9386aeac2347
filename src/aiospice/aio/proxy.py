"""HTTP proxies: reading their address, and the CONNECT handshake as a layer."""

from __future__ import annotations

from typing import NamedTuple

from aiospice.errors import AddressError, ConnectError

__all__ = ["MAX_REPLY_BYTES", "Proxy", "ProxyLayer", "parse_proxy"]

#: Size limit of the proxy's whole reply header, in bytes.
MAX_REPLY_BYTES = 16 * 1024

# As spice-gtk has them (spice-uri.c).
_DEFAULT_PORTS = {"http": 3128, "https": 3129}
_EXAMPLE = "for example http://user:password@proxy.example:3128"

_HINTS = {
    403: "the proxy doesn't allow this destination: ask for host and port to be allowed",
    404: "the proxy doesn't know this destination",
    405: "this server is no proxy that takes CONNECT",
    501: "this server is no proxy that takes CONNECT",
    502: "the proxy can't reach the server",
    503: "the proxy can't reach the server",
    504: "the proxy can't reach the server in time",
}


class Proxy(NamedTuple):
    """Where a proxy is and how to log in to it; shown without user and password."""

    scheme: str  # "http", or "https" for TLS to the proxy itself
    host: str
    port: int
    user: str = ""
    password: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{join_host_port(self.host, self.port)}"

    def __repr__(self) -> str:
        return f"Proxy({self})"


def is_ipv6(host: str) -> bool:
    """Tell if ``host`` is an IPv6 address, with or without a zone."""
    import socket

    address, _, _ = host.partition("%")
    try:
        socket.inet_pton(socket.AF_INET6, address)
    except (OSError, ValueError):
        return False
    return True


def join_host_port(host: str, port: int) -> str:
    """``host:port``, with brackets around IPv6 addresses only.

    Proxmox hands out "hosts" that are tokens with colons in them; they go to its proxy verbatim.
    """
    return f"[{host}]:{port}" if is_ipv6(host) else f"{host}:{port}"


def parse_proxy(text: str) -> Proxy:
    """Read ``[http[s]://][user[:password]@]host[:port]``; AddressError if it isn't that.

    The default ports are those of spice-gtk: 3128, and 3129 for https.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = "http", scheme
    scheme = scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        raise AddressError(f"the proxy must be an http:// or https:// address, {_EXAMPLE}")
    userinfo, _, place = rest.rstrip("/").rpartition("@")
    host, port = _split_place(place)
    user, _, password = userinfo.partition(":")
    try:
        return Proxy(
            scheme,
            host,
            port or _DEFAULT_PORTS[scheme],
            _decoded(user),
            _decoded(password),
        )
    except UnicodeError:
        raise AddressError("the proxy's user or password isn't UTF-8 when decoded") from None


def _split_place(place: str) -> tuple[str, int]:
    if place.startswith("["):
        host, bracket, port = place[1:].partition("]")
        good = bool(bracket) and is_ipv6(host) and port[:1] in ("", ":")
        port = port[1:]
    else:
        host, _, port = place.partition(":")
        good = bool(host) and all(c.isalnum() or c in "-._" for c in host)
    if not good:
        raise AddressError(f"the proxy's host can't be read, {_EXAMPLE}")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise AddressError(f"the proxy's port must be a number from 1 to 65535, {_EXAMPLE}")
    return host, int(port or 0)


def _decoded(text: str) -> str:
    if "%" in text:
        from urllib.parse import unquote

        text = unquote(text, errors="strict")
    text.encode()  # UnicodeEncodeError for what can't go out
    return text


class ProxyLayer:
    """The CONNECT handshake of RFC 9110, section 9.3.6; after it the bytes pass unchanged."""

    name = "HTTP proxy"

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        if not host or any(c.isspace() or not c.isprintable() for c in host):
            raise AddressError(f"the host {host!r} can't be asked of a proxy")
        self._proxy = proxy
        self._target = join_host_port(_ascii_host(host), port)
        self._reply = bytearray()
        self._output: list[bytes] = []
        self.ready = False
        self.ended = False

    def start(self) -> None:
        lines = [f"CONNECT {self._target} HTTP/1.1", f"Host: {self._target}"]
        if self._proxy.user or self._proxy.password:
            from base64 import b64encode

            login = f"{self._proxy.user}:{self._proxy.password}".encode()
            lines.append(f"Proxy-Authorization: Basic {b64encode(login).decode()}")
        self._output.append("\r\n".join([*lines, "", ""]).encode())

    def receive(self, data: bytes) -> bytes:
        if self.ready:
            return data
        self._reply += data
        end = self._reply.find(b"\r\n\r\n", 0, MAX_REPLY_BYTES)
        if end < 0:
            if len(self._reply) >= MAX_REPLY_BYTES:
                raise self._error(f"its reply header is longer than {MAX_REPLY_BYTES} bytes")
            self._check_start()
            return b""
        header = bytes(self._reply[:end])
        rest = bytes(self._reply[end + 4 :])
        self._reply.clear()
        self._judge(header.split(b"\r\n", 1)[0])
        self.ready = True
        return rest

    def _check_start(self) -> None:
        if not self._reply.startswith(b"HTTP/"[: len(self._reply)]):
            raise self._error("its reply isn't HTTP: is this really a proxy?")

    def _judge(self, status_line: bytes) -> None:
        version, _, rest = status_line.partition(b" ")
        code = rest[:3]
        if not version.startswith(b"HTTP/1.") or len(code) != 3 or not code.isdigit():
            raise self._error("its reply isn't HTTP: is this really a proxy?")
        status = int(code)
        if 200 <= status < 300:
            return
        reason = "".join(c for c in rest[3:80].decode("ascii", "replace") if c.isprintable())
        raise self._error(f"it answered {status}{reason.rstrip()}: {self._hint(status)}")

    def _hint(self, status: int) -> str:
        if status in (401, 407):
            if self._proxy.user:
                return "it refuses this user or password"
            return "it wants a login: give the proxy as http://user:password@host:port"
        return _HINTS.get(status, "it refuses to connect; its log may tell why")

    def _error(self, text: str) -> ConnectError:
        return ConnectError(f"proxy {self._proxy}, asked for {self._target}: {text}")

    def receive_eof(self) -> None:
        if not self.ready:
            raise self._error("it closed the connection without an answer")

    def send(self, data: bytes) -> None:
        self._output.append(data)

    def close(self) -> None:
        pass

    def data_to_send(self) -> bytes:
        data = b"".join(self._output)
        self._output.clear()
        return data


def _ascii_host(host: str) -> str:
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        raise AddressError(f"the host name {host!r} isn't a valid one") from None
