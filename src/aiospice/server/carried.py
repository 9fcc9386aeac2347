"""The machine's state as it goes from server to server, together with its guest.

Plain data that pickles. What clients may not be trusted with is in here: what is on its way to the
guest and from it, what is held down, how far the agent's stream is. What else a session needs goes
with its client, in records.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiospice.channels.server.inputs import HeldDown
from aiospice.devices.agentdev import AgentDevice
from aiospice.devices.carry import DeviceState, lift, lower, put_back
from aiospice.devices.carry_agent import AgentState, lift_agent, lower_agent, put_agent_back
from aiospice.devices.smartcard import SmartcardDevice
from aiospice.errors import LocalError
from aiospice.server.frames import Display, DisplayState
from aiospice.server.machine import CursorState, Sound

if TYPE_CHECKING:
    from aiospice.server.devices import Device
    from aiospice.server.machine import Machine

__all__ = [
    "PLAIN",
    "LateInputs",
    "MachineState",
    "lift_devices",
    "lower_devices",
    "put_devices_back",
    "put_machine",
    "take_machine",
]

Key = tuple[int, int]

#: Attributes of `Machine` that go as they are.
PLAIN = ("locks", "absolute", "agent_mouse", "mouse_mode", "pointer", "graphics", "has_sound")


@dataclass(slots=True)
class MachineState:
    """See the module's text."""

    displays: dict[int, DisplayState] = field(default_factory=dict)
    cursors: dict[int, CursorState] = field(default_factory=dict)
    playback: Sound = field(default_factory=Sound)
    record: Sound = field(default_factory=Sound)
    #: Attributes of `Machine` by name.
    plain: dict[str, object] = field(default_factory=dict)
    devices: dict[Key, DeviceState] = field(default_factory=dict)
    agent: AgentState = field(default_factory=AgentState)
    #: What each client holds down.
    held: dict[int, HeldDown] = field(default_factory=dict)
    #: Clients that go on by themselves, and whether they have been told of the agent.
    replays: dict[int, bool] = field(default_factory=dict)
    #: What each client's displays asked for: compression, video codecs.
    wishes: dict[int, dict[int, tuple[int, tuple[int, ...]]]] = field(default_factory=dict)


@dataclass(slots=True)
class LateInputs:
    """What a client typed while neither server had the guest: messages, as they came."""

    messages: tuple[tuple[int, bytes], ...]


def lift_devices(
    state: MachineState, agent: Device, devices: dict[Key, Device], now: float
) -> None:
    """Stop all devices and take out what goes with the guest."""
    assert isinstance(agent.core, AgentDevice)
    state.agent = lift_agent(agent.core, now)
    state.agent.device.opened, state.agent.device.full = agent.opened, agent.told_full
    for key, device in devices.items():
        found = lift(device.core, now)
        found.name, found.opened, found.full = device.name, device.opened, device.told_full
        if isinstance(device.core, SmartcardDevice):
            found.reader, found.part = device.core.reader_added, bytes(device.core.part)
        state.devices[key] = found


def put_devices_back(
    state: MachineState, agent: Device, devices: dict[Key, Device], now: float
) -> None:
    """The guest stays."""
    assert isinstance(agent.core, AgentDevice)
    put_agent_back(agent.core, state.agent, now)
    for key, device in devices.items():
        put_back(device.core, state.devices.get(key) or DeviceState(), now)


def lower_devices(state: MachineState, agent: Device, devices: dict[Key, Device]) -> None:
    """Put the guest's part into devices that are new. `LocalError` if they aren't the same."""
    for key, found in state.devices.items():
        device = devices.get(key)
        if device is None or device.name != found.name:
            here = "nothing" if device is None else repr(device.name)
            raise LocalError(
                f"the guest comes with a device {found.name!r} on channel {key}, and here is {here}"
            )
    assert isinstance(agent.core, AgentDevice)
    agent.opened, agent.told_full = state.agent.device.opened, state.agent.device.full
    agent.core.attached = agent.opened
    lower_agent(agent.core, state.agent)
    for key, found in state.devices.items():
        devices[key].opened, devices[key].told_full = found.opened, found.full
        core = devices[key].core
        lower(core, found)
        if isinstance(core, SmartcardDevice):
            core.reader_added, core.part[:] = found.reader, found.part


def take_machine(machine: Machine) -> MachineState:
    """A copy of what the machine shows and how it is set."""
    return MachineState(
        displays={number: display.freeze() for number, display in machine.displays.items()},
        cursors={
            number: CursorState(each.shape, each.position, each.visible)
            for number, each in machine.cursors.items()
        },
        playback=Sound(machine.playback.format, machine.playback.volume, machine.playback.muted),
        record=Sound(machine.record.format, machine.record.volume, machine.record.muted),
        plain={name: getattr(machine, name) for name in PLAIN},
    )


def put_machine(machine: Machine, state: MachineState) -> None:
    """Make the machine what another one was."""
    for number, shown in state.displays.items():
        if number not in machine.displays:
            machine.displays[number] = Display(number)
        machine.displays[number].thaw(shown)
    machine.cursors.update(state.cursors)
    machine.playback, machine.record = state.playback, state.record
    for name, value in state.plain.items():
        setattr(machine, name, value)
