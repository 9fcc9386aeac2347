"""A character device of the guest, and the clients at its other end.

::

    client --client_writes--> write buffers --guest_reads-->  guest
    client <-----take-------- outgoing      <--guest_writes-- guest

Both ways a message needs a token. A client's token comes back when the guest has read what the
message brought; the right to send to a client comes from it. So a guest that doesn't read stops
its clients after one window, and a client that doesn't read stops the guest. A client without
tokens (upstream has them for the agent alone) may not be read (`CharDevice.credit`) while too much
of it waits, and the guest isn't read while too much waits for the client's socket.

Facts: spice-server ``server/char-device.cpp``. Two things are done differently. A stream of bytes
(`Rules.keeps`) keeps what a client that leaves has sent, charged to the next client's window, and
what it wasn't handed, which the next client gets first. And a client whose socket takes nothing
counts as one without tokens, so that among several clients it doesn't hold up the others.

What is here is plain data. `waiting`, the clients' counters and the write buffers are what a
record of a hand-over is made from (`aiospice.wire.handover.CharDevice`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from aiospice.devices.events import (
    ClientDropped,
    DeviceEvent,
    GuestFailed,
    MessagesTaken,
    OfferAgain,
    TokensReturned,
)
from aiospice.devices.rules import RETRY_SECONDS, TOKEN_SECONDS, VMC, Rules
from aiospice.errors import RemoteProtocolError, StateError

__all__ = [
    "CharDevice",
    "ClientDropped",
    "DeviceClient",
    "DeviceEvent",
    "GuestFailed",
    "MessagesTaken",
    "OfferAgain",
    "Origin",
    "TokensReturned",
    "WriteBuffer",
]

#: Token counts stay below this (u32 on the wire).
_MOST_TOKENS = 0xFFFFFFFF
#: A message that waits for the socket grows until it has so many bytes: each time copies it.
_GROWS = 4096
#: What clients without tokens may have waiting once a hand-over has begun, in bytes.
_DRAIN_BYTES = 16 << 20
#: More messages than anybody sends at once.
_ANY = 1 << 30


class Origin(Enum):
    """Who a buffer for the guest is from, and so what happens when the guest has read it."""

    #: A client with tokens: they become free.
    CLIENT = "client"
    #: The server, or a client without tokens: a self token becomes free.
    SERVER = "server"
    #: The server, without a token: nothing.
    FREE = "free"
    #: A client with tokens that has left; the next client takes it over.
    LEFT = "left"


@dataclass(slots=True)
class WriteBuffer:
    """Bytes for the guest, and what they cost (`price`, in tokens)."""

    data: bytes
    origin: Origin
    client: int = 0
    price: int = 1
    #: The client keeps a copy of it, as a message of its own.
    kept: bool = False


@dataclass(slots=True)
class DeviceClient:
    """A client of a device. ``tokens`` + ``free`` + what its unread buffers cost = ``window``."""

    id: int
    #: Whether it has tokens at all; without, the numbers mean nothing.
    flow_control: bool
    window: int = 0
    #: Messages that it may still send, and used up ones that haven't been given back yet.
    tokens: int = 0
    free: int = 0
    #: Messages that it may still be sent, and the largest that it takes, in bytes.
    send_tokens: int = 0
    limit: int = 0
    #: Paid for, waiting for its socket.
    outgoing: deque[bytes] = field(default_factory=deque)
    outgoing_bytes: int = 0
    #: Not paid for: waiting for a token since then.
    send_queue: deque[bytes] = field(default_factory=deque)
    waits_since: float | None = None
    #: It has sent something here.
    wrote: bool = False
    #: It broke a rule: nothing goes to it or comes from it until it is removed.
    ended: bool = False
    #: It keeps copies, and is told of each message that the guest takes (`acks`). ``before``: what
    #: its messages without copies cost that the guest hasn't read; ``done``: those with copies
    #: that it has. ``trail``: of those that it hasn't, how things were before each.
    keeps: bool = False
    acks: bool = False
    before: int = 0
    done: int = 0
    trail: deque[tuple[Any, ...]] = field(default_factory=deque)

    def pay(self) -> None:
        """Spend a token of those to send with."""
        if self.flow_control:
            self.send_tokens -= 1

    def put(self, message: bytes) -> None:
        """Have a message wait for the socket."""
        self.outgoing.append(message)
        self.outgoing_bytes += len(message)

    def recall(self) -> list[bytes]:
        """What waits for the socket doesn't go: each message has its token back."""
        found = list(self.outgoing)
        self.send_tokens += len(found) if self.flow_control else 0
        self.outgoing.clear()
        self.outgoing_bytes = 0
        return found


class CharDevice:
    """One device: what the guest end and the client ends may do, and what waits in between.

    ``name`` is for errors. ``signals``: whether the guest end says itself when it takes more;
    otherwise `OfferAgain` comes every 100 ms while something waits. A new device is stopped and
    without guest; times (``now``) are seconds on any clock, always the same.
    """

    def __init__(self, name: str = "port", rules: Rules = VMC, *, signals: bool = True) -> None:
        self.name = name
        self.rules = rules
        self.signals = signals
        #: The guest end is there.
        self.attached = False
        #: The machine runs.
        self.running = False
        #: Something has been read or written since it was started.
        self.active = False
        #: The one client comes from a hand-over and its record isn't here: nothing moves.
        self.waiting = False
        #: A hand-over has begun: what clients still send is taken in whatever waits already.
        self.draining = False
        self.self_tokens = rules.self_tokens
        self.clients: dict[int, DeviceClient] = {}
        self.buffers: deque[WriteBuffer] = deque()
        #: Bytes of the first buffer that the guest has read.
        self.taken = 0
        self.unread_bytes = 0
        #: What clients are charged for that has gone with the guest, by client.
        self.lifted: dict[int, int] = {}
        #: What a client that has left wasn't handed: the next one gets it first.
        self.backlog: deque[bytes] = deque()
        #: Bytes through the device since it was made.
        self.to_guest = 0
        self.from_guest = 0
        #: A message that the guest has the beginning of, and whose client is to bring the rest:
        #: client, bytes that the guest has, all bytes, the first ones. What comes behind it.
        self.begun: tuple[int, int, int, bytes] | None = None
        self.behind: deque[WriteBuffer] = deque()
        self._retry_at: float | None = None
        self._events: list[DeviceEvent] = []

    # -- the guest end comes and goes --------------------------------------------------------------

    def attach(self) -> None:
        """The guest end is there."""
        self.attached = True

    def detach(self) -> None:
        """The guest end is gone; what waits stays."""
        self.attached = False
        self._retry_at = None

    def start(self) -> None:
        """The machine runs."""
        self.running = True
        for client in self.clients.values():
            self._give_back(client, 0)

    def stop(self) -> None:
        """The machine stands still: nothing is read or written until `start`."""
        self.running = self.active = False
        self._retry_at = None

    def reset(self) -> None:
        """Forget all that waits; every client has its whole window again, and isn't told.

        For a guest end that is gone for good: its successor's clients are told their windows. What
        waited for a token hadn't been paid for, so there is none to give back.
        """
        self.waiting = False
        self.buffers.clear()
        self.behind.clear()
        self.begun = None
        self.backlog.clear()
        self.taken = self.unread_bytes = 0
        self.lifted.clear()
        self.self_tokens = self.rules.self_tokens
        self._retry_at = None
        for client in self.clients.values():
            client.tokens, client.free = client.window, 0
            client.send_queue.clear()
            client.waits_since = None

    @property
    def moves(self) -> bool:
        """Whether bytes may move between the guest and what waits here."""
        return self.attached and self.running and not self.waiting

    # -- clients -----------------------------------------------------------------------------------

    def add_client(
        self,
        client: int,
        now: float,
        *,
        flow_control: bool = False,
        send_tokens: int = 0,
        limit: int = 0,
        waiting: bool = False,
    ) -> DeviceClient:
        """A client is there. Tell it its ``tokens`` if it has flow control.

        ``send_tokens``: messages that it may be sent; ``limit``: the most bytes of one.
        `StateError` if the device has as many clients as it can have, or if the client waits for
        the record of a hand-over (``waiting``) and the device isn't as new.
        """
        if client in self.clients or 0 < self.rules.clients <= len(self.clients):
            raise StateError(f"{self.name}: the device has a client already")
        if self.waiting or (waiting and (self.clients or self.active)):
            raise StateError(f"{self.name}: the device has been in use, its state can't be set")
        self.waiting = self.waiting or waiting
        most = self.rules.message_limit
        window = self.rules.window if flow_control else 0
        added = DeviceClient(
            client,
            flow_control,
            window=window,
            tokens=window,
            send_tokens=min(send_tokens, _MOST_TOKENS),
            limit=min(limit or most, most),
        )
        self.clients[client] = added
        self._adopt(added)
        self._hand_out_backlog()
        return added

    def _adopt(self, client: DeviceClient) -> None:
        """Charge the client with what its predecessor has sent and the guest hasn't read."""
        for buffer in self.buffers:
            own = self.rules.keeps or buffer.client == client.id  # it came with a hand-over
            if buffer.origin is not Origin.LEFT or not own:
                continue
            if not client.flow_control:
                buffer.origin, buffer.price = Origin.SERVER, 1
                self.self_tokens -= 1
            else:
                buffer.origin, buffer.client = Origin.CLIENT, client.id
                client.tokens -= buffer.price

    def remove_client(self, client: int, unsent: tuple[bytes, ...] | list[bytes] = ()) -> None:
        """A client is gone; ``unsent`` has been taken for it and didn't reach its socket."""
        gone = self.clients.pop(client, None)
        if gone is None:
            return
        self.waiting = False
        self.abandon(client)
        if self.rules.keeps and not self.clients:
            self.backlog.extendleft(reversed([*unsent, *gone.outgoing, *gone.send_queue]))
        kept: deque[WriteBuffer] = deque()
        for place, buffer in enumerate(self.buffers):
            if buffer.origin is Origin.CLIENT and buffer.client == client:
                if self.rules.keeps:
                    buffer.origin = Origin.LEFT
                elif place or not self.taken:
                    self.unread_bytes -= len(buffer.data)
                    continue
                else:  # the guest has its beginning, so it gets its end
                    buffer.origin = Origin.FREE
            kept.append(buffer)
        self.buffers = kept

    def give_up(self, client: int) -> None:
        """What waits for a client is for the next one, as far as a device keeps that."""
        known = self.clients.get(client)
        if known is None or not self.rules.keeps or len(self.clients) > 1:
            return
        self.backlog.extendleft(reversed([*known.recall(), *known.send_queue]))
        known.send_queue.clear()
        known.waits_since = None

    def _drop(self, client: DeviceClient, rule: str, message: str = "") -> None:
        """End a client that broke a rule; its channel is removed by whoever learns of it."""
        if client.ended:
            return
        client.ended = True
        client.waits_since = None
        error = RemoteProtocolError(f"{self.name}: {rule}", message=message)
        self._events.append(ClientDropped(client.id, error))

    # -- copies ------------------------------------------------------------------------------------

    def keep(self, client: int, on: bool, *, acks: bool = False) -> None:
        """A client keeps copies of all that it sends from here on, or of nothing."""
        known = self.clients.get(client)
        if known is not None:
            known.keeps, known.acks = on, acks and on
            known.before = self.unread_price(client)
            known.done = 0
            known.trail.clear()

    def go_on_with(self, rest: bytes, sender: DeviceClient) -> None:
        """The rest of what was `begun` is here: the guest gets it before all else."""
        sender.wrote = True
        behind, self.behind, self.begun = self.behind, deque(), None
        self._push(WriteBuffer(rest, Origin.CLIENT, sender.id, kept=sender.keeps))
        for buffer in behind:
            self._push(buffer)

    def abandon(self, client: int) -> bool:
        """Nobody brings the rest of what was `begun`: the guest gets zeros in its place."""
        if self.begun is None or self.begun[0] != client:
            return False
        _, taken, size, _ = self.begun
        behind, self.behind, self.begun = self.behind, deque(), None
        self._push(WriteBuffer(bytes(size - taken), Origin.FREE))
        for buffer in behind:
            self._push(buffer)
        return True

    # -- from clients to the guest -----------------------------------------------------------------

    def client_writes(self, client: int, data: bytes, message: str = "ClientData") -> None:
        """Bytes of one message of a client; those of a client that isn't one are ignored.

        A message without a token, or larger than the limit, ends the client (`ClientDropped`).
        """
        sender = self.clients.get(client)
        if sender is not None and self._charge(sender, len(data), message):
            self._add(data, sender)

    def _charge(self, sender: DeviceClient, size: int, message: str) -> bool:
        """Spend a token for a message of the client; False: it has broken a rule."""
        if sender.ended:
            return False
        rules = self.rules
        limit = rules.client_limit if sender.flow_control else rules.plain_limit
        if size > limit:
            self._drop(sender, f"a message of {size} bytes, the limit is {limit}", message)
            return False
        if not sender.flow_control:
            self.self_tokens -= 1
        elif sender.tokens <= 0:
            self._drop(
                sender,
                f"a message without a token: all {sender.window} of the window are on their way",
                message,
            )
            return False
        else:
            sender.tokens -= 1
        return True

    def _add(self, data: bytes, sender: DeviceClient) -> None:
        """Queue what has been charged."""
        sender.wrote = True
        origin = Origin.CLIENT if sender.flow_control else Origin.SERVER
        if data:
            self._push(WriteBuffer(data, origin, sender.id, kept=sender.keeps))
        elif sender.flow_control:
            self._used_up(sender)
        else:
            self._release(WriteBuffer(data, origin, sender.id))

    def _used_up(self, sender: DeviceClient) -> None:
        """A message of which the guest gets nothing: its token comes back, in its turn.

        In their order, so that a client that keeps copies knows which messages they are of.
        """
        if sender.keeps:
            for buffer in reversed((*self.buffers, *self.behind)):
                if buffer.origin is Origin.CLIENT and buffer.client == sender.id:
                    buffer.price += 1
                    return
        self._give_back(sender, 1)

    def _push(self, buffer: WriteBuffer) -> None:
        if self.begun is not None:
            self.behind.append(buffer)
            return
        self.buffers.append(buffer)
        self.unread_bytes += len(buffer.data)

    def credit(self, client: int) -> int:
        """How many messages of a client may be read now; one with tokens has as many as it likes.

        (It ends if it sends more than it may: see `client_writes`.)
        """
        known = self.clients.get(client)
        if known is None or known.flow_control:
            return _ANY
        if not self.room():
            return 0
        return _ANY if self.draining else self.self_tokens

    def room(self) -> int:
        """How many bytes of a client without tokens may be read now, the last message whole."""
        limit = _DRAIN_BYTES if self.draining else self.rules.unread
        return max(0, limit - self.unread_bytes)

    def server_writes(self, data: bytes, *, token: bool = True) -> bool:
        """Bytes of the server's own; False if a self token is needed and none is there."""
        if token:
            if self.self_tokens <= 0:
                return False
            self.self_tokens -= 1
        self._push(WriteBuffer(data, Origin.SERVER if token else Origin.FREE))
        return True

    # -- what the guest reads ----------------------------------------------------------------------

    @property
    def guest_may_read(self) -> int:
        """Bytes that `guest_peek` would show."""
        return self.unread_bytes if self.moves else 0

    def guest_peek(self, limit: int = 65536) -> bytes:
        """The next bytes for the guest, at most ``limit``; they stay until `guest_took`."""
        if not self.moves or not self.buffers:
            return b""
        first = self.buffers[0].data
        if len(first) - self.taken >= limit or len(self.buffers) == 1:
            return first[self.taken : self.taken + limit]
        parts, size = [first[self.taken :]], len(first) - self.taken
        for place in range(1, len(self.buffers)):
            if size >= limit:
                break
            parts.append(self.buffers[place].data[: limit - size])
            size += len(parts[-1])
        return b"".join(parts)

    def guest_took(self, count: int, now: float) -> None:
        """The guest has read ``count`` of the bytes that `guest_peek` showed, maybe none."""
        if not 0 <= count <= self.guest_may_read:
            raise StateError(f"{self.name}: the guest took {count} of {self.guest_may_read} bytes")
        self.to_guest += count
        self.unread_bytes -= count
        self.active = self.active or count > 0
        self.taken += count
        while self.buffers and self.taken >= len(self.buffers[0].data):
            buffer = self.buffers.popleft()
            self.taken -= len(buffer.data)
            self._release(buffer)
        self._retry_at = now + RETRY_SECONDS if self.buffers and not self.signals else None

    def guest_reads(self, limit: int, now: float) -> bytes:
        """Bytes for the guest, at most ``limit``, which it has read with that."""
        data = self.guest_peek(limit)
        if data:
            self.guest_took(len(data), now)
        return data

    def _release(self, buffer: WriteBuffer) -> None:
        """The guest has read a buffer whole."""
        if buffer.origin is Origin.SERVER:
            self.self_tokens += 1
            self._self_token_freed()
        elif buffer.origin is Origin.CLIENT:
            self._give_back(self.clients[buffer.client], buffer.price)

    def _give_back(self, client: DeviceClient, price: int) -> None:
        client.free += price
        old = min(client.before, price)
        client.before -= old
        if client.keeps and price > old:
            client.done += price - old
            for _ in range(min(price - old, len(client.trail))):
                client.trail.popleft()
            if client.acks:
                self._events.append(MessagesTaken(client.id, client.done))
        # While the machine stands still, so that a hand-over knows which tokens were told.
        if client.free >= self.rules.interval and self.running:
            client.tokens += client.free
            self._events.append(TokensReturned(client.id, client.free))
            client.free = 0

    def _self_token_freed(self) -> None:
        """For devices that have something to say when they may."""

    # -- what the guest writes ---------------------------------------------------------------------

    @property
    def guest_may_write(self) -> bool:
        """Whether `guest_writes` would take something."""
        if not self.moves or self.backlog:
            return False
        if not self.clients:
            return self.rules.drops_alone
        return any(self._can_take(client) for client in self.clients.values())

    def guest_writes(self, data: bytes | bytearray | memoryview, now: float) -> int:
        """Bytes of the guest for the clients; returns how many were taken, maybe none."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self.guest_may_write:
            used = self._from_guest(view[done:], now)
            if not used:
                break
            done += used
        self.from_guest += done
        self.active = self.active or done > 0
        return done

    def _from_guest(self, view: memoryview, now: float) -> int:
        """Make at most one message of the guest's bytes; returns how many went into it."""
        if self.rules.joins and (used := self._grow(view)):
            return used
        limits = [client.limit for client in self.clients.values()]
        piece = bytes(view[: min(limits, default=self.rules.message_limit)])
        self._deliver(piece, now)
        return len(piece)

    def _grow(self, view: memoryview) -> int:
        """Add to the message that waits last for the only client's socket."""
        if len(self.clients) != 1:
            return 0
        (client,) = self.clients.values()
        if not client.outgoing:
            return 0
        last = client.outgoing[-1]
        if len(last) >= min(_GROWS, client.limit):
            return 0
        piece = bytes(view[: client.limit - len(last)])
        client.outgoing[-1] = last + piece
        client.outgoing_bytes += len(piece)
        return len(piece)

    def _can_take(self, client: DeviceClient) -> bool:
        """Whether a message to the client could go on its way."""
        return self._has_means(client) and not client.send_queue

    def _has_means(self, client: DeviceClient) -> bool:
        """Whether there are a token and room for one more message."""
        rules = self.rules
        room = len(client.outgoing) < rules.outgoing
        room = room and client.outgoing_bytes < rules.outgoing_bytes and not client.ended
        return room and (client.send_tokens > 0 or not client.flow_control)

    def _deliver(self, message: bytes, now: float) -> None:
        for client in self.clients.values():
            self._send(client, message, now)

    def _send(self, client: DeviceClient, message: bytes, now: float) -> None:
        if client.ended:
            return
        if self._can_take(client):
            client.pay()
            client.put(message)
        elif len(client.send_queue) >= self.rules.send_queue:
            self._drop(
                client,
                f"it doesn't read: {len(client.send_queue)} messages wait for a token or its "
                f"socket, which is the limit",
            )
        else:
            client.send_queue.append(message)
            if client.waits_since is None:
                client.waits_since = now

    def _hand_out_backlog(self) -> None:
        """Give the only client what its predecessor wasn't handed."""
        if len(self.clients) != 1 or self.waiting:
            return
        (client,) = self.clients.values()
        while self.backlog and self._can_take(client):
            message = self.backlog.popleft()
            if len(message) > client.limit:
                self.backlog.appendleft(message[client.limit :])
                message = message[: client.limit]
            client.pay()
            client.put(message)

    # -- to clients --------------------------------------------------------------------------------

    def add_tokens(self, client: int, count: int, now: float, *, limit: int = 0) -> None:
        """A client lets itself be sent ``count`` more messages, of ``limit`` bytes at most."""
        self._tokens(client, count, now, limit, from_zero=False)

    def set_tokens(self, client: int, count: int, now: float) -> None:
        """A client lets itself be sent ``count`` messages from now on, whatever it said before."""
        self._tokens(client, count, now, 0, from_zero=True)

    def _tokens(self, client: int, count: int, now: float, limit: int, from_zero: bool) -> None:
        known = self.clients.get(client)
        if known is None:
            return
        before = 0 if from_zero else known.send_tokens
        known.send_tokens = min(before + count, _MOST_TOKENS)
        if limit:
            known.limit = min(limit, self.rules.message_limit)
        self._advance(known, now)

    def take(self, client: int, now: float) -> bytes | None:
        """The next message for a client's socket, None if there is none."""
        known = self.clients.get(client)
        if known is None or not known.outgoing:
            return None
        message = known.outgoing.popleft()
        known.outgoing_bytes -= len(message)
        self._advance(known, now)
        return message

    def _advance(self, client: DeviceClient, now: float) -> None:
        """There may be a token, or room, for what waits for one."""
        while client.send_queue and self._has_means(client):
            client.pay()
            client.put(client.send_queue.popleft())
            client.waits_since = now
        if not client.send_queue:
            client.waits_since = None
        self._hand_out_backlog()

    # -- time, events ------------------------------------------------------------------------------

    def next_wake(self) -> float | None:
        """When `wake` is to be called; None for never."""
        soonest = self._retry_at
        for client in self.clients.values():
            if client.waits_since is not None:
                at = client.waits_since + TOKEN_SECONDS
                soonest = at if soonest is None else min(soonest, at)
        return soonest

    def wake(self, now: float) -> None:
        """The time of `next_wake` has come."""
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
            self._events.append(OfferAgain())
        for client in self.clients.values():
            since = client.waits_since
            if since is not None and since + TOKEN_SECONDS <= now:
                self._drop(
                    client, f"it doesn't read: a message has waited {TOKEN_SECONDS:.0f} s for it"
                )

    def events(self) -> list[DeviceEvent]:
        """What has happened, in order; each once."""
        found, self._events = self._events, []
        return found

    def unread_price(self, client: int) -> int:
        """What the guest hasn't read of a client's messages, in tokens."""
        return sum(
            buffer.price
            for buffer in (*self.buffers, *self.behind)
            if buffer.origin is Origin.CLIENT and buffer.client == client
        )

    def waiting_bytes(self) -> bytes:
        """What the guest hasn't read, oldest first, without boundaries."""
        parts = [buffer.data for buffer in self.buffers]
        if parts:
            parts[0] = parts[0][self.taken :]
        return b"".join(parts)
