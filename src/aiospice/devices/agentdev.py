"""The guest agent's device: messages in chunks, judged each way (spice-server ``server/reds.cpp``).

Towards the guest each AGENT_DATA of a client becomes a chunk for port 1; what the server says
itself goes to port 2. From the guest come chunks of any size, in any pieces; a client gets what is
on port 1 in pieces of at most 2048 bytes.

Upstream's hand-over loses bytes of a chunk that has been read in part. Here the state of reading
is a few numbers that say exactly what has been read: ``chunk_header``, ``port``, ``chunk_left``
(bytes of the chunk that are still the guest's) and ``piece`` (read and not passed on).

Messages of several clients don't mix: while one client's message is under way to the guest, those
of others are held.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from aiospice.devices.agentfilter import AgentFilter
from aiospice.devices.chardev import (
    CharDevice,
    DeviceClient,
    DeviceEvent,
    GuestFailed,
    Origin,
    TokensReturned,
    WriteBuffer,
)
from aiospice.devices.rules import AGENT
from aiospice.errors import DecodeError
from aiospice.wire.agent import AgentCapability, AgentType
from aiospice.wire.agent_stream import (
    CHUNK_HEADER,
    CLIENT_PORT,
    HEADER,
    MAX_AGENT_DATA,
    MAX_MESSAGE,
    SERVER_PORT,
    pack_chunk,
    pack_message,
)
from aiospice.wire.handover import FilterResult

__all__ = ["AgentDevice", "MonitorsAsked"]

#: The most bytes of a chunk from the guest: agents put a whole message into one.
MAX_CHUNK = MAX_MESSAGE + HEADER.size
#: The most bytes of a client's monitors, for 256 of them.
MAX_MONITORS = HEADER.size + 8 + 256 * 28
_MESSAGE = "ClientAgentData"
_CAPS_AT = HEADER.size + 4
_NO_CLIPBOARD = (
    1 << AgentCapability.CLIPBOARD
    | 1 << AgentCapability.CLIPBOARD_BY_DEMAND
    | 1 << AgentCapability.CLIPBOARD_SELECTION
)
_NO_FILES = 1 << AgentCapability.FILE_XFER_DISABLED
_DISCONNECTED = pack_chunk(SERVER_PORT, pack_message(AgentType.CLIENT_DISCONNECTED, b""))


@dataclass(frozen=True, slots=True)
class MonitorsAsked(DeviceEvent):
    """A client has told its monitors: the body of a MONITORS_CONFIG, not looked at."""

    client: int
    body: bytes


class AgentDevice(CharDevice):
    """The agent's device. `attach` and `detach` are the agent's coming and going.

    ``copy_paste`` and ``file_transfer``: whether those messages pass. ``monitors``: the graphics
    device takes the clients' monitors, so they come as `MonitorsAsked` and the agent gets none.
    """

    def __init__(
        self,
        *,
        copy_paste: bool = True,
        file_transfer: bool = True,
        monitors: bool = False,
        signals: bool = True,
    ) -> None:
        super().__init__("agent", AGENT, signals=signals)
        self.copy_paste = copy_paste
        self.file_transfer = file_transfer
        self.monitors = monitors
        #: How often an agent has come.
        self.attachments = 0
        #: Capability words that the agent has announced last.
        self.agent_caps: tuple[int, ...] = ()
        #: AGENT_DATA of clients that was dropped since no agent was theirs.
        self.ignored = 0
        #: Where reading from the guest is.
        self.chunk_header = b""
        self.port = 0
        self.chunk_left = 0
        self.piece = bytearray()
        self.from_agent = self._filter()
        #: Clients that came while a message was under way: they begin with the next.
        self.late: set[int] = set()
        #: The filters of what clients send.
        self.to_agent: dict[int, AgentFilter] = {}
        #: The client whose message is under way to the guest, what others have sent meanwhile, and
        #: whether each of these ends a message.
        self.writer: int | None = None
        self.held: dict[int, deque[tuple[bytes, bool]]] = {}
        self._monitors: dict[int, bytearray] = {}
        #: Clients that keep copies from when they take up with an agent: they are told of each
        #: message that it takes, or not.
        self.keepers: dict[int, bool] = {}
        #: The last of each kind of message that waits for a self token.
        self._pending: dict[int, bytes] = {}

    def _filter(self, *, monitors: bool = False) -> AgentFilter:
        return AgentFilter(
            copy_paste=self.copy_paste, file_transfer=self.file_transfer, monitors=monitors
        )

    def set_policy(self, *, copy_paste: bool, file_transfer: bool) -> None:
        """What passes, from the next messages on."""
        self.copy_paste, self.file_transfer = copy_paste, file_transfer
        for judge in (self.from_agent, *self.to_agent.values()):
            judge.copy_paste, judge.file_transfer = copy_paste, file_transfer

    # -- the agent comes and goes ------------------------------------------------------------------

    def attach(self) -> None:
        """An agent is there; clients that take up with it have a new window."""
        super().attach()
        self.attachments += 1

    def detach(self) -> None:
        """The agent is gone, and so is all that was on its way; clients have to begin again."""
        super().detach()
        self.reset()
        self.clients.clear()
        # Whoever takes up with the next agent is told its whole window.
        self._events = [event for event in self._events if not isinstance(event, TokensReturned)]

    def reset(self) -> None:
        """Forget all that waits and all messages that are under way."""
        super().reset()
        self.chunk_header, self.port, self.chunk_left = b"", 0, 0
        self.piece.clear()
        self.agent_caps = ()
        self.from_agent = self._filter()
        self.late.clear()
        for judge in self.to_agent.values():
            # Clients complete a message that they have begun, whatever becomes of the agent.
            judge.verdict = FilterResult.DISCARD
            judge.discard = True
        self.writer = None
        self.held.clear()
        self._monitors.clear()
        self._pending.clear()

    # -- clients -----------------------------------------------------------------------------------

    def start_client(self, client: int, tokens: int, now: float) -> None:
        """A client takes up with the agent (AGENT_START): it may be sent ``tokens`` messages."""
        if not self.attached:
            return
        if client in self.clients:
            self.set_tokens(client, tokens, now)
            return
        # Others may still be on their way here, for whom the agent's stream stands still.
        waiting, self.waiting = self.waiting, False
        added = self.add_client(client, now, flow_control=True, send_tokens=tokens)
        self.waiting = waiting
        if client in self.keepers:
            added.keeps, added.acks = True, self.keepers[client]
        judge = self.to_agent.setdefault(client, self._filter(monitors=self.monitors))
        judge.discard = False  # but for the rest of a message that was for the agent before
        if self.from_agent.left:
            self.late.add(client)

    def keep(self, client: int, on: bool, *, acks: bool = False) -> None:
        """A client keeps copies of all that it sends from here on, or of nothing."""
        self.keepers.pop(client, None)
        if on:
            self.keepers[client] = acks
        super().keep(client, on, acks=acks)

    def abandon(self, client: int) -> bool:
        """A client that was to go on with a message doesn't come: others' may follow."""
        done = super().abandon(client)
        if client in self.clients:
            return done
        self.to_agent.pop(client, None)
        self._monitors.pop(client, None)
        if self.writer == client:
            self.writer = None
            self._say_disconnected()
            self._let_held_go()
            done = True
        return done

    def remove_client(self, client: int, unsent: tuple[bytes, ...] | list[bytes] = ()) -> None:
        """A client is gone; the agent is told if it was the last, or in the middle of a message."""
        self.keepers.pop(client, None)
        if client not in self.clients:
            self.to_agent.pop(client, None)
            return
        before = len(self.buffers)
        super().remove_client(client, unsent)
        torn = self.writer == client or len(self.buffers) < before
        self.to_agent.pop(client, None)
        self._monitors.pop(client, None)
        self.held.pop(client, None)
        self.late.discard(client)
        if self.attached and (torn or not self.clients):
            self._say_disconnected()
        if self.writer == client:
            self.writer = None
            self._let_held_go()

    def client_writes(self, client: int, data: bytes, message: str = _MESSAGE) -> None:
        """One AGENT_DATA of a client, which needs a token and is judged.

        That of a client that hasn't taken up with this agent is dropped: it may have been meant for
        the one before. Where its messages end is known nevertheless.
        """
        sender = self.clients.get(client)
        if sender is None:
            self._ignore(client, data)
            return
        if not self._charge(sender, len(data), message):
            return
        judge = self.to_agent[client]
        rest = self.begun is not None and self.begun[0] == client
        if rest and not self._is_rest(data):
            self._drop(sender, "it is to send the rest of a message, and sends another", message)
            return
        if sender.keeps:
            sender.trail.append(self._before(client, judge))
        try:
            verdict = judge.judge(data)
        except DecodeError as error:
            self._drop(sender, f"field {error.field}: {error.text}", message)
            return
        if rest:
            self._write_rest(sender, data, not judge.left)
            return
        if verdict is FilterResult.OK:
            self._write(sender, pack_chunk(CLIENT_PORT, data), not judge.left)
            return
        if verdict is FilterResult.MONITORS_CONFIG:
            self._collect_monitors(sender, data, not judge.left)
        self._used_up(sender)

    def _before(self, client: int, judge: AgentFilter) -> tuple[Any, ...]:
        """How things are before a message: the filter, and the monitors as far as they are here."""
        state = (judge.type, judge.left, int(judge.verdict), judge.discard)
        return (state, bytes(self._monitors.get(client, b"")))

    def _is_rest(self, data: bytes) -> bool:
        """Whether that is the rest of the chunk that the guest has read the beginning of."""
        assert self.begun is not None
        _, taken, size, head = self.begun
        at = max(taken, CHUNK_HEADER.size)
        known = head[at:]
        return len(data) == size - at and data[: len(known)] == known

    def _write_rest(self, sender: DeviceClient, data: bytes, ends: bool) -> None:
        assert self.begun is not None
        self.go_on_with(
            pack_chunk(CLIENT_PORT, data)[min(self.begun[1], CHUNK_HEADER.size) :], sender
        )
        self.writer = None if ends else sender.id
        if ends:
            self._let_held_go()

    def _used_up(self, sender: DeviceClient) -> None:
        if sender.keeps and self.held.get(sender.id):
            self.held[sender.id].append((b"", False))
        else:
            super()._used_up(sender)

    def _ignore(self, client: int, data: bytes) -> None:
        self.ignored += 1
        judge = self.to_agent.get(client)
        if judge is None:
            return  # it never had an agent
        try:
            judge.judge(data)
        except DecodeError:
            judge.restart()

    def _write(self, sender: DeviceClient, chunk: bytes, ends: bool) -> None:
        """Pass a chunk on, unless the message of another client is under way."""
        if self.writer not in (None, sender.id):
            self.held.setdefault(sender.id, deque()).append((chunk, ends))
            return
        origin = self._origin(sender.id)
        self._push(WriteBuffer(chunk, origin, sender.id, kept=sender.keeps))
        self.writer = None if ends else sender.id
        if ends:
            self._let_held_go()

    def _origin(self, client: int) -> Origin:
        """What a message costs: nothing if its client isn't here, since it was another server's."""
        return Origin.CLIENT if client in self.clients else Origin.FREE

    def _let_held_go(self) -> None:
        while self.writer is None and self.held:
            client = next(iter(self.held))
            waiting = self.held.pop(client)
            ends = False
            while waiting and not ends:
                chunk, ends = waiting.popleft()
                if not chunk:
                    super()._used_up(self.clients[client])
                    continue
                origin = self._origin(client)
                self._push(WriteBuffer(chunk, origin, client, kept=self._keeps(client)))
            if waiting:
                self.held[client] = waiting  # behind the others
            if not ends:
                self.writer = client

    def _keeps(self, client: int) -> bool:
        known = self.clients.get(client)
        return known is not None and known.keeps

    def _collect_monitors(self, sender: DeviceClient, data: bytes, ends: bool) -> None:
        parts = self._monitors.setdefault(sender.id, bytearray())
        parts += data
        if len(parts) > MAX_MONITORS:
            self._drop(sender, f"monitors of more than {MAX_MONITORS} bytes", _MESSAGE)
        elif ends:
            self._events.append(MonitorsAsked(sender.id, bytes(parts[HEADER.size :])))
            del self._monitors[sender.id]

    def unread_price(self, client: int) -> int:
        """What the guest hasn't read of a client's messages, in tokens."""
        return super().unread_price(client) + len(self.held.get(client, ()))

    # -- the server's own messages -----------------------------------------------------------------

    def say(self, kind: int, body: bytes, *, token: bool = True) -> bool:
        """Tell the agent something; False if it isn't there, or a self token is needed and used."""
        if not self.attached:
            return False
        message = pack_message(kind, body)
        chunks = [
            pack_chunk(SERVER_PORT, message[at : at + MAX_AGENT_DATA])
            for at in range(0, len(message), MAX_AGENT_DATA)
        ]
        return self.server_writes(b"".join(chunks), token=token)

    def _say_disconnected(self) -> None:
        """Needs no token, so an agent that doesn't read must not be told again and again."""
        if not self.buffers or self.buffers[-1].data != _DISCONNECTED:
            self.server_writes(_DISCONNECTED, token=False)

    def say_latest(self, kind: int, body: bytes) -> None:
        """Tell the agent how something is now; the last is said as soon as a self token is free."""
        self._pending.pop(kind, None)
        if self.attached and not self.say(kind, body):
            self._pending[kind] = body

    def _self_token_freed(self) -> None:
        while self._pending:
            kind = next(iter(self._pending))
            if not self.say(kind, self._pending[kind]):
                break
            del self._pending[kind]

    # -- what the agent says -----------------------------------------------------------------------

    def _from_guest(self, view: memoryview, now: float) -> int:
        """Read a part of a chunk header, or of a piece; a whole piece goes to the clients."""
        if not self.chunk_left:
            return self._read_header(view)
        target = min(MAX_AGENT_DATA, len(self.piece) + self.chunk_left)
        used = min(target - len(self.piece), len(view))
        if self.port == SERVER_PORT:  # nobody has use for it
            used = min(self.chunk_left, len(view))
            self.chunk_left -= used
            return used
        self.piece += view[:used]
        self.chunk_left -= used
        if len(self.piece) == target:
            piece = bytes(self.piece)
            self.piece.clear()
            self._pass_on(piece, now)
        return used

    def _read_header(self, view: memoryview) -> int:
        used = min(CHUNK_HEADER.size - len(self.chunk_header), len(view))
        self.chunk_header += view[:used]
        if len(self.chunk_header) < CHUNK_HEADER.size:
            return used
        port, size = CHUNK_HEADER.unpack(self.chunk_header)
        self.chunk_header = b""
        if port not in (CLIENT_PORT, SERVER_PORT):
            self._fail(DecodeError(f"{port}", field="port", offset=0, message="agent chunk"))
        elif size > MAX_CHUNK:
            text = f"{size} bytes, the limit is {MAX_CHUNK}"
            self._fail(DecodeError(text, field="size", offset=4, message="agent chunk"))
        else:
            self.port, self.chunk_left = port, size
        return used

    def _pass_on(self, piece: bytes, now: float) -> None:
        begins = not self.from_agent.left
        self.from_agent.discard = not self.clients
        try:
            verdict = self.from_agent.judge(piece)
        except DecodeError as error:
            self._fail(error)
            return
        if begins:
            self.late.clear()
            if self.from_agent.type == AgentType.ANNOUNCE_CAPABILITIES:
                piece = self._announced(piece)
        if verdict is FilterResult.OK:
            for client in self.clients.values():
                if client.id not in self.late:
                    self._send(client, piece, now)

    def _announced(self, piece: bytes) -> bytes:
        """Take the agent's capabilities down, and take out what the policy doesn't allow."""
        count = (len(piece) - _CAPS_AT) // 4
        words = [
            int.from_bytes(piece[_CAPS_AT + 4 * at : _CAPS_AT + 4 * at + 4], "little")
            for at in range(max(count, 0))
        ]
        self.agent_caps = tuple(words)
        if not words:
            return piece
        if not self.copy_paste:
            words[0] &= ~_NO_CLIPBOARD
        if not self.file_transfer:
            words[0] |= _NO_FILES
        return piece[:_CAPS_AT] + words[0].to_bytes(4, "little") + piece[_CAPS_AT + 4 :]

    def _fail(self, error: DecodeError) -> None:
        """The agent's bytes can't be read any more."""
        self.detach()
        self._events.append(GuestFailed(error))
