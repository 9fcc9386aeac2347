"""A terminal's screen: pyte's, with what programs expect of an xterm beside it.

Added are the alternate screen, lines that have scrolled off, characters repeated by number,
scrolling by number, line drawing in UTF-8 and tolerance of sequences that pyte would trip over.
"""

from __future__ import annotations

import codecs
import copy
import re
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from aiospice.errors import MissingProgram

try:
    import pyte
    from pyte.screens import Char, Margins
except ImportError as error:  # pragma: no cover (where the extra is missing)
    raise MissingProgram("the terminal needs pyte: pip install 'aiospice[guests]'") from error

__all__ = ["Char", "Row", "TerminalScreen"]

#: Cells of a line; what is behind its end is blank.
Row = tuple[Char, ...]

#: Lines that have scrolled off and are kept.
HISTORY = 2000
_BLANK = Char(" ")
_PRIVATE = 5  # bits that pyte shifts the numbers of private modes by
_ALTERNATE = {47 << _PRIVATE, 1047 << _PRIVATE, 1049 << _PRIVATE}
_MOUSE = {1000 << _PRIVATE: 1, 1002 << _PRIVATE: 2, 1003 << _PRIVATE: 3}
_CURSOR_KEYS, _SGR_MOUSE, _PASTE = (number << _PRIVATE for number in (1, 1006, 2004))

#: Sequences that pyte takes for others (private ones of xterm) or for text (strings).
_UNKNOWN = re.compile(
    r"\x1b\[[<=>][0-9;:]*[ -/]*[@-~]|\x1b[PX^_][^\x1b]*\x1b\\|\x1b\[[0-9;]*:[0-9;:]*m"
)
#: A beginning of one of them at the end of what has come.
_BEGUN = re.compile(r"\x1b(\[[<=>0-9;:]*|[PX^_][^\x1b]*\x1b?)?$")
_BEGUN_CHARS = 4096

same = lru_cache(maxsize=4096)(lambda char: char)


class _Stream(pyte.Stream):
    """Takes text; the line drawing set counts in UTF-8, too."""

    csi = pyte.Stream.csi | {
        "b": "repeat_character",
        "S": "scroll_up",
        "T": "scroll_down",
        "Z": "back_tab",
        "s": "save_cursor",
        "u": "restore_cursor",
    }
    events = pyte.Stream.events | set(csi.values())


class TerminalScreen(pyte.Screen):
    """What a program's output looks like."""

    def __init__(self, columns: int, lines: int, reply: Callable[[str], None]) -> None:
        self.history: deque[Row] = deque(maxlen=HISTORY)
        #: Lines that have gone into the history, ever.
        self.scrolled = 0
        self._main: tuple[Any, Any] | None = None
        self._last = " "
        self._reply = reply
        super().__init__(columns, lines)
        for name in set(_Stream.csi.values()) | {"set_title", "set_icon_name"}:
            setattr(self, name, _tolerant(getattr(self, name)))
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""
        self._stream = _Stream(self)
        self._stream.use_utf8 = False

    # -- in ------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take output of the program, cut anywhere."""
        text = self._begun + self._decoder.decode(data)
        text = _UNKNOWN.sub("", text)
        begun = _BEGUN.search(text[-_BEGUN_CHARS:])
        self._begun = begun.group() if begun else ""
        self._stream.feed(text[: len(text) - len(self._begun)])

    def row(self, y: int) -> Row:
        """Return a line of the screen; all its cells."""
        line: Any = self.buffer.get(y, {})
        get, blank = line.get, self.default_char
        return tuple(get(x, blank) for x in range(self.columns))

    # -- what programs may ask -----------------------------------------------------------------

    @property
    def alternate(self) -> bool:
        """Whether the alternate screen is shown, which has no history."""
        return self._main is not None

    @property
    def application_keys(self) -> bool:
        """Whether cursor keys send what applications want (DECCKM)."""
        return _CURSOR_KEYS in self.mode

    @property
    def bracketed_paste(self) -> bool:
        """Whether pasted text is to be marked."""
        return _PASTE in self.mode

    @property
    def mouse(self) -> int:
        """What of the mouse is wanted: 0 nothing, 1 buttons, 2 drags too, 3 every motion."""
        return max((level for mode, level in _MOUSE.items() if mode in self.mode), default=0)

    @property
    def mouse_in_digits(self) -> bool:
        """Whether positions are sent in digits (SGR)."""
        return _SGR_MOUSE in self.mode

    def write_process_input(self, data: str) -> None:
        """Answer a question of the program."""
        self._reply(data)

    # -- pyte's, changed -----------------------------------------------------------------------

    def draw(self, data: str) -> None:
        """Show text."""
        if data:
            self._last = data[-1]
        super().draw(data)

    def reset(self) -> None:
        """Begin anew (RIS)."""
        self._main = None
        super().reset()

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        """Take another size; the cursor's line stays, lines above it go into the history."""
        lines, columns = lines or self.lines, columns or self.columns
        drop = max(0, self.cursor.y + 1 - lines)
        if not self.alternate:
            for y in range(drop):
                self._keep(self.buffer.get(y, {}))
        kept = {y - drop: line for y, line in self.buffer.items() if 0 <= y - drop < lines}
        self.buffer.clear()
        self.buffer.update(kept)
        for line in kept.values():
            for x in [x for x in line if x >= columns]:
                del line[x]
        self.cursor.y -= drop
        self.lines, self.columns = lines, columns
        self.cursor.x = min(self.cursor.x, columns - 1)
        self.tabstops.update(range(8, columns, 8))
        self.margins = None

    def index(self) -> None:
        """Go a line down; at the end the screen scrolls and its first line becomes history."""
        whole = self.margins is None and not self.alternate
        if whole and self.cursor.y == self.lines - 1:
            self._keep(self.buffer.get(0, {}))
        super().index()

    def _keep(self, line: Any) -> None:
        end = max(line, default=-1) + 1
        self.history.append(tuple(same(line.get(x, _BLANK)) for x in range(min(end, self.columns))))
        self.scrolled += 1

    def save_cursor(self) -> None:
        """Remember the cursor; one, as terminals do."""
        self.savepoints.clear()
        super().save_cursor()

    def restore_cursor(self) -> None:
        """Go back to the remembered cursor, which stays remembered."""
        saved = list(self.savepoints)
        super().restore_cursor()
        self.savepoints[:] = [s._replace(cursor=copy.copy(s.cursor)) for s in saved]

    def set_mode(self, *modes: int, **kwargs: Any) -> None:
        """Switch modes on (but not that of 132 columns)."""
        modes = tuple(m for m in modes if m != 3 or not kwargs.get("private"))
        super().set_mode(*modes, **kwargs)
        if kwargs.get("private") and _ALTERNATE & {mode << _PRIVATE for mode in modes}:
            self._to_alternate()

    def reset_mode(self, *modes: int, **kwargs: Any) -> None:
        """Switch modes off."""
        super().reset_mode(*modes, **kwargs)
        if kwargs.get("private") and _ALTERNATE & {mode << _PRIVATE for mode in modes}:
            self._to_main()

    def _to_alternate(self) -> None:
        if self._main is None:
            self._main = (dict(self.buffer), copy.copy(self.cursor))
            self.buffer.clear()
            self.dirty.update(range(self.lines))

    def _to_main(self) -> None:
        if self._main is not None:
            lines, self.cursor = self._main
            self._main = None
            self.buffer.clear()
            self.buffer.update({y: line for y, line in lines.items() if y < self.lines})
            self.ensure_hbounds()
            self.ensure_vbounds()

    # -- not in pyte ---------------------------------------------------------------------------

    def repeat_character(self, count: int = 1) -> None:
        """Show the last character again (REP)."""
        self.draw(self._last * min(max(count, 1), self.columns * self.lines))

    def scroll_up(self, count: int = 1) -> None:
        """Move the lines within the margins up (SU)."""
        self._scroll(count, self.delete_lines)

    def scroll_down(self, count: int = 1) -> None:
        """Move the lines within the margins down (SD)."""
        self._scroll(count, self.insert_lines)

    def _scroll(self, count: int, move: Callable[[int], None]) -> None:
        cursor = (self.cursor.x, self.cursor.y)
        self.cursor.y = (self.margins or Margins(0, self.lines - 1)).top
        move(min(max(count, 1), self.lines))
        self.cursor.x, self.cursor.y = cursor

    def back_tab(self, count: int = 1) -> None:
        """Go to the tab stop before (CBT)."""
        for _ in range(min(max(count, 1), self.columns)):
            stops = [stop for stop in self.tabstops if stop < self.cursor.x]
            self.cursor.x = max(stops, default=0)


def _tolerant(method: Callable[..., None]) -> Callable[..., None]:
    """Let a sequence with the wrong number or kind of parameters do nothing."""

    def call(*arguments: Any, **options: Any) -> None:
        try:
            method(*arguments, **options)
        except (TypeError, ValueError, LookupError, AttributeError, AssertionError):
            pass

    return call
