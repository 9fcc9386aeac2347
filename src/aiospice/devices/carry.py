"""What of a device moves to another server, in two parts.

The guest's part (`lift`, `lower`) goes from server to server together with the guest: what clients
had sent and the guest hasn't read, what the guest has written and no client has been handed. A
client's part (`freeze_client`, `thaw_client`) is in the record that the client carries, so nothing
in it is believed: how many tokens there are, and what it sent since the guest stood still.
Facts: spice-server ``server/char-device.cpp``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aiospice.devices.chardev import CharDevice, DeviceClient, Origin, WriteBuffer
from aiospice.errors import DecodeError
from aiospice.wire import handover
from aiospice.wire.handover import NO_FLOW_CONTROL
from aiospice.wire.tokens import LEAST_MESSAGE

__all__ = [
    "DeviceState",
    "adopted",
    "freeze_client",
    "lift",
    "lower",
    "put_back",
    "refuse",
    "take_back",
    "thaw_client",
    "to_the_next",
]


@dataclass(slots=True)
class DeviceState:
    """The guest's part. Plain data."""

    name: str = ""
    opened: bool = False
    #: What the guest hasn't read, oldest first: bytes, whose they are, and what they cost.
    to_guest: list[tuple[bytes, str, int, int]] = field(default_factory=list)
    #: What no client was handed, and what waits for a token of each client.
    backlog: list[bytes] = field(default_factory=list)
    queues: dict[int, list[bytes]] = field(default_factory=dict)
    #: For how long it has waited already, in ms; the guest waits for word that it can write again.
    waited: dict[int, int] = field(default_factory=dict)
    full: bool = False
    #: Of a smartcard reader: the guest knows of it, and the part of a message that it has written.
    reader: bool = False
    part: bytes = b""
    #: What the guest has read of a message that its client sends the rest of (`CharDevice.begun`).
    begun: tuple[int, int, int, bytes] | None = None
    #: Of a smartcard reader that its client goes on with itself: answers that will be due again.
    answered: int = 0


def refuse(text: str, name: str, offset: int) -> DecodeError:
    """The error for a field of a record that can't be so."""
    return DecodeError(text, field=name, offset=offset)


def lift(core: CharDevice, now: float) -> DeviceState:
    """Stop the device and take out what goes with the guest."""
    core.stop()
    state = DeviceState()
    for place, buffer in enumerate(core.buffers):
        data = buffer.data if place else buffer.data[core.taken :]
        state.to_guest.append((data, buffer.origin.value, buffer.client, buffer.price))
        if buffer.origin is Origin.CLIENT:
            core.lifted[buffer.client] = core.lifted.get(buffer.client, 0) + buffer.price
    core.buffers.clear()
    core.taken = core.unread_bytes = 0
    state.backlog = list(core.backlog)
    core.backlog.clear()
    for client in core.clients.values():
        if client.send_queue:
            state.queues[client.id] = list(client.send_queue)
            client.send_queue.clear()
            if client.waits_since is not None:
                state.waited[client.id] = int(1000 * max(0.0, now - client.waits_since))
            client.waits_since = None
    core.draining = True
    return state


def take_back(core: CharDevice, id: int) -> None:
    """What a client was to be handed waits again: its channel has left, and takes nothing more."""
    client = core.clients.get(id)
    if client is not None:
        client.send_queue.extendleft(reversed(client.recall()))


def put_back(core: CharDevice, state: DeviceState, now: float) -> None:
    """The guest doesn't move: all is as before `lift`, and what has come since is behind it."""
    keeps = core.rules.keeps
    core.lifted.clear()
    for data, origin, client, price in reversed(state.to_guest):
        kept = Origin(origin)
        if kept is Origin.CLIENT and client not in core.clients:  # it has left since
            kept = Origin.LEFT if keeps else Origin.FREE
        core.buffers.appendleft(WriteBuffer(data, kept, client, price))
        core.unread_bytes += len(data)
    core.backlog.extendleft(reversed(state.backlog))
    for id, waiting in state.queues.items():
        known = core.clients.get(id)
        if known is not None:
            known.send_queue.extendleft(reversed(waiting))
            known.waits_since = _since(state, id, now)
        elif keeps:
            core.backlog.extendleft(reversed(waiting))
    core.draining = False
    core.start()
    for id in list(core.clients):
        core.add_tokens(id, 0, now)


def _since(state: DeviceState, id: int, now: float) -> float:
    """Since when a client's messages wait, as if no time had passed on the way here."""
    return now - state.waited.get(id, 0) / 1000


def lower(core: CharDevice, state: DeviceState) -> None:
    """Put the guest's part into a device that is new; the clients it speaks of come later."""
    for data, origin, client, price in state.to_guest:
        kept = Origin(origin)
        if kept is Origin.SERVER and not client:
            core.self_tokens -= 1
        elif kept is not Origin.FREE:
            kept = Origin.LEFT
        core.buffers.append(WriteBuffer(data, kept, client, price))
        core.unread_bytes += len(data)
    core.backlog.extend(state.backlog)
    if state.begun is not None:  # all that is here is behind it
        core.begun = state.begun
        core.behind, core.buffers = core.buffers, core.behind
        core.unread_bytes = 0


def hand_waiting(client: DeviceClient, state: DeviceState | None, now: float) -> None:
    """A client that the guest's part speaks of is here, and so is what waits for tokens of it."""
    waiting = [] if state is None else state.queues.pop(client.id, [])
    if state is not None and waiting:
        client.send_queue.extend(waiting)
        client.waits_since = _since(state, client.id, now)


def to_the_next(core: CharDevice, state: DeviceState, id: int, now: float) -> None:
    """A client that the guest's part speaks of doesn't come: what waits is for the next one."""
    waiting = state.queues.pop(id, [])
    if waiting and core.rules.keeps:
        core.backlog.extendleft(reversed(waiting))
        for client in list(core.clients):
            core.add_tokens(client, 0, now)


def adopted(core: CharDevice, client: DeviceClient) -> int:
    """Charge a client with what it sent before it came here; tells the tokens that it cost."""
    core._adopt(client)
    return core.unread_price(client.id) + core.lifted.get(client.id, 0)


def freeze_client(core: CharDevice, id: int) -> handover.CharDevice:
    """Take a client out of a device: its part of the record."""
    client = core.clients.pop(id, None)
    if client is None:
        return handover.CharDevice.empty()
    parts: list[bytes] = []
    price = 0
    own = (id, 0)  # what the server said itself goes with the client, as upstream does it
    for place, buffer in enumerate(core.buffers):
        if buffer.client in own:
            parts.append(buffer.data if place else buffer.data[core.taken :])
            price += buffer.price if buffer.origin is Origin.CLIENT else 0
    first = core.buffers[0] if core.buffers else None
    if first is not None and first.client in own:
        core.taken = 0
    core.buffers = type(core.buffers)(b for b in core.buffers if b.client not in own)
    core.unread_bytes = sum(len(buffer.data) for buffer in core.buffers) - core.taken
    data = b"".join(parts)
    flow = client.flow_control
    return handover.CharDevice(
        connected=1,
        num_client_tokens=client.tokens if flow else NO_FLOW_CONTROL,
        num_send_tokens=client.send_tokens if flow else NO_FLOW_CONTROL,
        write_num_client_tokens=price if data else 0,
        write_data=data,
    )


def thaw_client(
    core: CharDevice,
    id: int,
    record: handover.CharDevice,
    now: float,
    *,
    state: DeviceState | None = None,
    write: bool = True,
) -> int:
    """Restore a client from its part of a record; tells how many new tokens it is to be given.

    ``state``: the guest's part, which has what waits for tokens of it. ``write``: put the record's
    bytes into the device. `DecodeError` for numbers that can't be so: the client has to go.
    """
    client = core.clients[id]
    cost = adopted(core, client)
    told = client.flow_control and record.num_client_tokens != NO_FLOW_CONTROL
    grant = 0
    if told:
        price, size = record.write_num_client_tokens, len(record.write_data)
        most = core.rules.client_limit
        if price + record.num_client_tokens + cost > client.window:
            raise refuse(f"more than the window of {client.window}", "device.num_client_tokens", 13)
        if price and (not size or size > price * (most + 8)):
            text = f"{price} messages for {size} bytes"
            raise refuse(text, "device.write_num_client_tokens", 25)
        client.tokens = record.num_client_tokens
        client.free = client.window - client.tokens - price - cost
        client.send_tokens = record.num_send_tokens
        client.limit = min(client.limit, max(LEAST_MESSAGE, core.rules.client_limit))
    elif client.flow_control:  # the source had no tokens: begin with them
        client.tokens = grant = max(0, client.window - cost)
    core.waiting = False
    if record.write_data and write:
        if told:
            price = record.write_num_client_tokens
            origin = Origin.CLIENT if price else Origin.FREE
            core._push(WriteBuffer(record.write_data, origin, id, price))
        else:
            core.self_tokens -= 1
            core._push(WriteBuffer(record.write_data, Origin.SERVER, id))
    hand_waiting(client, state, now)
    if client.flow_control:
        core._give_back(client, 0)
    core.add_tokens(id, 0, now)
    return grant
