"""`hpo delete`: delete a study."""

from __future__ import annotations

import click

from hpo import formatting
from hpo.cli import options
from hpo.cli.options import option
from hpo.cli.output import echo_text


@click.command()
@options.study_option
@option("--yes", "-y", is_flag=True, show_default="ask first", help="Do not ask.")
@option(
    "--force",
    is_flag=True,
    show_default="refuse",
    help="Delete it even while trials run; their agents then end.",
)
@options.storage_option
def delete(study: str, yes: bool, force: bool, storage: str | None) -> int:
    """Delete a study with its trials, checkpoints and logs.

    Files of results stay. The record of when its retrains opened the test set is deleted.
    """
    from hpo.study.catalog import check_idle, count_trials, delete_study, describe_database
    from hpo.study.folders import objective_of, remove_defined

    with options.opened(storage) as database:
        total, running = count_trials(database, study)
        if not force:
            # Before asking; `delete_study` checks again, because a trial may have begun since.
            check_idle(study, running)
        where = describe_database(database)
        if not yes and not click.confirm(
            f"Delete study {study} with {formatting.counted(total, 'trial')} from {where}? This cannot be undone."
        ):
            echo_text("nothing was deleted")
            return 1
        found_settings = options.settings(storage)
        folders = (found_settings.checkpoints, found_settings.home / "logs")
        reference = objective_of(database, study)
        number = delete_study(database, study, folders=folders, force=force)
        remove_defined(database, reference, found_settings.home)
    echo_text(f"deleted study {study} with {number} trials")
    return 0
