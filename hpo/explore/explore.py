"""The files of `hpo data explore`: a document with pictures, and statistics as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpo.document.document import Document
from hpo.document.files import data_file, document_files, json_file, write_document
from hpo.explore.dataset import Dataset
from hpo.explore.duplicates import Pair, Place
from hpo.explore.exploration_document import Exploration, build_exploration
from hpo.explore.label_errors import Suspect


def explore(dataset: Dataset, folder: Path) -> tuple[Document, list[str]]:
    """Write `explore.html`, `explore.md` with pictures and `statistics.json`; return the document and file names.

    Raises:
        ResultsNotWritableError, DiskFullError: the files cannot be written.
    """
    found = Exploration(dataset)
    document = build_exploration(dataset, found)
    files = {
        **document_files(document, "explore"),
        **data_file("statistics.json", lambda: json_file(_statistics(dataset, found))),
    }
    write_document(folder, files)
    return document, list(files)


def _statistics(dataset: Dataset, found: Exploration) -> dict[str, Any]:
    balance, duplicates = found.balance, found.duplicates

    def numbered(image: Place | Suspect, split: str) -> dict[str, Any]:
        return {**vars(image), "index": dataset.number(split, image.index)}

    def pair_json(pair: Pair) -> dict[str, Any]:
        return {
            "first": numbered(pair.first, pair.first.split),
            "second": numbered(pair.second, pair.second.split),
            "correlation": round(pair.correlation, 4),
        }

    return {
        "name": dataset.name,
        "image_shape": list(dataset.data.image_shape),
        "images": {name: len(y) for name, (_, y) in dataset.splits.items()},
        "classes": list(dataset.data.classes),
        "class_counts": {name: list(counts) for name, counts in balance.counts.items()},
        "balance": {
            "largest_over_smallest": balance.ratio,
            "p_uniform": balance.p_uniform,
            "p_same_in_splits": balance.p_same,
        },
        "normalization": {"mean": list(dataset.data.mean), "std": list(dataset.data.std)},
        "channels": [
            {name: value for name, value in vars(one).items() if name != "histogram"}
            for one in found.channels
        ],
        "identical": [[numbered(place, place.split) for place in group] for group in duplicates.groups],
        "contradictory_labels": len(duplicates.contradictions),
        "near_duplicates": None if duplicates.pairs is None else [pair_json(one) for one in duplicates.pairs],
        "nearest_class_mean_accuracy": found.means.accuracy,
        "suspects": [numbered(suspect, "training") for suspect in found.means.suspects],
    }
