"""What the ends of a link between servers need of whoever has the link."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

__all__ = ["LinkBook", "LinkHost"]


@dataclass(slots=True)
class LinkBook:
    """What a server knows of the links that it has with others. Plain data."""

    #: The migration that the core's link is of.
    linked: str = ""
    #: The migration whose guest was last expected here.
    expects: str = ""


class LinkHost(ABC):
    """See the module's text."""

    @property
    @abstractmethod
    def core(self) -> Any:
        """The server's core."""

    @abstractmethod
    def now(self) -> float:
        """The core's clock."""

    @abstractmethod
    def turn(self, *, at_once: bool = False) -> None:
        """Have carried out what the core wants, all channels' at once if it is urgent."""

    @abstractmethod
    def poke(self) -> None:
        """Something may have changed."""

    @abstractmethod
    def cut(self, text: str) -> None:
        """The connection is no good any more."""
