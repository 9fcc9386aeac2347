from __future__ import annotations

import contextlib
import pathlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiospice.aio.address import mask_address, parse_address
from aiospice.aio.proxy import Proxy, parse_proxy
from aiospice.client.config import ClientConfig
from aiospice.errors import AddressError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("spice://127.0.0.1:5900", ClientConfig(host="127.0.0.1", port=5900)),
        ("spice://host", ClientConfig(host="host", port=5900)),
        (" SPICE://host:1/ ", ClientConfig(host="host", port=1)),
        ("spice://[::1]:5901", ClientConfig(host="::1", port=5901)),
        ("spice://[fe80::1%25eth0]", ClientConfig(host="fe80::1%eth0", port=5900)),
        ("spice+tls://host:5901", ClientConfig(host="host", tls_port=5901)),
        ("spice+tls://host", ClientConfig(host="host", tls_port=5900)),
        ("spice+unix:///run/vm.sock", ClientConfig(unix_path="/run/vm.sock")),
        ("spice+unix:///run/my%20vm", ClientConfig(unix_path="/run/my vm")),
        ("ws://host:8080/path?a=b", ClientConfig("host", 8080, websocket_path="/path?a=b")),
        ("ws://host", ClientConfig(host="host", port=80, websocket_path="/")),
        ("ws://host?token=1", ClientConfig(host="host", port=80, websocket_path="/?token=1")),
        ("wss://[::1]/x", ClientConfig(host="::1", tls_port=443, websocket_path="/x")),
        ("wss://host:7/x", ClientConfig(host="host", tls_port=7, websocket_path="/x")),
        (
            "spice://host?port=5900&tls-port=5901&password=a%26b",
            ClientConfig(host="host", port=5900, tls_port=5901, password="a&b"),
        ),
        ("spice://host?tls-port=5901", ClientConfig(host="host", tls_port=5901)),
        ("spice://host:1?tls-port=2;password=x", ClientConfig("host", 1, 2, password="x")),
        ("spice://host/?port=7", ClientConfig(host="host", port=7)),
        ("spice://me@host:1", ClientConfig(host="host", port=1, username="me")),
        (
            "spice://me%40home:p%3A%2F@host:1",
            ClientConfig(host="host", port=1, username="me@home", password="p:/"),
        ),
        ("spice://host?username=me", ClientConfig(host="host", port=5900, username="me")),
        (
            "spice://host?host-subject=O%3DMe%2CCN%3Dx&proxy=http://p:1",
            ClientConfig("host", 5900, host_subject="O=Me,CN=x", proxy="http://p:1"),
        ),
        ("spice://bücher.example", ClientConfig(host="bücher.example", port=5900)),
    ],
)
def test_addresses_are_read(text: str, expected: ClientConfig) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("host:5900", "did you mean spice://host:5900"),
        ("what is this", "no scheme"),
        ("vnc://host:5900", "scheme must be one of"),
        ("spice://", "no host"),
        ("spice://:5900", "no host"),
        ("spice://host:", "port behind the colon is missing"),
        ("spice://host:0", "1 to 65535"),
        ("spice://host:65536", "1 to 65535"),
        ("spice://host:٣", "1 to 65535"),
        ("spice://host:port", "1 to 65535"),
        ("spice://::1:5900", "brackets"),
        ("spice://[::1", "brackets"),
        ("spice://[host]:1", "isn't an IPv6"),
        ("spice://host:1/path", "has no path"),
        ("spice://host?prot=1", "'prot' isn't known"),
        ("spice://host?port", "'port' isn't known"),
        ("spice://host?port=1&port=2", "port is given twice"),
        ("spice://host:1?port=2", "port is given twice"),
        ("spice://host?tls-port=x", "its tls-port"),
        ("spice+tls://host?tls-port=1", "behind the host"),
        ("spice://ho st", "characters that no host"),
        ("spice://%ff", "isn't UTF-8"),
        ("spice://host?password=%00", "NUL"),
        ("spice://a..b.ü", "international name"),
        ("spice://host\n:1", "control characters"),
        ("spice://" + "a" * 600, "longer than 512"),
        ("spice://host?proxy=ftp://x", "http"),
        ("spice+unix://relative", "absolute"),
        ("spice+unix:///" + "a" * 107, "at most 107"),
        ("ws://host/a b", "percent-encoded"),
        ("file://elsewhere/x.vv", "three slashes"),
        ("/nonexistent/dir/file.vv", "can't be opened"),
        ("nonexistent.vv", "can't be read"),
    ],
)
def test_bad_addresses_say_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(AddressError, match=problem):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "spice://host:x?password=hunter2",
        "spice://me:hunter2@host:x",
        "spice://me:hun/ter2@host",
        "spice://me:hun?ter2@host",
        "spice://me:@hunter2@host:x",
        "spice://host?password=hunt&er2=1",
        "spice://host?port=x&PASSWORD=hunter2",
        "vnc://host?password=hunter2",
        "spice://host?proxy=http://me:hunter2@p:x",
        "ws://me:hunter2@host/a b",
    ],
)
def test_errors_never_show_a_password(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert "hun" not in str(caught.value)
    assert "er2" not in str(caught.value)
    assert "hun" not in mask_address(text)


@given(st.text())
@example("spice://\ud800")
@example("file:///\ud800.vv")
@example("\ud800.vv")
@example("file:///%00.vv")
def test_arbitrary_text_raises_only_address_error(text: str) -> None:
    with contextlib.suppress(AddressError):
        parse_address(text)


PIECES = st.sampled_from(
    ["[", "]", ":", "@", "/", "?", "&", "=", "%", "port", "password", "12", "ü", "::1", "\0", "."]
)


@given(
    st.sampled_from(["spice://", "spice+tls://", "spice+unix://", "ws://", "wss://", "file://"]),
    st.lists(PIECES | st.text(max_size=3)),
)
def test_what_resembles_an_address_raises_only_address_error(scheme: str, parts: list[str]) -> None:
    text = scheme + "".join(parts)
    try:
        config = parse_address(text)
    except AddressError:
        return
    assert config.unix_path or (config.host and (config.port or config.tls_port))


@given(st.text())
def test_masked_text_is_one_printable_line(text: str) -> None:
    assert mask_address(text).isprintable()


def test_a_connection_file_is_an_address(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "my vm.vv"
    file.write_text("[virt-viewer]\ntype=spice\nhost=h\nport=1\n")
    expected = ClientConfig(host="h", port=1)
    assert parse_address(str(file)) == expected
    assert parse_address(f"file://{tmp_path}/my%20vm.vv") == expected
    assert parse_address(f"file://localhost{tmp_path}/my%20vm.vv") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://p:1", Proxy("http", "p", 1)),
        ("p", Proxy("http", "p", 3128)),
        ("https://p/", Proxy("https", "p", 3129)),
        ("http://u:p%40ss@[::1]:9", Proxy("http", "::1", 9, "u", "p@ss")),
    ],
)
def test_proxies_are_read(text: str, expected: Proxy) -> None:
    assert parse_proxy(text) == expected
    assert "ss" not in repr(expected)


@given(st.text() | st.lists(PIECES).map("".join))
def test_arbitrary_proxies_raise_only_address_error(text: str) -> None:
    with contextlib.suppress(AddressError):
        parse_proxy(text)
