"""``aiospice type``, ``key``, ``click``, ``move``, ``drag`` and ``scroll``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.cli.options import add_common, connected

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["arguments", "run"]

_PLACES = {
    "click": (("x", "X"), ("y", "Y")),
    "move": (("x", "X"), ("y", "Y")),
    "drag": (("x", "X0"), ("y", "Y0"), ("x1", "X1"), ("y1", "Y1")),
    "scroll": (("dy", "STEPS"),),
}
_BUTTONS = ("left", "middle", "right", "side", "extra")


def arguments(verb: str, parser: ArgumentParser) -> None:
    """Add the options of one of the verbs."""
    add_common(parser)
    if verb == "type":
        parser.add_argument("text", metavar="TEXT", help="what to type; - reads standard input")
    if verb == "key":
        parser.add_argument("keys", metavar="KEYS", nargs="+", help="such as ctrl-alt-f2, enter, a")
    if verb in ("type", "key"):
        parser.add_argument("--layout", default="us", help="keyboard layout of the guest (us)")
    for name, shown in _PLACES.get(verb, ()):
        text = "notches, down is positive" if name == "dy" else "in pixels from the top left"
        parser.add_argument(name, metavar=shown, type=int, help=text)
    if verb in ("click", "drag"):
        parser.add_argument("--button", choices=_BUTTONS, default="left", help="(left)")


async def run(verb: str, args: Namespace) -> int:
    """Send the input."""
    if verb == "type":
        args.text = await _text(args.text)
    if verb in ("type", "key"):
        _check(verb, args)
    async with connected(args, "main", "inputs") as session:
        await _send(verb, args, session)
    return 0


async def _text(text: str) -> str:
    if text != "-":
        return text
    from aiospice.cli.stdio import read_input

    data = b""
    while part := await read_input():
        data += part
    return data.decode("utf-8", "surrogateescape")


def _check(verb: str, args: Namespace) -> None:
    """Find out before connecting whether the layout has everything."""
    from aiospice.client.keyboard import press_keys, type_text

    for keys in args.keys if verb == "key" else ():
        press_keys(keys, args.layout)
    if verb == "type":
        type_text(args.text, args.layout)


async def _send(verb: str, args: Namespace, session: Any) -> None:
    if verb == "type":
        await session.keyboard.type(args.text, layout=args.layout)
    elif verb == "key":
        for keys in args.keys:
            await session.keyboard.press(keys, layout=args.layout)
    elif verb == "click":
        await session.mouse.click(args.x, args.y, button=args.button)
    elif verb == "move":
        await session.mouse.move(args.x, args.y)
    elif verb == "drag":
        await session.mouse.drag(args.x, args.y, args.x1, args.y1, button=args.button)
    else:
        await session.mouse.scroll(args.dy)
