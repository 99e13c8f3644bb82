"""MLflow: one experiment for each study, one run for each trial.

A point of MLflow cannot be replaced, so an epoch that is trained again keeps the one it has, and a tag of the run names
it.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from hpo.trackers.runs import Epoch, Logged, News, Run
from hpo.trackers.tracker import TrackedStudy, draw_confusion, facts, set_defaults, shown

T = TypeVar("T")

DEFAULTS = {
    # A server that is down is tried again by the follower; MLflow itself would wait for minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}

UID, KEY, LOGGED = "hpo.study_uid", "hpo.key", "hpo.logged"
"""Tags by which the runs are found again, and that of the part that each has."""
MOST = 100
"""Most parameters or tags of a request."""
MOST_METRICS = 1000
"""Most metrics of a request."""
LONGEST = 5000
"""Characters of a parameter or tag that every server accepts."""
PAGE = 1000


class MLflow:
    """Runs of one study in an experiment."""

    def __init__(self, uri: str | None, study: TrackedStudy) -> None:
        set_defaults(DEFAULTS)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        self._study = study
        self._client = MlflowClient(tracking_uri=uri)
        self._experiment = self._find_experiment()
        found = self._client.get_experiment(self._experiment)
        self.identity = f"mlflow {found.experiment_id} {found.creation_time}"
        self._ids: dict[str, str] = {}

    def logged(self) -> dict[str, Logged]:
        return {
            run.data.tags[KEY]: Logged.from_json(run.data.tags.get(LOGGED, ""))
            for run in self._runs()
            if KEY in run.data.tags
        }

    def write(self, news: News) -> None:
        run = news.run
        run_id = self._ids.get(run.key) or self._create(run)
        for metrics in _parts([*_points(news.unseen), *_results(run)], MOST_METRICS):
            self._client.log_batch(run_id, metrics=metrics)
        for params in _parts([Param(_name(name), _text(value)) for name, value in run.params.items()], MOST):
            self._client.log_batch(run_id, params=params)
        if run.ended_at is not None:
            self._log_artefacts(run_id, run)
            # Only a run that is not open any more may be found as one that has ended.
            self._client.set_terminated(
                run_id, "FAILED" if run.failed else "FINISHED", round(1000 * run.ended_at)
            )
        tags = {**facts(news), LOGGED: news.after.to_json()}
        for part in _parts([RunTag(name, _text(value)) for name, value in tags.items()], MOST):
            self._client.log_batch(run_id, tags=part)

    def close(self) -> None:
        """Do nothing: `write` has written everything."""

    def _find_experiment(self) -> str:
        """Return the experiment that the user's environment names, or else that of the study, created if missing."""
        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
        if name is None:
            # A study that was renamed keeps its experiment.
            known = self._client.search_experiments(filter_string=f"tags.`{UID}` = '{self._study.uid}'")
            if known:
                return str(known[0].experiment_id)
        experiment = self._client.get_experiment_by_name(name or self._study.name)
        if experiment is not None:
            return str(experiment.experiment_id)
        tags = {UID: self._study.uid} if name is None else {}
        return str(self._client.create_experiment(name or self._study.name, tags=tags))

    def _runs(self) -> Iterator[Any]:
        """Yield the runs of the study, and keep their ids."""
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`{UID}` = '{self._study.uid}'", max_results=PAGE, page_token=token
            )
            for run in page:
                self._ids[run.data.tags.get(KEY, "")] = run.info.run_id
                yield run
            token = page.token
            if not token:
                return

    def _create(self, run: Run) -> str:
        tags = {UID: self._study.uid, KEY: run.key}
        if run.parent is not None and run.parent in self._ids:
            tags["mlflow.parentRunId"] = self._ids[run.parent]
        began_at = round(1000 * run.began_at)
        created = self._client.create_run(self._experiment, began_at, tags, run_name=run.name)
        self._ids[run.key] = created.info.run_id
        return self._ids[run.key]

    def _log_artefacts(self, run_id: str, run: Run) -> None:
        for path in run.files:
            self._client.log_artifact(run_id, path)
        if run.confusion is not None:
            with tempfile.TemporaryDirectory() as folder:
                picture = Path(folder) / "confusion_matrix.png"
                picture.write_bytes(draw_confusion(run.confusion))
                self._client.log_artifact(run_id, str(picture))


def _points(epochs: Sequence[Epoch]) -> Iterator[Metric]:
    for epoch in epochs:
        yield from _metrics(epoch.metrics, epoch.at, epoch.epoch)


def _results(run: Run) -> Iterator[Metric]:
    if run.ended_at is not None:
        yield from _metrics(run.results, run.ended_at, run.epochs[-1].epoch if run.epochs else 0)


def _metrics(metrics: Mapping[str, float], at: float, step: int) -> Iterator[Metric]:
    # The same time in a repetition: a server then keeps one point.
    for name, value in metrics.items():
        yield Metric(_name(name), value, round(1000 * at), step)


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _name(name: str) -> str:
    """Return a name of the characters that MLflow accepts."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)


def _text(value: Any) -> str:
    return shown(value)[:LONGEST]
