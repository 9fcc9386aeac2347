"""The front door, as a shell sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from aiospice.cli.failure import report
from aiospice.cli.main import VERBS
from aiospice.errors import (
    CertificateError,
    ConnectError,
    LocalError,
    MissingProgram,
    PermissionDenied,
    RemoteProtocolError,
    SessionLost,
    SpiceTimeout,
)

#: What no verb may load before it is needed.
HEAVY = ("asyncio", "cryptography", "lz4", "numpy", "rich", "ssl", "websockets")


def aiospice(
    *arguments: str, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the program."""
    return subprocess.run(
        [sys.executable, "-m", "aiospice.cli", *arguments],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def modules_after(code: str) -> set[str]:
    """Return the modules that are loaded once the code has run."""
    code += "\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_names_every_verb() -> None:
    done = aiospice("--help")
    assert done.returncode == 0
    assert all(f"  {verb} " in done.stdout.decode() for verb in VERBS)


def test_without_a_verb_the_help_is_an_error() -> None:
    assert aiospice().returncode == 2


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert aiospice("--version").stdout.decode() == f"aiospice {version('aiospice')}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_its_options(verb: str) -> None:
    done = aiospice(verb, "--help")
    assert done.returncode == 0
    assert f"usage: aiospice {verb}" in done.stdout.decode()
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("screnshot",), "did you mean screenshot?"),
        (("zzz\x1b[2J",), "no verb zzz\\x1b[2J; see aiospice --help"),
        (("--frobnicate",), "no option --frobnicate"),
        (("screenshot",), "the following arguments are required"),
        (("screenshot", "spice://h", "-o", "a.png", "--timeout", "0"), "--timeout"),
        (("screenshot", "spice://h", "-o", "a.png", "--settle", "-1"), "--settle"),
        (("screenshot", "spice://h", "-o", "missing/a.png"), "there is no folder missing"),
        (("screenshot", "spice://h", "-o", "."), "is a folder"),
        (("screenshot", "127.0.0.1", "-o", "a.png"), "did you mean spice://127.0.0.1?"),
        (("click", "spice://h", "1", "x"), "invalid int"),
        (("click", "spice://h", "1", "2", "--button", "nose"), "--button"),
        (("type", "spice://h", "ä"), "has no key for 'ä'"),
        (("type", "spice://h", "ä", "--layout", "klingon"), "no layout"),
        (("key", "spice://h", "ctrl-hyper"), "no key is called 'hyper'"),
        (("watch", "spice://h:99999"), "99999"),
        (("port", "spice://h", "--password-file", "missing"), "missing can't be read"),
        (("port", "spice://h", "--capture", "/dev/null"), "capture /dev/null"),
        (("demo", "--guest", "toaster"), "--guest"),
    ],
)
def test_a_mistake_in_usage_is_one_line_and_status_2(arguments: tuple[str, ...], says: str) -> None:
    done = aiospice(*arguments)
    last = done.stderr.decode().splitlines()[-1]
    assert (done.returncode, done.stdout) == (2, b"")
    assert says in last
    assert last.startswith("aiospice")


def test_starting_loads_nothing_that_a_verb_may_not_need() -> None:
    bare = modules_after("pass")
    loaded = modules_after("import aiospice.cli.main") - bare
    assert loaded <= {"aiospice", "aiospice.cli", "aiospice.cli.main", "__future__"}


@pytest.mark.parametrize("verb", [v for v in VERBS if v not in ("port", "watch")])
def test_options_are_read_without_loading_what_is_heavy(verb: str) -> None:
    code = f"from aiospice.cli.main import main; main(['{verb}', '--help'])"
    assert not modules_after(code) & set(HEAVY)


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (LocalError("no such thing"), 2, "no such thing"),
        (SessionLost("gone"), 1, "gone"),
        (ConnectError("127.0.0.1:1: refused"), 3, "127.0.0.1:1: refused"),
        (PermissionDenied("wrong password"), 4, "wrong password; give it with --password-file"),
        (CertificateError("not trusted"), 4, "--ca-file"),
        (RemoteProtocolError("bad size", message="Init", where="main:0"), 5, "main:0, Init: bad"),
        (MissingProgram("install qemu-system-x86"), 6, "install qemu-system-x86"),
        (ModuleNotFoundError("no", name="numpy.core"), 6, "pip install numpy"),
        (ModuleNotFoundError("no", name="aiospice.x"), 6, "no aiospice.x"),
        (SpiceTimeout("linking took more than 10 s"), 124, "linking took more than 10 s"),
        (TimeoutError(), 124, "--timeout"),
        (PermissionError(13, "Permission denied", "file"), 1, "file: Permission denied"),
        (ZeroDivisionError("oops"), 1, "a mistake in aiospice: ZeroDivisionError: oops"),
        (SessionLost("\x1b]0;title\x07\nnext"), 1, "\\x1b]0;title\\x07\\nnext"),
    ],
)
def test_an_error_is_one_line_and_its_status(
    capsys: pytest.CaptureFixture[str], error: Exception, status: int, says: str
) -> None:
    assert report(error, verbose=False) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("aiospice: ")
    assert err.count("\n") == 1
    assert says in err


def test_verbose_adds_what_an_error_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    error = SessionLost("gone")
    error.__cause__ = ConnectError("no route")
    error.__cause__.__cause__ = OSError("\x1bunreachable")
    error.__cause__.__cause__.__cause__ = error  # a ring doesn't hang it
    report(error, verbose=True)
    assert capsys.readouterr().err.splitlines() == [
        "aiospice: gone",
        "  because of ConnectError: no route",
        "  because of OSError: \\x1bunreachable",
    ]
    report(ZeroDivisionError("oops"), verbose=True)
    assert "Traceback" not in capsys.readouterr().err.splitlines()[0]


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "aiospice.cli", "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_program_works_with_nothing_open() -> None:
    command = f"{sys.executable} -m aiospice.cli --help <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], timeout=60, check=False).returncode == 0


def test_a_missing_program_is_status_6_and_names_its_package() -> None:
    done = aiospice("demo", "--guest", "qemu", PATH="/nonexistent")
    assert done.returncode == 6
    assert b"qemu-system-x86" in done.stderr.splitlines()[-1]


def test_a_picture_is_not_written_to_a_terminal() -> None:
    terminal, stdout = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "aiospice.cli", "screenshot", "spice://h", "-o", "-"],
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(terminal)
    os.close(stdout)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
