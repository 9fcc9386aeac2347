"""spice-vdagentd and spice-vdagent behind our server's agent device, with spice-gtk and ourselves.

The whole way is real but for the machine: clipboards and files go from a client through our server
to the agent that guests have, and back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from tests.serve_rig import port_of, serving
from tests.test_vdagent import picture, targets

import aiospice
from aiospice.errors import LocalError, SpiceTimeout, StateError, TransferFailed
from aiospice.proof.gtkclient import GtkClient
from aiospice.proof.vdagent import VdAgent
from aiospice.server.guest import Guest, Host, HostDevice

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

TEXT, PNG = 1, 2
LONG = "größer\n".encode() * 20_000
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "AIOSPICE_PASSWORD"}


class VdGuest(Guest):
    """A guest that is nothing but its agent: bytes between the device and the daemon's port."""

    name = "vdagent"

    def __init__(self, agent: VdAgent) -> None:
        self.agent = agent
        self.device: HostDevice
        self._turn = asyncio.Event()

    def attach(self, host: Host) -> None:
        host.display(0).resize(320, 200)
        self.device = host.agent()

    async def run(self) -> None:
        self.device.opened = True
        async with asyncio.TaskGroup() as group:
            group.create_task(self._up())
            group.create_task(self._down())

    async def _up(self) -> None:
        while data := await self.agent.reader.read(65536):
            view = memoryview(data)
            while view:
                taken = self.device.write(view)
                view = view[taken:]
                if not taken:
                    await self._wait()

    async def _down(self) -> None:
        while True:
            data = self.device.read(65536)
            if data:
                self.agent.writer.write(data)
                await self.agent.writer.drain()
            else:
                await self._wait()

    async def _wait(self) -> None:
        self._turn.clear()
        await self._turn.wait()

    def device_readable(self, device: HostDevice) -> None:
        self._turn.set()

    def device_writable(self, device: HostDevice) -> None:
        self._turn.set()


class Stage:
    """The guest's session, and where our server is."""

    def __init__(self, guest: VdAgent, port: int) -> None:
        self.guest = guest
        self.port = port

    @property
    def address(self) -> str:
        return f"spice://127.0.0.1:{self.port}"


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    async with VdAgent() as agent, serving(VdGuest(agent)) as server:
        yield Stage(agent, port_of(server))


async def pasted(guest: VdAgent, target: str, wanted: bytes) -> None:
    """Wait until that is what is pasted in the guest."""
    found = b""
    async with asyncio.timeout(30):
        while found != wanted:
            with contextlib.suppress(LocalError, SpiceTimeout):
                found = await guest.paste(target, limit=5)


# spice-gtk


async def answers(gtk: GtkClient, contents: dict[int, bytes]) -> None:
    """Answer what the guest asks spice-gtk for."""
    since = 0
    while True:
        asked = await gtk.wait("clipboard-request", since=since, timeout=60)
        since = gtk.events.index(asked, since) + 1
        kind = asked["kind"]
        await gtk.do("clipboard_send", kind=kind, data=contents[kind], selection=asked["selection"])


@contextlib.asynccontextmanager
async def answering(gtk: GtkClient, contents: dict[int, bytes]) -> AsyncIterator[None]:
    task = asyncio.create_task(answers(gtk, contents))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def ready(gtk: GtkClient) -> None:
    """The library and the agent know of each other; some time after the library says so."""
    await gtk.opened("main:0")
    await gtk.wait("main", agent=True)


async def test_spice_gtk_and_the_real_agent_share_the_clipboard(stage: Stage) -> None:
    async with GtkClient("127.0.0.1", port=stage.port) as gtk:
        await ready(gtk)
        for kind, target, data in (
            (TEXT, "UTF8_STRING", "grüße".encode()),
            (PNG, "image/png", picture()),
            (TEXT, "UTF8_STRING", LONG),
        ):
            since = len(gtk.events)
            async with asyncio.timeout(30):
                while not gtk.find("clipboard-grab", since=since, kinds=[kind]):
                    # The agent tells of what is copied once it knows that a client is there.
                    await stage.guest.copy(data, target)
                    with contextlib.suppress(SpiceTimeout):
                        await gtk.wait("clipboard-grab", since=since, timeout=1)
            await gtk.do("clipboard_request", kind=kind)
            got = await gtk.wait("clipboard", since=since, kind=kind)
            assert got["data"] == data
        contents = {TEXT: LONG, PNG: picture()}
        async with answering(gtk, contents):
            await gtk.do("clipboard_grab", kinds=[TEXT, PNG])
            await targets(stage.guest, "clipboard", b"image/png")
            await pasted(stage.guest, "UTF8_STRING", LONG)
            await pasted(stage.guest, "image/png", picture())
        assert gtk.complaints() == []


async def test_spice_gtk_sends_files_to_the_real_agent(stage: Stage, tmp_path: Path) -> None:
    files = {"empty": b"", "small ä.txt": b"hello", "large.bin": os.urandom(2_000_000)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    async with GtkClient("127.0.0.1", port=stage.port) as gtk:
        await ready(gtk)
        await gtk.do("send_files", paths=[str(tmp_path / name) for name in files])
        assert (await gtk.wait("files-sent", timeout=60))["error"] is None
        assert {path.name: path.read_bytes() for path in stage.guest.files.iterdir()} == files


# Our own client


async def test_our_client_and_the_real_agent_share_the_clipboard(stage: Stage) -> None:
    async with aiospice.connect(stage.address, channels=()) as session:
        await session.clipboard.set_text("grüße\n")
        await pasted(stage.guest, "UTF8_STRING", "grüße\n".encode())
        await session.clipboard.pasted(timeout=20)
        await session.clipboard.set_image(picture())
        await pasted(stage.guest, "image/png", picture())
        await session.clipboard.set({"text": LONG}, "primary")
        await targets(stage.guest, "primary", b"UTF8_STRING")
        assert await stage.guest.paste(selection="primary") == LONG
        await stage.guest.copy(LONG)
        assert "text" in await session.clipboard.copied(timeout=20)
        assert await session.clipboard.get_text() == LONG.decode()
        with pytest.raises(StateError, match="no png now"):
            await session.clipboard.get("png")
        await session.clipboard.set_text("never pasted")
        await targets(stage.guest, "clipboard", b"UTF8_STRING")
        await stage.guest.copy(picture(), "image/png")
        with pytest.raises(StateError, match="something else"):
            await session.clipboard.pasted(timeout=20)
        async with asyncio.timeout(20):
            while session.clipboard.offered() != ("png",):
                await asyncio.sleep(0.02)
        assert await session.clipboard.get_image() == picture()


async def test_our_client_sends_files_to_the_real_agent(stage: Stage, tmp_path: Path) -> None:
    files = {"empty": b"", "small ä.txt": b"hello", "large.bin": os.urandom(2_000_000)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    told: list[tuple[int, int]] = []
    async with aiospice.connect(stage.address, channels=()) as session:
        paths = [tmp_path / name for name in (*files, "folder", "absent")]
        results = await session.send_files(paths)
        assert results[:3] == [None] * 3
        assert [type(error) for error in results[3:]] == [LocalError] * 2
        assert {path.name: path.read_bytes() for path in stage.guest.files.iterdir()} == files
        await session.send_file(
            tmp_path / "large.bin", name="other", progress=lambda *at: told.append(at)
        )
    assert (stage.guest.files / "other").read_bytes() == files["large.bin"]
    assert told[0] == (0, 2_000_000)
    assert told[-1] == (2_000_000, 2_000_000)
    assert told == sorted(told)


async def test_a_file_that_is_cancelled_leaves_nothing_behind(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 1 << 33)
    some = asyncio.Event()
    async with aiospice.connect(stage.address, channels=()) as session:

        def progress(sent: int, size: int) -> None:
            if sent > 200_000:
                some.set()

        sending = asyncio.create_task(session.send_file(path, progress=progress))
        await asyncio.wait(
            [sending, asyncio.create_task(some.wait())], return_when="FIRST_COMPLETED"
        )
        assert session._shell.core.agent.pending < 1 << 18  # of eight GiB
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        async with asyncio.timeout(20):
            while list(stage.guest.files.iterdir()):
                await asyncio.sleep(0.02)
        path.write_bytes(b"x")
        await session.send_file(path)
        assert (stage.guest.files / "sparse").read_bytes() == b"x"


# The verbs


async def verb(*words: str, data: bytes = b"", limit: float = 60) -> tuple[int, bytes, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiospice", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=ENVIRONMENT,
    )
    async with asyncio.timeout(limit):
        out, err = await process.communicate(data)
    assert process.returncode is not None
    return process.returncode, out, err.decode()


async def during(task: Awaitable[object], again: Callable[[], Awaitable[object]]) -> None:
    """Do something every second until a task has ended."""
    waiting = asyncio.ensure_future(task)
    while not waiting.done():
        await again()
        await asyncio.wait({waiting}, timeout=1)


async def test_the_verb_clipboard_goes_both_ways(stage: Stage) -> None:
    getting = asyncio.create_task(verb("clipboard", "get", stage.address, "--wait", "inf"))
    await during(getting, lambda: stage.guest.copy(LONG))
    assert await getting == (0, LONG, "")
    setting = asyncio.create_task(verb("clipboard", "set", stage.address, "from here"))
    await pasted(stage.guest, "UTF8_STRING", b"from here")
    assert await setting == (0, b"", "")
    status, _, said = await verb("clipboard", "set", stage.address, "x", "--hold", "0.2")
    assert (status, "within 0.2 s" in said) == (124, True)
    status, _, said = await verb("clipboard", "get", stage.address, "--wait", "0.2")
    assert status in (1, 124)
    assert "copied" in said or "has no text" in said


async def test_the_verb_send_sends_and_says_what_failed(stage: Stage, tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.write_bytes(LONG)
    status, out, said = await verb(
        "send", stage.address, str(good), str(tmp_path / "none"), "--json"
    )
    assert status == 2
    assert said == ""
    first, second = (json.loads(line) for line in out.splitlines())
    assert first == {"file": str(good), "size": len(LONG), "error": None}
    assert "No such file" in second["error"]
    assert (stage.guest.files / "good").read_bytes() == LONG
    assert await verb("send", stage.address, str(good)) == (0, b"", "")


async def test_without_an_agent_all_of_it_says_so(tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.touch()
    async with serving() as server:
        address = f"spice://127.0.0.1:{port_of(server)}"
        async with aiospice.connect(address, channels=()) as session:
            with pytest.raises(StateError, match="no agent runs in the guest"):
                await session.clipboard.set_text("x", timeout=0.1)
            with pytest.raises(StateError, match="no agent runs in the guest"):
                await session.send_file(good, timeout=0.1)
        async with aiospice.connect(address, channels=(), agent=False) as session:
            with pytest.raises(StateError, match="without the guest's agent"):
                await session.clipboard.get_text()


async def test_a_policy_that_forbids_is_told(tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.touch()
    async with (
        VdAgent() as agent,
        serving(VdGuest(agent), copy_paste=False, file_transfer=False) as server,
        aiospice.connect(f"spice://127.0.0.1:{port_of(server)}", channels=()) as session,
    ):
        with pytest.raises(TransferFailed, match="switched off"):
            await session.send_file(good)
        with pytest.raises(StateError, match="clipboard"):
            await session.clipboard.get_text()
