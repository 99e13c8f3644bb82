"""The limits of a retrained model that follow from its data and its test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpo import formatting
from hpo.analysis.examples import examples_of, over_examples
from hpo.analysis.figures import label_of, leading
from hpo.export.config import Config
from objectives.values import is_number

_FEW_TESTED = 1000
"""Test examples below which the interval of the leading figure is repeated as a limit."""
_FEW_OF_CLASS = 30
"""Test examples of a class below which its scores are called rough."""
_UNEVEN = 10
"""Ratio of the most to the fewest training examples of a class from which it is a limit."""
_MOST_NAMED = 8


def limits(config: Config, metrics: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each limit."""
    noun = examples_of(runs[0])
    return [
        line
        for line in (
            f"It was tested on {noun} from the same source as those it was trained on; on {noun} from elsewhere it may"
            " be worse, which was not tested.",
            _of_outputs(metrics, noun),
            _of_test_set(config, metrics, runs, noun),
            _of_rare_classes(runs[0], noun),
            _of_uneven_classes(runs[0], noun),
            _of_seeds(runs),
            _of_openings(metrics),
            _of_limit(config, noun),
            _of_size(metrics),
        )
        if line
    ]


def _of_outputs(metrics: Mapping[str, Any], noun: str) -> str:
    if metrics.get("task") in ("classes", "binary"):
        return (
            f"It knows only the classes above: {noun} of anything else get one of them too, perhaps with a high"
            " probability."
        )
    if metrics.get("task") == "labels":
        return "It knows only the labels above."
    return ""


def _of_test_set(
    config: Config, metrics: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], noun: str
) -> str:
    count, name = runs[0].get("n_test"), leading(metrics["summary"], config.metric)
    if not isinstance(count, int) or count >= _FEW_TESTED or name is None:
        return ""
    own = runs[0].get(name)
    over = over_examples(runs[:1], name, own) if own is not None and is_number(own) else None
    if over is None:
        return f"The test set has only {count:,} {noun}."
    bounds = " to ".join(map(formatting.metric, over))
    figure = label_of(name)
    return (
        f"The test set has only {count:,} {noun}, so the {figure} on many more may be anywhere from {bounds}."
    )


def _counts(run: Mapping[str, Any], split: str) -> dict[str, int]:
    """Return the examples of each class or label in a split; empty if the targets are numbers."""
    found = (run.get("examples") or {}).get(split) or {}
    return found if all(isinstance(count, int) for count in found.values()) else {}


def _of_rare_classes(run: Mapping[str, Any], noun: str) -> str:
    rare = [f"{name} ({count})" for name, count in _counts(run, "test").items() if count < _FEW_OF_CLASS]
    return (
        f"Fewer than {_FEW_OF_CLASS} test {noun}, so their scores are rough: {listed(rare)}." if rare else ""
    )


def _of_uneven_classes(run: Mapping[str, Any], noun: str) -> str:
    counts = _counts(run, "train")
    if len(counts) < 2:
        return ""
    least, most = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
    if counts[most] < _UNEVEN * max(1, counts[least]):
        return ""
    return f"Training {noun} are uneven: {counts[most]:,} of {most}, {counts[least]:,} of {least}."


def _of_seeds(runs: Sequence[Mapping[str, Any]]) -> str:
    return (
        "It was trained from one seed alone: how much luck is in its figures is unknown."
        if len(runs) == 1
        else ""
    )


def _of_openings(metrics: Mapping[str, Any]) -> str:
    openings = metrics.get("test_openings")
    if not isinstance(openings, int) or openings < 2:
        return ""
    return (
        f"Retrains of its study have opened the test set {formatting.times(openings)}: the best of several test"
        " results is optimistic."
    )


def _of_limit(config: Config, noun: str) -> str:
    limit = config.data.get("limit")
    return (
        f"It was trained on at most {limit:,} {noun} of the data set (--limit)."
        if isinstance(limit, int)
        else ""
    )


def _of_size(metrics: Mapping[str, Any]) -> str:
    given = metrics.get("input")
    if not isinstance(given, Mapping) or "image_fit" not in given or len(given.get("shape") or ()) != 3:
        return ""
    height, width, _ = given["shape"]
    lost = {"crop": ", and their edges are cut off where they have another shape", "pad": "", "stretch": ""}
    return f"Images are scaled to {height}×{width} pixels: smaller details are lost{lost.get(given['image_fit'], '')}."


def listed(names: Iterable[str]) -> str:
    """Return the first names and the number of further ones."""
    found = list(names)
    more = len(found) - _MOST_NAMED
    shown = ", ".join(found[:_MOST_NAMED])
    return f"{shown} and {more:,} more" if more > 0 else shown
