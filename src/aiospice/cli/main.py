"""The front door: finds the verb, runs it, turns errors into one line and an exit status.

Starting fast is a feature, so nothing is imported here that a verb may not need: each verb has a
module, imported when it is used, with ``arguments(verb, parser)`` and ``run(verb, args)``, which
returns the exit status or a coroutine that does.
"""

from __future__ import annotations

import os
import sys

from aiospice.cli import OutputClosed, complain, say

TYPE_CHECKING = False  # importing typing for it would cost as much as argparse
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Awaitable, Callable, Sequence

    Run = Callable[[str, Namespace], "int | Awaitable[int]"]

__all__ = ["VERBS", "main"]

#: Verb: its module, and what it does.
VERBS = {
    "screenshot": ("screenshot", "write the screen to a picture file"),
    "type": ("input", "type text on the guest's keyboard"),
    "key": ("input", "press keys and combinations of keys (ctrl-alt-f2)"),
    "click": ("input", "click a mouse button at a place"),
    "move": ("input", "move the mouse to a place"),
    "drag": ("input", "press a mouse button at one place and let go at another"),
    "scroll": ("input", "turn the mouse wheel"),
    "port": ("port", "list the guest's ports, or join one to standard input and output"),
    "clipboard": ("clipboard", "fetch what was copied in the guest, or offer it something"),
    "send": ("send", "send files into the guest"),
    "watch": ("watch", "show what happens in a session, a line per event"),
    "serve": ("serve", "show a guest to clients"),
    "status": ("status", "tell how a server is that has a control socket"),
    "migrate": ("migrate", "move a guest and its clients from a server to another"),
    "demo": ("proof", "move a guest between two servers while a client streams, and report"),
    "bench": ("proof", "measure the speed of the parts"),
    "lab": ("lab", "play hand-overs with faults on virtual time, and measure the policies"),
}

#: What a shell reports of a program that the signal ended.
_INTERRUPTED, _BROKEN_PIPE, _TERMINATED = 130, 141, 143
#: New objects after which the garbage collector looks for cycles (Python's default: 700).
_GARBAGE = 20_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (``argv`` without the program's name); return the exit status.

    Without ``argv`` this is a program that ends afterwards, and the garbage collector is set for
    that: of the time a screenshot takes, the default settings would cost a fifth.
    """
    if argv is None:
        import gc

        gc.set_threshold(_GARBAGE)  # what is imported isn't garbage
    status = _run(list(sys.argv[1:] if argv is None else argv))
    try:
        say("")  # what argparse has written
    except OutputClosed:
        status = _BROKEN_PIPE
    if status == _BROKEN_PIPE:  # else the interpreter would try again as it ends, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if argv is None:
        import gc

        gc.freeze()  # else the interpreter looks at every object once more before it goes
    return status


def _run(argv: list[str]) -> int:
    verbose: list[bool] = []
    try:
        return _dispatch(argv, verbose)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except SystemExit as done:  # argparse: help, or usage
        return done.code if isinstance(done.code, int) else 2
    except OutputClosed:
        return _BROKEN_PIPE
    except Exception as error:
        from aiospice.cli.failure import report

        return report(error, verbose=any(verbose))


def _dispatch(arguments: list[str], verbose: list[bool]) -> int:
    verb = arguments[0] if arguments else "--help"
    if verb not in VERBS:
        return _without_verb(verb, arguments)
    import argparse
    from importlib import import_module

    module = import_module(f"aiospice.cli.{VERBS[verb][0]}")
    columns = _columns()
    parser = argparse.ArgumentParser(
        prog=f"aiospice {verb}",
        description=VERBS[verb][1].capitalize() + ".",
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=columns - 2),
    )
    module.arguments(verb, parser)
    args = parser.parse_args(arguments[1:])
    verbose.append(args.verbose > 0)
    status = module.run(verb, args)
    return status if isinstance(status, int) else _wait(status)


def _columns() -> int:
    """Width of the terminal. argparse would ask ``shutil``, which loads two compressors."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said):
        return int(said)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


def _wait(status: Awaitable[int]) -> int:
    """Run a coroutine; Ctrl-C and SIGTERM cancel it, so that it leaves the server in order."""
    import asyncio
    import signal

    ended_by: list[signal.Signals] = []

    def end(number: signal.Signals, task: asyncio.Task[int]) -> None:
        asyncio.get_running_loop().remove_signal_handler(number)  # the next one isn't waited for
        ended_by.append(number)
        task.cancel()

    async def body() -> int:
        task = asyncio.current_task()
        if task is not None and sys.platform != "win32":
            # asyncio itself would cancel in the middle of whatever the loop is at, which Python
            # 3.11 answers with a traceback now and then (InvalidStateError in asyncio.wait).
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, end, number, task)
        return await status

    try:
        with asyncio.Runner() as runner:
            return runner.run(body())
    except asyncio.CancelledError:
        return _INTERRUPTED if ended_by == [signal.SIGINT] else _TERMINATED


def _without_verb(first: str, arguments: list[str]) -> int:
    if first in ("-h", "--help", "help"):
        say(_help())
        return 0 if arguments else 2
    if first in ("-V", "--version"):
        from importlib.metadata import version

        say(f"aiospice {version('aiospice')}\n")
        return 0
    from difflib import get_close_matches

    from aiospice.cli.escape import escape

    near = get_close_matches(first, VERBS, 1)
    advice = f"did you mean {near[0]}?" if near else "see aiospice --help"
    kind = "option" if first.startswith("-") else "verb"
    complain(f"aiospice: there is no {kind} {escape(first)}; {advice}\n")
    return 2


def _help() -> str:
    lines = [f"  {verb:<12}{what}\n" for verb, (_, what) in VERBS.items()]
    return (
        "usage: aiospice VERB ...\n\nSPICE client, server and tools.\n\n"
        + "".join(lines)
        + "\naiospice VERB --help tells more; aiospice --version tells the version.\n"
        "An address is spice://HOST:PORT, spice+tls://..., spice+unix:///PATH, ws://..., wss://...,\n"
        "or a .vv file.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
