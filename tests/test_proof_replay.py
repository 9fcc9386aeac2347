"""What a server sends is recorded as it is, and played to clients as it was."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.test_screen import bitmap, copy, fill, rect, surface

import aiospice
from aiospice.errors import ConnectError, LocalError, SessionLost, SpiceTimeout
from aiospice.proof.keeper import digest
from aiospice.proof.players import play
from aiospice.proof.recording import Recording, message_starts, record
from aiospice.proof.replay import ReplayServer
from aiospice.wire import cursor, display
from aiospice.wire.header import MINI
from aiospice.wire.images import ImageCompression

if TYPE_CHECKING:
    from tests.conftest import QemuFactory

    from aiospice.wire.message import Message

SIDE = 64


def packed(*messages: Message) -> bytes:
    bodies = ((message.number, message.body()) for message in messages)
    return b"".join(MINI.pack(number, len(body)) + body for number, body in bodies)


def address(server: ReplayServer) -> str:
    return f"spice://127.0.0.1:{server.port}"


def recorded(draws: int = 100, window: int = 20, cursor: bytes = b"") -> Recording:
    """A screen with so many draws on it: small images, and fills between them."""
    messages: list[Message] = [surface(SIDE, SIDE), display.Mark()]
    for index in range(draws):
        x, y = index * 5 % 56, index * 3 % 56
        if index % 3:
            image = bitmap(8, 8, bytes((index * 7 + at) % 256 for at in range(256)))
            messages.append(copy(image, rect(x, y, x + 8, y + 8)))
        else:
            messages.append(fill(rect(x, y, x + 8, y + 8), index * 0x010305))
    data = packed(*messages)
    half = message_starts(data)[draws // 2]
    times = ((0.0, half), (0.05, len(data)))
    return Recording(data, cursor, times, (0b1000110,), window, {4: 2})


async def shown(recording: Recording, **options: object) -> str:
    """What our client shows at the end."""
    server_options = {key: options.pop(key) for key in ("window", "paced") if key in options}
    async with (
        ReplayServer(recording, **server_options) as server,  # type: ignore[arg-type]
        aiospice.connect(address(server), **options) as session,  # type: ignore[arg-type]
    ):
        await server.ready()
        await server.play()
        return digest(await session.screen())


@pytest.mark.parametrize("window", [0, 1, 20, 1000])
async def test_every_window_gives_the_same_screen(window: int) -> None:
    assert await shown(recorded(), window=window) == await shown(recorded())


async def test_a_client_without_the_short_header_sees_the_same() -> None:
    assert await shown(recorded(), mini_header=False) == await shown(recorded())


async def test_at_most_two_windows_are_under_way() -> None:
    async with (
        ReplayServer(recorded(draws=200, window=10)) as server,
        aiospice.connect(address(server)),
    ):
        await server.ready()
        channel, sent = server.channels[2, 0], []
        writing = channel.send_recorded

        async def watched(data: bytes, start: int, end: int, count: int) -> None:
            await writing(data, start, end, count)
            sent.append(channel.sent - 1 - 10 * channel.acks)  # without SET_ACK

        channel.send_recorded = watched  # type: ignore[method-assign]
        await server.play()
        assert channel.sent == 1 + 202 + 1  # SET_ACK, the recording, PING
        assert channel.acks == 202 // 10
    assert 0 < max(sent) <= 20


async def test_it_can_be_played_at_its_own_pace() -> None:
    assert await shown(recorded(), paced=True) == await shown(recorded())


async def test_the_cursor_comes_too() -> None:
    pointer = cursor.Hide()
    recording = recorded(cursor=packed(pointer))
    async with ReplayServer(recording) as server, aiospice.connect(address(server)) as session:
        assert session.channels == ("main:0", "display:0", "cursor:0")
    async with ReplayServer(recorded()) as server, aiospice.connect(address(server)) as session:
        assert session.channels == ("main:0", "display:0")


async def test_a_client_that_goes_is_told_of() -> None:
    async with ReplayServer(recorded(draws=5000, window=2)) as server:
        session = await aiospice.connect(address(server))
        await server.ready()
        playing = asyncio.create_task(server.play())
        await asyncio.sleep(0.02)
        await session.close()
        with pytest.raises(SessionLost, match="closed the channel"):
            await playing


async def test_a_client_that_does_not_come_is_not_waited_for_without_limit() -> None:
    async with ReplayServer(recorded()) as server:
        with pytest.raises(SpiceTimeout, match=r"no client .* 0\.05 s"):
            await server.ready(0.05)


async def test_a_client_that_reads_nothing_is_not_waited_for_without_limit() -> None:
    async with (
        ReplayServer(recorded(draws=2000, window=2)) as server,
        aiospice.connect(address(server)) as session,
    ):
        await server.ready()
        session._shell.turn = lambda: None  # type: ignore[method-assign]
        with pytest.raises(SpiceTimeout, match=r"0\.1 s"):
            await server.play(0.1)
        del session._shell.turn


async def test_what_is_played_is_what_is_recorded() -> None:
    first = recorded(cursor=packed(cursor.Hide()))
    async with ReplayServer(first) as server:
        begun = asyncio.Event()
        recording = asyncio.create_task(record(server.port, seconds=0.5, begun=begun))
        await server.ready()
        assert begun.is_set()
        await server.play()
        second = await recording
    assert (second.display, second.cursor) == (first.display, first.cursor)
    assert second.window == first.window
    assert set(second.left_out) == {3, 4}  # SET_ACK, PING
    assert second.times[-1][1] == len(first.display)
    assert second.count(304) == 66


async def test_a_recording_ends_when_it_is_large_enough() -> None:
    async with ReplayServer(recorded(draws=500)) as server:
        recording = asyncio.create_task(record(server.port, seconds=30, most=5000))
        await server.ready()
        with pytest.raises(SessionLost):
            await server.play()
        found = await recording
    assert 5000 <= len(found.display) < len(recorded(draws=500).display)
    assert message_starts(found.display)[-1] == len(found.display)


async def test_nobody_to_record_from_is_an_error_of_this_package() -> None:
    async with ReplayServer(recorded()) as server:
        port = server.port
    with pytest.raises(ConnectError, match=f"127.0.0.1:{port}"):
        await record(port, seconds=0.1)


def test_files_hold_all_of_it(tmp_path: Path) -> None:
    recording = recorded(cursor=b"xyz")
    recording.save(tmp_path / "x")
    assert Recording.load(tmp_path / "x") == recording


@pytest.mark.parametrize("cut", [0, 3, 21, 60, -1])
def test_other_files_are_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x"
    recorded().save(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(LocalError, match="isn't a recording"):
        Recording.load(path)


def test_a_run_that_ends_within_a_message_is_refused() -> None:
    with pytest.raises(LocalError, match="within a message"):
        message_starts(recorded().display[:-1])


async def test_the_cost_to_our_own_client_is_measured() -> None:
    played = await play("aiospice", recorded())
    assert played.report["draws"] == 100
    assert played.report["not_drawn"] == {}
    assert played.report["screen"] == await shown(recorded())
    assert played.cpu > 0
    assert played.wall > 0
    assert played.memory > 0


@pytest.mark.peers
@pytest.mark.parametrize("compression", ["off", "lz", "quic"])
async def test_what_qemu_sends_looks_the_same_in_spice_gtk(
    qemu_factory: QemuFactory, compression: str
) -> None:
    qemu = await qemu_factory(
        guest="quiet", spice=(f"image-compression={compression}", "streaming-video=off")
    )
    recording = await record(qemu.port, seconds=0.5)
    assert recording.count(304) > 0
    ours, theirs = [await play(client, recording) for client in ("aiospice", "spice-gtk")]
    assert ours.report["screen"] == theirs.report["screen"]
    assert ours.report["not_drawn"] == {}


@pytest.mark.peers
async def test_a_compression_can_be_asked_for(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(guest="quiet", spice=("image-compression=off",))
    sizes = {}
    for compression in (None, ImageCompression.LZ4):
        recording = await record(qemu.port, seconds=0.5, compression=compression)
        sizes[compression] = len(recording.display)
    assert sizes[ImageCompression.LZ4] < sizes[None] // 10
