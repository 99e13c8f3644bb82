"""The log of retrains: configurations, results, and each evaluation of a test set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, text

from hpo.errors import StudyLostError


class Source(StrEnum):
    """Why a configuration was retrained."""

    SEARCH = "search"
    """The search chose it: the best trial, or the winner among candidates."""
    TRIAL = "trial"
    """The user chose another trial than the best."""
    FILE = "file"
    """The user gave a configuration file."""


@dataclass(frozen=True, kw_only=True)
class RetrainRow:
    """One retrain of a study."""

    retrain_id: int
    config: Mapping[str, Any]
    """Configuration in the form of `hpo.export.config.Config.to_json`."""
    seeds: tuple[int, ...]
    metrics: Mapping[str, Any] | None
    """Contents of metrics.json, with epochs and images under `detail`; None until the retrain has finished."""
    started_at: datetime
    test_opened_at: datetime | None
    ended_at: datetime | None

    @property
    def source(self) -> Source:
        """Why it was retrained; `SEARCH` if it has not finished, or an old version stored no source."""
        return Source((self.metrics or {}).get("source", Source.SEARCH))


def new_id(connection: Connection) -> int:
    """Return a unique id, so that `begin` can be repeated."""
    retrain_id: int = connection.execute(
        text("SELECT nextval(pg_get_serial_sequence('hpo.retrains', 'retrain_id'))")
    ).scalar_one()
    return retrain_id


def begin(
    connection: Connection,
    retrain_id: int,
    study_id: int,
    config: Mapping[str, Any],
    seeds: Sequence[int],
    earlier: int | None = None,
) -> int:
    """Log a retrain once and return its id; resume the `earlier` one if it is of this study and has not ended.

    Raises:
        StudyLostError: the study was deleted.
    """
    study = connection.execute(
        text("SELECT 1 FROM hpo.studies WHERE study_id = :s FOR KEY SHARE"), {"s": study_id}
    ).one_or_none()
    if study is None:
        raise StudyLostError(
            "the study was deleted while its objective was loaded: retrain an exported configuration with --config"
        )
    values = {
        "id": retrain_id,
        "s": study_id,
        "config": json.dumps(config),
        "seeds": json.dumps(list(seeds)),
        "r": earlier,
    }
    resumed: int | None = connection.execute(
        text(
            "UPDATE hpo.retrains SET seeds = CAST(:seeds AS jsonb)"
            " WHERE retrain_id = :r AND study_id = :s AND ended_at IS NULL RETURNING retrain_id"
        ),
        values,
    ).scalar_one_or_none()
    if resumed is not None:
        return resumed
    connection.execute(
        text(
            "INSERT INTO hpo.retrains (retrain_id, study_id, config, seeds) VALUES"
            " (:id, :s, CAST(:config AS json), CAST(:seeds AS jsonb)) ON CONFLICT (retrain_id) DO NOTHING"
        ),
        values,
    )
    return retrain_id


def open_test_set(connection: Connection, retrain_id: int) -> None:
    """Log that a retrain opens the test set; the first time is kept."""
    connection.execute(
        text(
            "UPDATE hpo.retrains SET test_opened_at = coalesce(test_opened_at, clock_timestamp())"
            " WHERE retrain_id = :r"
        ),
        {"r": retrain_id},
    )


def finish(connection: Connection, retrain_id: int, metrics: Mapping[str, Any]) -> bool:
    """Store the results of a retrain; return False if its study was deleted, and its record with it."""
    result = connection.execute(
        text(
            "UPDATE hpo.retrains SET metrics = CAST(:m AS jsonb), ended_at = clock_timestamp()"
            " WHERE retrain_id = :r"
        ),
        {"r": retrain_id, "m": json.dumps(metrics)},
    )
    return bool(result.rowcount)


def latest_summaries(connection: Connection) -> dict[str, Mapping[str, Any]]:
    """Return the summary of the latest finished retrain of each study that has one, by the study's name."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT ON (study_id) name, metrics->'summary' AS summary"
            " FROM hpo.retrains JOIN hpo.studies USING (study_id)"
            " WHERE jsonb_typeof(metrics->'summary') = 'object' ORDER BY study_id, retrain_id DESC"
        )
    )
    return {row.name: row.summary for row in rows}


def latest_of_search(connection: Connection, study_id: int) -> Mapping[str, Any] | None:
    """Return the study's last finished retrain of the search's choice; None if there is none.

    Its `folder` and `host` are those of its results, None if an old version stored none; `metrics` has its params and
    summary alone, because the whole also contains images.
    """
    row = connection.execute(
        text(
            "SELECT metrics #>> '{detail,folder}' AS folder, metrics #>> '{detail,host}' AS host,"
            " jsonb_build_object('params', metrics->'params', 'summary', metrics->'summary') AS metrics"
            " FROM hpo.retrains WHERE study_id = :s AND ended_at IS NOT NULL AND metrics IS NOT NULL"
            " AND coalesce(metrics->>'source', :search) = :search ORDER BY ended_at DESC, retrain_id DESC LIMIT 1"
        ),
        {"s": study_id, "search": Source.SEARCH.value},
    ).one_or_none()
    return None if row is None else dict(row._mapping)


def openings(connection: Connection, study_id: int) -> list[datetime]:
    """Return when retrains of the study opened the test set, oldest first."""
    rows = connection.execute(
        text(
            "SELECT test_opened_at FROM hpo.retrains WHERE study_id = :s AND test_opened_at IS NOT NULL"
            " ORDER BY test_opened_at"
        ),
        {"s": study_id},
    )
    return list(rows.scalars())


def confusions(connection: Connection, study_id: int) -> Sequence[Row[Any]]:
    """Return number, `matrices` (one for each run) and `classes` of the study's retrained trials, oldest first.

    The metrics also contain images, so only these parts are read.
    """
    return connection.execute(
        text(
            "SELECT CAST(config->>'trial' AS integer) AS number, metrics #> '{runs,0,classes}' AS classes,"
            " jsonb_path_query_array(metrics, '$.runs[*].confusion') AS matrices"
            " FROM hpo.retrains JOIN hpo.studies USING (study_id)"
            " WHERE study_id = :s AND metrics IS NOT NULL AND config->>'trial' IS NOT NULL"
            # The configuration of a file may be a trial of another study.
            " AND coalesce(config->>'study', name) = name ORDER BY retrain_id"
        ),
        {"s": study_id},
    ).all()


def retrains_of(connection: Connection, study_id: int) -> list[RetrainRow]:
    """Return all retrains of a study, oldest first."""
    rows = connection.execute(
        text(
            "SELECT retrain_id, config, seeds, metrics, started_at, test_opened_at, ended_at"
            " FROM hpo.retrains WHERE study_id = :s ORDER BY retrain_id"
        ),
        {"s": study_id},
    )
    return [RetrainRow(**{**row._mapping, "seeds": tuple(row.seeds)}) for row in rows]
