"""`hpo compare`: the final figures of several studies, and whether they differ by more than the noise of seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.document.document import Document
from hpo.document.files import document_files, json_file, write_files
from hpo.report.compare_sections import build_document
from hpo.report.cost import cost_of
from hpo.report.study_comparison import (
    PairwiseDifference,
    StudyResult,
    common_figure,
    comparability,
    compare_pairs,
)
from hpo.study.history import read_history

if TYPE_CHECKING:
    from storage.engine import Database


def compare(database: Database, names: Sequence[str], folder: Path) -> tuple[Document, list[str]]:
    """Compare studies; write a page, Markdown with pictures and JSON into `folder`, and return their names.

    Raises:
        UnknownStudyError: there is no study of one of the names.
        ResultsNotWritableError, DiskFullError: the files cannot be written.
    """
    sides = [StudyResult(read_history(database, name)) for name in names]
    figure = common_figure(sides)
    pairs = compare_pairs(sides, figure) if figure is not None else []
    document = build_document(sides, figure, pairs)
    files = document_files(document, "compare") | {"compare.json": json_file(_json(sides, figure, pairs))}
    write_files(folder, files)
    return document, list(files)


def _json(
    sides: Sequence[StudyResult], figure: str | None, pairs: Sequence[PairwiseDifference]
) -> dict[str, Any]:
    return {
        "figure": figure,
        "studies": [
            {
                "study": side.name,
                "objective": side.history.study.objective,
                "summary": side.metrics.get("summary"),
                "values": side.values(figure) if figure is not None else [],
                "parameters": side.runs[0].get("parameters") if side.runs else None,
                "cost": asdict(cost_of(side.history)),
            }
            for side in sides
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
        "warnings": comparability(sides),
    }
