"""`hpo note`: a note on one trial."""

from __future__ import annotations

import click

from hpo.cli import options
from hpo.cli.options import option
from hpo.cli.types import Number
from hpo.options.fields import NUMBER


@click.command()
@options.study_option
@option("--trial", metavar="N", type=Number(NUMBER), required=True, help="Number of the trial.")
@click.argument("text")
@options.storage_option
def note(study: str, trial: int, text: str, storage: str | None) -> None:
    """Write a note on one trial, in place of an earlier one.

    hpo trials, the report and the dashboard show it. An empty TEXT removes it.
    """
    from hpo.study.notes import save_note

    with options.opened(storage) as database:
        save_note(database, study, trial, text)
    click.echo(f"trial {trial} of {study} {'is noted' if text else 'has no note now'}")
