"""The verbs: everything that a person types behind ``aiospice``."""

import sys

__all__ = ["OutputClosed", "complain", "say"]


class OutputClosed(Exception):
    """Whoever read standard output has gone."""


def say(text: str) -> None:
    """Write to standard output, if there is any; raises `OutputClosed`."""
    try:
        if sys.stdout is not None:
            sys.stdout.write(text)
            sys.stdout.flush()
    except BrokenPipeError:
        raise OutputClosed from None


def complain(text: str) -> None:
    """Write lines to standard error, if anybody reads it."""
    try:
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()
    except BrokenPipeError:
        pass
