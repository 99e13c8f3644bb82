"""Looks at a data set from all sides and writes it down."""

from __future__ import annotations

from pathlib import Path

from hpo.document.document import Document
from hpo.document.files import document_files, json_file, write_files
from hpo.explore.dataset import Subject
from hpo.explore.duplicates import find_duplicates
from hpo.explore.exploration_document import build_exploration, statistics
from hpo.explore.label_errors import class_means
from hpo.explore.statistics import balance, channels


def explore(subject: Subject, folder: Path) -> tuple[Document, list[str]]:
    """Write `explore.html`, `explore.md` with pictures and `statistics.json`; returns the names of the files.

    Raises:
        ResultsNotWritableError, DiskFullError: the files cannot be written.
    """
    data, splits = subject.data, subject.splits
    seen = [one for name in ("training", "validation") for one in channels(name, splits[name][0])]
    found = (
        balance(splits, data.class_count),
        seen,
        find_duplicates(splits),
        class_means(data.x_train, data.y_train, data.class_count),
    )
    document = build_exploration(subject, *found)
    files = {
        **document_files(document, "explore"),
        "statistics.json": json_file(statistics(subject, *found)),
    }
    write_files(folder, files)
    return document, list(files)
