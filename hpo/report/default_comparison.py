"""The result of a study compared with its objective's default configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hpo import formatting
from hpo.analysis.figures import amount, bounds_of, counterpart, is_better_high, label_of, leading
from hpo.analysis.statistics import mean, welch
from hpo.outcomes import Outcome
from hpo.report.study_comparison import setup_of
from hpo.search import spec
from hpo.study.history import StudyHistory
from hpo.study.results.trials import TrialRow
from objectives.spaces.choices import same_params
from storage.retrains import RetrainRow


def default_params(history: StudyHistory) -> Mapping[str, Any] | None:
    """Return the objective's first known good configuration if the study's space contains it, else None."""
    return spec.default_params(history.study.spec_json)


def default_trial(history: StudyHistory) -> TrialRow | None:
    """Return the trial of the default configuration, preferably a complete one."""
    default = default_params(history)
    tried = [
        trial for trial in history.trials if default is not None and is_same(history, trial.params, default)
    ]
    return min(tried, key=lambda trial: (trial.state != Outcome.COMPLETE, trial.number or 0), default=None)


def against_default(history: StudyHistory) -> str:
    """Return a sentence that compares the result with the objective's default configuration."""
    study, best, default = history.study, history.best, default_params(history)
    if default is None:
        return "The objective has no default configuration within this study's space to compare with."
    measured = _measured_difference(history, default)
    if measured is not None:
        return measured
    trial = default_trial(history)
    if trial is None:
        return "The objective's default configuration was not tried in this study, so there is no comparison with it."
    reference = f"the objective's default configuration (trial {trial.number})"
    if trial.state != Outcome.COMPLETE or trial.value is None:
        ended = trial.why or trial.state
        return f"There is no final value of {reference} to compare with: {ended}."
    if best is None or is_same(history, best.params, default):
        return f"No trial was better than {reference}, {study.metric} {formatting.metric(trial.value)}."
    values = best.value or 0.0, trial.value
    size = amount(abs(values[0] - values[1]), study.metric, values)
    return (
        f"In the search, trial {best.number} reached {study.metric} {formatting.metric(best.value)} and {reference}"
        f" {formatting.metric(trial.value)}: {size} better on validation data."
        " With one run each, choosing the best trial makes the difference optimistic."
        f" hpo retrain --study {study.name} --top K compares the best configurations with it from fresh seeds."
    )


def _measured_difference(history: StudyHistory, default: Mapping[str, Any]) -> str | None:
    """Return the comparison over seeds, if both were retrained with the same setup or were candidates; else None."""
    latest = history.answer
    if latest is None:
        return None
    finished = history.finished_retrains
    is_default = is_same(history, _params(latest), default)
    others = [row for row in finished if is_same(history, _params(row), default) != is_default]
    other = next((row for row in reversed(others) if setup_of(row) == setup_of(latest)), None)
    if other is not None:
        best, against = (other, latest) if is_default else (latest, other)
        figure = leading((latest.metrics or {})["summary"], history.study.metric)
        values = [_values(row, figure) for row in (best, against)]
        if figure is not None and all(len(one) > 1 for one in values):
            study = history.study
            maximize = is_better_high(figure, {counterpart(study.metric): study.maximize})
            return _describe_difference(
                values[0],
                values[1],
                figure,
                label_of(figure),
                maximize=history.study.maximize if maximize is None else maximize,
            )
    candidates = (latest.metrics or {}).get("selection", {}).get("candidates", [])
    if is_default:
        rivals = len(candidates) - 1
        beaten = f", the best of {rivals + 1} candidates from fresh seeds" if rivals > 0 else ""
        return f"The retrained configuration is the objective's default configuration{beaten}."
    if candidates:
        return _among_candidates(history, candidates, default)
    if other is None and others:
        return (
            "The objective's default configuration was retrained with a different setup (epochs, images or objective),"
            " so the two are not compared."
        )
    return None


def _among_candidates(
    history: StudyHistory, candidates: Sequence[Mapping[str, Any]], default: Mapping[str, Any]
) -> str:
    """Return the gain of the chosen candidate over the default configuration, from fresh seeds only."""
    chosen = next(one for one in candidates if one["chosen"])
    tried = next((one for one in candidates if is_same(history, one["params"], default)), None)
    if tried is None:
        return (
            "The objective's default configuration was not among the candidates, so there is no gain from fresh seeds:"
            f" hpo retrain --study {history.study.name} --top K includes it."
        )
    if tried["failure"]:
        return f"The objective's default configuration failed from a fresh seed: {tried['failure']}."
    metric = history.study.metric
    found = _describe_difference(
        [float(value) for value in chosen["values"]],
        [float(value) for value in tried["values"]],
        metric,
        f"{metric} on validation data",
        maximize=history.study.maximize,
    )
    return f"{found} The configuration was chosen by these values, so the difference is slightly optimistic."


def is_same(history: StudyHistory, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two configurations are equal in the study's space."""
    return same_params(one, other, history.space)


def _params(row: RetrainRow) -> dict[str, Any]:
    return dict(row.config.get("params", {}))


def _values(row: RetrainRow, figure: str | None) -> list[float]:
    """Return the finite values of a figure of final runs."""
    runs = (row.metrics or {})["runs"] if figure is not None else []
    found = [formatting.json_number(run.get(figure)) for run in runs]
    return [value for value in found if value is not None and math.isfinite(value)]


def _describe_difference(
    best: list[float], default: list[float], figure: str, label: str, *, maximize: bool
) -> str:
    found = welch(best, default, bounds_of(figure))
    gain = found.mean if maximize else -found.mean

    def shown(value: float) -> str:
        return amount(value, figure, [*best, *default])

    size = shown(abs(gain))
    direction = "no difference" if size == shown(0.0) else f"{size} {'better' if gain > 0 else 'worse'}"
    bounds = found.interval95
    interval = ""
    if bounds is not None:
        low, high = sorted(bounds if maximize else (-bounds[0], -bounds[1]))
        interval = f" (95 % interval {shown(low).removesuffix(' points')} to {shown(high)}, Welch)"
    noise = {
        True: "the difference exceeds seed noise",
        False: "the difference is within seed noise, so the two are indistinguishable at 95 %",
        None: "there are too few distinct values to estimate seed noise",
    }[found.exceeds_noise]
    return (
        f"Compared with the objective's default configuration, from fresh seeds: {label} "
        f"{formatting.metric(mean(best))} instead of {formatting.metric(mean(default))}, "
        f"{direction}{interval}; {noise}."
    )
