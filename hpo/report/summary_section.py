"""The summary, the first section of a report: the best configuration, its result and its gain over the default."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain
from typing import Any

from hpo import formatting
from hpo.analysis.figures import interval_of, label_of, leading
from hpo.document.document import Block, Bullets, Paragraph, Section, Table
from hpo.document.parts import section
from hpo.report.default_comparison import against_default, default_params, is_same
from hpo.report.findings import Findings
from hpo.report.headline import gap, headline
from hpo.retrain.selection_text import named
from hpo.study.definition.goal_text import noise_text
from hpo.study.history import NOT_RECORDED, StudyHistory
from storage.retrains import RetrainRow, Source


def summary_section(history: StudyHistory, retrain: RetrainRow | None, findings: Findings) -> list[Section]:
    """Return the result, the comparison with the default, the clear effects and the configuration."""
    return section(
        "Summary",
        lambda: headline(history, retrain) if retrain is not None else _best_so_far(history),
        lambda: gap(history, retrain) if retrain is not None else None,
        lambda: _versions_of_code(history),
        lambda: _other_code(history, retrain) if retrain is not None else None,
        lambda: _better_added(history),
        lambda: _noise(history),
        lambda: Paragraph(against_default(history)),
        lambda: _clear_effects(findings),
        lambda: _configuration(history, retrain),
        lambda: _notes(history),
        lambda: _also_retrained(history, retrain),
    )


def _better_added(history: StudyHistory) -> Paragraph | None:
    better = history.status.better_added
    return Paragraph(f"Note: {better}.", "note") if better is not None else None


def _noise(history: StudyHistory) -> Paragraph | None:
    noise = history.status.noise
    return Paragraph(f"Noise: {noise_text(noise)}.") if noise is not None else None


def _clear_effects(findings: Findings) -> list[Block]:
    clear = [f"{effect.parameter}: {effect.finding}" for effect in findings.effects if effect.stands_out]
    if not clear:
        return []
    comparison, when = findings.comparison, ""
    if comparison.epoch != comparison.epochs_per_trial:
        by = "after" if comparison.rule == "last" else "by their best value up to"
        when = f", compared {by} epoch {comparison.epoch} of {comparison.epochs_per_trial}"
    return [Paragraph(f"Significant effects of hyperparameters{when}:"), Bullets(clear)]


def _configuration(history: StudyHistory, retrain: RetrainRow | None) -> list[Block]:
    """Return the configuration of the result, and whether it is not that with the best single value."""
    best = history.best
    if retrain is None:
        return [_params_table(history, best.params, "best")] if best is not None else []
    blocks: list[Block] = [_params_table(history, retrain.config["params"], "retrained")]
    if best is not None and not is_same(history, best.params, retrain.config["params"]):
        blocks.append(
            Paragraph(
                f"The retrained configuration is not the one with the best single value, trial {best.number} "
                f"({history.study.metric} {formatting.metric(best.value)}).",
                "note",
            )
        )
    return blocks


def _notes(history: StudyHistory) -> list[Block]:
    own = history.status.note
    notes = [f"trial {number}: {note}" for number, note in sorted(history.notes.items())]
    blocks: list[Block] = [Paragraph(f"Note on this study: {own}")] if own else []
    if notes:
        blocks += [Paragraph("Notes on trials:"), Bullets(notes)]
    return blocks


def _best_so_far(history: StudyHistory) -> list[Block]:
    study, best = history.study, history.best
    if best is None:
        yet = "" if history.status.state == "finished" else " yet"
        return [Paragraph(f"No trial has completed{yet}, so there is no result.", "lead")]
    # An Optuna objective chooses its data itself.
    is_open = bool(study.spec_json.get("open_space"))
    where, tested = ("", "") if is_open else (" on validation data", f"{_test_evaluations(history)} ")
    return [
        Paragraph(
            f"Best so far: {study.metric} {formatting.metric(best.value)}{where}, trial {best.number}.",
            "lead",
        ),
        Paragraph(
            "This value is optimistic: it is the best of many single runs, chosen by this value. "
            + (
                f"{tested}hpo retrain --study {study.name} gives an unbiased estimate."
                if history.status.has_test_set
                else "The data have no test set for an unbiased estimate."
            ),
            "note",
        ),
    ]


def _versions_of_code(history: StudyHistory) -> list[Block]:
    """Return a warning if the objective's code has changed, and a table of the trials of each version."""
    if len(history.codes) < 2:
        return []
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


def _also_retrained(history: StudyHistory, answer: RetrainRow | None) -> list[Block]:
    """Return a table of the other finished retrains."""
    if len(history.finished_retrains) < 2:
        return []
    rows = []
    for row in history.finished_retrains:
        if row is answer:
            continue
        summary = (row.metrics or {})["summary"]
        name, trial = leading(summary, history.study.metric), row.config.get("trial")
        source = {
            Source.SEARCH: f"{named(trial)}, chosen by the search at that time",
            Source.TRIAL: f"trial {trial}",
            Source.FILE: "a configuration from a file",
        }[row.source]
        limit = (row.config.get("data") or {}).get("limit")
        rows.append(
            (
                source,
                f"{row.config.get('epochs')} of {'all data' if limit is None else f'{limit} examples'}",
                "-" if name is None else f"{label_of(name)} {interval_of(summary, name).describe()}",
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
