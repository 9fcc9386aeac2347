"""The protocol reference, printed from the declarations: ``python -m aiospice.proof.reference``.

Everything on the page is read from `aiospice.wire`: what the code reads and writes is what the
page says. ``make docs`` writes it to ``docs/protocol.md``, and a test compares the two.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from aiospice.proof.expressions import expression
from aiospice.wire import agent, agent_stream, caps, fields, handover, link
from aiospice.wire.channels import CHANNEL_LIMITS, ChannelType, channel_name
from aiospice.wire.message import Message
from aiospice.wire.record import Record
from aiospice.wire.registry import MODULES, load_all

if TYPE_CHECKING:
    from enum import IntEnum

__all__ = ["render"]

_INTRO = """\
# Protocol reference

Written by `make docs` from the declarations in `src/aiospice/wire`; not to be edited by hand.

All numbers are little endian and nothing is padded. `u8` to `u64` are unsigned, `i16` to `i64`
signed. A *pointer* is a `u32` that counts bytes from the first byte of the message body to what it
points to, behind the fixed part; 0 stands for nothing. A *record* of a hand-over counts its
pointers the same way. A limit is what aiospice accepts; a field beyond it ends the connection with
an error that names message, field and offset.

A message stands behind a header. Full (18 bytes): `u64` serial, `u16` number, `u32` size of the
body, `u32` offset of a list of sub-messages. Mini (6 bytes): `u16` number, `u32` size; used when
both sides announce the capability `MINI_HEADER`. Bytes behind the last field are left alone unless
a message says otherwise, since newer peers may send more.
"""
_SIGNS = "BHIQbhiq"
_NUMBER_TYPES = dict(
    zip(_SIGNS, ("u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"), strict=True)
)
_SENDERS = (("server", "From the server"), ("client", "From the client"))
_CAP_SETS: tuple[tuple[str, type[IntEnum]], ...] = (
    ("every channel", caps.CommonCap),
    ("main", caps.MainCap),
    ("display", caps.DisplayCap),
    ("inputs", caps.InputsCap),
    ("playback", caps.PlaybackCap),
    ("record", caps.RecordCap),
    ("usbredir, port and webdav", caps.VmcCap),
)


class _Page:
    """The page as it grows, and what it has referred to: structures and names of numbers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.records: list[type[Record]] = []
        self.enums: set[type[IntEnum]] = set()

    def add(self, *lines: str) -> None:
        """Add lines."""
        self.lines += lines

    def record(self, kind: type[Record]) -> str:
        """A link to a structure, which is then described once, at the end."""
        if kind not in self.records:
            self.records.append(kind)
        return f"[{kind.__name__}](#{kind.__name__.lower()})"

    def enum(self, kind: type[IntEnum]) -> str:
        """A link to the names of a number."""
        self.enums.add(kind)
        return f"[{kind.__name__}](#{kind.__name__.lower()})"

    def describe(self, kind: type[Record]) -> None:
        """Add a structure's text and its fields."""
        self.add("", *_doc(kind), "")
        declared = kind.fields()
        if not declared:
            self.add("No fields.")
            return
        self.add("| field | what |", "| --- | --- |")
        for field in declared:
            self.add(f"| `{field.name}` | {_cell(_what(field, kind, self))} |")


def _doc(described: object) -> list[str]:
    """The docstring, with the literals of reStructuredText as those of Markdown."""
    text = inspect.cleandoc(described.__doc__ or "")
    return re.sub(r"``([^`]+)``", r"`\1`", text).replace("\n::\n", "\n").splitlines()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# -- fields ------------------------------------------------------------------------------------


def _what(field: Any, kind: type[Record], page: _Page) -> str:
    """What a field is, as one line of Markdown."""
    for base in type(field).__mro__:
        describe = _DESCRIBE.get(base.__name__)
        if describe is not None:
            return str(describe(field, kind, page))
    return _own_words(field, kind, page)


def _own_words(field: Any, kind: type[Record], page: _Page) -> str:
    """A field of a module's own says in its docstring what it is."""
    return " ".join(" ".join(_doc(type(field))).split()).rstrip(".")


def _number(field: fields.Number, kind: type[Record], page: _Page) -> str:
    text = f"`{_NUMBER_TYPES[field.fmt]}`"
    if field.names is not None:
        text += f", {'bits of' if field.names_are_bits else 'one of'} {page.enum(field.names)}"
    return text + _limit(field)


def _limit(field: fields.Number) -> str:
    widest = fields._RANGES[field.fmt][1]
    return f", at most {field.high:,}" if field.high != widest else ""


def _counter(field: fields.Counter, kind: type[Record], page: _Page) -> str:
    target: Any = next((other for other in kind.fields() if other.name == field.of), None)
    inner = target.inner if isinstance(target, fields.When) else target
    of_bytes = isinstance(inner, (fields.Block, fields.PointerBytes, fields.Rest))
    text = f"`{_NUMBER_TYPES[field.fmt]}`, {'bytes' if of_bytes else 'number'} of `{field.of}`"
    if field.extra:
        text += f" plus {field.extra}; 0 if there are none"
    return text + _limit(field)


def _pointer(field: fields.Pointer, kind: type[Record], page: _Page) -> str:
    return f"pointer to {page.record(field.record)}, {'not 0' if field.required else 'may be 0'}"


def _pointer_bytes(field: fields.PointerBytes, kind: type[Record], page: _Page) -> str:
    end = ", the last of them a NUL" if field.terminated else ""
    return f"pointer to `{field.size}` bytes{end}"


def _block(field: fields.Block, kind: type[Record], page: _Page) -> str:
    size = field.size if isinstance(field.size, str) else expression(field.size)
    return f"`{size}` bytes"


def _when(field: fields.When, kind: type[Record], page: _Page) -> str:
    field.inner.name = field.name
    return f"{_what(field.inner, kind, page)}; only if `{expression(field.condition)}`"


def _kinds(records: Any, page: _Page) -> str:
    parts = []
    for key, record in records.items():
        name = getattr(key, "name", str(key))
        parts.append(f"{name}: {page.record(record) if record is not None else 'nothing'}")
    return ", ".join(parts)


def _choice(field: fields.Choice, kind: type[Record], page: _Page) -> str:
    other = "an error" if field.unknown == "error" else "nothing"
    return (
        f"by `{expression(field.select)}`: {_kinds(field.records, page)}; for anything else {other}"
    )


def _choice_array(field: fields.ChoiceArray, kind: type[Record], page: _Page) -> str:
    chosen = _kinds(field.records, page)
    return f"`{field.count}` structures, by `{expression(field.select)}`: {chosen}"


def _constant(field: Any, kind: type[Record], page: _Page) -> str:
    value: bytes = field.value
    if value.isalpha():
        return f"the letters `{value.decode()}`"
    return f"`u{8 * len(value)}`, always {int.from_bytes(value, 'little')}"


def _caps(field: Any, kind: type[Record], page: _Page) -> str:
    behind = f" behind `{field.after}` words" if field.after else ""
    return f"`{field.count}` x `u32`, at `caps_offset`{behind}"


_DESCRIBE: dict[str, Any] = {
    "Counter": _counter,
    "Number": _number,
    "Nested": lambda field, kind, page: f"{page.record(field.record)}, in place",
    "FixedBytes": lambda field, kind, page: f"{field.size} bytes",
    "Rest": lambda field, kind, page: "all bytes that are left",
    "Block": _block,
    "NumberArray": lambda field, kind, page: f"`{field.count}` x `{_NUMBER_TYPES[field.item]}`",
    "RecordArray": lambda field, kind, page: f"`{field.count}` x {page.record(field.record)}",
    "Pointer": _pointer,
    "PointerBytes": _pointer_bytes,
    "PointerNumbers": lambda field, kind, page: (
        f"pointer to `{field.count}` x `{_NUMBER_TYPES[field.item]}`"
    ),
    "When": _when,
    "Choice": _choice,
    "ChoiceArray": _choice_array,
    "_Caps": _caps,
    "_Constant": _constant,
    "_Padding": lambda field, kind, page: f"{field.size} bytes without meaning, written as 0",
    "_RestNumbers": lambda field, kind, page: f"all `{_NUMBER_TYPES[field.item]}` that are left",
}


# -- chapters ----------------------------------------------------------------------------------


def _link(page: _Page) -> None:
    page.add("", "## Link", "", *_doc(link))
    version = f"{link.MAJOR_VERSION}.{link.MINOR_VERSION}"
    page.add("", f"The magic is `{link.MAGIC_BYTES.decode()}`, the version {version}.")
    for kind in (link.LinkHeader, link.LinkMessage, link.LinkReply):
        page.add("", f"### {kind.__name__}")
        page.describe(kind)
        if kind.limit is not None:
            page.add("", f"At most {kind.limit:,} bytes.")


def _capabilities(page: _Page) -> None:
    page.add("", "## Capabilities", "", "Bit numbers, by the channel that announces them.")
    for who, names in _CAP_SETS:
        page.add("", f"### Capabilities of {who}", "", "| bit | name |", "| --- | --- |")
        page.add(*(f"| {member.value} | `{member.name}` |" for member in names))


def _channels(page: _Page) -> None:
    page.add("", "## Channels", "", "The limit is that of a message's body, both ways.", "")
    page.add("| type | channel | largest body in bytes |", "| --- | --- | --- |")
    for member in ChannelType:
        limit = CHANNEL_LIMITS.get(int(member))
        shown = f"{limit:,}" if limit else "not spoken"
        page.add(f"| {int(member)} | {channel_name(int(member))} | {shown} |")


def _messages(page: _Page) -> None:
    everything = load_all()
    modules: dict[str, list[int]] = {}
    for channel, module in MODULES.items():
        modules.setdefault(module, []).append(channel)
    for channels in modules.values():
        names = ", ".join(f"{channel_name(number)} ({number})" for number in channels if number)
        page.add("", f"## Messages of {names or 'every channel'}")
        for sender, title in _SENDERS:
            kinds = {k: None for key, k in everything.items() if key[0] in channels}
            found = sorted((k for k in kinds if k.sender == sender), key=lambda k: k.number)
            if found:
                page.add("", f"### {title}: {names or 'every channel'}")
            for kind in found:
                _message(page, kind, channels)


def _message(page: _Page, kind: type[Message], channels: list[int]) -> None:
    page.add("", f"#### {kind.number} {kind.__name__} ({kind.sender})")
    page.describe(kind)
    notes = []
    if set(kind.channels) != set(channels):
        notes.append(f"Only on {', '.join(channel_name(number) for number in kind.channels)}.")
    if kind.limit is not None:
        notes.append(f"At most {kind.limit:,} bytes.")
    if kind.exact:
        notes.append("Bytes behind the last field are an error.")
    if notes:
        page.add("", " ".join(notes))


def _handover(page: _Page) -> None:
    page.add("", "## Records of a hand-over", "", *_doc(handover))
    for kind in dict.fromkeys(handover.RECORDS.values()):
        names = ", ".join(channel_name(number) for number in kind.channels)
        page.add("", f"### {kind.__name__} ({names})")
        page.describe(kind)
        page.add("", f"Fixed part: {kind.fixed} bytes; the whole: at most {kind.limit:,}.")
    for surface in (handover.HeldSurface, handover.LossySurface):
        page.record(surface)


def _agent(page: _Page) -> None:
    limits = agent_stream.DEFAULT_LIMITS
    page.add("", "## Messages of the guest's agent", "", *_doc(agent_stream), "")
    page.add(
        "Header of a message: `u32` protocol (1), `u32` type, `u64` opaque, `u32` size. Header"
    )
    page.add("of a chunk: `u32` port, `u32` size. A larger message than the limit is read past.")
    for number, kind in sorted(agent.AGENT_MESSAGES.items()):
        page.add("", f"### {number} {kind.__name__} (agent)")
        page.describe(kind)
        page.add("", f"Kept up to {limits.get(number, limits[0]):,} bytes.")
    for inner in (agent.NotEnoughSpace, agent.GlibError):
        page.record(inner)
    page.add("", "### Capabilities of the agent", "", "| bit | name |", "| --- | --- |")
    page.add(*(f"| {member.value} | `{member.name}` |" for member in agent.AgentCapability))


def _structures(page: _Page) -> None:
    page.add("", "## Structures")
    done: set[type[Record]] = set()
    while todo := [kind for kind in page.records if kind not in done]:
        # Describing one may bring up others: those come in the next round, in their order.
        for kind in sorted(todo, key=lambda kind: kind.__name__):
            done.add(kind)
            page.add("", f"### {kind.__name__}")
            page.describe(kind)


def _enums(page: _Page) -> None:
    page.add("", "## Names of numbers")
    for kind in sorted(page.enums, key=lambda kind: kind.__name__):
        page.add("", f"### {kind.__name__}", "", *_doc(kind), "", "| value | name |")
        page.add("| --- | --- |")
        page.add(*(f"| {member.value} | `{member.name}` |" for member in kind))


def _trimmed(lines: Iterable[str]) -> Iterator[str]:
    """The lines without white space at their ends and without repeated empty ones."""
    last = ""
    for line in lines:
        line = line.rstrip()
        if line or last:
            yield line
        last = line


def render() -> str:
    """The page, as Markdown."""
    for module in MODULES.values():
        import_module(f"aiospice.wire.{module}")
    page = _Page()
    page.add(*_INTRO.splitlines())
    for chapter in (_link, _capabilities, _channels, _messages, _handover, _agent):
        chapter(page)
    _structures(page)
    _enums(page)
    return "\n".join(_trimmed(page.lines)).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
