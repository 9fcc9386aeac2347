"""The demo desktop moves in the middle of everything that it can be in the middle of."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serve_rig import eventually, serving
from tests.test_handover_linked import moved

import aiospice
from aiospice.agent.frozen import freeze_agent_end, thaw_agent_end
from aiospice.agent.guest import GuestAgent
from aiospice.errors import LocalError
from aiospice.guests.demo import DemoGuest
from aiospice.guests.filedrop import DropLimits, FileDrop
from aiospice.migration.plainform import decode_plain, encode_plain


def demo(folder: str | None = None, displays: int = 1) -> DemoGuest:
    """One that looks the same whenever it is started."""
    clock = lambda: 1_700_000_000.0  # noqa: E731
    return DemoGuest(moving=False, clock=clock, folder=folder, displays=displays, size=(640, 480))


def carried(source: DemoGuest, target: DemoGuest, rounds: int = 1) -> None:
    """Move a guest's own state, as bytes."""
    parts: dict[str, Any] = {}
    for turn in range(rounds):
        parts |= source.freeze_early(again=turn > 0) or {}
    state = encode_plain(source.freeze())
    target.thaw_early(decode_plain(encode_plain(parts)))
    target.thaw(decode_plain(state))


def shown(guest: DemoGuest, display: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.array(guest.desktops[display].display.pixels)


async def test_a_window_that_is_dragged_goes_on_being_dragged(tmp_path: Path) -> None:
    source, target = demo(displays=2), demo(displays=2)
    async with (
        serving(source) as first,
        serving(target, incoming=True, control=tmp_path / "b"),
        aiospice.connect(first.addresses[0], agent=False) as session,
    ):
        await session.screenshot()
        await session.mouse.move(200, 30)  # the title of "notes"
        inputs: Any = session._shell.core.channels[3, 0]
        inputs.press(1)
        session._shell.turn()
        await session.mouse.move(220, 60)
        await session.keyboard.type("half a li")
        await session.keyboard.press("f5")
        await eventually(lambda: source.state.drag and source.text == "half a li")
        await eventually(lambda: source.state.tone_since is not None)
        assert (await moved(first, tmp_path / "b")).whole == 1
        for display in range(2):
            assert (shown(source, display) == shown(target, display)).all()
        assert target.state.drag == source.state.drag
        assert target.state.tone_since == source.state.tone_since
        assert target.text == "half a li"
        await session.keyboard.type("ne")
        await session.mouse.move(240, 90)
        inputs = session._shell.core.channels[3, 0]
        inputs.release(1)
        session._shell.turn()
        await eventually(lambda: target.text == "half a line" and target.state.drag is None)
        window = target.state.windows[0]["notes"]
        assert (window.x, window.y) == (112 + 40, 24 + 60)
        expected = np.ascontiguousarray(shown(target)[:, :, 2::-1])

        async def same() -> bool:
            return bool((await session.screenshot() == expected).all())

        async with asyncio.timeout(20):
            while not await same():
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("kept", ["memory", "folder"])
async def test_a_file_half_received_is_received_to_its_end(tmp_path: Path, kept: str) -> None:
    folders = [str(tmp_path / name) if kept == "folder" else None for name in ("one", "two")]
    source, target = demo(folders[0]), demo(folders[1])
    data = np.random.default_rng(1).bytes(3_000_000)
    path = tmp_path / "file.bin"
    path.write_bytes(data)
    half = asyncio.Event()

    def progress(sent: int, size: int) -> None:
        if sent > size // 2:
            half.set()

    async with (
        serving(source) as first,
        serving(target, incoming=True, control=tmp_path / "b"),
        aiospice.connect(first.addresses[0]) as session,
    ):
        await session.screenshot()
        await eventually(lambda: source.agent.core.client)
        small = tmp_path / "small.txt"
        small.write_bytes(b"here before")
        await session.send_file(small)
        sending = asyncio.create_task(session.send_file(path, progress=progress))
        await half.wait()
        assert not sending.done()
        assert (await moved(first, tmp_path / "b")).whole == 1
        await sending
        assert [file.name for file in target.files.files] == ["small.txt", "file.bin"]
        if folders[1] is None:
            assert target.files.contents == {"small.txt": b"here before", "file.bin": data}
        else:
            assert (Path(folders[1]) / "file.bin").read_bytes() == data
            assert [each.name for each in (tmp_path / "one").iterdir()] == ["small.txt"]


async def test_a_demo_of_another_shape_takes_nothing() -> None:
    async with serving(demo()) as first, serving(demo(displays=2), incoming=True) as second:
        source, target = first.guest, second.guest
        assert isinstance(source, DemoGuest)
        assert isinstance(target, DemoGuest)
        with pytest.raises(LocalError, match="other displays"):
            carried(source, target)
        damages: tuple[Any, ...] = ({}, None, {"plain": {}})
        for damage in damages:
            with pytest.raises(LocalError):
                target.thaw(damage)
        state = source.freeze()
        for name, value in (("keys", "x"), ("windows", [1]), ("agent", {}), ("files", [("a", 1)])):
            with pytest.raises(LocalError):
                source.thaw({**state, name: value})
        carried(source, source, rounds=3)


def test_an_agents_end_is_the_same_after_it_was_frozen() -> None:
    agent = GuestAgent()
    agent.clipboards.grab({"text": b"here"})
    first = agent.take(10)
    agent.put_back(first[4:])
    copy = thaw_agent_end(decode_plain(encode_plain(freeze_agent_end(agent))))
    assert copy.take() == agent.take()
    assert freeze_agent_end(copy) == freeze_agent_end(agent)
    state = freeze_agent_end(agent)
    for name in state:
        for damage in (None, 5, {"x": 1}):
            with pytest.raises(LocalError):
                thaw_agent_end({**state, name: damage if name != "sent" else -1})
    many = dict.fromkeys(range(100), ("x", 1, 0, False))
    with pytest.raises(LocalError, match="100 files"):
        thaw_agent_end({**state, "active": many})


def test_files_that_are_more_than_are_taken_are_refused() -> None:
    drop = FileDrop(None, DropLimits(files=1))
    drop.adopt([("a", 1)], {"a": b"x"})
    with pytest.raises(LocalError, match="more than are taken"):
        drop.adopt([("a", 1), ("b", 1)], {})
