"""Kernels both ways: as they are imported (compiled where possible), and uncompiled."""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

__all__ = ["uncompiled"]


def uncompiled(name: str) -> ModuleType:
    """The module of that name, run from its ``.py`` whatever has been compiled."""
    found = find_spec(name)
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin)
    source = path.with_name(path.name.split(".")[0] + ".py")
    twin = f"{name}__uncompiled"
    spec = spec_from_loader(twin, SourceFileLoader(twin, str(source)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[twin] = module
    spec.loader.exec_module(module)
    return module
