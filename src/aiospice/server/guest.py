"""What a program implements to be seen through SPICE, and what it holds to talk to the server.

A guest subclasses `Guest` and overrides what it needs; `Guest.attach` hands it a `Host`, through
which it draws, plays sound, and reads and writes its devices::

    class Clock(Guest):
        def attach(self, host):
            self.display = host.display(0)
            self.display.resize(320, 200)

        async def run(self):
            while True:
                self.display.pixels[:] = picture_of_the_time()
                self.display.update()
                await asyncio.sleep(1)

Everything is called on the event loop and must not block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from aiospice.channels.server.inputs import (
    ButtonChanged,
    KeyChanged,
    LocksRequested,
    MouseMoved,
    PointerPlaced,
)
from aiospice.channels.server.record import SoundRecorded
from aiospice.channels.server.vmc import PortSignalled
from aiospice.errors import DecodeError, LocalError
from aiospice.server.events import (
    ClientConnected,
    ClientDisconnected,
    DeviceReadable,
    DeviceWritable,
    MonitorsRequested,
)
from aiospice.server.machine import CursorState
from aiospice.wire.playback import DataMode
from aiospice.wire.vmc import PortEvents

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from aiospice.channels.events import Event
    from aiospice.server.core import ServerCore
    from aiospice.server.devices import Device
    from aiospice.server.frames import Display

    Pixels = npt.NDArray[np.uint8]

    class SoundEncoder(Protocol):
        """Packs samples (`aiospice.aio.opus.OpusEncoder`)."""

        def encode(self, samples: bytes) -> list[bytes]: ...

    class SoundDecoder(Protocol):
        """Unpacks a packet (`aiospice.aio.opus.OpusDecoder`)."""

        def decode(self, packet: bytes) -> bytes: ...

    class SoundCodecs(Protocol):
        """Makes them; each keeps its own state."""

        def encoder(self, channels: int) -> SoundEncoder: ...

        def decoder(self, channels: int) -> SoundDecoder: ...


__all__ = ["ClientInfo", "Guest", "Host", "HostDevice", "HostDisplay", "HostSurface", "dispatch"]

#: The largest cursor, in pixels a side.
MAX_CURSOR = 512


class ClientInfo(NamedTuple):
    """A client that is connected."""

    id: int
    #: Its address, as the server saw it.
    peer: str
    #: By SASL, else empty.
    user: str


class HostSurface:
    """An off-screen picture that clients keep: draw from it again and again at no cost."""

    def __init__(self, display: HostDisplay, id: int, width: int, height: int) -> None:
        self._display = display
        self.id = id
        self.width = width
        self.height = height

    @property
    def pixels(self) -> Pixels:
        """uint8, height x width x 4, B G R X or B G R A; writable."""
        return self._display._core.surface_array(self.id)

    def update(
        self, x: int = 0, y: int = 0, width: int | None = None, height: int | None = None
    ) -> None:
        """Pixels have changed; without arguments all of them."""
        self._display._core.surface_damage(
            self.id,
            x,
            y,
            self.width if width is None else width,
            self.height if height is None else height,
        )
        self._display._drawn()

    def close(self) -> None:
        """Clients may forget it."""
        self._display._core.destroy_surface(self.id)
        self._display._drawn()


class HostDisplay:
    """A display of the guest: pixels to draw into, and hints that save bytes."""

    def __init__(self, host: Host, id: int) -> None:
        self._host = host
        self.id = id
        self._seen: tuple[bytearray, Pixels] | None = None

    @property
    def _core(self) -> Display:
        return self._host._core.machine.displays[self.id]

    @property
    def width(self) -> int:
        """In pixels; 0 before the first `resize`."""
        return self._core.width

    @property
    def height(self) -> int:
        """In pixels."""
        return self._core.height

    @property
    def pixels(self) -> Pixels:
        """uint8, height x width x 4, B G R X; writable, the same memory until the next `resize`."""
        core = self._core
        surface = core.surfaces.get(0)
        if surface is None:
            return core.array
        if self._seen is None or self._seen[0] is not surface.pixels:  # it takes as long as drawing
            self._seen = (surface.pixels, surface.array)
        return self._seen[1]

    def _drawn(self) -> None:
        self._host._core.drawn(self.id)
        self._host._changed()

    def resize(self, width: int, height: int) -> None:
        """Another size, 1 to 16384 pixels a side; the pixels are black then."""
        self._core.resize(width, height)
        self._drawn()

    def update(
        self, x: int = 0, y: int = 0, width: int | None = None, height: int | None = None
    ) -> None:
        """Pixels have changed; without arguments all of them. What lies outside is left out."""
        self._core.damage(
            x, y, self.width if width is None else width, self.height if height is None else height
        )
        self._drawn()

    def fill(self, x: int, y: int, width: int, height: int, colour: int) -> None:
        """Fill a rectangle with one colour, 0xRRGGBB."""
        self._core.fill(x, y, width, height, colour)
        self._drawn()

    def copy(self, src_x: int, src_y: int, width: int, height: int, x: int, y: int) -> None:
        """Move pixels, as scrolling does; clients are told the move, not the pixels."""
        self._core.copy(src_x, src_y, width, height, x, y)
        self._drawn()

    def surface(self, width: int, height: int, *, alpha: bool = False) -> HostSurface:
        """Make an off-screen picture, transparent or black."""
        return HostSurface(self, self._core.create_surface(width, height, alpha), width, height)

    def draw(
        self, surface: HostSurface, x: int, y: int, src: tuple[int, int, int, int] | None = None
    ) -> None:
        """Copy a surface, or ``src`` (x, y, width, height) of it, to a place."""
        self._core.draw_surface(surface.id, src or (0, 0, surface.width, surface.height), x, y)
        self._drawn()

    def heads(self, heads: list[tuple[int, int, int, int, int]]) -> None:
        """The monitors that this display shows: (id, x, y, width, height) of each."""
        self._core.set_heads(heads)
        self._drawn()


class HostDevice:
    """A character device of the guest: a stream of bytes with back-pressure both ways."""

    def __init__(self, host: Host, device: Device) -> None:
        self._host = host
        self.name = device.name
        #: Channel type and id; (1, 0) is the agent's.
        self.key = device.key

    @property
    def _device(self) -> Device:
        return self._host._core.device(self.key)

    @property
    def opened(self) -> bool:
        """Whether the guest has it open: clients write only then."""
        return self._device.opened

    @opened.setter
    def opened(self, opened: bool) -> None:
        self._host._core.open_device(self._device, opened)
        self._host._changed()

    @property
    def readable(self) -> int:
        """Bytes that `read` would give."""
        return self._device.readable

    @property
    def writable(self) -> bool:
        """Whether `write` would take something."""
        return self._device.writable

    @property
    def clients(self) -> int:
        """Clients that are connected to it."""
        return self._device.clients

    def read(self, limit: int = 65536) -> bytes:
        """Bytes from the client, at most ``limit``; b"" if there are none."""
        data = self._host._core.device_read(self._device, limit)
        if data:
            self._host._changed()
        return data

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Bytes for the client; returns how many were taken, maybe none: see `writable`."""
        taken = self._host._core.device_write(self._device, data)
        if taken:
            self._host._changed()
        return taken

    def send_break(self) -> None:
        """Send a break on a port, as on a serial line; other devices have none."""
        self._host._core.send_break(self._device)
        self._host._changed()


class Host:
    """What a guest talks to. Made by who runs the server."""

    def __init__(
        self,
        core: ServerCore,
        changed: Callable[[], None],
        codecs: SoundCodecs | None = None,
    ) -> None:
        self._core = core
        self._changed = changed
        self._codecs = codecs
        self._encoder: SoundEncoder | None = None
        self._decoder: SoundDecoder | None = None
        self._displays: dict[int, HostDisplay] = {}
        self._devices: dict[tuple[int, int], HostDevice] = {}
        self._shapes = 0

    @property
    def clients(self) -> tuple[ClientInfo, ...]:
        """Who is connected."""
        found = self._core.sessions.values()
        return tuple(ClientInfo(session.id, session.peer, session.user) for session in found)

    def now(self) -> float:
        """The server's clock, in seconds."""
        return self._core._now

    # -- displays and cursor -----------------------------------------------------------------------

    def display(self, id: int = 0) -> HostDisplay:
        """Display ``id`` (0 to 15), made when it is first asked for; `resize` gives it a size."""
        if id not in self._displays:
            if not 0 <= id < 16:
                raise LocalError(f"display {id}: 0 to 15 can be had")
            from aiospice.server.frames import Display

            if id not in self._core.machine.displays:
                self._core.add_display(id, Display(id))
            self._displays[id] = HostDisplay(self, id)
        return self._displays[id]

    def set_cursor(self, pixels: Pixels, hot_x: int = 0, hot_y: int = 0, display: int = 0) -> None:
        """The cursor's picture: uint8, height x width x 4, B G R A, alpha multiplied in."""
        height, width = pixels.shape[:2]
        if not (0 < width <= MAX_CURSOR and 0 < height <= MAX_CURSOR and pixels.shape[2] == 4):
            raise LocalError(
                f"a cursor of shape {pixels.shape}: up to {MAX_CURSOR} x {MAX_CURSOR} pixels of 4"
            )
        data = pixels.tobytes()
        state = self._cursor(display)
        same = state.shape is not None and (state.shape.data, state.shape.width) == (data, width)
        if not same:
            state.shape = self._core.shape(width, height, hot_x, hot_y, data)
        self._core.show_cursor(display, state.shape, state.position, True)
        self._changed()

    def move_cursor(self, x: int, y: int, display: int = 0) -> None:
        """The cursor's hot spot is at a pixel; of use in the relative mouse mode only."""
        state = self._cursor(display)
        self._core.show_cursor(display, state.shape, (x, y), state.visible)
        self._changed()

    def hide_cursor(self, display: int = 0) -> None:
        """No cursor, until `set_cursor`."""
        state = self._cursor(display)
        self._core.show_cursor(display, state.shape, state.position, False)
        self._changed()

    def _cursor(self, display: int) -> CursorState:
        return self._core.machine.cursors.get(display) or CursorState()

    def takes_monitors(self) -> None:
        """The guest itself sets its monitors (`Guest.monitors`), not its agent."""
        self._core.take_monitors()

    def graphics_devices(self, devices: list[tuple[int, int, int, str]]) -> None:
        """What the guest's agent is to know: (display, monitor, the device's number, address).

        The address is the guest's own name of the device, ``pci/0000/02.0``.
        """
        self._core.set_graphics(tuple(devices))
        self._changed()

    # -- inputs and sound --------------------------------------------------------------------------

    def set_locks(self, locks: int) -> None:
        """The keyboard's lights: 1 scroll lock, 2 num lock, 4 caps lock."""
        self._core.set_locks(locks)
        self._changed()

    def mouse_modes(self, *, absolute: bool) -> None:
        """Whether positions can be told (`Guest.mouse_move`), or motion only."""
        self._core.set_absolute(absolute)
        self._changed()

    def sound(self, *, playback: bool = True, record: bool = False) -> None:
        """Which sound channels there are; to be said before clients come."""
        self._core.machine.has_sound = playback
        self._core.machine.has_record = record

    def playback_start(self, frequency: int = 48000, channels: int = 2) -> None:
        """Begin to play."""
        fits = self._codecs is not None and (frequency, channels) == (48000, 2)
        self._encoder = self._codecs.encoder(channels) if self._codecs and fits else None
        self._core.playback_start((frequency, channels))
        self._changed()

    def playback(self, samples: bytes) -> None:
        """Play samples: signed 16 bit, little endian, channels interleaved; 10 to 20 ms a call."""
        packets = None if self._encoder is None else self._encoder.encode(samples)
        self._core.playback(samples, packets)
        self._changed()

    def playback_stop(self) -> None:
        """Play no more."""
        self._core.playback_stop()
        self._changed()

    def record_start(self, frequency: int = 48000, channels: int = 2) -> None:
        """Ask clients for sound, which comes as `Guest.recorded`."""
        self._decoder = None
        self._core.record_start((frequency, channels))
        self._changed()

    def record_stop(self) -> None:
        """No more sound."""
        self._core.record_stop()
        self._changed()

    def heard(self, event: SoundRecorded) -> bytes:
        """The samples of a client's packet; b"" if it can't be read."""
        if event.mode != DataMode.OPUS:
            return event.data
        sound = self._core.machine.record.format
        if self._codecs is None or sound is None:
            return b""
        if self._decoder is None:
            self._decoder = self._codecs.decoder(sound[1])
        try:
            return self._decoder.decode(event.data)
        except DecodeError:
            return b""

    def set_volume(self, volume: tuple[int, ...], *, muted: bool, record: bool = False) -> None:
        """The guest's volume, 0 to 65535 a channel."""
        self._core.set_volume((6, 0) if record else (5, 0), volume, muted)
        self._changed()

    def _sound_came(self) -> None:
        """The guest has moved here: what it plays is packed here from now on."""
        sound = self._core.machine.playback.format
        fits = self._codecs is not None and sound == (48000, 2)
        self._encoder = self._codecs.encoder(2) if self._codecs and fits else None
        self._decoder = None

    # -- devices -----------------------------------------------------------------------------------

    def port(self, name: str) -> HostDevice:
        """A port of that name, made when it is first asked for. Shut until ``opened`` is set."""
        return self._device(self._core.port(name))

    def webdav(self) -> HostDevice:
        """The device of the webdav channel."""
        return self._device(self._core.webdav())

    def usbredir(self) -> HostDevice:
        """One more device for a USB device of the client."""
        return self._device(self._core.usbredir())

    def smartcard(self) -> HostDevice:
        """The smartcard reader's device."""
        return self._device(self._core.smartcard())

    def agent(self) -> HostDevice:
        """The agent's device, a stream of chunks; with ``opened`` an agent is there."""
        return self._device(self._core.agent_device())

    def _device(self, device: Device) -> HostDevice:
        found = self._devices.get(device.key)
        if found is None:
            found = self._devices[device.key] = HostDevice(self, device)
        return found


class Guest:
    """What a server shows. Override what is needed; all is called on the event loop."""

    #: What clients show as the machine's name.
    name: ClassVar[str] = "aiospice"
    #: It gives away so much that it is never served without a password.
    needs_password: ClassVar[bool] = False
    #: It can move to another server (`freeze`, `thaw`); programs that it runs could not.
    can_move: ClassVar[bool] = True

    def attach(self, host: Host) -> None:
        """The server is about to start: make displays and devices."""

    async def run(self) -> None:
        """Live; cancelled when the server ends, or the guest moves to another one."""

    def close(self) -> None:
        """The server ends, and `run` with it: let go of what is held outside."""

    def left(self) -> None:
        """The guest runs on another server now; it may come back by `thaw`."""

    def freeze(self) -> Any:
        """What the guest remembers, as plain data: it moves to another server.

        Plain is None, bool, int, float, str, bytes, list, tuple, dict, and NumPy arrays of numbers;
        with anything else the guest stays where it is. `run` has been cancelled; if the guest
        stays after all, `run` is called again. Pixels, sound, and what is in its devices go by
        themselves.
        """
        return None

    def freeze_early(self, *, again: bool) -> dict[str, Any] | None:
        """Parts of what the guest remembers that are told while it still runs: what is large.

        By name (up to 200 characters), each plain as in `freeze`; a part replaces an earlier one
        of its name. Without ``again`` a hand-over begins: all parts. With it: those that have
        changed since the last call; the last one comes before `freeze`, when `run` has ended.
        """
        return None

    def thaw_early(self, parts: dict[str, Any]) -> None:
        """The newest of all parts that `freeze_early` gave; `thaw` follows."""

    def thaw(self, state: Any) -> None:
        """Be what `freeze` told of, on another server; `attach` has been called, `run` follows.

        What is drawn here is drawn over by what the displays showed on the source. `run` doesn't
        follow if the source takes the guest back; another `thaw` may come then, and a guest that
        has left may come back by one.
        """

    def key(self, code: int, pressed: bool) -> None:
        """A key: scancode of set 1, prefix first (0x1c Enter, 0xe048 cursor up)."""

    def mouse_move(self, x: int, y: int, display: int, buttons: int) -> None:
        """The pointer is at a pixel; ``buttons`` has a bit for each that is down, left first."""

    def mouse_motion(self, dx: int, dy: int, buttons: int) -> None:
        """The mouse has moved (relative mouse mode)."""

    def mouse_button(self, button: int, pressed: bool, buttons: int) -> None:
        """A button: 1 left, 2 middle, 3 right, 4 and 5 the wheel up and down."""

    def locks(self, locks: int) -> None:
        """A client wants the keyboard's lights so (see `Host.set_locks`)."""

    def monitors(self, monitors: tuple[tuple[int, int, int, int], ...]) -> None:
        """A client wants monitors so: (x, y, width, height) of each.

        A guest that overrides this is told instead of its agent. Clients tell them through the
        agent's stream, so an agent has to be there (`Host.agent`).
        """

    def recorded(self, samples: bytes) -> None:
        """Sound of a client: signed 16 bit, little endian, channels interleaved."""

    def device_readable(self, device: HostDevice) -> None:
        """A client has written to a device."""

    def device_writable(self, device: HostDevice) -> None:
        """A device takes bytes again."""

    def device_break(self, device: HostDevice) -> None:
        """A client has sent a break on a port, as on a serial line."""

    def client_connected(self, client: int) -> None:
        """A client has come; its number is that of `ClientInfo`."""

    def client_disconnected(self, client: int) -> None:
        """A client has gone."""


def dispatch(guest: Guest, host: Host, event: Event) -> None:
    """Call the guest's method for an event of the core, if it has one."""
    call = _CALLS.get(type(event))
    if call is not None:
        call(guest, host, event)


def _device_event(name: str) -> Callable[[Guest, Host, Any], None]:
    def call(guest: Guest, host: Host, event: Any) -> None:
        device = host._devices.get(event.key)
        if device is not None:
            getattr(guest, name)(device)

    return call


def _port_signalled(guest: Guest, host: Host, event: PortSignalled) -> None:
    device = host._devices.get(event.key)
    if device is not None and event.event == PortEvents.BREAK:
        guest.device_break(device)


_CALLS: dict[type[Event], Callable[[Guest, Host, Any], None]] = {
    KeyChanged: lambda guest, _, event: guest.key(event.code, event.pressed),
    PointerPlaced: lambda guest, _, event: guest.mouse_move(
        event.x, event.y, event.display, event.buttons
    ),
    MouseMoved: lambda guest, _, event: guest.mouse_motion(event.dx, event.dy, event.buttons),
    ButtonChanged: lambda guest, _, event: guest.mouse_button(
        event.button, event.pressed, event.buttons
    ),
    LocksRequested: lambda guest, _, event: guest.locks(event.locks),
    MonitorsRequested: lambda guest, _, event: guest.monitors(event.monitors),
    SoundRecorded: lambda guest, host, event: guest.recorded(host.heard(event)),
    ClientConnected: lambda guest, _, event: guest.client_connected(event.client),
    ClientDisconnected: lambda guest, _, event: guest.client_disconnected(event.client),
    DeviceReadable: _device_event("device_readable"),
    DeviceWritable: _device_event("device_writable"),
    PortSignalled: _port_signalled,
}
