"""``aiospice screenshot ADDRESS -o FILE``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aiospice.cli.options import add_common, connected, seconds
from aiospice.errors import LocalError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["arguments", "run"]


def arguments(verb: str, parser: ArgumentParser) -> None:
    """Add the options."""
    add_common(parser)
    parser.add_argument(
        *("-o", "--output"),
        metavar="FILE",
        required=True,
        help="where to: a .png or .ppm file, or - for standard output (PNG)",
    )
    parser.add_argument("--display", metavar="N", type=int, default=0, help="which screen (0)")
    parser.add_argument(
        *("--settle", "-s"),
        metavar="SECONDS",
        type=seconds,
        default=0.03,
        help="how long nothing must have changed (0.03: a refresh of QEMU)",
    )


async def run(verb: str, args: Namespace) -> int:
    """Take the picture."""
    _check(args.output)
    async with connected(args, "main", "display") as session:
        image = await session.screen(
            display=args.display, settle=args.settle, timeout=args.timeout or 10.0
        )
    await _save(args.output, _encode(args.output, image))
    return 0


def _check(path: str) -> None:
    """Refuse at once what could only fail at the end."""
    if path == "-" and os.isatty(1):
        raise LocalError("a picture doesn't go to a terminal; try: -o FILE.png")
    folder = os.path.dirname(path) or "."
    if path != "-" and (os.path.isdir(path) or not os.path.isdir(folder)):
        what = "is a folder" if os.path.isdir(path) else f"can't be: there is no folder {folder}"
        raise LocalError(f"the output file {path} {what}")


def _encode(path: str, image: Any) -> bytes:
    from aiospice.aio.png import png, ppm

    write = ppm if path.lower().endswith((".ppm", ".pnm")) else png
    return write(image.width, image.height, image.rgb())


async def _save(path: str, data: bytes) -> None:
    if path == "-":
        from aiospice.cli.stdio import write_output

        await write_output(data)
        return
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise LocalError(f"the output file {path} can't be written: {error.strerror}") from None
