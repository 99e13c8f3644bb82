"""`hpo rename`: another name for a study."""

from __future__ import annotations

import click

from hpo.cli import options
from hpo.cli.options import option
from hpo.cli.output import echo_text


@click.command()
@options.study_option
@option("--as", "name", metavar="NAME", required=True, help="New name of the study.")
@options.storage_option
def rename(study: str, name: str, storage: str | None) -> None:
    """Rename a study that no agent works for, Optuna's study and its folders included.

    Folders of checkpoints, logs and results on this host get the new name now; those of other hosts, when the study
    is next continued there. If a folder cannot be renamed, nothing is.
    """
    from hpo.study.changes.rename import rename_study

    found = options.settings(storage)
    with options.opened(storage) as database:
        folders = rename_study(
            database,
            study,
            name,
            folders=(found.checkpoints, found.home / "logs"),
            results=found.results_dir,
        )
    echo_text(f"renamed {study} to {name}: continue it with hpo launch --study {name}")
    for folder in folders:
        echo_text(f"its files are now in {folder}")
