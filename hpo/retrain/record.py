"""The database's record of a retrain."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from hpo.export.config import Config
from storage import retrains
from storage.connection.retry import Retry
from storage.engine import Connection, Database
from storage.studies import StoredStudy

log = logging.getLogger(__name__)

T = TypeVar("T")


class RetrainRecord:
    """The database's record of one retrain; a retrain of a config file alone has no study and no record."""

    def __init__(
        self,
        database: Database,
        retry: Retry,
        study: StoredStudy | None,
        config: Config,
        seeds: Sequence[int],
        base: Path,
    ) -> None:
        self._database = database
        self._retry = retry
        self._study_id = study_id = study.study_id if study is not None else None
        self._opened = False
        self._retrain_id: int | None = None
        if study_id is None:
            return
        note = base / "retrain.json"
        earlier: int | None = None
        with suppress(OSError, ValueError):
            earlier = int(json.loads(note.read_text()))
        new_id = self._write(retrains.new_id)
        self._retrain_id = self._write(
            lambda c: retrains.begin(c, new_id, study_id, config.to_json(), seeds, earlier)
        )
        # A resumed retrain has the same record, and opens the test set once.
        note.write_text(json.dumps(self._retrain_id))

    @property
    def retrain_id(self) -> int | None:
        """Id of the record; None without a study."""
        return self._retrain_id

    def open_test_set(self) -> None:
        """Record that a final run is about to open the test set."""
        retrain_id = self._retrain_id
        if retrain_id is not None and not self._opened:
            self._write(lambda c: retrains.open_test_set(c, retrain_id))
            self._opened = True

    def to_json(self) -> dict[str, Any]:
        """Return the number and times of the study's test set openings, this retrain's included."""
        study_id = self._study_id
        if study_id is None:
            return {"test_openings": None}
        times = self._write(lambda c: retrains.openings(c, study_id))
        return {"test_openings": len(times), "test_opened_at": [time.isoformat() for time in times]}

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Store the metrics."""
        retrain_id = self._retrain_id
        if retrain_id is not None:
            stored = self._write(lambda c: retrains.finish(c, retrain_id, metrics))
            if not stored:
                log.warning("the study was deleted meanwhile: the results are in their files only")

    def _write(self, work: Callable[[Connection], T]) -> T:
        return self._database.transaction(work, self._retry)
