"""Hypothesis with the suite's settings, for property tests; other test processes do not import it, which takes long."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

__all__ = ["HealthCheck", "Phase", "given", "settings", "st"]

# An example may take as long as the machine needs, and earlier failures are not kept in a folder of the project.
settings.register_profile("suite", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
