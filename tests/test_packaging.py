"""The build: pure without kernels, compiled with them, and it installs where nothing compiles."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from aiospice.errors import MissingProgram

ROOT = Path(__file__).resolve().parent.parent

KERNEL = """\
# cython: language_level=3, boundscheck=False
\"\"\"A kernel as small as can be.\"\"\"


def double(value):
    \"\"\"Return twice the value.\"\"\"
    return value + value
"""


def project(folder: Path, *, kernel: bool) -> Path:
    """Make a project of the real build configuration and next to no code."""
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    codecs = folder / "src" / "aiospice" / "codecs"
    codecs.mkdir(parents=True)
    for package in (codecs.parent, codecs):
        (package / "__init__.py").write_text("")
    text = KERNEL if kernel else KERNEL.replace("# cython:", "#\n# cython:")
    (codecs / "tiny.py").write_text(text)
    return folder


def environment(**more: str) -> dict[str, str]:
    """Return the environment without what would measure the little project's coverage as ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return {**kept, **more}


def build(folder: Path, **more: str) -> Path:
    """Build a wheel of the project with the tools of this environment; return its path."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"]
    command += ["--disable-pip-version-check", "--wheel-dir", "out", "."]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (folder / "out").glob("aiospice-*.whl")
    return wheel


def loaded_from(wheel: Path) -> str:
    """Unpack the wheel, call its kernel from a fresh interpreter, return the file that ran."""
    target = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    script = "from aiospice.codecs import tiny; assert tiny.double(21) == 42; print(tiny.__file__)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(target)!r}); {script}"],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    path = Path(done.stdout.strip())
    assert path.is_relative_to(target)
    return path.name


def test_without_kernels_the_wheel_is_pure(tmp_path: Path) -> None:
    wheel = build(project(tmp_path, kernel=False))
    assert wheel.name.endswith("-py3-none-any.whl")
    assert loaded_from(wheel) == "tiny.py"


@pytest.mark.peers
def test_a_marked_module_is_compiled_and_wins_the_import(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        raise MissingProgram("no C compiler (Debian: gcc)")
    wheel = build(project(tmp_path, kernel=True), CC="gcc")
    assert not wheel.name.endswith("-any.whl")
    assert loaded_from(wheel).endswith(".so")
    with zipfile.ZipFile(wheel) as archive:  # the uncompiled twin travels with it
        assert "aiospice/codecs/tiny.py" in archive.namelist()


def test_without_a_compiler_the_kernel_is_installed_uncompiled(tmp_path: Path) -> None:
    wheel = build(project(tmp_path, kernel=True), CC="no-such-compiler")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert loaded_from(wheel) == "tiny.py"


def test_a_compiler_that_fails_does_not_fail_the_installation(tmp_path: Path) -> None:
    wheel = build(project(tmp_path, kernel=True), CC="false")
    assert loaded_from(wheel) == "tiny.py"


@pytest.mark.parametrize("name", ["LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md"])
def test_what_a_stranger_looks_for_is_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0
