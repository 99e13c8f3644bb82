"""The facts on a retrained model that its predictions need: task, classes, inputs and code, as its folder has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.errors import ModelFileError
from objectives.data_options import FITS, Fit
from objectives.saved_model import NAME

METRICS = "metrics.json"
"""File next to a model with its record."""


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """A retrained model and its record."""

    path: Path
    """File of the model."""
    objective: str
    task: str | None
    """Name of the task, which gives the outputs their meaning; None: outputs are numbers."""
    classes: tuple[str, ...]
    """Names of the outputs: classes, labels or targets; empty if they have none."""
    dtypes: Mapping[str, str]
    """Types of the inputs by name, without one where there is a single input; empty if they are not known."""
    shape: tuple[int, ...] | None
    """Shape of one input, where it has a single one; None if it is not known."""
    fit: Fit
    """Rule that fits images of another shape into the model's."""
    backend: str | None
    """Keras backend that has trained it."""
    holds_code: bool
    """Whether it holds code of the objective, which must be imported first."""
    metrics: Mapping[str, Any]
    """Content of metrics.json."""

    def dtype(self, name: str = "") -> str | None:
        """Return the type of an input; None if it is not known."""
        return self.dtypes.get("") or self.dtypes.get(name)


def read_record(path: Path) -> ModelRecord:
    """Return the record of a model, given its folder or file.

    Raises:
        ModelFileError: there is no model, or no valid metrics.json next to it.
    """
    model = path / NAME if path.is_dir() else path
    if not model.is_file():
        raise ModelFileError(
            f"there is no model {model}: name the folder of a retrain, or the {NAME} in it, with --model"
        )
    metrics = read_metrics(model.parent)
    if metrics is None:
        raise ModelFileError(
            f"there is no valid {METRICS} next to {model}, which names classes and inputs: copy the whole folder of"
            " the retrain"
        )
    run = next((run for run in _list(metrics.get("runs")) if isinstance(run, dict)), {})
    classes = metrics.get("classes", run.get("classes"))
    given = _dict(metrics.get("input"))
    fit, shape = given.get("image_fit"), _list(given.get("shape"))
    return ModelRecord(
        path=model,
        objective=str(metrics.get("objective", "")),
        # Classifiers of versions without tasks.
        task=_text(metrics.get("task")) or ("classes" if classes else None),
        classes=tuple(map(str, _list(classes))),
        dtypes=_dtypes(given.get("dtype") or ("uint8" if classes and "task" not in metrics else None)),
        shape=tuple(shape) if shape and all(isinstance(side, int) for side in shape) else None,
        fit=fit if fit in FITS else "crop",
        backend=_text(metrics.get("backend")),
        holds_code=bool(run.get("load_model")),
        metrics=metrics,
    )


def read_metrics(folder: Path) -> Mapping[str, Any] | None:
    """Return the content of a folder's metrics.json; None if there is none, or it is damaged."""
    try:
        found = json.loads((folder / METRICS).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _dtypes(given: Any) -> dict[str, str]:
    if isinstance(given, dict):
        return {str(name): str(dtype) for name, dtype in given.items()}
    return {"": given} if isinstance(given, str) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
