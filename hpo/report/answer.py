"""The answer, which stands first: the best configuration, what it reached, and against what."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hpo import numbers
from hpo.effects import Effect, amount
from hpo.history import StudyHistory
from hpo.intervals import welch
from hpo.report.document import Block, Bullets, Paragraph, Section, Table
from hpo.report.final_sections import FIGURES, interval_words
from hpo.trials import TrialRow
from storage.retrains import RetrainRow


def answer_section(history: StudyHistory, retrain: RetrainRow | None, effects: Sequence[Effect]) -> Section:
    """What a reader in a hurry reads."""
    study, best = history.study, history.best
    blocks: list[Block] = []
    if retrain is not None:
        blocks += _tested(study.name, retrain)
    elif best is not None:
        blocks.append(
            Paragraph(
                f"Best so far: {study.metric} {numbers.metric(best.value)} on validation images, trial {best.number}.",
                "lead",
            )
        )
        blocks.append(
            Paragraph(
                "It is the best of many single runs and was chosen because of this value, so it flatters; the test set "
                f"has not been looked at. hpo retrain --study {study.name} gives a figure to trust.",
                "note",
            )
        )
    else:
        blocks.append(Paragraph("No trial has run to its end yet, so there is no result.", "lead"))
    blocks.append(Paragraph(against_default(history)))
    mattered = [f"{effect.parameter}: {effect.words}" for effect in effects if effect.stands_out]
    if mattered:
        blocks += [Paragraph("What mattered, as far as the trials show:"), Bullets(mattered)]
    config = retrain.config if retrain is not None else {"params": best.params} if best is not None else None
    if config is not None:
        default = default_params(history)
        headers = ("parameter", "best", *(("default",) if default is not None else ()))
        rows = [
            (
                name,
                numbers.parameter(value),
                *((numbers.parameter(default.get(name, "-")),) if default is not None else ()),
            )
            for name, value in config["params"].items()
        ]
        blocks.append(Table(headers, rows, frozenset({"best", "default"})))
    if retrain is not None and best is not None and best.params != retrain.config.get("params"):
        blocks.append(
            Paragraph(
                f"What was retrained is not the configuration with the best single value, which is trial {best.number} "
                f"({study.metric} {numbers.metric(best.value)}).",
                "note",
            )
        )
    return Section("Answer", blocks)


def _tested(study: str, retrain: RetrainRow) -> list[Block]:
    metrics = retrain.metrics or {}
    summary, trial = metrics["summary"], retrain.config.get("trial")
    name = next((one for one in FIGURES if one in summary), next(iter(summary), None))
    if name is None:
        return [Paragraph("The final runs recorded no figure.", "lead")]
    own = trial is not None and retrain.config.get("study") in (None, study)
    source = f"trial {trial} retrained" if own else "the configuration of a file retrained"
    lead = f"{FIGURES.get(name, name)} {interval_words(summary[name])}: {source}."
    blocks: list[Block] = [Paragraph(lead[0].upper() + lead[1:], "lead")]
    flipped = summary.get("test_accuracy_flip_averaged")
    if flipped is not None and name == "test_accuracy":
        blocks.append(
            Paragraph(f"Averaged over each test image and its mirror image: {interval_words(flipped)}.")
        )
    return blocks


def default_params(history: StudyHistory) -> Mapping[str, Any] | None:
    """The objective's first known good configuration, where it lies in the study's space."""
    first = history.study.spec.get("first") or []
    return first[0] if first else None


def default_trial(history: StudyHistory) -> TrialRow | None:
    """The trial of that configuration, a complete one if there is."""
    default = default_params(history)
    tried = [trial for trial in history.trials if default is not None and dict(trial.params) == dict(default)]
    return min(tried, key=lambda trial: (trial.state != "complete", trial.number or 0), default=None)


def against_default(history: StudyHistory) -> str:
    """How much better the best is than the configuration that one would have started from."""
    study, best, trial = history.study, history.best, default_trial(history)
    if default_params(history) is None:
        return "The objective names no default configuration within this study's space to compare with."
    if trial is None:
        return "The objective's default configuration was not tried in this study, so nothing is compared with it."
    words = f"the objective's default configuration (trial {trial.number})"
    if trial.state != "complete" or trial.value is None:
        ended = trial.why or trial.state
        return f"There is no final value of {words} to compare with: {ended}."
    if best is None or best.number == trial.number:
        return f"No trial did better than {words}, {study.metric} {numbers.metric(trial.value)}."
    measured = _measured_difference(history)
    if measured is not None:
        return measured
    gain = (best.value or 0.0) - trial.value
    return (
        f"Against {words}: {study.metric} {numbers.metric(best.value)} instead of {numbers.metric(trial.value)}, "
        f"{amount(abs(gain), study.metric)} better on validation images. One run each, and the best of many: part "
        f"of it is luck. hpo retrain --study {study.name} --top K compares leading configurations from fresh seeds."
    )


def _measured_difference(history: StudyHistory) -> str | None:
    """Against the default where both were trained from several seeds, on the test set or on validation images."""
    default = dict(default_params(history) or {})
    finished = history.finished_retrains
    if not finished:
        return None
    latest = finished[-1]
    metrics = latest.metrics or {}
    other = next((row for row in finished if dict(row.config.get("params", {})) == default), None)
    if other is not None and other is not latest and dict(latest.config.get("params", {})) != default:
        sides = [
            [run["test_accuracy"] for run in (row.metrics or {})["runs"] if "test_accuracy" in run]
            for row in (latest, other)
        ]
        if all(len(side) > 1 for side in sides):
            return _difference_words(sides[0], sides[1], "test accuracy", maximize=True)
    candidates = metrics.get("selection", {}).get("candidates", [])
    chosen = next((one for one in candidates if one["chosen"]), None)
    tried = next((one for one in candidates if one["params"] == default), None)
    if (
        chosen is None
        or tried is None
        or chosen is tried
        or min(len(chosen["values"]), len(tried["values"])) < 2
    ):
        return None
    return _difference_words(
        chosen["values"],
        tried["values"],
        f"{history.study.metric} on validation images",
        maximize=history.study.maximize,
    )


def _difference_words(best: list[float], default: list[float], what: str, *, maximize: bool) -> str:
    found = welch(best, default)
    gain = found.mean if maximize else -found.mean
    direction = "better" if gain >= 0 else "worse"
    bounds = found.interval95
    interval = ""
    if bounds is not None:
        low, high = sorted(bounds if maximize else (-bounds[0], -bounds[1]))
        interval = (
            f" (95 % interval {amount(low, what).removesuffix(' points')} to {amount(high, what)}, Welch)"
        )
    noise = "larger than" if found.exceeds_noise else "within"
    return (
        f"Against the objective's default configuration, from fresh seeds: {what} "
        f"{numbers.metric(statistics.fmean(best))} instead of {numbers.metric(statistics.fmean(default))}, "
        f"{amount(abs(gain), what)} {direction}{interval}; the difference is {noise} the noise of seeds."
    )
