"""What is said of an error, and with which status the program ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.cli import complain
from aiospice.cli.escape import escape
from aiospice.errors import (
    AiospiceError,
    CertificateError,
    NeedSecured,
    NeedUnsecured,
    PermissionDenied,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["report"]

_TIMEOUT, _MISSING, _FAILED = 124, 6, 1

#: What to try, where only the command line knows how, and a word that shows that it was said.
_ADVICE: tuple[tuple[type[AiospiceError], str, str], ...] = (
    (PermissionDenied, "--password-file", "give it with --password-file or AIOSPICE_PASSWORD"),
    (CertificateError, "--ca-file", "--ca-file and --host-subject say what to accept"),
    (NeedSecured, "spice+tls://", "try spice+tls://HOST:PORT"),
    (NeedUnsecured, "spice://", "try spice://HOST:PORT"),
)


def report(error: Exception, *, verbose: bool) -> int:
    """Write an error to standard error, with ``verbose`` also its causes; return the status."""
    status, text = _judge(error)
    lines = [f"aiospice: {escape(text)}"]
    if verbose:
        lines += [f"  because of {type(c).__name__}: {escape(str(c))}" for c in _causes(error)]
    if verbose and _is_bug(error):
        import traceback

        trace = "".join(traceback.format_exception(error)).splitlines()
        lines += [f"  {escape(line)}" for line in trace]
    complain("\n".join(lines) + "\n")
    return status


def _judge(error: Exception) -> tuple[int, str]:
    text = str(error)
    if isinstance(error, AiospiceError):
        return error.exit_status, (text or type(error).__name__) + _advice(error, text)
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package == "aiospice":
            return _MISSING, f"this installation of aiospice has no {error.name}"
        return _MISSING, f"the Python package {package} is missing; try: pip install {package}"
    if isinstance(error, TimeoutError):
        return _TIMEOUT, text or "it took too long; --timeout gives it more time"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return _FAILED, f"{where}{error.strerror or text}"
    return _FAILED, f"a mistake in aiospice: {type(error).__name__}: {text} (-v shows where)"


def _is_bug(error: Exception) -> bool:
    return not isinstance(error, (AiospiceError, ModuleNotFoundError, OSError))


def _advice(error: AiospiceError, text: str) -> str:
    for kind, word, advice in _ADVICE:
        if isinstance(error, kind) and word not in text:
            return f"; {advice}"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen = {id(error)}
    while True:
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None or id(cause) in seen:
            return
        seen.add(id(cause))
        yield cause
        error = cause
