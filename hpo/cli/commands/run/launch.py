"""`hpo launch`: create or continue a study and run it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import click
from click.core import ParameterSource

from hpo.cli import options
from hpo.options.hosts import RayOptions
from hpo.options.launch_request import LaunchRequest


@click.command()
@options.request_options(LaunchRequest, omit=("gpu_share", "cores"))
@options.log_options
@options.data_dir_option
@options.storage_option
def launch(request: LaunchRequest, data_dir: Path | None, storage: str | None) -> int:
    """Create or continue a study and run it here.

    Resumes a paused or stopped study. Ctrl-C checkpoints running trials, which continue at the next launch;
    press Ctrl-C twice to stop immediately. A second launch of the same study, here or elsewhere, joins as
    another agent.

    \b
    hpo launch --study digits-cnn --workers 2 --trials 12
    hpo launch --study mine --objective my_objective.py:Pets --param batch_size=64,128
    """
    _check_engine(request)
    from hpo.engines.base import launch as launch_agents

    return launch_agents(request, options.settings(storage, data_dir))


def _check_engine(request: LaunchRequest) -> None:
    """Refuse options that the engine would ignore."""
    context = click.get_current_context()
    given = [
        f"--{field.name.replace('_', '-')}"
        for field in fields(RayOptions)
        if context.get_parameter_source(field.name) is not ParameterSource.DEFAULT
    ]
    if given and request.engine != "ray":
        raise click.UsageError(f"{', '.join(given)}: only with --engine ray", context)
    if request.engine == "ray" and (request.agent.slots.gpus or request.agent.slots.device):
        raise click.UsageError(
            "--gpus and --device (HPO_GPUS, HPO_DEVICE) apply to this host: with --engine ray use --gpus-per-worker",
            context,
        )
