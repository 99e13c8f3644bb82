"""The best trials of a study, or any complete trial, as configurations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, or_, select

from hpo import formatting
from hpo.devices.slots import parse_description
from hpo.export.config import Config
from hpo.outcomes import Outcome
from storage.tables import agents, attempts, trials

if TYPE_CHECKING:
    from hpo.study.trials import BestTrial
    from storage.engine import Database


def build_config(database: Database, name: str, trial: int | None = None) -> Config:
    """Return the study's best trial, or the given one, as a configuration.

    Raises:
        UnknownStudyError: the study does not exist.
        NoResultError: there is no complete trial, or the given one is not complete.
    """
    if trial is None:
        return best_configs(database, name, 1)[0]
    from hpo.study.trials import complete_trial

    return _configs(database, name, [complete_trial(database, name, trial)])[0]


def best_configs(database: Database, name: str, most: int) -> list[Config]:
    """Return up to `most` different configurations of the study, the best first.

    Raises:
        UnknownStudyError: the study does not exist.
        NoResultError: no trial is complete.
    """
    from hpo.study.trials import best_trials

    return _configs(database, name, best_trials(database, name, most))


def _configs(database: Database, name: str, chosen: Sequence[BestTrial]) -> list[Config]:
    from hpo.study.catalog import find_study

    study = find_study(database, name)
    numbers = [best.number for best in chosen]
    trained = database.transaction(lambda c: _trained(c, study.study_id, numbers))
    data = {key: value for key, value in study.spec_json.get("data", {}).items() if key != "data_dir"}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return [
        Config(
            objective=study.objective,
            params=formatting.in_order(best.params, study.spec_json["space"]),
            epochs=int(study.spec_json["epochs"]),
            seed=best.seed,
            metric=study.metric,
            direction=best.direction,
            study=name,
            trial=best.number,
            value=best.value,
            data=data,
            created=created,
            **trained.get(best.number, {}),
        )
        for best in chosen
    ]


def _trained(connection: Connection, study_id: int, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return the fields of a `Config` on the process that trained each trial's last epoch."""
    query = (
        select(trials.c.number, attempts.c.device, agents.c.versions)
        .select_from(
            attempts.join(trials, attempts.c.reservation_id == trials.c.reservation_id).join(
                agents, attempts.c.agent_id == agents.c.agent_id
            )
        )
        .where(
            trials.c.study_id == study_id,
            trials.c.number.in_(numbers),
            or_(attempts.c.outcome == Outcome.COMPLETE, attempts.c.epochs > 0),
        )
        # An attempt that found the last epoch in a checkpoint has trained none itself.
        .order_by(attempts.c.epochs > 0, attempts.c.attempt_id)
    )
    found = {}
    for row in connection.execute(query):
        versions = dict(row.versions)
        found[row.number] = {
            "backend": versions.pop("backend", None),
            "precision": versions.pop("precision", None),
            "device": parse_description(row.device),
            "versions": versions,
        }
    return found
