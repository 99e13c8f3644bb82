"""The space of a study whose objective names its parameters while it runs: read from its trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from storage.optuna.spaces import observed_distributions
from storage.studies import StoredStudy
from storage.trials import most_epochs


def with_observed_space(connection: Connection, study: StoredStudy) -> StoredStudy:
    """Return the study with the parameters and epochs of its trials in place of those that its spec leaves open.

    Other studies are returned as they are.
    """
    if not study.spec_json.get("open_space"):
        return study
    space: dict[str, Any] = {}
    for name, distribution in observed_distributions(connection, study.study_id):
        known = space.get(name)
        space[name] = distribution if known is None else _united(known, distribution)
    spec_json = {**study.spec_json, "space": space}
    if spec_json["epochs"] is None:
        spec_json["epochs"] = max(1, most_epochs(connection, study.study_id))
    return replace(study, spec_json=spec_json)


def declares_epochs(spec_json: Mapping[str, Any]) -> bool:
    """Return whether the objective of a study declares its epochs and direction, unlike an Optuna objective."""
    return not spec_json.get("open_space") or spec_json.get("objective_epochs") is not None


def _united(known: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a distribution that holds the values of both; Optuna has checked that they are of one kind."""
    first, second = known["attributes"], other["attributes"]
    if "low" not in first:
        return known
    bounds = {"low": min(first["low"], second["low"]), "high": max(first["high"], second["high"])}
    # Of different steps or scales, only the plain range holds both.
    step = {} if first.get("step") == second.get("step") else {"step": _plain_step(known)}
    log = bool(first.get("log") and second.get("log"))
    return {"name": known["name"], "attributes": {**first, **bounds, **step, "log": log}}


def _plain_step(distribution: Mapping[str, Any]) -> int | None:
    return 1 if distribution["name"] == "IntDistribution" else None
