"""``aiospice clipboard get|set ADDRESS [TEXT]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.cli.options import add_common, connected, seconds
from aiospice.errors import LocalError, SpiceTimeout, StateError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["arguments", "run"]

_FORMS = ("text", "png", "bmp", "tiff", "jpg", "file-list")
_SELECTIONS = ("clipboard", "primary", "secondary")
#: How much of a file or of standard input is offered, in bytes.
_LIMIT = 100 << 20


def arguments(verb: str, parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("action", choices=("get", "set"), help="which way")
    add_common(parser)
    parser.add_argument(
        "text", metavar="TEXT", nargs="?", help="what to offer (set); - or nothing: standard input"
    )
    parser.add_argument("--selection", choices=_SELECTIONS, default="clipboard", help="(clipboard)")
    parser.add_argument("--form", choices=_FORMS, default="text", help="of the content (text)")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to put it (get); - is stdout")
    parser.add_argument("-i", "--input", metavar="FILE", help="what to offer (set)")
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=seconds,
        default=10.0,
        help="for something to be copied in the guest (get, 10; or inf)",
    )
    parser.add_argument(
        "--hold",
        metavar="SECONDS",
        type=seconds,
        default=float("inf"),
        help="how long to wait for the guest to paste it (set, inf)",
    )


async def run(verb: str, args: Namespace) -> int:
    """Fetch what the guest has copied, or offer something until it is pasted."""
    if args.action == "get":
        if args.text is not None or args.input is not None:
            raise LocalError("get takes neither a text nor --input")
        async with connected(args, "main", agent=True) as session:
            await _write(args, await _get(args, session))
        return 0
    if args.output is not None:
        raise LocalError("set takes no --output")
    content = await _content(args)
    async with connected(args, "main", agent=True) as session:
        await _set(args, session, content)
    return 0


async def _get(args: Namespace, session: Any) -> bytes:
    """Ask at once, and again when something is copied."""
    import asyncio

    board = session.clipboard
    limit = args.timeout or 10.0
    clock = asyncio.get_running_loop().time
    end = clock() + args.wait
    while True:
        known = board.offered(args.selection)
        try:
            return bytes(await board.get(args.form, args.selection, timeout=limit))
        except StateError:
            if known and args.form not in known:
                raise StateError(
                    f"the guest's {args.selection} has {', '.join(known) or 'nothing'}, "
                    f"but no {args.form}"
                ) from None
            left = end - clock()
            if known or left <= 0:
                raise
        try:
            await board.copied(args.selection, timeout=None if left == float("inf") else left)
        except SpiceTimeout as error:
            raise SpiceTimeout(f"{error}; --wait gives it more time") from None


async def _write(args: Namespace, data: bytes) -> None:
    if args.output is not None and args.output != "-":
        try:
            with open(args.output, "wb") as file:
                file.write(data)
        except OSError as error:
            raise LocalError(f"{args.output}: can't be written: {error.strerror}") from None
        return
    import os
    import sys

    from aiospice.cli.stdio import write_output

    if sys.stdout is not None and os.isatty(1):
        if args.form not in ("text", "file-list"):
            raise LocalError(f"{args.form} isn't for a terminal: give -o FILE")
        from aiospice.cli.escape import escape_stream

        data = escape_stream(data.decode("utf-8", "backslashreplace")).encode() + b"\n"
    await write_output(data)


async def _content(args: Namespace) -> bytes:
    given = (args.text is not None) + (args.input is not None)
    if given > 1:
        raise LocalError("a text or --input, not both")
    if args.input is not None and args.input != "-":
        try:
            with open(args.input, "rb") as file:
                return file.read(_LIMIT + 1)
        except OSError as error:
            raise LocalError(f"{args.input}: can't be read: {error.strerror}") from None
    if args.text is not None and args.text != "-":
        return str(args.text).encode("utf-8", "surrogateescape")
    from aiospice.cli.stdio import read_input

    data = b""
    while len(data) <= _LIMIT and (part := await read_input()):
        data += part
    return data


async def _set(args: Namespace, session: Any, content: bytes) -> None:
    import asyncio

    board = session.clipboard
    await board.set({args.form: content}, args.selection, timeout=args.timeout or 10.0)
    hold = None if args.hold == float("inf") else args.hold
    pasted = asyncio.ensure_future(board.pasted(args.selection, timeout=hold))
    over = asyncio.ensure_future(session.wait_closed())
    try:
        await asyncio.wait({pasted, over}, return_when=asyncio.FIRST_COMPLETED)
        if pasted.done():
            pasted.result()
        else:
            over.result()
    finally:
        pasted.cancel()
        over.cancel()
        await asyncio.gather(pasted, over, return_exceptions=True)
