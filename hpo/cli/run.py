"""Commands that run a study: launch, worker, pause, resume, stop, retrain."""

from __future__ import annotations

from pathlib import Path

import click

from hpo.cli import options
from hpo.cli.options import Duration, NearestChoice, ObjectiveName, Size, option
from hpo.requests import (
    PRUNERS,
    SAMPLERS,
    SPACES,
    AgentOptions,
    LaunchDefaults,
    LaunchRequest,
    RetrainRequest,
)

_DEFAULTS = LaunchDefaults()
_POSITIVE = click.IntRange(min=1)


def _for_new(value: object) -> str:
    return f"{value} for a new study, else the study's own"


@click.command()
@options.study_option
@option(
    "--objective",
    metavar="REF",
    type=ObjectiveName(),
    show_default="the study's own, or the objective of the study's name",
    help="What to tune: a shipped name (hpo objectives), package.module:Class or path/to/file.py:Class.",
)
@option(
    "--workers",
    "-w",
    metavar="N",
    type=_POSITIVE,
    envvar="HPO_WORKERS",
    show_default="one for each GPU, or else for each usable core",
    help="Trials that run here at the same time, each on its share of the cores or GPUs.",
)
@option(
    "--trials",
    "-n",
    metavar="N",
    type=_POSITIVE,
    show_default=_for_new(_DEFAULTS.trials),
    help="Finished trials in all, earlier launches included: the same command again continues to this "
    "total, a larger number extends the study.",
)
@option(
    "--timeout",
    metavar="TIME",
    type=Duration(),
    show_default="none",
    help="End after this long: 90s, 15m, 2h. Running trials are checkpointed and continue at the next "
    "launch.",
)
@option(
    "--epochs",
    metavar="N",
    type=_POSITIVE,
    show_default="the objective's",
    help="Epochs of a trial that is not pruned.",
)
@option(
    "--limit",
    metavar="N",
    type=_POSITIVE,
    show_default="all",
    help="Training images used, stratified; validation images in proportion.",
)
@option(
    "--sampler",
    type=NearestChoice(SAMPLERS),
    show_default=_for_new(_DEFAULTS.sampler),
    help="What proposes the next configuration.",
)
@option(
    "--pruner",
    type=NearestChoice(PRUNERS),
    show_default=_for_new(_DEFAULTS.pruner),
    help="What ends trials that look hopeless.",
)
@option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    show_default=_for_new(_DEFAULTS.seed),
    help="Seeds the sampler and every trial.",
)
@option(
    "--param",
    "-p",
    "params",
    multiple=True,
    metavar="NAME=VALUES",
    show_default="the objective's whole space",
    help="Fix or narrow a parameter: batch_size=64,128 or learning_rate=1e-4..1e-2. May be given many times.",
)
@option(
    "--max-failed",
    metavar="N",
    type=_POSITIVE,
    show_default=_for_new(_DEFAULTS.max_failed),
    help="Stop after this many failed trials (bugs, lost or hung ones); they do not count towards --trials.",
)
@option(
    "--max-lost",
    metavar="N",
    type=_POSITIVE,
    show_default=_for_new(_DEFAULTS.max_lost),
    help="Fail a trial after it was lost this many times: its process killed, hung, or its machine gone.",
)
@option(
    "--checkpoint-quota",
    metavar="SIZE",
    type=Size(),
    envvar="HPO_CHECKPOINT_QUOTA",
    show_default="no bound, else the study's own",
    help="Most that the study's checkpoints may take, as 10G; spare ones and those of waiting trials go first.",
)
@option(
    "--space",
    type=NearestChoice(SPACES),
    show_default="refuse, and say what changed",
    help="When the search space changed since the study began: keep the stored one, or change to the new "
    "one; either way all trials stay in the history.",
)
@option(
    "--no-run",
    "no_run",
    is_flag=True,
    show_default="off",
    help="Only create or extend the study; agents join it with hpo worker. One that is paused or stopped stays so.",
)
@options.agent_options
@options.data_dir_option
@options.storage_option
def launch(
    study: str,
    objective: str | None,
    workers: int | None,
    trials: int | None,
    timeout: float | None,
    epochs: int | None,
    limit: int | None,
    sampler: str | None,
    pruner: str | None,
    seed: int | None,
    params: tuple[str, ...],
    max_failed: int | None,
    max_lost: int | None,
    checkpoint_quota: int | None,
    space: str | None,
    no_run: bool,
    hung_after: float,
    memory_per_worker: int | None,
    data_dir: Path | None,
    storage: str | None,
) -> int:
    """Create or continue a study and run it here.

    Ctrl-C once: running trials are checkpointed and continue at the next launch. Twice: ends at once.
    A second launch of the same study, here or elsewhere, joins as another agent.

    \b
    hpo launch --study digits-cnn --workers 2 --trials 12
    hpo launch --study mine --objective my_objective.py:PetsCNN --param batch_size=64,128
    """
    request = LaunchRequest(
        study=study,
        objective=objective,
        workers=workers,
        trials=trials,
        timeout_seconds=timeout,
        epochs=epochs,
        limit=limit,
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        params=params,
        max_failed=max_failed,
        max_lost=max_lost,
        checkpoint_quota_bytes=checkpoint_quota,
        agent=AgentOptions(hung_after, memory_per_worker),
        space=space,
        run=not no_run,
    )
    from hpo.launch import launch as run_launch

    return run_launch(request, options.settings(storage, data_dir))


@click.command()
@options.study_option
@option(
    "--slots",
    "-w",
    metavar="N",
    type=_POSITIVE,
    envvar="HPO_WORKERS",
    show_default="one for each GPU, or else for each usable core",
    help="Trials that run here at the same time.",
)
@options.agent_options
@options.data_dir_option
@options.storage_option
def worker(
    study: str,
    slots: int | None,
    hung_after: float,
    memory_per_worker: int | None,
    data_dir: Path | None,
    storage: str | None,
) -> int:
    """Join a running study as another agent.

    From anywhere that reaches its storage. Agents may join and leave at any time; what an agent
    held goes on elsewhere.
    """
    from hpo.launch import work

    agent = AgentOptions(hung_after, memory_per_worker)
    return work(study, slots, options.settings(storage, data_dir), agent)


def _tell(study: str, storage: str | None, told: str) -> None:
    from typing import cast

    from hpo.study import set_control
    from storage.control import Control

    after = {
        "run": "its agents go on",
        "pause": "its agents hold their trials; hpo resume lets them go on",
        "stop": "its agents checkpoint their trials and end; hpo launch continues them",
    }
    with options.opened(storage) as database:
        before = set_control(database, study, cast(Control, told))
    same = " already" if before == told else ""
    click.echo(f"{study} is{same} told to {told}: {after[told]}")


@click.command()
@options.study_option
@options.storage_option
def pause(study: str, storage: str | None) -> None:
    """Have every agent hold its trials and wait."""
    _tell(study, storage, "pause")


@click.command()
@options.study_option
@options.storage_option
def resume(study: str, storage: str | None) -> None:
    """Let a paused study go on, and a stopped one be joined."""
    _tell(study, storage, "run")


@click.command()
@options.study_option
@options.storage_option
def stop(study: str, storage: str | None) -> None:
    """Have every agent checkpoint its trials and end.

    hpo launch, or hpo resume and hpo worker, continue the study.
    """
    _tell(study, storage, "stop")


@click.command()
@options.study_option
@option(
    "--seeds",
    metavar="K",
    type=_POSITIVE,
    default=RetrainRequest.seeds,
    help="Runs from different seeds, whose mean and interval are reported.",
)
@option(
    "--epochs",
    metavar="N",
    type=_POSITIVE,
    show_default="those of the configuration",
    help="Epochs of each run.",
)
@option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    show_default="the study's best trial",
    help="Train this exported configuration (YAML, JSON or TOML) instead.",
)
@option(
    "--workers",
    "-w",
    metavar="N",
    type=_POSITIVE,
    envvar="HPO_WORKERS",
    show_default="one for each GPU, or else for each usable core",
    help="Runs that train here at the same time.",
)
@options.data_dir_option
@options.storage_option
def retrain(
    study: str,
    seeds: int,
    epochs: int | None,
    config: Path | None,
    workers: int | None,
    data_dir: Path | None,
    storage: str | None,
) -> int:
    """Train the best configuration afresh; test it once.

    Trains on all training data from several seeds, then opens the test set once. Writes metrics, the
    model, its history and confusion matrix to HPO_RESULTS_DIR/<study> (default: results/<study>).
    """
    request = RetrainRequest(study=study, seeds=seeds, epochs=epochs, config=config, workers=workers)
    from hpo.retrain import retrain as run_retrain

    return run_retrain(request, options.settings(storage, data_dir))
