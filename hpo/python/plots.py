"""Figures of Optuna, drawn of a copy of a study without its database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hpo.errors import NoResultError

if TYPE_CHECKING:
    import optuna
    import plotly.graph_objects as go
    from optuna.trial import FrozenTrial

    from storage.engine import Database

PLOTS = tuple(
    f"plot_{name}"
    for name in (
        *("contour", "edf", "intermediate_values", "optimization_history", "parallel_coordinate"),
        *("param_importances", "rank", "slice", "timeline"),
    )
)
"""Functions of `optuna.visualization` that are methods of a study here."""


def plot(database: Database, study: str, name: str, options: Mapping[str, Any]) -> go.Figure:
    """Return the figure of a function of `PLOTS`, with Optuna's options.

    Raises:
        NoResultError: there are too few trials for it.
    """
    import optuna

    given = dict(options)
    if name == "plot_param_importances":
        # As the report computes it.
        given.setdefault("evaluator", optuna.importance.PedAnovaImportanceEvaluator())
    with _quiet():
        copy = _in_memory(database, study)
        try:
            figure: go.Figure = getattr(optuna.visualization, name)(copy, **given)
        except (ValueError, RuntimeError) as exc:
            raise NoResultError(f"{name}() of study {study!r}: {exc}") from exc
    return figure


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from logging, and leave its verbosity as it was."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _in_memory(database: Database, name: str) -> optuna.Study:
    """Return a copy of Optuna's study that its figures can be drawn of, without the database."""
    import optuna

    from hpo.study.catalog import find_study
    from hpo.study.definition.twin import optuna_twin

    twin = optuna_twin(database, find_study(database, name))
    copy = optuna.create_study(study_name=name, direction=twin.direction)
    copy.add_trials([_plain(trial) for trial in twin.get_trials(deepcopy=False)])
    return copy


def _plain(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial whose choices are plain values: Optuna's figures sort and hash them."""
    from copy import copy

    from optuna.distributions import CategoricalDistribution

    from hpo.search.choice_text import label, labels

    params, distributions = dict(trial.params), dict(trial.distributions)
    for name, distribution in distributions.items():
        if isinstance(distribution, CategoricalDistribution) and any(
            isinstance(choice, list | tuple | dict) for choice in distribution.choices
        ):
            distributions[name] = CategoricalDistribution(labels(distribution))
            params[name] = label(distribution, params[name])
    found = copy(trial)
    found.params, found.distributions = params, distributions
    return found
