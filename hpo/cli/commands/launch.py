"""`hpo launch`: create or continue a study and run it."""

from __future__ import annotations

from pathlib import Path

import click

from hpo.cli import options
from hpo.cli.options import Duration, NearestChoice, ObjectiveName, Size, option
from hpo.options import (
    ENGINES,
    PRUNERS,
    SAMPLERS,
    SPACES,
    AgentOptions,
    LaunchDefaults,
    LaunchRequest,
    Precision,
    RayOptions,
    SlotOptions,
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
@options.workers_option("Trials that run at the same time, each on its share of the cores or GPUs.")
@option(
    "--engine",
    type=NearestChoice(ENGINES),
    default=LaunchRequest.engine,
    help="Where they run: on this host, or as actors of a Ray cluster (pip install 'hpo-service[ray]').",
)
@option(
    "--address",
    metavar="ADDRESS",
    show_default="auto: this machine's cluster, or RAY_ADDRESS",
    help="Ray: the cluster, as host:port of its head.",
)
@option(
    "--cpus-per-worker",
    metavar="N",
    type=click.FloatRange(min=0, max=1024),
    show_default=f"{RayOptions.cpus_per_worker:g}",
    help="Ray: processor cores that each worker takes of its node.",
)
@option(
    "--gpus-per-worker",
    metavar="N",
    type=click.FloatRange(min=0, max=64),
    show_default="none",
    help="Ray: GPUs of each worker; 0.25 has four share one, each limited to a quarter of its memory.",
)
@option(
    "--workers-per-agent",
    metavar="N",
    type=_POSITIVE,
    show_default=f"{RayOptions.workers_per_agent}",
    help="Ray: workers placed together on one node. They share one process that has loaded Keras and the "
    "data, and its database connections.",
)
@options.slot_options
@options.precision_option
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
    show_default=_for_new(
        f"{_DEFAULTS.pruner}, or {_DEFAULTS.pruner_of_many} from {_DEFAULTS.many_trials} trials on,"
    ),
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
@options.log_options
@options.data_dir_option
@options.storage_option
def launch(
    study: str,
    objective: str | None,
    workers: int | None,
    engine: str,
    address: str | None,
    cpus_per_worker: float | None,
    gpus_per_worker: float | None,
    workers_per_agent: int | None,
    gpus: str | None,
    device: str | None,
    precision: Precision,
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

    One that was paused or stopped is told to run.
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
        agent=AgentOptions(hung_after, memory_per_worker, SlotOptions(gpus, device, precision=precision)),
        space=space,
        engine=engine,
        ray=_ray_options(
            engine, gpus or device, address, cpus_per_worker, gpus_per_worker, workers_per_agent
        ),
        run=not no_run,
    )
    from hpo.engines.base import engine_called

    # Without a run it does not matter where agents would be.
    chosen = engine_called("local" if no_run else engine)
    return chosen.launch(request, options.settings(storage, data_dir))


def _ray_options(
    engine: str,
    of_this_host: str | None,
    address: str | None,
    cpus: float | None,
    gpus: float | None,
    workers: int | None,
) -> RayOptions:
    """What was given of them; options that the engine would ignore are refused."""
    given = {
        "address": address,
        "cpus_per_worker": cpus,
        "gpus_per_worker": gpus,
        "workers_per_agent": workers,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if given and engine != "ray":
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{names}: only with --engine ray", click.get_current_context())
    if of_this_host and engine == "ray":
        raise click.UsageError(
            "--gpus and --device (HPO_GPUS, HPO_DEVICE) are of this host: with --engine ray give --gpus-per-worker",
            click.get_current_context(),
        )
    return RayOptions(**given)  # type: ignore[arg-type]
