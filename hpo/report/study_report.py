"""`hpo report`: everything known about a study, as a document and as machine-readable files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo import formatting
from hpo.document.document import Document
from hpo.document.files import csv_file, data_file, document_files, json_file, write_document
from hpo.document.parts import attempt, section
from hpo.report.ablation.experiment_report import experiment_files
from hpo.report.cost import cost_blocks, cost_of
from hpo.report.default_comparison import against_default
from hpo.report.estimate_comparison import estimate_blocks, estimate_json
from hpo.report.findings import Findings
from hpo.report.front_section import front_section
from hpo.report.parameter_sections import parameter_section
from hpo.report.reproduction_section import commands, reproduction_section
from hpo.report.retraining_sections import retraining_sections
from hpo.report.search_sections import search_sections, trial_table
from hpo.report.summary_section import summary_section
from hpo.study.history import StudyHistory, read_history
from hpo.study.results.columns import of_figures, of_parameters
from hpo.study.results.front import second_of
from objectives.trial_value import goal

if TYPE_CHECKING:
    from storage.engine import Database


def report(database: Database, name: str, folder: Path) -> list[str]:
    """Write the report of a study into `folder` and return the file names.

    Raises:
        UnknownStudyError: the study does not exist.
        ResultsNotWritableError, DiskFullError: the files cannot be written.
    """
    files = report_files(read_history(database, name))
    write_document(folder, files)
    return list(files)


def report_files(history: StudyHistory) -> dict[str, bytes]:
    """Return all files of a report by name."""
    records = {
        **data_file("trials.csv", lambda: _trials_csv(history)),
        **data_file("epochs.csv", lambda: _epochs_csv(history)),
    }
    if history.study.spec_json.get("design") is not None:
        return {**experiment_files(history), **records}
    findings = Findings(history)
    return {
        **document_files(build_report(history, findings), "report"),
        **records,
        **data_file("importance.json", lambda: json_file(_importance(findings))),
        **data_file("report.json", lambda: json_file(_summary(history))),
    }


def build_report(history: StudyHistory, findings: Findings) -> Document:
    """Return the report as a document."""
    study, retrain = history.study, history.answer
    sections = [
        *summary_section(history, retrain, findings),
        *(retraining_sections(history, retrain) if retrain is not None else []),
        *front_section(history),
        *search_sections(history, findings),
        *parameter_section(findings),
        *section("Trials", lambda: trial_table(history)),
        *section("Cost", lambda: cost_blocks(history), lambda: estimate_blocks(history)),
        *reproduction_section(history, retrain),
    ]
    aim = goal(study.spec_json["direction"], study.metric, study.value_rule)
    if (second := second_of(study)) is not None:
        aim += f" and minimize {second}"
    subtitle = (
        f"{study.objective}, {aim}; {history.status.finished} of {formatting.counted(study.budget, 'trial')} of up to "
        f"{formatting.counted(study.spec_json['epochs'], 'epoch')}"
    )
    return Document(
        f"Study {study.name}",
        subtitle,
        sections,
        "Written by hpo report. Machine-readable: report.json, importance.json, trials.csv, epochs.csv.",
        attempt("The state of the study", lambda: state_of(history), lambda line: [line]),
    )


def state_of(history: StudyHistory) -> list[str]:
    """Return a sentence for each unfinished part of the study and how to continue it."""
    name, status, lines = history.study.name, history.status, []
    if status.state != "finished":
        lines.append(
            f"The search is {status.state}: {status.finished} of {status.budget} trials have finished, so these "
            "results may change." + ("" if status.agents else f" hpo launch --study {name} continues it.")
        )
    retrain = history.answer
    if retrain is None:
        begun = " A retrain has started but not finished." if history.retrains else ""
        if not history.complete:
            how = " There is no complete trial to retrain."
        elif not status.has_test_set:
            how = " hpo retrain needs a test set, and the data have none."
        else:
            how = f" hpo retrain --study {name}"
        lines.append(f"No configuration has been retrained, so there are no test figures.{begun}{how}")
        return lines
    # A trial that was still running could not be chosen.
    later = [
        trial
        for trial in history.complete
        if (curve := history.curves.get(trial.number or 0)) and curve[-1].created_at > retrain.started_at
    ]
    if later:
        lines.append(
            f"{formatting.counted(len(later), 'trial')} completed after the retrain started, so its configuration may"
            " not be the best."
        )
    return lines


def _importance(findings: Findings) -> dict[str, Any]:
    comparison = findings.comparison
    return {
        "metric": comparison.metric,
        "compared_after_epoch": comparison.epoch,
        "epochs_per_trial": comparison.epochs_per_trial,
        "trials": len(comparison.trials),
        "trials_left_out": comparison.left_out,
        "importance_method": "PED-ANOVA",
        "importance": findings.importance,
        "effect_method": "additive model, Freedman-Lane permutation test with Holm's correction, bootstrap interval",
        "effects": [effect.to_json() for effect in findings.effects],
    }


def _summary(history: StudyHistory) -> dict[str, Any]:
    best, retrain = history.best, history.answer
    metrics = (retrain.metrics or {}) if retrain is not None else {}
    return {
        "study": history.study.name,
        "condition": history.status.state,
        "state": state_of(history),
        "metric": history.study.metric,
        "direction": history.study.spec_json["direction"],
        "value_rule": history.study.value_rule,
        "best_trial": None
        if best is None
        else {"number": best.number, "value": best.value, "params": dict(best.params)},
        "front": [
            {
                "number": trial.number,
                "value": trial.value,
                "figures": dict(trial.figures),
                "params": dict(trial.params),
            }
            for trial in history.front
        ],
        "against_default": against_default(history),
        "retrained": None
        if retrain is None
        else {
            "trial": retrain.config.get("trial"),
            "params": retrain.config.get("params"),
            "epochs": retrain.config.get("epochs"),
            "data": retrain.config.get("data"),
            "train_images": metrics["runs"][0].get("n_train"),
            "test_images": metrics["runs"][0].get("n_test"),
            "seeds": list(retrain.seeds),
            "summary": metrics.get("summary"),
            "selection": metrics.get("selection"),
            "parameters": metrics["runs"][0].get("parameters"),
        },
        "test_openings": [time.isoformat() for time in history.test_openings],
        "cost": asdict(cost_of(history)),
        "estimate": estimate_json(history),
        "commands": commands(history, retrain),
        "spec": history.study.spec_json,
    }


def _trials_csv(history: StudyHistory) -> bytes:
    every = sorted([*history.trials, *history.added], key=lambda row: (row.number is None, row.number or 0))
    names = list(dict.fromkeys([*history.parameters, *(name for trial in every for name in trial.params)]))
    figures = of_figures(dict.fromkeys(name for trial in every for name in trial.figures))
    own = ("number", "state", "value", "epochs", "seconds", "attempts", "created_at", *figures.values())
    return csv_file(
        (*own, *of_parameters(names, figures.values()).values(), "why", "note"),
        (
            (
                trial.number,
                trial.state,
                trial.value,
                trial.epochs,
                round(trial.seconds, 3),
                trial.attempts,
                trial.created_at.isoformat() if trial.created_at else "",
                *(trial.figures.get(name) for name in figures),
                *(trial.params.get(name) for name in names),
                trial.why,
                trial.note,
            )
            for trial in every
        ),
    )


def _epochs_csv(history: StudyHistory) -> bytes:
    own = ("number", "epoch", "attempt_id", "seconds")
    names = formatting.apart((name for row in history.epochs for name in row.metrics), own, "metric_")
    return csv_file(
        (*own, *names.values()),
        (
            (
                row.number,
                row.epoch,
                row.attempt_id,
                round(row.seconds, 3),
                *(formatting.json_safe(row.metrics.get(name)) for name in names),
            )
            for row in history.epochs
        ),
    )
