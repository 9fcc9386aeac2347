"""The build: everything is in ``pyproject.toml`` but the compiled kernels.

A kernel is an ordinary ``.py`` under ``src/aiospice`` whose first line starts with ``# cython:``
(the line also carries its compiler directives). Where Cython and a C compiler are found it is
compiled; where not, the same file is installed and runs uncompiled. Without kernels the wheel is
pure.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

MARKER = "# cython:"
SOURCES = Path("src")


def kernels() -> list[str]:
    """Return the paths of all modules that carry the marker on their first line, sorted."""
    found = []
    for path in sorted((SOURCES / "aiospice").rglob("*.py")):
        with path.open(encoding="utf-8") as file:
            if file.readline().startswith(MARKER):
                found.append(path.as_posix())
    return found


def has_compiler() -> bool:
    """Tell whether the compiler that a build would start exists."""
    if sys.platform == "win32":  # found through the registry, not the path: let the build try
        return True
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    words = str(command).split()
    return bool(words) and shutil.which(words[0]) is not None


def extensions() -> list[Extension]:
    """Return one extension a kernel, allowed to fail; none when this machine can't compile them."""
    paths = kernels()
    if not paths:
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        sys.stderr.write("aiospice: no Cython, so kernels are installed uncompiled (slow)\n")
        return []
    if not has_compiler():
        sys.stderr.write("aiospice: no C compiler, so kernels are installed uncompiled (slow)\n")
        return []
    flags = [] if sys.platform == "win32" else ["-O3", "-g0"]
    modules = [
        Extension(
            Path(path).relative_to(SOURCES).with_suffix("").as_posix().replace("/", "."),
            [path],
            extra_compile_args=flags,
        )
        for path in paths
    ]
    built: list[Extension] = cythonize(modules, build_dir="build/cython", language_level=3)
    for extension in built:  # set here because cythonize doesn't carry it over
        extension.optional = True
    return built


setup(ext_modules=extensions(), options={"build_ext": {"parallel": os.cpu_count() or 1}})
