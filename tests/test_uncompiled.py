"""Without a compiler: the tests of codecs, canvas and screens once more, on the ``.py`` files.

Not those of hostile screens, whose surfaces are larger than anybody wants to wait for.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = (
    *("test_codec_quic.py", "test_codec_quic_small.py", "test_codec_lz.py", "test_codec_glz.py"),
    *("test_codec_lz4.py", "test_codec_zlib.py", "test_codec_jpeg.py", "test_codec_mjpeg.py"),
    *("test_canvas_golden.py", "test_canvas_hostile.py", "test_canvas_kernels.py"),
    *("test_canvas_pixels.py", "test_canvas_pixman.py", "test_canvas_raster.py"),
    *("test_display_batch.py", "test_screen.py", "test_cursor.py"),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", FILES)
def test_uncompiled_kernels_pass_the_same_tests(file: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.uncompiled_mode", "--no-cov"]
    done = subprocess.run(
        [*command, "--timeout=600", f"tests/{file}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


def test_the_plugin_leaves_nothing_compiled() -> None:
    code = (
        "import tests.uncompiled_mode, sys\n"
        "import aiospice.client.batch as batch\n"
        "from aiospice.codecs import quic, lz_unpack\n"
        "from aiospice.canvas import kernel\n"
        "assert not batch.COMPILED and not quic.compiled()\n"
        "names = [name for name in sys.modules if name.startswith('aiospice.')]\n"
        "found = [n for n in names if not (sys.modules[n].__file__ or '').endswith('.py')]\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
