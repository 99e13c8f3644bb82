"""`hpo backup` and `hpo restore`: a study as one file."""

from __future__ import annotations

from pathlib import Path

import click

from hpo.cli import options
from hpo.cli.options import option
from hpo.cli.output import echo_text
from hpo.cli.types import NamedPath, is_standard_output


@click.command()
@options.study_option
@options.output_option(
    "FILE", None, "File to write, compressed. An existing file is replaced only by a complete one."
)
@options.storage_option
def backup(study: str, output: Path, storage: str | None) -> None:
    """Write a study to a file for hpo restore.

    The file holds spec, trials, epochs, attempts, logs and retrains, Optuna's rows included, as one
    consistent snapshot, even while the study runs. Checkpoints and results are not included: they are
    files already.
    """
    from hpo.study.backup.backup import write_backup

    with options.opened(storage) as database, database.without_statement_timeout():
        made = write_backup(database, study, output)
    echo_text(
        f"wrote {output}: study {made.study} with {made.trials} trials, {made.rows} rows",
        err=is_standard_output(output),
    )


@click.command()
@click.argument("file", type=NamedPath(folders=False))
@option(
    "--as",
    "name",
    metavar="NAME",
    show_default="its own",
    help="Another name for the study, if its own is taken.",
)
@options.storage_option
def restore(file: Path, name: str | None, storage: str | None) -> None:
    """Restore a study from a file written by hpo backup.

    Restores into this database or any other, completely or not at all. The study keeps its state: unless it
    was paused or stopped, agents that join continue it. Trials that were running resume from their
    checkpoints, or begin again if these are gone. Two copies of a study must not share a checkpoint folder.
    """
    from hpo.study.backup.backup import read_backup
    from hpo.study.catalog import find_study

    found = options.settings(storage)
    with options.opened(storage) as database, database.without_statement_timeout():
        made = read_backup(database, file, name)
        folder = find_study(database, made.study).folder
    echo_text(
        f"restored study {made.study} with {made.trials} trials; continue it: hpo launch --study {made.study}"
    )
    echo_text(f"if you copied its checkpoints, put them into {found.checkpoints / folder}")
