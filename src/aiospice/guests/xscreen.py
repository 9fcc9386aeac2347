"""An X server's screen through its extensions: MIT-SHM, DAMAGE, XTEST, XFIXES and RANDR.

Everything here waits for the X server, so it belongs into a thread of its own; of one thread at a
time. Coordinates are pixels of the root window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aiospice.errors import LocalError, MissingProgram, SessionLost
from aiospice.guests.rects import Rect
from aiospice.guests.sharedmemory import SharedMemory

try:
    import xcffib
    import xcffib.damage
    import xcffib.randr
    import xcffib.shm
    import xcffib.xfixes
    import xcffib.xproto
    import xcffib.xtest
except ImportError as error:  # pragma: no cover (where the extra is missing)
    raise MissingProgram("an X guest needs xcffib: pip install 'aiospice[guests]'") from error

if TYPE_CHECKING:
    from aiospice.guests.font import Pixels
    from aiospice.guests.xvfb import Cookie

__all__ = ["Input", "News", "XScreen"]

_KEY, _BUTTON, _MOTION = 2, 4, 6  # press; the release is the next number
_RELATIVE = 1
_Z_PIXMAP, _ALL_PLANES = 2, 0xFFFFFFFF
#: More damaged rectangles than this are fetched as one.
_MANY_RECTS = 40
_LED_LOCKS = {1: 4, 2: 2, 4: 1}  # X: caps, num, scroll; SPICE numbers them the other way
_LOCK_KEYS = {4: 66, 2: 77, 1: 78}


class Input(NamedTuple):
    """One event for XTEST: kind ``key``, ``button``, ``place`` or ``motion``."""

    kind: str
    a: int
    b: int


class News(NamedTuple):
    """What has happened on the screen since the last time."""

    size: tuple[int, int]
    #: Where pixels have changed, and the pixels: uint8, (height, width, 4), BGRX.
    parts: list[tuple[Rect, Pixels]]
    #: The pointer, if it is another one: BGRA with alpha multiplied in, and its hot spot.
    cursor: tuple[Pixels, int, int] | None
    locks: int
    #: There is more to be told already.
    more: bool

    @property
    def empty(self) -> bool:
        """Whether nothing has happened."""
        return not self.parts and self.cursor is None and not self.more


class _Connection(xcffib.Connection):  # type: ignore[misc]
    """A connection with a cookie, whose memory is kept until it has been sent."""

    def __init__(self, display: str, cookie: Cookie) -> None:
        ffi, lib = xcffib.ffi, xcffib.lib
        name, data = (ffi.new("char[]", part) for part in cookie)
        info = ffi.new("xcb_auth_info_t *")
        info.name, info.namelen = name, len(cookie.name)
        info.data, info.datalen = data, len(cookie.data)
        number = ffi.new("int *")
        self._conn = lib.xcb_connect_to_display_with_auth_info(display.encode(), info, number)
        self.pref_screen = number[0]
        self.invalid()
        self._init_x()


class XScreen:
    """A connection to an X server, and its first screen."""

    def __init__(self, display: str | None, cookie: Cookie | None = None) -> None:
        """Connect; without a cookie as other X programs do. Raises `LocalError` if that fails."""
        where = display or "the X server of DISPLAY"
        try:
            if cookie is None or display is None:
                self._x: Any = xcffib.Connection(display)
            else:
                self._x = _Connection(display, cookie)
        except xcffib.XcffibException as error:
            raise LocalError(f"{where}: no connection: {error}") from error
        self._shared: SharedMemory | None = None
        try:
            self._extensions(where)
            self._screen = self._x.get_setup().roots[self._x.pref_screen]
            self._root = self._screen.root
            self._check_pixels(where)
            self.size = (self._screen.width_in_pixels, self._screen.height_in_pixels)
            self._watch()
        except xcffib.XcffibException as error:
            self.close()
            raise LocalError(f"{where}: {type(error).__name__}: {error}") from error
        except LocalError:
            self.close()
            raise

    def _extensions(self, where: str) -> None:
        """Get the extensions; each wants to be asked for its version before anything else."""
        ask = {
            "MIT-SHM": (xcffib.shm, ()),
            "DAMAGE": (xcffib.damage, (1, 1)),
            "XTEST": (xcffib.xtest, (2, 2)),
            "XFIXES": (xcffib.xfixes, (4, 0)),
            "RANDR": (xcffib.randr, (1, 3)),
        }
        found = []
        for name, (module, version) in ask.items():
            if not self._x.core.QueryExtension(len(name), name).reply().present:
                raise LocalError(f"{where} has no extension {name}, which a guest needs")
            extension = self._x(module.key)
            if module is xcffib.xtest:
                extension.GetVersion(*version).reply()
            else:
                extension.QueryVersion(*version).reply()
            found.append(extension)
        self._shm, self._damage, self._test, self._fixes, self._randr = found

    def _check_pixels(self, where: str) -> None:
        setup = self._x.get_setup()
        depth = self._screen.root_depth
        bits = next(f.bits_per_pixel for f in setup.pixmap_formats if f.depth == depth)
        if depth != 24 or bits != 32 or setup.image_byte_order != 0:
            raise LocalError(
                f"{where} has pixels of {depth} bits; 24 in 32, low byte first, are shown"
            )

    def _watch(self) -> None:
        """Ask for what is to be told of."""
        self._area = self._x.generate_id()
        level = xcffib.damage.ReportLevel.DeltaRectangles
        self._damage.Create(self._area, self._root, level, is_checked=True).check()
        self._fixes.SelectCursorInput(self._root, 1, is_checked=True).check()
        change = xcffib.randr.NotifyMask.ScreenChange
        self._randr.SelectInput(self._root, change, is_checked=True).check()
        self._segment = self._x.generate_id()
        self._pending: list[Rect] = [Rect(0, 0, *self.size)]
        self._cursor_changed = True
        self._lights = 0

    @property
    def descriptor(self) -> int:
        """What becomes readable when the server has said something."""
        found: int = self._x.get_file_descriptor()
        return found

    def close(self) -> None:
        """Leave the server."""
        self._x.disconnect()
        if self._shared is not None:
            self._shared.close()
            self._shared = None

    # -- out -----------------------------------------------------------------------------------

    def news(self) -> News:
        """Return what has changed. Raises `SessionLost` when the server has gone."""
        try:
            self._read_events()
            rects, self._pending = self._pending, []
            if rects:
                # From here on changes are told again, so that none falls between.
                self._damage.Subtract(self._area, 0, 0)
            size, parts = self.size, self._fetch(rects)
            cursor, locks = self._cursor(), self._locks()
            # Replies were read: events that came before them wait here, and not in the socket.
            self._read_events()
            return News(size, parts, cursor, locks, bool(self._pending or self._cursor_changed))
        except xcffib.ConnectionException as error:
            raise SessionLost(f"the X server has gone: {error}") from error
        except xcffib.XcffibException:  # most likely the size has changed
            self._look_at_size()
            self._pending = [Rect(0, 0, *self.size)]
            return News(self.size, [], None, self._lights, True)

    def _read_events(self) -> None:
        while (event := self._x.poll_for_event()) is not None:
            if isinstance(event, xcffib.damage.NotifyEvent):
                area = event.area
                self._pending.append(Rect(area.x, area.y, area.width, area.height))
            elif isinstance(event, xcffib.randr.ScreenChangeNotifyEvent):
                self._look_at_size()
            elif isinstance(event, xcffib.xfixes.CursorNotifyEvent):
                self._cursor_changed = True

    def _look_at_size(self) -> None:
        found = self._x.core.GetGeometry(self._root).reply()
        if (found.width, found.height) != self.size:
            self.size = (found.width, found.height)
            self._pending = [Rect(0, 0, *self.size)]

    def _fetch(self, rects: list[Rect]) -> list[tuple[Rect, Pixels]]:
        """Have pixels written into the shared memory, one part behind the other, and copy them."""
        screen = Rect(0, 0, *self.size)
        rects = [part for part in (rect.common(screen) for rect in rects) if not part.empty]
        if (
            len(rects) > _MANY_RECTS
            or sum(r.width * r.height for r in rects) > screen.width * screen.height
        ):
            left, top = min(r.x for r in rects), min(r.y for r in rects)
            right, bottom = max(r.right for r in rects), max(r.bottom for r in rects)
            rects = [Rect(left, top, right - left, bottom - top)]
        memory = self._memory(4 * screen.width * screen.height)
        asked, offset = [], 0
        for rect in rects:
            request = (*rect, _ALL_PLANES, _Z_PIXMAP, self._segment, offset)
            asked.append((rect, offset, self._shm.GetImage(self._root, *request)))
            offset += 4 * rect.width * rect.height
        parts, failed = [], None
        for rect, start, cookie in asked:
            try:
                cookie.reply()
            except xcffib.Error as error:
                failed = error  # every answer is waited for
                continue
            size = 4 * rect.width * rect.height
            pixels = np.frombuffer(memory.data, np.uint8, size, start)
            parts.append((rect, pixels.reshape(rect.height, rect.width, 4).copy()))
        if failed is not None:
            raise failed
        return parts

    def _memory(self, size: int) -> SharedMemory:
        if self._shared is None or self._shared.size < size:
            if self._shared is not None:
                self._shm.Detach(self._segment, is_checked=True).check()
                self._shared.close()
            self._shared = SharedMemory(size)
            try:
                self._shm.Attach(self._segment, self._shared.number, 0, is_checked=True).check()
            finally:
                self._shared.forget()
        return self._shared

    def _cursor(self) -> tuple[Pixels, int, int] | None:
        if not self._cursor_changed:
            return None
        self._cursor_changed = False
        found = self._fixes.GetCursorImage().reply()
        words = np.array(list(found.cursor_image), "<u4").reshape(found.height, found.width)
        return words.view(np.uint8).reshape(found.height, found.width, 4), found.xhot, found.yhot

    def _locks(self) -> int:
        leds = self._x.core.GetKeyboardControl().reply().led_mask
        self._lights = sum(lock for led, lock in _LED_LOCKS.items() if leds & led)
        return self._lights

    # -- in ------------------------------------------------------------------------------------

    def inject(self, inputs: list[Input]) -> tuple[int, int]:
        """Press, release and move; return where the pointer is then."""
        try:
            for kind, a, b in inputs:
                if kind == "place":
                    self._fake(_MOTION, 0, a, b)
                elif kind == "motion":
                    self._fake(_MOTION, _RELATIVE, a, b)
                else:
                    self._fake((_KEY if kind == "key" else _BUTTON) + (not b), a)
            pointer = self._x.core.QueryPointer(self._root).reply()
        except xcffib.XcffibException as error:
            raise SessionLost(f"the X server has gone: {error}") from error
        return pointer.root_x, pointer.root_y

    def _fake(self, kind: int, detail: int, x: int = 0, y: int = 0) -> None:
        limit = 0x7FFF
        x, y = min(max(x, -limit), limit), min(max(y, -limit), limit)
        self._test.FakeInput(kind, detail, 0, self._root, x, y, 0)

    def set_locks(self, locks: int) -> None:
        """Press lock keys until the keyboard's lights are as wanted, as far as they go."""
        differing = self._locks() ^ locks
        keys = [key for lock, key in _LOCK_KEYS.items() if differing & lock]
        self.inject([Input("key", key, down) for key in keys for down in (1, 0)])

    def resize(self, width: int, height: int) -> None:
        """Give the screen another size, if the server can. Raises `LocalError` if not."""
        try:
            self._resize(width, height)
        except xcffib.ConnectionException as error:
            raise SessionLost(f"the X server has gone: {error}") from error
        except (xcffib.XcffibException, IndexError) as error:
            raise LocalError(f"the X server takes no size of {width}x{height}") from error

    def _resize(self, width: int, height: int) -> None:
        found = self._randr.GetScreenResources(self._root).reply()
        crtc, output, stamp = found.crtcs[0], found.outputs[0], found.config_timestamp
        modes = {(mode.width, mode.height): mode.id for mode in found.modes}
        before = self._randr.GetCrtcInfo(crtc, stamp).reply().mode
        mode = modes.get((width, height)) or self._new_mode(output, width, height)
        self._randr.SetCrtcConfig(crtc, 0, stamp, 0, 0, 0, 1, 0, []).reply()
        millimetres = (width * 254 // 960, height * 254 // 960)
        self._randr.SetScreenSize(self._root, width, height, *millimetres, is_checked=True).check()
        self._randr.SetCrtcConfig(crtc, 0, stamp, 0, 0, mode, 1, 1, [output]).reply()
        if before and before != mode and before != found.modes[0].id:  # that one is the server's
            self._randr.DeleteOutputMode(output, before)
            self._randr.DestroyMode(before)
        self._look_at_size()

    def _new_mode(self, output: int, width: int, height: int) -> int:
        name = f"{width}x{height}".encode()
        size = (0, width, height, 0, 0, 0, 0, 0, 0, 0, 0, len(name), 0)
        info = xcffib.randr.ModeInfo.synthetic(*size)
        mode: int = self._randr.CreateMode(self._root, info, len(name), name).reply().mode
        self._randr.AddOutputMode(output, mode, is_checked=True).check()
        return mode
