"""Processes of the simulated world: what the shells of `aiospice.aio` are in the real one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from aiospice.channels.vmc import DeviceData
from aiospice.client.config import ClientConfig
from aiospice.client.connections import Connections
from aiospice.client.moving import BytesAtRisk, ChannelGone
from aiospice.client.screen import ScreenChanged
from aiospice.client.session import ClientSession, SessionEnded
from aiospice.effects import Close, Compute, MakeKey, Open, Pause
from aiospice.errors import ConnectError
from aiospice.migration.client import ChannelMoved, MigrationFinished
from aiospice.migration.link_target import TargetMemory
from aiospice.server.config import Peer, ServerConfig
from aiospice.server.core import ServerCore
from aiospice.server.events import ClientDisconnected, ClientRefused
from aiospice.server.guest import Host, dispatch
from aiospice.server.linkhost import LinkBook
from aiospice.sim.crypto import SimCrypto
from aiospice.sim.guest import PORT, SimGuest
from aiospice.sim.lines import READ, End
from aiospice.sim.streams import LONGEST, Follower, stream
from aiospice.wire.tokens import TOKENS

if TYPE_CHECKING:
    from aiospice.channels.events import Event
    from aiospice.effects import Effect, Endpoint, ServerEffect
    from aiospice.sim.chance import Chance
    from aiospice.sim.linkend import LinkEnd
    from aiospice.sim.peerline import PeerLine
    from aiospice.sim.world import World

__all__ = ["PASSWORD", "ClientProcess", "Process", "ServerProcess"]

PASSWORD = "the password"
KEY = (10, 0)
#: Rounds of one turn; more is a core that keeps itself busy.
ROUNDS = 2_000
#: Seconds that a computation, or the making of a key, takes at most.
WORK_SECONDS = 0.002
#: Bytes of a read, at most, where some bring a few only.
MOUTHFUL = 3_000
#: Codes of the keys of each client.
CODES = 16


class Process(ABC):
    """Has connections and a clock; may be stopped, go on, or die."""

    core: Any
    #: It is a server, not a client.
    serves = False

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.net, self.clock = world.net, world.clock
        self.chance: Chance = world.chance.fork(name)
        self.ends: dict[int, End] = {}
        self.stopped = self.dead = False
        #: It reads nothing.
        self.deaf = False
        self._armed: float | None = None
        #: Only the latest call of its own accord counts.
        self._beat = 0
        self._most = READ

    def note(self, what: str) -> None:
        """Put a line into the trace."""
        self.world.trace.add(self.clock.now, self.name, what)

    # -- its fate ----------------------------------------------------------------------------------

    def stop(self, seconds: float) -> None:
        """It does nothing for a while."""
        if not self.stopped and not self.dead:
            self.note("stops")
            self.stopped = True
            self.clock.after(seconds, self.go_on)

    def go_on(self) -> None:
        """It was stopped, and goes on."""
        self.stopped = False
        if not self.dead:
            self.world.stir()
            self.note("goes on")
            self._caught_up()

    def _caught_up(self) -> None:
        self._wake(self._armed)
        self.listen()

    def listen(self) -> None:
        """Read all that is there."""
        for end in list(self.ends.values()):
            self.readable(end)
            self.writable(end)

    def die(self, *, clean: bool) -> None:
        """The kernel closes what it had open."""
        self.note("dies")
        self.dead = True
        for end in self.ends.values():
            if clean:
                self.net.finish(end)
            else:
                self.net.abort(end)
        self.ends.clear()

    @property
    def away(self) -> bool:
        """It doesn't do anything now."""
        return self.stopped or self.dead

    # -- connections -------------------------------------------------------------------------------

    def readable(self, end: End) -> None:
        """Hand bytes in, until there are no more or reading is paused."""
        while not (self.away or self.deaf or end.paused) and self.ends.get(end.number) is end:
            data = self.net.read(end, self._some())
            if data:
                self.core.received(end.number, data, self.clock.now)
            elif self.net.is_over(end):
                end.gone = True
                del self.ends[end.number]
                unwritten = len(end.rest)
                self._closed(end, unwritten)
            else:
                return
            self.turn()

    def _some(self) -> int:
        if self._most == READ:
            return READ
        return 1 + self.chance.below(self._most if self.chance.yes(0.4) else MOUTHFUL)

    def _closed(self, end: End, unwritten: int) -> None:
        self.core.closed(end.number, end.error, self.clock.now)

    def writable(self, end: End) -> None:
        """Go on writing."""
        if not self.away and self.ends.get(end.number) is end:
            self.pump(end)
            self.turn()

    def pump(self, end: End) -> None:
        """Give the kernel one message after the other, as long as it takes them whole."""
        while self.ends.get(end.number) is end and self.net.can_write(end):
            data = self.core.take(end.number)
            if not data:
                break
            self.put(end, data)

    def put(self, end: End, data: bytes) -> None:
        """Write one message."""
        self.net.write(end, data)

    # -- turns and time ----------------------------------------------------------------------------

    def turn(self) -> None:
        """Have carried out what the core wants."""
        if self.away:
            return
        for _ in range(ROUNDS):
            if not self._round():
                break
        else:
            self.world.wrong(f"{self.name} keeps itself busy")
        self.world.checks.process(self)
        self._arm()

    @abstractmethod
    def _round(self) -> bool:
        """Carry out what the core wants now; whether there was anything."""

    def _arm(self) -> None:
        at = self.core.next_wake()
        if at is not None and (self._armed is None or at < self._armed):
            self._armed = at
            self.clock.at(at, self._wake, at)

    def _wake(self, at: float | None) -> None:
        if at != self._armed or self.away:
            return
        self._armed = None
        due = self.core.next_wake()
        if due is not None and due <= self.clock.now:
            self.core.wake(self.clock.now)
            self.turn()
        else:
            self._arm()

    def next_beat(self, seconds: float) -> None:
        """Have `beat` called so much later, and whatever was asked for before not."""
        self._beat += 1
        self.clock.after(seconds, self._beats, self._beat)

    def _beats(self, number: int) -> None:
        if number == self._beat and not self.dead:
            self.beat()

    @abstractmethod
    def beat(self) -> None:
        """Do something of its own accord."""

    def rouse(self) -> None:
        """A lull is over."""
        if self._beat:
            self.next_beat(0.0)

    def compute(self, effect: Compute) -> None:
        """A computation ends later."""
        seconds = self.chance.between(0.0, WORK_SECONDS)
        self.clock.after(seconds, self._computed, effect.id, effect.job)

    def _computed(self, number: int, job: Any) -> None:
        if self.dead:
            return
        if self.stopped:
            self.clock.after(0.1, self._computed, number, job)
            return
        self.core.computed(number, job.run(), self.clock.now)
        self.turn()


class SimServer(ServerCore):
    """A server whose devices may have no tokens, as upstream's have none."""

    tokens = True

    def _caps_of(self, channel_type: int) -> tuple[int, ...]:
        found = super()._caps_of(channel_type)
        if self.tokens or channel_type not in (8, 9, 10, 11):
            return found
        return tuple(each for each in found if each != TOKENS)


#: What servers have their clients keep.
_KEEPS: dict[str, Literal["tokens", "acks"]] = {"replay": "tokens", "ack": "acks"}


class ServerProcess(Process):
    """A server with a guest that runs in it, or is to come."""

    core: SimServer
    serves = True

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        shared = world.scenario.clients > 1
        config = ServerConfig(
            password=PASSWORD,
            on_second_client="share" if shared else "takeover",
            video="never",
            keep=_KEEPS.get(world.scenario.policy, "none"),
        )
        self.crypto = SimCrypto(self.chance.fork("crypto"))
        self.core = SimServer(config, self.crypto)
        self.core.tokens = world.scenario.tokens
        self.host = Host(self.core, lambda: None)
        self.guest = SimGuest(world.scenario, world.chance.fork("guest"))
        self.guest.attach(self.host)
        #: The guest runs here.
        self.owns = False
        self.strangers: set[int] = set()
        #: The link to the other server.
        self.peer: PeerLine | None = None
        #: Where servers hand guests over themselves: their links, what is known of these and of
        #: guests that came; and whether the guest is this server's.
        self.links: list[LinkEnd] = []
        self.links_made = 0
        self.book = LinkBook()
        self.memory = TargetMemory()
        self.has_guest = False
        self._number = 0

    def take_guest(self) -> None:
        """The guest is here, and runs."""
        self.owns = True
        self.note("owns the guest")
        self.next_beat(self.world.tick)

    def let_guest_go(self) -> None:
        """It stands still."""
        self.owns = False
        self.note("the guest stands still")

    def listen(self) -> None:
        """Read all that is there."""
        super().listen()
        for link in list(self.links):
            if link.end is not None:
                link.readable(link.end)

    def die(self, *, clean: bool) -> None:
        """The kernel closes what it had open."""
        super().die(clean=clean)
        for link in self.links:
            link.dies(clean=clean)

    def turn(self) -> None:
        """Have carried out what the core wants."""
        super().turn()
        for link in self.links:
            link.poke()

    def beat(self) -> None:
        """The guest's turn."""
        if not self.owns:
            return
        if not self.stopped:
            self.core._now = self.clock.now
            self.guest.live(self.clock.now)
            if self.guest.memory.wrong and not self.world.clients[0].was_hostile:
                self.world.wrong(f"the guest reads {self.guest.memory.wrong}")
            self.turn()
        self.next_beat(self.world.tick if self.guest.works else self._idle())

    def _idle(self) -> float:
        """Seconds until the next look of a guest that has no work of its own."""
        port = self.host.port(PORT)
        return 0.03 if port.readable or self.core.agent.readable else 0.25

    def accept(self, end: End, host: str, *, stranger: bool = False) -> None:
        """A peer has connected."""
        if self.stopped and not self.dead:
            self.clock.after(0.05, self.accept, end, host)
            return
        if self.dead or end.gone or (end.ended and end.error is not None):
            return
        self._number += 1
        end.number = self._number
        self.ends[end.number] = end
        if stranger:
            self.strangers.add(end.number)
        peer = Peer(f"{host}:{end.number}", host)
        self.core.accepted(end.number, peer, self.clock.now)
        self.readable(end)
        self.turn()

    def _closed(self, end: End, unwritten: int) -> None:
        self.core.closed(end.number, end.error, self.clock.now, unwritten)

    def _round(self) -> bool:
        core = self.core
        core.publish(self.clock.now)
        for effect in core.effects():
            self._do(effect)
        for number in core.wanting():
            if (end := self.ends.get(number)) is not None:
                self.pump(end)
        for event in core.events():
            self._told(event)
        if self.peer is not None:
            self.peer.collect(self)
        return bool(core._effects or core._events or core._wanting)

    def _told(self, event: Event) -> None:
        if isinstance(event, (ClientDisconnected, ClientRefused)):
            self.note(str(event)[:160])
        dispatch(self.guest, self.host, event)  # one that has left, too, as the real shell does
        self.world.server_event(self, event)

    def _do(self, effect: ServerEffect) -> None:
        if isinstance(effect, MakeKey):
            seconds = self.chance.between(0.0, WORK_SECONDS)
            self.clock.after(seconds, self._key_made, effect.connection)
        elif isinstance(effect, Compute):
            self.compute(effect)
        elif isinstance(effect, Close):
            self._close(effect)
        elif (end := self.ends.get(effect.connection)) is not None:
            end.paused = isinstance(effect, Pause)
            if not end.paused:
                self.clock.after(0.0, self.readable, end)

    def _key_made(self, number: int) -> None:
        if self.stopped:
            self.clock.after(0.1, self._key_made, number)
        elif not self.dead:
            self.core.ticket_key(number, self.chance.bytes(32), self.clock.now)
            self.turn()

    def _close(self, effect: Close) -> None:
        end = self.ends.pop(effect.connection, None)
        unwritten = 0 if end is None else len(end.rest)
        if effect.discard:
            self.core.dropped(effect.connection, unwritten, self.clock.now)
        else:
            while data := self.core.take(effect.connection):
                if end is not None:
                    self.net.write(end, data)
        if end is None:
            return
        if effect.discard and unwritten:
            self.net.abort(end)
        else:
            self.net.finish(end)


class SimSession(ClientSession):
    """A session whose devices may have no tokens, as upstream's have none."""

    tokens = True

    def _caps(self, channel_type: int) -> tuple[int, ...]:
        found = Connections._caps(self, channel_type)
        if self.tokens or channel_type not in (8, 9, 10, 11):
            return found
        return tuple(each for each in found if each != TOKENS)


class ClientProcess(Process):
    """A client and the person in front of it."""

    core: SimSession

    def __init__(self, world: World, place: int) -> None:
        super().__init__(world, world.scenario.client_names[place])
        scenario = world.scenario
        self.place = place
        config = ClientConfig(
            host=scenario.names[0],
            port=5900,
            password=PASSWORD,
            mini_header=scenario.mini,
            agent=place == 0 and scenario.file > 0,
            channels=None if place == 0 else ("display", "inputs", "cursor"),
        )
        self.core = SimSession(config, SimCrypto(self.chance.fork("crypto")))
        self.core.tokens = scenario.tokens
        self.heard = Follower()
        self.said = 0
        self.typed: list[tuple[int, bool]] = []
        self.moved = 0
        self.works = True
        self.began_file = False
        self.content = self.chance.fork("file").bytes(scenario.file)
        #: What it was told: bytes that may be lost each way, the session's or the port's end.
        self.at_risk = self.at_risk_from = 0
        self.port_gone = self.ended = False
        self.modes: list[str] = []
        #: When it heard from the port, and when its screen changed; bytes of records it carried.
        self.heard_at: list[float] = []
        self.drew_at: list[float] = []
        self.carried = 0
        #: When the display changed over to the target.
        self.moved_at = float("inf")
        #: Changes what it writes.
        self.hostile: str = ""
        self.was_hostile = False
        self._before = b""
        if scenario.crumbs:
            self._most = 40

    def start(self) -> None:
        """Connect."""
        self.core.start(self.clock.now)
        self.turn()
        self.next_beat(0.01)

    # -- the person --------------------------------------------------------------------------------

    def beat(self) -> None:
        """The person does something."""
        if self.ended or not self.works:
            return
        if not self.stopped:
            self._write()
            self._type()
            self._send_file()
            self.turn()
        tick = self.world.tick
        self.next_beat(self.chance.between(0.7 * tick, 2.7 * tick))

    def _write(self) -> None:
        channel: Any = self.core.channels.get(KEY)
        if channel is None or channel.queued_bytes > 4096 or not self.world.scenario.to_guest:
            return
        scenario = self.world.scenario
        size = 1 + self.chance.below(int(scenario.to_guest * 3.4 * scenario.tick))
        size = min(size, LONGEST - self.said)
        channel.write(stream(self.said, size))
        self.said += size

    def _type(self) -> None:
        channel: Any = self.core.channels.get((3, 0))
        if channel is None or not self.world.scenario.keys:
            return
        code = 0x10 + CODES * self.place + self.chance.below(CODES)
        what = self.chance.below(6)
        if what == 0:
            down = code not in channel.keys_down
            (channel.key_down if down else channel.key_up)(code)
            self.typed.append((code, down))
        elif what == 1:
            channel.motion(1, 0)
            self.moved += 1
        elif what == 2:
            (channel.release if channel.buttons & 1 else channel.press)(1)

    def let_up(self) -> None:
        """Take the hands off the keyboard."""
        channel: Any = self.core.channels.get((3, 0))
        for code in list(channel.keys_down) if channel is not None else ():
            channel.key_up(code)
            self.typed.append((code, False))
        if channel is not None and channel.buttons & 1:
            channel.release(1)
        if not self.away:
            self.turn()

    def _send_file(self) -> None:
        if not self.content or self.place or self.core.main_channel() is None:
            return
        transfers = self.core.agent.transfers
        if not self.began_file and self.core.agent.phase.value == "ready":
            self.began_file = True
            self.core.agent.send_file("file", len(self.content), self.clock.now)
        for transfer in list(transfers.active.values()):
            if wanted := min(transfers.wanted(transfer), 2000):
                transfers.feed(transfer, self.content[transfer.fed :][:wanted], self.clock.now)

    # -- the core ----------------------------------------------------------------------------------

    def _round(self) -> bool:
        core = self.core
        for effect in core.effects():
            self._do(effect)
        for number, end in list(self.ends.items()):
            if core.wants_to_send(number):
                self.pump(end)
        for event in core.events():
            self._told(event)
        return bool(core._effects or core._events)

    def _told(self, event: Event) -> None:
        if isinstance(event, DeviceData):
            if event.key == KEY:
                self._heard(event)
            return
        if isinstance(event, ScreenChanged):
            self.drew_at.append(self.clock.now)
            return
        self.note(str(event)[:180])
        if isinstance(event, BytesAtRisk) and event.key == KEY:
            self.at_risk += event.to_guest
            self.at_risk_from += event.from_guest
        elif isinstance(event, ChannelGone):
            self.port_gone = self.port_gone or event.key == KEY
        elif isinstance(event, SessionEnded):
            self.ended = True
        elif isinstance(event, ChannelMoved) and event.channel.startswith("display"):
            self.moved_at = self.clock.now
        elif isinstance(event, MigrationFinished):
            self.modes.append(event.mode)
        self.world.client_event(self, event)

    def _heard(self, event: DeviceData) -> None:
        self.heard_at.append(self.clock.now)
        what = self.heard.take(event.data)
        if what and not self.was_hostile:
            self.world.wrong(f"{self.name} reads {what}")
        slow = self.world.scenario.slow_client
        if slow and self.chance.yes(0.3):
            self.clock.after(self.chance.between(0.0, slow), self._consumed, len(event.data))
        else:
            self._consumed(len(event.data))

    def _consumed(self, size: int) -> None:
        channel: Any = self.core.channels.get(KEY)
        if channel is not None:
            channel.consumed(size)
            if not self.away:
                self.clock.after(0.0, self.turn)

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, Open):
            self.world.dial(self, effect)
        elif isinstance(effect, Compute):
            self.compute(effect)
        elif (end := self.ends.get(effect.connection)) is not None:
            if isinstance(effect, Close):
                del self.ends[effect.connection]
                self.net.finish(end)
            else:
                end.paused = isinstance(effect, Pause)
                if not end.paused:
                    self.clock.after(0.0, self.readable, end)

    def connected(self, end: End) -> None:
        """A connection that was asked for is up."""
        if self.stopped:
            self.clock.after(0.05, self.connected, end)
        elif not self.dead:
            self.ends[end.number] = end
            self.core.connected(end.number, self.clock.now)
            self.turn()

    def failed(self, number: int, endpoint: Endpoint, what: str) -> None:
        """A connection that was asked for can't be had."""
        if self.stopped:
            self.clock.after(0.05, self.failed, number, endpoint, what)
        elif not self.dead:
            self.core.closed(number, ConnectError(f"{endpoint}: {what}"), self.clock.now)
            self.turn()

    # -- what it writes ----------------------------------------------------------------------------

    def put(self, end: End, data: bytes) -> None:
        """Write one message, or what a hostile client makes of it."""
        if data.startswith(_RECORD):
            self.carried += len(data)
            self.world.checks.client_peak = max(self.world.checks.client_peak, len(data))
        if not self.hostile:
            self.net.write(end, data)
            return
        how, self.hostile = self.hostile, ""
        self.was_hostile = True
        self.note(f"is hostile on #{end.number}: {how}")
        self.world.struck.append(how)
        self.net.write(end, self._changed(how, data))
        self._before = data

    def _changed(self, how: str, data: bytes) -> bytes:
        if how == "forge":
            place = self.chance.below(len(data))
            return data[:place] + self.chance.bytes(1 + self.chance.below(4)) + data[place + 1 :]
        if how == "repeat":
            return data + data
        if how == "truncate":
            return data[: self.chance.below(len(data))]
        if how == "garbage":
            return self.chance.bytes(1 + self.chance.below(200))
        return b""  # swallow


#: How a client's record begins where headers are short.
_RECORD = b"\5\0"
