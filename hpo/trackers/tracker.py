"""The interface of a tracker, and the choice of one."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hpo.files.atomic import atomic_write
from hpo.trackers.runs import Confusion, Logged, News
from hpo.trackers.target import Target


@dataclass(frozen=True, kw_only=True)
class TrackedStudy:
    """The study whose runs are logged."""

    name: str
    uid: str
    """Key by which its runs are found again after it was renamed."""
    objective: str = ""
    open_space: bool = False
    """Whether trials get further parameters while they run."""


class Tracker(Protocol):
    """A place where the runs of one study are shown.

    A tracker keeps next to its runs which part of each it has, so that any process on any host can continue them.
    Every method may raise anything; the tracker is closed and opened again then.
    """

    identity: str
    """The same for all processes that write to this place."""

    def logged(self) -> dict[str, Logged]:
        """Return the part that it has of each run of the study, by key."""
        ...

    def write(self, news: News) -> None:
        """Add the news of a run, and then keep `news.after` as the part that it has."""
        ...

    def close(self) -> None:
        """Flush."""
        ...


def open_tracker(target: Target, study: TrackedStudy) -> Tracker:
    """Return the tracker of a target; the only place that imports its package."""
    if target.kind == "tensorboard":
        from hpo.trackers.tensorboard import TensorBoard

        return TensorBoard(Path(target.address), study)
    if target.kind == "mlflow":
        from hpo.trackers.mlflow import MLflow

        return MLflow(target.address or None, study)
    from hpo.trackers.wandb import WeightsAndBiases

    return WeightsAndBiases(target.address, study)


class LoggedFiles:
    """The parts of runs that a tracker has, kept in files next to its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / ".hpo"
        self._folder.mkdir(parents=True, exist_ok=True)

    @property
    def identity(self) -> str:
        """Id of the folder, the same for all hosts that share it."""
        path = self._folder / "id"
        if not path.exists():
            # Complete from its first moment, and of the first host that makes it.
            own = self._folder / f"id-{uuid.uuid4().hex}"
            own.write_text(own.name)
            try:
                with suppress(FileExistsError):
                    path.hardlink_to(own)
            finally:
                own.unlink()
        return path.read_text()

    def read(self, study: TrackedStudy) -> dict[str, Logged]:
        """Return all of a study by key."""
        found = self._folder.glob(f"{study.uid}-*.json")
        return {path.stem: Logged.from_json(path.read_text()) for path in found}

    def save(self, key: str, logged: Logged) -> None:
        """Replace the part of one run."""
        with atomic_write(self._folder / f"{key}.json") as partial:
            partial.write_text(logged.to_json())


def shown(value: Any) -> str:
    """Return a parameter or fact as text."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def facts(news: News) -> Mapping[str, Any]:
    """Return the facts about a run next to its parameters and metrics, under names of the service."""
    run = news.run
    found = {
        **run.about,
        "study": run.group,
        "tags": ", ".join(run.tags),
        "outcome": run.outcome,
        "error": run.error,
    }
    again = news.rewound and news.epochs
    if again:
        found["trained_again_from_epoch"] = news.kept + 1
    return {f"hpo.{name}": value for name, value in found.items() if value not in ("", None)}


def draw_confusion(confusion: Confusion) -> bytes:
    """Return a confusion matrix as a PNG picture."""
    from hpo.document.charts import confusion_panel
    from hpo.document.document import Figure
    from hpo.document.png_charts import draw_png

    return draw_png(Figure("confusion", "", [confusion_panel("", confusion.counts, confusion.classes)]))


def set_defaults(variables: Mapping[str, str]) -> None:
    """Set variables of a tracker's library unless the user has."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)
