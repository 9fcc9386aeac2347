"""A pytest plugin (``-p tests.uncompiled_mode``): all of aiospice runs from its ``.py``."""

from __future__ import annotations

import sys

from hypothesis import HealthCheck, settings

from aiospice.proof.uncompiled import Sources

sys.meta_path.insert(0, Sources())
for _name in [name for name in sys.modules if name.startswith("aiospice.codecs")]:
    del sys.modules[_name]

settings.register_profile(
    "uncompiled",
    max_examples=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("uncompiled")
