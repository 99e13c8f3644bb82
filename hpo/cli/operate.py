"""Commands for whoever runs the service: init, health, backup, restore."""

from __future__ import annotations

from pathlib import Path

import click

from hpo.cli import options
from hpo.cli.options import option


@click.command()
@options.storage_option
def init(storage: str | None) -> None:
    """Create or upgrade the database's tables, and do nothing else.

    Every command does so by itself; this one is for a job that runs before many of them start. Any
    number may run at once.
    """
    from hpo.formatting import counted
    from hpo.study.catalog import database_words, study_names

    with options.opened(storage) as database:
        studies = counted(len(study_names(database)), "study", "studies")
        click.echo(f"the tables in {database_words(database)} are up to date, with {studies}")


@click.command()
@options.study_option
@options.storage_option
def health(study: str, storage: str | None) -> None:
    """Ask the database whether this host's agent is at work.

    Exit code 1 where it has been silent for half a lease, or the database is. For the health checks of
    containers: an agent survives an outage, so do not restart it for one.
    """
    from hpo.process.identity import host_name
    from hpo.study.health import check_agent
    from storage.engine import open_database

    found = options.settings(storage)
    with open_database(found.storage, found.home, wait_seconds=2.0, migrate=False) as database:
        heard = check_agent(database, study, host_name())
    click.echo(f"process {heard.pid} with {heard.slots} slots was heard of {heard.seen_seconds:.0f} s ago")


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
