"""What `aiospice serve` asks of the C library."""

from __future__ import annotations

import platform
import subprocess
import sys

PROGRAM = """
import resource
from aiospice.aio.memory import keep_memory
kept = keep_memory()
for _ in range(3):
    bytearray(8 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytearray(8 << 20)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_what_was_freed_is_used_again_without_fresh_pages() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    kept, faults = done.stdout.split()
    assert kept == str(platform.libc_ver()[0] == "glibc")
    if kept == "True":
        assert int(faults) < 20 * (8 << 20) // 4096 // 2  # half of a fault for each page
