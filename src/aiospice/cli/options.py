"""What all verbs of a client have in common: their options, the password, the session."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from aiospice.cli import complain
from aiospice.errors import LocalError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import AsyncIterator

    from aiospice.client.config import ClientConfig

__all__ = [
    "PASSWORD_VARIABLE",
    "add_common",
    "check_mode",
    "config",
    "connected",
    "limit",
    "logging_level",
    "read_password",
    "seconds",
    "start_log",
    "warn",
]

PASSWORD_VARIABLE = "AIOSPICE_PASSWORD"
_PASSWORD_LIMIT = 4096


def add_common(parser: ArgumentParser) -> None:
    """Add the address and the options of every client verb."""
    parser.add_argument("address", metavar="ADDRESS", help="spice://HOST:PORT or a .vv file")
    group = parser.add_argument_group("connection")
    group.add_argument(
        "--password-file",
        metavar="FILE",
        help=f"its first line is the password; - is standard input ({PASSWORD_VARIABLE} works too)",
    )
    group.add_argument("--ca-file", metavar="FILE", help="PEM file of the authorities to trust")
    group.add_argument("--host-subject", metavar="SUBJECT", help="what the certificate must say")
    group.add_argument("--proxy", metavar="URL", help="http://HOST:PORT")
    group.add_argument("--timeout", metavar="SECONDS", type=limit, help="of each step (10)")
    group.add_argument(
        "--compression",
        metavar="NAME",
        help="of images: off, auto_glz, auto_lz, quic, glz, lz or lz4 (as the server likes)",
    )
    group.add_argument(
        "--video-codecs",
        metavar="NAMES",
        type=_names,
        help="the best first: mjpeg, vp8, h264, vp9, h265 or none (as the server likes)",
    )
    group.add_argument("--capture", metavar="FILE", help="record the session as pcapng")
    group.add_argument(
        "--migrate-to",
        metavar="PATTERN",
        action="append",
        help="hosts that the server may send the session to (any); may be repeated",
    )
    group.add_argument("-v", dest="verbose", action="count", default=0, help="tell more")


def _names(text: str) -> tuple[str, ...]:
    """Read a list of names with commas between them; ``none`` is the empty one."""
    return () if text == "none" else tuple(text.split(","))


def seconds(text: str) -> float:
    """Read a length of time, zero or more; ``inf`` is for ever."""
    value = float(text)
    if not value >= 0:
        raise ValueError("negative")
    return value


def limit(text: str) -> float:
    """Read a length of time that is more than zero."""
    value = seconds(text)
    if not value:
        raise ValueError("zero")
    return value


def warn(text: str) -> None:
    """Write a line for people."""
    from aiospice.cli.escape import escape

    complain(f"aiospice: warning: {escape(text)}\n")


def config(args: Namespace) -> ClientConfig:
    """Read the address and find the password: the file's, the address's, the environment's."""
    from aiospice.aio.address import parse_address

    found = parse_address(args.address)
    if args.password_file is not None:
        return found._replace(password=read_password(args.password_file))
    if not found.password and os.environ.get(PASSWORD_VARIABLE):
        return found._replace(password=os.environ[PASSWORD_VARIABLE])
    return found


@asynccontextmanager
async def connected(
    args: Namespace, *channels: str, agent: bool | None = None
) -> AsyncIterator[Any]:
    """Connect as the options say; ``channels`` are the types that the verb needs (none: all).

    ``agent``: take up with the guest's agent; None: only if the verb needs all channels.
    """
    if args.verbose:
        start_log(logging_level(args.verbose))
    target = config(args)
    options = {
        "ca_file": args.ca_file,
        "host_subject": args.host_subject,
        "proxy": args.proxy,
        "timeout": args.timeout,
        "compression": args.compression,
        "migrate_to": tuple(args.migrate_to or ()),
        "channels": channels,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value}
    given["agent"] = not channels if agent is None else agent
    if args.video_codecs is not None:
        given["video_codecs"] = args.video_codecs
    with _capture(args, target) as capture:
        import aiospice

        if capture is not None:
            given["capture"] = capture
        async with aiospice.connect(target, **given) as session:
            yield session


def _capture(args: Namespace, target: ClientConfig) -> Any:
    if not args.capture:
        return nullcontext()
    from aiospice.aio.capture import CaptureFile

    return CaptureFile(args.capture, title=repr(target))


def read_password(path: str) -> str:
    """The first line of a file, ``-`` for standard input; `LocalError` if it is no password."""
    if path == "-":
        data = _first_line()
    else:
        try:
            with open(path, "rb") as file:
                check_mode(path, os.fstat(file.fileno()).st_mode)
                data = file.readline(_PASSWORD_LIMIT + 1)
        except OSError as error:
            raise LocalError(f"the password file {path} can't be read: {error.strerror}") from None
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    if not data or len(data) > _PASSWORD_LIMIT:
        raise LocalError(f"the first line of the password file {path} is empty or too long")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise LocalError(f"the password file {path} isn't UTF-8") from None


def check_mode(path: str, mode: int, what: str = "password file") -> None:
    """Warn of a file with secrets that other users can read."""
    import stat

    if stat.S_ISREG(mode) and mode & 0o077:
        warn(f"the {what} {path} is open to other users; try: chmod 600 {path}")


def _first_line() -> bytes:
    """Read a line from standard input and not a byte more: what follows may be for the verb."""
    line = b""
    while not line.endswith(b"\n") and len(line) <= _PASSWORD_LIMIT:
        char = os.read(0, 1) if sys.stdin is not None else b""
        if not char:
            break
        line += char
    return line


def logging_level(verbose: int) -> int:
    """How much ``-v`` and ``-vv`` want to be logged."""
    return 10 if verbose > 1 else 20


def start_log(level: int) -> None:
    """Write the log to standard error, from that level on."""
    import logging

    from aiospice.cli.escape import escape

    class Escaping(logging.Formatter):
        def formatMessage(self, record: logging.LogRecord) -> str:
            return escape(super().formatMessage(record))

    handler = logging.StreamHandler()
    handler.setFormatter(Escaping("%(asctime)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
