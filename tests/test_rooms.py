"""The rooms of the house: who may import whom, as data, checked on every module.

``python tests/test_rooms.py --write`` writes the table into ``docs/architecture.md``.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "aiospice"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: from tests/test_rooms.py -->", "<!-- end of rooms -->"


class Room(NamedTuple):
    """A module or package right under ``aiospice`` and what it may import of ours."""

    name: str
    floor: str
    what: str
    #: Rooms (``wire``) or single modules of rooms (``wire.shapes``); itself always.
    may: tuple[str, ...]
    #: Knows neither clock, chance, threads nor sockets.
    pure: bool = False


FLOOR_0 = ("wire", "codecs")
FLOOR_1 = ("link", "channels", "devices", "agent", "canvas")
FLOOR_2 = ("migration",)
FLOOR_3 = ("client", "server")
BASE = ("errors", "effects", "events")
BELOW_3 = (*FLOOR_0, *FLOOR_1, *FLOOR_2, *BASE)
BELOW_4 = (*FLOOR_0, *FLOOR_1, *FLOOR_2, *FLOOR_3, *BASE)
WORLD = ("sim", "aio", "guests", "proof", "web")

ROOMS = (
    Room("errors", "-", "one error tree, split by blame", (), pure=True),
    Room("effects", "-", "what a core may ask of the world", (), pure=True),
    Room("events", "-", "what a core tells", (), pure=True),
    Room("_cython", "-", "what kernels use of Cython where they run uncompiled", (), pure=True),
    Room("wire", "0", "bytes and messages", ("errors",), pure=True),
    Room("codecs", "0", "compressed images and rows of pixels", ("errors", "_cython"), pure=True),
    Room("link", "1", "the handshake before a channel opens", ("wire", "errors"), pure=True),
    Room(
        "channels",
        "1",
        "one open channel, both ends",
        ("wire", "events", "errors", "_cython"),
        pure=True,
    ),
    Room("devices", "1", "character devices and their tokens", ("wire", "errors"), pure=True),
    Room("agent", "1", "the guest agent's protocol", ("wire", "events", "errors"), pure=True),
    Room(
        "canvas",
        "1",
        "surfaces, regions, raster operations",
        ("wire.shapes", "wire.display", "errors", "_cython"),
        pure=True,
    ),
    Room(
        "migration",
        "2",
        "the hand-over: source, target, client",
        (*FLOOR_0, *FLOOR_1, *BASE),
        pure=True,
    ),
    Room("client", "3", "a client's session of many channels", (*BELOW_3, "_cython"), pure=True),
    Room("server", "3", "a server's session of many channels", (*BELOW_3, "_cython"), pure=True),
    Room("sim", "4", "virtual clock, network and guest", BELOW_4, pure=True),
    Room("aio", "4", "sockets, TLS, tasks", BELOW_4),
    Room(
        "guests",
        "4",
        "what a server can show",
        ("server.guest", "agent", "devices", "aio", "errors"),
    ),
    Room("proof", "4", "demo, lab, bench, rigs", (*BELOW_4, *WORLD, "aiospice")),
    Room("web", "4", "the viewer page and its bridge", ("aio", "client", "errors")),
    Room("cli", "4", "the verbs", (*BELOW_4, *WORLD, "aiospice")),
    Room("aiospice", "4", "the public names, loaded on demand", (*BELOW_4, *WORLD)),
)
BY_NAME = {room.name: room for room in ROOMS}

#: What a pure room must be handed instead.
BANNED_MODULES = frozenset(
    (
        *("asyncio", "concurrent", "multiprocessing", "subprocess", "threading"),
        *("select", "selectors", "signal", "socket", "ssl"),
        *("random", "secrets", "time"),
    )
)
BANNED_NAMES = frozenset({"os.urandom", "os.getrandom"})

CIMPORT = re.compile(r"^\s*#?\s*(?:from\s+([\w.]+)\s+)?cimport\s+([\w.]+)", re.MULTILINE)


class Import(NamedTuple):
    """One imported module or name, dotted and absolute, and the line it stands on."""

    target: str
    line: int


def base_of(node: ast.ImportFrom, path: Path, package: Path) -> str:
    """Return the absolute module a ``from`` import starts at."""
    if not node.level:
        return node.module or ""
    folder = list(path.relative_to(package.parent).parts[:-1])
    folder = folder[: len(folder) - (node.level - 1)]
    return ".".join([*folder, *((node.module,) if node.module else ())])


def imports(path: Path, package: Path = PACKAGE) -> Iterator[Import]:
    """Yield all a module imports: everywhere in it, for type checking only, cimports too."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = base_of(node, path, package)
                names = [f"{base}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                yield Import(name.removeprefix("cython.cimports."), node.lineno)
    for match in CIMPORT.finditer(text):
        target = f"{match[1]}.{match[2]}" if match[1] else match[2]
        yield Import(target, text.count("\n", 0, match.start()) + 1)


def room_of(name: str) -> str:
    """Return the room of an imported name of ours (``aiospice.wire.display`` is in ``wire``)."""
    parts = name.split(".")
    if len(parts) > 2 or (len(parts) == 2 and parts[1] in BY_NAME):
        return parts[1]
    return "aiospice"  # the package itself, or a name that it gives out


def home_of(path: Path, package: Path) -> str:
    """Return the room a source file is in."""
    first = path.relative_to(package).parts[0].split(".")[0]
    return {"__init__": "aiospice", "__main__": "cli"}.get(first, first)


def allowed(room: Room, target: str) -> bool:
    """Tell whether the room may import the dotted name of ours."""
    other = room_of(target)
    inner = target.removeprefix("aiospice.")
    return (
        other == room.name
        or other in room.may
        or any("." in part and (inner + ".").startswith(part + ".") for part in room.may)
    )


def breaches(path: Path, package: Path = PACKAGE) -> list[str]:
    """Return what a source file imports and must not, one line a breach."""
    where = path.relative_to(package.parent).as_posix()
    room = BY_NAME.get(home_of(path, package))
    if room is None:
        return [f"{where}: no room of that name; add it to the table, or move the file"]
    found = []
    for target, line in imports(path, package):
        if target.split(".")[0] == "aiospice":
            if not allowed(room, target):
                found.append(f"{where}:{line}: {room.name} must not import {target}")
        elif room.pure and (target.split(".")[0] in BANNED_MODULES or target in BANNED_NAMES):
            found.append(f"{where}:{line}: {room.name} is pure and must not import {target}")
    if room.pure and path.suffix == ".py":
        found += [
            f"{where}:{node.lineno}: {room.name} is pure and must not use {ast.unparse(node)}"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute) and ast.unparse(node) in BANNED_NAMES
        ]
    return found


def sources() -> list[Path]:
    """Return every source file of the package."""
    return sorted(p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".pxd", ".pyx"))


def table() -> str:
    """Return the room table as Markdown."""
    lines = [
        "| room | floor | what is in it | may import | pure |",
        "| --- | --- | --- | --- | --- |",
    ]
    for room in ROOMS:
        may = ", ".join(f"`{name}`" for name in room.may) or "nothing"
        pure = "yes" if room.pure else ""
        lines.append(f"| `{room.name}` | {room.floor} | {room.what} | {may} | {pure} |")
    return "\n".join(lines)


def page_with_table(text: str) -> str:
    """Return the text of the page with the table of now between its two marks."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    assert breaches(path) == []


def test_nothing_may_import_the_verbs() -> None:
    assert [room.name for room in ROOMS if "cli" in room.may] == []


def test_rooms_of_one_pure_floor_do_not_import_each_other() -> None:
    for room in ROOMS:
        if room.floor in "0123":
            assert not [n for n in room.may if BY_NAME[n.split(".")[0]].floor == room.floor]


def test_the_page_shows_the_table_that_is_checked() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page_with_table(text), "run: python tests/test_rooms.py --write"


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("wire/x.py", "from aiospice import effects"),
        ("wire/x.py", "from .. import effects"),
        ("wire/x.py", "from ..codecs import lz"),
        ("wire/x.py", "import aiospice.codecs.lz"),
        ("wire/x.py", "from aiospice import connect"),
        ("wire/__init__.py", "from ..link.client import Link"),
        ("wire/x.py", "def f():\n    from ..codecs.lz import go"),
        ("client/x.py", "if TYPE_CHECKING:\n    from aiospice.server.session import Server"),
        ("codecs/x.py", "from cython.cimports.aiospice.canvas import blit"),
        ("codecs/x.pxd", "from aiospice.canvas.blit cimport row"),
        ("codecs/x.py", "# cimport aiospice.canvas"),
        ("canvas/x.py", "from ..wire import Rect"),
        ("canvas/x.py", "from ..wire.main import Init"),
        ("guests/x.py", "from ..server.session import Session"),
        ("aio/x.py", "from ..cli import main"),
        ("proof/x.py", "from aiospice.cli.main import main"),
        ("link/x.py", "import asyncio.streams"),
        ("link/x.py", "from time import monotonic"),
        ("link/x.py", "import os\nKEY = os.urandom(8)"),
        ("link/x.py", "from os import urandom"),
        ("sim/x.py", "import asyncio"),
        ("attic/x.py", ""),
    ],
)
def test_a_breach_is_found(tmp_path: Path, module: str, line: str) -> None:
    path = tmp_path / "aiospice" / module
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    assert len(breaches(path, tmp_path / "aiospice")) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("wire/x.py", "from .reader import Reader\nfrom ..errors import DecodeError\nimport os"),
        ("wire/__init__.py", "from . import main\nfrom .main import Init"),
        ("canvas/x.py", "from ..wire.shapes import Rect\nfrom ..wire import display"),
        ("guests/x.py", "from ..server.guest import Guest"),
        ("aio/x.py", "import asyncio\nfrom ..client.config import ClientConfig"),
        ("cli/x.py", "import aiospice\nfrom aiospice import connect\nfrom ..proof import demo"),
        ("__main__.py", "from .cli.main import main"),
    ],
)
def test_what_a_room_may_import_is_no_breach(tmp_path: Path, module: str, line: str) -> None:
    path = tmp_path / "aiospice" / module
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line + "\n")
    assert breaches(path, tmp_path / "aiospice") == []


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(table() + "\n")
