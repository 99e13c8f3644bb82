"""Pictures of trials, drawn on request: learning curves, and confusion matrices of retrained trials."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from bottle import HTTPError

from hpo.analysis.confusion import pooled
from hpo.dashboard.reports import DrawingBusyError, drawing_turn
from hpo.dashboard.studies import read, read_confusions
from hpo.document.charts import BLUE, GREY, Axis, Chart, Point, Series, Style, confusion_panel
from hpo.document.document import Figure
from hpo.document.png_charts import draw_png
from hpo.report.trial_axes import epoch_axis
from objectives.runs.figures import SPEED
from storage import trials

if TYPE_CHECKING:
    from storage.engine import Connection, Database

MOST_PANELS = 6
"""Largest number of metrics whose curves are drawn, the study's metric first."""


class Picture(Enum):
    """A kind of picture; its value is the last part of the artifact id."""

    CURVES = 1
    CONFUSION = 2

    @property
    def file_name(self) -> str:
        """File name that the dashboard shows."""
        return {Picture.CURVES: "curves.png", Picture.CONFUSION: "confusion.png"}[self]


def artifact_id(trial_id: int, picture: Picture) -> str:
    """Return the id of a picture; the dashboard allows hexadecimal digits and dashes."""
    return f"{trial_id:x}-{picture.value:x}"


class PictureStore:
    """An Optuna artifact store that draws pictures on request and stores nothing."""

    def __init__(self, database: Database, drawing: threading.Lock) -> None:
        """`drawing` is held while drawing, because matplotlib's settings are global."""
        self._database = database
        self._drawing = drawing

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Return the picture as a PNG file.

        Raises:
            HTTPError: there is no such picture; the dashboard treats Optuna's `ArtifactNotFound` as a bug.
        """
        trial, _, kind = artifact_id.partition("-")
        try:
            trial_id, picture = int(trial, 16), Picture(int(kind, 16))
        except ValueError:
            _not_found(artifact_id)
        draw = {Picture.CURVES: _curves, Picture.CONFUSION: _confusion}[picture]
        figure = read(self._database, lambda c: draw(c, trial_id))
        if figure is None:
            _not_found(artifact_id)
        try:
            with drawing_turn(self._drawing):
                return io.BytesIO(draw_png(figure))
        except DrawingBusyError as error:
            raise HTTPError(503, str(error)) from error

    def write(self, artifact_id: str, content_body: BinaryIO) -> NoReturn:
        """Refuse to add files, as the protocol requires this method."""
        raise NotImplementedError("the dashboard stores no files")

    def remove(self, artifact_id: str) -> None:
        """Do nothing: no picture is stored."""


def _not_found(artifact_id: str) -> NoReturn:
    raise HTTPError(404, f"there is no picture {artifact_id}")


def _curves(connection: Connection, trial_id: int) -> Figure | None:
    """Return every metric of a trial by epoch, next to those of the best trial."""
    trial = trials.trial_of_optuna(connection, trial_id)
    if trial is None:
        return None
    own = trials.epochs_of(connection, trial.reservation_id)
    if not own:
        return None
    maximize = trial.spec["direction"] == "maximize"
    best = trials.best_trial(connection, trial.study_id, maximize=maximize)
    other = (
        trials.epochs_of(connection, best.reservation_id)
        if best is not None and best.reservation_id != trial.reservation_id
        else {}
    )
    metric, last = trial.spec["metric"], max([*own, *other])
    names = [metric, *(name for name in own[max(own)] if name != metric and name != SPEED)]
    panels = []
    for name in names[:MOST_PANELS]:
        series = [_series(f"best trial ({best.number})", other, name, GREY)] if other and best else []
        series.append(_series(f"trial {trial.number}", own, name, BLUE))
        panels.append(Chart(name, epoch_axis(last), Axis(), series))
    return Figure("curves", "", panels)


def _series(label: str, epochs: Mapping[int, Mapping[str, float]], name: str, colour: str) -> Series:
    points = [Point(epoch, metrics.get(name)) for epoch, metrics in epochs.items()]
    style: Style = "line and points" if colour == BLUE else "dashed"
    return Series(name=label, points=points, style=style, colour=colour)


def _confusion(connection: Connection, trial_id: int) -> Figure | None:
    """Return the confusion matrix over all seeds of the trial's latest retrain."""
    trial = trials.trial_of_optuna(connection, trial_id)
    if trial is None:
        return None
    found = read_confusions(connection, trial.study_id).get(trial.number)
    if found is None:
        return None
    counts = pooled(found["matrices"])
    names = [str(name) for name in found["classes"] or range(len(counts))]
    seeds = len(found["matrices"])
    title = f"test images, trial {trial.number} retrained from {seeds} seed{'' if seeds == 1 else 's'}"
    return Figure("confusion", "", [confusion_panel(title, counts, names)], height=520)
