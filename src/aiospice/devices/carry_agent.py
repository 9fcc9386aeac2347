"""What of the agent's device moves to another server (`aiospice.devices.carry`).

Bytes for the agent that a client carries are put together again from their chunks and judged as if
the client had sent them here: a record can't get a message past what is allowed. Where a message
is under way, whether it is, is known from the guest's part only; a record without one is believed
as far as nothing is forbidden. Facts: spice-server ``server/reds.cpp``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from aiospice.devices.agentdev import AgentDevice
from aiospice.devices.agentfilter import AgentFilter
from aiospice.devices.carry import (
    DeviceState,
    freeze_client,
    lift,
    lower,
    put_back,
    refuse,
    thaw_client,
)
from aiospice.devices.chardev import DeviceClient, Origin, WriteBuffer
from aiospice.errors import DecodeError
from aiospice.wire.agent import AgentType
from aiospice.wire.agent_stream import (
    CHUNK_HEADER,
    CLIENT_PORT,
    HEADER,
    MAX_AGENT_DATA,
    SERVER_PORT,
    pack_chunk,
)
from aiospice.wire.handover import FilterResult, MainRecord

__all__ = [
    "AgentState",
    "end_late",
    "freeze_agent",
    "lift_agent",
    "lower_agent",
    "put_agent_back",
    "settle",
    "thaw_agent",
    "write_late",
]

#: The type, what is left, and the verdict of a message that is under way; all is thrown away.
Judged = tuple[int, int, int, bool]


@dataclass(slots=True)
class AgentState:
    """The guest's part. Plain data."""

    device: DeviceState = field(default_factory=DeviceState)
    #: Where reading from the guest is: see `AgentDevice`.
    reading: tuple[bytes, int, int, bytes] = (b"", 0, 0, b"")
    from_agent: Judged = (0, 0, 0, False)
    agent_caps: tuple[int, ...] = ()
    #: Of each client: its message that is under way, and its monitors as far as they have come.
    to_agent: dict[int, Judged] = field(default_factory=dict)
    monitors: dict[int, bytes] = field(default_factory=dict)
    #: The client whose message is under way to the guest, and what others' wait behind it.
    writer: int | None = None
    held: dict[int, list[tuple[bytes, bool]]] = field(default_factory=dict)


def _judged(judge: AgentFilter) -> Judged:
    return (judge.type, judge.left, int(judge.verdict), judge.discard)


def _judge_as(judge: AgentFilter, state: Judged) -> None:
    judge.type, judge.left, judge.discard = state[0], state[1], state[3]
    judge.verdict = FilterResult(state[2])


def settle(core: AgentDevice, now: float) -> None:
    """Pass on what has been read of a piece, so that nothing of it has to be carried."""
    if core.piece and (core.from_agent.left or len(core.piece) >= HEADER.size):
        piece = bytes(core.piece)
        core.piece.clear()
        core._pass_on(piece, now)


def lift_agent(core: AgentDevice, now: float) -> AgentState:
    """Stop the device and take out what goes with the guest."""
    settle(core, now)
    state = AgentState(lift(core, now))
    state.reading = (core.chunk_header, core.port, core.chunk_left, bytes(core.piece))
    state.from_agent = _judged(core.from_agent)
    state.agent_caps = core.agent_caps
    state.to_agent = {id: _judged(judge) for id, judge in core.to_agent.items()}
    state.monitors = {id: bytes(parts) for id, parts in core._monitors.items()}
    state.writer = core.writer
    state.held = {id: list(chunks) for id, chunks in core.held.items()}
    core.held.clear()
    return state


def put_agent_back(core: AgentDevice, state: AgentState, now: float) -> None:
    """The guest doesn't move."""
    for id, chunks in state.held.items():
        if id in core.clients:
            core.held[id] = deque([*chunks, *core.held.get(id, ())])
    put_back(core, state.device, now)
    core._let_held_go()  # the client whose message was under way may have left


def lower_agent(core: AgentDevice, state: AgentState) -> None:
    """Put the guest's part into a device that is new."""
    lower(core, state.device)
    core.chunk_header, core.port, core.chunk_left, piece = state.reading
    core.piece[:] = piece
    _judge_as(core.from_agent, state.from_agent)
    core.agent_caps = state.agent_caps
    core.writer = state.writer
    core.held = {id: deque(chunks) for id, chunks in state.held.items()}
    for id, judged in state.to_agent.items():
        judge = core.to_agent[id] = core._filter(monitors=core.monitors)
        _judge_as(judge, judged)
    core._monitors = {id: bytearray(parts) for id, parts in state.monitors.items()}


def freeze_agent(core: AgentDevice, client: int) -> MainRecord:
    """Take a client out of the device: the record of its main channel."""
    if client not in core.clients or not core.attached:
        return MainRecord.empty()
    held = core.held.pop(client, deque())
    for chunk, _ in held:
        core._push(WriteBuffer(chunk, Origin.CLIENT, client))
    device = freeze_client(core, client)
    judge = core.to_agent.pop(client, None) or core._filter()
    from_agent = core.from_agent
    if core.chunk_left:
        header = (8, core.port, core.chunk_left)
    else:
        raw = core.chunk_header.ljust(CHUNK_HEADER.size, b"\0")
        header = (len(core.chunk_header), *CHUNK_HEADER.unpack(raw))
    if core.writer == client:
        core.writer = None
    return MainRecord(
        device=device,
        client_agent_started=1,
        chunk_header_size=header[0],
        chunk_port=header[1],
        chunk_size=header[2],
        from_agent_header_done=int(bool(from_agent.left)),
        from_agent_header=bytes(core.piece),
        from_agent_remaining=from_agent.left,
        from_agent_filter=int(from_agent.verdict != FilterResult.OK),
        to_agent_remaining=judge.left,
        to_agent_filter=int(judge.verdict != FilterResult.OK),
    )


def thaw_agent(
    core: AgentDevice, client: int, record: MainRecord, state: AgentState | None, now: float
) -> None:
    """Restore a client from its record; ``state`` is the guest's part, None if none has come.

    `DecodeError` for what can't be so: the client has to go.
    """
    # The three verdicts that a message may be under way with; what there is no byte of is refused.
    for name, value, at in (
        ("from_agent_filter", record.from_agent_filter, 59),
        ("to_agent_filter", record.to_agent_filter, 64),
    ):
        if value not in (FilterResult.OK, FilterResult.DISCARD):
            raise refuse(f"{value}: nothing can be under way so", name, at)
    if state is None:
        _read_on(core, record)
    judge = core.to_agent.setdefault(client, core._filter(monitors=core.monitors))
    data = record.device.write_data
    begun = _begun(core, data) if state is None else 0
    chunks = _chunks(data[begun:])
    if state is None or client not in state.to_agent:
        _guess(core, judge, chunks, record)
    core.waiting = False
    core.add_client(client, now, flow_control=True)
    sender = core.clients[client]
    device = None if state is None else state.device
    thaw_client(core, client, record.device, now, state=device, write=False)
    own = sum(port == CLIENT_PORT for port, _ in chunks)
    if own > record.device.write_num_client_tokens:
        text = f"{own} messages of the client, {record.device.write_num_client_tokens} are paid for"
        raise refuse(text, "device.write_data", record.fixed)
    rest = record.device.write_num_client_tokens - own
    if begun:
        origin = Origin.CLIENT if rest else Origin.FREE
        core._push(WriteBuffer(data[:begun], origin, client))
        rest = max(0, rest - 1)
    _replay(core, client, chunks, record)
    # Messages that the guest has read already came to fewer chunks than tokens.
    if rest:
        core._give_back(sender, rest)


def write_late(core: AgentDevice, client: int, data: bytes) -> None:
    """A piece that a client had sent to the source at last: it isn't here, and begins anew.

    It is judged as if the client were, and costs nothing: its tokens were the source's.
    """
    judge = core.to_agent.get(client)
    if judge is None or not core.attached:
        core.ignored += 1
        return
    try:
        verdict = judge.judge(data)
    except DecodeError:
        end_late(core, client, alone=False)
        return
    sender = DeviceClient(client, flow_control=False)
    if verdict is FilterResult.OK:
        core._write(sender, pack_chunk(CLIENT_PORT, data), not judge.left)
    elif verdict is FilterResult.MONITORS_CONFIG:
        core._collect_monitors(sender, data, not judge.left)


def end_late(core: AgentDevice, client: int, *, alone: bool) -> None:
    """Nothing more comes of the session that a client had with the source.

    A message that lacks its end never gets it: the agent is told that the client is gone; also if
    it was ``alone``. What is whole, and waits for messages of others, goes when its turn comes.
    """
    if client in core.clients:
        return
    core.to_agent.pop(client, None)
    core._monitors.pop(client, None)
    waiting = list(core.held.pop(client, ()))
    while waiting and not waiting[-1][1]:
        waiting.pop()
    if waiting:
        core.held[client] = deque(waiting)
    torn = core.writer == client
    if core.attached and (torn or (alone and not core.clients)):
        core._say_disconnected()
    if torn:
        core.writer = None
        core._let_held_go()


def _read_on(core: AgentDevice, record: MainRecord) -> None:
    """Go on reading from the guest where the record says."""
    raw = CHUNK_HEADER.pack(record.chunk_port, record.chunk_size)
    core.chunk_header = raw[: record.chunk_header_size] if record.chunk_header_size < 8 else b""
    whole = record.chunk_header_size == 8
    core.port, core.chunk_left = (record.chunk_port, record.chunk_size) if whole else (0, 0)
    core.piece[:] = record.from_agent_header
    if core.piece and core.port == SERVER_PORT:
        raise refuse("a message's header on the server's port", "from_agent_header_size", 47)
    done = record.from_agent_header_done
    left = record.from_agent_remaining if done else 0
    _judge_as(core.from_agent, (0, left, record.from_agent_filter if left else 0, False))


def _chunks(data: bytes) -> list[tuple[int, bytes]]:
    """Cut bytes for the guest into chunks: port and content of each."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        if at + CHUNK_HEADER.size > len(data):
            raise refuse("ends in the header of a chunk", "device.write_data", 65 + at)
        port, size = CHUNK_HEADER.unpack_from(data, at)
        body = data[at + CHUNK_HEADER.size : at + CHUNK_HEADER.size + size]
        if port not in (CLIENT_PORT, SERVER_PORT) or not 0 < size <= MAX_AGENT_DATA:
            raise refuse(f"a chunk of {size} bytes for port {port}", "device.write_data", 65 + at)
        if len(body) < size:
            raise refuse("ends in a chunk", "device.write_data", 65 + at)
        found.append((port, body))
        at += CHUNK_HEADER.size + size
    return found


def _begun(core: AgentDevice, data: bytes) -> int:
    """How many bytes are the rest of a chunk whose beginning the guest read on the source.

    What they belong to isn't known, so they are believed only if everything is allowed. Where
    there is no such rest, or nothing can be made of it, it is 0.
    """
    if not (core.copy_paste and core.file_transfer):
        return 0
    for begun in range(min(len(data) + 1, CHUNK_HEADER.size + MAX_AGENT_DATA)):
        try:
            _chunks(data[begun:])
        except DecodeError:
            continue
        return begun
    return 0


def _guess(
    core: AgentDevice, judge: AgentFilter, chunks: list[tuple[int, bytes]], record: MainRecord
) -> None:
    """How a message was under way before these chunks, when nobody else can say.

    They may begin a message, or go on with one. The second is believed only if everything is
    allowed: else bytes of anything could be passed as the rest of something.
    """
    own = [body for port, body in chunks if port == CLIENT_PORT]
    remaining, verdict = record.to_agent_remaining, record.to_agent_filter
    free = core.copy_paste and core.file_transfer
    for skipped in range(len(own) + 1):
        left = sum(map(len, own[:skipped]))
        trial = core._filter(monitors=core.monitors)
        try:
            for body in own[skipped:]:
                trial.judge(body)
        except DecodeError:
            continue
        if skipped == len(own):
            left += remaining
        elif trial.left != remaining:
            continue
        if left and not free and verdict == FilterResult.OK:
            break
        _judge_as(judge, (0, left, verdict if skipped == len(own) else 0, False))
        return
    raise refuse("can't be judged: where its messages begin isn't known", "device.write_data", 65)


def _replay(
    core: AgentDevice, client: int, chunks: list[tuple[int, bytes]], record: MainRecord
) -> None:
    """Judge and write what the client had sent, as if it came now."""
    judge, sender = core.to_agent[client], core.clients[client]
    for port, body in chunks:
        if port == SERVER_PORT:
            # The source's own words come with the guest; what a client may forge does no harm.
            _, kind, _, _ = HEADER.unpack_from(body.ljust(HEADER.size, b"\0"))
            if kind == AgentType.MOUSE_STATE and len(body) <= 64:
                core._push(WriteBuffer(pack_chunk(SERVER_PORT, body), Origin.FREE))
            continue
        verdict = judge.judge(body)
        if verdict is FilterResult.OK:
            core._write(sender, pack_chunk(CLIENT_PORT, body), not judge.left)
            continue
        if verdict is FilterResult.MONITORS_CONFIG:
            core._collect_monitors(sender, body, not judge.left)
        core._give_back(sender, 1)
    if judge.left != record.to_agent_remaining:
        text = f"{record.to_agent_remaining} bytes, by its chunks {judge.left} are left"
        raise refuse(text, "to_agent_remaining", 60)
    if judge.left and judge.verdict is FilterResult.OK:
        core.writer = client if core.writer in (None, client) else core.writer
