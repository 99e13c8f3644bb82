"""The trials of a study as runs of a tracker, read from its database as they change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from hpo.formatting import named
from hpo.outcomes import FAILURES
from hpo.trackers.runs import Epoch, Run
from hpo.trackers.tracker import TrackedStudy
from storage import tracked
from storage.attempts import read_metrics
from storage.connection.retry import Retry
from storage.engine import Connection, Database
from storage.optuna import attributes

OVERLAP_SECONDS = 60.0
"""Seconds by which the commit of a decision may lag behind its time stamp."""

BATCH = 50
"""Trials whose epochs are read at once."""

VALUE = "hpo.value"
"""Name of the final value of a trial, next to the metrics of its epochs."""


def read_study(database: Database, study_id: int, retry: Retry) -> TrackedStudy | None:
    """Return the study; None if it was deleted."""
    row = database.transaction(lambda c: tracked.study_row(c, study_id), retry)
    if row is None:
        return None
    spec: Mapping[str, Any] = row.spec
    return TrackedStudy(
        name=row.name,
        uid=row.uid or f"study{row.study_id}",
        objective=str(spec.get("objective", "")),
        open_space=bool(spec.get("open_space")),
    )


class TrialFeed:
    """The trials of one study that may have changed since they were read last."""

    def __init__(self, database: Database, study_id: int, study: TrackedStudy, retry: Retry) -> None:
        self._database = database
        self._study_id = study_id
        self._study = study
        self._retry = retry
        self._since: datetime | None = None
        self._read_until: datetime | None = None

    def changed(self, is_logged: Callable[[str, str], bool]) -> Iterator[Run]:
        """Yield the trials that are open or were decided lately, unless they are logged with their outcome."""
        rows, tags = self._read(
            lambda c: (
                tracked.changed_trials(c, self._study_id, self._since, OVERLAP_SECONDS),
                attributes.texts(attributes.read(c, self._study_id, attributes.TAGS)),
            )
        )
        lacking = [row for row in rows if not (row.outcome and is_logged(self.key(row.number), row.outcome))]
        for first in range(0, len(lacking), BATCH):
            batch = lacking[first : first + BATCH]
            epochs = self._epochs([row.reservation_id for row in batch])
            for row in batch:
                yield self._run(row, tags, epochs.get(row.reservation_id, ()))
        self._read_until = max((row.decided_at for row in rows if row.decided_at), default=self._since)

    def advance(self) -> None:
        """Leave out from now on the trials that were decided long before those that were read last: all are logged."""
        self._since = self._read_until

    def begun(self) -> bool:
        """Whether there is anything to log."""
        found: bool = self._read(lambda c: tracked.has_runs(c, self._study_id))
        return found

    def key(self, number: int) -> str:
        return f"{self._study.uid}-trial-{number}"

    def _read(self, work: Callable[[Connection], Any]) -> Any:
        return self._database.transaction(work, self._retry)

    def _epochs(self, reservation_ids: Sequence[int]) -> dict[int, list[Epoch]]:
        found: dict[int, list[Epoch]] = {}
        for row in self._read(lambda c: tracked.epochs_of_trials(c, reservation_ids)):
            epoch = Epoch(
                epoch=row.epoch, attempt=row.attempt_id, metrics=read_metrics(row.metrics), at=row.at
            )
            found.setdefault(row.reservation_id, []).append(epoch)
        return found

    def _run(self, row: Any, tags: Sequence[str], epochs: Sequence[Epoch]) -> Run:
        about = {
            "trial": row.number,
            "seed": row.seed,
            "objective": self._study.objective,
            "host": row.host,
            "device": row.device,
        }
        return Run(
            key=self.key(row.number),
            name=f"trial-{row.number}",
            group=self._study.name,
            params={name: named(value) for name, value in (row.params or {}).items()},
            about={name: value for name, value in about.items() if value is not None},
            tags=tags,
            epochs=epochs,
            results={VALUE: row.value} if row.value is not None and math.isfinite(row.value) else {},
            began_at=row.began,
            ended_at=row.ended if row.outcome else None,
            outcome=row.outcome or "",
            failed=row.outcome in FAILURES,
            error=row.error or "",
        )
