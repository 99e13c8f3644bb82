"""A study as Python sees it: its best trial, frames, figures, report, and its retraining."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hpo.errors import UsageError
from hpo.python.plots import PLOTS
from hpo.settings import Settings
from objectives.spaces.references import with_objects
from storage.opening import open_database

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from hpo.study.dataframes import Results
    from hpo.study.history import StudyHistory
    from hpo.study.results.best_trials import BestTrial
    from storage.engine import Database

MODEL_FORMATS = ("keras", "onnx", "saved-model", "tflite")
"""Formats of `hpo export` for models; those with files are also their suffixes."""


@dataclass(frozen=True)
class Study:
    """A study whose database is queried on each call, so that you can follow it while it runs.

    Its methods raise UnknownStudyError if the study was deleted, and StorageUnreachableError if the database does not
    answer.
    """

    name: str
    settings: Settings

    def __repr__(self) -> str:
        return f"Study({self.name!r})"

    @property
    def best(self) -> BestTrial:
        """The best complete trial: `number`, `value`, `params`, `metrics` and more.

        A class, function or enum member among `params` is that object if its module is imported, or else its name. A
        tuple is a list, because a study stores it as JSON.

        Raises:
            NoResultError: no trial is complete.
        """
        from hpo.study.results.best_trials import best_trial

        with self._opened() as database:
            found = best_trial(database, self.name)
        return replace(found, params={name: with_objects(value) for name, value in found.params.items()})

    @property
    def learned_from(self) -> dict[str, int]:
        """Numbers of trials of the earlier studies from whose results the search started, by their names then."""
        from hpo.study.monitoring.status import study_status

        with self._opened() as database:
            return dict(study_status(database, self.name).learned_from)

    @property
    def trials(self) -> pd.DataFrame:
        """All trials, one row each, by number."""
        return self.results().trials

    @property
    def front(self) -> pd.DataFrame:
        """The trials of which none is better both in the metric and in the figure of `also_minimize`.

        Raises:
            UsageError: the study has one objective.
            NoResultError: no trial is complete.
        """
        from hpo.study.results.front import read_front

        with self._opened() as database:
            numbers = [trial.number for trial in read_front(database, self.name).trials]
        trials = self.trials
        return trials.loc[[number for number in numbers if number in trials.index]]

    def history(self) -> StudyHistory:
        """Return the complete history of the study as plain values."""
        from hpo.study.history import read_history

        with self._opened() as database:
            return read_history(database, self.name)

    def results(self) -> Results:
        """Return the history as data frames."""
        from hpo.study.dataframes import frames_of

        return frames_of(self.history())

    def retrain(self, **options: Any) -> pd.DataFrame:
        """Train the best configuration again and test it once; `hpo retrain` as a method: `retrain(seeds=3)`.

        Return one row for each final run, by seed.

        Raises:
            HpoError: as `hpo retrain` fails, with the same message.
            KeyboardInterrupt: it was interrupted; the same call continues from the last epochs.
        """
        from hpo.options.retrain_request import RetrainRequest
        from hpo.python.command import run_command
        from hpo.python.options import arguments_of

        given = arguments_of(RetrainRequest, "retrain", {"study": self.name, **options})
        run_command(["retrain", *given], self.settings)
        runs = self.results().retrains
        last: pd.DataFrame = runs.loc[runs.index.get_level_values("retrain_id").max()]
        return last

    def predict(
        self,
        inputs: Any,
        *,
        top: int = 1,
        mirror: bool = False,
        batch_size: int | None = None,
        device: str | None = None,
        skip_unreadable: bool = False,
    ) -> pd.DataFrame:
        """Return the predictions of the study's retrained model, one row each; `hpo predict` as a method.

        `inputs` is a path of an image or folder, several paths, an array or data frame with one row for each input, or
        a dict of arrays by the names of inputs.

        Raises:
            HpoError: as `hpo predict` fails, with the same message.
        """
        from hpo.python.predict import predict

        options = ["--top", str(top), *(["--mirror"] if mirror else [])]
        options += ["--skip-unreadable"] if skip_unreadable else []
        options += [] if batch_size is None else ["--batch-size", str(batch_size)]
        options += [] if device is None else ["--device", device]
        return predict(self.name, inputs, options, self.settings)

    def report(self, path: str | os.PathLike[str] | None = None) -> Report:
        """Write the report into a folder, by default HPO_RESULTS_DIR/<study>; a notebook shows the result.

        Raises:
            ResultsNotWritableError, DiskFullError: the files cannot be written.
        """
        from hpo.report.study_report import report

        folder = self.settings.results_dir / self.name if path is None else Path(path)
        with self._opened() as database:
            report(database, self.name, folder)
        return Report(folder / "report.html")

    def export(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        format: str | None = None,
        trial: int | None = None,
    ) -> str:
        """Return the best configuration, or that of another complete trial, as text, and write it to `path`.

        `format` is yaml, json, toml or python, a script that trains it; by default as the path's suffix says, or yaml.
        With keras, onnx, saved-model or tflite, the retrained model is written to `path`, which is returned.

        Raises:
            UsageError: there is no such format, or the suffix of `path` means another.
            NoResultError: no trial is complete, or not this one.
            FileNotWritableError: the file cannot be written.
        """
        from hpo.export.best_config import build_config
        from hpo.export.config_file import FORMATS, SUFFIXES, render
        from hpo.files.atomic import new_file

        if path is not None and (format or Path(path).suffix.lower()[1:]) in MODEL_FORMATS:
            return self._export_model(path, format, trial)
        by_suffix = SUFFIXES.get(Path(path).suffix.lower()) if path is not None else None
        form = next((known for known in FORMATS if known == (format or by_suffix or "yaml")), None)
        if form is None or (format and by_suffix not in (None, format)):
            problem = (
                f"the suffix of {path} means {by_suffix}" if form else f"use one of {', '.join(FORMATS)}"
            )
            raise UsageError(f"format={format!r} does not fit: {problem}")
        with self._opened() as database:
            text = render(build_config(database, self.name, trial), form)
        if path is not None:
            with new_file(Path(path)) as partial_file:
                partial_file.write_text(text, encoding="utf-8")
        return text

    def _export_model(self, path: str | os.PathLike[str], form: str | None, trial: int | None) -> str:
        from hpo.python.command import run_command

        given = ["--format", form] if form else []
        given += [] if trial is None else ["--trial", str(trial)]
        output = os.fspath(path)
        run_command(["export", "--study", self.name, "--output", output, *given], self.settings)
        return output

    def __getattr__(self, name: str) -> Any:
        """Return a method for each figure of Optuna: `plot_optimization_history()` and so on."""
        if name not in PLOTS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return partial(self._plot, name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *PLOTS]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a study is not available in trials, which know no database")

    def _plot(self, name: str, **options: Any) -> go.Figure:
        """Return a figure of Optuna with Optuna's options.

        Raises:
            NoResultError: there are too few trials for it.
        """
        from hpo.python.plots import plot

        with self._opened() as database:
            return plot(database, self.name, name, options)

    @contextmanager
    def _opened(self) -> Iterator[Database]:
        with open_database(self.settings.storage, self.settings.home) as database:
            yield database


@dataclass(frozen=True)
class Report:
    """A written report: a path, which a notebook shows as the page."""

    path: Path
    """Its page; the other files lie next to it."""

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" width="100%" height="700" style="border:0"></iframe>'
