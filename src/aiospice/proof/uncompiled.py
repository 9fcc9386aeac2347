"""``python -m aiospice.proof.uncompiled MODULE ...``: a module's ``main``, nothing compiled.

It sees to it that every module of aiospice is run from its ``.py``, compiled beside it or not.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["Sources", "main"]


class Sources(MetaPathFinder):
    """Finds the modules of aiospice as Python source only."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module that has a ``.py``; None leaves it to others."""
        if not name.startswith("aiospice.") or path is None:
            return None
        for folder in path:
            source = Path(folder) / f"{name.rpartition('.')[2]}.py"
            if source.exists():
                return spec_from_file_location(name, source)
        return None


def main(module: str, *arguments: str) -> None:
    """Import ``module`` that way and call its ``main``."""
    sys.meta_path.insert(0, Sources())
    import_module(module).main(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
