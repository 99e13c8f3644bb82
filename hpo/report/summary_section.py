"""The answer, which stands first: the best configuration, what it reached, and against what."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hpo import formatting
from hpo.analysis.common_epoch import Comparison
from hpo.analysis.effects import Effect, amount
from hpo.analysis.statistics import welch
from hpo.document.document import Block, Bullets, Paragraph, Section, Table
from hpo.report.retraining_sections import format_interval
from hpo.report.study_comparison import FIGURES, setup_of
from hpo.study.history import StudyHistory
from hpo.study.trials import TrialRow
from storage.retrains import RetrainRow, Source


def summary_section(
    history: StudyHistory, retrain: RetrainRow | None, effects: Sequence[Effect], comparison: Comparison
) -> Section:
    """What a reader in a hurry reads."""
    study, best = history.study, history.best
    blocks: list[Block] = []
    if retrain is not None:
        blocks += _tested(study.name, retrain)
    elif best is not None:
        blocks.append(
            Paragraph(
                f"Best so far: {study.metric} {formatting.metric(best.value)} on validation images,"
                f" trial {best.number}.",
                "lead",
            )
        )
        blocks.append(
            Paragraph(
                f"It is the best of many single runs and was chosen because of this value, so it flatters; "
                f"{_looked(history)}. hpo retrain --study {study.name} gives a figure to trust.",
                "note",
            )
        )
    else:
        yet = "" if history.status.condition == "finished" else " yet"
        blocks.append(Paragraph(f"No trial has run to its end{yet}, so there is no result.", "lead"))
    blocks.append(Paragraph(against_default(history)))
    mattered = [f"{effect.parameter}: {effect.finding}" for effect in effects if effect.stands_out]
    if mattered:
        when = ""
        if comparison.epoch != comparison.epochs_per_trial:
            when = f", compared after epoch {comparison.epoch} of {comparison.epochs_per_trial}"
        blocks += [Paragraph(f"What mattered, as far as the trials show{when}:"), Bullets(mattered)]
    config = retrain.config if retrain is not None else {"params": best.params} if best is not None else None
    if config is not None:
        default = default_params(history)
        shown = "retrained" if retrain is not None else "best"
        headers = ("parameter", shown, *(("default",) if default is not None else ()))
        rows = [
            (
                name,
                formatting.parameter(value),
                *((formatting.parameter(default.get(name, "-")),) if default is not None else ()),
            )
            for name, value in config["params"].items()
        ]
        blocks.append(Table(headers, rows, frozenset({shown, "default"})))
    if retrain is not None and best is not None and best.params != retrain.config.get("params"):
        blocks.append(
            Paragraph(
                f"What was retrained is not the configuration with the best single value, which is trial {best.number} "
                f"({study.metric} {formatting.metric(best.value)}).",
                "note",
            )
        )
    if len(history.finished_retrains) > 1:
        blocks += _also_retrained(history, retrain)
    return Section("Answer", blocks)


def _tested(study: str, retrain: RetrainRow) -> list[Block]:
    metrics = retrain.metrics or {}
    summary, trial = metrics["summary"], retrain.config.get("trial")
    name = next((one for one in FIGURES if one in summary), next(iter(summary), None))
    if name is None:
        return [Paragraph("The final runs recorded no figure.", "lead")]
    own = trial is not None and retrain.config.get("study") in (None, study)
    source = f"trial {trial} retrained" if own else "the configuration of a file retrained"
    lead = f"{FIGURES.get(name, name)} {format_interval(summary[name])}: {source}."
    blocks: list[Block] = [Paragraph(lead[0].upper() + lead[1:], "lead")]
    flipped = summary.get("test_accuracy_flip_averaged")
    if flipped is not None and name == "test_accuracy":
        blocks.append(
            Paragraph(f"Averaged over each test image and its mirror image: {format_interval(flipped)}.")
        )
    return blocks


def _also_retrained(history: StudyHistory, answer: RetrainRow | None) -> list[Block]:
    """Every finished retrain but the one that is the answer."""
    rows = []
    for row in history.finished_retrains:
        if row is answer:
            continue
        summary = (row.metrics or {})["summary"]
        name = next((one for one in FIGURES if one in summary), next(iter(summary), None))
        what = {
            Source.SEARCH: f"the search's choice then, trial {row.config.get('trial')}",
            Source.TRIAL: f"trial {row.config.get('trial')}",
            Source.FILE: "the configuration of a file",
        }[row.source]
        limit = (row.config.get("data") or {}).get("limit")
        rows.append(
            (
                what,
                f"{row.config.get('epochs')} of {'all' if limit is None else limit} images",
                "-" if name is None else f"{FIGURES.get(name, name)} {format_interval(summary[name])}",
                f"{row.ended_at:%Y-%m-%d %H:%M} UTC" if row.ended_at is not None else "-",
            )
        )
    headers = ("also retrained", "epochs", "result", "finished")
    rule = (
        "The answer above is the last retrain of what the search chose, or, where there is none, the last one: never"
        " the one with the best test figure."
    )
    return [Paragraph(rule, "note"), Table(headers, rows)]


def _looked(history: StudyHistory) -> str:
    openings = len(history.test_openings)
    if openings:
        return f"the test set was opened {formatting.times(openings)} by retrains that have not finished"
    return "the test set has not been looked at"


def default_params(history: StudyHistory) -> Mapping[str, Any] | None:
    """The objective's first known good configuration, where it lies in the study's space."""
    spec = history.study.spec
    first = spec.get("first") or []
    return first[0] if first and len(first[0]) == len(spec["space"]) else None


def default_trial(history: StudyHistory) -> TrialRow | None:
    """The trial of that configuration, a complete one if there is."""
    default = default_params(history)
    tried = [trial for trial in history.trials if default is not None and dict(trial.params) == dict(default)]
    return min(tried, key=lambda trial: (trial.state != "complete", trial.number or 0), default=None)


def against_default(history: StudyHistory) -> str:
    """How much better the best is than the configuration that one would have started from."""
    study, best, default = history.study, history.best, default_params(history)
    if default is None:
        return "The objective names no default configuration within this study's space to compare with."
    measured = _measured_difference(history, default)
    if measured is not None:
        return measured
    trial = default_trial(history)
    if trial is None:
        return "The objective's default configuration was not tried in this study, so nothing is compared with it."
    words = f"the objective's default configuration (trial {trial.number})"
    if trial.state != "complete" or trial.value is None:
        ended = trial.why or trial.state
        return f"There is no final value of {words} to compare with: {ended}."
    if best is None or dict(best.params) == dict(default):
        return f"No trial did better than {words}, {study.metric} {formatting.metric(trial.value)}."
    gain = (best.value or 0.0) - trial.value
    answer = history.answer
    competed = answer is not None and "selection" in (answer.metrics or {})
    advice = f" hpo retrain --study {study.name} --top K compares leading configurations from fresh seeds."
    return (
        f"In the search trial {best.number} came to {study.metric} {formatting.metric(best.value)}, {words} to"
        f" {formatting.metric(trial.value)}: {amount(abs(gain), study.metric)} better on validation images."
        f" One run each, and the best of many: part of it is luck.{'' if competed else advice}"
    )


def _measured_difference(history: StudyHistory, default: Mapping[str, Any]) -> str | None:
    """Against the default where both were trained from several seeds on the same terms, on the test set or, as
    candidates, on validation images."""
    latest = history.answer
    if latest is None:
        return None
    finished = history.finished_retrains
    is_default = _params(latest) == dict(default)
    others = [row for row in finished if (_params(row) == dict(default)) != is_default]
    other = next((row for row in reversed(others) if setup_of(row) == setup_of(latest)), None)
    if other is not None:
        best, against = (other, latest) if is_default else (latest, other)
        sides = [_accuracies(row) for row in (best, against)]
        if all(len(side) > 1 for side in sides):
            return _describe_difference(sides[0], sides[1], "test accuracy", maximize=True)
    candidates = (latest.metrics or {}).get("selection", {}).get("candidates", [])
    if is_default:
        rivals = len(candidates) - 1
        beaten = f": it was the best of {rivals + 1} candidates from fresh seeds" if rivals > 0 else ""
        return f"What was retrained is the objective's default configuration itself{beaten}."
    chosen = next((one for one in candidates if one["chosen"]), None)
    tried = next((one for one in candidates if one["params"] == default), None)
    if chosen is not None and tried is not None and min(len(chosen["values"]), len(tried["values"])) > 1:
        found = _describe_difference(
            chosen["values"],
            tried["values"],
            f"{history.study.metric} on validation images",
            maximize=history.study.maximize,
        )
        return f"{found} It was chosen for these very values, which flatters it a little."
    if other is None and others:
        return (
            "The objective's default configuration was retrained on other terms (epochs, images or objective), so the"
            " two are not compared."
        )
    return None


def _params(row: RetrainRow) -> dict[str, Any]:
    return dict(row.config.get("params", {}))


def _accuracies(row: RetrainRow) -> list[float]:
    runs = (row.metrics or {})["runs"]
    found = [formatting.json_number(run.get("test_accuracy")) for run in runs]
    return [value for value in found if value is not None and math.isfinite(value)]


def _describe_difference(best: list[float], default: list[float], what: str, *, maximize: bool) -> str:
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
    noise = {
        True: "the difference is larger than the noise of seeds",
        False: "the difference is within the noise of seeds",
        None: "how much seeds differ cannot be told from these",
    }[found.exceeds_noise]
    return (
        f"Against the objective's default configuration, from fresh seeds: {what} "
        f"{formatting.metric(statistics.fmean(best))} instead of {formatting.metric(statistics.fmean(default))}, "
        f"{amount(abs(gain), what)} {direction}{interval}; {noise}."
    )
