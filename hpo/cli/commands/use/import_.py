"""`hpo import`: bring known results into a study."""

from __future__ import annotations

from pathlib import Path

import click

from hpo import formatting
from hpo.cli import options


@click.command("import")
@options.study_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@options.storage_option
def import_(study: str, file: Path, storage: str | None) -> None:
    """Add known results, from which the study's sampler learns.

    FILE is CSV or JSON with a row for each result: the parameters and value, as printed by hpo trials --csv or --json,
    or as in Optuna's data frames. A parameter named like another column is in param_NAME. Choices that look the same in
    CSV, such as 1 and "1", need JSON. Rows that are not complete are skipped, results imported before too.

    The results were not trained here: they do not count towards --trials, and the best trial is never one of them.
    """
    from hpo.study.added.known_results import import_results

    with options.opened(storage) as database:
        done = import_results(database, study, file)
    click.echo(
        f"added {formatting.counted(done.added, 'result')} to {study}"
        f" ({done.known} known already, {done.skipped} not complete): hpo trials --study {study} lists them"
    )
