"""Sizes that keep the code readable, and what every file and public function owes its reader."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "aiospice"

FILE_LINES = 700
FUNCTION_LINES = 60
MEDIAN_LINES = 10

Function = ast.FunctionDef | ast.AsyncFunctionDef

#: Folders of one machine; a file of the project that names one works nowhere else.
PRIVATE_PATH = re.compile(r"(?<![\w.])/(?:" + "|".join(("work", "home")) + r")/")


def modules() -> list[Path]:
    """Return the modules of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def files() -> list[Path]:
    """Return every file of the project: the top level and the folders that are its own."""
    found = [path for path in ROOT.iterdir() if path.is_file() and path.name[:5] != ".cove"]
    for folder in ("src", "tests", "docs", ".ci"):
        found += [p for p in (ROOT / folder).rglob("*") if p.is_file()]
    built = ("__pycache__", ".egg-info")
    return sorted(p for p in found if not any(part in p.as_posix() for part in built))


def label(path: Path) -> str:
    """Return the name of a file as a test shows it."""
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[Function]:
    """Yield every function and method of a file, inner ones too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function):
            yield node


def code_lines(function: Function) -> int:
    """Return the length of a body in lines, from its first statement that isn't the docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def public_functions(path: Path) -> Iterator[Function]:
    """Yield the functions of a module and the methods of its classes that anyone may call."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    holders: list[ast.Module | ast.ClassDef] = [tree]
    holders += [n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    for holder in holders:
        for node in holder.body:
            if not isinstance(node, Function) or node.name.startswith("_"):
                continue
            marks = [ast.unparse(mark) for mark in node.decorator_list]
            if not any(m.endswith(("overload", ".setter", ".deleter", "override")) for m in marks):
                yield node


def shared_methods(room: Path) -> set[str]:
    """Return the methods that a Protocol or base class of a room documents for all others."""
    classes = [
        node
        for path in room.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    bases = {ast.unparse(base).split("[")[0].split(".")[-1] for c in classes for base in c.bases}
    shared = [c for c in classes if c.name in bases or "Protocol" in map(ast.unparse, c.bases)]
    return {
        node.name
        for holder in shared
        for node in holder.body
        if isinstance(node, Function) and ast.get_docstring(node) is not None
    }


@pytest.mark.parametrize("path", [p for p in files() if p.suffix == ".py"], ids=label)
def test_a_file_is_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES


@pytest.mark.parametrize("path", modules(), ids=label)
def test_a_function_is_short_enough_to_see_at_once(path: Path) -> None:
    long = {f"{f.name}, line {f.lineno}": code_lines(f) for f in functions(path)}
    assert {name: n for name, n in long.items() if n > FUNCTION_LINES} == {}


def test_most_functions_are_short() -> None:
    sizes = [code_lines(function) for path in modules() for function in functions(path)]
    assert statistics.median(sizes) < MEDIAN_LINES


@pytest.mark.parametrize("path", modules(), ids=label)
def test_what_is_public_says_what_it_does(path: Path) -> None:
    silent = {f.name for f in public_functions(path) if ast.get_docstring(f) is None}
    if silent and path.parent != PACKAGE:
        silent -= shared_methods(PACKAGE / path.relative_to(PACKAGE).parts[0])
    assert silent == set()


@pytest.mark.parametrize("path", files(), ids=label)
def test_no_file_names_a_folder_of_one_machine(path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:  # a capture, an image, a compiled kernel
        return
    assert [line for line in text.splitlines() if PRIVATE_PATH.search(line)] == []
