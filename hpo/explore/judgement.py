"""Labels judged by a trained model: rows whose own label it holds for improbable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.explore.dataset import Dataset

MOST_SHOWN = 24
"""Number of contradicted rows that are shown of a split."""
_DEVIATIONS = 3.0
"""Standard deviations of the residuals from which a model contradicts a number."""

Predict = Callable[[Any], NDArray[Any]]
"""Function that returns a model's probabilities or values (n, outputs) for inputs."""


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A row whose label a model contradicts."""

    index: int
    given: str
    """Its label."""
    predicted: str
    """The model's answer."""
    score: str
    """Probability of the label by the model, or the distance to the number."""


@dataclass(frozen=True, kw_only=True)
class JudgedSplit:
    """The judgement on one split."""

    rows: int
    seen: bool
    """Whether the model was trained on the split."""
    contradicted: float
    """Share of rows that the model contradicts."""
    suspects: Sequence[Suspect]
    """The most contradicted rows, the worst first."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A model's judgement on all splits."""

    model: str
    """Noun phrase that names the model."""
    rule: str
    """Noun phrase that states which labels it contradicts."""
    splits: Mapping[str, JudgedSplit]
    """Splits that the model has not seen first."""


def judge(dataset: Dataset, predict: Predict, model: str, unseen: Sequence[str] = ("test",)) -> Judgement:
    """Compare all labels, or of large data those of evenly spaced rows, with a model's answers."""
    order = sorted(dataset.sampled, key=lambda name: name not in unseen)
    found = {}
    for name in order:
        x, y = dataset.sampled[name]
        if len(y):
            found[name] = _judged(dataset, y, np.asarray(predict(x), np.float64), name not in unseen)
    rules = {
        "regression": f"a number that is more than {_DEVIATIONS:g} standard deviations of its errors away",
        "labels": "a row if it gives one of its labels a probability below 0.5, or another label a higher one",
    }
    rule = rules.get(dataset.task, "a label if it gives another one a higher probability")
    return Judgement(model=model, rule=rule, splits=found)


def _judged(dataset: Dataset, y: NDArray[Any], outputs: NDArray[np.float64], seen: bool) -> JudgedSplit:
    of_task = {"labels": _labels, "regression": _numbers}.get(dataset.task, _classes)
    score, contradicted, describe = of_task(dataset, y, outputs)
    worst = np.argsort(-score, kind="stable")[:MOST_SHOWN]
    return JudgedSplit(
        rows=len(y),
        seen=seen,
        contradicted=float(contradicted.mean()),
        suspects=[describe(int(place)) for place in worst if contradicted[place]],
    )


_Scored = tuple[NDArray[np.float64], NDArray[np.bool_], Callable[[int], Suspect]]
"""Strength of the contradiction of each row, whether there is one, and a function that describes a row."""


def _classes(dataset: Dataset, y: NDArray[Any], outputs: NDArray[np.float64]) -> _Scored:
    if outputs.shape[1] == 1:
        outputs = np.concatenate([1 - outputs, outputs], axis=1)
    given, predicted = outputs[np.arange(len(y)), y], outputs.argmax(axis=1)

    def describe(place: int) -> Suspect:
        return Suspect(
            index=place * dataset.step,
            given=dataset.label(y[place]),
            predicted=dataset.label(predicted[place]),
            score=f"{100 * given[place]:.1f} % for its label",
        )

    return outputs.max(axis=1) - given, predicted != y, describe


def _labels(dataset: Dataset, y: NDArray[Any], outputs: NDArray[np.float64]) -> _Scored:
    given = np.where(y > 0, outputs, 1 - outputs)
    worst = given.argmin(axis=1)

    def describe(place: int) -> Suspect:
        label = dataset.data.classes[worst[place]]
        return Suspect(
            index=place * dataset.step,
            given=dataset.label(y[place]),
            predicted=dataset.label(outputs[place] > 0.5),
            score=f"{label}: {100 * outputs[place, worst[place]]:.1f} %",
        )

    return 1 - given.min(axis=1), given.min(axis=1) < 0.5, describe


def _numbers(dataset: Dataset, y: NDArray[Any], outputs: NDArray[np.float64]) -> _Scored:
    errors = outputs - y
    spread = np.maximum(errors.std(axis=0), np.finfo(np.float64).tiny)
    far = np.abs(errors - errors.mean(axis=0)) / spread
    worst = far.argmax(axis=1)

    def describe(place: int) -> Suspect:
        return Suspect(
            index=place * dataset.step,
            given=dataset.label(y[place]),
            predicted=dataset.label(outputs[place]),
            score=f"{far[place, worst[place]]:.1f} standard deviations",
        )

    return far.max(axis=1), far.max(axis=1) > _DEVIATIONS, describe
