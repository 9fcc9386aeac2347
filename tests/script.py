"""A playing field: scripted servers and one client session, joined in memory, time at will.

A script reads like a conversation::

    play = Play()
    source = play.server("source")
    play.connect(source, "main:0", "port:0")
    source.port.sends(vmc.PortInit(name=b"echo", opened=1))
    play.core.channels[10, 0].write(b"hello")
    source.port.gets(vmc.ClientData, data=b"hello")

The session's core is pickled after every step and its copy carries on. Bytes travel whole or one
by one (``cut``). What fails prints the conversation so far.
"""

from __future__ import annotations

import pickle
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from aiospice.aio.crypto import Crypto
from aiospice.channels.framing import Framing
from aiospice.client.config import ClientConfig
from aiospice.client.session import ClientSession
from aiospice.effects import Close, Compute, Effect, Endpoint, Open, Pause, Resume
from aiospice.errors import AiospiceError, ConnectError
from aiospice.link.server import LinkServer, ServerLinkPhase
from aiospice.wire import common, display, inputs, main, vmc
from aiospice.wire.caps import CommonCap, DisplayCap, MainCap, VmcCap
from aiospice.wire.channels import CHANNEL_LIMITS, ChannelType
from aiospice.wire.common import LinkCode
from aiospice.wire.handover import InputsRecord, MainRecord, VmcRecord
from aiospice.wire.header import pack_header
from aiospice.wire.message import CLIENT, Message
from aiospice.wire.registry import find

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiospice.channels.events import Event

    MessageT = TypeVar("MessageT", bound=Message)
    EventT = TypeVar("EventT", bound=Event)

__all__ = ["Peer", "Play", "Server", "channel_key", "destination"]

Key = tuple[int, int]
MAIN: Key = (1, 0)
#: Steps of one turn; more is a hang.
STEPS = 20_000
#: What one read of a socket brings at most.
READ = 64 << 10
#: Bytes that stay in memory that was lent are fewer.
LENT = 200

CAPS: dict[int, tuple[int, ...]] = {
    1: tuple(MainCap),
    2: (DisplayCap.PREF_COMPRESSION, DisplayCap.MONITORS_CONFIG),
    10: (VmcCap.DATA_COMPRESS_LZ4,),
}


@cache
def _ticket_key() -> bytes:
    return Crypto().make_ticket_key()


@cache
def _public_half(private: bytes) -> bytes:
    return Crypto().public_key(private)


class OneKey(Crypto):
    """The real thing, but with one key for all links: making one takes long."""

    __slots__ = ()

    def make_ticket_key(self) -> bytes:
        return _ticket_key()

    def public_key(self, private: bytes) -> bytes:
        return _public_half(private)


def channel_key(name: str) -> Key:
    """``display:1`` as (2, 1); the number may be left out."""
    kind, _, number = name.partition(":")
    return int(ChannelType[kind.upper()]), int(number or 0)


def destination(server: Server, **changes: Any) -> main.DstInfo:
    """Where ``server`` is, as a source names it."""
    values = {
        "port": server.plain_port,
        "secure_port": server.tls_port,
        "host": server.host.encode(),
        "cert_subject": b"",
    }
    return main.DstInfo(**{**values, **changes})


def _short(message: Message) -> str:
    text = repr(message)
    return text if len(text) < 160 else text[:157] + "..."


class Peer:
    """A server's end of one connection."""

    def __init__(self, play: Play, server: Server, connection: int, endpoint: Endpoint) -> None:
        self.play = play
        self.server = server
        self.connection = connection
        self.endpoint = endpoint
        self.link = LinkServer(
            crypto=OneKey(), password=server.password, secure=endpoint.tls, confirm=True
        )
        self.key: Key | None = None
        self.inbox: deque[Message] = deque()
        #: Number, raw body of every message that came, also those that were taken from the inbox.
        self.log: list[Message] = []
        self.framing: Framing | None = None
        self.serial = 0
        #: Bytes on their way.
        self.to_client = bytearray()
        self.to_server = bytearray()
        #: What the client was lent and hasn't taken.
        self.untaken = b""
        self.paused = False
        #: Nothing is read by this end / nothing of it arrives, while these are set.
        self.deaf = False
        self.mute = False
        self.gone = False
        #: The client closed its end.
        self.left = False
        self._closing = False
        self.reactions: dict[type[Message], Callable[[Any], None]] = {}

    @property
    def name(self) -> str:
        return f"{self.server.name}.{self.link.name}"

    # -- what a script says ------------------------------------------------------------------

    def sends(self, *messages: Message) -> Peer:
        """Send messages to the client, and let everything take its course."""
        for message in messages:
            self.play.note(f"{self.name} >> {_short(message)}")
            self.post(message.number, message.body())
        self.play.run()
        return self

    def sends_raw(self, number: int, body: bytes, *, serial: int = 0, sub_list: int = 0) -> Peer:
        """Send a message as number and body."""
        self.play.note(f"{self.name} >> message {number}, {len(body)} bytes")
        self.post(number, body, serial=serial, sub_list=sub_list)
        self.play.run()
        return self

    def sends_bytes(self, data: bytes) -> Peer:
        """Send bytes as they are."""
        self.play.note(f"{self.name} >> {len(data)} raw bytes")
        self.to_client += data
        self.play.run()
        return self

    def post(self, number: int, body: bytes, *, serial: int = 0, sub_list: int = 0) -> None:
        """Put a message on its way, and no more."""
        assert self.framing is not None, self.play.story(f"{self.name} isn't linked")
        self.serial += 1
        header = pack_header(self.framing.mini, serial or self.serial, number, len(body))
        if not self.framing.mini:
            header = header[:14] + sub_list.to_bytes(4, "little")
        self.to_client += header + body

    def gets(self, kind: type[MessageT], **fields: Any) -> MessageT:
        """The next message of the client, which must be of that kind with those fields."""
        if not self.inbox:
            self.play.fail(f"{self.name} got nothing, {kind.__name__} was expected")
        message = self.inbox.popleft()
        if type(message) is not kind:
            self.play.fail(f"{self.name} got {_short(message)}, {kind.__name__} was expected")
        for name, value in fields.items():
            if getattr(message, name) != value:
                self.play.fail(f"{self.name} got {_short(message)}, {name}={value!r} was expected")
        return message

    def gets_nothing(self) -> None:
        """No message of the client waits to be looked at."""
        if self.inbox:
            got = ", ".join(_short(message) for message in self.inbox)
            self.play.fail(f"{self.name} got {got}; nothing was expected")

    def skip(self) -> list[Message]:
        """Take whatever has come."""
        found = list(self.inbox)
        self.inbox.clear()
        return found

    def closes(self, error: AiospiceError | None = None) -> None:
        """Close the connection behind what was sent."""
        self.play.note(f"{self.name} closes{f' ({error})' if error else ''}")
        self._closing = True
        self._reason = error
        self.play.run()

    # -- what happens on the connection ------------------------------------------------------

    def take_in(self, data: bytes) -> None:
        """Bytes of the client have arrived."""
        if self.framing is not None:
            self.framing.feed(data)
        else:
            self.link.receive(data)
            self._answer_link()
        while self.framing is not None and (frame := self.framing.next()) is not None:
            number, _, _, body = frame
            assert self.key is not None
            kind = find(self.key[0], CLIENT, number)
            if kind is None:
                self.play.fail(f"{self.name} got the unknown message {number}")
            message = kind.parse(body)
            self.play.note(f"{self.name} << {_short(message)}")
            self.log.append(message)
            reaction = self.reactions.get(kind) or self.server.reactions.get(kind)
            if reaction is not None:
                reaction(self)
            else:
                self.inbox.append(message)

    def _answer_link(self) -> None:
        link, server = self.link, self.server
        if link.phase is ServerLinkPhase.REQUESTED and link.request is not None:
            key = (link.request.channel_type, link.request.channel_id)
            self.play.note(f"{self.name} << link, session {link.request.connection_id}")
            self.key = key
            if key in server.silent:
                return
            code = server.refusals.get(key, 0)
            if key in server.secured and not self.endpoint.tls:
                code = LinkCode.NEED_SECURED
            if code:
                link.refuse(code)
                self._closing = True
            else:
                link.accept(server.common_caps, server.caps.get(key[0], ()))
        if link.phase is ServerLinkPhase.AUTHENTICATED:
            self._judge()
        self.to_client += link.take()
        if link.phase is ServerLinkPhase.FAILED:
            self._closing = True
        if link.phase is ServerLinkPhase.DONE and self.framing is None:
            assert self.key is not None
            self.framing = Framing(self.key[0], link.mini_header, link.trailing)
            server.peers[self.key] = self
            server.all.append(self)
            if self.key in server.first:
                self.post(*server.first[self.key])

    def _judge(self) -> None:
        server, request = self.server, self.link.request
        assert request is not None
        assert self.key is not None
        code = server.results.get(self.key, 0)
        if self.key == MAIN:
            server.sessions.add(request.connection_id or server.session_id)
        elif request.connection_id not in server.sessions:
            code = code or LinkCode.BAD_CONNECTION_ID
        elif server.offers is not None and self.key not in server.offers:
            code = code or LinkCode.CHANNEL_NOT_AVAILABLE
        self.link.finish(code)
        if code:
            self._closing = True

    _reason: AiospiceError | None = None


class Server:
    """A scripted server: it links by itself, the rest is what the script says."""

    def __init__(self, play: Play, name: str, port: int, tls_port: int) -> None:
        self.play = play
        self.name = self.host = name
        self.plain_port = port
        self.tls_port = tls_port
        self.password: str | None = None
        self.session_id = 0x1000 + len(play.servers)
        #: Numbers of the sessions that channels may join.
        self.sessions: set[int] = set()
        #: Channels it has, None: any.
        self.offers: set[Key] | None = None
        #: Codes of link replies and of link results.
        self.refusals: dict[Key, int] = {}
        self.results: dict[Key, int] = {}
        #: Channels that are let in over TLS only.
        self.secured: set[Key] = set()
        #: Channels whose link is never answered.
        self.silent: set[Key] = set()
        #: Number and body of a message right behind the link result.
        self.first: dict[Key, tuple[int, bytes]] = {}
        self.unreachable = False
        self.black_hole = False
        self.common_caps: tuple[int, ...] | None = None
        self.caps: dict[int, tuple[int, ...]] = dict(CAPS)
        self.reactions: dict[type[Message], Callable[[Any], None]] = {}
        #: The newest connection of each channel, and all that were linked.
        self.peers: dict[Key, Peer] = {}
        self.all: list[Peer] = []

    def mini_header(self, on: bool) -> None:
        """Whether the short header is offered."""
        every = (CommonCap.PROTOCOL_AUTH_SELECTION, CommonCap.AUTH_SPICE)
        self.common_caps = (*every, CommonCap.MINI_HEADER) if on else every

    def __getitem__(self, name: str) -> Peer:
        key = channel_key(name)
        if key not in self.peers:
            self.play.fail(f"{name} isn't linked on {self.name}")
        return self.peers[key]

    def __getattr__(self, name: str) -> Peer:
        if name.upper() not in ChannelType.__members__:
            raise AttributeError(name)
        return self[name]

    def init(self, **fields: Any) -> main.Init:
        """The first message of a session here."""
        values: dict[str, Any] = {
            "session_id": self.session_id,
            "display_channels_hint": 1,
            "supported_mouse_modes": 3,
            "current_mouse_mode": 2,
            "agent_connected": 0,
            "agent_tokens": 10,
            "multi_media_time": 0,
            "ram_hint": 0,
        }
        return main.Init(**{**values, **fields})

    def lists(self, *names: str) -> None:
        """Send the list of channels."""
        keys = [channel_key(name) for name in names]
        self.main.sends(
            main.ChannelsList(
                available=tuple(main.ChannelId(type=kind, id=number) for kind, number in keys)
            )
        )


class Play:
    """One script: servers, the network, the clock, and the client's core."""

    def __init__(
        self, *, cut: int = 0, frozen: bool = True, each_byte: bool = False, **config: Any
    ) -> None:
        """``cut``: bytes that one read brings, 0: whatever is there, which is lent."""
        self.cut = cut or READ
        #: What a read brings lies in memory that is written over afterwards.
        self.lends = not cut
        self.frozen = frozen
        #: A pickle behind every byte, not only behind every read.
        self.each_byte = each_byte
        self.now = 100.0
        self.servers: list[Server] = []
        self.talk: list[str] = []
        self.events: list[Event] = []
        self.peers: dict[int, Peer] = {}
        self.opening: dict[int, float] = {}
        self.opened: list[Endpoint] = []
        self.config = {"compression": "off", **config}
        #: Jobs that the core asked for; done at once unless the script holds them back.
        self.jobs: list[Compute] = []
        self.holds_jobs = False
        self._core: ClientSession | None = None
        #: The network moves nothing by itself.
        self.manual = False
        self._seen = 0
        self._running = False

    @property
    def core(self) -> ClientSession:
        """The session as it is now: after each step another object."""
        assert self._core is not None
        return self._core

    def server(self, name: str, port: int = 5900, tls_port: int = 0) -> Server:
        """Another server; its name is its host's."""
        server = Server(self, name, port, tls_port)
        self.servers.append(server)
        return server

    # -- the story ---------------------------------------------------------------------------

    def note(self, line: str) -> None:
        self.talk.append(f"{self.now - 100:7.3f}  {line}")

    def story(self, ending: str) -> str:
        return "\n".join(["", *self.talk[-400:], f"  !! {ending}"])

    def fail(self, text: str) -> NoReturn:
        raise AssertionError(self.story(text))

    def check(self, truth: object, text: str) -> None:
        """Fail with the story unless it's so."""
        if not truth:
            self.fail(text)

    def sees(self, kind: type[EventT], **fields: Any) -> EventT:
        """The next event of that kind; those before it have been seen with it."""
        for at in range(self._seen, len(self.events)):
            event = self.events[at]
            if type(event) is kind:
                for name, value in fields.items():
                    if getattr(event, name) != value:
                        self.fail(f"{event!r}: {name}={value!r} was expected")
                self._seen = at + 1
                return event
        return self.fail(f"no {kind.__name__} has happened")

    def happened(self, kind: type[EventT]) -> list[EventT]:
        """All events of a kind."""
        return [event for event in self.events if type(event) is kind]

    def sees_no(self, kind: type[Event]) -> None:
        """No such event since the last that was seen."""
        for event in self.events[self._seen :]:
            if type(event) is kind:
                self.fail(f"{event!r} was not expected")

    # -- turns -------------------------------------------------------------------------------

    def start(self, server: Server, **config: Any) -> None:
        """Begin a session with a server."""
        values: dict[str, Any] = {
            "host": server.host,
            "port": server.plain_port,
            "tls_port": server.tls_port,
        }
        self._core = ClientSession(ClientConfig(**{**values, **self.config, **config}), OneKey())
        self.core.start(self.now)
        self.run()

    def connect(self, server: Server, *names: str, **init: Any) -> None:
        """A session with these channels besides main; first messages are taken."""
        self.start(server)
        server.main.sends(server.init(**init))
        asked = [type(message) for message in server.main.inbox]
        self.check(main.AttachChannels in asked, "the client didn't ask for the channels")
        del server.main.inbox[asked.index(main.AttachChannels)]
        server.lists(*names)
        for name in names:
            server[name].skip()
            if name.startswith(("port", "webdav")):
                server[name].sends(vmc.PortInit(name=b"name of " + name.encode(), opened=1))

    def freeze(self) -> None:
        """The core goes through a pickle."""
        if self.frozen and self._core is not None:
            self._core = pickle.loads(pickle.dumps(self._core))

    def run(self) -> None:
        """Until nothing is left to do at this moment."""
        if self._running:
            return
        self._running = True
        try:
            for _ in range(STEPS):
                if not self._turn():
                    break
            else:
                self.fail(f"still busy after {STEPS} steps")
        finally:
            self._running = False
        self._check_limits()

    def _turn(self) -> bool:
        busy = self.settle()
        if self.manual:
            return busy
        for peer in list(self.peers.values()):
            busy |= self.carry_out(peer, READ)
            busy |= self.carry_in(peer, self.cut)
        return busy

    def settle(self) -> bool:
        """Carry out effects and collect events; True if there were any."""
        busy = False
        for effect in self.core.effects():
            busy = True
            self._do(effect)
        for event in self.core.events():
            busy = True
            self.note(f"    ** {str(event)[:200]}")
            self.events.append(event)
        return busy

    def carry_out(self, peer: Peer, count: int) -> bool:
        """Take one message from the core, and let up to ``count`` bytes of it all arrive."""
        if peer.connection not in self.peers:
            return False
        busy = False
        if not peer.deaf and len(peer.to_server) < 1 << 16:
            data = self.core.take(peer.connection)
            if data:
                busy = True
                peer.to_server += data
                self.freeze()
                self.settle()
        if peer.to_server and not peer.deaf:
            busy = True
            data = bytes(peer.to_server[:count])
            del peer.to_server[:count]
            peer.take_in(data)
        return busy

    def carry_in(self, peer: Peer, count: int) -> bool:
        """Up to ``count`` bytes of a server reach the client; then its closing does."""
        if peer.connection not in self.peers or peer.mute:
            return False
        if peer.to_client:
            if peer.paused:
                return False
            chunk = bytes(peer.to_client[:READ])
            del peer.to_client[:READ]
            for at in range(0, len(chunk), count):
                self._hand_in(peer, chunk[at : at + count])
                if self.each_byte:
                    self.freeze()
            self.freeze()
            return True
        if peer._closing and not peer.paused:
            del self.peers[peer.connection]
            peer.gone = True
            self.core.closed(peer.connection, peer._reason, self.now)
            self.freeze()
            return True
        return False

    def _hand_in(self, peer: Peer, data: bytes) -> None:
        if not self.lends:
            self.core.received(peer.connection, data, self.now)
            return
        memory = bytearray(peer.untaken + data)
        left = self.core.received_lent(peer.connection, memoryview(memory), LENT, self.now)
        assert 0 <= left < LENT
        peer.untaken = bytes(memory[len(memory) - left :])
        memory[:] = b"\xee" * len(memory)

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, Open):
            self._open(effect)
        elif isinstance(effect, Close):
            self.opening.pop(effect.connection, None)
            peer = self.peers.pop(effect.connection, None)
            if peer is not None:
                self.note(f"client closes {peer.name}")
                peer.left = True
                # What had been taken still arrives.
                if peer.to_server and not peer.deaf:
                    peer.take_in(bytes(peer.to_server))
        elif isinstance(effect, (Pause, Resume)):
            peer = self.peers.get(effect.connection)
            if peer is not None:
                peer.paused = isinstance(effect, Pause)
        else:
            self.jobs.append(effect)
            if not self.holds_jobs:
                self.compute(-1)

    def compute(self, place: int = 0) -> None:
        """Do one of the jobs that wait, and tell the core."""
        job = self.jobs.pop(place)
        self.core.computed(job.id, job.job.run(), self.now)
        self.freeze()
        self.run()

    def _open(self, effect: Open) -> None:
        end = effect.endpoint
        self.opened.append(end)
        self.note(f"client opens {end}")
        for server in self.servers:
            port = server.tls_port if end.tls else server.plain_port
            if end.unix_path == f"/run/{server.name}" or (
                server.host == end.host and port == end.port
            ):
                break
        else:
            self._fails(effect.connection, f"{end}: connection refused")
            return
        if server.black_hole:
            self.opening[effect.connection] = self.now + effect.timeout
        elif server.unreachable:
            self._fails(effect.connection, f"{end}: connection refused")
        else:
            self.peers[effect.connection] = Peer(self, server, effect.connection, end)
            self.core.connected(effect.connection, self.now)
            self.freeze()

    def _fails(self, connection: int, text: str) -> None:
        self.core.closed(connection, ConnectError(text), self.now)
        self.freeze()

    # -- time --------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Let time pass, with every call that the core asked for on its way."""
        end = self.now + seconds
        for _ in range(1000):
            times = [time for time in (self.core.next_wake(), *self.opening.values()) if time]
            soonest = min(times, default=end)
            if soonest > end:
                break
            self.now = max(self.now, soonest)
            for connection, limit in list(self.opening.items()):
                if limit <= self.now:
                    del self.opening[connection]
                    self._fails(connection, "no answer")
            self.core.wake(self.now)
            self.freeze()
            self.run()
            if not times:
                break
        else:
            self.fail("the core asks to be woken again and again")
        self.now = end

    # -- limits ------------------------------------------------------------------------------

    def _check_limits(self) -> None:
        if self._core is None:
            return
        core = self.core
        links = [*core.links.values(), *core.retired.values(), *core.migration.links.values()]
        for link in links:
            if link.framing is not None:
                limit = CHANNEL_LIMITS.get(link.key[0], 1 << 20) + (512 << 10)
                if len(link.framing.buffer) > limit:
                    self.fail(f"{link.name} buffers {len(link.framing.buffer)} bytes")

    # -- migrations --------------------------------------------------------------------------

    def begin(self, source: Server, target: Server, **changes: Any) -> None:
        """The source asks for a seamless migration."""
        where = destination(target, **changes)
        source.main.sends(main.MigrateBeginSeamless(destination=where, src_mig_version=1))

    def prepare(self, source: Server, target: Server, **changes: Any) -> None:
        """... and the target agrees: everything is ready."""
        target.sessions.add(self.core.session_id)
        self.begin(source, target, **changes)
        target.main.gets(main.MigrateDstDoSeamless, src_version=1)
        target.main.sends(main.MigrateDstSeamlessAck())
        source.main.gets(main.MigrateConnectedSeamless)

    def hand_over(self, source: Server, target: Server, *names: str, flags: int = 3) -> None:
        """Move these channels one after the other, each with a record that says what it is."""
        for name in names:
            self.move(source, target, name, flags)

    def move(self, source: Server, target: Server, name: str, flags: int = 3) -> None:
        """Move one channel, looking at every message of it."""
        peer = source[name]
        peer.sends(common.Migrate(flags=flags))
        if flags & 1:
            peer.gets(common.MigrateFlushMark)
        if flags & 2:
            record = record_of(name)
            peer.sends(common.MigrateData(data=record))
            target[name].gets(common.ClientMigrateData, data=record)
        peer.gets_nothing()


def record_of(name: str, unread: bytes = b"") -> bytes:
    """A record as the channel's source makes it (for display: bytes that tell it from others)."""
    kind = channel_key(name)[0]
    if kind == 1:
        return MainRecord.empty().encode()
    if kind == 3:
        return InputsRecord(motion_count=0).encode()
    if kind in (9, 10, 11):
        return VmcRecord.queued(unread).encode()
    return b"record of " + name.encode()


def surface(width: int = 4, height: int = 4, surface_id: int = 0) -> display.SurfaceCreate:
    """A surface; id 0 is what the user sees."""
    return display.SurfaceCreate(
        surface_id=surface_id, width=width, height=height, format=32, flags=int(not surface_id)
    )


def key_downs(messages: list[Message]) -> list[int]:
    """The codes of the keys that go down."""
    return [message.code for message in messages if isinstance(message, inputs.KeyDown)]
