"""The metric of a study: the one that its objective declares, or another one that `--metric` has selected."""

from __future__ import annotations

import difflib
from dataclasses import replace

from hpo.errors import UsageError
from objectives.description import Description


def selected(description: Description, metric: str | None) -> Description:
    """Return the description with a requested metric and its direction; unchanged if none is requested.

    Raises:
        UsageError: the objective's trials do not report it.
    """
    if metric is None or metric == description.metric:
        return description
    kept = kept_metric(description, metric)
    if kept is description:
        remedy = _remedy(description, metric)
        raise UsageError(f"--metric {metric} does not apply to objective {description.name}{remedy}")
    return kept


def kept_metric(description: Description, metric: str) -> Description:
    """Return the description with a metric that was selected before, if the objective still offers it."""
    if metric not in description.metrics:
        return description
    return replace(description, metric=metric, direction=description.metrics[metric])


def _remedy(description: Description, metric: str) -> str:
    if not description.metrics:
        own = f", which reports {description.metric} by code of its own"
        return f"{own}: leave it out, or set the metric in the objective"
    known = sorted({description.metric, *description.metrics})
    # A short name is close to its whole name, although it has fewer letters.
    near = [name for name in known if name == f"val_{metric}"] or difflib.get_close_matches(metric, known, 3)
    return f": did you mean {' or '.join(near)}?" if near else f": use one of {', '.join(known)}"
