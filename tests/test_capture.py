"""Captures, read by tshark and by this project's reader of captures."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.aio.capture import CaptureFile, _checksum
from aiospice.errors import LocalError, MissingProgram
from aiospice.proof.pcap import read_connections, read_tcp

if TYPE_CHECKING:
    from tests.conftest import QemuFactory

TICKET = bytes(range(1, 129))


def tool(name: str) -> str:
    """Return the path of one of Wireshark's programs."""
    path = shutil.which(name)
    if path is None:
        raise MissingProgram(f"{name} isn't installed: apt install tshark")
    return path


def tshark(path: Path, *arguments: str) -> list[str]:
    """Return the lines that tshark writes about a capture."""
    command = [tool("tshark"), "-r", str(path), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL
    )
    return done.stdout.splitlines()


def classic(path: Path) -> Path:
    """Convert a capture to the old format, which `aiospice.proof.pcap` reads."""
    target = path.with_suffix(".pcap")
    command = [tool("editcap"), "-F", "nsecpcap", str(path), str(target)]
    subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)
    return target


def test_only_the_user_may_read_it(tmp_path: Path) -> None:
    with CaptureFile(tmp_path / "a.pcapng"):
        assert stat.S_IMODE((tmp_path / "a.pcapng").stat().st_mode) == 0o600


def test_a_file_that_exists_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    path.write_text("precious")
    path.chmod(0o644)
    with pytest.raises(LocalError, match="exists already"):
        CaptureFile(path)
    assert path.read_text() == "precious"
    CaptureFile(path, overwrite=True).close()
    assert path.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("overwrite", [False, True])
def test_links_and_pipes_are_refused(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", ".", "missing/file"):
        with pytest.raises(LocalError, match="capture"):
            CaptureFile(tmp_path / name, overwrite=overwrite)
    assert (tmp_path / "target").read_text() == "precious"


def test_a_full_disk_ends_the_recording_and_not_the_session(tmp_path: Path) -> None:
    capture = CaptureFile(tmp_path / "a.pcapng")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, capture._file)
    os.close(full)
    capture.opened(1, "127.0.0.1", "127.0.0.1", 5900)
    for _ in range(5):
        capture.sent(1, bytes(100_000), 1.0)
    assert len(capture._buffer) < 1 << 19
    with pytest.raises(LocalError, match="incomplete"):
        capture.close()
    capture.close()


def test_what_is_kept_in_memory_is_bounded(tmp_path: Path) -> None:
    with CaptureFile(tmp_path / "a.pcapng") as capture:
        capture.opened(1, "127.0.0.1", "127.0.0.1", 5900)
        for _ in range(20):
            capture.received(1, bytes(1_000_000), 1.0)
            assert len(capture._buffer) < 1 << 19
    assert (tmp_path / "a.pcapng").stat().st_size > 20_000_000


def test_secrets_and_what_comes_after_the_end_are_not_in_it(tmp_path: Path) -> None:
    with CaptureFile(tmp_path / "a.pcapng") as capture:
        capture.opened(1, "a", "b", 5900)
        capture.sent(1, b"before", 0.0)
        capture.sent(1, TICKET, 0.0, secret=True)
        capture.received(1, TICKET, 0.0, secret=True)
        capture.closed(1, 0.0)
        capture.sent(1, b"after the end", 0.0)
        capture.sent(2, b"never opened", 0.0)
        capture.closed(1, 0.0)
    data = (tmp_path / "a.pcapng").read_bytes()
    assert b"before" in data
    assert b"what was typed" in data
    assert len(data) > 1000
    for absent in (TICKET[:8], b"after", b"never"):
        assert absent not in data


@given(st.binary(max_size=41))
def test_the_checksum_is_that_of_the_internet(data: bytes) -> None:
    total = sum(
        int.from_bytes(data[i : i + 2].ljust(2, b"\0"), "big") for i in range(0, len(data), 2)
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    expected = 0xFFFF - total
    # Zero has two forms in ones' complement; all-zero data doesn't happen behind real addresses.
    assert int.from_bytes(_checksum(data), "big") in ({expected} if any(data) else {0, 0xFFFF})


@pytest.mark.peers
@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "2001:db8::5"),
        ("192.0.2.9", "::1"),
        ("", "/run/vm.sock"),
        ("", "gue\udcffst.example.org\0\n" + "x" * 5000),
    ],
)
def test_bytes_and_times_come_out_as_they_went_in(tmp_path: Path, client: str, server: str) -> None:
    path = tmp_path / "a.pcapng"
    big = bytes(range(256)) * 300
    with CaptureFile(path, title=server, clock_offset=1_000_000_000.25) as capture:
        for number in (7, 8):
            capture.opened(number, client, server, 5901)
            capture.sent(number, b"hello", 1.0)
            capture.received(number, big, 2.0)
            capture.sent(number, b"more", 2.5)
        capture.closed(7, 3.0)
    bad = (
        "tcp.analysis.flags || _ws.malformed || tcp.checksum.status == 0 || ip.checksum.status == 0"
    )
    checks = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")
    assert tshark(path, *checks, "-Y", bad) == []
    found = read_tcp(classic(path))
    assert [(bytes(c.client.data), bytes(c.server.data)) for c in found] == [
        (b"hellomore", big)
    ] * 2
    assert [c.server_address[1] for c in found] == [5901, 5901]
    assert found[0].client.time(0) == pytest.approx(1_000_000_001.25)
    assert found[0].client.closed == pytest.approx(1_000_000_003.25)
    assert found[1].client.closed is None


@pytest.mark.peers
def test_names_stand_beside_made_up_addresses(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with CaptureFile(path, title="spice://vm.example.org:5900") as capture:
        capture.opened(0, "", "vm.example.org", 5900, 1.0)
        capture.opened(1, "", "vm.example.org", 5900, 1.0)
    columns = ("-N", "n", "-T", "fields", "-e", "ip.dst_host", "-e", "frame.comment")
    lines = tshark(path, *columns, "-Y", "tcp.flags.syn == 1 && tcp.flags.ack == 0")
    assert lines == [f"vm.example.org\tconnection {n}: vm.example.org" for n in (0, 1)]


class Recorder:
    """Passes TCP connections on to a server and records them, as a session does."""

    def __init__(self, capture: CaptureFile, port: int) -> None:
        self.capture = capture
        self.port = port
        self.numbers = count()
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        number, now = next(self.numbers), asyncio.get_running_loop().time
        below, above = await asyncio.open_connection("127.0.0.1", self.port)
        self.capture.opened(number, "127.0.0.1", "127.0.0.1", self.port, now())

        async def up() -> None:
            link = await reader.readexactly(16)
            link += await reader.readexactly(int.from_bytes(link[12:], "little"))
            for part, secret in ((link, False), (4, False), (128, True)):
                data = part if isinstance(part, bytes) else await reader.readexactly(part)
                self.capture.sent(number, data, now(), secret=secret)
                above.write(data)
            while data := await reader.read(65536):
                self.capture.sent(number, data, now())
                above.write(data)
            above.write_eof()

        async def down() -> None:
            while data := await below.read(65536):
                self.capture.received(number, data, now())
                writer.write(data)
            writer.close()

        with suppress(OSError, asyncio.IncompleteReadError):
            await asyncio.gather(up(), down())
        self.capture.closed(number, now())
        above.close()


@pytest.mark.peers
async def test_tshark_dissects_a_whole_session_of_a_real_client(
    tmp_path: Path, qemu_factory: QemuFactory
) -> None:
    client = shutil.which("spicy-screenshot")
    if client is None:
        raise MissingProgram("spicy-screenshot isn't installed: apt install spice-client-gtk")
    qemu = await qemu_factory(password="open sesame")
    path = tmp_path / "a.pcapng"
    with CaptureFile(path) as capture:
        server = await asyncio.start_server(Recorder(capture, qemu.port).serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        command = (client, f"--uri=spice://127.0.0.1:{port}", "--password=open sesame")
        process = await asyncio.create_subprocess_exec(
            *(*command, f"--out-file={tmp_path / 'shot.ppm'}"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert await asyncio.wait_for(process.wait(), 30) == 0
        server.close()
        await asyncio.sleep(0.2)
    assert (
        tshark(path, "-Y", "_ws.malformed || tcp.analysis.flags || spice.unknown_image_type") == []
    )
    shown = "\n".join(tshark(path, "-Y", "spice", "-T", "fields", "-e", "_ws.col.Info"))
    assert "Unknown" not in shown
    for part in ("Client ticket", "Server INIT", "Client PONG", "Server SURFACE_CREATE", "MARK"):
        assert part in shown
    connections = read_connections(classic(path))
    assert {c.channel_type for c in connections} >= {1, 2}
    assert all(c.auth_result == 0 and c.messages for c in connections)
