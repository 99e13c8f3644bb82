"""The best trials of a study, or any complete one, as configurations to train again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, or_, select

from hpo.devices.slots import owned
from hpo.export.config import Config
from hpo.outcomes import Outcome
from storage.tables import agents, attempts, trials

if TYPE_CHECKING:
    from hpo.study.trials import BestTrial
    from storage.engine import Database


def build_config(database: Database, name: str, trial: int | None = None) -> Config:
    """The study's best trial, or the one of that number, as a configuration.

    Raises:
        UnknownStudyError: there is no study of that name.
        NoResultError: none of its trials is complete, or that one is not.
    """
    if trial is None:
        return best_configs(database, name, 1)[0]
    from hpo.study.trials import complete_trial

    return _configs(database, name, [complete_trial(database, name, trial)])[0]


def best_configs(database: Database, name: str, most: int) -> list[Config]:
    """Up to `most` different configurations of the study, the best first.

    Raises:
        UnknownStudyError: there is no study of that name.
        NoResultError: none of its trials is complete.
    """
    from hpo.study.trials import best_trials

    return _configs(database, name, best_trials(database, name, most))


def _configs(database: Database, name: str, chosen: Sequence[BestTrial]) -> list[Config]:
    from hpo.study.catalog import find_study

    study = find_study(database, name)
    numbers = [best.number for best in chosen]
    trained = database.transaction(lambda c: _trained(c, study.study_id, numbers))
    data = {key: value for key, value in study.spec.get("data", {}).items() if key != "data_dir"}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return [
        Config(
            objective=study.objective,
            params=dict(best.params),
            epochs=int(study.spec["epochs"]),
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
    """What trained each trial, at its last epoch where it was continued elsewhere: fields of a `Config`."""
    query = (
        select(trials.c.number, attempts.c.device, agents.c.versions)
        .select_from(
            attempts.join(trials, attempts.c.token == trials.c.token).join(
                agents, attempts.c.agent_id == agents.c.agent_id
            )
        )
        .where(
            trials.c.study_id == study_id,
            trials.c.number.in_(numbers),
            or_(attempts.c.outcome == Outcome.COMPLETE, attempts.c.epochs > 0),
        )
        # One that found the last epoch in the checkpoint of another has only told of it.
        .order_by(attempts.c.epochs > 0, attempts.c.attempt_id)
    )
    found = {}
    for row in connection.execute(query):
        versions = dict(row.versions)
        found[row.number] = {
            "backend": versions.pop("backend", None),
            "precision": versions.pop("precision", None),
            "device": owned(row.device),
            "versions": versions,
        }
    return found
