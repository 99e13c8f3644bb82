"""`hpo kill`: end one trial."""

from __future__ import annotations

import click

from hpo.cli import options
from hpo.cli.options import option
from hpo.cli.output import echo_text
from hpo.cli.types import Number
from hpo.options.fields import NUMBER


@click.command()
@options.study_option
@option("--trial", metavar="N", type=Number(NUMBER), required=True, help="Number of the trial.")
@options.storage_option
def kill(study: str, trial: int, storage: str | None) -> None:
    """End one trial, running, waiting or paused, as pruned.

    It counts towards --trials, and the sampler learns from its epochs. Its agent goes on with the next trial. A trial
    that is enqueued and has not begun is withdrawn: it does not count.
    """
    from hpo.study.changes.kill import kill_trial

    with options.opened(storage) as database:
        killed = kill_trial(database, study, trial)
    state = "is withdrawn" if killed.withdrawn else "is pruned"
    ending = "; its agent ends it within seconds" if killed.was_running else ""
    echo_text(f"trial {trial} of {study} {state}{ending}")
