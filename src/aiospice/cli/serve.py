"""``aiospice serve``."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from aiospice.cli.options import (
    PASSWORD_VARIABLE,
    check_mode,
    limit,
    logging_level,
    read_password,
    start_log,
)
from aiospice.errors import LocalError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from aiospice.aio.listen import Listen
    from aiospice.aio.serve import Server
    from aiospice.link.sasl import SaslUser
    from aiospice.server.guest import Guest

__all__ = ["GUESTS", "arguments", "run"]

#: Guest: its module and its class.
GUESTS = {
    "demo": ("demo", "DemoGuest"),
    "terminal": ("terminal", "TerminalGuest"),
    "x11": ("x11", "X11Guest"),
}

#: Options that name addresses: their scheme.
_LISTEN = {
    "listen": "spice",
    "tls_listen": "spice+tls",
    "ws_listen": "ws",
    "wss_listen": "wss",
}
_USERS_LIMIT = 1 << 20


def arguments(verb: str, parser: ArgumentParser) -> None:
    """Add the options."""
    _shown(parser.add_argument_group("what is shown"))
    _where(parser.add_argument_group("where it listens"))
    _who(parser.add_argument_group("who may come"))
    _what(parser.add_argument_group("what clients may do"))
    _moves(parser.add_argument_group("guests that move"))
    parser.add_argument("--control", metavar="PATH", help="socket for aiospice status and others")
    parser.add_argument("--ready-fd", metavar="N", type=int, help="gets the addresses, a line each")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("-v", dest="verbose", action="count", default=0, help="tell more")


def _shown(group: Any) -> None:
    group.add_argument(
        "--guest",
        metavar="NAME",
        default="demo",
        help=f"{', '.join(GUESTS)}, or MODULE:CLASS of your own (demo)",
    )
    group.add_argument("--size", metavar="WIDTHxHEIGHT", type=_size, help="of the screen")
    group.add_argument("--displays", metavar="N", type=int, help="how many screens")
    group.add_argument("--folder", metavar="DIR", help="where files go, or the shell starts")
    group.add_argument("--display", metavar="NAME", help="an X display that runs already")
    group.add_argument("--name", metavar="NAME", help="of the machine, for clients (the guest's)")
    group.add_argument(
        "command", metavar="COMMAND", nargs="*", help="what the guest runs, behind --"
    )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def _where(group: Any) -> None:
    group.add_argument(
        "--listen",
        metavar="HOST:PORT",
        action="append",
        help="plain SPICE (127.0.0.1:5900); HOST *: all addresses; PORT 0: one that is free",
    )
    group.add_argument("--tls-listen", metavar="HOST:PORT", action="append", help="TLS")
    group.add_argument("--ws-listen", metavar="HOST:PORT", action="append", help="WebSocket")
    group.add_argument(
        "--wss-listen", metavar="HOST:PORT", action="append", help="WebSocket over TLS"
    )
    group.add_argument("--unix", metavar="PATH", action="append", help="UNIX socket, for this user")
    group.add_argument("--certificate", metavar="FILE", help="PEM file for TLS")
    group.add_argument("--key", metavar="FILE", help="PEM file of its key, if it isn't in there")
    group.add_argument(
        "--origin", metavar="ORIGIN", action="append", help="of web pages that may come (same host)"
    )


def _who(group: Any) -> None:
    group.add_argument(
        "--password-file",
        metavar="FILE",
        help=f"its first line is the password; - is standard input ({PASSWORD_VARIABLE} works too)",
    )
    group.add_argument(
        "--ticket-expires", metavar="SECONDS", type=limit, help="until the password is void (never)"
    )
    group.add_argument("--once", action="store_true", help="the password lets one session in")
    group.add_argument("--users-file", metavar="FILE", help="SASL: NAME:PASSWORD, a line each")
    group.add_argument(
        "--secure-channels", metavar="NAMES", help="for TLS only: inputs,record or all (none)"
    )
    group.add_argument(
        "--on-second-client",
        choices=("takeover", "refuse", "share"),
        default="takeover",
        help="what another client does (takeover)",
    )


def _what(group: Any) -> None:
    group.add_argument("--no-copy-paste", action="store_true", help="no clipboard")
    group.add_argument("--no-file-transfer", action="store_true", help="no files to the guest")
    group.add_argument(
        "--compression",
        choices=("auto", "off", "lz", "quic", "glz", "auto_lz", "auto_glz", "lz4"),
        default="auto",
        help="of images (auto)",
    )


def _moves(group: Any) -> None:
    group.add_argument(
        "--incoming", action="store_true", help="the guest comes from another server"
    )
    group.add_argument(
        "--keep",
        choices=("none", "tokens", "acks"),
        default="none",
        help="what clients keep copies of, for the policies replay and ack (none)",
    )
    group.add_argument(
        "--migrate-listen",
        metavar="tls://HOST:PORT",
        help="where other servers hand over guests, besides the control socket",
    )
    group.add_argument("--migrate-cert", metavar="FILE", help="PEM file, shown to other servers")
    group.add_argument("--migrate-key", metavar="FILE", help="PEM file of its key")
    group.add_argument("--migrate-ca", metavar="FILE", help="who has signed the others'")
    group.add_argument(
        "--migrate-host", metavar="HOST", default="", help="by which clients reach this server"
    )


async def run(verb: str, args: Namespace) -> int:
    """Serve until a signal, the control socket or the guest ends it."""
    import logging

    import aiospice
    from aiospice.aio.memory import keep_memory

    keep_memory()
    start_log(logging_level(args.verbose) if args.verbose else logging.WARNING)
    options = _options(args)
    guest = _guest(args)
    async with aiospice.serve(guest, listen=_listens(args), **options) as server:
        _end_by_signals(server)
        await _tell_addresses(server, args)
        if args.json:
            async for event in server.events():
                await _line(event.as_dict())
        await server.wait_closed()
    return 0


def _listens(args: Namespace) -> list[Listen]:
    from aiospice.aio.listen import parse_listen

    found = [
        parse_listen(text, scheme)
        for option, scheme in _LISTEN.items()
        for text in getattr(args, option) or ()
    ]
    found += [parse_listen(f"spice+unix://{os.path.abspath(path)}") for path in args.unix or ()]
    return found


def _options(args: Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {
        "certificate": args.certificate,
        "key": args.key,
        "origins": tuple(args.origin or ()),
        "password": _password(args),
        "password_expires": args.ticket_expires,
        "password_once": args.once,
        "secure_channels": args.secure_channels or "",
        "on_second_client": args.on_second_client,
        "copy_paste": not args.no_copy_paste,
        "file_transfer": not args.no_file_transfer,
        "compression": args.compression,
        "control": args.control,
        "incoming": args.incoming,
        "keep": args.keep,
        "migrate_listen": args.migrate_listen,
        "migrate_cert": args.migrate_cert,
        "migrate_key": args.migrate_key,
        "migrate_ca": args.migrate_ca,
        "migrate_host": args.migrate_host,
    }
    if args.name is not None:
        found["name"] = args.name
    if args.users_file is not None:
        found["users"] = _users(args.users_file)
    if (args.once or args.ticket_expires is not None) and found["password"] is None:
        raise LocalError("--once and --ticket-expires need a password: give --password-file")
    return found


def _password(args: Namespace) -> str | None:
    if args.password_file is not None:
        return read_password(args.password_file)
    if args.users_file is not None:
        return None
    return os.environ.get(PASSWORD_VARIABLE) or None


def _users(path: str) -> dict[str, SaslUser]:
    """Read names and passwords; empty lines and those that begin with # don't count."""
    try:
        with open(path, encoding="utf-8") as file:
            check_mode(path, os.fstat(file.fileno()).st_mode, "users file")
            text = file.read(_USERS_LIMIT)
    except OSError as error:
        raise LocalError(f"the users file {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise LocalError(f"the users file {path} isn't UTF-8") from None
    found: dict[str, SaslUser] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, password = line.partition(":")
        if not name or not colon or not password:
            raise LocalError(f"line {number} of the users file {path} isn't NAME:PASSWORD")
        found[name] = _secret(password, f"line {number} of the users file {path}")
    if not found:
        raise LocalError(f"the users file {path} names nobody")
    return found


def _secret(text: str, where: str) -> SaslUser:
    """A password, or SCRAM keys as PostgreSQL writes them.

    ``SCRAM-SHA-256$ROUNDS:SALT$STORED_KEY:SERVER_KEY``, all but the number in base64.
    """
    if not text.startswith(("SCRAM-SHA-256$", "SCRAM-SHA-1$")):
        return text
    from base64 import b64decode

    from aiospice.link.sasl import ScramKeys

    try:
        mechanism, first, second = text.split("$")
        rounds, salt = first.split(":")
        stored, server = second.split(":")
        keys = [b64decode(part, validate=True) for part in (salt, stored, server)]
        return ScramKeys(mechanism, keys[0], keys[1], keys[2], int(rounds))
    except ValueError:
        raise LocalError(
            f"{where} has keys that can't be read, expected "
            "SCRAM-SHA-256$ROUNDS:SALT$STORED_KEY:SERVER_KEY"
        ) from None


def _guest(args: Namespace) -> Guest:
    """Make the guest that is asked for, with the options that it takes."""
    kind = _guest_class(args.guest)
    given = {
        "size": args.size,
        "displays": args.displays,
        "folder": args.folder,
        "display": args.display,
        "command": args.command or None,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    from inspect import signature

    taken = signature(kind).parameters
    for name in wanted:
        if name not in taken:
            what = "COMMAND" if name == "command" else f"--{name}"
            raise LocalError(f"the guest {args.guest} takes no {what}")
    made: Guest = kind(**wanted)
    return made


def _guest_class(name: str) -> Any:
    module, colon, kind = name.partition(":")
    if name in GUESTS:
        module, kind = GUESTS[name]
        return getattr(import_module(f"aiospice.guests.{module}"), kind)
    if not colon:
        raise LocalError(
            f"no guest is called {name!r}, only {', '.join(GUESTS)}; your own is MODULE:CLASS"
        )
    import sys

    sys.path.insert(0, os.getcwd())
    try:
        return getattr(import_module(module), kind)
    except (ImportError, AttributeError, ValueError) as error:
        raise LocalError(f"the guest {name} can't be loaded: {error}") from error


def _end_by_signals(server: Server) -> None:
    """Ctrl-C and SIGTERM end the server in order; a second one ends it at once."""
    import asyncio
    import signal
    from contextlib import suppress

    loop = asyncio.get_running_loop()

    def end() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        server.end()

    with suppress(NotImplementedError):  # Windows
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)


async def _tell_addresses(server: Server, args: Namespace) -> None:
    from aiospice.cli.stdio import write_line

    if args.json:
        await _line({"event": "listening", "addresses": list(server.addresses)})
    else:
        for address in server.addresses:
            await write_line(address)
    if args.ready_fd is None:
        return
    try:
        with os.fdopen(args.ready_fd, "w") as file:
            file.write("".join(f"{address}\n" for address in server.addresses))
    except OSError as error:
        raise LocalError(f"--ready-fd {args.ready_fd}: {error.strerror}") from None


async def _line(what: dict[str, Any]) -> None:
    from json import dumps

    from aiospice.cli.stdio import write_line

    await write_line(dumps(what))
