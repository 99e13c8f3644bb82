"""The files of `hpo data explore`: a document with pictures, and statistics as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpo.document.document import Document
from hpo.document.files import document_files, json_file, write_files
from hpo.explore.dataset import Dataset
from hpo.explore.duplicates import Duplicates, Place, find_duplicates
from hpo.explore.exploration_document import build_exploration
from hpo.explore.label_errors import ClassMeans, class_means
from hpo.explore.statistics import Balance, Channel, balance, channels


def explore(dataset: Dataset, folder: Path) -> tuple[Document, list[str]]:
    """Write `explore.html`, `explore.md` with pictures and `statistics.json`; return the document and file names.

    Raises:
        ResultsNotWritableError, DiskFullError: the files cannot be written.
    """
    data, splits = dataset.data, dataset.splits
    seen = [one for name in ("training", "validation") for one in channels(name, splits[name][0])]
    found = (
        balance(splits, data.class_count),
        seen,
        find_duplicates(splits),
        class_means(data.x_train, data.y_train, data.class_count),
    )
    document = build_exploration(dataset, *found)
    files = {
        **document_files(document, "explore"),
        "statistics.json": json_file(_statistics(dataset, *found)),
    }
    write_files(folder, files)
    return document, list(files)


def _statistics(
    dataset: Dataset,
    balance: Balance,
    channels: Sequence[Channel],
    duplicates: Duplicates,
    means: ClassMeans,
) -> dict[str, Any]:
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
        "channels": [_channel_json(one) for one in channels],
        "identical": [[_place_json(dataset, place) for place in group] for group in duplicates.groups],
        "contradictory_labels": len(duplicates.contradictions),
        "near_duplicates": None
        if duplicates.pairs is None
        else [
            {
                "first": _place_json(dataset, pair.first),
                "second": _place_json(dataset, pair.second),
                "correlation": round(pair.correlation, 4),
            }
            for pair in duplicates.pairs
        ],
        "nearest_class_mean_accuracy": means.accuracy,
        "suspects": [
            {**vars(suspect), "index": dataset.number("training", suspect.index)}
            for suspect in means.suspects
        ],
    }


def _channel_json(channel: Channel) -> dict[str, Any]:
    return {
        "split": channel.split,
        "channel": channel.channel,
        "mean": channel.mean,
        "std": channel.std,
        "min": channel.least,
        "max": channel.most,
        "share_zero": channel.share_zero,
        "share_255": channel.share_full,
    }


def _place_json(dataset: Dataset, place: Place) -> dict[str, Any]:
    return {**vars(place), "index": dataset.number(place.split, place.index)}
