"""`hpo compare`: the final figures of several studies, and whether they differ by more than seed noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.document.document import Document
from hpo.document.files import document_files, json_file, write_document
from hpo.report.compare_sections import build_document
from hpo.report.cost import cost_of
from hpo.report.study_comparison import (
    PairwiseDifference,
    StudyResult,
    common_figure,
    comparability_warnings,
    compare_pairs,
)
from hpo.study.history import read_history

if TYPE_CHECKING:
    from storage.engine import Database


def compare(database: Database, names: Sequence[str], folder: Path) -> tuple[Document, list[str]]:
    """Compare studies; write HTML, Markdown with pictures and JSON into `folder`, and return the file names.

    Raises:
        UnknownStudyError: one of the studies does not exist.
        ResultsNotWritableError, DiskFullError: the files cannot be written.
    """
    results = [StudyResult(read_history(database, name)) for name in names]
    figure = common_figure(results)
    pairs = compare_pairs(results, figure) if figure is not None else []
    document = build_document(results, figure, pairs)
    files = document_files(document, "compare") | {"compare.json": json_file(_json(results, figure, pairs))}
    write_document(folder, files)
    return document, list(files)


def _json(
    results: Sequence[StudyResult], figure: str | None, pairs: Sequence[PairwiseDifference]
) -> dict[str, Any]:
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
            for result in results
        ],
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                **asdict(pair.difference),
                "corrected_p_value": pair.p_value,
                "exceeds_noise": pair.exceeds_noise,
            }
            for pair in pairs
        ],
        "warnings": comparability_warnings(results),
    }
