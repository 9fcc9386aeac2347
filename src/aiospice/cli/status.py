"""``aiospice status CONTROL``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

__all__ = ["arguments", "run"]


def arguments(verb: str, parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("control", metavar="CONTROL", help="path of a server's control socket")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("-v", dest="verbose", action="count", default=0, help="tell more")


async def run(verb: str, args: Namespace) -> int:
    """Ask a server how it is, and show it."""
    from aiospice.aio.control import ControlClient
    from aiospice.cli.stdio import write_line

    async with ControlClient(args.control) as control:
        status = await control.ask("status")
    if args.json:
        from json import dumps

        await write_line(dumps(status))
        return 0
    from aiospice.cli.escape import escape

    for line in _lines(status):
        await write_line(escape(line))
    return 0


def _lines(status: dict[str, Any]) -> Iterator[str]:
    """The status for people: whatever is in it, indented under its names."""
    for name, value in status.items():
        yield from _shown(name.replace("_", " "), value, 0)


def _shown(name: str, value: Any, depth: int) -> Iterator[str]:
    space = "  " * depth
    if isinstance(value, dict) and any(isinstance(one, (dict, list)) for one in value.values()):
        yield f"{space}{name}:"
        for key, inner in value.items():
            yield from _shown(key.replace("_", " "), inner, depth + 1)
    elif isinstance(value, dict):
        yield f"{space}{name}: {_pairs(value)}"
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        yield f"{space}{name}: {len(value)}"
        for number, inner in enumerate(value):
            yield from _shown(_title(inner, number), inner, depth + 1)
    elif isinstance(value, list):
        yield f"{space}{name}: {', '.join(map(_text, value)) or 'none'}"
    else:
        yield f"{space}{name}: {_text(value)}"


def _title(value: Any, number: int) -> str:
    """What a thing in a list is called: by its own name, or its number."""
    if isinstance(value, dict):
        for key in ("channel", "client", "name", "display", "id"):
            if isinstance(value.get(key), (str, int)):
                return str(value[key])
    return str(number)


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_text(value)}" for key, value in values.items())


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
