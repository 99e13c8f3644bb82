"""Launches of one study without processes, and the traces of an agent that trains it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optuna.distributions import FloatDistribution
from sqlalchemy import text

from hpo.options.launch_request import LaunchRequest
from hpo.study.definition.create import create_or_continue
from hpo.study.definition.launched_study import LaunchedStudy, find
from objectives.description import Description
from storage import agents
from storage.engine import Database

SPACE = {"x": FloatDistribution(0.0, 5.0)}
DESCRIPTION = Description(name="q", metric="loss", direction="minimize", epochs=4, space=SPACE, code="c0de1")
CHANGED = {
    "metric: was loss, is score": {"metric": "score"},
    "direction: was minimize, is maximize": {"direction": "maximize"},
    "epochs: was 4, is 7": {"epochs": 7},
    "value: was last, is best": {"value": "best"},
    "search space: was declared, is asked for in training": {"open_space": True},
}
IMAGES = {"takes_images": True}
"""Change of an objective without a data set."""


def launch(
    database: Database, changes: Mapping[str, Any] | None = None, digest: str = "", **options: Any
) -> LaunchedStudy:
    request = LaunchRequest(study="s", **options)
    description = replace(DESCRIPTION, **(changes or {}))
    return create_or_continue(database, request, "q", description, find(database, "s"), digest)


def begin(database: Database, study: LaunchedStudy, code: str = "c0de1", process: str = "boot:1:1") -> None:
    """Let an agent train a trial."""

    def write(c: Any) -> None:
        agent = agents.new_agent_id(c)
        agents.join(c, agent, study.study_id, "here", 1, process, 1, {"objective": code})
        c.execute(
            text(
                "WITH t AS (INSERT INTO hpo.trials (study_id, ordinal, number, seed) VALUES (:s, :a, 2, 0)"
                " RETURNING reservation_id) INSERT INTO hpo.attempts"
                " (reservation_id, agent_id, slot, device, host, pid, lease_until)"
                " SELECT reservation_id, :a, 0, 'cpu', 'here', 1, clock_timestamp() FROM t"
            ),
            {"s": study.study_id, "a": agent},
        )

    database.transaction(write)
