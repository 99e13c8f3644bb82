"""`hpo compare`: the final figures of several studies, and whether they differ by more than seed noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.document.document import Document
from hpo.document.files import data_file, document_files, json_file, write_document
from hpo.report.compare_sections import build_document
from hpo.report.cost import cost_of
from hpo.report.study_comparison import StudyComparison, StudyResult, comparability_warnings
from hpo.study.history import read_history

if TYPE_CHECKING:
    from storage.engine import Database


def compare(database: Database, names: Sequence[str], folder: Path) -> tuple[Document, list[str]]:
    """Compare studies; write HTML, Markdown with pictures and JSON into `folder`, and return the file names.

    Raises:
        UnknownStudyError: one of the studies does not exist.
        ResultsNotWritableError, DiskFullError: the files cannot be written.
    """
    compared = StudyComparison([StudyResult(read_history(database, name)) for name in names])
    document = build_document(compared)
    files = {
        **document_files(document, "compare"),
        **data_file("compare.json", lambda: json_file(_json(compared))),
    }
    write_document(folder, files)
    return document, list(files)


def _json(compared: StudyComparison) -> dict[str, Any]:
    figure = compared.figure
    return {
        "figure": figure,
        "studies": [
            {
                "study": result.name,
                "objective": result.history.study.objective,
                "summary": result.metrics.get("summary"),
                "values": result.values(figure) if figure is not None else [],
                "parameters": result.runs[0].get("parameters") if result.runs else None,
                "cost": asdict(cost_of(result.history)),
            }
            for result in compared.results
        ],
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                **asdict(pair.difference),
                "corrected_p_value": pair.p_value,
                "exceeds_noise": pair.exceeds_noise,
            }
            for pair in compared.pairs
        ],
        "warnings": comparability_warnings(compared.results),
    }
