"""`hpo worker`: join a study as another agent."""

from __future__ import annotations

from pathlib import Path

import click

from hpo.cli import options
from hpo.cli.options import option
from hpo.options import (
    AgentOptions,
    Precision,
    SlotOptions,
)

_POSITIVE = click.IntRange(min=1)


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
@options.slot_options
@options.precision_option
@option(
    "--gpu-share",
    metavar="SHARE",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=SlotOptions.gpu_share,
    envvar="HPO_GPU_SHARE",
    help="Part of each GPU's memory that this agent may take, as 0.25, where others use the same GPUs.",
)
@option(
    "--cores",
    metavar="N",
    type=_POSITIVE,
    envvar="HPO_CORES",
    show_default="all usable ones",
    help="Cores that the slots share, where several agents run on one host: each takes cores that no other "
    "has taken with this option.",
)
@options.agent_options
@options.log_options
@options.data_dir_option
@options.storage_option
def worker(
    study: str,
    slots: int | None,
    gpus: str | None,
    device: str | None,
    precision: Precision,
    gpu_share: float,
    cores: int | None,
    hung_after: float,
    memory_per_worker: int | None,
    data_dir: Path | None,
    storage: str | None,
) -> int:
    """Join a running study as another agent.

    From anywhere that reaches its storage. Agents may join and leave at any time; what an agent
    held goes on elsewhere.
    """
    from hpo.agent.launch import work

    agent = AgentOptions(
        hung_after, memory_per_worker, SlotOptions(gpus, device, gpu_share, cores, precision)
    )
    return work(study, slots, options.settings(storage, data_dir), agent)
