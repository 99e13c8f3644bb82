"""On what terms a retrain was trained: figures of different terms mean different things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.retrains import RetrainRow


def terms(row: RetrainRow) -> tuple[Any, ...]:
    """What two retrains must have in common for their figures to mean the same thing."""
    config = row.config
    return config.get("objective"), config.get("epochs"), _data(config.get("data") or {})


def is_as_searched(row: RetrainRow, spec: Mapping[str, Any]) -> bool:
    """Whether a retrain had the epochs and the images of the study's trials."""
    return terms(row)[1:] == (spec.get("epochs"), _data(spec.get("data") or {}))


def _data(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "data_dir" and value is not None}
