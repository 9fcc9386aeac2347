"""The control socket: lines of JSON by which programs of the same user steer a server.

The protocol is in docs/control.md. The socket is for this user only (mode 0600), and who connects
is asked for its user id by the kernel besides: root and the server's own user may, nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING, Any, Self

from aiospice.aio.eventqueue import EventQueue
from aiospice.aio.listen import bind, parse_listen, peer_user
from aiospice.errors import AiospiceError, ConnectError, LocalError, RemoteProtocolError
from aiospice.migration.source import ANSWER_SECONDS
from aiospice.migration.target import EXPECT_SECONDS
from aiospice.server.holding import HOLD_SECONDS

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from aiospice.aio.serve import Server

__all__ = ["COMMANDS", "CONNECTIONS", "LINE_LIMIT", "VERSION", "Control", "ControlClient"]

#: Of the protocol; a change that old clients wouldn't understand makes it one more.
VERSION = 1
#: Bytes of a request, its line end included.
LINE_LIMIT = 64 * 1024
#: Bytes of an answer that `ControlClient` takes: a status of many clients is long.
ANSWER_LIMIT = 16 * 1024 * 1024
#: Connections at a time.
CONNECTIONS = 16
#: How long an answer may stay unread, in seconds.
UNREAD_SECONDS = 30.0
#: Events kept for a subscriber that is slow.
EVENT_LIMIT = 1000

_LOG = logging.getLogger("aiospice.server")


class Control:
    """The server's end, at ``path``."""

    def __init__(self, server: Server, path: str) -> None:
        self._server = server
        self._path = os.path.abspath(path)
        self._listening: asyncio.Server | None = None
        self._node = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def path(self) -> str:
        """Where the socket is."""
        return self._path

    async def start(self) -> None:
        """Begin to listen. Raises `AddressError` and `ConnectError`."""
        (sock,) = await bind(parse_listen(f"spice+unix://{self._path}"))
        self._node = os.stat(self._path).st_ino
        self._listening = await asyncio.start_unix_server(
            self._connected, sock=sock, limit=LINE_LIMIT
        )

    async def close(self) -> None:
        """Stop, once the answers under way are written."""
        if self._listening is None:
            return
        self._listening.close()
        self._listening = None
        with contextlib.suppress(OSError):
            if os.stat(self._path).st_ino == self._node:
                os.unlink(self._path)
        own = asyncio.current_task()
        others = {task for task in self._tasks if task is not own}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=1.0)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._may(writer):
                await _Talk(self._server, reader, writer).run()
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    def _may(self, writer: asyncio.StreamWriter) -> bool:
        sock: socket.socket = writer.get_extra_info("socket")
        user = peer_user(sock)
        if user not in (-1, 0, os.geteuid()):
            _LOG.warning("control socket: refused: the user %d may not", user)
            return False
        if len(self._tasks) > CONNECTIONS:
            _LOG.warning("control socket: refused: more than %d connections", CONNECTIONS)
            return False
        return True


class _Talk:
    """One connection to the control socket."""

    def __init__(
        self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._events: asyncio.Task[None] | None = None
        self._linked = False

    async def _link(self) -> None:
        """From here on it is the link of another server."""
        from aiospice.aio.peerlink import PeerStream

        await self._server.handovers.serve_link(PeerStream(self._reader, self._writer))

    async def run(self) -> None:
        """Answer requests until there are none."""
        try:
            await self._send({"control": VERSION})
            while line := await self._line():
                await self._send(self._answer(line))
                if self._linked:
                    await self._link()
                    return
        finally:
            if self._events is not None:
                self._events.cancel()

    async def _line(self) -> bytes:
        try:
            return await self._reader.readline()
        except ValueError:  # it can't be told where the next one begins
            text = f"a request is longer than {LINE_LIMIT} bytes"
            await self._send({"ok": False, "error": "RemoteProtocolError", "text": text})
            return b""

    async def _send(self, what: dict[str, Any]) -> None:
        self._writer.write(json.dumps(what).encode() + b"\n")
        async with asyncio.timeout(UNREAD_SECONDS):
            await self._writer.drain()

    def _answer(self, line: bytes) -> dict[str, Any]:
        asked: dict[str, Any] = {}
        try:
            asked = _request(line)
            result = COMMANDS[asked["do"]](self, asked)
        except AiospiceError as error:
            failed = {"ok": False, "error": type(error).__name__, "text": str(error)}
            return {**_number(asked), **failed}
        return {**_number(asked), "ok": True, "result": result}

    # -- commands ----------------------------------------------------------------------------------

    def status(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What goes on."""
        _check(asked, {})
        return self._server.status()

    def disconnect(self, asked: dict[str, Any]) -> None:
        """End a client's session."""
        _check(asked, {"client": int, "reason": (str, type(None))})
        if "client" not in asked:
            raise LocalError("disconnect needs the number of a client: client")
        self._server.disconnect(
            asked["client"], asked.get("reason") or "disconnected by the control socket"
        )

    def set_password(self, asked: dict[str, Any]) -> None:
        """Ask for another password."""
        kinds = {"password": (str, type(None)), "expires_in": (int, float), "once": bool}
        _check(asked, kinds)
        if "password" not in asked:
            raise LocalError("set-password needs a password, null for none")
        self._server.set_password(
            asked["password"],
            expires_in=asked.get("expires_in"),
            once=asked.get("once", False),
        )

    def shutdown(self, asked: dict[str, Any]) -> None:
        """End the server."""
        _check(asked, {})
        asyncio.get_running_loop().call_soon(self._server.end)

    def subscribe(self, asked: dict[str, Any]) -> None:
        """Send events from now on."""
        _check(asked, {})
        if self._events is None:
            queue = EventQueue(EVENT_LIMIT)
            self._server._readers.append(queue)
            self._events = asyncio.get_running_loop().create_task(self._tell(queue))

    # -- hand-overs --------------------------------------------------------------------------------

    def migrate(self, asked: dict[str, Any]) -> str:
        """Move the guest and its clients to another server."""
        seconds = (int, float)
        kinds = {
            "target": str,
            "policy": str,
            "ready_timeout": seconds,
            "hold_timeout": seconds,
        }
        _check(asked, kinds)
        if "target" not in asked:
            raise LocalError("migrate needs a target: a control socket's path, or tls://HOST:PORT")
        return self._server.handovers.migrate(
            asked["target"],
            asked.get("policy", "direct"),
            asked.get("ready_timeout", ANSWER_SECONDS),
            asked.get("hold_timeout", HOLD_SECONDS),
        )

    def cancel_migration(self, asked: dict[str, Any]) -> None:
        """The guest is to stay."""
        _check(asked, {})
        self._server.handovers.cancel()

    def resume(self, asked: dict[str, Any]) -> None:
        """Nobody knows who has the guest: it goes on here."""
        _check(asked, {})
        self._server.handovers.resume()

    def discard(self, asked: dict[str, Any]) -> None:
        """Nobody knows who has the guest: the target has it."""
        _check(asked, {})
        self._server.handovers.discard()

    def expect_migration(self, asked: dict[str, Any]) -> None:
        """Let a client of another server come here with its session."""
        kinds = {
            "client": (int, type(None)),
            "ticket": (str, type(None)),
            "timeout": (int, float),
        }
        _check(asked, kinds)
        self._server._expect(
            asked.get("client"), asked.get("ticket"), asked.get("timeout", EXPECT_SECONDS)
        )

    def link(self, asked: dict[str, Any]) -> None:
        """Another server talks on, in its own way."""
        _check(asked, {})
        if self._events is not None:
            raise LocalError("a connection that events are sent on can't become a link")
        self._linked = True

    async def _tell(self, queue: EventQueue) -> None:
        try:
            async for event in queue.read(lambda: self._server.closed):
                await self._send(event.as_dict())
        except (OSError, TimeoutError):
            self._writer.transport.abort()
        finally:
            self._server._readers.remove(queue)


#: What may be asked.
COMMANDS: dict[str, Callable[[_Talk, dict[str, Any]], Any]] = {
    "status": _Talk.status,
    "disconnect": _Talk.disconnect,
    "set-password": _Talk.set_password,
    "shutdown": _Talk.shutdown,
    "subscribe": _Talk.subscribe,
    "migrate": _Talk.migrate,
    "cancel-migration": _Talk.cancel_migration,
    "expect-migration": _Talk.expect_migration,
    "resume": _Talk.resume,
    "discard": _Talk.discard,
    "link": _Talk.link,
}


def _request(line: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("a request that isn't JSON") from None
    if not isinstance(asked, dict) or not isinstance(asked.get("do"), str):
        raise RemoteProtocolError('a request is an object with the key "do"')
    if asked["do"] not in COMMANDS:
        raise LocalError(f"there is no command {asked['do'][:40]!r}, only {', '.join(COMMANDS)}")
    return asked


def _number(asked: dict[str, Any]) -> dict[str, Any]:
    """The request's ``id``, if it has one that is a number or a text."""
    number = asked.get("id")
    return {"id": number} if isinstance(number, (int, str)) else {}


def _check(asked: dict[str, Any], kinds: dict[str, Any]) -> None:
    """Raise `LocalError` for arguments that aren't known, or of the wrong kind."""
    for name, value in asked.items():
        if name in ("do", "id"):
            continue
        if name not in kinds:
            raise LocalError(f"{asked['do']} takes no {name[:40]!r}")
        wrong = isinstance(value, bool) and kinds[name] is not bool
        if wrong or not isinstance(value, kinds[name]):
            raise LocalError(f"{asked['do']}: {name} can't be {str(value)[:40]!r}")
    for name in ("expires_in", "timeout", "ready_timeout", "hold_timeout"):
        seconds = asked.get(name)
        if seconds is not None and not 0 <= seconds < 1e9:
            raise LocalError(f"{name} is a number of seconds, 0 or more")


class ControlClient:
    """The other end: ``async with ControlClient(path) as control``."""

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 10.0) -> None:
        self._path = os.fspath(path)
        self._timeout = timeout
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._early: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(
                self._path, limit=ANSWER_LIMIT
            )
        except OSError as error:
            raise ConnectError(
                f"{self._path}: {error.strerror}: is a server running with --control {self._path}?"
            ) from None
        greeting = await self._read()
        if greeting.get("control") != VERSION:
            raise RemoteProtocolError(
                f"its control protocol is {greeting.get('control')!r}, expected {VERSION}",
                where=self._path,
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    async def _read(self, *, patient: bool = False) -> dict[str, Any]:
        assert self._reader is not None
        try:
            async with asyncio.timeout(None if patient else self._timeout):
                line = await self._reader.readline()
        except TimeoutError:
            raise ConnectError(f"{self._path}: no answer within {self._timeout:g} s") from None
        except (OSError, ValueError) as error:
            raise ConnectError(f"{self._path}: {error}") from None
        if not line.endswith(b"\n"):
            raise ConnectError(
                f"{self._path}: the server closed the connection; does it run as another user?"
            )
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise RemoteProtocolError("an answer that is no JSON object", where=self._path)
        return found

    async def ask(self, do: str, **arguments: Any) -> Any:
        """Give a command; returns its result. Raises `LocalError` with the server's text."""
        assert self._writer is not None
        self._writer.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        while "ok" not in (answer := await self._read()):
            self._early.append(answer)
        if not answer["ok"]:
            raise LocalError(f"{self._path}: {answer.get('text', 'refused')}")
        return answer.get("result")

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Events, as `Event.as_dict` gives them, until the server ends."""
        await self.ask("subscribe")
        while True:
            while self._early:
                yield self._early.pop(0)
            try:
                yield await self._read(patient=True)
            except ConnectError:
                return
