"""The programs in ``examples/``, run for real against QEMU."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import aiospice

if TYPE_CHECKING:
    from tests.conftest import PairFactory, QemuFactory

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TESTED = {
    *("screenshot.py", "type_login.py", "stream_port.py", "watch_migrations.py"),
    "paint.py",
}


async def start(name: str, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / name),
        *arguments,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def end(process: asyncio.subprocess.Process) -> str:
    """What the program has printed; it must end well."""
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, err) == (0, b"")
    return out.decode()


def test_every_example_is_tested_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == TESTED


@pytest.mark.peers
async def test_the_screenshot_is_the_guests_screen(
    qemu_factory: QemuFactory, tmp_path: Path
) -> None:
    qemu = await qemu_factory(guest="quiet")
    await qemu.wait_guest()
    path = tmp_path / "screen.ppm"
    assert "720 x 400" in await end(await start("screenshot.py", qemu.address, str(path)))
    assert path.read_bytes().split(maxsplit=4)[4] == (await qemu.screendump()).split(maxsplit=4)[4]


@pytest.mark.peers
async def test_the_login_is_typed(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(guest="quiet")
    await qemu.wait_guest()
    await end(await start("type_login.py", qemu.address, "ab", GUEST_PASSWORD="c"))
    # Scancodes of a, b, enter, c, enter, each pressed and released (row 23, see guest/echo.S).
    wanted = "1E 9E 30 B0 1C 9C 2E AE 1C 9C"
    async with asyncio.timeout(10):
        while wanted not in (row := (await qemu.text())[23].upper()):
            await asyncio.sleep(0.1)
    assert wanted in row


@pytest.mark.peers
async def test_the_stream_comes_back(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory()
    await qemu.wait_guest()
    process = await start("stream_port.py", qemu.address, "org.example.echo", "300")
    assert "300 lines came back" in await end(process)


@pytest.mark.peers
async def test_a_migration_is_told(qemu_pair: PairFactory) -> None:
    pair = await qemu_pair()
    await pair.source.wait_guest()
    process = await start("watch_migrations.py", pair.source.address, "1")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        first = await process.stdout.readline()
    assert first.decode() == f"connected to {pair.source.address}\n"
    await pair.migrate()
    told = await end(process)
    assert "migration-started" in told
    assert f"seamless: now at {pair.source.address}" in told
    assert "0 bytes at risk" in told


async def test_a_sheet_is_painted_on() -> None:
    process = await start("paint.py", "0")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        address = (await process.stdout.readline()).decode().strip()
        async with aiospice.connect(address) as session:
            port = await session.port("org.example.paint")
            await session.mouse.drag(100, 100, 200, 100)
            assert await port.readexactly(2) == b"1\n"
            while (picture := await session.screenshot())[100, 200].tolist() != [255, 0, 0]:
                await asyncio.sleep(0.05)
            assert picture[90, 200].tolist() == [255, 255, 255]
            await session.keyboard.press("space")
            while (await session.screenshot() != 255).any():
                await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    await end(process)


def test_the_page_shows_the_example_as_it_is() -> None:
    text = (EXAMPLES / "paint.py").read_text()
    assert f"```python\n{text}```" in (EXAMPLES.parent / "docs" / "guests.md").read_text()
