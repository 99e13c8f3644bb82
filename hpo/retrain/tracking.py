"""A finished retrain in the trackers of `--log-to`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from hpo.options.retrain_request import RetrainRequest
from hpo.retrain.plan import Plan
from hpo.settings import Settings
from hpo.trackers.logging_process import RESULTS_SECONDS, LoggingProcesses
from hpo.trackers.retrains import runs_of
from hpo.trackers.target import parse_targets


def log_retrain(
    request: RetrainRequest,
    plan: Plan,
    retrain_id: int | None,
    metrics: Mapping[str, Any],
    settings: Settings,
) -> None:
    """Log a retrain; a tracker that does not take it costs a warning.

    `metrics` is the content of metrics.json with its `detail`. Without a study, `retrain_id` is None.
    """
    targets = parse_targets(request.agent.log_to)
    if not targets:
        return
    study = plan.study
    name = study.name if study is not None else request.study
    # The key that the runs of the study's trials have; nothing identifies a retrain without a study.
    uid = (study.uid or f"study{study.study_id}") if study is not None else uuid.uuid4().hex[:8]
    runs = runs_of(name, uid, retrain_id or 1, metrics, plan.folder)
    task = {
        "study": {"name": name, "uid": uid},
        "runs": [run.to_json() for run in runs],
        "folder": str(plan.folder),
    }
    LoggingProcesses(targets, task, settings).close(RESULTS_SECONDS)
