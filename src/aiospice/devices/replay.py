"""What a device leaves to a client that keeps copies of what it sends (`aiospice.wire.keep`).

On the source (`leave`) the guest's part of the state goes without what such a client has copies
of; how far the guest is in them is a `Report`. On the target (`resume`) the client goes on from
there: it has its whole window again but for what is unread of others, and its messages are judged
from where the guest is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiospice.devices.agentdev import AgentDevice
from aiospice.devices.carry import DeviceState, adopted, hand_waiting, refuse
from aiospice.devices.chardev import CharDevice, Origin, WriteBuffer
from aiospice.devices.smartcard import SmartcardDevice
from aiospice.wire.agent_stream import CHUNK_HEADER, HEADER
from aiospice.wire.handover import FilterResult
from aiospice.wire.smartcard import DEVICE_HEADER
from aiospice.wire.tokens import LEAST_MESSAGE

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Container

    from aiospice.devices.carry_agent import AgentState, Judged

__all__ = [
    "Aside",
    "Report",
    "forget_client",
    "leave",
    "leave_agent",
    "put_aside",
    "resume",
    "take_again",
    "waits_for_others",
]


@dataclass(frozen=True, slots=True)
class Report:
    """How far the guest is in what a client has sent: messages, and bytes of data of the next."""

    messages: int = 0
    partial: int = 0


@dataclass(slots=True)
class Aside:
    """What is unread of a device, in case that the guest stays. Plain data."""

    buffers: list[WriteBuffer]
    taken: int


def put_aside(core: CharDevice) -> Aside:
    """To be called before the device is lifted."""
    return Aside(list(core.buffers), core.taken)


def take_again(core: CharDevice, state: DeviceState, aside: Aside) -> None:
    """The guest stays: have all that was unread be as it was, before `put_back` does the rest."""
    state.to_guest = []
    for buffer in aside.buffers:
        if buffer.origin is Origin.CLIENT and buffer.client not in core.clients:
            buffer.origin = Origin.LEFT if core.rules.keeps else Origin.FREE
    core.buffers.extendleft(reversed(aside.buffers))
    core.taken = aside.taken
    core.unread_bytes = sum(len(buffer.data) for buffer in core.buffers) - core.taken


def _first(aside: Aside, client: int) -> WriteBuffer | None:
    """The message of a client that the guest has read a part of."""
    first = aside.buffers[0] if aside.buffers else None
    own = first is not None and first.kept and first.client == client
    return first if own and aside.taken else None


def leave(
    core: CharDevice, state: DeviceState, aside: Aside, clients: Container[int]
) -> dict[int, Report]:
    """Take out of a device's state what clients have copies of; how far the guest is for each."""
    kept = [
        each
        for each, buffer in zip(state.to_guest, aside.buffers, strict=True)
        if not (buffer.kept and buffer.origin is Origin.CLIENT and buffer.client in clients)
    ]
    state.to_guest = kept
    head = {AgentDevice: CHUNK_HEADER.size, SmartcardDevice: DEVICE_HEADER.size}
    header = head.get(type(core), 0)
    found: dict[int, Report] = {}
    for id, client in core.clients.items():
        if id not in clients:
            continue
        first = _first(aside, id)
        partial = 0 if first is None else max(0, aside.taken - header)
        found[id] = Report(client.done, partial)
        if first is not None and header:
            state.begun = (id, aside.taken, len(first.data), first.data[:header])
        if isinstance(core, SmartcardDevice):
            _leave_reader(core, state, id)
    return found


def _leave_reader(core: SmartcardDevice, state: DeviceState, id: int) -> None:
    """A reader as the guest knows it, and the answers that will be due again."""
    trail = core.clients[id].trail
    state.reader = trail[0][0] if trail else core.reader_added
    state.answered = sum(wrong for _, wrong in trail)


def waits_for_others(core: AgentDevice, clients: set[int]) -> set[int]:
    """Of clients that would send again, those whose messages others' would get in between of."""
    others = any(
        buffer.origin is Origin.CLIENT and buffer.client not in clients for buffer in core.buffers
    )
    if not others and not any(id not in clients for id in core.held):
        return set()
    return {id for id in clients if id in core.clients and core.unread_price(id)}


def leave_agent(
    core: AgentDevice, state: AgentState, aside: Aside, clients: Container[int]
) -> dict[int, Report]:
    """The same for the agent: its filters are as the guest has it, too."""
    found = leave(core, state.device, aside, clients)
    if state.writer in found:
        state.writer = None
    for id in found:
        state.held.pop(id, None)
        state.to_agent[id], monitors = _judged_at(core, id, aside)
        state.monitors.pop(id, None)
        if monitors:
            state.monitors[id] = monitors
        _, left, verdict, _ = state.to_agent[id]
        if left and verdict == FilterResult.OK:
            state.writer = id
    begun = state.device.begun
    if begun is not None:
        id, taken, size, head = begun
        if not core.clients[id].trail[0][0][1]:  # a message begins with it: its header is known
            head = aside.buffers[0].data[: CHUNK_HEADER.size + HEADER.size]
        state.device.begun = (id, taken, size, head)
    return found


def _judged_at(core: AgentDevice, id: int, aside: Aside) -> tuple[Judged, bytes]:
    """The filter and the monitors of a client where the guest is."""
    judge, trail = core.to_agent[id], core.clients[id].trail
    now: tuple[Judged, bytes] = (
        (judge.type, judge.left, int(judge.verdict), judge.discard),
        bytes(core._monitors.get(id, b"")),
    )
    if not trail:
        return now
    first = _first(aside, id)
    if first is None:
        before: tuple[Judged, bytes] = trail[0]
        return before
    # In the middle of a chunk: what is left of it is still to come.
    (kind, left, _, discard), monitors = trail[1] if len(trail) > 1 else now
    left += len(first.data) - max(aside.taken, CHUNK_HEADER.size)
    return (kind, left, int(FilterResult.OK), discard), monitors


def forget_client(core: CharDevice, id: int) -> None:
    """The client has left for the target with all that it has copies of."""
    core.clients.pop(id, None)
    core.lifted.pop(id, None)
    own: deque[WriteBuffer] = type(core.buffers)(b for b in core.buffers if b.client != id)
    core.buffers = own
    core.unread_bytes = sum(len(buffer.data) for buffer in own) - core.taken
    if isinstance(core, AgentDevice):
        core.to_agent.pop(id, None)
        core.held.pop(id, None)
        core._monitors.pop(id, None)
        core.keepers.pop(id, None)
        core.writer = None if core.writer == id else core.writer
    elif isinstance(core, SmartcardDevice):
        core.reader_added = False
        core.part.clear()


def resume(
    core: CharDevice,
    id: int,
    *,
    tokens: int,
    granted: int,
    size: int,
    acks: bool,
    state: DeviceState | None,
    now: float,
) -> int:
    """A client goes on by itself; tells how many new tokens it is to be given.

    tokens: those that it has, as far as it knows; granted: messages that it may be sent, of
    ``size`` bytes at most; state: the guest's part, which has what waits for a token of it.
    `DecodeError` for what can't be so.
    """
    client = core.clients[id]
    own = client.window - adopted(core, client)
    if not client.flow_control or tokens > own:
        raise refuse(f"{tokens}, at most {own} can be left", "tokens", 0)
    if size < min(LEAST_MESSAGE, core.rules.client_limit):
        raise refuse(f"{size} bytes", "message_size", 8)
    client.tokens, client.free = own, 0
    core.keep(id, True, acks=acks)
    client.send_tokens = granted
    client.limit = min(size, core.rules.message_limit)
    core.waiting = False
    hand_waiting(client, state, now)
    core.add_tokens(id, 0, now)
    return own - tokens
