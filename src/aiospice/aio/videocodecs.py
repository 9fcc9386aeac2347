"""Which videos can be decoded here, for sessions that may never see one: it loads nothing more."""

from __future__ import annotations

import sys

from aiospice.client.config import VIDEO_CODECS

__all__ = ["available"]


def available() -> tuple[str, ...]:
    """Names of the codecs that can be decoded here, found without importing anything."""
    if "av" in sys.modules:
        found = sys.modules["av"] is not None  # None: it is marked as missing
    else:  # what importlib.util does, which would have to be loaded
        found = any(f.find_spec("av", None) for f in sys.meta_path if hasattr(f, "find_spec"))
    return tuple(VIDEO_CODECS) if found else ("mjpeg",)
