"""The files of `hpo data explore`: a document with pictures, and statistics as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpo.document.document import Document
from hpo.document.files import data_file, document_files, json_file, write_document
from hpo.explore.dataset import Dataset
from hpo.explore.duplicates import Pair, Place
from hpo.explore.exploration_document import Exploration, build_exploration
from hpo.explore.image_files import ImageFiles
from hpo.explore.input_sections import named
from hpo.explore.judgement import Judgement
from hpo.explore.label_errors import ClassMeans
from hpo.explore.statistics import Balance, Channel


def explore(dataset: Dataset, folder: Path, found: Exploration | None = None) -> tuple[Document, list[str]]:
    """Write `explore.html`, `explore.md` with pictures and `statistics.json`; return the document and file names.

    Raises:
        ResultsNotWritableError, DiskFullError: the files cannot be written.
    """
    found = Exploration(dataset) if found is None else found
    document = build_exploration(dataset, found)
    files = {
        **document_files(document, "explore"),
        **data_file("statistics.json", lambda: json_file(_statistics(dataset, found))),
    }
    write_document(folder, files)
    return document, list(files)


def _statistics(dataset: Dataset, found: Exploration) -> dict[str, Any]:
    duplicates = found.duplicates
    statistics: dict[str, Any] = {
        "name": dataset.name,
        "task": dataset.task,
        "inputs": {
            name: {"shape": list(x.shape[1:]), "dtype": str(x.dtype)}
            for name, x in named(dataset.data.x_train)
        },
        "images" if dataset.is_images else "rows": {name: len(y) for name, (_, y) in dataset.splits.items()},
        "classes": list(dataset.data.classes),
        **({} if dataset.files is None else {"files": _files(dataset.files)}),
        **_targets(dataset, found.balance),
        "examined_every": dataset.step,
        "identical": [[_place(dataset, place) for place in group] for group in duplicates.groups],
        "contradictory_labels": len(duplicates.contradictions),
    }
    if dataset.is_images:
        statistics |= {
            "image_shape": list(dataset.data.image_shape),
            "normalization": {"mean": list(dataset.data.mean), "std": list(dataset.data.std)},
            "channels": [_channel(one) for one in found.channels],
            "near_duplicates": [_pair(dataset, pair) for pair in duplicates.pairs or ()],
        }
    if found.means is not None:
        statistics |= _suspects(dataset, found.means)
    if found.judgement is not None:
        statistics["judgement"] = _judgement(dataset, found.judgement)
    return statistics


def _files(files: ImageFiles) -> dict[str, Any]:
    width, height = files.sizes.T

    def spread(values: Any) -> dict[str, float]:
        points = np.quantile(values, (0, 0.5, 1)).tolist()
        return dict(zip(("lowest", "median", "highest"), points, strict=True))

    return {
        "source": files.source,
        "formats": dict(files.formats),
        "colours": dict(files.colours),
        "width": spread(width),
        "height": spread(height),
        "width_over_height": spread(width / height),
        "enlarged": files.enlarged,
        "misfit": files.misfit,
        "unreadable": dict(files.unreadable),
        "ignored": list(files.ignored),
        "groups": len(set(files.groups.values())),
        "made_splits": list(files.made),
    }


def _targets(dataset: Dataset, balance: Balance | None) -> dict[str, Any]:
    if balance is not None:
        return {
            "class_counts": {name: list(counts) for name, counts in balance.counts.items()},
            "balance": {
                "largest_over_smallest": balance.ratio,
                "p_uniform": balance.p_uniform,
                "p_same_in_splits": balance.p_same,
            },
        }
    if dataset.task == "labels":
        counts = {name: np.asarray(y > 0).sum(axis=0).tolist() for name, (_, y) in dataset.splits.items()}
        return {"label_counts": counts}
    return {
        "targets": {
            split: {
                name: {
                    "lowest": float(y[:, target].min()),
                    "mean": float(y[:, target].mean(dtype=np.float64)),
                    "std": float(y[:, target].std(dtype=np.float64)),
                    "highest": float(y[:, target].max()),
                }
                for target, name in enumerate(dataset.data.classes)
            }
            for split, (_, y) in dataset.splits.items()
            if len(y)
        }
    }


def _channel(channel: Channel) -> dict[str, Any]:
    omitted = ("histogram", "low", "width")
    return {name: value for name, value in vars(channel).items() if name not in omitted}


def _place(dataset: Dataset, place: Place) -> dict[str, Any]:
    label = place.label if isinstance(place.label, int) else list(place.label)
    return {**_row(dataset, place.split, place.index), "label": label}


def _row(dataset: Dataset, split: str, index: int) -> dict[str, Any]:
    path = {"path": dataset.paths[split][index]} if dataset.paths else {}
    return {"split": split, "index": dataset.number(split, index), **path}


def _pair(dataset: Dataset, pair: Pair) -> dict[str, Any]:
    return {
        "first": _place(dataset, pair.first),
        "second": _place(dataset, pair.second),
        "correlation": round(pair.correlation, 4),
    }


def _suspects(dataset: Dataset, means: ClassMeans) -> dict[str, Any]:
    return {
        "nearest_class_mean_accuracy": means.accuracy,
        "suspects": [
            {**_row(dataset, "training", one.index), "label": one.label, "nearest": one.nearest}
            for one in means.suspects
        ],
    }


def _judgement(dataset: Dataset, judgement: Judgement) -> Mapping[str, Any]:
    return {
        "model": judgement.model,
        "splits": {
            split: {
                "rows": found.rows,
                "seen_in_training": found.seen,
                "contradicted": found.contradicted,
                "suspects": [
                    {
                        **_row(dataset, split, one.index),
                        "given": one.given,
                        "predicted": one.predicted,
                        "score": one.score,
                    }
                    for one in found.suspects
                ],
            }
            for split, found in judgement.splits.items()
        },
    }
