"""The best trials of a study, or any complete trial, as configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hpo import formatting
from hpo.devices.provenance import DATA, DATA_DIGEST
from hpo.devices.slots import parse_description
from hpo.export.config import Config

if TYPE_CHECKING:
    from hpo.study.results.best_trials import BestTrial
    from storage.engine import Database

_SETTINGS = ("backend", "precision")
_NO_PACKAGES = (*_SETTINGS, DATA, DATA_DIGEST)
"""Entries of an agent's versions that are not packages."""


def build_config(database: Database, name: str, trial: int | None = None) -> Config:
    """Return the study's best trial, or the given one, as a configuration.

    Raises:
        UnknownStudyError: the study does not exist.
        NoResultError: there is no complete trial, or the given one is not complete.
    """
    if trial is None:
        return best_configs(database, name, 1)[0]
    from hpo.study.results.best_trials import complete_trial

    return _configs(database, name, [complete_trial(database, name, trial)])[0]


def best_configs(database: Database, name: str, most: int) -> list[Config]:
    """Return up to `most` different configurations of the study, the best first.

    Raises:
        UnknownStudyError: the study does not exist.
        NoResultError: no trial is complete.
    """
    from hpo.study.results.best_trials import best_trials

    return _configs(database, name, best_trials(database, name, most))


def _configs(database: Database, name: str, chosen: Sequence[BestTrial]) -> list[Config]:
    from hpo.study.catalog import find_study
    from hpo.study.open_space import declares_epochs
    from hpo.study.results.trials import trained_on

    study = find_study(database, name)
    numbers = [best.number for best in chosen]
    trained = database.transaction(lambda c: trained_on(c, study.study_id, numbers))
    data = {key: value for key, value in study.spec_json.get("data", {}).items() if key != "data_dir"}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return [
        Config(
            objective=study.objective,
            params=formatting.in_order(best.params, study.spec_json["space"]),
            epochs=int(study.spec_json["epochs"]) if declares_epochs(study.spec_json) else None,
            restarts=tuple(study.spec_json.get("restarts", ())),
            seed=best.seed,
            metric=study.metric,
            selects_metric=study.spec_json.get("objective_metric") not in (None, "", study.metric),
            direction=best.direction,
            study=name,
            trial=best.number,
            value=best.value,
            value_rule=study.value_rule,
            value_epoch=best.value_epoch,
            data=data | _images(trained[best.number][1] if best.number in trained else {}),
            created=created,
            **(_training_environment(*trained[best.number]) if best.number in trained else {}),
        )
        for best in chosen
    ]


def _images(versions: Mapping[str, str]) -> dict[str, Any]:
    """Return the digest of the images that the trial was trained on, if they were a study's own."""
    return {"digest": versions[DATA_DIGEST]} if DATA_DIGEST in versions else {}


def _training_environment(device: str, versions: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a `Config` on the process that trained a trial's last epoch."""
    packages = {name: version for name, version in versions.items() if name not in _NO_PACKAGES}
    settings = {name: versions.get(name) for name in _SETTINGS}
    return {**settings, "device": parse_description(device), "versions": packages}
