"""`hpo.launch`: search the hyperparameters of an objective from Python, in a script or a notebook."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import UsageError
from hpo.options.study_name import check_study_name
from hpo.settings import OF_OBJECTIVE, Settings

if TYPE_CHECKING:
    from hpo.python.study import Study


def launch(
    objective: Any = None,
    *,
    study: str,
    trials: int | None = None,
    workers: int | None = None,
    direction: str | None = None,
    params: Mapping[str, Any] | None = None,
    data: Any = None,
    metric: str | None = None,
    storage: str | None = None,
    **options: Any,
) -> Study:
    """Create or continue a study, run it until it is done, and return it; `hpo launch` as a function.

    `objective` is a function of an Optuna trial, a subclass of `hpo.Objective` or `hpo.KerasObjective`, a KerasTuner
    model builder, or a text as `--objective` takes it; by default the study's own. You may define it in a notebook,
    with the values that it uses. `data` and `metric` are those of a model builder: a function that returns the data, or
    the data, and the name of the metric. For a `hpo.KerasObjective`, `metric` selects another metric of its task, as
    `--metric`, and without a data set, `data` is the path of a folder or table of images.

    `params` narrows the space: `{"units": [32, 64], "lr": (1e-4, 1e-2), "batch": 32}`. `options` are the others of
    `hpo launch`, with underscores: `timeout="2h"`, `sampler="gp"`, `trial_timeout="10m"`. `storage` is a URL; by
    default HPO_STORAGE or the embedded database.

    An interrupt (Ctrl-C, or the notebook's button) lets running epochs end; the same call then continues the study.

    Raises:
        HpoError: as `hpo launch` fails, with the same message.
        KeyboardInterrupt: it was interrupted.
        TypeError: there is no such option.
    """
    if os.environ.get(OF_OBJECTIVE):
        raise UsageError(
            'hpo.launch() was called in a process that runs an objective: put the call under if __name__ == "__main__":'
        )
    if not isinstance(study, str):
        check_study_name(study)
    if isinstance(data, str | Path):
        options, data = {**options, "data": data}, None
    options |= {"trials": trials, "workers": workers, "direction": direction, "params": params}
    return _launch(objective, study, data, metric, _settings(storage), options)


def _launch(
    objective: Any, study: str, data: Any, metric: str | None, settings: Settings, options: Mapping[str, Any]
) -> Study:
    _import_optuna()
    from hpo.options.launch_request import LaunchRequest
    from hpo.python.command import run_command
    from hpo.python.options import arguments_of
    from hpo.python.study import Study
    from objectives.adapters.keras_tuner_objective import is_builder

    if metric is not None and not is_builder(objective):
        options, metric = {**options, "metric": metric}, None
    arguments = ["launch", *arguments_of(LaunchRequest, "launch", {"study": study, **options})]
    with ExitStack() as stack:
        any_code = options.get("code") is not None
        reference = _reference(stack, objective, study, data, metric, settings, any_code=any_code)
        if reference is not None:
            arguments.append(f"--objective={reference}")
        run_command(arguments, settings)
    return Study(study, settings)


def load_study(name: str, storage: str | None = None) -> Study:
    """Return a study: `hpo.load_study("mnist-cnn").best`, `.trials`, `.plot_optimization_history()`.

    `storage` is a PostgreSQL URL; by default HPO_STORAGE or the embedded database of HPO_HOME, as for the
    command line.

    Raises:
        UnknownStudyError: no study has that name.
        StorageUnreachableError: the database does not answer.
    """
    _import_optuna()
    from hpo.python.study import Study
    from hpo.study.catalog import find_study
    from storage.opening import open_database

    settings = _settings(storage)
    if not isinstance(name, str):
        raise UsageError(f"the name of a study is text, and {name!r} is not: give it as hpo ls shows it")
    with open_database(settings.storage, settings.home) as database:
        find_study(database, name)
    return Study(name, settings)


def _import_optuna() -> None:
    """Import Optuna without the warning that its progress bars give in a notebook without widgets."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        importlib.import_module("optuna")


def _settings(storage: str | None) -> Settings:
    settings = Settings.from_environment()
    return settings if storage is None else replace(settings, storage=storage)


def _reference(
    stack: ExitStack,
    objective: Any,
    study: str,
    data: Any,
    metric: str | None,
    settings: Settings,
    *,
    any_code: bool,
) -> str | None:
    """Return the reference of an objective, which `stack` keeps as long as the launch needs it."""
    if objective is None or isinstance(objective, str):
        if data is not None:
            raise UsageError("data belongs to a model builder that is given itself: write it into its file")
        return objective
    from hpo.python.definition import define, reference_of, written

    reference = reference_of(objective) if data is None and metric is None else None
    if reference is not None:
        return reference
    from storage.opening import open_database

    check_study_name(study)
    definition = define(objective, data, metric)
    database = stack.enter_context(open_database(settings.storage, settings.home))
    return stack.enter_context(written(database, study, definition, settings, any_code=any_code))
