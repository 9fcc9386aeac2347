"""``python fuzz/run.py NAME SECONDS [SEED]`` runs a harness, ``NAME FILE ...`` what it found."""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import atheris

from aiospice.proof.uncompiled import Sources

HERE = Path(__file__).resolve().parent
#: Bytes of the longest input.
LONGEST = 2048
#: Seconds that one input may take: a loop without end is a finding.
SLOWEST = 30


def main(name: str, *arguments: str) -> None:
    """Run a harness: its ``one(data)`` raises for a finding, its ``seeds()`` are where to begin."""
    sys.meta_path.insert(0, Sources())
    sys.path.insert(0, str(HERE))
    with atheris.instrument_imports(include=["aiospice"]):
        harness: Any = import_module(name)
    found = HERE / "found"
    found.mkdir(exist_ok=True)
    options = [f"-max_len={LONGEST}", f"-timeout={SLOWEST}", f"-artifact_prefix={found}/{name}-"]
    with tempfile.TemporaryDirectory() as corpus:
        if arguments[0].isdigit():
            for place, seed in enumerate(harness.seeds()):
                Path(corpus, str(place)).write_bytes(seed)
            options += [f"-seed={seed}" for seed in arguments[1:]]
            options += [f"-max_total_time={arguments[0]}", corpus]
        else:
            options += arguments
        atheris.Setup([name, *options], harness.one)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
