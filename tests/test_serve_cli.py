"""``aiospice serve`` and ``status``, as programs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.serve_rig import eventually

import aiospice
from aiospice.cli.main import main
from aiospice.cli.serve import GUESTS, _users
from aiospice.errors import AddressError, LocalError, PermissionDenied
from aiospice.link.sasl import make_scram_keys
from aiospice.proof.certificates import make_certificates

ROOT = Path(__file__).resolve().parent.parent
KEYS = "tests.serve_rig:KeysGuest"


class Program:
    """A server in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, addresses: list[str]) -> None:
        self.process = process
        self.addresses = addresses

    async def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; the status and what was said since the addresses."""
        self.process.send_signal(number)
        out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


async def run(*words: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "aiospice",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


@contextlib.asynccontextmanager
async def served(
    *words: str, count: int = 1, seconds: float = 60, **environment: str
) -> AsyncIterator[Program]:
    """``aiospice serve`` with these words, once it has told ``count`` addresses."""
    async with asyncio.timeout(seconds):
        guest = () if "--guest" in words else ("--guest", KEYS)
        process = await run("serve", *guest, *words, **environment)
        try:
            assert process.stdout is not None
            lines = [(await process.stdout.readline()).decode().strip() for _ in range(count)]
            yield Program(process, lines)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


async def output(*words: str, **environment: str) -> tuple[int, str, str]:
    """The status of a program, and what it said."""
    async with asyncio.timeout(60):
        process = await run(*words, **environment)
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_server_is_ended_in_order_by_a_signal(number: int, tmp_path: Path) -> None:
    path = tmp_path / "spice.sock"
    async with served("--listen", "127.0.0.1:0", "--unix", str(path), count=2) as program:
        assert program.addresses[0].startswith("spice://127.0.0.1:")
        assert program.addresses[1] == f"spice+unix://{path}"
        session = await aiospice.connect(program.addresses[0])
        assert await program.end(number) == (0, "", "")
        with pytest.raises(aiospice.AiospiceError):
            await session.wait_closed()
        await session.close()
    assert not path.exists()


async def test_the_addresses_come_on_the_ready_descriptor(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    words = ("--listen", "127.0.0.1:0", "--ws-listen", "127.0.0.1:0", "--ready-fd", str(writing))
    async with asyncio.timeout(60):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aiospice", "serve", "--guest", KEYS, *words),
            stdout=asyncio.subprocess.DEVNULL,
            pass_fds=(writing,),
            cwd=ROOT,
        )
        os.close(writing)
        with os.fdopen(reading) as file:
            addresses = (await asyncio.to_thread(file.read)).split()
        assert [address.partition(":")[0] for address in addresses] == ["spice", "ws"]
        async with aiospice.connect(addresses[0]):
            pass
        process.terminate()
        assert await process.wait() == 0


async def test_status_shows_how_a_server_is(tmp_path: Path) -> None:
    control = tmp_path / "control"
    async with served("--listen", "127.0.0.1:0", "--control", str(control)) as program:
        async with aiospice.connect(program.addresses[0]):
            status, said, complaint = await output("status", str(control), "--json")
            assert (status, complaint) == (0, "")
            found = json.loads(said)
            assert found["addresses"] == program.addresses
            assert len(found["clients"]) == 1
            status, said, complaint = await output("status", str(control))
            assert (status, complaint) == (0, "")
            assert f"addresses: {program.addresses[0]}\n" in said
            assert "clients: 1\n" in said
        assert (await program.end())[0] == 0
    status, said, complaint = await output("status", str(control))
    assert (status, said) == (3, "")
    assert "is a server running with --control" in complaint


async def test_json_has_one_object_a_line_and_no_keys() -> None:
    async with served("--listen", "127.0.0.1:0", "--json") as program:
        first = json.loads(program.addresses[0])
        assert first["event"] == "listening"
        async with aiospice.connect(first["addresses"][0]) as session:
            await session.keyboard.type("secret")
        out = program.process.stdout
        assert out is not None
        kinds = []
        while "client-disconnected" not in kinds:
            kinds.append(json.loads(await out.readline())["event"])
        assert kinds[0] == "client-connected"
        assert "key-changed" not in kinds
        assert (await program.end())[0] == 0


async def test_refusals_are_told_on_standard_error_without_the_password(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    words = ("--listen", "127.0.0.1:0", "--password-file", str(secret))
    async with served(*words, "-vv") as program:
        with pytest.raises(PermissionDenied):
            await aiospice.connect(program.addresses[0], password="hunter3")
        async with aiospice.connect(program.addresses[0], password="hunter2"):
            pass
        status, _, complaint = await program.end()
        assert status == 0
        assert "refused (ticket)" in complaint
        assert "connected" in complaint
        assert "hunter" not in complaint


async def test_tls_users_and_once_come_from_options(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "tls")
    users = tmp_path / "users"
    users.write_text("# who\n\nanna:with:colon\n")
    users.chmod(0o600)
    tls = ("--certificate", str(made.certificate_file), "--key", str(made.key_file))
    words = ("--tls-listen", "127.0.0.1:0", *tls, "--users-file", str(users))
    async with served(*words, AIOSPICE_PASSWORD="not used") as program:
        options: dict[str, Any] = {"username": "anna", "ca_file": made.ca_file}
        async with aiospice.connect(program.addresses[0], password="with:colon", **options):
            pass
        assert (await program.end())[0] == 0
    async with served("--listen", "127.0.0.1:0", "--once", AIOSPICE_PASSWORD="x") as program:
        async with aiospice.connect(program.addresses[0], password="x"):
            pass
        with pytest.raises(PermissionDenied):
            await aiospice.connect(program.addresses[0], password="x")


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("--listen", "*:0"), 2, "can be reached from other machines"),
        (("--listen", "nowhere"), 2, "expected HOST:PORT"),
        (("--guest", "doom"), 2, "no guest is called 'doom'"),
        (("--guest", "no.such:Guest"), 2, "can't be loaded: No module named"),
        (("--guest", "tests.serve_rig:Nobody"), 2, "can't be loaded"),
        (("--guest", KEYS, "--size", "640x480"), 2, "takes no --size"),
        (("--guest", KEYS, "--", "true"), 2, "takes no COMMAND"),
        (("--tls-listen", "127.0.0.1:0"), 2, "needs a certificate"),
        (("--once",), 2, "need a password"),
        (("--password-file", "/nowhere"), 2, "can't be read"),
        (("--users-file", "/nowhere"), 2, "can't be read"),
        (("--ticket-expires", "0"), 2, "--ticket-expires"),
        (("--size", "big"), 2, "--size"),
        (("--secure-channels", "mouse"), 2, "no channel is called 'mouse'"),
        (("--listen", "127.0.0.1:0", "--ready-fd", "77"), 2, "--ready-fd 77"),
    ],
)
def test_options_that_make_no_sense_are_told_in_one_line(
    words: tuple[str, ...],
    status: int,
    text: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    guest = () if "--guest" in words else ("--guest", KEYS)
    assert main(["serve", *guest, *words]) == status
    said, complaint = capfd.readouterr()
    assert text in complaint
    assert "Traceback" not in complaint
    assert not said or "--ready-fd" in words


def test_a_users_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("anna:secret\nbert:a:b\n#carl:x\n\n")
    assert _users(str(path)) == {"anna": "secret", "bert": "a:b"}
    for text in ("anna\n", ":x\n", "anna:\n", "", "# nobody\n"):
        path.write_text(text)
        with pytest.raises(LocalError, match="users file"):
            _users(str(path))
    path.write_bytes(b"\xff:x\n")
    with pytest.raises(LocalError, match="isn't UTF-8"):
        _users(str(path))


def test_a_users_file_may_hold_scram_keys(tmp_path: Path) -> None:
    keys = make_scram_keys("secret", bytes(range(16)))
    salt, stored, server = (
        base64.b64encode(part).decode() for part in (keys.salt, keys.stored_key, keys.server_key)
    )
    path = tmp_path / "users"
    path.write_text(f"anna:SCRAM-SHA-256$4096:{salt}${stored}:{server}\n")
    assert _users(str(path)) == {"anna": keys}
    for broken in ("SCRAM-SHA-256$", "SCRAM-SHA-1$x:AA==$AA==:AA==", "SCRAM-SHA-256$1:!$!:!"):
        path.write_text(f"anna:{broken}\n")
        with pytest.raises(LocalError, match="line 1 of the users file"):
            _users(str(path))


async def test_the_machine_is_called_as_the_guest_or_as_said() -> None:
    for words, name in (((), "keys"), (("--name", "Wörk"), "Wörk")):
        async with (
            served("--listen", "127.0.0.1:0", *words) as program,
            aiospice.connect(program.addresses[0]) as session,
        ):
            await eventually(lambda: session.name)
            assert session.name == name


async def test_a_taken_port_is_told_with_status_3() -> None:
    async with served("--listen", "127.0.0.1:0") as program:
        words = ("serve", "--guest", KEYS, "--listen", program.addresses[0])
        status, said, complaint = await output(*words)
        assert (status, said) == (3, "")
        assert "another program listens there" in complaint


async def test_a_reader_of_the_output_that_goes_away_ends_it() -> None:
    async with asyncio.timeout(60):
        process = await run("serve", "--guest", KEYS, "--listen", "127.0.0.1:0", "--json")
        assert process.stdout is not None
        address = json.loads(await process.stdout.readline())["addresses"][0]
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        with contextlib.suppress(aiospice.AiospiceError):
            async with aiospice.connect(address):
                await eventually(lambda: process.returncode is not None)
        assert await process.wait() == 141


def test_the_guests_are_those_of_the_page() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| `--guest NAME`"))
    assert all(f"`{name}`" in row for name in GUESTS)


def test_an_address_error_has_the_status_of_usage() -> None:
    assert AddressError("").exit_status == 2


@pytest.mark.parametrize("guest", ["demo", "terminal"])
async def test_the_guests_that_come_along_are_shown(guest: str, tmp_path: Path) -> None:
    words = ["--guest", guest, "--listen", "127.0.0.1:0", "--folder", str(tmp_path)]
    words += ["--size", "640x480"]
    async with served(*words, AIOSPICE_PASSWORD="x") as program:
        async with aiospice.connect(program.addresses[0], password="x") as session:
            height, width, _ = (await session.screenshot()).shape
            assert (width, height) == (640, 480)
        assert (await program.end())[0] == 0


def test_a_shell_is_not_served_without_a_password(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIOSPICE_PASSWORD", raising=False)
    assert main(["serve", "--guest", "terminal", "--listen", "127.0.0.1:0"]) == 2
    assert "always needs a password" in capfd.readouterr().err
