"""Character devices behind the channels: the core's part that moves bytes between the two.

A message is taken from a device when the channel's queue has run low, so what a client hasn't read
stays with the device, and goes to the next client if this one leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.channels.server.base import ServerPhase
from aiospice.channels.server.main import AgentPiece, AgentStarted, AgentTokens, MainServer
from aiospice.channels.server.smartcard import CardWritten
from aiospice.channels.server.vmc import (
    DeviceServer,
    DeviceTokens,
    DeviceWritten,
    PortServer,
    VmcServer,
)
from aiospice.devices.agentdev import AgentDevice, MonitorsAsked
from aiospice.devices.chardev import (
    CharDevice,
    ClientDropped,
    GuestFailed,
    MessagesTaken,
    OfferAgain,
    TokensReturned,
)
from aiospice.devices.rules import VMC
from aiospice.devices.smartcard import SmartcardDevice
from aiospice.errors import DecodeError, LocalError
from aiospice.server.events import DeviceFailed, DeviceReadable, DeviceWritable, MonitorsRequested
from aiospice.wire import agent, caps, main, vmc
from aiospice.wire.caps import MainCap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiospice.channels.events import Event
    from aiospice.channels.server.base import ServerChannel
    from aiospice.errors import AiospiceError
    from aiospice.server.config import ServerConfig
    from aiospice.server.connection import Connection
    from aiospice.server.session import ServerSession

__all__ = ["Device", "Devices"]

Key = tuple[int, int]

MAIN: Key = (1, 0)
#: The WebDAV channel's name (spice-protocol ``spice/protocol.h``).
WEBDAV_NAME = "org.spice-space.webdav.0"
#: Bytes that a channel has queued when its device is asked for more.
_LOW = 64 << 10
#: The most devices of a machine, of all kinds.
MAX_DEVICES = 64


class Device:
    """A device of the machine and its channel. Plain data."""

    def __init__(self, name: str, key: Key, core: CharDevice) -> None:
        self.name = name
        #: Channel type and id; (1, 0) is the agent's.
        self.key = key
        self.core = core
        self.opened = False
        #: What the guest was last told: there is something to read, there is room.
        self.told_readable = False
        self.told_full = False

    @property
    def readable(self) -> int:
        """Bytes that the guest can read."""
        return self.core.guest_may_read

    @property
    def writable(self) -> bool:
        """Whether the guest can write."""
        return self.core.guest_may_write

    @property
    def clients(self) -> int:
        """How many clients it has."""
        return len(self.core.clients)

    def status(self) -> dict[str, Any]:
        """JSON-able: queues and tokens."""
        core = self.core
        return {
            "name": self.name,
            "channel": list(self.key),
            "opened": self.opened,
            "to_guest_bytes": core.to_guest,
            "from_guest_bytes": core.from_guest,
            "unread_bytes": core.unread_bytes,
            "self_tokens": core.self_tokens,
            "clients": [
                {
                    "client": client.id,
                    "tokens": client.tokens if client.flow_control else None,
                    "send_tokens": client.send_tokens if client.flow_control else None,
                    "outgoing_bytes": client.outgoing_bytes,
                    "waiting_messages": len(client.send_queue),
                }
                for client in core.clients.values()
            ],
        }


class Devices:
    """Mixed into the core: the devices, and what channels and guest do with them."""

    config: ServerConfig
    sessions: dict[int, ServerSession]
    _now: float
    _events: list[Event]

    def __init__(self, config: ServerConfig) -> None:
        agent_core = AgentDevice(copy_paste=config.copy_paste, file_transfer=config.file_transfer)
        agent_core.start()
        self.agent = Device("agent", MAIN, agent_core)
        self.devices: dict[Key, Device] = {}

    # -- the machine's devices ---------------------------------------------------------------------

    def port(self, name: str) -> Device:
        """The port of that name."""
        for device in self.devices.values():
            if device.key[0] == 10 and device.name == name:
                return device
        if not 0 < len(name.encode()) <= 4096 or "\0" in name:
            raise LocalError(f"{name!r} can't be the name of a port")
        return self._add(10, name)

    def webdav(self) -> Device:
        """The WebDAV device."""
        return self.devices.get((11, 0)) or self._add(11, WEBDAV_NAME)

    def usbredir(self) -> Device:
        """One more USB device."""
        return self._add(9, "usbredir")

    def smartcard(self) -> Device:
        """The smartcard reader."""
        return self.devices.get((8, 0)) or self._add(8, "smartcard", SmartcardDevice())

    def device(self, key: Key) -> Device:
        """The device of a channel; (1, 0) is the agent's."""
        return self.agent if key == MAIN else self.devices[key]

    def agent_device(self) -> Device:
        """The agent's device."""
        return self.agent

    def _add(self, kind: int, name: str, core: CharDevice | None = None) -> Device:
        if len(self.devices) >= MAX_DEVICES:
            raise LocalError(f"a machine has {MAX_DEVICES} devices at most")
        number = sum(1 for key in self.devices if key[0] == kind)
        core = core or CharDevice(name, VMC)
        core.start()
        core.attach()
        device = Device(name, (kind, number), core)
        self.devices[device.key] = device
        return device

    # -- the guest does ----------------------------------------------------------------------------

    def open_device(self, device: Device, opened: bool) -> None:
        """The guest opens or closes a device; for the agent's: the agent comes or goes."""
        if device.opened == opened:
            return
        device.opened = opened
        if device is self.agent:
            self._agent_comes(opened)
            return
        if opened and not device.core.attached:  # it had failed (`DeviceFailed`)
            device.core.attach()
        self._tell_state(device, vmc.PortEvents.OPENED if opened else vmc.PortEvents.CLOSED)

    def send_break(self, device: Device) -> None:
        """The guest sends a break on a port."""
        self._tell_state(device, vmc.PortEvents.BREAK)

    def _tell_state(self, device: Device, state: int) -> None:
        for session, channel in self._open_channels(device.key):
            if isinstance(channel, PortServer):
                self._fill(session, channel, low=None)  # what it wrote before comes first
                channel.state(state)

    def device_read(self, device: Device, limit: int) -> bytes:
        """Bytes for the guest."""
        data = device.core.guest_reads(limit, self._now)
        if not device.core.guest_may_read:
            device.told_readable = False
        if data:
            self._device_moved(device)
        return data

    def device_write(self, device: Device, data: bytes | bytearray | memoryview) -> int:
        """Bytes from the guest; returns how many were taken."""
        taken = device.core.guest_writes(data, self._now)
        if taken < len(data):
            device.told_full = True
        self._device_moved(device)
        if device is self.agent:
            self._agent_said()
        return taken

    # -- what channels bring -----------------------------------------------------------------------

    def _begin_device(self, session: ServerSession, channel: DeviceServer) -> None:
        device = self.devices[channel.key]
        core = device.core
        if isinstance(channel, VmcServer) and session.connections[channel.key].peer.local:
            channel.compresses = False
        if isinstance(channel, PortServer):
            channel.begin(device.name, device.opened)
        client = core.add_client(session.id, self._now, flow_control=channel.flow_control)
        if channel.flow_control:
            channel.give(client.tokens, core.rules.client_limit)
        self._device_moved(device)

    def taken(self, key: Key) -> bool:
        """Whether a device has as many clients as it can have."""
        device = self.devices.get(key)
        most = 0 if device is None else device.core.rules.clients
        if device is None or not most:
            return False
        # One whose session arrives is linked, and no client of the device yet.
        linked = sum(key in session.channels for session in self.sessions.values())
        return max(len(device.core.clients), linked) >= most

    def _device_event(self, session: ServerSession, channel: ServerChannel, event: Event) -> bool:
        """Handle what a device's channel, or main for the agent, tells; False if it isn't ours."""
        device = self.agent if channel.key == MAIN else self.devices.get(channel.key)
        if device is None:
            return False
        done = self._agent_event if device is self.agent else self._vmc_event
        if not done(session, device.core, event):
            return False
        self._device_moved(device)
        return True

    def _agent_event(self, session: ServerSession, core: CharDevice, event: Event) -> bool:
        if isinstance(event, AgentPiece):
            core.client_writes(session.id, event.data)
        elif isinstance(event, AgentTokens):
            core.add_tokens(session.id, event.tokens, self._now)
        elif isinstance(event, AgentStarted) and isinstance(core, AgentDevice):
            core.start_client(session.id, event.tokens, self._now)
        else:
            return False
        return True

    def _vmc_event(self, session: ServerSession, core: CharDevice, event: Event) -> bool:
        if isinstance(event, DeviceWritten):
            core.client_writes(session.id, event.data)
        elif isinstance(event, CardWritten) and isinstance(core, SmartcardDevice):
            core.card_message(session.id, event.type, event.reader_id, event.data, self._now)
        elif isinstance(event, DeviceTokens):
            core.add_tokens(session.id, event.count, self._now, limit=event.size)
        else:
            return False
        return True

    def _leave_device(self, client: int, channel: ServerChannel, unwritten: int) -> None:
        device = self.agent if channel.key == MAIN else self.devices.get(channel.key)
        if device is None:
            return
        unsent = channel.unsent(unwritten) if isinstance(channel, DeviceServer) else []
        device.core.remove_client(client, unsent)
        self._device_moved(device)

    # -- moving bytes ------------------------------------------------------------------------------

    def _fill(self, session: ServerSession, channel: Any, low: int | None = _LOW) -> None:
        """Take from the device what the channel can have, until ``low`` bytes wait in it."""
        device = self.agent if channel.key == MAIN else self.devices.get(channel.key)
        if device is None or channel.phase is not ServerPhase.OPEN:
            return
        while low is None or channel.queued_bytes < low:
            piece = device.core.take(session.id, self._now)
            if piece is None:
                break
            if isinstance(channel, MainServer):
                channel.send(main.AgentData(data=piece))
            else:
                channel.send_data(piece)
        self._tell_guest(device)

    def _device_moved(self, device: Device) -> None:
        """Something happened at a device: tell whom it concerns."""
        core = device.core
        for event in core.events():
            if isinstance(event, TokensReturned):
                self._return_tokens(device, event)
            elif isinstance(event, MessagesTaken):
                self._messages_taken(device, event)
            elif isinstance(event, ClientDropped):
                self._client_dropped(device, event)
            elif isinstance(event, MonitorsAsked):
                self._monitors_asked(event)
            elif isinstance(event, GuestFailed):
                self._guest_failed(device, event)
            elif isinstance(event, OfferAgain):
                device.told_readable = False
        for client in list(core.clients.values()):
            session = self.sessions.get(client.id)
            channel = session.channels.get(device.key) if session is not None else None
            if session is None or channel is None:
                continue
            if client.outgoing:
                self._wants(session.connections[device.key])
            if isinstance(channel, DeviceServer):
                channel.allow(core.credit(client.id), core.room())
                self._reading_changed(session.connections[device.key], channel)
        self._tell_guest(device)

    def _tell_guest(self, device: Device) -> None:
        core = device.core
        if core.guest_may_read and not device.told_readable:
            device.told_readable = True
            self._events.append(DeviceReadable(key=device.key))
        if device.told_full and core.guest_may_write:
            device.told_full = False
            self._events.append(DeviceWritable(key=device.key))

    def _return_tokens(self, device: Device, event: TokensReturned) -> None:
        session = self.sessions.get(event.client)
        channel = session.channels.get(device.key) if session is not None else None
        if session is None or channel is None:
            return
        if isinstance(channel, MainServer):
            channel.send(main.AgentToken(num_tokens=event.count))
        elif isinstance(channel, DeviceServer):
            channel.give(event.count, device.core.rules.client_limit)
        self._wants(session.connections[device.key])

    def _messages_taken(self, device: Device, event: MessagesTaken) -> None:
        session = self.sessions.get(event.client)
        channel = session.channels.get(device.key) if session is not None else None
        if session is not None and channel is not None:
            channel.committed(event.count)
            self._wants(session.connections[device.key])

    def _client_dropped(self, device: Device, event: ClientDropped) -> None:
        session = self.sessions.get(event.client)
        channel = session.channels.get(device.key) if session is not None else None
        if session is not None and channel is not None:
            channel.fail(event.error)
            self._channel_gone(session.connections[device.key], event.error)

    # -- the agent ---------------------------------------------------------------------------------

    def _agent_window(self) -> int | None:
        """What INIT says of the agent: its clients' window, None without an agent."""
        return self.agent.core.rules.window if self.agent.opened else None

    def _agent_comes(self, here: bool) -> None:
        core = self.agent.core
        if not here:
            core.detach()
            self._tell_agent_gone()
            self._agent_said()
            return
        core.attach()
        for session, channel in self._open_channels(MAIN):
            if caps.has(channel.client_caps, MainCap.AGENT_CONNECTED_TOKENS):
                channel.send(main.AgentConnectedTokens(num_tokens=core.rules.window))
            else:
                channel.send(main.AgentConnected())
            session.agent_told = True

    def _tell_agent_gone(self) -> None:
        for session, channel in self._open_channels(MAIN):
            channel.send(main.AgentDisconnected(error_code=0))
            session.agent_told = False

    def _guest_failed(self, device: Device, event: GuestFailed) -> None:
        self._events.append(DeviceFailed(key=device.key, name=device.name, error=event.error))
        device.opened = False
        if device is self.agent:
            self._tell_agent_gone()
            self._agent_said()

    def _monitors_asked(self, event: MonitorsAsked) -> None:
        try:
            message = agent.MonitorsConfig.parse(event.body)
        except DecodeError:
            return
        found = tuple((each.x, each.y, each.width, each.height) for each in message.monitors)
        self._events.append(MonitorsRequested(monitors=found))

    def take_monitors(self) -> None:
        """Clients' monitors are told to the guest, not to its agent."""
        assert isinstance(self.agent.core, AgentDevice)
        self.agent.core.monitors = True

    # -- time --------------------------------------------------------------------------------------

    def _devices_wake(self) -> float | None:
        soonest = self.agent.core.next_wake()
        for device in self.devices.values():
            at = device.core.next_wake()
            if at is not None and (soonest is None or at < soonest):
                soonest = at
        return soonest

    def _wake_devices(self, now: float) -> None:
        for device in (self.agent, *self.devices.values()):
            at = device.core.next_wake()
            if at is not None and at <= now:
                device.core.wake(now)
                self._device_moved(device)

    # -- the core's other parts --------------------------------------------------------------------

    if TYPE_CHECKING:

        def _open_channels(self, key: Key) -> Iterator[tuple[ServerSession, Any]]: ...

        def _agent_said(self) -> None: ...

        def _wants(self, connection: Connection) -> None: ...

        def _reading_changed(self, connection: Connection, channel: ServerChannel) -> None: ...

        def _channel_gone(self, connection: Connection, error: AiospiceError | None) -> None: ...
