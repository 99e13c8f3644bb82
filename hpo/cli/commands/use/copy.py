"""`hpo copy`: a new study like another."""

from __future__ import annotations

import click

from hpo import formatting
from hpo.cli import options
from hpo.cli.options import option
from hpo.cli.output import echo_text


@click.command()
@options.study_option
@option("--as", "name", metavar="NAME", required=True, help="Name of the new study.")
@option(
    "--history",
    is_flag=True,
    show_default="without trials",
    help="Copy the complete and pruned trials, too, as results from which the sampler learns.",
)
@options.storage_option
def copy(study: str, name: str, history: bool, storage: str | None) -> None:
    """Create a study with the objective, space, options and budget of another.

    With --history, its sampler begins with what the other one has learned. These trials were not trained in the copy:
    they do not count towards --trials, and the best trial is never one of them.
    """
    from hpo.study.changes.copy_study import copy_study

    with options.opened(storage) as database:
        done = copy_study(database, study, name, history=history)
    known = f" and {formatting.counted(done.history, 'result')} as history" if history else ""
    echo_text(
        f"copied {study} to {name} with {formatting.counted(done.budget, 'trial')} to train{known}:"
        f" start it with hpo launch --study {name}"
    )
