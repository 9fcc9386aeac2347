"""Events: what a core tells its owner, as plain data.

An event is a class with annotated attributes and nothing else. It prints as one line, turns into
a JSON-able dictionary, and compares by content. `Event` is lighter than a dataclass, which
matters because a client's start-up time is felt at every call on the command line.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self, dataclass_transform

__all__ = ["Event", "kind_of"]

_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def kind_of(name: str) -> str:
    """``MigrationFinished`` as ``migration-finished``."""
    return _BOUNDARY.sub("-", name).lower()


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return value


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Event:
    """Base of all events. What is the peer's text in them must be escaped before a terminal."""

    _names: ClassVar[tuple[str, ...]] = ()
    _all: ClassVar[frozenset[str]] = frozenset()
    #: When it happened, in seconds since 1970; None until a shell has seen it. Not compared.
    at: ClassVar[float | None] = None

    def __init_subclass__(cls) -> None:
        own = cls.__annotations__ if "__annotations__" in cls.__dict__ else {}
        cls._names += tuple(
            name for name, kind in own.items() if not str(kind).startswith("ClassVar")
        )
        cls._all = frozenset(cls._names)

    def __init__(self, **values: Any) -> None:
        mine = self.__dict__
        if values.keys() == self._all:
            mine.update(values)
            return
        for name in self._names:
            if name in values:
                mine[name] = values.pop(name)
            elif not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} needs {name}")
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(values)}")

    @property
    def kind(self) -> str:
        """The event's name for scripts, such as ``channel-opened``."""
        return kind_of(type(self).__name__)

    def as_dict(self) -> dict[str, Any]:
        """Kind and attributes, JSON-able: bytes as hexadecimal digits, errors as text."""
        values = {name: _plain(getattr(self, name)) for name in self._names}
        if self.at is not None:
            values = {"time": round(self.at, 6), **values}
        return {"event": self.kind, **values}

    def stamp(self, at: float) -> None:
        """Say when it happened."""
        self.__dict__["at"] = at

    def replace(self, **changes: Any) -> Self:
        """A copy with some attributes changed."""
        values = {name: getattr(self, name) for name in self._names}
        return type(self)(**{**values, **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is a value: use replace({name}=...)")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._names)

    def __hash__(self) -> int:
        return hash((type(self), repr(self)))

    def __str__(self) -> str:
        shown = " ".join(
            f"{name}={_plain(getattr(self, name))}"
            for name in self._names
            if getattr(self, name) not in ("", None)
        )
        return f"{self.kind} {shown}".rstrip()

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names)
        return f"{type(self).__name__}({shown})"
