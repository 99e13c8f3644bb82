"""The configurations that a study's space contains, for readers of stored specs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.configurations import Contains


def contains_of(spec_json: Mapping[str, Any]) -> Contains | None:
    """Return whether a study's space contains a configuration; None if all of its trials lie inside."""
    if not spec_json.get("space_changed"):
        return None
    # It imports Optuna.
    from hpo.search.spec import StudySpec

    return StudySpec.from_json(spec_json).contains
