"""Columns of trials: parameters have one of their own in every table, file and import."""

from __future__ import annotations

from collections.abc import Iterable

from hpo import formatting

OF_TRIALS = ("number", "state", "value", "epochs", "seconds", "attempts", "created_at", "why", "note")
"""Columns of the tables of trials, apart from parameters."""


def of_parameters(names: Iterable[str], others: Iterable[str] = ()) -> dict[str, str]:
    """Return the column of each parameter: its name, with `param_` before one that is called like another column.

    `others` are columns of this study only.
    """
    return formatting.apart(names, (*OF_TRIALS, *others), "param_")


def of_figures(names: Iterable[str]) -> dict[str, str]:
    """Return the column of each figure: its name, with `figure_` before one that is called like another column."""
    return formatting.apart(names, OF_TRIALS, "figure_")
