"""`hpo plan`: estimate the cost of a search before it begins."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hpo.cli import options
from hpo.cli.output import echo_json, echo_text
from hpo.cli.types import DURATION
from hpo.options.launch_request import LaunchRequest
from hpo.terminal.columns import fitted
from hpo.terminal.log import lines_to

RAY = ("engine", "address", "cpus_per_worker", "gpus_per_worker", "workers_per_agent")


@click.command()
@options.request_options(LaunchRequest, omit=("gpu_share", "cores", "run", *RAY))
@options.option(
    "--probe-time",
    "probe_seconds",
    metavar="TIME",
    type=DURATION,
    default="2m",
    help="Longest time that the default configuration trains, e.g. 90s or 10m; it ends earlier once the time of an "
    "epoch is known.",
)
@options.json_option
@options.log_options
@options.data_dir_option
@options.storage_option
def plan(
    request: LaunchRequest, probe_seconds: float, as_json: bool, data_dir: Path | None, storage: str | None
) -> None:
    """Estimate the cost of a search before it begins.

    Trains the first epochs of the default configuration in all worker slots at once, and prints the time and
    memory of a trial, and the epochs and time of the search: from what the pruner may leave to no pruning at
    all. Takes the options of hpo launch; creates no study. A launch with the same options keeps the estimate,
    and hpo report compares it with the search.

    \b
    hpo plan --study mnist --objective mnist-cnn --workers 2 --trials 50
    """
    from hpo.planning.plan import plan as plan_search
    from hpo.planning.text import json_of, lines_of

    # Standard output holds the estimate alone.
    with lines_to(lambda line: print(fitted(line, sys.stderr), file=sys.stderr, flush=True)):
        planned = plan_search(request, probe_seconds, options.settings(storage, data_dir))
    if as_json:
        echo_json(json_of(planned))
    else:
        for line in lines_of(planned):
            echo_text(line)
