"""`hpo retrain`: train the best configuration again and test it."""

from __future__ import annotations

from pathlib import Path

import click

from hpo.cli import options
from hpo.options.retrain_request import RetrainRequest


@click.command()
@options.request_options(RetrainRequest, omit=("gpu_share", "cores"))
@options.log_options
@options.data_dir_option
@options.storage_option
def retrain(request: RetrainRequest, data_dir: Path | None, storage: str | None) -> int:
    """Retrain the best configuration; test it once.

    Trains on all training data with several seeds, then opens the test set once. Writes metrics, the
    model, its history and confusion matrix to HPO_RESULTS_DIR/<study> (default: results/<study>);
    for a --trial or --config that is not the search's choice, to trial-N or config-FILE in that folder.
    """
    choices = {"--config": request.config, "--trial": request.trial, "--top": request.top > 1 or None}
    given = [name for name, value in choices.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(
            f"{' and '.join(given)} exclude each other, because each chooses a configuration",
            click.get_current_context(),
        )
    from hpo.retrain.retrain import retrain as run_retrain

    return run_retrain(request, options.settings(storage, data_dir))
