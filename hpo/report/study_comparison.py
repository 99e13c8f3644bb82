"""Final figures of several studies, and whether they differ by more than seed noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

from hpo.analysis.figures import FIGURES, bounds_of, counterpart, interval_of, is_better_high
from hpo.analysis.records import drawable
from hpo.analysis.statistics import CONFIDENCE, Difference, Interval, holm, welch
from hpo.study.history import StudyHistory
from objectives.values import is_number
from storage.retrains import RetrainRow


@dataclass(frozen=True)
class StudyResult:
    """One study of a comparison and its final runs."""

    history: StudyHistory

    @property
    def name(self) -> str:
        return self.history.study.name

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Metrics of the retrain that counts; empty if the study was never retrained."""
        retrain = self.history.answer
        return (retrain.metrics or {}) if retrain is not None else {}

    @property
    def task(self) -> str | None:
        """Task of the final runs; None if it is unknown."""
        run = self.runs[0] if self.runs else {}
        # Earlier versions recorded no task; all of their models were of classes.
        return run.get("task") or ("classes" if run.get("confusion") else None)

    @property
    def runs(self) -> Sequence[Mapping[str, Any]]:
        """Final runs of that retrain, with the records that can be shown."""
        return drawable(self.metrics.get("runs", []))

    def values(self, figure: str) -> list[float]:
        """Return a figure of each final run; empty unless all runs have it."""
        found = [run[figure] for run in self.runs if is_number(run.get(figure))]
        return found if len(found) == len(self.runs) else []

    def summary(self, figure: str) -> Interval | None:
        """Return the summary of a figure over the final runs; None if there is no such figure."""
        summary = self.metrics.get("summary", {})
        return interval_of(summary, figure) if figure in summary else None


@dataclass(frozen=True)
class PairwiseDifference:
    """Difference of a figure between two studies."""

    first: str
    second: str
    difference: Difference
    p_value: float | None
    """P-value of Welch's test, corrected for the number of pairs (Holm); None if a study has fewer than two seeds."""

    @property
    def exceeds_noise(self) -> bool | None:
        """Whether the difference is larger than seed noise; None with fewer than two seeds."""
        return None if self.p_value is None else self.p_value < 1 - CONFIDENCE


class StudyComparison:
    """Several studies, with figures that are computed when a part of the document needs them."""

    def __init__(self, results: Sequence[StudyResult]) -> None:
        self.results = results

    @cached_property
    def figure(self) -> str | None:
        """Figure that they are compared by, see `common_figure`."""
        return common_figure(self.results)

    @cached_property
    def pairs(self) -> list[PairwiseDifference]:
        """Difference between every two retrained studies; empty without a common figure."""
        return [] if self.figure is None else compare_pairs(self.results, self.figure)


def common_figure(results: Sequence[StudyResult]) -> str | None:
    """Return the figure to compare by: the studies' own metric, or else the first test figure that all of them have.

    Studies of different tasks have none: their losses are of different kinds.
    """
    retrained = [result for result in results if result.runs]
    if not retrained or differ_in_task(retrained):
        return None
    metrics = {result.history.study.metric for result in retrained}
    own = [counterpart(metric) for metric in metrics] if len(metrics) == 1 else []
    recorded = [name for name in retrained[0].runs[0] if name.startswith("test_")]
    candidates = [*own, *FIGURES, *recorded]
    return next((name for name in candidates if all(result.values(name) for result in retrained)), None)


def differ_in_task(results: Sequence[StudyResult]) -> bool:
    """Whether retrained studies are known to be of different tasks, so that no metric of them means the same."""
    return len({result.task for result in results if result.task is not None}) > 1


def common_figures(results: Sequence[StudyResult]) -> list[str]:
    """Return the test figures that at least one of the studies has, in the order of reports."""
    found = {name for result in results for name in result.metrics.get("summary", {})}
    known = [name for name in FIGURES if name in found]
    return [*known, *sorted(name for name in found.difference(known) if name.startswith("test_"))]


def better_high(results: Sequence[StudyResult], figure: str) -> bool | None:
    """Whether larger values of a figure are better: the studies' direction where it is their metric, or by its name."""
    own = {one.history.study.maximize for one in results if counterpart(one.history.study.metric) == figure}
    return is_better_high(figure, {figure: own.pop()} if len(own) == 1 else None)


def compare_pairs(results: Sequence[StudyResult], figure: str) -> list[PairwiseDifference]:
    """Compare every two retrained studies."""
    found = [
        (first.name, second.name, welch(first.values(figure), second.values(figure), bounds_of(figure)))
        for first, second in combinations([result for result in results if result.values(figure)], 2)
    ]
    measured = [index for index, (_, _, one) in enumerate(found) if one.p_value is not None]
    corrected = holm([found[index][2].p_value or 0.0 for index in measured])
    p_values = dict(zip(measured, corrected, strict=True))
    return [
        PairwiseDifference(first, second, one, p_values.get(index))
        for index, (first, second, one) in enumerate(found)
    ]


def comparability_warnings(results: Sequence[StudyResult]) -> list[str]:
    """Return a warning for each setting in which the retrained studies differ."""
    found: list[str] = []
    retrained = [result for result in results if result.runs]
    for key, setting in (
        ("task", "of different tasks"),
        ("n_test", "tested on different numbers of examples"),
        ("classes", "tested on different classes"),
        ("targets", "tested on examples with different targets"),
        ("n_train", "trained on different numbers of examples"),
        ("epochs", "trained for different numbers of epochs"),
        ("precision", "trained in different precisions"),
    ):
        values = {result.name: value for result in retrained if (value := _setting(result, key)) is not None}
        # Other numbers of examples, or other classes, have other targets anyway.
        if len({repr(value) for value in values.values()}) > 1 and not (key == "targets" and found):
            shown = ", ".join(f"{name}{_shown(value)}" for name, value in values.items())
            found.append(
                f"The studies were {setting} ({shown}), so differences may not be due to the models."
            )
    return found


def _setting(result: StudyResult, key: str) -> Any:
    """Return a setting of a study's final runs; None if it was not recorded."""
    run = result.runs[0]
    if key == "targets":
        examples = run.get("examples")
        return examples.get("test") if isinstance(examples, Mapping) else None
    return result.task if key == "task" else run.get(key, result.metrics.get(key))


def _shown(value: Any) -> str:
    """Return a setting as text after the name of its study; empty for the counts or ranges of targets."""
    if isinstance(value, list):
        return f" {', '.join(map(str, value[:3]))}{' …' if len(value) > 3 else ''}"
    return "" if isinstance(value, Mapping) else f" {value}"


def setup_of(row: RetrainRow) -> tuple[Any, ...]:
    """Return the objective, epochs and data, which two retrains must share for their figures to be comparable."""
    config = row.config
    return config.get("objective"), config.get("epochs"), _data(config.get("data") or {})


def matches_search(row: RetrainRow, spec: Mapping[str, Any]) -> bool:
    """Whether a retrain used the epochs and the images of the study's trials, which an open space decides itself."""
    if spec.get("open_space"):
        return True
    return setup_of(row)[1:] == (spec.get("epochs"), _data(spec.get("data") or {}))


def _data(options: Mapping[str, Any]) -> dict[str, Any]:
    # The place of images belongs to a host; their digest does not.
    places = ("data_dir", "source")
    return {name: value for name, value in options.items() if name not in places and value is not None}
