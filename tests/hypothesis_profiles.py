"""The profile of ``make fuzz``: the property tests, longer (a pytest plugin, given by ``-p``)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "deep",
    max_examples=20_000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
