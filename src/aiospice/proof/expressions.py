"""The small functions of declarations as text: ``values["flags"] & 1`` becomes ``flags & 1``."""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["expression"]

_Function = ast.FunctionDef | ast.Lambda


def expression(function: Callable[..., Any]) -> str:
    """What a function of earlier fields computes.

    A function that is more than one expression is given by its name, with the spaces that
    identifiers lack.
    """
    found = _body(function)
    if found is None:
        return function.__name__.strip("_").replace("_", " ")
    return ast.unparse(_Readable().visit(found))


def _body(function: Callable[..., Any]) -> ast.expr | None:
    """The expression that a function comes to, with what it is made of put in; None if none."""
    node = _node(function)
    if node is None:
        return None
    result = node.body if isinstance(node, ast.Lambda) else _returned(node)
    if result is None:
        return None
    known = dict(inspect.getclosurevars(function).nonlocals)
    return _Inline(function, known).visit(result)  # type: ignore[no-any-return]


def _node(function: Callable[..., Any]) -> _Function | None:
    line = function.__code__.co_firstlineno
    tree = ast.parse(inspect.getsource(inspect.getmodule(function) or function))
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)) and node.lineno == line:
            name = getattr(node, "name", "<lambda>")
            if name == function.__name__:
                return node
    return None


def _returned(node: ast.FunctionDef) -> ast.expr | None:
    """The value of ``return x``, or of ``name: type = x`` and ``return name``."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if len(body) == 1 and isinstance(body[0], ast.Return):
        return body[0].value
    if len(body) == 2 and isinstance(body[0], ast.AnnAssign) and isinstance(body[1], ast.Return):
        return body[0].value
    return None


def _constant(module: ModuleType | None, name: str) -> ast.expr | None:
    """What a private constant of a module is made of; None for other names."""
    if module is None or not name.startswith("_"):
        return None
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return node.value
    return None


class _Inline(ast.NodeTransformer):
    """Puts in the values of names, and the bodies of the module's own functions."""

    def __init__(self, function: Callable[..., Any], known: dict[str, Any]) -> None:
        self._module = inspect.getmodule(function)
        self._globals = getattr(function, "__globals__", {})
        self._known = known

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A name that the declaration was made with becomes its value."""
        if node.id not in self._known:
            return _constant(self._module, node.id) or node
        value = self._known[node.id]
        kind = type(value).__name__
        text = f"{kind}.{value.name}" if hasattr(value, "name") else repr(value)
        return ast.parse(text, mode="eval").body

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A call of a function of the module becomes what that function computes."""
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        called: Any = self._globals.get(name)
        inner = _node(called) if inspect.isfunction(called) else None
        result = _returned(inner) if isinstance(inner, ast.FunctionDef) else None
        if inner is None or result is None:
            return self.generic_visit(node)
        given = dict(zip([a.arg for a in inner.args.args], node.args, strict=False))
        constants = {k: v.value for k, v in given.items() if isinstance(v, ast.Constant)}
        return _Inline(called, constants).visit(result)  # type: ignore[no-any-return]


class _Readable(ast.NodeTransformer):
    """``values["x"]`` as ``x``, ``bool(x)`` as ``x``."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """A field's value becomes its name."""
        if isinstance(node.value, ast.Name) and isinstance(node.slice, ast.Constant):
            return ast.Name(id=str(node.slice.value))
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """The truth of something is itself, for people."""
        if isinstance(node.func, ast.Name) and node.func.id == "bool":
            return self.visit(node.args[0])  # type: ignore[no-any-return]
        return self.generic_visit(node)
