"""A client without a window on spice-gtk's library, which does what it is told.

Run by Debian's own Python (packages ``python3-gi`` and ``gir1.2-spiceclientglib-2.0``), driven by
`aiospice.proof.gtkclient`. Arguments: one JSON object with the properties of the session. An order
is a line of JSON on standard input, ``{"id": 1, "do": "key", ...}``; its answer is a line on
standard output, ``{"id": 1, "ok": ...}`` or ``{"id": 1, "error": "..."}``; what happens by itself
comes as ``{"event": ..., ...}``. Bytes are written in hexadecimal digits. The program ends with its
input.

Two traps of the library's introspection: ``Session.connect`` hides the method that connects
signals, and memory given to it may be freed too early. So whatever hands over memory goes through
ctypes here, with buffers that stay.
"""

# mypy: disable-error-code="misc"
from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import gi

gi.require_version("SpiceClientGLib", "2.0")
from gi.repository import Gio, GLib, GObject, SpiceClientGLib  # noqa: E402

_glib = ctypes.CDLL("libglib-2.0.so.0")
_gobject = ctypes.CDLL("libgobject-2.0.so.0")
_spice = ctypes.CDLL("libspice-client-glib-2.0.so.8")


class Primary(ctypes.Structure):
    """``SpiceDisplayPrimary``."""

    _fields_ = [(name, ctypes.c_int) for name in ("format", "width", "height", "stride", "shmid")]
    _fields_ += [("data", ctypes.c_void_p), ("marked", ctypes.c_int)]


class Array(ctypes.Structure):
    """``GArray``."""

    _fields_ = [("data", ctypes.c_void_p), ("length", ctypes.c_uint)]


class Monitor(ctypes.Structure):
    """``SpiceDisplayMonitorConfig``."""

    _fields_ = [(name, ctypes.c_uint) for name in ("id", "surface", "x", "y", "width", "height")]


class Cursor(ctypes.Structure):
    """``SpiceCursorShape``."""

    _fields_ = [("kind", ctypes.c_int)]
    _fields_ += [(name, ctypes.c_uint16) for name in ("width", "height", "hot_x", "hot_y")]
    _fields_ += [("data", ctypes.c_void_p)]


def pointer(thing: Any) -> ctypes.c_void_p:
    """The address of a GObject (PyGObject's hash of it)."""
    return ctypes.c_void_p(hash(thing))


def memory(address: int | None, size: int) -> bytes:
    """Copy what is at an address."""
    return ctypes.string_at(address, size) if address and size else b""


def tell(**what: object) -> None:
    """Print one line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


_READY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


class Client:
    """The session, its channels by type and number, and the orders (methods ``do_...``)."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self.loop = GLib.MainLoop()
        self.session = SpiceClientGLib.Session()
        for name, value in properties.items():
            self.session.set_property(name, value)
        self.channels: dict[tuple[str, int], Any] = {}
        self.opened: set[tuple[str, int]] = set()
        self.shown: dict[int, int] = {}  # display: how often something of it changed
        self.quiet = True  # no change told since the last order
        self.places: dict[int, tuple[int, int]] = {}  # where the pointer was put
        self.kept: list[Any] = []  # callbacks and buffers that the library uses
        self.input = b""
        on(self.session, "channel-new", self.channel_new)
        on(self.session, "channel-destroy", self.channel_gone)
        on(self.session, "disconnected", lambda *_: tell(event="disconnected"))
        on(self.session, "notify::migration-state", self.migration)
        GLib.io_add_watch(0, GLib.PRIORITY_DEFAULT, GLib.IO_IN | GLib.IO_HUP, self.readable)

    def run(self) -> None:
        """Connect, and go on until the input ends."""
        if not self.session.connect():
            tell(event="connect-failed")
        self.loop.run()

    # -- orders --------------------------------------------------------------------------

    def readable(self, *_: object) -> bool:
        """Carry out the orders that have come."""
        data = os.read(0, 1 << 20)
        if not data:
            self.session.disconnect()
            self.loop.quit()
            return False
        *lines, self.input = (self.input + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            number, name = order.pop("id"), order.pop("do")
            try:
                answer = getattr(self, f"do_{name}")(**order)
            except Exception as error:
                tell(id=number, error=f"{type(error).__name__}: {error}")
            else:
                tell(id=number, ok=answer)
        return True

    def channel(self, kind: str, number: int = 0) -> Any:
        """An open channel; an error that says what there is if it isn't there."""
        if (kind, number) not in self.opened:
            raise KeyError(f"no open channel {kind}:{number}, only {sorted(self.opened)}")
        return self.channels[kind, number]

    def port(self, name: str) -> Any:
        """The open port channel of that name."""
        for (kind, _), channel in self.channels.items():
            if kind in ("port", "webdav") and channel.get_property("port-name") == name:
                return channel
        raise KeyError(f"no port {name!r}")

    def do_state(self) -> dict[str, Any]:
        """What is known of the session."""
        main = self.channels.get(("main", 0))
        return {
            "channels": sorted(f"{kind}:{number}" for kind, number in self.channels),
            "open": sorted(f"{kind}:{number}" for kind, number in self.opened),
            "name": self.session.get_property("name"),
            "mouse_mode": main.get_property("mouse-mode") if main else 0,
            "agent": bool(main and main.get_property("agent-connected")),
            "agent_caps": main.get_property("agent-caps-0") if main else 0,
            "shown": self.shown,
            "read": sum(c.get_property("total-read-bytes") for c in self.channels.values()),
        }

    def do_pixels(self, path: str, display: int = 0) -> dict[str, int] | None:
        """Write a display's surface, rows without gaps; None while it has none."""
        self.quiet = True
        primary = Primary()
        channel = self.channel("display", display)
        if not _spice.spice_display_channel_get_primary(
            pointer(channel), ctypes.c_uint32(0), ctypes.byref(primary)
        ):
            return None
        width, height, stride = primary.width, primary.height, primary.stride
        if not primary.data:
            return None
        with open(path, "wb") as file:
            for y in range(height):
                file.write(memory(primary.data + y * stride, 4 * width))
        return {
            "width": width,
            "height": height,
            "format": primary.format,
            "marked": primary.marked,
        }

    def do_monitors(self, display: int = 0) -> list[dict[str, int]]:
        """The monitors of a display channel."""
        place = ctypes.c_void_p()
        _gobject.g_object_get(
            pointer(self.channel("display", display)), b"monitors", ctypes.byref(place), None
        )
        if not place.value:
            return []
        array = Array.from_address(place.value)
        size = ctypes.sizeof(Monitor)
        monitors = [Monitor.from_address(array.data + size * i) for i in range(array.length)]
        return [{name: getattr(item, name) for name, _ in Monitor._fields_} for item in monitors]

    def do_cursor(self, display: int = 0) -> dict[str, Any] | None:
        """The pointer: sizes, its hot spot, rows of R G B A in ``rgba``; None without one."""
        place = ctypes.c_void_p()
        _gobject.g_object_get(
            pointer(self.channel("cursor", display)), b"cursor", ctypes.byref(place), None
        )
        if not place.value:
            return None
        cursor = Cursor.from_address(place.value)
        data = memory(cursor.data, 4 * cursor.width * cursor.height).hex()
        numbers = {name: getattr(cursor, name) for name, _ in Cursor._fields_[:-1]}
        return {**numbers, "rgba": data, "place": self.places.get(display)}

    def do_prefer(self, compression: int | None = None, codecs: list[int] | None = None) -> None:
        """Ask for an image compression, or for codecs of videos, best first."""
        channel = pointer(self.channel("display"))
        if compression is not None:
            _spice.spice_display_channel_change_preferred_compression(channel, compression)
        if codecs is not None:
            array = (ctypes.c_int * len(codecs))(*codecs)
            _spice.spice_display_channel_change_preferred_video_codec_types(
                channel, array, ctypes.c_size_t(len(codecs)), None
            )

    # -- keyboard and mouse ----------------------------------------------------------------

    def do_key(self, code: int, pressed: bool | None = None) -> None:
        """Press or release a key; both without ``pressed``."""
        inputs = self.channel("inputs")
        if pressed is None or pressed:
            inputs.key_press(code)
        if not pressed:
            inputs.key_release(code)

    def do_locks(self, locks: int) -> None:
        """Set the keyboard's lights."""
        self.channel("inputs").set_key_locks(locks)

    def do_position(self, x: int, y: int, display: int = 0, buttons: int = 0) -> None:
        """Put the pointer somewhere (client mode)."""
        self.channel("inputs").position(x, y, display, buttons)

    def do_motion(self, dx: int, dy: int, buttons: int = 0) -> None:
        """Move the pointer (server mode)."""
        self.channel("inputs").motion(dx, dy, buttons)

    def do_button(self, button: int, pressed: bool, buttons: int = 0) -> None:
        """Press or release a button of the mouse."""
        inputs = self.channel("inputs")
        (inputs.button_press if pressed else inputs.button_release)(button, buttons)

    def do_mouse_mode(self, mode: int) -> None:
        """Ask for a mouse mode: 1 server, 2 client."""
        self.channel("main").request_mouse_mode(mode)

    # -- devices ---------------------------------------------------------------------------

    def do_port_write(self, name: str, data: str) -> None:
        """Write to a port; ``port-written`` is told once the library has sent it."""
        raw = bytes.fromhex(data)
        buffer = ctypes.create_string_buffer(raw, len(raw))

        def written(source: int, result: int, _: int) -> None:
            error = ctypes.c_void_p()
            size = _spice.spice_port_channel_write_finish(
                ctypes.c_void_p(source), ctypes.c_void_p(result), ctypes.byref(error)
            )
            tell(event="port-written", name=name, size=size)
            self.kept.remove(entry)

        entry = (buffer, _READY(written))
        self.kept.append(entry)
        channel = pointer(self.port(name))
        size = ctypes.c_size_t(len(raw))
        _spice.spice_port_channel_write_async(channel, buffer, size, None, entry[1], None)

    def do_port_event(self, name: str, number: int) -> None:
        """Tell the guest that this end of a port was opened or closed."""
        self.port(name).event(number)

    def do_record(self, data: str, time: int) -> None:
        """Send what a microphone heard: 16 bits a sample."""
        raw = bytes.fromhex(data)
        _spice.spice_record_channel_send_data(
            pointer(self.channel("record")), raw, ctypes.c_size_t(len(raw)), ctypes.c_uint32(time)
        )

    # -- agent -----------------------------------------------------------------------------

    def do_clipboard_grab(self, kinds: list[int], selection: int = 0) -> None:
        """Offer kinds of data."""
        array = (ctypes.c_uint32 * len(kinds))(*kinds)
        _spice.spice_main_channel_clipboard_selection_grab(
            pointer(self.channel("main")), selection, array, len(kinds)
        )

    def do_clipboard_send(self, kind: int, data: str, selection: int = 0) -> None:
        """Answer a request."""
        raw = bytes.fromhex(data)
        _spice.spice_main_channel_clipboard_selection_notify(
            pointer(self.channel("main")), selection, kind, raw, ctypes.c_size_t(len(raw))
        )

    def do_clipboard_request(self, kind: int, selection: int = 0) -> None:
        """Ask for what the guest offers."""
        self.channel("main").clipboard_selection_request(selection, kind)

    def do_clipboard_release(self, selection: int = 0) -> None:
        """Take back the offer."""
        self.channel("main").clipboard_selection_release(selection)

    def do_send_files(self, paths: list[str]) -> None:
        """Copy files to the guest; ``files-sent`` is told at the end."""

        def finished(main: Any, result: Any, *_: object) -> None:
            try:
                main.file_copy_finish(result)
            except GLib.Error as error:
                tell(event="files-sent", error=error.message)
            else:
                tell(event="files-sent", error=None)

        files = [Gio.File.new_for_path(path) for path in paths]
        main = self.channel("main")
        on(main, "new-file-transfer", self.transfer)
        main.file_copy_async(files, 0, None, None, None, finished, None)

    def do_resize(self, monitors: list[list[int]]) -> None:
        """Ask for monitors, each x, y, width, height."""
        main = self.channel("main")
        for number, (x, y, width, height) in enumerate(monitors):
            main.update_display_enabled(number, True, False)
            main.update_display(number, x, y, width, height, False)
        main.send_monitor_config()

    def do_quit(self) -> None:
        """Leave as a user does."""
        self.session.disconnect()

    # -- what happens ------------------------------------------------------------------------

    def channel_new(self, _: object, channel: Any) -> None:
        """Watch a channel, and open it."""
        kind = SpiceClientGLib.Channel.type_to_string(channel.get_property("channel-type"))
        key = (kind, channel.get_property("channel-id"))
        self.channels[key] = channel
        on(channel, "channel-event", self.channel_event, key)
        watch = getattr(self, f"watch_{kind}", None)
        if watch:
            watch(channel, key[1])
        tell(event="channel-new", channel=f"{kind}:{key[1]}")
        if kind != "main":  # which the session opens itself
            channel.connect()

    def channel_event(self, channel: Any, event: Any, key: tuple[str, int]) -> None:
        """A channel is open, or isn't any more."""
        opened = event == SpiceClientGLib.ChannelEvent.OPENED
        (self.opened.add if opened else self.opened.discard)(key)
        error = channel.get_error()
        said = error.message if error is not None else None
        name = f"{key[0]}:{key[1]}"
        tell(event="channel-event", channel=name, what=event.value_nick, error=said)

    def channel_gone(self, _: object, channel: Any) -> None:
        """Forget a channel."""
        for key in [key for key, known in self.channels.items() if known is channel]:
            del self.channels[key]
            self.opened.discard(key)
            tell(event="channel-destroy", channel=f"{key[0]}:{key[1]}")

    def migration(self, session: Any, _: object) -> None:
        """The session moves."""
        tell(event="migration", what=session.get_property("migration-state").value_nick)

    def watch_main(self, main: Any, _: int) -> None:
        """Signals of the main channel."""

        def clipboard(
            what: str, size: Callable[..., dict[str, Any]] = lambda *_: {}
        ) -> Callable[..., bool]:
            def happened(_: object, selection: int, *more: Any) -> bool:
                tell(event=what, selection=selection, **size(*more))
                return True

            return happened

        prefix = "main-clipboard-selection"
        on(main, prefix + "-release", clipboard("clipboard-release"))
        on(main, prefix + "-request", clipboard("clipboard-request", lambda kind: {"kind": kind}))
        self.on_memory(
            main,
            prefix,
            (ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint),
            lambda selection, kind, data, size: tell(
                event="clipboard", selection=selection, kind=kind, data=memory(data, size).hex()
            ),
        )
        self.on_memory(
            main,
            prefix + "-grab",
            (ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint),
            lambda selection, kinds, count: tell(
                event="clipboard-grab",
                selection=selection,
                kinds=list((ctypes.c_uint32 * count).from_address(kinds)) if count else [],
            ),
            gives=ctypes.c_int,
        )
        for signal in ("main-mouse-update", "main-agent-update"):
            on(main, signal, self.main_update)

    def main_update(self, main: Any) -> None:
        """The mouse mode has changed, or the agent has come or gone."""
        mode, agent = main.get_property("mouse-mode"), main.get_property("agent-connected")
        tell(event="main", mouse_mode=mode, agent=bool(agent))

    def transfer(self, _: object, task: Any) -> None:
        """A file is on its way."""
        tell(event="transfer", name=task.get_filename(), size=task.get_total_bytes())
        on(task, "finished", self.transferred)

    def transferred(self, task: Any, error: Any) -> None:
        """A file has arrived, or failed."""
        said = error.message if error is not None else None
        tell(event="transferred", name=task.get_filename(), error=said)

    def watch_display(self, display: Any, number: int) -> None:
        """Signals of a display channel."""

        def changed(*_: object) -> None:
            self.shown[number] = self.shown.get(number, 0) + 1
            if self.quiet:  # one line wakes who waits; counting all would flood
                self.quiet = False
                tell(event="changed", display=number)

        on(display, "display-invalidate", changed)
        for signal in ("display-mark", "display-primary-destroy", "notify::monitors"):
            on(display, signal, changed)

        def created(_: object, form: int, width: int, height: int, *__: object) -> None:
            tell(event="primary", display=number, format=form, width=width, height=height)
            changed()

        on(display, "display-primary-create", created)

    def watch_cursor(self, cursor: Any, number: int) -> None:
        """Signals of a cursor channel."""

        def moved(_: object, x: int, y: int) -> None:
            self.places[number] = (x, y)
            tell(event="cursor-move", display=number, x=x, y=y)

        on(cursor, "cursor-move", moved)
        on(cursor, "notify::cursor", lambda *_: tell(event="cursor", display=number))
        on(cursor, "cursor-hide", lambda *_: tell(event="cursor-hide", display=number))

    def watch_inputs(self, inputs: Any, _: int) -> None:
        """The lights of the keyboard."""

        def lights(*_: object) -> None:
            tell(event="locks", locks=int(inputs.get_property("key-modifiers")))

        on(inputs, "inputs-modifiers", lights)

    def watch_playback(self, playback: Any, _: int) -> None:
        """Sound."""

        def start(_: object, form: int, channels: int, rate: int) -> None:
            tell(event="playback-start", format=form, channels=channels, rate=rate)

        on(playback, "playback-start", start)
        on(playback, "playback-stop", lambda *_: tell(event="playback-stop"))
        self.on_memory(
            playback,
            "playback-data",
            (ctypes.c_void_p, ctypes.c_int),
            lambda data, size: tell(event="playback-data", data=memory(data, size).hex()),
        )
        for name in ("volume", "mute"):
            on(playback, f"notify::{name}", self.volume)

    def volume(self, playback: Any, _: object) -> None:
        """The guest's volume of sound."""
        count = playback.get_property("nchannels")
        place = ctypes.c_void_p()
        _gobject.g_object_get(pointer(playback), b"volume", ctypes.byref(place), None)
        levels = list((ctypes.c_uint16 * count).from_address(place.value)) if place.value else []
        tell(event="volume", volume=levels, mute=bool(playback.get_property("mute")))

    def watch_record(self, record: Any, _: int) -> None:
        """The guest listens."""

        def start(_: object, form: int, channels: int, rate: int) -> None:
            tell(event="record-start", format=form, channels=channels, rate=rate)

        on(record, "record-start", start)
        on(record, "record-stop", lambda *_: tell(event="record-stop"))

    def watch_port(self, port: Any, number: int) -> None:
        """Bytes and events of a port."""

        def opened(*_: object) -> None:
            name, is_open = port.get_property("port-name"), port.get_property("port-opened")
            tell(event="port", name=name, opened=bool(is_open))

        def happened(_: object, what: int) -> None:
            tell(event="port-event", name=port.get_property("port-name"), what=what)

        def data(place: int, size: int) -> None:
            name = port.get_property("port-name")
            tell(event="port-data", name=name, data=memory(place, size).hex())

        on(port, "notify::port-opened", opened)
        on(port, "port-event", happened)
        self.on_memory(port, "port-data", (ctypes.c_void_p, ctypes.c_int), data)

    def on_memory(
        self,
        thing: Any,
        signal: str,
        kinds: tuple[Any, ...],
        call: Callable[..., Any],
        gives: Any = None,
    ) -> None:
        """Connect a signal that hands over memory: ``call`` gets its address as a number."""

        def happened(_: int, *values: Any) -> int:
            call(*values[:-1])
            return 1

        shape = ctypes.CFUNCTYPE(gives, ctypes.c_void_p, *kinds, ctypes.c_void_p)
        function = shape(happened if gives else lambda *values: (happened(*values), None)[1])
        self.kept.append(function)
        _gobject.g_signal_connect_data.restype = ctypes.c_ulong
        _gobject.g_signal_connect_data(pointer(thing), signal.encode(), function, None, None, 0)


def on(thing: Any, signal: str, call: Callable[..., Any], *more: Any) -> None:
    """Connect a signal; ``connect`` is another method of this library's objects."""
    GObject.Object.connect(thing, signal, call, *more)


if __name__ == "__main__":
    Client(json.loads(sys.argv[1])).run()
