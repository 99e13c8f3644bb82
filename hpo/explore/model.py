"""A retrained model that judges the labels of a data set, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.errors import UsageError
from hpo.explore.dataset import Dataset
from hpo.explore.duplicates import Watch
from hpo.explore.judgement import Judgement, judge
from hpo.models.choice import ChosenModel
from hpo.models.loading import load_model
from objectives.data import inputs
from objectives.data.inputs import Inputs

_BATCH = 256
"""Number of rows that a model judges at a time."""
_MOST_NAMED = 10


def judged_by(chosen: ChosenModel, dataset: Dataset, watch: Watch) -> Judgement:
    """Load a model and let it judge the labels.

    Raises:
        UsageError: it was trained on other classes or shapes.
        ModelFileError: it cannot be loaded.
    """
    record = chosen.record
    if record.classes and record.classes != tuple(dataset.data.classes):
        raise UsageError(
            f"{record.path} was trained on {_listed(record.classes)}, but {dataset.name} has"
            f" {_listed(dataset.data.classes)}: name the data that it was trained on"
        )
    watch("loading the model that judges the labels", 0, 0)
    model = load_model(record, code=chosen.code)
    taken = sorted(_shape(shape) for shape in model.shapes.values())
    given = sorted(_shape(x.shape[1:]) for x in inputs.each(dataset.data.x_train).values())
    if taken != given:
        raise UsageError(
            f"{record.path} takes {', '.join(taken)}, but {dataset.name} has {', '.join(given)}: give the options that"
            " it was trained with, such as --image-size"
        )
    forward = model.forward()

    def predict(x: Inputs) -> NDArray[Any]:
        rows, outputs = inputs.count(x), []
        for start in range(0, rows, _BATCH):
            watch("judging", start, rows)
            outputs.append(forward(inputs.slices(x, slice(start, start + _BATCH))))
        return np.concatenate(outputs)

    return judge(dataset, predict, f"the model {record.path}")


def _shape(shape: Sequence[int | None]) -> str:
    return "×".join("any" if side is None else str(side) for side in shape) or "numbers"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", …" if len(names) > _MOST_NAMED else "")
