"""`hpo logs`: the output of trials."""

from __future__ import annotations

import re

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
    "number",
    metavar="N",
    type=Number(NUMBER),
    show_default="all trials",
    help="Only the attempts of this trial.",
)
@option(
    "--follow",
    "-f",
    is_flag=True,
    show_default="end",
    help="Keep printing until the study or the trial ends.",
)
@options.storage_option
def logs(study: str, number: int | None, follow: bool, storage: str | None) -> None:
    """Show the output of trials, wherever they ran.

    The last 64 KiB of each attempt are stored. Lines that TensorFlow prints while it starts are left out.
    """
    from hpo.study.monitoring.logs import follow_logs, read_logs

    with options.opened(storage) as database:
        if follow:
            for piece in follow_logs(database, study, number):
                click.echo(_lines(piece), nl=False)
            return
        for attempt in read_logs(database, study, number):
            echo_text(attempt.heading)
            if output := attempt.output:
                click.echo(_lines(output), nl=not output.endswith("\n"))


def _lines(text: str) -> str:
    """Return output with each state of a progress bar on a line of its own."""
    return re.sub(r"\r\n?", "\n", text).replace("\b", "")
