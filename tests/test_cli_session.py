"""The verbs against a real QEMU, whose guest shows keys and mouse and echoes its port."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.test_png import read_png

from aiospice.proof.qemu import ECHO_PORT, free_port

if TYPE_CHECKING:
    from tests.conftest import PairFactory, QemuFactory

    from aiospice.proof.qemu import Qemu

pytestmark = pytest.mark.peers

PASSWORD = "correct horse"


class Run:
    """One run of the program."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.arguments = arguments
        self.environment = environment

    async def start(self) -> asyncio.subprocess.Process:
        """Start it, with pipes on all sides."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aiospice.cli", *self.arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self.environment},
        )

    async def result(self, stdin: bytes = b"") -> tuple[int, bytes, str]:
        """Run it to its end: status, standard output, standard error."""
        process = await self.start()
        out, err = await asyncio.wait_for(process.communicate(stdin), 60)
        return process.returncode or 0, out, err.decode()


async def aiospice(*arguments: str, stdin: bytes = b"", **environment: str) -> bytes:
    """Run the program, expect success and silence, return what it wrote."""
    status, out, err = await Run(*arguments, **environment).result(stdin)
    assert (status, err) == (0, "")
    return out


async def row(qemu: Qemu, number: int, wanted: str) -> None:
    """Wait until a row of the guest's screen is as wanted."""
    async with asyncio.timeout(10):
        while (shown := (await qemu.text())[number]) != wanted:
            await asyncio.sleep(0.05)
            assert len(shown) <= len(wanted), shown


async def test_a_screenshot_is_the_guests_screen(qemu_factory: QemuFactory, tmp_path: Path) -> None:
    qemu = await qemu_factory(guest="quiet")
    truth = await qemu.screendump()
    await aiospice("screenshot", qemu.address, "-o", str(tmp_path / "a.ppm"))
    assert (tmp_path / "a.ppm").read_bytes() == truth
    assert await aiospice("screenshot", qemu.address, "-o", str(tmp_path / "a.png")) == b""
    width, height, pixels = read_png((tmp_path / "a.png").read_bytes())
    assert truth == b"P6\n%d %d\n255\n" % (width, height) + pixels
    assert (
        await aiospice("screenshot", qemu.address, "-o", "-") == (tmp_path / "a.png").read_bytes()
    )


async def test_keys_reach_the_guest_as_they_were_named(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(guest="quiet")
    await aiospice("type", qemu.address, "Hi")
    await row(qemu, 23, shown := "2a 23 a3 aa 17 97")
    await aiospice("key", qemu.address, "ctrl-z", "altgr-up", "--layout", "de")
    await row(qemu, 23, f"{shown} 1d 15 95 9d e0 38 e0 48 e0 c8 e0 b8")


async def test_the_mouse_reaches_the_guest(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(guest="quiet")
    before = (await qemu.text())[22]
    for arguments in (
        ("click", "10", "20", "--button", "right"),
        ("move", "30", "40"),
        ("drag", "5", "5", "50", "60"),
        ("scroll", "-2"),
    ):
        await aiospice(arguments[0], qemu.address, *arguments[1:])
    assert (await qemu.text())[22] != before


async def test_a_port_is_listed_and_joined(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(guest="quiet")
    assert await aiospice("port", qemu.address) == f"{ECHO_PORT}\n".encode()
    sent = bytes(range(256)) * 8
    assert await aiospice("port", qemu.address, ECHO_PORT, stdin=sent) == sent
    status, _, err = await Run("port", qemu.address, "org.example.absent").result()
    assert status == 1
    assert err.startswith("aiospice: ")
    assert err.count("\n") == 1
    assert "org.example.absent" in err


async def test_what_the_guest_says_cannot_steer_a_terminal(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(guest="quiet")
    terminal, stdout = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiospice.cli", "port", qemu.address, ECHO_PORT),
        stdin=asyncio.subprocess.PIPE,
        stdout=stdout,
    )
    os.close(stdout)
    await asyncio.wait_for(process.communicate("\x1b[2J\x9b\x07ü\n".encode()), 30)
    assert os.read(terminal, 1000) == "\\x1b[2J\\x9b\x07ü\r\n".encode()
    os.close(terminal)


async def test_a_password_opens_the_door_and_a_wrong_one_is_status_4(
    qemu_factory: QemuFactory, tmp_path: Path
) -> None:
    qemu = await qemu_factory(guest="quiet", password=PASSWORD)
    assert await aiospice("port", qemu.address, AIOSPICE_PASSWORD=PASSWORD)
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "password").chmod(0o600)
    assert await aiospice("port", qemu.address, "--password-file", str(tmp_path / "password"))
    arguments = ("port", qemu.address, ECHO_PORT, "--password-file", "-")
    assert await aiospice(*arguments, stdin=PASSWORD.encode() + b"\nping") == b"ping"
    for password in ("", "battery staple"):
        status, out, err = await Run("port", qemu.address, AIOSPICE_PASSWORD=password).result()
        assert (status, out, err.count("\n")) == (4, b"", 1)
        assert "--password-file" in err
        assert "battery" not in err


async def test_nobody_there_is_status_3() -> None:
    status, out, err = await Run("watch", f"spice://127.0.0.1:{free_port()}", "--json").result()
    assert (status, out, err.count("\n")) == (3, b"", 1)


async def test_a_server_that_says_nothing_is_status_124() -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    run = Run("port", f"spice://127.0.0.1:{port}", "--timeout", "0.3")
    status, out, err = await run.result()
    server.close()
    assert (status, out, err.count("\n")) == (124, b"", 1)


async def test_a_server_that_speaks_something_else_is_status_5() -> None:
    def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"RFB 003.008\n" + b"\x1b[2J" * 20)

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    status, out, err = await Run("port", f"spice://127.0.0.1:{port}").result()
    server.close()
    assert (status, out, err.count("\n")) == (5, b"", 1)
    assert "\x1b" not in err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_ends_a_verb_in_order(
    qemu_factory: QemuFactory, number: signal.Signals, status: int
) -> None:
    qemu = await qemu_factory(guest="quiet")
    process = await Run("watch", qemu.address, "--json").start()
    assert process.stdout is not None
    first = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
    assert first["event"]
    process.send_signal(number)
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, err) == (status, b"")
    assert qemu.running


async def test_watching_ends_quietly_when_nobody_reads(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(guest="echo")
    line = f"{sys.executable} -m aiospice.cli watch {qemu.address}; echo $? >&2"
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f"({line}) | head -n 1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (out.count(b"\n"), err) == (1, b"141\n")


async def test_a_capture_is_a_whole_session_without_its_ticket(
    qemu_factory: QemuFactory, tmp_path: Path
) -> None:
    qemu = await qemu_factory(guest="quiet", password=PASSWORD)
    path, picture = tmp_path / "a.pcapng", tmp_path / "a.png"
    arguments = ("screenshot", qemu.address, "-o", str(picture), "--capture", str(path))
    await aiospice(*arguments, AIOSPICE_PASSWORD=PASSWORD)
    assert PASSWORD.encode() not in path.read_bytes()
    if shutil.which("tshark") is None:
        return
    for condition, columns in (
        ("_ws.malformed || tcp.analysis.flags", set[str]()),
        ("spice", {"Client ticket", "Server INIT", "Server SURFACE_CREATE"}),
    ):
        process = await asyncio.create_subprocess_exec(
            *("tshark", "-r", str(path), "-Y", condition, "-T", "fields", "-e", "_ws.col.Info"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        out = (await process.communicate())[0].decode()
        assert "Unknown" not in out
        assert bool(out) == bool(columns)
        assert all(column in out for column in columns)


async def test_port_and_watch_follow_a_migration(qemu_pair: PairFactory) -> None:
    pair = await qemu_pair(guest="quiet")
    address = pair.source.address
    port = await Run("port", address, ECHO_PORT).start()
    assert port.stdin is not None
    assert port.stdout is not None
    port.stdin.write(b"before ")
    assert await asyncio.wait_for(port.stdout.readexactly(7), 20) == b"before "
    await pair.migrate()
    out, err = await asyncio.wait_for(port.communicate(b"after"), 30)
    assert (out, err, port.returncode) == (b"after", b"", 0)


async def test_watching_until_migrated_ends_there(qemu_pair: PairFactory) -> None:
    pair = await qemu_pair(guest="quiet")
    run = Run("watch", pair.source.address, "--json", "--until-migrated", "1")
    watch = await run.start()
    assert watch.stdout is not None
    async with asyncio.timeout(20):
        while json.loads(await watch.stdout.readline())["event"] != "session-ready":
            pass
    await pair.migrate()
    out, err = await asyncio.wait_for(watch.communicate(), 30)
    assert (watch.returncode, err) == (0, b"")
    assert [json.loads(line)["event"] for line in out.splitlines()][-1] == "migration-finished"
