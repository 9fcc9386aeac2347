"""The control socket: lines of JSON, for this user only."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.serve_rig import eventually, serving

import aiospice
from aiospice.aio import control as module
from aiospice.aio.control import COMMANDS, CONNECTIONS, LINE_LIMIT, VERSION, ControlClient
from aiospice.errors import ConnectError, LocalError, PermissionDenied, RemoteProtocolError

DOCS = Path(__file__).resolve().parent.parent / "docs"


async def raw(path: Path, *lines: bytes) -> list[dict[str, Any]]:
    """The greeting, and the answers to so many lines."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"".join(lines))
    async with asyncio.timeout(20):
        found = [json.loads(await reader.readline()) for _ in range(len(lines) + 1)]
    writer.close()
    return found


async def test_a_program_asks_how_the_server_is(tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with serving(control=path) as server, aiospice.connect(server.addresses[0]):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with ControlClient(path) as control:
            status = await control.ask("status")
        assert status["guest"] == "keys"
        assert status["addresses"] == list(server.addresses)
        assert [client["channels"] for client in status["clients"]] != []
    assert not path.exists()


async def test_a_client_is_sent_away_and_the_password_changed(tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with serving(control=path, password="old") as server, ControlClient(path) as control:
        session = await aiospice.connect(server.addresses[0], password="old")
        (client,) = (await control.ask("status"))["clients"]
        await control.ask("set-password", password="new", expires_in=60, once=True)
        with pytest.raises(PermissionDenied):
            await aiospice.connect(server.addresses[0], password="old")
        await control.ask("disconnect", client=server.host.clients[0].id, reason="enough")
        with pytest.raises(aiospice.AiospiceError):
            await session.wait_closed()
        await session.close()
        with pytest.raises(LocalError, match=f"{path}: there is no client 17"):
            await control.ask("disconnect", client=17)
        assert client


async def test_shutdown_is_answered_and_ends_the_server(tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with serving(control=path) as server:
        async with ControlClient(path) as control:
            await control.ask("shutdown")
            async with asyncio.timeout(10):
                await server.wait_closed()
        with pytest.raises(ConnectError, match="is a server running with --control"):
            await ControlClient(path).__aenter__()


async def test_events_follow_a_subscription(tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with serving(control=path) as server, ControlClient(path) as control:
        events = control.events()
        first = asyncio.ensure_future(anext(events))
        await eventually(lambda: len(server._readers) == 2)
        async with aiospice.connect(server.addresses[0]) as session:
            await session.keyboard.type("secret")
            event = await first
            assert event["event"] == "client-connected"
            assert event["peer"].startswith("127.0.0.1:")
        kinds = set()
        async with asyncio.timeout(10):
            async for event in events:
                kinds.add(event["event"])
                if event["event"] == "client-disconnected":
                    break
        assert "key-changed" not in kinds
        assert await control.ask("status")
    assert not server._readers


async def test_answers_come_in_order_and_repeat_the_id(tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with serving(control=path):
        greeting, *answers = await raw(
            path,
            b'{"do": "status", "id": 1}\n',
            b'{"do": "disconnect", "client": 1, "id": "two"}\n',
            b'{"do": "set-password", "password": null}\n',
        )
        assert greeting == {"control": VERSION}
        assert [answer.get("id") for answer in answers] == [1, "two", None]
        assert [answer["ok"] for answer in answers] == [True, False, True]


@pytest.mark.parametrize(
    ("line", "error", "text"),
    [
        (b"hello\n", "RemoteProtocolError", "isn't JSON"),
        (b"[" * 30_000 + b"\n", "RemoteProtocolError", "isn't JSON"),
        (b"\xff\xfe\n", "RemoteProtocolError", "isn't JSON"),
        (b"[]\n", "RemoteProtocolError", 'an object with the key "do"'),
        (b'{"do": 1}\n', "RemoteProtocolError", 'an object with the key "do"'),
        (b'{"do": "reboot"}\n', "LocalError", "no command 'reboot'"),
        (b'{"do": "status", "all": 1}\n', "LocalError", "status takes no 'all'"),
        (b'{"do": "disconnect"}\n', "LocalError", "needs the number"),
        (b'{"do": "disconnect", "client": true}\n', "LocalError", "client can't be 'True'"),
        (b'{"do": "disconnect", "client": "1"}\n', "LocalError", "client can't be '1'"),
        (b'{"do": "set-password"}\n', "LocalError", "needs a password"),
        (b'{"do": "set-password", "password": 1}\n', "LocalError", "password can't be"),
        (
            b'{"do": "set-password", "password": "x", "expires_in": -1}\n',
            "LocalError",
            "expires_in is a number",
        ),
        (
            b'{"do": "set-password", "password": "x", "expires_in": NaN}\n',
            "LocalError",
            "expires_in is a number",
        ),
        (
            b'{"do": "set-password", "password": "' + b"x" * 61 + b'"}\n',
            "LocalError",
            "SPICE allows 60",
        ),
    ],
)
async def test_a_request_that_is_none_is_answered_with_an_error(
    line: bytes, error: str, text: str, tmp_path: Path
) -> None:
    path = tmp_path / "control"
    async with serving(control=path):
        _, answer, after = await raw(path, line, b'{"do": "status"}\n')
        assert not answer["ok"]
        assert answer["error"] == error
        assert text in answer["text"]
        assert after["ok"]


async def test_a_line_without_an_end_ends_the_connection(tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with serving(control=path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"x" * (LINE_LIMIT * 2 + 10))
        async with asyncio.timeout(20):
            await reader.readline()
            answer = json.loads(await reader.readline())
            assert not answer["ok"]
            assert str(LINE_LIMIT) in answer["text"]
            try:
                assert await reader.read() == b""
            except ConnectionError:
                pass
        writer.close()
        async with ControlClient(path) as control:
            assert await control.ask("status")


async def test_connections_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with serving(control=path):
        clients = [await ControlClient(path).__aenter__() for _ in range(CONNECTIONS)]
        with pytest.raises(ConnectError, match="closed the connection"):
            await ControlClient(path).__aenter__()
        for client in clients:
            await client.__aexit__(None, None, None)
        async with asyncio.timeout(10):
            while True:
                try:
                    async with ControlClient(path):
                        break
                except ConnectError:
                    await asyncio.sleep(0.01)


async def test_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "control"
    monkeypatch.setattr(module, "peer_user", lambda sock: 12345)
    async with serving(control=path):
        with pytest.raises(ConnectError, match="does it run as another user"):
            await ControlClient(path).__aenter__()
    assert "the user 12345 may not" in caplog.text


AS_NOBODY = """
import os, socket, sys
os.setgid(65534), os.setuid(65534)
sock = socket.socket(socket.AF_UNIX)
try:
    sock.connect(sys.argv[1])
    print("read", sock.recv(100))
except OSError as error:
    print(type(error).__name__)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("mode", [0o600, 0o666])
async def test_a_real_other_user_gets_nothing(mode: int, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    path = tmp_path / "control"
    async with serving(control=path):
        path.chmod(mode)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", AS_NOBODY, str(path), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        assert said.decode().strip() in ("PermissionError", "read b''", "ConnectionResetError")
        assert (said.decode().strip() == "PermissionError") is (mode == 0o600)


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.mark.parametrize(
    ("greeting", "error"),
    [
        (b"hello\n", RemoteProtocolError),
        (b"[]\n", RemoteProtocolError),
        (b'{"control": 2}\n', RemoteProtocolError),
        (b"", ConnectError),
        (b'{"control": 1}', ConnectError),
    ],
)
async def test_a_server_of_another_kind_is_told_of(
    greeting: bytes, error: type[Exception], tmp_path: Path
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_unix_server(answer, str(tmp_path / "x"))
    async with server:
        with pytest.raises(error):
            await ControlClient(tmp_path / "x").__aenter__()


async def test_a_server_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(answer, str(tmp_path / "x"))
    async with server:
        with pytest.raises(ConnectError, match=r"no answer within 0\.1 s"):
            await ControlClient(tmp_path / "x", timeout=0.1).__aenter__()


def test_the_page_has_the_protocol_as_it_is() -> None:
    text = (DOCS / "control.md").read_text(encoding="utf-8")
    commands = text.split("\n## Commands\n")[1].split("\n## ")[0]
    told = [line.split("`")[1] for line in commands.splitlines() if line.startswith("| `")]
    assert [name for name in told if name != "do"] == list(COMMANDS)
    assert f'"control": {VERSION}' in text
    assert f"may have {LINE_LIMIT} bytes" in text
    assert f"{CONNECTIONS} connections are taken" in text
    assert f"unread for {module.UNREAD_SECONDS:g}\nseconds" in text
    assert f"more than {module.EVENT_LIMIT:,} wait" in text
