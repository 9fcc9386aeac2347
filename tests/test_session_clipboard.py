"""Clipboard and files as a session's user has them, with our own server and an agent of ours."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from tests.serve_rig import eventually, port_of, serving
from tests.serve_stage import StageGuest
from tests.test_png import read_png

import aiospice
from aiospice.agent import guest_events
from aiospice.agent.events import ClipboardData, ClipboardGrabbed
from aiospice.aio.serve import Server
from aiospice.errors import (
    AiospiceError,
    LocalError,
    SessionLost,
    SpiceTimeout,
    StateError,
    TransferFailed,
)
from aiospice.events import Event
from aiospice.wire.agent import DisplayConfigFlags

pytestmark = pytest.mark.timeout(60)


class Stage:
    """A guest, our server, and a session with it."""

    def __init__(self, guest: StageGuest, server: Server, session: aiospice.Session) -> None:
        self.guest = guest
        self.server = server
        self.session = session
        self.address = f"spice://127.0.0.1:{port_of(server)}"

    def last(self, kind: type[Event]) -> Event:
        """The last event of that kind that the guest's agent told."""
        return [event for event in self.guest.agent_events if isinstance(event, kind)][-1]

    async def told(self, kind: type[Event]) -> Event:
        await eventually(lambda: any(isinstance(e, kind) for e in self.guest.agent_events))
        return self.last(kind)


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    guest = StageGuest()
    async with serving(guest) as server:
        address = f"spice://127.0.0.1:{port_of(server)}"
        async with aiospice.connect(address, channels=()) as session:
            yield Stage(guest, server, session)


async def test_text_and_pictures_go_both_ways(stage: Stage) -> None:
    board = stage.session.clipboard
    assert board.offered() == ()
    await board.set_text("grüße")
    grabbed = await stage.told(ClipboardGrabbed)
    assert grabbed == ClipboardGrabbed(selection="clipboard", forms=("text",))
    stage.guest.tell_agent(lambda agent: agent.request())
    assert await stage.told(ClipboardData) == ClipboardData(
        selection="clipboard", form="text", data="grüße".encode()
    )
    await board.pasted(timeout=10)
    picture = np.arange(3 * 5 * 4, dtype=np.uint8).reshape(5, 4, 3)
    await board.set_image(picture, "primary")
    await eventually(lambda: stage.guest.agent.clipboards.offered("primary") == ("png",))
    stage.guest.tell_agent(lambda agent: agent.request("png", "primary"))
    await eventually(lambda: getattr(stage.last(ClipboardData), "form", "") == "png")
    sent: bytes = stage.last(ClipboardData).as_dict()["data"]
    width, height, rgb = read_png(bytes.fromhex(str(sent)))
    assert (width, height, bytes(rgb)) == (4, 5, picture.tobytes())
    contents = {"text": b"text\0", "bmp": b"BM..", "jpg": b"\xff\xd8\xff"}
    stage.guest.tell_agent(lambda agent: agent.clipboards.grab(contents))
    assert await board.copied(timeout=10) == ("text", "bmp", "jpg")
    assert await board.get_text() == "text"
    assert await board.get_image() == b"BM.."
    assert await asyncio.gather(*(board.get(form) for form in contents)) == [*contents.values()]
    with pytest.raises(StateError, match="has no png now"):
        await board.get("png")
    await board.set_text("mine")
    await board.clear()
    await eventually(lambda: not stage.guest.agent.clipboards.offered())


async def test_what_goes_wrong_with_a_clipboard_is_said(stage: Stage) -> None:
    board = stage.session.clipboard
    with pytest.raises(SpiceTimeout, match="nothing was copied"):
        await board.copied(timeout=0.05)
    with pytest.raises(LocalError, match="no form"):
        await board.get("page")
    with pytest.raises(LocalError, match="no selection"):
        await board.get("text", "second")
    with pytest.raises(LocalError, match="PNG, BMP, TIFF or JPEG"):
        await board.set_image(b"GIF89a")
    with pytest.raises(LocalError, match="height x width x 3"):
        await board.set_image(np.zeros((2, 2, 4), np.uint8))
    stage.guest.tell_agent(lambda agent: agent.clipboards.grab({"text": None}))
    await board.copied(timeout=10)
    with pytest.raises(SpiceTimeout, match="did not give its clipboard within"):
        await board.get(timeout=0.1)
    await board.set_text("never pasted")
    with pytest.raises(SpiceTimeout, match="nothing was pasted"):
        await board.pasted(timeout=0.05)
    reading = asyncio.create_task(board.get("text", "primary"))
    await asyncio.sleep(0)
    await stage.session.close()
    with pytest.raises(AiospiceError):
        await reading


async def test_events_tell_of_clipboards_and_files_but_not_their_content(
    stage: Stage, tmp_path: Path
) -> None:
    path = tmp_path / "name"
    path.write_bytes(b"content")
    stage.guest.tell_agent(lambda agent: agent.clipboards.grab({"text": b"secret"}))
    await stage.session.clipboard.copied(timeout=10)
    await stage.session.clipboard.get()
    await stage.session.send_file(path)
    kinds = []
    async for event in stage.session.events():
        kinds.append(event.kind)
        if event.kind == "transfer-ended":
            assert event.as_dict()["sent"] == 7
            break
    assert {"agent-connected", "agent-ready", "clipboard-grabbed", "transfer-started"} <= set(kinds)
    assert "clipboard-data" not in kinds


async def test_files_are_sent_with_progress(stage: Stage, tmp_path: Path) -> None:
    files = {"empty": b"", "ä b": b"x", "large": os.urandom(300_000)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    told: dict[str, list[tuple[int, int]]] = {}

    def progress(path: str | os.PathLike[str], sent: int, size: int) -> None:
        told.setdefault(Path(path).name, []).append((sent, size))

    results = await stage.session.send_files([tmp_path / name for name in files], progress=progress)
    assert results == [None] * 3
    assert stage.guest.files == files
    for name, data in files.items():
        assert told[name][-1] == (len(data), len(data))
        assert told[name] == sorted(told[name])


async def test_files_that_can_not_be_sent_are_refused_here(stage: Stage, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "good").write_bytes(b"x")
    for path, text in (
        (tmp_path / "pipe", "only regular files"),
        (tmp_path, "can't be read"),
        (tmp_path / "absent", "No such file"),
    ):
        with pytest.raises(LocalError, match=text):
            await stage.session.send_file(path)
    with pytest.raises(LocalError, match="name"):
        await stage.session.send_file(tmp_path / "good", name="../good")
    assert stage.guest.files == {}


async def test_a_file_that_becomes_shorter_ends_with_the_reason(
    stage: Stage, tmp_path: Path
) -> None:
    path = tmp_path / "shrinks"
    path.write_bytes(bytes(1_000_000))

    def progress(sent: int, size: int) -> None:
        if sent:
            os.truncate(path, 70_000)

    with pytest.raises(TransferFailed, match="became shorter"):
        await stage.session.send_file(path, progress=progress)
    ended = await stage.told(guest_events.FileEnded)
    assert "could not read it" in str(ended)


@pytest.mark.parametrize("how", ["agent", "session"])
async def test_what_ends_files_under_way_is_said(stage: Stage, tmp_path: Path, how: str) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 1 << 32)
    sending = asyncio.create_task(stage.session.send_file(path))
    await stage.told(guest_events.FilePart)
    if how == "agent":
        stage.guest.device.opened = False
        with pytest.raises(TransferFailed, match="agent is gone"):
            await sending
    else:
        await stage.session.close()
        with pytest.raises((TransferFailed, SessionLost)):
            await sending


async def test_monitors_and_volume_reach_the_agent(stage: Stage) -> None:
    await stage.session.set_monitors([(800, 600, 0, 0)])
    await stage.session.set_guest_volume([65535, 1], mute=True)
    volume = await stage.told(guest_events.VolumeWanted)
    assert volume == guest_events.VolumeWanted(playback=True, mute=True, volume=(65535, 1))
    with pytest.raises(LocalError):
        await stage.session.set_monitors([(0, 0, 0, 0)])
    stage.session._shell.core.agent.set_display_config(DisplayConfigFlags.DISABLE_WALLPAPER)
    stage.session._shell.turn()
    desktop = await stage.told(guest_events.DesktopConfigured)
    assert desktop.as_dict()["flags"] == DisplayConfigFlags.DISABLE_WALLPAPER


# The verbs


async def verb(*words: str, data: bytes = b"") -> tuple[int, bytes, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiospice", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(data)
    assert process.returncode is not None
    return process.returncode, out, err.decode()


async def test_the_verb_clipboard_reads_input_and_writes_output(
    stage: Stage, tmp_path: Path
) -> None:
    await stage.session.close()
    target = tmp_path / "out"
    text = "grüße\n".encode()
    stage.guest.tell_agent(lambda agent: agent.clipboards.grab({"text": text, "png": b"\x89PNG"}))
    assert await verb("clipboard", "get", stage.address) == (0, text, "")
    args = ("--form", "png", "-o", str(target))
    assert await verb("clipboard", "get", stage.address, *args) == (0, b"", "")
    assert target.read_bytes() == b"\x89PNG"
    status, _, said = await verb("clipboard", "get", stage.address, "--form", "bmp")
    assert status == 1
    assert "has text, png, but no bmp" in said
    setting = asyncio.create_task(verb("clipboard", "set", stage.address, data=text))
    await eventually(lambda: stage.guest.agent.clipboards.offered() == ("text",))
    stage.guest.tell_agent(lambda agent: agent.request())
    assert await setting == (0, b"", "")
    assert (await stage.told(ClipboardData)).as_dict()["data"] == text.hex()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("get", "spice://x", "text"), "neither a text nor"),
        (("set", "spice://x", "-o", "file"), "no --output"),
        (("set", "spice://x", "text", "-i", "file"), "not both"),
        (("set", "spice://x", "-i", "/nowhere/at/all"), "No such file"),
    ],
)
async def test_the_verb_clipboard_is_used_as_it_is_meant(words: tuple[str, ...], text: str) -> None:
    status, _, said = await verb("clipboard", *words)
    assert status == 2
    assert text in said


async def test_the_verb_send_shows_bars_on_a_terminal(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "bar [bold]").write_bytes(bytes(200_000))
    (tmp_path / "none").mkdir()
    near, far = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiospice", "send", stage.address),
        *(str(tmp_path / "bar [bold]"), str(tmp_path / "none")),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=far,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(far)
    shown = b""
    with suppress(OSError):  # what Linux says when the other end has gone
        while part := await asyncio.to_thread(os.read, near, 65536):
            shown += part
    os.close(near)
    assert process.stdout is not None
    assert await process.stdout.read() == b""
    assert await process.wait() == 2
    assert b"bar [bold]" in shown
    assert b"200.0" in shown
    assert b"can't be read: Is a directory" in shown or b"only regular files" in shown
    assert stage.guest.files == {"bar [bold]": bytes(200_000)}
