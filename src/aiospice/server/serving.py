"""What clients are shown and what they do: displays, cursor, inputs, sound, mouse mode.

`Serving` is the half of `aiospice.server.core.ServerCore` that knows the machine. The guest's end
calls the methods under "the guest does"; channels' events come in through `_handle`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.channels.server.base import ServerPhase
from aiospice.channels.server.cursor import CursorServer, Shape
from aiospice.channels.server.inputs import (
    ButtonChanged,
    InputsServer,
    KeyChanged,
    LocksRequested,
    MouseMoved,
    PointerPlaced,
)
from aiospice.channels.server.main import (
    AttachRequested,
    MainServer,
    MouseModeRequested,
)
from aiospice.channels.server.playback import PlaybackServer
from aiospice.channels.server.record import RecordServer, SoundRecorded
from aiospice.channels.server.vmc import DeviceServer, PortServer
from aiospice.devices.agentdev import AgentDevice
from aiospice.server.devices import Devices
from aiospice.server.machine import CursorState
from aiospice.wire import caps, main
from aiospice.wire.agent import (
    AgentCapability,
    AgentType,
    DeviceDisplayInfo,
    GraphicsDeviceInfo,
    MouseState,
)
from aiospice.wire.caps import MainCap
from aiospice.wire.main import MouseModes
from aiospice.wire.playback import DataMode
from aiospice.wire.vmc import PortEvents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiospice.channels.events import Event
    from aiospice.channels.server.base import ServerChannel
    from aiospice.channels.server.display import DisplayServer
    from aiospice.channels.server.playback import SoundFormat
    from aiospice.server.config import ServerConfig
    from aiospice.server.connection import Connection
    from aiospice.server.frames import Display
    from aiospice.server.held import Held
    from aiospice.server.machine import Machine
    from aiospice.server.session import ServerSession

__all__ = ["PASSED_ON", "Serving"]

Key = tuple[int, int]

#: Milliseconds by which a client's clock runs behind ours: frames and sound have that time to
#: arrive (``MM_TIME_DELTA`` in spice-server ``server/reds.h``).
LATENCY = 400

#: What clients do to the guest.
PASSED_ON = (KeyChanged, ButtonChanged, PointerPlaced, MouseMoved, LocksRequested)


class Serving(Devices):
    """See the module's text. Mixed into the core, which has connections and time."""

    _wanting: dict[int, None]
    #: Displays that are brought up to date before their clients leave, and until when at most.
    _draining: dict[Key, float]

    def __init__(self, config: ServerConfig, machine: Machine) -> None:
        super().__init__(config)
        self.machine = machine
        self.sessions: dict[int, ServerSession] = {}
        #: What the link still had to send when a channel began, by connection.
        self._result: dict[int, bytes] = {}
        self._jobs: dict[int, tuple[int, int, int]] = {}
        self._last_job = 0
        self._wakes: dict[tuple[int, int], float] = {}
        self._stale: dict[int, None] = {}
        self._publish_at = 0.0
        self._shapes = 0

    def keys(self) -> set[Key]:
        """Channels (type, id) that clients may open."""
        machine = self.machine
        found = {(1, 0), (3, 0)}
        found.update((2, number) for number in machine.displays)
        found.update((4, number) for number in machine.displays)
        if machine.has_sound:
            found.add((5, 0))
        if machine.has_record:
            found.add((6, 0))
        found.update(self.devices)
        return found

    def clock(self) -> int:
        """The multimedia clock, ms."""
        return int(self._now * 1000) & 0xFFFFFFFF

    def client_time(self) -> int:
        """The multimedia clock as clients have it, ms."""
        return (self.clock() - LATENCY) & 0xFFFFFFFF

    def _wants(self, connection: Connection) -> None:
        self._wanting[connection.number] = None

    def _open_channels(self, key: Key) -> Iterator[tuple[ServerSession, Any]]:
        """The channel of each session that has it; what is sent on it will be asked for."""
        for session in self.sessions.values():
            channel = session.channels.get(key)
            if channel is not None:
                self._wants(session.connections[key])
                yield session, channel

    # -- a channel begins and ends -----------------------------------------------------------------

    def _begin(self, session: ServerSession, channel: ServerChannel) -> None:
        kind, number = channel.key
        starts: dict[int, Callable[[ServerSession, Any, int], None]] = {
            1: self._begin_main,
            2: self._begin_display,
            3: self._begin_inputs,
            4: self._begin_cursor,
            5: self._begin_playback,
            6: self._begin_record,
        }
        if kind in starts:
            starts[kind](session, channel, number)
        else:
            assert isinstance(channel, DeviceServer)
            self._begin_device(session, channel)

    def _begin_main(self, session: ServerSession, channel: MainServer, number: int) -> None:
        machine = self.machine
        channel.init(
            session_id=session.id,
            displays=max(1, len(machine.displays)),
            supported_mouse_modes=machine.mouse_modes,
            mouse_mode=machine.mouse_mode,
            agent_tokens=self._agent_window(),
            time=self.client_time(),
        )
        session.agent_told = self.agent.opened
        if caps.has(channel.client_caps, MainCap.NAME_AND_UUID):
            channel.send(main.Name(name=self.config.name.encode() + b"\0"))
            channel.send(main.Uuid(uuid=self.config.uuid))

    def _begin_display(self, session: ServerSession, channel: DisplayServer, number: int) -> None:
        from aiospice.server.held import Held

        peer = session.connections[channel.key].peer
        near = peer.local or peer.host.startswith("127.") or peer.host == "::1"
        held = Held(self.machine.displays[number], channel, self.config, session.caches, local=near)
        session.helds[number] = held

    def _begin_inputs(self, session: ServerSession, channel: InputsServer, number: int) -> None:
        channel.init(self.machine.locks)

    def _begin_cursor(self, session: ServerSession, channel: CursorServer, number: int) -> None:
        state = self.machine.cursors.get(number) or CursorState()
        channel.init(state.shape, state.position, state.visible)

    def _begin_playback(self, session: ServerSession, channel: PlaybackServer, number: int) -> None:
        sound = self.machine.playback
        if sound.volume:
            channel.volume(sound.volume, sound.muted)
        if sound.format is not None:
            channel.start(sound.format, self._sound_mode(channel), self.clock())

    def _begin_record(self, session: ServerSession, channel: RecordServer, number: int) -> None:
        sound = self.machine.record
        if sound.volume:
            channel.volume(sound.volume, sound.muted)
        if sound.format is not None:
            channel.start(*sound.format)

    def _leave(self, session: ServerSession, channel: ServerChannel) -> None:
        """A channel is about to go: what it held down goes up."""
        if isinstance(channel, InputsServer):
            self._to_guest(channel.release_all())
        self._wakes.pop((session.id, channel.key[1]), None)

    def _ended(self, session: ServerSession) -> None:
        """A session is gone."""

    def _guest_came(self, session: ServerSession, ports: dict[Key, bool]) -> None:
        """A guest has come to a client that is here already: tell it what is another now.

        ports: which were open before.
        """
        machine = self.machine
        for key, channel in list(session.channels.items()):
            if channel.phase is not ServerPhase.OPEN:
                continue
            if isinstance(channel, MainServer):
                channel.mouse_mode(machine.mouse_modes, machine.mouse_mode)
                if self.agent.opened and not session.agent_told:
                    self._tell_agent(channel)
                    session.agent_told = True
            elif isinstance(channel, InputsServer):
                channel.locks(machine.locks)
            elif isinstance(channel, CursorServer):
                state = machine.cursors.get(key[1]) or CursorState()
                channel.show(state.shape, state.position, state.visible)
            elif isinstance(channel, PlaybackServer):
                channel.stop()
                self._begin_playback(session, channel, key[1])
            elif isinstance(channel, RecordServer):
                channel.stop()
                self._begin_record(session, channel, key[1])
            elif isinstance(channel, PortServer) and self.devices[key].opened != ports.get(key):
                opened = self.devices[key].opened
                channel.state(PortEvents.OPENED if opened else PortEvents.CLOSED)
            self._wants(session.connections[key])

    def _tell_agent(self, channel: MainServer) -> None:
        """The guest has an agent."""
        window = self.agent.core.rules.window
        if caps.has(channel.client_caps, MainCap.AGENT_CONNECTED_TOKENS):
            channel.send(main.AgentConnectedTokens(num_tokens=window))
        else:
            channel.send(main.AgentConnected())

    def _to_guest(self, events: list[Event]) -> None:
        """Tell the guest what went up or down without a message of a client."""
        for event in events:
            told = isinstance(event, (PointerPlaced, ButtonChanged)) and self._point(event)
            if not told:
                self._events.append(event)

    # -- what channels tell ------------------------------------------------------------------------

    def _handle(self, session: ServerSession, channel: ServerChannel, event: Event) -> None:
        if isinstance(event, (PointerPlaced, ButtonChanged)) and self._point(event):
            return
        if isinstance(event, PASSED_ON):
            self._events.append(event)
        elif isinstance(event, AttachRequested) and isinstance(channel, MainServer):
            offered = (key for key in self.keys() - {(1, 0)} if not self.taken(key))
            channel.channels(tuple(sorted(offered)))
        elif isinstance(event, MouseModeRequested):
            self._mode_requested(event.mode)
        elif isinstance(event, SoundRecorded):
            if session is self._recorder():  # the sound of two can't be told apart
                self._events.append(event)
        elif self._device_event(session, channel, event):
            pass
        elif channel.key[0] == 2:
            session.helds[channel.key[1]].handle(event, self._now)
        else:
            self._events.append(event)

    def _after(self, session: ServerSession, channel: ServerChannel) -> None:
        """Everything that a receive brought has been handled."""
        if channel.key[0] == 2:
            self._pump(session, channel.key[1])

    def _recorder(self) -> ServerSession | None:
        """The client whose sound the guest hears: the first that has a record channel."""
        for session in self.sessions.values():
            if (6, 0) in session.channels:
                return session
        return None

    def _mode_requested(self, mode: int) -> None:
        machine = self.machine
        if mode in (MouseModes.SERVER, MouseModes.CLIENT) and mode & machine.mouse_modes:
            machine.mouse_mode = mode
        self._tell_mouse_mode()

    def _tell_mouse_mode(self) -> None:
        machine = self.machine
        for _, channel in self._open_channels((1, 0)):
            channel.mouse_mode(machine.mouse_modes, machine.mouse_mode)

    # -- displays ----------------------------------------------------------------------------------

    def publish(self, now: float) -> None:
        """Show clients what the guest has drawn, if it is time for a frame."""
        self._now = now
        if not self._stale or now < self._publish_at:
            return
        self._publish_at = now + 1 / self.config.frame_rate
        stale, self._stale = self._stale, {}
        for number in stale:
            display = self.machine.displays.get(number)
            if display is None:
                continue
            display.publish(now)
            for session in list(self.sessions.values()):
                held = session.helds.get(number)
                if held is not None:
                    self._held_moved(session, number, held)

    def _shows_frames(self) -> bool:
        """Whether `publish` does anything."""
        return True

    @property
    def stale(self) -> bool:
        """Whether something that the guest has drawn is still to be published."""
        return bool(self._stale)

    @property
    def packing(self) -> bool:
        """Whether images are being packed elsewhere."""
        return bool(self._jobs)

    def drawn(self, number: int) -> None:
        """The guest has drawn on a display."""
        self._stale[number] = None

    def _pump(self, session: ServerSession, number: int) -> None:
        held = session.helds.get(number)
        if held is None:
            return
        held.pump(self._now)
        self._held_moved(session, number, held)

    def _held_moved(self, session: ServerSession, number: int, held: Held) -> None:
        for own, job in held.jobs():
            self._last_job += 1
            self._jobs[self._last_job] = (session.id, number, own)
            self._compute(self._last_job, job)
        wake = held.next_wake()
        if wake is not None:
            self._wakes[session.id, number] = wake
        elif self._wakes:
            self._wakes.pop((session.id, number), None)
        channel = session.channels[2, number]
        if channel.wants_to_send:
            self._wants(session.connections[2, number])

    def computed(self, number: int, result: Any, now: float) -> None:
        """A `Compute` has been done."""
        self._now = now
        place = self._jobs.pop(number, None)
        if place is None:
            return
        client, display, own = place
        session = self.sessions.get(client)
        held = session.helds.get(display) if session is not None else None
        if session is not None and held is not None:
            held.computed(own, result, now)
            self._held_moved(session, display, held)
            self._woken(display)

    def _woken(self, number: int) -> None:
        """Clients of a display that another one's turn has moved."""
        display = self.machine.displays.get(number)
        if display is None or not display.woken:
            return
        woken, display.woken = display.woken, []
        for session in self.sessions.values():
            held = session.helds.get(number)
            if held is not None and held in woken:
                self._held_moved(session, number, held)

    def _has_all(self, connection: Connection) -> bool:
        """Whether a display's client has been handed all there is: asked after each frame."""
        channel = connection.channel
        if channel is None or channel._queue or channel.key[0] != 2 or self._draining:
            return False
        session = self.sessions.get(connection.client)
        held = None if session is None else session.helds.get(channel.key[1])
        waits = connection.closing or connection.number in self._result
        return held is not None and not waits and held.at_rest

    def _drained(self, connection: Connection, channel: ServerChannel) -> None:
        """The kernel has taken all of a channel: there may be more."""
        session = self.sessions.get(connection.client)
        if session is None:
            return
        if channel.key[0] != 2:
            self._fill(session, channel)
        else:
            held = session.helds.get(channel.key[1])
            if held is not None and (self._draining or not held.at_rest):
                self._pump(session, channel.key[1])

    def _serving_wake(self) -> float | None:
        at = self._devices_wake()
        for wake in self._wakes.values():
            at = wake if at is None or wake < at else at
        if self._stale and self._shows_frames():
            at = self._publish_at if at is None else min(at, self._publish_at)
        return at

    def _wake_serving(self, now: float) -> None:
        for (client, number), at in list(self._wakes.items()):
            session = self.sessions.get(client)
            held = session.helds.get(number) if session is not None else None
            if session is None or held is None:
                del self._wakes[client, number]
            elif at <= now:
                held.wake(now)
                self._pump(session, number)
        self._wake_devices(now)
        self.publish(now)

    # -- the guest does ----------------------------------------------------------------------------

    def add_display(self, number: int, display: Display) -> None:
        """There is one more display; who is connected learns of it on coming again."""
        self.machine.displays[number] = display
        self.machine.cursors.setdefault(number, CursorState())

    def shape(self, width: int, height: int, hot_x: int, hot_y: int, data: bytes) -> Shape:
        """A picture for the cursor, with a number of its own."""
        self._shapes += 1
        return Shape(self._shapes, width, height, hot_x, hot_y, data)

    def show_cursor(
        self, number: int, shape: Shape | None, position: tuple[int, int], visible: bool
    ) -> None:
        """The cursor of a display is so from now on."""
        self.machine.cursors[number] = CursorState(shape, position, visible)
        for _, channel in self._open_channels((4, number)):
            channel.show(shape, position, visible)

    def set_locks(self, locks: int) -> None:
        """The guest's keyboard lights."""
        if locks == self.machine.locks:
            return
        self.machine.locks = locks
        for _, channel in self._open_channels((3, 0)):
            channel.locks(locks)

    def set_absolute(self, absolute: bool) -> None:
        """Whether the guest can be told absolute positions."""
        if self.machine.set_absolute(absolute=absolute):
            self._tell_mouse_mode()

    def _agent_said(self) -> None:
        """The agent has written: it may have told what it can do."""
        core = self.agent.core
        assert isinstance(core, AgentDevice)
        mouse = self.agent.opened and caps.has(core.agent_caps, AgentCapability.MOUSE_STATE)
        if mouse != self.machine.agent_mouse and self.machine.set_absolute(agent=mouse):
            self._tell_mouse_mode()
        self._tell_graphics()

    def set_graphics(self, devices: tuple[tuple[int, int, int, str], ...]) -> None:
        """What the agent is to know of the graphics devices (`Machine.graphics`)."""
        self.machine.graphics = devices
        self.machine.graphics_told = 0
        self._tell_graphics()

    def _tell_graphics(self) -> None:
        core, machine = self.agent.core, self.machine
        assert isinstance(core, AgentDevice)
        knows = caps.has(core.agent_caps, AgentCapability.GRAPHICS_DEVICE_INFO)
        if not machine.graphics or machine.graphics_told == core.attachments or not knows:
            return
        machine.graphics_told = core.attachments
        found = tuple(
            DeviceDisplayInfo(
                channel_id=channel,
                monitor_id=monitor,
                device_display_id=number,
                device_address=address.encode() + b"\0",
            )
            for channel, monitor, number, address in machine.graphics
        )
        message = GraphicsDeviceInfo(display_info=found)
        core.say_latest(AgentType.GRAPHICS_DEVICE_INFO, message.body())
        self._device_moved(self.agent)

    def _point(self, event: PointerPlaced | ButtonChanged) -> bool:
        """Tell the agent where the pointer is, if the guest itself can't be told; else False."""
        machine = self.machine
        if machine.absolute or not machine.agent_mouse or machine.mouse_mode != MouseModes.CLIENT:
            return False
        if isinstance(event, PointerPlaced):
            machine.pointer = (event.x, event.y, event.display)
        x, y, display = machine.pointer
        # The agent's bits stand one higher than those of the inputs channel.
        state = MouseState(x=x, y=y, buttons=event.buttons << 1, display_id=display)
        assert isinstance(self.agent.core, AgentDevice)
        self.agent.core.say_latest(AgentType.MOUSE_STATE, state.body())
        self._device_moved(self.agent)
        return True

    def _sound_mode(self, channel: PlaybackServer) -> int:
        # Clients unpack Opus at 48 kHz in stereo only (spice-common ``common/snd_codec.h``).
        fits = self.machine.playback.format == (48000, 2)
        opus = self.config.opus and fits and channel.takes_opus
        return DataMode.OPUS if opus else DataMode.RAW

    def playback_start(self, sound: SoundFormat) -> None:
        """The guest begins to play."""
        self.machine.playback.format = sound
        for _, channel in self._open_channels((5, 0)):
            channel.start(sound, self._sound_mode(channel), self.clock())

    def playback(self, samples: bytes, opus: list[bytes] | None = None) -> None:
        """Sound of the guest; ``opus``: the same in packets, for clients that take them."""
        for _, channel in self._open_channels((5, 0)):
            packed = channel.mode == DataMode.OPUS
            for packet in (opus or []) if packed else [samples]:
                channel.packet(packet, self.clock())

    def playback_stop(self) -> None:
        """The guest plays no more."""
        self.machine.playback.format = None
        for _, channel in self._open_channels((5, 0)):
            channel.stop()

    def record_start(self, sound: SoundFormat) -> None:
        """The guest wants sound."""
        self.machine.record.format = sound
        for _, channel in self._open_channels((6, 0)):
            channel.start(*sound)

    def record_stop(self) -> None:
        """The guest wants no more sound."""
        self.machine.record.format = None
        for _, channel in self._open_channels((6, 0)):
            channel.stop()

    def set_volume(self, key: Key, volume: tuple[int, ...], muted: bool) -> None:
        """The volume of playback (5, 0) or record (6, 0)."""
        sound = self.machine.playback if key[0] == 5 else self.machine.record
        sound.volume, sound.muted = volume, muted
        for _, channel in self._open_channels(key):
            channel.volume(volume, muted)

    def machine_status(self) -> dict[str, Any]:
        """JSON-able: displays, locks, sound."""
        machine = self.machine
        return {
            "displays": [
                {"display": number, "width": display.width, "height": display.height}
                for number, display in sorted(machine.displays.items())
            ],
            "locks": machine.locks,
            "mouse_mode": int(machine.mouse_mode),
            "playback": machine.playback.format,
            "record": machine.record.format,
            "devices": [device.status() for device in (self.agent, *self.devices.values())],
        }

    if TYPE_CHECKING:

        def _compute(self, number: int, job: Any) -> None: ...
