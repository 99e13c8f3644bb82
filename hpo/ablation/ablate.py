"""`hpo ablate`: plans an experiment, trains its runs as trials of a study, and reports the results."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hpo import formatting
from hpo.ablation.cost import cost_of, lines_of
from hpo.ablation.experiment import Experiment, read_experiment, settings_of, store
from hpo.agent.image_data import images_in_use
from hpo.agent.launch import launch
from hpo.agent.loads import host_data
from hpo.analysis.ablation.effects import Ablation
from hpo.devices.backends import choose_backend
from hpo.devices.slots import plan_here
from hpo.document.files import write_document
from hpo.errors import HpoError, UsageError
from hpo.options.ablate_request import AblateRequest
from hpo.options.hosts import SlotOptions
from hpo.options.launch_request import LaunchRequest
from hpo.report.ablation.sections import summary_lines
from hpo.report.ablation.text import Wording
from hpo.report.study_report import report_files
from hpo.search.spec import StudySpec
from hpo.settings import Settings
from hpo.study.definition.create import discarded_if_refused
from hpo.study.definition.launched_study import find
from hpo.study.definition.objective_file import check_objective_file
from hpo.study.history import read_history
from hpo.study.results.best_trials import best_trial
from hpo.trainer.lanes.refusal import check_lanes
from hpo.trainer.pool import TrainerPool
from hpo.trainer.template.messages import Load
from objectives.description import Description
from storage.engine import Database
from storage.opening import open_database

log = logging.getLogger(__name__)

Print = Callable[[str], None]


def ablate(request: AblateRequest, settings: Settings, show: Print) -> int:
    """Create, extend or continue an experiment and train it here, then show its results; return the exit code.

    Raises:
        HpoError: the request, the study, the objective, the data or the database is at fault.
    """
    with open_database(settings.storage, settings.home) as database:
        experiment = _planned(database, request, settings)
        lines = _plan_lines(database, request, experiment)
        if request.dry_run:
            for line in lines:
                show(line)
            return 0
        for line in lines:
            log.info(line)
        store(database, experiment)
        left = experiment.design.size - (experiment.existing.finished if experiment.existing else 0)
    code = _train(request, settings, experiment) if left > 0 else 0
    if code:
        return code
    with open_database(settings.storage, settings.home) as database:
        _show_results(database, experiment.name, settings, show)
    return 0


def _planned(database: Database, request: AblateRequest, settings: Settings) -> Experiment:
    """Return the experiment; the objective is loaded only where its recipe is asked for."""
    experiment = read_experiment(database, request)
    # Its runs are compared with each other and with the trial around which they lie.
    choose_backend(request.agent.backend, experiment.source.spec.backend, experiment.source.name)
    check_lanes(request.agent)
    kept = None if experiment.existing is None else experiment.existing.spec.design
    if not settings_of(request, None if kept is None else kept.settings).recipe or experiment.design.recipe:
        return experiment
    return read_experiment(database, request, _recipe(experiment, settings))


def _recipe(experiment: Experiment, settings: Settings) -> Mapping[str, str]:
    """Return the switches of the objective's recipe.

    Raises:
        UsageError: it has none.
    """
    description = _describe(experiment.spec, experiment.source.name, settings)
    if not description.builds_models:
        raise UsageError(
            f"--recipe does not apply to {experiment.spec.objective}, which trains by code of its own: leave it out"
        )
    found = {
        name: value for name, value in description.recipe.items() if name not in experiment.source.spec.space
    }
    if not found:
        raise UsageError(
            f"--recipe: {experiment.spec.objective} turns on no augmentation, label smoothing or other part of a"
            " recipe: leave it out"
        )
    return found


def _describe(spec: StudySpec, study: str, settings: Settings) -> Description:
    """Return the declarations of an objective, which another process imports."""
    check_objective_file(spec.objective, study)
    settings.make_home()
    log_file = settings.home / "logs" / f"template-{study}-{os.getpid()}.log"
    with (
        images_in_use(host_data(settings, spec.data), settings) as data,
        TrainerPool(Load(spec.objective, data, False), [], log_file) as pool,
    ):
        return pool.describe()


def _plan_lines(database: Database, request: AblateRequest, experiment: Experiment) -> Sequence[str]:
    options: SlotOptions = replace(request.agent.slots, cores=None)
    devices, _ = plan_here(request.workers, options)
    lines = lines_of(experiment, cost_of(database, experiment, len(devices)))
    best = best_trial(database, experiment.source.name)
    if experiment.existing is not None and best.number != experiment.design.trial and request.trial is None:
        lines.append(
            f"the best trial of {experiment.source.name} is {best.number} now, around which another experiment is"
            f" created with --as; this one stays around trial {experiment.design.trial}"
        )
    if experiment.added:
        lines.append(f"{formatting.counted(experiment.added, 'run')} more than so far")
    return lines


def _train(request: AblateRequest, settings: Settings, experiment: Experiment) -> int:
    """Train the runs that are left; a new study that cannot be trained here is deleted again."""
    launched = LaunchRequest(
        study=experiment.name,
        workers=request.workers,
        timeout_seconds=request.timeout_seconds,
        agent=request.agent,
    )
    try:
        return launch(launched, settings)
    except HpoError:
        if experiment.is_new:
            with open_database(settings.storage, settings.home) as database:
                study = find(database, experiment.name)
                if study is not None:
                    with discarded_if_refused(
                        database, study, (settings.checkpoints, settings.home / "logs")
                    ):
                        raise
        raise


def _show_results(database: Database, name: str, settings: Settings, show: Print) -> None:
    """Print the results and write the report, or how to go on if runs are left."""
    history = read_history(database, name)
    if history.status.state != "finished":
        show(
            f"{history.status.finished} of {formatting.counted(history.study.budget, 'run')} have finished: the same"
            f" command continues; hpo report --study {name} shows the results so far"
        )
        return
    for line in summary_lines(Wording(Ablation.of(history))):
        show(line)
    folder = settings.results_dir / name
    write_document(folder, report_files(history))
    show(f"wrote {folder / 'report.html'}, ablation.json and ablation.csv")
