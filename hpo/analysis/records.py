"""Records of final runs from which tables and charts are made, where they have the form that these need.

An objective may record anything under any name, and metrics.json keeps it: `classes=10` is a good record. A table or
chart is made only of records of its own form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from hpo.analysis.figures import SCORES
from objectives.values import is_number


def drawable(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the runs of one retrain without records of a known name and another form, or of differing forms."""
    unfit = {name for name, form_of in _FORMS.items() if not _agree(form_of, [run.get(name) for run in runs])}
    if not unfit.intersection(("confusion", "classes")):
        sizes = {len(run["confusion"]) for run in runs if run.get("confusion")}
        # Names of another number of classes would be given to the wrong ones.
        if sizes and any(run.get("classes") and len(run["classes"]) not in sizes for run in runs):
            unfit.add("classes")
    kept = [{name: value for name, value in run.items() if name not in unfit} for run in runs]
    for run in kept:
        classes = len(run.get("confusion") or ())
        if any(max(one["true"], one["predicted"]) >= classes for one in run.get("wrong") or ()):
            del run["wrong"]
        # Earlier versions let a record replace the time that was measured.
        if not _is_count(run.get("seconds")):
            run["seconds"] = None
    return kept


def _agree(form_of: Callable[[Any], Hashable | None], values: Sequence[Any]) -> bool:
    """Whether all values that are there have one form."""
    try:
        forms = {form_of(value) for value in values if value not in (None, [], {})}
    except (TypeError, KeyError, AttributeError):
        return False
    return None not in forms and len(forms) <= 1


def _is_count(value: Any) -> bool:
    return is_number(value) and math.isfinite(value) and value >= 0


def _count_form(value: Any) -> Hashable | None:
    return "count" if _is_count(value) else None


def _confusion_form(value: Any) -> Hashable | None:
    square = isinstance(value, list) and all(
        isinstance(row, list) and len(row) == len(value) and all(map(_is_count, row)) for row in value
    )
    return len(value) if square else None


def _classes_form(value: Any) -> Hashable | None:
    return len(value) if isinstance(value, list) else None


def _calibration_form(value: Any) -> Hashable | None:
    bins = value["bins"]
    fits = is_number(value["expected_error"]) and all(
        _is_count(one["images"])
        and all(one[name] is None or is_number(one[name]) for name in ("confidence", "accuracy"))
        for one in bins
    )
    return len(bins) if fits else None


def _wrong_form(value: Any) -> Hashable | None:
    fits = all(
        is_number(one["confidence"])
        and all(type(one[name]) is int and one[name] >= 0 for name in ("index", "true", "predicted"))
        for one in value
    )
    return "mistakes" if fits else None


def _pairs_fit(one: Mapping[str, Any], names: tuple[str, str]) -> bool:
    """Whether a record has two lists of equally many finite numbers."""
    first, second = (one[name] for name in names)
    both = isinstance(first, list) and isinstance(second, list) and len(first) == len(second) > 0
    return both and all(is_number(value) and math.isfinite(value) for value in [*first, *second])


def _curves_form(value: Any) -> Hashable | None:
    kinds = [value[kind] for kind in ("roc", "precision_recall")]
    fits = all(curves and all(_pairs_fit(one, ("x", "y")) for one in curves.values()) for curves in kinds)
    return tuple(kinds[0]) if fits else None


def _residuals_form(value: Any) -> Hashable | None:
    fits = bool(value) and all(_pairs_fit(one, ("true", "predicted")) for one in value.values())
    return tuple(value) if fits else None


def _labels_form(value: Any) -> Hashable | None:
    fits = all(
        _is_count(one["positives"])
        and all(one[name] in (None, "nan") or is_number(one[name]) for name in SCORES)
        for one in value
    )
    return tuple(str(one["label"]) for one in value) if fits else None


def _intervals_form(value: Any) -> Hashable | None:
    fits = all(len(pair) == 2 and all(map(is_number, pair)) for pair in value.values())
    return "intervals" if fits else None


def _text_form(value: Any) -> Hashable | None:
    return value if isinstance(value, str) else None


_FORMS: Mapping[str, Callable[[Any], Hashable | None]] = {
    "confusion": _confusion_form,
    "classes": _classes_form,
    "calibration": _calibration_form,
    "wrong": _wrong_form,
    "n_test": _count_form,
    "n_train": _count_form,
    "curves": _curves_form,
    "residuals": _residuals_form,
    "per_label": _labels_form,
    "test_intervals": _intervals_form,
    "task": _text_form,
    "parameters": _count_form,
}
