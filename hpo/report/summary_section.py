"""The summary, the first section of a report: the best configuration, its result and its gain over the default."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from hpo import formatting
from hpo.analysis.common_epoch import Comparison
from hpo.analysis.effects import Effect, amount
from hpo.analysis.statistics import Interval, mean, welch
from hpo.document.document import Block, Bullets, Paragraph, Section, Table
from hpo.outcomes import Outcome
from hpo.report.study_comparison import FIGURES, setup_of
from hpo.study.history import NOT_RECORDED, StudyHistory
from hpo.study.trials import TrialRow
from objectives.choices import same_params
from storage.retrains import RetrainRow, Source


def summary_section(
    history: StudyHistory, retrain: RetrainRow | None, effects: Sequence[Effect], comparison: Comparison
) -> Section:
    """Return the result, the comparison with the default, the clear effects and the configuration."""
    study, best = history.study, history.best
    blocks = _tested(study.name, retrain) if retrain is not None else _best_so_far(history)
    if len(history.codes) > 1:
        blocks += _versions_of_code(history)
    if retrain is not None:
        blocks += _other_code(history, retrain)
    if history.status.better_added is not None:
        blocks.append(Paragraph(f"Note: {history.status.better_added}.", "note"))
    blocks.append(Paragraph(against_default(history)))
    clear = [f"{effect.parameter}: {effect.finding}" for effect in effects if effect.stands_out]
    if clear:
        when = ""
        if comparison.epoch != comparison.epochs_per_trial:
            when = f", compared after epoch {comparison.epoch} of {comparison.epochs_per_trial}"
        blocks += [Paragraph(f"Significant effects of hyperparameters{when}:"), Bullets(clear)]
    params = retrain.config["params"] if retrain is not None else best.params if best is not None else None
    if params is not None:
        blocks.append(_params_table(history, params, "retrained" if retrain is not None else "best"))
    if retrain is not None and best is not None and not _same(history, best.params, _params(retrain)):
        blocks.append(
            Paragraph(
                f"The retrained configuration is not the one with the best single value, trial {best.number} "
                f"({study.metric} {formatting.metric(best.value)}).",
                "note",
            )
        )
    notes = [f"trial {number}: {note}" for number, note in sorted(history.notes.items())]
    if notes:
        blocks += [Paragraph("Notes on trials:"), Bullets(notes)]
    if len(history.finished_retrains) > 1:
        blocks += _also_retrained(history, retrain)
    return Section("Summary", blocks)


def _best_so_far(history: StudyHistory) -> list[Block]:
    study, best = history.study, history.best
    if best is None:
        yet = "" if history.status.state == "finished" else " yet"
        return [Paragraph(f"No trial has completed{yet}, so there is no result.", "lead")]
    # An Optuna objective chooses its data itself.
    is_open = bool(study.spec_json.get("open_space"))
    where, tested = ("", "") if is_open else (" on validation images", f"{_test_evaluations(history)} ")
    return [
        Paragraph(
            f"Best so far: {study.metric} {formatting.metric(best.value)}{where}, trial {best.number}.",
            "lead",
        ),
        Paragraph(
            "This value is optimistic: it is the best of many single runs, chosen by this value. "
            f"{tested}hpo retrain --study {study.name} gives an unbiased estimate.",
            "note",
        ),
    ]


def _versions_of_code(history: StudyHistory) -> list[Block]:
    """Return a warning that the objective's code has changed, and a table of the trials of each version."""
    mixed = sorted(number for number, times in Counter(chain(*history.codes.values())).items() if times > 1)
    text = "The objective's code has changed during the study, so its trials may not be comparable."
    if mixed:
        ran = "Trial" if len(mixed) == 1 else "Trials"
        text += f" {ran} {formatting.ranges(mixed)} ran with more than one version."
    rows = [(code, formatting.ranges(numbers)) for code, numbers in history.codes.items()]
    return [Paragraph(text, "note"), Table(("version of the code", "trials"), rows)]


def _other_code(history: StudyHistory, retrain: RetrainRow) -> list[Block]:
    """Return a warning if the final runs were trained with other code than their trial."""
    code, trial = (retrain.metrics or {}).get("objective_code"), retrain.config.get("trial")
    if code is None or trial is None or retrain.config.get("study") not in (None, history.study.name):
        return []
    earlier = [
        found
        for found, numbers in history.codes.items()
        if trial in numbers and found not in (code, NOT_RECORDED)
    ]
    if not earlier:
        return []
    text = (
        f"The final runs were trained with another version of the objective's code ({code}) than trial {trial}"
        f" ({', '.join(earlier)}), so they may not repeat its result."
    )
    return [Paragraph(text, "note")]


def _params_table(history: StudyHistory, params: Mapping[str, Any], header: str) -> Table:
    """Return the parameters, next to those of the default configuration if there is one."""
    default = default_params(history)
    rows = [
        (name, formatting.parameter(value))
        for name, value in formatting.in_order(params, history.parameters).items()
    ]
    if default is None:
        return Table(("parameter", header), rows, frozenset({header}))
    defaults = [formatting.parameter(default.get(name, "-")) for name, _ in rows]
    return Table(
        ("parameter", header, "default"),
        [(*row, other) for row, other in zip(rows, defaults, strict=True)],
        frozenset({header, "default"}),
    )


def _tested(study: str, retrain: RetrainRow) -> list[Block]:
    metrics = retrain.metrics or {}
    summary, trial = metrics["summary"], retrain.config.get("trial")
    name = next((one for one in FIGURES if one in summary), next(iter(summary), None))
    if name is None:
        return [Paragraph("The final runs recorded no figures.", "lead")]
    own = trial is not None and retrain.config.get("study") in (None, study)
    source = f"trial {trial}, retrained" if own else "a configuration from a file, retrained"
    lead = f"{FIGURES.get(name, name)} {Interval.from_json(summary[name]).describe()}: {source}."
    blocks: list[Block] = [Paragraph(lead[0].upper() + lead[1:], "lead")]
    flipped = summary.get("test_accuracy_flip_averaged")
    if flipped is not None and name == "test_accuracy":
        blocks.append(
            Paragraph(
                f"Averaged over each test image and its mirror image: {Interval.from_json(flipped).describe()}."
            )
        )
    return blocks


def _also_retrained(history: StudyHistory, answer: RetrainRow | None) -> list[Block]:
    """Return a table of the other finished retrains."""
    rows = []
    for row in history.finished_retrains:
        if row is answer:
            continue
        summary = (row.metrics or {})["summary"]
        name = next((one for one in FIGURES if one in summary), next(iter(summary), None))
        source = {
            Source.SEARCH: f"trial {row.config.get('trial')}, chosen by the search at that time",
            Source.TRIAL: f"trial {row.config.get('trial')}",
            Source.FILE: "a configuration from a file",
        }[row.source]
        limit = (row.config.get("data") or {}).get("limit")
        rows.append(
            (
                source,
                f"{row.config.get('epochs')} of {'all' if limit is None else limit} images",
                "-"
                if name is None
                else f"{FIGURES.get(name, name)} {Interval.from_json(summary[name]).describe()}",
                f"{row.ended_at:%Y-%m-%d %H:%M} UTC" if row.ended_at is not None else "-",
            )
        )
    headers = ("also retrained", "epochs", "result", "finished")
    rule = (
        "The result above is the last retrain of the configuration that the search chose, or else the last retrain;"
        " it is never selected by its test figures."
    )
    return [Paragraph(rule, "note"), Table(headers, rows)]


def _test_evaluations(history: StudyHistory) -> str:
    openings = len(history.test_openings)
    if openings:
        return f"Unfinished retrains have evaluated the test set {formatting.times(openings)}."
    return "The test set has not been used yet."


def default_params(history: StudyHistory) -> Mapping[str, Any] | None:
    """Return the objective's first known good configuration if the study's space contains it, else None."""
    spec = history.study.spec_json
    first = spec.get("first") or []
    return first[0] if first and len(first[0]) == len(spec["space"]) else None


def default_trial(history: StudyHistory) -> TrialRow | None:
    """Return the trial of the default configuration, preferably a complete one."""
    default = default_params(history)
    tried = [
        trial for trial in history.trials if default is not None and _same(history, trial.params, default)
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
    if best is None or _same(history, best.params, default):
        return f"No trial was better than {reference}, {study.metric} {formatting.metric(trial.value)}."
    gain = (best.value or 0.0) - trial.value
    answer = history.answer
    competed = answer is not None and "selection" in (answer.metrics or {})
    advice = f" hpo retrain --study {study.name} --top K compares the best configurations from fresh seeds."
    return (
        f"In the search, trial {best.number} reached {study.metric} {formatting.metric(best.value)} and {reference}"
        f" {formatting.metric(trial.value)}: {amount(abs(gain), study.metric)} better on validation images."
        f" With one run each, choosing the best trial makes the difference optimistic.{'' if competed else advice}"
    )


def _measured_difference(history: StudyHistory, default: Mapping[str, Any]) -> str | None:
    """Return the comparison over seeds, if both were retrained with the same setup or were candidates; else None."""
    latest = history.answer
    if latest is None:
        return None
    finished = history.finished_retrains
    is_default = _same(history, _params(latest), default)
    others = [row for row in finished if _same(history, _params(row), default) != is_default]
    other = next((row for row in reversed(others) if setup_of(row) == setup_of(latest)), None)
    if other is not None:
        best, against = (other, latest) if is_default else (latest, other)
        accuracies = [_accuracies(row) for row in (best, against)]
        if all(len(values) > 1 for values in accuracies):
            return _describe_difference(accuracies[0], accuracies[1], "test accuracy", maximize=True)
    candidates = (latest.metrics or {}).get("selection", {}).get("candidates", [])
    if is_default:
        rivals = len(candidates) - 1
        beaten = f", the best of {rivals + 1} candidates from fresh seeds" if rivals > 0 else ""
        return f"The retrained configuration is the objective's default configuration{beaten}."
    chosen = next((one for one in candidates if one["chosen"]), None)
    tried = next((one for one in candidates if _same(history, one["params"], default)), None)
    if chosen is not None and tried is not None and min(len(chosen["values"]), len(tried["values"])) > 1:
        found = _describe_difference(
            chosen["values"],
            tried["values"],
            f"{history.study.metric} on validation images",
            maximize=history.study.maximize,
        )
        return (
            f"{found} The configuration was chosen by these values, so the difference is slightly optimistic."
        )
    if other is None and others:
        return (
            "The objective's default configuration was retrained with a different setup (epochs, images or objective),"
            " so the two are not compared."
        )
    return None


def _same(history: StudyHistory, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return same_params(one, other, history.space)


def _params(row: RetrainRow) -> dict[str, Any]:
    return dict(row.config.get("params", {}))


def _accuracies(row: RetrainRow) -> list[float]:
    runs = (row.metrics or {})["runs"]
    found = [formatting.json_number(run.get("test_accuracy")) for run in runs]
    return [value for value in found if value is not None and math.isfinite(value)]


def _describe_difference(best: list[float], default: list[float], figure: str, *, maximize: bool) -> str:
    found = welch(best, default)
    gain = found.mean if maximize else -found.mean
    direction = "better" if gain >= 0 else "worse"
    bounds = found.interval95
    interval = ""
    if bounds is not None:
        low, high = sorted(bounds if maximize else (-bounds[0], -bounds[1]))
        interval = (
            f" (95 % interval {amount(low, figure).removesuffix(' points')} to {amount(high, figure)}, Welch)"
        )
    noise = {
        True: "the difference exceeds seed noise",
        False: "the difference is within seed noise",
        None: "there are too few distinct values to estimate seed noise",
    }[found.exceeds_noise]
    return (
        f"Compared with the objective's default configuration, from fresh seeds: {figure} "
        f"{formatting.metric(mean(best))} instead of {formatting.metric(mean(default))}, "
        f"{amount(abs(gain), figure)} {direction}{interval}; {noise}."
    )
