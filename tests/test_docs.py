"""What the documentation says, held against the code.

``python tests/test_docs.py --write`` writes the tables of events into ``docs/python.md`` and
``docs/serving.md``.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import io
import pkgutil
import re
import shlex
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import aiospice
from aiospice import errors
from aiospice.agent.client import AgentPhase
from aiospice.agent.transfers import TransferPhase
from aiospice.channels.base import ChannelPhase
from aiospice.channels.events import Event, kind_of
from aiospice.channels.server.base import ServerPhase
from aiospice.cli.main import VERBS
from aiospice.client import moving, session
from aiospice.client.config import ClientConfig
from aiospice.link.client import LinkPhase
from aiospice.migration import client as migration
from aiospice.migration.client import MigrationPhase
from aiospice.migration.link_source import SourceLinkPhase
from aiospice.migration.link_target import TargetLinkPhase
from aiospice.migration.source import SourcePhase
from aiospice.migration.target import ArrivalStage
from aiospice.proof import reference
from aiospice.proof.expressions import expression
from aiospice.wire.registry import load_all

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *sorted(ROOT.glob("*.md"))]
HAND_WRITTEN = [page for page in PAGES if page.name != "protocol.md"]
BEGIN, END = "<!-- events: from tests/test_docs.py -->", "<!-- end of events -->"

#: Events between the cores, which no user gets.
INTERNAL = {
    *("MigrationRequested", "DisplayBatch", "DisplayMessage", "CursorMessage", "DeviceData"),
    "ClipboardData",
}
#: The page that has the table, and the rooms whose events it tells.
EVENT_PAGES = {
    "python.md": ("channels", "agent", "migration", "client", "aio"),
    "serving.md": ("server",),
}

#: Modules of the hand-over whose events a server tells.
SERVERS = ("source", "target", "link_source", "link_target")

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def label(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[str]:
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for language, text in found if language in languages]


def rows(text: str) -> list[list[str]]:
    """The cells of all tables of a page."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def section(text: str, title: str) -> str:
    """What stands under a heading of the second level."""
    return re.split(r"^## ", text.split(f"\n## {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


# -- the generated parts -----------------------------------------------------------------------


def events(*rooms: str) -> list[type[Event]]:
    """Every kind of event of these rooms that a user can get."""
    for room in rooms:
        package = importlib.import_module(f"aiospice.{room}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"aiospice.{room}.{module.name}")
    found: set[type[Event]] = set()
    pending = [Event]
    while pending:
        kinds = pending.pop().__subclasses__()
        pending += kinds
        found.update(kinds)
    return sorted(
        {kind for kind in found if room_of(kind) in rooms and is_for_users(kind)},
        key=lambda kind: kind.__name__,
    )


def room_of(kind: type[Event]) -> str:
    """The room of a kind of event, none for those of a server's end of a channel or the agent."""
    parts = kind.__module__.split(".")
    inner = "server" in parts[2:] or parts[-1] == "guest_events"
    if parts[1] == "migration" and parts[-1] in SERVERS:  # what a server tells
        return "server"
    return "" if parts[0] != "aiospice" or inner else parts[1]


def is_for_users(kind: type[Event]) -> bool:
    from aiospice.aio.serve import FOR_THE_GUEST

    hidden = kind.__name__ in INTERNAL or issubclass(kind, FOR_THE_GUEST)
    return not hidden and kind.__name__[0] != "_"


def event_table(*rooms: str) -> str:
    lines = ["| kind | attributes | means |", "| --- | --- | --- |"]
    for kind in events(*rooms):
        names = ", ".join(f"`{name}`" for name in kind._names)
        text = " ".join((kind.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")
        lines.append(f"| `{kind_of(kind.__name__)}` | {names} | {text} |")
    return "\n".join(lines)


def page_with_events(name: str) -> str:
    before, rest = read(name).split(BEGIN)
    return f"{before}{BEGIN}\n{event_table(*EVENT_PAGES[name])}\n{END}{rest.split(END)[1]}"


def test_the_protocol_reference_is_that_of_the_declarations() -> None:
    assert read("protocol.md") == reference.render(), "run: make docs"


def test_the_protocol_reference_has_every_message_and_field() -> None:
    text = read("protocol.md")
    for kind in set(load_all().values()):
        heading = f"#### {kind.number} {kind.__name__} ({kind.sender})\n"
        assert heading in text
        parts = text.split(heading)[1:]  # a name may stand for messages of several channels
        fields = {f"| `{field.name}` | " for field in kind.fields()}
        assert any(fields <= set(re.findall(r"^\| `\w+` \| ", p, re.MULTILINE)) for p in parts)


def test_the_protocol_reference_describes_all_that_it_refers_to() -> None:
    text = read("protocol.md")
    headings = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert len(headings) == len(set(headings))
    assert {target[1:] for target in LINK.findall(text)} <= {name.lower() for name in headings}


LIMIT = 3


def _plain(values: dict[str, Any]) -> bool:
    return bool(values["flags"] & LIMIT)


def _made(bit: int) -> Any:
    return lambda values: not values["flags"] & bit


def _sized(bits: int, values: dict[str, Any]) -> int:
    size: int = values["width"] * bits
    return size


_called = lambda values: _sized(4, values)  # noqa: E731


def _too_long_for_one(values: dict[str, Any]) -> int:
    for bit in (1, 2):
        if values["flags"] & bit:
            return bit
    return 0


def test_a_condition_reads_as_it_was_written() -> None:
    assert expression(_plain) == "flags & LIMIT"
    assert expression(_made(8)) == "not flags & 8"
    assert expression(_called) == "width * 4"
    assert expression(_too_long_for_one) == "too long for one"


@pytest.mark.parametrize("name", EVENT_PAGES)
def test_the_events_are_those_of_the_code(name: str) -> None:
    assert read(name) == page_with_events(name), "run: python tests/test_docs.py --write"


def test_events_are_named_as_they_are() -> None:
    kinds = {kind_of(kind.__name__) for kind in events(*EVENT_PAGES["python.md"])}
    told = re.findall(r"^\| `([a-z-]+)` \|", section(read("migration.md"), "Events"), re.MULTILINE)
    assert told
    assert set(told) <= kinds
    of_migration = {k for k in kinds if k.startswith("migration-")}
    assert of_migration <= set(told)


# -- what is written by hand -------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What a heading can be reached by, as GitHub makes it."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=label)
def test_python_in_the_pages_compiles_and_names_what_exists(page: Path) -> None:
    for text in blocks(page, "python"):
        compile(text, label(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                check_name(node.value.id, node.attr)
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)


def check_name(owner: str, name: str) -> None:
    """A name of the library, as the pages call its objects, must be there."""
    places: dict[str, Any] = {
        "aiospice": aiospice,
        "session": aiospice.Session,
        "port": aiospice.Port,
        "server": aiospice.Server,
        "event": Event,
    }
    assert owner not in places or hasattr(places[owner], name), f"{owner}.{name}"


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=label)
def test_indented_code_of_the_session_is_what_the_session_has(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\bsession\.(\w+)", text):
        assert hasattr(aiospice.Session, name) or name == "py", name


def test_the_pages_have_what_is_public() -> None:
    text = read("python.md")
    assert all(f"`{name}`" in text or f"aiospice.{name}" in text for name in aiospice.__all__)
    places: list[tuple[str, str, type]] = [
        ("python.md", "Session", aiospice.Session),
        ("python.md", "Port", aiospice.Port),
        ("serving.md", "Server", aiospice.Server),
    ]
    for page, title, kind in places:
        part = section(read(page), title)
        public = {name for name in vars(kind) if not name.startswith("_")}
        if title == "Port":  # what the session calls
            public -= {"feed", "drop", "end", "look"}
        if title == "Server":  # what the control socket calls
            public -= {"end"}
        assert {name for name in public if not re.search(rf"[` ]{name}[`(]", part)} == set()


def parser_of(verb: str) -> argparse.ArgumentParser:
    module = importlib.import_module(f"aiospice.cli.{VERBS[verb][0]}")
    parser = argparse.ArgumentParser(prog=f"aiospice {verb}", allow_abbrev=False)
    module.arguments(verb, parser)
    return parser


def options_of(verb: str) -> set[str]:
    actions = parser_of(verb)._actions
    return {name for action in actions for name in action.option_strings} - {"-h", "--help"}


def commands(page: Path) -> Iterator[list[str]]:
    """The command lines of aiospice in a page's blocks of shell."""
    for text in blocks(page, "sh", "console", "bash"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and words[0] == "aiospice":
                yield words[1:]


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=label)
def test_command_lines_are_understood(page: Path) -> None:
    for words in commands(page):
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            try:
                parser_of(words[0]).parse_args(words[1:])
            except SystemExit:
                pytest.fail(f"{' '.join(words)}: {said.getvalue()}")


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=label)
def test_options_named_with_a_verb_are_its_own(page: Path) -> None:
    for code in re.findall(r"`(aiospice [^`]+)`", page.read_text(encoding="utf-8")):
        verb = code.split()[1]
        if verb in VERBS:
            assert set(OPTION.findall(code)) <= options_of(verb) | {"--help"}, code


def test_the_command_page_has_every_verb_with_its_options_and_no_others() -> None:
    text = read("commands.md")
    common = set(OPTION.findall(section(text, "Options of every client verb")))
    others = ("proof", "serve", "status", "migrate", "lab")
    client_verbs = [verb for verb in VERBS if VERBS[verb][0] not in others]
    assert all(common <= options_of(verb) for verb in client_verbs)
    for verb in VERBS:
        found, own = set(OPTION.findall(section(text, verb))), options_of(verb)
        assert found <= own, verb
        assert own - (common if verb in client_verbs else set()) <= found, verb


def test_the_defaults_of_options_are_told() -> None:
    text = read("commands.md")
    for verb in VERBS:
        part = section(text, verb)
        for action in parser_of(verb)._actions:
            if action.option_strings and action.type is not None and action.default:
                assert f"({action.default:g}" in part, (verb, action.dest)
            elif isinstance(action.default, str) and action.default != argparse.SUPPRESS:
                assert f"({action.default}" in part or "as above" in part, (verb, action.dest)


def test_the_parts_of_the_bench_are_documented() -> None:
    from aiospice.proof.bench import PARTS

    assert all(f"`{part}`" in section(read("commands.md"), "bench") for part in PARTS)


def test_the_layouts_are_those_that_exist() -> None:
    from aiospice.client.keyboard import LAYOUT_NAMES

    (told,) = re.findall(r"^Layouts: (.*)\.$", read("commands.md"), re.MULTILINE)
    assert told.split(", ") == sorted(LAYOUT_NAMES)


def statuses() -> dict[str, int]:
    """The exit status of every class of error."""
    kinds = {name: getattr(errors, name) for name in errors.__all__}
    return {
        name: kind.exit_status
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, errors.AiospiceError)
    }


def test_the_errors_are_those_of_the_tree_with_their_statuses() -> None:
    told = {
        row[0].strip("`"): int(row[1]) for row in rows(read("errors.md")) if row[0].startswith("`")
    }
    assert told == statuses()


@pytest.mark.parametrize("page", [DOCS / "commands.md", ROOT / "README.md"], ids=label)
def test_the_exit_statuses_are_all_there(page: Path) -> None:
    part = re.split(r"^#+ Exit status$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
    part = re.split(r"^#", part, flags=re.MULTILINE)[0]
    used = {str(status) for status in statuses().values()}
    assert used <= set(re.findall(r"\b\d+\b", part))


def test_the_limits_of_a_migration_are_those_of_the_code() -> None:
    told = dict(re.findall(r"\(`([A-Z_]+)`\) \| ([\d.]+)", read("migration.md")))
    places = (moving, migration, session)
    names = {n for m in places for n in vars(m) if n.endswith("_SECONDS")}
    assert set(told) == names
    for name, value in told.items():
        (found,) = {getattr(m, name) for m in places if hasattr(m, name)}
        assert float(value) == found, name


def test_the_bounds_of_what_is_at_risk_are_those_of_the_code() -> None:
    from aiospice.channels import vmc

    text = read("migration.md")
    assert f"last {vmc.SERVER_MESSAGES} messages" in text
    assert f"{vmc.KERNEL_BYTES >> 20} MiB of socket buffers" in text
    assert moving.FROM_GUEST_AT_MOST == (1 << 20) + 65568 + vmc.KERNEL_BYTES


def test_the_limits_of_the_api_are_those_of_the_code() -> None:
    from aiospice.aio import port
    from aiospice.aio import session as api

    text = read("python.md")
    assert f"{port.READ_LIMIT >> 10} KiB have come" in text
    assert f"(the last {api.EARLY_LIMIT:,})" in text
    assert f"more than {api.EVENT_LIMIT:,} events" in text
    assert f"each step after it ({ClientConfig().timeout:g})" in text


@pytest.mark.parametrize("page", [DOCS / "serving.md", ROOT / "SECURITY.md"], ids=label)
def test_the_limits_of_a_server_are_those_of_the_code(page: Path) -> None:
    from aiospice.aio.serverlog import LINES_PER_SECOND
    from aiospice.server.config import Limits
    from aiospice.server.doorkeeper import DoorLimits

    text = " ".join(page.read_text(encoding="utf-8").split())
    limits = DoorLimits()
    assert f"{limits.half_links_per_host} half-open links of one address" in text
    assert f"{limits.half_links} of all are taken" in text
    assert f"After {limits.failures} wrong passwords" in text
    assert f"every {limits.failure_seconds / limits.failures:g} seconds" in text
    assert f"a link has {Limits().link:g} seconds" in text.replace("A link", "a link")
    assert f"more than {LINES_PER_SECOND}" in text
    if page.name == "SECURITY.md":
        assert f"last {limits.networks} such addresses" in text
        assert f"dropped after {Limits().stall:g} seconds" in text


def test_sasl_is_described_as_it_is() -> None:
    from aiospice.link.sasl import MECHANISMS

    assert ", ".join(MECHANISMS) in " ".join(read("connecting.md").split())


@pytest.mark.parametrize(
    "phases",
    [
        *(ChannelPhase, MigrationPhase, LinkPhase, session.SessionPhase, AgentPhase),
        *(TransferPhase, ServerPhase, SourcePhase, ArrivalStage),
        *(SourceLinkPhase, TargetLinkPhase),
    ],
    ids=lambda p: p.__name__,
)
def test_the_phases_drawn_are_those_of_the_code(phases: type[Enum]) -> None:
    text = read("architecture.md")
    part = re.split(r"^#+ ", text.split(f"\n### {phases.__name__}\n")[1], flags=re.MULTILINE)[0]
    names = {phase.name for phase in phases}
    drawn, table = part.split("```")[1], part.split("```")[2]
    assert set(re.findall(r"\b[A-Z][A-Z_]+\b", drawn)) & names == names
    assert [row[0].strip("`") for row in rows(table) if row[0].startswith("`")] == [
        phase.name for phase in phases
    ]


def test_changes_name_verbs_that_exist() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for verb in re.findall(r"`aiospice (\w+)", text):
        assert verb in VERBS, verb


def test_the_addresses_of_the_pages_can_be_read() -> None:
    from aiospice.aio.address import parse_address

    for page in (DOCS / "connecting.md", ROOT / "README.md"):
        for address in re.findall(r"^\| .*", page.read_text(encoding="utf-8"), re.MULTILINE):
            for text in re.findall(r"`((?:spice|ws|wss)[a-z+]*://[^`]+)`", address):
                filled = text.replace(":port", ":5900").replace("=...", "=x")
                assert parse_address(filled).host or parse_address(filled).unix_path


if __name__ == "__main__":
    for name, rooms in EVENT_PAGES.items():
        if sys.argv[1:] == ["--write"]:
            (DOCS / name).write_text(page_with_events(name), encoding="utf-8")
        else:
            sys.stdout.write(event_table(*rooms) + "\n")
