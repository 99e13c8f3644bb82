"""`hpo retrain`: train the best configuration again and test it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from hpo.cli import options
from hpo.cli.options import ImageCount, option
from hpo.options import AgentOptions, Precision, RetrainRequest, SlotOptions


@click.command()
@options.study_option
@option(
    "--seeds",
    metavar="K",
    type=click.IntRange(min=1),
    default=RetrainRequest.seeds,
    help="Runs from different seeds, whose mean and interval are reported.",
)
@option(
    "--top",
    metavar="K",
    type=click.IntRange(min=1),
    default=RetrainRequest.top,
    help="Best trials that compete first: each is trained again from --seeds fresh seeds, and the best mean on "
    "validation images wins, so that luck does not. The test set plays no part in it.",
)
@option(
    "--epochs",
    metavar="N",
    type=click.IntRange(min=1),
    show_default="those of the configuration",
    help="Epochs of each run.",
)
@option(
    "--limit",
    metavar="N|all",
    type=ImageCount(),
    show_default="those of the configuration",
    help="Training images, as of hpo launch; each run trains on the validation images in proportion as well. all: a "
    "search on a part of them ends with a model of the whole.",
)
@option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    show_default="the study's best trial",
    help="Train this exported configuration (YAML, JSON or TOML) instead.",
)
@options.trial_option
@options.workers_option("Runs that train here at the same time.")
@options.slot_options
@options.precision_option
@options.agent_options
@options.log_options
@options.data_dir_option
@options.storage_option
def retrain(
    study: str,
    seeds: int,
    top: int,
    epochs: int | None,
    limit: int | Literal["all"] | None,
    config: Path | None,
    trial: int | None,
    workers: int | None,
    gpus: str | None,
    device: str | None,
    precision: Precision,
    hung_after: float,
    memory_per_worker: int | None,
    data_dir: Path | None,
    storage: str | None,
) -> int:
    """Train the best configuration afresh; test it once.

    Trains on all training data from several seeds, then opens the test set once. Writes metrics, the
    model, its history and confusion matrix to HPO_RESULTS_DIR/<study> (default: results/<study>);
    of a --trial or --config that is not the search's choice, to trial-N or config-FILE in there.
    """
    named = [
        option
        for option, given in (
            ("--config", config is not None),
            ("--trial", trial is not None),
            ("--top", top > 1),
        )
        if given
    ]
    if len(named) > 1:
        raise click.UsageError(
            f"{' and '.join(named)} each say which configuration: give one of them",
            click.get_current_context(),
        )
    request = RetrainRequest(
        study=study,
        seeds=seeds,
        top=top,
        epochs=epochs,
        limit=limit,
        config=config,
        trial=trial,
        workers=workers,
        agent=AgentOptions(hung_after, memory_per_worker, SlotOptions(gpus, device, precision=precision)),
    )
    from hpo.retrain.retrain import retrain as run_retrain

    return run_retrain(request, options.settings(storage, data_dir))
