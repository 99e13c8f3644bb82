"""Trials of a search whose parameters are written as its agent writes them, without a database."""

from __future__ import annotations

from hpo.search.optuna_study import Search
from objectives.base import Params


def sampled(search: Search, trial_id: int) -> Params:
    """Write the parameters that a search proposes for a trial, and return them."""
    proposal = search.propose(trial_id)
    for name, value in proposal.unwritten.items():
        search._storage.set_trial_param(trial_id, name, value, search._spec.space[name])
    return proposal.params
