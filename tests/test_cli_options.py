"""The password, wherever it comes from; lengths of time; what is asked of a connection."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from aiospice.cli.options import add_common, config, limit, seconds
from aiospice.errors import LocalError


def parsed(*arguments: str) -> argparse.Namespace:
    """Parse what follows a verb."""
    parser = argparse.ArgumentParser()
    add_common(parser)
    return parser.parse_args(arguments)


def password_file(folder: Path, content: bytes, mode: int = 0o600) -> str:
    """Write one and return its path."""
    path = folder / "password"
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


@pytest.fixture(autouse=True)
def _no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIOSPICE_PASSWORD", raising=False)


@pytest.mark.parametrize("content", [b"se cret", b"se cret\n", b"se cret\r\n", b"se cret\nmore\n"])
def test_the_password_is_the_first_line_of_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    args = parsed("spice://h", "--password-file", password_file(tmp_path, content))
    assert config(args).password == "se cret"
    assert capsys.readouterr().err == ""


def test_a_file_that_others_may_read_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = password_file(tmp_path, b"secret", 0o644)
    assert config(parsed("spice://h", "--password-file", path)).password == "secret"
    assert capsys.readouterr().err.startswith("aiospice: warning: the password file")


@pytest.mark.parametrize("content", [b"", b"\nsecret", b"\xff\xfe", b"x" * 5000])
def test_a_file_without_a_password_is_refused_without_telling_it(
    tmp_path: Path, content: bytes
) -> None:
    path = password_file(tmp_path, content)
    with pytest.raises(LocalError, match="password file") as caught:
        config(parsed("spice://h", "--password-file", path))
    assert "xxx" not in str(caught.value)


def test_the_file_goes_before_the_address_and_the_address_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOSPICE_PASSWORD", "environment")
    path = password_file(tmp_path, b"file")
    assert config(parsed("spice://h")).password == "environment"
    assert config(parsed("spice://h?password=address")).password == "address"
    args = parsed("spice://h?password=address", "--password-file", path)
    assert config(args).password == "file"


def test_from_standard_input_only_the_first_line_is_taken() -> None:
    code = (
        "import argparse, os\n"
        "from aiospice.cli.options import add_common, config\n"
        "parser = argparse.ArgumentParser()\n"
        "add_common(parser)\n"
        "args = parser.parse_args(['spice://h', '--password-file', '-'])\n"
        "print(config(args).password, os.read(0, 100))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=b"secret\nrest\n",
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"secret b'rest\\n'\n"


def test_hosts_to_migrate_to_may_be_repeated() -> None:
    args = parsed("spice://h", "--migrate-to", "a*", "--migrate-to", "b*")
    assert args.migrate_to == ["a*", "b*"]


@pytest.mark.parametrize("text", ["", "-1", "nan", "x", "1s"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        seconds(text)


def test_no_time_at_all_is_no_limit() -> None:
    assert (seconds("0"), seconds("inf"), limit("0.5")) == (0, float("inf"), 0.5)
    with pytest.raises(ValueError):
        limit("0")


def test_the_password_is_in_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOSPICE_PASSWORD", "hunter2")
    assert "hunter2" not in repr(config(parsed("spice://h")))
