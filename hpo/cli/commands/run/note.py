"""`hpo note`: a note on a trial or a study."""

from __future__ import annotations

import click

from hpo.cli import options
from hpo.cli.options import option
from hpo.cli.output import echo_text
from hpo.cli.types import Number
from hpo.options.fields import NUMBER


@click.command()
@options.study_option
@option(
    "--trial",
    metavar="N",
    type=Number(NUMBER),
    show_default="the study itself",
    help="Number of the trial that the note is on.",
)
@click.argument("text")
@options.storage_option
def note(study: str, trial: int | None, text: str, storage: str | None) -> None:
    """Write a note on a study or on one trial, in place of an earlier one.

    hpo status or hpo trials, the report and the dashboard show it. An empty TEXT removes it.
    """
    from hpo.study.notes import save_note

    with options.opened(storage) as database:
        save_note(database, study, trial, text)
    target = study if trial is None else f"trial {trial} of {study}"
    echo_text(f"{target} {'is noted' if text else 'has no note now'}")
