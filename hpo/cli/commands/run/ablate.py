"""`hpo ablate`: an experiment that measures the worth of each hyperparameter."""

from __future__ import annotations

from pathlib import Path

import click

from hpo.cli import options
from hpo.cli.output import echo_text
from hpo.options.ablate_request import AblateRequest


@click.command()
@options.request_options(AblateRequest, omit=("gpu_share", "cores"))
@options.log_options
@options.data_dir_option
@options.storage_option
def ablate(request: AblateRequest, data_dir: Path | None, storage: str | None) -> int:
    """Measure what each hyperparameter is worth.

    Trains the best configuration again with each parameter at several values while all others stay as they
    are, from the same seeds at each value, and judges on validation examples. The runs are trials of the study
    STUDY-ablation: interrupt and continue them, let workers on other hosts join, look with hpo status. At the end it
    prints which parameters are worth tuning, safe to leave, or harmful beyond a value, and writes the report.

    \b
    hpo ablate --study mnist-cnn --dry-run
    hpo ablate --study mnist-cnn --seeds 5 --epochs 4 --limit 10000 --workers 2
    """
    from hpo.ablation.ablate import ablate as run_ablation

    return run_ablation(request, options.settings(storage, data_dir), echo_text)
