"""The report of an experiment's study: a document and machine-readable files."""

from __future__ import annotations

from hpo import formatting
from hpo.analysis.ablation.effects import Ablation
from hpo.document.document import Document
from hpo.document.files import data_file, document_files, json_file
from hpo.document.parts import attempt, section
from hpo.report.ablation.files import ablation_csv, ablation_json
from hpo.report.ablation.sections import ablation_sections
from hpo.report.ablation.text import Wording
from hpo.report.cost import cost_blocks
from hpo.report.reproduction_section import reproduction_section
from hpo.study.history import StudyHistory
from objectives.trial_value import goal


def experiment_files(history: StudyHistory) -> dict[str, bytes]:
    """Return the report's files by name, without those of all trials and epochs."""
    wording = Wording(Ablation.of(history))
    return {
        **document_files(experiment_report(history, wording), "report"),
        **data_file("ablation.csv", lambda: ablation_csv(wording)),
        **data_file("ablation.json", lambda: json_file(ablation_json(wording))),
    }


def experiment_report(history: StudyHistory, wording: Wording) -> Document:
    """Return the report as a document."""
    study, status = history.study, history.status
    design = wording.ablation.design
    subtitle = (
        f"An experiment around trial {design.trial} of {design.study}: {study.objective},"
        f" {goal(study.spec_json['direction'], study.metric, study.value_rule)}; {status.finished} of"
        f" {formatting.counted(study.budget, 'run')} of {formatting.counted(study.spec_json['epochs'], 'epoch')}"
    )
    return Document(
        f"Study {study.name}",
        subtitle,
        [
            *ablation_sections(wording),
            *section("Cost", lambda: cost_blocks(history)[:1]),
            *reproduction_section(history, None),
        ],
        "Written by hpo report. Machine-readable: ablation.json, ablation.csv, trials.csv, epochs.csv.",
        attempt("The state of the study", lambda: _state(history), lambda line: [line]),
    )


def _state(history: StudyHistory) -> list[str]:
    status = history.status
    if status.state == "finished":
        return []
    continues = "" if status.agents else f" hpo launch --study {history.study.name} continues it."
    return [
        f"The experiment is {status.state}: {status.finished} of {status.budget} runs have finished, so these results"
        f" may change.{continues}"
    ]
