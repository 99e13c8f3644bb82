"""`hpo backup` and `hpo restore`: a study as one file."""

from __future__ import annotations

from pathlib import Path

import click

from hpo.cli import options
from hpo.cli.options import option


@click.command()
@options.study_option
@option(
    "--output",
    "-o",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write it, compressed; a file that is there is replaced when the new one is whole.",
)
@options.storage_option
def backup(study: str, output: Path, storage: str | None) -> None:
    """Write a study to a file that hpo restore takes.

    Its spec, trials, epochs, attempts, logs and retrains, Optuna's rows included, as of one moment, even
    while it runs. Not in it: checkpoints and results, which are files already.
    """
    from hpo.study.backup import write_backup

    with options.opened(storage) as database, database.without_statement_timeout():
        made = write_backup(database, study, output)
    click.echo(f"wrote {output}: study {made.study} with {made.trials} trials, {made.rows} rows")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@option(
    "--as",
    "name",
    metavar="NAME",
    show_default="its own",
    help="Another name for the study, where its own is taken.",
)
@options.storage_option
def restore(file: Path, name: str | None, storage: str | None) -> None:
    """Bring back a study from a file that hpo backup wrote.

    To this database or any other, whole or not at all. It is told what it was told: unless it was paused or
    stopped, workers that join go on with it. Trials that were running go on where their checkpoints are, else
    begin again. Two copies of one study must not share a checkpoint folder.
    """
    from hpo.study.backup import read_backup
    from hpo.study.catalog import find_study

    found = options.settings(storage)
    with options.opened(storage) as database, database.without_statement_timeout():
        made = read_backup(database, file, name)
        folder = find_study(database, made.study).folder
    click.echo(
        f"restored study {made.study} with {made.trials} trials; continue it: hpo launch --study {made.study}"
    )
    click.echo(f"its checkpoints, where they were copied along, belong in {found.checkpoints / folder}")
