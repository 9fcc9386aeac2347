"""Reading what a person types as the address of a server.

========================================  ====================================================
``spice://host:port``                     plain TCP; port 5900 if none is given
``spice+tls://host:port``                 TLS from the first byte; port 5900 if none is given
``spice://host?port=P&tls-port=T``        both; each channel takes the one that the server wants
``spice+unix:///path/of/socket``          a UNIX socket
``ws://host:port/path``, ``wss://...``    WebSocket; port 80 or 443 if none is given
``file.vv``, ``file:///path/file.vv``     a connection file (`aiospice.aio.vv`)
========================================  ====================================================

A user name for SASL goes before the host (``spice://user@host``), IPv6 addresses go into
brackets, and special characters are percent-encoded. The long form also takes ``password``,
``username``, ``host-subject`` and ``proxy``; the first three names are those of spice-gtk
(spice-session.c).
"""

from __future__ import annotations

from aiospice.client.config import ClientConfig
from aiospice.errors import AddressError

__all__ = ["DEFAULT_PORT", "mask_address", "parse_address"]

DEFAULT_PORT = 5900

_SCHEMES = ("spice", "spice+tls", "spice+unix", "ws", "wss", "file")
_QUERY_KEYS = ("port", "tls-port", "password", "username", "host-subject", "proxy")
_EXAMPLE = "for example spice://127.0.0.1:5900, spice+tls://host:5901, ws://host:80/ or file.vv"
#: Room of ``sockaddr_un.sun_path`` on Linux, without the final NUL.
_UNIX_PATH_BYTES = 107
#: DNS names have 255; the tokens that Proxmox uses as hosts are longer than a label may be.
_MAX_HOST = 512


def parse_address(text: str) -> ClientConfig:
    """Read an address (see the module) or the connection file that it names.

    Raises `AddressError`, which shows the address without its password.
    """
    text = text.strip()
    if not text:
        raise AddressError(f"the address is empty; {_EXAMPLE}")
    scheme, separator, rest = text.partition("://")
    if separator:
        return _by_scheme(text, scheme.lower(), rest)
    if text.lower().endswith(".vv"):
        return _connection_file(text)
    advice = _EXAMPLE
    if all(c.isalnum() or c in "-.:[]_" for c in text):
        advice = f"did you mean spice://{text}?"
    raise _bad(text, f"it has no scheme; {advice}")


def _by_scheme(text: str, scheme: str, rest: str) -> ClientConfig:
    if any(ord(c) < 0x20 or ord(c) == 0x7F for c in text):
        raise _bad(text, "it contains control characters")
    if scheme == "file":
        return _connection_file(_file_path(text, rest))
    if scheme == "spice+unix":
        return ClientConfig(unix_path=_unix_path(text, rest))
    if scheme in ("ws", "wss"):
        return _websocket(text, scheme, rest)
    if scheme in ("spice", "spice+tls"):
        return _spice(text, scheme, rest)
    raise _bad(text, f"its scheme must be one of {', '.join(_SCHEMES)}; {_EXAMPLE}")


def _spice(text: str, scheme: str, rest: str) -> ClientConfig:
    place, _, query = rest.partition("?")
    place, slash, path = place.partition("/")
    if "@" in path:
        raise _bad(text, "write / in a user name or password as %2F, and @ as %40")
    if slash and path:
        raise _bad(text, "a spice:// address has no path; ws:// has")
    user, password, host, port = _authority(text, place)
    options = _options(text, query)
    if scheme == "spice+tls" and ("port" in options or "tls-port" in options):
        raise _bad(text, "spice+tls:// takes its port behind the host: spice+tls://host:5901")
    if port and "port" in options:
        raise _bad(text, "the port is given twice")
    plain = port or _port(text, options, "port")
    tls = _port(text, options, "tls-port")
    if scheme == "spice+tls":
        plain, tls = 0, plain or DEFAULT_PORT
    elif not plain and not tls:
        plain = DEFAULT_PORT
    return ClientConfig(
        host=host,
        port=plain,
        tls_port=tls,
        username=user or options.get("username", ""),
        password=password or options.get("password", ""),
        host_subject=options.get("host-subject", ""),
        proxy=_proxy(text, options.get("proxy", "")),
    )


def _websocket(text: str, scheme: str, rest: str) -> ClientConfig:
    rest, _, _ = rest.partition("#")
    cut = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    user, password, host, port = _authority(text, rest[:cut])
    path = rest[cut:]
    if not path.startswith("/"):
        path = "/" + path
    if not path.isascii() or " " in path:
        raise _bad(text, "spaces and letters beyond ASCII in its path must be percent-encoded")
    secure = scheme == "wss"
    return ClientConfig(
        host=host,
        port=0 if secure else port or 80,
        tls_port=(port or 443) if secure else 0,
        websocket_path=path,
        username=user,
        password=password,
    )


def _authority(text: str, place: str) -> tuple[str, str, str, int]:
    """Split ``user:password@host:port``; port 0 if there is none."""
    userinfo, _, place = place.rpartition("@")
    user, _, password = userinfo.partition(":")
    if place.startswith("["):
        host, bracket, port = place[1:].partition("]")
        if not bracket or port[:1] not in ("", ":"):
            raise _bad(text, "an IPv6 address goes into brackets: spice://[::1]:5900")
        host = _decode(text, host, "host")
        port = port[1:]
        from aiospice.aio.proxy import is_ipv6

        if not is_ipv6(host):
            raise _bad(text, "what is in brackets isn't an IPv6 address: spice://[::1]:5900")
    else:
        host, colon, port = place.partition(":")
        if ":" in port:
            raise _bad(text, "an IPv6 address goes into brackets: spice://[::1]:5900")
        host = _decode(text, host, "host")
        if colon and not port:
            raise _bad(text, "the port behind the colon is missing: spice://host:5900")
    _check_host(text, host)
    number = _port_number(text, port, "port") if port else 0
    return _decode(text, user, "user"), _decode(text, password, "password"), host, number


def _check_host(text: str, host: str) -> None:
    if not host:
        raise _bad(text, "it has no host: spice://host:5900")
    if len(host) > _MAX_HOST:
        raise _bad(text, f"its host is longer than {_MAX_HOST} characters")
    if any(c.isspace() or not c.isprintable() or c in "\"'<>\\^`{|}[]/?#@" for c in host):
        raise _bad(text, "its host contains characters that no host name has")
    if not host.isascii():
        try:
            host.encode("idna")
        except UnicodeError:
            raise _bad(text, "its host isn't a valid international name") from None


def _options(text: str, query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in query.replace(";", "&").split("&"):
        if not part:
            continue
        key, equals, value = part.partition("=")
        if key not in _QUERY_KEYS or not equals:
            # Behind a password this may be a piece of it, so it isn't shown.
            secret = "password" in options or "@" in query
            shown = "an option" if secret else f"the option {key[:40]!r}"
            raise _bad(
                text,
                f"{shown} isn't known; there are {', '.join(_QUERY_KEYS)} "
                "(write & as %26, ; as %3B): spice://host?port=5900&tls-port=5901",
            )
        if key in options:
            raise _bad(text, f"the option {key} is given twice")
        options[key] = _decode(text, value, key)
    return options


def _port(text: str, options: dict[str, str], key: str) -> int:
    return _port_number(text, options[key], key) if options.get(key) else 0


def _port_number(text: str, value: str, key: str) -> int:
    if not (value.isascii() and value.isdigit() and 0 < int(value[:6]) < 65536):
        raise _bad(text, f"its {key} must be a number from 1 to 65535: spice://host:5900")
    return int(value)


def _proxy(text: str, value: str) -> str:
    if value:
        try:
            from aiospice.aio.proxy import parse_proxy

            parse_proxy(value)
        except AddressError as error:
            raise _bad(text, str(error)) from None
    return value


def _unix_path(text: str, rest: str) -> str:
    path = _decode(text, rest, "path")
    if not path.startswith("/"):
        raise _bad(text, "the path of the socket must be absolute: spice+unix:///run/vm.sock")
    if len(path.encode()) > _UNIX_PATH_BYTES:
        raise _bad(text, f"the path of a UNIX socket has at most {_UNIX_PATH_BYTES} bytes")
    return path


def _file_path(text: str, rest: str) -> str:
    host, slash, path = rest.partition("/")
    if host.lower() not in ("", "localhost") or not path:
        raise _bad(text, "a file address has three slashes: file:///srv/vm.vv")
    return slash + _decode(text, path, "path")


def _connection_file(path: str) -> ClientConfig:
    from aiospice.aio.vv import load_vv

    return load_vv(path)


def _decode(text: str, value: str, what: str) -> str:
    try:
        if "%" in value:
            from urllib.parse import unquote

            value = unquote(value, errors="strict")
        value.encode()
    except UnicodeError:
        raise _bad(text, f"its {what} isn't UTF-8 when decoded") from None
    if "\0" in value:
        raise _bad(text, f"its {what} contains a NUL character")
    return value


def _bad(text: str, problem: str) -> AddressError:
    return AddressError(f"bad address {mask_address(text)}: {problem}")


def mask_address(text: str) -> str:
    """Return ``text`` fit for a log: no user info, nothing from ``password=`` on, one line.

    It hides too much rather than too little, since in a wrong address a password may stand
    where it isn't expected.
    """
    scheme, separator, rest = text.partition("://")
    if separator and "@" in rest:
        rest = "***@" + rest.rpartition("@")[2]
    text = scheme + separator + rest
    cut = text.lower().find("password")
    if cut >= 0:
        text = text[:cut] + text[cut : cut + 8] + "=***"
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    text = text.encode("utf-8", "replace").decode()
    return repr(text if len(text) <= 200 else text[:200] + "...")
